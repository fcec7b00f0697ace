"""``iss snapshot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iss_assets.cli.options import Home, load_settings, open_warehouse, user_errors


def snapshot(
    file: Annotated[Path, typer.Argument(help="File to write.")],
    home: Home = None,
) -> None:
    """Copy the warehouse consistently, for work of any length (notebooks, DuckDB's own shell)."""
    settings = load_settings(None, home)
    with user_errors():
        if file.exists():
            raise ValueError(f"{file.name} already exists")
        open_warehouse(settings).snapshot(file)
        file.chmod(0o600)
    typer.echo(f"{file}: contains faces and voices; protect it like the warehouse")
