"""Bring folds of an experiment up to date: what has to be fitted or predicted, doing it, and storing the results.

Connects ``modeling``, which fits and predicts, to the tables ``fold_models``, ``frame_predictions`` and ``video_attention``.
"""

import json
import shutil
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as arrow

from iss_assets.datasets.items import load_items
from iss_assets.defs.resources import WarehouseResource
from iss_assets.evaluation.comparable import outdated_splits
from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.fitting import (
    MODEL_FILE,
    attention_of_fold,
    fitting_steps,
    folds_side_by_side,
    predict_fold,
)
from iss_assets.modeling.folds import fold_subject, sides
from iss_assets.pipeline.staleness import fold_fingerprints
from iss_assets.schemas.base import Table
from iss_assets.schemas.modeling import FoldModels, FramePredictions, VideoAttention
from iss_assets.schemas.operations import Extractions
from iss_assets.settings import Settings, TrainingSettings
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import STUDY, ledger, ledger_rows

if TYPE_CHECKING:
    from iss_assets.modeling.fitting import FittedFold
    from iss_assets.modeling.items import Items


@dataclass(frozen=True)
class Fold:
    """One split of an experiment: who is on which side, and what has to be done."""

    split: int
    train: list[str]
    test: list[str]
    fingerprints: dict[str, str]
    folder: Path
    fit: bool

    @property
    def name(self) -> str:
        """Its subject in the ledger."""
        return fold_subject(self.folder.parent.name, self.split)


def fit_experiment(
    context: dg.AssetExecutionContext,
    resource: WarehouseResource,
    experiment: Experiment,
    splits: Sequence[int],
) -> dict[str, Any]:
    """Bring splits of one experiment up to date, and remove folds of an earlier assignment of patients to splits.

    Parameters
    ----------
    context : dagster.AssetExecutionContext
        For its log.
    resource : WarehouseResource
        The warehouse, with ``cv_splits``, and the settings.
    experiment : Experiment
        What to train.
    splits : sequence of int
        Numbers of the splits, from 1; those in which nobody is tested are counted and skipped.

    Returns
    -------
    dict
        Metadata: numbers of folds fitted, predicted again, kept and removed, of empty splits, of predictions and of
        rows of attention, and the folds' fingerprints.
    """
    warehouse, settings = resource.warehouse(), resource.settings()
    cohort = warehouse.query("select * from cv_splits order by patient_id")
    present = set(cohort["split"].to_pylist())
    with warehouse.one_state():
        folds = [
            plan_fold(warehouse, settings, experiment, cohort, split) for split in splits if split in present
        ]
    work = [fold for fold, current in folds if not current]
    note: dict[str, Any] = {
        "fitted": 0,
        "predicted_again": 0,
        "kept": len(folds) - len(work),
        "empty_splits": len(set(splits) - present),
        "predictions": 0,
        "attention": 0,
        "fingerprints": [fold.fingerprints["frame_predictions"] for fold, _ in folds],
    }
    update_cohort(
        warehouse, experiment, [fold for fold, _ in folds if not fold.fit], cohort["cohort_hash"][0].as_py()
    )
    surplus = outdated(warehouse, experiment, cohort)
    if not folds:  # nobody is tested in any of the splits asked for
        surplus = [split for split in surplus if split in splits]
    if work:
        make_folds(context, warehouse, settings, experiment, cohort, work, surplus, note)
    elif surplus:
        warehouse.replace_all(removal(experiment, surplus))
    if surplus:
        context.log.info(
            f"{experiment.name}: removed split {', '.join(map(str, surplus))}, made when the patients were split "
            "differently"
        )
    delete_unused_weights(warehouse, settings, experiment, present)
    return {**note, "removed": len(surplus)}


