"""How well patients are recognized: certain where they differ, chance where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from iss_assets.evaluation.reidentification import recognize

WHO = np.repeat([f"p{n}" for n in range(12)], 6)


def test_patients_who_differ_are_all_recognized() -> None:
    random = np.random.default_rng(1)
    values = np.repeat(random.normal(size=(12, 8)) * 20, 6, axis=0) + random.normal(size=(72, 8))
    found = recognize("f", WHO, values)
    assert (found.identified, found.verified, found.chance) == (1.0, 1.0, 0.083)
    assert (found.patients, found.videos) == (12, 72)


def test_features_that_say_nothing_identify_nobody_beyond_chance() -> None:
    found = recognize("f", WHO, np.random.default_rng(2).normal(size=(72, 8)))
    assert found.identified_low is not None and found.identified_low < 1 / 12 + 0.05
    assert found.identified is not None and found.identified < 0.25
    assert found.verified_low is not None and found.verified_high is not None
    assert found.verified_low < 0.5 + 0.03 and found.verified_high > 0.5 - 0.03


def test_a_discriminant_finds_what_distances_drown_in_noise() -> None:
    random = np.random.default_rng(3)
    noise = random.normal(size=(72, 1)) * np.linspace(1, 3, 10) * 30
    values = np.hstack([noise + random.normal(size=(72, 10)), np.repeat(np.arange(12.0), 6)[:, None]])
    found = recognize("f", WHO, values)
    assert found.attacker == "a linear discriminant"
    assert found.identified is not None and found.identified > 0.6


def test_every_patient_counts_once_whatever_the_number_of_videos() -> None:
    # one patient with a hundred videos is always recognized, ten with two videos never
    who = np.array(["a"] * 100 + [f"p{n}" for n in range(10) for _ in range(2)])
    values = np.vstack([np.zeros((100, 1)), np.tile([[1000.0], [2000.0]], (10, 1))])
    values[100:] += np.random.default_rng(4).normal(size=(20, 1)) * 10
    found = recognize("f", who, values)
    assert found.identified is not None and found.identified < 0.5


def test_missing_values_and_constant_columns_are_no_obstacle() -> None:
    values = np.column_stack([np.repeat(np.arange(12.0), 6) * 9, np.ones(72), np.full(72, np.nan)])
    values[0, 0] = np.nan
    found = recognize("f", WHO, values)
    assert found.identified is not None and found.identified >= 0.95


@pytest.mark.parametrize("who", [["a", "b", "c", "d"], ["a", "a", "b", "b", "c"]])
def test_too_few_videos_are_said_and_not_measured(who: list[str]) -> None:
    found = recognize("f", np.array(who), np.zeros((len(who), 2)))
    assert found.identified is None
    assert "with two videos or more" in found.note and "3 are needed" in found.note
