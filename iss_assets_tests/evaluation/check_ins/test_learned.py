"""The size of a sign is that of the sign, whatever the number of patients and of measures that say nothing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from iss_assets.evaluation.check_ins.claims import FOLLOWS
from iss_assets.evaluation.check_ins.design import check_ins, design, predictors
from iss_assets.evaluation.check_ins.learned import METRIC, size_of_sign
from iss_assets.evaluation.check_ins.learners import fit_ridge
from iss_assets.evaluation.intervals import Interval
from iss_assets.modeling.check_ins import SENSORS
from iss_assets.protocol.targets import target
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import invent_check_ins

FEW = CheckInSettings(bootstrap_samples=299)


def size(patients: int, noise_measures: int, *, effect: float = 0.5, seed: int = 0) -> Interval:
    made = invent_check_ins(patients, 10, effect=effect, seed=seed, folds=3, noise_measures=noise_measures)
    rows = check_ins(made.bpi_scores, made.splits, made.measures)
    of = design(rows, target("pain_now"))
    x, _ = predictors(rows, of, SENSORS)
    return size_of_sign(fit_ridge, x, of, pd.DataFrame(index=of.submission), 1, FEW)


def test_a_planted_half_is_found_as_a_half_with_many_useless_measures_too() -> None:
    found = [size(29, measures, seed=seed).estimate or 0.0 for measures in (2, 40) for seed in range(8)]
    assert np.mean(found[:8]) == pytest.approx(0.5, abs=0.04)
    assert np.mean(found[8:]) == pytest.approx(0.5, abs=0.06)


def test_its_interval_is_around_it_and_narrower_with_more_patients() -> None:
    few, many = size(29, 8), size(200, 8)
    assert many.low is not None and many.high is not None and few.low is not None and few.high is not None
    assert many.low < 0.5 < many.high
    assert many.high - many.low < (few.high - few.low) / 2


def test_with_too_few_patients_to_learn_twice_it_is_not_stated() -> None:
    found = size(12, 2)
    assert (found.estimate, found.note) == (None, "too few patients to learn twice")


def test_it_is_stated_beside_what_the_model_reaches_and_only_where_a_sign_is_shown(
    planted: SimpleNamespace, nothing: SimpleNamespace
) -> None:
    metrics, claims = planted.tables["check_in_metrics"], planted.tables["check_in_claims"]
    (row,) = metrics[metrics["metric"] == METRIC].to_dict("records")
    reached = claims[(claims["claim"] == FOLLOWS) & (claims["model"] == row["model"])]["estimate"].item()
    assert row["low"] < 0.6 < row["high"]
    assert reached < row["estimate"]
    assert not (nothing.tables["check_in_metrics"]["metric"] == METRIC).any()
