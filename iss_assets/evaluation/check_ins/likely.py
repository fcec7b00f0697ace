"""Ranges of likely answers (conformal prediction sets) and probabilities of events, calibrated on other patients.

A model that never saw a patient predicts a number. How far off such predictions are is known from the patients of the other splits,
whom their models never saw either: their errors say which answers are likely around a new prediction (cross-conformal, by whole
patients), and how probable an event is (a predictive distribution). Every patient of the calibration counts the same, however many
check-ins there are, and the unknown errors of the new patient count as those of one more patient, as large as can be.

If patients are exchangeable, as many new check-ins as promised fall into their range, on average over patients; nothing is promised for a
single patient, or for patients of another kind.

References
----------
Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005); Vovk, "Cross-conformal predictors", Annals of Mathematics
and Artificial Intelligence 74 (2015), 9-28; Lee, Barber and Willett, "Distribution-free inference with hierarchical data",
arXiv:2306.06342 (2023): the weights of patients and of the unknown one; Vovk et al., "Nonparametric predictive distributions based on
conformal prediction", Machine Learning 108 (2019), 445-474.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iss_assets.evaluation.check_ins.design import HIGHEST, Array, Design, Integers
from iss_assets.protocol.targets import SEVERE
from iss_assets.settings import CheckInSettings

SEVERE_ANSWER, WORSE = "severe", "worse"
EVENTS = {
    SEVERE_ANSWER: f"an answer of {SEVERE} or more",
    WORSE: "an important change for the worse from the first answers",
}
"""Events whose probability is stated, with their names on pages. A patient's first answers are the known ones, so that of new
patients only the first is stated."""


@dataclass(frozen=True)
class Likely:
    """What a model holds possible at each check-in; all of shape (n,), in the order of the predictions.

    Attributes
    ----------
    row : ndarray of int64
        Row of the design.
    low, high : ndarray
        Smallest and largest likely answer.
    cannot_tell : ndarray of bool
        Whether the range is too wide to be of use.
    probability, happened : dict of str to ndarray
        For each event of `EVENTS` that is defined, its probability, and whether it happened.
    """

    row: Integers
    low: Array
    high: Array
    cannot_tell: NDArray[np.bool_]
    probability: dict[str, Array]
    happened: dict[str, NDArray[np.bool_]]


def too_wide(low: Array, high: Array, settings: CheckInSettings) -> NDArray[np.bool_]:
    """Return where a range of likely answers is too wide to be of use: then the model cannot tell.

    That is where the answer may be more than an important change away from the middle of the range.
    """
    return np.asarray(high - low > 2 * settings.important_change + 1e-9)


def likely_answers(
    predicted: pd.DataFrame, of: Design, settings: CheckInSettings, others: pd.DataFrame | None = None
) -> Likely:
    """Return the likely answers at each check-in that one model predicted in one situation.

    Parameters
    ----------
    predicted : pandas.DataFrame
        Rows of `protocols.predictions` with one protocol, one number of known check-ins and one model.
    of : Design
        The target's check-ins.
    settings : CheckInSettings
        Coverage, size of an important change.
    others : pandas.DataFrame, optional
        Predictions of the same model in the same situation for patients of another study, whose models never saw them: their
        errors calibrate all check-ins then.

    Returns
    -------
    Likely
        Calibrated for each check-in on the patients of other splits.
    """
    number = {submission: i for i, submission in enumerate(of.submission)}
    row = np.asarray(predicted["submission_id"].map(number), np.int64)
    known = int(predicted["known"].iloc[0])
    middle, y, patient = predicted["predicted"].to_numpy(float), of.y[row], of.patient[row]
    split = of.split[patient]
    reach = np.empty(len(row))
    cuts = {SEVERE_ANSWER: np.full(len(row), float(SEVERE))}
    if known:
        first = of.order <= known
        start = np.bincount(of.patient[first], weights=of.y[first], minlength=len(of.patients)) / known
        cuts[WORSE] = start[patient] + settings.important_change
    probability = {event: np.empty(len(row)) for event in cuts}
    finest = 1 / len(of.target.answers)
    for test in np.unique(split) if others is None else [None]:
        if others is None:
            own, rest = split == test, split != test
            error, whose = y[rest] - middle[rest], patient[rest]
        else:
            own = np.ones(len(row), bool)
            error = (others["answered"] - others["predicted"]).to_numpy(float)
            whose = pd.factorize(others["patient_id"])[0].astype(np.int64)
        people, place = np.unique(whose, return_inverse=True)
        weight = 1 / np.bincount(place, minlength=1)[place] if len(people) else np.empty(0)
        reach[own] = reach_of(np.abs(error), weight, len(people), settings.set_coverage)
        for event, cut in cuts.items():
            # the smallest answer that counts, and half a step less, as answers are rounded
            least = np.ceil(cut[own] / finest - 1e-9) * finest - finest / 2
            probability[event][own] = exceedance(error, weight, len(people), least - middle[own])
    low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach, HIGHEST)
    if finest == 1:
        low, high = np.ceil(low - 1e-9), np.floor(high + 1e-9)
        empty = low > high  # no whole number in between: the nearest one
        low[empty] = high[empty] = np.floor(middle[empty] + 0.5)
    happened = {event: y >= cut - 1e-9 for event, cut in cuts.items()}
    return Likely(row, low, high, too_wide(low, high, settings), probability, happened)


def reach_of(error: Array, weight: Array, patients: int, coverage: float) -> float:
    """Return how far a prediction may be off: the quantile of absolute errors, with one more patient of unlimited error.

    Parameters
    ----------
    error : ndarray of shape (n,)
        Absolute errors at the check-ins of other patients.
    weight : ndarray of shape (n,)
        Weights; a patient's add up to 1.
    patients : int
        Number of other patients.
    coverage : float
        Level of the quantile.

    Returns
    -------
    float
        Infinite if there are too few patients for the coverage: fewer than coverage / (1 - coverage).
    """
    order = np.argsort(error, kind="stable")
    reached = np.cumsum(weight[order]) >= coverage * (patients + 1) - 1e-9
    return float(error[order][np.argmax(reached)]) if reached.any() else float("inf")


def exceedance(error: Array, weight: Array, patients: int, least: Array) -> Array:
    """Return the probability of an error of at least `least`; half of the one more patient counts, so that it is never 0 or 1."""
    order = np.argsort(error, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(weight[order])])
    at_least = below[-1] - below[np.searchsorted(error[order], least - 1e-9, side="left")]
    return np.asarray((at_least + 0.5) / (patients + 1))
