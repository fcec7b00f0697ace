"""Blinks that were put in are found, at irregular times, and nothing else is called one."""

from __future__ import annotations

import numpy as np
import pytest

from iss_assets.features.blinks import find_eye_events, local_open_eye, open_eye
from iss_assets.features.head_motion import stretches
from iss_assets.settings import BehaviorSettings

SETTINGS = BehaviorSettings()


def lids(time: np.ndarray, closings: list[tuple[float, float]], depth: float = 0.8) -> np.ndarray:
    """Return eye aspect ratios of 0.3 with closings (middle, seconds): closed for the middle half, with ramps."""
    ratio = np.full(len(time), 0.3)
    for middle, seconds in closings:
        way = np.clip(2 - 4 * np.abs(time - middle) / seconds, 0, 1)
        ratio *= 1 - depth * way
    return ratio


def found(time: np.ndarray, ratio: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the times of blinks, and of longer closures."""
    events = find_eye_events(time, ratio, stretches(time, SETTINGS.max_gap_s), SETTINGS)
    return events.lowest[events.blink].tolist(), events.lowest[~events.blink].tolist()


def irregular(seconds: float, seed: int = 0) -> np.ndarray:
    """Return sample times about a tenth of a second apart, each up to 40 ms off, as in a video of variable rate."""
    rng = np.random.default_rng(seed)
    return np.arange(0, seconds, 0.1) + rng.uniform(-0.04, 0.04, round(seconds * 10)) + 0.05


@pytest.mark.parametrize("seed", range(5))
def test_blinks_at_irregular_times_are_found_where_they_are(seed: int) -> None:
    time = irregular(60, seed)
    rng = np.random.default_rng(100 + seed)
    middles = np.cumsum(rng.uniform(1.5, 5, 15)) + 1
    blinks = [(m, 0.35) for m in middles if m < 58]
    noise = 0.008 * rng.standard_normal(len(time))
    at, long = found(time, lids(time, blinks) + noise)
    assert len(at) == len(blinks) and not long
    assert np.abs(np.array(at) - [m for m, _ in blinks]).max() < 0.15


def test_very_short_blinks_are_missed_at_ten_samples_per_second_and_seen_at_25() -> None:
    """What the docs say: the faster a blink, the more of them fall between two samples."""
    middles = np.arange(1, 119, 1.37)
    slow, fast = (np.arange(0, 120, step) for step in (1 / 10, 1 / 25))
    short = [(m, 0.12) for m in middles]
    seen_at_10, seen_at_25 = len(found(slow, lids(slow, short))[0]), len(found(fast, lids(fast, short))[0])
    assert seen_at_25 == len(middles)
    assert 0.5 * len(middles) < seen_at_10 < 0.95 * len(middles)


def test_eyes_that_stay_closed_are_not_a_blink() -> None:
    time = np.arange(0, 20, 0.1)
    assert found(time, lids(time, [(5, 0.3), (12, 2.5)])) == (
        [pytest.approx(5, abs=0.11)],
        [pytest.approx(12, abs=1.5)],
    )


def test_a_closing_that_nobody_saw_open_again_is_not_counted() -> None:
    time = np.arange(0, 20, 0.1)
    ratio = lids(time, [(5, 0.4), (10, 0.4), (19.9, 0.6)])
    kept = (time < 10) | (
        time > 11
    )  # the face is missing for a second, from the middle of the second blink on
    at, long = found(time[kept], ratio[kept])
    assert at == [pytest.approx(5, abs=0.11)] and not long


def test_blinks_are_seen_while_somebody_looks_down() -> None:
    """The lids follow the eyes down, for good: they are compared with the open eye of the seconds around."""
    time = np.arange(0, 40, 0.1)
    gaze = np.where(time < 20, 1.0, 0.65)
    at, _ = found(time, lids(time, [(10, 0.35), (30, 0.35)]) * gaze)
    assert [pytest.approx(10, abs=0.11), pytest.approx(30, abs=0.11)] == [t for t in at if abs(t - 20) > 1]


def test_eyes_that_stay_closed_do_not_become_open_eyes() -> None:
    time = np.arange(0, 60, 0.1)
    ratio = np.where((time > 20) & (time < 35), 0.05, 0.3)
    assert local_open_eye(time, ratio, 3.0).min() >= 0.5 * open_eye(ratio)


def test_the_local_open_eye_is_numpys_percentile_of_the_seconds_around() -> None:
    time, ratio = irregular(30), np.random.default_rng(0).uniform(0.25, 0.35, 300)
    expected = [np.percentile(ratio[np.abs(time - t) <= 3], 90) for t in time]
    assert local_open_eye(time, ratio, 3.0) == pytest.approx(expected)


def test_no_samples_have_no_blinks() -> None:
    assert found(np.empty(0), np.empty(0)) == ([], [])
    assert np.isnan(open_eye(np.empty(0)))
