"""One fold of an experiment in the warehouse: what is to be done, doing it, keeping what came out.

Belongs here: the way between the core's folds and the tables ``fold_models`` and ``frame_predictions``, and the marks
that say whether a fold is current. Does not belong here: assets (``training``), how a model learns (``modeling``).
"""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as arrow

from iss_assets.assets.study import STUDY
from iss_assets.modeling.experiments import CODE_VERSION, Experiment
from iss_assets.resources import WarehouseResource
from iss_assets.settings import Settings, TrainingSettings
from iss_assets.warehouse import tables
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import fingerprint, ledger, ledger_rows

if TYPE_CHECKING:
    from iss_assets.modeling.fitting import FittedFold
    from iss_assets.modeling.items import Items


@dataclass(frozen=True)
class Fold:
    """One split of an experiment: who is on which side, and what has to be done."""

    split: int
    train: list[str]
    test: list[str]
    marks: dict[str, str]
    folder: Path
    fit: bool

    @property
    def name(self) -> str:
        """Its name in the ledger."""
        return place_of(self.folder.parent.name, self.split)


def place_of(experiment: str, split: int) -> str:
    """Give a fold's name in the ledger."""
    return f"{experiment}|{split:02d}"


def fit_experiment(
    context: dg.AssetExecutionContext,
    resource: WarehouseResource,
    experiment: Experiment,
    splits: Sequence[int],
) -> dict[str, Any]:
    """Bring some splits of one experiment up to date; items are loaded once and shared by the splits."""
    from iss_assets.modeling.fitting import folds_side_by_side
    from iss_assets.warehouse.items import load_items

    warehouse, settings = resource.warehouse(), resource.settings()
    cohort = warehouse.query("select * from cv_splits order by patient_id")
    present = set(cohort["split"].to_pylist())
    note: dict[str, Any] = {"fitted now": 0, "predicted again": 0, "kept": 0, "empty splits": 0}
    for split in set(splits) - present:
        # nobody is tested here (any more): what an earlier cohort left goes
        forget_fold(warehouse, experiment.name, split)
        note["empty splits"] += 1
    folds = [
        fold_to_do(warehouse, settings, experiment, cohort, split) for split in splits if split in present
    ]
    note |= {"marks": [fold.marks["frame_predictions"] for fold, _ in folds], "predictions": 0}
    work = [fold for fold, current in folds if not current]
    note["kept"] = len(folds) - len(work)
    if not work:
        return note
    items = load_items(warehouse, experiment, settings.training, cohort["patient_id"].to_pylist())
    telling = Lock()  # folds side by side would mix their lines

    def job(fold: Fold, go_on: Callable[[], None]) -> tuple["FittedFold | None", arrow.Table]:
        return one_fold(context, experiment, items, settings.training, fold, telling, go_on)

    jobs = [partial(job, fold) for fold in work]
    # closed at once when something fails here, which ends the folds under way
    with closing(folds_side_by_side(experiment, jobs, settings.training)) as done:
        for number, (fitted, predictions) in done:
            fold = work[number]
            where: dict[str, object] = {"experiment": experiment.name, "split": fold.split}
            replacements: list[Replacement] = []
            if fitted is not None:
                row = fold_row(experiment, fold, fitted, cohort["cohort_hash"][0].as_py())
                replacements += [
                    Replacement(tables.FoldModels, tables.FoldModels.from_rows([row]), where),
                    fold_entry(fold.name, "fold_models", fold.marks["fold_models"], 1),
                ]
                note["weights"] = fitted.weights_origin
            note["predicted again" if fitted is None else "fitted now"] += 1
            columns = tables.FramePredictions.arrow_schema()
            column = arrow.repeat(arrow.scalar(fold.split, arrow.int32()), predictions.num_rows)
            rows = predictions.append_column("split", column).select(columns.names).cast(columns)
            note["predictions"] += rows.num_rows
            replacements += [
                Replacement(tables.FramePredictions, rows, where),
                fold_entry(fold.name, "frame_predictions", fold.marks["frame_predictions"], rows.num_rows),
            ]
            warehouse.replace_all(replacements)
    return note


def forget_fold(warehouse: Warehouse, experiment: str, split: int) -> None:
    """Take a fold out of the tables and the ledger, where it is in them."""
    place, where = place_of(experiment, split), {"experiment": experiment, "split": split}
    if (STUDY, place, "fold_models") not in ledger(warehouse, STUDY):
        return
    gone = [Replacement(t, t.from_rows([]), where) for t in (tables.FoldModels, tables.FramePredictions)]
    entries = Replacement(tables.Extractions, ledger_rows([]), {"patient_id": STUDY, "video_id": place})
    warehouse.replace_all([*gone, entries])


