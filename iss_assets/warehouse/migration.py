"""Bringing the tables of a home that an earlier version made to those of this version.

A writer migrates the file, in one transaction and before its own (`Migration.statements`). A reader leaves the file as it is
and sees the old tables through temporary views that have today's columns (`Migration.views`), so that reading a home with a
newer version never locks the version that runs the study out of it. A reader of the shared warehouse, which has no arrays of
a fixed size, sees tables with such arrays through views too: whoever reads finds the same types in both.

Changed descriptions need nothing here; they follow from the models in ``schemas``, as do added columns. Whoever adds,
renames or removes a column raises `SCHEMA_VERSION`, so that an older program says that the home is newer; a new name goes
into `_RENAMED_COLUMNS`, a new fixed word into `_REPLACED_VALUES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import duckdb

from iss_assets.schemas.base import Table, shared_type
from iss_assets.schemas.registry import MADE_AGAIN, TABLES
from iss_assets.warehouse.engine import DATABASE

SCHEMA_VERSION: Final = 9
"""Version of the tables' names, columns and fixed words. A home without a version is of version 1."""

_RENAMED_COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    # 2: the ledger also holds folds and whole tables, and a hash is called a hash
    "main.extractions": {"video_id": "subject"},
    "loader.models_made": {"mark": "definition_hash", "folder": "folder_hash"},
}
"""Table to old and new names of columns."""

_RETYPED_COLUMNS: Final[Mapping[tuple[str, str], str]] = {
    # 6: EfficientNet-Lite0 embeds with fewer numbers than ResNet50
    ("embeddings", "embedding"): "FLOAT[2048]",
}
"""(Table, column) whose type can hold every value of an older type, with that type."""

_REPLACED_VALUES: Final[Mapping[int, Mapping[tuple[str, str], Mapping[str, str]]]] = {
    2: {
        ("alerts", "status"): {"mended": "resolved"},
        ("alerts", "delivery"): {"told": "delivered"},
    }
}
"""Version to the (table, column) whose fixed words have other names since, with the old and new words."""

_ANOTHER_VERSION: Final = (
    "this warehouse was made by another version. Keep the file, name a new ISS_HOME, and run again: "
    "everything is computed again from the study folder."
)


class UnknownSchema(RuntimeError):
    """The file's tables are not those of this version or an earlier one; the message says what to do."""


@dataclass(frozen=True)
class Migration:
    """What separates a file from this version's tables.

    Attributes
    ----------
    statements : tuple of str
        What brings the file to this version, to be run in one transaction; empty if it is there.
    views : tuple of str
        What shows a reader this version's tables without changing the file.
    """

    statements: tuple[str, ...] = ()
    views: tuple[str, ...] = ()


@dataclass(frozen=True)
class _ColumnFound:
    type: str
    nullable: bool
    comment: str | None


def plan_migration(connection: duckdb.DuckDBPyConnection, *, shared: bool = False) -> Migration:
    """Compare the tables of the current database with this version's models.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The open tables.
    shared : bool
        Whether they are those of the shared warehouse.

    Raises
    ------
    UnknownSchema
        If a newer version made the file, or if a table has a column that cannot be brought over without loss.
    """
    found: dict[str, dict[str, _ColumnFound]] = {}
    for schema, table, name, *rest in connection.execute(
        "select schema_name, table_name, column_name, data_type, is_nullable, comment from duckdb_columns() "
        "where database_name = current_database() and schema_name in ('main', 'loader')"
    ).fetchall():
        found.setdefault(f"{schema}.{table}", {})[name] = _ColumnFound(*rest)
    version = _version_of(connection, found)
    if version > SCHEMA_VERSION:
        raise UnknownSchema(
            f"this home was written by a newer version of iss-assets (its tables are of version {version}, this program "
            f"knows versions up to {SCHEMA_VERSION}). Install the newer version, or name another home with ISS_HOME."
        )
    statements: list[str] = []
    views: list[str] = []
    for table in _RENAMED_COLUMNS:
        statements += _rename(table, found)
    for model in TABLES:
        changes, view = _compare(model, found.get(f"main.{model.__table__}"), version, shared)
        statements += changes
        views += [view] if view else []
    if version < SCHEMA_VERSION:
        statements += [
            "create schema if not exists loader",
            "create or replace table loader.schema_version as "
            f"select {SCHEMA_VERSION}::integer as version, now() as migrated_at",
        ]
    return Migration(tuple(statements), tuple(views))


