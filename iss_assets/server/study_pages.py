"""The study's pages: home, patients, one patient over time, and for administrators the audit log and the accounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from iss_assets.evaluation.check_in_order import SENT_SQL
from iss_assets.features.registry import missing_package_notes
from iss_assets.privacy.audit import Action, AuditLine, AuditLog
from iss_assets.protocol import terms
from iss_assets.protocol.reviews import Decision
from iss_assets.reports.behavior import read_newest
from iss_assets.reports.charts import for_strict_page
from iss_assets.reports.comparisons import read_comparisons
from iss_assets.reports.measures import SHOWN, one_per_video
from iss_assets.reports.patient_report import PatientReportInputs, scores_and_quality
from iss_assets.reports.quality_text import HEADINGS, headline, subject
from iss_assets.reports.readings import read_readings
from iss_assets.server.accounts import Accounts, Role
from iss_assets.server.daemon_watch import DaemonState
from iss_assets.server.pages import Pages
from iss_assets.server.review_queue import Entry
from iss_assets.server.routing import GuardedRoute, session_of
from iss_assets.server.study_data import StudyData

_LINES: Final = 200
_EXPORTS: Final = frozenset({Action.EXPORTED, Action.SNAPSHOT_TAKEN, Action.RELEASED, Action.QUERIED})
_SIGN_INS: Final = frozenset({Action.SIGNED_IN, Action.SIGN_IN_FAILED})

_PATIENTS: Final = """
select
  p.patient_id, p.cohort, p.pain_level, p.enrolled_on,
  (select count(*) from bpi_scores as s where s.patient_id = p.patient_id) as check_ins,
  (
    select max(coalesce(submitted_on, cast(coalesce(written_time, submitted_at at time zone 'UTC') as date)))
    from bpi_scores as s where s.patient_id = p.patient_id
  ) as last_check_in,
  count(v.video_id) as videos,
  count(*) filter (q.usable) as usable,
  count(*) filter (len(q.flags) > 0) as flagged
from patients as p
left join videos as v using (patient_id)
left join video_quality as q using (video_id)
group by all
order by p.patient_id
"""
_CHECK_INS: Final = f"""
select
  coalesce(s.submission_id, v.video_id) as submission_id, s.submitted_at, s.submitted_on, s.timeframe, s.setting,
  s.pain_now, s.chronic_pain, s.general_activity, s.mood, s.walking_ability, s.normal_work, s.relationships, s.sleep,
  s.enjoyment_of_life, v.video_id, v.duration_s, v.status, q.face_rate, q.flags, q.rejected_flags, q.usable,
  q.unusable_reason
from (select * from bpi_scores where patient_id = $patient) as s
full join (select * from videos where patient_id = $patient) as v on v.video_id = s.submission_id
left join video_quality as q on q.video_id = v.video_id
left join {SENT_SQL} as t on t.submission_id = s.submission_id
order by t.sent desc nulls last, 1 desc
"""
_NEWS: Final = """
select
  (select count(*) from bpi_scores where submitted_at >= $since) as check_ins,
  (select count(*) from videos where make_timestamp_ns(modified_ns) >= $since::timestamptz at time zone 'UTC') as videos,
  (select count(*) from patients where enrolled_on >= $since::date) as patients,
  (select count(*) from alerts where status = 'raised' and first_seen >= $since) as raised,
  (select count(*) from alerts where status = 'resolved' and changed_at >= $since) as resolved
