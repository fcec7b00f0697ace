"""The shared warehouse as a place of tables: the turns of its writers on all hosts, opening it, copying it.

DuckLake lets two writers replace the same rows and tells both that they have written; with several writers most transactions
fail. So every writer first takes a lock in Postgres, the same for all hosts. It belongs to a session: when a process dies, it
is free at once, and when a host does, as soon as Postgres notices that nobody answers (`lake.SERVER_KEEPALIVE`). A writer that
has lost it that way cannot commit once another one has begun; see ``lake_catalog``.

Readers take no lock. Each reads one snapshot from beginning to end, whatever is written meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import duckdb

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.copying import copy_all
from iss_assets.warehouse.data_place import problems
from iss_assets.warehouse.data_places import place_of
from iss_assets.warehouse.engine import DATABASE, attach, default_threads
from iss_assets.warehouse.errors import WarehouseAway, WarehouseError
from iss_assets.warehouse.lake import (
    LakeEngine,
    engine_for_one,
    explained,
    give_back,
    kept_engine,
    start,
)
from iss_assets.warehouse.lake_catalog import SNAPSHOTS, LakeCatalog, Turn
from iss_assets.warehouse.lake_files import named_files, place_with_files, require_room, require_same_place
from iss_assets.warehouse.lake_study import require_study
from iss_assets.warehouse.typed_query import require_harmless

_WRITER: Final = "writer"
_COPY: Final = "copied"


class _LakeOpening:
    """A connection to the lake, in a transaction from the beginning: it sees one snapshot."""

    def __init__(self, store: LakeStore, engine: LakeEngine, *, read_only: bool, alone: bool = False):
        self._store, self._engine, self._alone = store, engine, alone
        self._lost = False
        self._outcome = "try again" if read_only else "nothing was written; try again"
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
        """Commit it, if it is still this process's turn to write."""
        self._store.commit(self.connection)

    def undo(self) -> None:
        """Undo what was not committed; if the connection to Postgres was lost, Postgres has done so."""
        try:
            self.connection.execute("rollback")
        except duckdb.Error as error:
            # after a commit there is nothing to undo
            self._lost |= "no transaction is active" not in str(error)

    def explained(self, error: duckdb.Error) -> Exception:
        """Return what a person can act on if the connection to Postgres was lost or a data file is the matter, else the error."""
        self.undo()
        store = self._store
        if self._lost:
            return WarehouseAway(
                f"the connection to {store.name} was lost: Postgres was restarted, or the network is away; {self._outcome}"
            )
        if store.place.explained(str(error)) != str(error):
            return WarehouseAway(f"{explained(error, store.settings)}; {self._outcome}")
        return error

    def close(self) -> None:
        """Close it; what was not committed is undone."""
        self.undo()
        self.connection.close()
        if self._alone:
            give_back(self._store.settings, self._engine, usable=not self._lost)


