"""Dagster's storage for a worker of `iss run`: the same SQLite files, kept open between events.

A patient's run logs some 200 events. For each of the four to six statements per event, Dagster 1.13 creates an engine,
opens a file, and compiles the statement again, which costs more than storing the event. Here each file is opened once
per run, and compiled statements are kept. Without this module a patient's run takes about 1.7 s more of processor time,
which is more than a tenth of what extracting four videos of 20 s takes (``python -m benchmarks.overheads --against``
compares two checkouts). The UI and the daemon read the same files with Dagster's own classes.

Dagster has no public API for storage classes, so this uses private parts:

- ``SqliteEventLogStorage``, ``INDEX_SHARD_NAME``: the event log whose connections are kept, and the name of its file of
  the whole study.
- ``DagsterSqliteStorage``: the storage of a home, in which that event log takes its place.
- ``create_engine``, ``SQLITE_BUSY_TIMEOUT_SECONDS``: engines as Dagster creates them, with the same wait for a lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster import AssetKey, AssetRecordsFilter, DagsterEventType, EventLogEntry, EventRecordsResult
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool, StaticPool

_STEPS = (DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE)


class KeptOpenEventLog(SqliteEventLogStorage):
    """Dagster's event log with the files of the study and of the last run kept open until `dispose`."""

    def __init__(self, base_dir: str) -> None:
        self._engines: dict[str, Engine] = {}
        self._tables: set[str] = set()
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

    def has_table(self, table_name: str) -> bool:
        """Return whether a table exists; Dagster asks at every check, and tables are never dropped."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

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


class WorkerStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with `KeptOpenEventLog` in it; named in ``worker.yaml`` (`pipeline.home`)."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = KeptOpenEventLog(str(Path(base_dir) / "history" / "runs"))

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> WorkerStorage:
        """Create the storage from the settings in ``worker.yaml``."""
        return cls.from_local(inst_data=inst_data, **config_value)
