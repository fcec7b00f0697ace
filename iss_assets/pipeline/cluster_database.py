"""What a cluster asks of Dagster's Postgres besides Dagster itself: whether clocks agree, and which host has the daemon."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, Final

import psycopg2
from pydantic import SecretStr

from iss_assets.pipeline.cluster import ClusterProblem, storage_away
from iss_assets.settings import Settings, storage_address
from iss_assets.warehouse.lake import KEEPALIVE, SERVER_KEEPALIVE

MOST_OFF_S: Final = 60.0
"""Seconds by which a host's clock may differ from Postgres's. Events carry the time of the host that they happen on, and those
of an hour ago are taken for known."""

_DAEMON_LOCK: Final = 0x1553DAE
"""Number of the advisory lock of the daemon; a cluster has this database for itself."""
_NAME: Final = "iss daemon on "
_HOLDER: Final = """
    select replace(activity.application_name, %s, '')
    from pg_locks as held
    join pg_stat_activity as activity using (pid)
    join pg_database as base on base.oid = held.database
    where held.locktype = 'advisory' and held.granted and held.objid = %s and base.datname = current_database()
"""


def _connect(storage: SecretStr, name: str) -> Any:
    """Open a session that ends soon after its host or Postgres is gone; every statement is a transaction."""
    server = " ".join(f"-c {key}={value}" for key, value in SERVER_KEEPALIVE.items())
    address = storage_address(storage).replace("postgresql+psycopg2://", "postgresql://", 1)
    try:
        session = psycopg2.connect(address, application_name=name, options=server, **KEEPALIVE)  # type: ignore[call-overload]  # libpq's parameters
    except psycopg2.Error as error:
        raise ClusterProblem(storage_away(error)) from None
    session.autocommit = True
    return session


def _value(session: Any, sql: str, *params: object) -> Any:
    with session.cursor() as cursor:
        cursor.execute(sql, params)
        row = cursor.fetchone()
    return row[0] if row else None


def clock_off_s(settings: Settings) -> float:
    """Return by how many seconds this host's clock is ahead of Postgres's.

    Raises
    ------
    ClusterProblem
        If Dagster's storage does not answer.
    """
    assert settings.cluster.storage is not None
    with closing(_connect(settings.cluster.storage, "iss")) as session:
        before = time.time()
        theirs = float(_value(session, "select extract(epoch from clock_timestamp())"))
        return (before + time.time()) / 2 - theirs


def require_clock(settings: Settings) -> None:
    """Raise an error if this host's clock is wrong.

    Raises
    ------
    ClusterProblem
        With by how much.
    """
    if abs(off := clock_off_s(settings)) > MOST_OFF_S:
        raise ClusterProblem(clock_text(off))


def clock_text(off: float) -> str:
    """Return by how much a clock is off, in words."""
    return f"this host's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} that of Postgres; set it by NTP"


class DaemonTurn:
    """The turn of the one daemon of a cluster, an advisory lock of Postgres; made by `daemon_turn`.

    Two daemons would hand the same run to two workers, and send every alert twice.
    """

    def __init__(self, storage: SecretStr) -> None:
        self._storage = storage
        self._session: Any = None

    def take(self) -> None:
        """Take the turn, or take it again after Postgres was away.

        Raises
        ------
        ClusterProblem
            If another host has it, or Dagster's storage does not answer.
        """
        self.end()
        session = _connect(self._storage, f"{_NAME}{socket.gethostname()}"[:63])
        if not _value(session, "select pg_try_advisory_lock(%s)", _DAEMON_LOCK):
            holder = _value(session, _HOLDER, _NAME, _DAEMON_LOCK)
            session.close()
            raise ClusterProblem(
                f"the daemon of this cluster runs already, on {holder or 'another host'}: a cluster has one `iss serve`"
            )
        self._session = session

    def kept(self) -> bool:
        """Return whether it is still this daemon's, taking it again where it was lost; unknown counts as kept.

        While Postgres does not answer, no daemon does anything.
        """
        with suppress(psycopg2.Error, AttributeError):
            return bool(_value(self._session, "select true"))
        try:
            self.take()
        except ClusterProblem:
            return not self._taken_by_another()
        return True

    def _taken_by_another(self) -> bool:
        try:
            with closing(_connect(self._storage, "iss")) as session:
                return _value(session, _HOLDER, _NAME, _DAEMON_LOCK) is not None
        except (ClusterProblem, psycopg2.Error):
            return False

    def end(self) -> None:
        """Let another daemon have it."""
        if self._session is not None:
            self._session.close()
            self._session = None


@contextmanager
def daemon_turn(storage: SecretStr) -> Iterator[DaemonTurn]:
    """Be the one daemon of a cluster while the block runs.

    Raises
    ------
    ClusterProblem
        If another host has it, or Dagster's storage does not answer.
    """
    turn = DaemonTurn(storage)
    turn.take()
    try:
        yield turn
    finally:
        turn.end()
