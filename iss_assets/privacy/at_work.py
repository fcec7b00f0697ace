"""Who works on a home: any number of runs at a time, or one withdrawal and nobody else.

A lock, not a list of runs: it disappears with the process that holds it, so that neither side waits for one that died.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from iss_assets.warehouse.locking import LockTimeout, hold

_HELD: Final = "ISS_AT_WORK"
"""Set in a command and its worker processes while the command holds the lock for all of them."""
_LONGEST_WITHDRAWAL_S: Final = 3600.0
_LONGEST_RUN_S: Final = 7 * 24 * 3600.0


def _lock(home: Path) -> Path:
    return home.resolve() / "work.lock"


@contextmanager
def at_work(home: Path, *, for_children: bool = False) -> Iterator[None]:
    """Keep withdrawals out while the block runs; wait for one that is being carried out.

    Parameters
    ----------
    home : Path
        The home.
    for_children : bool
        Whether the processes that this one starts are covered too. They must not wait for a withdrawal that waits for
        this process.
    """
    # nobody can withdraw from a home that does not exist, and a mistyped name must not make one
    if os.environ.get(_HELD) == str(_lock(home)) or not home.is_dir():
        yield
        return
    with hold(_lock(home), exclusive=False, timeout_s=_LONGEST_WITHDRAWAL_S):
        if for_children:
            os.environ[_HELD] = str(_lock(home))
        try:
            yield
        finally:
            if for_children:
                os.environ.pop(_HELD, None)


@contextmanager
def nobody_at_work(home: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Wait until no run is in progress, and keep new ones out while the block runs.

    Parameters
    ----------
    home : Path
        The home.
    waiting : callable
        Called once if there is somebody to wait for.
    """
    with ExitStack() as held:
        try:
            held.enter_context(hold(_lock(home), exclusive=True, timeout_s=0.2))
        except LockTimeout:
            waiting()
            held.enter_context(hold(_lock(home), exclusive=True, timeout_s=_LONGEST_RUN_S))
        yield
