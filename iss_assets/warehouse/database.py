"""The tables of a study: connections, transactions, and partitions that are replaced whole; one writer at a time.

``schemas`` defines the tables, ``migration`` brings older ones to them, ``stores`` says where they are: in a DuckDB file or in
a warehouse that several hosts share.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as arrow

from iss_assets.schemas.base import Table
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.errors import KeyProblem, WarehouseError
from iss_assets.warehouse.file_store import FileStore
from iss_assets.warehouse.keys import Key
from iss_assets.warehouse.lake_store import LakeStore
from iss_assets.warehouse.migration import Migration, UnknownSchema, plan_migration
from iss_assets.warehouse.spool import Rows, batches, portions
from iss_assets.warehouse.stores import Opening, Store

__all__ = ["KeyProblem", "Replacement", "Warehouse", "WarehouseError", "Writer"]

_TOGETHER = 100
"""Partitions removed by one statement."""

_CHECKED_BYTES = 256 * 2**20
"""Rows on disk are checked together up to this size: those of an encrypted home are in memory then."""

_CURRENT: dict[Hashable, Migration] = {}
"""What this process has found to be current (`Store.identity`), with the views through which readers see it."""


@dataclass(frozen=True)
class Replacement:
    """Rows that replace every row whose columns have the values of `where`.

    Attributes
    ----------
    table : type of Table
        The table.
    rows : pyarrow.Table or callable
        A callable returns rows that are on disk, the same ones at every call, so that the rows of all of a patient's
        videos need not be in memory at once.
    where : mapping
        Column to value; empty for the whole table.
    """

    table: type[Table]
    rows: Rows
    where: Mapping[str, object]


class Writer:
    """One transaction of the one writer; made by `Warehouse.write`.

    Attributes
    ----------
    shared : bool
        Whether it writes to the shared warehouse.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, shared: bool):
        self._connection, self.shared = connection, shared

    def execute(self, sql: str, params: Sequence[object] | None = None) -> None:
        """Run one statement."""
        self._connection.execute(sql, params)

    def query(self, sql: str, params: Sequence[object] | None = None) -> arrow.Table:
        """Run one query."""
        return _fetch(self._connection.execute(sql, params))

    def replace(self, table: type[Table], rows: Rows, where: Mapping[str, object]) -> int:
        """Replace the rows that `where` selects by `rows`, which are already checked, and return their number.

        Columns are matched by name; types that do not fit raise DuckDB's error.
        """
        return self.replace_each([Replacement(table, rows, where)])[0]

    def replace_each(self, replacements: Sequence[Replacement]) -> list[int]:
        """Do what `replace` does for each, in this order, and return the numbers of rows; combine what can be combined."""
        for table, columns, own in _together(replacements):
            self._remove(table, columns, [tuple(r.where.values()) for r in own])
            self._insert(table, [r.rows for r in own if isinstance(r.rows, arrow.Table)])
            for parts in batches(part for r in own if callable(r.rows) for part in portions(r.rows)):
                self._insert(table, parts)
        return [(r.rows() if callable(r.rows) else r.rows).num_rows for r in replacements]

    def _remove(self, table: type[Table], columns: Sequence[str], values: Sequence[Sequence[object]]) -> None:
        """Delete the rows whose `columns` have one of these `values`; all rows if there is no column."""
        known = {c.name for c in table.columns()}
        if unknown := set(columns) - known:
            raise WarehouseError(f"{table.__table__} has no column {', '.join(sorted(unknown))}")
        for start in range(0, len(values), _TOGETHER):
            condition, parameters = _one_of(columns, values[start : start + _TOGETHER])
            self._connection.execute(f"delete from {table.__table__} where {condition}", parameters)

    def append(self, table: type[Table], rows: Rows) -> int:
        """Add `rows`, which are already checked, and return their number."""
        written = 0
        for portion in portions(rows):
            self._insert(table, [portion])
            written += portion.num_rows
        return written

    def _insert(self, table: type[Table], parts: Sequence[arrow.Table]) -> None:
        if any(part.num_rows for part in parts):
            portion = arrow.concat_tables(parts)  # noqa: F841
            # DuckDB finds the variable by name; a registered view would keep it in memory until the end of the transaction
            self._connection.execute(f"insert into {table.__table__} by name select * from portion")


