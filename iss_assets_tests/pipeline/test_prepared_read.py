"""`iss run` reads the study folder once, and every run of it works on that read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from iss_assets.cli.location import load
from iss_assets.intake.folder import StudyFolder, read_study
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.job_runs import run_job
from iss_assets.pipeline.prepared_read import READ_TAG, hand_over, handed_over
from iss_assets.pipeline.run_history import add_patients
from iss_assets.pipeline.staleness import stale_patients
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER

PATIENTS = ("0001", "0002", "0003")
AN_HOUR_AGO = 1_700_000_000
TABLES = ("patients", "bpi_scores", "videos", "video_quality")

COUNTING = """
import os, sys

STUDY, LOG = os.environ["COUNTED_STUDY"], os.environ["COUNTED_LOG"]

def hook(event, arguments):
    if event in ("open", "os.scandir", "os.listdir") and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.fsdecode(arguments[0])
        if path == STUDY or path.startswith(STUDY + os.sep):
            with open(LOG, "a") as log:
                log.write(f"{'read' if event == 'open' else 'scan'} {os.path.relpath(path, STUDY)}\\n")

sys.addaudithook(hook)
"""
"""Loaded by every Python process of the command: writes down which files it opens and which folders it lists."""


def write_study(study: Path, pain: int = 3) -> None:
    """Write a study whose videos cannot be read: every table is made and nothing is decoded."""
    rows = [f"{p},1A,M,II,0,2021-01-04," for p in PATIENTS]
    answers = [
        f"s{n}-{p},{p},2021-01-0{5 + n}T09:05:00-05:00,home,{pain},no,0,1,0,0,1,2,0"
        for p in PATIENTS
        for n in range(2)
    ]
    for patient in PATIENTS:
        for number in range(2):
            video(study, patient, f"s{number}-{patient}", f"No video: {number} of {patient}.")
    (study / "enrollment.csv").write_text("\n".join([ENROLLMENT_HEADER, *rows, ""]))
    (study / "surveys.csv").write_text("\n".join([SURVEY_HEADER, *answers, ""]))


def write_study_again(study: Path, pain: int) -> None:
    """Change every answer to `pain_now`."""
    surveys = study / "surveys.csv"
    surveys.write_text(surveys.read_text().replace(",home,3,", f",home,{pain},"))


def video(study: Path, patient: str, name: str, content: str, at: int = AN_HOUR_AGO) -> None:
    path = study / "videos" / patient / f"{name}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (at, at))


@pytest.mark.slow
@pytest.mark.thorough
def test_iss_run_reads_tables_and_lists_folders_once_however_many_patients_it_runs(
    settings: Settings, tmp_path: Path
) -> None:
    study = settings.study.resolve()
    write_study(study)
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(COUNTING)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "hook"), *filter(None, sys.path)]),
        "COUNTED_STUDY": str(study),
        "COUNTED_LOG": str(tmp_path / "counted"),
        "ISS_RUN__WORKERS": "2",
    }
    command = [sys.executable, "-m", "iss_assets.cli", "run", "--no-models"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = Counter((tmp_path / "counted").read_text().splitlines())
    assert {name: counted[f"read {name}"] for name in ("enrollment.csv", "surveys.csv")} == {
        "enrollment.csv": 1,
        "surveys.csv": 1,
    }
    folders = ("videos", *(f"videos/{p}" for p in PATIENTS))
    assert {f: counted[f"scan {f}"] for f in folders} == dict.fromkeys(folders, 1)
    # the hook was at work in the workers, which open the videos
    assert all(counted[f"read videos/{p}/s0-{p}.mp4"] >= 1 for p in PATIENTS)


def clustered(settings: Settings) -> Settings:
    """The same settings with a cluster, of which nothing has to run here."""
    nowhere = {"storage": "postgresql://127.0.0.1:1/x", "broker": "redis://127.0.0.1:1/0"}
    return Settings.model_validate({**settings.model_dump(), "cluster": nowhere})


def test_a_run_on_another_host_works_on_the_read_that_it_was_handed_and_on_no_other(
    homes: tuple[Settings, Settings],
) -> None:
    settings = homes[0]
    assert hand_over(read_study(settings.study, settings.reading), settings, "0002") == {}, "one machine"
    tags = hand_over(read_study(settings.study, settings.reading), clustered(settings), "0002")
    assert settings.reads_dir.stat().st_mode & 0o077 == 0
    write_study_again(settings.study, pain=9)
    with open_instance(settings, many_runs=True) as instance:
        add_patients(instance, ["0002"])
        for wanted, stored in ((tags, {3}), ({READ_TAG: "of another read"}, {9})):
            run = run_job(load, instance, "patient", "0002", partitions=("0002", "0002"), tags=wanted)
            assert run.success, run.problem
            assert {row["pain_now"] for row in rows(settings, "bpi_scores", "0002")} == stored


def test_a_read_that_is_handed_over_arrives_unchanged_and_one_that_cannot_be_is_not(
    homes: tuple[Settings, Settings],
) -> None:
    settings = clustered(homes[0])
    folder = read_study(settings.study, settings.reading)
    tags = hand_over(folder, settings, "0003")
    assert handed_over(tags, "0003", settings) == folder.part_of("0003")
    assert handed_over(tags, "0002", settings) is None
    odd = replace(folder, root=Path(os.fsdecode(b"/st\xffudy")))
    assert hand_over(odd, settings, "0003") == {}


def run_patient(settings: Settings, patient: str, folder: StudyFolder | None) -> None:
    with open_instance(settings, many_runs=True) as instance:
        add_patients(instance, [patient])
        outcome = run_job(load, instance, "patient", patient, partitions=(patient, patient), folder=folder)
    assert outcome.success, outcome.problem


def rows(settings: Settings, table: str, patient: str) -> list[dict[str, object]]:
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    return warehouse.query(f"select * from {table} where patient_id = '{patient}' order by all").to_pylist()


@pytest.fixture
def homes(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, Settings]:
    """A study and two homes for it; what is set for one home goes with the test."""
    for name in ("DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    write_study(settings.study)
    return settings, Settings(study=settings.study, home=tmp_path / "other")


def test_a_run_that_reads_the_folder_itself_makes_the_same_rows_as_one_that_was_handed_its_part(
    homes: tuple[Settings, Settings],
) -> None:
    handed, reading = homes
    folder = read_study(handed.study, handed.reading)
    run_patient(handed, "0002", folder.part_of("0002"))
    run_patient(reading, "0002", None)
    for table in (*TABLES, "extractions"):
        made = [[{**r, "made_at": None} for r in rows(s, table, "0002")] for s in homes]
        assert made[0] == made[1] and made[0], table


def test_files_that_change_during_the_run_leave_rows_of_one_moment_and_are_picked_up_by_the_next(
    homes: tuple[Settings, Settings],
) -> None:
    settings, _ = homes
    before = read_study(settings.study, settings.reading)
    write_study(settings.study, pain=9)
    video(settings.study, "0001", "s0-0001", "Another recording.", AN_HOUR_AGO + 60)
    video(settings.study, "0001", "s2-0001", "A new recording.")
    (settings.study / "videos" / "0001" / "s1-0001.mp4").unlink()
    run_patient(settings, "0001", before.part_of("0001"))
    assert [r["pain_now"] for r in rows(settings, "bpi_scores", "0001")] == [3, 3]
    videos = {r["video_id"]: r for r in rows(settings, "videos", "0001")}
    assert videos.keys() == {"s0-0001", "s1-0001"}, "what the folder held when it was read"
    assert "changed while it was read" in str(videos["s0-0001"]["problem"])
    assert "disappeared" in str(videos["s1-0001"]["problem"])
    # what was read again is not taken for current, even if the folder goes back to what it was
    assert "videos" in stale_patients(before, settings)["0001"]
    after = read_study(settings.study, settings.reading)
    assert {"bpi_scores", "videos"} <= set(stale_patients(after, settings)["0001"])
    run_patient(settings, "0001", after.part_of("0001"))
    assert "0001" not in stale_patients(after, settings)
    assert {r["pain_now"] for r in rows(settings, "bpi_scores", "0001")} == {9}
    assert {str(r["video_id"]) for r in rows(settings, "videos", "0001")} == {"s0-0001", "s2-0001"}


def test_the_part_of_a_patient_holds_that_patient_only(settings: Settings) -> None:
    write_study(settings.study)
    folder = read_study(settings.study)
    part = folder.part_of("0002")
    assert part.patient_ids == ("0002",)
    assert part.submissions == folder.submissions_of("0002") and len(part.submissions) == 2
    assert part.videos == folder.videos_of("0002") and len(part.videos) == 2
    assert {p.patient_id for p in (*part.rejected, *part.problems)} <= {"0002"}
    whole = replace(part, patients=folder.patients, submissions=folder.submissions, videos=folder.videos)
    assert whole.part_of("0002") == part
    with pytest.raises(KeyError):
        part.part_of("0001")
