"""Statistics over patients with confidence intervals, and Holm's correction.

Intervals of means come from the bias-corrected and accelerated (BCa) bootstrap over patients, intervals of shares are
exact. Permutation tests are in ``permutation``.

A statistic takes a matrix of counts with one row per resample and one column per patient, and returns one value per
row. A row of ones yields the estimate, rows with a single zero the jackknife, and multinomial rows the bootstrap. The
same definition serves all three, and thousands of resamples cost one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

COVERAGE_OF_FOUR = (
    "in a simulation, 95 % intervals over four patients contained the true value in 75 to 85 % of studies"
)
COVERAGE = (
    "Intervals resample patients but not the trained models, so they do not include the variation from training on "
    "other patients. In a simulation of the whole procedure with 29 patients, 95 % intervals of mean accuracy contained "
    "the same models' accuracy on new patients in 90 % of studies, and the mean of repeated studies in 89 %."
)
"""Result of `benchmarks.coverage` (1,000 studies), as worded in the report."""

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Maps counts of shape (rows, patients) to values of shape (rows,)."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate, low, high : float or None
        None if not defined; `note` gives the reason.
    patients : int
        Number of patients.
    method : str
        ``BCa``; ``percentile`` if the acceleration is not defined; ``Clopper-Pearson`` for a share of patients;
        ``none``.
    note : str or None
        A limitation to report with the interval.
    """

    estimate: float | None
    low: float | None
    high: float | None
    patients: int
    method: str
    note: str | None = None


