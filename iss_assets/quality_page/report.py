"""What is wrong now, by patient, and how often things go wrong: one read of the warehouse.

Belongs here: queries and what they mean. Does not belong here: looks (``page``, ``text``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from iss_assets.alert_rules import RUN_FAILED, WHOLE_STUDY
from iss_assets.checks.catalogue import find
from iss_assets.warehouse.database import Warehouse

_TROUBLES = """
select
  c.patient_id, c.asset, c.check_name, c.severity, c.affected, c.hint, c.evaluated_at,
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
where status = 'raised' and check_name = $run_failed
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

_ALERTS = "select * from alerts order by changed_at desc, patient_id, check_name limit $most"


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong now.

    Attributes
    ----------
    patient_id : str
        ``*`` for the whole study.
    asset, check_name : str
        The check; ``run_failed`` for a run.
    title : str
        What is wrong, in words.
    severity : str
        WARN or ERROR.
    affected : tuple of str
        Video or submission ids.
    what_to_do : str
        One sentence.
    since : datetime or None
        When it was first seen; None where no alert has been kept yet.
    delivery : str or None
        Whether somebody was told: the column of ``alerts``.
    """

    patient_id: str
    asset: str
    check_name: str
    title: str
    severity: str
    affected: tuple[str, ...]
    what_to_do: str
    since: datetime | None
    delivery: str | None


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
    troubles : list of Trouble
        By patient, errors first; those of the whole study come last.
    totals : dict
        ``patients``, ``videos``, ``measured``, ``usable``, ``flagged``, ``checked``, ``checked_at``.
    by_patient, by_reason : list of dict
        Videos of each patient that are clean, flagged, unusable; videos and patients with each flag.
    over_time : list of Week
        Videos with a survey whose local day is known, by the week of that day.
    alerts : list of dict
        The newest rows of ``alerts``.
    """

    troubles: list[Trouble]
    totals: dict[str, Any]
    by_patient: list[dict[str, Any]]
    by_reason: list[dict[str, Any]]
    over_time: list[Week]
    alerts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def by_subject(self) -> dict[str, list[Trouble]]:
        """Troubles by patient."""
        groups: dict[str, list[Trouble]] = {}
        for trouble in self.troubles:
            groups.setdefault(trouble.patient_id, []).append(trouble)
        return groups

    @property
    def errors(self) -> int:
        """Troubles that are errors."""
        return sum(t.severity == "ERROR" for t in self.troubles)

    @property
    def patients_in_trouble(self) -> int:
        """Patients with a trouble."""
        return len(self.by_subject.keys() - {WHOLE_STUDY})


def quality_report(
    warehouse: Warehouse, patients: Sequence[str] = (), most_alerts: int = 100
) -> QualityReport:
    """Read the present state of the study's quality.

    Parameters
    ----------
    warehouse : Warehouse
        Where the tables are.
    patients : sequence of str
        Only troubles of these patients; all if empty.
    most_alerts : int
        Newest alerts listed.
    """
    with warehouse.read() as connection:

        def rows(sql: str, **parameters: object) -> list[dict[str, Any]]:
            return connection.execute(sql, parameters or None).to_arrow_table().to_pylist()

        troubles = [_trouble(row) for row in rows(_TROUBLES, run_failed=RUN_FAILED)]
        totals = rows(_TOTALS)[0]
        by_patient, by_reason, weeks = rows(_BY_PATIENT), rows(_BY_REASON), rows(_OVER_TIME)
        alerts = rows(_ALERTS, most=most_alerts)
    wanted = [t for t in troubles if not patients or t.patient_id in patients]
    return QualityReport(
        troubles=sorted(
            wanted,
            key=lambda t: (
                t.patient_id == WHOLE_STUDY,
                t.patient_id,
                t.severity != "ERROR",
                t.asset,
                t.check_name,
            ),
        ),
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
    )


def _trouble(row: dict[str, Any]) -> Trouble:
    patient, name = row["patient_id"], row["check_name"]
    return Trouble(
        patient_id=patient,
        asset=row["asset"],
        check_name=name,
        title=check_title(row["asset"], name),
        severity=row["severity"],
        affected=tuple(row["affected"] or ()),
        what_to_do=row["hint"] or _what_to_do(patient, name, row["run_id"]),
        since=row["since"],
        delivery=row["delivery"],
    )


def check_title(asset: str, check_name: str) -> str:
    """Say what a check's failure means; the plain name for one that is not in the catalogue (SQL models' tests)."""
    if check_name == RUN_FAILED:
        return f"The last run failed at {asset}"
    try:
        return find(asset, check_name).title
    except KeyError:
        return check_name.replace("_", " ")


def _what_to_do(patient: str, check_name: str, run_id: str | None) -> str:
    if check_name != RUN_FAILED:
        return "See the check in the UI."
    again = "iss run" if patient == WHOLE_STUDY else f"iss run --patient {patient}"
    return f"Run it again: {again}. If it fails again, tell the engineer about run {(run_id or '')[:8]}."
