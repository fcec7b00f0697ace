"""Fit the linear probe: logistic regression on the embeddings of a frozen backbone (``embeddings``), in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NEVER = -50.0
"""Intercept of a class that is absent from the training side: its probability is 0 for practical purposes."""


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes
    ----------
    slope : ndarray of float64, (columns, classes)
        Coefficients.
    intercept : ndarray of float64, (classes,)
        Intercepts.
    """

    slope: np.ndarray
    intercept: np.ndarray

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Compute class probabilities as the softmax of the linear scores.

        Parameters
        ----------
        x : ndarray of float32, (n, columns)
            Scaled embeddings.

        Returns
        -------
        ndarray of float64, (n, classes)
        """
        score = x @ self.slope + self.intercept
        exponential = np.exp(score - score.max(axis=1, keepdims=True))
        return exponential / exponential.sum(axis=1, keepdims=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, for the model file."""
        return {"probe.slope": self.slope, "probe.intercept": self.intercept}

    @classmethod
    def from_arrays(cls, flat: dict[str, np.ndarray]) -> Probe:
        """Create a probe from the result of `arrays`."""
        return cls(flat["probe.slope"], flat["probe.intercept"])


def fit_probe(x: np.ndarray, target: np.ndarray, weight: np.ndarray, classes: int) -> Probe:
    """Fit logistic regression with the default penalty of scikit-learn (L2, C = 1).

    Parameters
    ----------
    x : ndarray of float32, (n, columns)
        Scaled embeddings.
    target : ndarray of int64, (n,)
        Classes. Absent classes get probability 0; a single class is allowed.
    weight : ndarray of float64, (n,)
        Weight of each item.
    classes : int
        Number of classes of the experiment.
    """
    from sklearn.linear_model import LogisticRegression

    slope = np.zeros((x.shape[1], classes))
    intercept = np.full(classes, _NEVER)
    present = np.unique(target)
    if len(present) == 1:
        intercept[present] = 0.0
        return Probe(slope, intercept)
    model = LogisticRegression(max_iter=500)
    model.fit(x, target, sample_weight=weight)
    if len(present) == 2:  # scikit-learn stores a single column for two classes
        slope[:, present[1]] = model.coef_[0]
        intercept[present[0]], intercept[present[1]] = 0.0, model.intercept_[0]
    else:
        slope[:, present], intercept[present] = model.coef_.T, model.intercept_
    return Probe(slope, intercept)
