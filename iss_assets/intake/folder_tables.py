"""Enrollment and surveys: rows of the two csv files to accepted patients and submissions.

Decides which rows are accepted, records why others are not, and compares rows with each other. Bytes and delimiters are
read in ``csv_reading``, single cells in ``cells``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from iss_assets.intake import cells
from iss_assets.intake.cells import CellError
from iss_assets.intake.check_in_time import check_in_time
from iss_assets.intake.csv_reading import CsvRow, read_csv
from iss_assets.intake.records import PatientRow, ProblemLog, StudyFolderError, SubmissionRow
from iss_assets.intake.withdrawn import Withdrawn, accepted_rows
from iss_assets.protocol import terms
from iss_assets.settings import ReadingSettings

ENROLLMENT: Final = "enrollment.csv"
SURVEYS: Final = "surveys.csv"
ENROLLMENT_REQUIRED: Final = ("patient_id", "cohort", "sex", "skin_type", "pain_target")
ENROLLMENT_OPTIONAL: Final = ("enrolled_on", "utc_offset", "age_group")
UNREPORTED: Final = ("age_group", "prompt_id")
"""Optional columns that most studies do not have; their absence is not reported."""
SURVEY_REQUIRED: Final = ("submission_id", "patient_id", "submitted_at", *terms.SCORES)
SURVEY_OPTIONAL: Final = ("setting", "prompt_id")
CLOCK_TOLERANCE: Final = timedelta(days=1)
"""A time this far ahead may be a wrong clock or offset; anything later is reported as in the future."""


class _RowReader:
    """Reads the cells of one row and records the bad ones."""

    def __init__(self, row: CsvRow, file: str, values: Mapping[str, Mapping[str, str]], rejected: ProblemLog):
        self.cells = {name: values.get(name, {}).get(text, text) for name, text in row.cells.items()}
        self.where: dict[str, Any] = {"file": file, "line": row.line}
        self.line = row.line
        self.rejected = rejected
        self.whole = True

    def reject(self, code: str, reason: str, column: str = "") -> None:
        """Record why the row, or one of its cells, cannot be used."""
        self.rejected.add(code, reason, column=column, **self.where)

    def read(self, column: str, parse: Callable[[str], Any]) -> Any:
        """Read a required cell; return None and clear `whole` if it is bad."""
        if not self.cells[column]:
            self.whole = False
            self.reject("empty_cell", f"{column} is empty; fill it in.", column)
            return None
        try:
            return parse(self.cells[column])
        except CellError as error:
            self.whole = False
            self.reject(error.code, str(error), column)
            return None

    def read_optional(self, column: str, parse: Callable[[str], Any]) -> Any:
        """Read an optional cell; a bad one is recorded and counts as missing."""
        if not self.cells[column]:
            return None
        try:
            return parse(self.cells[column])
        except CellError as error:
            self.reject(error.code, f"{error} The rest of the row was used.", column)
            return None


def read_enrollment(
    root: Path,
    settings: ReadingSettings,
    now: datetime,
    rejected: ProblemLog,
    problems: ProblemLog,
    withdrawn: Withdrawn,
) -> dict[str, PatientRow]:
    """Read ``enrollment.csv`` into accepted patients by id."""
    _check_value_map(
        settings.enrollment_values, (*ENROLLMENT_REQUIRED, *ENROLLMENT_OPTIONAL), "ENROLLMENT_VALUES"
    )
    patients: dict[str, PatientRow] = {}
    rows = read_csv(
        root,
        ENROLLMENT,
        ENROLLMENT_REQUIRED,
        ENROLLMENT_OPTIONAL,
        settings.enrollment_columns,
        rejected,
        problems,
        settings.enrollment_instruments,
        UNREPORTED,
    )
    for row in accepted_rows(rows, ENROLLMENT, withdrawn, rejected):
        reader = _RowReader(row, ENROLLMENT, settings.enrollment_values, rejected)
        patient_id = reader.read("patient_id", cells.patient_id)
        reader.where["patient_id"] = patient_id
        cohort = reader.read("cohort", cells.cohort)
        sex = reader.read("sex", cells.sex)
        skin_type = reader.read("skin_type", cells.skin_type)
        pain_target = reader.read("pain_target", cells.pain_target)
        if not reader.whole:
            continue
        patient = PatientRow(
            patient_id,
            cohort,
            sex,
            skin_type,
            pain_target,
            reader.read_optional("enrolled_on", partial(cells.day, order=settings.date_order)),
            reader.read_optional("utc_offset", cells.utc_offset),
            row.line,
            reader.read_optional("age_group", cells.age_group),
        )
        first = patients.get(patient_id)
        if first is not None:
            _report_repeated(reader, first == patient, first.line, "patient", problems)
            continue
        patients[patient_id] = patient
        _check_patient(patient, now.date(), problems)
    _report_twins(patients, problems)
    if not patients:
        problems.add(
            "no_patients",
            "No patient could be read; add rows, or correct those that were rejected.",
            file=ENROLLMENT,
        )
    return patients


def numbers_without_zeros(patients: Mapping[str, PatientRow]) -> dict[str, PatientRow]:
    """Return the patients whose ids are numbers, keyed by the number without leading zeros."""
    return {
        patient_id.lstrip("0"): patient for patient_id, patient in patients.items() if patient_id.isdecimal()
    }


def explain_unknown_patient(
    patient_id: str, without_zeros: Mapping[str, PatientRow], place: str, advice: str, problems: ProblemLog
) -> tuple[PatientRow | None, str]:
    """Return who is probably meant by an id that nobody has, and what to do about it.

    Parameters
    ----------
    patient_id : str
        The unknown id.
    without_zeros : mapping
        See `numbers_without_zeros`.
    place : str
        Where the id is, for the report on the patient's own row: leading zeros were lost in one of the two.
    advice : str
        What to do if nobody is meant.
    problems : ProblemLog
        Collects that report.
    """
    twin = _find_by_number(patient_id, without_zeros)
    if twin is None:
        return None, advice
    _report_lost_zeros(twin, place, problems)
    return twin, _zeros_advice(twin)


def _find_by_number(patient_id: str, without_zeros: Mapping[str, PatientRow]) -> PatientRow | None:
    """Return the patient whose id differs from this unknown one only by leading zeros."""
    return without_zeros.get(patient_id.lstrip("0")) if patient_id.isdecimal() else None


def _zeros_advice(twin: PatientRow) -> str:
    """Return advice for an id that differs from an enrolled one only by leading zeros."""
    return (
        f"the one in line {twin.line} of {ENROLLMENT} differs from it only by leading zeros, which spreadsheets drop. "
        "Write the id the same way in both (format the column as text before opening the file) and export again."
    )


def _report_lost_zeros(twin: PatientRow, where: str, problems: ProblemLog) -> None:
    """Report, on the row of an enrolled patient, that the same id appears elsewhere with other leading zeros."""
    problems.add(
        "leading_zeros",
        f"The same id with other leading zeros is in {where}, which was not used; write it the same way in both.",
        file=ENROLLMENT,
        line=twin.line,
        column="patient_id",
        patient_id=twin.patient_id,
    )


def _report_twins(patients: Mapping[str, PatientRow], problems: ProblemLog) -> None:
    """Report two patients whose ids are the same number: one of them has probably lost its zeros."""
    first: dict[str, PatientRow] = {}
    for patient_id, patient in patients.items():
        if not patient_id.isdecimal():
            continue
        other = first.setdefault(patient_id.lstrip("0"), patient)
        if other is not patient:
            problems.add(
                "leading_zeros",
                f"The id differs from the one in line {other.line} only by leading zeros; if they are the same patient, keep one "
                "row.",
                file=ENROLLMENT,
                line=patient.line,
                column="patient_id",
                patient_id=patient_id,
            )


def _check_patient(patient: PatientRow, today: date, problems: ProblemLog) -> None:
    where: dict[str, Any] = {"file": ENROLLMENT, "line": patient.line, "patient_id": patient.patient_id}
    wanted = terms.cohort_of(patient.pain_target, patient.skin_type, patient.sex)
    if patient.cohort != wanted:
        problems.add(
            "cohort_contradiction",
            f"Sex, skin type and pain target put the patient in cohort {wanted}, but {patient.cohort} is stated. The "
            "stated cohort is kept; correct whichever is wrong.",
            column="cohort",
            **where,
        )
    if patient.enrolled_on and patient.enrolled_on > today + CLOCK_TOLERANCE:
        problems.add(
            "time_in_future",
            "The day of enrollment is in the future; correct it.",
            column="enrolled_on",
            **where,
        )


def read_surveys(
    root: Path,
    settings: ReadingSettings,
    now: datetime,
    patients: Mapping[str, PatientRow],
    rejected: ProblemLog,
    problems: ProblemLog,
    withdrawn: Withdrawn,
) -> dict[str, SubmissionRow]:
    """Read ``surveys.csv`` into accepted submissions by id."""
    _check_value_map(settings.survey_values, (*SURVEY_REQUIRED, *SURVEY_OPTIONAL), "SURVEY_VALUES")
    rows = read_csv(
        root,
        SURVEYS,
        SURVEY_REQUIRED,
        SURVEY_OPTIONAL,
        settings.survey_columns,
        rejected,
        problems,
        settings.survey_instruments,
        UNREPORTED,
    )
    rows = accepted_rows(rows, SURVEYS, withdrawn, rejected)
    without_zeros = numbers_without_zeros(patients)
    readers = [_RowReader(row, SURVEYS, settings.survey_values, rejected) for row in rows]
    numbers = {r.cells["chronic_pain"] for r in readers if cells.is_number(r.cells["chronic_pain"])}
    codes = all(int(number.replace(",", ".").split(".")[0]) <= 1 for number in numbers)
    study_offset = _study_offset(settings)
    submissions: dict[str, SubmissionRow] = {}
    contested: dict[str, list[_RowReader]] = {}
    without_offset: dict[int, str] = {}
    for reader in readers:
        submission = _read_submission(
            reader, patients, without_zeros, codes, settings, study_offset, without_offset, problems
        )
        if submission is None:
            continue
        first = submissions.get(submission.submission_id)
        if first is None:
            submissions[submission.submission_id] = submission
            _check_times(submission, patients[submission.patient_id], now, problems)
        elif first.patient_id != submission.patient_id:
            contested.setdefault(submission.submission_id, []).append(reader)
        else:
            _report_repeated(reader, first == submission, first.line, "submission", problems)
    _report_missing_offsets(without_offset, problems)
    _report_utc(submissions, patients, settings, problems)
    for submission_id, later in contested.items():
        first = submissions.pop(submission_id)
        lines = [first.line, *(reader.line for reader in later)]
        reason = (
            f"Lines {_listed(lines)} give the same submission id to different patients, so all of them were left out; "
            "correct the ids."
        )
        rejected.add(
            "id_of_two_patients",
            reason,
            file=SURVEYS,
            line=first.line,
            column="submission_id",
            patient_id=first.patient_id,
            submission_id=submission_id,
        )
        for reader in later:
            reader.reject("id_of_two_patients", reason, "submission_id")
    return submissions


def _report_missing_offsets(without_offset: Mapping[int, str], problems: ProblemLog) -> None:
    """Report, once for the file, the lines whose time has no usable offset, and which offset was used instead."""
    if not without_offset:
        return
    lines = {
        source: [line for line, used in without_offset.items() if used == source]
        for source in ("patient", "study", "unknown")
    }
    count = "1 time has" if len(without_offset) == 1 else f"{len(without_offset)} times have"
    sentences = [f"{count} no offset from UTC ({_lines(list(without_offset))})."]
    if lines["patient"]:
        sentences.append(f"For {len(lines['patient'])} the patient's own of {ENROLLMENT} was used.")
    if lines["study"]:
        sentences.append(
            f"For {len(lines['study'])} the patient has none and the study's of the settings was used."
        )
    if lines["unknown"]:
        sentences.append(
            f"For {len(lines['unknown'])} nothing says which it is ({_lines(lines['unknown'])}), so the day and time "
            "of day of these check-ins are unknown and no week counts them. Add the offset to the times, or utc_offset to "
            f"the patients in {ENROLLMENT}, or set ISS_READING__UTC_OFFSET for the whole study."
        )
    problems.add(
        "time_without_offset",
        " ".join(sentences),
        file=SURVEYS,
        line=min(without_offset),
        column="submitted_at",
    )


def _report_utc(
    submissions: Mapping[str, SubmissionRow],
    patients: Mapping[str, PatientRow],
    settings: ReadingSettings,
    problems: ProblemLog,
) -> None:
    """Report, once, that every time is written in UTC although patients have other offsets: the export may have done it."""
    written = [s for s in submissions.values() if s.time.utc_offset_source == "written"]
    elsewhere = sum(bool(patients[s.patient_id].utc_offset_minutes) for s in written)
    if elsewhere and settings.utc_means == "offset" and not any(s.time.utc_offset_minutes for s in written):
        problems.add(
            "times_in_utc",
            f"Every time with an offset is written in UTC, {elsewhere} of them for patients with another offset, and was "
            "taken as local time. If the export converted times to UTC, set ISS_READING__UTC_MEANS=moment.",
            file=SURVEYS,
            line=min(s.line for s in written),
            column="submitted_at",
        )


def _study_offset(settings: ReadingSettings) -> int | None:
    if not settings.utc_offset.strip():
        return None
    try:
        return cells.utc_offset(settings.utc_offset.strip())
    except CellError as error:
        raise StudyFolderError(f"the setting ISS_READING__UTC_OFFSET is not a UTC offset. {error}") from None


def _read_submission(
    reader: _RowReader,
    patients: Mapping[str, PatientRow],
    without_zeros: Mapping[str, PatientRow],
    codes: bool,
    settings: ReadingSettings,
    study_offset: int | None,
    without_offset: dict[int, str],
    problems: ProblemLog,
) -> SubmissionRow | None:
    submission_id = reader.read("submission_id", cells.submission_id)
    patient_id = reader.read("patient_id", cells.patient_id)
    reader.where |= {"patient_id": patient_id, "submission_id": submission_id}
    patient = patients.get(patient_id) if patient_id else None
    if patient_id and patient is None:
        reader.whole = False
        place = f"line {reader.line} of {SURVEYS}"
        _, advice = explain_unknown_patient(
            patient_id, without_zeros, place, "enroll the patient or correct the id.", problems
        )
        reader.reject(
            "unknown_patient",
            f"No accepted row of {ENROLLMENT} has this patient id; {advice}",
            "patient_id",
        )
    written = (
        reader.read("submitted_at", partial(cells.moment, order=settings.date_order)) if patient else None
    )
    if not reader.whole or patient is None or written is None:
        return None
    time = check_in_time(written, patient.utc_offset_minutes, study_offset, settings.utc_means)
    if written.offset_minutes is None or time.utc_offset_source == "unknown":
        without_offset[reader.line] = time.utc_offset_source
    answers = {
        name: reader.read_optional(
            name, (lambda text: cells.yes_or_no(text, codes=codes)) if name == "chronic_pain" else cells.score
        )
        for name in terms.SCORES
    }
    return SubmissionRow(
        submission_id=submission_id,
        patient_id=patient_id,
        time=time,
        setting=reader.read_optional("setting", cells.setting),
        line=reader.line,
        prompt_id=reader.read_optional("prompt_id", cells.prompt_id),
        **answers,
    )


_LARGEST_OFFSET: Final = timedelta(minutes=cells.LARGEST_OFFSET)


def _check_times(submission: SubmissionRow, patient: PatientRow, now: datetime, problems: ProblemLog) -> None:
    where: dict[str, Any] = {
        "file": SURVEYS,
        "line": submission.line,
        "column": "submitted_at",
        "patient_id": submission.patient_id,
        "submission_id": submission.submission_id,
    }
    time = submission.time
    # an unknown moment counts as the earliest that it can be
    earliest = time.submitted_at or time.written_time.replace(tzinfo=UTC) - _LARGEST_OFFSET
    if earliest > now + CLOCK_TOLERANCE:
        problems.add("time_in_future", "The submission is in the future; correct its time.", **where)
    if patient.enrolled_on and time.submitted_on and time.submitted_on < patient.enrolled_on:
        problems.add(
            "before_enrollment",
            "The submission is from before the patient's enrollment; correct whichever day is wrong.",
            **where,
        )


def _report_repeated(
    reader: _RowReader, same: bool, first_line: int, what: str, problems: ProblemLog
) -> None:
    if same:
        reader.reject("repeated_row", f"The row repeats line {first_line}, which was used; delete one.")
        return
    reader.reject(
        "conflicting_row",
        f"The row has the {what} id of line {first_line} but other values; line {first_line} was used. Keep the "
        "right one.",
    )
    problems.add(
        "conflicting_row",
        f"Line {reader.line} has the same {what} id but other values; this line was used. Keep the right one.",
        **{**reader.where, "line": first_line},
    )


def _check_value_map(values: Mapping[str, Mapping[str, str]], columns: Sequence[str], setting: str) -> None:
    unknown = sorted(values.keys() - set(columns))
    if unknown:
        raise StudyFolderError(
            f"the setting ISS_READING__{setting} names columns that do not exist: {', '.join(unknown)}; its keys must be "
            f"among {', '.join(columns)}"
        )


def _lines(lines: Sequence[int]) -> str:
    return f"line{'s' if len(lines) > 1 else ''} {_listed(lines)}"


def _listed(lines: Sequence[int]) -> str:
    if len(lines) > 5:
        return f"{', '.join(map(str, lines[:5]))} and {len(lines) - 5} more"
    if len(lines) == 1:
        return str(lines[0])
    return " and ".join([", ".join(map(str, lines[:-1])), str(lines[-1])])
