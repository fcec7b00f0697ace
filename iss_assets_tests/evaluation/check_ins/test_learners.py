"""The models agree with scikit-learn, weigh patients alike, and survive hostile measures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge

from iss_assets.evaluation.check_ins.learners import LEARNING_RATE, fit_boosting, fit_ridge


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Measures, answers, weights and patients: 12 patients with 2 to 8 check-ins."""
    rng = np.random.default_rng(4)
    patient = np.repeat(np.arange(12), rng.integers(2, 9, 12))
    x = rng.normal(3, 2, (len(patient), 6))
    y = 4 + x @ [0.5, 0, 0, -0.3, 0, 0] + rng.normal(size=len(patient))
    return x, y, 1 / np.bincount(patient)[patient], patient


@pytest.mark.parametrize("more_measures", [0, 200])
def test_the_linear_model_is_scikit_learns_ridge_at_the_chosen_penalty(
    rows: tuple[np.ndarray, ...], more_measures: int
) -> None:
    x, y, weight, patient = rows
    x = np.column_stack([x, np.random.default_rng(1).normal(size=(len(y), more_measures))])
    model = fit_ridge(x, y, weight, patient)
    z = model.scaler(x)
    np.testing.assert_allclose(np.average(z, axis=0, weights=weight), 0, atol=1e-9)
    np.testing.assert_allclose(np.average(z**2, axis=0, weights=weight), 1)
    theirs = Ridge(alpha=model.penalty * weight.sum() / 100).fit(z, y, sample_weight=weight)
    np.testing.assert_allclose(model.coefficients, theirs.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(model.predict(x), theirs.predict(z), rtol=1e-8)


def test_measures_that_say_nothing_are_penalized_away() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(30), 5)
    x, y = rng.normal(size=(150, 20)), rng.normal(5, 2, 150)
    model = fit_ridge(x, y, np.full(150, 0.2), patient)
    assert np.abs(model.coefficients).max() < 0.1
    assert model.intercept == pytest.approx(y.mean())


def test_boosted_trees_predict_what_scikit_learn_predicts(rows: tuple[np.ndarray, ...]) -> None:
    x, y, weight, patient = rows
    model = fit_boosting(x, y, weight, patient, trees=15, seed=3)
    start = np.average(y, weights=weight)
    theirs = GradientBoostingRegressor(
        n_estimators=15, max_depth=2, learning_rate=LEARNING_RATE, subsample=0.5, max_features=0.5,
        min_samples_leaf=max(2, min(10, len(y) // 20)), init="zero", random_state=3,
    ).fit(model.scaler(x), y - start, sample_weight=weight)  # fmt: skip
    np.testing.assert_allclose(model.predict(x), start + theirs.predict(model.scaler(x)), rtol=1e-6)


def test_missing_constant_and_empty_measures_do_no_harm(rows: tuple[np.ndarray, ...]) -> None:
    x, y, weight, patient = rows
    spoiled = np.column_stack([x, np.full(len(y), 7.0), np.full(len(y), np.nan)])
    spoiled[::3, 2] = np.nan
    for fit in (fit_ridge, lambda x, y, w, p: fit_boosting(x, y, w, p, 5, 0)):
        model = fit(spoiled, y, weight, patient)
        assert sorted(model.scaler.kept) == [0, 1, 2, 3, 4, 5]
        assert np.isfinite(model.predict(np.full((3, 8), np.nan))).all()
        nothing = fit(np.empty((len(y), 0)), y, weight, patient)
        np.testing.assert_allclose(nothing.predict(np.empty((2, 0))), np.average(y, weights=weight))
