"""What a warehouse needs of the place where its tables are; there are two such places.

``file_store`` is the DuckDB file of a home, ``lake_store`` the shared warehouse: Parquet files in a folder that several hosts
see, with a catalog in Postgres. ``database`` does everything else, in the same way for both.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import duckdb

from iss_assets.warehouse.keys import Key


class Opening(Protocol):
    """An open connection to the tables.

    Attributes
    ----------
    connection : duckdb.DuckDBPyConnection
        The connection; the tables are in its current database, `engine.DATABASE`.
    """

    connection: duckdb.DuckDBPyConnection

    def configure(self, threads: int | None, memory_mb_per_thread: int, extra_mb: int = 0) -> None:
        """Set threads and memory."""

    def begin(self) -> None:
        """Begin the one writer's transaction."""

    def commit(self) -> None:
        """Commit it; see `Store.commit`."""

    def undo(self) -> None:
        """Undo what was not committed; it succeeds on a connection that was lost, too, because nothing is left there."""

    def explained(self, error: duckdb.Error) -> Exception:
        """Return what to raise instead of an error of this connection: the same one, or one that says what is wrong outside of it."""

    def close(self) -> None:
        """Close it; a reader leaves nothing behind."""


class Store(Protocol):
    """The place where the tables are.

    Attributes
    ----------
    name : str
        What messages call it.
    shared : bool
        Whether several hosts share it. Its tables have no arrays of a fixed size then (`schemas.base.shared_type`).
    """

    name: str
    shared: bool

    def exists(self) -> bool:
        """Return whether there are tables yet."""

    def prepare(self) -> None:
        """Make what the first tables need."""

    def identity(self) -> Hashable | None:
        """Return what tells these tables from others in this process; None if there are none."""

    def stamp(self) -> Hashable:
        """Return a value that is another one after every write."""

    def size(self) -> int:
        """Return the bytes that the tables take."""

    def require_room(self) -> None:
        """Check that a shared warehouse can be written to; a file's disk is the home's.

        Raises
        ------
        WarehouseError
            If it cannot; the message says why.
        """

    def turn(self, *, exclusive: bool) -> AbstractContextManager[None]:
        """Wait for the turn of a reader, or of the one writer, and keep it while the block runs."""

    def lock(self, name: str, *, timeout_s: float) -> AbstractContextManager[None]:
        """Hold a lock of this name, one holder at a time among all that share these tables."""

    def open(self, *, read_only: bool, apart: bool = False) -> Opening:
        """Open a connection, in one's turn; with `apart` in a DuckDB of its own, whose memory is free when it is closed."""

    def open_for(self, query: str) -> Opening:
        """Open a connection that reaches these tables and nothing else, for a query that somebody typed.

        Raises
        ------
        WarehouseError
            If it is a query that could reach more.
        """

    def copy_to(self, path: Path) -> None:
        """Copy all tables, in one consistent state, to a DuckDB file of this version, or of the file's own if it is one."""

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Commit what was written on a connection, in the writer's turn.

        Raises
        ------
        WarehouseError
            If the turn was lost in the meantime; nothing is written then.
        """

    def key(self) -> Key | None:
        """Return the key of the tables' files and of the spool, None if they are not encrypted."""
