"""External validation: do the models of one study hold for the patients of another?

All folds of an experiment predict every patient of the other study: nobody there was trained on, so the mean of their
probabilities counts, and how far they differ says how much depends on who happened to be trained on. An experiment
*carries over* if it beats the best simple rule on these patients, by the same rule as in the study's own report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from iss_assets.evaluation.accuracy import class_names, class_of, one_patient, table_5
from iss_assets.evaluation.baselines import fit_rule
from iss_assets.evaluation.frames import number_or_none, rows_of
from iss_assets.evaluation.intervals import share_interval
from iss_assets.evaluation.permutation import paired_differences
from iss_assets.evaluation.results import experiment_metrics, experiment_results
from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.fitting import prediction_table
from iss_assets.modeling.items import Items
from iss_assets.schemas.external import (
    ExternalBaselines,
    ExternalLeftOut,
    ExternalMetrics,
    ExternalPatients,
    ExternalResults,
)
from iss_assets.settings import EvaluationSettings

CODE_VERSION: Final = "1"
"""Raised when the same predictions give other figures."""

CARRIES = "yes"
RULES: Final[Mapping[str, tuple[str, ...]]] = {
    "majority": (),
    "sex": ("sex",),
    "skin": ("skin_group",),
    "sex_and_skin": ("sex", "skin_group"),
}
"""Rules fitted to the patients of the training study, with the columns of ``patients`` that they look at."""


@dataclass(frozen=True)
class Predicted:
    """What all folds of one experiment predict for this study's patients.

    Attributes
    ----------
    experiment : Experiment
        The experiment.
    items : Items
        This study's items.
    folds : sequence of ndarray, each (items, classes)
        Class probabilities, one array per fold.
    models : pandas.DataFrame
        The folds' rows of ``fold_models``.
    left_out : mapping
        Patient to the reason why nothing was predicted.
    trained : mapping
        The experiment's row of ``experiment_results`` in the training study; empty if it has none.
    """

    experiment: Experiment
    items: Items
    folds: Sequence[np.ndarray]
    models: pd.DataFrame
    left_out: Mapping[str, str]
    trained: Mapping[str, Any]


@dataclass(frozen=True)
class Cohorts:
    """Who was trained on, and who is predicted.

    Attributes
    ----------
    source : str
        Name of the training study: the hash of its cohort.
    trained : pandas.DataFrame
        ``patient_id``, ``pain_level``, ``sex`` and ``skin_group`` of the training study's patients in splits.
    here : pandas.DataFrame
        The same of this study's patients.
    overlap : mapping
        Patients of this study that the training study has, too, each with `SAME_FILE` or `SAME_ANSWERS`.
    """

    source: str
    trained: pd.DataFrame
    here: pd.DataFrame
    overlap: Mapping[str, str]


def patient_rows(predicted: Predicted) -> list[dict[str, Any]]:
    """Return one row per patient: the mean of all folds' probabilities, and how far the folds are apart."""
    experiment, items = predicted.experiment, predicted.items
    names = class_names(experiment.classes)
    folds = np.stack(list(predicted.folds))
    mean = prediction_table(experiment, items, folds.mean(axis=0)).to_pandas()
    rows = []
    for patient in items.patients:
        own = items.patient_id == patient
        level = str(items.level[own][0])
        target = class_of(level, experiment.classes)
        row = one_patient(mean[own], target, names)
        if row is None:
            continue
        weight = items.weight[own]
        of_folds = ((1 - folds[:, own, 0]) @ weight / weight.sum()).clip(0, 1)
        rows.append(
            {
                "experiment": experiment.name,
                "patient_id": patient,
                "pain_level": level,
                "classes": experiment.classes,
                "target": target,
                **row,
                "lowest_probability": float(of_folds.min()),
                "highest_probability": float(of_folds.max()),
                "fold_spread": float(of_folds.std(ddof=1)) if len(of_folds) > 1 else None,
            }
        )
    return rows


def simple_rules(cohorts: Cohorts, patients: Sequence[str], classes: int) -> dict[str, dict[str, str]]:
    """Return what each simple rule predicts: rule to patient to class.

    Rules by sex and skin group know the training study's patients only; constants know nobody.
    """
    names = class_names(classes)
    here = cohorts.here.set_index("patient_id").loc[list(patients)]
    made: dict[str, dict[str, str]] = {}
    for name, columns in RULES.items():
        known = cohorts.trained.dropna(subset=list(columns))
        rule = fit_rule(
            [
                (tuple(getattr(r, c) for c in columns), class_of(r.pain_level, classes), 1.0)
                for r in rows_of(known)
            ],
            names,
        )
        made[name] = {
            str(p): rule.predict(tuple(row[c] for c in columns))
            for p, row in zip(here.index, here.to_dict("records"), strict=True)
        }
    for constant in names:
        label = {"No Pain": "none", "Pain": "pain"}.get(constant, constant.lower())
        made[f"always_{label}"] = dict.fromkeys(patients, constant)
    return made


