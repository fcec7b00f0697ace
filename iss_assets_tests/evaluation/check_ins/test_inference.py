"""The mixed model agrees with statsmodels, and finds a planted effect with its size."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from statsmodels.formula.api import ols
from statsmodels.regression.mixed_linear_model import MixedLM

from iss_assets.evaluation.check_ins.inference import fit_random_intercept


@pytest.mark.parametrize("spread", [0.8, 2.0])
def test_the_random_intercept_model_agrees_with_statsmodels(spread: float) -> None:
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(25), rng.integers(1, 9, 25))
    n = len(patient)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    y = 5 + spread * rng.normal(size=25)[patient] + 0.4 * x[:, 1] + rng.normal(size=n)
    ours = fit_random_intercept(y, x, patient)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MixedLM(y, x, patient).fit(reml=True)
    np.testing.assert_allclose(ours.coefficients, theirs.fe_params, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours.errors, theirs.bse_fe, rtol=0.01)
    assert ours.between == pytest.approx(theirs.cov_re[0, 0], rel=1e-3)
    assert ours.within == pytest.approx(theirs.scale, rel=1e-3)


def test_without_differences_between_patients_the_model_is_least_squares() -> None:
    rng = np.random.default_rng(2)
    patient = np.repeat(np.arange(10), 4)
    x = np.column_stack([np.ones(40), rng.normal(size=40)])
    # days of a patient differ more than patients do
    y = x @ [1.0, 0.5] + np.tile([2.0, -2.0, 2.0, -2.0], 10) + rng.normal(0, 0.1, 40)
    ours = fit_random_intercept(y, x, patient)
    assert ours.between == 0
    np.testing.assert_allclose(ours.coefficients, np.linalg.lstsq(x, y, rcond=None)[0])


def test_the_planted_effect_is_found_with_its_size_and_nothing_else(planted: SimpleNamespace) -> None:
    effects = planted.tables["check_in_effects"].set_index("measure")
    sign = effects.loc["voice: voice.sign"]
    assert sign["p_value_holm"] < 1e-6
    assert abs(sign["correlation"] - 0.6) < 0.12
    # in points: 0.6 of the 1.5 points by which a patient's days differ
    assert sign["low"] < 0.9 < sign["high"]
    assert (effects.drop("voice: voice.sign")["p_value_holm"] > 0.05).all()


def test_the_correlation_is_the_repeated_measures_correlation(planted: SimpleNamespace) -> None:
    rows = planted.study.measures["voice"].merge(
        planted.study.bpi_scores, left_on="video_id", right_on="submission_id"
    )
    rows = rows.rename(columns={"patient_id_x": "patient", "voice.sign": "sign"})
    ours = planted.tables["check_in_effects"].set_index("measure").at["voice: voice.sign", "correlation"]
    # Bakdash and Marusich (2017): the share of the variance within patients that a common slope explains
    without, with_sign = (ols(f"pain_now ~ C(patient){term}", rows).fit().ssr for term in ("", " + sign"))
    assert ours == pytest.approx(np.sqrt(1 - with_sign / without), abs=0.005)


def test_patients_who_differ_show_no_effect_of_days(nothing: SimpleNamespace) -> None:
    assert (nothing.tables["check_in_effects"]["p_value_holm"] > 0.05).all()
