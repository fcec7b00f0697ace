"""``iss withdraw``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iss_assets.cli.options import Home, Study, load_settings, print_error, user_errors
from iss_assets.intake.withdrawn import Scope
from iss_assets.privacy.audit import system_user
from iss_assets.privacy.certificate import SCOPES, Certificate, certificate_path
from iss_assets.privacy.withdrawal import Preview, did, finish_pending, preview
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
    removed, and a search through every byte found nothing; 1 something is left or could not be read, see the certificate,
    or the question was not answered with yes; 2 wrong usage, or nothing could be started.
    """
    settings = load_settings(study, home)
    complete = True
    with user_errors():
        # it may be another patient's, or of another scope: it was confirmed when it began, and this one was not
        finished = finish_pending(settings, typer.echo)
        if finished is not None:
            complete = _report(settings.home, finished)
        if finished is None or not did(settings, finished, patient, scope, source=source):
            _ask(preview(settings, patient), scope, source=source, yes=yes)
            certificate = carry_out(
                settings,
                patient,
                reason=reason,
                who=system_user(),
                log=typer.echo,
                scope=scope,
                source=source,
            )
            complete = _report(settings.home, certificate) and complete
    if not complete:
        raise typer.Exit(1)


def _ask(found: Preview, scope: Scope, *, source: bool, yes: bool) -> None:
    """Say what will be withdrawn, and go on only if a person agrees."""
    typer.echo(f"{SCOPES[scope]}.")
    typer.echo(
        f"{found.submissions} {'submission is' if found.submissions == 1 else 'submissions are'} known."
    )
    if found.study_files.lines:
        then = (
            "are deleted too"
            if source and scope is Scope.ALL
            else "stay; delete them with --source, or by hand"
        )
        typer.echo(f"In the study folder, these {then}:")
        for line in found.study_files.lines:
            typer.echo(f"  {line}")
    for name in found.study_files.unread:
        print_error(f"in the study folder, not readable: {name}")
    if found.copies:
        lines = (
            "1 line of the audit log is"
            if found.copies == 1
            else f"{found.copies} lines of the audit log are"
        )
        typer.echo(f"{lines} about copies that left the home; the certificate lists them")
    if not yes:
        typer.confirm("This cannot be undone. Go on?", abort=True)


def _report(home: Path, certificate: Certificate) -> bool:
    """Say what a withdrawal did, and return whether it is complete."""
    typer.echo(f"Certificate: {certificate_path(home, certificate)}")
    if not certificate.complete:
        for place in certificate.remains:
            print_error(f"still there, or not readable: {place}")
    elif not certificate.search:
        typer.echo("Recorded; nothing was deleted.")
    else:
        typer.echo("The search found nothing. Make tables and pages again without the patient: iss run")
    return certificate.complete
