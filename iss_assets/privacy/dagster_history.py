"""Removing a patient from Dagster's history: partition, runs, events, checks, ticks, and the files of runs.

Dagster can delete a run and a partition, but leaves backfills, ticks, cursors, what it remembers of an asset's last
materialization, and every byte in the pages of its SQLite files. So its files are worked on directly, as tables of values:
a row that names the patient, or belongs to a run that does, is deleted, and the file is written anew.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from iss_assets.privacy.traces import Traces, quoted

RUN_COLUMNS: Final = ("run_id", "backfill_id")
MATERIALIZATION: Final = "ASSETMATERIALIZATION"


def plan_forgetting(dagster_home: Path, traces: Traces) -> tuple[list[str], dict[str, int]]:
    """Return the runs that name a patient anywhere, in a tag, a configuration or an event, and what is to be deleted.

    Parameters
    ----------
    dagster_home : Path
        The folder with ``history`` and ``schedules``; there is nothing to delete where it is missing.
    traces : Traces
        What names the patient.
    """
    runs = _runs_that_name(dagster_home, traces)
    counts: Counter[str] = Counter()
    for path in sorted(dagster_home.rglob("*.db")):
        if path.stem in runs:
            continue  # the events of one run, which are in the index too
        with _opened(path) as connection:
            for table in _tables(connection):
                if table in WORDS:
                    counts[WORDS[table]] += len(_rows_about(connection, table, traces, runs))
    return sorted(runs), {words: count for words, count in counts.items() if count}


def forget_in_history(dagster_home: Path, traces: Traces, runs: set[str]) -> None:
    """Delete what Dagster has recorded of a patient; nobody may be at work on the home.

    Parameters
    ----------
    dagster_home : Path
        The folder with ``history`` and ``schedules``.
    traces : Traces
        What names the patient.
    runs : set of str
        Runs to delete whole; see `plan_forgetting`.
    """
    for run_id in sorted(runs):
        for path in (dagster_home / "history" / "runs").glob(f"{run_id}.db*"):
            path.unlink(missing_ok=True)
        shutil.rmtree(dagster_home / "storage" / run_id, ignore_errors=True)
    for path in sorted(dagster_home.rglob("*.db")):
        with _opened(path) as connection:
            for table in _tables(connection):
                _delete_rows(connection, table, traces, runs)
        # also where nothing was deleted: a run that was killed may have left pages or a log
        _write_anew(path)
    for path in sorted(dagster_home.rglob("*")):
        if path.is_file() and path.suffix in _LOGS and traces.in_text(path.read_bytes().decode("latin-1")):
            path.unlink()


_LOGS: Final = (".err", ".out", ".log", ".complete")
WORDS: Final = {
    "runs": "runs",
    "run_tags": "tags of runs",
    "event_logs": "events",
    "asset_check_executions": "results of checks",
    "dynamic_partitions": "partitions",
    "job_ticks": "ticks of sensors and schedules",
    "bulk_actions": "backfills",
}


def _runs_that_name(dagster_home: Path, traces: Traces) -> set[str]:
    """Return the ids of runs that name the patient in any table, or in their own file of events."""
    runs: set[str] = set()
    for path in dagster_home.rglob("*.db"):
        with _opened(path) as connection:
            for table in _tables(connection):
                columns = _columns(connection, table)
                if "run_id" not in columns:
                    continue
                place = columns.index("run_id")
                for row in connection.execute(f"select * from {quoted(table)}"):
                    if row[place] and row[place] not in runs and any(traces.in_value(v) for v in row):
                        runs.add(str(row[place]))
    return runs


def _rows_about(connection: sqlite3.Connection, table: str, traces: Traces, runs: set[str]) -> list[int]:
    """Return the rows that name the patient or belong to one of the runs."""
    columns = _columns(connection, table)
    of_runs = [columns.index(name) for name in RUN_COLUMNS if name in columns]
    return [
        rowid
        for rowid, *row in connection.execute(f"select rowid, * from {quoted(table)}")
        if any(row[place] in runs for place in of_runs) or any(traces.in_value(value) for value in row)
    ]


def _delete_rows(connection: sqlite3.Connection, table: str, traces: Traces, runs: set[str]) -> None:
    if table == "asset_keys":
        for rowid in _of_assets(connection, traces, runs):
            _remember_what_remains(connection, rowid)
        return
    gone = _rows_about(connection, table, traces, runs)
    connection.executemany(f"delete from {quoted(table)} where rowid = ?", [(rowid,) for rowid in gone])
    if table == "asset_event_tags":
        # its rows go with their events
        connection.execute("delete from asset_event_tags where event_id not in (select id from event_logs)")


def _of_assets(connection: sqlite3.Connection, traces: Traces, runs: set[str]) -> list[int]:
    """Return the assets whose last materialization, or cached partitions, are about the patient."""
    return [
        rowid
        for rowid, run_id, *values in connection.execute(
            "select rowid, last_run_id, last_materialization, asset_details, cached_status_data from asset_keys"
        )
        if run_id in runs or any(traces.in_value(value) for value in values)
    ]


def _remember_what_remains(connection: sqlite3.Connection, rowid: int) -> None:
    """Let an asset's last materialization be the last that is left."""
    (key,) = connection.execute("select asset_key from asset_keys where rowid = ?", [rowid]).fetchone()
    last = connection.execute(
        "select event, run_id, timestamp from event_logs where asset_key = ? and dagster_event_type = ? "
        "order by id desc limit 1",
        [key, MATERIALIZATION],
    ).fetchone() or (None, None, None)
    connection.execute(
        "update asset_keys set last_materialization = ?, last_run_id = ?, last_materialization_timestamp = ?, "
        "cached_status_data = null, asset_details = null where rowid = ?",
        [*last, rowid],
    )


def _tables(connection: sqlite3.Connection) -> list[str]:
    names = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
    # assets and tags last: they follow from the events that are left
    return sorted(names, key=lambda name: (name in ("asset_keys", "asset_event_tags"), name))


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"pragma table_info({quoted(table)})")]


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=60)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def _write_anew(path: Path) -> None:
    """Write a file without its unused pages, and empty its log."""
    connection: Any = sqlite3.connect(path, timeout=60, isolation_level=None)
    try:
        connection.execute("pragma wal_checkpoint(truncate)")
        connection.execute("vacuum")
        busy, *_ = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
    finally:
        connection.close()
    if busy:
        raise OSError(
            f"another program keeps {path.name} of Dagster's history open; stop `iss serve` or `iss ui` and repeat"
        )
