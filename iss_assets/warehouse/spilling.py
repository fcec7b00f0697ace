"""Where a process writes what does not fit into memory while it works with a shared warehouse: on its host's own disk.

It is never in the data folder, nor in a home that hosts share: another host could not tell it from a file of its own, and no
withdrawal there would wait for it. A process that was killed leaves its folder; the next one on the host removes it.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.locking import hold

_LOCK: Final = "lock"
_TIMEOUT_S: Final = 60.0
_own: dict[int, Path] = {}
"""By process, since a forked one inherits this."""


def spill_folder() -> Path:
    """Return the folder of this process, in the system's temporary folder (``TMPDIR``), and remove those of dead ones.

    Raises
    ------
    WarehouseError
        If somebody else has taken the place.
    """
    pid = os.getpid()
    if pid not in _own:
        base = Path(os.environ.get("TMPDIR") or tempfile.gettempdir()).resolve() / f"iss-spill-{os.getuid()}"
        base.mkdir(mode=0o700, exist_ok=True)
        status = base.lstat()
        if not base.is_dir() or base.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise WarehouseError(
                f"{base} is not a folder that only this user can open; remove it, or set TMPDIR to a private folder"
            )
        # nobody takes a new folder for one that was left
        with hold(base / _LOCK, exclusive=True, timeout_s=_TIMEOUT_S):
            _remove_left(base)
            folder = Path(tempfile.mkdtemp(dir=base))
            # held until this process has ended, and those that it has forked
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
        _own[pid] = folder
        atexit.register(_remove_own, pid)
    return _own[pid] / "spill"


def _remove_left(base: Path) -> None:
    for folder in base.iterdir():
        if not folder.is_dir():
            continue
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            # its process has just ended, and removes it itself
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)


def _remove_own(pid: int) -> None:
    if pid == os.getpid():
        shutil.rmtree(_own[pid], ignore_errors=True)