def evaluate_externally(
    predicted: Sequence[Predicted], cohorts: Cohorts, settings: EvaluationSettings
) -> dict[str, pa.Table]:
    """Evaluate the predictions of all experiments of one source.

    Parameters
    ----------
    predicted : sequence of Predicted
        At least one, each with at least one patient.
    cohorts : Cohorts
        Who was trained on and who is predicted.
    settings : EvaluationSettings
        Intervals and tests.

    Returns
    -------
    dict of str to pyarrow.Table
        The tables of `EXTERNAL` by name. "carries over" is ``beats_baseline`` of `experiment_results`: the interval of the
        difference to the best simple rule is above 0, and p, after Holm over the experiments, does not exceed alpha.
    """
    by_patient = [row for one in predicted for row in patient_rows(one)]
    accuracies = pd.DataFrame(by_patient)
    rules = []
    for classes, group in accuracies.groupby("classes"):
        levels = dict(zip(group["patient_id"], group["pain_level"], strict=True))
        for name, guesses in simple_rules(cohorts, list(levels), int(str(classes))).items():
            rules += [
                {
                    "baseline": name,
                    "classes": classes,
                    "patient_id": patient,
                    "pain_level": levels[patient],
                    "accuracy": float(guess == class_of(levels[patient], int(str(classes)))),
                }
                for patient, guess in guesses.items()
            ]
    baselines = pd.DataFrame(rules)
    metrics = experiment_metrics(accuracies, settings).to_pandas()
    metrics.loc[metrics["metric"] == "auroc", "reference"] = 0.5  # nobody was left out of the training side
    models = pd.concat([one.models for one in predicted])
    results = experiment_results(
        accuracies,
        models,
        metrics,
        paired_differences(accuracies, baselines, settings).to_pandas(),
        baselines,
        alpha=settings.alpha,
    ).to_pylist()
    of = {row["experiment"]: row for row in results}
    kept = {c.name for c in ExternalResults.columns()}
    source = {"source": cohorts.source}
    return {
        "external_results": ExternalResults.from_rows(
            [
                {
                    **source,
                    **{n: v for n, v in of[one.experiment.name].items() if n in kept},
                    "carries_over": of[one.experiment.name]["beats_baseline"],
                    **_provenance(one, cohorts, accuracies),
                }
                for one in predicted
            ]
        ),
        "external_patients": ExternalPatients.from_rows([{**source, **row} for row in by_patient]),
        "external_metrics": ExternalMetrics.from_rows(
            [
                {**source, **row}
                for row in metrics.astype(object).where(metrics.notna(), None).to_dict("records")
            ]
        ),
        "external_baselines": ExternalBaselines.from_rows(
            [{**source, **row} for row in _baseline_rows(baselines, settings)]
        ),
        "external_left_out": ExternalLeftOut.from_rows(
            [
                {**source, "experiment": one.experiment.name, "patient_id": patient, "reason": reason}
                for one in predicted
                for patient, reason in sorted({**one.left_out, **cohorts.overlap}.items())
            ]
        ),
    }


def _provenance(one: Predicted, cohorts: Cohorts, accuracies: pd.DataFrame) -> dict[str, Any]:
    learned = {p for patients in one.models["train_patients"] for p in patients}
    known = cohorts.trained[cohorts.trained["patient_id"].isin(learned)]
    spread = accuracies.loc[accuracies["experiment"] == one.experiment.name, "fold_spread"]
    return {
        "in_training_study": len(cohorts.overlap),
        "without_items": len(set(one.left_out) - set(cohorts.overlap)),
        "trained_accuracy": number_or_none(one.trained.get("all_classes")),
        "trained_accuracy_low": number_or_none(one.trained.get("all_classes_low")),
        "trained_accuracy_high": number_or_none(one.trained.get("all_classes_high")),
        "fold_spread": number_or_none(spread.astype(float).mean()),
        "models": len(one.folds),
        "train_patients": len(learned),
        "train_events": int((known["pain_level"] != "None").sum()),
        "code_version": one.experiment.code_version,
    }


def _baseline_rows(baselines: pd.DataFrame, settings: EvaluationSettings) -> list[dict[str, Any]]:
    rows = []
    for (name, classes), group in baselines.groupby(["baseline", "classes"], sort=False):
        # each patient is right or wrong as a whole, so the mean is a share
        share = share_interval(int(group["accuracy"].sum()), len(group), confidence=settings.confidence)
        means = table_5(group)
        rows.append(
            {
                "baseline": name,
                "classes": classes,
                "patients": len(group),
                "all_classes": means["all_classes"],
                "all_classes_low": share.low,
                "all_classes_high": share.high,
                "no_pain": means["no_pain"],
                "pain": means["pain"],
            }
        )
    return rows
