"""The videos and thermal pictures of a study folder: which files there are, whose they are, which cannot be used.

Files are listed, not opened; whether a video can be played is found out later (``media``).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iss_assets.intake import cells
from iss_assets.intake.cells import CellError
from iss_assets.intake.folder_tables import (
    ENROLLMENT,
    SURVEYS,
    explain_unknown_patient,
    numbers_without_zeros,
)
from iss_assets.intake.paths import leads_out, printable
from iss_assets.intake.records import (
    PatientRow,
    ProblemLog,
    StudyFolderError,
    SubmissionRow,
    ThermalFile,
    VideoFile,
)
from iss_assets.intake.withdrawn import CODE, REFUSED, Withdrawn
from iss_assets.protocol import terms

VIDEOS: Final = "videos"
EXTENSIONS: Final = frozenset(
    [
        "mp4",
        "mov",
        "m4v",
        "webm",
        "mkv",
        "avi",
        "mpg",
        "mpeg",
        "3gp",
        "3g2",
        "ts",
        "mts",
        "m2ts",
        "wmv",
        "flv",
        "ogv",
    ]
)
"""File extensions of videos, in upper or lower case."""

THERMAL_EXTENSIONS: Final = frozenset({"jpg", "jpeg"})
"""File extensions of thermal pictures, in upper or lower case."""

IGNORED: Final = frozenset({"thumbs.db", "desktop.ini"})
"""Files that Windows leaves in folders. Names starting with a dot (``.DS_Store``) are ignored as well."""


@dataclass(frozen=True)
class _Found:
    """One usable file: `name` is relative to the study folder and printable."""

    patient_id: str
    submission_id: str
    prompt: bool
    name: str
    path: Path
    stat: os.stat_result
    thermal: bool = False


def read_media(
    root: Path,
    patients: Mapping[str, PatientRow],
    submissions: Mapping[str, SubmissionRow],
    rejected: ProblemLog,
    problems: ProblemLog,
    withdrawn: Withdrawn,
) -> tuple[tuple[VideoFile, ...], tuple[ThermalFile, ...]]:
    """List the narrative videos of accepted patients, with their prompts, and the thermal pictures.

    Parameters
    ----------
    root : Path
        The study folder.
    patients : mapping
        Accepted patients by id.
    submissions : mapping
        Accepted submissions by id.
    rejected, problems : ProblemLog
        Collect files that cannot be used, and mismatches with the surveys.
    withdrawn : Withdrawn
        Whose files are refused.

    Returns
    -------
    videos : tuple of VideoFile
        Sorted by patient and submission id.
    thermals : tuple of ThermalFile
        The same.

    Raises
    ------
    StudyFolderError
        If a folder cannot be listed, or ``videos`` is missing although there are submissions: treating it as empty
        would remove its videos from the study.
    """
    lister = _Lister(root, rejected, problems, withdrawn)
    found: dict[tuple[str, bool], list[_Found]] = {}
    pictures: dict[str, list[_Found]] = {}
    for file in lister.files(patients, expected=bool(submissions)):
        if file.thermal:
            pictures.setdefault(file.submission_id, []).append(file)
        else:
            found.setdefault((file.submission_id, file.prompt), []).append(file)
    kept = {key: _choose(files, submissions, rejected) for key, files in found.items()}
    narratives = {key[0]: file for key, file in kept.items() if file and not key[1]}
    prompts = {key[0]: file for key, file in kept.items() if file and key[1]}
    for submission_id, prompt in prompts.items():
        if submission_id not in narratives or narratives[submission_id].patient_id != prompt.patient_id:
            problems.add(
                "prompt_without_narrative",
                "There is a prompt reading but no narrative video for this submission; ask for it or delete the prompt.",
                file=prompt.name,
                patient_id=prompt.patient_id,
                submission_id=submission_id,
            )
    _compare_with_surveys(narratives, submissions, problems)
    videos = (_video(file, prompts.get(submission_id)) for submission_id, file in narratives.items())
    thermals = (_thermal(files, narratives, submissions, rejected) for files in pictures.values())
    return (
        tuple(sorted(videos, key=lambda v: (v.patient_id, v.submission_id))),
        tuple(sorted((t for t in thermals if t), key=lambda t: (t.patient_id, t.submission_id))),
    )


class _Lister:
    """Walks ``videos/<patient_id>/<submission_id>.<ext>`` and records whatever does not fit."""

    def __init__(self, root: Path, rejected: ProblemLog, problems: ProblemLog, withdrawn: Withdrawn):
        self.root = root
        self.withdrawn = withdrawn
        self.rejected = rejected
        self.problems = problems

    def files(self, patients: Mapping[str, PatientRow], *, expected: bool) -> Iterator[_Found]:
        """Yield every file with a valid name, sorted by name; `expected` says that there should be some."""
        top = self.root / VIDEOS
        if not os.path.lexists(top):
            if expected:
                # an unmounted drive looks like this and must not remove every video from the study
                raise StudyFolderError(
                    f"the folder {VIDEOS} is missing though {SURVEYS} has submissions; create it (empty if "
                    "there are no videos yet), and check that the drive is connected"
                )
            self.problems.add(
                "no_videos_folder",
                f"The folder {VIDEOS} does not exist; create it and put the videos in.",
                file=VIDEOS,
            )
            return
        if leads_out(self.root, top):
            raise StudyFolderError(
                f"{VIDEOS} is a link that leads out of the study folder; put the folder itself there"
            )
        without_zeros = numbers_without_zeros(patients)
        for entry in self._list(top, VIDEOS):
            name = f"{VIDEOS}/{printable(entry.name)}"
            if self.withdrawn.media_of(entry.name):
                # the folder's own name would name the patient
                self.rejected.add(CODE, REFUSED, file=VIDEOS)
                continue
            if not self._is_kind(entry, name, stat.S_ISDIR, "not_in_patient_folder", _NOT_IN_PATIENT_FOLDER):
                continue
            try:
                patient_id = cells.patient_id(entry.name)
            except CellError as error:
                self.rejected.add(error.code, f"The folder's name is not a patient id. {error}", file=name)
                continue
            if patient_id not in patients:
                _, advice = explain_unknown_patient(
                    patient_id,
                    without_zeros,
                    f"the folder's name {name}",
                    "enroll the patient or rename the folder.",
                    self.problems,
                )
                self.rejected.add(
                    "unknown_patient",
                    f"No accepted row of {ENROLLMENT} has this patient id, so nothing in the folder was used; {advice}",
                    file=name,
                    patient_id=patient_id,
                )
                continue
            yield from self._files_of(patient_id, Path(entry.path), name)

    def _files_of(self, patient_id: str, folder: Path, folder_name: str) -> Iterator[_Found]:
        for entry in self._list(folder, folder_name):
            name = f"{folder_name}/{printable(entry.name)}"
            stem, dot, extension = entry.name.rpartition(".")
            if self._is_kind(entry, name, stat.S_ISREG, "not_a_file", _NOT_A_FILE, patient_id):
                thermal = stem.endswith(terms.THERMAL_SUFFIX)
                if thermal and extension.lower() not in THERMAL_EXTENSIONS:
                    self.rejected.add(
                        "not_a_thermal_picture",
                        f"A file whose name ends with {terms.THERMAL_SUFFIX} has to be the thermal camera's own JPEG picture, so "
                        "it was not used; put that there, or rename it if it is a video.",
                        file=name,
                        patient_id=patient_id,
                    )
                    continue
                if not thermal and (not dot or extension.lower() not in EXTENSIONS):
                    self.problems.add(
                        "not_a_video",
                        "The file's extension is not that of a video, so it was not used; move it elsewhere or convert it.",
                        file=name,
                        patient_id=patient_id,
                    )
                    continue
                try:
                    submission_id = cells.submission_id(
                        stem.removesuffix(terms.THERMAL_SUFFIX if thermal else terms.PROMPT_SUFFIX)
                    )
                except CellError as error:
                    self.rejected.add(
                        error.code,
                        f"The file's name is not a submission id. {error}",
                        file=name,
                        patient_id=patient_id,
                    )
                    continue
                if self.withdrawn.submission(submission_id):
                    self.rejected.add(CODE, REFUSED, file=folder_name, patient_id=patient_id)
                    continue
                yield _Found(
                    patient_id,
                    submission_id,
                    stem.endswith(terms.PROMPT_SUFFIX),
                    name,
                    Path(entry.path),
                    entry.stat(),
                    thermal,
                )

    def _list(self, folder: Path, name: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                shown = [
                    e for e in entries if not e.name.startswith(".") and e.name.casefold() not in IGNORED
                ]
        except OSError as error:
            raise StudyFolderError(
                f"the folder {name} cannot be listed ({error.strerror}); check its permissions and that the drive is there"
            ) from None
        return sorted(shown, key=lambda e: os.fsencode(e.name))

    def _is_kind(
        self,
        entry: os.DirEntry[str],
        name: str,
        wanted: Callable[[int], bool],
        code: str,
        reason: str,
        patient_id: str | None = None,
    ) -> bool:
        """Return whether an entry is of the wanted kind; record it with `code` if it is not."""
        try:
            if entry.is_symlink() and leads_out(self.root, Path(entry.path)):
                code = "link_outside"
                reason = (
                    "A link that leads out of the study folder is not followed; put the file itself there."
                )
            elif wanted(entry.stat().st_mode):
                return True
        except OSError:
            code = "unreachable_file"
            reason = "It cannot be accessed (a broken link, or it has been removed); put it back."
        self.rejected.add(code, reason, file=name, patient_id=patient_id)
        return False


_NOT_IN_PATIENT_FOLDER = (
    f"Only files in {VIDEOS}/<patient id>/ are used; move this one into its patient's folder."
)
_NOT_A_FILE = (
    "A patient's folder may contain only files; move this folder's content one level up, or remove it."
)


def _choose(
    files: list[_Found], submissions: Mapping[str, SubmissionRow], rejected: ProblemLog
) -> _Found | None:
    """Choose the one file of a submission (and kind) that is used, and record why the others are not."""
    submission = submissions.get(files[0].submission_id)
    owners = {file.patient_id for file in files}
    if submission is None and len(owners) > 1:
        for file in files:
            _reject(
                rejected,
                file,
                "id_of_two_patients",
                "Several patients' folders hold a file of this submission id and no survey says whose it is, so none "
                "was used; correct the names.",
            )
        return None
    own = [file for file in files if submission is None or file.patient_id == submission.patient_id]
    for file in files:
        if file not in own:
            _reject(
                rejected,
                file,
                "wrong_patient",
                f"{SURVEYS} gives this submission to another patient, so the file was not used; move it to that "
                "patient's folder or correct the id.",
            )
    for file in own[1:]:
        _reject(
            rejected,
            file,
            "duplicate_thermal_file" if file.thermal else "duplicate_video_file",
            f"There are several files for this submission; the first by name ({own[0].name.rpartition('.')[2].lower()}) "
            "was used. Delete the wrong ones.",
        )
    return own[0] if own else None


def _reject(rejected: ProblemLog, file: _Found, code: str, reason: str) -> None:
    rejected.add(code, reason, file=file.name, patient_id=file.patient_id, submission_id=file.submission_id)


def _thermal(
    files: list[_Found],
    narratives: Mapping[str, _Found],
    submissions: Mapping[str, SubmissionRow],
    rejected: ProblemLog,
) -> ThermalFile | None:
    """Choose the thermal picture of a submission, which has a survey or a video; record why the others are not used."""
    submission_id = files[0].submission_id
    if submission_id not in submissions:
        narrative = narratives.get(submission_id)
        own = [file for file in files if narrative and file.patient_id == narrative.patient_id]
        for file in files:
            if file not in own:
                _reject(
                    rejected,
                    file,
                    "thermal_without_submission",
                    f"There is neither an accepted row of {SURVEYS} nor a usable video of this patient with this submission id, "
                    "so the thermal picture was not used; correct its name, or add the submission.",
                )
        files = own
    chosen = _choose(files, submissions, rejected) if files else None
    if chosen is None:
        return None
    return ThermalFile(
        patient_id=chosen.patient_id,
        submission_id=submission_id,
        path=chosen.path,
        name=chosen.name,
        size=chosen.stat.st_size,
        mtime_ns=chosen.stat.st_mtime_ns,
        ctime_ns=chosen.stat.st_ctime_ns,
    )


def _compare_with_surveys(
    narratives: Mapping[str, _Found], submissions: Mapping[str, SubmissionRow], problems: ProblemLog
) -> None:
    alone = {
        (file.patient_id, i.lstrip("0")): file
        for i, file in narratives.items()
        if i not in submissions and i.isdecimal()
    }
    twins: dict[str, SubmissionRow] = {}
    for submission_id, submission in submissions.items():
        if submission_id not in narratives:
            twin = alone.get((submission.patient_id, submission_id.lstrip("0")))
            if twin is not None:
                twins[twin.submission_id] = submission
            problems.add(
                "survey_without_video",
                "There is no usable video for this submission; ask for it, or check the file's name."
                if twin is None
                else f"There is no video for this submission, but the name of {twin.name} differs from its id only by leading "
                "zeros, which spreadsheets drop; write it the same way in both.",
                file=SURVEYS,
                line=submission.line,
                patient_id=submission.patient_id,
                submission_id=submission_id,
            )
    for submission_id, file in narratives.items():
        if submission_id not in submissions:
            survey = twins.get(submission_id)
            problems.add(
                "video_without_survey",
                f"No accepted row of {SURVEYS} has this submission id; add the scores or correct the row."
                if survey is None
                else f"The id in line {survey.line} of {SURVEYS} differs from this name only by leading zeros, which "
                "spreadsheets drop; write it the same way in both.",
                file=file.name,
                patient_id=file.patient_id,
                submission_id=submission_id,
            )


def _video(file: _Found, prompt: _Found | None = None) -> VideoFile:
    return VideoFile(
        patient_id=file.patient_id,
        submission_id=file.submission_id,
        path=file.path,
        name=file.name,
        size=file.stat.st_size,
        mtime_ns=file.stat.st_mtime_ns,
        ctime_ns=file.stat.st_ctime_ns,
        prompt=_video(prompt) if prompt is not None and prompt.patient_id == file.patient_id else None,
    )
