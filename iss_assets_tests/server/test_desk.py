"""The desk: its queue, what a video's page knows, and decisions that go into reviews.csv."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from starlette.applications import Starlette
from starlette.testclient import TestClient

from iss_assets.intake.folder import study_signature
from iss_assets.intake.reviews import ReviewRow
from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.protocol.reviews import Decision
from iss_assets.reports.quality_report import quality_report
from iss_assets.schemas.operations import CheckResults
from iss_assets.server.accounts import Role
from iss_assets.server.application import DagsterApps, build_application
from iss_assets.server.decisions import DecisionError, Reviews, decision_from, last_day_of_contact
from iss_assets.server.review_queue import (
    NOBODY,
    Filters,
    build_queue,
    neighbors,
    open_flags,
    order_of_videos,
)
from iss_assets.server.routing import GuardedMount, GuardedRoute
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER
from iss_assets_tests.media.sounds import voice
from iss_assets_tests.reports.test_quality_page import check_result
from iss_assets_tests.server.invented_study import FLAGS, MOMENT, TEN, make_study
from iss_assets_tests.server.test_security import ADDRESS, client, probe, settings

__all__ = ["settings"]


@pytest.fixture
def application(settings: Settings, empty_warehouse: Path) -> Starlette:
    make_study(settings, empty_warehouse)
    return build_application(settings, DagsterApps(probe("full"), probe("read-only")), lambda secret: None)


@pytest.fixture
def coordinator(application: Starlette) -> TestClient:
    return client(application, "coordinator")


def decide(browser: TestClient, **decision: Any) -> tuple[int, str]:
    answer = browser.post("/decisions", json=decision, headers={"Origin": ADDRESS})
    return answer.status_code, answer.json().get("problem", "")


def recorded(settings: Settings) -> list[dict[str, str]]:
    path = settings.study / "reviews.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def row(decision: Decision, video: str | None, flag: str | None = None, **more: Any) -> ReviewRow:
    return ReviewRow(
        datetime(2026, 3, 1, tzinfo=UTC), "maria", (video or "0007")[:4], video, flag, decision, **more
    )


def test_the_queue_is_the_quality_report_in_its_order_without_what_is_reviewed(
    settings: Settings, empty_warehouse: Path
) -> None:
    items = quality_report(make_study(settings, empty_warehouse)).items
    now = datetime(2026, 3, 5, tzinfo=UTC)
    assert [entry.item for entry in build_queue(items, FLAGS, Reviews(), now)] == items
    reviews = Reviews(
        (
            row(Decision.CONFIRM, "0007-01", "glare"),
            row(Decision.EXCLUDE, "0008-01", reason="not the patient"),
            row(Decision.ASSIGN, None, assignee="maria"),
        )
    )
    queue = build_queue(items, FLAGS, reviews, now)
    gone = {"glare", "blurred_picture", "duration", "face_mask"}
    assert [e.item for e in queue] == [item for item in items if item.check_name not in gone]
    assert {e.assignee for e in queue if e.item.patient_id == "0007"} == {"maria"}
    assert all(Filters(assignee="maria").passes(e) == (e.item.patient_id == "0007") for e in queue)
    assert all(Filters(assignee=NOBODY).passes(e) == (e.item.patient_id != "0007") for e in queue)
    assert [v.video_id for e in queue if Filters(flag="dark").passes(e) for v in e.videos] == ["0007-02"]
    assert not any(Filters(days=1).passes(e) for e in queue if e.days is None)


def test_a_request_to_withdraw_is_the_first_item_of_the_queue_with_its_day_and_what_to_do(
    settings: Settings, empty_warehouse: Path
) -> None:
    warehouse = make_study(settings, empty_warehouse)
    numbers = {"withdrawn scopes": 1, "scopes": ["research"], "asked on": "2026-02-06"}
    asked = check_result("0009", "consent", "withdrawal_requested", numbers=numbers)
    with warehouse.write() as writer:
        writer.append(CheckResults, CheckResults.from_rows([asked]))
    items = quality_report(warehouse).items
    queue = build_queue(items, FLAGS, Reviews(), datetime(2026, 3, 5, tzinfo=UTC))
    assert (queue[0].item.check_name, queue[0].item.patient_id) == ("withdrawal_requested", "0009")
    assert queue[0].videos == ()
    application = build_application(
        settings, DagsterApps(probe("full"), probe("read-only")), lambda secret: None
    )
    page = client(application, "coordinator").get("/review").text
    assert "On 6 February 2026, from research." in page and "iss withdraw 0009" in page
    assert page.index("iss withdraw 0009") < page.index('class="chip"')


@pytest.mark.parametrize(("days", "passing"), [(0, 4), (1, 3), (7, 1), (8, 0)])
def test_the_age_filter_lets_items_of_at_least_this_age_through(
    settings: Settings, empty_warehouse: Path, days: int, passing: int
) -> None:
    items = quality_report(make_study(settings, empty_warehouse)).items
    now = datetime(2026, 3, 9, 12, tzinfo=UTC)
    ages = (timedelta(days=7), timedelta(days=7, seconds=-1), timedelta(days=1), timedelta(hours=23))
    aged = [replace(item, since=now - age) for item, age in zip(items, ages, strict=False)]
    unknown = replace(items[len(ages)], since=None)
    queue = build_queue([*aged, unknown], FLAGS, Reviews(), now)
    assert [entry.days for entry in queue] == [7, 6, 1, 0, None]
    shown = [entry for entry in queue if Filters.of({"days": str(days)}).passes(entry)]
    assert shown == [*queue[:passing], *(queue[4:] if not days else [])]


def test_a_rejected_flag_no_longer_explains_others_and_a_confirmed_one_still_does() -> None:
    flags = ("dark", "grainy", "quiet")
    assert open_flags(flags, "0007-01", Reviews()) == ["dark", "quiet"]
    confirmed = Reviews((row(Decision.CONFIRM, "0007-01", "dark"),))
    assert open_flags(flags, "0007-01", confirmed) == ["quiet"]
    rejected = Reviews((row(Decision.REJECT, "0007-01", "dark"),))
    assert open_flags(flags, "0007-01", rejected) == ["grainy", "quiet"]


def test_filters_that_make_no_sense_filter_nothing() -> None:
    assert Filters.of({"flag": "nonsense", "days": "-1"}) == Filters()
    assert Filters.of({"days": "٣"}) == Filters.of({"days": "99999999"}) == Filters()
    assert Filters.of({"days": "7", "flag": "dark"}).query() == {"flag": "dark", "days": "7"}


def test_every_video_page_knows_its_neighbors_by_the_queue(
    coordinator: TestClient, settings: Settings
) -> None:
    study = coordinator.get("/review").text
    items = quality_report(Warehouse(settings.warehouse_path)).items
    order = order_of_videos(build_queue(items, FLAGS, Reviews(), datetime.now(UTC)))
    assert order[0][0] in study.split('id="next-video"')[1][:60]
    for video, _ in order:
        before, after = neighbors(order, video)
        page = coordinator.get(f"/review/{video}").text
        assert f'id="previous-video" href="/review/{before}"' in page
        assert f'id="next-video" href="/review/{after}"' in page
    assert coordinator.get("/review/0009-02").status_code == 200  # nothing is flagged, and it can be watched
    assert coordinator.get("/review/nobody").status_code == 404


def test_a_decision_is_appended_recorded_without_its_reason_and_shown_at_once(
    coordinator: TestClient, settings: Settings
) -> None:
    before = coordinator.get("/review/0007-01").text
    assert 'data-flag="glare" data-open="1"' in before and "confirmed" not in before
    assert decide(coordinator, decision="confirm", video_id="0007-01", flag="glare") == (200, "")
    assert decide(coordinator, decision="exclude", video_id="0007-02", reason="=SUM(A1) her son") == (200, "")
    assert decide(coordinator, decision="contacted", patient_id="0008", contacted_on="2026-02-28")[0] == 200
    assert decide(coordinator, decision="assign", patient_id="0009", assignee="coordinator")[0] == 200
    rows = recorded(settings)
    assert [(r["reviewer"], r["patient_id"], r["video_id"], r["flag"], r["decision"]) for r in rows] == [
        ("coordinator", "0007", "0007-01", "glare", "confirm"),
        ("coordinator", "0007", "0007-02", "", "exclude"),
        ("coordinator", "0008", "", "", "contacted"),
        ("coordinator", "0009", "", "", "assign"),
    ]
    assert rows[1]["reason"] == "'=SUM(A1) her son" and rows[2]["contacted_on"] == "2026-02-28"
    page = coordinator.get("/review/0007-01").text
    assert 'data-flag="glare" data-open="0"' in page and "confirmed by coordinator" in page
    assert "Excluded by coordinator" in coordinator.get("/review/0007-02").text
    queue = coordinator.get("/review").text
    assert "Glare" not in queue and "contacted 2026-02-28" in queue and "Release" in queue
    assert decide(coordinator, decision="clear", video_id="0007-01", flag="glare") == (200, "")
    assert "Glare" in coordinator.get("/review").text
    lines = [line for line in AuditLog(settings.audit_path).lines() if line.action == Action.REVIEWED]
    assert [(line.subject, line.detail["decision"]) for line in lines] == [
        ("0007-01", "confirm"), ("0007-02", "exclude"), ("0008", "contacted"), ("0009", "assign"), ("0007-01", "clear"),
    ]  # fmt: skip
    assert "her son" not in settings.audit_path.read_text()


@pytest.mark.parametrize(
    ("decision", "says"),
    [
        ({"decision": "burn", "video_id": "0007-01"}, "no such decision"),
        ({"decision": "confirm", "video_id": "0007-01"}, "needs a flag"),
        ({"decision": "confirm", "patient_id": "0007", "flag": "dark"}, "needs a video"),
        ({"decision": "confirm", "video_id": "0007-01", "flag": "../dark"}, "no such flag"),
        ({"decision": "confirm", "video_id": "nobody", "flag": "dark"}, "no such video"),
        ({"decision": "confirm", "video_id": "0007-01", "patient_id": "0008", "flag": "dark"}, "no such video"),
        ({"decision": "exclude", "video_id": "0007-01", "reason": "  "}, "Give a reason"),
        ({"decision": "exclude", "video_id": "0007-01", "reason": "x" * 501}, "longer than 500"),
        ({"decision": "contacted", "patient_id": "0007", "contacted_on": "soon"}, "Give the day"),
        ({"decision": "contacted", "patient_id": "0007", "contacted_on": "2099-01-01"}, "in the future"),
        ({"decision": "assign", "patient_id": "'; drop table patients", "assignee": "x"}, "no such patient"),
        ({"decision": "assign", "patient_id": "0007", "assignee": "x" * 65}, "at most 64"),
        ({"decision": "assign", "patient_id": "0007", "assignee": "a\u0000b"}, "printable"),
        ({"decision": "assign", "patient_id": "0007", "assignee": 7}, "not a decision"),
        (["decision"], "not a decision"),
    ],
)  # fmt: skip
def test_what_cannot_be_recorded_is_refused_with_a_sentence(
    coordinator: TestClient, settings: Settings, decision: Any, says: str
) -> None:
    answer = coordinator.post("/decisions", json=decision, headers={"Origin": ADDRESS})
    assert answer.status_code == 422 and says in answer.json()["problem"]
    assert recorded(settings) == []


def test_a_researcher_decides_nothing(application: Starlette, settings: Settings) -> None:
    valid = {"decision": "confirm", "video_id": "0007-01", "flag": "glare"}
    researcher, coordinator = client(application, "researcher"), client(application, "coordinator")
    assert researcher.post("/decisions", json=valid, headers={"Origin": ADDRESS}).status_code == 403
    assert recorded(settings) == []
    assert not [line for line in AuditLog(settings.audit_path).lines() if line.action == Action.REVIEWED]
    assert decide(coordinator, **valid) == (200, "")
    assert [row["reviewer"] for row in recorded(settings)] == ["coordinator"]


def test_a_contact_is_at_most_on_a_day_that_has_begun_somewhere() -> None:
    now = datetime(2026, 3, 9, 13, tzinfo=UTC)
    assert last_day_of_contact(now) == date(2026, 3, 10)
    given = {"decision": "contacted", "patient_id": "0007", "contacted_on": "2026-03-10"}
    assert decision_from(given, "maria", {"0007"}, {}, now).contacted_on == date(2026, 3, 10)
    with pytest.raises(DecisionError, match="in the future"):
        decision_from({**given, "contacted_on": "2026-03-11"}, "maria", {"0007"}, {}, now)


def test_requests_that_are_no_json_or_too_long_or_from_elsewhere_change_nothing(
    coordinator: TestClient, settings: Settings
) -> None:
    own = {"Origin": ADDRESS, "Content-Type": "application/json"}
    good = '{"decision": "confirm", "video_id": "0007-01", "flag": "glare"}'
    for body, headers, status in (
        (good, {**own, "Origin": "http://evil.example"}, 403), (good, {**own, "Content-Type": "text/plain"}, 415),
        ("[" * 16_000, own, 422), ("{", own, 422), (b"\xff", own, 422), (" " * 17_000 + good, own, 413),
        ('{"decision": "assign", "patient_id": "\\ud800"}', own, 422),
    ):  # fmt: skip
        answer = coordinator.post("/decisions", content=body, headers=headers)
        assert answer.status_code == status, (body[:20], answer.text)
    assert recorded(settings) == []


def test_a_file_that_cannot_be_continued_or_read_is_said_and_the_desk_still_works(
    coordinator: TestClient, settings: Settings
) -> None:
    path = settings.study / "reviews.csv"
    path.write_text("who,what\nme,nothing\n")
    status, problem = decide(coordinator, decision="confirm", video_id="0007-01", flag="glare")
    assert status == 409 and problem.startswith("Not recorded: reviews.csv lacks columns")
    assert str(settings.study) not in problem and path.read_text() == "who,what\nme,nothing\n"
    page = coordinator.get("/review")
    assert page.status_code == 200 and "Decisions cannot be read" in page.text and "Glare" in page.text
    header = "reviewed_at,reviewer,patient_id,video_id,flag,decision,reason\n"
    path.write_text(header + "yesterday,maria,0007,0007-01,glare,confirm,\n")
    listed = coordinator.get("/review").text
    assert "1 row of reviews.csv cannot be used" in listed and "Line 2, reviewed_at" in listed


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_sentence(coordinator: TestClient, settings: Settings) -> None:
    settings.study.chmod(0o500)
    try:
        status, problem = decide(coordinator, decision="confirm", video_id="0007-01", flag="glare")
    finally:
        settings.study.chmod(0o700)
    assert status == 409 and "cannot be written" in problem


def test_a_decision_changes_what_the_sensor_compares_for_that_patient_only(
    coordinator: TestClient, settings: Settings
) -> None:
    (settings.study / "enrollment.csv").write_text(
        f"{ENROLLMENT_HEADER}\n"
        + "".join(f"{p},1A,F,III,3,2026-02-01,+00:00\n" for p in ("0007", "0008", "0009"))
    )
    (settings.study / "surveys.csv").write_text(f"{SURVEY_HEADER}\n")
    before = study_signature(settings.study).patients
    assert decide(coordinator, decision="reject", video_id="0008-02", flag="several_faces")[0] == 200
    after = study_signature(settings.study).patients
    assert {p for p in after if after[p] != before[p]} == {"0008"}


def test_the_timeline_has_spans_light_and_boxes_in_fractions_of_the_picture(coordinator: TestClient) -> None:
    found = coordinator.get("/review/0007-01/timeline").json()
    assert found["duration"] == 4.0
    assert found["flags"] == {flag: [[MOMENT, 3.0]] for flag in FLAGS["0007-01"]}
    assert found["face"] == [[1.0, 4.0]] and found["several"] == [[3.0, 4.0]]
    assert found["light"][0] == [0.0, 0.0] and found["light"][-1] == [3.9, 0.975]
    assert found["boxes"][0] == [1.0, 0.25, 0.25, 0.5, 0.75] and len(found["boxes"]) == 30
    assert coordinator.get("/review/0007-01/speech").json() == []  # silent
    for part in ("timeline", "speech", "meshes"):
        assert coordinator.get(f"/review/nobody/{part}").status_code == 404


@pytest.mark.parametrize(
    ("video", "expected"),
    [
        ("0007-01", "Question 10: garden, read word error rate 0.05"),
        ("0007-02", "Question 10: garden, cut short: 53% of the text instead of lake word error rate 0.48"),
        ("0008-01", "Question 10: not read to be read: garden word error rate 0.93 against the closest text"),
        (
            "0008-02",
            "Question 10: could not be assessed surveys.csv says old, not in prompts.csv",
        ),
        ("0009-01", ""),
    ],
)
def test_the_reading_of_question_10_is_told_beside_the_video(
    coordinator: TestClient, video: str, expected: str
) -> None:
    page = coordinator.get(f"/review/{video}").text
    shown = re.findall(r'<p class="facts" id="reading">(.*?)</p>', page, re.DOTALL)
    assert [" ".join(re.sub("<[^>]*>", " ", text).split()) for text in shown] == [expected] * bool(expected)
    assert expected or "Question 10" not in page


def test_the_timeline_shows_where_somebody_speaks(coordinator: TestClient, settings: Settings) -> None:
    rate, silence = 22_050, np.zeros(22_050, np.float32)
    wave = io.BytesIO()
    soundfile.write(wave, np.concatenate([silence, voice(2.0, rate), silence]), rate, format="FLAC")
    with Warehouse(settings.warehouse_path).write() as writer:
        writer.execute("update audio set waveform = ? where video_id = '0007-02'", [wave.getvalue()])
    spans = coordinator.get("/review/0007-02/speech").json()
    assert spans and all(0.9 < begin < end < 3.2 for begin, end in spans)
    assert sum(end - begin for begin, end in spans) > 1
    assert coordinator.get("/review/0007-01/speech").json() == []


def test_meshes_are_where_their_crops_are_and_seeing_them_is_a_view(
    coordinator: TestClient, settings: Settings
) -> None:
    answer = coordinator.get("/review/0007-01/meshes?from=1")
    found = np.frombuffer(answer.content, "<f4").reshape(-1, 937)
    assert found[:, 0].tolist() == pytest.approx([1 + n / 10 for n in range(10)])
    # the middle of a box from 40 to 80 of 160, and a quarter down one from 30 to 90 of 120
    assert found[0, 1:3].tolist() == [0.375, 0.375]
    with Warehouse(settings.warehouse_path).write() as writer:
        writer.execute("update faces set x1 = -20 where video_id = '0007-01'")
    cut = np.frombuffer(coordinator.get("/review/0007-01/meshes?from=1").content, "<f4").reshape(-1, 937)
    # a box that reaches beyond the picture: the middle of the crop, which is from 0 to 80
    assert cut[0, 1:3].tolist() == [0.25, 0.375]
    assert coordinator.get("/review/0007-01/meshes?from=3").content == b""
    for begin in ("x", "nan", "-1", "1e99"):
        assert coordinator.get(f"/review/0007-01/meshes?from={begin}").status_code == 400
    views = [line for line in AuditLog(settings.audit_path).lines() if line.action == Action.MEDIA_VIEWED]
    assert [(v.who, v.subject, v.detail["what"]) for v in views] == [("coordinator", "0007-01", "meshes")] * 3


@pytest.mark.parametrize("role", [None, *Role])
def test_no_route_gives_a_role_what_it_may_not_have(
    application: Starlette, settings: Settings, role: Role | None
) -> None:
    """Taken from the route table: who is below a route's role is refused, and researchers get no media from any other."""
    browser = client(application, role.value if role else None)
    coordinator = client(application, "coordinator")
    for decision in ("exclude", "contacted"):
        decide(
            coordinator,
            decision=decision,
            video_id="0007-01",
            reason="her own words",
            contacted_on="2026-02-28",
        )
    parts = {
        "{video_id}": "0007-01",
        "{patient_id}": "0007",
        "{path:path}": "index.html",
        "{name}": "desk.js",
    }
    seen = 0
    for route in application.routes:
        assert isinstance(route, GuardedRoute | GuardedMount)
        path = route.path
        for name, value in parts.items():
            path = path.replace(name, value)
        assert "{" not in path, f"give {path} a value here"
        methods = (route.methods or set()) - {"HEAD"} if isinstance(route, GuardedRoute) else {"GET"}
        for method in methods - ({"POST"} if path == "/sign-out" else set()):
            answer = browser.request(method, path, headers={"Origin": ADDRESS})
            if route.role is not None and role is None:
                assert answer.status_code == 401, path
            elif route.role is not None and role is not None and not role.includes(route.role):
                assert answer.status_code == 403 and len(answer.content) < 100, path
            else:
                assert answer.status_code not in (401, 403, 500) or path.startswith(("/sign-in", "/link")), (
                    path
                )
                kind = answer.headers.get("content-type", "")
                if role in (None, Role.RESEARCHER):
                    assert not kind.startswith(("video/", "audio/", "image/", "application/octet-stream")), (
                        path
                    )
                    assert b"/media/" not in answer.content or path.startswith("/static/"), path
                    assert b"her own words" not in answer.content and b"<video" not in answer.content, path
            seen += 1
    assert seen >= 18


