"""Cross-validation and the experiments of the paper's section 4.

Belongs here: who is tested in which split, one model an experiment and split, and what it predicts for the patients
left out. Does not belong here: how a model learns (``modeling``), how predictions are judged (``evaluation``).

A fold is made again only when what it would learn from, its settings or the code has changed; new data of the
patients left out only make it predict again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as arrow

from iss_assets.assets.common import describe, result
from iss_assets.assets.fold_work import fit_experiment, fold_marks, place_of
from iss_assets.assets.study import STUDY, ledger_entry
from iss_assets.modeling.experiments import (
    BY_NAME,
    CODE_VERSION,
    EXPERIMENTS,
    FOREST_CODE_VERSION,
    Experiment,
)
from iss_assets.partitions import MAX_SPLITS, fold_partitions, patients_partitions
from iss_assets.resources import WarehouseResource
from iss_assets.settings import Settings
from iss_assets.warehouse import tables
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import fingerprint, ledger

GROUP = "experiments"


@dg.asset(
    **describe(
        tables.CvSplits,
        "Whole patients, stratified by pain level, seeded; a patient keeps the split once given.",
        group=GROUP,
        kinds={"python", "duckdb"},
    ),
    deps=["patients", "video_quality"],
)
def cv_splits(warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Assign every patient who can be trained on to the split in which they are tested."""
    from iss_assets.modeling.folds import not_enrolled

    rows, mark = make_splits(warehouse.warehouse(), warehouse.settings())
    named = split_file_of(warehouse.settings())
    warehouse.warehouse().replace_all(
        [Replacement(tables.CvSplits, rows, {}), ledger_entry(STUDY, tables.CvSplits, mark, rows.num_rows)]
    )
    sizes = rows.group_by("split").aggregate([("patient_id", "count")]).sort_by("split")
    return result(
        tables.CvSplits,
        rows.num_rows,
        rows["cohort_hash"][0].as_py(),
        {
            "patients per split": dg.MetadataValue.json(sizes["patient_id_count"].to_pylist()),
            "in the split file but not in the study": not_enrolled(named, trainable(warehouse))
            if named
            else [],
        },
    )


def trainable(resource: WarehouseResource) -> list[Any]:
    """Give the patients whom the cross-validation is over."""
    from iss_assets.warehouse.items import trainable_patients

    return trainable_patients(resource.warehouse(), resource.settings().training)


def split_file_of(settings: Settings) -> dict[str, int] | None:
    """Read the explicit split file, if one is set."""
    from iss_assets.modeling.folds import read_split_file

    path = settings.training.split_file
    return None if path is None else read_split_file(path)


def make_splits(warehouse: Warehouse, settings: Settings) -> tuple[arrow.Table, str]:
    """Give the rows of ``cv_splits`` as they should be now, and their mark in the ledger."""
    from iss_assets.modeling.folds import SplitFileError, assign_splits
    from iss_assets.warehouse.items import trainable_patients

    named = split_file_of(settings)
    if named and max(named.values()) > MAX_SPLITS:
        raise SplitFileError(
            f"the split file names split {max(named.values())}, and there are {MAX_SPLITS}: number the splits from 1 "
            "on, or set ISS_TRAINING__FOLDS to as many"
        )
    rows = assign_splits(
        trainable_patients(warehouse, settings.training),
        settings.training.folds,
        settings.training.split_seed,
        warehouse.query("select * from cv_splits"),
        named,
    )
    return rows, fingerprint(
        rows["cohort_hash"][0].as_py(), settings.training.folds, settings.training.split_seed
    )


