"""Dagster's storage in SQLite files without repeated work: for every process of a home, and more so for a worker of `iss run`.

A patient's run logs some 200 events. For each of the four to six statements per event, Dagster 1.13 creates an engine,
opens a file, and compiles the statement again, which costs more than storing the event. In every process engines are kept,
and with them compiled statements; files are opened and closed as Dagster does it. A worker also opens each file only once
per run: without that, a patient's run takes about 1.7 s more of processor time, which is more than a tenth of what
extracting four videos of 20 s takes (``python -m benchmarks.overheads --against`` compares two checkouts).

Dagster has no public API for storage classes, so this uses private parts:

- ``SqliteEventLogStorage``, ``INDEX_SHARD_NAME``: the event log whose connections are kept, and the name of its file of
  the whole study.
- ``DagsterSqliteStorage``, ``SqliteRunStorage``, ``SqliteScheduleStorage``: the storage of a home and its other parts,
  in which ours take their places; each has one method that connects.
- ``create_engine``, ``SQLITE_BUSY_TIMEOUT_SECONDS``: engines as Dagster creates them, with the same wait for a lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

from dagster import AssetKey, AssetRecordsFilter, DagsterEventType, EventLogEntry, EventRecordsResult
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool, StaticPool

_STEPS = (DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE)
_DRIVERS_BUSY_S: Final = 5.0
"""What sqlite3 waits for a lock by default, as Dagster has it for runs and schedules."""


@lru_cache(maxsize=64)
def _engine(address: str, busy_s: float) -> Engine:
    """Return this process's engine for a file; it keeps compiled statements, and no connection."""
    return create_engine(address, poolclass=NullPool, connect_args={"timeout": busy_s})


class EventLog(SqliteEventLogStorage):
    """Dagster's event log with an engine per file."""

    def __init__(self, base_dir: str) -> None:
        self._tables: set[str] = set()
        super().__init__(base_dir)

    def has_table(self, table_name: str) -> bool:
        """Return whether a table exists; Dagster asks at every check, and tables are never dropped."""
        if table_name not in self._tables:
            engine = _engine(self.conn_string_for_shard(INDEX_SHARD_NAME), SQLITE_BUSY_TIMEOUT_SECONDS)
            with engine.connect() as connection:
                if not engine.dialect.has_table(connection, table_name):
                    return False
            self._tables.add(table_name)
        return True

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = _engine(self.conn_string_for_shard(shard), SQLITE_BUSY_TIMEOUT_SECONDS)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection


class Runs(SqliteRunStorage):
    """Dagster's table of runs with one engine."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection in a transaction."""
        with _engine(self._conn_string, _DRIVERS_BUSY_S).begin() as connection:
            yield connection


class Schedules(SqliteScheduleStorage):
    """Dagster's table of sensors' and schedules' ticks with one engine."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection in a transaction."""
        with _engine(self._conn_string, _DRIVERS_BUSY_S).begin() as connection:
            yield connection


