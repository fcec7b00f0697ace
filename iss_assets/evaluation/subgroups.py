"""Figures of an experiment in groups of patients: sex, skin, cohort.

Belongs here: grouping of patient rows, fairlearn's group metrics on them, marks for small cells.
Does not belong here: figures over all patients (``results``).
"""

from __future__ import annotations

import math

import pandas as pd
import pyarrow as pa

from iss_assets.evaluation.frames import number_or_none
from iss_assets.evaluation.intervals import bca_interval, mean_of
from iss_assets.settings import EvaluationSettings
from iss_assets.warehouse.tables import SubgroupResults

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


def subgroup_results(
    accuracies: pd.DataFrame, patients: pd.DataFrame, settings: EvaluationSettings
) -> pa.Table:
    """Evaluate every experiment in every group of patients.

    Parameters
    ----------
    accuracies, patients : pandas.DataFrame
        ``patient_accuracy`` and ``patients``.
    settings : EvaluationSettings
        ``small_cell`` marks groups of fewer patients, which `largest_gap` leaves out.

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
            sizes = group[attribute].value_counts()
            large = frame.by_group.loc[sizes[sizes >= settings.small_cell].index, "accuracy"]
            gap = float(large.max() - large.min()) if len(large) > 1 else None
            for name, figures in frame.by_group.sort_index().iterrows():
                among = (group[attribute] == name).to_numpy()
                interval = bca_interval(
                    mean_of(group.loc[among, "accuracy"]),
                    int(among.sum()),
                    confidence=settings.confidence,
                    samples=settings.bootstrap_samples,
                    seed=settings.seed,
                )
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
                        "largest_gap": gap,
                    }
                )
    return SubgroupResults.from_rows(rows)
