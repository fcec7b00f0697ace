"""How well can somebody be recognized from features of a video: "who is this?" and "are these two the same person?".

Closed-set identification: every video is held out once and assigned to one of the study's patients; the attacker knows the
other videos of all of them. Verification: two videos of one patient should be closer than videos of two patients. Both are
means over patients, so a patient with many videos counts once, with bootstrap intervals over patients.

Two attackers try: the nearest video, and a linear discriminant with shrinkage on principal components. The better one is
reported, because an underestimate would be the dangerous error.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iss_assets.evaluation.intervals import bca_interval, mean_of

Array = NDArray[np.float64]

FEWEST_PATIENTS: Final = 3
"""Patients with two videos or more that a measurement needs."""
_COMPONENTS: Final = 50
_ROUNDS: Final = 5
"""Rounds in which videos are held out for the discriminant."""


@dataclass(frozen=True)
class Recognition:
    """What one kind of features tells about who somebody is.

    Attributes
    ----------
    features : str
        What was tried.
    patients, videos : int
        Those with at least two videos.
    identified, identified_low, identified_high : float or None
        Mean share of a patient's videos that were assigned to that patient, with its interval; None if not measured.
    chance : float or None
        The same by guessing.
    verified, verified_low, verified_high : float or None
        Mean chance that two videos of one patient are closer than videos of two patients; 0.5 by guessing.
    attacker : str
        What identified best.
    note : str
        Why nothing was measured; empty otherwise.
    """

    features: str
    patients: int
    videos: int
    identified: float | None = None
    identified_low: float | None = None
    identified_high: float | None = None
    chance: float | None = None
    verified: float | None = None
    verified_low: float | None = None
    verified_high: float | None = None
    attacker: str = ""
    note: str = ""


def recognize(
    features: str, patient: NDArray[np.str_], values: Array, confidence: float = 0.95, samples: int = 1999
) -> Recognition:
    """Measure how well patients are recognized across their videos.

    Parameters
    ----------
    features : str
        Name of the features.
    patient : ndarray of str, (n,)
        Whose video each row is.
    values : ndarray, (n, m)
        One row of features per video. Missing values become the column's median.
    confidence : float
        Level of the intervals.
    samples : int
        Bootstrap samples.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> who = np.repeat(["a", "b", "c", "d"], 5)
    >>> apart = np.repeat(np.arange(4.0), 5)[:, None] * 10 + random.normal(size=(20, 3))
    >>> recognize("invented", who, apart).identified
    1.0
    """
    names, counts = np.unique(patient, return_counts=True)
    several = np.isin(patient, names[counts > 1])
    patient, values = patient[several], np.asarray(values, float)[several]
    names = np.unique(patient)
    if len(names) < FEWEST_PATIENTS:
        note = f"patients with two videos or more: {len(names)}; {FEWEST_PATIENTS} are needed to measure anything"
        return Recognition(features, len(names), len(patient), note=note)
    x = _components(values)
    distances = _distances(x)
    attackers = {"the nearest video": _hits_of_nearest(patient, distances)}
    # with two videos each, one is left to learn from, and a discriminant needs more
    if len(patient) > 2 * len(names):
        attackers["a linear discriminant"] = _hits_of_discriminant(patient, x)
    per_patient = {n: np.array([hits[patient == p].mean() for p in names]) for n, hits in attackers.items()}
    attacker = max(per_patient, key=lambda n: per_patient[n].mean())
    identified = bca_interval(
        mean_of(per_patient[attacker]), len(names), confidence=confidence, samples=samples
    )
    closeness = np.array([_closer(patient, distances, p) for p in names])
    verified = bca_interval(mean_of(closeness), len(names), confidence=confidence, samples=samples)
    return Recognition(
        features,
        len(names),
        len(patient),
        identified=_rounded(identified.estimate),
        identified_low=_rounded(identified.low),
        identified_high=_rounded(identified.high),
        chance=_rounded(1 / len(names)),
        verified=_rounded(verified.estimate),
        verified_low=_rounded(verified.low),
        verified_high=_rounded(verified.high),
        attacker=attacker,
    )


def _rounded(value: float | None) -> float | None:
    # the last digits differ between machines
    return None if value is None else round(float(value), 3)


def _components(values: Array) -> Array:
    """Return standardized principal components; constant columns and those without values say nothing."""
    from sklearn.decomposition import PCA

    known = values[:, ~np.isnan(values).all(axis=0)]
    filled = np.where(np.isnan(known), np.nanmedian(known, axis=0), known)
    spread = filled.std(axis=0)
    varying = (filled - filled.mean(axis=0))[:, spread > 1e-12] / spread[spread > 1e-12]
    if not varying.shape[1]:
        return np.zeros((len(values), 1))
    most = min(_COMPONENTS, *varying.shape)
    return np.asarray(PCA(most, svd_solver="full").fit_transform(varying), float)


def _distances(x: Array) -> Array:
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(x, x), float)


def _hits_of_nearest(patient: NDArray[np.str_], distances: Array) -> Array:
    others = distances + np.diag(np.full(len(patient), np.inf))
    return (patient[others.argmin(axis=1)] == patient).astype(float)


def _hits_of_discriminant(patient: NDArray[np.str_], x: Array) -> Array:
    """Hold out every patient's videos in turn, in a few rounds, and never a patient's last one."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    place = np.zeros(len(patient), int)
    for name in np.unique(patient):
        own = np.flatnonzero(patient == name)
        place[own] = np.arange(len(own)) % min(_ROUNDS, len(own))
    hits = np.zeros(len(patient))
    for held_out in range(_ROUNDS):
        test = place == held_out
        if test.any():
            model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
            with warnings.catch_warnings():
                # one video of a patient to learn from is few, and as many as an attacker may have
                warnings.filterwarnings("ignore", "Only one sample available", UserWarning)
                model.fit(x[~test], patient[~test])
            hits[test] = model.predict(x[test]) == patient[test]
    return hits


def _closer(patient: NDArray[np.str_], distances: Array, name: str) -> float:
    """Return the chance that two videos of a patient are closer than one of the patient's and one of another's."""
    own = np.flatnonzero(patient == name)
    same = distances[np.ix_(own, own)][np.triu_indices(len(own), 1)]
    other = np.sort(distances[np.ix_(own, np.flatnonzero(patient != name))].ravel())
    farther = len(other) - np.searchsorted(other, same, side="right")
    ties = np.searchsorted(other, same, side="right") - np.searchsorted(other, same, side="left")
    return float(((farther + ties / 2) / len(other)).mean())