def make_folds(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    settings: Settings,
    experiment: Experiment,
    cohort: arrow.Table,
    work: Sequence[Fold],
    surplus: Sequence[int],
    note: dict[str, Any],
) -> None:
    """Fit or predict folds and store the results; items are loaded once and shared.

    Surplus folds are removed together with the first fold that is written: a training that fails early loses nothing.
    """
    patients = cohort["patient_id"].to_pylist()
    items = load_items(warehouse, experiment, settings.training, settings.faces, patients)
    old = removal(experiment, surplus)
    jobs = [partial(fold_steps, context, experiment, items, settings.training, fold) for fold in work]
    # closed as soon as something fails here, which stops the folds in progress
    with closing(folds_side_by_side(experiment, jobs, settings.training)) as done:
        for number, (fitted, predictions, attention) in done:
            fold = work[number]
            where: dict[str, object] = {"experiment": experiment.name, "split": fold.split}
            new: list[Replacement] = []
            if fitted is not None:
                row = fold_row(experiment, fold, fitted, cohort["cohort_hash"][0].as_py())
                new += [
                    Replacement(FoldModels, FoldModels.from_rows([row]), where),
                    fold_entry(fold.name, "fold_models", fold.fingerprints["fold_models"], 1),
                ]
                note["weights"] = fitted.weights_origin
            note["predicted_again" if fitted is None else "fitted"] += 1
            note["predictions"] += predictions.num_rows
            note["attention"] += attention.num_rows
            for table, found in ((FramePredictions, predictions), (VideoAttention, attention)):
                made = fold.fingerprints.get(table.__table__)
                if made is not None:
                    rows = with_constants(table, found, split=fold.split, fingerprint=made)
                    new += [
                        Replacement(table, rows, where),
                        fold_entry(fold.name, table.__table__, made, rows.num_rows),
                    ]
            warehouse.replace_all([*old, *new])
            old = []


def with_constants(table: type[Table], rows: arrow.Table, **constants: object) -> arrow.Table:
    """Return rows with the columns of a table, of which some have the same value everywhere."""
    schema = table.arrow_schema()
    for name, value in constants.items():
        if name in schema.names:
            filled = arrow.repeat(arrow.scalar(value, schema.field(name).type), rows.num_rows)
            rows = rows.append_column(name, filled)
    return rows.select(schema.names).cast(schema)


def update_cohort(
    warehouse: Warehouse, experiment: Experiment, folds: Sequence[Fold], cohort_hash: str
) -> None:
    """Update train and test patients of models that stay current although the cohort changed.

    A patient who joins a split does not change its model, which then predicts one more patient.
    """
    recorded = warehouse.query(
        "select * from fold_models where experiment = ? and cohort_hash <> ?", [experiment.name, cohort_hash]
    )
    rows = {row["split"]: row for row in recorded.to_pylist()}
    changed = [
        {**rows[f.split], "train_patients": f.train, "test_patients": f.test, "cohort_hash": cohort_hash}
        for f in folds
        if f.split in rows
    ]
    if changed:
        warehouse.replace_all(
            [
                Replacement(
                    FoldModels,
                    FoldModels.from_rows([row]),
                    {"experiment": experiment.name, "split": row["split"]},
                )
                for row in changed
            ]
        )


def outdated(warehouse: Warehouse, experiment: Experiment, cohort: arrow.Table) -> list[int]:
    """Return the splits whose fold was made when the patients were split differently."""
    made = warehouse.query(
        "select split, train_patients, test_patients from fold_models where experiment = ?", [experiment.name]
    )
    split_of = dict(zip(cohort["patient_id"].to_pylist(), cohort["split"].to_pylist(), strict=True))
    return outdated_splits(made.to_pylist(), split_of)


def removal(experiment: Experiment, splits: Sequence[int]) -> list[Replacement]:
    """Return the replacements that remove folds from the tables and the ledger."""
    return [
        Replacement(table, table.from_rows([]), where)
        for split in splits
        for table, where in (
            (FoldModels, {"experiment": experiment.name, "split": split}),
            (FramePredictions, {"experiment": experiment.name, "split": split}),
            (VideoAttention, {"experiment": experiment.name, "split": split}),
            (Extractions, {"patient_id": STUDY, "subject": fold_subject(experiment.name, split)}),
        )
    ]


