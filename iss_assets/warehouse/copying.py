"""Copying all tables from one database to another, a file or the shared warehouse, and comparing the two.

Both are attached to the same DuckDB. What the shared warehouse does not have is left out on the way there, and made again from
the models in ``schemas`` on the way back: arrays of a fixed size, and compression of single columns. Primary keys and defaults,
which only tables that somebody added can have, are not carried over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np

from iss_assets.schemas.base import shared_type
from iss_assets.schemas.registry import BY_NAME
from iss_assets.warehouse.errors import WarehouseError

COPY_MEMORY_MB: Final = 1024
"""Memory of DuckDB for copying a file, besides that of its threads: eight sounds of half an hour."""
_LISTS: Final = 128
"""Rows with spectrograms that are copied at a time: 11 MB."""
_SOUND_BYTES: Final = 32 * 2**20
"""Sound that is copied at a time; a longer one alone."""
_COMMITTED: Final = 8
"""Steps that are written together."""

Progress = Callable[[int, int, str], None]
"""Called with what is done and what there is to do, in tables, and the table's name."""


@dataclass(frozen=True)
class _Column:
    name: str
    type: str
    nullable: bool
    comment: str | None


@dataclass(frozen=True)
class _Table:
    schema: str
    name: str
    comment: str | None
    columns: tuple[_Column, ...]

    def in_database(self, database: str) -> str:
        return f"{database}.{_name(self.schema)}.{_name(self.name)}"


def copy_all(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    target: str,
    *,
    shared: bool,
    progress: Progress | None = None,
) -> None:
    """Copy every table and view, with descriptions, in the transaction that is open or one per statement.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Both databases are attached to it.
    source, target : str
        Names of the databases; the target has no tables.
    shared : bool
        Whether the target is the shared warehouse.
    progress : callable, optional
        Told how far it is.

    Raises
    ------
    WarehouseError
        If a table has a type that the shared warehouse does not know.
    """
    tables = _tables(connection, source)
    for schema in sorted({table.schema for table in tables} - {"main"}):
        connection.execute(f"create schema if not exists {target}.{_name(schema)}")
    for number, table in enumerate(tables):
        if progress is not None:
            progress(number, len(tables), table.name)
        place = table.in_database(target)
        body = ", ".join(
            f"{_name(c.name)} {_stored(table, c, shared)}{'' if c.nullable else ' not null'}"
            for c in table.columns
        )
        try:
            connection.execute(f"create table {place} ({body})")
        except (duckdb.InvalidInputException, duckdb.NotImplementedException) as error:
            raise WarehouseError(
                f"the table {table.name} cannot be copied: {str(error).partition(chr(10))[0]}. Export it or drop it first"
            ) from error
        selected = ", ".join(f"{_name(c.name)}::{_type(table, c, shared)}" for c in table.columns)
        connection.execute(f"insert into {place} select {selected} from {table.in_database(source)}")
        if table.comment:
            connection.execute(f"comment on table {place} is {_text(table.comment)}")
        for column in table.columns:
            if column.comment:
                connection.execute(
                    f"comment on column {place}.{_name(column.name)} is {_text(column.comment)}"
                )
    _copy_views(connection, source, target, shared=shared)


def compare_all(connection: duckdb.DuckDBPyConnection, source: str, target: str) -> tuple[int, int]:
    """Compare every table by its number of rows and a hash of all values, and return the numbers of tables and rows.

    Raises
    ------
    WarehouseError
        If one differs.
    """
    tables, rows = _tables(connection, source), 0
    names = {(table.schema, table.name) for table in _tables(connection, target)}
    for table in tables:
        if (table.schema, table.name) not in names:
            raise WarehouseError(f"the table {table.name} is missing in the copy")
        values = ", ".join(
            f"{_name(c.name)}::{shared_type(c.type)} as {_name(c.name)}" for c in table.columns
        )
        before, after = (
            connection.execute(
                f"select count(*), sum(hash(_row)::hugeint) from (select {values} from {table.in_database(one)}) as _row"
            ).fetchone()
            for one in (source, target)
        )
        if before != after or before is None:
            raise WarehouseError(f"the copy of the table {table.name} differs from it")
        rows += before[0]
    return len(tables), rows


def copy_file(connection: duckdb.DuckDBPyConnection, source: str, target: str) -> None:
    """Copy a file's database to an empty one, in the order of its rows.

    As ``copy from database`` does, but sound and spectrograms a few rows at a time. DuckDB would read 2,048 rows at once, gigabytes
    of sound, and a copy is written as a whole, so that the next one reads whole pieces of it.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Both databases are attached to it, with `COPY_MEMORY_MB` of memory besides that of its threads.
    source, target : str
        Names of the databases; the target has no tables.
    """
    connection.execute(f"copy from database {source} to {target} (schema)")
    for table in _tables(connection, source):
        insert = f"insert into {table.in_database(target)} from {table.in_database(source)}"
        spans = _spans(connection, table, source)
        for start in range(0, len(spans), _COMMITTED):
            connection.execute("begin transaction")
            for condition in spans[start : start + _COMMITTED]:
                connection.execute(f"{insert} where {condition}")
            connection.execute("commit")


def hash_of_rows(
    connection: duckdb.DuckDBPyConnection, database: str, schema: str, name: str
) -> tuple[int, int]:
    """Return the number of rows of a file's table, and a hash of all their values that does not depend on their order.

    Wide tables are read like `copy_file` does.
    """
    (table,) = (t for t in _tables(connection, database) if (t.schema, t.name) == (schema, name))
    rows = total = 0
    for condition in _spans(connection, table, database):
        found = connection.execute(
            f"select count(*), coalesce(sum(hash(_row)::hugeint), 0) from (from {table.in_database(database)} "
            f"where {condition}) as _row"
        ).fetchone()
        if found is not None:
            rows, total = rows + int(found[0]), total + int(found[1])
    return rows, total


