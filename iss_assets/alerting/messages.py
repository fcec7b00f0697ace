"""What alert messages say and which alerts share one: pure functions from waiting alerts to messages.

The issues of one run share a message. Reminders, checks on how patients take part, share one per rule with the list of
patients, so that a study of a hundred patients gets one message and not a hundred. Messages hold ids, check names, numbers
and the catalogue's fixed sentences and nothing else: whatever else goes into one passes `_id`, `_name` or `_number`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from iss_assets.alerting.rules import WHOLE_STUDY, Alert, is_due, recipients
from iss_assets.protocol import terms
from iss_assets.protocol.catalogue import WITHOUT_CONTACT, CheckInfo, find
from iss_assets.settings import AlertSettings

_NAME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9_ .%/-]{0,59}$")
_SHORT_LIST: Final = 8
"""Ids in a title or in the line of one alert; the rest is counted."""
_LONG_LIST: Final = 200
"""Patients in the list of a reminder; the rest is counted."""


@dataclass(frozen=True)
class Message:
    """One message to one address.

    Attributes
    ----------
    address : str
        The address's hash.
    alerts : tuple of Alert
        What it reports.
    title, body : str
        Plain text.
    kind : str
        ``failure``, ``warning`` or ``success``, as apprise calls them.
    key : str
        The same at every try of one message and different from that of any other, so that a receiver can recognize a
        message that it already has.
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
    """Return the messages to send now: one per address and run, or rule of a reminder; the oldest first.

    A message that was sent before and not accepted is sent again with its key and without anything new: a receiver that
    got it, and whose answer came too late, may ignore what has a known key.

    Parameters
    ----------
    waiting : iterable of Alert
        Alerts whose delivery is ``waiting``.
    addresses : sequence of str
        Hashes of the addresses.
    settings : AlertSettings
        Least severity, and the number of messages per round; whatever is beyond shares the last message, and waits if
        there is none left for it.
    now : datetime
        Alerts whose next try is later are left out.
    """
    messages = []
    ordered = sorted(waiting, key=lambda a: (a.changed_at, a.patient_id, a.asset, a.check_name))
    for address in addresses:
        sent_before: dict[str, list[Alert]] = {}
        new: dict[tuple[str, ...], list[Alert]] = {}
        for alert in ordered:
            if address in alert.taken_by or address not in recipients(alert, addresses, settings):
                continue
            if key := alert.message_keys.get(address):
                sent_before.setdefault(key, []).append(alert)
            elif is_due(alert, now):
                new.setdefault(_topic(alert), []).append(alert)
        # a message that may have arrived is sent again as it was or not at all: its alerts wait for one another
        again = [(key, group) for key, group in sent_before.items() if all(is_due(a, now) for a in group)]
        again = again[: settings.messages]
        groups, room = list(new.values()), settings.messages - len(again)
        if len(groups) > room:
            cut = max(room - 1, 0)
            groups = [*groups[:cut], [alert for group in groups[cut:] for alert in group]][:room]
        messages += [_message(address, group, key) for key, group in again]
        messages += [_message(address, group, _key_of(address, group)) for group in groups]
    return messages


def with_keys(waiting: Iterable[Alert], messages: Iterable[Message]) -> list[Alert]:
    """Return alerts with the keys of the messages that are about to report them."""
    keys: dict[str, dict[str, str]] = {}
    for message in messages:
        for alert in message.alerts:
            keys.setdefault(alert.alert_id, {})[message.address] = message.key
    return [replace(a, message_keys={**a.message_keys, **keys.get(a.alert_id, {})}) for a in waiting]


def line(alert: Alert) -> str:
    """Return one alert in one line: ids, check names, numbers and the catalogue's words only."""
    who = "whole study" if alert.patient_id == WHOLE_STUDY else f"patient {_id(alert.patient_id)}"
    parts = [f"{alert.severity} {_news(alert)}: {who}, {_subject(alert)}"]
    if alert.reason:
        parts.append(alert.reason)
    if alert.status == "raised":
        if alert.affected:
            parts.append(_list([_id(i) for i in alert.affected]))
        numbers = [f"{_name(n)} {_number(v)}" for n, v in alert.numbers.items() if _is_printable(n, v)]
        if numbers:
            parts.append(", ".join(numbers))
    return "; ".join(parts)


def advice(alert: Alert) -> str | None:
    """Return what to do about an alert, in the catalogue's words; None if it is over or there are no words."""
    check = _check(alert)
    if check is None or alert.status != "raised":
        return None
    lost = alert.severity == "ERROR" and not alert.numbers.get("usable videos")
    return check.advise(_id(alert.patient_id), lost=lost, contact=WITHOUT_CONTACT not in alert.numbers)


def _topic(alert: Alert) -> tuple[str, ...]:
    """Return what shares a message: the rule of a reminder, or else the run."""
    return (alert.asset, alert.check_name) if _is_reminder(alert) else (alert.run_id,)


def _is_reminder(alert: Alert) -> bool:
    check = _check(alert)
    return check is not None and bool(check.reminder) and alert.patient_id != WHOLE_STUDY


