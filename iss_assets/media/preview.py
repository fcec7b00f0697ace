"""A video as every browser plays it: H.264 and AAC in fragmented MP4, made while it is watched.

The preview keeps to the video's own timeline, the one that flags and measures count on: second 12.3 of the preview shows
what was measured at second 12.3. Pictures are upright, with square pixels, and tone-mapped, as extraction sees them.

Runs as a process of its own (``python -m iss_assets.media.preview``), since a file from anywhere is decoded: it reads
its task, a JSON object, from standard input and writes the MP4 to standard output.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from iss_assets.media.audio import decode_mono
from iss_assets.media.container import open_container, packets_of
from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.timeline import PictureClock, Timeline, decode, read_timeline
from iss_assets.media.upright import PictureTags, UprightRgb
from iss_assets.settings import VideoSettings

LONGEST_SIDE: Final = 960
"""Pixels; enough to judge light and sharpness, and encoded faster than it is played on one core."""
_LEAST_GAP_S: Final = 1 / 31
"""Pictures that follow closer than this are left out: a preview has at most 30 per second."""
_SOUND_RATE: Final = 44_100
_SOUND_AHEAD_S: Final = 0.25
_TIME_BASE: Final = Fraction(1, 90_000)
_FORMAT: Final = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}
_ENCODER: Final = {"preset": "ultrafast", "crf": "24", "tune": "zerolatency", "g": "30"}


def write_preview(path: Path, settings: VideoSettings, begin_s: float, out: IO[bytes]) -> None:
    """Write the preview of a video from a second on.

    Parameters
    ----------
    path : Path
        The video.
    settings : VideoSettings
        Its limits are obeyed.
    begin_s : float
        Second of the video's timeline that becomes second 0 of the preview.
    out : binary file
        Need not be seekable.

    Raises
    ------
    UnreadableVideo
        If nothing of the file can be decoded.
    """
    timeline = read_timeline(path, settings)
    pictures = _pictures(path, settings, timeline, begin_s)
    waves = _Waves(path, settings, timeline, begin_s)
    with ThreadPoolExecutor(1) as beside:
        # both have to get from the beginning of the file, or of a group of pictures, to the wanted second
        first_wave = beside.submit(waves.next)
        first = next(pictures, None)
    if first is None:
        raise UnreadableVideo("unreadable", "No picture of the video can be decoded.")
    with av.open(_Pipe(out), "w", format="mp4", options=_FORMAT) as container:
        height, width = first[1].shape[:2]
        video = container.add_stream("libx264", rate=30, options=_ENCODER)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = _TIME_BASE
        sound = _Sound(container, waves, first_wave.result())
        for time_s, picture in itertools.chain([first], pictures):
            sound.write_until(time_s + _SOUND_AHEAD_S)
            if picture.shape[:2] != (height, width):  # the size may change within a file
                picture = _resized(picture, (width, height))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(time_s / _TIME_BASE), _TIME_BASE
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound.write_until(float("inf"))


def _pictures(
    path: Path, settings: VideoSettings, timeline: Timeline, begin_s: float
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield (seconds since `begin_s`, picture); the picture that is on screen at `begin_s` is at 0."""
    upright = UprightRgb()
    on_screen: av.VideoFrame | None = None
    last = float("-inf")
    for time_s, frame in _frames(path, settings, timeline, _packet_to_begin_with(path, timeline, begin_s)):
        if time_s <= begin_s:
            on_screen = frame
            continue
        if on_screen is not None:
            last, shown, on_screen = 0.0, on_screen, None
            yield last, _small(upright(shown))
        if time_s - begin_s - last >= _LEAST_GAP_S:
            last = time_s - begin_s
            yield last, _small(upright(frame))
    if on_screen is not None:
        yield 0.0, _small(upright(on_screen))