class Warehouse:
    """The tables of one study.

    Parameters
    ----------
    path : Path
        The DuckDB file; it and its tables are created at the first use. A shared warehouse has none.
    settings : WarehouseSettings, optional
        Lock timeout, memory, where the key of an encrypted file is, and where a shared warehouse is.
    before_commit : callable, optional
        Called at the end of every transaction of `write`; an error that it raises undoes the transaction.
    """

    def __init__(
        self,
        path: Path,
        settings: WarehouseSettings | None = None,
        before_commit: Callable[[], None] | None = None,
    ):
        self.path = Path(path)
        self._before_commit = before_commit
        self.settings = settings or WarehouseSettings()
        self.store: Store = (
            FileStore(self.path, self.settings)
            if self.settings.catalog is None
            else LakeStore(self.settings, self.path.parent)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process: to be read there as here, and not to be written past `before_commit`, which stays here."""
        return Warehouse, (self.path, self.settings, None if self._before_commit is None else _not_here)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.store.name

    @property
    def shared(self) -> bool:
        """Whether several hosts share it."""
        return self.store.shared

    def exists(self) -> bool:
        """Return whether there is a warehouse yet.

        Raises
        ------
        WarehouseError
            If a shared warehouse cannot be asked.
        """
        return self.store.exists()

    def require_file(self, what: str) -> None:
        """Check that the warehouse is a file.

        Parameters
        ----------
        what : str
            What needs one, for the message.

        Raises
        ------
        WarehouseError
            If it is shared.
        """
        if self.shared:
            raise WarehouseError(
                f"{what} is for a warehouse in a file, and this one is shared: its database and data folder are in the "
                "hands of whoever runs them; see: iss guide shared_warehouse"
            )

    def stamp(self) -> Hashable:
        """Return a value that is another one after every write; cheaper than reading."""
        return self.store.stamp()

    def size(self) -> int:
        """Return the bytes that the tables take."""
        return self.store.size()

    def require_room(self) -> None:
        """Check that the warehouse can be written to: its folder is there, is writable, and has room.

        Raises
        ------
        WarehouseError
            If it cannot; the message says why.
        """
        self.store.require_room()

    @contextmanager
    def read(self, threads: int | None = None, *, apart: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a read-only connection to a consistent state.

        Writers of a file wait until the block ends, so keep it short; for long work use `snapshot`. Nobody waits for readers
        of a shared warehouse. `threads` limits DuckDB's threads, and its memory in proportion. With `apart` a DuckDB of its own reads,
        whose memory is free at the end of the block: one that is kept running keeps what a large table took.
        """
        with self._reading(lambda: self.store.open(read_only=True, apart=apart), threads) as connection:
            yield connection

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Let everything that this process reads while the block runs come from one state of the file, which is opened once.

        Writers of a file wait until the block ends. Nobody can keep the writers of a shared warehouse out: each read in the block
        has a state of its own.
        """
        with nullcontext() if self.shared else self.read():
            yield

    def answer(self, query: str) -> arrow.Table:
        """Run a query that somebody typed, from which nothing but the tables can be reached, and return its rows.

        Raises
        ------
        duckdb.Error, WarehouseError
            If it is not one SELECT, or reads something else.
        """
        with self._reading(lambda: self.store.open_for(query), None) as connection:
            return _fetch(connection.execute(query))

    @contextmanager
    def _reading(
        self, open_it: Callable[[], Opening], threads: int | None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        self._make_first()
        with (
            self.store.turn(exclusive=False),
            self._connect(open_it, threads) as opened,
        ):
            for view in self._pending(opened.connection).views:
                opened.connection.execute(view)
            yield opened.connection

    def query(self, sql: str, params: Sequence[object] | None = None) -> arrow.Table:
        """Run one read-only query and return its rows."""
        with self.read() as connection:
            return _fetch(connection.execute(sql, params))

    @contextmanager
    def write(self, threads: int | None = None, extra_mb: int = 0) -> Iterator[Writer]:
        """Open the one writer in one transaction: the end of the block commits, an exception rolls back.

        `threads` limits DuckDB's threads (default: one per processor), and its memory in proportion plus `extra_mb`.
        """
        self.create()
        with self._exclusive(threads, extra_mb) as opened, _transaction(opened):
            yield Writer(opened.connection, self.shared)
            if self._before_commit is not None:
                self._before_commit()

    def replace(self, table: type[Table], rows: arrow.Table, where: Mapping[str, object]) -> int:
        """Replace one partition of one table; see `replace_all`."""
        return self.replace_all([Replacement(table, rows, where)])[0]

    def replace_all(self, replacements: Sequence[Replacement]) -> list[int]:
        """Check every replacement, then write all of them in one transaction.

        Rows are checked before the lock is taken, so that no other process waits for it.

        Raises
        ------
        InvalidTable
            If rows do not fit their table's model; then nothing is written.
        """
        checked = _check_together(replacements)
        # a value is stored as a whole: half an hour of sound needs more memory than the default
        largest = max((_bytes_per_row(r.rows) for r in replacements), default=0)
        # storing rows is no faster with more threads, and each fills a block of its own
        with self.write(threads=1, extra_mb=4 * largest // 2**20) as writer:
            return writer.replace_each(
                [
                    replace(r, rows=r.rows if rows is None else rows)
                    for r, rows in zip(replacements, checked, strict=True)
                ]
            )

    def snapshot(self, to: Path) -> Path:
        """Copy the warehouse, in a consistent state, to a DuckDB file, for work of any length that does not block writers.

        The copy of an encrypted file is encrypted with the same key.
        """
        self._make_first()
        with self.store.turn(exclusive=False):
            self.store.copy_to(to)
        return to

    def copied(self, to: Path) -> Warehouse:
        """Return a `snapshot` as a warehouse of its own."""
        return Warehouse(self.snapshot(to), self.settings.of_a_file())

    def recover(self) -> None:
        """Complete or undo what a process that was killed while it converted the home has left; every use does so too."""
        with self.store.turn(exclusive=False):
            pass

    def key(self) -> Key | None:
        """Return the key of the home, None if it is not encrypted.

        Raises
        ------
        KeyProblem
            If the settings name no key for an encrypted home, or one for a home that is not.
        """
        return self.store.key()

    def lock(self, name: str, *, timeout_s: float) -> AbstractContextManager[None]:
        """Hold a lock of this name, one holder at a time among all that share the warehouse, while the block runs.

        Raises
        ------
        LockTimeout
            If it is not free within `timeout_s` seconds.
        """
        return self.store.lock(name, timeout_s=timeout_s)

    def create(self) -> None:
        """Create the tables, or migrate them to this version; free once this process has found them current.

        Raises
        ------
        WarehouseError
            If a newer version made them, or they cannot be migrated without loss; they stay as they were.
        """
        if self._is_current():
            return
        if self.store.exists():
            # most are current, and checking that blocks no reader
            with (
                self.store.turn(exclusive=False),
                self._connect(lambda: self.store.open(read_only=True)) as opened,
            ):
                if not self._pending(opened.connection).statements:
                    return
        else:
            self.store.prepare()
        with self._exclusive() as opened:
            # in one transaction: four hundred single commits are slow, and half of them would leave half a schema
            try:
                with _transaction(opened):
                    for statement in self._pending(opened.connection).statements:
                        opened.connection.execute(statement)
            except duckdb.Error as error:
                raise WarehouseError(
                    f"{self.name} could not be migrated to this version, and nothing was changed. DuckDB says: "
                    + str(error).partition("\n")[0]
                ) from error
            self._remember_current(self._plan(opened.connection))

    def _make_first(self) -> None:
        """Create the tables if there are none; older ones stay as they are."""
        if not self._is_current() and not self.store.exists():
            self.create()

    def _pending(self, connection: duckdb.DuckDBPyConnection) -> Migration:
        """Return what separates the open tables from this version's."""
        if (known := _CURRENT.get(self.store.identity())) is not None:
            return known
        migration = self._plan(connection)
        if not migration.statements:
            self._remember_current(migration)
        return migration

    def _plan(self, connection: duckdb.DuckDBPyConnection) -> Migration:
        try:
            return plan_migration(connection, shared=self.shared)
        except UnknownSchema as error:
            raise WarehouseError(str(error)) from None

    def _is_current(self) -> bool:
        return self.store.identity() in _CURRENT

    def _remember_current(self, migration: Migration) -> None:
        identity = self.store.identity()
        if identity is not None:
            _CURRENT[identity] = migration

    @contextmanager
    def alone(
        self, extra_mb: int = 0
    ) -> Iterator[Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]]:
        """Keep every other process out of the file while the block runs, for work on the file itself.

        Yields a function that opens it, with `extra_mb` of memory besides that of the threads; outside of what that opens, the file
        is closed and complete.
        """
        self.require_file("this")
        self.create()

        @contextmanager
        def opened() -> Iterator[duckdb.DuckDBPyConnection]:
            with self._connect(lambda: self.store.open(read_only=False), None, extra_mb) as one:
                yield one.connection

        with self.store.turn(exclusive=True):
            yield opened

    @contextmanager
    def _exclusive(self, threads: int | None = None, extra_mb: int = 0) -> Iterator[Opening]:
        with (
            self.store.turn(exclusive=True),
            self._connect(lambda: self.store.open(read_only=False), threads, extra_mb) as opened,
        ):
            yield opened

    @contextmanager
    def _connect(
        self, open_it: Callable[[], Opening], threads: int | None = None, extra_mb: int = 0
    ) -> Iterator[Opening]:
        opened = open_it()
        try:
            opened.configure(threads, self.settings.memory_mb_per_thread, extra_mb)
            yield opened
        except duckdb.Error as error:
            told = opened.explained(error)
            if told is error:
                raise
            raise told from None
        finally:
            opened.close()


