"""Reading a video file: what is in it, and its picture at every tenth of a second.

Belongs here: opening hostile files with PyAV, choosing streams, sampling by presentation time.
Does not belong here: turning pictures upright (``upright``), anything that looks for a face (``faces``) or measures a picture (``measures``); sound.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from iss_assets.media.upright import orientation_of
from iss_assets.settings import VideoSettings

_PLAYLISTS = frozenset({"concat", "dash", "hls", "imf", "sdp", "rtsp"})
"""Demuxers that open other files or addresses named inside the file."""

_FIRST_PICTURE_PACKETS = 300
"""Packets tried before a stream counts as without a picture (ten seconds of an ordinary video)."""

_HOLD_SECONDS = 10.0
"""A picture is held over a gap up to this long; a longer jump, or one backwards by more than `_BACK_SECONDS`, is a
broken clock and counts as one frame."""
_BACK_SECONDS = 1.0

_BATCH_BYTES = 32 * 2**20
"""Bytes of pictures in one batch at most, so that 4K and 8K videos keep to the same memory."""

_TOLERANCE = 1e-6
"""Seconds by which a time stamp may lie after the sampled moment: rounding of floats only."""


class UnreadableVideo(Exception):
    """Nothing can be seen in this file.

    Attributes
    ----------
    status : str
        ``unreadable``, ``no_video``, ``too_short`` or ``too_large``.
    """

    def __init__(self, status: str, message: str):
        self.status = status
        super().__init__(message)


@dataclass(frozen=True)
class VideoInfo:
    """What a readable video file holds.

    Attributes
    ----------
    container, codec : str
        As FFmpeg names them.
    width, height : int
        Of the upright picture, in pixels. Pixels count as square, whatever the file claims.
    rotation : int
        Degrees, counterclockwise, by which the file's metadata turn the stored picture: a multiple of 90.
    source_fps : float
        Frames in the file over its duration.
    duration_s : float
        From the first picture's time to the end of the last one, read from the packets and not from the header.
    has_audio : bool
        Whether there is a sound track that can be decoded.
    audio_codec : str or None
        As FFmpeg names it.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation: int
    source_fps: float
    duration_s: float
    has_audio: bool
    audio_codec: str | None


class SampledFrame(NamedTuple):
    """One sample: its number, the presentation time of the frame shown (from the first frame), the stored frame."""

    frame_index: int
    time_s: float
    frame: av.VideoFrame


def open_container(path: Path) -> Any:
    """Open a media file for reading, and no other file or address that it may name.

    Raises
    ------
    UnreadableVideo
        If FFmpeg finds nothing that it knows.
    """
    try:
        container = av.open(
            os.path.abspath(path),  # noqa: PTH100 - a name like "http:x.mp4" must stay a file's name
            metadata_errors="replace",
            options={"protocol_whitelist": "file"},
        )
    except (av.error.FFmpegError, OSError, ValueError):
        empty = path.is_file() and path.stat().st_size == 0
        raise UnreadableVideo(
            "unreadable",
            "The file is empty; submit it again."
            if empty
            else "The file is no video, or it broke off before its table of contents; submit it again.",
        ) from None
    if _PLAYLISTS & set(container.format.name.split(",")):
        container.close()
        raise UnreadableVideo("unreadable", "The file is a list of other files and holds no video itself.")
    return container


def pick_video_stream(container: Any) -> Any:
    """Give the first real video stream: cover art and streams without a decoder do not count.

    Raises
    ------
    UnreadableVideo
        If there is none.
    """
    pictures = [s for s in container.streams if s.type == "video"]
    moving = [s for s in pictures if not s.disposition & av.stream.Disposition.attached_pic]
    usable = [s for s in moving if s.codec_context is not None]
    if usable:
        return usable[0]
    if moving:
        raise UnreadableVideo("unreadable", "The video is packed in a way that this machine cannot decode.")
    raise UnreadableVideo(
        "no_video", "The file has no moving picture" + (", only sound." if container.streams.audio else ".")
    )


def pick_audio_stream(container: Any) -> Any | None:
    """Give the sound track marked as default, else the first one that can be decoded, else nothing."""
    usable = [s for s in container.streams if s.type == "audio" and s.codec_context is not None]
    default = [s for s in usable if s.disposition & av.stream.Disposition.default]
    return (default or usable or [None])[0]