def _frames(
    path: Path, settings: VideoSettings, timeline: Timeline, first_packet: int
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield the frames that packets from a number on give, with their times on the timeline, which only grow."""
    clock, last, number = PictureClock(timeline), -1.0, 0
    for part in timeline.parts:
        if part.video is None:
            continue
        with open_container(path, part.start) as container:
            stream = container.streams[part.video]
            stream.codec_context.thread_type = "AUTO"
            tags = PictureTags(stream)
            for packet in itertools.chain(packets_of(container, stream), [_END]):
                if packet is None or (packet is not _END and not packet.size):
                    continue
                frames: Sequence[av.VideoFrame] | None = ()
                if packet is _END:
                    frames = decode(stream, None, number)
                elif number >= first_packet:
                    frames = decode(stream, packet, number)
                number += packet is not _END
                for frame in frames or ():
                    if frame.width * frame.height > settings.max_pixels:
                        raise UnreadableVideo("unreadable", "A picture of the video is too large.")
                    time_s = clock.time_of(frame, damaged=False)
                    if time_s is not None and last <= time_s < timeline.duration_s:
                        last = time_s
                        yield time_s, tags(frame)


_END: Final = object()
"""After the last packet: the decoder still holds pictures."""


def _packet_to_begin_with(path: Path, timeline: Timeline, begin_s: float) -> int:
    """Return the number of the last packet before a moment from which decoding can start."""
    if begin_s <= 0:
        return 0
    found, number = 0, 0
    for part in timeline.parts:
        if part.video is None:
            continue
        with open_container(path, part.start) as container:
            for packet in packets_of(container, container.streams[part.video]):
                if packet is None or not packet.size:
                    continue
                shown = timeline.pictures[number] if number < len(timeline.pictures) else np.inf
                if shown > begin_s and packet.is_keyframe:
                    return found
                if packet.is_keyframe and shown <= begin_s:
                    found = number
                number += 1
    return found


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the picture with sides of at most `LONGEST_SIDE` and even length, as H.264 wants them."""
    height, width = picture.shape[:2]
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    size = (max(2, round(width * factor / 2) * 2), max(2, round(height * factor / 2) * 2))
    return picture if size == (width, height) else _resized(picture, size)


def _resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


class _Waves:
    """The sound of a video from a second on, block by block."""

    def __init__(self, path: Path, settings: VideoSettings, timeline: Timeline, begin_s: float) -> None:
        self._skip = round(begin_s * _SOUND_RATE)
        self._blocks = decode_mono(path, _SOUND_RATE, timeline, settings.max_seconds)
        self.samples = round((timeline.duration_s - begin_s) * _SOUND_RATE)

    def next(self) -> NDArray[np.float32] | None:
        """Return the next block after what comes before the preview, None at the end."""
        for block in self._blocks:
            skipped = min(self._skip, len(block))
            self._skip -= skipped
            if skipped < len(block):
                return block[skipped:]
        return None


class _Sound:
    """The sound track of a preview, written as far as the pictures are."""

    def __init__(self, container: Any, waves: _Waves, first: NDArray[np.float32] | None) -> None:
        self._container, self._waves, self._written = container, waves, 0
        self._stream = None
        if first is not None:
            self._stream = container.add_stream("aac", rate=_SOUND_RATE, layout="mono")
            self._waiting: NDArray[np.float32] | None = first

    def write_until(self, time_s: float) -> None:
        """Write the sound up to a second of the preview."""
        if self._stream is None:
            return
        while self._waiting is not None and self._written < time_s * _SOUND_RATE:
            block = self._waiting[: max(0, self._waves.samples - self._written)]
            if len(block):
                frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = (
                    _SOUND_RATE,
                    self._written,
                    Fraction(1, _SOUND_RATE),
                )
                self._container.mux(self._stream.encode(frame))
                self._written += len(block)
            self._waiting = self._waves.next()
        if self._waiting is None or time_s == float("inf"):
            self._container.mux(self._stream.encode(None))
            self._stream = None


class _Pipe:
    """A file that can only be written to, so that FFmpeg does not try to go back."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, data: bytes) -> int:
        """Write and pass on at once."""
        self._out.write(data)
        self._out.flush()
        return len(data)


def main() -> int:
    """Read a task from standard input and write the preview to standard output; return the exit status."""
    text = sys.stdin.read()
    if not text:  # whoever started this has ended
        return 0
    task = json.loads(text)
    settings = VideoSettings.model_validate(task["settings"])
    try:
        write_preview(Path(task["path"]), settings, float(task["begin_s"]), sys.stdout.buffer)
    except UnreadableVideo as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
