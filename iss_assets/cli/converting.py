"""What `iss encrypt`, `iss decrypt`, `iss rekey`, and `iss move-warehouse` share."""

from __future__ import annotations

from pathlib import Path

import typer

from iss_assets.cli.options import load_settings, open_warehouse
from iss_assets.cli.output import progress_bar
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.run_history import end_dead_runs, runs_at_work
from iss_assets.privacy.audit import Action, AuditLog, system_user
from iss_assets.settings import Settings
from iss_assets.warehouse.conversion import convert, require_change, seconds_to_convert
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.keys import Key


def prepared(home: Path | None) -> Settings:
    """Return the settings of a home with a warehouse on which nothing is running.

    Raises
    ------
    WarehouseError
        If runs are in progress: they know the old key only.
    """
    settings = load_settings(None, home)
    warehouse = open_warehouse(settings)
    warehouse.require_file("encryption")
    warehouse.recover()
    require_quiet(settings)
    return settings


def require_quiet(settings: Settings) -> None:
    """Check that no run is in progress.

    Raises
    ------
    WarehouseError
        If one is.
    """
    with open_instance(settings) as instance:
        end_dead_runs(instance)
        if running := runs_at_work(instance):
            raise WarehouseError(
                f"{running} run{'s are' if running > 1 else ' is'} in progress: wait until they are done, or stop them "
                "(Runs in the UI) or `iss serve`"
            )


def carry_out(settings: Settings, warehouse: Warehouse, new: Key | None, action: Action, title: str) -> None:
    """Convert the home, say how long it takes and what was done, and record it."""
    with warehouse.read():  # also tries the key
        require_change(warehouse, new)
    seconds, size = seconds_to_convert(warehouse), settings.warehouse_path.stat().st_size / 1e6
    typer.echo(
        f"{title}: {size:,.0f} MB, about {_duration(seconds)}. No other command can use the home meanwhile."
    )
    AuditLog.of(settings).record(system_user(), action)
    with progress_bar(title) as progress:
        done = convert(warehouse, new, progress)
    typer.echo(
        f"{done.tables} tables with {done.rows:,} rows, each compared with what it was, and {done.waiting} files that "
        "wait to be stored"
    )


def _duration(seconds: float) -> str:
    return (
        "a few seconds"
        if seconds < 10
        else f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
    )
