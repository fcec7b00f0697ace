"""Alarms for leakage: signs that a model was told what it should have found out.

Belongs here: proof that splits share nothing, shuffled labels, the probe for identity, quality against label.
Does not belong here: what a shell does with a failed alarm.
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
from iss_assets.evaluation.permutation import FitPredict, Tell, label_permutations, retrained_scores
from iss_assets.schemas.evaluation import QualityAssociations
from iss_assets.settings import EvaluationSettings

FLAT_CONTRAST = 0.004
"""Frames with less contrast than about one step of 8-bit luma (1/255) are flat: black pictures of two patients are
identical and say nothing about either."""


@dataclass(frozen=True)
class LeakageReport:
    """What `check_leakage` looked at and what it found.

    Attributes
    ----------
    patients, videos, frames : int
        How many were compared: those of the videos and frames given.
    flat_frames : int
        Frames without contrast, left out of the comparison.
    leaks : list of dict
        ``kind`` (``patient``, ``video``, ``frame``, ``trained_on_test``, ``no_split``), ``patients`` (sorted ids) and
        ``count``.
    """

    patients: int
    videos: int
    frames: int
    flat_frames: int
    leaks: list[dict[str, Any]]

    @property
    def clean(self) -> bool:
        """Whether nothing stands on both sides."""
        return not self.leaks

    def sentence(self) -> str:
        """Say in words what was found, with patient ids and without contents."""
        if self.clean:
            return (
                f"{self.patients} patients, {self.videos} videos and {self.frames:,} frames compared: no patient, no "
                "video file and no identical frame stands on both sides of a split."
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
    """Prove that no patient, video file or identical frame stands on both sides of a split.

    Parameters
    ----------
    splits : pandas.DataFrame
        ``cv_splits``: ``patient_id`` and ``split``.
    videos : pandas.DataFrame
        ``patient_id`` and ``sha256`` of the videos that were learnt from or predicted.
    frames : pandas.DataFrame
        Their frames: ``patient_id``, ``picture_hash`` and, so that flat pictures can be left out, ``contrast``.
    fold_models : pandas.DataFrame, optional
        ``experiment``, ``split``, ``train_patients``: what was really trained on.

    Returns
    -------
    LeakageReport
        Two patients of one split may share a file or a frame (both are tested together); of two splits never.
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
            seen = sorted(p for p in model.train_patients if place.get(p) == model.split)
            if seen:
                leaks.append({"kind": "trained_on_test", "patients": seen, "count": len(seen)})
    patients = len(set(videos["patient_id"]) & set(place.index))
    return LeakageReport(patients, len(videos), int((~flat).sum()), int(flat.sum()), leaks)


def leakage_canary(report: LeakageReport) -> dict[str, object]:
    """Turn a `LeakageReport` into a row of ``canary_results``; where nothing was compared, nothing is proved."""
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
    tell: Tell = lambda done, what: None,
) -> dict[str, object]:
    """Train on labels dealt out anew: the accuracy must fall to chance.

    Parameters
    ----------
    experiment : str
        Name for the row.
    levels, splits : mapping
        Patient to pain level, and to split.
    classes : int
        Two or four.
    fit_predict : callable
        Trains all folds on given levels and splits and gives test predictions.
    settings : EvaluationSettings
        ``shuffle_repeats`` and seed.
    pool, workers
        Where trainings run, and how many at once.
    tell : callable
        Told of each training.

    Returns
    -------
    dict
        A row of ``canary_results``. It fails when the mean over repeats lies more than three standard errors above
        the share of the commonest class, which is the most that an honest model can expect of labels without meaning.
    """
    draws = islice(label_permutations(levels, splits, (settings.seed, 3)), settings.shuffle_repeats)
    found = []
    for against in retrained_scores(fit_predict, draws, classes, pool, workers):
        found.append(against.accuracy)
        tell(1, f"{experiment}: shuffled labels, {len(found)} of {settings.shuffle_repeats}")
    names = [class_of(level, classes) for level in levels.values()]
    chance = max(names.count(name) for name in set(names)) / len(names)
    limit = chance + 3 * float(np.std(found, ddof=1)) / np.sqrt(len(found))
    value = float(np.mean(found))
    return {
        "canary": "shuffled labels",
        "subject": experiment,
        "value": value,
        "limit_value": float(limit),
        "passed": bool(value <= limit),
        "detail": f"Trained {len(found)} times on labels dealt out anew among patients: mean accuracy {value:.3f}; the "
        f"commonest class has {chance:.3f}.",
    }


def identity_probe(
    subject: str, features: pd.DataFrame, levels: Mapping[str, str], splits: pd.DataFrame
) -> list[dict[str, object]]:
    """Ask how much features say about who it is, and how much of the label is only that.

    Parameters
    ----------
    subject : str
        What the features are, for the rows.
    features : pandas.DataFrame
        One row a video: ``patient_id``, ``video_id`` and numbers. Patients with one video are left out.
    levels : mapping
        Patient to pain level.
    splits : pandas.DataFrame
        ``cv_splits``.

    Returns
    -------
    list of dict
        Rows of ``canary_results``, each by the nearest neighbour among standardised features (gaps filled and scaled
        on the training side): the patient found from the patient's other videos; the label found the leaky way (from
        any other video, the patient's own among them); the label found the honest way (from patients of other splits
        only). They inform and do not pass or fail: a face tells who it is. A leaky figure far above the honest one is
        what a split by frames or videos would have published.
    """
    data = features[features["patient_id"].map(features["patient_id"].value_counts()) > 1]
    split = data["patient_id"].map(splits.set_index("patient_id")["split"])
    data, place = data[split.notna()].reset_index(drop=True), split.dropna().to_numpy()
    if data["patient_id"].nunique() < 2:
        return []
    values = data.drop(columns=["patient_id", "video_id"]).to_numpy(float)
    who = data["patient_id"].to_numpy()
    label = np.array([class_of(levels[p], 2) for p in who])
    people = data["patient_id"].nunique()

    def nearest(allowed: np.ndarray, row: int) -> int:
        side = values[allowed]
        centre = np.nan_to_num(np.nanmedian(side, axis=0))
        filled = np.where(np.isnan(side), centre, side)
        scale = filled.std(axis=0)
        scale[scale == 0] = 1
        one = np.where(np.isnan(values[row]), centre, values[row])
        return int(np.flatnonzero(allowed)[np.argmin((((filled - one) / scale) ** 2).sum(axis=1))])

    numbers = np.arange(len(values))
    any_other = np.array([nearest(numbers != row, row) for row in numbers])
    other_split = np.array([nearest(place != place[row], row) for row in numbers])

    def by_patient(right: np.ndarray) -> float:
        return float(pd.Series(right).groupby(who).mean().mean())

    base = {"subject": subject, "passed": None}
    return [
        {
            **base,
            "canary": "identity from features",
            "value": by_patient(who[any_other] == who),
            "limit_value": 1 / people,
            "detail": f"Patient found from the patient's other videos, {people} patients; chance is 1 in {people}.",
        },
        {
            **base,
            "canary": "label, leaky split",
            "value": by_patient(label[any_other] == label),
            "limit_value": by_patient(label[other_split] == label),
            "detail": "Label found with the patient's own other videos allowed, against the same probe held to other "
            "patients: the gap is recognition of persons, not of pain.",
        },
    ]


def quality_associations(video_quality: pd.DataFrame, levels: Mapping[str, str]) -> pa.Table:
    """Test every quality measure, averaged over a patient's videos, against pain; gives ``quality_associations``.

    An association means that a model could find pain in light or sound that have nothing to do with it.
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
