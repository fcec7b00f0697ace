"""What is told to whom: pure rules from what runs found to alerts, and from alerts to messages.

Belongs here: when a trouble is new, changed or mended; grouping, wording, retries. Does not belong here: reading runs
or the warehouse, sending (``alerts``).

A trouble is a failed check of one patient (or of the whole study), or a failed step. It is told when it is raised,
when its severity or the videos that it affects change, when it is mended, and when it is closed because no run will
ever look at it again: its check is not in the program any more, or its patient not in the study. Messages hold ids, check names,
numbers and the catalogue's fixed words, and nothing else: whatever else goes into one passes `_id`, `_name` or `_number`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from iss_assets.protocol import terms
from iss_assets.protocol.catalogue import CheckInfo, find
from iss_assets.settings import AlertSettings

RUN_FAILED: Final = "run_failed"
WHOLE_STUDY: Final = "*"
CHECK_REMOVED: Final = "check removed"
NOT_ENROLLED: Final = "not enrolled any more"
Key = tuple[str, str, str]
_NAME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9_ .%/-]{0,59}$")
_LONGEST_WAIT: Final = 86_400.0


@dataclass(frozen=True)
class Observation:
    """One check's outcome, or one step's, in one run.

    Attributes
    ----------
    run_id, patient_id, asset, check_name : str
        Where; `WHOLE_STUDY` where it is about no single patient.
    passed : bool
        Whether all is well.
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
        """Give the row of the table."""
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
    """Give the alerts that are new or different after these observations.

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
    for seen in sorted(observations, key=lambda o: o.at):
        alert = known.get(seen.key)
        if alert is not None and seen.at <= alert.last_seen:
            continue
        if alert is None or (alert.status != "raised" and not seen.passed):
            if seen.passed:
                continue
            after = _raise(seen)
        elif seen.passed:
            after = _mend(alert, seen) if alert.status == "raised" else replace(alert, last_seen=seen.at)
        else:
            after = _see_again(alert, seen)
        known[seen.key] = after
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
        Everybody enrolled.
    """

    checks: frozenset[tuple[str, str]]
    steps: frozenset[str]
    patients: frozenset[str]

    def why_not(self, alert: Alert) -> str | None:
        """Say why no run will ever look at this trouble again; None if one may."""
        if alert.patient_id != WHOLE_STUDY and alert.patient_id not in self.patients:
            return NOT_ENROLLED
        failed = alert.check_name == RUN_FAILED
        if alert.asset in self.steps if failed else (alert.asset, alert.check_name) in self.checks:
            return None
        return CHECK_REMOVED


