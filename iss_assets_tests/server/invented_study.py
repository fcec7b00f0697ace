"""A study for the desk's tests: a warehouse with flags, and videos that play, made in a second."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from iss_assets.protocol.flags import CAUSE_OF
from iss_assets.protocol.terms import SCORES
from iss_assets.schemas.audio import Audio
from iss_assets.schemas.base import Table
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.operations import CheckResults
from iss_assets.schemas.prompts import PromptReadings
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse

SECONDS, FPS = 4, 10
TEN = (
    "glare",
    "dark",
    "quiet",
    "signage",
    "mask",
    "clipped",
    "blurred",
    "several_faces",
    "too_short",
    "other_person",
)
"""Ten flags of ten causes; none of them explains another in the videos that `FLAGS` gives them to."""
FLAGS = {
    "0007-01": ("glare", "quiet", "signage"),
    "0007-02": ("dark", "clipped"),
    "0008-01": ("blurred", "too_short", "mask"),
    "0008-02": ("several_faces",),
    "0009-01": ("other_person",),
    "0009-02": (),
}
READINGS: dict[str, dict[str, Any]] = {
    "0007-01": {"prompt_id": "garden", "prompt_known": True, "text_read": "garden", "read": True, "cut_short": False,
                "word_error_rate": 0.05, "share_read": 1.0},
    "0007-02": {"prompt_id": "lake", "prompt_known": True, "text_read": "garden", "read": True, "cut_short": True,
                "word_error_rate": 0.4754, "share_read": 0.53},
    "0008-01": {"prompt_id": "garden", "prompt_known": True, "read": False, "word_error_rate": 0.931},
    "0008-02": {"prompt_id": "old", "prompt_known": False},
}  # fmt: skip
"""Question 10 of some of the videos; no other patient's is processed."""
MOMENT = 2.0
"""Second at which every flag begins."""
NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)


def film(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(SECONDS * FPS):
            picture = np.full((120, 160, 3), 40 + number * 3, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def make_study(settings: Settings, empty: Path | None = None) -> Warehouse:
    """Write the study folder and the warehouse; `empty` is a warehouse without rows to copy."""
    if empty is not None:
        shutil.copy(empty, settings.warehouse_path)
    warehouse = Warehouse(settings.warehouse_path)
    patients = sorted({video[:4] for video in FLAGS})
    one = settings.study / "videos" / "0007" / "0007-01.mp4"
    film(one)
    for video in FLAGS:
        path = settings.study / "videos" / video[:4] / f"{video}.mp4"
        if path != one:
            path.parent.mkdir(exist_ok=True)
            shutil.copy(one, path)
    wave = io.BytesIO()
    soundfile.write(wave, np.zeros(22_050 * SECONDS, np.float32), 22_050, format="FLAC")
    mark = {"fingerprint": "f"}
    times = [(i, i / FPS) for i in range(SECONDS * FPS)]
    with warehouse.write() as writer:

        def add(table: type[Table], rows: list[dict[str, Any]]) -> None:
            plain = {"INTEGER": 0, "BIGINT": 0, "DOUBLE": 0.0, "FLOAT": 0.0, "BOOLEAN": False, "VARCHAR": ""}
            needed = {c.name: plain[c.sql] for c in table.columns() if not c.nullable and c.sql in plain}
            writer.append(table, table.from_rows([{**needed, **row} for row in rows]))

        add(Patients, [
            {"patient_id": p, "cohort": "1A", "sex": "F", "skin_type": "III", "skin_group": "light", "pain_target": 3,
             "pain_level": "Low", "enrolled_on": date(2026, 2, 1)} for p in patients
        ])  # fmt: skip
        add(BpiScores, [
            {"submission_id": v, "patient_id": v[:4], "submitted_at": NOW - timedelta(days=n), "submitted_on": date(2026, 2, 20),
             "written_time": datetime(2026, 2, 20, 9), "timeframe": "late AM", "setting": "home", "missing_scores": 0,
             **{s: (True if s == "chronic_pain" else 4) for s in SCORES}} for n, v in enumerate(FLAGS)
        ])  # fmt: skip
        add(Videos, [
            {"video_id": v, "patient_id": v[:4], "file": f"videos/{v[:4]}/{v}.mp4", "bytes": 1, "modified_ns": 1,
             "sha256": hashlib.sha256(v.encode()).hexdigest(), "duration_s": float(SECONDS), "has_prompt": False,
             "has_audio": True, "status": "ok", **mark} for v in FLAGS
        ])  # fmt: skip
        add(VideoQuality, [
            {"video_id": v, "patient_id": v[:4], "frames": 40, "face_rate": 1.0, "landmark_rate": 1.0, "measures": "{}",
             "moments": json.dumps({f: [[MOMENT, 3.0]] for f in flags}), "flags": list(flags), "usable": True, **mark}
            for v, flags in FLAGS.items()
        ])  # fmt: skip
        add(CheckResults, [
            {"patient_id": patient, "asset": "video_quality", "check_name": CAUSE_OF[flag].check, "passed": False,
             "severity": "WARN", "affected": [v for v, own in FLAGS.items() if flag in own and v[:4] == patient],
             "numbers": json.dumps({"affected": 1, "checked": 2, "not usable": 0, "usable videos": 2}), "threshold": "",
             "hint": "Call.", "run_id": "r", "evaluated_at": NOW, **mark}
            for flag in TEN for patient in patients if any(flag in FLAGS[v] for v in FLAGS if v[:4] == patient)
        ])  # fmt: skip
        add(PromptReadings, [
            {"video_id": v, "patient_id": v[:4], "words": 40, **reading, **mark} for v, reading in READINGS.items()
        ])  # fmt: skip
        add(Frames, [
            {"video_id": v, "patient_id": v[:4], "frame_index": i, "time_s": t, "chunk_index": 0, "luminance": t / SECONDS,
             "contrast": 0.2, "sharpness": 1.0, "noise": 1.0, "glare": 0.0, "highlight": 0.5, "motion": 0.1,
             "faces_seen": 2 if t >= 3 else 1 if t >= 1 else 0, "width": 160, "height": 120, **mark}
            for v in FLAGS for i, t in times
        ])  # fmt: skip
        add(Faces, [
            {"video_id": v, "patient_id": v[:4], "frame_index": i, "x1": 40.0, "y1": 30.0, "x2": 80.0, "y2": 90.0,
             "probability": 0.99, "faces_seen": 1, "crop": b"", **mark} for v in FLAGS for i, t in times if t >= 1
        ])  # fmt: skip
        add(Landmarks, [
            {"video_id": v, "patient_id": v[:4], "frame_index": i, "detected": t < 2,
             "points": [0.5, 0.25, 0.0] * 468 if t < 2 else None, **mark} for v in FLAGS for i, t in times if t >= 1
        ])  # fmt: skip
        add(Audio, [
            {"video_id": v, "patient_id": v[:4], "sample_rate": 22_050, "duration_s": float(SECONDS), "speech_share": 0.0,
             "clipped_share": 0.0, "peak": 0.0, "waveform": wave.getvalue(), **mark} for v in FLAGS
        ])  # fmt: skip
    return warehouse
