"""How fast and in which rhythm a head moves, from samples at irregular times.

Nothing here assumes a frame rate: speeds are slopes of lines fitted to the samples around a moment, and rhythms are
sines fitted to a spline of degree five through the samples of a window. Fitted to the samples themselves (Lomb 1976), whose times
are as uneven as the film's pictures, a slow turn would be seen at every frequency: with a tenth of its size or half of
it, depending on the phone. Frequencies that the samples are too few to show are not given. Neither reaches across a gap.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from iss_assets.features.face_pose import Floats

_FASTEST: Final = 4.0
"""Highest frequency that is fitted, in hertz: ten samples per second show up to five."""
_SHOWN: Final = 0.45
"""Highest frequency that samples show, as a share of their rate: at half of it, a sine can be 0 at every sample."""
_EVEN_HZ: Final = 20
"""Points per second at which the spline through the samples is read."""
_APART: Final = 0.25
"""Samples nearer to one another than this share of their usual distance are averaged: a curve through both would go far
astray to meet what is only noise between them."""
_WINDOW_FILLED: Final = 0.85
"""Share of a window's length that its samples must span."""
_SAMPLES: Final = 24
"""Samples that a window of the usual length needs at least, six per second."""
_HANN_BANDWIDTH: Final = 1.5
"""How many frequencies' worth of power one frequency collects under a Hann window."""


def stretches(time: Floats, max_gap_s: float) -> NDArray[np.int64]:
    """Number the stretches between gaps, one number per sample."""
    return np.cumsum(np.r_[0, np.diff(time) > max_gap_s])[: len(time)]


def durations(time: Floats, stretch: NDArray[Any]) -> Floats:
    """Return the time that each sample stands for: half the way to its neighbors within the stretch, on both sides."""
    steps = np.where(np.diff(stretch) == 0, np.diff(time), 0.0)
    return np.asarray((np.r_[0.0, steps] + np.r_[steps, 0.0])[: len(time)] / 2)


