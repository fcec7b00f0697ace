"""A small invented study in a real warehouse: two patients in whom nothing is wrong, to be spoilt by each test."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as arrow
import pytest

from iss_assets.checks.findings import Finding
from iss_assets.checks.stages import STAGES
from iss_assets.defs.checks.factory import evaluate
from iss_assets.defs.resources import WarehouseResource
from iss_assets.protocol import terms
from iss_assets.schemas.audio import Audio
from iss_assets.schemas.base import Table
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.schemas.voice import VoiceFeatures
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.times import time_columns

GOOD, OTHER = "0001", "0002"
DAYS = (0, 2, 4, 7, 9, 11, 14, 16)
FRAMES = 160


def mesh(
    *, roll: float = 0.0, mirrored: bool = False, squeeze: float = 1.0, left: float = 0.0
) -> list[float]:
    """468 points with a face's proportions in the five that matter."""
    points = np.full((468, 3), 0.5)
    turn = np.radians(roll)
    for index, (x, y) in {
        33: (-0.25, -0.1),
        263: (0.25, -0.1),
        10: (0, -0.4),
        152: (0, 0.45),
        1: (0, 0.1),
    }.items():
        x = x * squeeze * (-1 if mirrored else 1)
        points[index, 0] = 0.5 - left + x * np.cos(turn) - y * np.sin(turn)
        points[index, 1] = 0.5 + x * np.sin(turn) + y * np.cos(turn)
    return [float(v) for v in points.ravel()]


class Failed(NamedTuple):
    """A check that failed."""

    name: str
    affected: tuple[str, ...]
    severity: str


@dataclass
class InventedStudy:
    """A warehouse to be spoilt with SQL, unchecked, as a bug or a hand could."""

    resource: WarehouseResource

    @property
    def warehouse(self) -> Warehouse:
        return self.resource.warehouse()

    def sql(self, *statements: str, params: list[Any] | None = None) -> None:
        with self.warehouse.write() as writer:
            for statement in statements:
                writer.execute(statement, params)

    def finding(self, asset: str, check: str, patient: str = GOOD) -> Finding:
        """Make one check."""
        stage = next(s for s in STAGES if any((c.asset, c.name) == (asset, check) for c in s.checks))
        subject = patient if stage.by_patient else "*"
        ((_, found),) = evaluate(stage, subject, self.resource, {(asset, check)}, print)
        return found

    def failing_with(self, patient: str = GOOD) -> list[Failed]:
        """Make every check of a patient and give those that fail, with what they concern."""
        return [
            Failed(check.name, found.affected, found.severity or check.severity)
            for stage in STAGES
            if stage.by_patient
            for check, found in evaluate(
                stage, patient, self.resource, {(c.asset, c.name) for c in stage.checks}, print
            )
            if not found.passed
        ]

    def failing(self, patient: str = GOOD, stages: tuple[str, ...] = ()) -> set[str]:
        """Make every check of a patient, or those of some stages, and give those that fail, as asset:check."""
        return {
            f"{check.asset}:{check.name}"
            for stage in STAGES
            if stage.by_patient and (not stages or stage.name in stages)
            for check, found in evaluate(
                stage, patient, self.resource, {(c.asset, c.name) for c in stage.checks}, print
            )
            if not found.passed
        }


