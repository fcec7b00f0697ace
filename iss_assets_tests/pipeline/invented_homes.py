"""Homes of invented studies with answers and trained forests, as `iss run` and `iss train` leave them, without a video."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from iss_assets.datasets.items import load_items
from iss_assets.defs.assets.fold_work import Fold, fold_row
from iss_assets.modeling.experiments import BY_NAME
from iss_assets.modeling.fitting import fit_fold
from iss_assets.modeling.folds import sides, splits_in
from iss_assets.pipeline.staleness import make_splits
from iss_assets.protocol import terms
from iss_assets.schemas.audio import AUDIO_FEATURES, AudioFeatures
from iss_assets.schemas.base import Table
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.modeling import CvSplits, FoldModels
from iss_assets.schemas.operations import Extractions
from iss_assets.schemas.registry import TABLES
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
from iss_assets.schemas.visual import Frames
from iss_assets.settings import FaceSettings, Settings
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import code_versions, ledger_rows, video_fingerprints
from iss_assets_tests.times import time_columns

EXPERIMENT = BY_NAME["forest_pain"]
VISITS = 3


def fill_home(
    settings: Settings, ids: Sequence[str], seed: int, *, flipped: bool = False, shares: bool = True
) -> Warehouse:
    """Fill a home with patients whose answers tell their pain level.

    Parameters
    ----------
    settings : Settings
        Where the home is, and the settings that its rows are made with.
    ids : sequence of str
        The patients; every second one is free of pain.
    seed : int
        Other answers and files for another seed.
    flipped : bool
        Whether high answers mean no pain, as if the form was read the other way round: then nothing carries over.
    shares : bool
        Whether answers tell anything.
    """
    random, heard = np.random.default_rng(seed), np.random.default_rng([seed, 25])
    made: dict[type[Table], list[dict[str, Any]]] = {t: [] for t in TABLES}
    versions = code_versions(settings)
    written: list[tuple[str, str, str, str, int]] = []
    for number, patient in enumerate(ids):
        target = (0, 8, 0, 5)[number % 4]
        sex, skin = ("F", "M")[number // 2 % 2], ("II", "V")[number // 4 % 2]
        made[Patients].append(
            {"patient_id": patient, "cohort": terms.cohort_of(target, skin, sex), "sex": sex, "skin_type": skin,
             "skin_group": terms.skin_group(skin), "pain_target": target, "pain_level": terms.pain_level(target)}
        )  # fmt: skip
        for visit in range(VISITS):
            video = f"{patient}-{seed}-{visit}"
            sha = hashlib.sha256(video.encode()).hexdigest()
            key = {"video_id": video, "patient_id": patient, "fingerprint": "f" * 16}
            high = ((target > 0) != flipped) if shares else bool(random.integers(2))
            answers = {
                s: int(random.integers(6, 10) if high else random.integers(0, 3)) for s in terms.SCORES
            }
            at = datetime(2021, 5, 1, 9, tzinfo=UTC) + timedelta(days=3 * visit)
            made[BpiScores].append(
                {"submission_id": video, "patient_id": patient, **time_columns(at), "missing_scores": 0,
                 **answers, "chronic_pain": high}
            )  # fmt: skip
            made[Videos].append(
                {**key, "file": f"{video}.mp4", "sha256": sha, "bytes": 1, "modified_ns": 1, "has_prompt": False,
                 "status": "ok"}
            )  # fmt: skip
            made[VideoQuality].append(
                {**key, "frames": 2, "measures": "{}", "flags": [], "usable": True, "unusable_reason": None}
            )
            for frame in range(2):
                made[Frames].append(
                    {**key, "frame_index": frame, "time_s": frame / 10, "chunk_index": 0, "luminance": 0.5, "contrast": 0.1,
                     "sharpness": 1, "noise": 1, "glare": 0, "picture_hash": frame, "faces_seen": 1}
                )  # fmt: skip
            # the first measure of the sound goes along with the day's answer, the others say nothing
            sound = dict(zip(AUDIO_FEATURES, heard.uniform(0, 1, len(AUDIO_FEATURES)), strict=True))
            sound["mfcc_1"] = answers["pain_now"] + heard.normal(0, 0.3)
            made[AudioFeatures].append({**key, "chunk_index": -1, **sound})
            for table, count in (("frames", 2), ("audio_features", 1)):
                written.append((patient, video, table, video_fingerprints(sha, versions)[table], count))
    store = Warehouse(settings.warehouse_path, settings.warehouse)
    store.replace_all([Replacement(table, table.from_rows(rows), {}) for table, rows in made.items() if rows])
    store.replace_all([Replacement(Extractions, ledger_rows(written), {})])
    if settings.study.exists():
        _write_videos(settings)
    return store


def _write_videos(settings: Settings) -> None:
    """Write a file of the right size for each video in the home: by them a study is known as the home's."""
    store = Warehouse(settings.warehouse_path, settings.warehouse)
    for row in store.query("select patient_id, video_id, bytes from videos").to_pylist():
        file = settings.study / "videos" / row["patient_id"] / f"{row['video_id']}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * row["bytes"])


def train(settings: Settings) -> None:
    """Train the forest on the answers, as `iss train forest_pain` does."""
    store = Warehouse(settings.warehouse_path, settings.warehouse)
    splits, _ = make_splits(store, settings)
    items = load_items(store, EXPERIMENT, settings.training, FaceSettings())
    rows = []
    for split in splits_in(splits):
        learned, tested = sides(splits, split)
        folder = settings.models_dir / EXPERIMENT.name / f"{split:02d}"
        fitted = fit_fold(EXPERIMENT, items.of(learned), settings.training, folder)
        fold = Fold(split, learned, tested, {"fold_models": "d" * 16}, folder, True)
        rows.append(fold_row(EXPERIMENT, fold, fitted, splits["cohort_hash"][0].as_py()))
    store.replace_all(
        [Replacement(CvSplits, splits, {}), Replacement(FoldModels, FoldModels.from_rows(rows), {})]
    )


def write_folder(settings: Settings, ids: Sequence[str]) -> None:
    """Write a study folder in which these patients are enrolled, with a file for each video in the home."""
    study = settings.study
    (study / "videos").mkdir(parents=True)
    _write_videos(settings)
    people = [
        f"{p},{terms.cohort_of((0, 8, 0, 5)[n % 4], 'II', 'F')},F,II,{(0, 8, 0, 5)[n % 4]},2021-01-04,-05:00"
        for n, p in enumerate(ids)
    ]
    (study / "enrollment.csv").write_text(
        "\n".join(["patient_id,cohort,sex,skin_type,pain_target,enrolled_on,utc_offset", *people, ""])
    )
    (study / "surveys.csv").write_text(
        "submission_id,patient_id,submitted_at,setting,pain_now,chronic_pain,general_activity,mood,walking_ability,"
        "normal_work,relationships,sleep,enjoyment_of_life\n"
    )
