"""Figures of an experiment in groups of patients: sex, skin, cohort.

Belongs here: grouping of patient rows, fairlearn's group metrics on them, marks for small cells.
Does not belong here: figures over all patients (``results``).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa

from iss_assets.evaluation.frames import number_or_none
from iss_assets.evaluation.intervals import Array, Interval, bca_interval, mean_of, share_interval
from iss_assets.schemas.evaluation import SubgroupResults
from iss_assets.settings import EvaluationSettings

ATTRIBUTES = ("sex", "skin_group", "sex_and_skin", "cohort")


def mean_accuracy(_true: pd.Series, _predicted: pd.Series, accuracy: pd.Series) -> float:
    """Give the mean of patients' accuracies."""
    return float(accuracy.mean())


def predicted_share(_true: pd.Series, predicted: pd.Series) -> float:
    """Give the share of patients for whom pain (1) is predicted."""
    return float(predicted.mean())


def sensitivity(true: pd.Series, predicted: pd.Series) -> float:
    """Give the share of patients in pain for whom pain is predicted; NaN without any (fairlearn's own gives 0)."""
    among = predicted[true == 1]
    return float(among.mean()) if len(among) else math.nan


def specificity(true: pd.Series, predicted: pd.Series) -> float:
    """Give the share of patients without pain for whom none is predicted; NaN without any."""
    among = predicted[true == 0]
    return float(1 - among.mean()) if len(among) else math.nan


def gap(accuracies: pd.DataFrame, groups: pd.Series, settings: EvaluationSettings) -> Interval:
    """Compare two groups of patients at the same mix of patients with and without pain.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        One experiment's rows of ``patient_accuracy``.
    groups : pandas.Series
        Each patient's group.
    settings : EvaluationSettings
        Confidence, resamples, seed, size of a small cell.

    Returns
    -------
    Interval
        Mean over the two classes (no pain, pain) of the first group's mean accuracy minus the second's, groups in order
        of name. A plain difference of means would show a gap between groups that differ in nothing but how many of
        their patients have pain, as the paper's do (Table 2), since models do better on one class than on the other.
        Not defined for other than two groups, or where a group lacks patients with or without pain.
    """
    names = sorted(groups.dropna().unique())
    patients = len(accuracies)
    if len(names) != 2:
        return Interval(None, None, None, patients, "none", "not two groups")
    pain = (accuracies["pain_level"] != "None").to_numpy()
    member = (groups == names[0]).to_numpy(), (groups == names[1]).to_numpy()
    cells = [[member[side] & (pain == has_pain) for side in (0, 1)] for has_pain in (False, True)]
    smallest = min(int(cell.sum()) for pair in cells for cell in pair)
    if smallest == 0:
        return Interval(None, None, None, patients, "none", "a group lacks patients with or without pain")
    means = [[mean_of(accuracies["accuracy"], cell) for cell in pair] for pair in cells]

    def statistic(counts: Array) -> Array:
        return np.mean([first(counts) - second(counts) for first, second in means], axis=0)

    found = bca_interval(
        statistic,
        patients,
        confidence=settings.confidence,
        samples=settings.bootstrap_samples,
        seed=settings.seed,
    )
    if smallest >= settings.small_cell:
        return found
    if smallest == 1:
        # resamples of one patient do not vary: the interval would leave out what is least known
        few = "no interval: the smallest group and class has one patient"
        return Interval(found.estimate, None, None, patients, "none", few)
    few = f"{smallest} patients in the smallest group and class"
    return replace(found, note="; ".join(filter(None, (few, found.note))))


def subgroup_results(
    accuracies: pd.DataFrame, patients: pd.DataFrame, settings: EvaluationSettings
) -> pa.Table:
    """Evaluate every experiment in every group of patients.

    Parameters
    ----------
    accuracies, patients : pandas.DataFrame
        ``patient_accuracy`` and ``patients``.
    settings : EvaluationSettings
        ``small_cell`` marks groups of fewer patients.

    Returns
    -------
    pyarrow.Table
        ``subgroup_results``. Rates are fairlearn's `MetricFrame` on patient rows: one row a patient, pain or no pain
        against the class predicted for most of the patient's items. A cohort holds one pain level only, so that its
        accuracy is that of the level and says little about fairness.
    """
    from fairlearn.metrics import MetricFrame

    people = patients[["patient_id", "sex", "skin_group", "cohort"]].copy()
    people["sex_and_skin"] = people["sex"] + " " + people["skin_group"]
    rows: list[dict[str, object]] = []
    for experiment, group in accuracies.merge(people, on="patient_id").groupby("experiment", sort=False):
        pain = (group["pain_level"] != "None").astype(int)
        said = (~group["predicted"].isin(["None", "No Pain"])).astype(int)
        for attribute in ATTRIBUTES:
            frame = MetricFrame(
                metrics={
                    "accuracy": mean_accuracy,
                    "predicted_pain_share": predicted_share,
                    "sensitivity": sensitivity,
                    "specificity": specificity,
                },
                y_true=pain,
                y_pred=said,
                sensitive_features=group[attribute],
                sample_params={"accuracy": {"accuracy": group["accuracy"]}},
            )
            difference = gap(group, group[attribute], settings)
            for name, figures in frame.by_group.sort_index().iterrows():
                among = (group[attribute] == name).to_numpy()
                interval = bca_interval(
                    mean_of(group.loc[among, "accuracy"]),
                    int(among.sum()),
                    confidence=settings.confidence,
                    samples=settings.bootstrap_samples,
                    seed=settings.seed,
                )
                right = {
                    "sensitivity": said[among & (pain == 1)] == 1,
                    "specificity": said[among & (pain == 0)] == 0,
                }
                shares = {
                    metric: share_interval(int(of.sum()), len(of), confidence=settings.confidence)
                    for metric, of in right.items()
                }
                rows.append(
                    {
                        "experiment": experiment,
                        "attribute": attribute,
                        "group_name": name,
                        "patients": int(among.sum()),
                        "small": bool(among.sum() < settings.small_cell),
                        "accuracy": float(figures["accuracy"]),
                        "low": interval.low,
                        "high": interval.high,
                        "pain_share": float(pain[among].mean()),
                        "predicted_pain_share": float(figures["predicted_pain_share"]),
                        "sensitivity": number_or_none(figures["sensitivity"]),
                        "specificity": number_or_none(figures["specificity"]),
                        **{f"{metric}_low": found.low for metric, found in shares.items()},
                        **{f"{metric}_high": found.high for metric, found in shares.items()},
                        "gap": difference.estimate,
                        "gap_low": difference.low,
                        "gap_high": difference.high,
                        "gap_note": difference.note,
                    }
                )
    return SubgroupResults.from_rows(rows)
