"""Invented tables of a whole study with the paper's cohort; no real patients or measurements."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from iss_assets.protocol import published, terms
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.modeling import CvSplits, FoldModels, FramePredictions
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
from iss_assets_tests.times import time_columns

LOWEST_TARGET = {"None": 0, "Low": 1, "Moderate": 4, "Severe": 7}
HASH = "0" * 64


def patients() -> pa.Table:
    """Return the paper's 29 patients by cohort (Table 2), with invented ids."""
    rows: list[dict[str, object]] = []
    for cohort in terms.COHORTS:
        for _ in range(published.analyzed_by_cohort()[cohort.number]):
            rows.append(
                {
                    "patient_id": f"{len(rows) + 1:04d}",
                    "cohort": cohort.number,
                    "sex": cohort.sex,
                    "skin_type": "II" if cohort.skin_group == "light" else "V",
                    "skin_group": cohort.skin_group,
                    "pain_target": LOWEST_TARGET[cohort.pain_level],
                    "pain_level": cohort.pain_level,
                    "enrolled_on": date(2021, 1, 4) + timedelta(days=len(rows)),
                    "utc_offset_minutes": -300,
                }
            )
    return Patients.from_rows(rows)


def splits(people: pa.Table, folds: int = 10) -> pa.Table:
    """Distribute patients over splits in the order of their levels."""
    rows = sorted(people.to_pylist(), key=lambda r: (r["pain_target"], r["patient_id"]))
    return CvSplits.from_rows(
        [
            {
                "patient_id": r["patient_id"],
                "split": i % folds + 1,
                "pain_level": r["pain_level"],
                "source": "seed",
                "cohort_hash": "c0ffee",
            }
            for i, r in enumerate(rows)
        ]
    )


def fold_models(
    experiments: list[str], cv: pa.Table, profile: str = "demo", weights_origin: str = "random"
) -> pa.Table:
    place = dict(zip(cv["patient_id"].to_pylist(), cv["split"].to_pylist(), strict=True))
    rows = []
    for experiment in experiments:
        for split in sorted(set(place.values())):
            rows.append(
                {
                    "experiment": experiment,
                    "split": split,
                    "trained_at": datetime(2026, 1, 5, 9, tzinfo=UTC),
                    "train_patients": sorted(p for p, s in place.items() if s != split),
                    "test_patients": sorted(p for p, s in place.items() if s == split),
                    "train_items": 1000,
                    "settings": json.dumps({"epochs": 10, "batch_size": 16, "learning_rate": 1e-4}),
                    "profile": profile,
                    "seed": 0,
                    "weights_origin": "none" if experiment.startswith("forest") else weights_origin,
                    "weights": None,
                    "history": None,
                    "cohort_hash": "c0ffee",
                    "data_hash": "da7a",
                    "code_version": "1",
                }
            )
    return FoldModels.from_rows(rows)


def predictions(
    experiments: dict[str, int], cv: pa.Table, seed: int = 0, signal: float = 0.3, items: int = 12
) -> pa.Table:
    """Item predictions of a model with a weak signal and large differences between patients."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, (experiment, classes) in enumerate(experiments.items()):
        names = terms.PAIN_LEVELS if classes == 4 else terms.PAIN_CLASSES
        for person in cv.to_pylist():
            level = person["pain_level"]
            target = level if classes == 4 else terms.pain_class(level)
            skill = 1 / (1 + np.exp(-(rng.normal(signal * (1 + number % 3), 1.6) - (classes == 4))))
            for item in range(items):
                right = rng.random() < skill
                others = [n for n in names if n != target]
                predicted = target if right else str(rng.choice(others))
                probability = float(rng.uniform(0.5, 0.95))
                rows.append(
                    {
                        "experiment": experiment,
                        "split": person["split"],
                        "patient_id": person["patient_id"],
                        "video_id": f"s{person['patient_id']}-{item // 4}",
                        "frame_index": item,
                        "chunk_index": None,
                        "target": target,
                        "predicted": predicted,
                        "probability": probability,
                        "pain_probability": probability
                        if predicted not in ("None", "No Pain")
                        else 1 - probability,
                        "weight": 1.0,
                    }
                )
    return FramePredictions.from_rows(rows)


def bpi_scores(
    people: pa.Table, each: int = 6, without: tuple[str, ...] = ("0015",), seed: int = 1
) -> pa.Table:
    rng = np.random.default_rng(seed)
    rows = []
    for person in people.to_pylist():
        for n in range(each):
            at = datetime(2021, 2, 1, int(rng.integers(5, 23)), 15, tzinfo=UTC) + timedelta(days=2 * n)
            scores: dict[str, object] = {
                s: int(np.clip(round(rng.normal(person["pain_target"] * 0.7 + 1, 1.5)), 0, 10))
                for s in terms.SCORES
                if s != "chronic_pain"
            }
            scores["chronic_pain"] = bool(person["pain_target"] > 0)
            missing = person["patient_id"] in without
            rows.append(
                {
                    "submission_id": f"s{person['patient_id']}-{n}",
                    "patient_id": person["patient_id"],
                    **time_columns(at, -300),
                    "setting": "home",
                    **({} if missing else scores),
                    "missing_scores": 9 if missing else 0,
                }
            )
    return BpiScores.from_rows(rows)


def videos(people: pa.Table, each: int = 6) -> pa.Table:
    rows: list[dict[str, object]] = []
    for person in people.to_pylist():
        for n in range(each):
            name = f"s{person['patient_id']}-{n}"
            broken = name == "s0003-2"
            rows.append(
                {
                    "video_id": name,
                    "patient_id": person["patient_id"],
                    "file": f"videos/{person['patient_id']}/{name}.mp4",
                    "sha256": f"{len(rows):064x}",
                    "bytes": 1_000_000,
                    "modified_ns": 1,
                    "container": "mov,mp4",
                    "codec": None if broken else "h264",
                    "width": None if broken else 720,
                    "height": None if broken else 1280,
                    "rotation": 0,
                    "source_fps": 30.0,
                    "duration_s": None if broken else 37.0,
                    "has_audio": True,
                    "audio_codec": "aac",
                    "has_prompt": False,
                    "status": "unreadable" if broken else "ok",
                    "problem": "the file cannot be opened" if broken else None,
                }
            )
    return Videos.from_rows(rows)


def video_quality(people: pa.Table, clips: pa.Table, seed: int = 2) -> pa.Table:
    rng = np.random.default_rng(seed)
    rows = []
    for clip in clips.to_pylist():
        readable = clip["status"] == "ok"
        dark = clip["patient_id"] in ("0007", "0021")
        measures = {
            "luminance": float(rng.normal(0.2 if dark else 0.5, 0.05)),
            "noise": float(abs(rng.normal(4 if dark else 2, 0.5))),
            "snr_db": float(rng.normal(18, 5)),
            "has_audio": True,
        }
        rows.append(
            {
                "video_id": clip["video_id"],
                "patient_id": clip["patient_id"],
                "frames": 370 if readable else 0,
                "face_rate": float(rng.uniform(0.85, 1)) if readable else None,
                "landmark_rate": float(rng.uniform(0.93, 1)) if readable else None,
                "measures": json.dumps(measures if readable else {}),
                "flags": (["dark", "grainy"] if dark else []) if readable else ["unreadable"],
                "usable": readable,
                "unusable_reason": None if readable else "unreadable",
                "fingerprint": "f",
            }
        )
    return VideoQuality.from_rows(rows)
