"""Gaps in picture and sound: which they share, cutting them out, and what is reported about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from iss_assets.media.track_clock import Packets, TrackClock

MIN_REPORTED_S: Final = 0.5
"""Shortest late start, or sound before the picture, that is reported."""
LONG_HOLD_S: Final = 2.0
"""A picture held longer than this is reported; it is the default of FFmpeg's ``freezedetect``."""
_PROMISED_S: Final = 1.0
"""A header that announces this much more than the file contains is reported."""


def silent_spans(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the spans without sound, shape (n, 2), including the infinite ones before and after it."""
    if not len(sound):
        return np.array([[-np.inf, np.inf]])
    sound = sound[np.argsort(sound[:, 0], kind="stable")]
    ends = np.maximum.accumulate(sound[:, 1])
    return np.stack([np.append(-np.inf, ends), np.append(sound[:, 0], np.inf)], axis=1)


def longer_than(spans: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
    """Return the spans, shape (n, 2), that are longer than `seconds`."""
    return spans[spans[:, 1] - spans[:, 0] > seconds]


def common_spans(
    one: NDArray[np.float64], other: NDArray[np.float64], longest: float
) -> list[tuple[float, float]]:
    """Return the overlaps of two sets of spans that are longer than `longest` seconds."""
    found = []
    other = longer_than(other, longest)
    for start, end in longer_than(one, longest):
        for a, b in other[np.searchsorted(other[:, 1], start) : np.searchsorted(other[:, 0], end)]:
            if min(end, b) - max(start, a) > longest:
                found.append((float(max(start, a)), float(min(end, b))))
    return found


def remover_of(cuts: Sequence[tuple[float, float]]) -> Any:
    """Return a function that maps times before the cuts to times after them."""

    def cut(times: NDArray[np.float64]) -> NDArray[np.float64]:
        if not cuts:
            return times
        starts, ends = np.array(cuts).T
        removed = np.append(0.0, np.cumsum(ends - starts))
        before = np.searchsorted(ends, times, side="right")
        inside = np.clip(times - np.append(starts, np.inf)[before], 0.0, None)
        return times - removed[before] - inside  # type: ignore[no-any-return]

    return cut


def header_notes(container: Any, packets: Packets, video: TrackClock, audio: TrackClock | None) -> list[str]:
    """Return a note if the header announces more than the file contains; headers are used for nothing else.

    Parameters
    ----------
    container : av.container.InputContainer
        The open file.
    packets : Packets
        Those of the video.
    video, audio : TrackClock
        The clocks of the tracks; None without sound.
    """
    stream = packets.stream
    there = float((video.stamps + np.where(video.length > 0, video.length, video.step)).max())
    if stream is not None and stream.duration:
        # in asf files, a stream's length is that of the file, from second 0 of the clock
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


def gap_notes(
    gaps: NDArray[np.float64],
    cuts: Sequence[tuple[float, float]],
    kept: Sequence[tuple[float, float]],
    cut: Any,
    late: float,
    early: float,
    joined: int,
    broken: int,
) -> list[str]:
    """Return notes for the coordinator on gaps, cuts and repaired clocks.

    Parameters
    ----------
    gaps : ndarray of float64, shape (n, 2)
        Start and end, in seconds, of gaps in the picture.
    cuts, kept : sequence of (float, float)
        Start and end of the pauses that were cut out; time and length of those that were kept.
    cut : callable
        See `remover_of`.
    late, early : float
        Seconds before the first decodable picture; seconds of sound before it.
    joined, broken : int
        Number of parts joined and of jumps undone.
    """
    notes = []
    if late > MIN_REPORTED_S:
        notes.append(f"the first {late:.1f} s have no picture that can be decoded and were left out")
    elif early > MIN_REPORTED_S:
        notes.append(f"{early:.1f} s of sound before the first picture were left out")
    for start, end in cuts:
        at = float(cut(np.array([start]))[0])
        notes.append(f"a pause of {end - start:.0f} s at {at:.1f} s was cut out of picture and sound")
    paused = sum(length for _, length in kept)
    if paused:
        notes.append(f"picture and sound pause for {paused:.1f} s in all")
    held = float((cut(gaps[:, 1]) - cut(gaps[:, 0])).sum()) - paused
    if held > LONG_HOLD_S:
        notes.append(f"no picture comes for {held:.1f} s in all, and the one before is held")
    if joined:
        notes.append(f"the clock starts again {times_in_words(joined)}, and the parts were joined")
    if broken:
        notes.append(f"a clock jumps {times_in_words(broken)} and was repaired")
    return notes


def times_in_words(count: int) -> str:
    """Return a count as an English adverb: "once", "2 times"."""
    return "once" if count == 1 else f"{count} times"
