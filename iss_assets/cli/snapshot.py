"""``iss snapshot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iss_assets.cli.options import Home, Purpose, load_settings, open_warehouse, user_errors
from iss_assets.privacy.at_work import at_work
from iss_assets.privacy.audit import Action, AuditLog, sha256_of, system_user
from iss_assets.warehouse.engine import is_encrypted


def snapshot(
    file: Annotated[Path, typer.Argument(help="File to write.")],
    purpose: Purpose = "",
    home: Home = None,
) -> None:
    """Copy the warehouse consistently, for work of any length (notebooks, DuckDB's own shell)."""
    settings = load_settings(None, home)
    with user_errors(), at_work(settings.home):
        if file.exists():
            raise ValueError(f"{file.name} already exists")
        if not file.parent.is_dir():
            raise ValueError(f"there is no folder {file.parent.name!r}")
        warehouse, audit = open_warehouse(settings), AuditLog.of(settings)
        where = {"to": str(file.resolve()), "purpose": purpose}
        audit.record(system_user(), Action.SNAPSHOT_BEGUN, None, **where)
        warehouse.snapshot(file)
        file.chmod(0o600)
        audit.record(system_user(), Action.SNAPSHOT_TAKEN, None, **where, sha256=sha256_of(file))
    kept = (
        "is encrypted with the home's key" if is_encrypted(file) else "contains faces and voices in the clear"
    )
    typer.echo(f"{file}: {kept}; protect it like the warehouse")
