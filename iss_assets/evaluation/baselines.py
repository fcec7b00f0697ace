"""Evaluate baselines that use neither face nor voice, in the same folds as the experiments.

Rules are fitted on the training side of each split and applied to its test patients; ``permutation`` and ``results``
compare experiments with them.

Baselines matter because there is one pain label per patient and the cohort is small and unbalanced. In the paper's own
cohort, guessing by sex and skin group alone is right for 19 of 29 patients in sample (0.655, from Table 2) and for 0.62
of them on average when cross-validated, while its best network reaches 0.657 (Table 5). The two constant rules are
included because in a nearly balanced cohort, leaving a patient out shifts the majority against that patient.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from iss_assets.evaluation.accuracy import class_names, class_of, table_5
from iss_assets.evaluation.frames import rows_of
from iss_assets.evaluation.intervals import bca_interval, mean_of, share_interval
from iss_assets.modeling.folds import PatientLevel, assign_splits
from iss_assets.protocol import terms
from iss_assets.protocol.published import analyzed_by_cohort
from iss_assets.schemas.evaluation import BaselineAccuracy, BaselineResults
from iss_assets.settings import EvaluationSettings

BASELINES = {
    "majority": "the most common class of the training side",
    "always_none": "no pain for every patient",
    "always_pain": "pain for every patient (two classes only)",
    "sex": "the most common class of the sex",
    "skin": "the most common class of the skin group",
    "sex_and_skin": "the most common class of sex and skin group combined",
    "timeframe": "the most common class of the time of day of a submission",
    "pain_now": "the answer of the patient in the submission: pain if pain now is above 0 (two classes only)",
    "quality": "a forest on the quality measures of a video: light, noise, glare, sound",
}
"""What each baseline predicts, in the order of the report."""


@dataclass(frozen=True)
class Rule:
    """Predicts the most common class of a cell, or of all cells for one that is not in the training data."""

    by_cell: Mapping[Hashable, str]
    otherwise: str

    def predict(self, cell: Hashable) -> str:
        """Return the class of a cell."""
        return self.by_cell.get(cell, self.otherwise)


def fit_rule(cells: Iterable[tuple[Hashable, str, float]], names: tuple[str, ...]) -> Rule:
    """Fit a rule to (cell, class, weight) triples.

    Ties within a cell are resolved in favor of the class that is more common overall, and overall ties in favor of the
    first of `names`.
    """
    overall: dict[str, float] = defaultdict(float)
    by_cell: dict[Hashable, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for cell, name, weight in cells:
        overall[name] += weight
        by_cell[cell][name] += weight

    def most_common(counts: dict[str, float]) -> str:
        return max(names, key=lambda name: (round(counts[name], 9), round(overall[name], 9)))

    return Rule({cell: most_common(counts) for cell, counts in by_cell.items()}, most_common(overall))


def published_rule_accuracy() -> float:
    """Return the in-sample accuracy of a rule by sex and skin group for the paper's 29 patients.

    From Table 2: 7 of 11 men and 4 of 6 women with light skin, 5 of 9 men and 3 of 3 women with dark skin: 19 of 29.
    """
    counts = analyzed_by_cohort()
    cells = [
        ((c.sex, c.skin_group), terms.pain_class(c.pain_level), float(counts[c.number]))
        for c in terms.COHORTS
    ]
    rule = fit_rule(cells, terms.PAIN_CLASSES)
    return sum(n for cell, name, n in cells if rule.predict(cell) == name) / sum(counts.values())


def published_rule_cross_validated(seeds: int = 200) -> list[float]:
    """Return the cross-validated accuracy of the same rule for a number of assignments to ten folds.

    The 29 patients are assigned like those of the study, stratified by pain level; seeds are 0, 1, ...
    """
    cohort_of = {
        f"{cohort.number}-{number}": cohort
        for cohort in terms.COHORTS
        for number in range(analyzed_by_cohort()[cohort.number])
    }
    people = [PatientLevel(patient, cohort.pain_level) for patient, cohort in cohort_of.items()]
    cell = {patient: (cohort.sex, cohort.skin_group) for patient, cohort in cohort_of.items()}
    truth = {patient: terms.pain_class(cohort.pain_level) for patient, cohort in cohort_of.items()}
    found = []
    for seed in range(seeds):
        table = assign_splits(people, 10, seed)
        split_of = dict(zip(table["patient_id"].to_pylist(), table["split"].to_pylist(), strict=True))
        rules = {
            split: fit_rule(
                ((cell[p], truth[p], 1.0) for p in truth if split_of[p] != split), terms.PAIN_CLASSES
            )
            for split in set(split_of.values())
        }
        found.append(float(np.mean([rules[split_of[p]].predict(cell[p]) == truth[p] for p in truth])))
    return found


def baseline_accuracy(
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    bpi_scores: pd.DataFrame,
    video_quality: pd.DataFrame,
    settings: EvaluationSettings,
) -> pa.Table:
    """Evaluate every baseline on every patient, each with the rule fitted for their own split.

    Parameters
    ----------
    patients, splits, bpi_scores, video_quality : pandas.DataFrame
        The warehouse tables of those names (``splits`` is ``cv_splits``).
    settings : EvaluationSettings
        Seed of the forest on quality measures.

    Returns
    -------
    pyarrow.Table
        ``baseline_accuracy``. There is one item per patient for sex and skin, per submission for time of day and pain
        now, and per video for quality. In training every patient has the same weight. A patient without items gets the
        most common class of the training side, with ``fallback`` set.
    """
    people = splits[["patient_id", "split", "pain_level"]].merge(
        patients[["patient_id", "sex", "skin_group"]], on="patient_id", how="left"
    )
    ids = people["patient_id"]
    cells = {
        "majority": pd.DataFrame({"patient_id": ids, "cell": "all"}),
        "sex": pd.DataFrame({"patient_id": ids, "cell": people["sex"]}),
        "skin": pd.DataFrame({"patient_id": ids, "cell": people["skin_group"]}),
        "sex_and_skin": pd.DataFrame({"patient_id": ids, "cell": people["sex"] + " " + people["skin_group"]}),
        "timeframe": bpi_scores[["patient_id", "timeframe"]].dropna().rename(columns={"timeframe": "cell"}),
    }
    quality = quality_measures(video_quality)
    rows: list[dict[str, object]] = []
    for classes in (2, 4):
        people["class"] = [class_of(level, classes) for level in people["pain_level"]]
        for split in sorted(people["split"].unique()):
            train, test = people[people["split"] != split], people[people["split"] == split]
            if train.empty:
                continue
            for name in BASELINES:
                if name in ("always_pain", "pain_now") and classes == 4:
                    continue
                if name in ("always_none", "always_pain"):
                    constant = class_names(classes)[name == "always_pain"]
                    guesses = {p: [constant] for p in test["patient_id"]}
                elif name == "pain_now":
                    guesses = _self_reported(test, bpi_scores)
                elif name == "quality":
                    guesses = _forest_guesses(train, test, quality, settings.seed)
                else:
                    guesses = _rule_guesses(train, test, cells[name], class_names(classes))
                default = fit_rule([("all", c, 1.0) for c in train["class"]], class_names(classes)).otherwise
                for person in rows_of(test):
                    guessed = guesses.get(person.patient_id) or [default]
                    rows.append(
                        {
                            "baseline": name,
                            "classes": classes,
                            "patient_id": person.patient_id,
                            "split": split,
                            "pain_level": person.pain_level,
                            "items": len(guessed),
                            "accuracy": float(
                                np.mean([g == people.at[person.Index, "class"] for g in guessed])
                            ),
                            "fallback": not guesses.get(person.patient_id),
                        }
                    )
    return BaselineAccuracy.from_rows(rows)


def _rule_guesses(
    train: pd.DataFrame, test: pd.DataFrame, cells: pd.DataFrame, names: tuple[str, ...]
) -> dict[str, list[str]]:
    share = 1 / cells.groupby("patient_id")["cell"].transform("size")
    known = dict(zip(train["patient_id"], train["class"], strict=True))
    rule = fit_rule(
        (
            (cell, known[patient], weight)
            for patient, cell, weight in zip(cells["patient_id"], cells["cell"], share, strict=True)
            if patient in known
        ),
        names,
    )
    wanted = cells[cells["patient_id"].isin(test["patient_id"])]
    return {str(p): [rule.predict(c) for c in group["cell"]] for p, group in wanted.groupby("patient_id")}


def _self_reported(test: pd.DataFrame, bpi_scores: pd.DataFrame) -> dict[str, list[str]]:
    """Predict from the patient's own answer in each submission, if there is one."""
    wanted = bpi_scores[bpi_scores["patient_id"].isin(test["patient_id"]) & bpi_scores["pain_now"].notna()]
    return {
        str(patient): [terms.PAIN_CLASSES[int(now > 0)] for now in group["pain_now"]]
        for patient, group in wanted.groupby("patient_id")
    }


