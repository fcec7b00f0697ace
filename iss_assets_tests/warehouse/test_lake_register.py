"""Two homes on one shared warehouse: who withdraws in one of them is refused in the other, and removed from it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from iss_assets.intake.records import StudyFolderError
from iss_assets.intake.withdrawn import Scope, read_withdrawn, with_key, write_withdrawn
from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.privacy.certificate import Certificate
from iss_assets.privacy.one_study import require_one_study
from iss_assets.privacy.own_folder import accept
from iss_assets.privacy.register import (
    SomebodyWithdrew,
    commit_guard,
    keep_in_home,
    note_home,
    open_study,
    other_homes,
    read_register,
    register_withdrawal,
    share_register,
    stamp,
    to_clean,
)
from iss_assets.privacy.release.columns import Tier
from iss_assets.privacy.release.make import Request, make_release
from iss_assets.privacy.release.pseudonyms import Pseudonyms, release_key
from iss_assets.privacy.withdrawal import follow_other_hosts, withdraw
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import ReleaseSettings, Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.lake_study import FILE
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER
from iss_assets_tests.lakes import database_of
from iss_assets_tests.postgres import PostgresServer
from iss_assets_tests.privacy.release.conftest import FACTS, read
from iss_assets_tests.warehouse.test_database import splits

PATIENT, OTHER = "0002", "0003"
SUBMISSION = "q7-of-the-patient"
FACTS_OF = ReleaseSettings(**{**FACTS, "k": 3})


def home(warehouse: Warehouse, folder: Path) -> Settings:
    """Return the settings of a new home on the warehouse, with a study folder that all homes have."""
    study = folder / "study"
    (study / "videos").mkdir(parents=True, exist_ok=True)
    lines = [f"{patient},1A,M,II,0,2021-01-04,-05:00" for patient in (PATIENT, OTHER)]
    (study / "enrollment.csv").write_text("\n".join([ENROLLMENT_HEADER, *lines]) + "\n")
    (study / "surveys.csv").write_text(SURVEY_HEADER + "\n")
    path = folder / f"home{len(list(folder.glob('home?')))}"
    path.mkdir(mode=0o700)
    if (study_id := folder / "home0" / FILE).exists():
        shutil.copy(study_id, path)
    made = Settings(study=study, home=path, warehouse=warehouse.settings, release=FACTS_OF)
    require_one_study(made)
    # the folder has none of the videos of the invented tables
    accept(made.home)
    return made


@pytest.fixture
def first(studied: Warehouse, tmp_path: Path) -> Settings:
    return home(studied, tmp_path / "homes")


@pytest.fixture
def second(first: Settings, studied: Warehouse, tmp_path: Path) -> Settings:
    return home(studied, tmp_path / "homes")


def leave(settings: Settings, scope: Scope = Scope.ALL) -> Certificate:
    return withdraw(settings, PATIENT, reason="asked", who="tester", log=lambda line: None, scope=scope)


def leave_traces(settings: Settings) -> list[Path]:
    """Leave in a home what runs leave of a patient: a video that waits, lines of a log, events, a line of the audit log."""
    spool = settings.spool_dir / PATIENT / f"{SUBMISSION}.arrow"
    spool.parent.mkdir(parents=True)
    spool.write_bytes(b"faces")
    log = settings.home / "workers.log"
    log.write_text(f"patient {PATIENT} was extracted\nnothing of anybody\nread {SUBMISSION}.mp4\n")
    history = settings.dagster_home / "history" / "runs" / "index.db"
    history.parent.mkdir(parents=True)
    with sqlite3.connect(history) as connection:
        connection.execute("create table event_logs (id integer primary key, run_id text, event text)")
        connection.executemany(
            "insert into event_logs (run_id, event) values (?, ?)",
            [("r1", json.dumps({"partition": PATIENT})), ("r2", json.dumps({"partition": OTHER}))],
        )
    connection.close()
    AuditLog.of(settings).record("tester", Action.MEDIA_VIEWED, SUBMISSION)
    return [spool, log, history, settings.audit_path]


def test_who_withdraws_on_one_host_is_refused_on_all_others_and_removed_by_their_next_run(
    first: Settings, second: Settings, studied: Warehouse
) -> None:
    with Warehouse(first.warehouse_path, first.warehouse).write() as writer:
        writer.execute("update videos set video_id = ? where video_id = ?", [SUBMISSION, f"{PATIENT}-1"])
        # in the invented study, all faces look alike
        writer.execute("update faces set crop = ? where patient_id = ?", [b"a face of their own", PATIENT])
    places = leave_traces(second)
    note_home(second)
    before = stamp(second)
    certificate = leave(first)

    # at once, and without anything in the other home
    assert stamp(second) != before
    assert open_study(second).patient_ids == (OTHER,) and not read_withdrawn(second.home)
    register = read_register(second)
    assert register.submission(SUBMISSION) and register.scope_of(OTHER) is None
    AuditLog.of(second).record("tester", Action.PATIENT_VIEWED, PATIENT)
    assert PATIENT not in second.audit_path.read_text()

    # the certificate says that the other home still has something
    assert not certificate.complete and certificate.search["found"] == []
    (line,) = certificate.remains
    assert "run `iss run` there" in line and len(certificate.elsewhere) == 1

    (there,) = follow_other_hosts(second, lambda line: None)
    assert there.complete and there.patient == certificate.patient, there.remains
    assert (there.files["waiting extractions and locks"], there.files["lines of logs"]) == (1, 2)
    assert there.history == {"events": 1} and there.audit_lines == 1
    assert not places[0].exists()
    for path in places[1:]:
        assert not any(name in path.read_bytes() for name in (PATIENT.encode(), SUBMISSION.encode())), path
    assert places[1].read_text() == "nothing of anybody\n"
    assert follow_other_hosts(second, lambda line: None) == []

    # neither home is asked again
    assert other_homes(first) == [] and to_clean(first) is to_clean(second) is None


def test_a_run_on_another_host_cannot_write_what_it_has_read_of_who_withdrew_meanwhile(
    first: Settings, second: Settings, studied: Warehouse
) -> None:
    def running(patient: str | None) -> Warehouse:
        return Warehouse(second.warehouse_path, second.warehouse, commit_guard(second, patient))

    of_patient, of_other, of_all = running(PATIENT), running(OTHER), running(None)
    of_all.replace(CvSplits, splits("before", 1), {"split": 1})
    register_withdrawal(first, PATIENT, Scope.MEDIA, [], [])
    for late in (of_patient, of_all):
        with pytest.raises(SomebodyWithdrew, match="nothing was written"):
            late.replace(CvSplits, splits(PATIENT, 2), {"split": 1})
    of_other.replace(CvSplits, splits(OTHER, 1, split=2), {"split": 2})
    # one that begins now knows of it
    running(None).replace(CvSplits, splits("after", 1, split=3), {"split": 3})
    rows = studied.query("select patient_id from cv_splits where contains(patient_id, '-') order by split")
    assert rows["patient_id"].to_pylist() == ["before-0", f"{OTHER}-0", "after-0"]


def test_who_withdrew_from_sharing_on_one_host_is_in_no_release_of_another(
    first: Settings, second: Settings, studied: Warehouse, tmp_path: Path
) -> None:
    assert leave(first, Scope.SHARING).complete
    request = Request(Tier.controlled, tmp_path / "release", "A1", "Dr. Invented", "testing")
    made = make_release(second, studied, request, "tester")
    pseudonym = Pseudonyms(release_key(second.release_key_path), "A1").patient(PATIENT)
    released = read(made.folder)["patients"]["patient_id"].to_pylist()
    assert len(released) == 7 and pseudonym not in released


def test_registers_of_homes_that_come_to_share_a_warehouse_are_joined_and_go_back_with_the_tables(
    first: Settings, second: Settings, studied: Warehouse, tmp_path: Path
) -> None:
    third = home(studied, tmp_path / "homes")
    for settings, patient in ((first, PATIENT), (second, OTHER)):
        write_withdrawn(
            settings.home, with_key(settings.home).adding(patient, Scope.ALL, [f"{patient}-9"], ["ab" * 32])
        )
    # one's own counts before it is shared
    assert read_register(first).patient(PATIENT) and not read_register(first).patient(OTHER)
    share_register(first)
    share_register(second)
    register_withdrawal(third, "0004", Scope.MEDIA, [], [])
    # what covers less, said again later, takes nothing back
    register_withdrawal(third, OTHER, Scope.SHARING, [], [])
    share_register(first)
    for settings in (first, second, third):
        register = read_register(settings)
        assert [register.scope_of(p) for p in (PATIENT, OTHER, "0004", "0005")] == [
            Scope.ALL,
            Scope.ALL,
            Scope.MEDIA,
            None,
        ]
        assert register.submission(f"{OTHER}-9") and register.file("ab" * 32)
        assert register.without_ids(f"asked {PATIENT} and {OTHER}, not 0005") == (
            "asked (withdrawn) and (withdrawn), not 0005"
        )
    keep_in_home(third)
    alone = third.model_copy(update={"warehouse": third.warehouse.of_a_file()})
    register = read_register(alone)
    assert register.patient(PATIENT) and register.patient(OTHER) and register.media_of("0004")
    assert register.submission(f"{OTHER}-9") and register.scope_of("0005") is None


def test_a_register_that_cannot_be_asked_is_an_error_and_never_nobody(
    first: Settings, postgres: PostgresServer
) -> None:
    catalog = str(first.warehouse.catalog).replace(f"port={postgres.port}", "port=1")
    away = first.model_copy(update={"warehouse": first.warehouse.model_copy(update={"catalog": catalog})})
    for ask in (read_register, open_study, stamp):
        with pytest.raises(StudyFolderError, match="register of withdrawals cannot be read"):
            ask(away)
    assert database_of(catalog) == database_of(str(first.warehouse.catalog))
