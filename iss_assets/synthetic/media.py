"""Writing an invented video to a file, in the formats that phones and browsers record."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from iss_assets.synthetic.voices import SAMPLE_RATE

TITLE: Final = "invented patient, not a real person"
"""Title and comment in the metadata of every file."""


@dataclass(frozen=True)
class Film:
    """A recording format.

    Attributes
    ----------
    extension, video_codec, audio_codec : str
        As FFmpeg names them.
    size : tuple of int
        Width and height of the upright frame; both even.
    fps : float
        Average frames per second.
    variable : bool
        Whether the frame rate varies.
    rotation : int
        Degrees clockwise by which a player must rotate the stored frames: 0, 90, 180 or 270 (mp4 and mov only).
    """

    extension: str = "mp4"
    video_codec: str = "libx264"
    audio_codec: str = "aac"
    size: tuple[int, int] = (480, 640)
    fps: float = 15.0
    variable: bool = False
    rotation: int = 0


_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "libx264": {"preset": "superfast", "crf": "24", "threads": "1"},
    "libx265": {
        "preset": "ultrafast",
        "crf": "26",
        "x265-params": "log-level=none:pools=none:frame-threads=1",
    },
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "1M", "threads": "1"},
}
_FORMATS: Final = {"mp4": "mp4", "mov": "mov", "webm": "webm"}
_TIME_BASE: Final = Fraction(1, 90_000)


def picture_times(film: Film, seconds: float, seed: int) -> list[float]:
    """Return the times of a film's frames, in seconds from 0.

    A variable rate jumps between one and two intervals, as on phones in low light or under load.
    """
    step = 1 / film.fps
    if not film.variable:
        return [i * step for i in range(round(seconds * film.fps))]
    rng = np.random.default_rng([seed, 53])
    gaps = rng.choice([0.8, 1.0, 1.9], p=[0.45, 0.4, 0.15], size=round(seconds * film.fps * 1.3)) * step
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    return [float(t) for t in times[times < seconds - 0.01]]


def write_film(
    path: Path,
    film: Film,
    times: Sequence[float],
    picture_at: Callable[[float], npt.NDArray[np.uint8]],
    sound: npt.NDArray[np.float32] | None,
) -> None:
    """Write pictures and sound to a file.

    Parameters
    ----------
    path : Path
        The file; an existing one is replaced.
    film : Film
        Recording format.
    times : sequence of float
        Times of the frames, in seconds.
    picture_at : callable
        Returns the upright RGB frame at a time, (height, width, 3), uint8.
    sound : array or None
        Mono at `SAMPLE_RATE`; None for no sound track.
    """
    turns = film.rotation // 90 % 4
    width, height = film.size if turns % 2 == 0 else film.size[::-1]
    with av.open(str(path), "w", format=_FORMATS[film.extension]) as container:
        container.metadata.update({"title": TITLE, "comment": TITLE})
        video: Any = container.add_stream(
            film.video_codec,
            rate=Fraction(film.fps).limit_denominator(1000),
            options=_OPTIONS[film.video_codec],
        )
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = _TIME_BASE
        if film.video_codec == "libx265":
            video.codec_context.codec_tag = "hvc1"
        voice = _SoundWriter(container, film.audio_codec, sound) if sound is not None else None
        converter = VideoReformatter()
        for time_s in times:
            # four channels lie in memory as FFmpeg wants them: the same values in a fourth of the time
            stored = np.ascontiguousarray(np.rot90(picture_at(time_s), turns))
            picture = np.asarray(cv2.cvtColor(stored, cv2.COLOR_RGB2RGBA), np.uint8)
            whole = av.VideoFrame.from_ndarray(picture, format="rgba")
            frame = converter.reformat(whole, format="yuv420p", threads=1)
            frame.pts, frame.time_base = round(time_s / _TIME_BASE), _TIME_BASE
            container.mux(video.encode(frame))
            if voice:
                voice.write_until(time_s)
        container.mux(video.encode(None))
        if voice:
            voice.write_until(None)
    if turns:
        _set_rotation(path, film.rotation, (width, height))


class _SoundWriter:
    """Writes the sound in blocks, interleaved with the frames."""

    _block: Final = 960

    def __init__(self, container: Any, codec: str, sound: npt.NDArray[np.float32]):
        self._container = container
        self._stream = container.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        self._stream.bit_rate = 96_000
        self._sound = np.clip(sound, -1, 1).astype(np.float32)
        self._at = 0

    def write_until(self, time_s: float | None) -> None:
        """Write up to a time; None writes the rest and ends the track."""
        end = len(self._sound) if time_s is None else min(len(self._sound), int(time_s * SAMPLE_RATE))
        while self._at < end:
            block = self._sound[self._at : self._at + self._block]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, self._at, Fraction(1, SAMPLE_RATE)
            self._container.mux(self._stream.encode(frame))
            self._at += len(block)
        if time_s is None:
            self._container.mux(self._stream.encode(None))


def _set_rotation(path: Path, degrees: int, stored: tuple[int, int]) -> None:
    """Write the display matrix of the video track (ISO/IEC 14496-12, 8.3.2), which PyAV cannot set."""
    one = 0x10000
    width, height = (side * one for side in stored)
    a, b, c, d, x, y = {
        90: (0, one, -one, 0, height, 0),
        180: (-one, 0, 0, -one, width, height),
        270: (0, -one, one, 0, 0, width),
    }[degrees]
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, x, y, 0x40000000)
    content = bytearray(path.read_bytes())
    at = content.rfind(b"moov")
    while (at := content.find(b"tkhd", at + 1)) >= 0:
        # after the box type: version and flags, times, id, duration, reserved; 40 bytes in version 0, 52 in version 1
        start = at + 4 + (52 if content[at + 4] else 40)
        if struct.unpack_from(">I", content, start + 36)[0]:
            content[start : start + 36] = matrix
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """Truncate a file as an interrupted upload does; the index at its end is lost."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
