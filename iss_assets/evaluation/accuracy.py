"""Compute accuracy like the paper: one value per test patient, and the means over patients of Table 5.

Each patient is evaluated only with the model of their own split. ``results`` adds intervals, baselines and tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from iss_assets.protocol import terms
from iss_assets.schemas.evaluation import PatientAccuracy

TABLE_5_COLUMNS = ("all_classes", "no_pain", "pain", "none", "low", "moderate", "severe")


class RefusedPredictions(ValueError):
    """Predictions that would bias the accuracy: the patient was in training, or the model is of another split."""


def class_names(classes: int) -> tuple[str, ...]:
    """Return the class names of a two-class or four-class experiment."""
    return {2: terms.PAIN_CLASSES, 4: terms.PAIN_LEVELS}[classes]


def class_of(level: str, classes: int) -> str:
    """Return the class of a pain level in a two-class or four-class experiment."""
    return level if classes == 4 else terms.pain_class(level)


def patient_accuracy(predictions: pa.Table, splits: pa.Table, fold_models: pa.Table) -> pa.Table:
    """Compute the accuracy of each test patient (paper, section 5, "Accuracy Calculation").

    The accuracy is the weighted share of the patient's items whose predicted class is right.

    Parameters
    ----------
    predictions : pyarrow.Table
        Rows of ``frame_predictions`` of one or more experiments.
    splits : pyarrow.Table
        ``cv_splits``.
    fold_models : pyarrow.Table
        The rows of ``fold_models`` that made the predictions.

    Returns
    -------
    pyarrow.Table
        ``patient_accuracy``. A patient whose items all have weight zero (a survey without frames) has no row.

    Raises
    ------
    RefusedPredictions
        If a patient is predicted in more than one split, in a split other than their own, by a model that was trained
        on the patient or is unknown, or with a label other than their own.
    """
    columns = ["experiment", "split", "patient_id", "target", "predicted", "pain_probability", "weight"]
    items = predictions.select(columns).to_pandas()
    levels = dict(zip(splits["patient_id"].to_pylist(), splits["pain_level"].to_pylist(), strict=True))
    own_split = dict(zip(splits["patient_id"].to_pylist(), splits["split"].to_pylist(), strict=True))
    if items.empty:
        return PatientAccuracy.from_rows([])
    _refuse_foreign(items, own_split, fold_models)
    models = fold_models.select(["experiment", "split", "profile", "weights_origin"]).to_pylist()
    trained = {(model.pop("experiment"), model.pop("split")): model for model in models}

    rows = []
    for experiment, of_experiment in items.groupby("experiment", sort=True):
        classes = _classes_of(str(experiment), of_experiment)
        names = class_names(classes)
        for patient, of_patient in of_experiment.groupby("patient_id", sort=True):
            target = class_of(levels[str(patient)], classes)
            if set(of_patient["target"]) != {target}:
                raise RefusedPredictions(
                    f"{experiment}: patient {patient} has the class {target!r} in cv_splits and a different one "
                    "in the predictions; train the experiment again"
                )
            row = one_patient(of_patient, target, names)
            if row is not None:
                rows.append(
                    {
                        "experiment": experiment,
                        "patient_id": patient,
                        "split": own_split[str(patient)],
                        "pain_level": levels[str(patient)],
                        "classes": classes,
                        "target": target,
                        **row,
                        **trained[str(experiment), own_split[str(patient)]],
                    }
                )
    return PatientAccuracy.from_rows(rows)


def one_patient(items: pd.DataFrame, target: str, names: tuple[str, ...]) -> dict[str, object] | None:
    """Return the columns of ``patient_accuracy`` that come from one patient's predictions; None without any weight."""
    weight = items["weight"].to_numpy(float)
    total = float(weight.sum())
    if total <= 0:
        return None
    predicted = items["predicted"].to_numpy()
    shares = {name: float(weight[predicted == name].sum() / total) for name in names}
    return {
        "predicted": max(names, key=lambda name: shares[name]),
        "items": len(items),
        "weight": total,
        "accuracy": min(1.0, shares[target]),
        "pain_probability": float(np.clip(weight @ items["pain_probability"].to_numpy(float) / total, 0, 1)),
        "predicted_shares": json.dumps({name: round(share, 9) for name, share in shares.items()}),
    }


def _classes_of(experiment: str, items: pd.DataFrame) -> int:
    names = set(items["target"]) | set(items["predicted"])
    for classes in (2, 4):
        if names <= set(class_names(classes)):
            return classes
    raise RefusedPredictions(
        f"{experiment}: targets and predictions mix two-class and four-class names, or contain unknown names"
    )


def _refuse_foreign(items: pd.DataFrame, own_split: Mapping[str, int], fold_models: pa.Table) -> None:
    """Raise an error for any combination of experiment, split and patient that would bias the accuracy."""
    models = {
        (row["experiment"], row["split"]): set(row["train_patients"])
        for row in fold_models.select(["experiment", "split", "train_patients"]).to_pylist()
    }
    triples = items[["experiment", "split", "patient_id"]].drop_duplicates()
    twice = triples[triples.duplicated(["experiment", "patient_id"])]
    if not twice.empty:
        first = twice.iloc[0]
        raise RefusedPredictions(
            f"{first['experiment']}: patient {first['patient_id']} is predicted in more than one split"
        )
    for experiment, split, patient in triples.itertuples(index=False):
        if own_split.get(patient) != split:
            raise RefusedPredictions(
                f"{experiment}: patient {patient} is predicted in split {split}, which is not the patient's own split "
                "in cv_splits"
            )
        if (experiment, split) not in models:
            raise RefusedPredictions(
                f"{experiment}: no row of fold_models describes the training data of split {split}"
            )
        if patient in models[experiment, split]:
            raise RefusedPredictions(
                f"{experiment}: patient {patient} is tested in split {split} and was trained on there"
            )


def table_5(accuracies: pd.DataFrame) -> dict[str, float | None]:
    """Compute the row of an experiment in Table 5: unweighted means over patients.

    Parameters
    ----------
    accuracies : pandas.DataFrame
        One row per patient: ``pain_level`` and ``accuracy``.

    Returns
    -------
    dict
        ``all_classes``; ``no_pain`` and ``pain``; the four levels; ``above_half`` and ``above_three_quarters`` (share
        of patients strictly above). None if there is no such patient. "All Classes" is the mean over patients, not
        over items or levels: the paper's 0.657 for Fusion 3 is (13 x 0.582 + 16 x 0.717) / 29.
    """

    def mean(rows: pd.DataFrame) -> float | None:
        return float(rows["accuracy"].mean()) if len(rows) else None

    has_pain = accuracies["pain_level"] != "None"
    row = {
        "all_classes": mean(accuracies),
        "no_pain": mean(accuracies[~has_pain]),
        "pain": mean(accuracies[has_pain]),
    }
    for level in terms.PAIN_LEVELS:
        row[level.lower()] = mean(accuracies[accuracies["pain_level"] == level])
    for name, threshold in (("above_half", 0.5), ("above_three_quarters", 0.75)):
        row[name] = float((accuracies["accuracy"] > threshold).mean()) if len(accuracies) else None
    return row
