"""The audit log continues, shows tampering, and forgets a withdrawn patient without breaking."""

from __future__ import annotations

import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iss_assets.intake.withdrawn import Scope, keyed_hash, with_key, write_withdrawn
from iss_assets.privacy.audit import Action, AuditError, AuditLog


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.record("ana", Action.SIGNED_IN)
    log.record("ana", Action.MEDIA_VIEWED, "0004-01", patient="0004", second=3.5)
    log.record("ben", Action.REVIEWED, "0007-02", patient="0007", flag="glare", decision="reject")
    log.record("ana", Action.MEDIA_VIEWED, "0004-02", patient="0004")
    log.record("ana", Action.SIGNED_OUT)
    return log


def test_lines_come_back_as_they_were_recorded_and_only_their_owner_can_read_them(log: AuditLog) -> None:
    lines = list(log.lines())
    assert [line.number for line in lines] == [1, 2, 3, 4, 5]
    assert [line.who for line in lines] == ["ana", "ana", "ben", "ana", "ana"]
    assert lines[1].subject == "0004-01" and lines[1].detail == {"patient": "0004", "second": 3.5}
    assert lines[1].at.utcoffset() is not None
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert log.verify().problems == () and log.verify().lines == 5


@pytest.mark.parametrize("place", range(5))
def test_a_removed_line_is_noticed_wherever_it_was(log: AuditLog, place: int) -> None:
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:place] + lines[place + 1 :]))
    assert log.verify().problems


@pytest.mark.parametrize("place", range(4))
def test_two_lines_that_changed_places_are_noticed(log: AuditLog, place: int) -> None:
    lines = log.path.read_bytes().splitlines(keepends=True)
    lines[place], lines[place + 1] = lines[place + 1], lines[place]
    log.path.write_bytes(b"".join(lines))
    assert log.verify().problems


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("who", "eve"),
        ("at", "2020-01-01T00:00:00.000+00:00"),
        ("action", "signed_out"),
        ("n", 9),
        ("content", {"subject": "0009-01", "detail": {}}),
        ("content", None),
        ("salt", "00"),
    ],
)
def test_a_changed_field_is_noticed(log: AuditLog, name: str, value: object) -> None:
    lines = log.path.read_bytes().splitlines(keepends=True)
    line = json.loads(lines[1])
    assert line[name] != value
    lines[1] = json.dumps({**line, name: value}).encode() + b"\n"
    log.path.write_bytes(b"".join(lines))
    assert log.verify().problems


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_changed_byte_is_noticed(log: AuditLog, data: st.DataObject) -> None:
    whole = log.path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[place]))
    changed = whole[:place] + bytes([byte]) + whole[place + 1 :]
    log.path.write_bytes(changed)
    try:
        same = [json.loads(x) for x in changed.splitlines()] == [json.loads(x) for x in whole.splitlines()]
    except ValueError:
        same = False
    # white space may change: it says nothing
    assert bool(log.verify().problems) != same
    log.path.write_bytes(whole)
    assert not log.verify().problems


def test_a_line_that_a_crash_cut_off_is_dropped_and_the_log_continues(log: AuditLog) -> None:
    with log.path.open("ab") as file:
        file.write(b'{"n":6,"at":"20')
    assert log.verify().problems
    assert log.record("ben", Action.SIGNED_IN) == 6
    assert log.verify().problems == ()


def test_a_crash_between_line_and_head_loses_nothing(log: AuditLog) -> None:
    head = log.path.with_suffix(".head")
    before = head.read_bytes()
    log.record("ben", Action.SIGNED_IN)
    head.write_bytes(before)
    assert log.verify().problems == ()
    assert log.record("ben", Action.SIGNED_OUT) == 7 and log.verify().problems == ()


def test_a_log_that_is_gone_or_damaged_is_not_silently_begun_anew(log: AuditLog) -> None:
    whole = log.path.read_bytes()
    log.path.unlink()
    with pytest.raises(AuditError, match="5 lines"):
        log.record("ben", Action.SIGNED_IN)
    log.path.write_bytes(whole[:-30] + b"x" * 29 + b"\n")
    with pytest.raises(AuditError, match="damaged"):
        log.record("ben", Action.SIGNED_IN)


def test_redacting_erases_a_patient_and_keeps_the_chain(log: AuditLog) -> None:
    before = log.path.read_text()
    count = log.redact(lambda line: line.detail.get("patient") == "0004", "system:root")
    assert count == 2
    kept = [(line.subject, line.detail) for line in log.lines()]
    assert "0004" not in repr(kept) and "0007-02" in repr(kept)
    # nor anywhere else in the file; a hash can contain these four digits
    assert '"0004' in before and '"0004' not in re.sub(r'"[0-9a-f]{32,}"', "", log.path.read_text())
    assert log.verify().problems == ()
    lines = list(log.lines())
    assert [line.redacted for line in lines] == [False, True, False, True, False, False]
    assert lines[1].action == Action.MEDIA_VIEWED and lines[1].who == "ana" and lines[1].subject is None
    assert lines[5].action == Action.REDACTED and lines[5].detail == {"lines": 2}
    assert log.redact(lambda line: line.detail.get("patient") == "0004", "system:root") == 0
    assert log.record("ben", Action.SIGNED_IN) == 7 and log.verify().problems == ()