def delete_unused_weights(
    warehouse: Warehouse, settings: Settings, experiment: Experiment, present: set[int]
) -> None:
    """Delete the weights of splits in which nobody is tested and which have no row.

    Goes by the folders rather than by what was just removed, so a run killed in between leaves nothing behind.
    """
    recorded = warehouse.query("select split from fold_models where experiment = ?", [experiment.name])
    wanted = present | set(recorded["split"].to_pylist())
    for folder in (settings.models_dir / experiment.name).glob("[0-9]*"):
        if folder.name.isdigit() and int(folder.name) not in wanted:
            shutil.rmtree(folder)


def plan_fold(
    warehouse: Warehouse, settings: Settings, experiment: Experiment, cohort: arrow.Table, split: int
) -> tuple[Fold, bool]:
    """Return what a split needs, and whether it is current and needs nothing.

    Parameters
    ----------
    warehouse : Warehouse
        Where the ledger is.
    settings : Settings
        Training settings, and where the weights are.
    experiment : Experiment
        The experiment.
    cohort : pyarrow.Table
        Rows of ``cv_splits``.
    split : int
        Number of the split.
    """
    train, test = sides(cohort, split)
    fingerprints = fold_fingerprints(warehouse, settings.training, experiment, train, test)
    recorded, subject = ledger(warehouse, STUDY), fold_subject(experiment.name, split)
    folder = settings.models_dir / experiment.name / f"{split:02d}"
    whole = (folder / MODEL_FILE).exists()
    right = {
        table: recorded.get((STUDY, subject, table)) == fingerprint
        for table, fingerprint in fingerprints.items()
    }
    fit = not (whole and right["fold_models"])
    return Fold(split, train, test, fingerprints, folder, fit), not fit and all(right.values())


def fold_steps(
    context: dg.AssetExecutionContext,
    experiment: Experiment,
    items: "Items",
    settings: TrainingSettings,
    fold: Fold,
) -> Generator[int, None, tuple["FittedFold | None", arrow.Table, arrow.Table]]:
    """Fit a fold's model step by step, unless it is current, and predict its test patients.

    Yields
    ------
    int
        As `fitting_steps` does, so that folds can be trained side by side.

    Returns
    -------
    (FittedFold or None, pyarrow.Table, pyarrow.Table)
        The model if it was fitted, the predictions, and where in each video it looked.
    """

    def log(text: str) -> None:
        context.log.info(f"{experiment.name}, split {fold.split}: {text}")

    def log_epoch(epoch: dict[str, float]) -> None:
        log(", ".join(f"{k} {v:.4g}" for k, v in epoch.items()))

    fitted = None
    if fold.fit:
        log(f"fitting on {len(fold.train)} patients")
        fitted = yield from fitting_steps(experiment, items.of(fold.train), settings, fold.folder, log_epoch)
    weights, test = fold.folder / MODEL_FILE, items.of(fold.test)
    return (
        fitted,
        predict_fold(experiment, weights, test, settings),
        attention_of_fold(experiment, weights, test, settings),
    )


def fold_row(experiment: Experiment, fold: Fold, fitted: "FittedFold", cohort_hash: str) -> dict[str, Any]:
    """Return a fold's row of ``fold_models``."""
    same = ("train_items", "settings", "profile", "seed", "weights_origin", "code_version")
    used = ("device", "precision", "threads", "execution", "library")
    return {
        "experiment": experiment.name,
        "split": fold.split,
        "trained_at": datetime.now(UTC),
        "train_patients": fold.train,
        "test_patients": fold.test,
        "weights": f"models/{experiment.name}/{fold.split:02d}/{fitted.weights.name}",
        "history": json.dumps(fitted.history),
        "cohort_hash": cohort_hash,
        "data_hash": fold.fingerprints["fold_models"],
        **{name: getattr(fitted, name) for name in same},
        **{name: getattr(fitted.computed, name) for name in used},
    }


def fold_entry(subject: str, table: str, fingerprint: str, rows: int) -> Replacement:
    """Return the replacement that records in the ledger that a fold is current."""
    return Replacement(
        Extractions,
        ledger_rows([(STUDY, subject, table, fingerprint, rows)]),
        {"patient_id": STUDY, "subject": subject, "table_name": table},
    )
