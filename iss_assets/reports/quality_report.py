"""What to do now, the most costly first, and how often things go wrong, read from the warehouse at one moment.

`quality_page` and `quality_text` show it. What is wrong with a video is decided by ``protocol.flags``, and checks are
described in ``protocol.catalogue``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import IntEnum
from string import Formatter
from typing import Any, Final

from iss_assets.alerting.rules import RUN_FAILED, WHOLE_STUDY
from iss_assets.protocol.catalogue import (
    SCHEMA,
    WITHDRAWAL,
    WITHOUT_CONTACT,
    WITHOUT_RUNS,
    CheckInfo,
    find,
)
from iss_assets.protocol.consent import SCOPES_IN_WORDS, Scope
from iss_assets.protocol.flags import FLAGS, causes_of
from iss_assets.reports.review_summary import ReviewSummary, review_summary
from iss_assets.warehouse.database import Warehouse

_FAILED = """
select
  c.patient_id, c.asset, c.check_name, c.severity, c.affected, c.numbers, c.hint, c.evaluated_at,
  case a.status when 'raised' then a.first_seen end as since, case a.status when 'raised' then a.delivery end as delivery
from check_results as c
left join (
  select * from alerts
  qualify row_number() over (
    partition by patient_id, asset, check_name order by last_seen desc, first_seen desc
  ) = 1
) as a using (patient_id, asset, check_name)
where not c.passed and a.status is distinct from 'closed'
union all by name
select patient_id, asset, check_name, severity, affected, run_id, last_seen as evaluated_at, first_seen as since, delivery
from alerts
where status = 'raised' and list_contains($without_result, check_name)
"""

_WITHOUT_RESULT: Final = [RUN_FAILED, *(check.name for check in WITHOUT_RUNS)]
"""What only ``alerts`` knows of: there is no row in ``check_results``."""

_VIDEOS = """
select v.video_id, v.patient_id, v.problem, q.flags
from videos as v
left join video_quality as q using (video_id)
where
  v.problem is not null
  or len(q.flags) > 0
  or v.video_id in (select unnest(affected) from check_results where patient_id = '*' and not passed)
order by v.video_id
"""

_TOTALS = """
select
  (select count(*) from patients) as patients,
  (select count(*) from videos) as videos,
  (select count(*) from video_quality) as measured,
  (select count(*) from video_quality where usable) as usable,
  (select count(*) from video_quality where len(flags) > 0) as flagged,
  (select count(distinct patient_id) from check_results where patient_id <> '*') as checked,
  (select max(evaluated_at) from check_results) as checked_at
"""

_BY_PATIENT = """
select
  patient_id,
  count(q.video_id) as measured,
  count(*) filter (q.usable and len(q.flags) = 0) as clean,
  count(*) filter (q.usable and len(q.flags) > 0) as flagged,
  count(*) filter (not q.usable) as unusable
from patients as p
left join video_quality as q using (patient_id)
group by patient_id
order by patient_id
"""

_BY_REASON = """
with flagged as (
  select video_id, patient_id, unusable_reason, unnest(list_distinct(flags)) as flag from video_quality
)
select
  flag, count(*) as videos, count(distinct patient_id) as patients,
  count(*) filter (unusable_reason = flag) as unusable
from flagged
group by flag
order by videos desc, flag
"""

_OVER_TIME = """
select
  cast(date_trunc('week', s.submitted_on) as date) as week,
  count(*) as videos,
  avg(cast(q.usable as integer)) as usable,
  flatten(list(list_distinct(q.flags))) as flags
from video_quality as q
inner join bpi_scores as s on s.submission_id = q.video_id
where s.submitted_on is not null
group by week
order by week
"""

_ALERTS = "select * from alerts order by changed_at desc, patient_id, check_name limit $limit"


class Level(IntEnum):
    """What an item costs the study, the worst first: the order of the page."""

    RIGHTS = 0
    """Nothing is lost, and nothing is more urgent: what a patient has a right to, and asked for."""
    BROKEN = 1
    """The pipeline could not do its work, so that the cost is not even known: failed runs, checks, damaged tables."""
    PATIENT = 2
    """Nothing of a patient can be used: patients are what models are tested on, so this is the unit of loss."""
    DATA = 3
    """A share of a patient's data is lost: videos that training cannot take, answers that are not there."""
    DOUBT = 4
    """Videos are used though something is wrong with them."""
    REMINDER = 5
    """Nothing is lost; one list over all patients."""
    STUDY = 6
    """About the study as a whole."""


