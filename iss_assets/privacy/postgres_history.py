"""The same as `privacy.dagster_history` for a history in Postgres (``cluster.storage``): tables of values, written anew.

Files of runs lie in the home there too, and `privacy.dagster_history` removes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as db
from pydantic import SecretStr

from iss_assets.privacy.dagster_history import MATERIALIZATION, RUN_COLUMNS, WORDS
from iss_assets.privacy.traces import Traces, quoted
from iss_assets.settings import storage_address
from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.postgres_disk import recycle_log, write_statistics_anew

_TOGETHER: Final = 1000
"""Rows read, or deleted, at a time."""


def plan_forgetting_in_postgres(storage: SecretStr, traces: Traces) -> tuple[list[str], dict[str, int]]:
    """Return the runs that name a patient anywhere, and what is to be deleted.

    Parameters
    ----------
    storage : SecretStr
        Address of Dagster's storage.
    traces : Traces
        What names the patient.
    """
    with _connected(storage) as connection:
        return _plan(connection, traces)


def values_in_postgres(storage: SecretStr) -> Iterator[Any]:
    """Yield every value that Dagster has recorded."""
    with _connected(storage) as connection:
        for name in _tables(connection):
            for _, *row in _rows(connection, name):
                yield from row


def forget_in_postgres(storage: SecretStr, traces: Traces, runs: set[str]) -> list[str]:
    """Delete what Dagster has recorded of a patient, and write its tables anew.

    Parameters
    ----------
    storage : SecretStr
        Address of Dagster's storage.
    traces : Traces
        What names the patient.
    runs : set of str
        Runs to delete whole; see `plan_forgetting_in_postgres`.

    Returns
    -------
    list of str
        What only the server's administrator can remove, and how.

    Raises
    ------
    OSError
        If the history names the patient again when everything was deleted.
    """
    with _connected(storage) as connection, connection.begin():
        tables = _tables(connection)
        if tables:
            # the daemon waits with what it has to record
            names = ", ".join(quoted(name) for name in tables)
            connection.execute(db.text(f"lock table {names} in exclusive mode"))
        for name in tables:
            if name == "asset_keys":
                _remember_what_remains(connection, traces, runs)
                continue
            _delete(connection, name, _rows_about(connection, name, traces, runs))
            if name == "asset_event_tags":
                # its rows go with their events
                connection.execute(
                    db.text("delete from asset_event_tags where event_id not in (select id from event_logs)")
                )
    with _connected(storage) as connection:
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        for name in tables:
            # deleted rows stay in their pages until then, and values in the planner's statistics
            alone.execute(db.text(f"vacuum (full, analyze) {quoted(name)}"))
        session = alone.connection.driver_connection
        remains = []
        try:
            write_statistics_anew(session)
        except WarehouseError as error:
            remains.append(str(error))
        remains += recycle_log(session)
    left, counts = plan_forgetting_in_postgres(storage, traces)
    if left or counts:
        raise OSError("something was recorded of the patient meanwhile; stop `iss serve`, and repeat")
    return remains


def _plan(connection: db.Connection, traces: Traces) -> tuple[list[str], dict[str, int]]:
    runs: set[str] = set()
    tables = _tables(connection)
    for name in tables:
        columns = _columns(connection, name)
        if "run_id" in columns:
            place = columns.index("run_id")
            for _, *row in _rows(connection, name):
                if row[place] and row[place] not in runs and any(traces.in_value(v) for v in row):
                    runs.add(str(row[place]))
    counts: Counter[str] = Counter()
    for name in tables:
        if name in WORDS:
            counts[WORDS[name]] += len(_rows_about(connection, name, traces, runs))
    return sorted(runs), {words: count for words, count in counts.items() if count}


def _rows_about(connection: db.Connection, table: str, traces: Traces, runs: set[str]) -> list[str]:
    """Return the places of the rows that name the patient or belong to one of the runs."""
    columns = _columns(connection, table)
    of_runs = [columns.index(name) for name in RUN_COLUMNS if name in columns]
    return [
        place
        for place, *row in _rows(connection, table)
        if any(row[column] in runs for column in of_runs) or any(traces.in_value(value) for value in row)
    ]


def _rows(connection: db.Connection, table: str) -> Iterator[Sequence[Any]]:
    result = connection.execute(
        db.text(f"select ctid::text, * from {quoted(table)}"),
        execution_options={"stream_results": True, "yield_per": _TOGETHER},
    )
    for place, *row in result:
        yield [place, *(bytes(value) if isinstance(value, memoryview) else value for value in row)]


def _delete(connection: db.Connection, table: str, places: Sequence[str]) -> None:
    for start in range(0, len(places), _TOGETHER):
        connection.execute(
            db.text(f"delete from {quoted(table)} where ctid = any(cast(:places as tid[]))"),
            {"places": list(places[start : start + _TOGETHER])},
        )


def _remember_what_remains(connection: db.Connection, traces: Traces, runs: set[str]) -> None:
    """Let the last materialization of assets that were about the patient be the last that is left."""
    assets = connection.execute(
        db.text(
            "select id, asset_key, last_run_id, last_materialization, asset_details, cached_status_data from asset_keys"
        )
    ).fetchall()
    for number, key, run_id, *values in assets:
        if run_id not in runs and not any(traces.in_value(value) for value in values):
            continue
        last = connection.execute(
            db.text(
                "select event, run_id, timestamp from event_logs where asset_key = :key and dagster_event_type = :kind "
                "order by id desc limit 1"
            ),
            {"key": key, "kind": MATERIALIZATION},
        ).fetchone() or (None, None, None)
        connection.execute(
            db.text(
                "update asset_keys set last_materialization = :event, last_run_id = :run, "
                "last_materialization_timestamp = :at, cached_status_data = null, asset_details = null where id = :number"
            ),
            {"event": last[0], "run": last[1], "at": last[2], "number": number},
        )


def _tables(connection: db.Connection) -> list[str]:
    names = connection.execute(
        db.text(
            "select table_name from information_schema.tables "
            "where table_schema = current_schema() and table_type = 'BASE TABLE'"
        )
    ).scalars()
    # assets and tags last: they follow from the events that are left
    return sorted(names, key=lambda name: (name in ("asset_keys", "asset_event_tags"), name))


def _columns(connection: db.Connection, table: str) -> list[str]:
    return list(
        connection.execute(
            db.text(
                "select column_name from information_schema.columns "
                "where table_schema = current_schema() and table_name = :table order by ordinal_position"
            ),
            {"table": table},
        ).scalars()
    )


@contextmanager
def _connected(storage: SecretStr) -> Iterator[db.Connection]:
    engine = db.create_engine(storage_address(storage), poolclass=db.pool.NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