def _not_here() -> None:
    raise WarehouseError("a process that only reads for a run has written rows; they are undone")


@contextmanager
def _transaction(opened: Opening) -> Iterator[None]:
    opened.begin()
    try:
        yield
    except BaseException:
        opened.undo()
        raise
    opened.commit()


def _one_of(columns: Sequence[str], values: Sequence[Sequence[object]]) -> tuple[str, list[object]]:
    """Return the condition that `columns` have one of these `values`, and its parameters.

    Values that all rows share are compared once, in a form that lets DuckDB skip row groups without them.
    """

    def same(column: str, value: object) -> str:
        return f"{column} is null" if value is None else f"{column} = ?"

    shared = [n for n in range(len(columns)) if all(row[n] == values[0][n] for row in values)]
    others = [n for n in range(len(columns)) if n not in shared]
    terms = [same(columns[n], values[0][n]) for n in shared]
    if others:
        each = (" and ".join(same(columns[n], row[n]) for n in others) for row in values)
        terms.append("(" + " or ".join(f"({one})" for one in each) + ")")
    parameters = [values[0][n] for n in shared] + [row[n] for row in values for n in others]
    return " and ".join(terms) or "true", [value for value in parameters if value is not None]


def _together(
    replacements: Sequence[Replacement],
) -> list[tuple[type[Table], tuple[str, ...], list[Replacement]]]:
    """Combine replacements of one table as long as they select different values of the same columns.

    They have no row in common, so their order does not matter.
    """
    found: list[tuple[type[Table], tuple[str, ...], list[Replacement]]] = []
    last: dict[type[Table], tuple[tuple[str, ...], list[Replacement], set[tuple[object, ...]]]] = {}
    for replacement in replacements:
        table, columns = replacement.table, tuple(replacement.where)
        values = tuple(replacement.where.values())
        if table not in last or last[table][0] != columns or values in last[table][2]:
            last[table] = columns, [], set()
            found.append((table, columns, last[table][1]))
        last[table][1].append(replacement)
        last[table][2].add(values)
    return found


