"""The study folder (``docs/study_folder.md``): everything that was submitted, and everything wrong with it.

Reads the folder as a whole and converts it to rows of the warehouse's tables. The folder is never trusted: whatever
cannot be used is reported with file and line, the rest is used, and nothing is dropped without a row that says so. A
folder that cannot be read is an error, never "no patients".
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from iss_assets.intake.consents import ConsentRow, read_consents
from iss_assets.intake.folder_tables import ENROLLMENT, SURVEYS, read_enrollment, read_surveys
from iss_assets.intake.folder_videos import VIDEOS, read_media
from iss_assets.intake.prompts import PromptRow, compare_with_submissions, read_prompts
from iss_assets.intake.records import (
    PatientRow,
    Problem,
    ProblemLog,
    StudyFolderError,
    SubmissionRow,
    ThermalFile,
    VideoFile,
)
from iss_assets.intake.reviews import ReviewRow, read_reviews
from iss_assets.intake.withdrawn import Withdrawn
from iss_assets.protocol.consent import ConsentState, Scope
from iss_assets.protocol.recordings import Recording
from iss_assets.settings import ReadingSettings

__all__ = [
    "ENROLLMENT",
    "SURVEYS",
    "VIDEOS",
    "PatientRow",
    "Problem",
    "StudyFolder",
    "StudyFolderError",
    "StudySignature",
    "SubmissionRow",
    "ThermalFile",
    "VideoFile",
    "consent_rows",
    "patient_rows",
    "problem_rows",
    "prompt_rows",
    "read_study",
    "rejected_rows",
    "review_rows",
    "score_rows",
    "signature_of",
    "study_signature",
]


@dataclass(frozen=True)
class StudyFolder:
    """What a study folder holds.

    Attributes
    ----------
    root : Path
        The folder.
    patients, submissions, videos : tuple
        What was accepted, by id.
    rejected : tuple of Problem
        Rows, single cells (``column_name`` says which) and files that were not used.
    problems : tuple of Problem
        Problems reported although nothing was left out.
    reviews : tuple of ReviewRow
        What people decided about flags, videos, and patients, the earliest first.
    consents : tuple of ConsentRow
        The row of ``consent.csv`` that counts for each patient and scope, by patient and scope.
    prompts : tuple of PromptRow
        The texts that Question 10 has read aloud, by id.
    thermals : tuple of ThermalFile
        The thermal pictures, by patient and submission.
    """

    root: Path
    patients: tuple[PatientRow, ...]
    submissions: tuple[SubmissionRow, ...]
    videos: tuple[VideoFile, ...]
    rejected: tuple[Problem, ...]
    problems: tuple[Problem, ...]
    reviews: tuple[ReviewRow, ...] = ()
    consents: tuple[ConsentRow, ...] = ()
    prompts: tuple[PromptRow, ...] = ()
    thermals: tuple[ThermalFile, ...] = ()

    @cached_property
    def _patient_by_id(self) -> dict[str, PatientRow]:
        return {patient.patient_id: patient for patient in self.patients}

    @cached_property
    def _submissions_of(self) -> dict[str, tuple[SubmissionRow, ...]]:
        return _grouped(self.submissions)

    @cached_property
    def _videos_of(self) -> dict[str, tuple[VideoFile, ...]]:
        return _grouped(self.videos)

    @cached_property
    def _thermals_of(self) -> dict[str, tuple[ThermalFile, ...]]:
        return _grouped(self.thermals)

    @cached_property
    def _reviews_of(self) -> dict[str, tuple[ReviewRow, ...]]:
        return _grouped(self.reviews)

    @cached_property
    def _consents_of(self) -> dict[str, tuple[ConsentRow, ...]]:
        return _grouped(self.consents)

    @cached_property
    def _rejected_of(self) -> dict[str, tuple[Problem, ...]]:
        return _grouped(self.rejected)

    @cached_property
    def _problems_of(self) -> dict[str, tuple[Problem, ...]]:
        return _grouped(self.problems)

    @property
    def patient_ids(self) -> tuple[str, ...]:
        """Ids of the accepted patients, sorted."""
        return tuple(self._patient_by_id)

    def patient(self, patient_id: str) -> PatientRow:
        """Return a patient.

        Raises
        ------
        KeyError
            If no accepted patient has this id.
        """
        return self._patient_by_id[patient_id]

    def submissions_of(self, patient_id: str) -> tuple[SubmissionRow, ...]:
        """Return a patient's accepted survey rows, sorted by submission id."""
        return self._submissions_of.get(patient_id, ())

    def videos_of(self, patient_id: str, recording: Recording = Recording.NARRATIVE) -> tuple[VideoFile, ...]:
        """Return a patient's videos, sorted by submission id: the narratives, or the readings submitted with them."""
        narratives = self._videos_of.get(patient_id, ())
        if recording is Recording.NARRATIVE:
            return narratives
        return tuple(video.prompt for video in narratives if video.prompt is not None)

    def thermals_of(self, patient_id: str) -> tuple[ThermalFile, ...]:
        """Return a patient's thermal pictures, sorted by submission id."""
        return self._thermals_of.get(patient_id, ())

    def reviews_of(self, patient_id: str) -> tuple[ReviewRow, ...]:
        """Return the decisions about a patient, the earliest first."""
        return self._reviews_of.get(patient_id, ())

    def consents_of(self, patient_id: str) -> tuple[ConsentRow, ...]:
        """Return what counts of a patient's consent, one row a scope; empty if nothing was recorded."""
        return self._consents_of.get(patient_id, ())

    def part_of(self, patient_id: str) -> StudyFolder:
        """Return what the folder holds of one patient: all that a run of that patient needs to know of it.

        Raises
        ------
        KeyError
            If no accepted patient has this id.
        """
        return StudyFolder(
            root=self.root,
            patients=(self.patient(patient_id),),
            submissions=self.submissions_of(patient_id),
            videos=self.videos_of(patient_id),
            rejected=self._rejected_of.get(patient_id, ()),
            problems=self._problems_of.get(patient_id, ()),
            reviews=self.reviews_of(patient_id),
            consents=self.consents_of(patient_id),
            prompts=self.prompts,
            thermals=self.thermals_of(patient_id),
        )

    def expected(self, patient_id: str) -> tuple[str, ...]:
        """Return the ids of the videos that the warehouse should hold for a patient: no more, no fewer."""
        return tuple(video.submission_id for video in self.videos_of(patient_id))


