"""``consent.csv``: what each patient has consented to, and what they have withdrawn.

A row is never used in a patient's disfavor because it is hard to read: a day that cannot be read leaves consent not
given, and whatever is written in ``withdrawn_on`` counts as a withdrawal, both until the row is corrected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from iss_assets.intake import cells
from iss_assets.intake.cells import CellError
from iss_assets.intake.csv_reading import CsvRow
from iss_assets.intake.folder_tables import (
    CLOCK_TOLERANCE,
    explain_unknown_patient,
    numbers_without_zeros,
)
from iss_assets.intake.records import PatientRow, ProblemLog
from iss_assets.intake.withdrawn import Withdrawn, read_optional_csv
from iss_assets.protocol.consent import ConsentState, Scope
from iss_assets.settings import ReadingSettings

CONSENT: Final = "consent.csv"
REQUIRED: Final = ("patient_id", "scope", "given_on", "withdrawn_on")
OPTIONAL: Final = ("version",)
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,39}")


@dataclass(frozen=True)
class ConsentRow:
    """One row of ``consent.csv``.

    Attributes
    ----------
    patient_id : str
        An accepted patient's id.
    scope : Scope
        What it is about.
    state : ConsentState
        What the row says.
    given_on, withdrawn_on : date or None
        The days; None where empty or rejected.
    version : str or None
        Version of the form that was signed.
    unclear : bool
        Whether something in it was rejected: such a row counts before any other until it is corrected.
    line : int
        Line in the file.
    """

    patient_id: str
    scope: Scope
    state: ConsentState
    given_on: date | None = None
    withdrawn_on: date | None = None
    version: str | None = None
    unclear: bool = False
    line: int = field(default=0, compare=False)

    @property
    def latest_day(self) -> date:
        """The later of the two days; the first day of the calendar without any."""
        return max((day for day in (self.given_on, self.withdrawn_on) if day), default=date.min)

    @property
    def rank(self) -> tuple[bool, date, bool, int]:
        """What decides which row of a patient and scope counts: the highest."""
        return self.unclear, self.latest_day, self.state is ConsentState.WITHDRAWN, self.line


def read_consents(
    root: Path,
    settings: ReadingSettings,
    now: datetime,
    patients: Mapping[str, PatientRow],
    rejected: ProblemLog,
    problems: ProblemLog,
    withdrawn: Withdrawn | None = None,
) -> tuple[ConsentRow, ...]:
    """Read ``consent.csv`` and return the row that counts for each patient and scope; nothing if there is no file.

    Parameters
    ----------
    root : Path
        The study folder.
    settings : ReadingSettings
        The order of days and months.
    now : datetime
        Aware; consent given more than a day after it is rejected, a withdrawal counts and is reported.
    patients : mapping
        Accepted patients by id.
    rejected, problems : ProblemLog
        Collect what cannot be used, and what is odd.
    withdrawn : Withdrawn, optional
        Whose rows are refused.

    Raises
    ------
    StudyFolderError
        If the file is there but cannot be read.
    """
    reader = _Reader(settings, now, patients, rejected, problems)
    read = read_optional_csv(
        root, CONSENT, REQUIRED, OPTIONAL, rejected, problems, withdrawn, unreported=OPTIONAL
    )
    return _latest([consent for row in read for consent in reader.consents(row)], problems)


def _latest(rows: Iterable[ConsentRow], problems: ProblemLog) -> tuple[ConsentRow, ...]:
    """Return the row that counts for each patient and scope; report those that repeat or contradict it."""
    grouped: dict[tuple[str, Scope], list[ConsentRow]] = {}
    for row in rows:
        grouped.setdefault((row.patient_id, row.scope), []).append(row)
    latest = []
    for _, group in sorted(grouped.items()):
        counts = max(group, key=lambda row: row.rank)
        latest.append(counts)
        for row in group:
            where: dict[str, Any] = {"file": CONSENT, "line": row.line, "patient_id": row.patient_id}
            first = next(other for other in group if other == row)
            if row is not first:
                problems.add("repeated_row", f"The row repeats line {first.line}; nothing to do.", **where)
            elif (
                row.state is not counts.state
                and not (row.unclear or counts.unclear)
                and row.latest_day == counts.latest_day
            ):
                problems.add(
                    "conflicting_row",
                    f"The row contradicts line {counts.line}, which is of the same day and counts; correct whichever "
                    "is wrong.",
                    **where,
                )
    return tuple(latest)


class _Reader:
    """Reads the rows of ``consent.csv``."""

    def __init__(
        self,
        settings: ReadingSettings,
        now: datetime,
        patients: Mapping[str, PatientRow],
        rejected: ProblemLog,
        problems: ProblemLog,
    ):
        self._day = partial(cells.day, order=settings.date_order)
        self._last_day = now.date() + CLOCK_TOLERANCE
        self._patients, self._without_zeros = patients, numbers_without_zeros(patients)
        self._rejected, self._problems = rejected, problems

    def consents(self, row: CsvRow) -> Iterator[ConsentRow]:
        """Return what a row says: one scope; every scope if it withdraws consent from one that cannot be read."""
        where: dict[str, Any] = {"file": CONSENT, "line": row.line}
        withdraws = bool(row.cells["withdrawn_on"])
        patient, known = self._patient(row, where)
        if patient is None:
            return
        where["patient_id"] = patient.patient_id
        scopes = self._scopes(row, withdraws, where)
        given_on = self._date(row, "given_on", where)
        withdrawn_on = self._date(row, "withdrawn_on", where)
        if given_on and given_on > self._last_day:
            self._rejected.add(
                "time_in_future",
                "The day is in the future, so consent counts as not given; correct it.",
                column="given_on",
                **where,
            )
            given_on = None
        if withdrawn_on and withdrawn_on > self._last_day:
            self._problems.add(
                "time_in_future",
                "The day is in the future; the withdrawal counts from now on. Correct the day if it is wrong.",
                column="withdrawn_on",
                **where,
            )
        if given_on and withdrawn_on and withdrawn_on < given_on:
            self._problems.add(
                "withdrawn_before_given",
                "Consent was withdrawn before it was given, and counts as withdrawn. Correct the days; if consent was "
                "given again, add a row for it.",
                column="withdrawn_on",
                **where,
            )
        if not row.cells["given_on"] and not withdraws:
            self._problems.add(
                "empty_cell",
                "Neither day is filled in, so consent counts as not given; fill in given_on if it was given.",
                column="given_on",
                **where,
            )
        version = self._version(row, where)
        unclear = (
            not known
            or len(scopes) > 1
            or any(
                bool(row.cells[c]) and day is None
                for c, day in (("given_on", given_on), ("withdrawn_on", withdrawn_on))
            )
        )
        if withdraws:
            state = ConsentState.WITHDRAWN
        else:
            state = ConsentState.GIVEN if given_on and known else ConsentState.NOT_GIVEN
        for scope in scopes:
            yield ConsentRow(
                patient.patient_id, scope, state, given_on, withdrawn_on, version, unclear, row.line
            )

    def _patient(self, row: CsvRow, where: Mapping[str, Any]) -> tuple[PatientRow | None, bool]:
        """Return the patient, and whether the id is as in ``enrollment.csv``: it may have lost its zeros."""
        text = row.cells["patient_id"]
        try:
            if not text:
                raise CellError("empty_cell", "patient_id is empty; fill it in.")
            patient_id = cells.patient_id(text)
        except CellError as error:
            self._rejected.add(error.code, str(error), column="patient_id", **where)
            return None, False
        if patient_id in self._patients:
            return self._patients[patient_id], True
        place = f"line {row.line} of {CONSENT}"
        twin, advice = explain_unknown_patient(
            patient_id, self._without_zeros, place, "correct the id, or enroll the patient.", self._problems
        )
        if twin is not None:
            advice += " Until then nothing that the row gives counts for that patient, and a withdrawal does."
        self._rejected.add(
            "unknown_patient",
            f"No accepted patient has this id; {advice}",
            column="patient_id",
            **where,
        )
        return twin, False

    def _scopes(self, row: CsvRow, withdraws: bool, where: Mapping[str, Any]) -> list[Scope]:
        text = re.sub(r"[\s-]+", "_", row.cells["scope"].casefold())
        if text in set(Scope):
            return [Scope(text)]
        until = " Until then the row counts as a withdrawal from everything." if withdraws else ""
        if text:
            code, reason = "bad_scope", f"A scope is one of {', '.join(Scope)}; correct it.{until}"
        else:
            code, reason = "empty_cell", f"scope is empty; fill it in.{until}"
        self._rejected.add(code, reason, column="scope", **where)
        return list(Scope) if withdraws else []

    def _date(self, row: CsvRow, column: str, where: Mapping[str, Any]) -> date | None:
        text = row.cells[column]
        if not text:
            return None
        try:
            return self._day(text)
        except CellError as error:
            until = (
                "Until then consent counts as withdrawn."
                if column == "withdrawn_on"
                else "Until then consent counts as not given."
            )
            self._rejected.add(error.code, f"{error} {until}", column=column, **where)
            return None

    def _version(self, row: CsvRow, where: Mapping[str, Any]) -> str | None:
        text = row.cells["version"]
        if not text or _VERSION.fullmatch(text):
            return text or None
        self._rejected.add(
            "bad_version",
            "A version has 1 to 40 letters, digits, spaces or . _ / -; correct it. The rest of the row was used.",
            column="version",
            **where,
        )
        return None
