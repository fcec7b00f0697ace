"""Tests over patients: against chance by permuted labels, and of pairs by flipped signs.

Belongs here: permutation of *patients'* labels (one label a patient: permuting within a patient, as
``permutation_test_score`` does with groups, changes nothing), with the folds kept as stratified as they were; paired differences over patients.
Does not belong here: how a model is trained; a callable that trains on given labels is handed in.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from iss_assets.evaluation.accuracy import class_names, class_of
from iss_assets.evaluation.intervals import bca_interval, holm, mean_of
from iss_assets.settings import EvaluationSettings
from iss_assets.warehouse.tables import PairedDifferences, PermutationResults

FitPredict = Callable[[Mapping[str, str], Mapping[str, int]], pa.Table]
"""Trains one experiment in all folds on given pain levels (patient to level) and splits (patient to number), and gives
its test predictions, with the columns patient_id, predicted and weight of ``frame_predictions``."""


def p_from_permutations(observed: float, permuted: NDArray[np.float64]) -> float:
    """Give the one-sided p: permutations at least as good as observed, the observed one counted among them.

    Counting it keeps the test valid: no finite number of permutations can give 0 (Phipson and Smyth, Stat. Appl.
    Genet. Mol. Biol. 9, 2010). Equal figures count as equal: `predicted_shares` are kept to nine places, and the
    means of two different labellings differ by one item of one patient, a millionth, at least.
    """
    return float((1 + np.sum(permuted >= observed - 1e-8)) / (1 + len(permuted)))


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


def accuracy_against(predictions: pa.Table, levels: Mapping[str, str], classes: int) -> float:
    """Give the mean over patients of weighted item accuracy against `levels` (patient to pain level)."""
    items = predictions.select(["patient_id", "predicted", "weight"]).to_pandas()
    target = items["patient_id"].map({p: class_of(level, classes) for p, level in levels.items()})
    items["right"] = (items["predicted"] == target) * items["weight"]
    sums = items.groupby("patient_id")[["right", "weight"]].sum()
    sums = sums[sums["weight"] > 0]
    return float((sums["right"] / sums["weight"]).mean())


def dealt_out(
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


def retrained_accuracies(
    fit_predict: FitPredict, draws: Sequence[tuple[Mapping[str, str], Mapping[str, int]]], classes: int
) -> NDArray[np.float64]:
    """Train on each draw of levels and splits, and give the mean accuracies over patients against these levels.

    Draws are worked on side by side, a thread a processor, since trees are grown outside the interpreter's lock.
    """

    def one(draw: tuple[Mapping[str, str], Mapping[str, int]]) -> float:
        levels, splits = draw
        return accuracy_against(fit_predict(levels, splits), levels, classes)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return np.array(list(pool.map(one, draws)))


def permutation_tests(
    accuracies: pd.DataFrame,
    levels: Mapping[str, str],
    splits: Mapping[str, int],
    fit_predict: Mapping[str, FitPredict],
    settings: EvaluationSettings,
    sampled: Collection[str] = (),
) -> pa.Table:
    """Test every experiment against chance.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        ``patient_accuracy``.
    levels, splits : mapping
        Pain level and split of every patient.
    fit_predict : mapping
        For the experiments that are cheap enough: a callable that trains all folds again on permuted labels. The
        others are tested with fixed predictions, which does not see what training itself could have picked up.
    settings : EvaluationSettings
        Numbers of permutations and seed.
    sampled : collection of str
        Those of `fit_predict` that learn from a part of the items. What they reach with the true labels is observed
        in the same way, and is not the accuracy of the experiment's own models.

    Returns
    -------
    pyarrow.Table
        ``permutation_results``, p-values with Holm's correction over the experiments.
    """
    rows: list[dict[str, Any]] = []
    for experiment, group in accuracies.groupby("experiment", sort=False):
        observed, method = float(group["accuracy"].mean()), "fixed predictions"
        if experiment in fit_predict:
            method = "retrained on a sample" if experiment in sampled else "retrained"
            train, classes = fit_predict[str(experiment)], int(group["classes"].iloc[0])
            if experiment in sampled:
                observed = float(retrained_accuracies(train, [(levels, splits)], classes)[0])
            rng = np.random.default_rng((settings.seed, 1))
            draws = [dealt_out(levels, splits, rng) for _ in range(settings.retrained_permutations)]
            permuted = retrained_accuracies(train, draws, classes)
        else:
            permuted = fixed_permutations(group, settings.permutations, settings.seed)
        rows.append(
            {
                "experiment": experiment,
                "method": method,
                "permutations": len(permuted),
                "observed": observed,
                "chance_mean": float(permuted.mean()),
                "chance_high": float(np.quantile(permuted, 0.95)),
                "p_value": p_from_permutations(observed, permuted),
            }
        )
    for row, adjusted in zip(rows, holm([r["p_value"] for r in rows]), strict=True):
        row["p_value_holm"] = float(adjusted)
    return PermutationResults.from_rows(rows)


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
            }
        )
    for kind in ("experiment", "baseline"):
        of_kind = [r for r in rows if r["second_kind"] == kind]
        for row, adjusted in zip(of_kind, holm([r["p_value"] for r in of_kind]), strict=True):
            row["p_value_holm"] = float(adjusted)
    return PairedDifferences.from_rows(rows)