@dataclass(frozen=True)
class StudySignature:
    """What a sensor compares to detect a change.

    Attributes
    ----------
    patients : dict
        Patient id to a hash of the patient's rows, problems, and names, sizes and times of change of videos and pictures.
    unsettled : dict
        Patient id to the names of videos that changed within the last `settle_seconds` and may still be copied in.
    study : str
        Hash of all patients and of every problem in the folder.
    """

    patients: dict[str, str]
    unsettled: dict[str, tuple[str, ...]]
    study: str


def read_study(
    root: Path | str,
    settings: ReadingSettings | None = None,
    *,
    now: datetime | None = None,
    withdrawn: Withdrawn | None = None,
) -> StudyFolder:
    """Read a study folder.

    Parameters
    ----------
    root : Path or str
        The folder with ``enrollment.csv``, ``surveys.csv`` and ``videos/``.
    settings : ReadingSettings, optional
        Column and value maps; by default the names in ``docs/study_folder.md``.
    now : datetime, optional
        Aware; later times count as in the future. The current time by default.
    withdrawn : Withdrawn, optional
        The register of withdrawals (`privacy.register.open_study` reads it); what is in it is refused.

    Raises
    ------
    StudyFolderError
        If the folder, one of its csv files or one of its folders cannot be read, or if columns are missing. The
        message says what to do.
    """
    root = Path(root)
    settings = settings or ReadingSettings()
    now = now or datetime.now(UTC)
    withdrawn = withdrawn or Withdrawn()
    _check_root(root)
    rejected, problems = ProblemLog(), ProblemLog()
    patients = read_enrollment(root, settings, now, rejected, problems, withdrawn)
    submissions = read_surveys(root, settings, now, patients, rejected, problems, withdrawn)
    videos, thermals = read_media(root, patients, submissions, rejected, problems, withdrawn)
    owners = {v.submission_id: v.patient_id for v in videos}
    reviews = read_reviews(root, now, patients, owners, rejected, problems, withdrawn)
    consents = read_consents(root, settings, now, patients, rejected, problems, withdrawn)
    prompts = read_prompts(root, rejected, problems)
    compare_with_submissions(prompts, submissions, videos, SURVEYS, problems)
    active = {s.patient_id for s in submissions.values()} | {v.patient_id for v in videos}
    no_contact = {
        c.patient_id for c in consents if c.scope is Scope.CONTACT and c.state is not ConsentState.GIVEN
    }
    for patient in patients.values():
        if patient.patient_id not in active:
            advice = (
                "nothing to do: they do not want to be contacted"
                if patient.patient_id in no_contact
                else "ask whether they take part"
            )
            problems.add(
                "no_submissions",
                f"The patient has neither an accepted survey nor a usable video; {advice}.",
                file=ENROLLMENT,
                line=patient.line,
                patient_id=patient.patient_id,
            )
    return StudyFolder(
        root=root,
        patients=tuple(sorted(patients.values(), key=lambda p: p.patient_id)),
        submissions=tuple(sorted(submissions.values(), key=lambda s: s.submission_id)),
        videos=videos,
        rejected=rejected.sorted(),
        problems=problems.sorted(),
        reviews=reviews,
        consents=consents,
        prompts=prompts,
        thermals=thermals,
    )


