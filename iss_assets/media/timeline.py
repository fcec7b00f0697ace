"""One clock per video: when each picture is shown and each piece of sound is heard.

Belongs here: turning the time stamps of a file's packets into seconds after its first picture, repairing clocks that
break, and cutting pauses. Duration, samples, chunks and sound are all counted on this clock, and on no other.
Does not belong here: choosing streams (``streams``), decoding (``video``, ``audio``), what a gap means for a video's
quality (``quality``).

Second 0 is the first picture that can be decoded; what a file's edit list hides does not count. Sound before it is
left out. Rules for gaps:

- A gap that picture and sound share is a paused recorder. It is kept, as a held picture and silence, up to
  ``video.longest_pause_s``; a longer one is cut out of both at the same place. Without a sound track nothing
  contradicts a gap of the picture, so it counts as shared.
- A gap that only one of them has is kept, however long: the picture is held, or the sound is silent.
- A clock that starts again in both is one cut: the new part follows the old one, in step as before. A jump that only
  one of them makes, though the other goes on beside it in the file, is a broken clock, and goes on as well.
- The last picture is held as long as the file says, and for as long as there is sound.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from iss_assets.media.container import WITHOUT_EDITS, open_container, packets_of, reopen
from iss_assets.media.edits import unfollowed_edits
from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.streams import ChosenStreams, choose_streams
from iss_assets.settings import VideoSettings

TIMELINE_CODE_VERSION: Final = "3"
"""Raised when the same file and settings give other times than before."""

_FIRST_PICTURE_PACKETS: Final = 5000
"""Packets tried before a stream counts as without a picture: key frames may lie minutes apart."""
_BACK_S: Final = 1.0
"""Decoding order jitters; a clock that goes back further than this has started again."""
_DELAY: Final = 17
"""No codec decodes a picture more than sixteen pictures before it is shown."""
_REORDER_S: Final = 5.0
"""Seconds beyond that from which a stamp is wrong."""
_NEAR: Final = 64
"""Packets around a jump in which the other stream is looked at: one to three seconds of sound, two of pictures."""
_TAIL_S: Final = 0.5
"""Sound that outlasts the picture by less is the ordinary end of a recording, and holds no picture."""
_LONG_SOUND_S: Final = 2.0
"""A packet of sound longer than this, and than four usual ones, is a gap that the file's writer did not mark."""
_WORTH_SAYING_S: Final = 0.5
"""A late start, or sound before the picture, is reported from here on."""
_ROUNDING_S: Final = 1e-3
"""Times of an edit list are rounded to the movie's time scale, usually thousandths of a second."""
_HELD_S: Final = 2.0
"""A picture that is held longer is reported; FFmpeg's ``freezedetect`` asks for as much."""
_PROMISED_S: Final = 1.0
"""A header that promises this much more than there is, is reported."""

_REST_BYTES: Final = 20 * 188
_REST_SHARE: Final = 0.02
"""A transport stream that holds more than this after its last known packet goes on with other tracks."""
_MOST_PARTS: Final = 20

_NO_STAMPS: Final = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo", "vc1"})
"""Containers that keep no presentation times; FFmpeg makes them up in the order of decoding."""
_REORDERING: Final = frozenset(
    {
        "h264",
        "hevc",
        "vvc",
        "mpeg4",
        "msmpeg4v3",
        "mpeg1video",
        "mpeg2video",
        "vc1",
        "wmv3",
        "rv30",
        "rv40",
        "cavs",
    }
)
"""Codecs that may show pictures in another order than they are decoded."""
_B_PICTURE: Final = 3
"""FFmpeg's number of pictures that may be shown before those decoded earlier."""

_NOTHING: Final = -(2**63)


class Pause(NamedTuple):
    """A gap that picture and sound share: where on the timeline, and how many seconds."""

    at_s: float
    length_s: float


