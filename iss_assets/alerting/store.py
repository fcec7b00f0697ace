"""Alerts kept in the warehouse and sent: the shell around ``alerting.rules``.

Belongs here: reading what runs found, keeping the table ``alerts``, handing messages to the sending process.
Does not belong here: what is told and when (``alerting.rules``), apprise (``alerting.sender``).

The table is the outbox. What has been found is written first and sent later, by whoever comes next; a receiver that
is down, slow or broken holds up nothing, and nothing is lost when the sender is killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iss_assets.alerting.rules import (
    Alert,
    Known,
    Message,
    address_mark,
    after_round,
    close,
    outbox,
    recipients,
    with_keys,
)
from iss_assets.schemas.operations import Alerts
from iss_assets.settings import AlertSettings, Settings
from iss_assets.warehouse.database import Warehouse

_LATEST = "select * from alerts qualify row_number() over (partition by patient_id, asset, check_name order by last_seen desc, first_seen desc) = 1"


@dataclass(frozen=True)
class Delivery:
    """What a round of sending did, in numbers: messages taken and not taken, alerts that still wait, given up."""

    taken: int = 0
    refused: int = 0
    waiting: int = 0
    given_up: int = 0


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
        [sys.executable, "-m", "iss_assets.alerting.sender"],
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
