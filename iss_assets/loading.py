"""Loading large modules without the garbage collector walking them over and over.

Belongs here: that. Does not belong here: what is loaded.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_loading() -> Iterator[None]:
    """Pause the collector while modules load, and leave what they made out of later collections.

    Modules make some hundred thousand objects that stay until the process ends; collecting among them takes a fifth of
    the time that loading takes.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if running:
            gc.enable()


@atexit.register
def _thaw() -> None:
    """Let the end of the process collect what was left out: Triton's binding calls what it still finds then a leak.

    torch loads Triton with its optimizers.
    """
    if "triton" in sys.modules:
        gc.unfreeze()