def _check_root(root: Path) -> None:
    advice = "name the right folder with --study or ISS_STUDY, or make one with 'iss sample-study DIR'"
    try:
        if not root.is_dir():
            kind = "is not a folder" if root.exists() else "does not exist"
            raise StudyFolderError(f"the study folder {root.name!r} {kind}; {advice}")
        with os.scandir(root) as entries:
            next(entries, None)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a path"
        raise StudyFolderError(f"the study folder {root.name!r} cannot be read ({why}); {advice}") from None


def study_signature(
    root: Path | str, settings: ReadingSettings | None = None, *, now: datetime | None = None
) -> StudySignature:
    """Read a study folder and return its signature.

    Raises
    ------
    StudyFolderError
        As `read_study`.
    """
    return signature_of(read_study(root, settings, now=now), settings, now=now)


def signature_of(
    study: StudyFolder, settings: ReadingSettings | None = None, *, now: datetime | None = None
) -> StudySignature:
    """Return what tells, per patient, whether anything changed since the folder was last read.

    Line numbers do not count, so a new row above a patient's changes nothing for that patient.
    """
    settings = settings or ReadingSettings()
    now_ns = time.time_ns() if now is None else int(now.timestamp() * 1e9)
    problems: dict[str | None, list[tuple[str, ...]]] = {}
    for kind, found in (("rejected", study.rejected), ("problem", study.problems)):
        for p in found:
            problems.setdefault(p.patient_id, []).append(
                (kind, p.file, p.column_name, p.submission_id or "", p.code)
            )
    patients, unsettled = {}, {}
    prompts = prompt_rows(study)
    for patient_id in study.patient_ids:
        videos, thermals = study.videos_of(patient_id), study.thermals_of(patient_id)
        both = (file for v in videos for file in (v, v.prompt) if file is not None)
        files: list[VideoFile | ThermalFile] = [*both, *thermals]
        young = tuple(file.name for file in files if _is_young(file, now_ns, settings.settle_seconds))
        if young:
            unsettled[patient_id] = young
        patients[patient_id] = _digest(
            [
                _without_line(study.patient(patient_id)),
                [_without_line(s) for s in study.submissions_of(patient_id)],
                [
                    (v.name, v.size, v.mtime_ns, v.prompt and v.prompt.size, v.prompt and v.prompt.mtime_ns)
                    for v in videos
                ],
                sorted(problems.get(patient_id, [])),
                *[_without_line(review) for review in study.reviews_of(patient_id)],
                *[_without_line(consent) for consent in study.consents_of(patient_id)],
                *[(t.name, t.size, t.mtime_ns) for t in thermals],
                *(prompts if any(v.prompt for v in videos) else []),
            ]
        )
    everything = [study.rejected, study.problems]
    return StudySignature(
        patients, unsettled, _digest([patients, [[asdict(p) for p in part] for part in everything]])
    )


