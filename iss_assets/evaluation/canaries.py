"""Detect leakage: signs that a model had access to information about the test patients.

The canaries check for shared data between splits, train on shuffled labels, measure how well features identify a
patient, and test quality measures for association with the label.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from iss_assets.evaluation.accuracy import class_of
from iss_assets.evaluation.baselines import quality_measures
from iss_assets.evaluation.frames import rows_of
from iss_assets.evaluation.intervals import holm
from iss_assets.evaluation.permutation import (
    FitPredict,
    ReportTrainings,
    label_permutations,
    retrained_scores,
)
from iss_assets.schemas.evaluation import QualityAssociations
from iss_assets.settings import EvaluationSettings

FLAT_CONTRAST = 0.004
"""Frames with less contrast than about one step of 8-bit luma (1/255) are flat. Black pictures of two patients are
identical without any leakage."""


@dataclass(frozen=True)
class LeakageReport:
    """Result of `check_leakage`.

    Attributes
    ----------
    patients, videos, frames : int
        Number of patients, videos and frames compared.
    flat_frames : int
        Number of frames without contrast, which are not compared.
    leaks : list of dict
        ``kind`` (``patient``, ``video``, ``frame`` or ``trained_on_test``), ``patients`` (sorted ids) and ``count``.
    """

    patients: int
    videos: int
    frames: int
    flat_frames: int
    leaks: list[dict[str, Any]]

    @property
    def clean(self) -> bool:
        """Whether no leak was found."""
        return not self.leaks

    def sentence(self) -> str:
        """Describe the result in one sentence that contains patient ids but no data."""
        if self.clean:
            return (
                f"{self.patients} patients, {self.videos} videos and {self.frames:,} frames compared: no patient, no "
                "video file and no identical frame is on both sides of a split."
            )
        return "; ".join(
            f"{leak['kind']}: {leak['count']} shared, patients {', '.join(map(str, leak['patients']))}"
            for leak in self.leaks
        )


def check_leakage(
    splits: pd.DataFrame,
    videos: pd.DataFrame,
    frames: pd.DataFrame,
    fold_models: pd.DataFrame | None = None,
) -> LeakageReport:
    """Check that no patient, video file or identical frame is on both sides of a split.

    Parameters
    ----------
    splits : pandas.DataFrame
        ``cv_splits``: ``patient_id`` and ``split``.
    videos : pandas.DataFrame
        ``patient_id`` and ``sha256`` of the videos used for training or prediction.
    frames : pandas.DataFrame
        Their frames: ``patient_id``, ``picture_hash`` and, to exclude flat pictures, ``contrast``.
    fold_models : pandas.DataFrame, optional
        ``experiment``, ``split`` and ``train_patients``, the patients who were used for training.

    Returns
    -------
    LeakageReport
        Patients in the same split may share a file or a frame, because they are tested together.
    """
    leaks: list[dict[str, Any]] = []
    repeated = splits.loc[splits["patient_id"].duplicated(), "patient_id"].unique()
    if len(repeated):
        leaks.append({"kind": "patient", "patients": sorted(repeated), "count": len(repeated)})
    place = splits.drop_duplicates("patient_id").set_index("patient_id")["split"]

    flat = (
        frames["contrast"] < FLAT_CONTRAST if "contrast" in frames else pd.Series(False, index=frames.index)
    )
    for kind, table, name in (("video", videos, "sha256"), ("frame", frames[~flat], "picture_hash")):
        pairs = table[["patient_id", name]].dropna().drop_duplicates()
        pairs = pairs.assign(split=pairs["patient_id"].map(place)).dropna(subset=["split"])
        shared = pairs.groupby(name)["split"].transform("nunique") > 1
        if shared.any():
            leaks.append(
                {
                    "kind": kind,
                    "patients": sorted(pairs.loc[shared, "patient_id"].unique()),
                    "count": int(pairs.loc[shared, name].nunique()),
                }
            )
    if fold_models is not None:
        for model in rows_of(fold_models):
            leaked = sorted(p for p in model.train_patients if place.get(p) == model.split)
            if leaked:
                leaks.append({"kind": "trained_on_test", "patients": leaked, "count": len(leaked)})
    patients = len(set(videos["patient_id"]) & set(place.index))
    return LeakageReport(patients, len(videos), int((~flat).sum()), int(flat.sum()), leaks)


def leakage_canary(report: LeakageReport) -> dict[str, Any]:
    """Convert a `LeakageReport` to a row of ``canary_results``; it neither passes nor fails if nothing was compared."""
    compared = min(report.patients, report.videos, report.frames) > 0 or not report.clean
    return {
        "canary": "shared patients, files, frames",
        "subject": "study",
        "value": float(sum(leak["count"] for leak in report.leaks)),
        "limit_value": 0.0,
        "passed": report.clean if compared else None,
        "detail": report.sentence() if compared else "Nothing was compared: no patients, videos or frames.",
    }


def shuffled_labels_canary(
    experiment: str,
    levels: Mapping[str, str],
    splits: Mapping[str, int],
    classes: int,
    fit_predict: FitPredict,
    settings: EvaluationSettings,
    pool: Executor,
    workers: int,
    report: ReportTrainings = lambda done, what: None,
) -> dict[str, Any]:
    """Train on permuted labels: the accuracy must drop to chance.

    Parameters
    ----------
    experiment : str
        Name of the experiment in the row.
    levels, splits : mapping
        Pain level and split of each patient.
    classes : int
        2 or 4.
    fit_predict : callable
        Trains all folds on given levels and splits and returns test predictions.
    settings : EvaluationSettings
        ``shuffle_repeats`` and seed.
    pool, workers
        Executor of the training runs, and its number of workers.
    report : callable
        Called after each training run.

    Returns
    -------
    dict
        A row of ``canary_results``. The canary fails if the mean over repeats is more than three standard errors above
        the share of the most common class, the best accuracy that can be expected with meaningless labels.
    """
    draws = islice(label_permutations(levels, splits, (settings.seed, 3)), settings.shuffle_repeats)
    accuracies = []
    for score in retrained_scores(fit_predict, draws, classes, pool, workers):
        accuracies.append(score.accuracy)
        report(1, f"{experiment}: shuffled labels, {len(accuracies)} of {settings.shuffle_repeats}")
    names = [class_of(level, classes) for level in levels.values()]
    chance = max(names.count(name) for name in set(names)) / len(names)
    limit = chance + 3 * float(np.std(accuracies, ddof=1)) / np.sqrt(len(accuracies))
    value = float(np.mean(accuracies))
    return {
        "canary": "shuffled labels",
        "subject": experiment,
        "value": value,
        "limit_value": float(limit),
        "passed": bool(value <= limit),
        "detail": f"Trained {len(accuracies)} times on labels permuted among patients: mean accuracy {value:.3f}; the share "
        f"of the most common class is {chance:.3f}.",
    }


def identity_probe(
    subject: str, features: pd.DataFrame, levels: Mapping[str, str], splits: pd.DataFrame
) -> list[dict[str, Any]]:
    """Measure how well features identify a patient, and how much that inflates accuracy in a leaky split.

    Parameters
    ----------
    subject : str
        Name of the features in the rows.
    features : pandas.DataFrame
        One row per video: ``patient_id``, ``video_id`` and numbers. Patients with one video are ignored.
    levels : mapping
        Pain level of each patient.
    splits : pandas.DataFrame
        ``cv_splits``.

    Returns
    -------
    list of dict
        Rows of ``canary_results``, all from the nearest neighbor in standardized features (missing values filled and
        scaled on the training side): how often it is the same patient; how often it has the same label if it may be
        another video of the patient (leaky); the same if it must be from another split. These rows neither pass nor
        fail, because a face always identifies a person. A leaky value far above the other one is what a split by frames
        or videos would have reported.
    """
    data = features[features["patient_id"].map(features["patient_id"].value_counts()) > 1]
    split = data["patient_id"].map(splits.set_index("patient_id")["split"])
    data, place = data[split.notna()].reset_index(drop=True), split.dropna().to_numpy()
    if data["patient_id"].nunique() < 2:
        return []
    values = data.drop(columns=["patient_id", "video_id"]).to_numpy(float)
    patient = data["patient_id"].to_numpy()
    label = np.array([class_of(levels[p], 2) for p in patient])
    people = data["patient_id"].nunique()

    def nearest(allowed: np.ndarray, row: int) -> int:
        others = values[allowed]
        median = np.nan_to_num(np.nanmedian(others, axis=0))
        filled = np.where(np.isnan(others), median, others)
        scale = filled.std(axis=0)
        scale[scale == 0] = 1
        one = np.where(np.isnan(values[row]), median, values[row])
        return int(np.flatnonzero(allowed)[np.argmin((((filled - one) / scale) ** 2).sum(axis=1))])

    numbers = np.arange(len(values))
    any_other = np.array([nearest(numbers != row, row) for row in numbers])
    other_split = np.array([nearest(place != place[row], row) for row in numbers])

    def by_patient(right: np.ndarray) -> float:
        return float(pd.Series(right).groupby(patient).mean().mean())

    base = {"subject": subject, "passed": None}
    return [
        {
            **base,
            "canary": "identity from features",
            "value": by_patient(patient[any_other] == patient),
            "limit_value": 1 / people,
            "detail": f"How often the most similar video is of the same patient, {people} patients; chance is 1 in {people}.",
        },
        {
            **base,
            "canary": "label, leaky split",
            "value": by_patient(label[any_other] == label),
            "limit_value": by_patient(label[other_split] == label),
            "detail": "How often the most similar video has the same label, if it may be of the same patient; the limit is "
            "the same for other patients only. The gap is recognition of persons, not of pain.",
        },
    ]


def quality_associations(video_quality: pd.DataFrame, levels: Mapping[str, str]) -> pa.Table:
    """Test the association of every quality measure with pain; return ``quality_associations``.

    Measures are averaged over the videos of a patient and compared between patients with and without pain (two-sided
    test of Mann and Whitney, Ann. Math. Statist. 18, 1947). The AUROC is U / (n1 x n2). An association means that a
    model could predict pain from unrelated differences in light or sound.
    """
    from scipy.stats import mannwhitneyu

    per_patient = quality_measures(video_quality).drop(columns="video_id").groupby("patient_id").mean()
    per_patient = per_patient[per_patient.index.isin(levels)]
    pain = np.array([levels[p] != "None" for p in per_patient.index], bool)
    rows: list[dict[str, Any]] = []
    for measure in sorted(per_patient.columns):
        values = per_patient[measure].to_numpy()
        known = ~np.isnan(values)
        some, none = values[known & pain], values[known & ~pain]
        row: dict[str, object] = {"measure": measure, "patients": int(known.sum())}
        if len(some) and len(none):
            test = mannwhitneyu(some, none)
            row |= {"auroc": float(test.statistic / (len(some) * len(none))), "p_value": float(test.pvalue)}
        rows.append(row)
    for row, adjusted in zip(rows, holm([r.get("p_value", np.nan) for r in rows]), strict=True):
        row["p_value_holm"] = None if np.isnan(adjusted) else float(adjusted)
    return QualityAssociations.from_rows(rows)
