"""Grow the random forests of Experiments 2 and 3, on landmarks and on scores (paper, section 4).

scikit-learn grows the forests, and they are stored as arrays of nodes. Unlike a pickled estimator, such a file can be
opened safely by anyone and by any later version.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

LEAF = -1
"""Value of `Forest.feature` and of the children of a leaf."""

TREES = 100
"""Number of trees (paper, section 4, "Training Details"; also the default of scikit-learn)."""

SMALL = 5_000
"""Forests of up to this many items are grown in one thread: more threads would cost more than they save."""

CHUNK = 2_000
"""Items predicted at once: with 100 trees 200,000 node indices, a few MB."""


@dataclass(frozen=True)
class Forest:
    """A grown forest.

    Attributes
    ----------
    roots : ndarray of int64, (trees,)
        Index of the root node of each tree.
    feature : ndarray of int32, (nodes,)
        Column that a node splits on; -1 for a leaf.
    threshold : ndarray of float64, (nodes,)
        Values up to the threshold go left.
    left, right : ndarray of int32, (nodes,)
        Child nodes.
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
        """Average the class shares of the leaves over all trees.

        Parameters
        ----------
        x : ndarray of float32, (n, columns)
            Without missing values.

        Returns
        -------
        ndarray of float64, (n, classes)
            Each row adds up to 1.
        """
        x = np.ascontiguousarray(x, np.float32)
        total = np.zeros((len(x), self.share.shape[1]))
        for start in range(0, len(x), CHUNK):
            here = slice(start, start + CHUNK)
            total[here] = self.share[self._leaves(x[here])].sum(axis=0)
        return total / len(self.roots)

    def _leaves(self, x: np.ndarray) -> np.ndarray:
        """Return the leaf that each item reaches in each tree, (trees, n)."""
        node = np.repeat(self.roots[:, None], len(x), axis=1).ravel()
        item = np.tile(np.arange(len(x)), len(self.roots))
        active = np.flatnonzero(self.feature[node] != LEAF)
        while len(active):
            here = node[active]
            goes_left = x[item[active], self.feature[here]] <= self.threshold[here]
            node[active] = np.where(goes_left, self.left[here], self.right[here])
            active = active[self.feature[node[active]] != LEAF]
        return node.reshape(len(self.roots), len(x))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, for the model file."""
        return {f"forest.{name}": getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, flat: dict[str, np.ndarray]) -> Forest:
        """Create a forest from the result of `arrays`."""
        return cls(**{name: flat[f"forest.{name}"] for name in cls.__dataclass_fields__})


def grow_forest(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray, classes: int, seed: int, trees: int = TREES
) -> Forest:
    """Grow a random forest with the paper's settings: 100 trees, gini, min_samples_split 2, min_samples_leaf 1.

    Parameters
    ----------
    x : ndarray of float32, (n, columns)
        Without missing values.
    target : ndarray of int64, (n,)
        Classes.
    weight : ndarray of float64, (n,)
        Weight of each item. A submission has a weight equal to its number of frames, so that the forest has the same
        distribution as one grown on the paper's table of frames, which repeats each submission that many times: each
        tree draws ``weight.sum()`` rows with replacement, with probabilities proportional to the weights.
    classes : int
        Number of classes of the experiment; a class absent from the training side gets probability 0.
    seed : int
        The forest depends only on the seed and the data, not on the number of cores.
    trees : int
        Number of trees.

    Raises
    ------
    ValueError
        If there are no items.

    Notes
    -----
    The forest equals ``RandomForestClassifier(trees, max_samples=round(weight.sum()), random_state=seed)`` node by node
    (a test compares them). The trees are grown one by one with scikit-learn's own builder because the classifier
    validates the arguments of every tree: 0.07 s per forest of 100 trees, while growing it on 15 scores takes 0.01 s.
    The tests against chance grow thousands of forests.

    ``RandomForestClassifier`` 1.9 uses weights only to draw rows (``ensemble/_forest.py``: ``_generate_sample_indices``
    draws with ``p = sample_weight / sum``, and a tree weights a row by how often it was drawn). ``max_samples`` sets how
    many are drawn. The default is the number of *items*, far too few if an item represents hundreds of frames.

    References
    ----------
    Breiman, "Random forests", Machine Learning 45 (2001), 5-32.
    """
    if len(x) == 0:
        raise ValueError("a forest needs at least one item to learn from")
    x = np.ascontiguousarray(x, np.float32)
    present, place = np.unique(target, return_inverse=True)
    y = np.ascontiguousarray(place.reshape(-1, 1), np.float64)
    drawn = max(1, round(float(weight.sum())))
    until = (weight / weight.sum()).cumsum()
    draw = np.random.RandomState(seed)
    seeds = [int(draw.randint(np.iinfo(np.int32).max)) for _ in range(trees)]
    grow = partial(_grow_trees, x, y, len(present), until / until[-1], drawn)
    if len(x) > SMALL:
        with ThreadPoolExecutor(processors()) as pool:
            grown = [tree for one in pool.map(grow, [[seed] for seed in seeds]) for tree in one]
    else:
        grown = grow(seeds)
    return _to_arrays(grown, present, classes)


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _grow_trees(
    x: np.ndarray, y: np.ndarray, classes: int, until: np.ndarray, drawn: int, seeds: Sequence[int]
) -> list[Any]:
    """Grow one scikit-learn ``Tree`` per seed, on `drawn` rows drawn with replacement.

    This follows ``RandomForestClassifier``: the seed of a tree draws its rows, and after reseeding its columns. Rows are
    drawn like in ``RandomState.choice``, from the cumulative sum of their probabilities, `until`.
    """
    from sklearn.tree._criterion import Gini
    from sklearn.tree._splitter import BestSplitter
    from sklearn.tree._tree import DepthFirstTreeBuilder, Tree

    of_classes = np.array([classes], np.intp)
    columns = max(1, int(np.sqrt(x.shape[1])))
    random = np.random.RandomState()  # reseeded for each tree: creating one costs more than a small tree
    grown = []
    for seed in seeds:
        random.seed(seed)
        rows = until.searchsorted(random.random_sample(drawn), side="right")
        times = np.bincount(rows, minlength=len(x)).astype(np.float64)
        random.seed(seed)
        splitter = BestSplitter(Gini(1, of_classes), columns, 1, 0.0, random, None)
        builder = DepthFirstTreeBuilder(splitter, 2, 1, 0.0, np.iinfo(np.int32).max, 0.0)
        tree = Tree(x.shape[1], of_classes, 1)
        builder.build(tree, x, y, times, None)
        grown.append(tree)
    return grown


def _to_arrays(trees: list[Any], present: np.ndarray, classes: int) -> Forest:
    sizes = np.array([tree.node_count for tree in trees])
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    share = np.zeros((int(sizes.sum()), classes))
    share[:, present] = np.concatenate([tree.value[:, 0, :] for tree in trees])
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
