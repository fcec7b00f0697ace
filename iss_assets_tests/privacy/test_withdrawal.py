"""A patient who withdraws is gone from every byte of the home, nobody else is touched, and the study goes on."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from iss_assets.cli.location import load
from iss_assets.intake.folder import rejected_rows
from iss_assets.intake.records import StudyFolderError
from iss_assets.intake.reviews import ReviewRow, append_review
from iss_assets.intake.withdrawn import Scope, read_withdrawn, with_key
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.job_runs import run_job
from iss_assets.pipeline.launcher import run_study
from iss_assets.pipeline.run_history import add_patients, known_patients
from iss_assets.privacy.at_work import at_work
from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.privacy.certificate import read_certificates
from iss_assets.privacy.register import open_study
from iss_assets.privacy.withdrawal import models_to_fit_again, pending_path, preview, withdraw
from iss_assets.protocol.reviews import Decision
from iss_assets.schemas.registry import MADE_AGAIN, TABLES
from iss_assets.settings import RunSettings, Settings, WarehouseSettings
from iss_assets.synthetic.sample import write_sample_study
from iss_assets.warehouse.conversion import convert
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.engine import is_encrypted
from iss_assets.warehouse.keys import new_key, read_key, write_key
from iss_assets.warehouse.spool import write_waiting
from iss_assets_tests.cli.processes import Iss
from iss_assets_tests.media.flir import head, thermal_jpeg
from iss_assets_tests.this_process import work_in_this_process

PATIENT, NAMESAKE = "0002", "00021"
"""Who withdraws, and somebody whose id begins with the same letters."""
REASON = "quokka-reason-4711"
PIXELS = bytes(range(97, 161)) * 2
VOICE = bytes(range(33, 97)) * 2
ID = re.compile(rf"(?<![0-9A-Za-z.-]){PATIENT}(?![0-9A-Za-z])")
"""The id as a token; a hyphen before it is the middle of a run's id."""


def quiet(*_: object) -> None:
    """Take progress and say nothing."""


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A study that was run, with models, pages, reviews, logs and an audit log; `settings` is a copy to change."""
    root = tmp_path_factory.mktemp("lived_in")
    settings = Settings(study=root / "study", home=root / "home", run=RunSettings(workers=1))
    write_sample_study(settings.study, patients=4, seconds=4.5, submissions_per_patient=1)
    for file in ("enrollment.csv", "surveys.csv"):
        rows = list(csv.reader((settings.study / file).read_text().splitlines()))
        (own,) = (row for row in rows if PATIENT in row)
        namesake = ",".join(cell.replace(PATIENT, NAMESAKE) for cell in own)
        with (settings.study / file).open("a") as study_table:
            study_table.write(namesake + "\n")
    (settings.study / "videos" / PATIENT / f"{PATIENT}-01_thermal.jpg").write_bytes(thermal_jpeg(head()))
    for patient, reason in ((PATIENT, REASON), ("0001", "kept-reason-4712")):
        append_review(
            settings.study,
            ReviewRow(datetime.now(UTC), "ana", patient, f"{patient}-01", None, Decision.INCLUDE, reason),
        )
    consents = [
        f"{patient},research,2021-01-10,,1" for patient in (PATIENT, NAMESAKE, "0001", "0003", "0004")
    ]
    (settings.study / "consent.csv").write_text(
        "\n".join(["patient_id,scope,given_on,withdrawn_on,version", *consents, ""])
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ISS_STUDY", str(settings.study))
        environment.setenv("ISS_HOME", str(settings.home))
        work_in_this_process(environment)
        summary = run_study(settings, load=load, log=quiet, progress=quiet)
    assert not summary.failed, summary.failed
    temperatures = Warehouse(settings.warehouse_path).query(
        "select submission_id, status, forehead_c from thermal"
    )
    assert [(r["submission_id"], r["status"]) for r in temperatures.to_pylist()] == [(f"{PATIENT}-01", "ok")]
    with Warehouse(settings.warehouse_path).write() as writer:
        for table, column, marker in (("faces", "crop", PIXELS), ("audio", "waveform", VOICE)):
            writer.execute(
                f"update {table} set {column} = ? || {column} where patient_id = ?", [marker, PATIENT]
            )
    for name in ("workers.log", "serve.log"):
        with (settings.home / name).open("a") as log:
            log.write(f"patient 0001 done\nvideo {PATIENT}-01 is damaged\n{NAMESAKE} done\n")
    (settings.spool_dir / PATIENT).mkdir()
    (settings.spool_dir / PATIENT / f"{PATIENT}-01.faces.abc.arrow").write_bytes(PIXELS)
    (settings.journal_dir / f"{PATIENT}-01.picture").write_text(json.dumps({"patient_id": PATIENT}))
    (settings.home / "warehouse.duckdb.tmp").mkdir()
    (settings.home / "warehouse.duckdb.tmp" / "duckdb_temp_block-1.block").write_bytes(VOICE)
    audit = AuditLog(settings.audit_path)
    audit.record("ana", Action.MEDIA_VIEWED, f"{PATIENT}-01", patient=PATIENT, second=3)
    audit.record("ana", Action.MEDIA_VIEWED, "0001-01", patient="0001", second=3)
    audit.record("ana", Action.EXPORTED, None, to="/media/stick", purpose="a talk", sha256={})
    return settings


@pytest.fixture
def settings(lived_in: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of that study and its home, to change; what is run in it is run by this process."""
    return copied(lived_in, tmp_path, monkeypatch)


