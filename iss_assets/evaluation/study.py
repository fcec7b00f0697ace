"""The whole evaluation of a study in one call.

Belongs here: the order of the parts and what each is given. Does not belong here: the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import pandas as pd
import pyarrow as pa

from iss_assets.evaluation import baselines, canaries, permutation, results, subgroups
from iss_assets.evaluation.frames import Rows, as_frame
from iss_assets.evaluation.permutation import FitPredict, Retraining, Tell, in_order, score_predictions
from iss_assets.modeling.forests import processors
from iss_assets.protocol import published
from iss_assets.schemas.evaluation import CanaryResults, SplitStability
from iss_assets.settings import EvaluationSettings

CODE_VERSION: Final = "4"
"""Raised whenever a change of this package changes a figure."""

SeedPredict = Callable[[int], pa.Table]
"""Assigns patients to splits anew by a seed, trains all folds, gives the test predictions."""

Progress = Callable[[int, int, str], None]
"""Told how many trainings are done, of how many at most, and what the last one was."""


@dataclass(frozen=True)
class EvaluationInputs:
    """What `evaluate_study` needs; tables are the warehouse's, as Arrow tables or pandas frames.

    Attributes
    ----------
    patient_accuracy, splits, fold_models, patients, bpi_scores, video_quality
        The tables of those names (``splits`` is ``cv_splits``).
    videos, frames
        ``patient_id`` and ``sha256``; ``patient_id``, ``picture_hash`` and ``contrast``. Without both, the proof that
        splits share nothing is not made and the table of canaries lacks it.
    retraining
        Experiments that are trained again on permuted labels for the test against chance, and how.
    fit_predict
        Experiments that are trained as they are on shuffled labels, for the alarm; each with a callable.
    by_seed
        Experiments that are trained again under other split seeds, each with a callable.
    features
        Name to a frame of one row a video (``patient_id``, ``video_id``, numbers) for the identity probe.
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


def evaluate_study(
    inputs: EvaluationInputs,
    settings: EvaluationSettings,
    progress: Progress = lambda done, of, what: None,
    workers: int | None = None,
) -> dict[str, pa.Table]:
    """Judge every experiment that has predictions.

    Parameters
    ----------
    inputs : EvaluationInputs
        Tables, and callables for what needs training again.
    settings : EvaluationSettings
        Confidence, resamples, permutations, seeds.
    progress : callable
        Told of every training that is done again, with the number of all that may come; a test that stops early counts
        what it did not need as done.
    workers : int, optional
        Trainings at once, in threads of one pool; the processors there are, if None. No figure depends on it.

    Returns
    -------
    dict of str to pyarrow.Table
        Every evaluation table by its name in the warehouse, each whole: ``experiment_results``,
        ``experiment_metrics``, ``confusion_counts``, ``calibration``, ``baseline_accuracy``, ``baseline_results``,
        ``permutation_results``, ``paired_differences``, ``subgroup_results``, ``quality_associations``,
        ``canary_results``, ``split_stability``.
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
        raise ValueError(
            f"training was offered for {', '.join(unknown)}, which patient_accuracy does not hold"
        )

    at_once = workers or processors()
    tell = _counter(inputs, settings, progress)
    with ThreadPoolExecutor(at_once) as pool:
        chance = permutation.permutation_tests(
            accuracies, levels, tested_in, inputs.retraining, settings, pool, at_once, tell
        )
        alarms = _canaries(inputs, splits, fold_models, levels, classes, settings, pool, at_once, tell)
        stability = _stability(inputs, levels, classes, settings, pool, at_once, tell)
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
        "canary_results": CanaryResults.from_rows(alarms),
        "split_stability": SplitStability.from_rows(stability),
    }


def _counter(inputs: EvaluationInputs, settings: EvaluationSettings, progress: Progress) -> Tell:
    """Count trainings for `progress`, which wants to know of how many."""
    of = (
        len(inputs.retraining) * settings.retrained_permutations
        + len(inputs.fit_predict) * settings.shuffle_repeats
        + len(inputs.by_seed) * len(settings.stability_seeds)
    )
    done = 0

    def tell(more: int, what: str) -> None:
        nonlocal done
        done += more
        progress(done, of, what)

    return tell


def _stability(
    inputs: EvaluationInputs,
    levels: Mapping[str, str],
    classes: Mapping[str, int],
    settings: EvaluationSettings,
    pool: Executor,
    workers: int,
    tell: Tell,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for experiment, train in inputs.by_seed.items():
        made = in_order(train, settings.stability_seeds, pool, workers)
        for seed, predictions in zip(settings.stability_seeds, made, strict=True):
            rows.append(
                {
                    "experiment": experiment,
                    "split_seed": seed,
                    "patients": len(set(predictions["patient_id"].to_pylist())),
                    "all_classes": score_predictions(predictions, levels, classes[experiment]).accuracy,
                }
            )
            tell(1, f"{experiment}: other splits, seed {seed}")
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
    tell: Tell,
) -> list[dict[str, object]]:
    tested_in = dict(zip(splits["patient_id"], splits["split"], strict=True))
    rows = []
    if inputs.videos is not None and inputs.frames is not None:
        report = canaries.check_leakage(splits, as_frame(inputs.videos), as_frame(inputs.frames), fold_models)
        rows.append(canaries.leakage_canary(report))
    for experiment, train in inputs.fit_predict.items():
        rows.append(
            canaries.shuffled_labels_canary(
                experiment, levels, tested_in, classes[experiment], train, settings, pool, workers, tell
            )
        )
    for name, features in inputs.features.items():
        rows += canaries.identity_probe(name, features, levels, splits)
    return rows
