"""Pictures that models learn from, wherever there is room for them.

Belongs here: decoded pictures that all sides of all splits share, and encoded ones that are fetched and decoded when
wanted. Does not belong here: choosing which (``warehouse.items``), batches (``data``).

In order of speed and hunger: decoded on the device, decoded in memory, encoded in memory, encoded in the warehouse.
All give the same pixels, so a model does not depend on where its pictures lay.
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
    """Picture files that stay where they are stored until some are taken.

    Parameters
    ----------
    fetch : callable
        From places, (n,) int64, to the n files there, in that order.
    n : int
        Files in all.
    """

    def __init__(self, fetch: Callable[[np.ndarray], pa.ChunkedArray], n: int):
        self._fetch = fetch
        self._n = n

    def __len__(self) -> int:
        return self._n

    def take(self, places: np.ndarray) -> pa.ChunkedArray:
        """Fetch the files at some places, in that order."""
        return self._fetch(places)


class EncodedFaces:
    """Crops kept as picture files and decoded when indexed, for studies whose pixels do not fit in memory.

    They may still fit on a GPU, which can have more memory than a process is allowed: `on_device`.

    Parameters
    ----------
    files : pyarrow.Array, pyarrow.ChunkedArray or StoredFiles
        One picture file a place (any format that OpenCV reads).
    side : int
        Side in pixels that crops are resized to.
    places : ndarray of int64, (n,), optional
        Which of the files, in order; all by default.
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
        """The shape that all crops together would have."""
        return (len(self), self.side, self.side, 3)

    @property
    def decoded_bytes(self) -> int:
        """Memory that all crops together would take."""
        return len(self) * self.side * self.side * 3

    @property
    def shared_bytes(self) -> int:
        """Memory that the crops of all files would take, once for all selections of them."""
        return len(self._files) * self.side * self.side * 3

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """Decode some crops: (n, side, side, 3) uint8 RGB."""
        places, files = self.places[index], self._files
        if isinstance(files, StoredFiles):
            files, places = files.take(places), np.arange(len(index))
        out = np.empty((len(index), self.side, self.side, 3), np.uint8)

        def decode(place: int) -> None:
            # one by one, as Arrow's own `take` copies all pieces of an array in pieces for it
            out[place] = decode_picture(files[int(places[place])].as_buffer(), self.side)

        if len(index) <= _FEW:
            for place in range(len(index)):
                decode(place)
        else:
            with ThreadPoolExecutor() as pool:  # OpenCV decodes outside the interpreter's lock
                list(pool.map(decode, range(len(index))))
        return out

    def select(self, index: np.ndarray) -> EncodedFaces:
        """Give some of the crops, still encoded and where they are, sharing what has been sent to devices."""
        view = EncodedFaces(self._files, self.side, self.places[index])
        view._sent, view._sending = self._sent, self._sending
        return view

    def fetch(self, index: np.ndarray) -> EncodedFaces:
        """Give some of the crops, still encoded, in memory."""
        if not isinstance(self._files, StoredFiles):
            return self.select(index)
        return EncodedFaces(self._files.take(self.places[index]), self.side)

    def decode(self) -> np.ndarray:
        """Decode all crops: (n, side, side, 3) uint8 RGB."""
        return self[np.arange(len(self))]

    def sent_to(self, device: str) -> bool:
        """Say whether the crops of all files lie on this device already."""
        return device in self._sent

    def on_device(self, device: str) -> Tensor:
        """Give the crops of all files as a tensor on a device, decoded and sent there once, a window at a time."""
        import torch

        n = len(self._files)
        with self._sending:  # folds side by side ask at the same time
            if device not in self._sent:
                crops = torch.empty((n, self.side, self.side, 3), dtype=torch.uint8, device=device)
                for start in range(0, n, _WINDOW):
                    window = np.arange(start, min(start + _WINDOW, n))
                    decoded = EncodedFaces(self._files, self.side, window).decode()
                    crops[start : start + len(window)] = torch.from_numpy(decoded)
                self._sent[device] = crops
            return self._sent[device]


_WINDOW = 1024
"""Crops decoded at once on their way to a device: 80 MB."""

_FEW = 64
"""Up to so many crops are decoded one after another: a batch's, of which several are made ready at once anyway."""


class SharedPictures:
    """Decoded pictures: a view of one array that all sides of all splits share, in memory and on each device.

    Parameters
    ----------
    values : ndarray, (m, ...)
        All pictures.
    places : ndarray of int64, (n,), optional
        Which of them, in order; all by default.
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
        """Memory that the whole array takes, once for all views."""
        return self._values.nbytes

    def __getitem__(self, index: Any) -> np.ndarray:
        """Give some pictures, or parts of them, as an array would."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        return self._values[(self.places[first], *rest)]

    def __array__(self, dtype: Any = None) -> np.ndarray:
        """Give all pictures of this view as a copy."""
        return np.asarray(self[:], dtype)

    def select(self, index: np.ndarray) -> SharedPictures:
        """Give a view of some of the pictures, sharing the array and what has been sent to devices."""
        view = SharedPictures(self._values, self.places[index])
        view._sent, view._sending = self._sent, self._sending
        return view

    def sent_to(self, device: str) -> bool:
        """Say whether the array lies on this device already."""
        return device in self._sent

    def on_device(self, device: str) -> Tensor:
        """Give the whole array as a tensor on a device, sent there once; on the CPU it is the same memory."""
        import torch

        with self._sending:  # folds side by side ask at the same time
            if device not in self._sent:
                self._sent[device] = torch.from_numpy(self._values).to(device)
            return self._sent[device]


def decode_picture(file: pa.Buffer, side: int) -> np.ndarray:
    """Decode one picture file: (side, side, 3) uint8 RGB, resized where it has another size.

    Raises
    ------
    ValueError
        If it is no picture.
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
