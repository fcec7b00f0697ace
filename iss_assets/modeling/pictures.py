"""Store the pictures that models learn from where there is enough memory.

From fastest to most economical: decoded on the device, decoded in memory, encoded in memory, encoded in the warehouse.
All yield the same pixels, so a model does not depend on where its pictures were stored. ``datasets.items`` chooses
among them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from torch import Tensor


class StoredFiles:
    """Picture files that are fetched from storage on demand.

    Parameters
    ----------
    fetch : callable
        Maps indices, (n,) int64, to the n files in that order.
    n : int
        Total number of files.
    """

    def __init__(self, fetch: Callable[[np.ndarray], pa.ChunkedArray], n: int):
        self._fetch = fetch
        self._n = n

    def __len__(self) -> int:
        return self._n

    def take(self, places: np.ndarray) -> pa.ChunkedArray:
        """Fetch files by index, in that order."""
        return self._fetch(places)


class EncodedFaces:
    """Face crops stored as picture files and decoded when indexed, for studies whose pixels do not fit in memory.

    They may still fit on a GPU with more memory than the process may use: see `on_device`.

    Parameters
    ----------
    files : pyarrow.Array, pyarrow.ChunkedArray or StoredFiles
        One picture file per entry, in any format that OpenCV reads.
    side : int
        Side length in pixels to which crops are resized.
    places : ndarray of int64, (n,), optional
        Indices of the files, in order; all by default.
    """

    def __init__(
        self, files: pa.Array | pa.ChunkedArray | StoredFiles, side: int, places: np.ndarray | None = None
    ):
        self._files = files
        self.side = side
        self.places = np.arange(len(files)) if places is None else places
        self._sent: dict[str, Tensor] = {}
        self._sending = Lock()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the decoded crops."""
        return (len(self), self.side, self.side, 3)

    @property
    def decoded_bytes(self) -> int:
        """Size of the decoded crops in bytes."""
        return len(self) * self.side * self.side * 3

    @property
    def shared_bytes(self) -> int:
        """Size in bytes of the decoded crops of all files, shared by all selections."""
        return len(self._files) * self.side * self.side * 3

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """Decode crops by index, (n, side, side, 3) uint8 RGB."""
        places, files = self.places[index], self._files
        if isinstance(files, StoredFiles):
            files, places = files.take(places), np.arange(len(index))
        out = np.empty((len(index), self.side, self.side, 3), np.uint8)

        def decode(place: int) -> None:
            # one by one, because `take` of Arrow first concatenates all chunks of a chunked array
            out[place] = decode_picture(files[int(places[place])].as_buffer(), self.side)

        if len(index) <= _FEW:
            for place in range(len(index)):
                decode(place)
        else:
            with ThreadPoolExecutor() as pool:  # OpenCV releases the GIL while decoding
                list(pool.map(decode, range(len(index))))
        return out

    def select(self, index: np.ndarray) -> EncodedFaces:
        """Select crops without fetching them; copies on devices are shared."""
        view = EncodedFaces(self._files, self.side, self.places[index])
        view._sent, view._sending = self._sent, self._sending
        return view

    def fetch(self, index: np.ndarray) -> EncodedFaces:
        """Load crops by index into memory, still encoded."""
        if not isinstance(self._files, StoredFiles):
            return self.select(index)
        return EncodedFaces(self._files.take(self.places[index]), self.side)

    def decode(self) -> np.ndarray:
        """Decode all crops, (n, side, side, 3) uint8 RGB."""
        return self[np.arange(len(self))]

    def sent_to(self, device: str) -> bool:
        """Return whether the crops of all files are already on this device."""
        return device in self._sent

    def on_device(self, device: str) -> Tensor:
        """Return the crops of all files as a tensor on a device; the first call decodes and sends them in windows."""
        import torch

        n = len(self._files)
        with self._sending:  # concurrent folds can ask at the same time
            if device not in self._sent:
                crops = torch.empty((n, self.side, self.side, 3), dtype=torch.uint8, device=device)
                for start in range(0, n, _WINDOW):
                    window = np.arange(start, min(start + _WINDOW, n))
                    decoded = EncodedFaces(self._files, self.side, window).decode()
                    crops[start : start + len(window)] = torch.from_numpy(decoded)
                self._sent[device] = crops
            return self._sent[device]


_WINDOW = 1024
"""Number of crops decoded at once for a device: 80 MB."""

_FEW = 64
"""Up to this many crops are decoded in one thread; batches are this small and already prepared in parallel."""


class SharedPictures:
    """View of an array of decoded pictures that all sides of all splits share, in memory and on each device.

    Parameters
    ----------
    values : ndarray, (m, ...)
        All pictures.
    places : ndarray of int64, (n,), optional
        Indices of the pictures, in order; all by default.
    """

    def __init__(self, values: np.ndarray, places: np.ndarray | None = None):
        self._values = values
        self.places = np.arange(len(values)) if places is None else places
        self._sent: dict[str, Tensor] = {}
        self._sending = Lock()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the pictures of this view."""
        return (len(self), *self._values.shape[1:])

    @property
    def shared_bytes(self) -> int:
        """Size in bytes of the whole array, which all views share."""
        return self._values.nbytes

    def __getitem__(self, index: Any) -> np.ndarray:
        """Index the pictures like an array."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        return self._values[(self.places[first], *rest)]

    def __array__(self, dtype: Any = None) -> np.ndarray:
        """Copy the pictures of this view to an array."""
        return np.asarray(self[:], dtype)

    def select(self, index: np.ndarray) -> SharedPictures:
        """Select pictures; the array and its copies on devices are shared."""
        view = SharedPictures(self._values, self.places[index])
        view._sent, view._sending = self._sent, self._sending
        return view

    def sent_to(self, device: str) -> bool:
        """Return whether the array is already on this device."""
        return device in self._sent

    def on_device(self, device: str) -> Tensor:
        """Return the whole array as a tensor on a device, sent by the first call; on the CPU it shares the memory."""
        import torch

        with self._sending:  # concurrent folds can ask at the same time
            if device not in self._sent:
                self._sent[device] = torch.from_numpy(writable(self._values)).to(device)
            return self._sent[device]


def writable(values: np.ndarray) -> np.ndarray:
    """Return an array that torch can use: `values`, or a copy of those that may only be read, as in a query's result."""
    return np.require(values, requirements=("C", "W"))


def decode_picture(file: pa.Buffer, side: int) -> np.ndarray:
    """Decode a picture file to (side, side, 3) uint8 RGB, resized if necessary.

    Raises
    ------
    ValueError
        If the file is not a picture.
    """
    import cv2

    picture = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("a stored face crop is not a picture: extract this patient's faces again")
    picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    if picture.shape[:2] != (side, side):
        shrink = picture.shape[0] > side
        picture = cv2.resize(
            picture, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        )
    return picture
