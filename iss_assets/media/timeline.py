"""One clock per video: when each picture is shown and each piece of sound is played.

Time stamps of packets become seconds after the first picture; clocks that break are repaired (``track_clock``) and
pauses are cut (``gaps``). Duration, samples, chunks and sound are all counted on this clock and on no other.

Second 0 is the first picture that can be decoded; whatever a file's edit list hides does not count. Sound before it is
left out. Rules for gaps:

- A gap that picture and sound share is a paused recorder. It is kept, as a held picture and silence, up to
  ``video.longest_pause_s``; a longer one is cut out of both at the same place. Without a sound track nothing
  contradicts a gap in the picture, so it counts as shared.
- A gap in only one of them is kept, however long: the picture is held, or the sound is silent.
- If both clocks start again, the new part follows the old one, and picture and sound stay in step. If only one of them
  jumps while the other continues at the same place in the file, its clock is broken and is repaired.
- The last picture is held as long as the file says, and as long as there is sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from iss_assets.media.container import WITHOUT_EDITS, open_container, packets_of, reopen
from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.gaps import (
    LONG_HOLD_S,
    MIN_REPORTED_S,
    common_spans,
    gap_notes,
    header_notes,
    longer_than,
    remover_of,
    silent_spans,
    times_in_words,
)
from iss_assets.media.streams import ChosenStreams, choose_streams
from iss_assets.media.track_clock import Packets, TrackClock, hide_ignored_edits, make_clock, repair_clocks
from iss_assets.settings import VideoSettings

TIMELINE_CODE_VERSION: Final = "3"
"""Part of the fingerprints: raise it when the same file and settings produce different times than before."""

_FIRST_PICTURE_PACKETS: Final = 5000
"""Packets tried before a stream counts as having no picture: key frames may be minutes apart."""
_TAIL_S: Final = 0.5
"""Sound that outlasts the picture by less than this is the ordinary end of a recording, and no picture is held."""

_REST_BYTES: Final = 20 * 188
_REST_SHARE: Final = 0.02
"""A transport stream with more bytes than this after its last known packet continues with other tracks."""
_MAX_PARTS: Final = 20

_MAX_RECENT: Final = 64
"""Pictures that are remembered to find out which were decoded later than the current one."""
_B_PICTURE: Final = 3
"""FFmpeg's number of pictures that may be shown before those decoded earlier."""


class Pause(NamedTuple):
    """A gap that picture and sound share: where on the timeline, and how many seconds."""

    at_s: float
    length_s: float


class Part(NamedTuple):
    """A part of a file: its first byte and the numbers of its streams; None if it has no such stream."""

    start: int
    video: int | None
    audio: int | None


@dataclass(frozen=True, eq=False)
class Timeline:
    """The clock of one video.

    Attributes
    ----------
    duration_s : float
        Seconds from the first decodable picture to the end; at most ``video.max_seconds``.
    source_fps : float
        Pictures in the file divided by its duration; 0 without pictures.
    pictures : ndarray of float64, shape (n,)
        Second at which the picture of each video packet is first shown, in the file's order; NaN if it never is. In
        files that store times in decoding order, see `in_order`, only the set of times is right.
    sounds : ndarray of float64, shape (m,)
        Second at which each packet of sound begins; negative before the first picture, NaN if it is never played.
    in_order : bool
        Whether the times are in decoding order, so that `PictureClock` has to count pictures as they are decoded.
    cut_short : bool
        Whether the file continues after ``video.max_seconds``.
    parts : tuple of Part
        The parts to read: one, except for transport streams that continue with other tracks.
    cuts, pauses : tuple of Pause
        Pauses cut out of picture and sound, and those that were kept.
    notes : tuple of str
        What is unusual about the file's times, in words for the coordinator.
    """

    duration_s: float
    source_fps: float
    pictures: NDArray[np.float64]
    sounds: NDArray[np.float64]
    in_order: bool = False
    cut_short: bool = False
    parts: tuple[Part, ...] = ()
    cuts: tuple[Pause, ...] = ()
    pauses: tuple[Pause, ...] = ()
    notes: tuple[str, ...] = ()

    def shown(self, moments: NDArray[np.float64]) -> set[int] | None:
        """Return the packets whose pictures are shown at the given times; None if that is not known in advance."""
        there = np.flatnonzero(self.pictures >= 0)
        if self.in_order or not len(there):
            return None
        order = there[np.argsort(self.pictures[there], kind="stable")]
        times = self.pictures[order]
        if (np.diff(times) <= 0).any():
            return None
        places = np.searchsorted(times, moments, side="right") - 1
        return set(order[np.maximum(places, 0)].tolist())

    def next_after(self, time_s: float) -> float | None:
        """Return when the next picture after a time is shown; None if there is none."""
        later = self.pictures[self.pictures > time_s]
        return float(later.min()) if len(later) else None


