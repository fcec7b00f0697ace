"""The meshes of a video as its rows hold them, a slice at a time: an hour of them is 200 MB, and every copy as much again."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

from iss_assets.media.landmarks import POINT_VALUES, POINTS

_BATCH: Final = 1024
"""Rows looked at a time."""


class Meshes(Protocol):
    """Meshes, shape (n, 468, 3): an array, or `StoredMeshes`."""

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> Any:
        """Return a slice as an array."""


class StoredMeshes:
    """The meshes that were found in a video.

    Parameters
    ----------
    landmarks : pyarrow.Table
        frame_index, detected, points of the video's samples, in order.

    Attributes
    ----------
    frame_index : ndarray of int, shape (n,)
        The samples in which a mesh was found.

    Examples
    --------
    >>> from iss_assets.media.landmarks import pack_points
    >>> found, points = pack_points([None, np.full(1404, 0.5, np.float32), np.full(1404, 0.25, np.float32)])
    >>> rows = arrow.table({"frame_index": [0, 1, 2], "detected": found, "points": points})
    >>> meshes = StoredMeshes(rows)
    >>> len(meshes), meshes.frame_index.tolist(), meshes[1:].shape, float(meshes[1:].max())
    (2, [1, 2], (1, 468, 3), 0.25)
    """

    def __init__(self, landmarks: arrow.Table) -> None:
        found = landmarks["detected"].to_numpy().astype(bool)
        self.frame_index: NDArray[Any] = landmarks["frame_index"].to_numpy()[found]
        self._rows = np.flatnonzero(found)
        self._points = landmarks["points"]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, span: slice, /) -> NDArray[np.float32]:
        """Return a slice of the meshes, with any step forward, as a new array."""
        rows = self._rows[span]
        out = np.empty((len(rows), POINT_VALUES), np.float32)
        begin = 0
        for piece in self._points.chunks:
            for start in range(0, len(piece), _BATCH):
                stop = min(start + _BATCH, len(piece))
                here = slice(*np.searchsorted(rows, [begin + start, begin + stop]))
                if here.start == here.stop:
                    continue
                own = rows[here] - begin
                first, last = int(own[0]), int(own[-1]) + 1
                # the numbers behind the list, also where a row is missing: nothing is copied but this
                values = piece.values.slice(
                    (piece.offset + first) * POINT_VALUES, (last - first) * POINT_VALUES
                )
                out[here] = values.to_numpy(zero_copy_only=False).reshape(-1, POINT_VALUES)[own - first]
            begin += len(piece)
        return out.reshape(-1, POINTS, 3)
