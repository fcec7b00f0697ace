"""Test experiments against chance by permuting labels, and pairs of experiments by flipping signs, over patients.

Labels are permuted between patients. There is one label per patient, so permuting within a patient, like
``permutation_test_score`` of scikit-learn with groups, would change nothing. Folds stay stratified. The callers pass
functions that train a model on given labels.
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
"""Trains an experiment in all folds with given pain levels and splits (both by patient) and returns its test
predictions with the columns patient_id, predicted, pain_probability and weight of ``frame_predictions``."""


TOLERANCE = 1e-8
"""Accuracies that differ by less are considered equal."""

ReportTrainings = Callable[[int, str], None]
"""Called with the number of additional training runs that are done, and a description."""


def p_from_permutations(observed: float, permuted: NDArray[np.float64]) -> float:
    """Compute the one-sided p-value (1 + number of permutations at least as good) / (1 + permutations).

    Ties are decided with a tolerance: `predicted_shares` are stored with nine decimals, while the means of two different
    labelings differ by at least one item of one patient, about a millionth.

    References
    ----------
    Phipson and Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9 (2010), article 39.
    """
    return float((1 + np.sum(permuted >= observed - TOLERANCE)) / (1 + len(permuted)))


def fixed_permutations(accuracies: pd.DataFrame, permutations: int, seed: int) -> NDArray[np.float64]:
    """Compute the accuracy of fixed predictions for permuted labels of the patients.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        One experiment's rows of ``patient_accuracy``.
    permutations : int
        Number of permutations.
    seed : int
        Seed of the permutations.

    Returns
    -------
    numpy.ndarray of shape (permutations,)
        Mean over patients of the share of items predicted as the permuted label.
    """
    names = class_names(int(accuracies["classes"].iloc[0]))
    shares = np.array([[json.loads(s)[n] for n in names] for s in accuracies["predicted_shares"]])
    labels = np.array([names.index(t) for t in accuracies["target"]])
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(labels, (permutations, 1)), axis=1)
    return np.asarray(shares[np.arange(len(labels)), shuffled].mean(axis=1))


@dataclass(frozen=True)
class PredictionScore:
    """Performance of predictions for given pain levels.

    Attributes
    ----------
    accuracy : float
        Mean over patients of weighted item accuracy.
    auroc : float
        Area under the ROC curve of the patients' mean pain probability; NaN if all patients have pain, or none.
    """

    accuracy: float
    auroc: float


def score_predictions(predictions: pa.Table, levels: Mapping[str, str], classes: int) -> PredictionScore:
    """Score predictions (see `FitPredict`) against the pain level of each patient."""
    items = predictions.select(["patient_id", "predicted", "pain_probability", "weight"]).to_pandas()
    target = items["patient_id"].map({p: class_of(level, classes) for p, level in levels.items()})
    items["right"] = (items["predicted"] == target) * items["weight"]
    items["pain"] = items["pain_probability"] * items["weight"]
    sums = items.groupby("patient_id")[["right", "pain", "weight"]].sum()
    sums = sums[sums["weight"] > 0]
    means = sums[["right", "pain"]].div(sums["weight"], axis=0)
    pain = [levels[str(patient)] != "None" for patient in means.index]
    return PredictionScore(
        float(means["right"].mean()), float(auroc(means["pain"], pain)(np.ones((1, len(means))))[0])
    )


def permute_labels(
    levels: Mapping[str, str], splits: Mapping[str, int], rng: np.random.Generator
) -> tuple[dict[str, str], dict[str, int]]:
    """Permute pain levels between patients; each level keeps its split, so that folds stay stratified.

    Without stratification, a model that favors the most common level of its training side would perform worse than in
    stratified folds. Chance would be underestimated, and p-values would be too small.

    Returns
    -------
    levels, splits : dict
        Permuted pain level, and the split that belongs to it, of each patient.
    """
    names = list(levels)
    source = [names[place] for place in rng.permutation(len(names))]
    return (
        {name: levels[other] for name, other in zip(names, source, strict=True)},
        {name: splits[other] for name, other in zip(names, source, strict=True)},
    )


def label_permutations(
    levels: Mapping[str, str], splits: Mapping[str, int], seed: tuple[int, int]
) -> Iterator[tuple[dict[str, str], dict[str, int]]]:
    """Yield an endless sequence of permutations (see `permute_labels`) that depends only on the seed."""
    rng = np.random.default_rng(seed)
    while True:
        yield permute_labels(levels, splits, rng)


Task = TypeVar("Task")
Result = TypeVar("Result")

TASKS_PER_WORKER = 2
"""Tasks submitted per worker of a pool; those that are unfinished when a test stops are wasted."""


def in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task], pool: Executor, workers: int
) -> Generator[Result, None, None]:
    """Run tasks concurrently and yield their results in the order of the tasks, regardless of the number of workers.

    Closing the generator cancels tasks that have not started, so `tasks` may be endless.
    """
    waiting: deque[Future[Result]] = deque()
    source = iter(tasks)
    try:
        for task in itertools.islice(source, workers * TASKS_PER_WORKER):
            waiting.append(pool.submit(work, task))
        while waiting:
            result = waiting.popleft().result()
            for task in itertools.islice(source, 1):
                waiting.append(pool.submit(work, task))
            yield result
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
    """Train on each draw of levels and splits, and yield the score for these levels in the order of the draws.

    Draws run concurrently in `pool`. Threads are sufficient because scikit-learn releases the GIL while growing trees.
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
        The statistics drawn before the test stopped.
    stopped : bool
        Whether it stopped before the last draw.
    """

    p_value: float
    drawn: NDArray[np.float64]
    stopped: bool


def draws_to_stop(alpha: float, limit: int) -> int:
    """Return the number of draws at least as good as observed after which p can no longer be `alpha` or less.

    With h of `limit` draws at least as good, the full test yields p = (h + 1) / (limit + 1). The smallest h for which p
    exceeds alpha is floor(alpha x (limit + 1)): 10 for 199 draws at 0.05. A test that stops there rejects at alpha if
    and only if the full test does.

    Examples
    --------
    >>> draws_to_stop(0.05, 199), draws_to_stop(0.05, 99), draws_to_stop(0.01, 19)
    (10, 5, 1)
    """
    return max(1, int(np.floor(alpha * (limit + 1) + 1e-9)))


def sequential_test(observed: float, draws: Iterable[float], limit: int, stop_after: int) -> SequentialTest:
    """Test one-sided whether `observed` is larger than draws from its null distribution, and stop when it is clear.

    Parameters
    ----------
    observed : float
        Statistic of the true labels.
    draws : iterable of float
        Statistics of permuted labels in a fixed order; only as many as needed are consumed.
    limit : int
        Maximum number of draws.
    stop_after : int
        Stop after this number of draws at least as good as observed (see `draws_to_stop`).

    Returns
    -------
    SequentialTest
        If draw number l is the h-th one at least as good as observed (h is `stop_after`), p = h / l. If all n draws were
        made and g < h of them were at least as good, p = (g + 1) / (n + 1).

    Notes
    -----
    Both p-values are valid without correction because under the null hypothesis the observed statistic is exchangeable
    with the draws. p <= h / l means that fewer than h of the first l - 1 draws were at least as good, so the observed
    statistic is among the h largest of l, which has a probability of at most h / l (less with ties, which count as at
    least as good). Likewise, p <= (g + 1) / (n + 1) means that it is among the g + 1 largest of n + 1. The result does
    not depend on the number of workers because draws are counted in order.

    References
    ----------
    Besag and Clifford, "Sequential Monte Carlo p-values", Biometrika 78 (1991), 301-304.
    """
    drawn: list[float] = []
    as_good = 0
    for value in itertools.islice(draws, limit):
        drawn.append(value)
        as_good += value >= observed - TOLERANCE
        if as_good == stop_after:
            break
    p = as_good / len(drawn) if as_good == stop_after else (as_good + 1) / (len(drawn) + 1)
    return SequentialTest(float(p), np.array(drawn), len(drawn) < limit)


@dataclass(frozen=True)
class Retraining:
    """How an experiment is retrained for the permutation tests.

    Attributes
    ----------
    fit_predict : callable
        Trains all folds on given levels and splits.
    smaller : bool
        Whether it trains a smaller model or uses only some of the items. The observed accuracy then comes from the same
        smaller model, not from the models of the experiment.
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
    report: ReportTrainings = lambda done, what: None,
) -> pa.Table:
    """Test every experiment against chance.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        ``patient_accuracy``.
    levels, splits : mapping
        Pain level and split of every patient.
    retraining : mapping
        How to retrain all folds on permuted labels, for experiments that are cheap enough. The others are tested with
        fixed predictions, which ignores what the model could have learned from permuted labels.
    settings : EvaluationSettings
        Numbers of permutations, significance level and seed.
    pool, workers
        Executor of the training runs, and its number of workers.
    report : callable
        Called with the number of training runs that are done, and a description.

    Returns
    -------
    pyarrow.Table
        ``permutation_results``, with Holm's correction over the experiments. Retrained models are tested sequentially
        (see `sequential_test`): training stops when p can no longer be `settings.alpha` or less.
    """
    rows: list[dict[str, Any]] = []
    for experiment, group in accuracies.groupby("experiment", sort=False):
        observed, name = float(group["accuracy"].mean()), str(experiment)
        classes, chance_auroc = int(group["classes"].iloc[0]), None
        if name in retraining:
            retrain = retraining[name]
            method = "retrained, smaller" if retrain.smaller else "retrained"
            if retrain.smaller:
                observed = score_predictions(retrain.fit_predict(levels, splits), levels, classes).accuracy
            limit = settings.retrained_permutations
            draws = retrained_scores(
                retrain.fit_predict,
                label_permutations(levels, splits, (settings.seed, 1)),
                classes,
                pool,
                workers,
            )
            scores: list[PredictionScore] = []

            def accuracy_of(
                draws: Iterator[PredictionScore] = draws,
                scores: list[PredictionScore] = scores,
                name: str = name,
            ) -> Iterator[float]:
                for score in draws:
                    scores.append(score)
                    report(
                        1, f"{name}: permutation {len(scores)} of at most {settings.retrained_permutations}"
                    )
                    yield score.accuracy

            with closing(draws):
                test = sequential_test(observed, accuracy_of(), limit, draws_to_stop(settings.alpha, limit))
            report(limit - len(scores), f"{name}: p = {test.p_value:.3f} after {len(scores)} permutations")
            areas = np.array([score.auroc for score in scores])
            chance_auroc = None if np.isnan(areas).all() else float(np.nanmean(areas))
        else:
            method, limit = "fixed predictions", settings.permutations
            permuted = fixed_permutations(group, limit, settings.seed)
            test = SequentialTest(p_from_permutations(observed, permuted), permuted, False)
        rows.append(
            {
                "experiment": name,
                "method": method,
                "permutations": len(test.drawn),
                "most_permutations": limit,
                "stopped": test.stopped,
                "observed": observed,
                "chance_mean": float(test.drawn.mean()),
                "chance_high": float(np.quantile(test.drawn, settings.confidence))
                if len(test.drawn) * settings.alpha >= 1
                else None,
                "chance_auroc": chance_auroc,
                "p_value": test.p_value,
                "p_least": max(1 / (limit + 1), 1 / count_labelings(group["target"])),
            }
        )
    p, least = [r["p_value"] for r in rows], [r["p_least"] for r in rows]
    for row, adjusted, best in zip(rows, holm(p), least_holm(p, least), strict=True):
        row["p_value_holm"], row["p_least_holm"] = float(adjusted), float(best)
    return PermutationResults.from_rows(rows)