class LakeStore:
    """A warehouse that several hosts share.

    Parameters
    ----------
    settings : WarehouseSettings
        Where catalog and data are, and the lock timeout.
    home : Path
        The home that writes, which says of which study it is.
    """

    shared = True
    name = "the shared warehouse"

    def __init__(self, settings: WarehouseSettings, home: Path):
        self.settings, self._home = settings, home
        self.place = place_of(settings)
        self.catalog = LakeCatalog(settings, self.name)
        self._here = threading.local()

    def exists(self) -> bool:
        """Return whether the catalog has tables of a lake."""
        return bool(self.catalog.value("select to_regclass(%s) is not null", [SNAPSHOTS]))

    def prepare(self) -> None:
        """Make the place of the data, and the lake in it."""
        with self.catalog.locked(_WRITER, self.settings.lock_timeout_s) as session:
            require_study(session, self._home)
            with problems(self.place):
                self.place.prepare()
            start(self.settings, create=True).close()
            self.catalog.begin_turn(session)

    def identity(self) -> Hashable | None:
        """Return the addresses of catalog and data."""
        return self.settings.catalog, self.settings.data_path

    def stamp(self) -> Hashable:
        """Return the number of the last snapshot."""
        return self.catalog.value(f"select max(snapshot_id) from {SNAPSHOTS}")

    def size(self) -> int:
        """Return the bytes of the files that hold today's rows."""
        return int(
            self.catalog.value(
                "select coalesce(sum(file_size_bytes), 0) from ducklake_data_file where end_snapshot is null"
            )
        )

    def require_room(self) -> None:
        """Check that the place of the data is there, can be written to, and has room for a patient's rows."""
        if self.exists():
            with self.catalog.asking() as session:
                require_room(self.place, session)

    @contextmanager
    def turn(self, *, exclusive: bool) -> Iterator[None]:
        """Hold the writer's lock; readers need none."""
        if not exclusive:
            yield
            return
        with self.writers_turn():
            yield

    @contextmanager
    def writers_turn(self) -> Iterator[Turn]:
        """Wait for the writer's turn, and keep it while the block runs.

        Raises
        ------
        AnotherStudy
            If the warehouse is of another study than the home.
        WarehouseAway
            If the data are not there.
        """
        with self.catalog.locked(_WRITER, self.settings.lock_timeout_s) as session:
            with self.catalog.explaining():
                require_study(session, self._home)
                turn = self.catalog.begin_turn(session)
                with problems(self.place):
                    turn.place = place_with_files(self.place, session)
                    self.place.put_back_missing(lambda: named_files(session))
            self._here.turn = turn
            try:
                yield turn
            finally:
                self._here.turn = None

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Commit what was written on a connection, if it is still this thread's turn to write.

        If the connection to the catalog is cut in this moment, it is asked what has become of the commit.

        Raises
        ------
        WarehouseError
            If it is not; nothing is written then.
        """
        turn: Turn | None = getattr(self._here, "turn", None)
        if turn is None:
            connection.execute("rollback")
            raise WarehouseError(
                f"{self.name} can be written to in a writer's turn only; nothing was written"
            )
        mark = turn.mark()
        try:
            with problems(self.place):
                require_same_place(self.place, turn.place)
                files = self.place.committing(connection, mark.replace(" ", "-"), turn.began)
        except WarehouseError:
            with suppress(duckdb.Error):
                connection.execute("rollback")
            raise
        try:
            connection.execute(f"call {DATABASE}.set_commit_message(null, null, extra_info => '{mark}')")
            connection.execute("commit")
            files.forget()
        except duckdb.Error as error:
            with suppress(duckdb.Error):
                connection.execute("rollback")
            carried_out = self.catalog.carried_out(turn, mark)
            if carried_out:
                with problems(self.place, "it is written; its files are put back by the next writer"):
                    files.put_back()
            files.forget()
            if carried_out:
                return
            raise WarehouseAway(
                f"the connection to {self.name} was lost while it was written to, or another writer's turn had begun; nothing "
                f"was written. {explained(error, self.settings)}"
            ) from None

    @contextmanager
    def lock(self, name: str, *, timeout_s: float) -> Iterator[None]:
        """Hold a lock of this name, one holder at a time among all hosts."""
        with self.catalog.locked(name, timeout_s):
            yield

    def open(self, *, read_only: bool, apart: bool = False) -> _LakeOpening:
        """Open a connection of the DuckDB that this process keeps running, or with `apart` of one of its own."""
        if apart:
            engine = LakeEngine(start(self.settings, read_only=read_only))
            return _LakeOpening(self, engine, read_only=read_only)
        opened = self._open_alone if not read_only and self.place.guards_commits else self._open_kept
        try:
            return opened(read_only, anew=False)
        except duckdb.Error:
            # Postgres was restarted, or the network was away
            try:
                return opened(read_only, anew=True)
            except duckdb.Error as error:
                raise self.catalog.unreachable(error) from None

    def _open_kept(self, read_only: bool, *, anew: bool) -> _LakeOpening:
        return _LakeOpening(self, kept_engine(self.settings, anew=anew), read_only=read_only)

    def _open_alone(self, read_only: bool, *, anew: bool) -> _LakeOpening:
        engine = engine_for_one(self.settings, anew=anew)
        try:
            return _LakeOpening(self, engine, read_only=read_only, alone=True)
        except BaseException:
            give_back(self.settings, engine, usable=False)
            raise

    def open_for(self, query: str) -> _LakeOpening:
        """Open a DuckDB of its own that reads these tables and reaches nothing else."""
        engine = LakeEngine(start(self.settings, read_only=True))
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
        engine = LakeEngine(start(self.settings))
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
        before = f"now() - interval {int(kept.total_seconds())} second"
        with self.own_duckdb(f"maintenance of {self.name}") as connection, self.turn(exclusive=True):

            def call(function: str, **options: object) -> int:
                named = "".join(f", {name} => {value}" for name, value in options.items())
                return len(connection.execute(f"call {function}('{DATABASE}'{named})").fetchall())

            files = self._files()
            connection.execute("begin transaction")
            call("ducklake_merge_adjacent_files")
            self.commit(connection)
            snapshots = call("ducklake_expire_snapshots", older_than=before)
            removed = call("ducklake_cleanup_old_files", older_than=before)
            with problems(self.place, "maintenance stopped"):
                left = self.place.tidy(kept.total_seconds())
            orphans = call("ducklake_delete_orphaned_files", older_than=before)
            if left:
                raise WarehouseError(f"maintenance of {self.name} has left {left[0]}")
            return files, self._files(), snapshots, removed, orphans

    @contextmanager
    def own_duckdb(self, work: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """Start a DuckDB with all memory for work on the lake's files, and stop it after the block.

        Raises
        ------
        WarehouseError
            That `work` stopped, for an error of DuckDB; without the connection string.
        """
        engine = LakeEngine(start(self.settings))
        try:
            engine.configure(self.settings.memory_mb_per_thread * default_threads())
            yield engine.connection
        except duckdb.Error as error:
            raise WarehouseError(f"{work} stopped: {explained(error, self.settings)}") from None
        finally:
            engine.connection.close()

    def _files(self) -> int:
        """Return the number of files that hold today's rows."""
        return int(self.catalog.value("select count(*) from ducklake_data_file where end_snapshot is null"))

    def key(self) -> None:
        """Return None: the database and the data are encrypted by who runs them."""


def _escaped(text: str) -> str:
    return text.replace("'", "''")
