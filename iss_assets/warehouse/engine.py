"""Opening the warehouse's file, in a DuckDB that is kept running in processes that open it many times a second.

Belongs here: opening and closing the file, its format, DuckDB's settings. Does not belong here: whose turn it is
(``locking``), what is done with the connection (``database``).

Starting DuckDB costs ten milliseconds and more, opening a file in one that runs a few. A patient's run opens the
warehouse some twenty times, as it must not keep others from it. A process says `keep_running` once; all others start
DuckDB anew for each use, so that nothing that one use sets can reach another.
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
    """A DuckDB without a file of its own, and who uses the warehouse in it."""

    connection: duckdb.DuckDBPyConnection
    users: int = 0
    threads: int = 0
    memory_mb: int = 0


DATABASE: Final = "warehouse"
"""What the file is called in every DuckDB here: what one calls it that opens ``warehouse.duckdb`` by itself."""

STORAGE_VERSION: Final = "v1.4.0"
"""The oldest DuckDB that can open the file, "v" and all. Files of an older format are brought to it when written to.

With it DuckDB writes down what is new of a table's description, not all of it: a transaction into a thousand pieces of
a table costs 0.05 s instead of 0.3, and opening takes a third of the time.
"""

_engines: dict[Path, _Engine] = {}
_guard = Lock()
_keeping = False
_threads: int | None = None


def keep_running(threads: int | None = None) -> None:
    """From here on, keep DuckDB running in this process, with so many threads where a use does not say how many."""
    global _keeping, _threads
    _keeping, _threads = True, threads


def _forget() -> None:
    """A forked process must not use its parent's DuckDB, whose threads it has not."""
    global _guard, _keeping, _threads
    _guard, _keeping, _threads = Lock(), False, None
    _engines.clear()


os.register_at_fork(after_in_child=_forget)


class Opened:
    """A warehouse file that is open.

    Parameters
    ----------
    path : Path
        The file. Who opens it holds its lock (``locking``).
    read_only : bool
        Whether others may read it at the same time.

    Raises
    ------
    duckdb.IOException
        If another program keeps it open, or it is no DuckDB file.
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
        """Set threads (default: those of `keep_running`, or one a processor) and memory, where they are others."""
        threads = threads or _threads or os.cpu_count() or 1
        memory = memory_mb_per_thread * threads + extra_mb
        # DuckDB stops all threads and starts them again, also where their number stays
        if self._engine.threads != threads:
            self.connection.execute(f"set threads = {threads}")
        if self._engine.memory_mb != memory:
            self.connection.execute(f"set memory_limit = '{memory}MB'")
        self._engine.threads, self._engine.memory_mb = threads, memory

    def close(self) -> None:
        """Close it; what was written is in the file then."""
        self.connection.close()
        with _guard:
            self._engine.users -= 1
            if self._engine.users:
                return
            try:
                self._engine.connection.execute(f"detach {DATABASE}")
                fit = not _spilled(self._path).exists()
            except duckdb.Error:
                # a DuckDB that met a fault of its own does nothing more; closing it lets go of the file
                fit = False
            if not self._kept or not fit:
                # closing also removes what did not fit into memory and was written beside the file
                _engines.pop(self._path, None)
                self._engine.connection.close()


def _started(path: Path) -> _Engine:
    """Start a DuckDB without a file, which keeps what does not fit into memory beside the warehouse."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(_spilled(path)),
        # it would write tables of large values anew again and again: see `pieces`
        "max_vacuum_tasks": "0",
        # what is committed goes straight to its place, not into the log first: the file is closed soon after anyway
        "checkpoint_threshold": "1KB",
        "auto_checkpoint_skip_wal_threshold": "0",
    }
    connection = duckdb.connect(config=settings)
    pin(connection)
    return _Engine(connection)


def pin(connection: duckdb.DuckDBPyConnection) -> None:
    """Make DuckDB read times alike on every machine.

    Without this it takes the zone of the machine, and the calendar of its language: with Thai settings (``LC_ALL``,
    ``LANG``) the year 2021 is 2564, and ``date_trunc`` and casts of moments to days give other days.
    """
    connection.execute("set global timezone = 'UTC'")
    connection.execute("set global calendar = 'gregorian'")


def _spilled(path: Path) -> Path:
    """Give the folder in which DuckDB keeps what does not fit into memory, where it keeps it by itself."""
    return path.with_name(path.name + ".tmp")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
