"""A fair readers-and-writer lock between processes and threads, on ``flock``.

DuckDB's own file lock excludes readers too, and fails instead of waiting, so every connection of this project first waits
for its turn here. ``flock`` ends with the process that holds it: a killed run leaves no lock behind.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LONGEST_PAUSE_S: Final = 0.005
"""Longest pause between two tries; locks are mostly held for a few hundredths of a second."""


class LockTimeout(TimeoutError):
    """The lock was not free in time."""


def _acquire(handle: int, operation: int, deadline: float, path: Path) -> None:
    pause = 0.001
    while True:
        try:
            fcntl.flock(handle, operation | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LockTimeout(
                    f"{path.name} stayed locked; another run holds the warehouse. "
                    "Wait for it, or raise ISS_WAREHOUSE__LOCK_TIMEOUT_S."
                ) from None
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)


@contextmanager
def hold(path: Path, *, exclusive: bool, timeout_s: float) -> Iterator[None]:
    """Hold the lock at `path`, shared or exclusive, while the block runs.

    A second file, ``<path>.turn``, is a turnstile: a waiting writer holds it, so that readers that come later queue
    behind the writer and cannot starve it.

    Raises
    ------
    LockTimeout
        If the lock is not free within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    main = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    turn = os.open(path.with_name(path.name + ".turn"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(turn, fcntl.LOCK_EX, deadline, path)
        _acquire(main, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, deadline, path)
        os.close(turn)
        turn = -1
        yield
    finally:
        if turn >= 0:
            os.close(turn)
        os.close(main)