def close(latest: Iterable[Alert], known: Known, now: datetime) -> list[Alert]:
    """Give the alerts that are to be closed, and those to be raised again since what they are about is back.

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
        reason = known.why_not(alert)
        if alert.status == "raised" and reason:
            content = _content("closed", alert.severity, ())
            alert = replace(alert, status="closed", reason=reason, content=content)
            changed.append(_to_tell(alert, alert.run_id, now, "waiting" if alert.told_to else "not_needed"))
        elif alert.status == "closed" and not reason:
            content = _content("raised", alert.severity, alert.affected)
            alert = replace(alert, status="raised", reason=None, content=content)
            changed.append(_to_tell(alert, alert.run_id, now, "waiting"))
    return changed


def _raise(seen: Observation) -> Alert:
    return Alert(
        alert_id=_hash(*seen.key, seen.at.isoformat()),
        run_id=seen.run_id,
        patient_id=seen.patient_id,
        asset=seen.asset,
        check_name=seen.check_name,
        severity=seen.severity,
        status="raised",
        affected=seen.affected,
        numbers=seen.numbers,
        content=_content("raised", seen.severity, seen.affected),
        first_seen=seen.at,
        last_seen=seen.at,
        changed_at=seen.at,
        delivery="waiting",
    )


def _see_again(alert: Alert, seen: Observation) -> Alert:
    content = _content("raised", seen.severity, seen.affected)
    alert = replace(alert, last_seen=seen.at, numbers=seen.numbers)
    if content == alert.content:
        return alert
    alert = replace(alert, severity=seen.severity, affected=seen.affected, content=content)
    return _to_tell(alert, seen.run_id, seen.at, "waiting")


def _mend(alert: Alert, seen: Observation) -> Alert:
    content = _content("resolved", alert.severity, ())
    alert = replace(alert, status="resolved", last_seen=seen.at, content=content)
    return _to_tell(alert, seen.run_id, seen.at, "waiting" if alert.told_to else "not_needed")


def _to_tell(alert: Alert, run_id: str, at: datetime, delivery: str) -> Alert:
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


def address_mark(url: str) -> str:
    """Give a mark for an address that says nothing of it but whether it is the same: eight hexadecimal digits."""
    return hashlib.sha256(url.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Message:
    """One message to one address.

    Attributes
    ----------
    address : str
        The address's mark.
    alerts : tuple of Alert
        What it tells.
    title, body : str
        Plain text.
    kind : str
        ``failure``, ``warning`` or ``success``, as apprise calls them.
    key : str
        The same at every try of one message and of no other, so that a receiver can tell what it has already.
    """

    address: str
    alerts: tuple[Alert, ...]
    title: str
    body: str
    kind: str
    key: str


def outbox(
    waiting: Iterable[Alert], addresses: Sequence[str], settings: AlertSettings, now: datetime
) -> list[Message]:
    """Give the messages to send now: one a run and address, the oldest run first.

    A message that was on its way before goes again with the key that it had and tells nothing new, whatever has come
    in since: a receiver that took it, and whose answer came too late, may leave out what has a known key.

    Parameters
    ----------
    waiting : iterable of Alert
        Alerts whose delivery is ``waiting``.
    addresses : sequence of str
        Marks of the addresses.
    settings : AlertSettings
        Least severity, and the number of messages a round; the runs beyond share the last message, and wait where
        there is none left for them.
    now : datetime
        Alerts whose next try lies after this are left out.
    """
    messages = []
    ordered = sorted(waiting, key=lambda a: (a.changed_at, a.patient_id, a.asset, a.check_name))
    for address in addresses:
        again: dict[str, list[Alert]] = {}
        runs: dict[str, list[Alert]] = {}
        for alert in ordered:
            if address in alert.taken_by or address not in recipients(alert, addresses, settings):
                continue
            if key := alert.message_keys.get(address):
                again.setdefault(key, []).append(alert)
            elif _is_due(alert, now):
                runs.setdefault(alert.run_id, []).append(alert)
        # one that may have arrived goes again as it was or not at all: its alerts wait for one another, and what is
        # new gets a message of its own
        due = [(key, group) for key, group in again.items() if all(_is_due(a, now) for a in group)]
        due = due[: settings.messages]
        groups, room = list(runs.values()), settings.messages - len(due)
        if len(groups) > room:
            cut = max(room - 1, 0)
            groups = [*groups[:cut], [alert for group in groups[cut:] for alert in group]][:room]
        messages += [_message(address, group, key) for key, group in due]
        messages += [_message(address, group, _key_of(address, group)) for group in groups]
    return messages


def with_keys(waiting: Iterable[Alert], messages: Iterable[Message]) -> list[Alert]:
    """Give alerts with the keys of the messages that are about to tell of them."""
    keys: dict[str, dict[str, str]] = {}
    for message in messages:
        for alert in message.alerts:
            keys.setdefault(alert.alert_id, {})[message.address] = message.key
    return [replace(a, message_keys={**a.message_keys, **keys.get(a.alert_id, {})}) for a in waiting]


def _is_due(alert: Alert, now: datetime) -> bool:
    return alert.next_try_at is None or alert.next_try_at <= now


def _key_of(address: str, alerts: Sequence[Alert]) -> str:
    # with the moment of the change: a trouble that becomes what it was before is told once more
    told = sorted(f"{a.alert_id} {a.content} {a.changed_at.isoformat()}" for a in alerts)
    return hashlib.sha256(json.dumps([address, *told]).encode()).hexdigest()[:32]


def recipients(alert: Alert, addresses: Sequence[str], settings: AlertSettings) -> tuple[str, ...]:
    """Give who is to be told: everybody of a trouble grave enough, and whoever heard of it when it is over."""
    if alert.status != "raised":
        return tuple(a for a in addresses if a in alert.told_to)
    if settings.least_severity == "ERROR" and alert.severity != "ERROR":
        return tuple(a for a in addresses if a in alert.told_to)
    return tuple(addresses)


def after_round(
    alert: Alert,
    taken: Iterable[str],
    refused: Iterable[str],
    addresses: Sequence[str],
    settings: AlertSettings,
    now: datetime,
) -> Alert:
    """Give an alert as it is after a round of sending.

    Parameters
    ----------
    alert : Alert
        Before the round.
    taken, refused : iterable of str
        Marks of the addresses that took a message with it, and of those that did not.
    addresses : sequence of str
        Marks of all addresses of the settings.
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
    wait = min(settings.retry_s * 2 ** (attempts - 1), _LONGEST_WAIT)
    return replace(alert, attempts=attempts, next_try_at=now + timedelta(seconds=wait))