def slopes(time: Floats, values: Floats, stretch: NDArray[Any], seconds: float) -> Floats:
    """Return the slope of the line fitted to the samples within `seconds` of each one, in the same stretch.

    Parameters
    ----------
    time : ndarray of float, shape (n,)
        Seconds, ascending without repeats.
    values : ndarray of float, shape (n, k)
        What changes with time.
    stretch : ndarray of int, shape (n,)
        From `stretches`.
    seconds : float
        How far the line reaches to either side.

    Returns
    -------
    ndarray of float, shape (n, k)
        Per second; NaN for a sample that has no other near it.
    """
    if not len(time):
        return np.empty(values.shape)
    edge = 1e-6  # of a second: samples at both ends of the span count
    first = np.maximum(np.searchsorted(time, time - seconds - edge), np.searchsorted(stretch, stretch))
    last = np.minimum(
        np.searchsorted(time, time + seconds + edge, side="right"),
        np.searchsorted(stretch, stretch, side="right"),
    )
    index = first[:, None] + np.arange(int((last - first).max()))
    within = index < last[:, None]
    index = np.minimum(index, len(time) - 1)
    count = within.sum(axis=1)
    at = np.where(within, time[index] - time[:, None], 0.0)
    at = np.where(within, at - (at.sum(axis=1) / count)[:, None], 0.0)
    spread = (at**2).sum(axis=1)
    shared = np.einsum("nw,nwk->nk", at, values[index] - values[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((spread > 0)[:, None], shared / spread[:, None], np.nan)


def turning_speed(pitch: Floats, rates: Floats) -> Floats:
    """Return how fast heads turn about whatever axis, in degrees per second.

    Parameters
    ----------
    pitch : ndarray of float, shape (n,)
        Degrees, as `face_pose.angles` defines them.
    rates : ndarray of float, shape (n, 3)
        Slopes of yaw, pitch and roll, in degrees per second.
    """
    yaw_rate, pitch_rate, roll_rate = rates.T
    # yaw turns about the picture's vertical, roll about the axis of the head, which pitch tilts toward that vertical
    shared = 2 * yaw_rate * roll_rate * np.sin(np.radians(pitch))
    return np.sqrt(np.maximum(yaw_rate**2 + pitch_rate**2 + roll_rate**2 - shared, 0.0))


def still_samples(
    time: Floats, speed: Floats, stretch: NDArray[Any], limit: float, seconds: float
) -> NDArray[np.bool_]:
    """Return which samples belong to a span of at least `seconds` in which the speed stays below the limit."""
    slow = speed < limit
    group = np.cumsum(np.r_[True, (slow[1:] != slow[:-1]) | (np.diff(stretch) != 0)])[: len(time)]
    first, last = np.searchsorted(group, group), np.searchsorted(group, group, side="right") - 1
    return np.asarray(slow & (time[last] - time[first] >= seconds - 1e-6)) if len(time) else slow


def frequencies(seconds: float) -> Floats:
    """Return the frequencies that are fitted in a window of this length: from two periods per window up to 4 Hz."""
    count = int(np.floor(_FASTEST * seconds + 1e-9))
    return np.arange(2, count + 1) / seconds


def spectrum(time: Floats, values: Floats, start: float, seconds: float) -> Floats | None:
    """Return the power of values at `frequencies` in one window, from sines fitted with a line and Hann's weights.

    Parameters
    ----------
    time : ndarray of float, shape (n,)
        The window's samples, all of one stretch, in seconds, ascending without repeats.
    values : ndarray of float, shape (n, k)
        What moves.
    start, seconds : float
        The window.

    Returns
    -------
    ndarray of float, shape (frequencies, k), or None
        Mean squares that add up to the values' mean square; NaN at frequencies that so many samples do not show. None if
        the samples do not fill the window.
    """
    least = _SAMPLES * seconds / 4
    span = time[-1] - time[0] if len(time) else 0.0
    if span < _WINDOW_FILLED * seconds or len(time) < least:
        return None
    time, values = _apart(time, values - values.mean(axis=0), _APART * span / (len(time) - 1))
    if len(time) < least:
        return None
    shown = frequencies(seconds) <= _SHOWN * (len(time) - 1) / (time[-1] - time[0])
    even = np.linspace(time[0], time[-1], int(np.ceil(_EVEN_HZ * span)) + 1)
    values = make_interp_spline(time, values, k=5)(even)
    at = even - start
    weight = np.sin(np.pi * np.clip(at / seconds, 0, 1)) ** 2
    phase = 2 * np.pi * frequencies(seconds)[shown, None] * at
    one = np.broadcast_to(1.0, phase.shape)
    line = np.broadcast_to(at / seconds - 0.5, phase.shape)
    design = np.stack([np.cos(phase), np.sin(phase), one, line], axis=1)
    weighted = design * weight
    fitted = np.linalg.solve(weighted @ design.transpose(0, 2, 1), weighted @ values)
    power = np.full((len(shown), values.shape[1]), np.nan)
    power[shown] = (fitted[:, 0] ** 2 + fitted[:, 1] ** 2) / 2 / _HANN_BANDWIDTH
    return power


def _apart(time: Floats, values: Floats, least: float) -> tuple[Floats, Floats]:
    """Average samples that follow one another in less than `least` seconds."""
    if np.diff(time).min() >= least:
        return time, values
    begins, first = [0], time[0]
    for place, moment in enumerate(time):
        if moment - first >= least:
            begins.append(place)
            first = moment
    count = np.diff(begins, append=len(time))
    return np.add.reduceat(time, begins) / count, np.add.reduceat(values, begins, axis=0) / count[:, None]


def windows(time: Floats, stretch: NDArray[Any], seconds: float) -> list[tuple[float, slice]]:
    """Return windows that overlap by half, each with its start and the samples in it, none across a gap."""
    found = []
    for number in np.unique(stretch):
        first, last = np.searchsorted(stretch, number), np.searchsorted(stretch, number, side="right")
        starts = np.arange(time[first], time[last - 1] - _WINDOW_FILLED * seconds + 1e-6, seconds / 2)
        for start in starts.tolist():
            begin, end = np.searchsorted(time[first:last], [start, start + seconds])
            found.append((start, slice(first + begin, first + end)))
    return found