def probe(path: Path, settings: VideoSettings) -> VideoInfo:
    """Find out what a file holds, and that at least one picture of it can be decoded.

    Parameters
    ----------
    path : Path
        Any file.
    settings : VideoSettings
        `max_pixels` and `min_seconds` are obeyed.

    Raises
    ------
    UnreadableVideo
        With the status for the table of videos and a message for people that names neither file nor content.
    """
    with open_container(path) as container:
        stream = pick_video_stream(container)
        _refuse_large(stream.codec_context.width, stream.codec_context.height, settings)
        times = _packet_times(container, stream, settings.max_seconds)
    if not times:
        raise UnreadableVideo("unreadable", "The file names a video stream and holds nothing of it.")
    duration = _duration(times)
    if duration < settings.min_seconds:
        raise UnreadableVideo(
            "too_short", f"The video lasts {duration:.1f} s; at least {settings.min_seconds:g} s are needed."
        )
    with open_container(path) as container:
        stream = pick_video_stream(container)
        audio = pick_audio_stream(container)
        first = _first_picture(container, stream)
        _refuse_large(first.width, first.height, settings)
        orientation = orientation_of(first)
        return VideoInfo(
            container=container.format.name,
            codec=stream.codec_context.name,
            width=first.height if orientation.transpose else first.width,
            height=first.width if orientation.transpose else first.height,
            rotation=orientation.rotation,
            source_fps=len(times) / duration,
            duration_s=duration,
            has_audio=audio is not None,
            audio_codec=audio.codec_context.name if audio is not None else None,
        )


def sample_frames(path: Path, settings: VideoSettings, threads: int = 0) -> FrameSampler:
    """Give the frames shown at times 0, 1/fps, 2/fps, ... after the first frame, in batches.

    Sample k is the last frame whose presentation time is not after k/fps; so a variable frame rate is sampled
    evenly, a dropped frame repeats the one before, and there are as many samples as fit into the duration.

    Parameters
    ----------
    path : Path
        A file that `probe` accepts.
    settings : VideoSettings
        Rate, batch size and limits.
    threads : int, optional
        Decoding threads; 0 leaves it to FFmpeg.

    Returns
    -------
    FrameSampler
        Iterate over it once; afterwards its `problem` says what was wrong with the file, if anything.
    """
    return FrameSampler(path, settings, threads)


