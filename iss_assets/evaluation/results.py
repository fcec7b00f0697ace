"""Compute the reported figures of an experiment: those of Table 5 with intervals, and additional ones.

Intervals and tests themselves are in ``intervals`` and ``permutation``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from iss_assets.evaluation.accuracy import class_names
from iss_assets.evaluation.frames import number_or_none, rows_of
from iss_assets.evaluation.intervals import (
    Interval,
    Statistic,
    auroc,
    bca_interval,
    holm,
    least_holm,
    mean_of,
    mean_of_class_means,
    scaled_brier,
    share_interval,
)
from iss_assets.evaluation.verdicts import verdict
from iss_assets.protocol import terms
from iss_assets.schemas.evaluation import Calibration, ConfusionCounts, ExperimentMetrics, ExperimentResults
from iss_assets.settings import EvaluationSettings


def figures(accuracies: pd.DataFrame, settings: EvaluationSettings) -> dict[str, Interval]:
    """Compute every figure of one experiment with its interval over patients.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        The experiment's rows of ``patient_accuracy``.
    settings : EvaluationSettings
        Confidence, resamples, seed.

    Returns
    -------
    dict of str to Interval
        Table 5's means, shares above 0.5 and 0.75, ``balanced_accuracy`` (mean over classes of patients' accuracies),
        ``auroc``, ``brier`` (Brier, Monthly Weather Review 78, 1950) and ``scaled_brier`` of the patients' mean pain
        probability, ``sensitivity`` and ``specificity`` of the class predicted for most items of a patient, and
        ``calibration_in_the_large`` (mean pain probability minus share of patients with pain). For a mean over one level
        only the patients of this level are resampled. Shares of patients have exact intervals, the others BCa.
    """
    accuracy = accuracies["accuracy"].to_numpy(float)
    probability = accuracies["pain_probability"].to_numpy(float)
    levels = accuracies["pain_level"].to_numpy()
    pain = levels != "None"
    predicted_pain = (~accuracies["predicted"].isin(["None", "No Pain"])).to_numpy()
    everyone = np.ones(len(accuracies), bool)
    groups = {"no_pain": ~pain, "pain": pain, **{name.lower(): levels == name for name in terms.PAIN_LEVELS}}

    statistics: dict[str, tuple[Statistic, int]] = {}
    shares: dict[str, Interval] = {}

    def add(name: str, values: np.ndarray, among: np.ndarray) -> None:
        statistics[name] = (mean_of(values[among]), int(among.sum()))

    def add_share(name: str, true: np.ndarray, among: np.ndarray) -> None:
        yes, patients = int((true & among).sum()), int(among.sum())
        shares[name] = share_interval(yes, patients, confidence=settings.confidence)

    add("all_classes", accuracy, everyone)
    for name, among in groups.items():
        add(name, accuracy, among)
    add_share("above_half", accuracy > 0.5, everyone)
    add_share("above_three_quarters", accuracy > 0.75, everyone)
    add_share("sensitivity", predicted_pain, pain)
    add_share("specificity", ~predicted_pain, ~pain)
    add("brier", (probability - pain) ** 2, everyone)
    add("calibration_in_the_large", probability - pain, everyone)
    statistics["scaled_brier"] = (scaled_brier(probability, pain), len(accuracies))
    statistics["auroc"] = (auroc(probability, pain), len(accuracies))
    statistics["balanced_accuracy"] = (
        mean_of_class_means(accuracy, list(accuracies["target"])),
        len(accuracies),
    )
    return shares | {
        name: bca_interval(
            statistic,
            patients,
            confidence=settings.confidence,
            samples=settings.bootstrap_samples,
            seed=settings.seed,
        )
        for name, (statistic, patients) in statistics.items()
    }


def references(accuracies: pd.DataFrame, chance_auroc: float | None) -> dict[str, float | None]:
    """Return the expected figures of a model that has learned nothing.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        The experiment's rows of ``patient_accuracy``.
    chance_auroc : float or None
        Mean AUROC of models trained on permuted labels. It is not 0.5: leaving patients out shifts the share of pain in
        the training side away from their class, so an uninformative model is biased against each of them.

    Returns
    -------
    dict of str to float or None
        ``auroc``; ``brier`` of a model that predicts the share of patients in pain for everyone, share x (1 - share);
        ``scaled_brier``, which is 0 by definition.
    """
    share = float((accuracies["pain_level"] != "None").mean())
    return {"auroc": chance_auroc, "brier": share * (1 - share), "scaled_brier": 0.0}


def experiment_metrics(
    accuracies: pd.DataFrame, settings: EvaluationSettings, permutations: pd.DataFrame | None = None
) -> pa.Table:
    """Compute `figures` and `references` of every experiment; return ``experiment_metrics``.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        ``patient_accuracy``.
    settings : EvaluationSettings
        Confidence, resamples, seed.
    permutations : pandas.DataFrame, optional
        ``permutation_results``, for the reference value of the AUROC.
    """
    chance = (
        {}
        if permutations is None
        else dict(zip(permutations["experiment"], permutations["chance_auroc"], strict=True))
    )
    reference = {
        experiment: references(group, number_or_none(chance.get(experiment)))
        for experiment, group in accuracies.groupby("experiment", sort=False)
    }
    return ExperimentMetrics.from_rows(
        [
            {
                "experiment": experiment,
                "metric": name,
                "patients": i.patients,
                "estimate": i.estimate,
                "low": i.low,
                "high": i.high,
                "method": i.method,
                "note": i.note,
                "reference": reference[experiment].get(name),
            }
            for experiment, group in accuracies.groupby("experiment", sort=False)
            for name, i in figures(group, settings).items()
        ]
    )


def experiment_results(
    accuracies: pd.DataFrame,
    fold_models: pd.DataFrame,
    metrics: pd.DataFrame,
    differences: pd.DataFrame | None = None,
    baselines: pd.DataFrame | None = None,
    permutations: pd.DataFrame | None = None,
    *,
    alpha: float,
) -> pa.Table:
    """Assemble one row per experiment: Table 5, intervals, the best baseline, and the test against chance.

    Parameters
    ----------
    accuracies, fold_models : pandas.DataFrame
        ``patient_accuracy`` and ``fold_models``.
    metrics : pandas.DataFrame
        ``experiment_metrics`` of these accuracies.
    differences, baselines, permutations : pandas.DataFrame, optional
        ``paired_differences``, ``baseline_accuracy`` and ``permutation_results``; without them their columns are empty.
    alpha : float
        Family-wise error rate of all claims to beat a baseline.

    Returns
    -------
    pyarrow.Table
        ``experiment_results``. The best baseline has the highest mean over the patients of the experiment; choosing it
        afterward makes the comparison deliberately strict. An experiment beats it by the rule of `verdicts.verdict`: the
        interval of the difference is above 0 and the sign-flip p, Holm-adjusted over the experiments, does not exceed
        `alpha`. Without the second condition, one in five studies with nine uninformative experiments would report an improvement by chance. The
        result is "cannot be shown" if no p could have been small enough, because too few patients differ or too many
        experiments are compared.
    """
    rows: list[dict[str, Any]] = []
    for experiment, group in accuracies.groupby("experiment", sort=False):
        models = fold_models[fold_models["experiment"] == experiment]
        of_experiment = metrics[metrics["experiment"] == experiment].set_index("metric")
        estimate = {str(m): None if pd.isna(v) else float(v) for m, v in of_experiment["estimate"].items()}
        row: dict[str, Any] = {
            "experiment": experiment,
            "classes": int(group["classes"].iloc[0]),
            "patients": len(group),
            **estimate,
            "all_classes_low": number_or_none(of_experiment.at["all_classes", "low"]),
            "all_classes_high": number_or_none(of_experiment.at["all_classes", "high"]),
            "intervals": json.dumps(
                {
                    m: [number_or_none(r["low"]), number_or_none(r["high"])]
                    for m, r in of_experiment.iterrows()
                }
            ),
            "models": len(models),
            "profile": _common(models["profile"]),
            "weights_origin": _common(models["weights_origin"]),
            "cohort_hash": _common(models["cohort_hash"]),
        }
        if baselines is not None and differences is not None:
            row |= _best_baseline(str(experiment), group, baselines, differences)
        if permutations is not None:
            test = permutations[permutations["experiment"] == experiment]
            for result in rows_of(test):
                row |= {
                    "p_value": result.p_value,
                    "p_value_holm": result.p_value_holm,
                    "p_value_method": result.method,
                }
        rows.append(row)
    compared = [row for row in rows if "best_baseline" in row]
    p_plain = [row["baseline_p_holm"] for row in compared]
    bests = least_holm(p_plain, [row.pop("baseline_p_least") for row in compared])
    for row, p, least in zip(compared, holm(p_plain), bests, strict=True):
        row["beats_baseline"] = verdict(
            row["baseline_difference"], row["baseline_difference_low"], float(p), float(least), alpha
        )
        row["baseline_p_holm"] = float(p)
    return ExperimentResults.from_rows(rows)


def _best_baseline(
    experiment: str, group: pd.DataFrame, baselines: pd.DataFrame, differences: pd.DataFrame
) -> dict[str, object]:
    same = baselines[
        (baselines["classes"] == group["classes"].iloc[0]) & baselines["patient_id"].isin(group["patient_id"])
    ]
    if same.empty:
        return {}
    means = same.groupby("baseline", sort=False)["accuracy"].mean()
    best = str(means.idxmax())
    pair = differences[(differences["first"] == experiment) & (differences["second"] == best)].iloc[0]
    return {
        "best_baseline": best,
        "best_baseline_accuracy": float(means[best]),
        "baseline_difference": float(pair["difference"]),
        "baseline_difference_low": number_or_none(pair["low"]),
        "baseline_difference_high": number_or_none(pair["high"]),
        "baseline_p_holm": float(pair["p_value"]),
        "baseline_p_least": float(pair["p_least"]),
    }


def _common(values: pd.Series) -> str:
    """Return the common value of a column, or all values if folds differ."""
    return ", ".join(sorted(set(values))) or "unknown"


def confusion_counts(accuracies: pd.DataFrame) -> pa.Table:
    """Count patients by true class and class predicted for most of their items; return ``confusion_counts``."""
    rows = []
    for experiment, group in accuracies.groupby("experiment", sort=False):
        names = class_names(int(group["classes"].iloc[0]))
        for target in names:
            for predicted in names:
                cell = (group["target"] == target) & (group["predicted"] == predicted)
                rows.append(
                    {
                        "experiment": experiment,
                        "target": target,
                        "predicted": predicted,
                        "patients": int(cell.sum()),
                    }
                )
    return ConfusionCounts.from_rows(rows)


def calibration(accuracies: pd.DataFrame, bins: int) -> pa.Table:
    """Compare mean pain probability with the share of patients in pain in equal-width bins; return ``calibration``."""
    rows = []
    edges = np.linspace(0, 1, bins + 1)
    for experiment, group in accuracies.groupby("experiment", sort=False):
        place = np.clip(np.digitize(group["pain_probability"], edges[1:-1]), 0, bins - 1)
        pain = (group["pain_level"] != "None").to_numpy(float)
        for number in range(bins):
            here = place == number
            rows.append(
                {
                    "experiment": experiment,
                    "bin": number + 1,
                    "bin_low": float(edges[number]),
                    "bin_high": float(edges[number + 1]),
                    "patients": int(here.sum()),
                    "mean_probability": float(group["pain_probability"][here].mean()) if here.any() else None,
                    "pain_share": float(pain[here].mean()) if here.any() else None,
                }
            )
    return Calibration.from_rows(rows)
