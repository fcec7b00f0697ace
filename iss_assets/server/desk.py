"""The review desk: one queue, one page a video, and decisions that go into ``reviews.csv``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final
from urllib.parse import urlencode

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.protocol.flags import CAUSE_OF, FLAGS, causes_of, roots_of
from iss_assets.protocol.reviews import LONGEST_TEXT
from iss_assets.reports.quality_text import HEADINGS, subject
from iss_assets.reports.readings import ReadingInWords, read_readings
from iss_assets.server.accounts import Accounts, Role
from iss_assets.server.decisions import (
    DecisionError,
    decision_from,
    last_day_of_contact,
    record_decision,
)
from iss_assets.server.pages import Pages
from iss_assets.server.review_queue import (
    NOBODY,
    Filters,
    neighbors,
    open_flags,
    order_of_videos,
)
from iss_assets.server.routing import GuardedRoute, session_of
from iss_assets.server.study_data import StudyData
from iss_assets.server.timeline import meshes_of, speech_of, timeline_of

_LONGEST_BODY: Final = 16_384
_LISTENING: Final = 2
"""Requests for speech that are worked on at a time: each keeps a processor busy, and pages must not wait."""
_AGES: Final = ((0, "any age"), (1, "1 day or older"), (3, "3 days or older"), (7, "a week or older"), (28, "4 weeks or older"))  # fmt: skip

_VIDEO: Final = """
select
  v.video_id, v.patient_id, v.status, v.problem, v.duration_s, q.usable, q.unusable_reason,
  s.submitted_at, s.pain_now
