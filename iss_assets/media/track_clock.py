"""The clock of one track: its packets' time stamps in seconds, and the repair of clocks that start again or break."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from iss_assets.media.edits import unfollowed_edits

_BACK_S: Final = 1.0
"""Decoding order jitters; a clock that goes back further than this has been restarted."""
_DELAY: Final = 17
"""No codec decodes a picture more than sixteen pictures before it is shown."""
_REORDER_S: Final = 5.0
"""A time stamp that is off by this many seconds more is wrong."""
_NEAR: Final = 64
"""Packets around a jump that are examined: one to three seconds of sound, two of pictures."""
_LONG_SOUND_S: Final = 2.0
"""A sound packet longer than this, and than four usual ones, contains a gap that the file does not declare."""
_ROUNDING_S: Final = 1e-3
"""Times of an edit list are rounded to the movie's time scale, usually thousandths of a second."""
_NO_STAMPS: Final = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo", "vc1"})
"""Containers without presentation times; FFmpeg makes them up in decoding order."""
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
"""Codecs that may show pictures in a different order than they are decoded."""
_NO_STAMP: Final = -(2**63)


@dataclass
class Packets:
    """Time stamps of a stream's packets, in the file's order and in the stream's time base."""

    stream: Any | None
    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("q"))
    place: array[int] = field(default_factory=lambda: array("q"))
    hidden: array[int] = field(default_factory=lambda: array("b"))

    @property
    def count(self) -> int:
        """Number of packets recorded."""
        return len(self.pts)

    def add(self, packet: Any, place: int) -> int:
        """Record a packet and return its number."""
        self.pts.append(_NO_STAMP if packet.pts is None else packet.pts)
        self.dts.append(_NO_STAMP if packet.dts is None else packet.dts)
        self.length.append(packet.duration or 0)
        self.place.append(place)
        self.hidden.append(packet.is_discard)
        return len(self.pts) - 1

    def seconds(self, name: str) -> NDArray[np.float64]:
        """Return ``pts``, ``dts`` or ``length`` in seconds; NaN where missing."""
        numbers = np.array(getattr(self, name), np.int64)
        base = self.stream.time_base if self.stream is not None else Fraction(1)
        # numerator and denominator separately, so that 1001/30000 stays exact
        values = numbers * float(base.numerator) / float(base.denominator)
        values[numbers == _NO_STAMP] = np.nan
        return values  # type: ignore[no-any-return]


@dataclass
class TrackClock:
    """A stream's clock.

    Attributes
    ----------
    stamps : ndarray
        Second at which each packet is shown or played.
    clock : ndarray
        A clock that increases in the file's order, unless it is broken.
    length : ndarray
        Seconds of each packet, 0 where unknown.
    place : ndarray
        The packet's position in the file among those of both streams.
    hidden : ndarray of bool
        Packets that an edit list leaves out.
    step : float
        Usual seconds between two packets.
    muted : ndarray of int
        Hidden packets that the decoder returns nevertheless.
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
        """Set the clock of packets hidden by an edit list to that of the next visible packet.

        They prime the decoder for a segment; their own clock is within the previous segment, which is not a restart.
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
        """Return the second at which the packets before `number` end."""
        near = slice(max(0, number - _NEAR), number)
        return float((self.stamps[near] + np.minimum(self.length[near], self.step)).max())

    def start_from(self, number: int) -> float:
        """Return the second at which the packets from `number` on begin."""
        return float(self.stamps[number : number + _NEAR].min())

    def at(self, place: int) -> float:
        """Return the clock at a position in the file."""
        return float(self.clock[min(int(np.searchsorted(self.place, place)), len(self.place) - 1)])


def make_clock(container: Any, packets: Packets, is_video: bool) -> TrackClock:
    """Compute a track's clock from its packets' time stamps, filling in missing ones.

    Parameters
    ----------
    container : av.container.InputContainer
        The packets' container.
    packets : Packets
        At least one.
    is_video : bool
        Whether the track is the video.
    """
    pts, dts, length = (packets.seconds(name) for name in ("pts", "dts", "length"))
    rate = getattr(packets.stream, "average_rate", None)
    usual = float(1 / rate) if rate else 0.04
    moves = np.diff(pts if np.isnan(dts).any() else dts)
    moves = moves[moves > 0]
    step = float(np.median(moves)) if len(moves) else usual
    place, hidden = np.array(packets.place, np.int64), np.array(packets.hidden, bool)
    codec = packets.stream.codec_context.name if packets.stream is not None else ""
    if not is_video:
        stamps = _interpolated(np.where(np.isnan(pts), dts, pts), step)
        length = np.where(length > max(_LONG_SOUND_S, 4 * step), step, length)
        # if an edit list repeats or hides sound, FFmpeg extends the last packet to the end of the media
        if len(length) and length[-1] > 4 * step:
            length[-1] = step
        return TrackClock(stamps, stamps.copy(), np.where(length > 0, length, step), place, hidden, step)
    known = ~np.isnan(pts)
    without = bool(_NO_STAMPS & set(container.format.name.split(",")))
    made_up = without and bool((np.diff(pts[known]) > 0).all())
    if codec in _REORDERING and (made_up or _mostly_constant(pts) or not known.all()):
        clock = _interpolated(dts, step)
        if _mostly_constant(clock):
            clock = np.arange(len(clock)) * usual
            step = usual
        stamps = clock + (np.nanmin(pts) - clock.min() if known.any() and not made_up else 0.0)
        return TrackClock(stamps, clock, length, place, hidden, step, in_order=True)
    stamps = _interpolated(pts, step)
    clock = _interpolated(np.where(np.isnan(dts), stamps, dts), step)
    if without:
        # the times that FFmpeg makes up start late by the decoding delay
        stamps = stamps - stamps.min() + clock.min()
    # a picture is shown about when one of the next ones is decoded
    ahead = np.stack([np.append(clock[n:], np.full(n, np.inf)) for n in range(min(_DELAY, len(clock)))])
    odd = (stamps > ahead.max(axis=0) + _REORDER_S) | (stamps < ahead.min(axis=0) - _REORDER_S)
    stamps = np.where(odd, clock + np.median(stamps - clock), stamps)
    in_order = codec in _REORDERING and bool((np.diff(stamps) > 0).all())
    return TrackClock(stamps, clock, length, place, hidden, step, in_order)


