"""What one cell of the study folder's tables says: numbers, yes and no, days, moments, offsets, ids.

Belongs here: pure functions from text to value, each raising `CellError` with a fixed word and advice.
Does not belong here: files, rows, what follows from a bad cell (``folder_tables``).
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

from iss_assets.study import terms

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_WHOLE = re.compile(r"([0-9]{1,3})(?:[.,]0+)?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}[0-9:.,]* ?(Z|[+-][0-9]{2}:?[0-9]{2})?", re.IGNORECASE
)
_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+\-\u2212]?)([0-9]{1,2})(?::([0-9]{2})|([0-9]{2}))?", re.IGNORECASE)
_YES, _NO = ("yes", "y", "true"), ("no", "n", "false")
_SEX_WORDS = {"m": "M", "male": "M", "f": "F", "female": "F"}


class CellError(ValueError):
    """A cell that cannot be understood; `code` is a fixed word, the message says what to do and quotes nothing."""

    def __init__(self, code: str, reason: str):
        self.code = code
        super().__init__(reason)


def patient_id(text: str) -> str:
    """Give a patient id.

    Raises
    ------
    CellError
        ``bad_id`` where `terms.PATIENT_ID` does not match, or where Windows keeps the name for a device.
    """
    if not terms.PATIENT_ID.fullmatch(text) or _RESERVED.fullmatch(text):
        raise CellError("bad_id", "A patient id has 1 to 32 letters, digits or hyphens; correct it.")
    return text


def submission_id(text: str) -> str:
    """Give a submission id.

    Raises
    ------
    CellError
        ``bad_id`` where `terms.SUBMISSION_ID` does not match, where it ends with a dot (Windows drops it), where
        Windows keeps the name for a device, or where it would be taken for a prompt.
    """
    fits = terms.SUBMISSION_ID.fullmatch(text) and not text.endswith((".", terms.PROMPT_SUFFIX))
    if not fits or _RESERVED.fullmatch(text):
        raise CellError(
            "bad_id",
            "A submission id has 1 to 64 letters, digits, or _ . -, starts with a letter or digit, and ends neither "
            f"with a dot nor with {terms.PROMPT_SUFFIX}; correct it.",
        )
    return text


def cohort(text: str) -> str:
    """Give a cohort number of Table 2."""
    number = text.upper()
    if number not in {c.number for c in terms.COHORTS}:
        raise CellError("bad_cohort", "A cohort is one of 1A to 4D; correct it.")
    return number


def sex(text: str) -> str:
    """Give ``M`` or ``F``."""
    try:
        return _SEX_WORDS[text.casefold()]
    except KeyError:
        raise CellError("bad_sex", "Sex is M or F, as the study's cohorts have it; correct it.") from None


def skin_type(text: str) -> str:
    """Give a Fitzpatrick type; 1 to 6 are taken as I to VI."""
    if text in ("1", "2", "3", "4", "5", "6"):
        return terms.SKIN_TYPES[int(text) - 1]
    if text.upper() not in terms.SKIN_TYPES:
        raise CellError("bad_skin_type", "A skin type is one of I to VI; correct it.")
    return text.upper()


def score(text: str) -> int:
    """Give a whole number from 0 to 10; ``3.0`` is one, as spreadsheets write it."""
    match = _WHOLE.fullmatch(text)
    if not match or int(match[1]) > 10:
        raise CellError(
            "bad_score", "This is a whole number from 0 to 10; correct it, or leave it empty if unknown."
        )
    return int(match[1])


def pain_target(text: str) -> int:
    """Give a pain target, a whole number from 0 to 10."""
    try:
        return score(text)
    except CellError:
        raise CellError(
            "bad_pain_target", "A pain target is a whole number from 0 to 10; correct it."
        ) from None


def yes_or_no(text: str, *, codes: bool) -> bool:
    """Give a yes/no answer.

    Parameters
    ----------
    text : str
        yes, no, y, n, true, false in any case; 1 and 0 where `codes` allows.
    codes : bool
        Whether the column holds no other numbers, so that 1 can only mean yes and 0 no. REDCap also exports
        1 for yes and 2 for no.
    """
    word = text.casefold()
    if word in _YES or word in _NO:
        return word in _YES
    if word in ("0", "1"):
        if codes:
            return word == "1"
        raise CellError(
            "ambiguous_answer",
            "0 and 1 stand beside other numbers in this column, so their meaning is not sure; write yes or no, or "
            "say in the setting ISS_READING__SURVEY_VALUES what each stands for.",
        )
    raise CellError("bad_answer", "The answer is yes or no; correct it, or leave it empty if unknown.")


def setting(text: str) -> str:
    """Give ``home`` or ``clinic``."""
    if text.casefold() not in terms.SETTINGS:
        raise CellError(
            "bad_setting", "The setting is home or clinic; correct it, or leave it empty if unknown."
        )
    return text.casefold()


def day(text: str) -> date:
    """Give a day written as 2021-03-31."""
    try:
        if _DAY.fullmatch(text):
            found = date.fromisoformat(text)
            if 2000 <= found.year <= 2100:
                return found
    except ValueError:
        pass
    raise CellError(
        "bad_day", "A day is written as year-month-day, 2021-03-31, between 2000 and 2100; correct it."
    )


def utc_offset(text: str) -> int:
    """Give an offset from UTC in minutes: ``+02:00``, ``-5``, ``UTC-05:00``, ``+0530``, ``Z``.

    Examples
    --------
    >>> [utc_offset(text) for text in ("+02:00", "-5", "UTC-05:30", "Z")]
    [120, -300, -330, 0]
    """
    if text.upper() in ("Z", "UTC", "GMT"):
        return 0
    match = _OFFSET.fullmatch(text)
    if match:
        hours, minutes = int(match[2]), int(match[3] or match[4] or 0)
        if minutes < 60 and hours * 60 + minutes <= 14 * 60 and (len(match[2]) == 2 or not match[4]):
            return (hours * 60 + minutes) * (-1 if match[1] in ("-", "\u2212") else 1)
    raise CellError(
        "bad_utc_offset", "An offset from UTC is written as +02:00 or -05:00, at most 14 hours; correct it."
    )


def moment(text: str, offset_minutes: int | None) -> tuple[datetime, bool]:
    """Give a moment, and whether its offset had to be taken from the patient.

    Parameters
    ----------
    text : str
        ISO 8601, ``2021-03-31T09:05:00-05:00``.
    offset_minutes : int or None
        The patient's offset from UTC, for a time that has none.

    Raises
    ------
    CellError
        ``bad_time`` if it is no moment between 2000 and 2100, ``time_without_offset`` if neither it nor the patient
        has an offset.
    """
    try:
        found = datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None or not 2000 <= found.year <= 2100:
        raise CellError(
            "bad_time",
            "A time is written as 2021-03-31T09:05:00-05:00 (day, time, offset from UTC), between 2000 and 2100; "
            "correct it.",
        )
    if found.tzinfo is not None:
        return found, False
    if offset_minutes is None:
        raise CellError(
            "time_without_offset",
            "The time has no offset from UTC and the patient has none in enrollment.csv; add one of the two.",
        )
    return found.replace(tzinfo=timezone(timedelta(minutes=offset_minutes))), True
