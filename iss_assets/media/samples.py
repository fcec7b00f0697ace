"""The samples of a sound track, in memory or in a file.

Belongs here: taking stretches of them. Does not belong here: decoding (``audio``), measuring (``speech``,
``sound_features``).

Half an hour of sound is 160 MB, and everything that is measured takes it stretch by stretch, several times over. So it
waits in a file, which is read and not mapped: pages of a mapped file count as the process's memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Samples(Protocol):
    """Mono float32 samples, full scale 1: an array, or `StoredSamples`."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> Any:
        """Give a stretch as an array of float32."""


class StoredSamples:
    """Samples in a file without a name, which is gone when it is closed.

    Parameters
    ----------
    folder : Path, optional
        Where the file is; default: the system's folder for such files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `__exit__`
        self._length = 0

    def __enter__(self) -> StoredSamples:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, block: NDArray[np.float32]) -> None:
        """Put samples behind those that are there."""
        data = np.ascontiguousarray(block, np.float32).view(np.uint8).data
        while len(data):
            data = data[self._file.write(data) :]
        self._length += len(block)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, stretch: slice) -> NDArray[np.float32]:
        """Give a stretch without gaps as an array of its own."""
        start, stop, _ = stretch.indices(self._length)
        out = np.empty(max(0, stop - start), np.float32)
        view, place = out.view(np.uint8).data, 4 * start
        while len(view):
            read = os.preadv(self._file.fileno(), [view], place)
            if read == 0:
                raise OSError("the file with the sound's samples has become shorter")
            view, place = view[read:], place + read
        return out
