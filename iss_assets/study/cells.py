"""What one cell of the study folder's tables says: numbers, yes and no, days, moments, offsets, ids.

Belongs here: pure functions from text to value, each raising `CellError` with a fixed word and advice.
Does not belong here: files, rows, what follows from a bad cell (``folder_tables``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime

from iss_assets.study import terms

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_WHOLE = re.compile(r"([0-9]{1,3})(?:[.,]0+)?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MIDNIGHT = re.compile(r"[T ]00:00(:00([.]0+)?)?", re.IGNORECASE)
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"(?: ?(Z|UTC|GMT|([+\-\u2212])([0-9]{2})(?::?([0-9]{2}))?)(?:\[[A-Za-z0-9_+/-]{1,64}\])?)?",
    re.IGNORECASE,
)
LARGEST_OFFSET = 14 * 60
"""Minutes; no place on earth is farther from UTC (Kiribati has +14:00, the far west -12:00)."""
_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+\-\u2212]?)([0-9]{1,2})(?::([0-9]{2})|([0-9]{2}))?", re.IGNORECASE)
_MISSING = {"na", "nan", "none", "null", "nil"}
"""What programs write for a missing value; as an id it would be lost, or several patients would become one."""
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
        ``bad_id`` where `terms.PATIENT_ID` does not match, where Windows keeps the name for a device, or where it is
        what programs write for a missing value.
    """
    if not terms.PATIENT_ID.fullmatch(text) or _RESERVED.fullmatch(text) or text.casefold() in _MISSING:
        raise CellError("bad_id", "A patient id has 1 to 32 letters, digits or hyphens; correct it.")
    return text


def submission_id(text: str) -> str:
    """Give a submission id.

    Raises
    ------
    CellError
        ``bad_id`` where `terms.SUBMISSION_ID` does not match, where it ends with a dot (Windows drops it), where
        Windows keeps the name for a device, where it is what programs write for a missing value, or where it would be
        taken for a prompt.
    """
    fits = terms.SUBMISSION_ID.fullmatch(text) and not text.endswith((".", terms.PROMPT_SUFFIX))
    if not fits or _RESERVED.fullmatch(text) or text.casefold() in _MISSING:
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
    """Give a day written as 2021-03-31; midnight may follow, as spreadsheets and pandas write a day."""
    try:
        if _DAY.fullmatch(text[:10]) and (len(text) == 10 or _MIDNIGHT.fullmatch(text[10:])):
            found = date.fromisoformat(text[:10])
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
        if minutes < 60 and hours * 60 + minutes <= LARGEST_OFFSET and (len(match[2]) == 2 or not match[4]):
            return (hours * 60 + minutes) * (-1 if match[1] in ("-", "\u2212") else 1)
    raise CellError(
        "bad_utc_offset", "An offset from UTC is written as +02:00 or -05:00, at most 14 hours; correct it."
    )


@dataclass(frozen=True)
class WrittenTime:
    """A time as it is written in a table.

    Attributes
    ----------
    clock : datetime
        Naive: what the clock said that wrote it.
    offset_minutes : int or None
        That clock's offset from UTC; None where the time has none.
    in_utc : bool
        Whether the offset is written as none at all: ``Z``, ``UTC``, ``GMT`` or ``+00:00``.
    """

    clock: datetime
    offset_minutes: int | None
    in_utc: bool = False


def moment(text: str) -> WrittenTime:
    """Give a time written in ISO 8601, with or without an offset.

    Taken are ``T`` or a space in the middle, seconds and fractions or none, and as offsets ``Z``, ``UTC``, ``+05:30``,
    ``+0530``, ``+05``; a zone name in brackets behind the offset (RFC 9557) is ignored. Fractions beyond the microsecond
    are cut.

    Raises
    ------
    CellError
        ``bad_time`` where this is no time between 2000 and 2100, or the offset is beyond `LARGEST_OFFSET`.

    Examples
    --------
    >>> moment("2021-03-31 09:05:00.5+0530")
    WrittenTime(clock=datetime.datetime(2021, 3, 31, 9, 5, 0, 500000), offset_minutes=330, in_utc=False)
    """
    match = _MOMENT.fullmatch(text)
    try:
        if not match:
            raise ValueError
        year, month, day_, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
        clock = datetime(year, month, day_, hour, minute, second, int((match[7] or "0").ljust(9, "0")[:6]))
        offset = _offset_of(match[8], match[9], match[10], match[11])
        if not 2000 <= clock.year <= 2100:
            raise ValueError
    except ValueError:
        raise CellError(
            "bad_time",
            "A time is written as 2021-03-31T09:05:00-05:00 (day, time, offset from UTC), between 2000 and 2100; "
            "correct it.",
        ) from None
    return WrittenTime(clock, offset, in_utc=offset == 0)


def _offset_of(whole: str | None, sign: str | None, hours: str | None, minutes: str | None) -> int | None:
    if whole is None:
        return None
    if sign is None:
        return 0
    size = int(hours or 0) * 60 + int(minutes or 0)
    if int(minutes or 0) > 59 or size > LARGEST_OFFSET:
        raise ValueError
    return size if sign == "+" else -size
