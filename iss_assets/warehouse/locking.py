"""A fair readers-and-writer lock between processes and threads, on ``flock``.

Belongs here: waiting one's turn. Does not belong here: DuckDB.

DuckDB's own file lock shuts readers out as well and fails instead of waiting, so every connection of this project
first takes its turn here. ``flock`` goes away with the process that held it: a killed run leaves no lock behind.
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
"""Between two looks at a lock that somebody holds, most of the time for a few hundredths of a second."""


class LockTimeout(TimeoutError):
    """The turn did not come in time."""


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

    A second file, ``<path>.turn``, is a turnstile that everyone passes through: a waiting writer stands in it, so
    readers that come later queue behind and cannot starve it.

    Raises
    ------
    LockTimeout
        If the turn does not come within `timeout_s` seconds.
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
