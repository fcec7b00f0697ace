"""Models of answers: penalized linear regression, boosted small trees, and networks that read a whole video.

The first two take patients' weights, fill missing measures with the training side's medians, and are fitted on the training side only.
A fitted model is plain numbers, so that it can be stored without code and applied elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from iss_assets.modeling.check_ins import CheckInExperiment, Model
from iss_assets.modeling.series import SeriesView
from iss_assets.settings import CheckInSettings

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

PENALTIES = tuple(float(10**e) for e in np.arange(-2, 4.1, 0.5))
"""Penalties of the linear model, relative to the number of patients; one is chosen within the training side."""

INNER_FOLDS = 5
"""Groups of training patients between which the penalty is chosen."""

MOST_MISSING = 0.5
"""A measure that is missing in more than this share of the training rows is not used."""


@dataclass(frozen=True)
class Scaler:
    """Fills, centers and scales measures as learned from the training side.

    Attributes
    ----------
    kept : ndarray of int64, (kept measures,)
        Measures that vary and are known often enough.
    fill, center, scale : ndarray, (kept measures,)
        Median, weighted mean and weighted standard deviation.
    """

    kept: Integers
    fill: Array
    center: Array
    scale: Array

    def __call__(self, x: Array) -> Array:
        """Return measures of shape (n, all measures) as (n, kept measures), without missing values."""
        known = x[:, self.kept]
        return (np.where(np.isnan(known), self.fill, known) - self.center) / self.scale


def fit_scaler(x: Array, weight: Array) -> Scaler:
    """Learn medians, means and deviations; leave out measures that are constant or mostly missing."""
    share = weight / weight.sum()
    often = np.flatnonzero(np.isnan(x).mean(axis=0) <= MOST_MISSING) if len(x) else np.arange(0)
    fill = np.nanmedian(x[:, often], axis=0) if len(often) else np.empty(0)
    filled = np.where(np.isnan(x[:, often]), fill, x[:, often])
    center = share @ filled
    scale = np.sqrt(share @ (filled - center) ** 2)
    varies = scale > 1e-9 * np.maximum(1.0, np.abs(center))
    return Scaler(often[varies], fill[varies], center[varies], scale[varies])


@dataclass(frozen=True)
class Linear:
    """A linear model on scaled measures.

    Attributes
    ----------
    scaler : Scaler
        How measures are scaled.
    coefficients : ndarray, (kept measures,)
        Change of the answer per standard deviation of a measure.
    intercept : float
        Answer at the mean of all measures.
    penalty : float
        The chosen penalty.
    """

    scaler: Scaler
    coefficients: Array
    intercept: float
    penalty: float

    def predict(self, x: Array) -> Array:
        """Predict answers from measures of shape (n, all measures)."""
        return self.intercept + self.scaler(x) @ self.coefficients


def fit_ridge(x: Array, y: Array, weight: Array, patient: Integers) -> Linear:
    """Fit ridge regression; choose the penalty by leaving out groups of patients within the training side.

    Parameters
    ----------
    x : ndarray of shape (n, measures)
        Measures, NaN where missing.
    y : ndarray of shape (n,)
        Answers.
    weight : ndarray of shape (n,)
        Weights of the rows; a patient's add up to 1.
    patient : ndarray of shape (n,)
        Number of each row's patient.

    Returns
    -------
    Linear
        With the penalty of the smallest error on the patients left out.

    References
    ----------
    Hoerl and Kennard, "Ridge regression", Technometrics 12 (1970), 55-67.
    """
    people = np.unique(patient)
    groups = np.searchsorted(people, patient) % min(INNER_FOLDS, max(2, len(people)))
    errors = np.zeros((len(people), len(PENALTIES)))
    for held in np.unique(groups):
        out = groups == held
        if out.all():
            continue
        scaler = fit_scaler(x[~out], weight[~out])
        weights, intercept = _solve(scaler(x[~out]), y[~out], weight[~out])
        squared = (y[out][:, None] - intercept - scaler(x[out]) @ weights) ** 2 * weight[out][:, None]
        np.add.at(errors, np.searchsorted(people, patient[out]), squared)
    mean = errors.sum(axis=0)
    chosen = max(i for i in range(len(PENALTIES)) if mean[i] <= mean.min() * (1 + 1e-9))
    scaler = fit_scaler(x, weight)
    coefficients, intercept = _solve(scaler(x), y, weight)
    return Linear(scaler, coefficients[:, chosen], intercept, PENALTIES[chosen])


def _solve(z: Array, y: Array, weight: Array) -> tuple[Array, float]:
    """Return the coefficients for every penalty, (measures, penalties), and the intercept; `z` is centered."""
    intercept = float(weight @ y / weight.sum())
    scaled = np.array(PENALTIES) * weight.sum() / 100
    if len(y) < z.shape[1]:
        # the same solution by the smaller matrix, as a small study has more measures than check-ins
        rows = z * np.sqrt(weight)[:, None]
        values, vectors = np.linalg.eigh(rows @ rows.T)
        projected = vectors.T @ (np.sqrt(weight) * (y - intercept))
        dual = vectors @ (projected[:, None] / (np.maximum(values, 0)[:, None] + scaled[None, :]))
        return rows.T @ dual, intercept
    values, vectors = np.linalg.eigh((z * weight[:, None]).T @ z)
    projected = vectors.T @ (z.T @ (weight * (y - intercept)))
    return vectors @ (projected[:, None] / (np.maximum(values, 0)[:, None] + scaled[None, :])), intercept


@dataclass(frozen=True)
class Boosted:
    """Boosted trees as arrays of nodes.

    Attributes
    ----------
    scaler : Scaler
        How measures are filled and scaled.
    start : float
        Prediction before the first tree.
    roots : ndarray of int64, (trees,)
        Index of each tree's root.
    feature : ndarray of int64, (nodes,)
        Measure that a node splits on; -1 for a leaf.
    threshold, value : ndarray, (nodes,)
        Values up to the threshold go left; what a leaf adds to the prediction.
    left, right : ndarray of int64, (nodes,)
        Children.
    """

    scaler: Scaler
    start: float
    roots: Integers
    feature: Integers
    threshold: Array
    value: Array
    left: Integers
    right: Integers

    def predict(self, x: Array) -> Array:
        """Predict answers from measures of shape (n, all measures)."""
        # scikit-learn compares in single precision
        z = self.scaler(x).astype(np.float32)
        total = np.full(len(x), self.start)
        rows = np.arange(len(x))
        for root in self.roots:
            node = np.full(len(x), root)
            while (inner := self.feature[node] >= 0).any():
                at = node[inner]
                goes_left = z[rows[inner], self.feature[at]] <= self.threshold[at]
                node[inner] = np.where(goes_left, self.left[at], self.right[at])
            total += self.value[node]
        return total


LEARNING_RATE = 0.08
"""Share of each tree that is added."""


def fit_boosting(x: Array, y: Array, weight: Array, patient: Integers, trees: int, seed: int) -> Boosted:
    """Fit boosted trees of depth 2 (Friedman, Annals of Statistics 29, 2001), each on half of the rows and measures."""
    from sklearn import config_context
    from sklearn.ensemble import GradientBoostingRegressor

    scaler = fit_scaler(x, weight)
    start = float(weight @ y / weight.sum())
    nothing = np.empty(0)
    if len(scaler.kept) == 0 or len(y) < 4:
        none = nothing.astype(np.int64)
        return Boosted(scaler, start, none, none, nothing, nothing, none, none)
    model = GradientBoostingRegressor(
        n_estimators=trees,
        max_depth=2,
        learning_rate=LEARNING_RATE,
        subsample=0.5,
        max_features=0.5,
        min_samples_leaf=max(2, min(10, len(y) // 20)),
        init="zero",
        random_state=seed,
    )
    # the checks that scikit-learn makes of every tree's arguments take longer than a tree of so few check-ins
    with config_context(skip_parameter_validation=True, assume_finite=True):
        model.fit(scaler(x), y - start, sample_weight=weight)
    parts = [tree.tree_ for tree in model.estimators_[:, 0]]
    offsets = np.cumsum([0, *(part.node_count for part in parts)])
    shifted = [
        (
            np.where(part.children_left >= 0, part.children_left + at, -1),
            np.where(part.children_right >= 0, part.children_right + at, -1),
        )
        for part, at in zip(parts, offsets, strict=False)
    ]
    return Boosted(
        scaler,
        start,
        offsets[:-1].astype(np.int64),
        np.concatenate([np.where(part.children_left >= 0, part.feature, -1) for part in parts]).astype(
            np.int64
        ),
        np.concatenate([part.threshold for part in parts]),
        LEARNING_RATE * np.concatenate([part.value[:, 0, 0] for part in parts]),
        np.concatenate([left for left, _ in shifted]).astype(np.int64),
        np.concatenate([right for _, right in shifted]).astype(np.int64),
    )


class Fitted(Protocol):
    """A fitted model: `Linear` or `Boosted` of measures, or ``attention_answers.Attentive`` of series."""

    def predict(self, x: Any) -> Array:
        """Predict answers, (n,), from what the model was fitted to."""


@runtime_checkable
class Reader(Fitted, Protocol):
    """A fitted network, which also says where it looked."""

    def read(self, x: Any) -> tuple[Array, Array]:
        """Return predicted answers, (n,), and the attention to each instance of the series, NaN for one that was not read."""


Fit = Callable[[Any, Array, Array, Integers], Fitted]
"""From measures (or series, for a network), answers, weights and patients of the training side to a model that predicts from
the same."""


def learner(model: Model, settings: CheckInSettings) -> Fit:
    """Return the function that fits a kind of model to measures."""
    if model == "ridge":
        return fit_ridge
    return lambda x, y, weight, patient: fit_boosting(x, y, weight, patient, settings.trees, settings.seed)


def learner_of(experiment: CheckInExperiment, settings: CheckInSettings) -> Fit:
    """Return the function that fits an experiment's model to its measures or its series."""
    if experiment.series is None:
        return learner(experiment.model, settings)

    def fit(x: SeriesView, y: Array, weight: Array, patient: Integers) -> Fitted:
        from iss_assets.modeling.attention_answers import fit_attention

        return fit_attention(
            x, y, weight, patient, experiment.over_time, settings.attention_epochs, settings.seed
        )

    return fit
