"""``iss release``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from iss_assets.cli.options import Home, load_settings, open_warehouse, user_errors
from iss_assets.privacy.audit import system_user
from iss_assets.privacy.release.columns import Tier
from iss_assets.privacy.release.make import CHECKSUMS, Request, make_release
from iss_assets.privacy.release.metadata import check_facts, left_out_of, recognition_sentences
from iss_assets.privacy.release.pages import LANDMARKS_WARNING

_QUESTIONS = {
    "recipient": "Who gets the data (name and institution)",
    "purpose": "What for",
    "agreement": "Number of the agreement",
}


def release(
    tier: Annotated[Tier, typer.Option("--tier", help="What may be in it: see docs/exports.md.")],
    to: Annotated[Path, typer.Option("--to", help="New folder.")],
    recipient: Annotated[str, typer.Option("--recipient", help="Who gets it; controlled tier.")] = "",
    purpose: Annotated[str, typer.Option("--purpose", help="What for; controlled tier.")] = "",
    agreement: Annotated[
        str,
        typer.Option("--agreement", help="Its number. Releases of one agreement have the same pseudonyms."),
    ] = "",
    home: Home = None,
) -> None:
    """Write pseudonymized tables for other people, with consents honored and everything described."""
    settings = load_settings(None, home)
    with user_errors():
        warehouse = open_warehouse(settings)
        check_facts(settings.release)
        answers = {"recipient": recipient, "purpose": purpose, "agreement": agreement}
        for name in Request(tier, to, **answers).missing():
            if sys.stdin.isatty():
                answers[name] = typer.prompt(_QUESTIONS[name])
        made = make_release(
            settings,
            warehouse,
            Request(tier, to, **answers),
            system_user(),
            lambda step: typer.echo(f"{step} ...", err=True),
        )
    described = made.description
    for table in described.tables:
        typer.echo(f"{table.path.name}: {table.rows} rows")
    typer.echo(f"{described.counts['patients']} patients. {left_out_of(described.sharing)}")
    if "landmarks" in described.names and tier is Tier.registered:
        typer.echo(LANDMARKS_WARNING)
    for line in recognition_sentences(described):
        typer.echo(line)
    typer.echo(f"{len(described.withheld)} things withheld: {to / 'withheld.csv'}")
    typer.echo(f"{CHECKSUMS}: {made.manifest}")
