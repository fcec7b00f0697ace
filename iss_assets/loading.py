"""Loading large modules without the garbage collector walking them over and over.

Belongs here: that. Does not belong here: what is loaded.
"""

from __future__ import annotations

import gc
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