def test_a_researcher_sees_numbers_of_a_patient_and_no_reason_contact_or_link_to_media(
    application: Starlette, settings: Settings
) -> None:
    coordinator, researcher = client(application, "coordinator"), client(application, "researcher")
    decide(coordinator, decision="exclude", video_id="0007-01", reason="her own words")
    decide(
        coordinator,
        decision="contacted",
        video_id="0007-01",
        contacted_on="2026-02-28",
        reason="spoke with her",
    )
    page = researcher.get("/patients/0007").text
    assert "video excluded" in page and "glare" in page and "svg" in page
    for hidden in ("her own words", "spoke with her", "2026-02-28", "/review", "/media", ">coordinator<"):
        assert hidden not in page
    full = coordinator.get("/patients/0007").text
    for shown in ("her own words", "spoke with her", "2026-02-28", "/review/0007-01"):
        assert shown in full
    assert researcher.get("/patients/nobody").status_code == 404
    viewed = [line for line in AuditLog(settings.audit_path).lines() if line.action == Action.PATIENT_VIEWED]
    assert [(line.who, line.subject) for line in viewed] == [("researcher", "0007"), ("coordinator", "0007")]


def test_a_warehouse_that_cannot_be_read_is_a_page_that_says_so(
    coordinator: TestClient, settings: Settings
) -> None:
    settings.warehouse_path.write_bytes(b"not a database" * 999)
    answer = coordinator.get("/review")
    assert answer.status_code == 503 and "cannot be read" in answer.text
    assert str(settings.home) not in answer.text


def test_the_ten_flags_are_of_ten_causes() -> None:
    assert sorted(flag for own in FLAGS.values() for flag in own) == sorted(TEN)
    assert all(set(open_flags(own, video, Reviews())) == set(own) for video, own in FLAGS.items())
