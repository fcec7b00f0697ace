"""Home, patients, audit log, and accounts; what is kept of the warehouse, and whether the daemon is alive."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster._daemon.types import DaemonHeartbeat
from starlette.applications import Starlette

from iss_assets.intake.withdrawn import Scope, with_key, write_withdrawn
from iss_assets.pipeline.home import open_instance
from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.schemas.behavior import FaceBehavior, FaceBehaviorSummary
from iss_assets.server.application import DagsterApps, build_application
from iss_assets.server.daemon_watch import DaemonState, DaemonWatch
from iss_assets.server.study_data import StudyData
from iss_assets.settings import ServerSettings, Settings
from iss_assets_tests.reports.test_behavior import measured, put
from iss_assets_tests.server.invented_study import FLAGS, make_study
from iss_assets_tests.server.test_desk import decide
from iss_assets_tests.server.test_security import client, probe, settings

__all__ = ["settings"]


SILENT_S = ServerSettings().daemon_silent_s


def built(settings: Settings, state: DaemonState | None = None) -> Starlette:
    apps = DagsterApps(probe("full"), probe("read-only"))
    return build_application(
        settings, apps, lambda secret: None, daemon=(lambda: state) if state is not None else None
    )


def test_home_counts_what_waits_and_only_coordinators_get_links_to_it(
    settings: Settings, empty_warehouse: Path
) -> None:
    make_study(settings, empty_warehouse)
    application = built(settings, DaemonState(True, datetime.now(UTC)))
    coordinator, researcher = client(application, "coordinator"), client(application, "researcher")
    page = coordinator.get("/").text
    assert '<span class="number">10</span> <a href="/review#level-doubt">' in page
    assert "The daemon is alive" in page and "Sign-ins" not in page
    assert "/review" not in researcher.get("/").text
    decide(coordinator, decision="confirm", video_id="0007-01", flag="glare")
    after = coordinator.get("/").text
    assert '<span class="number">9</span>' in after and "<dt>decisions</dt><dd>1</dd>" in after
    admin = client(application, "admin").get("/").text
    assert "Sign-ins" in admin and "Exports" in admin


def test_home_counts_what_is_new_since_yesterday(settings: Settings, empty_warehouse: Path) -> None:
    warehouse = make_study(settings, empty_warehouse)
    now = datetime.now(UTC)
    began = datetime.combine(now.date() - timedelta(days=1), datetime.min.time(), UTC)
    new, old = now - timedelta(seconds=1), began - timedelta(seconds=1)
    alerts = [("raised", new, new)] * 4 + [("raised", old, new)] + [("resolved", old, new)] * 5
    alerts += [("resolved", old, old)] * 2 + [("closed", new, new)]
    with warehouse.write() as writer:
        writer.execute("update bpi_scores set submitted_at = ?", [old])
        writer.execute("update bpi_scores set submitted_at = ? where submission_id <= '0008-01'", [new])
        writer.execute("update videos set modified_ns = ?", [int(old.timestamp()) * 10**9])
        writer.execute(
            "update videos set modified_ns = ? where patient_id = '0008'", [int(new.timestamp()) * 10**9]
        )
        writer.execute("update patients set enrolled_on = ?", [old.date()])
        writer.execute("update patients set enrolled_on = ? where patient_id = '0009'", [new.date()])
        for number, (status, first_seen, changed_at) in enumerate(alerts):
            writer.execute(
                "insert into alerts by name select ? as alert_id, '' as run_id, '0007' as patient_id, 'videos' as asset, "
                "'duration' as check_name, 'WARN' as severity, ? as status, [] as affected, '{}' as numbers, '' as content, "
                "? as first_seen, ? as last_seen, ? as changed_at, 'not_needed' as delivery, [] as told_to, [] as taken_by, 0 as attempts",
                [str(number), status, first_seen, changed_at, changed_at],
            )
    page = client(built(settings), "researcher").get("/").text
    section = page.split('<h2 id="news">')[1].split("</section>")[0]
    assert dict(re.findall(r"<dt>(.+?)</dt><dd>(.+?)</dd>", section)) == {
        "check-ins": "3", "video files": "2", "patients enrolled": "1", "issues raised": "4", "issues resolved": "5",
        "decisions": "0",
    }  # fmt: skip


def test_a_patient_s_page_has_the_decisions_about_that_patient_s_videos(
    settings: Settings, empty_warehouse: Path
) -> None:
    make_study(settings, empty_warehouse)
    coordinator = client(built(settings), "coordinator")
    decide(coordinator, decision="confirm", video_id="0007-01", flag="glare")
    decide(coordinator, decision="exclude", video_id="0007-02", reason="not hers")
    decide(coordinator, decision="reject", video_id="0008-02", flag="several_faces")
    assign = {"decision": "assign", "patient_id": "0007", "assignee": "coordinator"}
    assert decide(coordinator, **assign) == (200, "")
    page = coordinator.get("/patients/0007").text
    assert "glare (accepted)" in page and "quiet (accepted)" not in page and "(excluded)" in page
    other = coordinator.get("/patients/0008").text
    assert "several faces (rejected)" in other and "(excluded)" not in other and "(accepted)" not in other


def test_a_patient_s_page_tells_the_readings_of_question_10_beside_the_narratives(
    settings: Settings, empty_warehouse: Path
) -> None:
    warehouse = make_study(settings, empty_warehouse)
    application = built(settings)
    coordinator, researcher = client(application, "coordinator"), client(application, "researcher")

    def readings(page: str) -> dict[str, list[str]]:
        table = page.split('aria-label="Table of submissions">')[1].split("</table>")[0]
        heads = re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", table)
        if "Question 10" not in heads:
            assert "Word error rate" not in heads
            return {}
        first = heads.index("Question 10")
        assert heads[first + 1] == "Word error rate"
        rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[2:]]
        assert all(len(cells) == len(heads) for cells in rows)
        return {re.sub("<[^>]*>", "", cells[0]): cells[first : first + 2] for cells in rows}

    expected = {
        "0007-01": ["garden, read", "0.05"],
        "0007-02": ["garden, cut short: 53% of the text; instead of lake", "0.48"],
    }
    assert readings(coordinator.get("/patients/0007").text) == expected
    assert readings(researcher.get("/patients/0007").text) == expected
    assert readings(coordinator.get("/patients/0008").text) == {
        "0008-01": ["not read; to be read: garden", "0.93"],
        "0008-02": ["could not be assessed; surveys.csv says old, not in prompts.csv", "–"],
    }
    assert readings(coordinator.get("/patients/0009").text) == {}
    # what was said and what was to be read are in the warehouse, and on no page
    words = (
        "insert into prompt_transcripts by name "
        "select '0007-01' as video_id, '0007' as patient_id, 'planted seeds' as text, 2 as words, 1 as speech_s, "
        "0 as left_out_s, 'm' as model, 'f' as fingerprint"
    )
    text = "insert into prompts by name select 'garden' as prompt_id, 'We planted seeds.' as text"
    with warehouse.write() as writer:
        for row in (words, text):
            writer.execute(row)
    for path in ("/patients/0007", "/review/0007-01"):
        page = coordinator.get(path).text
        assert "garden, read" in page and "planted" not in page and "seeds" not in page
    with warehouse.write() as writer:
        writer.execute("delete from prompt_readings where video_id = '0007-01'")
    assert readings(coordinator.get("/patients/0007").text) == {**expected, "0007-01": ["–", "–"]}


def test_home_shows_administrators_who_exported_what_for_which_purpose_with_checksums(
    settings: Settings, empty_warehouse: Path
) -> None:
    make_study(settings, empty_warehouse)
    checksum = "5e" * 32
    AuditLog(settings.audit_path).record(
        "system:ana", Action.EXPORTED, None, to="/media/stick", purpose="a talk <in> May", with_media=False,
        sha256={"patients.parquet": checksum},
    )  # fmt: skip
    application = built(settings)
    page = client(application, "admin").get("/").text
    _, _, exports = page.partition("Exports")
    for said in (
        "system:ana",
        "exported",
        "/media/stick",
        "a talk &lt;in&gt; May",
        "patients.parquet",
        checksum,
    ):
        assert said in exports, said
    for role in ("coordinator", "researcher"):
        assert "/media/stick" not in client(application, role).get("/").text


def test_without_the_register_of_withdrawals_a_patient_s_page_says_so_and_is_not_shown(
    settings: Settings, empty_warehouse: Path
) -> None:
    make_study(settings, empty_warehouse)
    write_withdrawn(settings.home, with_key(settings.home).adding("0008", Scope.ALL, [], []))
    (settings.home / "withdrawals" / "key").unlink()
    found = client(built(settings), "researcher").get("/patients/0007")
    assert found.status_code == 503 and "restore both from a backup" in found.text


def test_home_says_when_the_daemon_is_silent(settings: Settings, empty_warehouse: Path) -> None:
    make_study(settings, empty_warehouse)
    silent = DaemonState(False, datetime(2026, 3, 1, 9, tzinfo=UTC))
    page = client(built(settings, silent), "researcher").get("/").text
    assert 'role="alert"' in page and "does not answer (last heard of 2026-03-01 09:00 UTC)" in page


def test_a_home_without_patients_has_pages_too(settings: Settings) -> None:
    admin = client(built(settings), "admin")
    for path in ("/", "/patients", "/review", "/audit", "/accounts"):
        assert admin.get(path).status_code == 200
    assert "No patient is enrolled yet" in admin.get("/patients").text


def test_the_audit_log_and_the_accounts_are_for_administrators(
    settings: Settings, empty_warehouse: Path
) -> None:
    make_study(settings, empty_warehouse)
    application = built(settings)
    admin = client(application, "admin")
    admin.get("/patients/0007")
    assert "patient viewed" in admin.get("/audit").text
    listed = admin.get("/accounts").text
    assert "researcher" in listed and "argon2" not in listed
    for path in ("/audit", "/accounts"):
        assert client(application, "coordinator").get(path).status_code == 403


def test_the_warehouse_is_read_again_when_it_has_changed_and_not_before(
    settings: Settings, empty_warehouse: Path
) -> None:
    warehouse, reads = make_study(settings, empty_warehouse), []
    study = StudyData(settings)

    def count() -> int:
        reads.append(1)
        return warehouse.query("select count(*) as n from videos")["n"][0].as_py()

    assert [study.kept("videos", count) for _ in range(3)] == [len(FLAGS)] * 3 and len(reads) == 1
    with warehouse.write() as writer:
        writer.execute("delete from videos where video_id = '0009-02'")
    assert study.kept("videos", count) == len(FLAGS) - 1 and len(reads) == 2


def test_fifty_who_want_the_same_wait_for_one_reading_and_others_do_not(settings: Settings) -> None:
    study, reads = StudyData(settings), []
    begun, may_end = threading.Event(), threading.Event()

    def slow() -> str:
        reads.append(1)
        begun.set()
        assert may_end.wait(120)
        return "found"

    with ThreadPoolExecutor(50) as fifty:
        asked = [fifty.submit(study.kept, "timeline", slow) for _ in range(50)]
        assert begun.wait(120)
        assert study.kept("another", lambda: 7) == 7
        may_end.set()
        assert {one.result(20) for one in asked} == {"found"}
    assert len(reads) == 1


def test_a_reading_that_fails_is_tried_again_by_the_next_who_asks(settings: Settings) -> None:
    study, tried = StudyData(settings), []

    def broken() -> int:
        tried.append(1)
        if len(tried) == 1:
            raise OSError("the disk")
        return 3

    with pytest.raises(OSError, match="the disk"):
        study.kept("n", broken)
    assert study.kept("n", broken) == 3 and len(tried) == 2


def test_what_changes_while_it_is_read_is_not_kept(settings: Settings, empty_warehouse: Path) -> None:
    warehouse, reads = make_study(settings, empty_warehouse), []
    study = StudyData(settings)

    def count() -> int:
        reads.append(1)
        before = warehouse.query("select count(*) as n from videos")["n"][0].as_py()
        if len(reads) == 1:
            with warehouse.write() as writer:
                writer.execute("delete from videos where video_id = '0009-02'")
        return before

    assert [study.kept("videos", count) for _ in range(3)] == [len(FLAGS)] + [len(FLAGS) - 1] * 2


@pytest.mark.parametrize(
    ("silent_s", "missing", "started_s", "alive"),
    [
        (10, False, 9999, True),
        (SILENT_S + 60, False, 9999, False),
        (10, True, 9999, False),  # one part never reported
        (SILENT_S + 60, False, 5, True),  # what is silent is the daemon before
        (10, True, 5, True),
    ],
)
def test_the_daemon_is_alive_while_every_part_reports(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    silent_s: float,
    missing: bool,
    started_s: float,
    alive: bool,
) -> None:
    now = time.time()
    with open_instance(settings) as instance:
        with monkeypatch.context() as earlier:
            earlier.setattr(time, "time", lambda: now - started_s)
            watch = DaemonWatch(settings, instance, pytest.fail)
        parts = instance.get_required_daemon_types()
        for part in parts[missing:]:
            at = now - (silent_s if part == parts[-1] else 1)
            instance.add_daemon_heartbeat(DaemonHeartbeat(at, part, "id", []))
        assert watch.state().alive is alive


def test_a_researcher_sees_curves_of_behavior_and_no_face(settings: Settings, empty_warehouse: Path) -> None:
    warehouse = make_study(settings, empty_warehouse)
    researcher = client(built(settings), "researcher")
    assert "Head and face, second by second" not in researcher.get("/patients/0007").text
    made = measured(4.0)
    with warehouse.write() as writer:
        for model in (FaceBehavior, FaceBehaviorSummary):
            put(writer, model, made[model.__table__], "0007-01", "0007")
    page = researcher.get("/patients/0007").text
    section = page.split('<section aria-labelledby="behavior">')[1].split("</section>")[0]
    assert "0007-01 · 4 s" in section and section.count('<polyline points="') >= 6
    assert "style=" not in section, "the page's Content Security Policy forbids it"
    assert "<img" not in page and "<video" not in page
