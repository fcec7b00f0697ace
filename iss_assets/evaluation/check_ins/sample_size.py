"""How many patients would a study need for the intervals it would like?

Simulated from the study's own variance: what differs between patients and what differs from check-in to check-in are estimated from
it, studies of other sizes are drawn with that variance and with the study's own numbers of check-ins, and the reach of their intervals is
measured. A small study hardly knows its own variance. Each draw therefore estimates it again from patients drawn with replacement, so
that the range of the answers says how far they can be trusted.

References
----------
Searle, Casella and McCulloch, "Variance Components" (1992), section 3.6: the estimator for unequal numbers; Riley et al., "Calculating the
sample size required for developing a clinical prediction model", BMJ 368 (2020), m441.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iss_assets.evaluation.check_ins.design import Array, Integers
from iss_assets.evaluation.check_ins.inference import LEAST_PATIENTS
from iss_assets.evaluation.check_ins.protocols import deviations
from iss_assets.settings import CheckInSettings

ERROR, GAIN, CORRELATION = "mean_error", "gain_over_last_answer", "correlation"
QUANTITIES = {
    ERROR: "the mean error",
    GAIN: "how much smaller the error is than the last answer’s",
    CORRELATION: "the correlation within patients",
}
"""What a study wants an interval of, with names on pages."""

SIZES = (10, 15, 20, 29, 40, 60, 80, 112, 160, 240, 350, 500, 700, 1000)
"""Numbers of patients that are simulated; the paper analyzes 29 and plans 112."""

DRAWS = 400
"""Simulated studies of each size."""

INNER = (0.05, 0.95)
"""Ends of every range over simulated studies: it holds nine in ten."""

MOST_RATIO = 2.0
"""A study knows its own variance if the range of the number of patients needed spans no more than this factor."""

KNOWN, NOT_KNOWN, NOT_SAID = "known", "too few patients to know", "cannot be said"
VERDICTS = (KNOWN, NOT_KNOWN, NOT_SAID)
"""Whether the study knows its own variance; the last where nothing can be estimated."""


@dataclass(frozen=True)
class Components:
    """Variance between patients and within them; each of shape (draws,)."""

    between: Array
    within: Array


@dataclass(frozen=True)
class Reach:
    """How far an interval reaches to either side in studies of one size: median and range over simulated studies."""

    patients: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Needed:
    """How many patients a study needs for an interval that reaches as far as wanted.

    Attributes
    ----------
    quantity : str
        One of `QUANTITIES`.
    patients, check_ins : int
        Patients and check-ins that the variance is estimated from.
    between, within : float or None
        Variance between patients and within them.
    wanted : float
        How far the interval should reach to either side.
    needed, low, high : int or None
        Patients needed, with its range.
    verdict : str
        One of `VERDICTS`.
    reach : tuple of Reach
        By number of patients.
    """

    quantity: str
    patients: int
    check_ins: int
    between: float | None
    within: float | None
    wanted: float
    needed: int | None
    low: int | None
    high: int | None
    verdict: str
    reach: tuple[Reach, ...]


def quantities(answered: Array, predicted: Array, last: Array, patient: Integers) -> dict[str, Array]:
    """Return, for each check-in, what the mean over patients of each quantity is made of; NaN where it is not defined.

    Parameters
    ----------
    answered, predicted, last : ndarray of shape (n,)
        The answer, the prediction, and the patient's last answer, in points.
    patient : ndarray of shape (n,)
        Number of each row's patient.

    Returns
    -------
    dict of str to ndarray
        Of the correlation, which is no mean, its change with each check-in (influence; Hampel, JASA 69 (1974), 383-393).
    """
    error = np.abs(answered - predicted)
    share = 1 / np.bincount(patient)[patient]
    day = deviations(np.column_stack([answered, predicted]), patient)
    several = np.bincount(patient)[patient] > 1
    spread = np.sqrt((share[several] @ day[several] ** 2) / max(share[several].sum(), 1e-300))
    influence = np.full(len(answered), np.nan)
    if (spread > 1e-9).all():
        z = day[several] / spread
        r = float(share[several] @ z.prod(axis=1) / share[several].sum())
        influence[several] = z.prod(axis=1) - r * (z**2).mean(axis=1)
    return {ERROR: error, GAIN: np.abs(answered - last) - error, CORRELATION: influence}


def needed(quantity: str, values: Array, patient: Integers, settings: CheckInSettings) -> Needed:
    """Estimate how many patients are needed for one quantity.

    Parameters
    ----------
    quantity : str
        One of `QUANTITIES`.
    values : ndarray of shape (n,)
        Its value at each check-in, as `quantities` returns it.
    patient : ndarray of shape (n,)
        Number of each row's patient.
    settings : CheckInSettings
        What is wanted, coverage of the intervals, seed.
    """
    wanted = settings.wanted_correlation if quantity == CORRELATION else settings.wanted_points
    there = ~np.isnan(values)
    people, place = np.unique(patient[there], return_inverse=True)
    size = np.bincount(place, minlength=len(people)).astype(float)
    nothing = Needed(
        quantity, len(people), int(there.sum()), None, None, wanted, None, None, None, NOT_SAID, ()
    )
    if (size > 1).sum() < LEAST_PATIENTS:
        return nothing
    total = np.bincount(place, weights=values[there])
    squares = np.bincount(place, weights=values[there] ** 2) - total**2 / size
    rng = np.random.default_rng([settings.seed, 7])
    drawn = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=DRAWS).astype(float)
    own = components(np.ones((1, len(people))), total / size, squares, size)
    other = components(drawn, total / size, squares, size)
    of_mean = float(own.between[0] + own.within[0] * np.mean(1 / size))
    if not np.isfinite(of_mean) or of_mean <= 1e-12:
        return nothing
    of_means = other.between + other.within * (drawn @ (1 / size)) / len(people)
    low, high = np.nanquantile(of_means, INNER)
    number, fewest, most = (
        patients_for(v, wanted, settings.confidence) for v in (of_mean, float(low), float(high))
    )
    return Needed(
        quantity,
        len(people),
        int(there.sum()),
        float(own.between[0]),
        float(own.within[0]),
        wanted,
        number,
        fewest,
        most,
        KNOWN if most <= MOST_RATIO * fewest else NOT_KNOWN,
        tuple(_reach(n, other, drawn, size, settings, rng) for n in SIZES),
    )


def components(counts: Array, mean: Array, squares: Array, size: Array) -> Components:
    """Estimate variance components from an analysis of variance with unequal numbers, for each row of counts of patients.

    Parameters
    ----------
    counts : ndarray of shape (draws, patients)
        How often each patient was drawn.
    mean, squares, size : ndarray of shape (patients,)
        Each patient's mean, sum of squares around it, and number of check-ins.
    """
    number, people = counts @ size, counts.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        within = (counts @ squares) / (number - people)
        grand = (counts @ (size * mean)) / number
        among = (counts @ (size * mean**2) - number * grand**2) / (people - 1)
        usual = (number - (counts @ size**2) / number) / (people - 1)
        between = np.maximum(0, (among - within) / usual)
    return Components(between, within)


def patients_for(variance: float, wanted: float, confidence: float) -> int:
    """Return the smallest number of patients whose mean has an interval that reaches at most `wanted` to either side.

    Parameters
    ----------
    variance : float
        Variance of a patient's mean.
    wanted : float
        Half of the interval's width.
    confidence : float
        Coverage.
    """
    from scipy.stats import norm, t

    level = (1 + confidence) / 2
    n = max(2, int(variance * (norm.ppf(level) / wanted) ** 2))
    while t.ppf(level, n - 1) * np.sqrt(variance / n) > wanted:
        n += 1
    return n


def _reach(
    patients: int,
    of: Components,
    drawn: Array,
    size: Array,
    settings: CheckInSettings,
    rng: np.random.Generator,
) -> Reach:
    """Simulate studies of one size, one for each draw of the variance, and measure their intervals."""
    from scipy.stats import t

    usable = np.flatnonzero(np.isfinite(of.between) & np.isfinite(of.within))
    far: NDArray[np.float64] = np.empty(len(usable))
    reach = t.ppf((1 + settings.confidence) / 2, patients - 1) / np.sqrt(patients)
    for place, draw in enumerate(usable):
        check_ins = rng.choice(size, patients, p=drawn[draw] / drawn[draw].sum())
        means = rng.normal(size=patients) * np.sqrt(of.between[draw] + of.within[draw] / check_ins)
        far[place] = reach * means.std(ddof=1)
    low, high = np.quantile(far, INNER)
    return Reach(patients, float(np.median(far)), float(low), float(high))
