"""What was found in a study folder: patients, submissions, videos, and what was wrong with them.

The plain records that the study folder's readers fill, and the log of problems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from iss_assets.intake.check_in_time import CheckInTime
from iss_assets.protocol import terms


class StudyFolderError(Exception):
    """The study folder cannot be read at all; the message says what to do next."""


@dataclass(frozen=True)
class Problem:
    """One problem in the study folder.

    Attributes
    ----------
    file : str
        File or folder relative to the study folder, with ``/`` between its parts.
    line : int
        Line in the file, counted from 1; 0 where there is none.
    column_name : str
        Column with the problem, by our name; empty for the whole row or file.
    patient_id, submission_id : str or None
        Set if a valid id is known.
    code : str
        Kind of problem, a fixed word (``docs/study_folder.md`` lists them).
    reason : str
        What is wrong and what to do. Never quotes a cell, which could contain a name.
    """

    file: str
    line: int
    column_name: str
    patient_id: str | None
    submission_id: str | None
    code: str
    reason: str


@dataclass(frozen=True)
class PatientRow:
    """One accepted row of ``enrollment.csv``; the cohort is the stated one, even where other columns contradict it."""

    patient_id: str
    cohort: str
    sex: str
    skin_type: str
    pain_target: int
    enrolled_on: date | None
    utc_offset_minutes: int | None
    line: int = field(compare=False)
    age_group: str | None = None

    @property
    def pain_level(self) -> str:
        """Level of the pain target."""
        return terms.pain_level(self.pain_target)

    @property
    def skin_group(self) -> str:
        """``light`` or ``dark``."""
        return terms.skin_group(self.skin_type)


@dataclass(frozen=True)
class SubmissionRow:
    """One accepted row of ``surveys.csv``; an answer that is missing or was rejected is None."""

    submission_id: str
    patient_id: str
    time: CheckInTime
    setting: str | None
    pain_now: int | None
    chronic_pain: bool | None
    general_activity: int | None
    mood: int | None
    walking_ability: int | None
    normal_work: int | None
    relationships: int | None
    sleep: int | None
    enjoyment_of_life: int | None
    line: int = field(compare=False)
    prompt_id: str | None = None
    """The text that Question 10 had the patient read aloud, if the survey says which."""

    @property
    def scores(self) -> dict[str, int | bool | None]:
        """The nine answers by name, in the order of the questionnaire."""
        return {name: getattr(self, name) for name in terms.SCORES}


@dataclass(frozen=True)
class VideoFile:
    """One video of the study folder; the file has not been opened.

    Attributes
    ----------
    patient_id, submission_id : str
        From the names of the folder and the file.
    path : Path
        Path of the file.
    name : str
        The same, relative to the study folder, with ``/`` between its parts.
    size : int
        Bytes.
    mtime_ns, ctime_ns : int
        Time of the last change of the content, and of the content or the directory entry. A copy that keeps the
        original's modification time still has a fresh ``ctime_ns``.
    prompt : VideoFile or None
        Of a narrative: the Question 10 reading submitted with it.
    """

    patient_id: str
    submission_id: str
    path: Path
    name: str
    size: int
    mtime_ns: int
    ctime_ns: int
    prompt: VideoFile | None = None


@dataclass(frozen=True)
class ThermalFile:
    """One thermal picture of the study folder; the file has not been opened. Attributes as in `VideoFile`."""

    patient_id: str
    submission_id: str
    path: Path
    name: str
    size: int
    mtime_ns: int
    ctime_ns: int


class ProblemLog:
    """Problems in the order found, one per file, line, code and column."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, int, str, str], Problem] = {}

    def add(
        self,
        code: str,
        reason: str,
        *,
        file: str,
        line: int = 0,
        column: str = "",
        patient_id: str | None = None,
        submission_id: str | None = None,
    ) -> None:
        """Add a problem; of several with the same key the first is kept."""
        problem = Problem(file, line, column, patient_id, submission_id, code, reason)
        self._problems.setdefault((file, line, code, column), problem)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems.values())

    def sorted(self) -> tuple[Problem, ...]:
        """Return the problems sorted by file, line and column."""
        return tuple(sorted(self, key=lambda p: (p.file, p.line, p.column_name, p.code)))