class Part(NamedTuple):
    """A stretch of a file: the byte at which it begins, and the numbers of its streams; None where there is none."""

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
        Pictures of the file over its duration; 0 without pictures.
    pictures : ndarray of float64, shape (n,)
        When the picture of each packet of the video is first shown, in the file's order; NaN where it never is.
        In files that give times in the order of decoding, see `in_order`, only the set of times is right.
    sounds : ndarray of float64, shape (m,)
        When each packet of sound begins; negative before the first picture, NaN where it is never heard.
    in_order : bool
        Whether the times come in the order of decoding, so that `PictureClock` has to count pictures as they come
        out of the decoder.
    cut_short : bool
        Whether the file goes on after ``video.max_seconds``.
    parts : tuple of Part
        Where to read. One, but for transport streams that go on with other tracks.
    cuts, pauses : tuple of Pause
        Pauses cut out of picture and sound, and those that were kept.
    notes : tuple of str
        What is unusual about the file's times, in words.
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
        """Name the packets whose pictures are shown at some moments; None where they cannot be told beforehand."""
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
        """Return when the next picture after a moment is shown, None where there is none."""
        later = self.pictures[self.pictures > time_s]
        return float(later.min()) if len(later) else None


class PictureClock:
    """Tells when each decoded picture is shown; the packet's number travels through the decoder as its time stamp.

    Parameters
    ----------
    timeline : Timeline
        Of the file that is decoded.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.reordered = False
        self._timeline = timeline
        self._last: int | None = None
        self._recent: list[int] = []

    def time_of(self, frame: av.VideoFrame, damaged: bool) -> float | None:
        """Return the moment from which a picture is shown, None where it never is.

        Parameters
        ----------
        frame : av.VideoFrame
            As the decoder gives it, in order of display; ``pts`` is the number of its packet.
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
        """Return a picture's place in the order of display, lost pictures counted.

        Before a picture that others refer to come all that were decoded earlier, and those decoded later that are out
        already: so its place is certain whatever was lost. Others follow the one before.
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
        self._recent = [*self._recent[-_NEAR:], number]
        self._last = rank
        return rank


def read_timeline(path: Path, settings: VideoSettings) -> Timeline:
    """Make the timeline of a file.

    Parameters
    ----------
    path : Path
        Any file with picture or sound.
    settings : VideoSettings
        `longest_pause_s` and `max_seconds` are obeyed.

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
    """Read the packets of an open file and make its timeline; nothing but the first picture is decoded.

    Parameters
    ----------
    container : av.container.InputContainer
        At its beginning.
    streams : ChosenStreams
        The streams that count.
    settings : VideoSettings
        `longest_pause_s` and `max_seconds` are obeyed.

    Returns
    -------
    (Timeline, av.VideoFrame or None)
        The first picture is None where none can be decoded.
    """
    streams = _earliest(container, streams)
    pictures, sounds = _Packets(streams.video), _Packets(streams.audio)
    reader = _Reader(pictures, sounds, settings)
    parts = [reader.read(container, streams, 0)]
    seen = {streams.video.id} if streams.video is not None else set()
    while (after := reader.rest(container)) is not None and len(parts) < _MOST_PARTS:
        try:
            with open_container(Path(container.name), after) as rest:
                goes_on = _earliest(rest, choose_streams(rest))
                if goes_on.video is None or goes_on.video.id in seen:
                    break
                parts.append(reader.read(rest, goes_on, after))
                seen.add(goes_on.video.id)
        except UnreadableVideo:
            break
    notes = []
    if WITHOUT_EDITS.items() <= container.options.items():
        notes.append("its edit list would hide every picture and was not followed")
    if len(parts) > 1:
        notes.append(
            f"the file goes on with other tracks {_times(len(parts) - 1)}, and the parts were joined"
        )
    made = _timeline(container, pictures, sounds, reader, settings)
    return replace(made, parts=tuple(parts), notes=(*made.notes, *notes)), reader.first


