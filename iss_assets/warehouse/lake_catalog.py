"""The shared warehouse's catalog in Postgres, besides what DuckLake does with it: sessions, locks, and turns of writers.

A writer's lock belongs to a session. If the network is cut, Postgres ends the session and gives the lock to the next writer,
while the first one still works and may commit when the network is back. So turns have numbers: each writer takes the next one,
writes it into what DuckLake records of its commit, and a trigger refuses, in the transaction of that commit, a number that is
not the current one. The number's row is locked until that transaction ends, so that the next turn begins after it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.errors import WarehouseAway, WarehouseError
from iss_assets.warehouse.lake import INSTALL, dsn, explained
from iss_assets.warehouse.locking import LockTimeout

SNAPSHOTS: Final = "ducklake_snapshot"
"""A table of every lake's catalog."""
_TURNS: Final = """\
create table iss_writer_turn (number bigint not null);
insert into iss_writer_turn values (0);
create function iss_require_turn() returns trigger language plpgsql as $body$
declare
    current_number bigint;
begin
    -- locked until this commit has ended, so that no other turn begins before
    select number into current_number from iss_writer_turn for share;
    if new.commit_extra_info is null or split_part(new.commit_extra_info, '.', 1) <> 'turn ' || current_number then
        raise exception 'iss: the turn to write is another writer''s';
    end if;
    return new;
end
$body$;
create trigger iss_require_turn before insert on ducklake_snapshot_changes
    for each row execute function iss_require_turn();
"""
_ANSWER_S: Final = 90.0
"""How long the outcome of a commit is asked for, if its answer was lost: longer than Postgres takes to notice a cut."""
_PAUSE_S: Final = 0.5


@dataclass
class Turn:
    """A writer's turn.

    Attributes
    ----------
    session : psycopg2.connection
        The session that holds the lock.
    number : int
        The turn's number.
    began : float
        When it began, by this host's clock.
    commits : int
        How often it has been used for a commit.
    place : hashable
        The place of the data that was there when it began, by which it is known again (`lake_files.place_with_files`).
    """

    session: Any
    number: int
    began: float = field(default_factory=time.time)
    commits: int = 0
    place: Hashable = None

    def mark(self) -> str:
        """Return what tells the next commit from all others."""
        self.commits += 1
        return f"turn {self.number}.{self.commits}"


class LakeCatalog:
    """The catalog's database.

    Parameters
    ----------
    settings : WarehouseSettings
        Where it is.
    name : str
        What messages call the warehouse.
    """

    def __init__(self, settings: WarehouseSettings, name: str):
        self.settings, self._name = settings, name

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Open a session in Postgres, in which every statement is a transaction."""
        psycopg2 = _psycopg2()
        try:
            session = psycopg2.connect(dsn(self.settings.catalog or ""))
        except psycopg2.Error as error:
            raise self.unreachable(error) from None
        try:
            session.autocommit = True
            yield session
        finally:
            session.close()

    @contextmanager
    def asking(self) -> Iterator[Any]:
        """Open a session for questions, and explain what Postgres says to them; see `explaining`."""
        with self.explaining(), self.session() as session:
            yield session

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn an error of Postgres in the block into one that a person can use, without the connection string.

        Raises
        ------
        WarehouseError
            If Postgres does not answer (`WarehouseAway`), or the role may not do what was asked for.
        """
        try:
            yield
        except _psycopg2().Error as error:
            raise self.unreachable(error) from None

    def value(self, sql: str, params: Sequence[object] | None = None) -> Any:
        """Run a query in a session of its own, and return its first value; see `explaining`."""
        with self.asking() as session:
            return value(session, sql, params)

    @contextmanager
    def locked(self, name: str, timeout_s: float) -> Iterator[Any]:
        """Hold an advisory lock in a session of its own; the lock ends with it.

        Raises
        ------
        LockTimeout
            If it is not free within `timeout_s` seconds.
        """
        psycopg2 = _psycopg2()
        with self.session() as session:
            try:
                # not of the statement: keepalives watch over the connection meanwhile
                rows(session, "set lock_timeout = %s", [max(1, int(timeout_s * 1000))])
                rows(session, "select pg_advisory_lock(%s)", [_number(name)])
            except psycopg2.errors.LockNotAvailable:
                raise self._timed_out() from None
            except psycopg2.Error as error:
                raise self.unreachable(error) from None
            yield session

    def begin_turn(self, session: Any) -> Turn:
        """Take the next turn, in the session that holds the writer's lock."""
        psycopg2 = _psycopg2()
        try:
            try:
                return Turn(session, self._next_number(session))
            except psycopg2.errors.UndefinedTable:
                # a lake that was just made, or one of an earlier version
                rows(session, _TURNS)
                return Turn(session, self._next_number(session))
        except psycopg2.errors.LockNotAvailable:
            raise self._timed_out() from None
        except psycopg2.Error as error:
            raise self.unreachable(error) from None

    @staticmethod
    def _next_number(session: Any) -> int:
        return int(value(session, "update iss_writer_turn set number = number + 1 returning number"))

    def carried_out(self, turn: Turn, mark: str) -> bool:
        """Return whether a commit has been carried out that did not say so; if it has not, it never will be.

        Raises
        ------
        WarehouseAway
            If nobody can say, because the catalog cannot be reached for a minute and a half.
        """
        psycopg2, until = _psycopg2(), time.monotonic() + _ANSWER_S
        while True:
            try:
                with self.session() as session:
                    rows(session, "set lock_timeout = %s", [int(_ANSWER_S * 1000)])
                    # waits for the commit if it is in progress, and ends the turn, so that it cannot come later
                    rows(
                        session,
                        "update iss_writer_turn set number = number + 1 where number = %s",
                        [turn.number],
                    )
                    return bool(
                        value(
                            session,
                            "select exists (select from ducklake_snapshot_changes where commit_extra_info = %s)",
                            [mark],
                        )
                    )
            except (psycopg2.Error, WarehouseError):
                if time.monotonic() > until:
                    raise WarehouseAway(
                        f"{self._name} cannot be reached, and it is not known whether the last write is in it. Repeat what "
                        "was done: rows are replaced, so none appears twice"
                    ) from None
                time.sleep(_PAUSE_S)

    def unreachable(self, error: Exception) -> WarehouseError:
        """Return the error that says so, without the connection string."""
        errors = _psycopg2().errors
        if isinstance(error, errors.InsufficientPrivilege | errors.ReadOnlySqlTransaction):
            return WarehouseError(
                f"the database's role may not do this in {self._name}: {explained(error, self.settings)}. What each role is for: "
                "deploy/roles.sql"
            )
        return WarehouseAway(f"{self._name} cannot be reached: {explained(error, self.settings)}")

    def _timed_out(self) -> LockTimeout:
        return LockTimeout(
            f"{self._name} stayed locked; another run, perhaps on another host, holds it. "
            "Wait for it, or raise ISS_WAREHOUSE__LOCK_TIMEOUT_S."
        )


def rows(session: Any, sql: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
    """Run one statement, and return its rows."""
    with session.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def value(session: Any, sql: str, params: Sequence[object] | None = None) -> Any:
    """Run a query, and return its first value."""
    found = rows(session, sql, params)
    return found[0][0] if found else None


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


def _number(name: str) -> int:
    """Return the number by which Postgres knows a lock."""
    return int.from_bytes(hashlib.sha256(f"iss-assets {name}".encode()).digest()[:8], "big", signed=True)