def _bytes_per_row(rows: Rows) -> int:
    whole = rows() if callable(rows) else rows
    return int(whole.nbytes // whole.num_rows) if whole.num_rows else 0


def _check_together(replacements: Sequence[Replacement]) -> list[arrow.Table | None]:
    """Check the rows of each table together instead of once per replacement, and return them in their order.

    Rows on disk are checked and not kept: their place holds None.
    """
    places: dict[tuple[type[Table], bool], list[int]] = {}
    for place, replacement in enumerate(replacements):
        places.setdefault((replacement.table, callable(replacement.rows)), []).append(place)
    checked: dict[int, arrow.Table] = {}
    for (table, waits), own in places.items():
        for group in _groups(replacements, own, _CHECKED_BYTES if waits else None):
            parts = [part for _, part in group]
            alike = all(part.schema.equals(parts[0].schema) for part in parts)
            whole = arrow.concat_tables(
                [table.check_rows(part) for part in ([arrow.concat_tables(parts)] if alike else parts)]
            )
            start = 0
            for place, part in group:
                if not waits:
                    checked[place] = whole.slice(start, part.num_rows)
                start += part.num_rows
    return [checked.get(place) for place in range(len(replacements))]


def _groups(
    replacements: Sequence[Replacement], places: Sequence[int], limit: int | None
) -> Iterator[list[tuple[int, arrow.Table]]]:
    """Yield the rows at these places in groups; a group ends with the table that takes it over so many bytes."""
    group: list[tuple[int, arrow.Table]] = []
    size = 0
    for place in places:
        rows = replacements[place].rows
        part = rows() if callable(rows) else rows
        group.append((place, part))
        size += part.nbytes
        if limit is not None and size > limit:
            yield group
            group, size = [], 0
    if group:
        yield group


def _fetch(result: duckdb.DuckDBPyConnection) -> arrow.Table:
    return result.to_arrow_table()
