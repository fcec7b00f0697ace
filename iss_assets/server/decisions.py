"""What people have decided so far, and one more decision for ``reviews.csv``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

from iss_assets.intake import cells
from iss_assets.intake.cells import CellError
from iss_assets.intake.records import Problem, StudyFolderError
from iss_assets.intake.reviews import ReviewRow, VideoDecisions, append_review, video_decisions
from iss_assets.protocol.flags import FLAGS
from iss_assets.protocol.reviews import ABOUT_FLAG, ABOUT_VIDEO, LONGEST_TEXT, Decision
from iss_assets.settings import Settings

LONGEST_NAME: Final = 64
"""Characters of an assignee."""


class DecisionError(ValueError):
    """A decision that cannot be recorded; the message is for the reviewer."""


@dataclass(frozen=True)
class Reviews:
    """Every decision, and what counts.

    Attributes
    ----------
    rows : tuple of ReviewRow
        The earliest first.
    unusable : tuple of Problem
        Rows of the file that cannot be used.
    trouble : str
        Why the file cannot be read; empty if it can.
    """

    rows: tuple[ReviewRow, ...] = ()
    unusable: tuple[Problem, ...] = ()
    trouble: str = ""
    videos: Mapping[str, VideoDecisions] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "videos", video_decisions(self.rows))

    def of_video(self, video_id: str) -> VideoDecisions:
        """Return what counts for a video."""
        return self.videos.get(video_id, VideoDecisions({}))

    def of_patient(self, patient_id: str) -> tuple[ReviewRow, ...]:
        """Return every decision about a patient and the patient's videos, the earliest first."""
        return tuple(row for row in self.rows if row.patient_id == patient_id)

    def assignees(self) -> dict[str, str]:
        """Return who takes care of which patient's open items."""
        latest = {row.patient_id: row.assignee for row in self.rows if row.decision is Decision.ASSIGN}
        return {patient: name for patient, name in latest.items() if name}

    def contacted(self) -> dict[str, date]:
        """Return the day on which each patient was contacted last."""
        days: dict[str, date] = {}
        for row in self.rows:
            if row.decision is Decision.CONTACTED and row.contacted_on:
                days[row.patient_id] = max(row.contacted_on, days.get(row.patient_id, date.min))
        return days

    def last(self, video_id: str, flag: str | None = None) -> ReviewRow | None:
        """Return who decided last about a flag, or without one about using the video."""
        found = None
        for row in self.rows:
            if row.video_id == video_id and row.flag == flag:
                found = None if row.decision is Decision.CLEAR else row
        return found


def record_decision(settings: Settings, review: ReviewRow) -> None:
    """Append a decision to ``reviews.csv``.

    Raises
    ------
    DecisionError
        If the file cannot be continued.
    """
    try:
        append_review(settings.study, review)
    except StudyFolderError as error:
        text = str(error)
        raise DecisionError(f"Not recorded: {text}.") from None


def decision_from(
    given: Any, reviewer: str, patients: Collection[str], owners: Mapping[str, str], now: datetime
) -> ReviewRow:
    """Turn what a page sent into a row of ``reviews.csv``.

    Parameters
    ----------
    given : object
        The JSON of the request: decision, and as far as it needs them patient_id, video_id, flag, reason,
        contacted_on, assignee.
    reviewer : str
        The account that is signed in.
    patients : collection of str
        Enrolled patients.
    owners : mapping of str to str
        From a video's id to its patient's.
    now : datetime
        Aware.

    Raises
    ------
    DecisionError
        If something is missing, unknown, or too long.
    """
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise DecisionError("The request is not a decision.")
    # a lone surrogate is a string in JSON, and nothing that could be stored
    text = {name: value.encode("utf-8", "replace").decode().strip() for name, value in given.items()}
    if text.get("decision") not in set(Decision):
        raise DecisionError("There is no such decision.")
    decision = Decision(text["decision"])
    patient_id, video_id = text.get("patient_id", ""), text.get("video_id") or None
    if video_id is not None:
        if video_id not in owners or patient_id not in ("", owners[video_id]):
            raise DecisionError("There is no such video.")
        patient_id = owners[video_id]
    elif patient_id not in patients:
        raise DecisionError("There is no such patient.")
    flag, reason = text.get("flag") or None, text.get("reason", "")
    if flag is not None and flag not in FLAGS:
        raise DecisionError("There is no such flag.")
    if decision in ABOUT_FLAG | ABOUT_VIDEO | {Decision.CLEAR} and video_id is None:
        raise DecisionError("The decision needs a video.")
    if decision in ABOUT_FLAG and flag is None:
        raise DecisionError("The decision needs a flag.")
    if decision in ABOUT_VIDEO and not reason:
        raise DecisionError("Give a reason.")
    if len(reason) > LONGEST_TEXT:
        raise DecisionError(f"The reason is longer than {LONGEST_TEXT} characters.")
    assignee = text.get("assignee") or None
    if assignee and (len(assignee) > LONGEST_NAME or not assignee.isprintable()):
        raise DecisionError(f"The name is not one of at most {LONGEST_NAME} printable characters.")
    contacted_on = None
    if decision is Decision.CONTACTED:
        contacted_on = _day(text.get("contacted_on", ""), now)
    return ReviewRow(
        now, reviewer, patient_id, video_id,
        flag if decision in ABOUT_FLAG | {Decision.CLEAR} else None, decision, reason, contacted_on,
        assignee if decision is Decision.ASSIGN else None,
    )  # fmt: skip


def last_day_of_contact(now: datetime) -> date:
    """Return the last day on which somebody may have been contacted: somewhere it is tomorrow already."""
    return (now + timedelta(days=1)).date()


def _day(text: str, now: datetime) -> date:
    try:
        found = cells.day(text)
    except CellError:
        raise DecisionError("Give the day of the contact, such as 2026-01-31.") from None
    if found > last_day_of_contact(now):
        raise DecisionError("The day of the contact is in the future.")
    return found