def _ratio(top: Array, bottom: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def ratio_of_sums(top: ArrayLike, bottom: ArrayLike) -> Statistic:
    """Return the statistic "sum of `top` over patients / sum of `bottom`"; both of shape (patients,)."""
    t, b = np.asarray(top, float), np.asarray(bottom, float)
    return lambda counts: _ratio(counts @ t, counts @ b)


def mean_of(values: ArrayLike, among: ArrayLike | None = None) -> Statistic:
    """Return the statistic "mean over patients", or over those selected by `among`; both of shape (patients,)."""
    v = np.asarray(values, float)
    selected = np.ones_like(v) if among is None else np.asarray(among, float)

    def statistic(counts: Array) -> Array:
        return _ratio(counts @ (v * selected), counts @ selected)

    return statistic


def mean_of_class_means(values: ArrayLike, classes: Sequence[str]) -> Statistic:
    """Return the statistic "unweighted mean over classes of the mean of `values` over the patients of a class"."""
    names = sorted(set(classes))
    parts = [mean_of(values, np.array([c == name for c in classes])) for name in names]

    def statistic(counts: Array) -> Array:
        return np.mean([part(counts) for part in parts], axis=0)

    return statistic


def scaled_brier(probability: ArrayLike, positive: ArrayLike) -> Statistic:
    """Return the statistic "1 - Brier score / reference", the scaled Brier score.

    The reference predicts the share of patients in pain for every patient. 1 is perfect, 0 is no better than the
    reference, and negative values are worse.

    References
    ----------
    Steyerberg et al., "Assessing the performance of prediction models", Epidemiology 21 (2010), 128-138.
    """
    p, y = np.asarray(probability, float), np.asarray(positive, float)
    return scaled_brier_of((p - y) ** 2, y)


def scaled_brier_of(error: ArrayLike, share: ArrayLike) -> Statistic:
    """Return the scaled Brier score from each patient's mean squared error and share of positives; see `scaled_brier`."""
    mean_error, mean_share = mean_of(error), mean_of(share)

    def statistic(counts: Array) -> Array:
        prevalence = mean_share(counts)
        return 1 - _ratio(mean_error(counts), prevalence * (1 - prevalence))

    return statistic


def auroc(scores: ArrayLike, positive: ArrayLike) -> Statistic:
    """Return the statistic "area under the ROC curve": the share of (pain, no pain) pairs in the right order.

    Ties count one half (Mann-Whitney).

    References
    ----------
    Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 143 (1982), 29-36.
    """
    s, y = np.asarray(scores, float), np.asarray(positive, bool)
    order = (s[y][:, None] > s[~y][None, :]) + 0.5 * (s[y][:, None] == s[~y][None, :])

    def statistic(counts: Array) -> Array:
        pain, none = counts[:, y], counts[:, ~y]
        return _ratio(np.sum((pain @ order) * none, axis=1), pain.sum(axis=1) * none.sum(axis=1))

    return statistic


@lru_cache(maxsize=64)
def _resamples(patients: int, samples: int, seed: int) -> Array:
    rng = np.random.default_rng((seed, patients))
    counts = rng.multinomial(patients, np.full(patients, 1 / patients), size=samples).astype(float)
    counts.setflags(write=False)
    return counts


def bca_interval(
    statistic: Statistic, patients: int, *, confidence: float = 0.95, samples: int = 9999, seed: int = 0
) -> Interval:
    """Estimate a statistic over patients with its BCa interval.

    Parameters
    ----------
    statistic : callable
        Maps counts of shape (rows, patients) to values of shape (rows,), NaN if not defined.
    patients : int
        Number of patients.
    confidence : float
        Coverage, 0.95 for a 95 % interval.
    samples : int
        Number of resamples of patients with replacement.
    seed : int
        Seed of the resamples.

    Returns
    -------
    Interval
        Without bounds for a single patient, or if all resamples agree because all patients are alike: an interval of
        width zero would suggest certainty.

    References
    ----------
    Efron, "Better bootstrap confidence intervals", JASA 82 (1987), 171-185: z0 is derived from the share of resamples
    below the estimate, and a from the skewness of the jackknife. Ties with the estimate count one half, as in
    `scipy.stats.bootstrap`.
    """
    from scipy.stats import norm

    if patients == 0:
        return Interval(None, None, None, 0, "none", "no patients")
    estimate = float(statistic(np.ones((1, patients)))[0])
    if np.isnan(estimate):
        return Interval(None, None, None, patients, "none", "not defined: a class has no patients")
    if patients == 1:
        return Interval(estimate, None, None, 1, "none", "one patient: no interval")
    drawn = statistic(_resamples(patients, samples, seed))
    valid = drawn[~np.isnan(drawn)]
    lost = 1 - len(valid) / len(drawn)
    note = f"{lost:.0%} of resamples contained one class only and were excluded" if lost >= 0.005 else None
    if len(valid) == 0 or np.ptp(valid) < 1e-12:
        return Interval(estimate, None, None, patients, "none", "all patients alike: no interval")

    tail = (1 - confidence) / 2
    levels = np.array([tail, 1 - tail])
    below = np.mean(valid < estimate - 1e-12) + 0.5 * np.mean(np.abs(valid - estimate) <= 1e-12)
    jackknife = statistic(np.ones((patients, patients)) - np.eye(patients))
    centred = np.nanmean(jackknife) - jackknife if not np.isnan(jackknife).all() else jackknife
    spread = float(np.sum(centred**2))
    if 0 < below < 1 and np.isfinite(spread) and spread > 1e-20:
        bias = norm.ppf(below)
        acceleration = float(np.sum(centred**3)) / (6 * spread**1.5)
        z = bias + norm.ppf(levels)
        levels = norm.cdf(bias + z / (1 - acceleration * z))
        method = "BCa"
    else:
        method = "percentile"
    low, high = np.quantile(valid, levels)
    return Interval(estimate, float(low), float(high), patients, method, note)


def share_interval(yes: int, patients: int, *, confidence: float = 0.95) -> Interval:
    """Estimate a share of patients with its exact interval.

    Parameters
    ----------
    yes, patients : int
        Number of patients with the property, and in total.
    confidence : float
        Minimum coverage of the true share, whatever its value and the number of patients.

    References
    ----------
    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika
    26 (1934), 404-413. At the lower (upper) bound, a count of at least (at most) `yes` has the probability of one tail;
    both bounds are quantiles of beta distributions. Unlike a bootstrap interval, it is informative if all patients
    agree.

    Examples
    --------
    >>> eight = share_interval(8, 8)
    >>> round(eight.low, 2), eight.high
    (0.63, 1.0)
    """
    from scipy.stats import beta

    if patients == 0:
        return Interval(None, None, None, 0, "none", "no patients")
    tail = (1 - confidence) / 2
    low = 0.0 if yes == 0 else float(beta.ppf(tail, yes, patients - yes + 1))
    high = 1.0 if yes == patients else float(beta.ppf(1 - tail, yes + 1, patients - yes))
    return Interval(yes / patients, low, high, patients, "Clopper-Pearson")


def holm(p_values: ArrayLike) -> Array:
    """Adjust p-values for multiple testing; NaN stays NaN.

    References
    ----------
    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979), 65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    adjusted = np.full_like(p, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    ranked = known[np.argsort(p[known], kind="stable")]
    stepped = p[ranked] * np.arange(len(ranked), 0, -1)
    adjusted[ranked] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted


def least_holm(p_values: ArrayLike, least: ArrayLike) -> Array:
    """Compute the smallest Holm-adjusted p that each test could have reached, given the results of the others.

    Parameters
    ----------
    p_values : array-like of shape (tests,)
        Observed p-values.
    least : array-like of shape (tests,)
        Smallest p-value that each test can yield.

    Examples
    --------
    >>> least_holm([0.5, 0.02, 0.3], [0.02, 0.02, 0.001]).round(3).tolist()
    [0.06, 0.06, 0.003]
    """
    p, smallest = np.asarray(p_values, float), np.asarray(least, float)
    adjusted = np.empty_like(p)
    for place in range(len(p)):
        best = p.copy()
        best[place] = smallest[place]
        adjusted[place] = holm(best)[place]
    return adjusted
