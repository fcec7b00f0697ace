"""Loading large modules without repeated garbage collection."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

GPU_DEVICES: Final = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""What a machine has that torch can use as ``cuda``: NVIDIA's driver, the same in Windows' Linux, AMD's driver."""


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


def call_quickly(function: str, *arguments: Any) -> None:
    """Call a function, given as ``module:name``, after loading its module with the garbage collector paused.

    A process that `multiprocessing` starts loads the modules of what it is given before it can do anything else; given
    this, it loads only this module first.
    """
    module, name = function.split(":")
    with quick_loading():
        loaded = import_module(module)
    getattr(loaded, name)(*arguments)


def leave_out_triton() -> None:
    """Keep torch from loading Triton, its compiler for GPUs, on a machine without one.

    Loading it takes a second, and at the end of the process four more: all objects have to be collected then (`_thaw`).
    """
    if "triton" not in sys.modules and not any(Path(device).exists() for device in GPU_DEVICES):
        sys.modules["triton"] = None  # type: ignore[assignment]  # an import of it fails, which torch allows for


@atexit.register
def _thaw() -> None:
    """Include the excluded objects again when the process ends: Triton, which torch loads, would report them as leaks."""
    if sys.modules.get("triton") is not None:
        gc.unfreeze()