def _earliest(container: Any, streams: ChosenStreams) -> ChosenStreams:
    """Return the first of several tracks that follow each other in a transport stream; else what was chosen.

    A recorder that starts again may give its tracks other numbers. In a short file all of them are known at once.
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
    """Goes through the packets of a file, or of several parts of one, and decodes the first picture."""

    def __init__(self, pictures: _Packets, sounds: _Packets, settings: VideoSettings) -> None:
        self.first: av.VideoFrame | None = None
        self.cut_short = False
        self._pictures, self._sounds, self._settings = pictures, sounds, settings
        self._place = self._end = 0
        self._elapsed = 0.0

    def read(self, container: Any, streams: ChosenStreams, start: int) -> Part:
        """Note all packets of the chosen streams of a container that begins at byte `start` of the file."""
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
        """Return the byte from which on a transport stream holds packets of other streams; None if it does not."""
        if container.format.name != "mpegts" or self.cut_short or not self._pictures.count:
            return None
        size = Path(container.name).stat().st_size
        return self._end + 1 if size - self._end > max(_REST_BYTES, _REST_SHARE * size) else None


def decode(stream: Any, packet: Any | None, number: int) -> Sequence[av.VideoFrame] | None:
    """Decode a packet of pictures; None gives what the decoder still holds.

    Returns
    -------
    sequence of av.VideoFrame or None
        Pictures in order of display, whose ``pts`` is the number of the packet that they came with; None where the
        packet is damaged.
    """
    if packet is not None:
        packet.pts, packet.dts = number, None
    try:
        return stream.codec_context.decode(packet)  # type: ignore[no-any-return]
    except (av.error.FFmpegError, ValueError):
        return None


@dataclass
class _Packets:
    """What a stream's packets say, in the file's order; numbers are in the stream's time base."""

    stream: Any | None
    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("q"))
    place: array[int] = field(default_factory=lambda: array("q"))
    hidden: array[int] = field(default_factory=lambda: array("b"))

    @property
    def count(self) -> int:
        return len(self.pts)

    def add(self, packet: Any, place: int) -> int:
        """Note a packet and give its number."""
        self.pts.append(_NOTHING if packet.pts is None else packet.pts)
        self.dts.append(_NOTHING if packet.dts is None else packet.dts)
        self.length.append(packet.duration or 0)
        self.place.append(place)
        self.hidden.append(packet.is_discard)
        return len(self.pts) - 1

    def seconds(self, name: str) -> NDArray[np.float64]:
        """Return ``pts``, ``dts`` or ``length`` in seconds, NaN where there is none."""
        numbers = np.array(getattr(self, name), np.int64)
        base = self.stream.time_base if self.stream is not None else Fraction(1)
        # numerator and denominator apart, so that 1001/30000 stays as exact as it was
        values = numbers * float(base.numerator) / float(base.denominator)
        values[numbers == _NOTHING] = np.nan
        return values  # type: ignore[no-any-return]


@dataclass
class _Track:
    """A stream's clock.

    Attributes
    ----------
    stamps : ndarray
        When each packet is shown or heard.
    clock : ndarray
        A clock that grows in the file's order, as long as it is not broken.
    length : ndarray
        Seconds of each packet, 0 where unknown.
    place : ndarray
        The packet's place in the file among those of both streams.
    hidden : ndarray of bool
        Packets that an edit list leaves out.
    step : float
        Usual seconds between two packets.
    muted : ndarray of int
        Hidden packets whose content the decoder gives all the same.
    """

    stamps: NDArray[np.float64]
    clock: NDArray[np.float64]
    length: NDArray[np.float64]
    place: NDArray[np.int64]
    hidden: NDArray[np.bool_]
    step: float
    in_order: bool = False
    muted: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def pass_over_hidden(self) -> None:
        """Return packets that an edit list leaves out the clock of the next one that counts.

        They prepare the decoder for a segment, and their own clock lies within the segment before: no restart.
        """
        counts = np.flatnonzero(~self.hidden)
        if len(counts):
            following = np.searchsorted(counts, np.arange(len(self.clock)))
            self.clock = self.clock[counts[np.minimum(following, len(counts) - 1)]]

    def shift(self, since: int, seconds: float) -> None:
        """Move everything from packet `since` on, and the pictures decoded before it that are shown after it."""
        if seconds < 0:
            near = slice(max(0, since - _DELAY), since)
            self.stamps[near][self.stamps[near] > self.clock[since] + seconds / 2] += seconds
        self.stamps[since:] += seconds
        self.clock[since:] += seconds

    def end_before(self, number: int) -> float:
        """Return when the packets before `number` end."""
        near = slice(max(0, number - _NEAR), number)
        return float((self.stamps[near] + np.minimum(self.length[near], self.step)).max())

    def start_from(self, number: int) -> float:
        """Return when the packets from `number` on begin."""
        return float(self.stamps[number : number + _NEAR].min())

    def at(self, place: int) -> float:
        """Return the clock at a place in the file."""
        return float(self.clock[min(int(np.searchsorted(self.place, place)), len(self.place) - 1)])


