"""Alerts: what is sent when, to real HTTP receivers, and under a real daemon."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iss_assets.alerting.messages import Message, line, outbox, with_keys
from iss_assets.alerting.rules import (
    RUN_FAILED,
    Alert,
    Key,
    Known,
    Observation,
    address_hash,
    after_round,
    close,
    update,
)
from iss_assets.alerting.store import close_gone, deliver
from iss_assets.cli.location import load
from iss_assets.intake.folder import read_study
from iss_assets.pipeline.run_alerts import observations_of, record_runs, report_runs
from iss_assets.pipeline.run_history import TAKEN_UP_TAG, begin_reading_runs, finished_since
from iss_assets.protocol.catalogue import WITHOUT_CONTACT
from iss_assets.schemas.operations import CheckResults
from iss_assets.settings import AlertSettings, Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.alerting.receiver import Receiver
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER

T0 = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
RULES = AlertSettings(retry_s=60, attempts=3, messages=3)


def observed(
    minute: int = 0,
    *,
    passed: bool = False,
    severity: str = "WARN",
    ids: tuple[str, ...] = ("s1",),
    patient: str = "0012",
    check: str = "dark_or_grainy",
    run: str = "run-one",
) -> Observation:
    return Observation(
        run,
        patient,
        "video_quality",
        check,
        passed,
        severity,
        T0 + timedelta(minutes=minute),
        ids,
        {"affected": len(ids)},
    )


def after(*observations: Observation) -> dict[tuple[str, str, str], Alert]:
    """Return the newest alert of each key after observations that come one by one."""
    alerts: dict[tuple[str, str, str], Alert] = {}
    for observation in observations:
        for alert in update(alerts, [observation]):
            alerts[alert.key] = alert
    return alerts


def one(*observations: Observation) -> Alert:
    (alert,) = after(*observations).values()
    return alert


def notified(alert: Alert, *to: str) -> Alert:
    return after_round(alert, to, [], list(to), RULES, T0)


def test_a_failed_check_raises_an_alert_and_a_passed_one_none() -> None:
    assert one(observed()).status == "raised"
    assert one(observed()).delivery == "waiting"
    assert after(observed(passed=True)) == {}


def test_the_same_issue_is_not_reported_twice() -> None:
    alert = notified(one(observed()), "a")
    (again,) = update({alert.key: alert}, [observed(5, run="run-two")])
    assert again.delivery == "delivered"
    assert again.run_id == "run-one"
    assert again.last_seen == T0 + timedelta(minutes=5)
    assert outbox([again] if again.delivery == "waiting" else [], ["a"], RULES, T0) == []


@pytest.mark.parametrize("change", [{"ids": ("s1", "s2")}, {"severity": "ERROR"}])
def test_an_issue_that_changes_is_reported_again(change: dict[str, object]) -> None:
    alert = notified(one(observed()), "a")
    (changed,) = update({alert.key: alert}, [observed(5, run="run-two", **change)])  # type: ignore[arg-type]
    assert (changed.delivery, changed.run_id, changed.alert_id) == ("waiting", "run-two", alert.alert_id)
    assert "changed" in line(changed)


def test_numbers_that_move_a_little_are_no_change() -> None:
    alert = notified(one(observed()), "a")
    moved = Observation(**{**observed(5).__dict__, "numbers": {"share": 0.123}})
    assert update({alert.key: alert}, [moved])[0].delivery == "delivered"


def test_a_resolved_issue_is_reported_to_those_who_were_notified() -> None:
    alert = notified(one(observed()), "a")
    (resolved,) = update({alert.key: alert}, [observed(9, passed=True, ids=(), run="run-three")])
    assert (resolved.status, resolved.delivery) == ("resolved", "waiting")
    (message,) = outbox([resolved], ["a", "newcomer"], RULES, T0 + timedelta(hours=1))
    assert message.address == "a"
    assert message.kind == "success"
    assert "resolved: patient 0012" in message.body


def test_an_issue_resolved_before_anyone_was_notified_is_not_reported() -> None:
    assert one(observed(), observed(1, passed=True)).delivery == "not_needed"


def test_an_issue_that_comes_back_is_a_new_alert() -> None:
    first = one(observed(), observed(1, passed=True))
    again = one(observed(), observed(1, passed=True), observed(2))
    assert again.alert_id != first.alert_id
    assert (again.status, again.first_seen) == ("raised", T0 + timedelta(minutes=2))


KNOWN = Known(
    checks=frozenset({("video_quality", "dark_or_grainy")}),
    steps=frozenset({"seen", "patient"}),
    patients=frozenset({"0012"}),
)


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        ({"checks": frozenset()}, "check removed"),
        ({"patients": frozenset({"0001"})}, "not enrolled any more"),
    ],
)
def test_an_issue_that_no_run_will_look_at_again_is_closed_and_reported(
    lost: dict[str, object], reason: str
) -> None:
    alert = notified(one(observed()), "a")
    assert close([alert], KNOWN, T0) == []
    (closed,) = close([alert], replace(KNOWN, **lost), T0 + timedelta(days=9))  # type: ignore[arg-type]
    assert (closed.status, closed.reason, closed.delivery) == ("closed", reason, "waiting")
    (message,) = outbox([closed], ["a", "newcomer"], RULES, T0 + timedelta(days=10))
    assert (message.address, message.kind) == ("a", "success")
    assert message.title == "Study: 1 closed (patient 0012)"
    what = "The picture is dark or grainy (video_quality / dark_or_grainy)"
    assert message.body.splitlines()[1:] == [f"WARN closed: patient 0012, {what}; {reason}"]
    assert close([closed], replace(KNOWN, **lost), T0) == [], "told once"  # type: ignore[arg-type]


def test_a_patient_who_comes_back_has_the_issues_from_before() -> None:
    gone = replace(KNOWN, patients=frozenset())
    (closed,) = close([notified(one(observed()), "a")], gone, T0)
    (again,) = close([notified(closed, "a")], KNOWN, T0 + timedelta(days=1))
    assert (again.status, again.reason, again.delivery, again.affected) == (
        "raised",
        None,
        "waiting",
        ("s1",),
    )
    (later,) = update({closed.key: closed}, [observed(5)])
    assert (later.status, later.alert_id != closed.alert_id) == ("raised", True)


def test_an_issue_closed_before_anyone_was_notified_is_not_reported() -> None:
    (closed,) = close([one(observed())], replace(KNOWN, patients=frozenset()), T0)
    assert closed.delivery == "not_needed"


def test_a_failed_step_is_closed_when_the_program_has_no_such_step_any_more() -> None:
    failed = replace(observed(), asset="seen", check_name=RUN_FAILED)
    alert = one(failed)
    assert close([alert], KNOWN, T0) == []
    assert close([alert], replace(KNOWN, steps=frozenset()), T0)[0].reason == "check removed"


def test_an_issue_of_the_whole_study_stays_when_patients_leave() -> None:
    assert close([one(observed(patient="*"))], replace(KNOWN, patients=frozenset()), T0) == []


def test_runs_read_again_in_any_order_change_nothing() -> None:
    alerts = after(observed(), observed(1, passed=True))
    assert update(alerts, [observed(1, passed=True), observed(0)]) == []


def test_messages_are_grouped_by_run_and_have_the_worst_severity() -> None:
    alerts = after(
        observed(check="glare"),
        observed(check="face_missing", severity="ERROR"),
        observed(1, patient="0004", run="run-two"),
    )
    first, second = outbox(alerts.values(), ["a"], RULES, T0)
    assert (first.kind, second.kind) == ("failure", "warning")
    assert first.title == "Study: 2 issues (patient 0012)"
    assert first.body.splitlines() == [
        "Run run-one",
        "ERROR raised: patient 0012, The face is missing, cut off or too small (video_quality / face_missing); s1; affected 1",
        "   Ask patient 0012 to rest the phone on something firm, at arm's length, with the whole face in the picture. "
        "No video can be used so far: call them and record the next one together.",
        "WARN raised: patient 0012, Glare: the picture is too bright (video_quality / glare); s1; affected 1",
        "   Ask patient 0012 to turn away from the sun or lamp, and to keep windows out of the picture.",
    ]
    assert second.title == "Study: 1 issue (patient 0004)"


def test_many_runs_at_once_share_the_last_message() -> None:
    alerts = after(*(observed(i, patient=f"{i:04d}", run=f"run-{i:02d}") for i in range(8)))
    messages = outbox(alerts.values(), ["a"], RULES, T0 + timedelta(hours=1))
    assert [len(m.alerts) for m in messages] == [1, 1, 6]
    assert messages[-1].body.count("Run run-") == 6


def test_warnings_are_not_sent_if_only_errors_are_wanted() -> None:
    alerts = after(observed(check="glare"), observed(check="face_missing", severity="ERROR"))
    settings = AlertSettings(least_severity="ERROR")
    (message,) = outbox(alerts.values(), ["a"], settings, T0)
    assert [a.check_name for a in message.alerts] == ["face_missing"]


def test_a_receiver_that_refuses_is_tried_at_growing_intervals_and_then_given_up() -> None:
    alert = one(observed())
    waits = []
    for _ in range(2):
        alert = after_round(alert, [], ["a"], ["a"], RULES, T0)
        waits.append((alert.next_try_at or T0) - T0)
    assert waits == [timedelta(seconds=60), timedelta(seconds=120)]
    assert outbox([alert], ["a"], RULES, T0 + timedelta(seconds=119)) == []
    assert outbox([alert], ["a"], RULES, T0 + timedelta(seconds=120))
    assert after_round(alert, [], ["a"], ["a"], RULES, T0).delivery == "given_up"


def reminder(patient: int, short: int, *, at: int = 0, passed: bool = False) -> Observation:
    """Return the outcome of a reminder's check in the patient's own run."""
    return Observation(
        f"run-{patient:04d}",
        f"{patient:04d}",
        "bpi_scores",
        "fewer_than_three_a_week",
        passed,
        "WARN",
        T0 + timedelta(minutes=at),
        (),
        {"affected": short, "short weeks": short, "weeks": 10},
    )


def test_a_reminder_to_a_hundred_patients_is_one_message_with_the_list_of_them() -> None:
    alerts = after(*(reminder(n, 1 + n % 3) for n in range(100)))
    (message,) = outbox(alerts.values(), ["a"], RULES, T0)
    assert message.title == "Study: Fewer than three check-ins a week: 100 patients"
    what, listed, todo = message.body.splitlines()
    assert what == "Fewer than three check-ins a week (bpi_scores / fewer_than_three_a_week)"
    assert listed.startswith(
        "WARN raised: 100 patients: 0000 (1 of 10 weeks), 0001 (2 of 10 weeks), 0002 (3 of "
    )
    assert [f"{n:04d}" in listed for n in range(100)] == [True] * 100
    assert todo == "   Remind these patients of three check-ins a week, and ask what keeps them from it."
    assert (message.kind, len(message.alerts)) == ("warning", 100)


def test_no_message_has_anybody_call_a_patient_who_does_not_want_it() -> None:
    def late(patient: str, *, contact: bool) -> Observation:
        numbers = {"days": 9, **({} if contact else {WITHOUT_CONTACT: 1})}
        return replace(
            observed(patient=patient, check="no_check_in", ids=()), asset="bpi_scores", numbers=numbers
        )

    alerts = after(late("0001", contact=True), late("0002", contact=False)).values()
    (message,) = outbox(alerts, ["a"], RULES, T0)
    assert "Call these patients" in message.body
    assert "Do not call or remind patient 0002:" in message.body and "patient 0001" not in message.body
    (message,) = outbox([one(late("0002", contact=False))], ["a"], RULES, T0)
    assert "Do not call or remind patient 0002:" in message.body
    assert "Call patient" not in message.body


def test_a_request_to_withdraw_says_what_to_do() -> None:
    asked = replace(
        observed(patient="0007", check="withdrawal_requested", ids=(), severity="ERROR"),
        asset="consent",
        numbers={"withdrawn scopes": 1},
    )
    (message,) = outbox([one(asked)], ["a"], RULES, T0)
    assert "ERROR raised: patient 0007, The patient asked to withdraw" in message.body
    assert "iss withdraw 0007" in message.body
    assert message.kind == "failure"


def test_a_reminder_says_who_is_new_who_changed_and_who_no_longer_needs_it() -> None:
    alerts = after(*(reminder(n, 2) for n in range(4)))
    known = {key: notified(alert, "a") for key, alert in alerts.items()}
    news = [reminder(1, 0, at=5, passed=True), reminder(2, 0, at=5, passed=True), reminder(7, 4, at=5)]
    (message,) = outbox(update(known, news), ["a"], RULES, T0 + timedelta(hours=1))
    assert message.title == "Study: Fewer than three check-ins a week: 1 patient, 2 resolved"
    assert message.body.splitlines()[1:] == [
        "WARN raised: 1 patient: 0007 (4 of 10 weeks)",
        "WARN resolved: 2 patients: 0001, 0002",
        "   Remind patient 0007 of three check-ins a week, and ask what keeps them from it.",
    ]


def test_a_reminder_and_an_issue_of_one_run_are_two_messages_and_share_one_if_there_is_room_for_one() -> None:
    alerts = after(reminder(12, 1), reminder(13, 1), replace(observed(check="glare"), run_id="run-0012"))
    rule, run = sorted(outbox(alerts.values(), ["a"], RULES, T0), key=lambda m: -len(m.alerts))
    assert [len(rule.alerts), len(run.alerts)] == [2, 1]
    (both,) = outbox(alerts.values(), ["a"], AlertSettings(messages=1), T0)
    assert both.title == "Study: 3 issues (patients 0012, 0013)"
    lines = both.body.splitlines()
    assert lines[0] == "Run run-0012"
    assert "WARN raised: 2 patients: 0012 (1 of 10 weeks), 0013 (1 of 10 weeks)" in lines


def test_a_reminder_that_was_refused_is_sent_again_unchanged_although_others_have_come_in_since() -> None:
    alerts = after(reminder(1, 2), reminder(2, 2))
    (first,) = outbox(alerts.values(), ["a"], RULES, T0)
    refused = tried(alerts, [first])
    again, new = outbox([*refused, one(reminder(3, 1))], ["a"], RULES, T0 + timedelta(hours=1))
    assert (again.key, again.title, again.body) == (first.key, first.title, first.body)
    assert ([a.patient_id for a in new.alerts], new.title) == (["0003"], "Study: 1 issue (patient 0003)")


def tried(alerts: Mapping[Key, Alert], messages: list[Message], *, taken: bool = False) -> list[Alert]:
    """Return alerts as they are after a round in which all messages were, or were not, accepted."""
    known = with_keys(alerts.values(), messages)
    to = [m.address for m in messages]
    return [after_round(a, to if taken else [], [] if taken else to, to, RULES, T0) for a in known]


def test_a_message_keeps_its_key_at_every_try_although_others_have_come_in_since() -> None:
    alerts = after(observed(check="glare"), observed(check="dark"))
    (first,) = outbox(alerts.values(), ["a"], RULES, T0)
    refused = tried(alerts, [first])
    more = one(observed(1, check="quiet"))
    later = T0 + timedelta(hours=1)
    again, new = outbox([*refused, more], ["a"], RULES, later)
    assert (again.key, again.body) == (first.key, first.body)
    assert [a.check_name for a in new.alerts] == ["quiet"]
    assert new.key != first.key


def test_an_issue_that_changes_leaves_its_message_and_the_rest_keeps_the_key() -> None:
    alerts = after(observed(check="glare"), observed(check="dark"))
    (first,) = outbox(alerts.values(), ["a"], RULES, T0)
    latest = {a.key: a for a in tried(alerts, [first])}
    for changed in update(latest, [observed(5, check="dark", ids=("s1", "s2"))]):
        latest[changed.key] = changed
    again, new = outbox(latest.values(), ["a"], RULES, T0 + timedelta(hours=1))
    assert (again.key, [a.check_name for a in again.alerts]) == (first.key, ["glare"])
    assert (new.key != first.key, [a.check_name for a in new.alerts]) == (True, ["dark"])


def test_many_runs_that_shared_a_message_share_it_again() -> None:
    alerts = after(*(observed(i, patient=f"{i:04d}", run=f"run-{i:02d}") for i in range(8)))
    now = T0 + timedelta(hours=1)
    messages = outbox(alerts.values(), ["a"], RULES, now)
    refused = tried(alerts, messages)
    again = outbox(refused, ["a"], RULES, now + timedelta(hours=1))
    assert {m.key: len(m.alerts) for m in again} == {m.key: len(m.alerts) for m in messages}
    newcomer = one(observed(60, patient="0100", run="run-new"))
    assert newcomer not in [
        a for m in outbox([*refused, newcomer], ["a"], RULES, now + timedelta(hours=1)) for a in m.alerts
    ], "no more messages a round than the settings say"


def test_a_message_about_several_issues_waits_until_all_of_them_are_due() -> None:
    alerts = after(observed(check="glare"), observed(check="dark"))
    (first,) = outbox(alerts.values(), ["a"], RULES, T0)
    one_, other = tried(alerts, [first])
    late = replace(other, next_try_at=T0 + timedelta(hours=9))
    assert outbox([one_, late], ["a"], RULES, T0 + timedelta(hours=1)) == []
    (again,) = outbox([one_, late], ["a"], RULES, T0 + timedelta(hours=9))
    assert (again.key, len(again.alerts)) == (first.key, 2)


def test_every_address_and_every_return_of_an_issue_has_its_own_key() -> None:
    alert = one(observed())
    keys = {m.key for m in outbox([alert], ["a", "b"], RULES, T0)}
    for change in (observed(1, ids=("s1", "s2")), observed(2)):
        (alert,) = update({alert.key: notified(alert, "a", "b")}, [change])
        keys |= {m.key for m in outbox([alert], ["a", "b"], RULES, T0 + timedelta(hours=1))}
    assert len(keys) == 6, "the last is as the first was, and is news all the same"
    assert notified(alert, "a", "b").message_keys == {}


def test_a_row_of_an_earlier_version_has_no_keys() -> None:
    alert = one(observed())
    assert Alert.of({**alert.row(), "message_keys": None}) == alert
    keyed = with_keys([alert], outbox([alert], ["a"], RULES, T0))[0]
    assert Alert.of(keyed.row()) == keyed


def test_a_receiver_that_accepted_a_message_does_not_get_it_again_because_another_refused() -> None:
    alert = after_round(one(observed()), ["a"], ["b"], ["a", "b"], RULES, T0)
    assert alert.delivery == "waiting"
    (message,) = outbox([alert], ["a", "b"], RULES, T0 + timedelta(hours=1))
    assert message.address == "b"
    assert after_round(alert, ["b"], [], ["a", "b"], RULES, T0).delivery == "delivered"


TEXT = st.text(max_size=80)


@given(patient=TEXT, asset=TEXT, check=TEXT, ids=st.lists(TEXT, max_size=3), number_name=TEXT)
def test_nothing_but_ids_names_and_numbers_gets_into_a_message(
    patient: str, asset: str, check: str, ids: list[str], number_name: str
) -> None:
    """Whatever a check may put into its ids and names, a message keeps to one line of a strict alphabet."""
    observation = Observation("r", patient, asset, check, False, "WARN", T0, tuple(ids), {number_name: 1.5})
    (alert,) = update({}, [observation])
    (message,) = outbox([alert], ["a"], RULES, T0)
    for text in (message.title, *message.body.splitlines()):
        assert text.isascii() and text.isprintable()
    assert len(message.body.splitlines()) == 2
    assert "@" not in message.body and "'" not in message.body


# --- sending ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def with_alerts(settings: Settings, *urls: str, **more: object) -> Settings:
    values = {"urls": urls, "retry_s": 0, "timeout_s": 8, **more}
    return Settings(study=settings.study, home=settings.home, alerts=AlertSettings(**values))  # type: ignore[arg-type]


def run_checks(
    instance: dg.DagsterInstance, patient: str, *, passed: bool = False, ids: tuple[str, ...] = ("s1",)
) -> dg.DagsterRun:
    """Run a small job with one check on one patient, as the checks of this project report."""
    partitions = dg.DynamicPartitionsDefinition(name="patients")
    instance.add_dynamic_partitions("patients", [patient])

    @dg.asset(
        partitions_def=partitions, check_specs=[dg.AssetCheckSpec("dark_or_grainy", asset="video_quality")]
    )
    def video_quality() -> dg.MaterializeResult:
        return dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(
                    passed=passed,
                    severity=dg.AssetCheckSeverity.WARN,
                    description="words that are for the page only",
                    metadata={
                        "affected": len(ids),
                        "ids": dg.MetadataValue.json(list(ids)),
                        "what_to_do": "words that are for the page only",
                    },
                )
            ]
        )

    result = dg.materialize([video_quality], partition_key=patient, instance=instance)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return run


def rows_of(warehouse: Warehouse) -> list[dict[str, object]]:
    return warehouse.query("select * from alerts order by first_seen").to_pylist()


def test_a_failed_check_reaches_a_receiver_with_ids_and_numbers_only(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance, receivers: Callable[[], Receiver]
) -> None:
    receiver = receivers()
    record_runs(instance, warehouse, [run_checks(instance, "0012", ids=("s1", "s2"))])
    done = deliver(warehouse, with_alerts(settings, receiver.url))
    assert (done.taken, done.refused, done.waiting) == (1, 0, 0)
    (message,) = receiver.got
    assert message["title"] == "Study: 1 issue (patient 0012)"
    assert message["message"].splitlines()[1:] == [
        "WARN raised: patient 0012, The picture is dark or grainy (video_quality / dark_or_grainy); s1, s2; affected 2",
        "   Ask patient 0012 to record in a brighter room, with the light in front of them.",
    ]
    assert "words" not in json.dumps(message)
    assert message["type"] == "warning"
    deliver(warehouse, with_alerts(settings, receiver.url))
    assert len(receiver.got) == 1, "told once"


def test_a_resolved_issue_reaches_the_receiver_once(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance, receivers: Callable[[], Receiver]
) -> None:
    receiver = receivers()
    to = with_alerts(settings, receiver.url)
    for passed in (False, False, True, True):
        record_runs(
            instance, warehouse, [run_checks(instance, "0012", passed=passed, ids=() if passed else ("s1",))]
        )
        deliver(warehouse, to)
    assert [m["type"] for m in receiver.got] == ["warning", "success"]
    (row,) = rows_of(warehouse)
    assert (row["status"], row["delivery"]) == ("resolved", "delivered")


def test_a_removed_check_is_closed_at_the_receiver_and_its_results_go(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance, receivers: Callable[[], Receiver]
) -> None:
    receiver = receivers()
    to = with_alerts(settings, receiver.url)
    record_runs(instance, warehouse, [run_checks(instance, "0012")])
    deliver(warehouse, to)
    kept = {
        "patient_id": "0012",
        "asset": "video_quality",
        "check_name": "dark_or_grainy",
        "passed": False,
        "severity": "WARN",
        "affected": ["s1"],
        "numbers": "{}",
        "threshold": "",
        "hint": None,
        "fingerprint": "f",
        "run_id": "run-one",
        "evaluated_at": T0,
    }
    warehouse.replace(CheckResults, CheckResults.from_rows([kept]), {})
    assert close_gone(warehouse, KNOWN) == []
    assert len(close_gone(warehouse, replace(KNOWN, checks=frozenset()))) == 1
    deliver(warehouse, to)
    assert [m["title"].split(" (")[0] for m in receiver.got] == ["Study: 1 issue", "Study: 1 closed"]
    assert warehouse.query("select * from check_results").num_rows == 0


def test_the_command_line_reports_its_runs_without_a_daemon(
    settings: Settings, instance: dg.DagsterInstance, receivers: Callable[[], Receiver]
) -> None:
    receiver = receivers()
    run = run_checks(instance, "0012")
    assert report_runs(instance, settings, ["", run.run_id], load().get_repository_def(), None).waiting == 1
    assert (
        report_runs(
            instance, with_alerts(settings, receiver.url), [], load().get_repository_def(), None
        ).taken
        == 1
    )
    assert len(receiver.got) == 1


def test_the_next_command_reports_runs_whose_own_command_was_killed_before_it_could(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    run_checks(instance, "0011")
    begin_reading_runs(instance)  # runs of an earlier version have been reported
    ended = run_checks(instance, "0012")
    begin_reading_runs(instance)
    report_runs(instance, settings, [], load().get_repository_def(), None)
    assert [row["patient_id"] for row in rows_of(warehouse)] == ["0012"]
    before = rows_of(warehouse)
    report_runs(instance, settings, [ended.run_id], load().get_repository_def(), None)
    assert rows_of(warehouse) == before


def test_a_run_whose_work_is_taken_up_reports_what_it_checked_and_is_no_issue_itself(
    instance: dg.DagsterInstance,
) -> None:
    run = run_checks(instance, "0012")
    instance.add_run_tags(run.run_id, {TAKEN_UP_TAG: "true"})
    died = instance.get_run_by_id(run.run_id)
    assert died is not None
    notified = observations_of(instance, died.with_status(dg.DagsterRunStatus.FAILURE))
    assert {o.check_name for o in notified if not o.passed} == {
        o.check_name for o in observations_of(instance, run) if not o.passed
    }
    assert RUN_FAILED not in {o.check_name for o in notified if not o.passed}


def test_the_command_line_closes_alerts_of_patients_who_are_not_enrolled(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    (settings.study / "videos").mkdir(parents=True)
    (settings.study / "enrollment.csv").write_text(f"{ENROLLMENT_HEADER}\n0012,1A,M,II,0,2021-01-04,\n")
    (settings.study / "surveys.csv").write_text(f"{SURVEY_HEADER}\n")
    runs = [run_checks(instance, patient).run_id for patient in ("0012", "0013")]
    report_runs(instance, settings, runs, load().get_repository_def(), read_study(settings.study).patient_ids)
    found = {row["patient_id"]: (row["status"], row["reason"]) for row in rows_of(warehouse)}
    assert found == {"0012": ("raised", None), "0013": ("closed", "not enrolled any more")}


@pytest.mark.parametrize("fault", ["500", "slow", "drip", "down"])
def test_a_broken_receiver_delays_nothing_and_is_tried_again(
    settings: Settings,
    warehouse: Warehouse,
    instance: dg.DagsterInstance,
    receivers: Callable[[], Receiver],
    fault: str,
) -> None:
    good, bad = receivers(), receivers()
    bad.answer = fault
    url = bad.url
    if fault == "down":
        bad.server.shutdown()
        bad.server.server_close()
    record_runs(instance, warehouse, [run_checks(instance, "0012")])
    start = time.monotonic()
    done = deliver(warehouse, with_alerts(settings, url, good.url, timeout_s=6))
    assert time.monotonic() - start < 9, "a round ends at its deadline"
    assert (done.taken, done.refused, done.waiting) == (1, 1, 1)
    assert len(good.got) == 1
    if fault == "down":
        return
    bad.answer = "ok"
    assert deliver(warehouse, with_alerts(settings, url, good.url)).waiting == 0
    assert (len(good.got), len(bad.got)) == (1, 1)


def test_one_that_answers_after_the_deadline_can_tell_that_it_has_the_message_already(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance, receivers: Callable[[], Receiver]
) -> None:
    receiver = receivers()
    receiver.answer = "slow"
    record_runs(instance, warehouse, [run_checks(instance, "0012")])
    assert deliver(warehouse, with_alerts(settings, receiver.url, timeout_s=3)).refused == 1
    (row,) = rows_of(warehouse)
    ((key, field_),) = receiver.keys
    assert key == field_ == json.loads(str(row["message_keys"]))[address_hash(receiver.url)]
    # what comes meanwhile is sent in a message of its own
    record_runs(instance, warehouse, [run_checks(instance, "0013")])
    receiver.answer = "ok"
    assert deliver(warehouse, with_alerts(settings, receiver.url)).taken == 2
    assert receiver.keys[1] == (key, key)
    assert receiver.keys[2] != (key, key)
    assert [json.loads(str(r["message_keys"])) for r in rows_of(warehouse)] == [{}, {}]


def test_a_message_whose_sender_was_killed_keeps_its_key(
    settings: Settings,
    warehouse: Warehouse,
    instance: dg.DagsterInstance,
    receivers: Callable[[], Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver = receivers()
    record_runs(instance, warehouse, [run_checks(instance, "0012")])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("iss_assets.alerting.store._run_sender", killed)
        deliver(warehouse, with_alerts(settings, receiver.url))
    noted = json.loads(str(rows_of(warehouse)[0]["message_keys"]))
    deliver(warehouse, with_alerts(settings, receiver.url))
    assert receiver.keys == [(noted[address_hash(receiver.url)],) * 2]


def test_writers_are_not_held_up_while_a_slow_receiver_is_waited_for(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance, receivers: Callable[[], Receiver]
) -> None:
    slow = receivers()
    slow.answer = "slow"
    record_runs(instance, warehouse, [run_checks(instance, "0012")])
    round_ = threading.Thread(target=deliver, args=(warehouse, with_alerts(settings, slow.url, timeout_s=5)))
    round_.start()
    while not slow.tried:
        time.sleep(0.05)
        assert round_.is_alive()
    # the issue is resolved while its message is on its way, and that is not lost
    start = time.monotonic()
    record_runs(instance, warehouse, [run_checks(instance, "0012", passed=True)])
    assert time.monotonic() - start < 3
    assert deliver(warehouse, with_alerts(settings, slow.url)).taken == 0, "one round at a time"
    round_.join()
    (row,) = rows_of(warehouse)
    assert row["status"] == "resolved"


def test_after_the_last_try_a_message_is_given_up_and_stays_in_the_table(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance, receivers: Callable[[], Receiver]
) -> None:
    receiver = receivers()
    receiver.answer = "500"
    record_runs(instance, warehouse, [run_checks(instance, "0012")])
    to = with_alerts(settings, receiver.url, attempts=2)
    assert deliver(warehouse, to).given_up == 0
    assert deliver(warehouse, to).given_up == 1
    tried = receiver.tried
    deliver(warehouse, to)
    assert receiver.tried == tried
    (row,) = rows_of(warehouse)
    assert (row["delivery"], row["status"], row["told_at"]) == ("given_up", "raised", None)


def test_without_an_address_alerts_are_kept_and_sent_once_there_is_one(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance, receivers: Callable[[], Receiver]
) -> None:
    record_runs(instance, warehouse, [run_checks(instance, "0012")])
    assert deliver(warehouse, settings).waiting == 1
    receiver = receivers()
    deliver(warehouse, with_alerts(settings, receiver.url))
    assert len(receiver.got) == 1


def test_addresses_are_secret(
    settings: Settings,
    warehouse: Warehouse,
    instance: dg.DagsterInstance,
    receivers: Callable[[], Receiver],
    capfd: pytest.CaptureFixture[str],
) -> None:
    receiver = receivers()
    receiver.answer = "500"
    to = with_alerts(settings, receiver.url, "nonsense://s3cret")
    record_runs(instance, warehouse, [run_checks(instance, "0012")])
    deliver(warehouse, to)
    out, err = capfd.readouterr()
    for text in (
        out,
        err,
        repr(to),
        to.model_dump_json(),
        to.alerts.digest(),
        json.dumps(rows_of(warehouse), default=str),
    ):
        assert "s3cret" not in text
    assert len(address_hash(receiver.url)) == 8


def test_a_failed_step_is_an_alert_with_the_class_of_its_error_and_is_resolved_by_its_success(
    warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    broken = True

    @dg.op
    def videos() -> None:
        if broken:
            raise OSError("/study/videos/0012 cannot be opened")

    @dg.job(name="patient")
    def patient() -> None:
        videos()

    def run() -> None:
        result = patient.execute_in_process(
            instance=instance, tags={"dagster/partition": "0012"}, raise_on_error=False
        )
        made = instance.get_run_by_id(result.run_id)
        assert made is not None
        record_runs(instance, warehouse, [made])

    run()
    (row,) = rows_of(warehouse)
    assert (row["patient_id"], row["asset"], row["check_name"], row["severity"]) == (
        "0012",
        "videos",
        "run_failed",
        "ERROR",
    )
    assert row["affected"] == ["OSError"]
    assert "/study" not in json.dumps(row, default=str)
    broken = False
    run()
    (row,) = rows_of(warehouse)
    assert row["status"] == "resolved"


def test_a_run_whose_process_died_is_an_alert_and_one_that_was_cancelled_is_none(
    instance: dg.DagsterInstance,
) -> None:
    tags = {"dagster/partition": "0012"}
    died = instance.add_run(dg.DagsterRun(job_name="patient", status=dg.DagsterRunStatus.FAILURE, tags=tags))
    (found,) = observations_of(instance, died)
    assert (found.asset, found.check_name, found.passed) == ("patient", "run_failed", False)
    stopped = instance.add_run(
        dg.DagsterRun(job_name="patient", status=dg.DagsterRunStatus.CANCELED, tags=tags)
    )
    assert observations_of(instance, stopped) == []


def test_a_blocking_check_that_fails_is_one_alert_and_not_two(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def videos() -> None:
        pass

    @dg.asset_check(asset=videos, blocking=True)
    def schema() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    result = dg.materialize([videos, schema], instance=instance, raise_on_error=False)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    failed = [o.check_name for o in observations_of(instance, run) if not o.passed]
    assert failed == ["schema"]


def test_every_finished_run_is_read_once_and_none_is_missed(instance: dg.DagsterInstance) -> None:
    made = []
    got: list[str] = []
    cursor = None
    for i in range(7):
        made.append(run_checks(instance, f"{i:04d}").run_id)
        if i % 3 == 0:
            runs, cursor = finished_since(instance, cursor, limit=2)
            got += [r.run_id for r in runs]
    while True:
        runs, cursor = finished_since(instance, cursor, limit=2)
        if not runs:
            break
        got += [r.run_id for r in runs]
    assert got == made


# --- under a real daemon -----------------------------------------------------------------------------------------------

TINY = """\
import dagster as dg
from iss_assets.defs.resources import WarehouseResource
from iss_assets.defs.sensors import build_sensors
from iss_assets.settings import Settings

