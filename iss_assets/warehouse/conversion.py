"""Encrypting, decrypting, and rekeying a home in place, safe against a kill at any point.

Everything is written to new files first and compared with the old ones; ``swap`` puts them in place. Until its record
is written, the old key opens the home and nothing has changed; from then on the new key does.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import duckdb

from iss_assets.warehouse import swap
from iss_assets.warehouse.copying import COPY_MEMORY_MB, copy_file, hash_of_rows
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.engine import DATABASE, Opened, attach
from iss_assets.warehouse.errors import KeyProblem, WarehouseError
from iss_assets.warehouse.file_store import lock_path
from iss_assets.warehouse.keys import Key
from iss_assets.warehouse.locking import LockTimeout, hold
from iss_assets.warehouse.sealing import BrokenSeal
from iss_assets.warehouse.spool import read_waiting, spool_lock, write_waiting
from iss_assets.warehouse.swap import SwapFiles

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with what is done and what there is to do, in percent, and what is being done; at most once every few percent."""

BYTES_PER_S: Final = 60e6
"""Of copying, comparing, and syncing, on a slow disk."""
_SPOOL_TIMEOUT_S: Final = 10.0
_LOOK_S: Final = 0.5
_STEP: Final = 5
_COPIED: Final = 60
"""Percent that are done when the warehouse is copied; the rest is comparing."""
_COPY: Final = "converted"
_MB: Final = 10**6


@dataclass(frozen=True)
class Converted:
    """What a conversion did.

    Attributes
    ----------
    tables : int
        Tables of the warehouse; their rows are the same as before.
    rows : int
        Rows in them.
    waiting : int
        Files of the spool.
    """

    tables: int
    rows: int
    waiting: int


def seconds_to_convert(warehouse: Warehouse) -> float:
    """Return about how long a conversion takes."""
    return _size(SwapFiles(warehouse.path)) / BYTES_PER_S


def require_change(warehouse: Warehouse, new: Key | None) -> Key | None:
    """Return the home's key.

    Raises
    ------
    KeyProblem
        If it cannot be had, or if it is the new one.
    """
    warehouse.require_file("encryption")
    old = warehouse.key()
    if old == new:
        raise KeyProblem("the home has this key already" if new else "the home is not encrypted")
    return old


def convert(warehouse: Warehouse, new: Key | None, progress: Progress | None = None) -> Converted:
    """Bring a home from the key of its settings, or none, to another key, or none.

    Parameters
    ----------
    warehouse : Warehouse
        The home's warehouse; its settings name the old key, or none if the home is not encrypted.
    new : Key or None
        The new key; None decrypts.
    progress : callable, optional
        Told how far it is.

    Raises
    ------
    WarehouseError
        If patients are being processed, the disk is too small, the key is wrong, or the copy differs. Nothing is changed
        then.
    """
    files, timeout = SwapFiles(warehouse.path), warehouse.settings.lock_timeout_s
    old = require_change(warehouse, new)
    try:
        with (
            spool_lock(files.spool, exclusive=True, timeout_s=_SPOOL_TIMEOUT_S),
            hold(lock_path(warehouse.path), exclusive=True, timeout_s=timeout),
        ):
            swap.settle(files)
            try:
                done = _convert(warehouse, files, old, new, _in_steps(progress))
            except BaseException:
                # undone if it failed before the record was written, completed if after
                swap.settle(files)
                raise
    except LockTimeout as error:
        raise WarehouseError(
            "the home is in use: wait until the runs in progress are done (iss status), and try again"
        ) from error
    return done


def _convert(
    warehouse: Warehouse,
    files: SwapFiles,
    old: Key | None,
    new: Key | None,
    tell: Callable[[float, str], None],
) -> Converted:
    size = _size(files)
    free = shutil.disk_usage(files.warehouse.parent).free
    if free < 1.1 * size:
        raise WarehouseError(
            f"{free / _MB:,.0f} MB are free, and a copy of the home needs {1.1 * size / _MB:,.0f} MB"
        )
    swap.reached("begun")
    tables, rows = _copy_warehouse(warehouse, files, old, new, tell)
    swap.sync(files.new_warehouse)
    swap.reached("warehouse on disk")
    waiting = _copy_spool(files, old, new)
    swap.sync(files.warehouse.parent)
    swap.reached("all on disk")
    swap.commit(files)
    swap.reached("recorded")
    swap.settle(files)
    swap.reached("done")
    return Converted(tables, rows, waiting)


