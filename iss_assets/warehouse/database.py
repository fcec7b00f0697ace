"""The DuckDB file: connections, transactions, and partitions that are replaced whole; one writer at a time.

``schemas`` defines the tables, ``migration`` brings older files to them, ``engine`` opens the file.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as arrow

from iss_assets.schemas.base import Table
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.engine import Opened, is_encrypted
from iss_assets.warehouse.errors import KeyProblem, WarehouseError
from iss_assets.warehouse.keys import Key, configured_key, forget_keys
from iss_assets.warehouse.locking import LockTimeout, hold
from iss_assets.warehouse.migration import Migration, UnknownSchema, plan_migration
from iss_assets.warehouse.spool import Rows, batches, portions
from iss_assets.warehouse.swap import SwapFiles, settle

__all__ = ["KeyProblem", "Replacement", "Warehouse", "WarehouseError", "Writer"]

_TOGETHER = 100
"""Partitions removed by one statement."""

_CHECKED_BYTES = 256 * 2**20
"""Rows on disk are checked together up to this size: those of an encrypted home are in memory then."""

_CURRENT: set[tuple[str, int]] = set()
"""Files, by path and inode, whose tables this process has found to be current."""


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
    """One transaction of the one writer; made by `Warehouse.write`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        self._connection = connection

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
    """The DuckDB file of one study.

    Parameters
    ----------
    path : Path
        The file; it and its tables are created at the first use.
    settings : WarehouseSettings, optional
        Lock timeout, memory, and where the key of an encrypted file is.
    """

    def __init__(self, path: Path, settings: WarehouseSettings | None = None):
        self.path = Path(path)
        self.settings = settings or WarehouseSettings()
        self.lock_path = self.path.with_name(self.path.name + ".lock")

    @contextmanager
    def read(self, threads: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a read-only connection to a consistent state; writers wait until the block ends, so keep it short.

        For long work use `snapshot`. `threads` limits DuckDB's threads, and its memory in proportion.
        """
        self._make_file()
        with (
            self._turn(exclusive=False),
            self._connect(read_only=True, threads=threads) as connection,
        ):
            for view in self._pending(connection).views:
                connection.execute(view)
            yield connection

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
        with self._exclusive(threads, extra_mb) as connection, _transaction(connection):
            yield Writer(connection)

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
        """Copy the warehouse, in a consistent state, to `to`, for work of any length that does not block writers.

        The copy of an encrypted warehouse is encrypted with the same key.
        """
        self._make_file()
        with self._turn(exclusive=False):
            # a wrong key is reported now, not to whoever opens the copy
            with self._connect(read_only=True):
                pass
            for source in (self.path, self.path.with_name(self.path.name + ".wal")):
                if source.exists():
                    shutil.copyfile(source, to.with_name(source.name.replace(self.path.name, to.name)))
        return to

    def recover(self) -> None:
        """Complete or undo what a process that was killed while it converted the home has left; every use does so too."""
        with self._turn(exclusive=False):
            pass

    def key(self) -> Key | None:
        """Return the key of the home, None if it is not encrypted.

        Raises
        ------
        KeyProblem
            If the settings name no key for an encrypted home, or one for a home that is not.
        """
        if not self.path.parent.exists():
            return configured_key(self.settings)
        with self._turn(exclusive=False):
            return self._key()

    def _key(self) -> Key | None:
        key, encrypted = configured_key(self.settings), is_encrypted(self.path)
        if encrypted and key is None:
            raise KeyProblem(
                f"{self.path.name} is encrypted: name its key with ISS_WAREHOUSE__KEY_FILE or ISS_WAREHOUSE__KEY_COMMAND"
            )
        if encrypted is False and key is not None:
            raise KeyProblem(
                f"the settings name a key, but {self.path.name} is not encrypted: encrypt it with iss encrypt, or remove "
                "ISS_WAREHOUSE__KEY_FILE and ISS_WAREHOUSE__KEY_COMMAND"
            )
        return key

    @contextmanager
    def _turn(self, *, exclusive: bool) -> Iterator[None]:
        """Hold the lock, after completing or undoing what a process that was killed while it converted the home has left."""
        files, timeout = SwapFiles(self.path), self.settings.lock_timeout_s
        while True:
            with hold(self.lock_path, exclusive=exclusive, timeout_s=timeout):
                if not files.left_over():
                    yield
                    return
            with hold(self.lock_path, exclusive=True, timeout_s=timeout):
                settle(files)

    def create(self) -> None:
        """Create the file, or migrate its tables to this version; free once this process has found it current.

        Raises
        ------
        WarehouseError
            If a newer version made the file, or its tables cannot be migrated without loss; it stays as it was.
        """
        if self._is_current():
            return
        if self.path.exists():
            # most files are current, and checking that blocks no reader
            with (
                self._turn(exclusive=False),
                self._connect(read_only=True) as connection,
            ):
                if not self._pending(connection).statements:
                    return
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._exclusive() as connection:
            self.path.chmod(0o600)
            # in one transaction: four hundred single commits are slow, and half of them would leave half a schema
            try:
                with _transaction(connection):
                    for statement in self._pending(connection).statements:
                        connection.execute(statement)
            except duckdb.Error as error:
                raise WarehouseError(
                    f"{self.path.name} could not be migrated to this version, and nothing was changed. DuckDB says: "
                    + str(error).partition("\n")[0]
                ) from error
        self._remember_current()

    def _make_file(self) -> None:
        """Create the file if there is none; an older one stays as it is."""
        if not self.path.exists():
            self.create()

    def _pending(self, connection: duckdb.DuckDBPyConnection) -> Migration:
        """Return what separates the open file from this version's tables."""
        if self._is_current():
            return Migration()
        try:
            migration = plan_migration(connection)
        except UnknownSchema as error:
            raise WarehouseError(str(error)) from None
        if not migration.statements:
            self._remember_current()
        return migration

    def _is_current(self) -> bool:
        return self.path.exists() and (str(self.path), self.path.stat().st_ino) in _CURRENT

    def _remember_current(self) -> None:
        _CURRENT.add((str(self.path), self.path.stat().st_ino))

    @contextmanager
    def alone(self) -> Iterator[Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]]:
        """Keep every other process out of the file while the block runs, for work on the file itself.

        Yields a function that opens it; outside of what that opens, the file is closed and complete.
        """
        self.create()
        with self._turn(exclusive=True):
            yield lambda: self._connect(read_only=False)

    @contextmanager
    def _exclusive(
        self, threads: int | None = None, extra_mb: int = 0
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        with (
            self._turn(exclusive=True),
            self._connect(read_only=False, threads=threads, extra_mb=extra_mb) as connection,
        ):
            yield connection

    @contextmanager
    def _connect(
        self, *, read_only: bool, threads: int | None = None, extra_mb: int = 0
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        opened = self._open(read_only)
        try:
            opened.configure(threads, self.settings.memory_mb_per_thread, extra_mb)
            yield opened.connection
        finally:
            opened.close()

    def _open(self, read_only: bool) -> Opened:
        # we hold our own lock, so only a program that opened the file without it can be in the way
        deadline = time.monotonic() + self.settings.lock_timeout_s
        asked_again = False
        while True:
            try:
                return Opened(self.path, read_only, self._key())
            except KeyProblem:
                # a key store may hold a new key since this process asked; one that gives a wrong key does so again
                if asked_again or not forget_keys():
                    raise
                asked_again = True
            except (duckdb.IOException, duckdb.InvalidInputException) as error:
                # the second one is an encrypted file whose parts do not fit their tags
                if "lock" not in str(error).lower():
                    raise WarehouseError(
                        f"{self.path.name} cannot be opened: it is damaged, unreadable, or not a DuckDB file"
                    ) from error
                if time.monotonic() > deadline:
                    raise LockTimeout(
                        f"another program has {self.path.name} open (a notebook, a DuckDB shell?). "
                        "Close it there, or work on a snapshot: iss snapshot FILE."
                    ) from error
                time.sleep(0.05)


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("begin transaction")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


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
