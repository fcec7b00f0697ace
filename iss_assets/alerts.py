"""Alerts kept in the warehouse and sent: the shell around ``alert_rules``.

Belongs here: reading what runs found, keeping the table ``alerts``, handing messages to the sending process.
Does not belong here: what is told and when (``alert_rules``), apprise (``alert_sender``).

The table is the outbox. What has been found is written first and sent later, by whoever comes next; a receiver that
is down, slow or broken holds up nothing, and nothing is lost when the sender is killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from iss_assets.alert_rules import (
    RUN_FAILED,
    WHOLE_STUDY,
    Alert,
    Key,
    Known,
    Message,
    Observation,
    address_mark,
    after_round,
    close,
    outbox,
    recipients,
    update,
    with_keys,
)
from iss_assets.observing import PARTITION_TAG, TAKEN_UP_TAG, errors_of, finished_since
from iss_assets.settings import AlertSettings, Settings
from iss_assets.study import terms
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.tables import Alerts

_KINDS = {
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
}
_LATEST = "select * from alerts qualify row_number() over (partition by patient_id, asset, check_name order by last_seen desc, first_seen desc) = 1"
_TOLD_UNTIL = "iss/told_until"
IDS_KEY = "ids"
"""Metadata of a check that lists the videos or submissions at fault."""


@dataclass(frozen=True)
class Delivery:
    """What a round of sending did, in numbers: messages taken and not taken, alerts that still wait, given up."""

    taken: int = 0
    refused: int = 0
    waiting: int = 0
    given_up: int = 0


def observations_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[Observation]:
    """Read what a finished run found: every check's outcome, and every step's success or failure.

    A run that was ended by a person is no trouble. One that failed without a failed step (its process died) is a
    trouble of its job, unless a later command takes its work up; what its checks found before counts in any case.
    """
    partition = run.tags.get(PARTITION_TAG) or WHOLE_STUDY
    found: list[Observation] = []
    failed_steps = 0
    last: datetime | None = None
    errors = errors_of(instance, run.run_id) if run.status == dg.DagsterRunStatus.FAILURE else {}
    for record in instance.get_records_for_run(run.run_id, of_type=_KINDS).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        last = at = datetime.fromtimestamp(record.event_log_entry.timestamp, UTC)
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            found.append(_of_check(run.run_id, partition, event.asset_check_evaluation_data, at))
        elif event.step_key is not None:
            passed = event.event_type == dg.DagsterEventType.STEP_SUCCESS
            failed_steps += not passed
            names = tuple(errors.get(event.step_key, ()))
            # a blocking check that failed ends its step with this error, and is told as a check
            if names != ("DagsterAssetCheckFailedError",):
                found.append(_of_step(run.run_id, partition, event.step_key, passed, at, names))
    ended = last or datetime.now(UTC)
    if run.status == dg.DagsterRunStatus.SUCCESS:
        found.append(_of_step(run.run_id, partition, run.job_name, True, ended))
    elif run.status == dg.DagsterRunStatus.FAILURE and not failed_steps and TAKEN_UP_TAG not in run.tags:
        found.append(_of_step(run.run_id, partition, run.job_name, False, ended))
    return found


def _of_check(run_id: str, partition: str, data: dg.AssetCheckEvaluation, at: datetime) -> Observation:
    ids = data.metadata.get(IDS_KEY)
    listed = ids.value if ids is not None and isinstance(ids.value, list) else []
    return Observation(
        run_id=run_id,
        patient_id=data.partition or partition,
        asset=data.asset_key.to_user_string(),
        check_name=data.check_name,
        passed=data.passed,
        severity=data.severity.value,
        at=at,
        affected=tuple(i for i in listed if isinstance(i, str) and terms.SUBMISSION_ID.match(i)),
        numbers={
            name: value.value
            for name, value in data.metadata.items()
            if isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue) and value.value is not None
        },
    )


def _of_step(
    run_id: str, partition: str, step: str, passed: bool, at: datetime, errors: tuple[str, ...] = ()
) -> Observation:
    return Observation(run_id, partition, step, RUN_FAILED, passed, "ERROR", at, errors)


def record_runs(
    instance: dg.DagsterInstance, warehouse: Warehouse, runs: Sequence[dg.DagsterRun]
) -> list[Alert]:
    """Bring the table ``alerts`` up to date with finished runs; give the alerts that are new or different.

    Runs may be handed over again and in any order.
    """
    observations = [o for run in runs for o in observations_of(instance, run)]
    if not observations:
        return []
    with warehouse.write() as writer:
        latest: dict[Key, Alert] = {}
        for row in writer.query(_LATEST).to_pylist():
            alert = Alert.of(row)
            latest[alert.key] = alert
        changed = update(latest, observations)
        for alert in changed:
            rows = Alerts.check_rows(Alerts.from_rows([alert.row()]))
            writer.replace(Alerts, rows, {"alert_id": alert.alert_id})
    return changed


def known_of(repository: dg.RepositoryDefinition, enrolled: Iterable[str]) -> Known:
    """Give what runs can look at: the checks and steps of the code location, the patients of the study folder."""
    jobs = repository.get_all_jobs()
    return Known(
        checks=frozenset(
            (key.asset_key.to_user_string(), key.name) for key in repository.asset_graph.asset_check_keys
        ),
        steps=frozenset(name for job in jobs for name in (job.name, *(node.name for node in job.nodes))),
        patients=frozenset(enrolled),
    )


def close_gone(warehouse: Warehouse, known: Known) -> list[Alert]:
    """Close alerts of checks and patients that are gone, raise those again that are back; give what changed.

    Results of checks that are gone are deleted as well: nothing would ever make them again.
    """
    rows = warehouse.query(_LATEST).to_pylist()
    gone = close([Alert.of(row) for row in rows], known, datetime.now(UTC))
    kept = warehouse.query("select distinct asset, check_name from check_results").to_pylist()
    removed = [r for r in kept if (r["asset"], r["check_name"]) not in known.checks]
    if gone or removed:
        with warehouse.write() as writer:
            for alert in gone:
                rows = Alerts.check_rows(Alerts.from_rows([alert.row()]))
                writer.replace(Alerts, rows, {"alert_id": alert.alert_id})
            for row in removed:
                writer.execute(
                    "delete from check_results where asset = ? and check_name = ?",
                    [row["asset"], row["check_name"]],
                )
    return gone


def begin_telling(instance: dg.DagsterInstance) -> None:
    """Remember from when on runs are to be told, in a home that does not know it yet."""
    if not instance.run_storage.get_cursor_values({_TOLD_UNTIL}):
        instance.run_storage.set_cursor_values({_TOLD_UNTIL: json.dumps([datetime.now(UTC).isoformat(), []])})


def _record_untold(instance: dg.DagsterInstance, warehouse: Warehouse) -> bool:
    """Record the runs that ended since this was done last; give False where nobody knows when that was."""
    cursor = instance.run_storage.get_cursor_values({_TOLD_UNTIL}).get(_TOLD_UNTIL)
    if cursor is None:
        return False
    runs, cursor = finished_since(instance, cursor)
    while runs:
        record_runs(instance, warehouse, runs)
        runs, cursor = finished_since(instance, cursor)
    if cursor is not None:
        instance.run_storage.set_cursor_values({_TOLD_UNTIL: cursor})
    return True


def tell_of_runs(instance: dg.DagsterInstance, settings: Settings, run_ids: Sequence[str]) -> Delivery:
    """Record runs of the command line and send what waits; the daemon's sensors do the same for every run.

    Runs of a command that was killed before it could tell of them are recorded as well.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        Where the runs are.
    settings : Settings
        Home and addresses; without addresses nothing is sent and this takes a moment only.
    run_ids : sequence of str
        Finished runs; ids of runs that were never made are left out.
    """
    from iss_assets.runner import _definitions
    from iss_assets.study.folder import StudyFolderError, read_study

    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    if not _record_untold(instance, warehouse) and any(run_ids):
        record_runs(instance, warehouse, instance.get_runs(dg.RunsFilter(run_ids=[i for i in run_ids if i])))
    try:
        enrolled = read_study(settings.study, settings.reading).patient_ids
    except StudyFolderError:
        # who is enrolled is not known now, so nobody is gone
        return deliver(warehouse, settings)
    close_gone(warehouse, known_of(_definitions().get_repository_def(), enrolled))
    return deliver(warehouse, settings)


def deliver(warehouse: Warehouse, settings: Settings) -> Delivery:
    """Send what waits, in one round that ends after `AlertSettings.timeout_s` whatever receivers do.

    Only one round is at work at a time; a second one that comes meanwhile does nothing.
    """
    alerts = settings.alerts
    urls = {address_mark(url.get_secret_value()): url.get_secret_value() for url in alerts.urls}
    marks = list(urls)
    with _only_one(settings.home) as first:
        if not first or not marks:
            return Delivery(waiting=len(_waiting(warehouse)))
        waiting = _waiting(warehouse)
        messages = outbox(waiting, marks, alerts, datetime.now(UTC))
        if messages:
            waiting = with_keys(waiting, messages)
            _note_keys(warehouse, waiting)
        taken, refused = _send(messages, urls, alerts) if messages else ({}, {})
        now = datetime.now(UTC)
        after: list[tuple[Alert, Alert]] = []
        for alert in waiting:
            if not recipients(alert, marks, alerts):
                after.append((alert, _quiet(alert)))
            elif alert.alert_id in taken or alert.alert_id in refused:
                took, did_not = taken.get(alert.alert_id, []), refused.get(alert.alert_id, [])
                after.append((alert, after_round(alert, took, did_not, marks, alerts, now)))
        _keep(warehouse, after)
        return Delivery(
            taken=sum(_in(m, taken) for m in messages),
            refused=sum(_in(m, refused) for m in messages),
            waiting=len(_waiting(warehouse)),
            given_up=sum(b.delivery == "given_up" for _, b in after),
        )


def _quiet(alert: Alert) -> Alert:
    return Alert(**{**alert.__dict__, "delivery": "not_needed"})


def _in(message: Message, fates: Mapping[str, Sequence[str]]) -> bool:
    return any(message.address in fates.get(a.alert_id, ()) for a in message.alerts)


def _waiting(warehouse: Warehouse) -> list[Alert]:
    rows = warehouse.query("select * from alerts where delivery = 'waiting'").to_pylist()
    return [Alert.of(row) for row in rows]


def _note_keys(warehouse: Warehouse, waiting: Sequence[Alert]) -> None:
    """Write which message tells of an alert before it is sent: it keeps its key though the sender be killed."""
    with warehouse.write() as writer:
        for alert in waiting:
            row = alert.row()
            writer.execute(
                "update alerts set message_keys = ? where alert_id = ? and content = ? and changed_at = ?",
                [row[name] for name in ("message_keys", "alert_id", "content", "changed_at")],
            )


def _keep(warehouse: Warehouse, after: Sequence[tuple[Alert, Alert]]) -> None:
    """Write the fate of alerts, save those that a run has changed while they were being sent.

    Who has heard of such a one is still kept, so that its mending is told to them.
    """
    if not after:
        return
    with warehouse.write() as writer:
        for before, new in after:
            rows = writer.query("select * from alerts where alert_id = ?", [before.alert_id]).to_pylist()
            if not rows:
                continue
            now = Alert.of(rows[0])
            if now.content != before.content:
                new = Alert(**{**now.__dict__, "told_to": new.told_to, "delivery": "waiting"})
            else:
                new = Alert(**{**new.__dict__, "last_seen": now.last_seen, "numbers": now.numbers})
            checked = Alerts.check_rows(Alerts.from_rows([new.row()]))
            writer.replace(Alerts, checked, {"alert_id": new.alert_id})


def _send(
    messages: Sequence[Message], urls: Mapping[str, str], settings: AlertSettings
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Send messages; give the addresses that took and that refused each alert, by alert id.

    What an address was not asked to take before the deadline is in neither, unless it took nothing at all.
    """
    fates = _run_sender(messages, urls, settings)
    taken: dict[str, list[str]] = {}
    refused: dict[str, list[str]] = {}
    alive = {m.address for number, m in enumerate(messages) if fates.get(number)}
    failed = {m.address for number, m in enumerate(messages) if fates.get(number) is False}
    for number, message in enumerate(messages):
        fate = fates.get(number)
        if fate is None and message.address in alive and message.address not in failed:
            continue
        for alert in message.alerts:
            (taken if fate else refused).setdefault(alert.alert_id, []).append(message.address)
    return taken, refused


def _run_sender(
    messages: Sequence[Message], urls: Mapping[str, str], settings: AlertSettings
) -> dict[int, bool]:
    addresses: dict[str, list[dict[str, Any]]] = {}
    for number, message in enumerate(messages):
        addresses.setdefault(message.address, []).append(
            {
                "number": number,
                "title": message.title,
                "body": message.body,
                "kind": message.kind,
                "key": message.key,
            }
        )
    job = {
        "read_timeout": settings.timeout_s,
        "addresses": [{"url": urls[mark], "messages": listed} for mark, listed in addresses.items()],
    }
    with subprocess.Popen(
        [sys.executable, "-m", "iss_assets.alert_sender"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            output, _ = process.communicate(json.dumps(job), timeout=settings.timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
    fates: dict[int, bool] = {}
    for line in output.splitlines():
        # the last line may have been cut off by the kill
        if line.endswith("}"):
            said = json.loads(line)
            fates[said["number"]] = said["taken"]
    return fates


@contextmanager
def _only_one(home: Path) -> Iterator[bool]:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(home / "alerts.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)
