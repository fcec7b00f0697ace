"""The folder in the home in which a release works, and clearing it after a release that was killed.

For a moment it holds a copy of the warehouse under a name. A process that dies in that moment leaves the copy behind, so
every command that uses the home clears the folder first.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from iss_assets.warehouse.locking import LockTimeout, hold


def work_folder(home: Path) -> Path:
    """Return the folder; it is there only while a release is being made."""
    return home / "release-work"


def one_release_at_a_time(home: Path, timeout_s: float) -> AbstractContextManager[None]:
    """Hold the lock of whoever makes a release in this home."""
    return hold(home / "release.lock", exclusive=True, timeout_s=timeout_s)


def clear_leftovers(home: Path) -> None:
    """Remove what a release that was killed has left; nothing while one is being made."""
    work = work_folder(home)
    if work.exists():
        with suppress(LockTimeout), one_release_at_a_time(home, 0.0):
            shutil.rmtree(work, ignore_errors=True)
