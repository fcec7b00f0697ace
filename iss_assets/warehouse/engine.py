"""Opening the warehouse's file, in a DuckDB that keeps running in processes that open it many times per second.

Starting DuckDB takes ten milliseconds or more, opening a file in a running one takes a few. A patient's run opens the
warehouse about twenty times, because it must not keep other processes out. A process calls `keep_running` once; all others
start DuckDB for each use, so that no setting of one use can reach another. ``locking`` decides whose turn it is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

import duckdb


@dataclass
class _Engine:
    """A DuckDB without a file of its own, and the number of connections that use the warehouse in it."""

    connection: duckdb.DuckDBPyConnection
    users: int = 0
    threads: int = 0
    memory_mb: int = 0


DATABASE: Final = "warehouse"
"""Name of the file in every DuckDB here, the one that DuckDB gives ``warehouse.duckdb`` if it is opened directly."""

STORAGE_VERSION: Final = "v1.4.0"
"""The oldest DuckDB that can open the file, with the "v". Files of an older format are converted when they are written to.

With it DuckDB writes only what changed in a table's metadata: a transaction on a table of a thousand row groups takes
0.05 s instead of 0.3 s, and opening takes a third of the time.
"""

_engines: dict[Path, _Engine] = {}
_guard = Lock()
_keeping = False
_threads: int | None = None


def keep_running(threads: int | None = None) -> None:
    """Keep DuckDB running in this process from now on, with this default number of threads."""
    global _keeping, _threads
    _keeping, _threads = True, threads


def _forget() -> None:
    """Drop the parent's DuckDB in a forked process, which does not have its threads."""
    global _guard, _keeping, _threads
    _guard, _keeping, _threads = Lock(), False, None
    _engines.clear()


os.register_at_fork(after_in_child=_forget)


class Opened:
    """A warehouse file that is open.

    Parameters
    ----------
    path : Path
        The file. The caller holds its lock (``locking``).
    read_only : bool
        Whether others may read it at the same time.

    Raises
    ------
    duckdb.IOException
        If another program has it open, or it is not a DuckDB file.
    """

    def __init__(self, path: Path, read_only: bool):
        self._path = path.absolute()
        self._kept = _keeping
        with _guard:
            self._engine = (_engines.get(self._path) if self._kept else None) or _started(self._path)
            try:
                if not self._engine.users:
                    mode = "read_only" if read_only else f"read_write, storage_version '{STORAGE_VERSION}'"
                    self._engine.connection.execute(
                        f"attach {_quoted(str(self._path))} as {DATABASE} ({mode})"
                    )
                self.connection = self._engine.connection.cursor()
                self.connection.execute(f"use {DATABASE}")
            except duckdb.Error:
                if not self._engine.users:
                    _engines.pop(self._path, None)
                    self._engine.connection.close()
                raise
            if self._kept:
                _engines[self._path] = self._engine
            self._engine.users += 1

    def configure(self, threads: int | None, memory_mb_per_thread: int, extra_mb: int = 0) -> None:
        """Set threads (default: those of `keep_running`, or one per processor) and memory, if they differ."""
        threads = threads or _threads or os.cpu_count() or 1
        memory = memory_mb_per_thread * threads + extra_mb
        # DuckDB stops and restarts all threads even if their number stays the same
        if self._engine.threads != threads:
            self.connection.execute(f"set threads = {threads}")
        if self._engine.memory_mb != memory:
            self.connection.execute(f"set memory_limit = '{memory}MB'")
        self._engine.threads, self._engine.memory_mb = threads, memory

    def close(self) -> None:
        """Close it; everything written is in the file then."""
        self.connection.close()
        with _guard:
            self._engine.users -= 1
            if self._engine.users:
                return
            try:
                self._engine.connection.execute(f"detach {DATABASE}")
                clean = not _spilled(self._path).exists()
            except duckdb.Error:
                # a DuckDB with an internal error refuses everything; closing it releases the file
                clean = False
            if not self._kept or not clean:
                # closing also removes what did not fit into memory and was written next to the file
                _engines.pop(self._path, None)
                self._engine.connection.close()


def _started(path: Path) -> _Engine:
    """Start a DuckDB without a file that puts what does not fit into memory next to the warehouse."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(_spilled(path)),
        # it would rewrite tables of large values again and again: see ``row_groups``
        "max_vacuum_tasks": "0",
        # commits go directly into the file, not into the log first: the file is closed soon after anyway
        "checkpoint_threshold": "1KB",
        "auto_checkpoint_skip_wal_threshold": "0",
    }
    connection = duckdb.connect(config=settings)
    pin(connection)
    return _Engine(connection)


def pin(connection: duckdb.DuckDBPyConnection) -> None:
    """Make DuckDB read times the same way on every machine.

    Otherwise it uses the machine's time zone and the calendar of its language: with Thai settings (``LC_ALL``,
    ``LANG``) the year 2021 is 2564, and ``date_trunc`` and casts of timestamps to dates give other days.
    """
    connection.execute("set global timezone = 'UTC'")
    connection.execute("set global calendar = 'gregorian'")


def _spilled(path: Path) -> Path:
    """Return the folder for what does not fit into memory, DuckDB's default for a file that is opened directly."""
    return path.with_name(path.name + ".tmp")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