def fold_to_do(
    warehouse: Warehouse, settings: Settings, experiment: Experiment, cohort: arrow.Table, split: int
) -> tuple[Fold, bool]:
    """Say what a split needs, and whether it is current and needs nothing."""
    from iss_assets.modeling.fitting import MODEL_FILE
    from iss_assets.modeling.folds import sides

    train, test = sides(cohort, split)
    marks = fold_marks(warehouse, settings.training, experiment, train, test)
    held, place = ledger(warehouse, STUDY), place_of(experiment.name, split)
    folder = settings.models_dir / experiment.name / f"{split:02d}"
    whole = (folder / MODEL_FILE).exists()
    right = {table: held.get((STUDY, place, table)) == mark for table, mark in marks.items()}
    fit = not (whole and right["fold_models"])
    return Fold(split, train, test, marks, folder, fit), not fit and right["frame_predictions"]


def one_fold(
    context: dg.AssetExecutionContext,
    experiment: Experiment,
    items: "Items",
    settings: TrainingSettings,
    fold: Fold,
    telling: Lock,
    go_on: Callable[[], None],
) -> tuple["FittedFold | None", arrow.Table]:
    """Fit a fold's model where that is to be done, and predict its test patients."""
    from iss_assets.modeling.fitting import MODEL_FILE, fit_fold, predict_fold

    def tell(text: str) -> None:
        with telling:
            context.log.info(f"{experiment.name}, split {fold.split}: {text}")

    def told(epoch: dict[str, float]) -> None:
        tell(", ".join(f"{k} {v:.4g}" for k, v in epoch.items()))

    fitted = None
    if fold.fit:
        tell(f"fitting on {len(fold.train)} patients")
        fitted = fit_fold(experiment, items.of(fold.train), settings, fold.folder, told, go_on)
    return fitted, predict_fold(experiment, fold.folder / MODEL_FILE, items.of(fold.test), settings)


def fold_row(experiment: Experiment, fold: Fold, fitted: "FittedFold", cohort_hash: str) -> dict[str, Any]:
    """Give a fold's row of ``fold_models``."""
    same = ("train_items", "settings", "profile", "seed", "weights_origin", "code_version")
    return {
        "experiment": experiment.name,
        "split": fold.split,
        "trained_at": datetime.now(UTC),
        "train_patients": fold.train,
        "test_patients": fold.test,
        "weights": f"models/{experiment.name}/{fold.split:02d}/{fitted.weights.name}",
        "history": json.dumps(fitted.history),
        "cohort_hash": cohort_hash,
        "data_hash": fold.marks["fold_models"],
        **{name: getattr(fitted, name) for name in same},
    }


def fold_marks(
    warehouse: Warehouse,
    settings: TrainingSettings,
    experiment: Experiment,
    train: Sequence[str],
    test: Sequence[str],
) -> dict[str, str]:
    """Give the fingerprints that a fold's model and predictions have when they are current."""
    from iss_assets.warehouse.items import data_hash

    learnt = fingerprint(
        experiment.name,
        CODE_VERSION,
        what_counts(experiment, settings),
        data_hash(warehouse, experiment, settings, train),
    )
    return {
        "fold_models": learnt,
        "frame_predictions": fingerprint(learnt, data_hash(warehouse, experiment, settings, test)),
    }


NEVER_COUNTS = {
    "split_file",
    "split_seed",
    "resnet50_weights",
    "device",
    "compile",
    "folds_at_once",
    "decoded_faces_gb",
    "encoded_faces_gb",
}
"""Settings that leave a model as it is: where and how fast it is computed, and what enters its mark in another form (who
is on which side, the content of the weights' file)."""


def what_counts(experiment: Experiment, settings: TrainingSettings) -> dict[str, Any]:
    """Give the settings that change what a model learns, and its first weights by content."""
    from iss_assets.modeling.weights import weights_mark

    first = weights_mark(settings) if experiment.uses_backbone else "none"
    return {**settings.model_dump(mode="json", exclude=NEVER_COUNTS), "first_weights": first}


def fold_entry(place: str, table: str, mark: str, rows: int) -> Replacement:
    """Give the ledger's replacement that says: this fold is current."""
    return Replacement(
        tables.Extractions,
        ledger_rows([(STUDY, place, table, mark, rows)]),
        {"patient_id": STUDY, "video_id": place, "table_name": table},
    )
