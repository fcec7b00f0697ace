"""Speeds and rhythms of known motions, from samples at irregular times and with gaps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import periodogram
from scipy.spatial.transform import Rotation

from iss_assets.features.head_motion import (
    durations,
    frequencies,
    slopes,
    spectrum,
    still_samples,
    stretches,
    turning_speed,
    windows,
)
from iss_assets_tests.features.test_blinks import irregular

RNG = np.random.default_rng(0)


def test_the_slope_of_a_line_is_found_at_irregular_times_and_never_across_a_gap() -> None:
    time = irregular(20)
    time = time[(time < 8) | (time > 10)]
    stretch = stretches(time, 0.35)
    values = np.column_stack([3 * time, np.where(time < 9, 100.0, -100.0)])
    assert stretch.max() == 1
    assert slopes(time, values, stretch, 0.25) == pytest.approx(np.tile([3.0, 0.0], (len(time), 1)), abs=1e-8)


def test_a_lone_sample_has_no_slope() -> None:
    time = np.array([0.0, 0.1, 5.0])
    found = slopes(time, time[:, None], stretches(time, 0.35), 0.25)
    assert found[:2, 0] == pytest.approx(1) and np.isnan(found[2, 0])
    assert slopes(np.empty(0), np.empty((0, 2)), np.empty(0, int), 0.25).shape == (0, 2)


def test_the_turning_speed_is_that_of_scipys_rotations() -> None:
    angle = np.radians(RNG.uniform(-35, 35, (200, 3)))
    rates = np.radians(RNG.uniform(-50, 50, (200, 3)))

    def rotation(yaw_pitch_roll: np.ndarray) -> Rotation:
        return Rotation.from_euler("YXZ", yaw_pitch_roll * [-1, -1, 1])

    step = 1e-6
    true = (rotation(angle).inv() * rotation(angle + rates * step)).magnitude() / step
    ours = turning_speed(np.degrees(angle[:, 1]), np.degrees(rates))
    assert ours == pytest.approx(np.degrees(true), rel=1e-4)


@pytest.mark.parametrize("hertz", [0.75, 1.5, 2.25, 3.5])
def test_the_frequency_and_size_of_a_nod_are_found_at_irregular_times(hertz: float) -> None:
    time = irregular(4)
    nod = 3 * np.sin(2 * np.pi * hertz * time + 1) + 5 * time  # three degrees on top of a drift
    power = spectrum(time, np.column_stack([nod, 0.3 * nod]), 0.0, 4.0)
    assert power is not None
    assert frequencies(4.0)[power.argmax(axis=0)] == pytest.approx([hertz, hertz])
    assert np.sqrt(power.sum(axis=0)) == pytest.approx([3 / np.sqrt(2), 0.9 / np.sqrt(2)], rel=0.1)


def test_the_spectrum_is_scipys_where_times_are_regular() -> None:
    """SciPy's periodogram of the detrended samples, with the same weights: an independent computation."""
    time = np.arange(0, 4, 0.1) + 0.05
    values = RNG.standard_normal(40) + np.sin(2 * np.pi * 1.25 * time)
    ours = spectrum(time, values[:, None], 0.0, 4.0)
    at, density = periodogram(values, fs=10, window=np.sin(np.pi * time / 4) ** 2, detrend="linear")
    theirs = np.interp(frequencies(4.0), at, density) * 0.25  # power in steps of a quarter of a hertz
    assert ours is not None
    assert ours[:, 0].sum() == pytest.approx(theirs.sum(), rel=0.1)
    assert np.corrcoef(ours[:, 0], theirs)[0, 1] > 0.97


def shown_at(frames_per_second: float, seconds: float) -> np.ndarray:
    """Return the presentation times of the pictures that a film shows at each tenth of a second, each once."""
    pictures = np.arange(int((seconds + 1) * frames_per_second)) / frames_per_second
    asked = np.arange(int(10 * seconds)) / 10
    return np.unique(pictures[np.searchsorted(pictures, asked + 1e-6, side="right") - 1])


@pytest.mark.parametrize("rate", [30, 25, 24, 24000 / 1001, 14, 12, 11, 9, 8, 7.5, 7, 6])
def test_a_slow_turn_is_not_fast_and_a_nod_is_a_nod_at_every_frame_rate(rate: float) -> None:
    """Two phones that film the same head say the same: the true curves are known, whatever the times of the pictures."""
    time = shown_at(rate, 5)
    time = time[time <= 4.05]
    turn, nod = 6 * np.sin(2 * np.pi * 0.5 * time + 1), 0.5 * np.sin(2 * np.pi * 2 * time)
    power = spectrum(time, np.column_stack([turn, nod, turn + nod]), 0.0, 4.0)
    assert power is not None
    at = frequencies(4.0)
    enough = at <= 0.45 * min(rate, 10)
    assert (np.isfinite(power).all(axis=1) == enough).all()
    assert enough.all() == (rate >= 9)
    size = np.sqrt(2 * np.nansum(np.where((at > 1)[:, None], power, 0), axis=0))
    assert size == pytest.approx([0, 0.5, 0.5], abs=0.04)
    assert np.sqrt(2 * power[at <= 1, 0].sum()) == pytest.approx(5.5, abs=0.3)  # part of it is below 0.5 Hz


def test_two_samples_at_nearly_one_moment_are_one() -> None:
    """A curve through both of two noisy samples 2 ms apart would shoot to a hundred times the noise."""
    time = np.sort(np.r_[irregular(4), irregular(4)[::4] + 0.002])
    noise = np.random.default_rng(0).standard_normal((len(time), 50))
    power = spectrum(time, noise, 0.0, 4.0)
    assert power is not None and np.sqrt(power.sum(axis=0).mean()) == pytest.approx(1, abs=0.2)
    pairs = np.sort(np.r_[np.arange(0, 4, 0.2), np.arange(0, 4, 0.2) + 0.002])
    assert len(pairs) == 40 and spectrum(pairs, noise[:40], 0.0, 4.0) is None, "only five moments per second"


def test_a_window_that_samples_do_not_fill_has_no_spectrum() -> None:
    time = irregular(4)
    assert spectrum(time[:30], time[:30, None], 0.0, 4.0) is None
    assert spectrum(time[::3], time[::3, None], 0.0, 4.0) is None
    assert spectrum(np.empty(0), np.empty((0, 1)), 0.0, 4.0) is None


def test_windows_overlap_by_half_and_lie_within_stretches() -> None:
    time = np.r_[np.arange(0, 9.95, 0.1), np.arange(20, 22, 0.1), np.arange(30, 33.95, 0.1)]
    found = windows(time, stretches(time, 0.35), 4.0)
    assert [round(start, 6) for start, _ in found] == [0, 2, 4, 6, 30]
    assert [len(time[span]) for _, span in found] == [40] * 5


def test_stillness_lasts_and_does_not_cross_a_gap() -> None:
    time = np.r_[np.arange(0, 3, 0.1), np.arange(3.7, 5, 0.1)]
    speed = np.where(time < 1.5, 1.0, 20.0)
    speed[(time > 2) & (time < 2.5)] = 1.0  # half a second is not stillness
    speed[time > 2.85] = 1.0
    still = still_samples(time, speed, stretches(time, 0.35), 5.0, 1.0)
    assert still.tolist() == [t < 1.5 or t > 3.5 for t in time.tolist()]


def test_samples_stand_for_the_time_around_them_without_gaps() -> None:
    time = np.r_[np.arange(0, 2.05, 0.1), np.arange(5, 7.05, 0.1)]
    assert durations(time, stretches(time, 0.35)).sum() == pytest.approx(4)
