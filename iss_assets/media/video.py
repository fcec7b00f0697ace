"""Reading a video file: what is in it, and its picture at every tenth of a second.

Belongs here: sampling by presentation time, and what a file holds.
Does not belong here: opening files (``container``), choosing streams (``streams``), turning pictures upright
(``upright``), anything that looks for a face (``faces``) or measures a picture (``measures``); sound.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from iss_assets.media.container import UnreadableVideo, open_container, packets_of
from iss_assets.media.streams import choose_streams, still_picture, video_stream
from iss_assets.media.upright import orientation_of
from iss_assets.settings import VideoSettings

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
        Of that track, as FFmpeg names it.
    problem : str or None
        What is unusual about the file, in words.
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
    problem: str | None = None


class SampledFrame(NamedTuple):
    """One sample: its number, the presentation time of the frame shown (from the first frame), the stored frame."""

    frame_index: int
    time_s: float
    frame: av.VideoFrame


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
        chosen = choose_streams(container)
        if chosen.no_video is not None:
            raise chosen.no_video
        stream, number = chosen.video, chosen.video.index
        audio_codec = chosen.audio.codec_context.name if chosen.audio is not None else None
        _refuse_large(stream.codec_context.width, stream.codec_context.height, settings)
        times = _packet_times(container, stream, settings.max_seconds)
    if not times:
        raise UnreadableVideo("unreadable", "The file names a video stream and holds nothing of it.")
    if len(times) == 1:
        raise still_picture()
    duration = _duration(times)
    if duration < settings.min_seconds:
        raise UnreadableVideo(
            "too_short", f"The video lasts {duration:.1f} s; at least {settings.min_seconds:g} s are needed."
        )
    with open_container(path) as container:
        stream = container.streams[number]
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
            has_audio=audio_codec is not None,
            audio_codec=audio_codec,
            problem=sentence(chosen.passed_over),
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
        return sentence(parts)

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
            stream = video_stream(container)
            context = stream.codec_context
            context.thread_type = "AUTO"
            context.thread_count = self._threads
            announced = _announced(container, stream)
            first, shown = self._shown_stamps()
            seen: list[float] = []
            for packet in packets_of(container, stream):
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
            stream = video_stream(container)
            listed = [p.pts for p in packets_of(container, stream) if p is not None and p.size]
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


def _packet_times(container: Any, stream: Any, max_seconds: float) -> list[tuple[float, float]]:
    """Give start and end, in seconds, of every packet without decoding; a broken end of the file is left out."""
    times: list[tuple[float, float]] = []
    usual = 1 / float(stream.average_rate or 25)
    for packet in packets_of(container, stream):
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
    for number, packet in enumerate(packets_of(container, stream)):
        if packet is None or number > _FIRST_PICTURE_PACKETS:
            break
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError):
            continue
        if frames:
            return frames[0]
    raise UnreadableVideo("unreadable", "No picture of the video can be decoded; submit it again.")


def sentence(parts: Sequence[str]) -> str | None:
    """Put what is unusual about a file into one sentence; None where there is nothing."""
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else None


def _refuse_large(width: int, height: int, settings: VideoSettings) -> None:
    if width * height > settings.max_pixels:
        raise UnreadableVideo(
            "too_large", f"Its pictures of {width} x {height} pixels are larger than this project decodes."
        )
