"""Are predictions as large as what comes, and probabilities as frequent? Intercept, slope, scaled Brier score, and curves.

Computed on predictions of patients whom no model saw, each patient with the same weight, with intervals over patients. As for all
statistics here, a statistic maps counts of patients to values (see ``evaluation.intervals``).

References
----------
Cox, "Two further applications of a model for binary regression", Biometrika 45 (1958), 562-565; Van Calster et al., "Calibration: the
Achilles heel of predictive analytics", BMC Medicine 17 (2019), 230; Steyerberg et al., Epidemiology 21 (2010), 128-138.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from iss_assets.evaluation.check_ins.design import Array, Integers
from iss_assets.evaluation.check_ins.likely import SEVERE_ANSWER, WORSE
from iss_assets.evaluation.check_ins.metrics import over_patients
from iss_assets.evaluation.intervals import (
    Interval,
    Statistic,
    mean_of,
    ratio_of_sums,
    scaled_brier_of,
)
from iss_assets.settings import CheckInSettings

ANSWER = "answer"
OUTCOMES = (ANSWER, SEVERE_ANSWER, WORSE)
"""What is predicted: the answer itself, or the probability of an event."""

CALIBRATION = {
    "intercept": "On average too low by",
    "slope": "Slope (1 is right; below 1, too far from the mean)",
    "scaled_brier": "Scaled Brier score",
}
"""Metrics with their names on pages: `intercept` with the slope held at 1; of probabilities, both on the scale of log odds."""

LEAST_EVENTS = 5
"""Check-ins with an event, and without it, that anything said of its probability needs."""

BINS = 5
"""Bins of a calibration curve, with as many check-ins each."""

NOT_DEFINED = "not defined: predictions hardly differ, or nothing lies between those of what happened and of what did not"

_CHUNK = 250_000
"""Numbers that a bootstrap of logistic regressions works on at once."""


def event_metric(event: str, metric: str) -> str:
    """Return the name of a metric of the probability of an event in ``check_in_metrics``."""
    return f"{event}_{metric}"


def enough_events(happened: NDArray[np.bool_]) -> bool:
    """Return whether an event happened, and did not happen, often enough to say anything of its probability."""
    return bool(min(happened.sum(), (~happened).sum()) >= LEAST_EVENTS)


def answer_calibration(
    answered: Array, predicted: Array, patient: Integers, settings: CheckInSettings
) -> dict[str, Interval]:
    """Compute intercept and slope of predicted answers.

    Parameters
    ----------
    answered, predicted : ndarray of shape (n,)
        In points.
    patient : ndarray of shape (n,)
        Number of each row's patient, from 0 without gaps.
    settings : CheckInSettings
        Coverage, resamples.

    Returns
    -------
    dict of str to Interval
        ``calibration_intercept``: mean of answered minus predicted. ``calibration_slope``: of the regression of answered on
        predicted.
    """
    mean = _means(patient)
    a, b, bb, ab = (mean(v) for v in (answered, predicted, predicted**2, answered * predicted))

    def slope(counts: Array) -> Array:
        people = counts.sum(axis=1)
        ma, mb, mbb, mab = (counts @ v / people for v in (a, b, bb, ab))
        spread = mbb - mb**2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(spread > 1e-9, (mab - ma * mb) / spread, np.nan)

    return {
        "calibration_intercept": _interval(mean_of(a - b), len(a), settings),
        "calibration_slope": _interval(slope, len(a), settings),
    }


def probability_calibration(
    happened: NDArray[np.bool_], probability: Array, patient: Integers, settings: CheckInSettings
) -> dict[str, Interval]:
    """Compute intercept and slope by logistic recalibration, and the scaled Brier score, of the probability of an event.

    Parameters
    ----------
    happened, probability, patient : ndarray of shape (n,)
        Whether it happened, its predicted probability, and the number of the patient, from 0 without gaps.
    settings : CheckInSettings
        Coverage, resamples.

    Returns
    -------
    dict of str to Interval
        By the names of `CALIBRATION`.
    """
    y = happened.astype(float)
    mean = _means(patient)
    statistics: dict[str, Statistic] = {
        "intercept": logistic(y, probability, patient, slope=False),
        "slope": logistic(y, probability, patient, slope=True),
        "scaled_brier": scaled_brier_of(mean((probability - y) ** 2), mean(y)),
    }
    people = int(patient.max()) + 1
    return {name: _interval(statistic, people, settings) for name, statistic in statistics.items()}


def logistic(happened: Array, probability: Array, patient: Integers, *, slope: bool) -> Statistic:
    """Return the statistic "calibration slope", or "calibration intercept" with the slope held at 1, by Newton's method.

    NaN where the fit does not exist, as where all that happened lies above all that did not.
    """
    logit = np.log(probability) - np.log1p(-probability)
    share = 1 / np.bincount(patient)[patient]

    def fit(weight: Array, level: Array, steepness: Array) -> tuple[Array, Array]:
        for _ in range(30):
            expected = 1 / (1 + np.exp(-np.clip(level[:, None] + steepness[:, None] * logit, -35, 35)))
            off = weight * (happened - expected)
            curved = weight * expected * (1 - expected)
            g0, h00 = off.sum(axis=1), curved.sum(axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                if slope:
                    g1, h01, h11 = off @ logit, curved @ logit, curved @ logit**2
                    bottom = h00 * h11 - h01**2
                    steps = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0]) / np.where(
                        bottom > 1e-12 * h00**2, bottom, np.nan
                    )
                else:
                    steps = np.stack([g0 / h00, np.zeros(len(weight))])
            # long steps are cut, so that Newton's method does not run away
            steps *= np.minimum(1, 4 / np.maximum(np.abs(steps).max(axis=0), 1e-300))
            level, steepness = level + steps[0], steepness + steps[1]
            done = np.abs(steps).max(axis=0) < 1e-7
            if (done | np.isnan(steps[0])).all():
                break
        return np.where(done, level, np.nan), np.where(done, steepness, np.nan)

    # resamples start from the fit to all patients, which is not far
    whole = fit(share[None, :], np.zeros(1), np.ones(1))
    start = [np.nan_to_num(value, nan=default) for value, default in zip(whole, (0.0, 1.0), strict=True)]

    def statistic(counts: Array) -> Array:
        rows = max(1, _CHUNK // len(patient))
        parts = [counts[at : at + rows][:, patient] * share for at in range(0, len(counts), rows)]
        found = [fit(part, *(np.repeat(value, len(part)) for value in start)) for part in parts]
        return np.concatenate([steepness if slope else level for level, steepness in found])

    return statistic


@dataclass(frozen=True)
class Bin:
    """One dot of a calibration curve: check-ins with similar predictions.

    Attributes
    ----------
    number : int
        1 for the smallest predictions.
    check_ins, patients : int
        How many are in it.
    predicted : float
        Mean prediction.
    observed : Interval
        Mean of what came, or share of check-ins with the event.
    """

    number: int
    check_ins: int
    patients: int
    predicted: float
    observed: Interval


def curve(observed: Array, predicted: Array, patient: Integers, settings: CheckInSettings) -> list[Bin]:
    """Return the calibration curve of predictions: `BINS` bins by predicted value, equal predictions in the same one."""
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, BINS + 1)[1:-1], method="higher"))
    of = np.searchsorted(edges, predicted, side="right")
    weight = 1 / np.bincount(patient)[patient]
    bins = []
    for number, name in enumerate(np.unique(of), start=1):
        inside = of == name
        people, place = np.unique(patient[inside], return_inverse=True)
        bottom = np.bincount(place, weights=weight[inside])
        top = np.bincount(place, weights=weight[inside] * observed[inside])
        bins.append(
            Bin(
                number,
                int(inside.sum()),
                len(people),
                float(np.average(predicted[inside], weights=weight[inside])),
                _interval(ratio_of_sums(top, bottom), len(people), settings),
            )
        )
    return bins


class _means:
    """Means over each patient's check-ins."""

    def __init__(self, patient: Integers):
        self.patient, self.count = patient, np.bincount(patient)

    def __call__(self, values: Array) -> Array:
        return np.asarray(np.bincount(self.patient, weights=values) / self.count)


def _interval(statistic: Statistic, patients: int, settings: CheckInSettings) -> Interval:
    found = over_patients(statistic, patients, settings)
    return found if found.estimate is not None else replace(found, note=NOT_DEFINED)
