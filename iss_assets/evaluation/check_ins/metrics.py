"""Metrics of predicted answers, per patient and over patients with intervals.

Every metric over patients gives each patient the same weight. It is written as a function of sums per patient, so that
resampling patients costs one matrix product (see ``evaluation.intervals``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iss_assets.evaluation.check_ins.design import HIGHEST
from iss_assets.evaluation.intervals import Interval, Statistic, bca_interval, mean_of
from iss_assets.settings import CheckInSettings

Array = NDArray[np.float64]

LEVELS = int(HIGHEST) + 1
"""Whole numbers from 0 to 10."""

METRICS = {
    "mean_error": "Mean error, points",
    "kappa": "Agreement (weighted kappa)",
    "icc": "Agreement (ICC)",
    "within_correlation": "Ups and downs (rank correlation within patients)",
    "changes_detected": "Important changes detected",
    "false_alarms": "False alarms",
}
"""Metrics with their names on pages."""


@dataclass(frozen=True)
class PatientSums:
    """What the metrics need of each patient; all of length patients (first axis).

    Attributes
    ----------
    check_ins : ndarray
        Number of predicted check-ins.
    error : ndarray
        Mean absolute error.
    cells : ndarray of shape (patients, 121)
        Share of check-ins by answered (rows) and predicted (columns) whole number.
    moments : ndarray of shape (patients, 5)
        Means of a, b, a squared, b squared and a times b, with a answered and b predicted.
    correlation : ndarray
        Spearman's rank correlation; NaN where it is not defined.
    changes, detected, steady, alarms : ndarray
        Changes of at least the important size between neighboring check-ins, those predicted with the same sign and at
        least that size, pairs without such a change, and those for which one is predicted.
    """

    check_ins: Array
    error: Array
    cells: Array
    moments: Array
    correlation: Array
    changes: Array
    detected: Array
    steady: Array
    alarms: Array


def patient_sums(rows: pd.DataFrame, settings: CheckInSettings) -> tuple[list[str], PatientSums]:
    """Compute the sums of every patient.

    Parameters
    ----------
    rows : pandas.DataFrame
        One model's predictions: ``patient_id``, ``check_in``, ``answered``, ``predicted``, sorted by patient and check-in.
    settings : CheckInSettings
        Size of an important change, check-ins that a correlation needs.

    Returns
    -------
    list of str
        Patient ids.
    PatientSums
        In the same order.
    """
    patients, blocks = [], []
    for patient, own in rows.groupby("patient_id", sort=True):
        patients.append(str(patient))
        blocks.append(
            _sums(
                own["answered"].to_numpy(), own["predicted"].to_numpy(), own["check_in"].to_numpy(), settings
            )
        )
    return patients, PatientSums(*(np.array(column, float) for column in zip(*blocks, strict=True)))


def _sums(a: Array, b: Array, check_in: Array, settings: CheckInSettings) -> tuple[object, ...]:
    cells = np.zeros((LEVELS, LEVELS))
    whole = [np.clip(np.floor(v + 0.5), 0, HIGHEST).astype(int) for v in (a, b)]
    np.add.at(cells, (whole[0], whole[1]), 1 / len(a))
    neighbors = np.diff(check_in) == 1
    truly, said = np.diff(a)[neighbors], np.diff(b)[neighbors]
    size = settings.important_change - 1e-9
    important = np.abs(truly) >= size
    alarm = np.abs(said) >= size
    detected = important & alarm & (np.sign(truly) == np.sign(said))
    return (
        len(a),
        np.abs(a - b).mean(),
        cells.ravel(),
        [a.mean(), b.mean(), (a * a).mean(), (b * b).mean(), (a * b).mean()],
        rank_correlation(a, b) if len(a) >= settings.least_check_ins else np.nan,
        important.sum(),
        detected.sum(),
        (~important).sum(),
        (alarm & ~important).sum(),
    )


def rank_correlation(answered: Array, predicted: Array) -> float:
    """Return Spearman's rank correlation with mid-ranks for ties.

    NaN if the answers are all the same; 0 if only the predictions are, which follow no change.
    """
    if np.ptp(answered) < 1e-12:
        return float("nan")
    if np.ptp(predicted) < 1e-12:
        return 0.0
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(answered), rankdata(np.round(predicted, 9)))[0, 1])


_DISTANCE = (np.arange(LEVELS)[:, None] - np.arange(LEVELS)[None, :]) ** 2.0


def weighted_kappa(cells: Array) -> Statistic:
    """Return the statistic "quadratic-weighted kappa" of whole numbers from 0 to 10.

    Parameters
    ----------
    cells : ndarray of shape (patients, 121)
        `PatientSums.cells`.

    References
    ----------
    Cohen, "Weighted kappa", Psychological Bulletin 70 (1968), 213-220.
    """

    def statistic(counts: Array) -> Array:
        table = (counts @ cells).reshape(-1, LEVELS, LEVELS) / counts.sum(axis=1)[:, None, None]
        observed = (table * _DISTANCE).sum(axis=(1, 2))
        answered, predicted = table.sum(axis=2), table.sum(axis=1)
        expected = np.einsum("ri,ij,rj->r", answered, _DISTANCE, predicted)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(expected > 1e-12, 1 - observed / expected, np.nan)

    return statistic


def icc(moments: Array, check_ins: Array) -> Statistic:
    """Return the statistic "ICC(2,1)": absolute agreement of single predictions with answers, two-way random effects.

    Parameters
    ----------
    moments : ndarray of shape (patients, 5)
        `PatientSums.moments`.
    check_ins : ndarray of shape (patients,)
        `PatientSums.check_ins`.

    References
    ----------
    Shrout and Fleiss, "Intraclass correlations", Psychological Bulletin 86 (1979), 420-428.
    """

    def statistic(counts: Array) -> Array:
        people = counts.sum(axis=1)
        a, b, aa, bb, ab = ((counts @ moments) / people[:, None]).T
        # patients weigh the same, and degrees of freedom come from the number of check-ins
        n = counts @ check_ins
        with np.errstate(invalid="ignore", divide="ignore"):
            grand = (a + b) / 2
            between = 2 * ((aa + bb + 2 * ab) / 4 - grand**2) * n / (n - 1)
            raters = n * ((a - grand) ** 2 + (b - grand) ** 2)
            total = n * (aa + bb - 2 * grand**2)
            error = (total - between * (n - 1) - raters) / (n - 1)
            bottom = between + error + 2 * (raters - error) / n
            return np.where((bottom > 1e-12) & (n > 1), (between - error) / bottom, np.nan)

    return statistic


def metrics(sums: PatientSums, settings: CheckInSettings) -> dict[str, Interval]:
    """Compute every metric of `METRICS` over patients with its interval."""
    everyone = np.arange(len(sums.error))
    correlated = np.flatnonzero(~np.isnan(sums.correlation))
    moved, rested = np.flatnonzero(sums.changes > 0), np.flatnonzero(sums.steady > 0)
    made: dict[str, tuple[Callable[[], Statistic], NDArray[np.int64]]] = {
        "mean_error": (lambda: mean_of(sums.error), everyone),
        "kappa": (lambda: weighted_kappa(sums.cells), everyone),
        "icc": (lambda: icc(sums.moments, sums.check_ins), everyone),
        "within_correlation": (lambda: mean_of(sums.correlation[correlated]), correlated),
        "changes_detected": (lambda: mean_of(sums.detected[moved] / sums.changes[moved]), moved),
        "false_alarms": (lambda: mean_of(sums.alarms[rested] / sums.steady[rested]), rested),
    }
    return {name: over_patients(make(), len(among), settings) for name, (make, among) in made.items()}


def over_patients(statistic: Statistic, patients: int, settings: CheckInSettings) -> Interval:
    """Return a statistic over patients with its interval, with the coverage and resamples of the settings."""
    return bca_interval(
        statistic,
        patients,
        confidence=settings.confidence,
        samples=settings.bootstrap_samples,
        seed=settings.seed,
    )


def per_patient(
    patients: Sequence[str], sums: PatientSums, settings: CheckInSettings
) -> list[dict[str, object]]:
    """Return one row of metrics per patient from `patient_sums`; what is not defined for a patient is None."""
    one = np.ones((1, 1))
    result: list[dict[str, object]] = []
    for i, patient in enumerate(patients):
        own = slice(i, i + 1)
        enough = sums.check_ins[i] >= settings.least_check_ins
        agreement = {
            "kappa": float(weighted_kappa(sums.cells[own])(one)[0]) if enough else np.nan,
            "icc": float(icc(sums.moments[own], sums.check_ins[own])(one)[0]) if enough else np.nan,
            "within_correlation": float(sums.correlation[i]),
        }
        result.append(
            {
                "patient_id": patient,
                "check_ins": int(sums.check_ins[i]),
                "mean_error": float(sums.error[i]),
                **{name: None if np.isnan(value) else value for name, value in agreement.items()},
                "changes": int(sums.changes[i]),
                "changes_detected": int(sums.detected[i]),
                "steady": int(sums.steady[i]),
                "false_alarms": int(sums.alarms[i]),
            }
        )
    return result
