"""A linear probe: logistic regression on a frozen backbone's embeddings, trained in seconds.

Belongs here: fitting and keeping it. Does not belong here: making embeddings (``embeddings``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NEVER = -50.0


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes
    ----------
    slope : ndarray of float64, (columns, classes)
    intercept : ndarray of float64, (classes,)
    """

    slope: np.ndarray
    intercept: np.ndarray

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Give the softmax of slope and intercept: (n, classes) float64."""
        score = x @ self.slope + self.intercept
        raised = np.exp(score - score.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """Give everything under flat names, for the weights file."""
        return {"probe.slope": self.slope, "probe.intercept": self.intercept}

    @classmethod
    def from_arrays(cls, flat: dict[str, np.ndarray]) -> Probe:
        """Undo `arrays`."""
        return cls(flat["probe.slope"], flat["probe.intercept"])


def fit_probe(x: np.ndarray, target: np.ndarray, weight: np.ndarray, classes: int) -> Probe:
    """Fit logistic regression with scikit-learn's default penalty (L2, C = 1).

    Parameters
    ----------
    x : ndarray of float32, (n, columns)
        Scaled embeddings.
    target : ndarray of int64, (n,)
        Classes; one that is not there gets probability 0, also where there is only one.
    weight : ndarray of float64, (n,)
        Weight of each item.
    classes : int
        Classes of the experiment.
    """
    from sklearn.linear_model import LogisticRegression

    slope = np.zeros((x.shape[1], classes))
    intercept = np.full(classes, _NEVER)
    seen = np.unique(target)
    if len(seen) == 1:
        intercept[seen] = 0.0
        return Probe(slope, intercept)
    model = LogisticRegression(max_iter=500)
    model.fit(x, target, sample_weight=weight)
    if len(seen) == 2:  # scikit-learn keeps one column for two classes
        slope[:, seen[1]], intercept[seen[0]], intercept[seen[1]] = model.coef_[0], 0.0, model.intercept_[0]
    else:
        slope[:, seen], intercept[seen] = model.coef_.T, model.intercept_
    return Probe(slope, intercept)
