"""The samples of a sound track, in memory or in a file.

Half an hour of sound is 160 MB, and every measure reads it in slices, several times. So it is kept in a file, which is
read and not memory-mapped: pages of a mapped file count as the process's memory.
Where nothing may reach the disk, the file is one in memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray


def unnamed_file(folder: Path | None, *, buffering: int = -1) -> IO[bytes]:
    """Open a temporary file without a name, which disappears when it is closed: in a folder, or without one in memory."""
    if folder is not None:
        return TemporaryFile(dir=folder, buffering=buffering)
    return os.fdopen(os.memfd_create("iss", os.MFD_CLOEXEC), "w+b", buffering=buffering)


class Samples(Protocol):
    """Mono float32 samples, full scale 1: an array, or `StoredSamples`."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> Any:
        """Return a slice as an array of float32."""


class StoredSamples:
    """Samples in an unnamed temporary file, which disappears when it is closed.

    Parameters
    ----------
    folder : Path, optional
        Folder of the file; by default it is in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = unnamed_file(folder, buffering=0)
        self._length = 0

    def __enter__(self) -> StoredSamples:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, block: NDArray[np.float32]) -> None:
        """Append samples."""
        data = np.ascontiguousarray(block, np.float32).view(np.uint8).data
        while len(data):
            data = data[self._file.write(data) :]
        self._length += len(block)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, stretch: slice) -> NDArray[np.float32]:
        """Return a contiguous slice as a new array.

        Raises
        ------
        OSError
            If the file is shorter than what was written.
        """
        start, stop, _ = stretch.indices(self._length)
        out = np.empty(max(0, stop - start), np.float32)
        view, place = out.view(np.uint8).data, 4 * start
        while len(view):
            read = os.preadv(self._file.fileno(), [view], place)
            if read == 0:
                raise OSError("the file with the sound's samples was truncated")
            view, place = view[read:], place + read
        return out
