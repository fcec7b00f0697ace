"""``iss key``: keys of encrypted homes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iss_assets.cli.options import Home, Study, load_settings, user_errors
from iss_assets.warehouse.keys import new_key, write_key

group = typer.Typer(no_args_is_help=True, add_completion=False)


@group.callback()
def key() -> None:
    """Make keys for homes that are encrypted."""


@group.command()
def new(
    file: Annotated[Path, typer.Argument(help="File to write; outside of the home and the study folder.")],
    study: Study = None,
    home: Home = None,
) -> None:
    """Write a new random key to a file that only you can read."""
    settings = load_settings(study, home)
    with user_errors():
        for folder in (settings.home, settings.study):
            if file.resolve().is_relative_to(folder.resolve()):
                raise ValueError(
                    f"the key would lie in {folder.name!r}, beside what it protects; name a file elsewhere"
                )
        write_key(file, new_key())
    typer.echo(f"{file}: keep a copy elsewhere. Without it nobody can ever read the home.")
