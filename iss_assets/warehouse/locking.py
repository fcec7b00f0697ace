"""A fair readers-and-writer lock between processes and threads, on ``flock``.

DuckDB's own file lock excludes readers too, and fails instead of waiting, so every connection of this project first waits
for its turn here. ``flock`` ends with the process that holds it: a killed run leaves no lock behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass
class _LockFile:
    """An open lock file; without a handle where a reader may not even read it."""

    handle: int | None
    writable: bool

    def close(self) -> None:
        """Close it, which gives up its lock; a second call does nothing."""
        if self.handle is not None:
            os.close(self.handle)
        self.handle = None


def _open(path: Path, *, must_write: bool) -> _LockFile:
    """Open a lock file, and make it if need be and allowed."""
    try:
        return _LockFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), True)
    except OSError as error:
        if must_write or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    try:
        return _LockFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC), False)
    except (FileNotFoundError, PermissionError):
        return _LockFile(None, False)


@contextmanager
def hold(path: Path, *, exclusive: bool, timeout_s: float) -> Iterator[None]:
    """Hold the lock at `path`, shared or exclusive, while the block runs.

    A second file, ``<path>.turn``, is a turnstile: a waiting writer holds it, so that readers that come later queue
    behind the writer and cannot starve it.

    Where this user may not write, as in a folder that is mounted read-only, a reader takes the lock on the files that are
    there, and none if there are none or they may not be read. DuckDB's own lock on the file that is read then keeps writers
    away, who wait for it.

    Raises
    ------
    LockTimeout
        If the lock is not free within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    main = _open(path, must_write=exclusive)
    turn = _open(path.with_name(path.name + ".turn"), must_write=exclusive)
    try:
        if turn.handle is not None:
            # a handle that cannot be written to may only be locked shared on a network drive
            _acquire(turn.handle, fcntl.LOCK_EX if turn.writable else fcntl.LOCK_SH, deadline, path)
        if main.handle is not None:
            _acquire(main.handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, deadline, path)
        turn.close()
        yield
    finally:
        turn.close()
        main.close()
