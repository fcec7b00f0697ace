"""Calibration, ranges of likely answers, decision curves and numbers of patients agree with arithmetic, other software, and simulation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.metrics import brier_score_loss
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from iss_assets.evaluation.check_ins import calibration as cal
from iss_assets.evaluation.check_ins import decisions, likely, sample_size
from iss_assets.settings import CheckInSettings

SETTINGS = CheckInSettings(bootstrap_samples=499, permutations=1999)


@pytest.fixture(scope="module")
def events() -> SimpleNamespace:
    """60 patients with 1 to 9 check-ins; stated log odds are twice the true ones."""
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(60), rng.integers(1, 10, 60))
    logit = rng.normal(-0.5, 1.2, len(patient))
    happened = rng.random(len(patient)) < 1 / (1 + np.exp(-logit))
    weight = 1 / np.bincount(patient)[patient]
    return SimpleNamespace(
        patient=patient,
        happened=happened,
        stated=1 / (1 + np.exp(-2 * logit)),
        logit=2 * logit,
        weight=weight,
    )


def test_recalibration_of_probabilities_agrees_with_statsmodels(events: SimpleNamespace) -> None:
    found = cal.probability_calibration(events.happened, events.stated, events.patient, SETTINGS)
    binomial = sm.families.Binomial()
    y = events.happened.astype(float)
    slope = sm.GLM(y, sm.add_constant(events.logit), binomial, freq_weights=events.weight).fit().params[1]
    intercept = (
        sm.GLM(y, np.ones(len(y)), binomial, freq_weights=events.weight, offset=events.logit).fit().params[0]
    )
    assert found["slope"].estimate == pytest.approx(slope, abs=1e-6)
    assert found["intercept"].estimate == pytest.approx(intercept, abs=1e-6)
    brier = brier_score_loss(events.happened, events.stated, sample_weight=events.weight)
    share = np.average(y, weights=events.weight)
    assert found["scaled_brier"].estimate == pytest.approx(1 - brier / (share * (1 - share)))
    low, high = found["slope"].low, found["slope"].high
    assert low is not None and high is not None
    assert low < 0.5 < high < 1  # planted: half as steep as stated


def test_resampled_recalibration_is_that_of_the_patients_drawn(events: SimpleNamespace) -> None:
    statistic = cal.logistic(events.happened.astype(float), events.stated, events.patient, slope=True)
    drawn = np.random.default_rng(2).multinomial(60, np.full(60, 1 / 60), size=3).astype(float)
    for counts, found in zip(drawn, statistic(drawn), strict=True):
        weight = events.weight * counts[events.patient]
        model = sm.GLM(
            events.happened.astype(float),
            sm.add_constant(events.logit),
            sm.families.Binomial(),
            freq_weights=weight,
        )
        assert found == pytest.approx(model.fit().params[1], abs=1e-6)


def test_probabilities_that_separate_everything_have_no_slope() -> None:
    happened = np.arange(20) < 10
    stated = 0.2 + 0.6 * happened.astype(float) + np.tile(np.linspace(0, 0.1, 10), 2)
    found = cal.probability_calibration(happened, stated, np.arange(20), SETTINGS)["slope"]
    assert found.estimate is None
    assert found.note == cal.NOT_DEFINED


def test_calibration_of_answers_is_a_regression_of_answers_on_predictions() -> None:
    rng = np.random.default_rng(1)
    predicted = rng.uniform(0, 10, 80)
    answered = 1.5 + 0.6 * predicted + rng.normal(0, 0.4, 80)
    found = cal.answer_calibration(answered, predicted, np.arange(80), SETTINGS)
    assert found["calibration_slope"].estimate == pytest.approx(np.polyfit(predicted, answered, 1)[0])
    assert found["calibration_intercept"].estimate == pytest.approx((answered - predicted).mean())
    # patients with many check-ins do not count more than others
    twice = np.concatenate([np.arange(80), np.zeros(40, int)])
    more = np.concatenate([np.arange(80), np.arange(40) * 0])
    again = cal.answer_calibration(answered[more], predicted[more], twice, SETTINGS)
    assert again["calibration_slope"].estimate == pytest.approx(found["calibration_slope"].estimate)


def test_a_curve_has_bins_of_similar_predictions_and_their_means() -> None:
    predicted = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9])
    observed = np.array([0, 0, 0, 1, 0, 1, 1, 0, 1, 1.0])
    bins = cal.curve(observed, predicted, np.arange(10), SETTINGS)
    assert [b.check_ins for b in bins] == [2, 2, 2, 2, 2]
    assert [b.predicted for b in bins] == pytest.approx([0.15, 0.35, 0.55, 0.75, 0.9])
    assert [b.observed.estimate for b in bins] == pytest.approx([0, 0.5, 0.5, 0.5, 1])
    assert len(cal.curve(observed, np.full(10, 0.5), np.arange(10), SETTINGS)) == 1


def test_net_benefit_is_what_vickers_and_elkin_compute() -> None:
    happened = np.array([True, True, False, False, False])
    acts = np.array([True, False, True, True, False])
    patient = np.arange(5)
    # one right, two in vain at a quarter each
    assert decisions.patient_benefit(happened, acts, patient, 0.2).mean() == pytest.approx((1 - 2 * 0.25) / 5)
    everyone = decisions.patient_benefit(happened, np.ones(5, bool), patient, 0.5)
    assert everyone.mean() == pytest.approx((2 - 3) / 5)
    assert decisions.patient_benefit(happened, acts, np.array([0, 0, 0, 1, 1]), 0.2) == pytest.approx(
        [(1 - 0.25) / 3, -0.25 / 2]
    )


@pytest.mark.parametrize(("informed", "expected"), [(True, "yes"), (False, "no")])
def test_only_a_probability_that_knows_something_is_useful(informed: bool, expected: str) -> None:
    rng = np.random.default_rng(4)
    patient = np.repeat(np.arange(40), 8)
    truth = rng.uniform(0, 0.9, len(patient))
    happened = rng.random(len(patient)) < truth
    stated = truth if informed else rng.permutation(truth)
    without = np.full(len(patient), happened.mean())
    beyond = decisions.gain(happened, stated, [without], patient, SETTINGS)
    head = ("pain_now", likely.SEVERE_ANSWER, "known patient", 1, "pain_now_ridge")
    (found,) = decisions.corrected([decisions.usefulness(head, happened, beyond, SETTINGS)], SETTINGS)
    assert found.verdict == expected


def test_a_model_that_knows_what_the_room_tells_anyway_is_not_useful() -> None:
    rng = np.random.default_rng(4)
    patient = np.repeat(np.arange(40), 8)
    truth = rng.uniform(0, 0.9, len(patient))
    happened = rng.random(len(patient)) < truth
    without = np.full(len(patient), happened.mean())
    seen = np.clip(truth + rng.normal(0, 0.02, len(patient)), 0.01, 0.99)
    alone = decisions.gain(happened, seen, [without], patient, SETTINGS)
    beside_the_room = decisions.gain(happened, seen, [without, truth], patient, SETTINGS)
    assert alone.mean() > 0.05
    assert beside_the_room.mean() < 0.005


def test_a_range_reaches_as_far_as_the_errors_of_others() -> None:
    error = np.arange(1.0, 10.0)
    one = np.ones(9)
    # 90 % of ten patients, one of whom is unknown: the largest of nine
    assert likely.reach_of(error, one, 9, 0.9) == 9
    assert likely.reach_of(error, one, 9, 0.8) == 8
    assert likely.reach_of(error[:8], one[:8], 8, 0.9) == np.inf
    # a patient with many check-ins counts as one: five errors of 100 are one patient in ten
    weight = np.concatenate([one, np.full(5, 0.2)])
    assert likely.reach_of(np.concatenate([error, np.full(5, 100.0)]), weight, 10, 0.8) == 9


def test_ranges_hold_as_many_answers_as_promised_if_patients_are_alike_and_fewer_if_not() -> None:
    rng = np.random.default_rng(0)
    alike, others = [], []
    for _ in range(1500):
        count = rng.integers(1, 8, 30)
        patient = np.repeat(np.arange(30), count)
        error = np.abs(rng.normal(0, 1, 30)[patient] + rng.normal(0, 1, len(patient)))
        seen, place = patient < 29, patient[patient < 29]
        reach = likely.reach_of(error[seen], 1 / count[place], 29, 0.9)
        alike.append((error[~seen] <= reach).mean())
        others.append((2 * error[~seen] <= reach).mean())
    assert 0.9 - 3 * np.std(alike) / np.sqrt(1500) < np.mean(alike) < 0.95
    assert np.mean(others) < 0.75


def test_the_probability_of_an_event_counts_errors_and_one_unknown_patient() -> None:
    error = np.array([-2.0, -1, 0, 1, 2])
    found = likely.exceedance(error, np.ones(5), 5, np.array([-3.0, 0.5, 3.0]))
    assert found == pytest.approx([5.5 / 6, 2.5 / 6, 0.5 / 6])


def test_a_model_cannot_tell_where_the_answer_may_be_an_important_change_away() -> None:
    settings = CheckInSettings(important_change=2)
    assert likely.too_wide(np.array([2.0, 2.0]), np.array([6.0, 7.0]), settings).tolist() == [False, True]


def test_variance_components_are_those_of_an_analysis_of_variance() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, 12)[:, None] + rng.normal(0, 0.7, (12, 4))
    rows = pd.DataFrame({"value": values.ravel(), "patient": np.repeat(np.arange(12), 4)})
    squares = anova_lm(ols("value ~ C(patient)", rows).fit())
    square = squares["sum_sq"] / squares["df"]
    found = sample_size.components(
        np.ones((1, 12)),
        values.mean(axis=1),
        ((values - values.mean(axis=1, keepdims=True)) ** 2).sum(axis=1),
        np.full(12, 4.0),
    )
    assert found.within[0] == pytest.approx(square["Residual"])
    assert found.between[0] == pytest.approx((square["C(patient)"] - square["Residual"]) / 4)


def test_the_number_of_patients_is_the_smallest_whose_interval_is_narrow_enough() -> None:
    n = sample_size.patients_for(1.7, 0.25, 0.95)

    def reach(number: int) -> float:
        return float(stats.t.ppf(0.975, number - 1) * np.sqrt(1.7 / number))

    assert reach(n) <= 0.25 < reach(n - 1)


@pytest.mark.parametrize(
    ("patients", "verdict"),
    [(200, sample_size.KNOWN), (8, sample_size.NOT_KNOWN), (3, sample_size.NOT_SAID)],
)
def test_a_small_study_does_not_know_its_own_variance(patients: int, verdict: str) -> None:
    rng = np.random.default_rng(patients)
    patient = np.repeat(np.arange(patients), 5)
    values = rng.normal(0, 1, patients)[patient] + rng.normal(0, 1, len(patient))
    found = sample_size.needed(sample_size.ERROR, values, patient, SETTINGS)
    assert found.verdict == verdict
    if verdict == sample_size.KNOWN:
        # variance of a patient's mean: 1 + 1/5
        right = sample_size.patients_for(1.2, SETTINGS.wanted_points, SETTINGS.confidence)
        assert found.low is not None and found.high is not None
        assert found.low <= right <= found.high
        medians = [r.median for r in found.reach]
        assert medians == sorted(medians, reverse=True)


def test_every_table_of_a_study_fits_what_was_planted(
    planted: SimpleNamespace, nothing: SimpleNamespace
) -> None:
    sets = planted.tables["check_in_sets"]
    assert (sets["low"] <= sets["high"]).all()
    assert sets["severe_probability"].between(0, 1, inclusive="neither").all()
    metrics = planted.tables["check_in_metrics"].set_index(["known", "model", "metric"])["estimate"]
    assert 0.88 <= metrics[3, "pain_now_ridge", "covered"] <= 0.97
    # the sign makes ranges narrower than the same guess without the video
    assert metrics[3, "pain_now_ridge", "set_width"] < metrics[3, "first_answers", "set_width"]
    assert metrics[3, "pain_now_ridge", "calibration_slope"] == pytest.approx(0.9, abs=0.2)
    assert "yes" not in set(nothing.tables["check_in_usefulness"]["verdict"])
    needed = planted.tables["check_in_patients_needed"].set_index("quantity")
    assert needed.at["mean_error", "needed"] < needed.at["gain_over_last_answer", "needed"]
