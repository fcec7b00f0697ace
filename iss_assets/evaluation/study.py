"""Run the whole evaluation of a study in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import pandas as pd
import pyarrow as pa

from iss_assets.evaluation import baselines, canaries, permutation, results, subgroups
from iss_assets.evaluation.attention import attention_canaries, attention_shortcuts
from iss_assets.evaluation.frames import Rows, as_frame
from iss_assets.evaluation.permutation import (
    FitPredict,
    ReportTrainings,
    Retraining,
    in_order,
    score_predictions,
)
from iss_assets.modeling.forests import processors
from iss_assets.protocol import published
from iss_assets.schemas.evaluation import CanaryResults, SplitStability
from iss_assets.schemas.modeling import VideoAttention
from iss_assets.settings import EvaluationSettings

CODE_VERSION: Final = "5"
"""Version of this package; increase it with every change of a figure."""

SeedPredict = Callable[[int], pa.Table]
"""Assigns patients to splits with a seed, trains all folds and returns the test predictions."""

Progress = Callable[[int, int, str], None]
"""Called with the number of training runs that are done, their maximum number, and a description of the last one."""


@dataclass(frozen=True)
class EvaluationInputs:
    """Inputs of `evaluate_study`; tables are warehouse tables, as Arrow tables or data frames.

    Attributes
    ----------
    patient_accuracy, splits, fold_models, patients, bpi_scores, video_quality
        The tables of those names (``splits`` is ``cv_splits``).
    videos, frames
        ``patient_id`` and ``sha256``; ``patient_id``, ``picture_hash`` and ``contrast``. Unless both are given, the check
        for data shared between splits is skipped.
    retraining
        For each experiment to retrain on permuted labels for the test against chance: how to do it.
    fit_predict
        For each experiment to train unchanged on shuffled labels for the leakage canary: a callable.
    by_seed
        For each experiment to retrain with other split seeds: a callable.
    attention
        ``video_attention``, of the experiments on whole videos.
    features
        Data frames for the identity probe by name, with one row per video (``patient_id``, ``video_id``, numbers).
    """

    patient_accuracy: Rows
    splits: Rows
    fold_models: Rows
    patients: Rows
    bpi_scores: Rows
    video_quality: Rows
    videos: Rows | None = None
    frames: Rows | None = None
    retraining: Mapping[str, Retraining] = field(default_factory=dict)
    fit_predict: Mapping[str, FitPredict] = field(default_factory=dict)
    by_seed: Mapping[str, SeedPredict] = field(default_factory=dict)
    features: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    attention: Rows | None = None


def evaluate_study(
    inputs: EvaluationInputs,
    settings: EvaluationSettings,
    progress: Progress = lambda done, of, what: None,
    workers: int | None = None,
) -> dict[str, pa.Table]:
    """Evaluate every experiment that has predictions.

    Parameters
    ----------
    inputs : EvaluationInputs
        Tables, and callables for retraining.
    settings : EvaluationSettings
        Confidence, resamples, permutations, seeds.
    progress : callable
        Called after every training run, with the maximum number of runs; when a test stops early, the runs that it
        skips count as done.
    workers : int, optional
        Number of concurrent training runs, in threads; by default the number of processors. It affects no figure.

    Returns
    -------
    dict of str to pyarrow.Table
        Every evaluation table by its name in the warehouse, each whole: ``experiment_results``,
        ``experiment_metrics``, ``confusion_counts``, ``calibration``, ``baseline_accuracy``, ``baseline_results``,
        ``permutation_results``, ``paired_differences``, ``subgroup_results``, ``quality_associations``,
        ``attention_shortcuts``, ``canary_results``, ``split_stability``.

    Raises
    ------
    ValueError
        If a callable is given for an experiment that has no rows in ``patient_accuracy``.
    """
    accuracies, splits = as_frame(inputs.patient_accuracy), as_frame(inputs.splits)
    patients, fold_models = as_frame(inputs.patients), as_frame(inputs.fold_models)
    quality = as_frame(inputs.video_quality)
    levels = dict(zip(splits["patient_id"], splits["pain_level"], strict=True))
    tested_in = dict(zip(splits["patient_id"], splits["split"], strict=True))
    rank = published.order(sorted(set(accuracies["experiment"])))
    accuracies = accuracies.sort_values("experiment", key=lambda s: s.map(rank.index), kind="stable")
    classes = {str(e): int(g["classes"].iloc[0]) for e, g in accuracies.groupby("experiment", sort=False)}
    unknown = sorted((set(inputs.retraining) | set(inputs.fit_predict) | set(inputs.by_seed)) - set(classes))
    if unknown:
        raise ValueError(f"patient_accuracy has no rows of {', '.join(unknown)}, which should be retrained")

    concurrency = workers or processors()
    report = _counter(inputs, settings, progress)
    with ThreadPoolExecutor(concurrency) as pool:
        chance = permutation.permutation_tests(
            accuracies, levels, tested_in, inputs.retraining, settings, pool, concurrency, report
        )
        alarms = _canaries(inputs, splits, fold_models, levels, classes, settings, pool, concurrency, report)
        stability = _stability(inputs, levels, classes, settings, pool, concurrency, report)
    attention = as_frame(VideoAttention.from_rows([]) if inputs.attention is None else inputs.attention)
    shortcuts = attention_shortcuts(attention[attention["experiment"].isin(classes)], quality, settings)
    alarms += attention_canaries(as_frame(shortcuts))
    base = baselines.baseline_accuracy(patients, splits, as_frame(inputs.bpi_scores), quality, settings)
    differences = permutation.paired_differences(accuracies, as_frame(base), settings)
    metrics = results.experiment_metrics(accuracies, settings, as_frame(chance))
    return {
        "experiment_results": results.experiment_results(
            accuracies,
            fold_models,
            as_frame(metrics),
            as_frame(differences),
            as_frame(base),
            as_frame(chance),
            alpha=settings.alpha,
        ),
        "experiment_metrics": metrics,
        "confusion_counts": results.confusion_counts(accuracies),
        "calibration": results.calibration(accuracies, settings.calibration_bins),
        "baseline_accuracy": base,
        "baseline_results": baselines.baseline_results(as_frame(base), settings),
        "permutation_results": chance,
        "paired_differences": differences,
        "subgroup_results": subgroups.subgroup_results(accuracies, patients, settings),
        "quality_associations": canaries.quality_associations(quality, levels),
        "attention_shortcuts": shortcuts,
        "canary_results": CanaryResults.from_rows(alarms),
        "split_stability": SplitStability.from_rows(stability),
    }


def _counter(inputs: EvaluationInputs, settings: EvaluationSettings, progress: Progress) -> ReportTrainings:
    """Return a function that adds up training runs and passes them to `progress` with their maximum number."""
    of = (
        len(inputs.retraining) * settings.retrained_permutations
        + len(inputs.fit_predict) * settings.shuffle_repeats
        + len(inputs.by_seed) * len(settings.stability_seeds)
    )
    done = 0

    def report(more: int, what: str) -> None:
        nonlocal done
        done += more
        progress(done, of, what)

    return report


def _stability(
    inputs: EvaluationInputs,
    levels: Mapping[str, str],
    classes: Mapping[str, int],
    settings: EvaluationSettings,
    pool: Executor,
    workers: int,
    report: ReportTrainings,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for experiment, train in inputs.by_seed.items():
        results = in_order(train, settings.stability_seeds, pool, workers)
        for seed, predictions in zip(settings.stability_seeds, results, strict=True):
            rows.append(
                {
                    "experiment": experiment,
                    "split_seed": seed,
                    "patients": len(set(predictions["patient_id"].to_pylist())),
                    "all_classes": score_predictions(predictions, levels, classes[experiment]).accuracy,
                }
            )
            report(1, f"{experiment}: other splits, seed {seed}")
    return rows


def _canaries(
    inputs: EvaluationInputs,
    splits: pd.DataFrame,
    fold_models: pd.DataFrame,
    levels: Mapping[str, str],
    classes: Mapping[str, int],
    settings: EvaluationSettings,
    pool: Executor,
    workers: int,
    report: ReportTrainings,
) -> list[dict[str, object]]:
    tested_in = dict(zip(splits["patient_id"], splits["split"], strict=True))
    rows = []
    if inputs.videos is not None and inputs.frames is not None:
        leakage = canaries.check_leakage(
            splits, as_frame(inputs.videos), as_frame(inputs.frames), fold_models
        )
        rows.append(canaries.leakage_canary(leakage))
    for experiment, train in inputs.fit_predict.items():
        rows.append(
            canaries.shuffled_labels_canary(
                experiment, levels, tested_in, classes[experiment], train, settings, pool, workers, report
            )
        )
    for name, features in inputs.features.items():
        rows += canaries.identity_probe(name, features, levels, splits)
    return rows
