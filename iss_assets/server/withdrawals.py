"""The register of withdrawals while the application runs: what it keeps in memory of a patient who withdraws goes at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from iss_assets.intake.withdrawn import FOLDER, Withdrawn, read_withdrawn


class Withdrawals:
    """The register of a home, read again when it changes; safe for threads.

    Parameters
    ----------
    home : Path
        The home.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._forgetting: list[Callable[[Withdrawn], None]] = []
        self._of: object = ()
        self._known = Withdrawn()

    def whenever_it_changes(self, forget: Callable[[Withdrawn], None]) -> None:
        """Call something with every new register, the first one included if anybody withdrew."""
        self._forgetting.append(forget)

    def now(self) -> Withdrawn:
        """Return the register as it is.

        Raises
        ------
        StudyFolderError
            If it cannot be read: whoever withdrew would not be recognized.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp != self._of:
                self._known = read_withdrawn(self._home)
                self._of = stamp
                for forget in self._forgetting:
                    forget(self._known)
            return self._known

    def _stamp(self) -> object:
        found = []
        for name in ("register.json", "key"):
            try:
                status = (self._home / FOLDER / name).stat()
            except FileNotFoundError:
                continue
            found.append((name, status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)