def _key_of(address: str, alerts: Sequence[Alert]) -> str:
    # with the moment of the change: an issue that becomes what it was before is news once more
    reported = sorted(f"{a.alert_id} {a.content} {a.changed_at.isoformat()}" for a in alerts)
    return hashlib.sha256(json.dumps([address, *reported]).encode()).hexdigest()[:32]


def _message(address: str, alerts: Sequence[Alert], key: str) -> Message:
    raised = [a for a in alerts if a.status == "raised"]
    resolved = [a for a in alerts if a.status == "resolved"]
    closed = [a for a in alerts if a.status == "closed"]
    is_reminder = len({_topic(a) for a in alerts}) == 1 and len(alerts) > 1 and _is_reminder(alerts[0])
    unit = "patient" if is_reminder else "issue"
    counts = [
        f"{len(raised)} {unit}{'s' if len(raised) != 1 else ''}" if raised else "",
        f"{len(resolved)} resolved" if resolved else "",
        f"{len(closed)} closed" if closed else "",
    ]
    news = ", ".join(c for c in counts if c)
    patients = sorted({_id(a.patient_id) for a in alerts if a.patient_id != WHOLE_STUDY})
    about = f" (patient{'s' if len(patients) > 1 else ''} {_list(patients)})" if patients else ""
    if is_reminder:
        news, about = f"{find(alerts[0].asset, alerts[0].check_name).title}: {news}", ""
    severities = {a.severity for a in raised}
    kind = "failure" if "ERROR" in severities else "warning" if raised else "success"
    return Message(address, tuple(alerts), f"Study: {news}{about}", "\n".join(_body(alerts)), kind, key)


def _body(alerts: Sequence[Alert]) -> list[str]:
    lines: list[str] = []
    ordinary = [a for a in alerts if not _is_reminder(a)]
    for run_id in dict.fromkeys(a.run_id for a in ordinary):
        lines += [f"Run {run_id[:8]}"] if run_id else []
        of_run = [a for a in ordinary if a.run_id == run_id]
        for alert in sorted(of_run, key=lambda a: (a.status, a.severity, a.key)):
            lines += [line(alert), *([f"   {todo}"] if (todo := advice(alert)) else [])]
    reminders = [a for a in alerts if _is_reminder(a)]
    for rule in dict.fromkeys((a.asset, a.check_name) for a in reminders):
        lines += _reminder([a for a in reminders if (a.asset, a.check_name) == rule])
    return lines


def _reminder(alerts: Sequence[Alert]) -> list[str]:
    """Return the lines of one rule: the rule, the patients by what is new about them, and what to do."""
    lines = [_subject(alerts[0])]
    groups: dict[tuple[str, str, str], list[Alert]] = {}
    for alert in sorted(alerts, key=lambda a: (a.status, a.severity, _news(a), a.patient_id)):
        groups.setdefault((alert.severity, _news(alert), alert.reason or ""), []).append(alert)
    for (severity, news, reason), group in groups.items():
        listed = _list([_patient(a) for a in group], _LONG_LIST)
        many = "s" if len(group) > 1 else ""
        lines.append(
            f"{severity} {news}: {len(group)} patient{many}: {listed}{f'; {reason}' if reason else ''}"
        )
    raised = [a for a in alerts if a.status == "raised"]
    check = _check(alerts[0])
    if raised and check is not None:
        silent = [_id(a.patient_id) for a in raised if WITHOUT_CONTACT in a.numbers]
        todo = advice(raised[0]) if len(raised) == 1 else check.advise_all(silent)
        lines.append(f"   {todo}")
    return lines


def _patient(alert: Alert) -> str:
    """Return a patient's id, with how much of a reminder there is."""
    check = _check(alert)
    numbers = {n: v for n, v in alert.numbers.items() if _is_printable(n, v)}
    extent = check.extent(numbers) if check is not None and alert.status == "raised" else ""
    return f"{_id(alert.patient_id)}{f' ({extent})' if extent else ''}"


def _news(alert: Alert) -> str:
    return "changed" if alert.status == "raised" and alert.told_to else alert.status


def _subject(alert: Alert) -> str:
    where, check = f"{_name(alert.asset)} / {_name(alert.check_name)}", _check(alert)
    return f"{check.title} ({where})" if check else where


def _check(alert: Alert) -> CheckInfo | None:
    try:
        return find(alert.asset, alert.check_name)
    except KeyError:  # a failed run, a SQL model's test, a check of another version
        return None


def _list(words: Sequence[str], limit: int = _SHORT_LIST) -> str:
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return ", ".join(words[:limit]) + more


def _id(text: str) -> str:
    return text if terms.SUBMISSION_ID.match(text) else "(id withheld)"


def _name(text: str) -> str:
    return text if _NAME.match(text) else "(name withheld)"


def _is_printable(name: str, value: object) -> bool:
    return bool(_NAME.match(name)) and isinstance(value, int | float) and math.isfinite(value)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