def _forest_guesses(
    train: pd.DataFrame, test: pd.DataFrame, quality: pd.DataFrame, seed: int
) -> dict[str, list[str]]:
    """Train a small forest on the training videos, and fill missing values with their medians."""
    from sklearn.ensemble import RandomForestClassifier

    measures = [c for c in quality.columns if c not in ("patient_id", "video_id")]
    known = quality.merge(train[["patient_id", "class"]], on="patient_id")
    wanted = quality[quality["patient_id"].isin(test["patient_id"])]
    medians = known[measures].median()
    measures = [m for m in measures if not math.isnan(medians[m])]
    if known.empty or wanted.empty or not measures or known["class"].nunique() < 2:
        return {}
    weight = 1 / known.groupby("patient_id")["class"].transform("size")
    forest = RandomForestClassifier(n_estimators=25, min_samples_leaf=3, random_state=seed)
    forest.fit(known[measures].fillna(medians).to_numpy(), known["class"], sample_weight=weight)
    predicted = pd.Series(
        forest.predict(wanted[measures].fillna(medians).to_numpy()), index=wanted["patient_id"]
    )
    return {str(p): list(group) for p, group in predicted.groupby(level=0)}


def quality_measures(video_quality: pd.DataFrame) -> pd.DataFrame:
    """Expand the numeric measures of ``video_quality`` into columns, one row per video.

    Returns
    -------
    pandas.DataFrame
        ``patient_id``, ``video_id``, ``face_rate``, ``landmark_rate`` and every number in the column ``measures``, NaN
        if missing. Boolean measures are 0 or 1.
    """
    rows = []
    for row in rows_of(video_quality[["patient_id", "video_id", "face_rate", "landmark_rate", "measures"]]):
        measures = {
            k: float(v) for k, v in json.loads(row.measures).items() if isinstance(v, bool | int | float)
        }
        rows.append(
            {
                "patient_id": row.patient_id,
                "video_id": row.video_id,
                **measures,
                "face_rate": row.face_rate,
                "landmark_rate": row.landmark_rate,
            }
        )
    frame = pd.DataFrame(
        rows, columns=None if rows else ["patient_id", "video_id", "face_rate", "landmark_rate"]
    )
    numbers = [c for c in frame.columns if c not in ("patient_id", "video_id")]
    frame[numbers] = frame[numbers].apply(pd.to_numeric).astype(float).replace([np.inf, -np.inf], np.nan)
    return frame


def baseline_results(accuracies: pd.DataFrame, settings: EvaluationSettings) -> pa.Table:
    """Summarize ``baseline_accuracy`` over patients with intervals; return ``baseline_results``."""
    rows: list[dict[str, object]] = []
    for (baseline, classes), group in accuracies.groupby(["baseline", "classes"], sort=False):
        means = table_5(group)
        interval = bca_interval(
            mean_of(group["accuracy"]),
            len(group),
            confidence=settings.confidence,
            samples=settings.bootstrap_samples,
            seed=settings.seed,
        )
        above = share_interval(
            int((group["accuracy"] > 0.5).sum()), len(group), confidence=settings.confidence
        )
        rows.append(
            {
                "baseline": baseline,
                "classes": classes,
                "patients": len(group),
                "all_classes": means["all_classes"],
                "all_classes_low": interval.low,
                "all_classes_high": interval.high,
                "no_pain": means["no_pain"],
                "pain": means["pain"],
                "above_half": means["above_half"],
                "above_half_low": above.low,
                "above_half_high": above.high,
                "fallbacks": int(group["fallback"].sum()),
            }
        )
    return BaselineResults.from_rows(rows)
