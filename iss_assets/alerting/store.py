"""Alerts in the warehouse, and sending them: the table ``alerts`` is the outbox.

What runs found is written first and sent later, by the next command or sensor. A receiver that is down, slow or broken
delays nothing else, and nothing is lost if the sender is killed. ``rules`` decides how alerts change, ``messages`` what
messages say, ``sender`` is the process that sends them.
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
from typing import Any, Final

from iss_assets.alerting.messages import Message, outbox, with_keys
from iss_assets.alerting.rules import (
    Alert,
    Key,
    Known,
    Observation,
    address_hash,
    after_round,
    close,
    recipients,
    update,
)
from iss_assets.schemas.operations import Alerts
from iss_assets.settings import AlertSettings, Settings
from iss_assets.warehouse.database import Warehouse

LATEST_ALERTS: Final = """
select * from alerts
qualify row_number() over (
    partition by patient_id, asset, check_name order by last_seen desc, first_seen desc
) = 1
"""
"""The newest alert of each patient, asset and check."""


@dataclass(frozen=True)
class Delivery:
    """The result of a round of sending: messages accepted and not accepted, alerts still waiting, alerts given up."""

    taken: int = 0
    refused: int = 0
    waiting: int = 0
    given_up: int = 0


def is_raised(warehouse: Warehouse, patient_id: str, asset: str, check_name: str) -> bool:
    """Return whether the alert of this patient, asset and check is open."""
    found = warehouse.query(
        f"select 1 from ({LATEST_ALERTS}) where patient_id = ? and asset = ? and check_name = ? and status = 'raised'",
        [patient_id, asset, check_name],
    )
    return found.num_rows > 0


def record(warehouse: Warehouse, observations: Sequence[Observation]) -> list[Alert]:
    """Bring the table ``alerts`` up to date with what was observed, and return the alerts that are new or different."""
    if not observations:
        return []
    with warehouse.write() as writer:
        latest: dict[Key, Alert] = {}
        for row in writer.query(LATEST_ALERTS).to_pylist():
            alert = Alert.of(row)
            latest[alert.key] = alert
        changed = update(latest, observations)
        for alert in changed:
            rows = Alerts.check_rows(Alerts.from_rows([alert.row()]))
            writer.replace(Alerts, rows, {"alert_id": alert.alert_id})
    return changed


def close_gone(warehouse: Warehouse, known: Known) -> list[Alert]:
    """Close alerts of checks and patients that are gone, raise those that are back again, and return what changed.

    Results of checks that are gone are deleted as well, because no run would ever replace them.
    """
    rows = warehouse.query(LATEST_ALERTS).to_pylist()
    changed = close([Alert.of(row) for row in rows], known, datetime.now(UTC))
    kept = warehouse.query("select distinct asset, check_name from check_results").to_pylist()
    removed = [r for r in kept if (r["asset"], r["check_name"]) not in known.checks]
    if changed or removed:
        with warehouse.write() as writer:
            for alert in changed:
                rows = Alerts.check_rows(Alerts.from_rows([alert.row()]))
                writer.replace(Alerts, rows, {"alert_id": alert.alert_id})
            for row in removed:
                writer.execute(
                    "delete from check_results where asset = ? and check_name = ?",
                    [row["asset"], row["check_name"]],
                )
    return changed


def deliver(warehouse: Warehouse, settings: Settings) -> Delivery:
    """Send what is waiting, in one round that ends after `AlertSettings.timeout_s` whatever receivers do.

    Only one round runs at a time; a second one that starts meanwhile does nothing.
    """
    alerts, urls = settings.alerts, _urls(settings)
    addresses = list(urls)
    with _one_round_at_a_time(settings.home) as first:
        if not first or not addresses:
            return Delivery(waiting=len(_waiting(warehouse)))
        waiting = _waiting(warehouse)
        messages = outbox(waiting, addresses, alerts, datetime.now(UTC))
        if messages:
            waiting = with_keys(waiting, messages)
            _record_keys(warehouse, waiting)
        taken, refused = _send(messages, urls, alerts) if messages else ({}, {})
        now = datetime.now(UTC)
        after = [(alert, _after(alert, taken, refused, addresses, alerts, now)) for alert in waiting]
        after = [(alert, new) for alert, new in after if new is not alert]
        _record_outcome(warehouse, after)
        return Delivery(
            taken=sum(_has(m, taken) for m in messages),
            refused=sum(_has(m, refused) for m in messages),
            waiting=len(_waiting(warehouse)),
            given_up=sum(b.delivery == "given_up" for _, b in after),
        )


def deliver_apart(alert: Alert, settings: Settings) -> Alert:
    """Send an alert that the table cannot hold now, in a round of its own, and return it as it is afterwards."""
    alerts, urls = settings.alerts, _urls(settings)
    messages = outbox([alert], list(urls), alerts, datetime.now(UTC))
    (alert,) = with_keys([alert], messages)
    taken, refused = _send(messages, urls, alerts) if messages else ({}, {})
    return _after(alert, taken, refused, list(urls), alerts, datetime.now(UTC))


def keep(warehouse: Warehouse, alert: Alert) -> None:
    """Write an alert into the table as it is; what of it waits is sent like any other."""
    rows = Alerts.check_rows(Alerts.from_rows([alert.row()]))
    with warehouse.write() as writer:
        writer.replace(Alerts, rows, {"alert_id": alert.alert_id})


def _urls(settings: Settings) -> dict[str, str]:
    """Return the addresses in the settings by their hashes."""
    return {address_hash(url.get_secret_value()): url.get_secret_value() for url in settings.alerts.urls}


def _after(
    alert: Alert,
    taken: Mapping[str, Sequence[str]],
    refused: Mapping[str, Sequence[str]],
    addresses: Sequence[str],
    settings: AlertSettings,
    now: datetime,
) -> Alert:
    """Return an alert as it is after a round of sending; itself if it was not in it."""
    if not recipients(alert, addresses, settings):
        return Alert(**{**alert.__dict__, "delivery": "not_needed"})
    if alert.alert_id not in taken and alert.alert_id not in refused:
        return alert
    took, did_not = taken.get(alert.alert_id, ()), refused.get(alert.alert_id, ())
    return after_round(alert, took, did_not, addresses, settings, now)


def _has(message: Message, outcomes: Mapping[str, Sequence[str]]) -> bool:
    return any(message.address in outcomes.get(a.alert_id, ()) for a in message.alerts)


def _waiting(warehouse: Warehouse) -> list[Alert]:
    rows = warehouse.query("select * from alerts where delivery = 'waiting'").to_pylist()
    return [Alert.of(row) for row in rows]


def _record_keys(warehouse: Warehouse, waiting: Sequence[Alert]) -> None:
    """Record each alert's message before it is sent, so that a retry has the same key even if the sender is killed."""
    with warehouse.write() as writer:
        for alert in waiting:
            row = alert.row()
            writer.execute(
                "update alerts set message_keys = ? where alert_id = ? and content = ? and changed_at = ?",
                [row[name] for name in ("message_keys", "alert_id", "content", "changed_at")],
            )


