"""The main job, end to end: a study folder goes in, `iss run` brings every table up to date, through a real instance."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from glob import glob
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from dagster import AssetKey, RunsFilter
from typer.testing import CliRunner

from iss_assets.build import build_defs
from iss_assets.cli import main
from iss_assets.cli.location import load
from iss_assets.defs.assets import extraction
from iss_assets.intake.folder import read_study, score_rows
from iss_assets.intake.records import StudyFolderError
from iss_assets.intake.reviews import ReviewRow, append_review
from iss_assets.pipeline import launcher as runner
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.planning import MARTS, PAGES
from iss_assets.pipeline.run_history import STATE_TAG, SUBJECT_TAG
from iss_assets.pipeline.staleness import stale_patients
from iss_assets.protocol.flags import CAUSE_OF
from iss_assets.protocol.reviews import Decision
from iss_assets.reports.quality_report import quality_report
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import RunSettings, Settings, WarehouseSettings
from iss_assets.synthetic.sample import write_sample_study
from iss_assets.warehouse import database
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.ledger import fingerprint
from iss_assets.warehouse.sql.models import load_models
from iss_assets_tests.this_process import iss_in_this_process, quiet, work_in_this_process

SECONDS = 4.5
"""One full chunk of sound, and a rest."""

VOLATILE = {
    "extractions": "made_at",
    "fold_models": "trained_at, history, settings",
    "check_results": "run_id, evaluated_at",
    # an alert's id is made of the moment at which it was raised
    "alerts": "alert_id, run_id, first_seen, last_seen, changed_at, told_at, next_try_at",
}
"""What says when and by which run something was done, and so differs between two runs."""


EVERY_TABLE = """
select table_name from information_schema.tables
where table_catalog = current_database() and table_schema = 'main' and table_type = 'BASE TABLE'
"""


def run(settings: Settings, *patients: str, models: bool = False, pages: bool = True) -> runner.Summary:
    return runner.run_study(
        settings, patients, load=load, log=quiet, progress=quiet, models=models, pages=pages
    )


def query(settings: Settings, sql: str) -> list[dict]:
    return Warehouse(settings.warehouse_path, settings.warehouse).query(sql).to_pylist()


def count(settings: Settings, table: str, where: str = "true") -> int:
    return query(settings, f"select count(*) n from {table} where {where}")[0]["n"]


def contents(settings: Settings, tables: Iterable[str] = ()) -> dict[str, tuple]:
    """Hash the rows of these tables or of every one, without the columns that say when.

    A table of a SQL model is in its own order; patients are written in the order in which they are done.
    """
    marts, found = load_models(settings.warehouse.sql_dir).models, {}
    with Warehouse(settings.warehouse_path, settings.warehouse).read() as connection:
        for table in tables or [name for (name,) in connection.execute(EVERY_TABLE).fetchall()]:
            columns = f"* exclude ({VOLATILE[table]})" if table in VOLATILE else "*"
            hashes = "list(hash(t))" if table in marts else "count(*), bit_xor(hash(t))"
            (found[table],) = connection.execute(
                f"select {hashes} from (select {columns} from {table}) t"
            ).fetchall()
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A study of three patients, run once; tests that change it take `study` instead."""
    root = tmp_path_factory.mktemp("made")
    write_sample_study(root / "study", patients=3, seconds=SECONDS, submissions_per_patient=1)
    settings = Settings(study=root / "study", home=root / "home", run=RunSettings(workers=1))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ISS_STUDY", str(settings.study))
        environment.setenv("ISS_HOME", str(settings.home))
        work_in_this_process(environment)
        summary = run(settings, models=True)
    assert not summary.failed, summary.failed
    return settings