def _spans(connection: duckdb.DuckDBPyConnection, table: _Table, database: str) -> list[str]:
    """Return conditions that select all rows of a file's table, in the order of storage, of wide ones a few each."""
    types, names = {column.type for column in table.columns}, {column.name for column in table.columns}
    place = table.in_database(database)
    if "FLOAT[][]" in types:
        rows = connection.execute(f"select rowid from {place} order by rowid").fetchnumpy()["rowid"]
        step = np.arange(len(rows)) // _LISTS
    elif "BLOB" in types and {"duration_s", "sample_rate"} <= names:
        # samples are stored with 24 bits, which is more than their file takes
        found = connection.execute(
            f"select rowid, coalesce(duration_s * sample_rate, 0) * 3 as most from {place} order by rowid"
        ).fetchnumpy()
        rows = found["rowid"]
        step = (np.cumsum(found["most"]) // _SOUND_BYTES).astype(np.int64)
    else:
        return ["true"]
    starts = np.flatnonzero(np.diff(step, prepend=-1))
    ends = [*(starts[1:] - 1), len(rows) - 1]
    return [f"rowid >= {rows[a]} and rowid <= {rows[b]}" for a, b in zip(starts, ends, strict=False)]


def has_rows_in_lake(connection: duckdb.DuckDBPyConnection, database: str) -> bool:
    """Return whether any table of a shared warehouse but the one of the schema's version has a row."""
    # most have no file, which the catalog says at once for all; asking each takes tens of milliseconds
    with_files = {
        name
        for (name,) in connection.execute(
            "select table_name from ducklake_table_info(?) where file_count > 0", [database]
        ).fetchall()
    }
    return any(
        connection.execute(f"select exists (from {table.in_database(database)})").fetchone() == (True,)
        for table in _tables(connection, database)
        if table.name in with_files and (table.schema, table.name) != ("loader", "schema_version")
    )


def drop_all(connection: duckdb.DuckDBPyConnection, database: str) -> None:
    """Drop every table and view."""
    for schema, name, _, _ in _views(connection, database):
        connection.execute(f"drop view {database}.{_name(schema)}.{_name(name)}")
    for table in _tables(connection, database):
        connection.execute(f"drop table {table.in_database(database)}")


def _tables(connection: duckdb.DuckDBPyConnection, database: str) -> list[_Table]:
    columns: dict[tuple[str, str], list[_Column]] = {}
    for schema, table, *column in connection.execute(
        "select schema_name, table_name, column_name, data_type, is_nullable, comment from duckdb_columns() "
        "where database_name = ? and not internal order by schema_name, table_name, column_index",
        [database],
    ).fetchall():
        columns.setdefault((schema, table), []).append(_Column(*column))
    return [
        _Table(schema, name, comment, tuple(columns[schema, name]))
        for schema, name, comment in connection.execute(
            "select schema_name, table_name, comment from duckdb_tables() where database_name = ? and not internal "
            "order by schema_name, table_name",
            [database],
        ).fetchall()
    ]


def _views(connection: duckdb.DuckDBPyConnection, database: str) -> list[tuple[str, str, str, str | None]]:
    return connection.execute(
        "select schema_name, view_name, sql, comment from duckdb_views() where database_name = ? and not internal "
        "order by all",
        [database],
    ).fetchall()


def _copy_views(connection: duckdb.DuckDBPyConnection, source: str, target: str, *, shared: bool) -> None:
    """Copy the views; those that read others come after them."""
    views = _views(connection, source)
    comments = {
        (schema, name, column): comment
        for schema, name, column, comment in connection.execute(
            "select schema_name, table_name, column_name, comment from duckdb_columns() "
            "where database_name = ? and comment is not null",
            [source],
        ).fetchall()
    }
    found = connection.execute("select current_database()").fetchone()
    connection.execute(f"use {target}")
    waiting = views
    while waiting:
        later: list[tuple[str, str, str, str | None]] = []
        for view in waiting:
            schema, name, sql, comment = view
            try:
                connection.execute(sql)
            except duckdb.CatalogException:
                later.append(view)
                continue
            place = f"{_name(schema)}.{_name(name)}"
            if comment:
                connection.execute(f"comment on view {place} is {_text(comment)}")
            # the shared warehouse has no comments on columns of views
            for (of_schema, of_view, column), text in comments.items() if not shared else ():
                if (of_schema, of_view) == (schema, name):
                    connection.execute(f"comment on column {place}.{_name(column)} is {_text(text)}")
        if len(later) == len(waiting):
            raise WarehouseError(f"the view {later[0][1]} cannot be copied: what it reads is not there")
        waiting = later
    if found is not None:
        connection.execute(f"use {found[0]}")


def _type(table: _Table, column: _Column, shared: bool) -> str:
    """Return the type of a column's copy."""
    if shared:
        return shared_type(column.type)
    model = BY_NAME.get(table.name) if table.schema == "main" else None
    known = {c.name: c.sql for c in model.columns()}.get(column.name) if model else None
    return known if known is not None and shared_type(known) == column.type else column.type


def _stored(table: _Table, column: _Column, shared: bool) -> str:
    compression = " using compression uncompressed" if column.type == "BLOB" and not shared else ""
    return _type(table, column, shared) + compression


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
