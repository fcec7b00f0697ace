"""DuckDB kept running between two uses of the warehouse, in processes that use it many times a second.

Belongs here: opening and closing the file in a DuckDB that stays. Does not belong here: whose turn it is (``locking``),
what is done with the connection (``database``).

Starting DuckDB costs ten milliseconds and more, opening a file in one that runs a few. A patient's run opens the
warehouse some thirty times, as it must not keep others from it. A process says `keep_running` once; all others start
DuckDB anew for each use, so that nothing that one use sets can reach another.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import duckdb


@dataclass
class _Engine:
    """A DuckDB without a file of its own, and who uses the warehouse in it."""

    connection: duckdb.DuckDBPyConnection
    users: int = 0


_NAME = "warehouse"
"""What the file is called in the DuckDB that stays: what DuckDB calls it when it opens ``warehouse.duckdb``."""

_engines: dict[Path, _Engine] = {}
_guard = Lock()
_keeping = False


def keep_running() -> None:
    """From here on, keep DuckDB running in this process."""
    global _keeping
    _keeping = True


def _forget() -> None:
    """A forked process must not use its parent's DuckDB, whose threads it has not."""
    global _guard, _keeping
    _guard, _keeping = Lock(), False
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
        if not self._kept:
            self.connection = duckdb.connect(str(path), read_only=read_only)
            return
        with _guard:
            engine = _engines.get(self._path)
            if engine is None:
                engine = _Engine(duckdb.connect(config={"temp_directory": str(_spilled(self._path))}))
                _engines[self._path] = engine
            if not engine.users:
                mode = "read_only" if read_only else "read_write"
                engine.connection.execute(f"attach {_quoted(str(self._path))} as {_NAME} ({mode})")
            self.connection = engine.connection.cursor()
            self.connection.execute(f"use {_NAME}")
            engine.users += 1

    def close(self) -> None:
        """Close it; what was written is in the file then."""
        self.connection.close()
        if not self._kept:
            return
        with _guard:
            engine = _engines[self._path]
            engine.users -= 1
            if engine.users:
                return
            try:
                engine.connection.execute(f"detach {_NAME}")
                fit = not _spilled(self._path).exists()
            except duckdb.Error:
                # a DuckDB that met a fault of its own does nothing more; closing it lets go of the file
                fit = False
            if not fit:
                # closing also removes what did not fit into memory and was written beside the file
                _engines.pop(self._path).connection.close()


def _spilled(path: Path) -> Path:
    """Give the folder in which DuckDB keeps what does not fit into memory, where it keeps it by itself."""
    return path.with_name(path.name + ".tmp")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
