"""Faces and voices for coordinators: a video's preview, streamed. Each view is a line in the audit log."""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.server.accounts import Role
from iss_assets.server.previews import Preview, Previews
from iss_assets.server.routing import GuardedRoute, session_of
from iss_assets.server.sessions import Session
from iss_assets.server.study_data import StudyData

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_KIND: Final = "video/mp4"
_MOST_REMEMBERED: Final = 10_000
"""Views that are not recorded a second time; the oldest are forgotten first, and would be recorded again."""


@dataclass(frozen=True)
class VideoFile:
    """Where a video of the warehouse is in the study folder."""

    video_id: str
    patient_id: str
    path: Path
    sha256: str


def find_video(study: StudyData, video_id: str) -> VideoFile | None:
    """Return a submitted video that lies below the study folder and may be shown, None if there is none of this id."""
    row = study.submitted(video_id)
    if row is None or not row["file"] or not study.may_be_shown(row["patient_id"], row["sha256"]):
        return None
    root = study.settings.study.resolve()
    path = (root / row["file"]).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        return None
    return VideoFile(row["video_id"], row["patient_id"], path, row["sha256"])


class Media:
    """The routes that show faces.

    Parameters
    ----------
    study : StudyData
        Warehouse and register of withdrawals.
    audit : AuditLog
        Every view is recorded before anything is sent.
    previews : Previews
        What makes them.
    """

    def __init__(self, study: StudyData, audit: AuditLog, previews: Previews) -> None:
        self._study, self._audit, self._previews = study, audit, previews
        self._recording = threading.Lock()
        self._recorded: OrderedDict[tuple[int, str, str, float], None] = OrderedDict()
        study.withdrawals.whenever_it_changes(lambda register: previews.forget(register.file))

    def routes(self) -> list[GuardedRoute]:
        """Return the routes of this part."""
        return [GuardedRoute("/media/{video_id}", self.video, role=Role.COORDINATOR)]

    async def video(self, request: Request) -> Response:
        """Stream a preview from second ``from`` on; by byte ranges once it is finished."""
        try:
            begin_s = float(request.query_params.get("from", "0"))
        except ValueError:
            begin_s = math.nan
        if not 0 <= begin_s <= self._study.settings.video.max_seconds:
            return PlainTextResponse("There is no such second in the video.\n", 400)
        found = await run_in_threadpool(find_video, self._study, request.path_params["video_id"])
        preview = await run_in_threadpool(self._preview, found, begin_s) if found else None
        if found is None or preview is None:
            return PlainTextResponse("There is no such video in the study folder.\n", 404)
        await run_in_threadpool(self._record, session_of(request), found, round(begin_s, 1))
        return await answer(preview, request.headers.get("range", ""))

    def _record(self, session: Session, found: VideoFile, begin_s: float) -> None:
        """Record that a session views a preview, once however many ranges of it are asked for."""
        view = (session.number, found.video_id, found.sha256, begin_s)
        with self._recording:
            if view in self._recorded:
                return
            self._audit.record(
                session.name, Action.MEDIA_VIEWED, found.video_id, patient=found.patient_id, begin_s=begin_s
            )
            self._recorded[view] = None
            while len(self._recorded) > _MOST_REMEMBERED:
                self._recorded.popitem(last=False)

    def _preview(self, found: VideoFile, begin_s: float) -> Preview | None:
        """Return a preview; None if the patient withdrew in this moment."""
        preview = self._previews.get(found.path, found.sha256, begin_s)
        if self._study.may_be_shown(found.patient_id, found.sha256):
            return preview
        self._previews.forget(lambda sha256: sha256 == found.sha256)
        return None


async def answer(preview: Preview, wanted: str) -> Response:
    """Return a preview, or the wanted range of one that is finished.

    Parameters
    ----------
    preview : Preview
        It may still be being made: then all of it is streamed as it comes.
    wanted : str
        The request's Range header; empty for everything.
    """
    stream = preview.stream()
    try:
        first_block = await anext(stream)
    except StopAsyncIteration:
        return PlainTextResponse((preview.problem or "The video cannot be played.") + "\n", 422)
    if not preview.done:
        return StreamingResponse(_from(first_block, stream), media_type=_KIND)
    size = preview.size
    span = _span(wanted, size) if wanted else (0, size - 1)
    if span is None:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    first, last = span
    headers = {"Accept-Ranges": "bytes"}
    if wanted:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    body = await run_in_threadpool(preview.read, first, last)
    return Response(body, 206 if wanted else 200, headers, _KIND)


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte of a Range header; None if there are no such bytes (RFC 9110, 14.1.2)."""
    found = _RANGE.fullmatch(wanted.strip())
    if not found or found[0] == "bytes=-":
        return None
    if not found[1]:
        length = int(found[2])
        return (max(0, size - length), size - 1) if length else None
    first, last = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
    return (first, last) if first <= last else None


async def _from(first_block: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first_block
    async for block in rest:
        yield block
