"""Removing from a Postgres server's disk what was deleted from its tables.

A deleted row stays in its page until the table is written anew; a frequent value stays in the planner's statistics, and in the
pages of these; and everything that was ever written is in the write-ahead log, whose old files are used again without being
emptied.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.lake_catalog import rows, value

_COUNTED_LATE_S: Final = 15.0
"""Other sessions tell Postgres how many rows they have deleted up to 10 s after they are done (PGSTAT_IDLE_INTERVAL in its
source); rows that are gone count as left until then. Writing the table anew counts again."""
_PAUSE_S: Final = 0.5


def write_anew(session: Any, tables: Sequence[str]) -> None:
    """Write tables and the database's statistics anew, without what was deleted from them.

    Parameters
    ----------
    session : psycopg2.connection
        In autocommit mode, with a `lock_timeout`; nobody may be writing to the tables.
    tables : sequence of str
        Names as Postgres quotes them.

    Raises
    ------
    WarehouseError
        If the role may not do it, or somebody keeps an older state of the database open. The message says what is left.
    """
    for table in tables:
        _vacuum(session, table, "full, analyze")
    until = time.monotonic() + _COUNTED_LATE_S
    while left := [
        table
        for (table,) in rows(
            session,
            "select relid::regclass::text from pg_stat_user_tables where relid = any(%s::regclass[]) and n_dead_tup > 0",
            [list(tables)],
        )
    ]:
        if time.monotonic() > until:
            break
        time.sleep(_PAUSE_S)
        for table in left:
            _vacuum(session, table, "full, analyze")
    write_statistics_anew(session)
    if left:
        raise WarehouseError(
            f"the database's table {left[0]} still holds deleted rows: something keeps an older state of the database open (a "
            "session, a prepared transaction, a replica). The administrator finds it in pg_stat_activity, "
            "pg_prepared_xacts, and pg_replication_slots; then repeat the command"
        )


def write_statistics_anew(session: Any) -> None:
    """Write the planner's statistics of the database anew; see `write_anew`."""
    _vacuum(session, "pg_catalog.pg_statistic", "full")


def _vacuum(session: Any, table: str, how: str) -> None:
    from psycopg2.errors import LockNotAvailable

    before = _file(session, table)
    try:
        rows(session, f"vacuum ({how}) {table}")
    except LockNotAvailable:
        raise WarehouseError(
            f"the database's table {table} still holds deleted rows: it could not be written anew, because somebody was "
            "reading it all the time. Repeat the command"
        ) from None
    if _file(session, table) == before:
        # Postgres only warns
        role, database = rows(session, "select quote_ident(current_user), quote_ident(current_database())")[0]
        raise WarehouseError(
            f"the database's table {table} still holds deleted values: the role {role} may not write it anew. It must own the "
            f"database; have the administrator run: alter database {database} owner to {role}; then repeat the command"
        )


def recycle_log(session: Any) -> list[str]:
    """Have the server fill its write-ahead log's old files with something else.

    Returns
    -------
    list of str
        What only the administrator can do, and how; empty if the log holds nothing older.
    """
    from psycopg2.errors import InsufficientPrivilege

    try:
        (begun,) = rows(session, "select substr(pg_walfile_name(pg_current_wal_insert_lsn()), 9)")[0]
        _switch(session)
        rows(session, "checkpoint")
        (files,) = rows(session, "select count(*) from pg_ls_waldir() where length(name) = 24")[0]
        # the old files wait now, under the names of coming ones, to be written over: at most as many as there are
        for _ in range(files + 1):
            _switch(session)
        rows(session, "checkpoint")
        kept = rows(
            session,
            "select name from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$' and substr(name, 9) <= %s",
            [begun],
        )
    except InsufficientPrivilege:
        (role,) = rows(session, "select quote_ident(current_user)")[0]
        return [
            "the database server's write-ahead log, which the role may not recycle. Have the administrator run: "
            f"grant pg_checkpoint, pg_monitor to {role}; grant execute on function pg_switch_wal() to {role}; "
            "then repeat the command"
        ]
    if kept:
        return [
            f"{len(kept)} older files of the database server's write-ahead log, which an archive or a replica has not "
            "taken yet (pg_stat_archiver, pg_replication_slots); when it has, repeat the command"
        ]
    return []


def _switch(session: Any) -> None:
    """Go on in the log's next file; the rest of this one is filled with zeros."""
    # a file to which nothing was written is not left
    rows(session, "select pg_logical_emit_message(false, 'iss', '')")
    rows(session, "select pg_switch_wal()")


def _file(session: Any, table: str) -> int:
    return int(value(session, "select pg_relation_filenode(%s::regclass)", [table]))
