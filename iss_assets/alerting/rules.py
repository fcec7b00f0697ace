"""How alerts change: from what runs found to alerts, and from a round of sending to what is tried next.

Pure functions. ``store`` reads and writes the table ``alerts``; ``messages`` decides what a message says.

An issue is a failed check of one patient (or of the whole study), or a failed step. Recipients are notified when it is
raised, when its severity or the affected videos change, when it is resolved, and when it is closed because no run will
ever look at it again: the program no longer has its check, or the patient is no longer enrolled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from iss_assets.protocol.catalogue import CheckInfo
from iss_assets.settings import AlertSettings

RUN_FAILED: Final = "run_failed"
WHOLE_STUDY: Final = "*"
CHECK_REMOVED: Final = "check removed"
NOT_ENROLLED: Final = "not enrolled any more"
Key = tuple[str, str, str]
_LONGEST_WAIT_S: Final = 86_400.0


@dataclass(frozen=True)
class Observation:
    """The outcome of one check, or of one step, in one run.

    Attributes
    ----------
    run_id, patient_id, asset, check_name : str
        Where; `WHOLE_STUDY` if it is about no single patient.
    passed : bool
        Whether nothing is wrong.
    severity : str
        WARN or ERROR.
    at : datetime
        When, with a time zone.
    affected : tuple of str
        Video or submission ids; classes of errors for a step.
    numbers : mapping
        Name to number.
    """

    run_id: str
    patient_id: str
    asset: str
    check_name: str
    passed: bool
    severity: str
    at: datetime
    affected: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Patient, asset and check."""
        return self.patient_id, self.asset, self.check_name

    @classmethod
    def of_program(cls, check: CheckInfo, *, passed: bool, at: datetime) -> Observation:
        """Return the outcome of a check of the program itself (`catalogue.WITHOUT_RUNS`), which no run looks at."""
        return cls("", WHOLE_STUDY, check.asset, check.name, passed, check.severity, at)