class FrameSampler:
    """Iterator over batches of `SampledFrame`; see `sample_frames`.

    Attributes
    ----------
    problem : str or None
        What was wrong, in words; complete only after the last batch.
    """

    def __init__(self, path: Path, settings: VideoSettings, threads: int = 0) -> None:
        self._path = path
        self._settings = settings
        self._threads = threads
        self._broken_packets = 0
        self._broken_clock = 0
        self._cut_short = False
        self._missing_s = 0.0

    @property
    def problem(self) -> str | None:
        """Say in words what was wrong."""
        parts = []
        if self._broken_packets:
            parts.append(f"{self._broken_packets} broken pieces of the video were left out")
        if self._broken_clock:
            parts.append(f"the video's clock jumps {self._broken_clock} times")
        if self._missing_s > 1:
            parts.append(f"the file breaks off {self._missing_s:.0f} s before the end that it announces")
        if self._cut_short:
            parts.append(f"only the first {self._settings.max_seconds:g} s were read")
        return ("; ".join(parts)[0].upper() + "; ".join(parts)[1:] + ".") if parts else None

    def __iter__(self) -> Iterator[list[SampledFrame]]:
        """Decode and give batches.

        Raises
        ------
        UnreadableVideo
            If the file cannot be opened, or a picture in it is larger than `max_pixels`.
        """
        batch: list[SampledFrame] = []
        for sample in self._samples():
            size = sample.frame.width * sample.frame.height * 3
            batch.append(sample)
            if len(batch) >= max(1, min(self._settings.batch_frames, _BATCH_BYTES // size)):
                yield batch
                batch = []
        if batch:
            yield batch

    def _samples(self) -> Iterator[SampledFrame]:
        fps, limit = self._settings.fps, self._settings.max_seconds
        wanted = 0
        steps: list[float] = []
        shown: av.VideoFrame | None = None
        shown_at = 0.0
        for time_s, frame in self._timed_frames():
            while shown is not None and wanted / fps < time_s - _TOLERANCE:
                if wanted / fps >= limit:
                    self._cut_short = True
                    return
                yield SampledFrame(wanted, shown_at, shown)
                wanted += 1
            if shown is not None:
                steps = [*steps[-24:], time_s - shown_at]
            shown, shown_at = frame, time_s
        if shown is None:
            return
        own = float(shown.duration * shown.time_base) if shown.duration and shown.time_base else 0.0
        end = shown_at + min(own or (statistics.median(steps) if steps else 1 / fps), _HOLD_SECONDS)
        while wanted / fps < min(end, limit) - _TOLERANCE:
            yield SampledFrame(wanted, shown_at, shown)
            wanted += 1
        self._cut_short = end > limit + _TOLERANCE

    def _timed_frames(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Give every frame with a time that starts at 0 and only grows."""
        offset: float | None = None
        last = 0.0
        step = 0.04
        for frame in self._decoded():
            stamp = frame.time
            if offset is None:
                offset = -(stamp or 0.0)
                yield 0.0, frame
                continue
            time_s = last + step if stamp is None else stamp + offset
            if not -_BACK_SECONDS < time_s - last < _HOLD_SECONDS:
                self._broken_clock += 1
                offset += last + step - time_s
                time_s = last + step
            if time_s <= last:
                continue
            step, last = min(time_s - last, 1.0), time_s
            yield time_s, frame

    def _decoded(self) -> Iterator[av.VideoFrame]:
        with open_container(self._path) as container:
            stream = pick_video_stream(container)
            context = stream.codec_context
            context.thread_type = "AUTO"
            context.thread_count = self._threads
            announced = _announced(container, stream)
            first, shown = self._shown_stamps()
            seen: list[float] = []
            for packet in _packets(container, stream):
                if packet is None:
                    self._broken_packets += 1
                    continue
                # a frame that nothing refers to and that is not sampled need not be decoded
                context.skip_frame = "DEFAULT" if shown is None or packet.pts in shown else "NONREF"
                try:
                    frames = packet.decode()
                except (av.error.FFmpegError, ValueError):
                    self._broken_packets += 1
                    continue
                for frame in frames:
                    _refuse_large(frame.width, frame.height, self._settings)
                    if not seen and frame.pts != first:
                        shown = None
                    seen = [seen[0] if seen else frame.time or 0.0, frame.time or 0.0]
                    yield frame
            self._missing_s = announced - (seen[1] - seen[0]) if seen and announced else 0.0

    def _shown_stamps(self) -> tuple[int | None, set[int] | None]:
        """Give the first time stamp and those of the frames that samples show; None where stamps cannot be trusted."""
        with open_container(self._path) as container:
            stream = pick_video_stream(container)
            listed = [p.pts for p in _packets(container, stream) if p is not None and p.size]
            if not listed or None in listed or len(set(listed)) < len(listed):
                return None, None
            stamps = np.sort(listed)
            times = (stamps - stamps[0]) * float(stream.time_base)
            if np.diff(times, prepend=0).max() >= _HOLD_SECONDS:
                return None, None
            samples = int(min(times[-1], self._settings.max_seconds) * self._settings.fps) + 2
            moments = np.arange(samples) / self._settings.fps + _TOLERANCE
            shown = stamps[np.searchsorted(times, moments, side="right") - 1]
            return int(stamps[0]), set(shown.tolist())


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Give a stream's packets, and one None in place of all that follow where the container itself is broken."""
    try:
        yield from container.demux(stream)
    except (av.error.FFmpegError, OSError):
        yield None


def _packet_times(container: Any, stream: Any, max_seconds: float) -> list[tuple[float, float]]:
    """Give start and end, in seconds, of every packet without decoding; a broken end of the file is left out."""
    times: list[tuple[float, float]] = []
    usual = 1 / float(stream.average_rate or 25)
    for packet in _packets(container, stream):
        if packet is None or not packet.size:
            continue
        stamp = packet.pts if packet.pts is not None else packet.dts
        start = float(stamp * packet.time_base) if stamp is not None else times[-1][1] if times else 0.0
        length = float(packet.duration * packet.time_base) if packet.duration else usual
        times.append((start, start + min(length, _HOLD_SECONDS)))
        if start - times[0][0] > max_seconds + _HOLD_SECONDS:
            break
    return times


def _duration(times: list[tuple[float, float]]) -> float:
    """Add up the time from each picture to the next; a jump longer than any picture is held counts as one frame."""
    times = sorted(times)
    last = times[-1][1] - times[-1][0]
    gaps = (after - before for (before, _), (after, _) in pairwise(times))
    return last + sum(gap if gap < _HOLD_SECONDS else last for gap in gaps)


def _announced(container: Any, stream: Any) -> float:
    """Give the video's length in seconds by the header, 0 where it says nothing of the picture."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # the container's length is that of its longest track
    return container.duration / av.time_base if container.duration and not container.streams.audio else 0.0


def _first_picture(container: Any, stream: Any) -> av.VideoFrame:
    for number, packet in enumerate(_packets(container, stream)):
        if packet is None or number > _FIRST_PICTURE_PACKETS:
            break
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError):
            continue
        if frames:
            return frames[0]
    raise UnreadableVideo("unreadable", "No picture of the video can be decoded; submit it again.")


def _refuse_large(width: int, height: int, settings: VideoSettings) -> None:
    if width * height > settings.max_pixels:
        raise UnreadableVideo(
            "too_large", f"Its pictures of {width} x {height} pixels are larger than this project decodes."
        )