@pytest.fixture
def study(made: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of that study and its home, to change; what is run in it is run by this process.

    The pool of workers is at work wherever a test calls the command itself.
    """
    work_in_this_process(monkeypatch)
    shutil.copytree(made.study, tmp_path / "study", copy_function=shutil.copy2)
    shutil.copytree(made.home, tmp_path / "home", copy_function=shutil.copy2)
    monkeypatch.setenv("ISS_STUDY", str(tmp_path / "study"))
    monkeypatch.setenv("ISS_HOME", str(tmp_path / "home"))
    return Settings(study=tmp_path / "study", home=tmp_path / "home")


def test_every_table_down_to_the_quality_is_filled_with_believable_values(made: Settings) -> None:
    videos = query(made, "select * from videos order by video_id")
    assert [v["status"] for v in videos] == ["ok"] * 3
    assert all(abs(v["duration_s"] - SECONDS) < 0.2 and v["has_audio"] for v in videos)
    frames = query(made, "select video_id, count(*) n, max(chunk_index) c from frames group by all")
    assert all(44 <= f["n"] <= 46 and f["c"] == 1 for f in frames) and len(frames) == 3
    assert count(made, "faces") >= 0.95 * count(made, "frames")
    assert count(made, "landmarks", "detected") >= 0.95 * count(made, "faces")
    assert count(made, "landmarks", "len(points) <> 1404") == 0
    assert count(made, "audio") == 3
    assert query(made, "select distinct len(mel) b, len(mel[1]) s from mel_spectrograms") == [
        {"b": 128, "s": 173}
    ]
    assert count(made, "audio_features", "chunk_index = -1") == 3
    assert count(made, "video_quality") == 3
    assert count(made, "bpi_scores") == 3


def test_the_study_report_shows_what_the_study_looks_like(made: Settings) -> None:
    page = (made.reports_dir / "study_report.html").read_text(encoding="utf-8")
    for caption in ("Frames per patient", "Patients by skin type", "Enrollment toward the goal"):
        assert f"<figcaption>{caption}</figcaption>" in page, caption
    assert page.count('class="chart') >= 10


def test_the_run_can_be_seen_in_dagster_afterwards(made: Settings) -> None:

    with open_instance(made) as instance:
        assert instance.get_materialized_partitions(AssetKey("landmarks")) == {"0001", "0002", "0003"}
        assert all(r.status.value == "SUCCESS" for r in instance.get_runs())


def test_a_second_run_does_nothing(study: Settings) -> None:
    before = query(study, "select max(made_at) m from extractions")
    summary = run(study, models=True)
    assert summary.outcomes == []
    assert query(study, "select max(made_at) m from extractions") == before


def test_a_new_submission_costs_only_itself(study: Settings) -> None:
    folder = study.study / "videos" / "0001"
    old = next(p for p in sorted(folder.iterdir()) if "_prompt" not in p.name)
    shutil.copy(next(iter((study.study / "videos" / "0002").iterdir())), folder / "0001-77.mp4")
    before = {tuple(r.values()) for r in query(study, "select subject, table_name, made_at from extractions")}
    assert not run(study, pages=False).failed
    after = {tuple(r.values()) for r in query(study, "select subject, table_name, made_at from extractions")}
    touched = {video for video, *_ in after - before}
    assert "0001-77" in touched and old.stem not in touched and "0002-01" not in touched
    assert count(study, "frames", "video_id = '0001-77'") > 40
    assert query(
        study, "select list_contains(flags, 'duplicate') d from video_quality where video_id = '0002-01'"
    ) == [{"d": True}]


def test_a_removed_submission_leaves_no_rows_behind(study: Settings) -> None:
    for path in (study.study / "videos" / "0002").iterdir():
        path.unlink()
    assert not run(study, pages=False).failed
    for table in ("videos", "frames", "faces", "landmarks", "audio", "mel_spectrograms", "audio_features"):
        assert count(study, table, "patient_id = '0002'") == 0, table
        assert count(study, table, "patient_id = '0001'") > 0, table
    assert count(study, "video_quality", "patient_id = '0002'") == 0


def test_landmarks_alone_are_made_again_from_the_stored_crops(
    study: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(study, ["frames", "faces"])
    points = query(study, "select video_id, frame_index, points from landmarks order by all")
    monkeypatch.setattr("iss_assets.media.visual.LANDMARK_CODE_VERSION", "another")
    shutil.rmtree(study.study / "videos")  # nothing may be opened
    monkeypatch.setattr("iss_assets.defs.assets.extraction.read_visual", only_crops)

    with open_instance(study) as instance:
        result = (
            build_defs(study)
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance, partition_key="0001", asset_selection=[AssetKey("landmarks")]
            )
        )
    assert result.success
    assert contents(study, ["frames", "faces"]) == before
    assert query(study, "select video_id, frame_index, points from landmarks order by all") == points


def only_crops(video: Any, wanted: set[str], settings: Settings, warehouse: Warehouse, spool: Any) -> Any:
    assert wanted == {"landmarks"}
    return extraction.landmarks_again(video, settings, warehouse, spool)


def test_a_changed_threshold_makes_only_the_quality_again(
    study: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_QUALITY__SHORTEST_S", "1")
    changed = Settings(study=study.study, home=study.home)
    late = stale_patients(read_study(changed.study, changed.reading), changed)
    assert {t for tables in late.values() for t in tables if not t.startswith("checks")} == {"video_quality"}


def test_decisions_of_people_reach_usable_checks_and_a_rebuilt_home_and_touch_nobody_else(
    study: Settings,
) -> None:
    sql = "select video_id, patient_id, flags, usable, unusable_reason from video_quality order by 1"
    before = {row["video_id"]: row for row in query(study, sql)}
    flagged = next(row for row in before.values() if row["flags"])
    others = {v: row for v, row in before.items() if row["patient_id"] != flagged["patient_id"]}
    video, patient, flag = flagged["video_id"], flagged["patient_id"], flagged["flags"][0]
    other = next(iter(others.values()))
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    failing = (
        "select check_name from check_results where patient_id = ? and asset = 'video_quality' and not passed"
    )
    store = Warehouse(study.warehouse_path, study.warehouse)
    failed_before = {row["check_name"] for row in store.query(failing, [patient]).to_pylist()}

    append_review(study.study, ReviewRow(at, "maria", patient, video, flag, Decision.REJECT, "it is fine"))
    assert stale_patients(read_study(study.study), study) == {patient: ["reviews", "video_quality"]}
    assert [
        o.subject
        for o in run(study, pages=False).outcomes
        if o.subject in {r["patient_id"] for r in before.values()}
    ] == [patient]
    after = {row["video_id"]: row for row in query(study, sql)}
    assert flag in before[video]["flags"] and flag not in after[video]["flags"]
    assert {v: after[v] for v in others} == others
    row = query(
        study, f"select reviewed, decision, rejected_flags from video_quality where video_id = '{video}'"
    )[0]
    assert row == {"reviewed": True, "decision": None, "rejected_flags": [flag]}
    failed_now = {row["check_name"] for row in store.query(failing, [patient]).to_pylist()}
    assert CAUSE_OF[flag].check in failed_before - failed_now

    excluded = ReviewRow(
        at, "maria", other["patient_id"], other["video_id"], None, Decision.EXCLUDE, "not the patient"
    )
    append_review(study.study, excluded)
    append_review(study.study, ReviewRow(at, "ben", patient, video, None, Decision.INCLUDE, "good enough"))
    run(study, pages=False)
    after = {row["video_id"]: row for row in query(study, sql)}
    assert not after[other["video_id"]]["usable"]
    assert after[other["video_id"]]["unusable_reason"] == "excluded"
    assert after[video]["usable"] and after[video]["unusable_reason"] is None
    assert stale_patients(read_study(study.study), study) == {}

    # decisions are input: a home that is built anew, here with the two patients that they are about, has the same
    about = (patient, other["patient_id"])
    rows = [
        f"select * from {table} where patient_id in {about} order by all"
        for table in ("reviews", "video_quality")
    ]
    kept = [query(study, own) for own in rows]
    shutil.rmtree(study.home)
    run(study, *about, pages=False)
    assert [query(study, own) for own in rows] == kept

    # and whoever takes all of them back has what was measured
    (study.study / "reviews.csv").unlink()
    run(study, *about, pages=False)
    measured = {v: row for v, row in before.items() if row["patient_id"] in about}
    assert {row["video_id"]: row for row in query(study, sql)} == measured
    assert count(study, "reviews") == 0 and count(study, "video_quality", "reviewed") == 0


def test_a_home_from_before_there_were_reviews_needs_no_run_for_having_none(study: Settings) -> None:
    with Warehouse(study.warehouse_path, study.warehouse).write() as connection:
        connection.execute("delete from extractions where table_name = 'reviews'")
    assert stale_patients(read_study(study.study), study) == {}


@pytest.mark.slow
@pytest.mark.thorough
def test_a_day_of_withdrawal_raises_an_alert_and_leaves_the_patient_out_until_it_is_taken_back(
    study: Settings,
) -> None:
    rows = [
        f"{p},{scope},2021-01-04,,1" for p in ("0001", "0002", "0003") for scope in ("research", "contact")
    ]
    header = "patient_id,scope,given_on,withdrawn_on,version"
    file = study.study / "consent.csv"
    file.write_text("\n".join([header, *rows, ""]))
    folds = "select experiment, split, train_patients, test_patients from fold_models order by all"
    accuracies = "select experiment, patient_id, accuracy from patient_accuracy order by all"
    before = [query(study, sql) for sql in (folds, accuracies)]
    assert {p for fold in before[0] for p in fold["train_patients"]} == {"0001", "0002", "0003"}

    # consent that everybody gives trains nothing again
    summary = run(study, models=True, pages=False)
    assert not summary.failed and "consent" not in " ".join(summary.notes)
    assert [query(study, sql) for sql in (folds, accuracies)] == before
    assert count(study, "consent", "state = 'given'") == 6

    file.write_text("\n".join([header, *rows[1:], "0001,research,2021-01-04,2021-05-06,1", ""]))
    assert stale_patients(read_study(study.study), study) == {"0001": ["consent"]}
    summary = run(study, models=True)
    assert not summary.failed
    assert "Left out for want of consent: 1 patient (0001)." in summary.notes
    alerts = "select patient_id, severity, status from alerts where check_name = 'withdrawal_requested'"
    assert query(study, alerts) == [{"patient_id": "0001", "severity": "ERROR", "status": "raised"}]
    first = quality_report(Warehouse(study.warehouse_path, study.warehouse)).items[0]
    assert (first.patient_id, first.cost.says) == ("0001", "On 6 May 2021, from research.")
    assert "6 May 2021" in (study.reports_dir / "quality.html").read_text("utf-8")
    for column in ("train_patients", "test_patients"):
        assert {p for fold in query(study, folds) for p in fold[column]} == {"0002", "0003"}
    for table in ("cv_splits", "patient_accuracy", "frame_predictions"):
        assert count(study, table, "patient_id = '0001'") == 0 < count(study, table), table
    page = (study.reports_dir / "study_report.html").read_text("utf-8")
    assert "left out for want of consent: 1 patient" in page and "no consent to research: left out" in page
    # what was submitted stays until a person carries the withdrawal out
    assert count(study, "faces", "patient_id = '0001'") > 0

    file.write_text("\n".join([header, *rows, ""]))
    assert not run(study, models=True).failed
    assert [query(study, sql) for sql in (folds, accuracies)] == before
    assert query(study, alerts) == [{"patient_id": "0001", "severity": "ERROR", "status": "resolved"}]
    assert "want of consent" not in (study.reports_dir / "study_report.html").read_text("utf-8")

    # a study that keeps no such file any more is as it was, and a home from before has no run to do for having none
    file.unlink()
    run(study, pages=False)
    assert count(study, "consent") == 0
    with Warehouse(study.warehouse_path, study.warehouse).write() as connection:
        connection.execute("delete from extractions where table_name = 'consent'")
    assert stale_patients(read_study(study.study), study) == {}


def test_an_unreadable_study_folder_is_an_error_and_removes_nothing(study: Settings) -> None:

    before = contents(study, ["patients", "videos", "frames"])
    (study.study / "enrollment.csv").unlink()
    with pytest.raises(StudyFolderError, match=r"enrollment\.csv"):
        run(study)
    assert contents(study, ["patients", "videos", "frames"]) == before


def test_no_picture_is_in_what_dagster_keeps(study: Settings) -> None:
    run(study)
    kept = [path.read_bytes() for path in (study.home / "dagster").rglob("*") if path.is_file()]
    assert sum(map(len, kept)) > 100_000
    for start in (
        b"data:image/jp",
        b"data:image/png",
        b"data:image/webp",
        b"/9j/4AA",
        b"iVBORw0KGgo",
        b"\xff\xd8\xff\xe0",
        b"\x89PNG",
    ):
        assert not any(start in content for content in kept)


def test_someone_who_is_not_enrolled_cannot_be_asked_for(made: Settings) -> None:
    with pytest.raises(ValueError, match="not enrolled"):
        run(made, "9999")


def write_sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=22050)
        samples = (np.random.default_rng(0).normal(0, 0.1, (1, 22050))).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 22050
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_plain(path: Path, frames: int, width: int, height: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(frames):
            picture = np.full((height, width, 3), 40 + i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_bad_files_become_rows_with_a_reason_and_the_others_continue(study: Settings) -> None:
    folder = study.study / "videos" / "0003"
    (folder / "0003-90.mp4").write_bytes(b"")
    (folder / "0003-91.mp4").write_text("Dear doctor, this is no video.")
    write_sound_only(folder / "0003-92.mp4")
    write_plain(folder / "0003-93.mp4", frames=2, width=64, height=64)
    write_plain(folder / "0003-94.mp4", frames=6, width=3840, height=2160)
    write_plain(folder / 'it\'s a "name" – ü.mp4', frames=6, width=64, height=64)
    with (study.study / "surveys.csv").open("a") as file:
        file.write("not-a-survey\n0003-95,nobody,2021-02-01T10:00:00+00:00,home,1,yes,1,1,1,1,1,1,1\n")
    assert not run(study).failed
    status = {r["video_id"]: r["status"] for r in query(study, "select video_id, status from videos")}
    assert status["0003-90"] == status["0003-91"] == "unreadable"
    assert status["0003-92"] == "no_video"
    assert status["0003-93"] in ("ok", "too_short")
    assert status["0003-94"] == "ok" and count(study, "frames", "video_id = '0003-94'") == 6
    rejected = query(study, "select file, line, code, reason from rejected_rows")
    assert sum(r["file"] == "surveys.csv" for r in rejected) == 2
    assert any(r["file"].startswith("videos/0003") for r in rejected)
    assert not any("Dear doctor" in r["reason"] or "nobody" in r["reason"] for r in rejected)
    assert count(study, "video_quality", "not usable and patient_id = '0003'") >= 5
    assert run(study).outcomes == []


def iss(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(Path(sys.executable).with_name("iss")), *arguments], capture_output=True, text=True, timeout=300
    )


def test_the_command_line_says_how_things_stand(study: Settings) -> None:
    output = iss("status")
    assert output.returncode == 0 and output.stdout.count("\n000") == 3, output.stderr
    output = iss("sql", "select count(*) as n from patients", "--format", "json")
    assert output.stdout == '[{"n": 3}]\n'
    output = iss("sql", "select 'a,b' as x, null as y", "--format", "csv")
    assert output.stdout == 'x,y\n"a,b",\n'
    output = iss("sql", "delete from patients")
    assert output.returncode == 2 and count(study, "patients") == 3
    output = iss("sql", "copy patients to 'out.csv'")
    assert output.returncode == 2 and not Path("out.csv").exists()


def test_the_exit_status_is_two_and_the_message_clear_where_nothing_can_be_done(tmp_path: Path) -> None:
    output = iss("run", "--study", str(tmp_path / "nowhere"), "--home", str(tmp_path / "home"))
    assert output.returncode == 2 and "Traceback" not in output.stderr and output.stderr.strip()
    output = iss("sql", "select 1", "--home", str(tmp_path / "home2"))
    assert output.returncode == 2 and "iss run" in output.stderr


def test_the_exit_status_is_one_where_a_patient_failed_and_the_others_are_done(study: Settings) -> None:
    for patient in ("0002", "0003"):
        for path in (study.study / "videos" / patient).iterdir():
            with path.open("ab") as file:
                file.write(b"\0" * 16)  # another file by its hash, the same video
    study.spool_dir.mkdir(parents=True, exist_ok=True)
    (study.spool_dir / "0002").write_text("a file where the patient's folder should be")
    before = query(study, "select sha256 from videos order by video_id")
    output = iss_in_this_process(("run", "--no-models"))
    assert output.returncode == 1, output.stderr
    problems = [line for line in output.stderr.splitlines() if line.startswith("failed")]
    assert len(problems) == 1
    assert re.fullmatch(r"failed: 0002: \w+: \w+Error: \[Errno \d+\] [\w ]+: 'HOME/spool/0002'", problems[0])
    assert "1 failed" in output.stdout and "Traceback" not in output.stderr
    after = query(study, "select sha256 from videos order by video_id")
    assert after[2] != before[2] and after[0] == before[0]
    assert count(study, "frames", "patient_id = '0003'") >= 44
    (study.spool_dir / "0002").unlink()
    assert not run(study, pages=False).failed
    assert count(study, "frames", "patient_id = '0002'") >= 44


@pytest.mark.slow
@pytest.mark.thorough
def test_the_wheel_elsewhere_with_more_workers_makes_the_same_rows_as_the_clone(
    made: Settings, installed: Path, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"ISS_STUDY": str(made.study), "ISS_HOME": str(tmp_path / "home")}
    environment |= {"ISS_RUN__WORKERS": "2", "ISS_RUN__THREADS": "5"}
    (tmp_path / "empty").mkdir()
    output = subprocess.run(
        [installed / "iss", "run"], cwd=tmp_path / "empty", env=environment, capture_output=True, text=True
    )
    assert output.returncode == 0, output.stderr
    assert list((tmp_path / "empty").iterdir()) == []
    again, first = contents(Settings(study=made.study, home=tmp_path / "home")), contents(made)
    assert again.keys() == first.keys() and len(first) > 40
    assert [table for table in first if again[table] != first[table]] == []
    assert {p.name for p in (tmp_path / "home/reports").iterdir()} == {
        p.name for p in made.reports_dir.iterdir()
    }


@pytest.mark.slow
@pytest.mark.thorough
def test_a_run_killed_again_and_again_ends_in_the_same_tables_as_an_undisturbed_one(
    made: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISS_STUDY", str(made.study))
    monkeypatch.setenv("ISS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ISS_RUN__WORKERS", "1")
    command = [str(Path(sys.executable).with_name("iss")), "run"]
    again = Settings(study=made.study, home=tmp_path / "home")
    log = tmp_path / "told"
    for reached in (
        # one patient is in the warehouse, and what was seen of the next one waits on disk
        # (`glob` takes a folder that goes away while it looks for an empty one, `Path.rglob` does not)
        lambda: "1/3" in log.read_text() and glob(f"{again.spool_dir}/*/*.faces.*.arrow"),  # noqa: PTH207
        lambda: "evaluating" in log.read_text(),  # the forest is trained
        lambda: "building the SQL marts" in log.read_text(),
    ):
        with log.open("w") as output:
            process = subprocess.Popen(command, start_new_session=True, stdout=output, stderr=output)
            deadline = time.monotonic() + 300
            while not reached():
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    last = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert last.returncode == 0, last.stderr
    found, wanted = contents(again), contents(made)
    assert found.keys() == wanted.keys()
    assert [table for table in wanted if found[table] != wanted[table]] == []


@pytest.mark.slow
@pytest.mark.thorough
def test_a_study_that_grew_on_a_shared_warehouse_has_every_table_of_a_file_that_was_made_in_one_go(
    made: Settings, shared: WarehouseSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_in_this_process(monkeypatch)
    # before two of three patients enrolled, and before the other sent another video
    folder = tmp_path / "study"
    shutil.copytree(made.study, folder, copy_function=shutil.copy2)
    (video,) = (folder / "videos/0002").iterdir()
    (other,) = (folder / "videos/0003").iterdir()
    other.replace(video)
    for patient in ("0001", "0003"):
        shutil.rmtree(folder / "videos" / patient)
    for table in ("enrollment.csv", "surveys.csv"):
        lines = (folder / table).read_text().splitlines(keepends=True)
        (folder / table).write_text("".join(line for line in lines if not re.search("000[13]", line)))
    monkeypatch.setenv("ISS_STUDY", str(folder))
    grown = Settings(study=folder, home=tmp_path / "home")
    assert grown.warehouse.catalog == shared.catalog
    assert not run(grown, pages=False).failed
    assert query(grown, "select patient_id p, status s from videos") == [{"p": "0002", "s": "ok"}]
    replaced = query(grown, "select sha256 from videos where patient_id = '0002'")

    shutil.copytree(made.study, folder, copy_function=shutil.copy2, dirs_exist_ok=True)
    assert not run(grown, models=True).failed
    assert query(grown, "select sha256 from videos where patient_id = '0002'") != replaced
    found, wanted = contents(grown), contents(made)
    assert found.keys() == wanted.keys() and len(wanted) > 100
    assert [table for table in wanted if found[table] != wanted[table]] == []
    assert {p.name for p in grown.reports_dir.iterdir()} == {p.name for p in made.reports_dir.iterdir()}

    def command(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main.app, arguments)
        return done.exit_code, done.output

    status, said = command("status")
    assert status == 0 and "0 with something to bring up to date" in said
    assert "tables, " in (said := command("doctor")[1]) and "MiB, shared" in said
    assert command("sql", "select count(*) as n from landmarks where len(points) = 1404", "--format", "json") == (
        0, f'[{{"n": {count(made, "landmarks", "detected")}}}]\n',
    )  # fmt: skip
    status, said = command("sql", "delete from patients")
    assert status == 2 and "SELECT" in said and count(grown, "patients") == 3
    status, said = command(
        "export", "--to", str(tmp_path / "exported"), "--tables", "patients,patient_summary"
    )
    assert status == 0 and said == "patients.parquet: 3 rows\npatient_summary.parquet: 3 rows\n"
    for refused in (("encrypt",), ("decrypt",), ("rekey",)):
        status, said = command(*refused)
        assert status == 2 and "this one is shared" in said, refused


def _as_an_earlier_version_left_it(settings: Settings) -> None:
    """Rewrite a home's times that were stored before offsets were kept: the local clock as UTC, no local day."""
    rows = score_rows(read_study(settings.study, settings.reading))
    later = ("written_time", "utc_offset_minutes", "utc_offset_source", "submitted_on")
    with Warehouse(settings.warehouse_path).write() as writer:
        writer.execute("update bpi_scores set submitted_at = written_time at time zone 'UTC'")
        writer.execute("update patient_timeline set happened_on = happened_on + 1")
        writer.execute("update submission_adherence set days = 0")
        writer.execute(
            "update check_results set passed = not passed where check_name = 'more_than_one_a_day'"
        )
        for patient in {r["patient_id"] for r in rows}:
            offset = {r["submission_id"]: timedelta(minutes=r["utc_offset_minutes"]) for r in rows}
            own = [
                {name: value for name, value in row.items() if name not in later}
                | {"submitted_at": row["submitted_at"].astimezone(timezone(offset[row["submission_id"]]))}
                for row in rows
                if row["patient_id"] == patient
            ]
            writer.execute(
                "update extractions set fingerprint = ? where patient_id = ? and table_name = 'bpi_scores'",
                [fingerprint(own), patient],
            )
    with Warehouse(settings.warehouse_path).write() as writer:
        for column in later:
            writer.execute(f"alter table bpi_scores drop column {column}")
        for column in ("submitted_at", "timeframe"):
            writer.execute(f"alter table bpi_scores alter column {column} set not null")
    with open_instance(settings) as instance:
        for subject in (MARTS, PAGES):
            for made in instance.get_runs(RunsFilter(tags={SUBJECT_TAG: subject})):
                instance.add_run_tags(made.run_id, {STATE_TAG: "before"})
    for page in settings.reports_dir.rglob("*.html"):
        page.write_text("old")
    database._CURRENT.clear()


def stored_times(settings: Settings) -> dict[str, list[dict]]:
    """Return everything stored that depends on when a check-in was."""
    tables = {
        "bpi_scores": "true",
        "patient_timeline": "true",
        "submission_adherence": "true",
        "check_results": "asset = 'bpi_scores'",
    }
    names = {t: sorted(c.name for c in BY_NAME[t].columns()) if t in BY_NAME else ["*"] for t in tables}
    # how long ago a check-in was is counted to the newest one of the study at that moment, which other patients move
    numbers = "case when check_name <> 'no_check_in' then numbers end as numbers"
    names["check_results"] = ["patient_id", "check_name", "passed", "affected", numbers]
    return {
        t: query(settings, f"select {', '.join(names[t])} from {t} where {where} order by all")
        for t, where in tables.items()
    }


def test_a_home_with_the_wrong_times_of_an_earlier_version_is_put_right_by_the_next_run(
    study: Settings,
) -> None:
    right = stored_times(study)
    sent = {
        r["submission_id"]: datetime.fromisoformat(r["submitted_at"])
        for r in csv.DictReader((study.study / "surveys.csv").open(encoding="utf-8"))
    }
    assert all(at.utcoffset() for at in sent.values())
    _as_an_earlier_version_left_it(study)
    stored = "select submission_id, submitted_at from bpi_scores"
    assert all(r["submitted_at"] != sent[r["submission_id"]] for r in query(study, stored))

    summary = run(study)
    assert not summary.failed, summary.failed
    assert {r["submission_id"]: r["submitted_at"] for r in query(study, stored)} == sent
    assert stored_times(study) == right
    pages = list(study.reports_dir.rglob("*.html"))
    assert pages
    assert all(page.read_text() != "old" for page in pages if page.parent.name == "patients")
    assert run(study).outcomes == []
