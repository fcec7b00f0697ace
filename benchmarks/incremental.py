"""Measure the cost of enrolling one patient in a study of 112: extraction plus at most 20 s on 2 cores.

    python -m benchmarks.incremental [--patients 112] [--videos 18] [--frames 375]

The other patients are invented rows, registered as up to date, with tiny files. The new patient has the videos of a
sample patient, which are extracted. Every run is a separate process, as when started by the daemon.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from iss_assets.checks.stages import results_fingerprint
from iss_assets.intake.folder import ENROLLMENT, SURVEYS, patient_rows, read_study, score_rows
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.staleness import quality_fingerprint, scores_fingerprint, videos_fingerprint
from iss_assets.protocol.terms import COHORTS
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.operations import CheckResults, Extractions
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
from iss_assets.settings import Settings
from iss_assets.synthetic.sample import write_sample_study
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import (
    VIDEO_TABLES,
    WHOLE,
    code_versions,
    fingerprint,
    ledger_rows,
    video_fingerprints,
)

LIMIT_S = 20.0
HOUR_AGO = time.time() - 3600

EXTRACTION = """
from pathlib import Path
from iss_assets.media.audio import extract_audio
from iss_assets.media.visual import extract_visual
from iss_assets.settings import Settings
s = Settings()
for path in sorted((s.study / "videos" / "{patient}").iterdir()):
    if "_prompt" not in path.name:
        extract_visual(path, s.video, s.faces, s.landmarks)
        extract_audio(path, s.audio)
"""

RUN = """
from iss_assets.pipeline.home import open_instance
from iss_assets.cli.location import load
from iss_assets.pipeline.job_runs import run_job
from iss_assets.settings import Settings
with open_instance(Settings()) as instance:
    outcome = run_job(load, instance, "{job}", "{job}", partitions={partitions})
assert outcome.success, outcome.problem
"""

TICK = """
import json, time
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.planning import plan
from iss_assets.pipeline.observing import observe
from iss_assets.settings import Settings
with open_instance(Settings()) as instance:
    observe(instance, Settings())
    start = time.perf_counter()
    decision = plan(observe(instance, Settings()), time.time(), Settings().sensors)
    took = time.perf_counter() - start
print(json.dumps([took, [r.subject for r in decision.requests], list(decision.add_partitions)]))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=112, help="patients after the enrollment")
    parser.add_argument("--videos", type=int, default=18, help="videos per invented patient")
    parser.add_argument("--frames", type=int, default=375, help="frames per invented video")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(study=Path(folder) / "study", home=Path(folder) / "home")
        os.environ |= {
            "ISS_STUDY": str(settings.study),
            "ISS_HOME": str(settings.home),
            "ISS_READING__SETTLE_SECONDS": "0",
        }
        made_up_study(settings, given.patients - 1, given.videos, given.frames)
        _, requested, _ = tick()
        stale = [subject for subject in requested if subject.isdigit()]
        assert not stale, f"{len(stale)} invented patients are stale; the benchmark would measure their runs"
        timed("marts", RUN.format(job="marts", partitions=None))
        new = f"{given.patients:04d}"
        enroll_sample_patient(settings, new, Path(folder) / "sample")
        planning, requested, added = tick()
        others = [subject for subject in requested if subject.isdigit() and subject != new]
        assert not others, f"{len(others)} other patients became stale; was the code changed in the meantime?"
        assert added == [new] and new in requested
        extraction = timed("extraction alone", EXTRACTION.format(patient=new))
        add_partition(settings, new)
        run = timed("run of the patient", RUN.format(job="patient", partitions=(new, new)))
        marts = timed("study-wide tables", RUN.format(job="marts", partitions=None))
    constant = planning + run + marts - extraction
    print(f"reading the folder    {planning:7.2f} s")
    print(f"constant              {constant:7.2f} s  (limit {LIMIT_S:g} s)")
    return int(constant > LIMIT_S)


def timed(name: str, code: str) -> float:
    start, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    took, after = time.perf_counter() - start, os.times()
    # on a shared machine only the processor time is meaningful
    busy = sum(after[2:4]) - sum(before[2:4])
    print(f"{name:<21} {took:7.2f} s  (processor time {busy:.2f} s)", flush=True)
    return took


def tick() -> tuple[float, list[str], list[str]]:
    done = subprocess.run([sys.executable, "-c", TICK], check=True, capture_output=True, text=True)
    took, requested, added = json.loads(done.stdout.splitlines()[-1])
    return took, requested, added


def add_partition(settings: Settings, patient: str) -> None:
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("patients", [patient])