patients = dg.DynamicPartitionsDefinition(name="patients")

@dg.asset(partitions_def=patients, check_specs=[dg.AssetCheckSpec("dark_or_grainy", asset="video_quality")])
def video_quality():
    found = dg.AssetCheckResult(
        passed=False, severity=dg.AssetCheckSeverity.WARN,
        metadata={"affected": 1, "ids": dg.MetadataValue.json(["s1"])})
    return dg.MaterializeResult(check_results=[found])

job = dg.define_asset_job("patient", [video_quality])

@dg.sensor(job=job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def once(context):
    return dg.SensorResult(
        run_requests=[dg.RunRequest("first", partition_key="0012")],
        dynamic_partitions_requests=[patients.build_add_request(["0012"])])

defs = dg.Definitions(
    assets=[video_quality], jobs=[job], executor=dg.in_process_executor,
    sensors=[once, *(s for s in build_sensors(Settings()) if s.name.startswith("alert"))],
    resources={"warehouse": WarehouseResource()})
"""


@pytest.mark.slow
def test_under_a_real_daemon_a_failed_check_is_reported_once_though_the_receiver_was_down_at_first(
    tmp_path: Path, settings: Settings, receivers: Callable[[], Receiver]
) -> None:
    receiver = receivers()
    receiver.answer = "500"
    (tmp_path / "tiny.py").write_text(TINY)
    dagster_home = tmp_path / "dagster"
    dagster_home.mkdir()
    (dagster_home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home),
        "ISS_HOME": str(settings.home),
        "ISS_STUDY": str(settings.study),
        "ISS_ALERTS__URLS": json.dumps([receiver.url]),
        "ISS_ALERTS__INTERVAL_S": "1",
        "ISS_ALERTS__RETRY_S": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    log = (tmp_path / "daemon.log").open("w")
    daemon = subprocess.Popen(
        [sys.executable, "-m", "dagster._daemon", "run", "-f", str(tmp_path / "tiny.py")],
        cwd=tmp_path,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_for(lambda: receiver.tried > 0, daemon, tmp_path / "daemon.log")
        receiver.answer = "ok"
        wait_for(lambda: bool(receiver.got), daemon, tmp_path / "daemon.log")
        time.sleep(4)
    finally:
        daemon.terminate()
        daemon.wait(timeout=120)
        log.close()
    (message,) = receiver.got
    assert message["title"] == "Study: 1 issue (patient 0012)"
    (row,) = rows_of(Warehouse(settings.warehouse_path, settings.warehouse))
    assert (row["delivery"], row["patient_id"], row["affected"]) == ("delivered", "0012", ["s1"])
    assert "s3cret" not in (tmp_path / "daemon.log").read_text()
    for database in dagster_home.rglob("*.db"):
        with sqlite3.connect(database) as connection:
            assert "s3cret" not in "\n".join(connection.iterdump())


def wait_for(
    happened: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 90
) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)