class PictureClock:
    """Finds when each decoded picture is shown; the packet's number passes through the decoder as its time stamp.

    Parameters
    ----------
    timeline : Timeline
        The timeline of the file.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.reordered = False
        self._timeline = timeline
        self._last: int | None = None
        self._recent: list[int] = []

    def time_of(self, frame: av.VideoFrame, damaged: bool) -> float | None:
        """Return the time at which a picture is first shown; None if it never is.

        Parameters
        ----------
        frame : av.VideoFrame
            As decoded, in display order; ``pts`` is the number of its packet.
        damaged : bool
            Whether the decoder has failed on a packet so far.
        """
        number, times = frame.pts, self._timeline.pictures
        if self._timeline.in_order:
            number = self._rank(number, int(frame.pict_type) == _B_PICTURE, damaged)
        if number is None or not 0 <= number < len(times) or np.isnan(times[number]):
            return None
        return float(times[number])

    def _rank(self, number: int | None, between: bool, damaged: bool) -> int:
        """Return a picture's position in display order, counting lost pictures.

        A reference picture is preceded by all that were decoded earlier and by those decoded later that were already
        returned, so its position is certain whatever was lost. Other pictures follow the previous one.
        """
        after = 0 if self._last is None else self._last + 1
        if number is None:
            self._last = after
            return after
        later = sum(other > number for other in self._recent)
        self.reordered |= later > 0
        if not between or self._last is None or (damaged and not self.reordered):
            rank = max(number + later, after)
        else:
            rank = after
        self._recent = [*self._recent[-_MAX_RECENT:], number]
        self._last = rank
        return rank


def read_timeline(path: Path, settings: VideoSettings) -> Timeline:
    """Compute the timeline of a file.

    Parameters
    ----------
    path : Path
        Any file with picture or sound.
    settings : VideoSettings
        `longest_pause_s` and `max_seconds` are applied.

    Raises
    ------
    UnreadableVideo
        If the file cannot be opened as media.
    """
    with open_container(path) as container:
        return measure_time(container, choose_streams(container), settings)[0]


def measure_time(
    container: Any, streams: ChosenStreams, settings: VideoSettings
) -> tuple[Timeline, av.VideoFrame | None]:
    """Read the packets of an open file and compute its timeline; only the first picture is decoded.

    Parameters
    ----------
    container : av.container.InputContainer
        At its beginning.
    streams : ChosenStreams
        The chosen streams.
    settings : VideoSettings
        `longest_pause_s` and `max_seconds` are applied.

    Returns
    -------
    timeline : Timeline
    first : av.VideoFrame or None
        The first picture; None if none can be decoded.
    """
    streams = _earliest(container, streams)
    pictures, sounds = Packets(streams.video), Packets(streams.audio)
    reader = _Reader(pictures, sounds, settings)
    parts = [reader.read(container, streams, 0)]
    known_ids = {streams.video.id} if streams.video is not None else set()
    while (after := reader.rest(container)) is not None and len(parts) < _MAX_PARTS:
        try:
            with open_container(Path(container.name), after) as rest:
                continued = _earliest(rest, choose_streams(rest))
                if continued.video is None or continued.video.id in known_ids:
                    break
                parts.append(reader.read(rest, continued, after))
                known_ids.add(continued.video.id)
        except UnreadableVideo:
            break
    notes = []
    if WITHOUT_EDITS.items() <= container.options.items():
        notes.append("its edit list would hide every picture and was not followed")
    if len(parts) > 1:
        notes.append(
            f"the file continues with other tracks {times_in_words(len(parts) - 1)}, and the parts were joined"
        )
    made = _build_timeline(container, pictures, sounds, reader, settings)
    return replace(made, parts=tuple(parts), notes=(*made.notes, *notes)), reader.first


def _earliest(container: Any, streams: ChosenStreams) -> ChosenStreams:
    """Return the first of several tracks that follow each other in a transport stream; else the chosen streams.

    A recorder that starts again may number its tracks differently. In a short file all of them are known at once.
    """
    if container.format.name != "mpegts" or len(container.streams.video) < 2 or streams.video is None:
        return streams
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    with reopen(container) as own:
        tracks = [s for s in own.streams if s.type in ("video", "audio") and s.codec_context is not None]
        for packet in packets_of(own, *tracks):
            if packet is not None and packet.pos is not None:
                begins.setdefault(packet.stream_index, packet.pos)
                ends[packet.stream_index] = packet.pos

    def first(kind: str, before: int) -> Any | None:
        early = [s for s in container.streams if s.type == kind and ends.get(s.index, before) < before]
        return min(early, key=lambda s: begins[s.index], default=None)

    video = first("video", begins.get(streams.video.index, 0))
    if video is None:
        return streams
    later = min(
        begins[s.index] for s in container.streams.video if begins.get(s.index, -1) > ends[video.index]
    )
    return replace(streams, video=video, audio=first("audio", later))


class _Reader:
    """Reads the packets of a file, or of several parts of one, and decodes the first picture."""

    def __init__(self, pictures: Packets, sounds: Packets, settings: VideoSettings) -> None:
        self.first: av.VideoFrame | None = None
        self.cut_short = False
        self._pictures, self._sounds, self._settings = pictures, sounds, settings
        self._place = self._end = 0
        self._elapsed = 0.0

    def read(self, container: Any, streams: ChosenStreams, start: int) -> Part:
        """Record all packets of the chosen streams of a container that begins at byte `start` of the file."""
        video, audio = streams.video, streams.audio
        last: int | None = None
        for packet in packets_of(container, *(s for s in (video, audio) if s is not None)):
            if packet is None or not packet.size:
                continue
            self._place += 1
            self._end = max(self._end, start + (packet.pos or 0))
            if video is None or packet.stream_index != video.index:
                self._sounds.add(packet, self._place)
                continue
            number = self._pictures.add(packet, self._place)
            now = packet.dts if packet.dts is not None else packet.pts
            if last is not None and now is not None:
                step = float((now - last) * video.time_base)
                self._elapsed += min(max(step, 0.0), self._settings.longest_pause_s)
            last = now if now is not None else last
            if self.first is None and number < _FIRST_PICTURE_PACKETS:
                self.first = next(iter(decode(video, packet, number) or ()), None)
            if self._elapsed > self._settings.max_seconds + self._settings.longest_pause_s:
                self.cut_short = True
                break
        if self.first is None and video is not None:
            self.first = next(iter(decode(video, None, 0) or ()), None)
        return Part(start, None if video is None else video.index, None if audio is None else audio.index)

    def rest(self, container: Any) -> int | None:
        """Return the byte from which a transport stream contains packets of other streams; None if it does not."""
        if container.format.name != "mpegts" or self.cut_short or not self._pictures.count:
            return None
        size = Path(container.name).stat().st_size
        return self._end + 1 if size - self._end > max(_REST_BYTES, _REST_SHARE * size) else None


def decode(stream: Any, packet: Any | None, number: int) -> Sequence[av.VideoFrame] | None:
    """Decode a video packet.

    Parameters
    ----------
    stream : av.VideoStream
        The packet's stream.
    packet : av.Packet or None
        None flushes the decoder. Its time stamps are overwritten.
    number : int
        The packet's number, which becomes its time stamp.

    Returns
    -------
    sequence of av.VideoFrame or None
        Pictures in display order, whose ``pts`` is the number of their packet; None if the packet is damaged.
    """
    if packet is not None:
        packet.pts, packet.dts = number, None
    try:
        return stream.codec_context.decode(packet)  # type: ignore[no-any-return]
    except (av.error.FFmpegError, ValueError):
        return None


def _build_timeline(
    container: Any, pictures: Packets, sounds: Packets, reader: _Reader, settings: VideoSettings
) -> Timeline:
    pause = settings.longest_pause_s
    audio = make_clock(container, sounds, False) if sounds.count else None
    if not pictures.count:
        return _sound_only(audio)
    video = make_clock(container, pictures, True)
    edit_notes = hide_ignored_edits(container, ((pictures, video), (sounds, audio)))
    for track in (video, audio):
        if track is not None:
            track.pass_over_hidden()
    joined, broken = repair_clocks(video, audio, pause)
    notes = [] if joined or broken or reader.cut_short else header_notes(container, pictures, video, audio)
    notes += edit_notes
    first = None if reader.first is None else reader.first.pts
    origin = float(video.stamps[first] if first is not None else video.stamps.min())
    late = origin - float(video.stamps[~video.hidden].min()) if (~video.hidden).any() else 0.0
    times, order, step, end = _picture_times(video, origin)
    spans: NDArray[np.float64] = np.zeros((0, 2))
    if audio is not None:
        spans, unrelated = _sound_spans(audio, origin, max(late, 0.0), end, pause)
        if unrelated:
            notes.append("picture and sound have unrelated clocks and were taken to begin together")
    gaps = longer_than(np.stack([order + step, np.append(order[1:], end)], axis=1), LONG_HOLD_S)
    shared = common_spans(gaps, silent_spans(spans), MIN_REPORTED_S)
    # the last picture's hold is no pause, since nothing follows it: the file says that it is shown for that long
    cuts = [(a, b) for a, b in shared if b - a > pause and a < order[-1]]
    cut = remover_of(cuts)
    kept = [(float(cut(np.array([a]))[0]), b - a) for a, b in shared if (a, b) not in cuts]
    early = -float(spans[0, 0]) if len(spans) else 0.0
    end = float(cut(np.array([end]))[0])
    sound_end = float(cut(np.array([spans[:, 1].max()]))[0]) if len(spans) else -np.inf
    if sound_end > end + _TAIL_S:
        notes.append(
            f"the last picture is held for the last {sound_end - end:.1f} s, while the sound continues"
        )
        end = sound_end
    times = cut(times)
    duration = min(end, settings.max_seconds)
    notes += gap_notes(gaps, cuts, kept if len(spans) else [], cut, late, early, joined, broken)
    return Timeline(
        duration_s=duration,
        source_fps=int((times < duration).sum()) / duration if duration > 0 else 0.0,
        pictures=times,
        sounds=_sound_times(audio, cut(audio.stamps - origin)) if audio is not None else np.zeros(0),
        in_order=video.in_order,
        cut_short=reader.cut_short or end > duration,
        cuts=tuple(Pause(float(cut(np.array([a]))[0]), b - a) for a, b in cuts),
        pauses=tuple(Pause(at, length) for at, length in kept),
        notes=tuple(notes),
    )


def _picture_times(
    video: TrackClock, origin: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Return each packet's time after `origin` (NaN if hidden), the sorted times, their usual step, and the end."""
    times = np.where(video.hidden, np.nan, video.stamps - origin)
    times[times < 0] = np.nan
    order = np.unique(times[~np.isnan(times)])
    if not len(order):
        order = np.zeros(1)
    step = float(np.median(np.diff(order))) if len(order) > 1 else video.step
    last = np.flatnonzero(times == order[-1])
    length = float(video.length[last[-1]]) if len(last) else 0.0
    # some writers give the last picture a length of one tick
    end = float(order[-1]) + (length if length > min(step, video.step) / 2 else step)
    return times, order, step, end


