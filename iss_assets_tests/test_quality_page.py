"""`iss quality`, its page, and what models have not seen."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from iss_assets.alert_rules import Alert, Observation, update
from iss_assets.checks.catalogue import BY_KEY, find
from iss_assets.quality_page import format_quality, quality_report, write_quality_page
from iss_assets.warehouse import tables
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.unseen import models_behind
from iss_assets_tests.times import time_columns

NOW = datetime(2026, 1, 19, 8, 30, tzinfo=UTC)


def check_result(
    patient: str,
    asset: str,
    name: str,
    affected: Sequence[str] = (),
    *,
    passed: bool = False,
    severity: str = "",
) -> dict[str, object]:
    info = find(asset, name)
    return {
        "patient_id": patient,
        "asset": asset,
        "check_name": name,
        "passed": passed,
        "severity": severity or info.severity,
        "affected": list(affected),
        "numbers": json.dumps({"affected": len(affected)}),
        "threshold": "",
        "hint": None if passed else info.advise(patient),
        "fingerprint": "f",
        "run_id": "run-one",
        "evaluated_at": NOW,
    }


def keep(warehouse: Warehouse, *rows: dict[str, object]) -> None:
    warehouse.replace(tables.CheckResults, tables.CheckResults.from_rows(rows), {})


def keep_alerts(warehouse: Warehouse, observations: Sequence[Observation]) -> None:
    alerts: dict[tuple[str, str, str], Alert] = {}
    for observation in observations:
        for alert in update(alerts, [observation]):
            alerts[alert.key] = alert
    rows = [a.row() for a in alerts.values()]
    warehouse.replace(tables.Alerts, tables.Alerts.from_rows(rows), {})


PATIENTS = [f"{i:04d}" for i in range(1, 31)]
FLAGS = (["dark", "grainy"], ["glare"], ["signage"], ["quiet"], ["face_missing"])


@pytest.fixture
def unchecked(warehouse: Warehouse) -> Warehouse:
    """Thirty patients with ten videos each over ten weeks: made-up rows, no video exists."""
    people, scores, videos, quality = [], [], [], []
    for number, patient in enumerate(PATIENTS):
        people.append(
            {
                "patient_id": patient,
                "cohort": "1A",
                "sex": "M",
                "skin_type": "II",
                "skin_group": "light",
                "pain_target": 0,
                "pain_level": "None",
            }
        )
        for week in range(10):
            video = f"{patient}-{week + 1:03d}"
            flagged = (number * 7 + week * 3) % 10 < 3
            usable = patient != "0009" and (number + week) % 17 != 0
            scores.append(
                {
                    "submission_id": video,
                    "patient_id": patient,
                    **time_columns(NOW - timedelta(weeks=10 - week, hours=number)),
                    "pain_now": 3,
                    "missing_scores": 8,
                }
            )
            videos.append(
                {
                    "video_id": video,
                    "patient_id": patient,
                    "file": f"videos/{patient}/{video}.mp4",
                    "sha256": f"{number * 100 + week:064x}",
                    "bytes": 1,
                    "modified_ns": 1,
                    "has_prompt": False,
                    "status": "ok",
                }
            )
            quality.append(
                {
                    "video_id": video,
                    "patient_id": patient,
                    "frames": 300,
                    "measures": "{}",
                    "flags": FLAGS[(number + week) % 5] if flagged else [] if usable else ["face_missing"],
                    "usable": usable,
                    "unusable_reason": None if usable else "face_missing",
                    "fingerprint": "f",
                }
            )
    made = {
        tables.Patients: people,
        tables.BpiScores: scores,
        tables.Videos: videos,
        tables.VideoQuality: quality,
    }
    warehouse.replace_all([Replacement(table, table.from_rows(rows), {}) for table, rows in made.items()])
    return warehouse


@pytest.fixture
def study(unchecked: Warehouse) -> Warehouse:
    """The same with checks: some failed, one was mended, one run failed."""
    return fill(unchecked)


def fill(warehouse: Warehouse) -> Warehouse:
    keep(
        warehouse,
        check_result("0009", "video_quality", "unreadable_videos", ["0009-001"], severity="ERROR"),
        check_result("0009", "video_quality", "face_missing", ["0009-002"], severity="ERROR"),
        check_result("0012", "video_quality", "dark_or_grainy", [f"0012-{i:03d}" for i in range(1, 13)]),
        check_result("0012", "video_quality", "glare", ["0012-004"]),
        check_result("0015", "bpi_scores", "missing_scores", severity="ERROR"),
        check_result("0004", "video_quality", "signage", passed=True),
        check_result("*", "study_expectations", "study_cohorts"),
    )
    keep_alerts(
        warehouse,
        [
            Observation(
                "run-zero",
                "0004",
                "video_quality",
                "signage",
                False,
                "WARN",
                NOW - timedelta(days=3),
                ("0004-001",),
            ),
            Observation(
                "run-zero", "0012", "video_quality", "dark_or_grainy", False, "WARN", NOW - timedelta(days=9)
            ),
            Observation("run-one", "0004", "video_quality", "signage", True, "WARN", NOW),
            Observation("run-two", "0020", "frames", "run_failed", False, "ERROR", NOW, ("MemoryError",)),
        ],
    )
    return warehouse


def test_troubles_are_listed_by_patient_with_errors_first_and_what_to_do(study: Warehouse) -> None:
    text = format_quality(quality_report(study))
    assert text.splitlines()[0] == "4 of 30 patients need attention: 4 errors and 3 warnings."
    assert re.findall(r"^(?:Patient (\d+)|(The whole study))$", text, re.M) == [
        ("0009", ""),
        ("0012", ""),
        ("0015", ""),
        ("0020", ""),
        ("", "The whole study"),
    ]
    assert "Ask patient 0012 to record in a brighter room" in text
    assert "0012-001, 0012-002, 0012-003, 0012-004, 0012-005, 0012-006 and 6 more" in " ".join(text.split())
    of_nine = text[text.index("Patient 0009") : text.index("Patient 0012")]
    assert of_nine.index("ERROR") < of_nine.index("0009-001")
    assert all(len(line) <= 100 for line in text.splitlines())


def test_a_failed_run_is_a_trouble_with_the_command_that_tries_again(study: Warehouse) -> None:
    (trouble,) = quality_report(study, ["0020"]).troubles
    assert trouble.title == "The last run failed at frames"
    assert trouble.what_to_do == (
        "Run it again: iss run --patient 0020. If it fails again, tell the engineer about run run-two."
    )


def test_what_passed_or_was_mended_is_not_listed(study: Warehouse) -> None:
    assert "0004" not in quality_report(study).by_subject


def test_a_trouble_says_since_when(study: Warehouse) -> None:
    (dark, *_) = quality_report(study, ["0012"]).troubles
    assert dark.since == NOW - timedelta(days=9)


def test_a_warehouse_without_patients_says_what_to_do(warehouse: Warehouse, tmp_path: Path) -> None:
    report = quality_report(warehouse)
    assert format_quality(report) == "The warehouse holds no patient yet; start with `iss run`."
    page = write_quality_page(report, tmp_path / "q.html").read_text()
    assert "There has been no alert." in page


def test_a_study_without_trouble_says_so(unchecked: Warehouse) -> None:
    keep(unchecked, check_result("0001", "video_quality", "glare", passed=True))
    assert format_quality(quality_report(unchecked)).startswith("No trouble: 1 of 30 patients checked")


def test_rates_add_up(study: Warehouse) -> None:
    report = quality_report(study)
    for row in report.by_patient:
        assert row["measured"] == row["clean"] + row["flagged"] + row["unusable"]
    assert sum(row["measured"] for row in report.by_patient) == report.totals["measured"]
    assert all(0 <= share <= 1 for week in report.over_time for share in (week.usable, *week.flags.values()))
    assert [w.start for w in report.over_time] == sorted({w.start for w in report.over_time})
    flags = study.query("select count(*) n from (select unnest(flags) from video_quality)")["n"][0].as_py()
    assert sum(row["videos"] for row in report.by_reason) == flags


class Page(HTMLParser):
    """Collects what a page would fetch, and whether its elements are closed."""

    VOID = frozenset(
        {"meta", "link", "img", "br", "hr", "input", "rect", "path", "line", "circle", "polyline"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [
            v or "" for n, v in attrs if n in ("src", "href") and not (v or "").startswith(("#", "data:"))
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_asks_for_nothing_and_says_everything_in_words(
    study: Warehouse, tmp_path: Path
) -> None:
    path = write_quality_page(
        quality_report(study), tmp_path / "reports" / "quality.html", invented=True, made_at=NOW
    )
    html = path.read_text()
    page = Page()
    page.feed(html)
    assert page.open == []
    assert page.fetched == []
    assert "url(http" not in html and "@import" not in html
    for text in (
        "Invented patients.",
        "Upload the videos of patient 0009 again",
        "Ask patient 0012 to record in a brighter room",
        "Error",
        "Warning",
        "mended",
        "since 10 January 2026",
    ):
        assert text in page.text
    assert html.count("<svg viewBox") > 5
    assert list(path.parent.iterdir()) == [path], "no half-written file is left"


def test_what_stands_in_the_tables_cannot_become_markup(study: Warehouse, tmp_path: Path) -> None:
    row = check_result("0012", "video_quality", "glare", ["<script>alert(1)</script>"])
    keep(study, {**row, "hint": "<img src=x onerror=alert(1)>"})
    html = write_quality_page(quality_report(study), tmp_path / "q.html").read_text()
    assert "<img src=x" not in html and "<script>alert" not in html


def test_every_check_of_the_catalogue_can_be_shown(study: Warehouse) -> None:
    keep(study, *(check_result("0001", asset, name) for asset, name in BY_KEY))
    report = quality_report(study)
    assert all(t.title and t.what_to_do for t in report.troubles)
    assert len(report.troubles) == len(BY_KEY) + 1


def test_models_that_do_not_exist_have_seen_nobody(study: Warehouse) -> None:
    behind = models_behind(study)
    assert (behind.models, len(behind.patients)) == (0, 30)
    assert str(behind) == "No model has been trained yet."


def test_models_are_behind_by_the_patients_and_submissions_that_came_after_them(study: Warehouse) -> None:
    people = [f"{i:04d}" for i in range(1, 30)]
    submissions = study.query(
        "select patient_id, submission_id from bpi_scores order by submission_id"
    ).to_pylist()
    late = [s["submission_id"] for s in submissions if s["patient_id"] == "0030"]
    missed = next(s["submission_id"] for s in submissions if s["patient_id"] == "0001")
    model = {
        "experiment": "forest_pain",
        "split": 1,
        "trained_at": NOW,
        "train_patients": people[:20],
        "test_patients": people[20:],
        "train_items": 1,
        "settings": "{}",
        "profile": "demo",
        "seed": 0,
        "weights_origin": "none",
        "cohort_hash": "c",
        "data_hash": "d",
        "code_version": "1",
    }
    prediction = {
        "experiment": "forest_pain",
        "split": 1,
        "target": "None",
        "predicted": "None",
        "probability": 1.0,
        "pain_probability": 0.0,
        "weight": 1.0,
    }
    seen = [
        {**prediction, "patient_id": s["patient_id"], "video_id": s["submission_id"]}
        for s in submissions
        if s["submission_id"] not in (missed, *late)
    ]
    study.replace(tables.FoldModels, tables.FoldModels.from_rows([model]), {})
    study.replace(tables.FramePredictions, tables.FramePredictions.from_rows(seen), {})
    study.replace(tables.VideoQuality, tables.VideoQuality.from_rows([]), {})
    behind = models_behind(study)
    assert behind.patients == ("0030",)
    assert behind.submissions == tuple(sorted([missed, *late]))
    assert f"1 patients and {len(late) + 1} submissions" in str(behind)
