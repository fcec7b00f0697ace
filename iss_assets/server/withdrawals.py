"""The register of withdrawals while the application runs: what it keeps in memory of a patient who withdraws goes at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from iss_assets.intake.withdrawn import Withdrawn
from iss_assets.privacy.register import read_register, stamp
from iss_assets.settings import Settings


class Withdrawals:
    """The register, read again when it changes; safe for threads.

    Parameters
    ----------
    settings : Settings
        Where it is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._forgetting: list[Callable[[Withdrawn], None]] = []
        self._of: Hashable = ()
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
            of = stamp(self._settings)
            if of != self._of:
                self._known = read_register(self._settings)
                self._of = of
                for forget in self._forgetting:
                    forget(self._known)
            return self._known
