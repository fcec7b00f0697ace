"""The sample study's planted issues, filmed, extracted and measured: one cause fails one check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest

from iss_assets.defs.assets.quality import assess_patient
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.folder import patient_rows, read_study, score_rows
from iss_assets.intake.inventory import describe_video
from iss_assets.media.audio import extract_audio
from iss_assets.media.visual import extract_visual
from iss_assets.protocol.flags import causes_of
from iss_assets.schemas.audio import Audio
from iss_assets.schemas.base import Table
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.settings import Settings
from iss_assets.synthetic import sample
from iss_assets.synthetic.plan import PLANTED, plan
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.checks.conftest import InventedStudy

SECONDS = 2.0
EXPECTED = {
    ("dark", "grainy"): "dark_or_grainy",
    ("glare",): "glare",
    ("signage",): "signage",
    ("mask",): "face_mask",
    ("quiet",): "quiet_or_muffled",
    ("muffled",): "quiet_or_muffled",
    ("no_sound",): "no_sound",
    ("face_missing",): "face_missing",
    ("unreadable",): "unreadable_videos",
    ("several_faces",): "several_faces",
}
"""The one check that each planted issue fails."""


@pytest.fixture(scope="module")
def with_issues(tmp_path_factory: pytest.TempPathFactory) -> InventedStudy:
    """Every video with a planted issue, short, in a warehouse as extraction fills it."""
    root = tmp_path_factory.mktemp("with_issues")
    study, home = root / "study", root / "home"
    people = plan(12, seed=0)
    study.mkdir()
    sample._write_text(study / sample.ENROLLMENT, sample._enrollment(people))
    sample._write_text(study / sample.SURVEYS, sample._surveys(people))
    jobs = [
        job
        for job in sample._jobs(study, people, SECONDS, words=False)
        if (int(job.patient.patient_id), int(job.submission.submission_id[-2:])) in PLANTED and not job.prompt
    ]
    for job in jobs:
        sample._make(job)
    settings = Settings(study=study, home=home, quality={"shortest_s": 1})  # type: ignore[arg-type]
    warehouse = Warehouse(settings.warehouse_path)
    folder = read_study(study, settings.reading)
    with warehouse.write() as writer:
        writer.append(Patients, Patients.from_rows(patient_rows(folder)))
        writer.append(BpiScores, BpiScores.from_rows(score_rows(folder)))
        for patient in folder.patient_ids:
            for file in folder.videos_of(patient):
                row = describe_video(file, None, settings.video, trust_probe=False).row
                writer.append(Videos, Videos.from_rows([row]))
                if row["status"] == "ok":
                    for table, rows in _extracted(file.path, settings):
                        writer.append(table, _owned(table, rows, file.submission_id, patient))
    for patient in folder.patient_ids:
        rows = [
            {**row, "patient_id": patient, "fingerprint": "f"}
            for row in assess_patient(warehouse, settings, patient).rows
        ]
        warehouse.replace(VideoQuality, VideoQuality.from_rows(rows), {"patient_id": patient})
    return InventedStudy(WarehouseResource(study=str(study), home=str(home)))


def _extracted(path: Path, settings: Settings) -> list[tuple[type[Table], arrow.Table]]:
    seen = extract_visual(path, settings.video, settings.faces, settings.landmarks, threads=1)
    heard = extract_audio(path, settings.audio)
    made = [(Frames, seen.frames), (Faces, seen.faces), (Landmarks, seen.landmarks)]
    return made + ([] if heard is None else [(Audio, heard.audio)])


def _owned(table: type[Table], rows: arrow.Table, video: str, patient: str) -> arrow.Table:
    """Add the owner's columns to extracted rows, in the table's order."""
    owner = {"video_id": video, "patient_id": patient, "fingerprint": "f"}
    columns: dict[str, Any] = {}
    for field in table.arrow_schema():
        if field.name in rows.column_names:
            columns[field.name] = rows[field.name].cast(field.type)
        else:
            columns[field.name] = arrow.array([owner.get(field.name)] * rows.num_rows, field.type)
    return arrow.table(columns, schema=table.arrow_schema())


def test_every_planted_issue_of_the_sample_study_fails_one_check_and_no_other(
    with_issues: InventedStudy,
) -> None:
    failed: dict[str, set[str]] = {}
    measured = with_issues.warehouse.query(
        "select video_id, patient_id, flags from video_quality"
    ).to_pylist()
    assert len(measured) == len(PLANTED)
    flags = {row["video_id"]: row["flags"] for row in measured}
    assert {*EXPECTED} == {*PLANTED.values()}, "every issue has been filmed"
    assert any(len(raised) > len(causes_of(raised)) for raised in flags.values()), "some bring others along"
    for row in measured:
        video, patient = row["video_id"], row["patient_id"]
        for check in with_issues.failing_with(patient):
            if video in check.affected:
                failed.setdefault(video, set()).add(check.name)
    for (patient, number), issues in PLANTED.items():
        video = f"{patient:04d}-{number:02d}"
        assert failed[video] == {EXPECTED[issues]}, (video, flags[video])


def test_the_patient_whose_videos_are_all_lost_is_an_error_of_each_reason_and_of_nothing_else(
    with_issues: InventedStudy,
) -> None:
    found = {c.name: c.severity for c in with_issues.failing_with("0009") if c.affected}
    assert found == {"face_missing": "ERROR", "unreadable_videos": "ERROR"}
