"""How good the experiments are: per patient as the paper computes it, then with intervals, baselines, and tests.

The statistics themselves are in ``iss_assets.evaluation``; the pages are in ``reports``.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow as arrow
import pyarrow.compute as compute

from iss_assets.datasets.items import load_items, trainable_patients
from iss_assets.defs.assets.common import describe, result
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.evaluation import accuracy
from iss_assets.evaluation.permutation import Retraining
from iss_assets.evaluation.study import CODE_VERSION, EvaluationInputs, evaluate_study
from iss_assets.modeling.experiments import BY_NAME
from iss_assets.modeling.folds import assign_splits
from iss_assets.modeling.forests import TREES
from iss_assets.modeling.retraining import cross_validate, relabel, subsample
from iss_assets.pipeline.progress import PROGRESS
from iss_assets.pipeline.staleness import evaluable_folds, evaluation_fingerprint, predictions_fingerprint
from iss_assets.schemas.evaluation import PatientAccuracy
from iss_assets.schemas.registry import EVALUATION
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import STUDY, ledger_entry

if TYPE_CHECKING:
    from iss_assets.evaluation.permutation import FitPredict
    from iss_assets.evaluation.study import Progress
    from iss_assets.modeling.items import Items

GROUP = "evaluation"


EVALUATION_TABLES = EVALUATION

_PREDICTED_VIDEOS = """
select patient_id, video_id, sha256 from videos semi join frame_predictions using (video_id) order by video_id
"""

_PREDICTED_FRAMES = """
select patient_id, picture_hash, contrast from frames semi join frame_predictions using (video_id)
"""

_EVALUATED_PREDICTIONS = """
select f.* from frame_predictions f semi join cv_splits s on f.patient_id = s.patient_id and f.split = s.split
where list_contains(?, f.patient_id) and list_contains(?, f.experiment || '|' || f.split)
"""

_EVALUATED_ATTENTION = """
select a.* from video_attention a semi join cv_splits s on a.patient_id = s.patient_id and a.split = s.split
where list_contains(?, a.experiment || '|' || a.split)
order by a.experiment, a.video_id, a.instance
"""


@dg.asset(
    **describe(
        PatientAccuracy,
        "From the last epoch's model of the patient's own split only; patients are the unit of everything after.",
        group=GROUP,
        kinds={"python", "duckdb"},
    ),
    partitions_def=patients_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[dg.AssetDep("frame_predictions", partition_mapping=dg.AllPartitionMapping()), "cv_splits"],
    code_version=CODE_VERSION,
)
def patient_accuracy(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Compute the accuracy of the chosen patients in every experiment that has predictions."""
    store, patients = warehouse.warehouse(), list(context.partition_keys)
    models, left_out = evaluable_folds(store)
    folds = fold_names(models)
    rows = accuracy.patient_accuracy(
        store.query(_EVALUATED_PREDICTIONS, [patients, folds]), store.query("select * from cv_splits"), models
    )
    fingerprint = predictions_fingerprint(store)
    store.replace_all(
        [
            r
            for patient in patients
            for own in [rows.filter(compute.field("patient_id") == patient)]
            for r in (
                Replacement(PatientAccuracy, own, {"patient_id": patient}),
                ledger_entry(patient, PatientAccuracy, fingerprint, own.num_rows),
            )
        ]
    )
    for line in left_out:
        context.log.warning(f"left out: {line}")
    return result(
        PatientAccuracy,
        rows.num_rows,
        fingerprint,
        {"patients": len(patients), "folds_left_out": [str(line) for line in left_out]},
    )


def fold_names(models: arrow.Table) -> list[str]:
    """Return the names of folds, ``experiment|split``, from rows of ``fold_models``."""
    return [f"{m['experiment']}|{m['split']}" for m in models.select(["experiment", "split"]).to_pylist()]


class EvaluationConfig(dg.Config):
    """Configuration of a run of the evaluation."""

    retrain: bool = True
    """Train the small forests again on permuted labels, which takes minutes; if false, their predictions stay fixed."""


@dg.multi_asset(
    name="evaluate_experiments",
    specs=[
        dg.AssetSpec(
            **describe(
                table,
                "Patients are the unit; intervals are BCa bootstraps over patients.",
                group=GROUP,
                kinds={"python", "duckdb"},
            ),
            deps=["patient_accuracy", "cv_splits", "fold_models", "video_attention", "video_quality"],
            code_version=CODE_VERSION,
        )
        for table in EVALUATION_TABLES
    ],
)
def evaluation(
    context: dg.AssetExecutionContext, config: EvaluationConfig, warehouse: WarehouseResource
) -> Iterator[dg.MaterializeResult]:
    """Evaluate every experiment: Table 5, intervals, baselines, chance, subgroups, canaries."""
    store, settings = warehouse.warehouse(), warehouse.settings()
    inputs = evaluation_inputs(store, settings, retrain=config.retrain)
    names = sorted(set(inputs.patient_accuracy["experiment"].to_pylist()))
    again = ", ".join(inputs.retraining) or "none"
    context.log.info(f"evaluating {', '.join(names)}; retrained for the tests: {again}")
    rows = evaluate_study(inputs, settings.evaluation, every_few_seconds(context.log.info))
    fingerprint = evaluation_fingerprint(store, settings, retrain=config.retrain)
    store.replace_all(
        [
            r
            for table in EVALUATION_TABLES
            for r in (
                Replacement(table, rows[table.__table__], {}),
                ledger_entry(STUDY, table, fingerprint, rows[table.__table__].num_rows),
            )
        ]
    )
    for table in EVALUATION_TABLES:
        yield result(table, rows[table.__table__].num_rows, fingerprint)


