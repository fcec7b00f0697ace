"""Measure the evaluation of 29 invented patients in the demo profile, part by part.

    python -m benchmarks.evaluation [--folds 10] [--profile demo]

The study has the paper's cohort. Faces and scores are noise around a value for each patient, and predictions of the
networks are random; forests are trained. ``make_study`` fills a warehouse like `iss run` and `iss train`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from iss_assets.datasets.items import load_items
from iss_assets.defs.assets.evaluation import evaluation_inputs
from iss_assets.evaluation.accuracy import patient_accuracy
from iss_assets.evaluation.frames import as_frame
from iss_assets.evaluation.study import evaluate_study
from iss_assets.modeling.experiments import BY_NAME
from iss_assets.modeling.fitting import fit_fold, predict_fold
from iss_assets.modeling.folds import PatientLevel, assign_splits, sides, splits_in
from iss_assets.schemas.audio import AUDIO_FEATURES, AudioFeatures
from iss_assets.schemas.evaluation import PatientAccuracy
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.modeling import CvSplits, FoldModels, FramePredictions
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.settings import EvaluationSettings, FaceSettings, Settings, TrainingSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.evaluation import invented

NETWORKS = {
    "resnet50_4_static": 4,
    "resnet50_2_static": 2,
    "fusion_1": 2,
    "fusion_2": 2,
    "fusion_3": 2,
    "audio_static": 2,
    "embedding_probe": 2,
}
FORESTS = ("forest_landmarks", "forest_pain")


def make_study(settings: Settings, videos: int = 6, meshes: int = 8, seed: int = 0) -> None:
    """Fill a warehouse with 29 invented patients, `videos` per patient and `meshes` per video."""
    rng = np.random.default_rng(seed)
    people = invented.patients()
    clips = invented.videos(people, each=videos)
    store = Warehouse(settings.warehouse_path, settings.warehouse)
    store.replace(Patients, people, {})
    store.replace(BpiScores, invented.bpi_scores(people, each=videos), {})
    store.replace(Videos, clips, {})
    store.replace(VideoQuality, invented.video_quality(people, clips), {})
    own = {p: rng.normal(0, 0.03, 1404) for p in people["patient_id"].to_pylist()}
    frames: list[dict[str, object]] = []
    faces: list[dict[str, object]] = []
    points: list[dict[str, object]] = []
    for clip in clips.to_pylist():
        if clip["status"] != "ok":
            continue
        for index in range(meshes):
            key = {"video_id": clip["video_id"], "patient_id": clip["patient_id"], "frame_index": index}
            frames.append(
                {
                    **key,
                    "time_s": index / 10,
                    "chunk_index": 0,
                    "luminance": 0.5,
                    "contrast": 0.2,
                    "sharpness": 100.0,
                    "noise": 2.0,
                    "glare": 0.0,
                    "picture_hash": len(frames),
                    "faces_seen": 1,
                    "fingerprint": "invented",
                }
            )
            box = {"x1": 0.0, "y1": 0.0, "x2": 160.0, "y2": 160.0, "probability": 0.99, "faces_seen": 1}
            faces.append({**key, **box, "crop": b"", "fingerprint": "invented"})
            points.append({**key, "detected": True, "fingerprint": "invented"})
    mesh = np.stack([own[row["patient_id"]] for row in points])
    mesh += rng.normal(0, 0.02, (len(points), 20)) @ rng.normal(0, 0.3, (20, 1404))
    mesh += rng.normal(0, 0.002, mesh.shape)
    flat = pa.array(mesh.astype(np.float32).ravel())
    rows = Landmarks.from_rows(points)
    rows = rows.set_column(
        rows.schema.get_field_index("points"), "points", pa.FixedSizeListArray.from_arrays(flat, 1404)
    )
    store.replace(Frames, Frames.from_rows(frames), {})
    store.replace(Faces, Faces.from_rows(faces), {})
    store.replace(Landmarks, rows, {})
    sound = [
        {
            "video_id": clip["video_id"],
            "patient_id": clip["patient_id"],
            "chunk_index": -1,
            **{
                name: 0.1 if name == "zero_crossing_rate" else float(rng.normal(1500, 200))
                for name in AUDIO_FEATURES
            },
            "fingerprint": "invented",
        }
        for clip in clips.to_pylist()
        if clip["status"] == "ok"
    ]
    store.replace(AudioFeatures, AudioFeatures.from_rows(sound), {})
    levels = [PatientLevel(p["patient_id"], p["pain_level"]) for p in people.to_pylist()]
    cohort = assign_splits(levels, settings.training.folds, settings.training.split_seed)
    store.replace(CvSplits, cohort, {})
    models = invented.fold_models([*NETWORKS, *FORESTS], cohort, settings.training.profile)
    place = models.schema.get_field_index("cohort_hash")
    models = models.set_column(place, "cohort_hash", pa.repeat(cohort["cohort_hash"][0], len(models)))
    store.replace(FoldModels, models, {})
    predictions = [invented.predictions(NETWORKS, cohort, seed)]
    with tempfile.TemporaryDirectory() as scratch:
        for name in FORESTS:
            items = load_items(store, BY_NAME[name], settings.training, FaceSettings())
            for split in splits_in(cohort):
                train, test = sides(cohort, split)
                fold = fit_fold(BY_NAME[name], items.of(train), settings.training, Path(scratch))
                made = predict_fold(BY_NAME[name], fold, items.of(test), settings.training)
                made = made.append_column("split", pa.repeat(pa.scalar(split, pa.int32()), len(made)))
                predictions.append(made.select(predictions[0].schema.names))
    whole = pa.concat_tables(predictions)
    store.replace(FramePredictions, whole, {})
    accuracy = patient_accuracy(whole, cohort, models)
    assert len(as_frame(accuracy)) > 0
    store.replace(PatientAccuracy, accuracy, {})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folds", type=int, default=10, help="splits of the cross-validation")
    parser.add_argument("--profile", default="demo", help="demo or paper")
    parser.add_argument("--meshes", type=int, default=8, help="meshes per video")
    parser.add_argument("--tiny", action="store_true", help="a few small forests, to check correctness")
    given = parser.parse_args(arguments)
    evaluation = EvaluationSettings()
    if given.tiny:
        evaluation = EvaluationSettings(
            retrained_permutations=19, retrain_items=60, shuffle_repeats=3, stability_seeds=(1,)
        )
    training = TrainingSettings(profile=given.profile, folds=4 if given.tiny else given.folds)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), training=training, evaluation=evaluation)
        make_study(settings, meshes=given.meshes)
        store = Warehouse(settings.warehouse_path, settings.warehouse)
        began, cpu = time.perf_counter(), time.process_time()
        parts: dict[str, tuple[float, float]] = {}

        def report(done: int, of: int, what: str) -> None:
            part = re.sub(r"(permutation|shuffled labels|other splits|p = ).*", r"\1", what).removesuffix(
                ": p = "
            )
            parts[part] = time.perf_counter() - began, time.process_time() - cpu

        found = evaluate_study(evaluation_inputs(store, settings, retrain=True), settings.evaluation, report)
        parts["intervals, baselines, differences, subgroups"] = (
            time.perf_counter() - began,
            time.process_time() - cpu,
        )
        before = (0.0, 0.0)
        print("| part | seconds | processor seconds |\n|---|---|---|")
        for part, now in parts.items():
            print(f"| {part} | {now[0] - before[0]:.1f} | {now[1] - before[1]:.1f} |")
            before = now
        print(f"| the whole evaluation | {before[0]:.1f} | {before[1]:.1f} |\n")
        for row in found["permutation_results"].to_pylist():
            if row["method"] != "fixed predictions":
                print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