def _track(container: Any, packets: _Packets, is_video: bool) -> _Track:
    pts, dts, length = (packets.seconds(name) for name in ("pts", "dts", "length"))
    rate = getattr(packets.stream, "average_rate", None)
    usual = float(1 / rate) if rate else 0.04
    moves = np.diff(pts if np.isnan(dts).any() else dts)
    moves = moves[moves > 0]
    step = float(np.median(moves)) if len(moves) else usual
    place, hidden = np.array(packets.place, np.int64), np.array(packets.hidden, bool)
    codec = packets.stream.codec_context.name if packets.stream is not None else ""
    if not is_video:
        stamps = _filled(np.where(np.isnan(pts), dts, pts), step)
        length = np.where(length > max(_LONG_SOUND_S, 4 * step), step, length)
        # where an edit list repeats or hides sound, FFmpeg lets the last packet last to the end of the media
        if len(length) and length[-1] > 4 * step:
            length[-1] = step
        return _Track(stamps, stamps.copy(), np.where(length > 0, length, step), place, hidden, step)
    known = ~np.isnan(pts)
    without = bool(_NO_STAMPS & set(container.format.name.split(",")))
    made_up = without and bool((np.diff(pts[known]) > 0).all())
    if codec in _REORDERING and (made_up or _stands_still(pts) or not known.all()):
        clock = _filled(dts, step)
        if _stands_still(clock):
            clock = np.arange(len(clock)) * usual
            step = usual
        stamps = clock + (np.nanmin(pts) - clock.min() if known.any() and not made_up else 0.0)
        return _Track(stamps, clock, length, place, hidden, step, in_order=True)
    stamps = _filled(pts, step)
    clock = _filled(np.where(np.isnan(dts), stamps, dts), step)
    if without:
        # what FFmpeg makes up begins late by the time that decoding takes
        stamps = stamps - stamps.min() + clock.min()
    # a picture is shown about when one of the next ones is decoded
    ahead = np.stack([np.append(clock[n:], np.full(n, np.inf)) for n in range(min(_DELAY, len(clock)))])
    odd = (stamps > ahead.max(axis=0) + _REORDER_S) | (stamps < ahead.min(axis=0) - _REORDER_S)
    stamps = np.where(odd, clock + np.median(stamps - clock), stamps)
    in_order = codec in _REORDERING and bool((np.diff(stamps) > 0).all())
    return _Track(stamps, clock, length, place, hidden, step, in_order)


