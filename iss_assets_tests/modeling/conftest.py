from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.resnet import Bottleneck, ResNet

from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.items import SCORE_COLUMNS, Items, make_items
from iss_assets.protocol import terms
from iss_assets.schemas.audio import AUDIO_FEATURES, AudioFeatures, MelSpectrograms
from iss_assets.schemas.base import Table
from iss_assets.schemas.behavior import BEHAVIOR_MEASURES, FaceBehavior, FaceBehaviorSummary
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.registry import TABLES
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.schemas.voice import VOICE_FEATURES, VoiceFeatures
from iss_assets.schemas.words import TEXT_MEASURES, TextFeatures
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.times import time_columns

LEVELS = ("None", "Severe", "Low", "Moderate")
SIDE = 32
"""Side of the crops in the small study."""


def planted_items(
    experiment: Experiment, patients: int = 4, each: int = 12, side: int = 32, seed: int = 0
) -> Items:
    """Items whose inputs all depend on the level; patients cycle through None, Severe, Low, Moderate."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), each)
    rank = np.array([0, 3, 1, 2])[owner % 4]
    pain = (rank > 0).astype(np.float32)
    n = len(owner)
    faces = rng.integers(60, 120, (n, side, side, 3)).astype(np.uint8)
    faces[:, : side // 2] += np.array([0, 60, 95, 130], np.uint8)[rank][:, None, None, None]
    scores = rng.integers(0, 3, (n, len(SCORE_COLUMNS))).astype(np.float32)
    scores[:, :9] += 5 * pain[:, None]
    scores[:, 9:] = 0
    features = rng.normal(size=(n, 25)).astype(np.float32)
    features[:, 3] += 4 * pain
    mel = rng.uniform(-80, -60, (n, 128, 24)).astype(
        np.float32
    )  # a tenth of 4 s: the network takes any length
    mel[:, :64] += 50 * pain[:, None, None]
    values = {
        "faces": faces,
        "landmarks": (rng.uniform(0.2, 0.4, (n, 1404)) + 0.4 * pain[:, None]).astype(np.float32),
        "scores": scores,
        "mel": mel,
        "audio_features": features,
        "embeddings": (rng.normal(size=(n, 64)) + 2 * pain[:, None]).astype(np.float32),
        "voice": (rng.normal(size=(n, len(VOICE_FEATURES))) + 2 * pain[:, None]).astype(np.float32),
        "text": (rng.normal(size=(n, len(TEXT_MEASURES))) + 2 * pain[:, None]).astype(np.float32),
        "behavior": (rng.normal(size=(n, len(BEHAVIOR_MEASURES))) + 2 * pain[:, None]).astype(np.float32),
    }
    numbers = np.tile(np.arange(each), patients)
    return make_items(
        experiment,
        patient_id=[f"{p:04d}" for p in owner],
        video_id=[f"v{p}-{k // 6}" for p, k in zip(owner, numbers, strict=True)],
        level=[LEVELS[p % 4] for p in owner],
        inputs=values,
        frame_index=numbers if experiment.item == "frame" else None,
        chunk_index=numbers if experiment.item == "chunk" else None,
        weight=np.full(n, 7.0) if experiment.item == "submission" else None,
    )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run torch in one thread: on busy cores its threads would wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ResNet50 with one block per stage and a quarter of the width, for tests of the code around a network."""
    monkeypatch.setattr(
        "torchvision.models.resnet50",
        lambda weights=None: ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=16),
    )