class KeptOpenEventLog(EventLog):
    """Dagster's event log with the files of the study and of the last run kept open until `dispose`."""

    def __init__(self, base_dir: str) -> None:
        self._engines: dict[str, Engine] = {}
        self._empty: bytes | None = None
        self._cached: tuple[Any, EventRecordsResult] | None = None
        self._partitions: dict[str, Sequence[str]] = {}
        self._in_step = False
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if shard not in self._engines:
                self._close(keep=INDEX_SHARD_NAME)
                self._engines[shard] = self._open(shard)
            with self._engines[shard].begin() as connection:
                yield connection
            # the UI watches the file itself, and a commit goes to the journal beside it
            os.utime(self.path_for_shard(shard))

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, and drop what a step has cached when it ends.

        Cached materializations are also dropped when an asset is materialized.
        """
        if (
            event.dagster_event_type in _STEPS
            or event.dagster_event_type is DagsterEventType.ASSET_MATERIALIZATION
        ):
            self._cached = None
        if event.dagster_event_type in _STEPS:
            self._partitions.clear()
            self._in_step = event.dagster_event_type is DagsterEventType.STEP_START
        super().store_event(event)

    def fetch_materializations(
        self,
        records_filter: AssetKey | AssetRecordsFilter,
        limit: int,
        cursor: str | None = None,
        ascending: bool = False,
    ) -> EventRecordsResult:
        """Return an asset's materializations; each check of a step asks for the same one."""
        query = (records_filter, limit, cursor, ascending)
        if not self._in_step or self._cached is None or self._cached[0] != query:
            self._cached = query, super().fetch_materializations(records_filter, limit, cursor, ascending)
        return self._cached[1]

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """Return all partitions; a step asks several times, and there is one for every patient of the study."""
        if not self._in_step:
            return super().get_dynamic_partitions(partitions_def_name)
        if partitions_def_name not in self._partitions:
            self._partitions[partitions_def_name] = super().get_dynamic_partitions(partitions_def_name)
        return list(self._partitions[partitions_def_name])

    def has_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> bool:
        """Return whether a partition exists; a step asks many times whether its own one does."""
        return (
            self._in_step and partition_key in self.get_dynamic_partitions(partitions_def_name)
        ) or super().has_dynamic_partition(partitions_def_name, partition_key)

    def add_dynamic_partitions(self, partitions_def_name: str, partition_keys: Sequence[str]) -> None:
        """Add partitions."""
        super().add_dynamic_partitions(partitions_def_name, partition_keys)
        self._partitions.clear()

    def delete_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> None:
        """Remove a partition."""
        super().delete_dynamic_partition(partitions_def_name, partition_key)
        self._partitions.clear()

    def _open(self, shard: str) -> Engine:
        address, waiting = self.conn_string_for_shard(shard), {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
        path = Path(self.path_for_shard(shard))
        new = not path.exists()
        if new and shard != INDEX_SHARD_NAME and self._empty is not None:
            # creating the tables takes seventy milliseconds, and they are the same for every run
            path.write_bytes(self._empty)
        else:
            first = create_engine(address, poolclass=NullPool, connect_args=waiting)
            if new:
                # it holds nothing yet that a power failure could destroy
                event.listen(first, "connect", lambda raw, _: raw.execute("pragma synchronous = off"))
            self._initdb(first)
            first.dispose()
            if new and shard != INDEX_SHARD_NAME:
                self._empty = path.read_bytes()
        # `_db_lock` admits one thread at a time, so all of them can share a connection
        kept = create_engine(
            address, poolclass=StaticPool, connect_args={**waiting, "check_same_thread": False}
        )
        with kept.connect() as connection:
            # a power failure may lose the last events, never the file (sqlite.org/pragma.html#pragma_synchronous)
            connection.execute(text("pragma synchronous = normal"))
        return kept

    def _close(self, keep: str = "") -> None:
        for shard in self._engines.keys() - {keep}:
            self._engines.pop(shard).dispose()

    def dispose(self) -> None:
        """Close every file."""
        with self._db_lock:
            self._close()
        super().dispose()


class HomeStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with an engine per file; named in ``dagster.yaml`` (`pipeline.home`)."""

    _event_log: type[EventLog] = EventLog

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        # not Dagster's own, which would open its own classes first
        super(DagsterSqliteStorage, self).__init__()
        self.base_dir = base_dir
        history = Path(base_dir) / "history"
        self._run_storage = Runs.from_local(str(history))
        self._event_log_storage = self._event_log(str(history / "runs"))
        self._schedule_storage = Schedules.from_local(str(Path(base_dir) / "schedules"))
        self._inst_data = inst_data

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Self:
        """Create the storage from the settings in ``dagster.yaml``."""
        return cls.from_local(inst_data=inst_data, **config_value)


class WorkerStorage(HomeStorage):
    """The same with `KeptOpenEventLog` in it; named in ``worker.yaml``."""

    _event_log = KeptOpenEventLog
