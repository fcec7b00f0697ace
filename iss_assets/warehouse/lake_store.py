"""The shared warehouse as a place of tables: the turns of its writers on all hosts, opening it, copying it.

DuckLake lets two writers replace the same rows and tells both that they have written; with several writers most transactions
fail. So every writer first takes a lock in Postgres, the same for all hosts. It belongs to a session: when a process dies, it
is free at once, and when a host does, as soon as Postgres notices that nobody answers (`lake.SERVER_KEEPALIVE`).

Readers take no lock. Each reads one snapshot from beginning to end, whatever is written meanwhile.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import duckdb

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.copying import copy_all
from iss_assets.warehouse.engine import DATABASE, attach, default_threads
from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.lake import INSTALL, LakeEngine, dsn, explained, kept_engine, start
from iss_assets.warehouse.locking import LockTimeout
from iss_assets.warehouse.typed_query import require_harmless

_WRITER: Final = "writer"
_CATALOG_TABLE: Final = "ducklake_snapshot"
_COPY: Final = "copied"


class _LakeOpening:
    """A connection to the lake, in a transaction from the beginning: it sees one snapshot."""

    def __init__(self, store: LakeStore, engine: LakeEngine, *, read_only: bool):
        self._store, self._engine = store, engine
        self.connection = engine.connection.cursor()
        try:
            self.connection.execute(f"begin transaction {'read only' if read_only else ''}")
            self.connection.execute(f"use {DATABASE}")
            # a connection to Postgres that was cut since its last use shows now, and not in the middle
            self.connection.execute(f"from ducklake_current_snapshot('{DATABASE}')").fetchall()
        except duckdb.Error:
            self.connection.close()
            raise

    def configure(self, threads: int | None, memory_mb_per_thread: int, extra_mb: int = 0) -> None:
        """Set memory; threads stay those of the process, whose DuckDB runs on."""
        self._engine.configure(memory_mb_per_thread * (threads or 1) + extra_mb)

    def begin(self) -> None:
        """Do nothing: the transaction has begun."""

    def commit(self) -> None:
        """Commit it, if this process still has the writer's lock."""
        self._store.commit(self.connection)

    def close(self) -> None:
        """Close it; what was not committed is undone."""
        # there is nothing to undo after a commit, and a connection that was cut cannot say so
        with suppress(duckdb.Error):
            self.connection.execute("rollback")
        self.connection.close()


