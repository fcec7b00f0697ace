"""Who is signed in: sessions in memory, one-time links, and how often somebody may try."""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from iss_assets.server.accounts import Role

_MOST_REMEMBERED: Final = 10_000
"""Names and addresses whose failed attempts are remembered; the oldest are forgotten first."""


@dataclass(frozen=True)
class Session:
    """Somebody who is signed in.

    Attributes
    ----------
    name : str
        The account, ``system:USER`` for a one-time link, or what the identity provider calls the person.
    role : Role
        What the session may do.
    stamp : str
        Changes when the account's password or role does; the session then ends. Empty where there is no account.
    number : int
        Tells it from every other session of this server; 0 before it has begun.
    """

    name: str
    role: Role
    stamp: str = ""
    number: int = 0


class Sessions:
    """Sessions by the secret in a cookie. They end with the server.

    Parameters
    ----------
    idle_s, longest_s : float
        A session ends after this long without a request, and after this long altogether.
    clock : callable
        Seconds that have passed.
    """

    def __init__(self, idle_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s, self._longest_s, self._clock = idle_s, longest_s, clock
        self._sessions: dict[str, tuple[Session, float, float]] = {}
        self._begun = 0
        self._lock = threading.Lock()

    def begin(self, session: Session) -> str:
        """Return the secret of a new session. Only its hash is kept."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._sessions = {key: held for key, held in self._sessions.items() if not self._over(held, now)}
            self._begun += 1
            self._sessions[_hash(secret)] = (replace(session, number=self._begun), now, now)
        return secret

    def find(self, secret: str | None) -> Session | None:
        """Return the session of a secret, None if there is none or it is over; counts as a request."""
        if not secret:
            return None
        key, now = _hash(secret), self._clock()
        with self._lock:
            held = self._sessions.get(key)
            if held is None or self._over(held, now):
                self._sessions.pop(key, None)
                return None
            self._sessions[key] = (held[0], held[1], now)
            return held[0]

    def end(self, secret: str | None) -> None:
        """End a session."""
        if secret:
            with self._lock:
                self._sessions.pop(_hash(secret), None)

    def _over(self, held: tuple[Session, float, float], now: float) -> bool:
        _, began, used = held
        return now - began > self._longest_s or now - used > self._idle_s


class OneTimeLinks:
    """Secrets that sign in once, for a machine without accounts.

    Parameters
    ----------
    announce : callable
        Called with each new secret, so that the person at the terminal sees the link.
    """

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._hash = ""
        self._lock = threading.Lock()

    def renew(self) -> None:
        """Make a new link; the one before it stops working."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._hash = _hash(secret)
        self._announce(secret)

    def use(self, secret: str) -> bool:
        """Return whether the secret is the current one. It stops working, and a new one is announced."""
        with self._lock:
            right = bool(self._hash) and secrets.compare_digest(self._hash, _hash(secret))
            if right:
                self._hash = ""
        if right:
            self.renew()
        return right


class Attempts:
    """Slows down guessing: after some failures a name or an address has to wait.

    Parameters
    ----------
    allowed : int
        Failures before the first wait.
    window_s : float
        Failures older than this do not count.
    clock : callable
        Seconds that have passed.
    """

    def __init__(self, allowed: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed, self._window_s, self._clock = allowed, window_s, clock
        self._failures: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, *keys: str) -> int:
        """Return whole seconds until the next attempt is allowed for all these names and addresses; 0 is now."""
        now = self._clock()
        with self._lock:
            return max((self._wait(key, now) for key in keys), default=0)

    def failed(self, *keys: str) -> None:
        """Note a failed attempt."""
        now = self._clock()
        with self._lock:
            for key in keys:
                recent = self._failures.pop(key, deque())
                while recent and now - recent[0] > self._window_s:
                    recent.popleft()
                recent.append(now)
                self._failures[key] = recent
            while len(self._failures) > _MOST_REMEMBERED:
                self._failures.pop(next(iter(self._failures)))

    def succeeded(self, *keys: str) -> None:
        """Forget the failures of these names."""
        with self._lock:
            for key in keys:
                self._failures.pop(key, None)

    def _wait(self, key: str, now: float) -> int:
        recent = [at for at in self._failures.get(key, ()) if now - at <= self._window_s]
        beyond = len(recent) - self._allowed
        if beyond < 0:
            return 0
        # 2, 4, 8 ... seconds after the last failure, at most the window
        return max(0, math.ceil(recent[-1] + min(2.0 ** (beyond + 1), self._window_s) - now))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
