"""``reviews.csv``: what people decided about flags and videos. It is input, like a survey; the desk appends to it.

Rows are never changed or removed. Of several decisions about the same flag or video the latest counts, so that a home
that is rebuilt from the study folder has the same decisions.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from iss_assets.intake import cells
from iss_assets.intake.cells import CellError
from iss_assets.intake.csv_reading import CsvRow
from iss_assets.intake.paths import leads_out
from iss_assets.intake.records import ProblemLog, StudyFolderError
from iss_assets.intake.withdrawn import Withdrawn, read_optional_csv
from iss_assets.protocol.flags import FLAGS
from iss_assets.protocol.reviews import ABOUT_FLAG, ABOUT_VIDEO, LONGEST_TEXT, Decision

REVIEWS: Final = "reviews.csv"
REQUIRED: Final = ("reviewed_at", "reviewer", "patient_id", "video_id", "flag", "decision", "reason")
OPTIONAL: Final = ("contacted_on", "assignee")
COLUMNS: Final = (*REQUIRED, *OPTIONAL)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for a formula at the beginning of a cell (OWASP, CSV injection)."""
_AHEAD: Final = timedelta(days=1)
"""A review this far in the future has a wrong clock, and would win over every later one."""


@dataclass(frozen=True)
class ReviewRow:
    """One accepted row of ``reviews.csv``.

    Attributes
    ----------
    reviewed_at : datetime
        Aware.
    reviewer : str
        The account.
    patient_id : str
        Whom it is about.
    video_id, flag : str or None
        What it is about, as far as the decision needs it.
    decision : Decision
        What was decided.
    reason : str
        Why, in the reviewer's words; never shown outside of the desk, the patient page, and the tables.
    contacted_on : date or None
        For `Decision.CONTACTED`.
    assignee : str or None
        For `Decision.ASSIGN`; None takes the assignment back.
    line : int
        Line in the file.
    """

    reviewed_at: datetime
    reviewer: str
    patient_id: str
    video_id: str | None
    flag: str | None
    decision: Decision
    reason: str = ""
    contacted_on: date | None = None
    assignee: str | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class VideoDecisions:
    """What counts for one video.

    Attributes
    ----------
    flags : mapping of str to Decision
        Flags that were confirmed or rejected last.
    use : Decision or None
        `Decision.INCLUDE` or `Decision.EXCLUDE`, whichever came last.
    reason : str
        Of `use`.
    """

    flags: Mapping[str, Decision]
    use: Decision | None = None
    reason: str = ""

    @property
    def rejected(self) -> tuple[str, ...]:
        """Flags that no longer count, sorted."""
        return tuple(sorted(f for f, decision in self.flags.items() if decision is Decision.REJECT))


def video_decisions(reviews: Iterable[ReviewRow]) -> dict[str, VideoDecisions]:
    """Return what counts for each video: of several decisions about the same thing, the latest."""
    flags: dict[str, dict[str, Decision]] = {}
    use: dict[str, tuple[Decision, str]] = {}
    for review in sorted(reviews, key=lambda r: (r.reviewed_at, r.line)):
        if review.video_id is None:
            continue
        own = flags.setdefault(review.video_id, {})
        if review.decision in ABOUT_FLAG and review.flag:
            own[review.flag] = review.decision
        elif review.decision in ABOUT_VIDEO:
            use[review.video_id] = (review.decision, review.reason)
        elif review.decision is Decision.CLEAR and review.flag:
            own.pop(review.flag, None)
        elif review.decision is Decision.CLEAR:
            use.pop(review.video_id, None)
    return {
        video: VideoDecisions(own, *use.get(video, (None, "")))
        for video, own in flags.items()
        if own or video in use
    }