@dataclass(frozen=True)
class Alert:
    """One row of the table ``alerts``; the columns are described there."""

    alert_id: str
    run_id: str
    patient_id: str
    asset: str
    check_name: str
    severity: str
    status: str
    affected: tuple[str, ...]
    numbers: Mapping[str, float]
    content: str
    first_seen: datetime
    last_seen: datetime
    changed_at: datetime
    delivery: str
    told_at: datetime | None = None
    told_to: tuple[str, ...] = ()
    taken_by: tuple[str, ...] = ()
    attempts: int = 0
    next_try_at: datetime | None = None
    reason: str | None = None
    message_keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Patient, asset and check."""
        return self.patient_id, self.asset, self.check_name

    def row(self) -> dict[str, Any]:
        """Return the row of the table."""
        lists = {name: list(getattr(self, name)) for name in ("affected", "told_to", "taken_by")}
        packed = {
            name: json.dumps(dict(getattr(self, name)), sort_keys=True)
            for name in ("numbers", "message_keys")
        }
        return {**self.__dict__, **lists, **packed}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Alert:
        """Make one from a row of the table."""
        lists = {name: tuple(row[name] or ()) for name in ("affected", "told_to", "taken_by")}
        # a row of an earlier version has no keys
        packed = {name: json.loads(row[name] or "{}") for name in ("numbers", "message_keys")}
        return cls(**{**row, **lists, **packed})


def update(latest: Mapping[Key, Alert], observations: Iterable[Observation]) -> list[Alert]:
    """Return the alerts that are new or different after these observations.

    Parameters
    ----------
    latest : mapping
        The newest alert of each key. An observation that is no newer than its alert changes nothing, so runs may be
        read again in any order.
    observations : iterable of Observation
        Of any number of runs.
    """
    known = dict(latest)
    changed: dict[str, Alert] = {}
    for observation in sorted(observations, key=lambda o: o.at):
        alert = known.get(observation.key)
        if alert is not None and observation.at <= alert.last_seen:
            continue
        if alert is None or (alert.status != "raised" and not observation.passed):
            if observation.passed:
                continue
            after = _raise(observation)
        elif observation.passed:
            is_open = alert.status == "raised"
            after = _resolve(alert, observation) if is_open else replace(alert, last_seen=observation.at)
        else:
            after = _observe_again(alert, observation)
        known[observation.key] = after
        changed[after.alert_id] = after
    return list(changed.values())


@dataclass(frozen=True)
class Known:
    """What runs can still look at.

    Attributes
    ----------
    checks : frozenset of (str, str)
        Asset and name of every check of the program.
    steps : frozenset of str
        Every step and job that can fail.
    patients : frozenset of str
        Every enrolled patient.
    """

    checks: frozenset[tuple[str, str]]
    steps: frozenset[str]
    patients: frozenset[str]

    def reason_to_close(self, alert: Alert) -> str | None:
        """Return why no run will ever look at this issue again; None if one may."""
        if alert.patient_id != WHOLE_STUDY and alert.patient_id not in self.patients:
            return NOT_ENROLLED
        failed = alert.check_name == RUN_FAILED
        if alert.asset in self.steps if failed else (alert.asset, alert.check_name) in self.checks:
            return None
        return CHECK_REMOVED


def close(latest: Iterable[Alert], known: Known, now: datetime) -> list[Alert]:
    """Return the alerts that are closed now, and those that are raised again because their subject is back.

    Parameters
    ----------
    latest : iterable of Alert
        The newest alert of each key.
    known : Known
        What runs can still look at.
    now : datetime
        When this was found.
    """
    changed = []
    for alert in latest:
        reason = known.reason_to_close(alert)
        if alert.status == "raised" and reason:
            content = _content("closed", alert.severity, ())
            alert = replace(alert, status="closed", reason=reason, content=content)
            changed.append(_queue(alert, alert.run_id, now, "waiting" if alert.told_to else "not_needed"))
        elif alert.status == "closed" and not reason:
            content = _content("raised", alert.severity, alert.affected)
            alert = replace(alert, status="raised", reason=None, content=content)
            changed.append(_queue(alert, alert.run_id, now, "waiting"))
    return changed


def _raise(observation: Observation) -> Alert:
    return Alert(
        alert_id=_hash(*observation.key, observation.at.isoformat()),
        run_id=observation.run_id,
        patient_id=observation.patient_id,
        asset=observation.asset,
        check_name=observation.check_name,
        severity=observation.severity,
        status="raised",
        affected=observation.affected,
        numbers=observation.numbers,
        content=_content("raised", observation.severity, observation.affected),
        first_seen=observation.at,
        last_seen=observation.at,
        changed_at=observation.at,
        delivery="waiting",
    )


def _observe_again(alert: Alert, observation: Observation) -> Alert:
    content = _content("raised", observation.severity, observation.affected)
    alert = replace(alert, last_seen=observation.at, numbers=observation.numbers)
    if content == alert.content:
        return alert
    alert = replace(alert, severity=observation.severity, affected=observation.affected, content=content)
    return _queue(alert, observation.run_id, observation.at, "waiting")


def _resolve(alert: Alert, observation: Observation) -> Alert:
    content = _content("resolved", alert.severity, ())
    alert = replace(alert, status="resolved", last_seen=observation.at, content=content)
    delivery = "waiting" if alert.told_to else "not_needed"
    return _queue(alert, observation.run_id, observation.at, delivery)


def _queue(alert: Alert, run_id: str, at: datetime, delivery: str) -> Alert:
    """Return an alert that changed, with no recipient of its new content yet."""
    return replace(
        alert,
        run_id=run_id,
        changed_at=at,
        delivery=delivery,
        taken_by=(),
        attempts=0,
        next_try_at=None,
        message_keys={},
    )


def _content(status: str, severity: str, affected: Sequence[str]) -> str:
    return _hash(status, severity, *sorted(affected))


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def address_hash(url: str) -> str:
    """Return eight hexadecimal digits that say nothing about an address except whether it is the same."""
    return hashlib.sha256(url.encode()).hexdigest()[:8]


def recipients(alert: Alert, addresses: Sequence[str], settings: AlertSettings) -> tuple[str, ...]:
    """Return who is notified: everyone if the issue is severe enough, and later those who were notified of it."""
    if alert.status != "raised":
        return tuple(a for a in addresses if a in alert.told_to)
    if settings.least_severity == "ERROR" and alert.severity != "ERROR":
        return tuple(a for a in addresses if a in alert.told_to)
    return tuple(addresses)


def is_due(alert: Alert, now: datetime) -> bool:
    """Return whether it may be sent now, or no try has failed yet."""
    return alert.next_try_at is None or alert.next_try_at <= now


def after_round(
    alert: Alert,
    taken: Iterable[str],
    refused: Iterable[str],
    addresses: Sequence[str],
    settings: AlertSettings,
    now: datetime,
) -> Alert:
    """Return an alert as it is after a round of sending.

    Parameters
    ----------
    alert : Alert
        Before the round.
    taken, refused : iterable of str
        Hashes of the addresses that accepted a message with it, and of those that did not.
    addresses : sequence of str
        Hashes of all addresses of the settings.
    settings : AlertSettings
        Waits and number of attempts.
    now : datetime
        End of the round.
    """
    taken, refused = tuple(taken), tuple(refused)
    alert = replace(
        alert,
        taken_by=tuple(sorted({*alert.taken_by, *taken})),
        told_to=tuple(sorted({*alert.told_to, *taken})),
        message_keys={a: key for a, key in alert.message_keys.items() if a not in taken},
    )
    if set(recipients(alert, addresses, settings)) <= set(alert.taken_by):
        return replace(alert, delivery="delivered", told_at=now, next_try_at=None)
    if not refused:
        return alert
    attempts = alert.attempts + 1
    if attempts >= settings.attempts:
        return replace(alert, attempts=attempts, delivery="given_up", next_try_at=None)
    wait = min(settings.retry_s * 2 ** (attempts - 1), _LONGEST_WAIT_S)
    return replace(alert, attempts=attempts, next_try_at=now + timedelta(seconds=wait))