"""


class StudyPages:
    """The routes of these pages.

    Parameters
    ----------
    study : StudyData
        Warehouse and reviews.
    audit : AuditLog
        Views of a patient are recorded; administrators read it.
    pages : Pages
        Fills the templates.
    accounts : Accounts
        For administrators.
    daemon : callable
        Asks whether the daemon is alive; None where there is none (tests).
    """

    def __init__(
        self,
        study: StudyData,
        audit: AuditLog,
        pages: Pages,
        accounts: Accounts,
        daemon: Callable[[], DaemonState] | None = None,
    ) -> None:
        self._study, self._audit, self._pages, self._accounts = study, audit, pages, accounts
        self._daemon = daemon

    def routes(self) -> list[GuardedRoute]:
        """Return the routes of this part."""
        return [
            GuardedRoute("/", self.home, role=Role.RESEARCHER),
            GuardedRoute("/patients", self.patients, role=Role.RESEARCHER),
            GuardedRoute("/patients/{patient_id}", self.patient, role=Role.RESEARCHER),
            GuardedRoute("/audit", self.audit_log, role=Role.ADMIN),
            GuardedRoute("/accounts", self.account_list, role=Role.ADMIN),
        ]

    def home(self, request: Request) -> Response:
        """Show what is new since yesterday, what is waiting, and whether the daemon is alive."""
        now = datetime.now(UTC)
        yesterday = (now - timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        known, reviews = self._study.known(), self._study.reviews()
        news = self._study.kept(("news", yesterday), lambda: self._news(yesterday))
        entries = self._study.queue(reviews)
        by_level = Counter(entry.item.cost.level for entry in entries)
        recent = self._recent() if session_of(request).role is Role.ADMIN else {}
        return self._pages.show(
            request,
            "home.html.jinja",
            "Study",
            since=yesterday,
            news={**news, "decisions": sum(row.reviewed_at >= yesterday for row in reviews.rows)},
            headline=headline(known.report),
            totals=known.report.totals,
            levels=[
                (HEADINGS[level][0], level.name.lower(), count) for level, count in sorted(by_level.items())
            ],
            daemon=self._daemon() if self._daemon else None,
            recent=recent,
            not_measured=missing_package_notes(self._study.settings),
        )

    def patients(self, request: Request) -> Response:
        """List every patient."""
        reviews = self._study.reviews()
        waiting = Counter(p for entry in self._study.queue(reviews) for p in entry.item.patients)
        return self._pages.show(
            request,
            "patients.html.jinja",
            "Patients",
            patients=self._study.kept("patients", lambda: self._study.warehouse.query(_PATIENTS).to_pylist()),
            waiting=waiting,
            assignees=reviews.assignees(),
        )

    def patient(self, request: Request) -> Response:
        """Show everything about one patient over time; researchers see numbers only."""
        patient_id = request.path_params["patient_id"]
        if patient_id not in self._study.known().patients:
            return PlainTextResponse("There is no such patient.\n", 404)
        session = session_of(request)
        self._audit.record(session.name, Action.PATIENT_VIEWED, patient_id, patient=patient_id)
        reviews = self._study.reviews()
        shown = self._study.kept(("patient", patient_id), lambda: self._over_time(patient_id))
        own = reviews.of_patient(patient_id)
        return self._pages.show(
            request,
            "patient.html.jinja",
            f"Patient {patient_id}",
            **shown,
            patient_id=patient_id,
            scores=[(name, name.replace("_", " ")) for name in terms.SCORES],
            decisions={row.video_id: reviews.of_video(row.video_id) for row in own if row.video_id},
            reviews=sorted(own, key=lambda row: (row.reviewed_at, row.line), reverse=True),
            decision_words=DECISION_WORDS,
            contacted=reviews.contacted().get(patient_id),
            assignee=reviews.assignees().get(patient_id),
            entries=[entry for entry in self._study.queue(reviews) if _about(entry, patient_id)],
            subject=subject,
            trouble=reviews.trouble,
        )

    def audit_log(self, request: Request) -> Response:
        """Show the newest lines of the audit log."""
        return self._pages.show(
            request, "audit.html.jinja", "Audit log", lines=self._audit.newest(_LINES), most=_LINES
        )

    def account_list(self, request: Request) -> Response:
        """List the accounts."""
        accounts = sorted(self._accounts.all().values(), key=lambda account: account.name)
        return self._pages.show(request, "accounts.html.jinja", "Accounts", accounts=accounts)

    def _news(self, since: datetime) -> dict[str, int]:
        with self._study.warehouse.read() as connection:
            found: dict[str, int] = (
                connection.execute(_NEWS, {"since": since}).to_arrow_table().to_pylist()[0]
            )
        return found

    def _over_time(self, patient_id: str) -> dict[str, Any]:
        """Return what a patient's page shows of the warehouse: facts, charts, and submissions."""
        with self._study.warehouse.read() as connection:
            tables = {
                name: connection.execute(
                    f"select * from {name} where patient_id = ?", [patient_id]
                ).to_arrow_table().to_pandas()
                for name in ("patients", "bpi_scores", "videos", "video_quality")
            }  # fmt: skip
            behavior = read_newest(connection, patient_id)
            comparisons = read_comparisons(connection, patient_id)
            readings = read_readings(connection, patient_id)
            check_ins = connection.execute(_CHECK_INS, {"patient": patient_id}).to_arrow_table().to_pylist()
            measured = {
                name: connection.execute(
                    f"from ({one_per_video(name)}) where patient_id = ?", [patient_id]
                ).to_arrow_table().to_pandas()
                for name in SHOWN
            }  # fmt: skip
        found = scores_and_quality(
            PatientReportInputs(
                patient_id=patient_id,
                measured=measured,
                behavior=behavior,
                comparisons=comparisons,
                quality_settings=self._study.settings.quality,
                **tables,
            )
        )
        drawn = [
            (f"{title} ({unit})", svg) for group in found["measures"] for title, unit, svg in group.plots
        ]
        faces = [found["faces"]] if found["faces"] else []
        plots = [*found["interference"], *found["quality_plots"], *faces, *drawn]
        return {
            "summary": found["summary"],
            "pain_now": for_strict_page(found["pain_now"]) if found["pain_now"] else None,
            "plots": [(name, for_strict_page(svg)) for name, svg in plots],
            "curves": [replace(video, svg=for_strict_page(video.svg)) for video in found["curves"]],
            "check_ins": check_ins,
            "readings": readings,
        }

    def _recent(self) -> dict[str, list[AuditLine]]:
        return {"Sign-ins": self._audit.newest(5, _SIGN_INS), "Exports": self._audit.newest(5, _EXPORTS)}


DECISION_WORDS: Final[dict[Decision, str]] = {
    Decision.CONFIRM: "flag accepted",
    Decision.REJECT: "flag rejected",
    Decision.EXCLUDE: "video excluded",
    Decision.INCLUDE: "video included",
    Decision.CLEAR: "decision taken back",
    Decision.CONTACTED: "patient contacted",
    Decision.ASSIGN: "assigned",
}
"""Decisions in a reader's words."""


def _about(entry: Entry, patient_id: str) -> bool:
    return patient_id in entry.item.patients
