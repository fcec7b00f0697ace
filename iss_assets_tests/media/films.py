"""Small real videos generated for tests of decoding and detection: scikit-image's public-domain portrait, moving."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

SIZE = (320, 240)
"""Width and height of a test video."""


def portrait(at: float = 0.0, size: tuple[int, int] = SIZE, face_share: float = 0.45) -> NDArray[np.uint8]:
    """Return the astronaut in front of a plain wall, moving to the right and back with time."""
    source = data.astronaut()[0:300, 60:420]
    width, height = size
    # her face is about 110 pixels high in the source
    zoom = face_share * min(size) / 110
    scaled = cv2.resize(
        source, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    )
    shift = 0.08 * min(size) * np.sin(2 * np.pi * at / 3)
    face_x, face_y = (225 - 60) * zoom, 110 * zoom
    move = np.array([[1, 0, width / 2 - face_x + shift], [0, 1, height / 2 - face_y]], np.float32)
    moved: Any = cv2.warpAffine(scaled, move, size, borderMode=cv2.BORDER_REPLICATE)
    return moved  # type: ignore[no-any-return]  # OpenCV's stubs do not name the dtype


def numbered(count: int, size: tuple[int, int] = (64, 48)) -> list[NDArray[np.uint8]]:
    """Return flat gray pictures, each 4 steps brighter than the last, so that each can be recognized."""
    return [np.full((size[1], size[0], 3), 16 + 4 * i, np.uint8) for i in range(count)]


def number_of(picture: NDArray[np.uint8]) -> int:
    return round((float(picture.mean()) - 16) / 4)


def write_film(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    fps: float = 25,
    times: list[float] | None = None,
    codec: str = "libx264",
    sound: bool = False,
    rotation: int = 0,
    mirrored: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode pictures at `fps`, or at `times` in seconds for a variable rate."""
    pictures = list(pictures)
    height, width = pictures[0].shape[:2]
    rate = Fraction(fps).limit_denominator(1001)
    tick = 1 / rate if codec == "mpeg1video" else Fraction(1, 1000)  # MPEG-1 knows a few frame rates only
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        default = {
            "libx264": {"crf": "12", "preset": "veryfast"},
            "libx265": {"x265-params": "log-level=none:crf=12"},
        }
        stream.options = options or default.get(codec, {})
        if codec not in default:
            stream.bit_rate = 2_000_000
        stream.codec_context.time_base = stream.time_base = tick
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        if sound:
            write_tone(container, len(pictures) / fps)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.time_base = tick
            frame.pts = round((times[i] if times else i / fps) / tick)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_tone(container: Any, seconds: float) -> None:
    """Add a sound track to an open container."""
    stream = container.add_stream("aac", rate=48000)
    wave = np.sin(np.arange(int(48000 * seconds)) / 20).astype(np.float32) * 0.2
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