def every_few_seconds(write: Callable[[str], None], seconds: float = 5.0) -> "Progress":
    """Return a progress callback that writes a line every few seconds, and logs to `PROGRESS` as often."""
    last = 0.0

    def report(done: int, of: int, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done < of and now - last < seconds:
            return
        last = now
        write(f"{done} of at most {of} trainings: {what}")
        PROGRESS.info("%s", what, extra={"done": done, "of": of})

    return report


def evaluation_inputs(warehouse: Warehouse, settings: Settings, *, retrain: bool) -> "EvaluationInputs":
    """Return the tables that the evaluation reads and, if `retrain`, the functions that train its forests again.

    Parameters
    ----------
    warehouse : Warehouse
        Where the tables are.
    settings : Settings
        Settings of training and evaluation.
    retrain : bool
        Whether forests are trained again on permuted labels.
    """
    query = warehouse.query
    accuracy = query("select * from patient_accuracy order by experiment, patient_id")
    models, _ = evaluable_folds(warehouse)
    names = sorted(set(accuracy["experiment"].to_pylist()))
    again = retrained(warehouse, settings, names) if retrain else {}
    whole = {name: items for name, (items, sampled) in again.items() if not sampled}
    return EvaluationInputs(
        patient_accuracy=accuracy,
        splits=query("select * from cv_splits order by patient_id"),
        fold_models=models,
        patients=query("select * from patients order by patient_id"),
        bpi_scores=query("select * from bpi_scores order by submission_id"),
        video_quality=query("select * from video_quality order by video_id"),
        videos=query(_PREDICTED_VIDEOS),
        frames=query(_PREDICTED_FRAMES),
        retraining={
            name: Retraining(
                trainer(name, items, settings, trees_for(name, settings)),
                sampled or trees_for(name, settings) < TREES,
            )
            for name, (items, sampled) in again.items()
        },
        fit_predict={name: trainer(name, items, settings) for name, (items, _) in again.items()},
        by_seed={name: seeded_trainer(name, items, warehouse, settings) for name, items in whole.items()},
        attention=query(_EVALUATED_ATTENTION, [fold_names(models)]),
        features={
            "audio features": query(
                "select * exclude (chunk_index, fingerprint) from audio_features where chunk_index = -1 order by video_id"
            ).to_pandas()
        },
    )


def trees_for(name: str, settings: Settings) -> int:
    """Return the number of trees with which a forest is trained again on permuted labels."""
    own = BY_NAME[name].item in ("submission", "video")
    return TREES if own else min(TREES, settings.evaluation.retrain_trees)


def retrained(
    warehouse: Warehouse, settings: Settings, names: Sequence[str]
) -> "dict[str, tuple[Items, bool]]":
    """Return the items on which each forest is trained again, and whether they are a sample of all of its items."""
    limit = settings.evaluation.retrain_items
    forests = [name for name in names if BY_NAME[name].model == "forest"] if limit else []
    loaded = {
        name: load_items(warehouse, BY_NAME[name], settings.training, settings.faces) for name in forests
    }
    return {name: (subsample(items, limit), len(items) > limit) for name, items in loaded.items()}


def trainer(name: str, items: "Items", settings: Settings, trees: int = TREES) -> "FitPredict":
    """Return a function that trains an experiment's folds on given levels and splits, and predicts the patients left out.

    Parameters
    ----------
    name : str
        Name of the experiment.
    items : Items
        Its items.
    settings : Settings
        Settings of training.
    trees : int
        Trees per forest.

    Returns
    -------
    callable
        From levels and splits by patient to rows of ``frame_predictions``.
    """

    def train(levels: Mapping[str, str], splits: Mapping[str, int]) -> arrow.Table:
        own = relabel(BY_NAME[name], items, levels)
        return cross_validate(BY_NAME[name], own, splits, settings.training, trees)

    return train


def seeded_trainer(
    name: str, items: "Items", warehouse: Warehouse, settings: Settings
) -> Callable[[int], arrow.Table]:
    """Return a function that assigns patients to splits by a seed, then trains and predicts."""
    patients = trainable_patients(warehouse, settings.training)

    def train(seed: int) -> arrow.Table:
        cohort = assign_splits(patients, settings.training.folds, seed).to_pydict()
        splits = dict(zip(cohort["patient_id"], cohort["split"], strict=True))
        return cross_validate(BY_NAME[name], items, splits, settings.training)

    return train
