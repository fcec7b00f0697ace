"""``reviews.csv``: decisions go in whole, come back as they were, and bad rows say what is wrong with them."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iss_assets.intake.records import ProblemLog, StudyFolderError
from iss_assets.intake.reviews import (
    COLUMNS,
    REVIEWS,
    ReviewRow,
    append_review,
    read_reviews,
    video_decisions,
)
from iss_assets.protocol.reviews import LONGEST_TEXT, Decision

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
VIDEOS = {"0007-02": "0007", "0009-01": "0009"}
REJECT = ReviewRow(
    NOW - timedelta(hours=5), "maria", "0007", "0007-02", "glare", Decision.REJECT, "a window, not glare"
)


def read(root: Path) -> tuple[tuple[ReviewRow, ...], list[tuple[int, str, str]], list[tuple[int, str]]]:
    rejected, problems = ProblemLog(), ProblemLog()
    rows = read_reviews(root, NOW, ["0007", "0009"], VIDEOS, rejected, problems)
    return rows, [(p.line, p.column_name, p.code) for p in rejected], [(p.line, p.code) for p in problems]


def test_without_the_file_there_are_no_decisions(tmp_path: Path) -> None:
    assert read(tmp_path) == ((), [], [])


def test_decisions_come_back_as_they_were_made(tmp_path: Path) -> None:
    rows = [
        REJECT,
        ReviewRow(NOW, "ben", "0009", "0009-01", None, Decision.EXCLUDE, "another person; see notes, p. 3"),
        ReviewRow(
            NOW + timedelta(minutes=1), "ben", "0009", None, None, Decision.CONTACTED, "", date(2026, 2, 27)
        ),
        ReviewRow(NOW + timedelta(minutes=2), "ben", "0009", None, None, Decision.ASSIGN, "", None, "maria"),
    ]
    for row in rows:
        append_review(tmp_path, row)
    assert read(tmp_path) == (tuple(rows), [], [])
    assert (tmp_path / REVIEWS).stat().st_mode & 0o077 == 0


@hypothesis_settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=80), st.sampled_from(["", "=", "+", "-", "@", "'", "'=", "''+"]))
def test_any_reason_survives_and_none_is_a_formula(tmp_path: Path, text: str, start: str) -> None:
    (tmp_path / REVIEWS).unlink(missing_ok=True)
    append_review(
        tmp_path, ReviewRow(NOW, "maria", "0007", "0007-02", "glare", Decision.CONFIRM, start + text)
    )
    with (tmp_path / REVIEWS).open(newline="", encoding="utf-8") as file:
        (_, cells) = csv.reader(file)
    assert not cells[COLUMNS.index("reason")].startswith(("=", "+", "-", "@", "\t", "\r"))
    (row,), rejected, _ = read(tmp_path)
    kept = "".join(letter if letter.isprintable() else " " for letter in start + text)
    assert row.reason.split() == kept.split() and not rejected


def test_a_file_that_a_spreadsheet_saved_is_continued_in_its_own_way(tmp_path: Path) -> None:
    columns = ["Decision", "flag", "video_id", "patient_id", "reviewed_at", "reviewer", "reason", "note"]
    text = ";".join(columns) + "\nreject;dark;0007-02;0007;2026-02-01T10:00:00+01:00;ana;lamp;x"
    (tmp_path / REVIEWS).write_bytes(b"\xef\xbb\xbf" + text.encode())
    append_review(tmp_path, REJECT)
    assert (tmp_path / REVIEWS).read_bytes().startswith(b"\xef\xbb\xbf" + text.encode())
    rows, rejected, problems = read(tmp_path)
    assert [(r.reviewer, r.flag) for r in rows] == [("ana", "dark"), ("maria", "glare")]
    assert rows[0].reviewed_at == datetime(2026, 2, 1, 9, tzinfo=UTC) and rows[1] == REJECT
    assert rejected == [] and {code for _, code in problems} <= {"extra_columns", "absent_column"}
    with pytest.raises(StudyFolderError, match="lacks the column assignee"):
        append_review(tmp_path, ReviewRow(NOW, "a", "0007", None, None, Decision.ASSIGN, assignee="ana"))
    assert len(read(tmp_path)[0]) == 2


HEADER = ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("row", "column", "code"),
    [
        ("2026-02-01T10:00:00,ana,0007,0007-02,glare,reject,,,", "reviewed_at", "bad_time"),
        ("2026-03-09T10:00:00Z,ana,0007,0007-02,glare,reject,,,", "reviewed_at", "future_time"),
        ("2026-02-01T10:00:00Z,,0007,0007-02,glare,reject,,,", "reviewer", "empty_cell"),
        ("2026-02-01T10:00:00Z,ana,0044,0007-02,glare,reject,,,", "patient_id", "unknown_patient"),
        ("2026-02-01T10:00:00Z,ana,../etc,0007-02,glare,reject,,,", "patient_id", "bad_id"),
        ("2026-02-01T10:00:00Z,ana,0009,0007-02,glare,reject,,,", "video_id", "wrong_patient"),
        ("2026-02-01T10:00:00Z,ana,0007,0007-02,glare,maybe,,,", "decision", "bad_decision"),
        ("2026-02-01T10:00:00Z,ana,0007,0007-02,sunny,reject,,,", "flag", "bad_flag"),
        ("2026-02-01T10:00:00Z,ana,0007,0007-02,,reject,,,", "flag", "empty_cell"),
        ("2026-02-01T10:00:00Z,ana,0007,0007-02,,exclude,,,", "reason", "empty_cell"),
        ("2026-02-01T10:00:00Z,ana,0007,,,include,why,,", "video_id", "empty_cell"),
        ("2026-02-01T10:00:00Z,ana,0007,,,contacted,,,", "contacted_on", "empty_cell"),
        ("2026-02-01T10:00:00Z,ana,0007,,,contacted,,31.02.2026,", "contacted_on", "bad_day"),
    ],
)
def test_a_bad_row_is_reported_with_line_and_column_and_the_rest_is_used(
    tmp_path: Path, row: str, column: str, code: str
) -> None:
    good = "2026-02-01T10:00:00Z,ana,0007,0007-02,glare,confirm,,,"
    (tmp_path / REVIEWS).write_text(f"{HEADER}\n{row}\n{good}\n")
    rows, rejected, _ = read(tmp_path)
    assert [r.line for r in rows] == [3]
    assert [(line, name) for line, name, _ in rejected] == [(2, column)]
    assert rejected[0][2] == code


def test_repeated_rows_and_videos_that_are_gone_are_reported_once(tmp_path: Path) -> None:
    row = "2026-02-01T10:00:00Z,ana,0007,0007-99,glare,reject,,,"
    (tmp_path / REVIEWS).write_text(f"{HEADER}\n{row}\n{row}\n")
    rows, rejected, problems = read(tmp_path)
    assert len(rows) == 1 and not rejected
    assert problems == [(2, "unknown_video"), (3, "unknown_video"), (3, "repeated_row")]


def test_of_several_decisions_the_latest_counts_wherever_it_is_in_the_file() -> None:
    def row(
        minute: int, decision: Decision, flag: str | None = "glare", reason: str = "", line: int = 0
    ) -> ReviewRow:
        # the same moments by clocks of different zones: 12:05 at +0 is earlier than 09:06 at -3
        zone = timezone(timedelta(hours=-(minute % 4)))
        at = datetime(2026, 1, 1, 12, minute, tzinfo=UTC).astimezone(zone)
        return ReviewRow(at, "ana", "0007", "0007-02", flag, decision, reason, line=line)

    found = video_decisions(
        [
            row(5, Decision.REJECT),
            row(3, Decision.CONFIRM),
            row(4, Decision.REJECT, "dark"),
            row(6, Decision.CLEAR, "dark"),
            row(1, Decision.EXCLUDE, None, "other person"),
            row(2, Decision.INCLUDE, None, "it is the patient"),
        ]
    )["0007-02"]
    assert found.flags == {"glare": Decision.REJECT} and found.rejected == ("glare",)
    assert (found.use, found.reason) == (Decision.INCLUDE, "it is the patient")
    cleared = video_decisions([row(1, Decision.EXCLUDE, None, "x"), row(2, Decision.CLEAR, None)])
    assert cleared == {}
    same_time = video_decisions([row(1, Decision.REJECT, line=9), row(1, Decision.CONFIRM, line=4)])
    assert same_time["0007-02"].rejected == ("glare",)


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from iss_assets.intake.reviews import ReviewRow, append_review
from iss_assets.protocol.reviews import Decision
for n in range(25):
    at = datetime(2026, 1, 1, 0, n, tzinfo=UTC)
    append_review(Path(sys.argv[1]), ReviewRow(at, sys.argv[2], "0007", "0007-02", "glare", Decision.REJECT, f"r{n}"))
"""