def _version_of(connection: duckdb.DuckDBPyConnection, found: Mapping[str, object]) -> int:
    if "loader.schema_version" not in found:
        return 1
    row = connection.execute("select version from loader.schema_version").fetchone()
    return int(row[0]) if row else 1


def _rename(table: str, found: Mapping[str, Mapping[str, _ColumnFound]]) -> list[str]:
    names = _RENAMED_COLUMNS[table]
    return [
        f"alter table {table} rename column {old} to {new}"
        for old, new in names.items()
        if old in found.get(table, {})
    ]


def _compare(
    model: type[Table], existing: Mapping[str, _ColumnFound] | None, version: int, shared: bool
) -> tuple[list[str], str | None]:
    """Return the statements that migrate one table after its columns were renamed, and the view for readers, if they need one."""
    table, wanted = model.__table__, {c.name: c for c in model.columns()}

    def stored_type(sql: str) -> str:
        return shared_type(sql) if shared else sql

    if (
        existing
        and model in MADE_AGAIN
        and {n: c.type for n, c in existing.items()} != {n: stored_type(c.sql) for n, c in wanted.items()}
    ):
        statements, view = _create(model, shared)
        return [f"drop table {table}", *statements], view
    if not existing:
        return _create(model, shared)
    source = {_RENAMED_COLUMNS.get(f"main.{table}", {}).get(name, name): name for name in existing}
    for name, old in source.items():
        if name not in wanted or existing[old].type not in (
            stored_type(wanted[name].sql),
            stored_type(_RETYPED_COLUMNS.get((table, name), "")),
        ):
            raise UnknownSchema(f"table {table}, column {name}: {_ANOTHER_VERSION}")
    statements, updates = [], []
    selected: dict[str, str] = {}
    for name, column in wanted.items():
        stored = existing.get(source.get(name, ""))
        if stored is None:
            if not column.nullable:
                raise UnknownSchema(f"table {table} lacks column {name}: {_ANOTHER_VERSION}")
            statements.append(f"alter table {table} add column {name} {stored_type(column.sql)}")
        elif stored.type != stored_type(column.sql):
            statements.append(
                f"alter table {table} alter column {name} set data type {stored_type(column.sql)}"
            )
        elif column.nullable and not stored.nullable:
            statements.append(f"alter table {table} alter column {name} drop not null")
        if stored is None or stored.comment != column.description:
            statements.append(_comment_on(table, name, column.description))
        selected[name] = f"null::{column.sql}" if stored is None else source[name]
        if stored is not None and stored.type != column.sql:
            selected[name] = f"{source[name]}::{column.sql}"
        for old, new in _words_replaced(table, name, version).items():
            # after everything that alters the table: DuckDB refuses to alter what it has updated in the same transaction
            updates.append(f"update {table} set {name} = {_quoted(new)} where {name} = {_quoted(old)}")
            selected[name] = (
                f"case {selected[name]} when {_quoted(old)} then {_quoted(new)} else {selected[name]} end"
            )
    if all(name == value for name, value in selected.items()):
        return [*statements, *updates], None
    columns = ", ".join(f"{value} as {name}" for name, value in selected.items())
    view = f"create temporary view {table} as select {columns} from {DATABASE}.main.{table}"
    return [*statements, *updates], view


def _words_replaced(table: str, column: str, version: int) -> dict[str, str]:
    """Return the fixed words of a column that were replaced after `version`, old to new."""
    replaced: dict[str, str] = {}
    for since, columns in _REPLACED_VALUES.items():
        if version < since:
            replaced |= columns.get((table, column), {})
    return replaced


def _create(model: type[Table], shared: bool) -> tuple[list[str], str]:
    statements = [model.ddl(shared=shared), f"comment on table {model.__table__} is {_quoted(model.grain())}"]
    statements += [_comment_on(model.__table__, c.name, c.description) for c in model.columns()]
    return statements, model.ddl().replace("create table", "create temporary table", 1)


def _comment_on(table: str, column: str, text: str) -> str:
    return f"comment on column {table}.{column} is {_quoted(text)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