def _record_outcome(warehouse: Warehouse, after: Sequence[tuple[Alert, Alert]]) -> None:
    """Write what became of alerts, except of those that a run changed while they were being sent.

    Their recipients are still recorded, so that they are notified when the issue is resolved.
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
    """Send messages and return the addresses that accepted and that refused each alert, by alert id.

    A message that was not tried before the deadline is in neither, unless its address accepted nothing at all.
    """
    outcomes = _run_sender(messages, urls, settings)
    taken: dict[str, list[str]] = {}
    refused: dict[str, list[str]] = {}
    alive = {m.address for number, m in enumerate(messages) if outcomes.get(number)}
    failed = {m.address for number, m in enumerate(messages) if outcomes.get(number) is False}
    for number, message in enumerate(messages):
        outcome = outcomes.get(number)
        if outcome is None and message.address in alive and message.address not in failed:
            continue
        for alert in message.alerts:
            (taken if outcome else refused).setdefault(alert.alert_id, []).append(message.address)
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
        "addresses": [{"url": urls[address], "messages": listed} for address, listed in addresses.items()],
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
    outcomes: dict[int, bool] = {}
    for line in output.splitlines():
        # the last line may have been cut off by the kill
        if line.endswith("}"):
            outcome = json.loads(line)
            outcomes[outcome["number"]] = outcome["taken"]
    return outcomes


@contextmanager
def _one_round_at_a_time(home: Path) -> Iterator[bool]:
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
