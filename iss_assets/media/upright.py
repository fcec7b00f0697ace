"""Making stored pictures upright RGB with square pixels, as the file's display matrix and pixel aspect ratio say.

Everything that processes a picture gets it from `UprightRgb`.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any, Final, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from iss_assets.media.color import deep_rgb, is_named, needs_conversion, settle_tags, to_sdr

_COLOR_TAGS: Final = ("colorspace", "color_primaries", "color_trc")
_MAX_ASPECT: Final = 4
"""No camera, disk or broadcast has a larger pixel aspect ratio; the largest in use is 24:11 (VCD still pictures)."""
_ALMOST_SQUARE: Final = 0.01
"""Aspect ratios closer to 1 come from rounding a size to whole blocks, and are no reason to resample a picture."""


class Orientation(NamedTuple):
    """How a stored picture becomes upright: first swap the axes, then flip."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def rotation(self) -> int:
        """Degrees counterclockwise (0, 90, 180, -90); a mirrored picture must also be flipped afterwards."""
        if self.transpose:
            return 90 if self.flip_y else -90
        return 180 if self.flip_y else 0


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Read a frame's display matrix: quarter turns and mirroring; other angles are rounded to a quarter turn.

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
    """Turn a stored picture, shape (height, width, ...), upright and return a contiguous array.

    Parameters
    ----------
    picture : ndarray, shape (height, width, ...)
        As stored in the file.
    orientation : Orientation
        See `orientation_of`.
    """
    if orientation.transpose:
        picture = picture.swapaxes(0, 1)
    if orientation.flip_x:
        picture = picture[:, ::-1]
    if orientation.flip_y:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


class PictureTags:
    """Adds to each decoded frame what only the file knows: color tags and the pixel aspect ratio.

    Create it before the first frame is decoded, and call it with every decoded frame.

    - Color: a frame's own tags are used; the container's if a frame has none.
    - Pixel aspect ratio: the container's if it contradicts the coded stream, as in every player; otherwise the coded
      stream's, which may change midway.

    Parameters
    ----------
    stream : av.VideoStream
        A stream of which nothing has been decoded yet.

    Attributes
    ----------
    notes : list of str
        What is unusual about them, in words for the coordinator.
    """

    def __init__(self, stream: Any) -> None:
        context = stream.codec_context
        self._context = context
        self._stated, self._coded = stream.sample_aspect_ratio, context.sample_aspect_ratio
        self._of_size: dict[tuple[int, int], Fraction | None] = {}
        self._color = {name: getattr(context, name) for name in _COLOR_TAGS}
        self._range = context.color_range
        self.notes: list[str] = []

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Complete a frame in place and return it."""
        for name, code in self._color.items():
            if not is_named(getattr(frame, name)) and is_named(code):
                setattr(frame, name, code)
        if not frame.color_range:
            frame.color_range = self._range
        shape = self._shape(frame)
        if shape is not None:
            frame.opaque = shape
        return frame

    def _shape(self, frame: av.VideoFrame) -> Fraction | None:
        """Return width over height of a stored pixel; None if it is square."""
        size = (frame.width, frame.height)
        if size == (self._context.width, self._context.height) or size not in self._of_size:
            # a decoder that reorders pictures may be some frames ahead of this one, and already have another size
            self._of_size[size] = self._context.sample_aspect_ratio
        now = self._of_size[size]
        coded_counts = not self._stated or self._stated == self._coded
        shape = now if coded_counts and now else self._stated
        if not shape or shape == 1:
            return None
        if not 1 / _MAX_ASPECT <= shape <= _MAX_ASPECT:
            note = f"the file names pixels of the shape {shape.numerator}:{shape.denominator}, which no camera has; "
            if not self.notes:
                self.notes.append(note + "they were taken as square")
            return None
        return Fraction(shape)


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Return the width and height of a frame from `PictureTags` once it is upright and its pixels are square."""
    width, height = _squared_width(frame), frame.height
    return (height, width) if orientation_of(frame).transpose else (width, height)


def _squared_width(frame: av.VideoFrame) -> int:
    shape = frame.opaque
    if not isinstance(shape, Fraction) or abs(shape - 1) < _ALMOST_SQUARE:
        return int(frame.width)
    return max(1, round(frame.width * shape))


class UprightRgb:
    """Converts frames to upright sRGB pictures with square pixels. Use one object per thread.

    It keeps FFmpeg's scaler, which adapts if size, pixel format or colors change from one frame to the next.
    """

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
        # PyAV keeps a frame in memory for long once its side data is read, so it is read only if the rotation changes
        if frame.rotation != self._rotation:
            self._rotation, self._orientation = frame.rotation, orientation_of(frame)
        settle_tags(frame)
        width = _squared_width(frame)
        if needs_conversion(frame):
            deep = deep_rgb(frame, self._reformatter, width)
            picture = to_sdr(deep, frame.color_trc, frame.color_primaries)
        else:
            plain = self._reformatter.reformat(frame, width=width, format="rgb24", threads=1)
            picture = plain.to_ndarray()  # type: ignore[assignment]
        return turn_upright(picture, self._orientation)