def _message(address: str, alerts: Sequence[Alert], key: str) -> Message:
    raised = [a for a in alerts if a.status == "raised"]
    mended = [a for a in alerts if a.status == "resolved"]
    closed = [a for a in alerts if a.status == "closed"]
    counts = [
        f"{len(raised)} trouble{'s' if len(raised) != 1 else ''}" if raised else "",
        f"{len(mended)} resolved" if mended else "",
        f"{len(closed)} closed" if closed else "",
    ]
    patients = sorted({_id(a.patient_id) for a in alerts if a.patient_id != WHOLE_STUDY})
    about = f" (patient{'s' if len(patients) > 1 else ''} {_list(patients)})" if patients else ""
    lines: list[str] = []
    for run_id in dict.fromkeys(a.run_id for a in alerts):
        lines.append(f"Run {run_id[:8]}")
        ofrun = [a for a in alerts if a.run_id == run_id]
        for alert in sorted(ofrun, key=lambda a: (a.status, a.severity, a.key)):
            lines += [line(alert), *([f"   {todo}"] if (todo := advice(alert)) else [])]
    severities = {a.severity for a in raised}
    kind = "failure" if "ERROR" in severities else "warning" if raised else "success"
    title = f"Study: {', '.join(c for c in counts if c)}{about}"
    return Message(address, tuple(alerts), title, "\n".join(lines), kind, key)


def line(alert: Alert) -> str:
    """Say one alert in one line: ids, check names, numbers and the catalogue's words only."""
    what = "changed" if alert.status == "raised" and alert.told_to else alert.status
    who = "whole study" if alert.patient_id == WHOLE_STUDY else f"patient {_id(alert.patient_id)}"
    where, check = f"{_name(alert.asset)} / {_name(alert.check_name)}", _check(alert)
    parts = [f"{alert.severity} {what}: {who}, {f'{check.title} ({where})' if check else where}"]
    if alert.reason:
        parts.append(alert.reason)
    if alert.status == "raised":
        if alert.affected:
            parts.append(_list([_id(i) for i in alert.affected]))
        numbers = [f"{_name(n)} {_number(v)}" for n, v in alert.numbers.items() if _is_sayable(n, v)]
        if numbers:
            parts.append(", ".join(numbers))
    return "; ".join(parts)


def _check(alert: Alert) -> CheckInfo | None:
    try:
        return find(alert.asset, alert.check_name)
    except KeyError:  # a failed run, a SQL model's test, a check of another version
        return None


def advice(alert: Alert) -> str | None:
    """Say what to do about an alert, in the catalogue's words; None where it is over or there are no words."""
    check = _check(alert)
    if check is None or alert.status != "raised":
        return None
    lost = alert.severity == "ERROR" and not alert.numbers.get("usable videos")
    return check.advise(_id(alert.patient_id), lost=lost)


def _list(ids: Sequence[str], most: int = 8) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(ids[:most]) + more


def _id(text: str) -> str:
    return text if terms.SUBMISSION_ID.match(text) else "(id withheld)"


def _name(text: str) -> str:
    return text if _NAME.match(text) else "(name withheld)"


def _is_sayable(name: str, value: object) -> bool:
    return bool(_NAME.match(name)) and isinstance(value, int | float) and math.isfinite(value)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