def read_reviews(
    root: Path,
    now: datetime,
    patients: Iterable[str],
    videos: Mapping[str, str],
    rejected: ProblemLog,
    problems: ProblemLog,
    withdrawn: Withdrawn | None = None,
) -> tuple[ReviewRow, ...]:
    """Read ``reviews.csv``; nothing if there is none.

    Parameters
    ----------
    root : Path
        The study folder.
    now : datetime
        Aware; rows from more than a day after it are rejected.
    patients : iterable of str
        Ids of the accepted patients.
    videos : mapping of str to str
        From a video's id to its patient's.
    rejected, problems : ProblemLog
        Collect what cannot be used, and what is odd.
    withdrawn : Withdrawn, optional
        Whose rows are refused.

    Raises
    ------
    StudyFolderError
        If the file is there but cannot be read.
    """
    known, found = set(patients), dict[ReviewRow, int]()
    for row in read_optional_csv(root, REVIEWS, REQUIRED, OPTIONAL, rejected, problems, withdrawn):
        review = _review(row, now, rejected)
        if review is None:
            continue
        where: dict[str, Any] = {"file": REVIEWS, "line": row.line, "submission_id": review.video_id}
        if review.patient_id not in known:
            rejected.add(
                "unknown_patient",
                "No accepted patient has this id; correct it.",
                column="patient_id",
                **where,
            )
            continue
        where["patient_id"] = review.patient_id
        if review.video_id and videos.get(review.video_id, review.patient_id) != review.patient_id:
            rejected.add(
                "wrong_patient",
                "The video belongs to another patient; correct the row.",
                column="video_id",
                **where,
            )
            continue
        if review.video_id and review.video_id not in videos:
            problems.add(
                "unknown_video", "The study folder holds no video of this id. Nothing to do if it was removed on purpose.",
                column="video_id", **where,
            )  # fmt: skip
        if review in found:
            problems.add(
                "repeated_row", f"The same decision is on line {found[review]}; nothing to do.", **where
            )
            continue
        found[review] = row.line
    return tuple(sorted(found, key=lambda r: (r.reviewed_at, r.line)))


def _review(row: CsvRow, now: datetime, rejected: ProblemLog) -> ReviewRow | None:
    """Return the row's review, None if it was rejected."""
    text = {name: _without_apostrophe(cell) for name, cell in row.cells.items()}
    column = "reviewed_at"
    try:
        written = cells.moment(text["reviewed_at"])
        if written.offset_minutes is None:
            raise CellError(
                "bad_time", "A review's time needs its offset from UTC, such as 2026-01-31T09:30:00+00:00."
            )
        at = (written.clock - timedelta(minutes=written.offset_minutes)).replace(tzinfo=UTC)
        if at > now + _AHEAD:
            raise CellError("future_time", "The review is dated in the future; correct the time.")
        column = "reviewer"
        if not text["reviewer"]:
            raise CellError("empty_cell", "reviewer is empty; fill it in.")
        column = "patient_id"
        patient_id = cells.patient_id(text["patient_id"])
        column = "video_id"
        video_id = cells.submission_id(text["video_id"]) if text["video_id"] else None
        column = "decision"
        if text["decision"].lower() not in set(Decision):
            raise CellError("bad_decision", f"A decision is one of {', '.join(Decision)}; correct it.")
        decision = Decision(text["decision"].lower())
        column = "flag"
        flag = text["flag"] or None
        if flag is not None and flag not in FLAGS:
            raise CellError("bad_flag", "There is no such flag; docs/quality.md lists them.")
        if decision in ABOUT_FLAG and (video_id is None or flag is None):
            raise CellError("empty_cell", f"{decision} needs a video and a flag; fill them in.")
        column = "video_id"
        if decision in ABOUT_VIDEO and video_id is None:
            raise CellError("empty_cell", f"{decision} needs a video; fill it in.")
        column = "reason"
        if decision in ABOUT_VIDEO and not text["reason"]:
            raise CellError("empty_cell", f"{decision} needs a reason; fill it in.")
        column = "contacted_on"
        contacted_on = cells.day(text["contacted_on"]) if text["contacted_on"] else None
        if decision is Decision.CONTACTED and contacted_on is None:
            raise CellError("empty_cell", "contacted needs the day; fill in contacted_on.")
    except CellError as error:
        rejected.add(error.code, str(error), file=REVIEWS, line=row.line, column=column)
        return None
    return ReviewRow(
        at, text["reviewer"], patient_id, video_id, flag, decision, text["reason"][:LONGEST_TEXT],
        contacted_on, text["assignee"] or None, row.line,
    )  # fmt: skip


