"""`iss withdraw` asks about what it does, says what it did, and answers no question about another withdrawal."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from iss_assets.cli.main import app
from iss_assets.intake.withdrawn import Scope, keyed_hash, read_withdrawn
from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.privacy.certificate import certificate_path, read_certificates
from iss_assets.privacy.release.pseudonyms import release_key
from iss_assets.privacy.withdrawal import pending_path, withdraw
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.made_up import tiny_study

PATIENTS = ("0001", "0002", "0003")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("withdraw") / "home"
    home.mkdir(mode=0o700)
    warehouse = Warehouse(home / "warehouse.duckdb")
    tiny_study(warehouse, patients=4)
    with warehouse.write() as writer:
        # faces, sound and hashes that are found in nobody else's
        unlike = "unhex(sha256({0} || video_id)) || unhex(sha256(video_id || {0})) || unhex(sha256({0} || patient_id))"
        writer.execute(f"update faces set crop = {unlike.format('frame_index')}")
        writer.execute(f"update audio set waveform = {unlike.format('sample_rate')}")
        writer.execute("update thermal set sha256 = sha256('thermal ' || submission_id)")
    release_key(Settings(home=home).release_key_path)
    return home


@pytest.fixture
def settings(made: Path, tmp_path: Path) -> Settings:
    home, study = tmp_path / "home", tmp_path / "study"
    home.mkdir(mode=0o700)
    for path in made.iterdir():
        (home / path.name).write_bytes(path.read_bytes())
    (home / "release.key").chmod(0o600)
    (study / "videos").mkdir(parents=True)
    lines = ["patient_id,skin_type", *(f"{patient},II" for patient in PATIENTS), ""]
    (study / "enrollment.csv").write_text("\n".join(lines))
    return Settings(study=study, home=home)


def iss(settings: Settings, *arguments: str, answer: str | None = None) -> Result:
    where = ["--study", str(settings.study)] if arguments[0] == "withdraw" else []
    return CliRunner().invoke(app, [*arguments, *where, "--home", str(settings.home)], input=answer)


def enrolled(settings: Settings) -> list[str]:
    found = Warehouse(settings.warehouse_path).query("select patient_id from patients order by all")
    return found["patient_id"].to_pylist()


def interrupted(settings: Settings, patient: str, scope: Scope, *, source: bool = False) -> None:
    """Begin a withdrawal in a process that is killed before anything is removed."""
    child = os.fork()
    if not child:
        try:
            withdraw(
                settings, patient, reason="asked", who="ben", scope=scope, source=source,
                log=lambda said: os.kill(os.getpid(), signal.SIGKILL),
            )  # fmt: skip
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert pending_path(settings.home).exists()


def test_an_interrupted_withdrawal_is_finished_and_another_one_is_asked_about(settings: Settings) -> None:
    interrupted(settings, "0001", Scope.ALL)
    said = iss(settings, "withdraw", "0002", "--reason", "a letter", answer="n\n")
    assert said.exit_code == 1
    assert "a withdrawal was interrupted; it is finished first" in said.output
    assert "2 submissions are known." in said.output and "This cannot be undone. Go on?" in said.output
    # the one that somebody had agreed to is done, the other one is not
    assert enrolled(settings) == ["0002", "0003", "0004"] and not pending_path(settings.home).exists()
    assert [(c.scope, c.reason) for c in read_certificates(settings.home)] == [("all", "asked")]
    said = iss(settings, "withdraw", "0002", "--reason", "a letter", answer="y\n")
    assert said.exit_code == 0, said.output
    assert enrolled(settings) == ["0003", "0004"]


def test_an_interrupted_withdrawal_that_is_repeated_is_not_asked_about_again(settings: Settings) -> None:
    interrupted(settings, "0001", Scope.ALL)
    said = iss(settings, "withdraw", "0001", "--reason", "again")
    assert said.exit_code == 0, said.output
    assert "Go on?" not in said.output and len(read_certificates(settings.home)) == 1


@pytest.mark.parametrize("begun", [Scope.ALL, Scope.SHARING])
def test_an_interrupted_withdrawal_is_no_answer_to_a_wider_one_of_the_same_patient(
    settings: Settings, begun: Scope
) -> None:
    interrupted(settings, "0001", begun)
    said = iss(settings, "withdraw", "0001", "--reason", "all of it", "--source", answer="y\n")
    assert said.exit_code == 0, said.output
    assert "In the study folder, these are deleted too:\n  enrollment.csv, line 2" in said.output
    assert (settings.study / "enrollment.csv").read_text() == "patient_id,skin_type\n0002,II\n0003,II\n"
    assert [c.source.get("deleted") for c in read_certificates(settings.home)][1:] == [True]
    assert "0001" not in enrolled(settings)


def test_sharing_is_recorded_and_no_search_is_claimed(settings: Settings) -> None:
    said = iss(settings, "withdraw", "0001", "--reason", "asked", "--scope", "sharing", "--yes")
    assert said.exit_code == 0, said.output
    assert "Recorded; nothing was deleted." in said.output
    assert "found nothing" not in said.output and "iss run" not in said.output
    assert "0001" in enrolled(settings) and not read_withdrawn(settings.home).may_be_shared("0001")


def test_a_study_folder_that_cannot_be_read_whole_makes_the_certificate_incomplete(
    settings: Settings,
) -> None:
    elsewhere = settings.study.with_name("elsewhere")
    (settings.study / "videos").rename(elsewhere)
    (settings.study / "videos").symlink_to(elsewhere)
    # without --source, nothing was promised about the folder
    said = iss(settings, "withdraw", "0001", "--reason", "asked", "--yes")
    assert said.exit_code == 0, said.output
    place = "videos (leads out of the study folder), in the study folder"
    assert incomplete(settings, "0002") == place
    settings.study.rename(settings.study.with_name("unplugged"))
    assert incomplete(settings, "0003") == "the study folder"


def incomplete(settings: Settings, patient: str) -> str:
    """Withdraw with ``--source`` and return the place that the command names as not readable."""
    said = iss(settings, "withdraw", patient, "--reason", "asked", "--source", "--yes")
    assert said.exit_code == 1
    hashed = keyed_hash(read_withdrawn(settings.home).key, "patient", patient)
    (certificate,) = (c for c in read_certificates(settings.home) if c.patient == hashed)
    assert not certificate.complete and certificate.search["found"] == []
    page = certificate_path(settings.home, certificate).read_text("utf-8")
    assert "Not complete." in page and "something could not be read or deleted" in page
    (line,) = (line for line in said.output.splitlines() if line.startswith("still there"))
    return line.removeprefix("still there, or not readable: ")


def test_rows_that_cannot_be_deleted_make_the_certificate_incomplete(settings: Settings) -> None:
    (settings.study / ".enrollment.csv.tmp").mkdir()
    said = iss(settings, "withdraw", "0001", "--reason", "asked", "--source", "--yes")
    assert said.exit_code == 1
    assert "still there, or not readable: 1 files or rows in the study folder" in said.output
    (settings.study / ".enrollment.csv.tmp").rmdir()
    said = iss(settings, "withdraw", "0001", "--reason", "asked", "--source", "--yes")
    assert said.exit_code == 0, said.output
    assert "0001" not in (settings.study / "enrollment.csv").read_text()


def test_a_folder_of_the_patient_that_cannot_be_read_is_not_named_in_the_certificate(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.study / "videos" / "0001").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(settings.study / "videos" / "0001")
        for _ in range(17):
            Path("d" * 250).mkdir()
            patch.chdir("d" * 250)
    assert iss(settings, "withdraw", "0001", "--reason", "asked", "--yes").exit_code == 0
    (certificate,) = read_certificates(settings.home)
    assert certificate.source["unread"] == ["a folder of the patient"]
    # nor does the next search find it there
    said = iss(settings, "withdraw", "0001", "--reason", "the folder too", "--source", "--yes")
    assert said.exit_code == 0, said.output
    assert not (settings.study / "videos" / "0001").exists()


def test_the_pseudonym_of_a_patient_who_withdrew_is_told_and_the_audit_log_does_not_name_the_patient(
    settings: Settings,
) -> None:
    def told() -> str:
        done = iss(settings, "pseudonym", "0001", "--agreement", "A1")
        assert done.exit_code == 0, done.output
        return done.stdout

    before = told()
    assert list(AuditLog(settings.audit_path).lines())[-1].subject == "0001"
    assert iss(settings, "withdraw", "0001", "--reason", "asked", "--yes").exit_code == 0
    assert told() == before
    # as a word: a hash can contain these four digits
    assert not re.search(r"\b0001\b", settings.audit_path.read_text())
    line = list(AuditLog(settings.audit_path).lines())[-1]
    (certificate,) = read_certificates(settings.home)
    assert line.action == Action.PATIENT_VIEWED
    assert (line.subject, line.detail["patient_hash"]) == (None, certificate.patient)
    # and a second search finds nothing of it
    assert iss(settings, "withdraw", "0001", "--reason", "to be sure", "--yes").exit_code == 0


def test_a_reason_that_names_somebody_who_withdrew_before_is_refused(settings: Settings) -> None:
    assert iss(settings, "withdraw", "0001", "--reason", "asked", "--yes").exit_code == 0
    said = iss(settings, "withdraw", "0002", "--reason", "as 0001 did", "--yes")
    assert said.exit_code == 2 and "somebody else who withdrew" in said.output
    assert "0002" in enrolled(settings)
