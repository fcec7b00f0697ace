"""Erasing from the shared warehouse what was deleted from its tables: in data files, in the catalog, on the database server's disk.

A deleted row stays in its Parquet file, in the files of earlier snapshots, in the catalog's column minima and maxima, and in
pages, statistics and the log of Postgres. Everything is done in the writer's turn, and all of it can be repeated: after an
interruption it begins again.

Readers that had begun before are waited for, so that none loses its files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import duckdb

from iss_assets.warehouse.data_place import problems
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.engine import DATABASE
from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.lake import renew_access
from iss_assets.warehouse.lake_catalog import Turn, rows, value
from iss_assets.warehouse.lake_files import named_files
from iss_assets.warehouse.lake_store import LakeStore
from iss_assets.warehouse.postgres_disk import recycle_log, write_anew

_META: Final = f"__ducklake_metadata_{DATABASE}"
"""The catalog's tables, as DuckDB sees them."""
_TYPES: Final = {
    **{
        f"int{8 * size}": name
        for size, name in ((1, "tinyint"), (2, "smallint"), (4, "integer"), (8, "bigint"), (16, "hugeint"))
    },
    **{
        f"uint{8 * size}": f"u{name}"
        for size, name in ((1, "tinyint"), (2, "smallint"), (4, "integer"), (8, "bigint"), (16, "hugeint"))
    },
    "float32": "float",
    "float64": "double",
    # written in hexadecimal, which sorts as the bytes do
    "blob": "varchar",
    "json": "varchar",
}
"""DuckLake's names of types, and DuckDB's; those that are missing are the same."""
_PAUSE_S: Final = 0.2
_REPEAT: Final = "repeat the command"
_BOUNDS: Final = f"""
from {_META}.ducklake_file_column_stats as f
join {_META}.ducklake_data_file as d using (data_file_id)
join {_META}.ducklake_column as c using (column_id)
where f.table_id = c.table_id and c.end_snapshot is null and d.end_snapshot is null
"""
"""The minima and maxima of columns in files that there are."""
_FORGET: Final = """
update ducklake_table_column_stats set min_value = null, max_value = null, contains_null = true, contains_nan = null;
with there as (
    select
        f.table_id,
        f.column_id,
        -- a file without the column has nulls for it
        bool_or(coalesce(f.null_count, 1) > 0) or count(*) < max(n.files) as has_null,
        case when count(f.contains_nan) = count(*) then bool_or(f.contains_nan) end as has_nan
    from ducklake_file_column_stats as f
    join ducklake_data_file as d using (data_file_id)
    join (
        select table_id, count(*) as files from ducklake_data_file where end_snapshot is null group by table_id
    ) as n on n.table_id = f.table_id
    where d.end_snapshot is null
    group by f.table_id, f.column_id
)
update ducklake_table_column_stats as s
set contains_null = there.has_null, contains_nan = there.has_nan
from there
where (s.table_id, s.column_id) = (there.table_id, there.column_id);
-- a table without a file is like a new one, and a column that was dropped has no values
delete from ducklake_table_column_stats as s
where not exists (select from ducklake_data_file as d where d.table_id = s.table_id and d.end_snapshot is null)
    or not exists (
        select from ducklake_column as c
        where (c.table_id, c.column_id) = (s.table_id, s.column_id) and c.end_snapshot is null
    );
delete from ducklake_table_stats as s
where not exists (select from ducklake_data_file as d where d.table_id = s.table_id and d.end_snapshot is null);
"""
_READERS: Final = """
select pid, host(client_addr), xact_start at time zone 'UTC' from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
    and backend_xmin is not null and xact_start < %s
order by xact_start
"""
_TABLES: Final = r"""
select oid::regclass::text from pg_class
where relkind = 'r' and (relname like 'ducklake\_%' or relname like 'iss\_%')
    and relnamespace = (select relnamespace from pg_class where oid = to_regclass('ducklake_snapshot'))
order by 1
"""
_TEXTS: Final = """
select 'ducklake_' || kind || '_column_stats', text
from (
    select 'file' as kind, table_id, column_id, unnest(array[min_value, max_value]) as text from ducklake_file_column_stats
    union
    select 'table', table_id, column_id, unnest(array[min_value, max_value]) from ducklake_table_column_stats
) as bounds
where not exists (
    -- a number is nobody's id
    select from ducklake_column as c
    where (c.table_id, c.column_id) = (bounds.table_id, bounds.column_id) and c.column_type not in ('varchar', 'json', 'blob')
)
union all
select 'ducklake_view', sql from ducklake_view
union all
select 'ducklake_macro_impl', sql from ducklake_macro_impl
union all
select 'ducklake_tag', value from ducklake_tag
union all
select 'ducklake_column_tag', value from ducklake_column_tag
union all
select 'ducklake_column', coalesce(initial_default, default_value) from ducklake_column
"""