def hide_ignored_edits(container: Any, tracks: Sequence[tuple[Packets, TrackClock | None]]) -> list[str]:
    """Hide what FFmpeg returns in place of an empty edit or a held picture; return notes on edits not followed.

    Parameters
    ----------
    container : av.container.InputContainer
        The open file.
    tracks : sequence of (Packets, TrackClock or None)
        Changed in place.
    """
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


def _mostly_constant(stamps: NDArray[np.float64]) -> bool:
    """Return whether most time stamps equal that of the previous packet."""
    return len(stamps) > 1 and float((np.diff(stamps) == 0).mean()) > 0.6


def _interpolated(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Interpolate missing time stamps of packets from their neighbors."""
    known = np.flatnonzero(~np.isnan(values))
    numbers = np.arange(len(values))
    if not len(known):
        return numbers * step
    filled = np.interp(numbers, known, values[known])
    filled[: known[0]] = values[known[0]] - step * (known[0] - numbers[: known[0]])
    filled[known[-1] :] = values[known[-1]] + step * (numbers[known[-1] :] - known[-1])
    return filled


def _jumps(track: TrackClock, pause: float) -> list[int]:
    """Return the packets before which a clock jumps back, or far ahead."""
    moves = np.diff(track.clock)
    return (np.flatnonzero((moves < -_BACK_S) | (moves > pause)) + 1).tolist()


def repair_clocks(video: TrackClock, audio: TrackClock | None, pause: float) -> tuple[int, int]:
    """Repair clocks that start again or break, in place; return the number of parts joined and of jumps undone.

    A jump that both clocks make at the same time joins two parts, or is a shared pause. A jump of one clock alone is
    undone, unless it is a jump ahead that the other clock confirms.

    Parameters
    ----------
    video, audio : TrackClock
        The clocks of the tracks; None without sound.
    pause : float
        Seconds ahead from which a step is a jump.
    """
    video_jumps = _jumps(video, pause)
    audio_jumps = _jumps(audio, pause) if audio is not None else []
    moved_v = {i: float(video.clock[i] - video.clock[i - 1]) for i in video_jumps}
    moved_a = (
        {i: float(audio.clock[i] - audio.clock[i - 1]) for i in audio_jumps} if audio is not None else {}
    )
    joined = broken = 0
    while video_jumps or audio_jumps:
        v, a = (video_jumps[0] if video_jumps else None), (audio_jumps[0] if audio_jumps else None)
        if v is not None and a is not None and audio is not None and _same_jump(moved_v[v], moved_a[a]):
            if moved_v[v] < 0:
                start = min(video.start_from(v), audio.start_from(a))
                end = max(video.end_before(v), audio.end_before(a))
                video.shift(v, end - start)
                audio.shift(a, end - start)
                joined += 1
            video_jumps, audio_jumps = video_jumps[1:], audio_jumps[1:]
            continue
        first_is_v = a is None or (v is not None and audio is not None and video.place[v] <= audio.place[a])
        own, other, number = (video, audio, v) if first_is_v else (audio, video, a)
        assert own is not None and number is not None
        moved = moved_v[number] if first_is_v else moved_a[number]
        if moved < 0 or (other is not None and not _is_true_gap(own, other, number)):
            own.shift(number, own.step - moved)
            broken += 1
        video_jumps, audio_jumps = (
            (video_jumps[1:], audio_jumps) if first_is_v else (video_jumps, audio_jumps[1:])
        )
    return joined, broken


def _same_jump(one: float, other: float) -> bool:
    """Return whether two clocks make the same jump."""
    return one * other > 0 and abs(one - other) <= max(2.0, 0.1 * abs(one))


def _is_true_gap(own: TrackClock, other: TrackClock, number: int) -> bool:
    """Return whether a jump ahead is a true gap: at this position in the file the other stream's clock agrees."""
    beside = other.at(int(own.place[number]))
    return abs(beside - own.clock[number]) <= abs(beside - own.clock[number - 1])