class LakeStore:
    """A warehouse that several hosts share.

    Parameters
    ----------
    path : Path
        The home's warehouse file, if it had one; what does not fit into memory is written beside it.
    settings : WarehouseSettings
        Where catalog and data are, and the lock timeout.
    """

    shared = True
    name = "the shared warehouse"

    def __init__(self, path: Path, settings: WarehouseSettings):
        self.settings = settings
        self._spill = path.with_name("lake.tmp")
        self._turn = threading.local()

    def exists(self) -> bool:
        """Return whether the catalog has tables of a lake."""
        with self._session() as session:
            return bool(_value(session, "select to_regclass(%s) is not null", [_CATALOG_TABLE]))

    def prepare(self) -> None:
        """Make the data folder, and the lake in it."""
        if not str(self.settings.data_path).startswith("s3://"):
            Path(str(self.settings.data_path)).mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.lock(_WRITER, timeout_s=self.settings.lock_timeout_s):
            start(self.settings, self._spill, create=True).close()

    def identity(self) -> Hashable | None:
        """Return catalog and data folder."""
        return self.settings.catalog, self.settings.data_path

    def stamp(self) -> Hashable:
        """Return the number of the last snapshot."""
        with self._session() as session:
            return _value(session, f"select max(snapshot_id) from {_CATALOG_TABLE}")

    def size(self) -> int:
        """Return the bytes of the files that hold today's rows."""
        with self._session() as session:
            return int(
                _value(
                    session,
                    "select coalesce(sum(file_size_bytes), 0) from ducklake_data_file where end_snapshot is null",
                )
            )

    @contextmanager
    def turn(self, *, exclusive: bool) -> Iterator[None]:
        """Hold the writer's lock; readers need none."""
        if not exclusive:
            yield
            return
        with self._locked(_WRITER, self.settings.lock_timeout_s) as session:
            self._turn.session = session
            try:
                yield
            finally:
                self._turn.session = None

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Commit what was written on a connection, if the session that holds the writer's lock is still there.

        Raises
        ------
        WarehouseError
            If it is not; nothing is written then.
        """
        session = getattr(self._turn, "session", None)
        try:
            mine = session is not None and _value(session, "select true") is True
        except _psycopg2().Error:
            mine = False
        if not mine:
            connection.execute("rollback")
            raise WarehouseError(
                "the connection to the shared warehouse was lost while it was written to; nothing was written"
            )
        connection.execute("commit")

    @contextmanager
    def lock(self, name: str, *, timeout_s: float) -> Iterator[None]:
        """Hold a lock of this name, one holder at a time among all hosts."""
        with self._locked(name, timeout_s):
            yield

    def open(self, *, read_only: bool) -> _LakeOpening:
        """Open a connection of the DuckDB that this process keeps running."""
        try:
            return _LakeOpening(self, kept_engine(self.settings, self._spill), read_only=read_only)
        except duckdb.Error:
            # Postgres was restarted, or the network was away
            try:
                engine = kept_engine(self.settings, self._spill, anew=True)
                return _LakeOpening(self, engine, read_only=read_only)
            except duckdb.Error as error:
                raise self._unreachable(error) from None

    def open_for(self, query: str) -> _LakeOpening:
        """Open a DuckDB of its own that reads these tables and reaches nothing else."""
        engine = LakeEngine(start(self.settings, self._spill, read_only=True))
        # the last change of the configuration
        engine.configure(self.settings.memory_mb_per_thread)
        require_harmless(engine.connection, query)
        opened = _LakeOpening(self, engine, read_only=True)
        for statement in (
            f"set allowed_directories = ['{_escaped(self.settings.data_path or '')}']",
            "set enable_external_access = false",
            "set lock_configuration = true",
        ):
            opened.connection.execute(statement)
        return opened

    def copy_to(self, path: Path) -> None:
        """Copy today's rows to a new DuckDB file."""
        engine = LakeEngine(start(self.settings, self._spill))
        engine.configure(self.settings.memory_mb_per_thread * default_threads())
        try:
            attach(engine.connection, path, _COPY, None, read_only=False)
            path.chmod(0o600)
            # it reads one snapshot, and writes to the file only
            opened = _LakeOpening(self, engine, read_only=False)
            copy_all(opened.connection, DATABASE, _COPY, shared=False)
            opened.connection.execute("commit")
            opened.connection.close()
            engine.connection.execute(f"detach {_COPY}")
        finally:
            engine.connection.close()

    def maintain(self, kept: timedelta) -> tuple[int, int, int, int, int]:
        """Merge small files, forget snapshots older than `kept`, and remove files that nothing names; see ``maintenance``."""
        engine = LakeEngine(start(self.settings, self._spill))
        engine.configure(self.settings.memory_mb_per_thread * default_threads())

        def call(function: str, **options: object) -> int:
            named = "".join(f", {name} => {value}" for name, value in options.items())
            return len(engine.connection.execute(f"call {function}('{DATABASE}'{named})").fetchall())

        before = f"now() - interval {int(kept.total_seconds())} second"
        try:
            with self.turn(exclusive=True):
                files = self._files()
                call("ducklake_merge_adjacent_files")
                snapshots = call("ducklake_expire_snapshots", older_than=before)
                removed = call("ducklake_cleanup_old_files", older_than=before)
                orphans = call("ducklake_delete_orphaned_files", older_than=before)
                return files, self._files(), snapshots, removed, orphans
        except duckdb.Error as error:
            raise WarehouseError(
                f"maintenance of {self.name} stopped: {explained(error, self.settings)}"
            ) from None
        finally:
            engine.connection.close()

    def _files(self) -> int:
        """Return the number of files that hold today's rows."""
        with self._session() as session:
            return int(_value(session, "select count(*) from ducklake_data_file where end_snapshot is null"))

    def key(self) -> None:
        """Return None: the database and the folder are encrypted by who runs them."""

    @contextmanager
    def _locked(self, name: str, timeout_s: float) -> Iterator[Any]:
        """Hold an advisory lock of Postgres in a session of its own; the lock ends with it."""
        psycopg2 = _psycopg2()
        with self._session() as session:
            with session.cursor() as cursor:
                # not of the statement: keepalives watch over the connection meanwhile
                cursor.execute("set lock_timeout = %s", [max(1, int(timeout_s * 1000))])
                try:
                    cursor.execute("select pg_advisory_lock(%s)", [_number(name)])
                except psycopg2.errors.LockNotAvailable:
                    raise LockTimeout(
                        f"{self.name} stayed locked; another run, perhaps on another host, holds it. "
                        "Wait for it, or raise ISS_WAREHOUSE__LOCK_TIMEOUT_S."
                    ) from None
                except psycopg2.Error as error:
                    raise self._unreachable(error) from None
            yield session

    @contextmanager
    def _session(self) -> Iterator[Any]:
        """Open a session in Postgres, in which every statement is a transaction."""
        psycopg2 = _psycopg2()
        try:
            session = psycopg2.connect(dsn(self.settings.catalog or ""))
        except psycopg2.Error as error:
            raise self._unreachable(error) from None
        try:
            session.autocommit = True
            yield session
        finally:
            session.close()

    def _unreachable(self, error: Exception) -> WarehouseError:
        return WarehouseError(f"the shared warehouse cannot be reached: {explained(error, self.settings)}")


def _psycopg2() -> ModuleType:
    try:
        import psycopg2
        import psycopg2.errors
    except ImportError:
        raise WarehouseError(
            f"a shared warehouse needs the package psycopg2; install it with: {INSTALL}"
        ) from None
    module: ModuleType = psycopg2
    return module


def _value(session: Any, sql: str, params: list[object] | None = None) -> Any:
    with session.cursor() as cursor:
        cursor.execute(sql, params)
        row = cursor.fetchone()
    return row[0] if row else None


def _number(name: str) -> int:
    """Return the number by which Postgres knows a lock."""
    return int.from_bytes(hashlib.sha256(f"iss-assets {name}".encode()).digest()[:8], "big", signed=True)


def _escaped(text: str) -> str:
    return text.replace("'", "''")