def append_review(root: Path, review: ReviewRow) -> None:
    """Append a decision to ``reviews.csv``; the file is replaced in one step, and two reviewers wait for each other.

    The file keeps its delimiter and the order of its columns; cells that a spreadsheet would take for a formula get an
    apostrophe, which reading takes away again.

    Raises
    ------
    StudyFolderError
        If the file that is there cannot be continued. Nothing was written then.
    """
    path = root / REVIEWS
    if leads_out(root, path):
        raise StudyFolderError(
            f"{REVIEWS} is a link that leads out of the study folder; put the file itself there"
        )
    with reviews_locked(root):
        try:
            content = path.read_bytes() if path.exists() else b""
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise StudyFolderError(f"{REVIEWS} is not UTF-8 any more; save it as 'CSV UTF-8'") from None
        except OSError as error:
            raise StudyFolderError(f"{REVIEWS} cannot be read ({error.strerror})") from None
        line = _line(review, *_layout(text))
        if not text:
            line = ",".join(COLUMNS) + "\r\n" + line
        elif not text.endswith(("\n", "\r")):
            line = "\r\n" + line
        partial = root / f".{REVIEWS}.tmp"
        try:
            with partial.open("wb") as file:
                file.write(content + line.encode())
                file.flush()
                os.fsync(file.fileno())
            if content:
                partial.chmod(path.stat().st_mode & 0o777)
            else:
                partial.chmod(0o600)
            partial.replace(path)
        except OSError as error:
            raise StudyFolderError(f"{REVIEWS} cannot be written ({error.strerror})") from None


def _layout(text: str) -> tuple[list[str], str]:
    """Return the columns of the file, in order, and its delimiter."""
    if not text.strip():
        return list(COLUMNS), ","
    header = text.lstrip().splitlines()[0]
    for delimiter in ",;\t|":
        names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter))]
        if set(REQUIRED) <= set(names):
            return names, delimiter
    raise StudyFolderError(f"{REVIEWS} lacks columns; its first line must name {', '.join(COLUMNS)}")


def _line(review: ReviewRow, columns: list[str], delimiter: str) -> str:
    values = {
        "reviewed_at": review.reviewed_at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "reviewer": _printable(review.reviewer),
        "patient_id": review.patient_id,
        "video_id": review.video_id or "",
        "flag": review.flag or "",
        "decision": str(review.decision),
        "reason": _printable(review.reason)[:LONGEST_TEXT],
        "contacted_on": review.contacted_on.isoformat() if review.contacted_on else "",
        "assignee": _printable(review.assignee or ""),
    }
    lost = [name for name in OPTIONAL if values[name] and name not in columns]
    if lost:
        raise StudyFolderError(f"{REVIEWS} lacks the column {lost[0]}; add it to its first line")
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow([_with_apostrophe(values.get(name, "")) for name in columns])
    return out.getvalue()


def _printable(text: str) -> str:
    """Return the text on one line, without characters that are not shown and could end a row or a file."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _with_apostrophe(cell: str) -> str:
    return f"'{cell}" if cell.startswith((*_FORMULA, "'")) else cell


def _without_apostrophe(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in {*_FORMULA, "'"} else cell


@contextmanager
def reviews_locked(root: Path) -> Iterator[None]:
    """Hold the reviews' lock; it goes with the process that holds it."""
    try:
        handle = os.open(root / f".{REVIEWS}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StudyFolderError(f"the study folder cannot be written to ({error.strerror})") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