def _copy_warehouse(
    warehouse: Warehouse,
    files: SwapFiles,
    old: Key | None,
    new: Key | None,
    tell: Callable[[float, str], None],
) -> tuple[int, int]:
    """Copy every table into the new file, compare, and return the numbers of tables and rows."""
    # opened for writing, so that what a killed writer left in the log is in the file
    opened = Opened(files.warehouse, False, old, encrypts=True)
    connection = opened.connection
    try:
        opened.configure(None, warehouse.settings.memory_mb_per_thread, COPY_MEMORY_MB)
        attach(connection, files.new_warehouse, _COPY, new, read_only=False)
        files.new_warehouse.chmod(0o600)
        swap.reached("new file begun")
        try:
            with _reported(files, tell):
                copy_file(connection, DATABASE, _COPY)
            swap.reached("copied")
            connection.execute(f"checkpoint {_COPY}")
            tables, rows = _compare(connection, tell)
        finally:
            connection.execute(f"detach {_COPY}")
        swap.reached("compared")
    finally:
        opened.close()
    if files.new_warehouse.with_name(files.new_warehouse.name + ".wal").exists():
        raise WarehouseError("the copy was not written completely; nothing was changed")
    return tables, rows


def _in_steps(progress: Progress | None) -> Callable[[float, str], None]:
    """Return a function (percent, what) that reports each step once."""
    reported = -1

    def tell(percent: float, what: str) -> None:
        nonlocal reported
        step = int(percent) // _STEP * _STEP
        if progress is not None and step > reported:
            reported = step
            progress(step, 100, what)

    return tell


@contextmanager
def _reported(files: SwapFiles, tell: Callable[[float, str], None]) -> Iterator[None]:
    """Report how large the new file is while the block runs."""
    ended = threading.Event()
    total = max(1, files.warehouse.stat().st_size)

    def report() -> None:
        while not ended.wait(_LOOK_S):
            share = min(1.0, files.new_warehouse.stat().st_size / total)
            tell(_COPIED * share, "percent: copying")

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()


def _compare(connection: duckdb.DuckDBPyConnection, tell: Callable[[float, str], None]) -> tuple[int, int]:
    """Compare both files table by table: rows by their number and a hash of all values, definitions by their text."""
    definitions = [
        "select schema_name, table_name, sql, comment from duckdb_tables() where database_name = ? order by all",
        "select schema_name, view_name, sql, comment from duckdb_views() where database_name = ? and not internal order by all",
        "select schema_name, table_name, column_name, data_type, is_nullable, comment from duckdb_columns() "
        "where database_name = ? and not internal order by all",
    ]
    for query in definitions:
        before, after = (connection.execute(query, [name]).fetchall() for name in (DATABASE, _COPY))
        if before != after:
            raise WarehouseError("the copy of the warehouse differs from it; nothing was changed")
    names = connection.execute(
        "select schema_name, table_name from duckdb_tables() where database_name = ? order by all", [DATABASE]
    ).fetchall()
    rows = 0
    for number, (schema, table) in enumerate(names):
        tell(_COPIED + (100 - _COPIED) * number / len(names), "percent: comparing")
        counted = [hash_of_rows(connection, one, schema, table) for one in (DATABASE, _COPY)]
        if counted[0] != counted[1]:
            raise WarehouseError(f"the copy of the table {table} differs from it; nothing was changed")
        rows += counted[0][0]
    tell(100, "percent: compared")
    return len(names), rows


def _copy_spool(files: SwapFiles, old: Key | None, new: Key | None) -> int:
    """Copy what waits in the spool with the new key, remove what no run can use, and return the number of files."""
    copied = 0
    for folder in sorted(path for path in files.spool.glob("*") if path.is_dir()):
        for path in sorted(folder.iterdir()):
            if path.suffix not in (".arrow", ".txt") or path.is_dir():
                # left by a run that was killed, and of no use to the next one
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
                continue
            try:
                content = read_waiting(path, old)
            except BrokenSeal as error:
                log.warning("spool: %s; it is removed and the video is extracted again", error)
                path.unlink()
                continue
            target = files.new_spool / path.relative_to(files.spool)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_waiting(target, path, new, content)
            copied += 1
            swap.reached("a waiting file on disk")
        if (files.new_spool / folder.name).exists():
            swap.sync(files.new_spool / folder.name)
    if files.new_spool.exists():
        swap.sync(files.new_spool)
    return copied


def _size(files: SwapFiles) -> int:
    waiting = [path for path in files.spool.rglob("*") if path.is_file()] if files.spool.exists() else []
    return sum(path.stat().st_size for path in [files.warehouse, *waiting] if path.exists())
