"""`iss key`, `iss encrypt`, `iss rekey`, `iss decrypt`, and what `iss doctor` says about them."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner, Result

from iss_assets.cli import doctor
from iss_assets.cli.main import app
from iss_assets.pipeline.home import open_instance
from iss_assets.privacy.audit import AuditLog
from iss_assets.settings import Settings
from iss_assets.warehouse.engine import is_encrypted
from iss_assets_tests.warehouse.encrypted_homes import MARKERS, fill, found

WORDS = "select reason from rejected_rows"


def iss(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def ok(*arguments: object) -> str:
    done = iss(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*arguments: object) -> str:
    """Return what a command that was refused said: status 2, nothing printed, one line of error."""
    done = iss(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


def test_a_home_is_encrypted_gets_another_key_and_is_decrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, first, second = tmp_path / "home", tmp_path / "first", tmp_path / "second"
    fill(home, None)
    word = MARKERS["words"].decode()
    assert "keep a copy" in ok("key", "new", first) and "keep a copy" in ok("key", "new", second)
    texts = [file.read_text().strip() for file in (first, second)]
    assert "home" in refused("key", "new", home / "key")
    assert refused("key", "new", first) == "File exists: first"
    assert first.read_text().strip() == texts[0]
    assert "iss key new" in refused("encrypt")
    assert "not encrypted" in refused("decrypt")

    monkeypatch.setenv("ISS_WAREHOUSE__KEY_FILE", str(first))
    assert "iss encrypt" in refused("sql", WORDS)
    printed = ok("encrypt")
    assert "a few seconds" in printed and "4 files" in printed and "iss doctor" in printed
    assert found(home) == {} and word in ok("sql", WORDS)
    assert "already encrypted" in refused("encrypt")

    monkeypatch.delenv("ISS_WAREHOUSE__KEY_FILE")
    assert "ISS_WAREHOUSE__KEY_FILE" in refused("sql", WORDS)
    monkeypatch.setenv("ISS_WAREHOUSE__KEY_FILE", str(second))
    for command in (
        ("sql", WORDS),
        ("snapshot", tmp_path / "copy"),
        ("decrypt",),
        ("rekey", "--key-file", first),
    ):
        assert "not the one" in refused(*command)
    first.chmod(0o644)
    monkeypatch.setenv("ISS_WAREHOUSE__KEY_FILE", str(first))
    assert "others can read" in refused("sql", WORDS)
    first.chmod(0o600)

    assert "--key-file" in refused("rekey")
    assert "this key already" in refused("rekey", "--key-file", first)
    ok("rekey", "--key-file", second)
    assert "not the one" in refused("sql", WORDS)
    monkeypatch.delenv("ISS_WAREHOUSE__KEY_FILE")
    monkeypatch.setenv("ISS_WAREHOUSE__KEY_COMMAND", f"cat '{second}'")
    assert word in ok("sql", WORDS) and found(home) == {}
    assert "encrypted with the home's key" in ok("snapshot", tmp_path / "copy")
    assert is_encrypted(tmp_path / "copy")

    assert "no longer encrypted" in ok("decrypt")
    monkeypatch.delenv("ISS_WAREHOUSE__KEY_COMMAND")
    assert word in ok("sql", WORDS) and {"pixels", "words", "spool", "note"} <= found(home).keys()
    recorded = [line.action for line in AuditLog(home / "audit.jsonl").lines()]
    assert [a for a in recorded if a in ("encrypted", "rekeyed", "decrypted")] == [
        "encrypted",
        "rekeyed",
        "decrypted",
    ]
    everything = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert not any(text.encode() in everything for text in texts)


def test_a_home_with_runs_in_progress_is_not_converted_and_those_that_wait_in_the_queue_get_the_new_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "home", None)
    ok("key", "new", tmp_path / "key")
    monkeypatch.setenv("ISS_WAREHOUSE__KEY_FILE", str(tmp_path / "key"))
    with open_instance(Settings()) as instance:
        # as those that wait when `iss serve` is stopped: nobody runs them before it is started again
        instance.create_run_for_job(_job())
        run_id = instance.create_run_for_job(_job(), status=dg.DagsterRunStatus.STARTED).run_id
        assert "1 run is in progress" in refused("encrypt")
        assert is_encrypted(Settings().warehouse_path) is False
        instance.delete_run(run_id)
    ok("encrypt")


def _job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def work() -> None:
        nothing()

    return work


def test_the_doctor_says_what_is_not_encrypted_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings()
    fill(settings.home, None)
    (settings.home / "reports").mkdir()
    settings.study.mkdir()
    (plain,) = doctor._encryption(settings)
    assert plain.state == "warn" and "in the clear" in plain.text and "iss encrypt" in plain.fix

    ok("key", "new", tmp_path / "key")
    monkeypatch.setenv("ISS_WAREHOUSE__KEY_FILE", str(tmp_path / "key"))
    ok("encrypt")
    monkeypatch.setattr(doctor, "_swaps", lambda: True)
    findings = list(doctor._encryption(Settings()))
    assert findings[0].state == "ok" and {f.state for f in findings[1:]} == {"warn"}
    told = [f.text.split(":")[0] for f in findings[1:]]
    assert told == ["the study folder", "Dagster's history", "reports and pages", "the audit log", "swap"]
    assert all(f.fix for f in findings[1:])

    (tmp_path / "key").rename(settings.home / "key")
    monkeypatch.setenv("ISS_WAREHOUSE__KEY_FILE", str(settings.home / "key"))
    assert "beside what it protects" in [f.text for f in doctor._encryption(Settings())][1]
    monkeypatch.setenv("ISS_WAREHOUSE__KEY_FILE", str(tmp_path / "nothing"))
    missing = next(iter(doctor._encryption(Settings())))
    assert missing.state == "fail" and "cannot be read" in missing.text
