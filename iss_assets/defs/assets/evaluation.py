"""How good the experiments are: per patient as the paper computes it, then as it should be done, then the reports.

Belongs here: the assets that judge predictions and write report pages. Does not belong here: a statistic or a page's
look (``evaluation``).
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
from iss_assets.pipeline.staleness import evaluation_mark, judged_folds, predictions_mark
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

_JUDGED = """
select f.* from frame_predictions f semi join cv_splits s on f.patient_id = s.patient_id and f.split = s.split
where list_contains(?, f.patient_id) and list_contains(?, f.experiment || '|' || f.split)
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
    models, left_out = judged_folds(store)
    folds = [f"{m['experiment']}|{m['split']}" for m in models.select(["experiment", "split"]).to_pylist()]
    rows = accuracy.patient_accuracy(
        store.query(_JUDGED, [patients, folds]), store.query("select * from cv_splits"), models
    )
    mark = predictions_mark(store)
    store.replace_all(
        [
            r
            for patient in patients
            for own in [rows.filter(compute.field("patient_id") == patient)]
            for r in (
                Replacement(PatientAccuracy, own, {"patient_id": patient}),
                ledger_entry(patient, PatientAccuracy, mark, own.num_rows),
            )
        ]
    )
    for line in left_out:
        context.log.warning(f"left out: {line}")
    return result(
        PatientAccuracy,
        rows.num_rows,
        mark,
        {"patients": len(patients), "folds_left_out": [str(line) for line in left_out]},
    )


class HowToJudge(dg.Config):
    """What a run of the evaluation may cost."""

    retrain: bool = True
    """Train the small forests again on permuted labels, which takes minutes; without, their predictions stay fixed."""


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
            deps=["patient_accuracy", "cv_splits", "fold_models", "video_quality"],
            code_version=CODE_VERSION,
        )
        for table in EVALUATION_TABLES
    ],
)
def evaluation(
    context: dg.AssetExecutionContext, config: HowToJudge, warehouse: WarehouseResource
) -> Iterator[dg.MaterializeResult]:
    """Judge every experiment: Table 5, intervals, baselines, chance, subgroups, canaries."""
    store, settings = warehouse.warehouse(), warehouse.settings()
    inputs = evaluation_inputs(store, settings, retrain=config.retrain)
    names = sorted(set(inputs.patient_accuracy["experiment"].to_pylist()))
    again = ", ".join(inputs.retraining) or "none"
    context.log.info(f"judging {', '.join(names)}; trained again for the tests: {again}")
    rows = evaluate_study(inputs, settings.evaluation, every_few_seconds(context.log.info))
    mark = evaluation_mark(store, settings, retrain=config.retrain)
    store.replace_all(
        [
            r
            for table in EVALUATION_TABLES
            for r in (
                Replacement(table, rows[table.__table__], {}),
                ledger_entry(STUDY, table, mark, rows[table.__table__].num_rows),
            )
        ]
    )
    for table in EVALUATION_TABLES:
        yield result(table, rows[table.__table__].num_rows, mark)


def every_few_seconds(write: Callable[[str], None], seconds: float = 5.0) -> "Progress":
    """Give a progress that writes a line every few seconds, and tells who listens to `PROGRESS` as often."""
    last = 0.0

    def told(done: int, of: int, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done < of and now - last < seconds:
            return
        last = now
        write(f"{done} of at most {of} trainings: {what}")
        PROGRESS.info("%s", what, extra={"done": done, "of": of})

    return told


def evaluation_inputs(warehouse: Warehouse, settings: Settings, *, retrain: bool) -> "EvaluationInputs":
    """Collect what the evaluation judges, and how it trains forests again where `retrain` asks for it."""
    query = warehouse.query
    accuracy = query("select * from patient_accuracy order by experiment, patient_id")
    names = sorted(set(accuracy["experiment"].to_pylist()))
    again = retrained(warehouse, settings, names) if retrain else {}
    whole = {name: items for name, (items, sampled) in again.items() if not sampled}
    return EvaluationInputs(
        patient_accuracy=accuracy,
        splits=query("select * from cv_splits order by patient_id"),
        fold_models=judged_folds(warehouse)[0],
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
        features={
            "audio features": query(
                "select * exclude (chunk_index, fingerprint) from audio_features where chunk_index = -1 order by video_id"
            ).to_pandas()
        },
    )


def trees_for(name: str, settings: Settings) -> int:
    """Give the number of trees with which a forest is trained again on permuted labels."""
    own = BY_NAME[name].item == "submission"
    return TREES if own else min(TREES, settings.evaluation.retrain_trees)


def retrained(
    warehouse: Warehouse, settings: Settings, names: Sequence[str]
) -> "dict[str, tuple[Items, bool]]":
    """Give the items on which forests are trained again some hundred times, and whether they are a sample of all."""
    most = settings.evaluation.retrain_items
    forests = [name for name in names if BY_NAME[name].model == "forest"] if most else []
    loaded = {name: load_items(warehouse, BY_NAME[name], settings.training) for name in forests}
    return {name: (subsample(items, most), len(items) > most) for name, items in loaded.items()}


def trainer(name: str, items: "Items", settings: Settings, trees: int = TREES) -> "FitPredict":
    """Give a function that trains an experiment's folds on given levels and splits, and predicts who is left out."""

    def train(levels: Mapping[str, str], splits: Mapping[str, int]) -> arrow.Table:
        own = relabel(BY_NAME[name], items, levels)
        return cross_validate(BY_NAME[name], own, splits, settings.training, trees)

    return train


def seeded_trainer(
    name: str, items: "Items", warehouse: Warehouse, settings: Settings
) -> Callable[[int], arrow.Table]:
    """Give a function that assigns the splits anew by a seed and then trains and predicts."""
    patients = trainable_patients(warehouse, settings.training)

    def train(seed: int) -> arrow.Table:
        cohort = assign_splits(patients, settings.training.folds, seed).to_pydict()
        splits = dict(zip(cohort["patient_id"], cohort["split"], strict=True))
        return cross_validate(BY_NAME[name], items, splits, settings.training)

    return train
