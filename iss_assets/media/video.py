"""Reading a video file: what it contains (`probe`), and its pictures sampled ten times per second (`sample_frames`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from iss_assets.media.color import transfer_name
from iss_assets.media.container import open_container, packets_of
from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.streams import choose_streams, still_picture
from iss_assets.media.timeline import PictureClock, Timeline, decode, measure_time, read_timeline
from iss_assets.media.upright import PictureTags, orientation_of, upright_size
from iss_assets.settings import VideoSettings

_BATCH_BYTES = 32 * 2**20
"""Maximum bytes of pictures per batch, so that 4K and 8K videos take no more memory than others."""

_TOLERANCE = 1e-6
"""Seconds by which a time stamp may be after the sampled time: floating-point rounding only."""


@dataclass(frozen=True)
class VideoInfo:
    """What a readable video file contains.

    Attributes
    ----------
    container, codec : str
        FFmpeg's names.
    width, height : int
        Size in pixels of the first picture, upright and with square pixels.
    rotation : int
        Degrees, counterclockwise, by which the file's metadata turn the stored picture: a multiple of 90.
    source_fps : float
        Pictures in the file divided by its duration.
    duration_s : float
        Length of the timeline: from the first decodable picture to the end. Headers are not used.
    has_audio : bool
        Whether there is a sound track that can be decoded.
    audio_codec : str or None
        FFmpeg's name of that track's codec.
    problem : str or None
        What is unusual about the file, in words for the coordinator.
    transfer : str
        FFmpeg's name of the first picture's transfer characteristic (``bt709``, ``smpte2084`` and ``arib-std-b67``
        for HDR, ...), ``unknown`` if the file does not say.
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
    transfer: str = "unknown"


class SampledFrame(NamedTuple):
    """One sample: its number, the time on the timeline at which its frame is first shown, and the stored frame."""

    frame_index: int
    time_s: float
    frame: av.VideoFrame


def probe(path: Path, settings: VideoSettings) -> VideoInfo:
    """Find out what a file contains, and verify that at least one of its pictures can be decoded.

    Parameters
    ----------
    path : Path
        Any file.
    settings : VideoSettings
        `max_pixels` and `min_seconds` are applied.

    Raises
    ------
    UnreadableVideo
        With the status for the table of videos and a message for coordinators that reveals neither name nor content.
    """
    return open_video(path, settings)[0]


def open_video(path: Path, settings: VideoSettings) -> tuple[VideoInfo, Timeline]:
    """Do what `probe` does, and also return the timeline, so that sampling does not have to compute it again.

    Parameters and errors are those of `probe`.
    """
    with open_container(path) as container:
        chosen = choose_streams(container)
        if chosen.no_video is not None:
            raise chosen.no_video
        context = chosen.video.codec_context
        _refuse_large(context.width, context.height, settings)
        tags = PictureTags(chosen.video)
        timeline, first = measure_time(container, chosen, settings)
        if not len(timeline.pictures):
            raise UnreadableVideo("unreadable", "The file names a video stream and holds nothing of it.")
        if len(timeline.pictures) == 1:
            raise still_picture()
        if first is None:
            raise UnreadableVideo("unreadable", "No picture of the video can be decoded; submit it again.")
        width, height = upright_size(tags(first))
        _refuse_large(max(width, first.width), max(height, first.height), settings)
        if timeline.duration_s < settings.min_seconds:
            raise UnreadableVideo(
                "too_short",
                f"The video lasts {timeline.duration_s:.1f} s; at least {settings.min_seconds:g} s are needed.",
            )
        info = VideoInfo(
            container=container.format.name,
            codec=context.name,
            width=width,
            height=height,
            rotation=orientation_of(first).rotation,
            source_fps=timeline.source_fps,
            duration_s=timeline.duration_s,
            has_audio=chosen.audio is not None,
            audio_codec=chosen.audio.codec_context.name if chosen.audio is not None else None,
            problem=sentence([*chosen.passed_over, *tags.notes, *timeline.notes]),
            transfer=transfer_name(first.color_trc),
        )
    return info, timeline


def sample_frames(
    path: Path, settings: VideoSettings, threads: int = 0, timeline: Timeline | None = None
) -> FrameSampler:
    """Return the frames shown at times 0, 1/fps, 2/fps, ... after the first frame, in batches.

    Sample k is the last frame whose time on the video's timeline is not after k/fps. So a variable frame rate is
    sampled evenly, a frame is repeated only if the source shows it for longer, and there are as many samples as fit
    into the duration.

    Parameters
    ----------
    path : Path
        A file that `probe` accepts.
    settings : VideoSettings
        Rate, batch size and limits.
    threads : int, optional
        Decoding threads; 0 lets FFmpeg decide.
    timeline : Timeline, optional
        The timeline of this file, if it is already known.

    Returns
    -------
    FrameSampler
        Iterate over it once; afterwards its `problem` describes what was wrong with the file, if anything.
    """
    return FrameSampler(path, settings, threads, timeline)


