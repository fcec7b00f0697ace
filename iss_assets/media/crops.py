"""Where a face's crop lies in its picture: the one place that knows how a box becomes a crop.

A stored box may reach beyond its picture; its crop does not. And a crop is stored as a square, whatever the proportions of what
it was cut from. Lengths and angles in a crop, and in the mesh that is stored in fractions of its sides, have meaning only
with these proportions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

from iss_assets.settings import FaceSettings

BOX = ("x1", "y1", "x2", "y2")
"""Columns of `faces` with the box that was found."""


def crop_sides(
    boxes: NDArray[Any], widths: NDArray[Any], heights: NDArray[Any], margin: int, side: int
) -> NDArray[np.int64]:
    """Return where crops lie in their pictures: left, top, width, height in whole pixels.

    As facenet-pytorch's ``extract_face`` does, which `faces.crop_face` follows.

    Parameters
    ----------
    boxes : ndarray of float, shape (n, 4)
        x1, y1, x2, y2 in pixels.
    widths, heights : ndarray, shape (n,)
        Sizes of the pictures; NaN where unknown.
    margin, side : int
        `FaceSettings.margin` and `FaceSettings.image_size`.
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).T
    extra_x, extra_y = (margin * length / (side - margin) / 2 for length in (x2 - x1, y2 - y1))
    left, top = (np.maximum(v, 0).astype(np.int64) for v in (x1 - extra_x, y1 - extra_y))
    right = np.fmin(x2 + extra_x, widths).astype(np.int64)
    bottom = np.fmin(y2 + extra_y, heights).astype(np.int64)
    return np.stack([left, top, right - left, bottom - top], axis=1)


def crops_in(
    frames: arrow.Table, faces: arrow.Table, frame_index: NDArray[Any], settings: FaceSettings
) -> NDArray[np.int64]:
    """Return where the crops of some samples of one video lie, see `crop_sides`.

    Parameters
    ----------
    frames : pyarrow.Table
        frame_index, width, height, in order.
    faces : pyarrow.Table
        frame_index, x1, y1, x2, y2, in order.
    frame_index : ndarray of int, shape (n,)
        The samples; each has a face.
    settings : FaceSettings
        `margin` and `image_size`, with which the crops were cut.
    """
    of = {
        name: table[name].to_numpy()[np.searchsorted(table["frame_index"].to_numpy(), frame_index)]
        for table, names in ((frames, ("width", "height")), (faces, BOX))
        for name in names
    }
    boxes = np.stack([of[name] for name in BOX], axis=1)
    return crop_sides(boxes, of["width"], of["height"], settings.margin, settings.image_size)


def height_share(crops: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the height of each crop as a share of its width, the factor that gives y the unit of x."""
    return np.asarray(crops[:, 3] / np.maximum(crops[:, 2], 1), np.float64)