def erase(warehouse: Warehouse) -> list[str]:
    """Write anew what holds deleted rows, and remove all earlier snapshots and their files.

    Parameters
    ----------
    warehouse : Warehouse
        The shared warehouse.

    Returns
    -------
    list of str
        What only the database server's administrator can remove, and how; empty if nothing is left.

    Raises
    ------
    WarehouseError
        If something is left that this can remove when it is repeated. The message says what keeps it.
    """
    store = _lake_of(warehouse)
    with (
        store.own_duckdb(f"erasing from {store.name}") as connection,
        store.writers_turn() as turn,
        store.catalog.session() as session,
    ):
        timeout_s = store.settings.lock_timeout_s / 2
        rows(session, "set lock_timeout = %s", [int(timeout_s * 1000)])
        begun = value(session, "select now()")
        _rewrite_files(store, connection)
        recompute_bounds(session, connection, turn)
        _wait_for_readers(session, timeout_s)
        left = _remove_files(store, connection, begun)
        write_anew(session, [table for (table,) in rows(session, _TABLES)])
        return [*left, *recycle_log(session)]


def _lake_of(warehouse: Warehouse) -> LakeStore:
    if not isinstance(warehouse.store, LakeStore):
        raise WarehouseError("this is for a shared warehouse; this one is a file")
    return warehouse.store


def _rewrite_files(store: LakeStore, connection: duckdb.DuckDBPyConnection) -> None:
    """Write files with deleted rows anew, and forget every snapshot but the last."""
    connection.execute("begin transaction")
    connection.execute(f"call ducklake_rewrite_data_files('{DATABASE}', delete_threshold => 0)").fetchall()
    store.commit(connection)
    # the last one stays in any case; times are those of other hosts, whose clocks may be ahead
    connection.execute(
        f"call ducklake_expire_snapshots('{DATABASE}', older_than => now() + interval 10 year)"
    ).fetchall()


def recompute_bounds(session: Any, connection: duckdb.DuckDBPyConnection, turn: Turn) -> None:
    """Set the catalog's minima and maxima of columns to those of the files that there are.

    DuckLake widens them when rows are added, and never narrows them. They cannot be left out either: where they are null, it
    takes a column for empty and filters return nothing.
    """
    found: list[tuple[Any, ...]] = []
    types = connection.execute(f"select distinct column_type {_BOUNDS} and min_value is not null").fetchall()
    for (name,) in types:
        kind = _TYPES.get(name, name)
        found += connection.execute(
            f"select f.table_id, column_id, arg_min(min_value, min_value::{kind}), arg_max(max_value, max_value::{kind}) "
            f"{_BOUNDS} and column_type = ? group by all",
            [name],
        ).fetchall()
    rows(session, "begin")
    if not rows(session, "select 1 from iss_writer_turn where number = %s for share", [turn.number]):
        raise WarehouseError("another writer's turn had begun; repeat the command")
    rows(session, _FORGET)
    for table, column, low, high in found:
        rows(
            session,
            "update ducklake_table_column_stats set min_value = %s, max_value = %s where table_id = %s and column_id = %s",
            [low, high, table, column],
        )
    # every process keeps the bounds that it has read for this number; with the next one it reads them again
    rows(
        session,
        "update ducklake_snapshot set next_file_id = next_file_id + 1 "
        "where snapshot_id = (select max(snapshot_id) from ducklake_snapshot)",
    )
    rows(session, "commit")


def _wait_for_readers(session: Any, timeout_s: float) -> None:
    """Wait until nobody reads an earlier snapshot any more.

    Raises
    ------
    WarehouseError
        If somebody still does after `timeout_s` seconds.
    """
    until = time.monotonic() + timeout_s
    begun = value(session, "select clock_timestamp()")
    while reading := rows(session, _READERS, [begun]):
        if time.monotonic() > until:
            pid, host, since = reading[0]
            raise WarehouseError(
                f"{len(reading)} sessions still read rows from before, the first one from {host or 'the database server'} "
                f"(process {pid} of the database server) since {since:%Y-%m-%d %H:%M} UTC. End what reads there, and repeat the "
                "command"
            )
        time.sleep(_PAUSE_S)


def _remove_files(store: LakeStore, connection: duckdb.DuckDBPyConnection, begun: object) -> list[str]:
    """Remove the files of earlier snapshots, and those that no snapshot names; return what only an administrator can remove.

    Raises
    ------
    WarehouseError
        If there is still a file that the catalog does not name.
    """
    renew_access(connection, store.settings)
    with problems(store.place, _REPEAT):
        left = store.place.tidy(0.0)
    connection.execute(f"call ducklake_cleanup_old_files('{DATABASE}', cleanup_all => true)").fetchall()
    # of younger files, a writer's whose turn began when this one's was lost
    connection.execute(
        f"call ducklake_delete_orphaned_files('{DATABASE}', older_than => timestamptz '{begun}')"
    ).fetchall()
    with problems(store.place, _REPEAT):
        if files := unnamed_files(store, connection):
            raise WarehouseError(
                f"{store.place.name}, still has {len(files)} files that belong to no table, and that this could not remove. If "
                "a clock of the hosts is wrong, set it right; then repeat the command"
            )
        return [*left, *store.place.erase_history()]


def unnamed_files(store: LakeStore, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the files at the place of the data that the catalog does not name."""
    with store.catalog.session() as session:
        named = named_files(session)
    return sorted(path for path in store.place.files(connection) if path not in named)


def texts_in_catalog(warehouse: Warehouse) -> Iterator[tuple[str, str]]:
    """Yield every text in the catalog that comes from somebody's rows or queries, after the name of its table."""
    store = _lake_of(warehouse)
    with store.catalog.session() as session:
        for table, text in rows(session, _TEXTS):
            if text is not None:
                yield table, text
