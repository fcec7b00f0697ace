"""Dagster's storage for a worker of `iss run`: the same SQLite files, kept open between events.

Belongs here: how a worker's events reach the files in the home. Does not belong here: what is told (``assets``,
``checks``), Dagster's settings (``home``).

A patient's run tells some 200 events. Dagster 1.13 makes an engine, opens a file and compiles its statements anew for
each of four to six statements an event, which costs more than storing does; here each file is opened once a run, and
its compiled statements are kept. The UI and the daemon read the same files with Dagster's own classes.
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
        self._answer: tuple[Any, EventRecordsResult] | None = None
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
        """Say whether there is such a table; asked for every check, and tables are never dropped."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event; what was asked for in a step is forgotten with the step.

        Materializations are also forgotten when an asset is made.
        """
        if (
            event.dagster_event_type in _STEPS
            or event.dagster_event_type is DagsterEventType.ASSET_MATERIALIZATION
        ):
            self._answer = None
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
        """Give an asset's materializations; each of a step's checks asks for the same one."""
        question = (records_filter, limit, cursor, ascending)
        if not self._in_step or self._answer is None or self._answer[0] != question:
            self._answer = question, super().fetch_materializations(records_filter, limit, cursor, ascending)
        return self._answer[1]

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """Give all partitions; a step asks several times, and there is one for every patient of the study."""
        if not self._in_step:
            return super().get_dynamic_partitions(partitions_def_name)
        if partitions_def_name not in self._partitions:
            self._partitions[partitions_def_name] = super().get_dynamic_partitions(partitions_def_name)
        return list(self._partitions[partitions_def_name])

    def has_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> bool:
        """Say whether there is such a partition; a step asks again and again whether its own one is there."""
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
            # making the tables takes seventy milliseconds, and they are the same for every run
            path.write_bytes(self._empty)
        else:
            first = create_engine(address, poolclass=NullPool, connect_args=waiting)
            if new:
                # nothing is in it yet that a power cut could take
                event.listen(first, "connect", lambda raw, _: raw.execute("pragma synchronous = off"))
            self._initdb(first)
            first.dispose()
            if new and shard != INDEX_SHARD_NAME:
                self._empty = path.read_bytes()
        # `_db_lock` lets one thread in at a time, so that all of them can share a connection
        kept = create_engine(
            address, poolclass=StaticPool, connect_args={**waiting, "check_same_thread": False}
        )
        with kept.connect() as connection:
            # a power cut may take the last events, never the file (sqlite.org/pragma.html#pragma_synchronous)
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
    """Dagster's SQLite storage with `KeptOpenEventLog` in it; named in the worker's ``dagster.yaml``."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = KeptOpenEventLog(str(Path(base_dir) / "history" / "runs"))

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> WorkerStorage:
        """Make it from ``dagster.yaml``."""
        return cls.from_local(inst_data=inst_data, **config_value)
