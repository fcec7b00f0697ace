"""Blinks in a series of eye aspect ratios, against the person's own open eye."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from iss_assets.features.face_pose import Floats
from iss_assets.settings import BehaviorSettings

_OPEN_PERCENTILE: Final = 90.0
"""An eye is open for more than half of the time, and a few values above its usual opening are noise."""
_LEAST_OPEN: Final = 0.5
"""The open eye of a few seconds is at least this share of that of the whole video: eyes that stay shut are not open."""
LEAST_RATIO: Final = 0.02
"""No open eye is narrower than this: what is divided by a person's open eye stays a number if it was never seen open."""
_BLOCK: Final = 4096


@dataclass(frozen=True)
class EyeEvents:
    """Times at which the eyes closed and opened again within one stretch without a gap.

    Attributes
    ----------
    start, lowest, end : ndarray of float, seconds
        Closing begins, least open, open again.
    blink : ndarray of bool
        Whether it took no longer than a blink.
    """

    start: Floats
    lowest: Floats
    end: Floats
    blink: NDArray[np.bool_]


def open_eye(ratio: Floats) -> float:
    """Return the aspect ratio of a person's open eye: the 90th percentile of a video; NaN without values."""
    return float(np.percentile(ratio, _OPEN_PERCENTILE)) if len(ratio) else float("nan")


def local_open_eye(time: Floats, ratio: Floats, seconds: float) -> Floats:
    """Return the open eye around each sample: the 90th percentile within `seconds` before and after.

    It follows the lids of somebody who looks down for a while, among which blinks still stand out.
    """
    first = np.searchsorted(time, time - seconds)
    last = np.searchsorted(time, time + seconds, side="right")
    longest = int((last - first).max(initial=0))
    found = np.empty(len(time))
    for start in range(0, len(time), _BLOCK):
        lows, highs = first[start : start + _BLOCK, None], last[start : start + _BLOCK, None]
        index = lows + np.arange(longest)
        values = np.where(index < highs, ratio[np.minimum(index, len(ratio) - 1)], np.inf)
        values.sort(axis=1)
        place = (highs - lows - 1) * (_OPEN_PERCENTILE / 100)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, highs - lows - 1)
        low, high = np.take_along_axis(values, below, 1), np.take_along_axis(values, above, 1)
        found[start : start + _BLOCK] = (low + (high - low) * (place - below))[:, 0]
    return np.maximum(found, _LEAST_OPEN * open_eye(ratio))


def find_eye_events(
    time: Floats, ratio: Floats, stretch: NDArray[Any], settings: BehaviorSettings
) -> EyeEvents:
    """Find where the eyes close and open again.

    An event goes below `blink_closed` of the local open eye, and lasts from leaving `blink_open` of it to being back,
    both interpolated between samples. One that is cut off by a gap or by the end of the video is not counted: nobody
    saw how long it took.

    Parameters
    ----------
    time : ndarray of float, shape (n,)
        Seconds, ascending.
    ratio : ndarray of float, shape (n,)
        Eye aspect ratios.
    stretch : ndarray of int, shape (n,)
        Number of the stretch without a gap that each sample belongs to, ascending.
    settings : BehaviorSettings
        `blink_closed`, `blink_open`, `blink_seconds`, `open_eye_seconds`.
    """
    if not len(time):
        nothing = np.empty(0)
        return EyeEvents(nothing, nothing, nothing, np.empty(0, bool))
    opened = ratio / np.maximum(local_open_eye(time, ratio, settings.open_eye_seconds), LEAST_RATIO)
    low = opened < settings.blink_open
    edge = np.diff(stretch, prepend=stretch[0] - 1) != 0
    begins = np.flatnonzero(low & (edge | ~np.r_[False, low[:-1]]))
    ends = np.flatnonzero(low & (np.r_[edge[1:], True] | ~np.r_[low[1:], False]))
    whole = ~edge[begins] & ~np.r_[edge[1:], True][ends]
    begins, ends = begins[whole], ends[whole]
    if not len(begins):
        return find_eye_events(time[:0], ratio[:0], stretch[:0], settings)
    spans = np.stack([begins, ends + 1], axis=1).ravel()
    deepest = np.minimum.reduceat(np.r_[opened, np.inf], spans)[::2]
    deep = deepest < settings.blink_closed
    begins, ends, deepest = begins[deep], ends[deep], deepest[deep]
    lowest = np.array([b + np.argmin(opened[b : e + 1]) for b, e in zip(begins, ends, strict=True)], int)
    start = _crossing(time, opened, begins - 1, settings.blink_open)
    end = _crossing(time, opened, ends, settings.blink_open)
    return EyeEvents(start, time[lowest], end, end - start <= settings.blink_seconds)


def _crossing(time: Floats, value: Floats, before: NDArray[Any], level: float) -> Floats:
    """Return when the line between a sample and the next one crosses a level."""
    one, other = value[before], value[before + 1]
    share = (level - one) / np.where(other == one, 1.0, other - one)
    return np.asarray(time[before] + np.clip(share, 0, 1) * (time[before + 1] - time[before]))