def test_the_newest_lines_are_read_from_the_end(log: AuditLog) -> None:
    log.record('"action":"exported"', Action.SIGNED_IN)  # a name is not an action
    for number in range(700):  # more than is read at a time
        log.record("ana", Action.PATIENT_VIEWED, "0004", number=number)
    log.record("ben", Action.EXPORTED, "0007")
    log.record("ana", Action.SIGNED_OUT)
    every = list(log.lines())[::-1]
    assert log.newest(3) == every[:3] and log.newest(700) == every[:700] and log.newest(10_000) == every
    assert log.newest(0) == []
    assert [line.number for line in log.newest(5, {Action.EXPORTED})] == [every[1].number]
    wanted = {Action.SIGNED_IN, Action.SIGNED_OUT}
    assert log.newest(9, wanted) == [line for line in every if line.action in wanted]
    assert len(log.newest(9, wanted)) == 4
    with log.path.open("ab") as file:
        file.write(b'{"action":"exported","n":')  # a crash cut it off
    assert log.newest(1) == every[:1] and len(log.newest(9, {Action.EXPORTED})) == 1
    assert AuditLog(log.path.with_name("none.jsonl")).newest(3) == []


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    def write(writer: int) -> None:
        for number in range(10):
            AuditLog(path).record(f"w{writer}", Action.MEDIA_VIEWED, f"{writer:04d}-{number:02d}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    log = AuditLog(path)
    assert log.verify().problems == () and log.verify().lines == 60
    assert len({line.subject for line in log.lines()}) == 60


@pytest.mark.parametrize(("patient", "other"), [("0004", "00041"), ("12", "112")])
def test_what_is_done_after_a_withdrawal_writes_no_id_back(
    log: AuditLog, tmp_path: Path, patient: str, other: str
) -> None:
    before = log.path.read_bytes()
    register = with_key(tmp_path).adding(patient, Scope.ALL, [f"{patient}-01"], [])
    write_withdrawn(tmp_path, register)
    log.record("ana", Action.PATIENT_VIEWED, patient, pseudonym_under="A1")
    log.record("ana", Action.MEDIA_VIEWED, f"{patient}-01", patient=patient, second=3.5)
    query = f"from faces where patient_id in ('{patient}', '{other}') and x1 > 412 -- {patient}-01_prompt"
    log.record(
        "ana", Action.QUERIED, None, sql=query, rows=12, tables=[patient, "faces"], sha256={patient: "ab"}
    )
    log.record("ana", Action.PATIENT_VIEWED, other, note=f"patient {other}, not {patient}")
    lines = list(log.lines())[-4:]
    hashed = keyed_hash(register.key, "patient", patient)
    assert (lines[0].subject, lines[0].detail) == (None, {"pseudonym_under": "A1", "patient_hash": hashed})
    assert lines[1].subject is None
    assert lines[1].detail == {
        "patient": "(withdrawn)",
        "second": 3.5,
        "submission_hash": keyed_hash(register.key, "submission", f"{patient}-01"),
    }
    assert lines[2].detail == {
        "sql": f"from faces where patient_id in ('(withdrawn)', '{other}') and x1 > 412 -- (withdrawn)_prompt",
        "rows": 12,
        "tables": ["(withdrawn)", "faces"],
        "sha256": {"(withdrawn)": "ab"},
    }
    assert lines[3].subject == other and f"patient {other}, not " in lines[3].detail["note"]
    assert log.verify().problems == () and log.path.read_bytes().startswith(before)


def test_without_the_register_nothing_is_recorded_that_might_name_somebody_who_withdrew(
    log: AuditLog, tmp_path: Path
) -> None:
    write_withdrawn(tmp_path, with_key(tmp_path).adding("0004", Scope.ALL, [], []))
    (tmp_path / "withdrawals" / "key").unlink()
    before = log.path.read_bytes()
    with pytest.raises(AuditError, match="restore both from a backup"):
        log.record("ana", Action.PATIENT_VIEWED, "0004")
    with pytest.raises(AuditError, match="restore both from a backup"):
        log.record("ana", Action.QUERIED, sql="select '0004'")
    assert log.path.read_bytes() == before
    # whoever repairs it has to sign in
    log.record("ana", Action.SIGNED_IN, role="admin", how="password")
    assert [line.action for line in log.newest(1)] == [Action.SIGNED_IN]
