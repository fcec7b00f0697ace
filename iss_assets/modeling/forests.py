"""Experiments 2 and 3: random forests on landmarks and on scores (paper, section 4).

Belongs here: growing a forest and keeping it as plain arrays. Does not belong here: choosing items, files.

Forests are grown by scikit-learn and kept as arrays of nodes: a file of numbers can be opened in ten years and by
anybody safely, a pickled estimator only by the same version and only if it is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

LEAF = -1
SMALL = 5_000
"""Up to so many items, sharing the trees among threads costs more than it saves."""


@dataclass(frozen=True)
class Forest:
    """A grown forest.

    Attributes
    ----------
    roots : ndarray of int64, (trees,)
        Node at which each tree begins.
    feature : ndarray of int32, (nodes,)
        Column that a node looks at; -1 for a leaf.
    threshold : ndarray of float64, (nodes,)
        Values up to it go left.
    left, right : ndarray of int32, (nodes,)
        Next nodes.
    share : ndarray of float64, (nodes, classes)
        Share of each class among the training items of a node.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    share: np.ndarray

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Give the mean over trees of the leaf's shares: (n, classes) float64, rows adding up to 1.

        Parameters
        ----------
        x : ndarray of float32, (n, columns)
            Without missing values.
        """
        x = np.ascontiguousarray(x, np.float32)
        rows = np.arange(len(x))
        total = np.zeros((len(x), self.share.shape[1]))
        for root in self.roots:
            node = np.full(len(x), root)
            going = rows
            while len(going):
                here = node[going]
                column = self.feature[here]
                going, here, column = going[column != LEAF], here[column != LEAF], column[column != LEAF]
                left = x[going, column] <= self.threshold[here]
                node[going] = np.where(left, self.left[here], self.right[here])
            total += self.share[node]
        return total / len(self.roots)

    def arrays(self) -> dict[str, np.ndarray]:
        """Give everything under flat names, for the weights file."""
        return {f"forest.{name}": getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, flat: dict[str, np.ndarray]) -> Forest:
        """Undo `arrays`."""
        return cls(**{name: flat[f"forest.{name}"] for name in cls.__dataclass_fields__})


def grow_forest(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray, classes: int, seed: int, trees: int = 100
) -> Forest:
    """Grow a random forest as the paper does: 100 trees, gini, min_samples_split 2, min_samples_leaf 1.

    Parameters
    ----------
    x : ndarray of float32, (n, columns)
        Without missing values.
    target : ndarray of int64, (n,)
        Classes.
    weight : ndarray of float64, (n,)
        Weight of each item, 1 on average or more: a submission weighs as many items as it has frames. The forest is
        then, in distribution, the one grown on a table that repeats each item that many times (the paper's table of
        frames): each tree draws ``weight.sum()`` rows with replacement, an item in proportion to its weight.
    classes : int
        Classes of the experiment; one that the training side does not have gets probability 0.
    seed : int
        Same seed, same forest, however many cores.
    trees : int
        Trees.

    Raises
    ------
    ValueError
        Without items.

    Notes
    -----
    scikit-learn 1.9 uses weights for the draw only (``ensemble/_forest.py``: ``_generate_sample_indices`` draws rows
    with ``p = sample_weight / sum``, and a tree weighs a row by how often it was drawn). How many are drawn is
    ``max_samples``: by default the number of *items*, far too few where an item stands for hundreds of frames. It is
    the sum of the weights here, as the float 1.0 would make it, rounded: 1.0 cuts 99.9999 down to 99.
    """
    from sklearn.ensemble import RandomForestClassifier

    if len(x) == 0:
        raise ValueError("a forest needs at least one item to learn from")
    model = RandomForestClassifier(
        n_estimators=trees,
        criterion="gini",
        min_samples_split=2,
        min_samples_leaf=1,
        max_samples=max(1, round(float(weight.sum()))),
        random_state=seed,
        n_jobs=-1 if len(x) > SMALL else None,
    )
    model.fit(x, target, sample_weight=weight)
    return _to_arrays([tree.tree_ for tree in model.estimators_], model.classes_, classes)


def _to_arrays(trees: list[Any], seen: np.ndarray, classes: int) -> Forest:
    sizes = np.array([tree.node_count for tree in trees])
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    share = np.zeros((int(sizes.sum()), classes))
    share[:, seen] = np.concatenate([tree.value[:, 0, :] for tree in trees])
    leaf = np.concatenate([tree.children_left == LEAF for tree in trees])
    feature = np.concatenate([tree.feature for tree in trees]).astype(np.int32)
    base = np.repeat(roots, sizes)
    left = base + np.concatenate([tree.children_left for tree in trees])
    right = base + np.concatenate([tree.children_right for tree in trees])
    return Forest(
        roots=roots,
        feature=np.where(leaf, LEAF, feature).astype(np.int32),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        left=np.where(leaf, LEAF, left).astype(np.int32),
        right=np.where(leaf, LEAF, right).astype(np.int32),
        share=share,
    )
