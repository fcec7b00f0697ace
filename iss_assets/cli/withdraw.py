"""``iss withdraw``."""

from __future__ import annotations

from typing import Annotated

import typer

from iss_assets.cli.options import Home, Study, load_settings, print_error, user_errors
from iss_assets.intake.withdrawn import Scope
from iss_assets.privacy.audit import system_user
from iss_assets.privacy.certificate import SCOPES, certificate_path
from iss_assets.privacy.withdrawal import pending_path, preview
from iss_assets.privacy.withdrawal import withdraw as carry_out


def withdraw(
    patient: Annotated[str, typer.Argument(help="Patient id.")],
    reason: Annotated[
        str, typer.Option("--reason", help="Why, for the certificate; must not name the patient.")
    ],
    scope: Annotated[
        Scope,
        typer.Option(
            "--scope", help="all; media: faces and sound, the answers stay; sharing: nothing is passed on."
        ),
    ] = Scope.ALL,
    source: Annotated[
        bool, typer.Option("--source", help="Also delete the patient's files and rows in the study folder.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    study: Study = None,
    home: Home = None,
) -> None:
    """Remove a patient who withdraws from everything in the home, and certify it.

    Waits for runs in progress. Killed at any moment, it is finished by the next `iss withdraw` or `iss run`. Exit status: 0
    removed, and a search through every byte found nothing; 1 the search found something, see the certificate; 2 wrong
    usage, or nothing could be started.
    """
    settings = load_settings(study, home)
    with user_errors():
        if not pending_path(settings.home).exists():
            found = preview(settings, patient)
            typer.echo(f"{SCOPES[scope]}.")
            typer.echo(f"{found.submissions} submissions are known.")
            if found.study_files.lines:
                then = (
                    "are deleted too"
                    if source and scope is Scope.ALL
                    else "stay; delete them with --source, or by hand"
                )
                typer.echo(f"In the study folder, these {then}:")
                for line in found.study_files.lines:
                    typer.echo(f"  {line}")
            if found.copies:
                typer.echo(
                    f"{found.copies} lines of the audit log are about copies that left the home; the certificate lists them"
                )
            if not yes:
                typer.confirm("This cannot be undone. Go on?", abort=True)
        certificate = carry_out(
            settings, patient, reason=reason, who=system_user(), log=typer.echo, scope=scope, source=source
        )
    typer.echo(f"Certificate: {certificate_path(settings.home, certificate)}")
    if not certificate.complete:
        for place in (*certificate.search["found"], *certificate.search["unread"]):
            print_error(f"still there, or not readable: {place}")
        raise typer.Exit(1)
    typer.echo("The search found nothing. Make tables and pages again without the patient: iss run")