def test_reviewers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name])
        for name in ("ana", "ben", "eva")
    ]
    assert [w.wait(120) for w in writers] == [0, 0, 0]
    rows, rejected, problems = read(tmp_path)
    assert {(r.reviewer, r.reason) for r in rows} == {
        (w, f"r{n}") for w in ("ana", "ben", "eva") for n in range(25)
    }
    assert not rejected and not problems
    assert len(list(csv.reader(io.StringIO((tmp_path / REVIEWS).read_text())))) == 76


def test_a_file_that_cannot_be_continued_is_left_alone(tmp_path: Path) -> None:
    for content in (b"a,b,c\n1,2,3\n", "reviewer;größe\n".encode("cp1252"), HEADER.encode("utf-16")):
        (tmp_path / REVIEWS).write_bytes(content)
        with pytest.raises(StudyFolderError):
            append_review(tmp_path, REJECT)
        assert (tmp_path / REVIEWS).read_bytes() == content
    (tmp_path / REVIEWS).unlink()
    outside = tmp_path.parent / f"{tmp_path.name}-outside.csv"
    outside.write_text("")
    (tmp_path / REVIEWS).symlink_to(outside)
    with pytest.raises(StudyFolderError, match="leads out"):
        append_review(tmp_path, REJECT)
    assert outside.read_text() == ""


def test_a_reason_is_cut_to_its_limit(tmp_path: Path) -> None:
    append_review(
        tmp_path, ReviewRow(NOW, "a", "0007", "0007-02", None, Decision.EXCLUDE, "ä" * 2 * LONGEST_TEXT)
    )
    assert len(read(tmp_path)[0][0].reason) == LONGEST_TEXT