def _follow_edits(container: Any, tracks: Sequence[tuple[_Packets, _Track | None]]) -> list[str]:
    """Hide what FFmpeg gives at the place of an empty edit or a held picture; give notes on what is not followed."""
    if "mov" not in container.format.name.split(",") or container.options.get("ignore_editlist"):
        return []
    edits = unfollowed_edits(Path(container.name))
    other_speed = False
    for packets, track in tracks:
        if track is None or packets.stream is None:
            continue
        for edit in edits.get(packets.stream.id, []):
            if not edit.is_blank:
                other_speed = True
                continue
            within = (track.stamps >= edit.start_s - _ROUNDING_S) & (track.stamps < edit.end_s - _ROUNDING_S)
            places = np.flatnonzero(within & ~track.hidden)
            if not len(places):
                continue
            track.hidden[places] = True
            track.muted = np.union1d(track.muted, places)
            if edit.media_s is not None and packets.stream.type == "video":
                held = places[int(np.argmin(track.stamps[places]))]
                track.hidden[held] = False
                track.length[held] = edit.end_s - edit.start_s
    return ["its edit list asks for another speed, which was not followed"] if other_speed else []


def _stands_still(stamps: NDArray[np.float64]) -> bool:
    """Return whether most stamps are those of the packet before."""
    return len(stamps) > 1 and float((np.diff(stamps) == 0).mean()) > 0.6