class FrameSampler:
    """Iterator over batches of `SampledFrame`; see `sample_frames`.

    Attributes
    ----------
    problem : str or None
        What was wrong, in words for the coordinator; complete only after the last batch.
    """

    def __init__(
        self, path: Path, settings: VideoSettings, threads: int = 0, timeline: Timeline | None = None
    ) -> None:
        self._path = path
        self._settings = settings
        self._threads = threads
        self._timeline = timeline
        self._broken_packets = 0
        self._timed_by_order = False
        self._cut_short = False
        self._missing_s = 0.0

    @property
    def problem(self) -> str | None:
        """What was wrong, in words for the coordinator; complete only after the last batch."""
        parts = []
        if self._broken_packets:
            parts.append(f"{self._broken_packets} broken pieces of the video were left out")
        if self._timed_by_order:
            parts.append("the file gives no times of its pictures, which were timed by their order")
        if self._missing_s > 1:
            parts.append(f"no picture can be decoded in the last {self._missing_s:.0f} s")
        if self._cut_short:
            parts.append(f"only the first {self._settings.max_seconds:g} s were read")
        return sentence(parts)

    def __iter__(self) -> Iterator[list[SampledFrame]]:
        """Decode the video and yield batches.

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
        fps = self._settings.fps
        timeline = self._timeline or read_timeline(self._path, self._settings)
        self._cut_short = timeline.cut_short
        index, shown_at = 0, 0.0
        shown: av.VideoFrame | None = None
        for time_s, frame in self._timed_frames(timeline):
            while shown is not None and index / fps < min(time_s, timeline.duration_s) - _TOLERANCE:
                yield SampledFrame(index, shown_at, shown)
                index += 1
            if time_s >= timeline.duration_s - _TOLERANCE:
                break
            shown, shown_at = frame, time_s
        if shown is None:
            return
        # the last picture is held to the end; one followed by undecodable ones only as long as it was shown
        end = timeline.next_after(shown_at)
        if end is None or end > timeline.duration_s:
            end = timeline.duration_s
        self._missing_s = timeline.duration_s - end
        while index / fps < end - _TOLERANCE:
            yield SampledFrame(index, shown_at, shown)
            index += 1

    def _timed_frames(self, timeline: Timeline) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield every frame with its time, in ascending order of time."""
        clock, last = PictureClock(timeline), -1.0
        for frame in self._decoded(timeline):
            time_s = clock.time_of(frame, damaged=self._broken_packets > 0)
            self._timed_by_order |= clock.reordered
            if time_s is not None and time_s >= last:
                last = time_s
                yield time_s, frame

    def _decoded(self, timeline: Timeline) -> Iterator[av.VideoFrame]:
        samples = int(timeline.duration_s * self._settings.fps) + 2
        shown = timeline.shown(np.arange(samples) / self._settings.fps + _TOLERANCE)
        number = 0
        for part in timeline.parts:
            if part.video is None:
                continue
            with open_container(self._path, part.start) as container:
                stream = container.streams[part.video]
                context = stream.codec_context
                context.thread_type = "AUTO"
                context.thread_count = self._threads
                tags, intact = PictureTags(stream), True
                for packet in packets_of(container, stream):
                    if packet is None:
                        self._broken_packets += 1
                        continue
                    if not packet.size:
                        continue
                    intact |= packet.is_keyframe
                    # a frame that is neither sampled nor a reference for others does not have to be decoded; after
                    # damage it may be the only one left
                    skip = shown is not None and intact and number not in shown
                    context.skip_frame = "NONREF" if skip else "DEFAULT"
                    frames = decode(stream, packet, number)
                    if frames is None:
                        self._broken_packets += 1
                        intact = False
                    yield from self._checked(frames, tags)
                    number += 1
                yield from self._checked(decode(stream, None, number), tags)

    def _checked(self, frames: Sequence[av.VideoFrame] | None, tags: PictureTags) -> Iterator[av.VideoFrame]:
        for frame in frames or ():
            _refuse_large(frame.width, frame.height, self._settings)
            yield tags(frame)


def sentence(parts: Sequence[str]) -> str | None:
    """Join notes on a file into one sentence; return None if there are none."""
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else None


def _refuse_large(width: int, height: int, settings: VideoSettings) -> None:
    if width * height > settings.max_pixels:
        raise UnreadableVideo(
            "too_large", f"Its pictures of {width} x {height} pixels are larger than this project decodes."
        )
