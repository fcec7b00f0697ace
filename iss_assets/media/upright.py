"""Turning stored pictures upright, and into RGB.

Belongs here: what a file's display matrix says, and doing it.
Does not belong here: decoding (``video``).
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray


class Orientation(NamedTuple):
    """How a stored picture becomes upright: swap the axes first, then mirror."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def rotation(self) -> int:
        """Degrees counterclockwise (0, 90, 180, -90), after which a mirrored picture is still to be mirrored."""
        if self.transpose:
            return 90 if self.flip_y else -90
        return 180 if self.flip_y else 0


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Read a frame's display matrix: quarter turns and mirroring; other angles go to the nearest quarter turn.

    The matrix maps a stored point (x, y) to (a x + c y, b x + d y), y downwards (ISO/IEC 14496-12, 8.5.2).
    """
    sides: Any = frame.side_data
    for data in sides:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
            if abs(a) + abs(d) >= abs(b) + abs(c):
                return Orientation(False, a < 0, d < 0)
            return Orientation(True, c < 0, b < 0)
    return Orientation()


def turn_upright(picture: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """Turn a stored picture, shape (height, width, ...), upright; a contiguous array comes back."""
    if orientation.transpose:
        picture = picture.swapaxes(0, 1)
    if orientation.flip_x:
        picture = picture[:, ::-1]
    if orientation.flip_y:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


class UprightRgb:
    """Turns frames into upright RGB pictures; one object a thread, since it keeps FFmpeg's scaler."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._rotation: int | None = None
        self._orientation = Orientation()

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Convert one frame.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
        """
        # PyAV never frees a frame whose side data were looked at, so only the first frame's are
        if frame.rotation != self._rotation:
            self._rotation, self._orientation = frame.rotation, orientation_of(frame)
        picture = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return turn_upright(picture, self._orientation)