def _filled(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Return stamps to packets without one, by their place between their neighbors."""
    known = np.flatnonzero(~np.isnan(values))
    numbers = np.arange(len(values))
    if not len(known):
        return numbers * step
    filled = np.interp(numbers, known, values[known])
    filled[: known[0]] = values[known[0]] - step * (known[0] - numbers[: known[0]])
    filled[known[-1] :] = values[known[-1]] + step * (numbers[known[-1] :] - known[-1])
    return filled


def _jumps(track: _Track, pause: float) -> list[int]:
    """Name the packets before which a clock goes back, or far ahead."""
    moves = np.diff(track.clock)
    return (np.flatnonzero((moves < -_BACK_S) | (moves > pause)) + 1).tolist()


def _mend(video: _Track, audio: _Track | None, pause: float) -> tuple[int, int]:
    """Repair clocks that start again or break; give the number of parts that were joined and of jumps undone."""
    seen = _jumps(video, pause)
    heard = _jumps(audio, pause) if audio is not None else []
    moved_v = {i: float(video.clock[i] - video.clock[i - 1]) for i in seen}
    moved_a = {i: float(audio.clock[i] - audio.clock[i - 1]) for i in heard} if audio is not None else {}
    joined = broken = 0
    while seen or heard:
        v, a = (seen[0] if seen else None), (heard[0] if heard else None)
        if v is not None and a is not None and audio is not None and _alike(moved_v[v], moved_a[a]):
            if moved_v[v] < 0:
                start = min(video.start_from(v), audio.start_from(a))
                end = max(video.end_before(v), audio.end_before(a))
                video.shift(v, end - start)
                audio.shift(a, end - start)
                joined += 1
            seen, heard = seen[1:], heard[1:]
            continue
        first_is_v = a is None or (v is not None and audio is not None and video.place[v] <= audio.place[a])
        own, other, number = (video, audio, v) if first_is_v else (audio, video, a)
        assert own is not None and number is not None
        moved = moved_v[number] if first_is_v else moved_a[number]
        if moved < 0 or (other is not None and not _is_hole(own, other, number)):
            own.shift(number, own.step - moved)
            broken += 1
        seen, heard = (seen[1:], heard) if first_is_v else (seen, heard[1:])
    return joined, broken


def _alike(one: float, other: float) -> bool:
    """Return whether two clocks make the same jump."""
    return one * other > 0 and abs(one - other) <= max(2.0, 0.1 * abs(one))


def _is_hole(own: _Track, other: _Track, number: int) -> bool:
    """Return whether a jump ahead is a true gap: at this place in the file the other stream's clock says the same."""
    beside = other.at(int(own.place[number]))
    return abs(beside - own.clock[number]) <= abs(beside - own.clock[number - 1])


def _timeline(
    container: Any,
    pictures: _Packets,
    sounds: _Packets,
    reader: _Reader,
    settings: VideoSettings,
) -> Timeline:
    pause = settings.longest_pause_s
    first = None if reader.first is None else reader.first.pts
    audio = _track(container, sounds, False) if sounds.count else None
    if not pictures.count:
        return _sound_alone(audio)
    video = _track(container, pictures, True)
    edit_notes = _follow_edits(container, ((pictures, video), (sounds, audio)))
    for track in (video, audio):
        if track is not None:
            track.pass_over_hidden()
    joined, broken = _mend(video, audio, pause)
    notes = [] if joined or broken or reader.cut_short else _header_notes(container, pictures, video, audio)
    notes += edit_notes
    origin = float(video.stamps[first] if first is not None else video.stamps.min())
    late = origin - float(video.stamps[~video.hidden].min()) if (~video.hidden).any() else 0.0
    times = np.where(video.hidden, np.nan, video.stamps - origin)
    times[times < 0] = np.nan
    order = np.unique(times[~np.isnan(times)])
    if not len(order):
        order = np.zeros(1)
    step = float(np.median(np.diff(order))) if len(order) > 1 else video.step
    lasts = np.flatnonzero(times == order[-1])
    own = float(video.length[lasts[-1]]) if len(lasts) else 0.0
    # some writers give the last picture the length of one tick
    end = float(order[-1]) + (own if own > min(step, video.step) / 2 else step)
    heard: NDArray[np.float64] = np.zeros((0, 2))
    if audio is not None:
        raw = np.stack([audio.stamps, audio.stamps + audio.length], axis=1) - origin
        heard = raw[~audio.hidden]
        if len(heard) and (heard[0, 0] > end + pause or heard[-1, 1] < -max(late, 0.0) - pause):
            # clocks that have nothing to do with each other: both begin together
            shift = -max(late, 0.0) - float(heard[0, 0])
            audio.shift(0, shift)
            heard = heard + shift
            notes.append("picture and sound have unrelated clocks and were taken to begin together")
    gaps = _longer(np.stack([order + step, np.append(order[1:], end)], axis=1), _HELD_S)
    shared = _shared(gaps, _silent(heard), _WORTH_SAYING_S)
    # nothing comes after the last picture, so its hold is no pause: the file says that it is shown for so long
    cuts = [(a, b) for a, b in shared if b - a > pause and a < order[-1]]
    cut = _without(cuts)
    kept = [(float(cut(np.array([a]))[0]), b - a) for a, b in shared if (a, b) not in cuts]
    sound_end = float(heard[:, 1].max()) if len(heard) else -np.inf
    early = -float(heard[0, 0]) if len(heard) else 0.0
    end = float(cut(np.array([end]))[0])
    if sound_end > -np.inf:
        sound_end = float(cut(np.array([sound_end]))[0])
    if sound_end > end + _TAIL_S:
        notes.append(
            f"the last picture is held for the last {sound_end - end:.1f} s, while the sound goes on"
        )
        end = sound_end
    times = cut(times)
    duration = min(end, settings.max_seconds)
    notes += _gap_notes(gaps, cuts, kept if len(heard) else [], cut, late, early, joined, broken)
    return Timeline(
        duration_s=duration,
        source_fps=int((times < duration).sum()) / duration if duration > 0 else 0.0,
        pictures=times,
        sounds=_heard(audio, cut(audio.stamps - origin)) if audio is not None else np.zeros(0),
        in_order=video.in_order,
        cut_short=reader.cut_short or end > duration,
        cuts=tuple(Pause(float(cut(np.array([a]))[0]), b - a) for a, b in cuts),
        pauses=tuple(Pause(at, length) for at, length in kept),
        notes=tuple(notes),
    )


def _heard(audio: _Track, times: NDArray[np.float64]) -> NDArray[np.float64]:
    times = times.copy()
    times[audio.muted] = np.nan
    return times


def _sound_alone(audio: _Track | None) -> Timeline:
    """Return the timeline of a file without pictures: second 0 is the first sound."""
    if audio is None or audio.hidden.all():
        return Timeline(0.0, 0.0, np.zeros(0), np.zeros(0))
    begin = float(audio.stamps[~audio.hidden].min())
    end = float((audio.stamps + audio.length).max())
    return Timeline(end - begin, 0.0, np.zeros(0), audio.stamps - begin)


def _silent(heard: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the stretches without sound, the endless ones before and after it included."""
    if not len(heard):
        return np.array([[-np.inf, np.inf]])
    heard = heard[np.argsort(heard[:, 0], kind="stable")]
    ends = np.maximum.accumulate(heard[:, 1])
    return np.stack([np.append(-np.inf, ends), np.append(heard[:, 0], np.inf)], axis=1)


def _longer(stretches: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
    return stretches[stretches[:, 1] - stretches[:, 0] > seconds]


def _shared(
    one: NDArray[np.float64], other: NDArray[np.float64], longest: float
) -> list[tuple[float, float]]:
    """Return what two sets of stretches have in common where that is longer than `longest`."""
    found = []
    other = _longer(other, longest)
    for start, end in _longer(one, longest):
        for a, b in other[np.searchsorted(other[:, 1], start) : np.searchsorted(other[:, 0], end)]:
            if min(end, b) - max(start, a) > longest:
                found.append((float(max(start, a)), float(min(end, b))))
    return found


def _without(cuts: Sequence[tuple[float, float]]) -> Any:
    """Return the function from times before to times after the cuts."""

    def cut(times: NDArray[np.float64]) -> NDArray[np.float64]:
        if not cuts:
            return times
        starts, ends = np.array(cuts).T
        removed = np.append(0.0, np.cumsum(ends - starts))
        before = np.searchsorted(ends, times, side="right")
        inside = np.clip(times - np.append(starts, np.inf)[before], 0.0, None)
        return times - removed[before] - inside  # type: ignore[no-any-return]

    return cut


def _header_notes(container: Any, packets: _Packets, video: _Track, audio: _Track | None) -> list[str]:
    """Say where the header promises more than the file holds; nothing but this note rests on a header."""
    stream = packets.stream
    there = float((video.stamps + np.where(video.length > 0, video.length, video.step)).max())
    if stream is not None and stream.duration:
        # the length of an asf's stream is the file's, from second 0 of the clock
        begins = 0 if "asf" in container.format.name.split(",") else stream.start_time or 0
        missing = float((begins + stream.duration) * stream.time_base) - there
    else:
        # a container's length is that of its longest track, and some count it from second 0 of the clock
        there = max(there, float((audio.stamps + audio.length).max()) if audio is not None else there)
        missing = (container.duration or 0) / av.time_base - max(there, there - float(video.stamps.min()))
    return (
        [f"the file breaks off {missing:.0f} s before the end that it announces"]
        if missing > _PROMISED_S
        else []
    )


def _gap_notes(
    gaps: NDArray[np.float64],
    cuts: Sequence[tuple[float, float]],
    kept: Sequence[tuple[float, float]],
    cut: Any,
    late: float,
    early: float,
    joined: int,
    broken: int,
) -> list[str]:
    notes = []
    if late > _WORTH_SAYING_S:
        notes.append(f"the first {late:.1f} s have no picture that can be decoded and were left out")
    elif early > _WORTH_SAYING_S:
        notes.append(f"{early:.1f} s of sound before the first picture were left out")
    for start, end in cuts:
        at = float(cut(np.array([start]))[0])
        notes.append(f"a pause of {end - start:.0f} s at {at:.1f} s was cut out of picture and sound")
    paused = sum(length for _, length in kept)
    if paused:
        notes.append(f"picture and sound pause for {paused:.1f} s in all")
    held = float((cut(gaps[:, 1]) - cut(gaps[:, 0])).sum()) - paused
    if held > _HELD_S:
        notes.append(f"no picture comes for {held:.1f} s in all, and the one before is held")
    if joined:
        notes.append(f"the clock starts again {_times(joined)}, and the parts were joined")
    if broken:
        notes.append(f"a clock jumps {_times(broken)} and was repaired")
    return notes


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
