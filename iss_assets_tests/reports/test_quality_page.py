"""`iss quality`, its page, and what models were not trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import MappingProxyType

import pytest

from iss_assets.alerting.rules import Alert, Observation, update
from iss_assets.protocol.catalogue import BY_KEY, WITHOUT_CONTACT, find
from iss_assets.reports.quality_page import write_quality_page
from iss_assets.reports.quality_report import Item, Level, quality_report
from iss_assets.reports.quality_text import HEADINGS, format_quality, reviews_in_words
from iss_assets.schemas.intake import BpiScores, Patients, Reviews
from iss_assets.schemas.modeling import FoldModels, FramePredictions
from iss_assets.schemas.operations import Alerts, CheckResults
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
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
    numbers: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, object]:
    info = find(asset, name)
    return {
        "patient_id": patient,
        "asset": asset,
        "check_name": name,
        "passed": passed,
        "severity": severity or info.severity,
        "affected": list(affected),
        "numbers": json.dumps({"affected": len(affected), "checked": 10, **numbers}),
        "threshold": "",
        "hint": None if passed else info.advise(patient, lost=severity == "ERROR"),
        "fingerprint": "f",
        "run_id": "run-one",
        "evaluated_at": NOW,
    }


def keep(warehouse: Warehouse, *rows: dict[str, object]) -> None:
    warehouse.replace(CheckResults, CheckResults.from_rows(rows), {})


def keep_alerts(warehouse: Warehouse, observations: Sequence[Observation]) -> None:
    alerts: dict[tuple[str, str, str], Alert] = {}
    for observation in observations:
        for alert in update(alerts, [observation]):
            alerts[alert.key] = alert
    rows = [a.row() for a in alerts.values()]
    warehouse.replace(Alerts, Alerts.from_rows(rows), {})


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
        Patients: people,
        BpiScores: scores,
        Videos: videos,
        VideoQuality: quality,
    }
    warehouse.replace_all([Replacement(table, table.from_rows(rows), {}) for table, rows in made.items()])
    return warehouse


@pytest.fixture
def study(unchecked: Warehouse) -> Warehouse:
    """The same with checks: some failed, one was resolved, one run failed."""
    return fill(unchecked)


def fill(warehouse: Warehouse) -> Warehouse:
    videos = {patient: [f"{patient}-{week:03d}" for week in range(1, 11)] for patient in PATIENTS}
    gone = {"not usable": 5, "usable videos": 0}
    keep(
        warehouse,
        check_result("0009", "video_quality", "unreadable_videos", videos["0009"][:5], severity="ERROR", numbers=gone),
        check_result("0009", "video_quality", "face_missing", videos["0009"][5:], severity="ERROR", numbers=gone),
        check_result(
            "0012", "video_quality", "dark_or_grainy", videos["0012"][:3], numbers={"not usable": 0, "usable videos": 10}
        ),
        check_result("0012", "video_quality", "glare", videos["0012"], numbers={"not usable": 0, "usable videos": 10}),
        check_result(
            "0017", "video_quality", "frozen_picture", videos["0017"][:2], numbers={"not usable": 2, "usable videos": 8}
        ),
        check_result(
            "0015", "bpi_scores", "missing_scores", videos["0015"], severity="ERROR",
            numbers={"missing answers": 90, "answers asked for": 90},
        ),
        check_result(
            "0016", "bpi_scores", "missing_scores", videos["0016"][:1],
            numbers={"missing answers": 9, "answers asked for": 90},
        ),
        *(
            check_result(
                patient, "bpi_scores", "fewer_than_three_a_week", numbers={"weeks": 4, "short weeks": 4 if patient == "0005" else 1}
            )
            for patient in PATIENTS[:11]
        ),
        check_result("0004", "video_quality", "signage", passed=True),
        check_result("*", "study_expectations", "study_cohorts"),
    )  # fmt: skip
    with warehouse.write() as writer:
        writer.execute(
            "update video_quality set flags = ['dark', 'grainy', 'face_missing'] where video_id = '0012-001'"
        )
        writer.execute("update video_quality set flags = ['grainy'] where video_id = '0012-002'")
        writer.execute(
            "update videos set problem = 'The sound begins late.' where video_id in ('0012-002', '0030-001')"
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


ORDER = [
    (Level.BROKEN, "0020", "run_failed"),
    (Level.PATIENT, "0009", "face_missing"),
    (Level.PATIENT, "0009", "unreadable_videos"),
    (Level.DATA, "0015", "missing_scores"),
    (Level.DATA, "0017", "frozen_picture"),
    (Level.DATA, "0016", "missing_scores"),
    (Level.DOUBT, "0012", "glare"),
    (Level.DOUBT, "0012", "dark_or_grainy"),
    (Level.REMINDER, "*", "fewer_than_three_a_week"),
    (Level.STUDY, "*", "study_cohorts"),
    (Level.STUDY, "*", "file_problems"),
]


def item_of(warehouse: Warehouse, check: str, *patients: str) -> Item:
    (found,) = (i for i in quality_report(warehouse, patients).items if i.check_name == check)
    return found


def test_items_are_ordered_by_what_they_cost_the_study(study: Warehouse) -> None:
    items = quality_report(study).items
    assert [(i.cost.level, i.patient_id, i.check_name) for i in items] == ORDER
    shares = {i.check_name: i.cost.share for i in items if i.patient_id in ("0012", "0016", "0017")}
    assert shares == {"frozen_picture": 0.2, "missing_scores": 0.1, "glare": 1.0, "dark_or_grainy": 0.3}


def test_the_terminal_shows_the_same_order_under_the_same_headings_with_what_to_do(study: Warehouse) -> None:
    report = quality_report(study)
    text = format_quality(report)
    titles = [item.title for item in report.items]
    flowing = " ".join(text.split())
    assert flowing.startswith(
        "6 of 30 patients need attention: 1 with a failed run or check, 1 lost or mislabeled, 3 with data lost, "
        "1 with poor quality. 11 patients to remind."
    )
    places = [flowing.index(f"{title}.") for title in dict.fromkeys(titles)]
    assert places == sorted(places)
    assert [line for line in text.splitlines() if line.isupper()] == [
        HEADINGS[level][0].upper() for level in dict.fromkeys(i.cost.level for i in report.items)
    ]
    assert "No video can be used so far: call them and record the next one together." in flowing
    assert "Ask patient 0012 to record in a brighter room" in flowing
    assert all(len(line) <= 100 for line in text.splitlines())


def test_a_patient_with_three_dark_videos_is_one_item_that_lists_them(study: Warehouse) -> None:
    item = item_of(study, "dark_or_grainy")
    assert item.details == (
        ("0012-001", "too dark"),
        ("0012-002", "grainy. The sound begins late."),
        ("0012-003", ""),
    )
    assert item.cost.says == "3 of 10 videos, still used."


def test_too_few_check_ins_are_one_list_with_the_worst_first(study: Warehouse) -> None:
    item = item_of(study, "fewer_than_three_a_week")
    assert item.details[:2] == (("0005", "4 of 4 weeks"), ("0001", "1 of 4 weeks"))
    assert item.patients == ("0005", *(p for p in PATIENTS[:11] if p != "0005"))
    assert (
        item.what_to_do == "Remind these patients of three check-ins a week, and ask what keeps them from it."
    )
    alone = item_of(study, "fewer_than_three_a_week", "0003")
    assert (alone.patients, alone.what_to_do) == (
        ("0003",),
        "Remind patient 0003 of three check-ins a week, and ask what keeps them from it.",
    )


def test_every_reminder_can_be_said_to_one_patient_and_to_many() -> None:
    for check in BY_KEY.values():
        if check.reminder:
            assert "these patients" in check.advise_all() and "{" not in check.advise_all()


def test_an_unusual_file_is_listed_though_no_check_failed(study: Warehouse) -> None:
    assert item_of(study, "file_problems").details == (("0030-001", "The sound begins late."),)


def test_a_check_that_could_not_run_is_listed_first_and_costs_no_patient(study: Warehouse) -> None:
    row = check_result(
        "0003", "bpi_scores", "fewer_than_three_a_week", severity="ERROR", numbers={"error": "KeyError"}
    )
    keep(study, row)
    item = item_of(study, "fewer_than_three_a_week", "0003")
    assert (item.cost.level, item.severity, item.patient_id) == (Level.BROKEN, "ERROR", "0003")


def test_a_result_of_an_earlier_version_is_shown_all_the_same(study: Warehouse) -> None:
    keep(
        study,
        {**check_result("0001", "video_quality", "glare"), "check_name": "nothing_usable", "numbers": "{}"},
        {**check_result("0002", "bpi_scores", "fewer_than_three_a_week"), "numbers": "{}"},
    )
    assert {i.title for i in quality_report(study).items} >= {
        "nothing usable",
        "Fewer than three check-ins a week",
    }


def test_a_failed_run_comes_with_the_command_that_tries_again(study: Warehouse) -> None:
    (item,) = quality_report(study, ["0020"]).items
    assert item.title == "The last run failed at frames"
    assert item.what_to_do == (
        "Run it again: iss run --patient 0020. If it fails again, tell the engineer about run run-two."
    )


def test_what_passed_or_was_resolved_is_not_listed(study: Warehouse) -> None:
    assert [i.check_name for i in quality_report(study, ["0004"]).items] == ["fewer_than_three_a_week"]


def test_an_item_says_since_when(study: Warehouse) -> None:
    assert item_of(study, "dark_or_grainy").since == NOW - timedelta(days=9)


def test_a_warehouse_without_patients_says_what_to_do(warehouse: Warehouse, tmp_path: Path) -> None:
    report = quality_report(warehouse)
    assert format_quality(report) == "The warehouse has no patients yet; start with `iss run`."
    page = write_quality_page(report, tmp_path / "q.html").read_text()
    assert "There have been no alerts." in page


def test_a_study_without_issues_says_so(unchecked: Warehouse) -> None:
    keep(unchecked, check_result("0001", "video_quality", "glare", passed=True))
    assert format_quality(quality_report(unchecked)).startswith("No issues: 1 of 30 patients checked")


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
        "call them and record the next one together",
        "Remind these patients",
        "The sound begins late.",
        "Ask patient 0012 to record in a brighter room",
        "Error",
        "Warning",
        "resolved",
        "Since 10 January 2026",
    ):
        assert text in page.text
    assert html.count("<svg viewBox") > 5
    assert list(path.parent.iterdir()) == [path], "no half-written file is left"


def test_text_in_the_tables_cannot_become_markup(study: Warehouse, tmp_path: Path) -> None:
    row = check_result("0012", "video_quality", "glare", ["<script>alert(1)</script>"])
    keep(study, {**row, "hint": "<img src=x onerror=alert(1)>"})
    html = write_quality_page(quality_report(study), tmp_path / "q.html").read_text()
    assert "<img src=x" not in html and "<script>alert" not in html


def test_every_check_of_the_catalogue_can_be_shown(study: Warehouse) -> None:
    keep(study, *(check_result("0001", asset, name) for asset, name in BY_KEY))
    report = quality_report(study)
    assert all(item.title and item.what_to_do for item in report.items)
    assert {(item.asset, item.check_name) for item in report.items} >= {*BY_KEY}


def test_without_models_nobody_is_in_a_model(study: Warehouse) -> None:
    behind = models_behind(study)
    assert (behind.models, len(behind.patients)) == (0, 29), "one of the 30 sent nothing usable"
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
    study.replace(FoldModels, FoldModels.from_rows([model]), {})
    study.replace(FramePredictions, FramePredictions.from_rows(seen), {})
    study.replace(VideoQuality, VideoQuality.from_rows([]), {})
    behind = models_behind(study)
    assert behind.patients == ("0030",)
    assert behind.submissions == tuple(sorted([missed, *late]))
    assert f"1 patient and {len(late) + 1} submissions" in str(behind)
    # a patient none of whose videos can be used is in no model by design
    row = {"frames": 1, "measures": "{}", "flags": ["face_missing"], "usable": False, "fingerprint": "f"}
    lost = [{**row, "video_id": late[0], "patient_id": "0030"}]
    study.replace(VideoQuality, VideoQuality.from_rows(lost), {})
    assert models_behind(study).patients == () and models_behind(study).submissions == (missed,)


def test_reviews_are_summarized_with_precision_agreement_and_exclusions(
    study: Warehouse, tmp_path: Path
) -> None:
    videos = study.query("select video_id, patient_id from video_quality order by 1 limit 3").to_pylist()
    made = [
        ("maria", videos[0], "glare", "reject"),
        ("ben", videos[0], "glare", "confirm"),
        ("maria", videos[1], "glare", "confirm"),
        ("ben", videos[1], "glare", "confirm"),
        ("maria", videos[2], "dark", "confirm"),
        ("maria", videos[2], "dark", "clear"),
    ]
    rows = [
        {
            "patient_id": video["patient_id"],
            "line": line,
            "reviewed_at": NOW + timedelta(minutes=line),
            "reviewer": reviewer,
            "video_id": video["video_id"],
            "flag": flag,
            "decision": decision,
            "reason": "<b>secret</b>",
            "contacted_on": None,
            "assignee": None,
        }
        for line, (reviewer, video, flag, decision) in enumerate(made, start=2)
    ]
    study.replace(Reviews, Reviews.from_rows(rows), {})
    with study.write() as connection:
        connection.execute(
            "update video_quality set decision = 'exclude' where video_id = ?", [videos[2]["video_id"]]
        )
    found = quality_report(study).reviews
    assert (found.reviewed, found.rejected) == (2, 0)  # the latest decision about each flag; one was cleared
    assert [p.flag for p in found.precisions] == ["glare"] and found.excluded == [videos[2]["video_id"]]
    (pair,) = found.agreements
    # observed 1/2, expected 1/2 * 1 + 1/2 * 0 = 1/2
    assert (pair.reviewers, pair.flags, pair.agreed, pair.kappa) == (("ben", "maria"), 2, 1, 0.0)
    page = write_quality_page(quality_report(study), tmp_path / "quality.html").read_text()
    assert "ben and maria agree on 1 of 2 flags that both reviewed, Cohen’s kappa 0.00." in page
    assert f"Excluded by a person: {videos[2]['video_id']}." in page and "secret" not in page

    assert reviews_in_words(found, names=False)[-1] == (
        "Reviewer 1 and reviewer 2 agree on 1 of 2 flags that both reviewed, Cohen’s kappa 0.00."
    )


def test_a_request_to_withdraw_comes_first_and_says_when_and_from_what(
    unchecked: Warehouse, tmp_path: Path
) -> None:
    numbers = {"withdrawn scopes": 2, "scopes": ["research", "share_media"], "asked on": "2021-05-06"}
    keep(
        unchecked,
        check_result("0003", "video_quality", "dark_or_grainy", ["0003-01"], severity="ERROR"),
        check_result("0007", "consent", "withdrawal_requested", numbers=numbers),
    )
    report = quality_report(unchecked)
    first = report.items[0]
    assert (first.patient_id, first.cost.level, first.severity) == ("0007", Level.RIGHTS, "ERROR")
    assert first.cost.says == "On 6 May 2021, from research, sharing pictures and sound."
    assert "iss withdraw 0007" in first.what_to_do
    said = format_quality(report)
    assert said.index("PATIENTS' RIGHTS") < said.index("PATIENTS LOST OR MISLABELED")
    assert "1 who asked to withdraw" in said
    page = write_quality_page(report, tmp_path / "quality.html").read_text("utf-8")
    assert "asked to withdraw" in page and "6 May 2021" in page


def test_a_reminder_marks_the_patients_who_do_not_want_to_be_contacted(unchecked: Warehouse) -> None:
    def late(patient: str, **more: object) -> dict[str, object]:
        return check_result(patient, "bpi_scores", "no_check_in", numbers={"days": 9, **more})

    keep(unchecked, late("0001"), late("0002", **{WITHOUT_CONTACT: 1}))
    (item,) = [item for item in quality_report(unchecked).items if item.cost.level == Level.REMINDER]
    assert item.details == (("0001", "9 days"), ("0002", "9 days; do not contact"))
    assert item.what_to_do.endswith(
        "Do not call or remind patient 0002: consent to be contacted has been withdrawn, or was not given."
    )
    keep(unchecked, late("0002", **{WITHOUT_CONTACT: 1}))
    (item,) = [item for item in quality_report(unchecked).items if item.cost.level == Level.REMINDER]
    assert "Call" not in item.what_to_do and "Do not call or remind patient 0002" in item.what_to_do
