"""Dagster's storage in Postgres with one connection per process that stays open; named in ``dagster.yaml`` (`pipeline.home`).

Dagster opens a connection for every statement, so that instances that nobody closes keep none. A run makes about sixty; each
has the password checked and starts a process on the server. With one that is kept, statements were nine times as fast and a small run
took a third of the time (`benchmarks/history_connections.py`).

It is tried before each use, so a restart of Postgres or a cut of the network costs one attempt; and a forked process
leaves its parent's alone.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Any, Final

import sqlalchemy as db
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config

from iss_assets.warehouse.lake import KEEPALIVE

_USER_TIMEOUT_MS: Final = "35000"
"""After so long without an answer of the network, a connection is given up; by default it takes a quarter of an hour."""
_OLDEST_S: Final = 1800

_engines: dict[str, db.Engine] = {}
_guard = Lock()


class PooledPostgresStorage(DagsterPostgresStorage):
    """Runs, events and schedules of Dagster in one Postgres database, over connections that are used again."""

    def __init__(
        self, postgres_url: str, should_autocreate_tables: bool = True, inst_data: Any = None
    ) -> None:
        super().__init__(postgres_url, should_autocreate_tables, inst_data)
        engine = _kept_engine(postgres_url)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = engine

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> PooledPostgresStorage:
        """Create the storage from the settings in ``dagster.yaml``."""
        return cls(
            pg_url_from_config(config_value), config_value.get("should_autocreate_tables", True), inst_data
        )


def _kept_engine(url: str) -> db.Engine:
    """Return this process's engine for a database: one connection stays open, and as many as are needed at a time are opened."""
    with _guard:
        if url not in _engines:
            _engines[url] = db.create_engine(
                url,
                isolation_level="AUTOCOMMIT",
                pool_size=1,
                max_overflow=-1,
                pool_pre_ping=True,
                pool_recycle=_OLDEST_S,
                connect_args={**KEEPALIVE, "tcp_user_timeout": _USER_TIMEOUT_MS},
            )
        return _engines[url]


def _leave_to_parent() -> None:
    """Forget the parent's connections in a forked process, without a word to Postgres: they go on being the parent's."""
    global _guard
    _guard = Lock()
    for engine in _engines.values():
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_leave_to_parent)