def enroll_sample_patient(settings: Settings, patient: str, scratch: Path) -> None:
    """Add the rows and videos of a sample patient to the study with another id."""
    write_sample_study(scratch, patients=1)
    for name in ("enrollment.csv", "surveys.csv"):
        with (scratch / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        with (settings.study / name).open("a", newline="") as file:
            header = (settings.study / name).read_text().splitlines()[0].split(",")
            writer = csv.DictWriter(file, header, extrasaction="ignore")
            writer.writerows({**row, "patient_id": patient} for row in rows)
    (source,) = (scratch / "videos").iterdir()
    shutil.copytree(source, settings.study / "videos" / patient)


def made_up_study(settings: Settings, patients: int, videos: int, frames: int) -> None:
    """Write a study folder, and a warehouse in which all its rows are up to date."""
    settings.study.mkdir(parents=True)
    ids = [f"{number:04d}" for number in range(1, patients + 1)]
    level = {"None": 0, "Low": 2, "Moderate": 5, "Severe": 8}
    people = ["patient_id,cohort,sex,skin_type,pain_target,enrolled_on,utc_offset"]
    surveys = [
        "submission_id,patient_id,submitted_at,setting,pain_now,chronic_pain,general_activity,mood,walking_ability,"
        "normal_work,relationships,sleep,enjoyment_of_life"
    ]
    start = datetime(2025, 1, 6, 9, tzinfo=UTC)
    for number, patient in enumerate(ids):
        cohort = COHORTS[number % len(COHORTS)]
        skin = "II" if cohort.skin_group == "light" else "V"
        people.append(
            f"{patient},{cohort.number},{cohort.sex},{skin},{level[cohort.pain_level]},2025-01-02,+00:00"
        )
        folder = settings.study / "videos" / patient
        folder.mkdir(parents=True)
        for video in range(videos):
            name = f"{patient}-{video:03d}"
            at = (start + timedelta(days=2 * video, minutes=number)).isoformat()
            surveys.append(f"{name},{patient},{at},home,3,no,1,2,1,0,1,2,1")
            (folder / f"{name}.mp4").write_text(f"made up: {name}")
            os.utime(folder / f"{name}.mp4", (HOUR_AGO, HOUR_AGO))
    (settings.study / ENROLLMENT).write_text("\n".join(people) + "\n")
    (settings.study / SURVEYS).write_text("\n".join(surveys) + "\n")
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("patients", ids)
    fill_warehouse(settings, frames)


def fill_warehouse(settings: Settings, frames: int) -> None:
    folder = read_study(settings.study, settings.reading)
    versions = code_versions(settings)
    entries: list[tuple[str, str, str, str, int]] = []
    videos: list[dict[str, Any]] = []
    scores = score_rows(folder)
    for person in patient_rows(folder):
        patient = person["patient_id"]
        files = folder.videos_of(patient)
        for file in files:
            videos.append(
                {
                    "video_id": file.submission_id,
                    "patient_id": patient,
                    "file": file.name,
                    "sha256": fingerprint(file.name) * 4,
                    "bytes": file.size,
                    "modified_ns": file.mtime_ns,
                    "duration_s": frames / 10,
                    "has_audio": True,
                    "has_prompt": False,
                    "status": "ok",
                }
            )
        own_scores = [s for s in scores if s["patient_id"] == patient]
        entries.append((patient, WHOLE, "patients", fingerprint([person]), 1))
        entries.append((patient, WHOLE, "bpi_scores", scores_fingerprint(own_scores), len(own_scores)))
        entries.append((patient, WHOLE, "videos", videos_fingerprint(files, settings), len(files)))
    for patient in folder.patient_ids:
        own = [v for v in videos if v["patient_id"] == patient]
        entries.append(
            (patient, WHOLE, "video_quality", quality_fingerprint(patient, own, videos, versions), len(own))
        )
        for video in own:
            prints = video_fingerprints(video["sha256"], versions)
            entries += [(patient, video["video_id"], table, prints[table], 1) for table in prints]
    quality = [
        {
            "video_id": v["video_id"],
            "patient_id": v["patient_id"],
            "frames": frames,
            "face_rate": 1.0,
            "landmark_rate": 1.0,
            "measures": "{}",
            "flags": [],
            "usable": True,
            "fingerprint": "made-up",
        }
        for v in videos
    ]
    checks = [
        {
            "patient_id": patient,
            "asset": table,
            "check_name": "schema",
            "passed": True,
            "severity": "ERROR",
            "affected": [],
            "numbers": "{}",
            "threshold": "",
            "fingerprint": results_fingerprint(settings),
            "run_id": "made-up",
            "evaluated_at": datetime.now(UTC) + timedelta(minutes=10),
        }
        for patient in folder.patient_ids
        for table in ("patients", "bpi_scores", "videos", "video_quality", *VIDEO_TABLES)
    ]
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    made = {
        Patients: patient_rows(folder),
        BpiScores: scores,
        Videos: videos,
        VideoQuality: quality,
        CheckResults: checks,
    }
    replacements = [Replacement(table, table.from_rows(rows), {}) for table, rows in made.items()]
    warehouse.replace_all([*replacements, Replacement(Extractions, ledger_rows(entries), {})])
    with warehouse.write() as writer:
        writer.execute(
            f"""
            insert into frames by name
            select video_id, patient_id, r.range as frame_index, r.range / 10 as time_s, r.range // 40 as chunk_index,
                0.4 as luminance, 0.2 as contrast, 100 as sharpness, 3 as noise, 0.01 as glare, 1 as faces_seen,
                r.range as picture_hash, 'made-up' as fingerprint
            from videos, range({frames}) as r
            """
        )
        writer.execute(
            "insert into faces by name select video_id, patient_id, frame_index, 10 as x1, 10 as y1, 170 as x2, "
            "170 as y2, 0.99 as probability, 1 as faces_seen, ''::blob as crop, 'made-up' as fingerprint from frames"
        )
        writer.execute(
            "insert into landmarks by name select video_id, patient_id, frame_index, true as detected, "
            "'made-up' as fingerprint from frames"
        )


if __name__ == "__main__":
    sys.exit(main())