@dg.asset(
    **describe(
        tables.Embeddings,
        "A frozen ResNet50 looks at each face once; new patients cost only themselves.",
        group=GROUP,
        kinds={"torch", "duckdb"},
    ),
    partitions_def=patients_partitions,
    deps=["faces", "video_quality"],
    pool="gpu",
)
def embeddings(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Embed one patient's faces."""
    from iss_assets.modeling.embeddings import embed_faces
    from iss_assets.warehouse.items import load_crops

    patient, training = context.partition_key, warehouse.settings().training
    keys, crops = load_crops(warehouse.warehouse(), training, patient)
    mark = embeddings_mark(warehouse.warehouse(), warehouse.settings(), patient)
    embedded = embed_faces(crops, training)
    rows = tables.Embeddings.arrow_schema().empty_table()
    if keys.num_rows:
        flat = arrow.array(embedded.vectors.reshape(-1))
        columns = {
            "video_id": keys["video_id"],
            "patient_id": arrow.repeat(patient, keys.num_rows),
            "frame_index": keys["frame_index"],
            "embedding": arrow.FixedSizeListArray.from_arrays(flat, embedded.vectors.shape[1]),
            "weights_origin": arrow.repeat(embedded.weights_origin, keys.num_rows),
            "fingerprint": arrow.repeat(mark, keys.num_rows),
        }
        rows = arrow.table(columns).select(rows.schema.names).cast(rows.schema)
    warehouse.warehouse().replace_all(
        [
            Replacement(tables.Embeddings, rows, {"patient_id": patient}),
            ledger_entry(patient, tables.Embeddings, mark, rows.num_rows),
        ]
    )
    return result(
        tables.Embeddings,
        rows.num_rows,
        mark,
        {"weights": embedded.weights_origin if keys.num_rows else "none"},
    )


def embeddings_mark(warehouse: Warehouse, settings: Settings, patient: str) -> str:
    """Give the fingerprint that a patient's embeddings have when they are current."""
    from iss_assets.modeling.weights import weights_mark
    from iss_assets.warehouse.items import data_hash

    training = settings.training
    first = weights_mark(training) + (f" {training.seed}" if training.initial_weights == "random" else "")
    used = (first, training.image_side, training.precision, CODE_VERSION)
    return fingerprint(used, data_hash(warehouse, BY_NAME["resnet50_2_static"], training, [patient]))


@dg.multi_asset(
    name="folds",
    specs=[
        dg.AssetSpec(
            **describe(
                tables.FoldModels,
                "Weights lie in the home beside the warehouse, in safetensors; this row says how they came about.",
                group=GROUP,
                kinds={"torch", "scikitlearn", "duckdb"},
            ),
            deps=[
                "cv_splits",
                *(
                    dg.AssetDep(table, partition_mapping=dg.AllPartitionMapping())
                    for table in (
                        "bpi_scores",
                        "faces",
                        "landmarks",
                        "mel_spectrograms",
                        "audio_features",
                        "embeddings",
                    )
                ),
            ],
            code_version=f"{CODE_VERSION}, forests {FOREST_CODE_VERSION}",
        ),
        dg.AssetSpec(
            **describe(
                tables.FramePredictions,
                "Only of patients whom the model has not seen.",
                group=GROUP,
                kinds={"torch", "scikitlearn", "duckdb"},
            ),
            deps=["fold_models"],
            code_version=f"{CODE_VERSION}, forests {FOREST_CODE_VERSION}",
        ),
    ],
    partitions_def=fold_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="gpu",
)
def folds(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> Iterator[dg.MaterializeResult]:
    """Fit the models of the chosen experiments and splits, and predict the patients left out."""
    made: dict[str, list[int]] = {}
    for key in context.partition_keys:
        dimensions = key.keys_by_dimension if isinstance(key, dg.MultiPartitionKey) else split_key(key)
        made.setdefault(dimensions["experiment"], []).append(int(dimensions["split"]))
    counts = {"fold_models": 0, "frame_predictions": 0}
    notes: dict[str, Any] = {}
    marks: list[str] = []
    for name, splits in made.items():
        note = fit_experiment(context, warehouse, BY_NAME[name], sorted(splits))
        marks += note.pop("marks")
        counts["fold_models"] += note["fitted now"] + note["kept"]
        counts["frame_predictions"] += note.pop("predictions")
        notes[name] = note
    for table in (tables.FoldModels, tables.FramePredictions):
        yield result(
            table,
            counts[table.__table__],
            fingerprint(marks),
            {
                "experiments": dg.MetadataValue.json(notes),
                **(curves(warehouse, made) if table is tables.FoldModels else {}),
            },
        )


def curves(resource: WarehouseResource, made: Mapping[str, Sequence[int]]) -> dict[str, dg.MetadataValue]:
    """Give, for each network, how loss and accuracy went while its folds were learning."""
    from iss_assets.study_page.figures import training_curves
    from iss_assets.study_page.gallery import MartFigure, as_markdown

    drawn: dict[str, dg.MetadataValue] = {}
    for name, splits in made.items():
        rows = resource.warehouse().query(
            "select split, history from fold_models where experiment = ? and list_contains(?, split) order by split",
            [name, list(splits)],
        )
        epochs = [
            {"split": row["split"], **epoch}
            for row in rows.to_pylist()
            for epoch in json.loads(row["history"] or "[]")
            if "epoch" in epoch
        ]
        if epochs and BY_NAME[name].is_network:
            caption = f"learning of {name}"
            drawn[caption] = dg.MetadataValue.md(as_markdown(MartFigure(caption, training_curves(epochs))))
    return drawn


def split_key(key: str) -> dict[str, str]:
    """Take ``experiment|split`` apart."""
    experiment, split = key.split("|")
    return {"experiment": experiment, "split": split}


def stale_experiments(warehouse: Warehouse, settings: Settings, names: Sequence[str]) -> list[str]:
    """Give those experiments of which some fold is not current."""
    from iss_assets.modeling.folds import sides, splits_in

    cohort = warehouse.query("select * from cv_splits order by patient_id")
    held = ledger(warehouse, STUDY)
    models = warehouse.query("select experiment, split, cohort_hash from fold_models").to_pylist()
    wanted = {(split, cohort["cohort_hash"][0].as_py()) for split in splits_in(cohort)}

    def stale(experiment: Experiment) -> bool:
        # a fold too many counts too, and one whose row speaks of another cohort though its data are the same
        if {(m["split"], m["cohort_hash"]) for m in models if m["experiment"] == experiment.name} != wanted:
            return True
        for split in splits_in(cohort):
            marks = fold_marks(warehouse, settings.training, experiment, *sides(cohort, split))
            place = place_of(experiment.name, split)
            if any(held.get((STUDY, place, table)) != mark for table, mark in marks.items()):
                return True
        return False

    return [e.name for e in EXPERIMENTS if e.name in names and stale(e)]
