"""Evaluate experiments in groups of patients by sex, skin group, cohort and, where the study says, age group."""

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

ATTRIBUTES = ("sex", "skin_group", "sex_and_skin", "cohort", "age_group")


def mean_accuracy(_true: pd.Series, _predicted: pd.Series, accuracy: pd.Series) -> float:
    """Return the mean of the patients' accuracies."""
    return float(accuracy.mean())


def predicted_share(_true: pd.Series, predicted: pd.Series) -> float:
    """Return the share of patients for whom pain (1) is predicted."""
    return float(predicted.mean())


def sensitivity(true: pd.Series, predicted: pd.Series) -> float:
    """Return the share of patients in pain for whom pain is predicted; NaN if there are none (0 in fairlearn)."""
    among = predicted[true == 1]
    return float(among.mean()) if len(among) else math.nan


def specificity(true: pd.Series, predicted: pd.Series) -> float:
    """Return the share of patients without pain for whom no pain is predicted; NaN if there are none."""
    among = predicted[true == 0]
    return float(1 - among.mean()) if len(among) else math.nan


def gap(accuracies: pd.DataFrame, groups: pd.Series, settings: EvaluationSettings) -> Interval:
    """Compare the accuracy of two groups, adjusted for their shares of patients with pain.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        One experiment's rows of ``patient_accuracy``.
    groups : pandas.Series
        Group of each patient.
    settings : EvaluationSettings
        Confidence, resamples, seed, size of a small group.

    Returns
    -------
    Interval
        Mean over the two classes (no pain, pain) of the difference between the mean accuracies of the two groups, first
        minus second in order of name (direct standardization). Models are more accurate for one class than for the
        other, so an unadjusted difference would show a gap between groups that differ only in their share of patients
        with pain, like those of the paper (Table 2). Not defined unless there are exactly two groups, each with
        patients with and without pain.
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
        # resamples of one patient do not vary, so the interval would ignore the largest uncertainty
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
        Groups with fewer patients than ``small_cell`` are flagged as small.

    Returns
    -------
    pyarrow.Table
        ``subgroup_results``. Rates are computed by `MetricFrame` of fairlearn with one row per patient: pain or no pain,
        and the class predicted for most items of the patient. All patients of a cohort have the same pain level, so the
        accuracy of a cohort is that of its level and says little about fairness.
    """
    from fairlearn.metrics import MetricFrame

    people = patients[["patient_id", "sex", "skin_group", "cohort", "age_group"]].copy()
    people["sex_and_skin"] = people["sex"] + " " + people["skin_group"]
    rows: list[dict[str, object]] = []
    for experiment, tested in accuracies.merge(people, on="patient_id").groupby("experiment", sort=False):
        for attribute in ATTRIBUTES:
            group = tested[tested[attribute].notna()]
            if group.empty:
                continue
            pain = (group["pain_level"] != "None").astype(int)
            predicted = (~group["predicted"].isin(["None", "No Pain"])).astype(int)
            frame = MetricFrame(
                metrics={
                    "accuracy": mean_accuracy,
                    "predicted_pain_share": predicted_share,
                    "sensitivity": sensitivity,
                    "specificity": specificity,
                },
                y_true=pain,
                y_pred=predicted,
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
                    "sensitivity": predicted[among & (pain == 1)] == 1,
                    "specificity": predicted[among & (pain == 0)] == 0,
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
