"""librosa, loaded by one process at a time.

On its first import librosa compiles functions with numba and caches them in files next to its own. Two processes that
do so at the same time can mix up their files; then a process that calls such a function crashes with a segmentation
fault, and so does every later one (numba issue 10128: the files of a function and of its wrapper are written
separately). So every import of librosa in this package goes through this module, which holds a lock during the import.
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
    """Hold the lock of a folder while the block runs; another process that asks for it waits.

    Parameters
    ----------
    folder : Path
        Nothing is written to it, so a read-only folder is fine.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:  # a network drive without locks
            _log.warning(
                "no file lock (%s): do not start two processes that import librosa at the same time",
                error.strerror,
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