def _is_young(file: VideoFile | ThermalFile, now_ns: int, settle_seconds: float) -> bool:
    # the absolute value: a time in the future is a wrong clock, and must not make the file wait for years
    changed = max(file.mtime_ns, file.ctime_ns) if os.name == "posix" else file.mtime_ns
    return abs(now_ns - changed) < settle_seconds * 1e9


def _without_line(row: PatientRow | SubmissionRow | ReviewRow | ConsentRow) -> dict[str, Any]:
    fields = asdict(row)
    del fields["line"]
    if isinstance(row, PatientRow) and row.age_group is None:
        # as before there were age groups, so that no patient is read again for having none
        del fields["age_group"]
    if isinstance(row, SubmissionRow) and row.prompt_id is None:
        # as before surveys said which text was read
        del fields["prompt_id"]
    return fields


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _grouped(rows: Iterable[Any]) -> dict[str, tuple[Any, ...]]:
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row.patient_id, []).append(row)
    return {patient_id: tuple(group) for patient_id, group in groups.items()}


def patient_rows(study: StudyFolder, patient_id: str | None = None) -> list[dict[str, Any]]:
    """Return rows of the table ``patients``, for all patients or one."""
    wanted = study.patients if patient_id is None else (study.patient(patient_id),)
    return [_without_line(p) | {"skin_group": p.skin_group, "pain_level": p.pain_level} for p in wanted]


def score_rows(study: StudyFolder, patient_id: str | None = None) -> list[dict[str, Any]]:
    """Return rows of the table ``bpi_scores``, for all patients or one, with timeframe and number of missing answers."""
    wanted = study.submissions if patient_id is None else study.submissions_of(patient_id)
    return [
        {"submission_id": s.submission_id, "patient_id": s.patient_id, "setting": s.setting}
        | s.time.row()
        | s.scores
        | {"missing_scores": sum(answer is None for answer in s.scores.values())}
        for s in wanted
    ]


def review_rows(study: StudyFolder, patient_id: str | None = None) -> list[dict[str, Any]]:
    """Return rows of the table ``reviews``, for all patients or one."""
    return [asdict(r) for r in (study.reviews if patient_id is None else study.reviews_of(patient_id))]


def consent_rows(study: StudyFolder, patient_id: str | None = None) -> list[dict[str, Any]]:
    """Return rows of the table ``consent``, for all patients or one."""
    wanted = study.consents if patient_id is None else study.consents_of(patient_id)
    return [_without_line(c) for c in wanted]


def prompt_rows(study: StudyFolder) -> list[dict[str, Any]]:
    """Return rows of the table ``prompts``."""
    return [{"prompt_id": p.prompt_id, "text": p.text} for p in study.prompts]


def rejected_rows(study: StudyFolder) -> list[dict[str, Any]]:
    """Return rows of the table ``rejected_rows``."""
    return [asdict(problem) for problem in study.rejected]


def problem_rows(study: StudyFolder) -> list[dict[str, Any]]:
    """Return rows of the table ``study_problems``."""
    return [asdict(problem) for problem in study.problems]