def as_png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def crop(patient: int, frame: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), [patient * 20, frame * 10, 99], np.uint8)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients 0001 to 0006: complete; complete; no answers; unusable video; no submission; unknown quality."""
    made: dict[type[Table], list[dict[str, Any]]] = {t: [] for t in TABLES}
    for patient in range(1, 7):
        pid, target = f"{patient:04d}", (0, 2, 5, 9, 0, 8)[patient - 1]
        made[Patients].append(
            {"patient_id": pid, "cohort": terms.cohort_of(target, "V", "F"), "sex": "F", "skin_type": "V",
             "skin_group": "dark", "pain_target": target, "pain_level": terms.pain_level(target)}
        )  # fmt: skip
        if patient == 5:
            continue
        for video in (f"s{patient}b", f"s{patient}a"):
            key = {"video_id": video, "patient_id": pid, "fingerprint": "f" * 16}
            answered = patient != 3
            made[BpiScores].append(
                {"submission_id": video, "patient_id": pid, **time_columns(datetime(2021, 5, 1, 9, tzinfo=UTC)),
                 "missing_scores": 1 if answered else 9,
                 **({"pain_now": target, "chronic_pain": True, **dict.fromkeys(terms.INTERFERENCE_ITEMS, 3), "mood": None}
                    if answered else {})}
            )  # fmt: skip
            made[Videos].append(
                {**key, "file": video, "sha256": "0" * 64, "bytes": 1, "modified_ns": 1, "has_prompt": False, "status": "ok"}
            )  # fmt: skip
            if patient != 6:
                usable = patient != 4
                made[VideoQuality].append(
                    {**key, "frames": 6, "measures": "{}", "flags": [] if usable else ["dark"], "usable": usable,
                     "unusable_reason": None if usable else "dark"}
                )  # fmt: skip
            for frame in range(6):
                at = {**key, "frame_index": frame}
                made[Frames].append(
                    {**at, "time_s": frame / 10, "chunk_index": 0, "luminance": 0.5, "contrast": 0.1, "sharpness": 1,
                     "noise": 1, "glare": 0, "picture_hash": frame, "faces_seen": 1}
                )  # fmt: skip
                if frame == 5:  # no face in the last frame
                    continue
                box = {"x1": 0, "y1": 0, "x2": 9, "y2": 9, "probability": 1, "faces_seen": 1}
                made[Faces].append({**at, **box, "crop": as_png(crop(patient, frame))})
                found = frame != 4  # no mesh on the last face
                points = np.full(1404, patient + frame / 10) if found else None
                made[Landmarks].append({**at, "detected": found, "points": points})
                if found:
                    moment = {"time_s": frame / 10, "chunk_index": 0, "repeated": False, "facing": True}
                    made[FaceBehavior].append({**at, **moment, "yaw_deg": float(patient)})
            made[TextFeatures].append({**key, "words": 10 * patient, "pauses": 1})
            for chunk in (-1, 0):
                voice = {
                    "pause_count": patient,
                    "pause_total_s": 2.0 * patient + chunk,
                    "f0_median_hz": 99.0 + patient - chunk,
                }
                # nobody speaks in the second video of patient 2, and there is no sound at all in that of patient 3
                seen = {
                    "pictures": 6,
                    "measured": 4,
                    "facing": 4,
                    "seconds": 0.4,
                    "still_share": 0.1 * patient + 0.05 * (chunk + 1),
                }
                made[FaceBehaviorSummary].append({**key, "chunk_index": chunk, **seen})
                if video != "s3a":
                    made[VoiceFeatures].append(
                        {
                            **key,
                            "chunk_index": chunk,
                            "speech_s": 0.0,
                            "voiced_s": 0.0,
                            **(voice if video != "s2b" else {}),
                        }
                    )
            for chunk, steps in ((-1, 0), (0, 173), (1, 173), (2, 60)):
                features = {name: float(place + chunk) for place, name in enumerate(AUDIO_FEATURES)}
                made[AudioFeatures].append(
                    {**key, "chunk_index": chunk, **features, "zero_crossing_rate": 0.5}
                )
                if chunk >= 0:
                    mel = np.full((128, steps), -10.0 * chunk) + np.arange(128)[:, None] / 100
                    made[MelSpectrograms].append(
                        {**key, "chunk_index": chunk, "steps": steps, "mel": mel.tolist()}
                    )
    warehouse = Warehouse(tmp_path_factory.mktemp("study") / "warehouse.duckdb")
    for table, rows in made.items():
        shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
        warehouse.replace(table, table.from_rows(shuffled), where={})
    return warehouse.path


@pytest.fixture
def study(made_once: Path, tmp_path: Path) -> Warehouse:
    return Warehouse(Warehouse(made_once).snapshot(tmp_path / "warehouse.duckdb"))
