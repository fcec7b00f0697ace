"""librosa, loaded by one process at a time.

On its first import librosa compiles functions with numba and keeps them in files beside its own. Two processes that do
so at once can mix up their files, and then the one that calls such a function dies of a segmentation fault, as does
every process after it (numba issue 10128: the files of a function and of its wrapper are written one by one). So every
import of librosa in this package goes through this module, which holds a lock meanwhile.

Belongs here: that, and the list of librosa's parts that hold such functions. Does not belong here: any use of them.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_log = logging.getLogger(__name__)


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{name} is not installed", name=name)
    return Path(spec.origin).parent


@contextmanager
def one_process_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; another process that asks for the same one waits.

    Parameters
    ----------
    folder : Path
        Nothing is written to it, so it may be one that only another user may write to.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:  # a network drive that knows no locks
            _log.warning(
                "processes that start together are not kept apart: no lock to be had (%s)", error.strerror
            )
        yield
    finally:
        os.close(handle)


with one_process_at_a_time(_package_folder("librosa")):
    import librosa
    import librosa.core.audio
    import librosa.core.pitch
    import librosa.feature.spectral
    import librosa.util.utils

__all__ = ["librosa", "one_process_at_a_time"]