@dataclass(frozen=True)
class Cost:
    """What an item costs the study.

    Items are ordered by level, then by the share of the patient's data, the largest first: every patient counts the
    same, however many videos there are (accuracy is a mean over patients).

    Attributes
    ----------
    level : Level
        Kind of loss.
    share : float
        Share of the patient's videos, or answers, that are affected.
    says : str
        The same in words; empty where the title says it all.
    """

    level: Level
    share: float = 0.0
    says: str = ""


@dataclass(frozen=True)
class Item:
    """One cause to act on: of one patient, or as a list over patients.

    Attributes
    ----------
    patient_id : str
        ``*`` for lists and for the whole study.
    asset, check_name : str
        The check; ``run_failed`` for a run, ``file_problems`` for the list of unusual files.
    title : str
        What is wrong, in words.
    severity : str
        WARN or ERROR.
    cost : Cost
        What it costs the study.
    details : tuple of (str, str)
        Ids of videos or submissions, or of patients in a list, each with a comment.
    what_to_do : str
        One or two sentences.
    since : datetime or None
        When it first occurred; None where no alert has been stored yet.
    delivery : str or None
        Whether somebody was notified: the column of ``alerts``.
    """

    patient_id: str
    asset: str
    check_name: str
    title: str
    severity: str
    cost: Cost
    details: tuple[tuple[str, str], ...]
    what_to_do: str
    since: datetime | None
    delivery: str | None

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients that it is about."""
        if self.patient_id != WHOLE_STUDY:
            return (self.patient_id,)
        return tuple(name for name, _ in self.details) if self.cost.level == Level.REMINDER else ()


@dataclass(frozen=True)
class Week:
    """One calendar week of submitted videos: how many, the usable share, and the share with each flag."""

    start: date
    videos: int
    usable: float
    flags: dict[str, float]


@dataclass(frozen=True)
class QualityReport:
    """The state of the study's quality.

    Attributes
    ----------
    items : list of Item
        What to do, the most costly first.
    totals : dict
        ``patients``, ``videos``, ``measured``, ``usable``, ``flagged``, ``checked``, ``checked_at``.
    by_patient, by_reason : list of dict
        Videos of each patient that are clean, flagged, unusable; videos and patients with each flag.
    over_time : list of Week
        Videos with a survey whose local day is known, by the week of that day.
    alerts : list of dict
        The newest rows of ``alerts``.
    reviews : ReviewSummary
        What people decided.
    """

    items: list[Item]
    totals: dict[str, Any]
    by_patient: list[dict[str, Any]]
    by_reason: list[dict[str, Any]]
    over_time: list[Week]
    alerts: list[dict[str, Any]] = field(default_factory=list)
    reviews: ReviewSummary = field(default_factory=ReviewSummary)

    def patients_at(self, level: Level) -> set[str]:
        """Return the patients whose most costly item is of this level."""
        worst: dict[str, Level] = {}
        for item in self.items:
            for patient in item.patients:
                worst[patient] = min(worst.get(patient, Level.STUDY), item.cost.level)
        return {patient for patient, at in worst.items() if at == level}

    @property
    def patients_with_issues(self) -> int:
        """Patients with something wrong; a reminder alone does not count."""
        return sum(len(self.patients_at(level)) for level in Level if level < Level.REMINDER)


def quality_report(
    warehouse: Warehouse, patients: Sequence[str] = (), alert_limit: int = 100
) -> QualityReport:
    """Read the current state of the study's quality.

    Parameters
    ----------
    warehouse : Warehouse
        Where the tables are.
    patients : sequence of str
        Only items of these patients; everything if empty.
    alert_limit : int
        Newest alerts listed.
    """
    with warehouse.read() as connection:

        def rows(sql: str, **parameters: object) -> list[dict[str, Any]]:
            return connection.execute(sql, parameters or None).to_arrow_table().to_pylist()

        failed, videos = rows(_FAILED, without_result=_WITHOUT_RESULT), rows(_VIDEOS)
        totals = rows(_TOTALS)[0]
        by_patient, by_reason, weeks = rows(_BY_PATIENT), rows(_BY_REASON), rows(_OVER_TIME)
        alerts = rows(_ALERTS, limit=alert_limit)
        reviews = review_summary(connection)
    if patients:
        failed, videos = ([r for r in found if r["patient_id"] in patients] for found in (failed, videos))
    return QualityReport(
        items=_items(failed, videos),
        totals=totals,
        by_patient=by_patient,
        by_reason=by_reason,
        over_time=[
            Week(
                row["week"],
                row["videos"],
                row["usable"],
                {flag: row["flags"].count(flag) / row["videos"] for flag in set(row["flags"])},
            )
            for row in weeks
        ],
        alerts=alerts,
        reviews=reviews,
    )


def _items(failed: Iterable[Mapping[str, Any]], videos: Iterable[Mapping[str, Any]]) -> list[Item]:
    known = {v["video_id"]: v for v in videos}
    items: list[Item] = []
    reminders: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in failed:
        info = _info(row)
        if info is not None and info.reminder and "error" not in _numbers(row):
            reminders.setdefault((row["asset"], row["check_name"]), []).append(row)
        else:
            items.append(_item(row, info, known))
    items += [_reminder(find(*key), rows) for key, rows in reminders.items()]
    reported = {video for item in items for video, _ in item.details}
    if unusual := {v: r["problem"] for v, r in known.items() if r["problem"] and v not in reported}:
        items.append(_unusual_files(unusual))
    return sorted(items, key=_place)


def _place(item: Item) -> tuple[object, ...]:
    whole = item.patient_id == WHOLE_STUDY
    return item.cost.level, -item.cost.share, whole, item.patient_id, item.asset, item.check_name


def _info(row: Mapping[str, Any]) -> CheckInfo | None:
    try:
        return find(row["asset"], row["check_name"])
    except KeyError:
        return None


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    found = json.loads(row["numbers"] or "{}")
    return found if isinstance(found, dict) else {}


def _item(row: Mapping[str, Any], info: CheckInfo | None, known: Mapping[str, Mapping[str, Any]]) -> Item:
    patient, name = row["patient_id"], row["check_name"]
    return Item(
        patient_id=patient,
        asset=row["asset"],
        check_name=name,
        title=check_title(row["asset"], name),
        severity=row["severity"],
        cost=cost_of(row, info),
        details=tuple(
            (i, _about(known.get(i), info, whole=patient == WHOLE_STUDY)) for i in row["affected"] or ()
        ),
        what_to_do=row["hint"] or _what_to_do(patient, name, row["run_id"], info),
        since=row["since"],
        delivery=row["delivery"],
    )


def cost_of(row: Mapping[str, Any], info: CheckInfo | None) -> Cost:
    """Return what a failed check, or a failed run, costs the study.

    Parameters
    ----------
    row : mapping
        Of ``check_results``: patient_id, check_name, severity, numbers (JSON).
    info : CheckInfo or None
        The check; None where it is not in the catalogue (a failed run, a test of a SQL model).
    """
    numbers, error = _numbers(row), row["severity"] == "ERROR"
    if row["check_name"] in _WITHOUT_RESULT:
        return Cost(Level.BROKEN, 1.0, "What is shown here may be out of date.")
    if "error" in numbers:
        return Cost(Level.BROKEN, 0.0, "The check could not be run.")
    if error and (info is None or info.name == SCHEMA):
        return Cost(Level.BROKEN, 0.5, "The stored rows cannot be relied on.")
    if row["patient_id"] == WHOLE_STUDY:
        return Cost(Level.STUDY)
    if row["check_name"] == WITHDRAWAL:
        return Cost(Level.RIGHTS, 1.0, _asked_for(numbers))
    if info is not None and info.flags:
        return _cost_of_videos(numbers, error)
    if row["check_name"] == "missing_scores":
        missing, asked = numbers.get("missing answers", 0), numbers.get("answers asked for", 0)
        share = _share(missing, asked) if asked else float(error)
        return Cost(
            Level.DATA, share, "There is no answer at all." if error else f"{missing} of {asked} answers."
        )
    if error:
        return Cost(Level.PATIENT, 1.0, "The pain level of every video may be wrong.")
    affected, checked = numbers.get("affected", 0), numbers.get("checked", 0)
    return Cost(
        Level.DATA, _share(affected, checked), f"{affected} of {checked} check-ins." if checked else ""
    )


def _asked_for(numbers: Mapping[str, Any]) -> str:
    """Say on which day a patient asked to withdraw, and from what."""
    known = [SCOPES_IN_WORDS[Scope(scope)] for scope in numbers.get("scopes", ()) if scope in set(Scope)]
    asked_on = numbers.get("asked on") or ""
    on = f"On {date.fromisoformat(asked_on):%-d %B %Y}" if asked_on else "On a day that cannot be read"
    return f"{on}, from {', '.join(known)}."


def _cost_of_videos(numbers: Mapping[str, Any], error: bool) -> Cost:
    affected, checked, lost = (numbers.get(n, 0) for n in ("affected", "checked", "not usable"))
    if error and not numbers.get("usable videos", 0):
        says = f"{lost} of {checked} videos are lost for this reason."
        return Cost(Level.PATIENT, _share(lost, checked), says)
    if lost:
        return Cost(Level.DATA, _share(lost, checked), f"{lost} of {checked} videos cannot be used.")
    return Cost(Level.DOUBT, _share(affected, checked), f"{affected} of {checked} videos, still used.")


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _about(video: Mapping[str, Any] | None, info: CheckInfo | None, *, whole: bool = False) -> str:
    """Return what is wrong with a video of an item: which of the cause's flags it has, and what is unusual about its file.

    In an item about the whole study, it is whose video it is.
    """
    if video is None:
        return ""
    if whole:
        return f"patient {video['patient_id']}"
    words = []
    if info is not None and len(info.flags) > 1:
        words = [FLAGS[flag] for flag in causes_of(video["flags"] or ()).get(info.name, ())]
    return ". ".join(part for part in (", ".join(words), video["problem"]) if part)


def _reminder(info: CheckInfo, rows: Sequence[Mapping[str, Any]]) -> Item:
    """Merge a reminder to many patients into one list, the worst first."""

    names = [name for _, name, _, _ in Formatter().parse(info.reminder) if name]

    def extent(row: Mapping[str, Any]) -> tuple[float, str]:
        numbers = _numbers(row)
        if not numbers.keys() >= {*names}:  # a result of an earlier version
            return 0.0, ""
        amount, *whole = (numbers[name] for name in names)
        said = info.extent(numbers) + ("; do not contact" if WITHOUT_CONTACT in numbers else "")
        return amount / (whole[0] or 1) if whole else amount, said

    ordered = sorted(rows, key=lambda r: (-extent(r)[0], r["patient_id"]))
    alone = len(rows) == 1
    silent = [r["patient_id"] for r in rows if WITHOUT_CONTACT in _numbers(r)]
    return Item(
        patient_id=WHOLE_STUDY,
        asset=info.asset,
        check_name=info.name,
        title=info.title,
        severity="WARN",
        cost=Cost(Level.REMINDER, float(len(rows))),
        details=tuple((r["patient_id"], extent(r)[1]) for r in ordered),
        what_to_do=info.advise(rows[0]["patient_id"], contact=not silent)
        if alone
        else info.advise_all(silent),
        since=min((r["since"] for r in rows if r["since"]), default=None),
        delivery=None,
    )


def _unusual_files(problems: Mapping[str, str]) -> Item:
    number = len(problems)
    return Item(
        patient_id=WHOLE_STUDY,
        asset="videos",
        check_name="file_problems",
        title="Something is unusual about the file, and no check failed",
        severity="WARN",
        cost=Cost(Level.STUDY, 0.0, f"{number} video{'' if number == 1 else 's'}."),
        details=tuple(problems.items()),
        what_to_do="Nothing, as long as picture and sound are as they should be.",
        since=None,
        delivery=None,
    )


def check_title(asset: str, check_name: str) -> str:
    """Return what a check's failure means; the plain name for one that is not in the catalogue (SQL models' tests)."""
    if check_name == RUN_FAILED:
        return f"The last run failed at {asset}"
    try:
        return find(asset, check_name).title
    except KeyError:
        return check_name.replace("_", " ")


def _what_to_do(patient: str, check_name: str, run_id: str | None, info: CheckInfo | None) -> str:
    if info in WITHOUT_RUNS:
        return info.advise(patient)
    if check_name != RUN_FAILED:
        return "See the check in the UI."
    again = "iss run" if patient == WHOLE_STUDY else f"iss run --patient {patient}"
    return f"Run it again: {again}. If it fails again, tell the engineer about run {(run_id or '')[:8]}."