def count_labelings(targets: Iterable[str]) -> int:
    """Count the distinct ways to assign the classes to patients; no permutation test can yield p below its inverse.

    Examples
    --------
    >>> count_labelings(["Pain", "Pain", "No Pain", "No Pain"])
    6
    """
    counts = Counter(targets)
    return math.factorial(counts.total()) // math.prod(math.factorial(n) for n in counts.values())


def sign_flip_p(differences: NDArray[np.float64], permutations: int, seed: int) -> float:
    """Compute the two-sided p-value of the hypothesis that differences of patients are symmetric about 0.

    All 2^n sign patterns are used for up to twelve nonzero differences, random ones beyond.

    References
    ----------
    Fisher, "The Design of Experiments" (1935), section 21; Good, "Permutation, Parametric and Bootstrap Tests of
    Hypotheses", 3rd edition (2005), chapter 3.
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
    """Return the smallest p that `sign_flip_p` can yield for the same number of nonzero differences."""
    differing = int(np.sum(np.abs(differences) > 1e-12))
    return max(
        2.0 ** (1 - differing) if differing else 1.0, 0.0 if differing <= 12 else 1 / (permutations + 1)
    )


def paired_differences(
    accuracies: pd.DataFrame, baselines: pd.DataFrame, settings: EvaluationSettings
) -> pa.Table:
    """Compare experiments with each other and with every baseline, over the patients that both were tested on.

    Parameters
    ----------
    accuracies, baselines : pandas.DataFrame
        ``patient_accuracy`` and ``baseline_accuracy``.
    settings : EvaluationSettings
        Confidence, resamples, permutations, seed.

    Returns
    -------
    pyarrow.Table
        ``paired_differences`` between models with the same number of classes. Holm's correction is applied to the pairs
        of experiments and, separately, to the pairs with baselines.
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
