"""Moving a home's tables from its file into the shared warehouse, or back: all of them or none.

Everything is copied in one transaction and compared before it is committed. A process that is killed before has moved nothing:
the next call starts over, after removing what was left in the home; what is left in the data folder is an orphan, and
`maintenance` removes it. One that is killed between the commit and its last step has moved everything: the next call finds
both places to be equal, and does the last step.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from iss_assets.settings import Settings
from iss_assets.warehouse import swap
from iss_assets.warehouse.copying import Progress, compare_all, copy_all, drop_all, has_rows_in_lake
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.engine import DATABASE, attach, is_encrypted
from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.lake import start
from iss_assets.warehouse.locking import LockTimeout
from iss_assets.warehouse.spool import spool_lock

_FILE: Final = "moved"
_SPOOL_TIMEOUT_S: Final = 10.0
_MEMORY_MB: Final = 1024


@dataclass(frozen=True)
class Moved:
    """What was moved.

    Attributes
    ----------
    tables : int
        Tables; their rows are the same as before.
    rows : int
        Rows in them.
    file : Path
        The file that they came from, which is kept under another name, or the one that they are in now.
    """

    tables: int
    rows: int
    file: Path


def move_to_shared(settings: Settings, progress: Progress | None = None) -> Moved:
    """Copy the file of the home into the shared warehouse, which is empty, and keep the file under another name.

    Raises
    ------
    WarehouseError
        If there is no file, it is encrypted, the shared warehouse has other rows, or the home is in use. Nothing is changed then.
    """
    lake, path = _shared(settings), settings.warehouse_path
    kept = path.with_name(f"{path.name}.moved")
    if not path.exists():
        raise WarehouseError(f"there is no {path.name} in the home to move")
    if is_encrypted(path):
        raise WarehouseError(
            f"{path.name} is encrypted, which the shared warehouse is not: decrypt it first, with "
            "ISS_WAREHOUSE__CATALOG and ISS_WAREHOUSE__DATA_PATH unset: iss decrypt"
        )
    if kept.exists():
        raise WarehouseError(f"{kept.name} is there already, from an earlier move; delete it first")
    file = Warehouse(path, settings.warehouse.of_a_file())
    file.create()
    lake.create()
    with _nobody_else(settings, file, lake):
        connection = _both(settings, path, read_only=True)
        try:
            connection.execute("begin transaction")
            if has_rows_in_lake(connection, DATABASE):
                tables, rows = _moved_already(connection)
            else:
                drop_all(connection, DATABASE)
                copy_all(connection, _FILE, DATABASE, shared=True, progress=progress)
                tables, rows = compare_all(connection, _FILE, DATABASE)
                lake.store.commit(connection)
                swap.reached("in the shared warehouse")
        finally:
            connection.close()
        for one in (path, path.with_name(path.name + ".wal")):
            if one.exists():
                one.rename(one.with_name(one.name.replace(path.name, kept.name)))
        swap.sync(path.parent)
    return Moved(tables, rows, kept)


def move_to_file(settings: Settings, progress: Progress | None = None) -> Moved:
    """Copy the shared warehouse into a file of the home, which has none; the shared one stays as it is.

    Raises
    ------
    WarehouseError
        If the home has a file with other rows, there is no shared warehouse, or the home is in use. Nothing is changed then.
    """
    lake, path = _shared(settings), settings.warehouse_path
    if not lake.exists():
        raise WarehouseError("there is no shared warehouse yet")
    lake.create()
    file, fresh = Warehouse(path, settings.warehouse.of_a_file()), path.with_name(f"{path.name}.moving")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _nobody_else(settings, file, lake):
        # of a call that was killed
        _remove(fresh)
        done = path.exists()
        connection = _both(settings, path if done else fresh, read_only=done)
        try:
            connection.execute("begin transaction")
            if done:
                tables, rows = _moved_already(connection)
            else:
                fresh.chmod(0o600)
                copy_all(connection, DATABASE, _FILE, shared=False, progress=progress)
                tables, rows = compare_all(connection, DATABASE, _FILE)
            connection.execute("commit")
            connection.execute(f"detach {_FILE}")
        except BaseException:
            connection.close()
            _remove(fresh)
            raise
        connection.close()
        if not done:
            swap.sync(fresh)
            swap.reached("in a file")
            fresh.rename(path)
        swap.sync(path.parent)
    return Moved(tables, rows, path)


def _both(settings: Settings, file: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open the shared warehouse and a file in one DuckDB."""
    connection = start(settings.warehouse)
    try:
        connection.execute(f"set memory_limit = '{4 * _MEMORY_MB}MB'")
        attach(connection, file, _FILE, None, read_only=read_only)
    except BaseException:
        connection.close()
        raise
    return connection


def _moved_already(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Return the numbers of tables and rows if a move that was killed at its end has made both places equal.

    Raises
    ------
    WarehouseError
        If they differ: what is there is of somebody else.
    """
    try:
        return compare_all(connection, _FILE, DATABASE)
    except (WarehouseError, duckdb.ProgrammingError, duckdb.DataError):
        raise WarehouseError(
            "both the shared warehouse and the file in the home have rows already, and different ones; move into an empty "
            "shared warehouse, or move the file away first"
        ) from None


def _shared(settings: Settings) -> Warehouse:
    lake = Warehouse(settings.warehouse_path, settings.warehouse)
    if not lake.shared:
        raise WarehouseError(
            "the settings name no shared warehouse: set ISS_WAREHOUSE__CATALOG and ISS_WAREHOUSE__DATA_PATH first"
        )
    return lake


def _nobody_else(settings: Settings, file: Warehouse, lake: Warehouse) -> ExitStack:
    """Keep everybody out of both: runs of this home, readers of the file, writers of all hosts."""
    held = ExitStack()
    try:
        held.enter_context(spool_lock(settings.spool_dir, exclusive=True, timeout_s=_SPOOL_TIMEOUT_S))
        held.enter_context(file.store.turn(exclusive=True))
        held.enter_context(lake.store.turn(exclusive=True))
    except BaseException as error:
        held.close()
        if isinstance(error, LockTimeout):
            raise WarehouseError(
                "the home is in use: wait until the runs in progress are done (iss status), and try again"
            ) from error
        raise
    return held


def _remove(path: Path) -> None:
    for one in (path, path.with_name(path.name + ".wal")):
        one.unlink(missing_ok=True)