def _sound_spans(
    audio: TrackClock, origin: float, late: float, end: float, pause: float
) -> tuple[NDArray[np.float64], bool]:
    """Return start and end of each packet of sound after `origin`, and whether its clock was unrelated to the picture's.

    An unrelated clock is shifted so that picture and sound begin together.
    """
    spans = (np.stack([audio.stamps, audio.stamps + audio.length], axis=1) - origin)[~audio.hidden]
    if not len(spans) or not (spans[0, 0] > end + pause or spans[-1, 1] < -late - pause):
        return spans, False
    shift = -late - float(spans[0, 0])
    audio.shift(0, shift)
    return spans + shift, True


def _sound_times(audio: TrackClock, times: NDArray[np.float64]) -> NDArray[np.float64]:
    times = times.copy()
    times[audio.muted] = np.nan
    return times


def _sound_only(audio: TrackClock | None) -> Timeline:
    """Return the timeline of a file without pictures: second 0 is the first sound."""
    if audio is None or audio.hidden.all():
        return Timeline(0.0, 0.0, np.zeros(0), np.zeros(0))
    begin = float(audio.stamps[~audio.hidden].min())
    end = float((audio.stamps + audio.length).max())
    return Timeline(end - begin, 0.0, np.zeros(0), audio.stamps - begin)
