"""Experiments 2 and 3: random forests on landmarks and on scores (paper, section 4).

Belongs here: growing a forest and keeping it as plain arrays. Does not belong here: choosing items, files.

Forests are grown by scikit-learn and kept as arrays of nodes: a file of numbers can be opened in ten years and by
anybody safely, a pickled estimator only by the same version and only if it is trusted.
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
TREES = 100
"""Trees of a forest (paper, section 4, "Training Details"; scikit-learn's default)."""

SMALL = 5_000
"""Up to so many items, sharing the trees among threads costs more than it saves."""

CHUNK = 2_000
"""Items that go through all trees at once: 200,000 places in trees, some MB."""


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
        total = np.zeros((len(x), self.share.shape[1]))
        for start in range(0, len(x), CHUNK):
            here = slice(start, start + CHUNK)
            total[here] = self.share[self._leaves(x[here])].sum(axis=0)
        return total / len(self.roots)

    def _leaves(self, x: np.ndarray) -> np.ndarray:
        """Give the leaf that each item reaches in each tree: (trees, n)."""
        node = np.repeat(self.roots[:, None], len(x), axis=1).ravel()
        item = np.tile(np.arange(len(x)), len(self.roots))
        going = np.flatnonzero(self.feature[node] != LEAF)
        while len(going):
            here = node[going]
            goes_left = x[item[going], self.feature[here]] <= self.threshold[here]
            node[going] = np.where(goes_left, self.left[here], self.right[here])
            going = going[self.feature[node[going]] != LEAF]
        return node.reshape(len(self.roots), len(x))

    def arrays(self) -> dict[str, np.ndarray]:
        """Give everything under flat names, for the weights file."""
        return {f"forest.{name}": getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, flat: dict[str, np.ndarray]) -> Forest:
        """Undo `arrays`."""
        return cls(**{name: flat[f"forest.{name}"] for name in cls.__dataclass_fields__})


def grow_forest(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray, classes: int, seed: int, trees: int = TREES
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
    The forest is the one of ``RandomForestClassifier(trees, max_samples=round(weight.sum()), random_state=seed)``, node
    by node (a test holds it against that). Its trees are grown here one by one with scikit-learn's own builder, since
    the classifier checks every tree's arguments anew: 0.07 s a forest of 100, where growing it on 15 scores takes
    0.01 s. The tests against chance grow thousands.

    ``RandomForestClassifier`` 1.9 uses weights for the draw only (``ensemble/_forest.py``: ``_generate_sample_indices``
    draws rows with ``p = sample_weight / sum``, and a tree weighs a row by how often it was drawn). How many are drawn
    is ``max_samples``: by default the number of *items*, far too few where an item stands for hundreds of frames.
    """
    if len(x) == 0:
        raise ValueError("a forest needs at least one item to learn from")
    x = np.ascontiguousarray(x, np.float32)
    seen, place = np.unique(target, return_inverse=True)
    y = np.ascontiguousarray(place.reshape(-1, 1), np.float64)
    drawn = max(1, round(float(weight.sum())))
    until = (weight / weight.sum()).cumsum()
    draw = np.random.RandomState(seed)
    seeds = [int(draw.randint(np.iinfo(np.int32).max)) for _ in range(trees)]
    grow = partial(_grow_trees, x, y, len(seen), until / until[-1], drawn)
    if len(x) > SMALL:
        with ThreadPoolExecutor(processors()) as pool:
            grown = [tree for one in pool.map(grow, [[seed] for seed in seeds]) for tree in one]
    else:
        grown = grow(seeds)
    return _to_arrays(grown, seen, classes)


def processors() -> int:
    """Give the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _grow_trees(
    x: np.ndarray, y: np.ndarray, classes: int, until: np.ndarray, drawn: int, seeds: Sequence[int]
) -> list[Any]:
    """Grow a tree a seed on `drawn` rows drawn with replacement; each is a scikit-learn ``Tree``.

    As ``RandomForestClassifier`` does: a tree's seed draws its rows and then, from its beginning again, its columns.
    Rows are drawn as ``RandomState.choice`` draws them, from the running sum of their shares, `until`.
    """
    from sklearn.tree._criterion import Gini
    from sklearn.tree._splitter import BestSplitter
    from sklearn.tree._tree import DepthFirstTreeBuilder, Tree

    of_classes = np.array([classes], np.intp)
    columns = max(1, int(np.sqrt(x.shape[1])))
    random = np.random.RandomState()  # seeded for each tree: making one costs more than a small tree
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