from videos as v
left join video_quality as q using (video_id)
left join bpi_scores as s on s.submission_id = v.video_id
where v.video_id = ?
"""


class Desk:
    """The routes of the desk.

    Parameters
    ----------
    study : StudyData
        Warehouse and reviews.
    audit : AuditLog
        Every decision is recorded, ids only.
    pages : Pages
        Fills the templates.
    accounts : Accounts
        Whom items can be assigned to.
    """

    def __init__(self, study: StudyData, audit: AuditLog, pages: Pages, accounts: Accounts) -> None:
        self._study, self._audit, self._pages, self._accounts = study, audit, pages, accounts
        self._settings, self._warehouse = study.settings, study.warehouse
        self._listening = anyio.CapacityLimiter(_LISTENING)

    def routes(self) -> list[GuardedRoute]:
        """Return the routes of this part."""
        role = Role.COORDINATOR
        return [
            GuardedRoute("/review", self.queue, role=role),
            GuardedRoute("/review/{video_id}", self.video, role=role),
            GuardedRoute("/review/{video_id}/timeline", self.timeline, role=role),
            GuardedRoute("/review/{video_id}/speech", self.speech, role=role),
            GuardedRoute("/review/{video_id}/meshes", self.meshes, role=role),
            GuardedRoute("/decisions", self.decide, role=role, methods=("POST",)),
        ]

    def queue(self, request: Request) -> Response:
        """Show what needs a person, the most costly first."""
        filters = Filters.of(request.query_params)
        reviews = self._study.reviews()
        entries = self._study.queue(reviews)
        shown = [entry for entry in entries if filters.passes(entry)]
        order = order_of_videos(shown)
        return self._pages.show(
            request,
            "review.html.jinja",
            "Review",
            levels=[
                (HEADINGS[level], level.name.lower(), list(group))
                for level, group in groupby(shown, key=lambda entry: entry.item.cost.level)
            ],
            subject=subject,
            total=len(entries),
            shown=len(shown),
            videos=sum(is_open for _, is_open in order),
            first=next((video for video, is_open in order if is_open), None),
            filters=filters,
            query=_query(filters),
            choices={
                "patients": sorted({p for entry in entries for p in entry.item.patients}),
                "flags": [f for f in FLAGS if any(f in v.flags for e in entries for v in e.videos)],
                "ages": _AGES,
                "assignees": sorted({entry.assignee for entry in entries if entry.assignee}),
                "nobody": NOBODY,
            },
            reviews=reviews,
        )

    def video(self, request: Request) -> Response:
        """Show one video with its flags, and where it stands in the queue."""
        found = self._video(request.path_params["video_id"])
        if found is None:
            return PlainTextResponse("There is no such video.\n", 404)
        filters = Filters.of(request.query_params)
        reviews = self._study.reviews()
        entries = self._study.queue(reviews)
        order = order_of_videos([entry for entry in entries if filters.passes(entry)])
        video_id, patient_id = found["video_id"], found["patient_id"]
        before, after = neighbors(order, video_id)
        flags = list(self._study.known().flags.get(video_id, ()))
        waiting = open_flags(flags, video_id, reviews)
        decided = reviews.of_video(video_id)
        counted = [flag for flag in flags if flag not in decided.rejected]
        roots = {flag for group in causes_of(counted).values() for flag in group}
        return self._pages.show(
            request,
            "review_video.html.jinja",
            f"Video {video_id}",
            video=found,
            reading=self._readings(patient_id).get(video_id),
            flags=[
                {
                    "name": flag,
                    "says": FLAGS.get(flag, flag),
                    "advice": CAUSE_OF[flag].advice.format(patient=patient_id) if flag in CAUSE_OF else "",
                    "open": flag in waiting,
                    "decision": decided.flags.get(flag),
                    "by": reviews.last(video_id, flag),
                    "explained_by": []
                    if flag in roots or flag in decided.rejected
                    else sorted(roots_of(flag, counted)),
                }
                for flag in sorted(flags, key=lambda f: (f not in roots, list(FLAGS).index(f)))
            ],
            decided=decided,
            use_by=reviews.last(video_id),
            before=before,
            after=after,
            left=sum(is_open for _, is_open in order),
            query=_query(filters),
            assignee=reviews.assignees().get(patient_id),
            contacts=[row for row in reviews.of_patient(patient_id) if row.contacted_on],
            names=sorted({*self._accounts.all(), session_of(request).name}),
            last_day=last_day_of_contact(datetime.now(UTC)),
            longest=LONGEST_TEXT,
            reviews=reviews,
        )

    def timeline(self, request: Request) -> Response:
        """Return what was measured when."""
        found = self._video(request.path_params["video_id"])
        if found is None:
            return PlainTextResponse("There is no such video.\n", 404)
        video_id = found["video_id"]
        return self._kept_json(
            ("timeline", video_id), lambda: timeline_of(self._warehouse, self._settings, video_id)
        )

    async def speech(self, request: Request) -> Response:
        """Return when somebody speaks; looking for it takes a second, so that few may do so at a time."""
        return await anyio.to_thread.run_sync(
            self._speech, request.path_params["video_id"], limiter=self._listening
        )

    def _speech(self, video_id: str) -> Response:
        if self._video(video_id) is None:
            return PlainTextResponse("There is no such video.\n", 404)
        return self._kept_json(("speech", video_id), lambda: speech_of(self._warehouse, video_id))

    def _kept_json(self, key: tuple[str, str], make: Callable[[], Any]) -> Response:
        body = self._study.kept(key, lambda: JSONResponse(make()).body)
        return Response(body, media_type="application/json")

    def meshes(self, request: Request) -> Response:
        """Return the face meshes of some seconds. A mesh is a face, so this is a view like the video itself."""
        try:
            begin_s = float(request.query_params.get("from", "0"))
        except ValueError:
            begin_s = math.nan
        if not 0 <= begin_s <= self._settings.video.max_seconds:
            return PlainTextResponse("There is no such second in the video.\n", 400)
        found = self._video(request.path_params["video_id"])
        if found is None:
            return PlainTextResponse("There is no such video.\n", 404)
        self._audit.record(
            session_of(request).name, Action.MEDIA_VIEWED, found["video_id"],
            patient=found["patient_id"], begin_s=round(begin_s, 1), what="meshes",
        )  # fmt: skip
        return Response(
            meshes_of(self._warehouse, self._settings, found["video_id"], begin_s),
            media_type="application/octet-stream",
        )

    async def decide(self, request: Request) -> Response:
        """Append a decision to ``reviews.csv``; it counts at once here, and everywhere after the patient's next run."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LONGEST_BODY:
                return _refusal("The request is too long.", 413)
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return _refusal("Decisions are JSON.", 415)
        return await run_in_threadpool(self._decide, session_of(request).name, body)

    def _decide(self, reviewer: str, body: bytes) -> Response:
        known = self._study.known()
        try:
            review = decision_from(_json(body), reviewer, known.patients, known.owners, datetime.now(UTC))
        except DecisionError as error:
            return _refusal(str(error), 422)
        try:
            about = {"flag": review.flag} if review.flag else {}
            self._audit.record(
                reviewer, Action.REVIEWED, review.video_id or review.patient_id,
                patient=review.patient_id, decision=str(review.decision), **about,
            )  # fmt: skip
            record_decision(self._settings, review)
        except DecisionError as error:
            return _refusal(str(error), 409)
        return JSONResponse({"recorded": True})

    def _video(self, video_id: str) -> dict[str, Any] | None:
        patient_id = self._study.known().owners.get(video_id)
        if patient_id is None or not self._study.may_be_shown(patient_id):
            return None
        return self._study.kept(
            ("video", video_id), lambda: self._warehouse.query(_VIDEO, [video_id]).to_pylist()[0]
        )

    def _readings(self, patient_id: str) -> dict[str, ReadingInWords]:
        def read() -> dict[str, ReadingInWords]:
            with self._warehouse.read() as connection:
                return read_readings(connection, patient_id)

        return self._study.kept(("readings", patient_id), read)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise DecisionError("The request is not JSON.") from None


def _refusal(sentence: str, status: int) -> Response:
    return JSONResponse({"problem": sentence}, status)


def _query(filters: Filters) -> str:
    query = urlencode(filters.query())
    return f"?{query}" if query else ""
