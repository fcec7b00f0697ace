"""Tests over patients: against chance by permuted labels, and of pairs by flipped signs.

Belongs here: permutation of *patients'* labels (one label a patient: permuting within a patient, as
``permutation_test_score`` does with groups, changes nothing), with the folds kept as stratified as they were; paired differences over patients.
Does not belong here: how a model is trained; a callable that trains on given labels is handed in.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from iss_assets.evaluation.accuracy import class_names, class_of
from iss_assets.evaluation.intervals import auroc, bca_interval, holm, least_holm, mean_of
from iss_assets.schemas.evaluation import PairedDifferences, PermutationResults
from iss_assets.settings import EvaluationSettings

FitPredict = Callable[[Mapping[str, str], Mapping[str, int]], pa.Table]
"""Trains one experiment in all folds on given pain levels (patient to level) and splits (patient to number), and gives
its test predictions, with the columns patient_id, predicted, pain_probability and weight of ``frame_predictions``."""


SAME = 1e-8
"""Accuracies that differ by less are equal."""

Tell = Callable[[int, str], None]
"""Told of each training: how many more are done, and what it was."""


def p_from_permutations(observed: float, permuted: NDArray[np.float64]) -> float:
    """Give the one-sided p: permutations at least as good as observed, the observed one counted among them.

    Counting it keeps the test valid: no finite number of permutations can give 0 (Phipson and Smyth, Stat. Appl.
    Genet. Mol. Biol. 9, 2010). Equal figures count as equal: `predicted_shares` are kept to nine places, and the
    means of two different labelings differ by one item of one patient, a millionth, at least.
    """
    return float((1 + np.sum(permuted >= observed - SAME)) / (1 + len(permuted)))


def fixed_permutations(accuracies: pd.DataFrame, permutations: int, seed: int) -> NDArray[np.float64]:
    """Permute patients' labels against predictions that stay as they are.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        One experiment's rows of ``patient_accuracy``.
    permutations : int
        How many.
    seed : int
        Seed.

    Returns
    -------
    numpy.ndarray of shape (permutations,)
        Mean over patients of the share of items that are predicted as the permuted label.
    """
    names = class_names(int(accuracies["classes"].iloc[0]))
    shares = np.array([[json.loads(s)[n] for n in names] for s in accuracies["predicted_shares"]])
    labels = np.array([names.index(t) for t in accuracies["target"]])
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(labels, (permutations, 1)), axis=1)
    return np.asarray(shares[np.arange(len(labels)), shuffled].mean(axis=1))


@dataclass(frozen=True)
class PredictionScore:
    """What predictions reach against given levels.

    Attributes
    ----------
    accuracy : float
        Mean over patients of weighted item accuracy.
    auroc : float
        Area under the ROC curve of the patients' mean pain probability; NaN where all have pain, or none.
    """

    accuracy: float
    auroc: float


def score_predictions(predictions: pa.Table, levels: Mapping[str, str], classes: int) -> PredictionScore:
    """Judge predictions (`FitPredict`) against `levels` (patient to pain level)."""
    items = predictions.select(["patient_id", "predicted", "pain_probability", "weight"]).to_pandas()
    target = items["patient_id"].map({p: class_of(level, classes) for p, level in levels.items()})
    items["right"] = (items["predicted"] == target) * items["weight"]
    items["sure"] = items["pain_probability"] * items["weight"]
    sums = items.groupby("patient_id")[["right", "sure", "weight"]].sum()
    sums = sums[sums["weight"] > 0]
    means = sums[["right", "sure"]].div(sums["weight"], axis=0)
    pain = [levels[str(patient)] != "None" for patient in means.index]
    return PredictionScore(
        float(means["right"].mean()), float(auroc(means["sure"], pain)(np.ones((1, len(means))))[0])
    )


def permute_labels(
    levels: Mapping[str, str], splits: Mapping[str, int], rng: np.random.Generator
) -> tuple[dict[str, str], dict[str, int]]:
    """Deal the patients' pain levels out anew among the same patients, each level with the split that it stood in.

    Splits are stratified by level. Levels dealt out alone would leave folds that are not, and a model that leans
    towards the commonest level of its training side then does worse than it would under stratified folds: chance
    would look too low and every p too small.
    """
    names = list(levels)
    given = [names[place] for place in rng.permutation(len(names))]
    return (
        {name: levels[other] for name, other in zip(names, given, strict=True)},
        {name: splits[other] for name, other in zip(names, given, strict=True)},
    )


def label_permutations(
    levels: Mapping[str, str], splits: Mapping[str, int], seed: tuple[int, int]
) -> Iterator[tuple[dict[str, str], dict[str, int]]]:
    """Deal out again and again, without end; same seed, same deals."""
    rng = np.random.default_rng(seed)
    while True:
        yield permute_labels(levels, splits, rng)


Given = TypeVar("Given")
Made = TypeVar("Made")

AHEAD = 2
"""Tasks that wait for each worker of a pool; what is ahead when a test stops is lost."""


def in_order(
    work: Callable[[Given], Made], given: Iterable[Given], pool: Executor, workers: int
) -> Generator[Made, None, None]:
    """Do tasks side by side and give the results in the order of the tasks, however many workers there are.

    A caller that wants no more closes the iterator: what has not begun is dropped, so that `given` may be endless.
    """
    waiting: deque[Future[Made]] = deque()
    source = iter(given)
    try:
        for task in itertools.islice(source, workers * AHEAD):
            waiting.append(pool.submit(work, task))
        while waiting:
            made = waiting.popleft().result()
            for task in itertools.islice(source, 1):
                waiting.append(pool.submit(work, task))
            yield made
    finally:
        for future in waiting:
            future.cancel()


def retrained_scores(
    fit_predict: FitPredict,
    draws: Iterable[tuple[Mapping[str, str], Mapping[str, int]]],
    classes: int,
    pool: Executor,
    workers: int,
) -> Generator[PredictionScore, None, None]:
    """Train on each draw of levels and splits, and judge against these levels, in the order of the draws.

    Draws are worked on side by side in `pool`; threads do, since trees are grown outside the interpreter's lock.
    """

    def one(draw: tuple[Mapping[str, str], Mapping[str, int]]) -> PredictionScore:
        levels, splits = draw
        return score_predictions(fit_predict(levels, splits), levels, classes)

    return in_order(one, draws, pool, workers)


@dataclass(frozen=True)
class SequentialTest:
    """A sequential Monte Carlo test.

    Attributes
    ----------
    p_value : float
        See `sequential_test`.
    drawn : numpy.ndarray, (draws,)
        The figures drawn before the test stopped.
    stopped : bool
        Whether it stopped before the last draw.
    """

    p_value: float
    drawn: NDArray[np.float64]
    stopped: bool


def draws_to_stop(alpha: float, most: int) -> int:
    """Give the number of draws as good as observed after which p can no longer be `alpha` or less.

    With h of `most` draws as good, the plain p is (h + 1) / (most + 1). The smallest h for which that exceeds alpha is
    floor(alpha x (most + 1)): 10 of 199 at 0.05. A test that stops there says "p <= alpha" exactly where all draws
    would have said so.

    Examples
    --------
    >>> draws_to_stop(0.05, 199), draws_to_stop(0.05, 99), draws_to_stop(0.01, 19)
    (10, 5, 1)
    """
    return max(1, int(np.floor(alpha * (most + 1) + 1e-9)))


def sequential_test(observed: float, draws: Iterable[float], most: int, enough: int) -> SequentialTest:
    """Test one-sided whether `observed` is larger than draws from its null distribution, and stop when that is clear.

    Parameters
    ----------
    observed : float
        The figure of the true labels.
    draws : iterable of float
        Figures of labels dealt out anew, in a fixed order; no more are taken than are needed.
    most : int
        At most so many draws.
    enough : int
        Stop at the draw that is the so manieth as good as observed.

    Returns
    -------
    SequentialTest
        p is h / l where the h-th draw as good as observed was the l-th of all (h is `enough`), and (g + 1) / (n + 1)
        where all n draws were made and g < h were as good.

    Notes
    -----
    Both are valid without correction: under the null hypothesis the observed figure is exchangeable with the draws.
    p <= h / l means that fewer than h of the first l - 1 draws were as good, so that the observed figure is among the h
    largest of l: that has a probability of h / l at most (less with ties, which count as "as good"). In the same way
    p <= (g + 1) / (n + 1) means that it is among the g + 1 largest of n + 1. The number of workers, or how far they
    have come, has no part in it, as draws are counted in their order.

    References
    ----------
    Besag and Clifford, "Sequential Monte Carlo p-values", Biometrika 78 (1991), 301-304.
    """
    drawn: list[float] = []
    as_good = 0
    for value in itertools.islice(draws, most):
        drawn.append(value)
        as_good += value >= observed - SAME
        if as_good == enough:
            break
    p = as_good / len(drawn) if as_good == enough else (as_good + 1) / (len(drawn) + 1)
    return SequentialTest(float(p), np.array(drawn), len(drawn) < most)


@dataclass(frozen=True)
class Retraining:
    """How an experiment is trained again for the tests by permutation.

    Attributes
    ----------
    fit_predict : callable
        Trains all folds on given levels and splits.
    smaller : bool
        Whether it trains a smaller model, or on some of the items. What that reaches with the true labels is then
        observed in the same way, and is not the accuracy of the experiment's own models.
    """

    fit_predict: FitPredict
    smaller: bool = False


def permutation_tests(
    accuracies: pd.DataFrame,
    levels: Mapping[str, str],
    splits: Mapping[str, int],
    retraining: Mapping[str, Retraining],
    settings: EvaluationSettings,
    pool: Executor,
    workers: int,
    tell: Tell = lambda done, what: None,
) -> pa.Table:
    """Test every experiment against chance.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        ``patient_accuracy``.
    levels, splits : mapping
        Pain level and split of every patient.
    retraining : mapping
        For the experiments that are cheap enough: how all folds are trained again on permuted labels. The others are
        tested with fixed predictions, which does not see what training itself could have picked up.
    settings : EvaluationSettings
        Numbers of permutations, level and seed.
    pool, workers
        Where trainings run, and how many at once.
    tell : callable
        Told how many trainings are done, and of what.

    Returns
    -------
    pyarrow.Table
        ``permutation_results``, p-values with Holm's correction over the experiments. Models trained again are tested
        sequentially (`sequential_test`): the training stops when p can no longer be `settings.alpha` or less.
    """
    rows: list[dict[str, Any]] = []
    for experiment, group in accuracies.groupby("experiment", sort=False):
        observed, name = float(group["accuracy"].mean()), str(experiment)
        classes, chance_auroc = int(group["classes"].iloc[0]), None
        if name in retraining:
            again = retraining[name]
            method = "retrained, smaller" if again.smaller else "retrained"
            if again.smaller:
                observed = score_predictions(again.fit_predict(levels, splits), levels, classes).accuracy
            most = settings.retrained_permutations
            draws = retrained_scores(
                again.fit_predict,
                label_permutations(levels, splits, (settings.seed, 1)),
                classes,
                pool,
                workers,
            )
            judged: list[PredictionScore] = []

            def accuracy_of(
                draws: Iterator[PredictionScore] = draws,
                judged: list[PredictionScore] = judged,
                name: str = name,
            ) -> Iterator[float]:
                for one in draws:
                    judged.append(one)
                    tell(1, f"{name}: permutation {len(judged)} of at most {settings.retrained_permutations}")
                    yield one.accuracy

            with closing(draws):
                test = sequential_test(observed, accuracy_of(), most, draws_to_stop(settings.alpha, most))
            tell(most - len(judged), f"{name}: p = {test.p_value:.3f} after {len(judged)} permutations")
            areas = np.array([one.auroc for one in judged])
            chance_auroc = None if np.isnan(areas).all() else float(np.nanmean(areas))
        else:
            method, most = "fixed predictions", settings.permutations
            permuted = fixed_permutations(group, most, settings.seed)
            test = SequentialTest(p_from_permutations(observed, permuted), permuted, False)
        rows.append(
            {
                "experiment": name,
                "method": method,
                "permutations": len(test.drawn),
                "most_permutations": most,
                "stopped": test.stopped,
                "observed": observed,
                "chance_mean": float(test.drawn.mean()),
                "chance_high": float(np.quantile(test.drawn, settings.confidence))
                if len(test.drawn) * settings.alpha >= 1
                else None,
                "chance_auroc": chance_auroc,
                "p_value": test.p_value,
                "p_least": max(1 / (most + 1), 1 / count_labelings(group["target"])),
            }
        )
    p, least = [r["p_value"] for r in rows], [r["p_least"] for r in rows]
    for row, adjusted, best in zip(rows, holm(p), least_holm(p, least), strict=True):
        row["p_value_holm"], row["p_least_holm"] = float(adjusted), float(best)
    return PermutationResults.from_rows(rows)


def count_labelings(targets: Iterable[str]) -> int:
    """Count the ways to deal classes out among patients: no permutation test can give a p below 1 over this.

    Examples
    --------
    >>> count_labelings(["Pain", "Pain", "No Pain", "No Pain"])
    6
    """
    counts = Counter(targets)
    return math.factorial(counts.total()) // math.prod(math.factorial(n) for n in counts.values())


def sign_flip_p(differences: NDArray[np.float64], permutations: int, seed: int) -> float:
    """Give the two-sided p that patients' differences are symmetric about 0.

    All 2^n sign patterns are used up to twelve patients that differ, random ones beyond.
    """
    d = differences[np.abs(differences) > 1e-12]
    if len(d) == 0:
        return 1.0
    observed = abs(d.sum())
    if len(d) <= 12:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(d))))
        return float(np.mean(np.abs(signs @ d) >= observed - 1e-9))
    signs = np.random.default_rng((seed, 2)).choice((-1.0, 1.0), size=(permutations, len(d)))
    return float((1 + np.sum(np.abs(signs @ d) >= observed - 1e-9)) / (1 + permutations))


def least_sign_flip_p(differences: NDArray[np.float64], permutations: int) -> float:
    """Give the smallest p that `sign_flip_p` can give for as many patients that differ."""
    differing = int(np.sum(np.abs(differences) > 1e-12))
    return max(
        2.0 ** (1 - differing) if differing else 1.0, 0.0 if differing <= 12 else 1 / (permutations + 1)
    )


def paired_differences(
    accuracies: pd.DataFrame, baselines: pd.DataFrame, settings: EvaluationSettings
) -> pa.Table:
    """Compare experiments with one another and with every baseline, over the patients that both were tested on.

    Parameters
    ----------
    accuracies, baselines : pandas.DataFrame
        ``patient_accuracy`` and ``baseline_accuracy``.
    settings : EvaluationSettings
        Confidence, resamples, permutations, seed.

    Returns
    -------
    pyarrow.Table
        ``paired_differences``: two-class models with two-class ones, four with four. Holm's correction is over the
        pairs of experiments, and apart from them over the pairs with baselines.
    """
    models = {
        (str(e), "experiment", int(g["classes"].iloc[0])): g.set_index("patient_id")["accuracy"]
        for e, g in accuracies.groupby("experiment", sort=False)
    }
    rules = {
        (b, "baseline", int(c)): g.set_index("patient_id")["accuracy"]
        for key, g in baselines.groupby(["baseline", "classes"], sort=False)
        for b, c in [cast(tuple[str, int], key)]
    }
    pairs = [*itertools.combinations(models, 2), *itertools.product(models, rules)]
    rows: list[dict[str, Any]] = []
    for first, second in pairs:
        if first[2] != second[2]:
            continue
        both = pd.concat([models[first], {**models, **rules}[second]], axis=1, join="inner")
        if both.empty:
            continue
        difference = (both.iloc[:, 0] - both.iloc[:, 1]).to_numpy(float)
        interval = bca_interval(
            mean_of(difference),
            len(difference),
            confidence=settings.confidence,
            samples=settings.bootstrap_samples,
            seed=settings.seed,
        )
        rows.append(
            {
                "first": first[0],
                "second": second[0],
                "second_kind": second[1],
                "classes": first[2],
                "patients": len(difference),
                "difference": float(difference.mean()),
                "low": interval.low,
                "high": interval.high,
                "p_value": sign_flip_p(difference, settings.permutations, settings.seed),
                "p_least": least_sign_flip_p(difference, settings.permutations),
            }
        )
    for kind in ("experiment", "baseline"):
        of_kind = [r for r in rows if r["second_kind"] == kind]
        for row, adjusted in zip(of_kind, holm([r["p_value"] for r in of_kind]), strict=True):
            row["p_value_holm"] = float(adjusted)
    return PairedDifferences.from_rows(rows)
