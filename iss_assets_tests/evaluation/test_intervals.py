"""Statistics over patients and their bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from iss_assets.evaluation.intervals import (
    Interval,
    auroc,
    bca_interval,
    holm,
    mean_of,
    mean_of_class_means,
    scaled_brier,
    share_interval,
)

ONES = np.ones((1, 4))


def bounds(interval: Interval) -> tuple[float, float, float]:
    """Return lower bound, estimate and upper bound of an interval that must have them."""
    assert interval.low is not None and interval.estimate is not None and interval.high is not None
    return interval.low, interval.estimate, interval.high


def test_a_mean_counts_each_patient_as_often_as_it_was_drawn() -> None:
    counts = np.array([[1.0, 1, 1, 1], [0, 2, 2, 0], [4, 0, 0, 0]])
    assert mean_of([1, 2, 3, 4])(counts).tolist() == [2.5, 2.5, 1.0]


def test_a_mean_over_selected_patients_excludes_the_others() -> None:
    assert mean_of([1, 2, 3, 4], [False, True, True, False])(ONES).tolist() == [2.5]


def test_a_mean_over_no_patient_is_not_defined() -> None:
    assert np.isnan(mean_of([1, 2, 3, 4], [True, False, False, False])(np.array([[0.0, 2, 2, 0]])))[0]


def test_class_means_have_equal_weight_regardless_of_class_size() -> None:
    """Pain: (1 + 0 + 1) / 3; no pain: 0.5."""
    statistic = mean_of_class_means([1, 0, 1, 0.5], ["Pain", "Pain", "Pain", "No Pain"])
    assert statistic(ONES)[0] == pytest.approx((2 / 3 + 0.5) / 2)


def test_auroc_is_the_share_of_pairs_in_order_with_ties_as_halves() -> None:
    """Pain 0.8 and 0.5 against none 0.5 and 0.9: pairs 1, 0, 0.5, 0."""
    assert auroc([0.8, 0.5, 0.5, 0.9], [True, True, False, False])(ONES)[0] == pytest.approx(1.5 / 4)


def test_auroc_agrees_with_scikit_learn_on_a_resample() -> None:
    rng = np.random.default_rng(0)
    score, pain = rng.random(29).round(1), rng.random(29) < 0.5
    counts = rng.multinomial(29, np.full(29, 1 / 29)).astype(float)
    drawn = np.repeat(np.arange(29), counts.astype(int))
    assert auroc(score, pain)(counts[None])[0] == pytest.approx(roc_auc_score(pain[drawn], score[drawn]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_interval_agrees_with_scipys_bca(seed: int) -> None:
    values = np.random.default_rng(seed).beta(2, 1, 29)
    ours = bca_interval(mean_of(values), 29, samples=9999)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="BCa", random_state=seed)
    assert ours.method == "BCa"
    assert ours.estimate == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.006)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.006)


def test_a_skewed_sample_shifts_the_interval_to_its_long_side() -> None:
    values = np.array([0.0] * 12 + [0.2, 0.4, 1.0])
    interval = bca_interval(mean_of(values), 15)
    low, estimate, high = bounds(interval)
    assert high - estimate > estimate - low


def test_the_same_seed_gives_the_same_interval() -> None:
    statistic = mean_of(np.linspace(0, 1, 10))
    assert bca_interval(statistic, 10, seed=3) == bca_interval(statistic, 10, seed=3)


@pytest.mark.parametrize(
    ("values", "note"),
    [([], "no patients"), ([0.7], "one patient"), ([1.0, 1.0, 1.0], "all patients alike")],
)
def test_without_a_meaningful_bootstrap_there_is_no_interval_and_the_note_gives_the_reason(
    values: list[float], note: str
) -> None:
    interval = bca_interval(mean_of(values), len(values))
    assert (interval.low, interval.high, interval.method) == (None, None, "none")
    assert interval.note is not None and interval.note.startswith(note)


def test_resamples_with_one_class_are_excluded_and_reported() -> None:
    mixed = bca_interval(auroc([0.9, 0.2, 0.3, 0.1], [True, True, False, False]), 4)
    assert mixed.note is not None and "one class only" in mixed.note
    low, estimate, high = bounds(mixed)
    assert 0 <= low <= estimate <= high <= 1


def test_auroc_without_patients_in_pain_is_not_defined() -> None:
    interval = bca_interval(auroc([0.1, 0.2], [False, False]), 2)
    assert interval.estimate is None and interval.note is not None and "not defined" in interval.note


def test_holm_steps_down_and_stays_monotone() -> None:
    """0.01 x 4; 0.02 x 3; 0.03 x 2 = 0.06; 0.04 x 1 is raised to 0.06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_never_exceeds_one_and_leaves_gaps_alone() -> None:
    adjusted = holm([0.9, np.nan, 0.8])
    assert adjusted[[0, 2]].tolist() == [1.0, 1.0] and np.isnan(adjusted[1])


@pytest.mark.parametrize("confidence", [0.95, 0.8])
@pytest.mark.parametrize("patients", [1, 4, 8, 29])
def test_exact_intervals_are_the_shares_that_the_binomial_tests_do_not_reject(
    patients: int, confidence: float
) -> None:
    """Bounds by definition: each gives the observed or a more extreme count the probability of one tail."""
    tail = (1 - confidence) / 2
    for yes in range(patients + 1):
        found = share_interval(yes, patients, confidence=confidence)
        assert found.estimate == yes / patients
        if yes == 0:
            assert found.low == 0
        else:
            assert stats.binom.sf(yes - 1, patients, found.low) == pytest.approx(tail)
        if yes == patients:
            assert found.high == 1
        else:
            assert stats.binom.cdf(yes, patients, found.high) == pytest.approx(tail)
        scipys = stats.binomtest(yes, patients).proportion_ci(confidence, method="exact")
        assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high))


def test_eight_of_eight_is_not_certainty() -> None:
    found = share_interval(8, 8)
    low, _, high = bounds(found)
    assert (round(low, 2), high, found.method) == (0.63, 1.0, "Clopper-Pearson")
    assert share_interval(0, 0).estimate is None


def test_the_scaled_brier_score_is_zero_for_the_share_and_one_for_the_truth() -> None:
    pain, counts = np.array([1, 1, 1, 0, 0]), np.ones((1, 5))
    assert scaled_brier(np.full(5, 0.6), pain)(counts)[0] == pytest.approx(0)
    assert scaled_brier(pain, pain)(counts)[0] == pytest.approx(1)
    assert scaled_brier(1 - pain, pain)(counts)[0] < 0
    assert np.isnan(scaled_brier(np.full(5, 0.6), pain)(np.array([[1.0, 1, 1, 0, 0]]))[0]), (
        "no class without pain"
    )
