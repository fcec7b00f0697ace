"""``consent.csv``: what counts for each patient and scope, and that no unreadable row is used against a patient."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iss_assets.intake.consents import CONSENT, ConsentRow
from iss_assets.intake.folder import (
    StudyFolder,
    StudyFolderError,
    consent_rows,
    patient_rows,
    read_study,
    signature_of,
)
from iss_assets.protocol.consent import ConsentState, Scope
from iss_assets.warehouse.ledger import fingerprint
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, MakeStudy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEADER = "patient_id,scope,given_on,withdrawn_on,version"
GIVEN, WITHDRAWN, NOT_GIVEN = ConsentState.GIVEN, ConsentState.WITHDRAWN, ConsentState.NOT_GIVEN


def write(root: Path, *rows: str, header: str = HEADER) -> Path:
    (root / CONSENT).write_text("\n".join([header, *rows, ""]))
    return root


def read(root: Path, *rows: str, header: str = HEADER) -> StudyFolder:
    return read_study(write(root, *rows, header=header), now=NOW)


def states(study: StudyFolder) -> dict[tuple[str, str], ConsentState]:
    return {(c.patient_id, str(c.scope)): c.state for c in study.consents}


def said(study: StudyFolder) -> tuple[list[tuple[int, str, str]], list[tuple[int, str, str]]]:
    rejected, problems = (
        [(p.line, p.column_name, p.code) for p in found if p.file == CONSENT]
        for found in (study.rejected, study.problems)
    )
    return rejected, problems


def test_without_the_file_nothing_is_known_and_nothing_is_reported(make_study: MakeStudy) -> None:
    study = read_study(make_study(), now=NOW)
    assert (study.consents, study.rejected, study.problems) == ((), (), ())


def test_consent_is_read_as_it_was_given(make_study: MakeStudy) -> None:
    study = read(
        make_study(),
        "0001,research,2021-01-04,,2.1",
        "0001,Share media,2021-01-04,2021-05-06,2.1",
        "0002,contact,,2021-02-03,",
    )
    assert study.consents == (
        ConsentRow("0001", Scope.RESEARCH, GIVEN, date(2021, 1, 4), None, "2.1"),
        ConsentRow("0001", Scope.SHARE_MEDIA, WITHDRAWN, date(2021, 1, 4), date(2021, 5, 6), "2.1"),
        ConsentRow("0002", Scope.CONTACT, WITHDRAWN, None, date(2021, 2, 3)),
    )
    assert said(study) == ([], [])
    assert [c.scope for c in study.part_of("0001").consents] == [Scope.RESEARCH, Scope.SHARE_MEDIA]


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        (["2021-01-04,", "2021-01-04,2021-05-06"], WITHDRAWN),
        (["2021-01-04,2021-05-06", "2021-01-04,"], WITHDRAWN),
        (["2021-01-04,2021-05-06", "2021-06-01,"], GIVEN),
        (["2021-06-01,", "2021-01-04,2021-05-06"], GIVEN),
        ([",2021-05-06", "2021-01-04,"], WITHDRAWN),
        ([",", "2021-01-04,"], GIVEN),
    ],
)
def test_the_latest_day_counts_in_whatever_order_the_rows_are(
    make_study: MakeStudy, rows: list[str], counts: ConsentState
) -> None:
    study = read(make_study(), *[f"0001,research,{row}," for row in rows])
    assert states(study) == {("0001", "research"): counts}


def test_rows_that_contradict_each_other_count_as_a_withdrawal_and_are_reported(
    make_study: MakeStudy,
) -> None:
    study = read(make_study(), "0001,research,2021-01-04,2021-01-04,1", "0001,research,2021-01-04,,1")
    assert states(study) == {("0001", "research"): WITHDRAWN}
    assert said(study) == ([], [(3, "", "conflicting_row")])
    study = read(make_study(), "0001,contact,2021-03-04,2021-01-04,1")
    assert states(study) == {("0001", "contact"): WITHDRAWN}
    assert said(study) == ([], [(2, "withdrawn_on", "withdrawn_before_given")])


def test_a_repeated_row_is_reported_and_changes_nothing(make_study: MakeStudy) -> None:
    study = read(make_study(), "0001,research,2021-01-04,,1", "0001,research,2021-01-04,,1")
    assert states(study) == {("0001", "research"): GIVEN}
    assert said(study) == ([], [(3, "", "repeated_row")])


@pytest.mark.parametrize(
    ("row", "counts", "rejected", "problems"),
    [
        # a day that cannot be read never gives consent, and whatever is in withdrawn_on withdraws it
        ("0001,research,=HYPERLINK(1),,1", NOT_GIVEN, ("given_on", "bad_day"), None),
        ("0001,research,5/6/2021,,1", NOT_GIVEN, ("given_on", "bad_day"), None),
        ("0001,research,44208,,1", NOT_GIVEN, ("given_on", "bad_day"), None),
        ("0001,research,2062-01-04,,1", NOT_GIVEN, ("given_on", "time_in_future"), None),
        ("0001,research,2021-01-04,yes,1", WITHDRAWN, ("withdrawn_on", "bad_day"), None),
        ("0001,research,2021-01-04,2021-02-31,1", WITHDRAWN, ("withdrawn_on", "bad_day"), None),
        ("0001,research,2021-01-04,2062-01-04,1", WITHDRAWN, None, ("withdrawn_on", "time_in_future")),
        ("0001,research,,,1", NOT_GIVEN, None, ("given_on", "empty_cell")),
        ("0001,research,2021-01-04,,=cmd|'/C calc'!A0", GIVEN, ("version", "bad_version"), None),
        ("1,research,2021-01-04,,1", NOT_GIVEN, ("patient_id", "unknown_patient"), None),
        ("1,research,2021-01-04,2021-02-03,1", WITHDRAWN, ("patient_id", "unknown_patient"), None),
    ],
)
def test_nonsense_in_a_cell_is_reported_and_never_read_as_consent(
    make_study: MakeStudy,
    row: str,
    counts: ConsentState,
    rejected: tuple[str, str] | None,
    problems: tuple[str, str] | None,
) -> None:
    study = read(make_study(), row)
    assert states(study) == {("0001", "research"): counts}
    assert said(study) == ([(2, *rejected)] if rejected else [], [(2, *problems)] if problems else [])


@pytest.mark.parametrize(
    ("row", "column", "code"),
    [
        ("9999,research,2021-01-04,,1", "patient_id", "unknown_patient"),
        ("../../etc,research,2021-01-04,,1", "patient_id", "bad_id"),
        (",research,2021-01-04,,1", "patient_id", "empty_cell"),
        ("0001,everything,2021-01-04,,1", "scope", "bad_scope"),
        ("0001,,2021-01-04,,1", "scope", "empty_cell"),
        ("0001,research,2021-01-04", "", "wrong_number_of_fields"),
    ],
)
def test_a_row_about_nobody_or_nothing_is_rejected_with_its_line(
    make_study: MakeStudy, row: str, column: str, code: str
) -> None:
    study = read(make_study(), "0002,research,2021-01-04,,1", row)
    assert states(study) == {("0002", "research"): GIVEN}
    assert said(study) == ([(3, column, code)], [])


def test_a_withdrawal_from_a_scope_that_cannot_be_read_is_one_from_everything(make_study: MakeStudy) -> None:
    study = read(make_study(), "0001,research,2025-01-04,,1", "0001,reserch,2021-01-04,2021-02-03,1")
    assert states(study) == {("0001", str(scope)): WITHDRAWN for scope in Scope}
    assert said(study) == ([(3, "scope", "bad_scope")], [])


def test_a_row_that_is_unclear_counts_until_it_is_corrected(make_study: MakeStudy) -> None:
    root = make_study()
    study = read(root, "0001,research,2021-01-04,,1", "0001,research,2021-01-04,31.2.21,1")
    assert states(study) == {("0001", "research"): WITHDRAWN}
    assert consent_rows(study)[0]["unclear"] is True
    study = read(root, "0001,research,2021-01-04,,1", "0001,research,2021-01-04,,1")
    assert states(study) == {("0001", "research"): GIVEN}


def test_no_reason_quotes_a_cell(make_study: MakeStudy) -> None:
    study = read(
        make_study(),
        "0001,Maria Smith,Maria Smith,Maria Smith,Maria Smith (sister)",
        "Maria Smith,research,2021-01-04,,1",
    )
    reasons = [p.reason for p in (*study.rejected, *study.problems)]
    assert len(reasons) == 5
    assert not [reason for reason in reasons if "Maria" in reason]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_text("patient_id,scope\n0001,research\n"), "lacks the columns given_on"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: path.write_text(""), "is empty"),
        (lambda path: path.symlink_to("/etc/passwd"), "leads out of the study folder"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_and_not_a_study_without_consent(
    make_study: MakeStudy, damage: Callable[[Path], object], says: str
) -> None:
    root = make_study()
    damage(root / CONSENT)
    with pytest.raises(StudyFolderError, match=says):
        read_study(root, now=NOW)


def test_a_study_without_the_file_keeps_the_signature_it_had(make_study: MakeStudy) -> None:
    root = make_study()
    for video in root.glob("videos/*/*"):
        os.utime(video, ns=(10**18, 10**18))
    study = read_study(root, now=NOW)
    # what a version that knew neither consent nor age groups made of the same folder
    signature = signature_of(study, now=NOW)
    assert signature.patients == {"0001": "03ddb77be679ecd6", "0002": "da9e839989cd72ed"}
    assert signature.study == "199d1cca1e68aace"
    assert [fingerprint([row]) for row in patient_rows(study)] == ["33195f7278a7a4ba", "f618cf614d88bab8"]


def test_only_the_patient_whose_consent_changes_is_to_be_read_again(make_study: MakeStudy) -> None:
    root = make_study()
    rows = ["0001,research,2021-01-04,,1", "0002,research,2021-01-04,,1"]
    before = signature_of(read(root, *rows), now=NOW).patients
    assert signature_of(read(root, "", *rows), now=NOW).patients == before
    after = signature_of(read(root, rows[0], "0002,research,2021-01-04,2021-03-04,1"), now=NOW).patients
    assert {p for p in before if before[p] != after[p]} == {"0002"}


CELLS = st.one_of(
    st.sampled_from(
        ["0001", "1", "0002", "research", "contact", "2021-01-04", "2199-01-01", "", "NaN", "=1+1", '"', "'"]
    ),
    st.text(max_size=12),
)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.lists(CELLS, min_size=4, max_size=6), max_size=6))
def test_whatever_is_in_the_file_is_read_or_reported_and_gives_consent_only_with_a_day(
    make_study: MakeStudy, rows: list[list[str]]
) -> None:
    root = make_study()
    (root / CONSENT).write_bytes(
        "\n".join([HEADER, *(",".join(row) for row in rows)]).encode("utf-8", "surrogatepass")
    )
    try:
        study = read_study(root, now=NOW)
    except StudyFolderError as error:
        assert CONSENT in str(error)
        return
    assert {c.patient_id for c in study.consents} <= {"0001", "0002"}
    assert len(states(study)) == len(study.consents)
    for consent in study.consents:
        assert (consent.state is not GIVEN) or (consent.given_on and consent.given_on <= date(2026, 3, 2))
        assert consent.withdrawn_on is None or consent.state is WITHDRAWN


def test_age_groups_are_read_where_there_are_any(make_study: MakeStudy) -> None:
    header = f"{ENROLLMENT_HEADER},age_group"
    rows = ["0001,1A,M,II,0,2021-01-04,-05:00,Pediatric", "0002,4D,F,V,8,2021-01-11,,=1+1"]
    study = read_study(make_study("\n".join([header, *rows, ""])), now=NOW)
    assert [p.age_group for p in study.patients] == ["pediatric", None]
    assert [(p.line, p.column_name, p.code) for p in study.rejected] == [(3, "age_group", "bad_age_group")]
    assert patient_rows(study, "0001")[0]["age_group"] == "pediatric"
