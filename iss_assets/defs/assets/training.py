"""Cross-validation and the experiments of the paper's section 4.

Who is tested in which split, one model per experiment and split, and what it predicts for the patients left out.
How a model learns is decided in ``modeling``.

A fold is fitted again only when its training data, its settings, or the code changed; new data of the patients left
out only require new predictions.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as arrow

from iss_assets.datasets.items import load_crops, trainable_patients, without_consent
from iss_assets.defs.assets.common import describe, metadata_key, result
from iss_assets.defs.assets.fold_work import fit_experiment
from iss_assets.defs.partitions import fold_partitions, patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.modeling.embeddings import EMBEDDING_CODE_VERSION, embed_faces, embedding_side
from iss_assets.modeling.experiments import (
    ATTENTION_CODE_VERSION,
    BY_NAME,
    CODE_VERSION,
    FOREST_CODE_VERSION,
)
from iss_assets.modeling.folds import not_enrolled
from iss_assets.pipeline.staleness import embeddings_fingerprint, make_splits, split_file_of
from iss_assets.protocol.consent import left_out_words
from iss_assets.reports.charts import training_curves
from iss_assets.reports.gallery import MartFigure, as_markdown
from iss_assets.schemas.modeling import CvSplits, Embeddings, FoldModels, FramePredictions, VideoAttention
from iss_assets.warehouse.database import Replacement
from iss_assets.warehouse.ledger import STUDY, fingerprint, ledger_entry

GROUP = "experiments"
VERSIONS = f"{CODE_VERSION}, forests {FOREST_CODE_VERSION}, attention {ATTENTION_CODE_VERSION}"
SPLITS_CODE_VERSION = "1"
"""Raised when the same patients are assigned to different splits."""


@dg.asset(
    **describe(
        CvSplits,
        "Whole patients, stratified by pain level, seeded; a patient keeps the split once assigned.",
        group=GROUP,
        kinds={"python", "duckdb"},
    ),
    deps=["patients", "consent", "video_quality"],
    code_version=SPLITS_CODE_VERSION,
)
def cv_splits(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Assign every patient who can be trained on to the split in which they are tested."""
    rows, table_fingerprint = make_splits(warehouse.warehouse(), warehouse.settings())
    named = split_file_of(warehouse.settings())
    warehouse.warehouse().replace_all(
        [Replacement(CvSplits, rows, {}), ledger_entry(STUDY, CvSplits, table_fingerprint, rows.num_rows)]
    )
    missing = without_consent(warehouse.warehouse())
    if missing:
        context.log.warning(left_out_words(missing))
    sizes = rows.group_by("split").aggregate([("patient_id", "count")]).sort_by("split")
    return result(
        CvSplits,
        rows.num_rows,
        rows["cohort_hash"][0].as_py(),
        {
            "patients_per_split": dg.MetadataValue.json(sizes["patient_id_count"].to_pylist()),
            "left_out_for_want_of_consent": missing,
            "in_split_file_but_not_enrolled": not_enrolled(named, trainable(warehouse)) if named else [],
        },
    )


def trainable(resource: WarehouseResource) -> list[Any]:
    """Return the patients of the cross-validation."""
    return trainable_patients(resource.warehouse(), resource.settings().training)


@dg.asset(
    **describe(
        Embeddings,
        "A frozen pretrained network embeds each face once; a new patient costs nothing for the others.",
        group=GROUP,
        kinds={"torch", "duckdb"},
    ),
    partitions_def=patients_partitions,
    deps=["faces", "consent", "video_quality"],
    code_version=EMBEDDING_CODE_VERSION,
    pool="gpu",
)
def embeddings(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Embed one patient's faces."""
    patient, training = context.partition_key, warehouse.settings().training
    keys, crops = load_crops(warehouse.warehouse(), training, patient, embedding_side(training))
    table_fingerprint = embeddings_fingerprint(warehouse.warehouse(), warehouse.settings(), patient)
    embedded = embed_faces(crops, training)
    rows = Embeddings.arrow_schema().empty_table()
    if keys.num_rows:
        flat = arrow.array(embedded.vectors.reshape(-1))
        columns = {
            "video_id": keys["video_id"],
            "patient_id": arrow.repeat(patient, keys.num_rows),
            "frame_index": keys["frame_index"],
            "embedding": arrow.FixedSizeListArray.from_arrays(flat, embedded.vectors.shape[1]),
            "weights_origin": arrow.repeat(embedded.weights_origin, keys.num_rows),
            "fingerprint": arrow.repeat(table_fingerprint, keys.num_rows),
        }
        rows = arrow.table(columns).select(rows.schema.names).cast(rows.schema)
    warehouse.warehouse().replace_all(
        [
            Replacement(Embeddings, rows, {"patient_id": patient}),
            ledger_entry(patient, Embeddings, table_fingerprint, rows.num_rows),
        ]
    )
    return result(
        Embeddings,
        rows.num_rows,
        table_fingerprint,
        {"weights": embedded.weights_origin if keys.num_rows else "none"},
    )


@dg.multi_asset(
    name="train_folds",
    specs=[
        dg.AssetSpec(
            **describe(
                FoldModels,
                "Weights are stored in the home next to the warehouse, as safetensors; this row records how they were made.",
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
            code_version=VERSIONS,
        ),
        dg.AssetSpec(
            **describe(
                FramePredictions,
                "Only of patients on whom the model was not trained.",
                group=GROUP,
                kinds={"torch", "scikitlearn", "duckdb"},
            ),
            deps=["fold_models"],
            code_version=VERSIONS,
        ),
        dg.AssetSpec(
            **describe(
                VideoAttention,
                "Where in a narrative a model looked that was not trained on the patient; of the experiments on whole videos.",
                group=GROUP,
                kinds={"torch", "duckdb"},
            ),
            deps=["fold_models"],
            code_version=VERSIONS,
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
    counts = {"fold_models": 0, "frame_predictions": 0, "video_attention": 0}
    notes: dict[str, Any] = {}
    fingerprints: list[str] = []
    for name, splits in made.items():
        note = fit_experiment(context, warehouse, BY_NAME[name], sorted(splits))
        fingerprints += note.pop("fingerprints")
        counts["fold_models"] += note["fitted"] + note["kept"]
        counts["frame_predictions"] += note.pop("predictions")
        counts["video_attention"] += note.pop("attention")
        notes[name] = note
    for table in (FoldModels, FramePredictions, VideoAttention):
        yield result(
            table,
            counts[table.__table__],
            fingerprint(fingerprints),
            {
                "experiments": dg.MetadataValue.json(notes),
                **(curves(warehouse, made) if table is FoldModels else {}),
            },
        )


def curves(resource: WarehouseResource, made: Mapping[str, Sequence[int]]) -> dict[str, dg.MetadataValue]:
    """Return, for each network, the curves of loss and accuracy over the epochs of its folds."""
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
            caption = f"training of {name}"
            drawn[metadata_key(caption)] = dg.MetadataValue.md(
                as_markdown(MartFigure(caption, training_curves(epochs)))
            )
    return drawn


def split_key(key: str) -> dict[str, str]:
    """Split a key ``experiment|split`` into its dimensions."""
    experiment, split = key.split("|")
    return {"experiment": experiment, "split": split}