def copied(original: Settings, to: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    work_in_this_process(monkeypatch)
    for folder in ("study", "home"):
        shutil.copytree(getattr(original, folder), to / folder)
        monkeypatch.setenv(f"ISS_{folder.upper()}", str(to / folder))
    return Settings(study=to / "study", home=to / "home", run=RunSettings(workers=1))


def everything_in(home: Path) -> Iterator[tuple[str, str]]:
    """Yield what a home holds as texts: names, files, and the tables of its databases."""
    for path in sorted(p for p in home.rglob("*") if not p.is_symlink()):
        yield "name", path.relative_to(home).as_posix()
        if not path.is_file():
            continue
        content = path.read_bytes()
        if content.startswith(b"SQLite"):
            with sqlite3.connect(path) as connection:
                yield path.name, "\n".join(connection.iterdump())
        elif content[8:12] == b"DUCK":
            with Warehouse(path).read() as opened:
                tables = [t for (t,) in opened.execute("select table_name from duckdb_tables()").fetchall()]
                for table in tables:
                    names = [
                        f'"{column}"::varchar'
                        for column, kind in opened.execute(
                            "select column_name, data_type from duckdb_columns() where table_name = ? and not internal",
                            [table],
                        ).fetchall()
                        if "VARCHAR" in kind
                    ]
                    schema = "loader." if table in ("models_made", "schema_version") else ""
                    if names:
                        rows = opened.execute(
                            f"select distinct {', '.join(names)} from {schema}{table}"
                        ).fetchall()
                        yield f"{path.name} {table}", "\n".join(str(row) for row in rows)
        elif path.suffix not in (".safetensors", ".otf"):
            yield path.name, content.decode("latin-1")


def places_of(home: Path, pattern: re.Pattern[str]) -> list[str]:
    return sorted({where for where, text in everything_in(home) if pattern.search(text)})


def files_with(home: Path, marker: bytes) -> list[str]:
    return [p.name for p in sorted(home.rglob("*")) if p.is_file() and marker in p.read_bytes()]


def hashes(settings: Settings, *, without: str = PATIENT) -> dict[str, tuple]:
    """Hash the rows of the other patients, table by table."""
    found = {}
    models = {"fold_models", "frame_predictions", "patient_accuracy", "extractions"}
    with Warehouse(settings.warehouse_path).read() as opened:
        for table in TABLES:
            if table in MADE_AGAIN or table.__table__ in models:
                continue
            columns = {c.name for c in table.columns()}
            other = "patient_id <> ?" if "patient_id" in columns else "?::varchar is not null"
            rows = opened.execute(
                f"select count(*) n, bit_xor(hash(t)) h from {table.__table__} t where {other}", [without]
            )
            found[table.__table__] = rows.fetchall()[0]
    return found


def test_no_byte_of_the_home_names_or_shows_the_patient_afterwards_and_others_are_untouched(
    settings: Settings,
) -> None:
    # the markers are in every channel before, or not finding them afterwards would prove nothing
    before = places_of(settings.home, ID)
    for place in (
        "name", "serve.log", "workers.log", "audit.jsonl", "index.db", "runs.db", "quality.html", "study_report.html",
        "warehouse.duckdb patients", "warehouse.duckdb reviews", "warehouse.duckdb consent", "warehouse.duckdb fold_models",
        "warehouse.duckdb extractions", "warehouse.duckdb check_results",
    ):  # fmt: skip
        assert place in before
    assert "warehouse.duckdb" in files_with(settings.home, PIXELS)
    assert "warehouse.duckdb" in files_with(settings.home, VOICE)
    assert REASON in "".join(text for _, text in everything_in(settings.home))
    rows, lines = hashes(settings), (settings.home / "serve.log").read_text()
    assert NAMESAKE in lines

    done = Iss(settings.study, settings.home)("withdraw", PATIENT, "--reason", "asked by letter", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr

    assert places_of(settings.home, ID) == []
    for marker in (PIXELS, VOICE, REASON.encode(), PIXELS[:24], VOICE[:24]):
        assert files_with(settings.home, marker) == []
    assert REASON not in "".join(text for _, text in everything_in(settings.home))
    after = hashes(settings)
    assert after == rows
    assert after["patients"][0] == 4 and after["reviews"][0] == 1
    assert (settings.home / "serve.log").read_text() == lines.replace(f"video {PATIENT}-01 is damaged\n", "")
    (certificate,) = read_certificates(settings.home)
    assert certificate.complete and certificate.search["found"] == []
    assert certificate.rows["patients"] == 1 and certificate.rows["faces"] > 40
    assert certificate.rows["reviews"] == 1
    assert certificate.search["looked_for"]["samples of faces and sound"] >= 2
    assert [(c["to"], c["purpose"]) for c in certificate.copies] == [("/media/stick", "a talk")]
    assert not pending_path(settings.home).exists()


def test_a_withdrawal_from_an_encrypted_home_leaves_no_byte_and_no_row_either(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file = tmp_path / "key"
    write_key(key_file, new_key())
    # what waits to be stored is sealed, so it is one that was really waiting
    spool = settings.spool_dir / PATIENT
    for waiting in spool.iterdir():
        waiting.unlink()
    with_key_file = WarehouseSettings(key_file=key_file)
    convert(Warehouse(settings.warehouse_path), read_key(key_file))
    write_waiting(spool / "b1.arrow", spool / "b1.arrow", read_key(key_file), PIXELS)
    warehouse = Warehouse(settings.warehouse_path, with_key_file)
    # and a log that nobody has checkpointed, of a process that died
    killed = subprocess.run(
        [sys.executable, "-c", LEFT_IN_THE_LOG, str(settings.warehouse_path), str(key_file)]
    )
    log = settings.warehouse_path.with_name("warehouse.duckdb.wal")
    assert killed.returncode == -signal.SIGKILL and log.stat().st_size
    before = file_blocks(settings.home)
    others = "select count(*) n, bit_xor(hash(t)) h from {} t where patient_id <> ?"
    tables = ("patients", "bpi_scores", "faces", "audio", "reviews", "consent")
    rows = {table: warehouse.query(others.format(table), [PATIENT]).to_pylist() for table in tables}

    monkeypatch.setenv("ISS_WAREHOUSE__KEY_FILE", str(key_file))
    iss = Iss(settings.study, settings.home, {"ISS_WAREHOUSE__KEY_FILE": str(key_file)})
    done = iss("withdraw", PATIENT, "--reason", "asked by letter", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr

    assert is_encrypted(settings.warehouse_path) and not log.exists() and not spool.exists()
    for marker in (PIXELS, VOICE, REASON.encode()):
        assert files_with(settings.home, marker) == []
    for table in (t.__table__ for t in TABLES if any(c.name == "patient_id" for c in t.columns())):
        assert warehouse.query(f"select 1 from {table} where patient_id = ?", [PATIENT]).num_rows == 0, table
    assert {t: warehouse.query(others.format(t), [PATIENT]).to_pylist() for t in tables} == rows
    # not one encrypted block of before is left, in which the old bytes would be
    assert not before & file_blocks(settings.home)
    (certificate,) = read_certificates(settings.home)
    assert certificate.complete and certificate.search["looked_for"]["samples of faces and sound"] >= 2
    # in the clear again, nothing comes back
    convert(warehouse, None)
    assert places_of(settings.home, ID) == []
    for marker in (PIXELS, VOICE, PIXELS[:24], VOICE[:24]):
        assert files_with(settings.home, marker) == []


LEFT_IN_THE_LOG = """
import os, signal, sys
from pathlib import Path
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse
with Warehouse(Path(sys.argv[1]), WarehouseSettings(key_file=Path(sys.argv[2]))).write() as writer:
    writer.execute("set checkpoint_threshold = '1GB'")
    writer.execute("update reviews set reviewer = 'maria' where patient_id = '0002'")
    writer.execute("commit")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def file_blocks(home: Path) -> set[bytes]:
    """Return the hash of every block of the warehouse and its log that is not empty."""
    found = set()
    for path in home.glob("warehouse.duckdb*"):
        if path.is_file() and path.suffix != ".lock":
            content = path.read_bytes()
            for start in range(0, len(content), 4096):
                block = content[start : start + 4096]
                if len(block) == 4096 and any(block):
                    found.add(hashlib.sha256(block).digest())
    return found


def test_the_log_keeps_who_and_when_without_content_and_stays_intact(settings: Settings) -> None:
    withdraw(settings, PATIENT, reason="asked", who="system:ana", log=quiet)
    log = AuditLog(settings.audit_path)
    assert log.verify().problems == ()
    lines = list(log.lines())
    assert [line.redacted for line in lines] == [True, False, False, False, False]
    assert lines[1].subject == "0001-01"
    assert lines[-1].action == Action.WITHDRAWN and lines[-1].subject is None
    assert lines[-1].detail["patient_hash"] == read_certificates(settings.home)[0].patient


def test_runs_training_and_pages_go_on_without_the_patient_who_is_refused_when_coming_back(
    settings: Settings,
) -> None:
    withdraw(settings, PATIENT, reason="asked", who="ana", log=quiet)
    (why,) = models_to_fit_again(settings)
    assert "because a patient whom they had learned from withdrew" in why and "forest_pain" in why
    # the files are still in the study folder
    summary = run_study(settings, load=load, log=quiet, progress=quiet)
    assert not summary.failed, summary.failed
    assert models_to_fit_again(settings) == []
    assert summary.enrolled == 4 and PATIENT not in summary.new_patients
    with open_instance(settings) as instance:
        assert set(known_patients(instance)) == {"0001", "0003", "0004", NAMESAKE}
    warehouse = Warehouse(settings.warehouse_path)
    assert warehouse.query("select count(*) n from fold_models")["n"][0].as_py() >= 2
    assert warehouse.query("select count(*) n from experiment_results")["n"][0].as_py() == 1
    assert (settings.reports_dir / "study_report.html").exists()
    assert places_of(settings.home, ID) == []
    refused = [
        r for r in warehouse.query("select * from rejected_rows").to_pylist() if r["code"] == "withdrawn"
    ]
    assert sorted({row["file"] for row in refused}) == [
        "consent.csv",
        "enrollment.csv",
        "reviews.csv",
        "surveys.csv",
        "videos",
    ]
    assert {(row["patient_id"], row["submission_id"], row["column_name"]) for row in refused} == {
        (None, None, "")
    }
    assert {row["line"] for row in refused if row["file"] == "enrollment.csv"} == {3}


def test_a_file_that_comes_back_under_another_patients_name_is_refused(settings: Settings) -> None:
    own = next((settings.study / "videos" / PATIENT).glob(f"{PATIENT}-01.*"))
    withdraw(settings, PATIENT, reason="asked", who="ana", log=quiet)
    shutil.copy(own, settings.study / "videos" / "0001" / f"0001-09{own.suffix}")
    summary = run_study(settings, ["0001"], load=load, log=quiet, progress=quiet, models=False, pages=False)
    assert not summary.failed, summary.failed
    (row,) = (
        Warehouse(settings.warehouse_path)
        .query("select * from videos where video_id = '0001-09'")
        .to_pylist()
    )
    assert row["status"] == "unreadable" and "withdrawn" in row["problem"]
    assert files_with(settings.home, own.read_bytes()[1000:1064]) == []
    # under another number of its own, too
    shutil.copy(own, settings.study / "videos" / "0001" / f"{PATIENT}-01{own.suffix}")
    codes = [(r["code"], r["file"]) for r in rejected_rows(open_study(settings))]
    assert ("withdrawn", "videos/0001") in codes


def test_a_run_that_is_launched_for_the_patient_is_refused(settings: Settings) -> None:
    withdraw(settings, PATIENT, reason="asked", who="ana", log=quiet)
    with open_instance(settings) as instance:
        add_patients(instance, [PATIENT])
        outcome = run_job(load, instance, "patient", PATIENT, partitions=(PATIENT, PATIENT))
    assert not outcome.success
    assert hashes(settings)["patients"][0] == 4


def test_a_withdrawal_waits_for_runs_in_progress(settings: Settings) -> None:
    said: list[str] = []
    waiting = threading.Event()

    def log(text: str) -> None:
        said.append(text)
        waiting.set()

    with at_work(settings.home):
        thread = threading.Thread(
            target=withdraw, args=(settings, PATIENT), kwargs={"reason": "asked", "who": "ana", "log": log}
        )
        thread.start()
        assert waiting.wait(60)
        assert said == ["waiting for the runs in progress"]
        # nothing new is begun for the patient meanwhile
        assert PATIENT not in open_study(settings).patient_ids
        assert hashes(settings, without="")["patients"][0] == 5
    thread.join(120)
    assert hashes(settings, without="")["patients"][0] == 4


def test_the_study_folder_is_left_alone_unless_asked_and_then_loses_the_patients_rows_and_files_only(
    settings: Settings,
) -> None:
    listed = preview(settings, PATIENT).study_files
    assert listed.rows["enrollment.csv"] == [3] and listed.rows["reviews.csv"] == [2]
    names = ("consent.csv", "enrollment.csv", "surveys.csv", "reviews.csv")
    before = {name: (settings.study / name).read_bytes() for name in names}
    withdraw(settings, PATIENT, reason="asked", who="ana", log=quiet)
    assert {name: (settings.study / name).read_bytes() for name in names} == before
    withdraw(settings, PATIENT, reason="the folder as well", who="ana", log=quiet, source=True)
    assert not (settings.study / "videos" / PATIENT).exists()
    assert (settings.study / "videos" / "0001").exists()
    for name in names:
        kept = [
            line for line in before[name].splitlines(keepends=True) if not re.search(rb"(^|,)0002,", line)
        ]
        assert (settings.study / name).read_bytes() == b"".join(kept), name
        assert NAMESAKE.encode() in before[name] or name == "reviews.csv"
    assert preview(settings, PATIENT).study_files.lines == []


def test_withdrawn_media_leave_the_answers(settings: Settings) -> None:
    rows = hashes(settings)
    certificate = withdraw(settings, PATIENT, reason="asked", who="ana", log=quiet, scope=Scope.MEDIA)
    assert certificate.complete and hashes(settings) == rows
    for marker in (PIXELS, VOICE):
        assert files_with(settings.home, marker) == []
    warehouse = Warehouse(settings.warehouse_path)

    def count(table: str) -> int:
        found = warehouse.query(f"select count(*) n from {table} where patient_id = ?", [PATIENT])
        return int(found["n"][0].as_py())

    summary = run_study(settings, load=load, log=quiet, progress=quiet, pages=False)
    assert not summary.failed, summary.failed
    assert {table: count(table) for table in ("patients", "bpi_scores")} == {"patients": 1, "bpi_scores": 1}
    assert {count(t) for t in ("videos", "frames", "faces", "landmarks", "audio", "cv_splits")} == {0}


def test_who_does_not_want_to_be_shared_is_left_out_of_an_export_with_media(
    settings: Settings, tmp_path: Path
) -> None:
    withdraw(settings, PATIENT, reason="asked", who="ana", log=quiet, scope=Scope.SHARING)
    assert hashes(settings, without="")["patients"][0] == 5
    iss = Iss(settings.study, settings.home, here=True)
    said = iss.ok("export", "--to", str(tmp_path / "out"), "--tables", "patients,faces", "--with-media")
    assert "1 patient is left out" in said
    for table in ("patients", "faces"):
        found = Warehouse(tmp_path / "any.duckdb").query(
            f"select distinct patient_id p from '{tmp_path}/out/{table}.parquet' where p like '0002%'"
        )
        assert PATIENT not in found["p"].to_pylist()
    # without media, what was agreed to stays
    iss.ok("export", "--to", str(tmp_path / "rows"), "--tables", "patients")
    assert Warehouse(tmp_path / "any.duckdb").query(f"from '{tmp_path}/rows/patients.parquet'").num_rows == 5


ALERT = "select status from alerts where check_name = 'withdrawal_requested'"


def run_for_the_alert(settings: Settings) -> list[dict[str, object]]:
    summary = run_study(settings, [PATIENT], load=load, log=quiet, progress=quiet, models=False)
    assert not summary.failed, summary.failed
    return Warehouse(settings.warehouse_path).query(ALERT).to_pylist()


@pytest.fixture(scope="module")
def requested(lived_in: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The same study after a run that has read that the patient does not want to be shared."""
    with pytest.MonkeyPatch.context() as environment:
        settings = copied(lived_in, tmp_path_factory.mktemp("requested"), environment)
        with (settings.study / "consent.csv").open("a") as consent:
            for scope in ("share_media", "share_features"):
                consent.write(f"{PATIENT},{scope},2021-01-10,2021-03-01,1\n")
        assert run_for_the_alert(settings) == [{"status": "raised"}]
    return settings


@pytest.mark.parametrize("scope", [Scope.SHARING, Scope.MEDIA])
def test_a_request_that_was_carried_out_resolves_its_alert_though_its_day_stays_in_the_file(
    requested: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: Scope
) -> None:
    settings = copied(requested, tmp_path, monkeypatch)
    warehouse = Warehouse(settings.warehouse_path)
    withdraw(settings, PATIENT, reason="asked", who="ana", log=quiet, scope=scope)
    # at once for whoever looks, and in the alert after the next run; of media, the alert itself went
    assert (
        warehouse.query(
            "select 1 from check_results where check_name = 'withdrawal_requested' and not passed"
        ).num_rows
        == 0
    )
    assert run_for_the_alert(settings) == ([{"status": "resolved"}] if scope is Scope.SHARING else [])
    result = "select passed from check_results where check_name = 'withdrawal_requested' and patient_id = ?"
    assert warehouse.query(result, [PATIENT]).to_pylist() == [{"passed": True}]


@pytest.mark.parametrize(
    ("patient", "reason", "says"),
    [
        ("0099", "asked", "knows a patient"),
        ("../0002", "asked", "not a patient id"),
        (PATIENT, "  ", "needs a reason"),
        (PATIENT, "0002 called us", "names the patient"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    settings: Settings, patient: str, reason: str, says: str
) -> None:
    rows = hashes(settings, without="")
    with pytest.raises(ValueError, match=says):
        withdraw(settings, patient, reason=reason, who="ana", log=quiet)
    assert not pending_path(settings.home).exists()
    assert hashes(settings, without="") == rows


def test_a_lost_key_is_an_error_and_not_a_register_that_knows_nobody(settings: Settings) -> None:
    withdraw(settings, PATIENT, reason="asked", who="ana", log=quiet)
    (settings.home / "withdrawals" / "key").unlink()
    with pytest.raises(StudyFolderError, match="restore both from a backup"):
        open_study(settings)


KILL = """
import os, shutil, signal, sys
from pathlib import Path
from iss_assets.privacy.withdrawal import finish_pending, withdraw
from iss_assets.settings import Settings

source, work, points = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
CHANGES = {"os.rename", "os.remove", "os.truncate", "os.rmdir", "sqlite3.connect", "open"}

def changes(event, args):
    if event == "open":
        return isinstance(args[1], str) and args[1][:1] in "wxa"
    return event in CHANGES

def in_child(work_on, at):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    seen = [0]
    def hook(event, args):
        if changes(event, args):
            seen[0] += 1
            if seen[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)
    if at is not None:
        sys.addaudithook(hook)
    try:
        work_on()
        (work / "changes").write_text(str(seen[0]))
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)

def settings(name):
    return Settings(study=work / name / "study", home=work / name / "home")

def begin(name):
    withdraw(settings(name), "0002", reason="asked", who="ana", log=lambda _: None, source=True)

def copy(name):
    shutil.copytree(source, work / name)

copy("whole")
assert in_child(lambda: begin("whole"), -1) == 0
total = int((work / "changes").read_text())
for point in range(points):
    name = f"killed-{point}"
    copy(name)
    at = 1 + point * (total - 1) // (points - 1)
    status = in_child(lambda: begin(name), at)
    assert os.WIFSIGNALED(status), (name, at, total, status)
    # the beginning may be too early to have left anything to finish
    pending = (work / name / "home" / "withdrawals" / "pending.json").exists()
    again = (lambda: finish_pending(settings(name), lambda _: None)) if pending else (lambda: begin(name))
    assert in_child(again, None) == 0, (name, at)
    print(name, at, total, pending)
"""


@pytest.mark.parametrize("points", [4, pytest.param(10, marks=pytest.mark.thorough)])
def test_killed_at_several_points_and_finished_it_ends_in_the_same_state(
    settings: Settings, tmp_path: Path, points: int
) -> None:
    # the key is random, so it is made before
    with_key(settings.home)
    source, work = tmp_path / "source", tmp_path / "work"
    source.mkdir()
    work.mkdir()
    for folder in ("study", "home"):
        shutil.move(getattr(settings, folder), source / folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ISS_")}
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(source), str(work), str(points)],
        env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(line.endswith("True") for line in done.stdout.splitlines()) >= points - 2
    states = {folder.name: state(folder) for folder in sorted(work.iterdir()) if folder.is_dir()}
    assert len(states) == points + 1
    for name, found in states.items():
        assert found == states["whole"], name


def state(root: Path) -> dict[str, object]:
    """Return everything that two withdrawals of the same patient have in common."""
    settings = Settings(study=root / "study", home=root / "home")
    (certificate,) = read_certificates(settings.home)
    stays = vars(certificate) | dict.fromkeys(
        ("withdrawal_id", "asked_at", "finished_at", "search", "file_bytes")
    )
    ledger = Warehouse(settings.warehouse_path).query(
        "select count(*) n, bit_xor(hash(t)) h from extractions t"
    )
    history = {
        path.name: sorted(
            line
            for line in "\n".join(sqlite3.connect(path).iterdump()).splitlines()
            if "secondary" not in line
        )
        for path in sorted((settings.home / "dagster").rglob("*.db"))
    }
    return {
        "complete": certificate.complete,
        "certificate": stays,
        "rows": hashes(settings),
        "ledger": ledger.to_pylist(),
        "history": history,
        "register": read_withdrawn(settings.home),
        "files": sorted(
            re.sub(r"withdrawal-.*\.", "certificate.", path.relative_to(root).as_posix())
            for path in root.rglob("*")
            if not path.name.endswith((".lock", ".turn", "-wal", "-shm"))
        ),
        "study": {p.name: p.read_bytes() for p in sorted(settings.study.glob("*.csv"))},
        "audit": AuditLog(settings.audit_path).verify().problems,
        "withdrawn": [line.action for line in AuditLog(settings.audit_path).lines()],
    }