@pytest.fixture(scope="session")
def healthy_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("healthy") / "warehouse.duckdb"
    random = np.random.default_rng(7)
    with Warehouse(path).write() as writer:
        for number, (patient, target, skin, sex) in enumerate([(GOOD, 8, "II", "F"), (OTHER, 0, "V", "M")]):
            person = {
                "patient_id": patient,
                "cohort": terms.cohort_of(target, skin, sex),
                "sex": sex,
                "skin_type": skin,
                "skin_group": terms.skin_group(skin),
                "pain_target": target,
                "pain_level": terms.pain_level(target),
                "enrolled_on": date(2021, 3, 1),
                "utc_offset_minutes": -300,
            }
            writer.replace(Patients, Patients.from_rows([person]), {"patient_id": patient})
            ids = [f"{patient}-{day:02d}" for day in DAYS]
            common = [
                {"video_id": i, "submission_id": i, "patient_id": patient, "fingerprint": "f"} for i in ids
            ]
            rows: dict[type[Table], list[dict[str, Any]]] = {
                BpiScores: [
                    {
                        **c,
                        **dict(zip(terms.SCORES, map(int, random.integers(1, 11, 9)), strict=True)),
                        "chronic_pain": number == 0,
                        **time_columns(datetime(2021, 3, 1, 20, tzinfo=UTC) + timedelta(days=day), -300),
                        "setting": "home",
                        "missing_scores": 0,
                    }
                    for c, day in zip(common, DAYS, strict=True)
                ],
                Videos: [
                    {
                        **c,
                        "file": f"videos/{patient}/{c['video_id']}.mp4",
                        "sha256": f"{number:032x}{index:032x}",
                        "bytes": 1000,
                        "modified_ns": 1,
                        "duration_s": FRAMES / 10,
                        "has_audio": True,
                        "has_prompt": False,
                        "status": "ok",
                    }
                    for index, c in enumerate(common)
                ],
                VideoQuality: [
                    {
                        **c,
                        "frames": FRAMES,
                        "face_rate": 1.0,
                        "landmark_rate": 1.0,
                        "measures": json.dumps({"dark_share": 0.0}),
                        "flags": [],
                        "usable": True,
                    }
                    for c in common
                ],
                Audio: [
                    {
                        **c,
                        "sample_rate": 22050,
                        "duration_s": FRAMES / 10,
                        "clipped_share": 0.0,
                        "speech_share": 0.6,
                        "peak": 0.5,
                        "waveform": b"flac",
                    }
                    for c in common
                ],
                VoiceFeatures: [
                    {
                        **c,
                        "chunk_index": chunk,
                        "speech_s": 9.0,
                        "voiced_s": 5.0,
                        "f0_median_hz": (200.0 if sex == "F" else 110.0) + place + chunk,
                    }
                    for place, c in enumerate(common)
                    for chunk in (-1, 0)
                ],
            }
            for table, made in rows.items():
                writer.replace(table, table.from_rows(made), {"patient_id": patient})
            for video in ids:
                for table, pictures in _pictures(patient, video).items():
                    writer.replace(table, pictures, {"video_id": video})
    return path


def _pictures(patient: str, video: str) -> dict[type[Table], arrow.Table]:
    columns: dict[str, Any] = {
        "video_id": [video] * FRAMES,
        "patient_id": [patient] * FRAMES,
        "fingerprint": ["f"] * FRAMES,
        "frame_index": list(range(FRAMES)),
        "time_s": [i / 10 for i in range(FRAMES)],
        "chunk_index": [i // 40 for i in range(FRAMES)],
        "picture_hash": list(range(FRAMES)),
        "faces_seen": [1] * FRAMES,
        "detected": [True] * FRAMES,
        "crop": [b"png"] * FRAMES,
        "points": arrow.FixedSizeListArray.from_arrays(
            arrow.array(np.tile(np.asarray(mesh(), np.float32), FRAMES)),
            type=Landmarks.arrow_schema().field("points").type,
        ),
    }
    columns |= {
        c: [0.5] * FRAMES
        for c in ("luminance", "contrast", "sharpness", "noise", "glare", "motion", "probability")
    }
    columns |= {c: [100.0] * FRAMES for c in ("x1", "y1")} | {c: [260.0] * FRAMES for c in ("x2", "y2")}
    tables: dict[type[Table], arrow.Table] = {}
    for table in (Frames, Faces, Landmarks):
        fields = table.arrow_schema()
        tables[table] = arrow.table(
            {
                f.name: arrow.array(columns[f.name], f.type)
                if isinstance(columns.get(f.name), list)
                else columns[f.name]
                if f.name in columns
                else arrow.nulls(FRAMES, f.type)
                for f in fields
            },
            schema=fields,
        )
    return tables


@pytest.fixture
def study(tmp_path: Path, healthy_warehouse: Path) -> InventedStudy:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(healthy_warehouse, home / "warehouse.duckdb")
    return InventedStudy(WarehouseResource(study=str(tmp_path / "study"), home=str(home)))
