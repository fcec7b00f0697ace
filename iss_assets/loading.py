"""Loading large modules without repeated garbage collection."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_loading() -> Iterator[None]:
    """Pause the garbage collector while modules load, and exclude their objects from later collections.

    Modules create several hundred thousand objects that live until the process ends; collecting among them takes a fifth
    of the loading time.
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
    """Include the excluded objects again when the process ends: Triton, which torch loads, would report them as leaks."""
    if "triton" in sys.modules:
        gc.unfreeze()
