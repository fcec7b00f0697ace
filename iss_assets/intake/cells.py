"""Parsing one cell of the study folder's tables: numbers, yes and no, days, moments, offsets, ids.

Pure functions from text to value; each raises `CellError` with a fixed word and advice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from iss_assets.protocol import terms

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_WHOLE = re.compile(r"([0-9]{1,3})(?:[.,]0+)?")
_NUMBER_ID = re.compile(r"[0-9]+[.,](0+|[0-9]+E\+?[0-9]+)|[0-9]+E\+?[0-9]+", re.IGNORECASE)
_DAY = re.compile(
    r"(?P<year>[0-9]{4})(?P<mark>[-/.])(?P<month>[0-9]{1,2})(?P=mark)(?P<day>[0-9]{1,2})"
    r"|(?P<first>[0-9]{1,2})(?P<mark2>[-/.])(?P<second>[0-9]{1,2})(?P=mark2)(?P<year2>[0-9]{4})"
    r"|(?P<day3>[0-9]{1,2})[- ](?P<name>[a-z]{3})[- ](?P<year3>[0-9]{4})",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"(?: ?(?P<half>[AP])\.?M\.?)?"
    r"(?: ?(?P<zone>Z|(?:UTC|GMT)(?![+\-\u2212])|(?:UTC|GMT)?(?P<sign>[+\-\u2212])"
    r"(?:(?P<hours>[0-9]{2})(?::?(?P<minutes>[0-9]{2}))?|(?P<hours1>[0-9])(?::(?P<minutes1>[0-9]{2}))?))"
    r"(?:\[[A-Za-z0-9_+/-]{1,64}\])?)?",
    re.IGNORECASE,
)
_DAYS_TIME = re.compile(rf"(?:T| +){_TIME.pattern}", re.IGNORECASE)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SERIAL = re.compile(r"[0-9]{5}(?:[.,][0-9]+)?")
"""What spreadsheets show for a day without a date format: days since 1899 (or 1904), 36526 for 2000."""
DateOrder = Literal["", "month_first", "day_first"]
LARGEST_OFFSET = 14 * 60
"""Minutes; no place on earth is farther from UTC (Kiribati has +14:00; the westernmost zone -12:00)."""
_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+\-\u2212]?)([0-9]{1,2})(?::([0-9]{2})|([0-9]{2}))?", re.IGNORECASE)
_MISSING = {"na", "nan", "none", "null", "nil"}
"""What programs write for a missing value; as an id, it would get lost or merge several patients."""
_YES, _NO = ("yes", "y", "true"), ("no", "n", "false")
_SEX_WORDS = {"m": "M", "male": "M", "f": "F", "female": "F"}


class CellError(ValueError):
    """A cell that cannot be parsed; `code` is a fixed word, the message says what to do and quotes nothing."""

    def __init__(self, code: str, reason: str):
        self.code = code
        super().__init__(reason)


def patient_id(text: str) -> str:
    """Parse a patient id.

    Raises
    ------
    CellError
        ``bad_id`` if `terms.PATIENT_ID` does not match, if Windows reserves the name for a device, or if it is what
        programs write for a missing value.
    """
    if not terms.PATIENT_ID.fullmatch(text) or _RESERVED.fullmatch(text) or text.casefold() in _MISSING:
        if _NUMBER_ID.fullmatch(text):
            raise CellError(
                "bad_id",
                "A program turned the id into a number, which drops leading zeros; format the column as text and export "
                "again.",
            )
        raise CellError("bad_id", "A patient id has 1 to 32 letters, digits or hyphens; correct it.")
    return text


def submission_id(text: str) -> str:
    """Parse a submission id.

    Raises
    ------
    CellError
        ``bad_id`` if `terms.SUBMISSION_ID` does not match, if it ends with a dot (Windows drops it), if Windows reserves
        the name for a device, if it is what programs write for a missing value, or if it would be mistaken for a prompt or
        a thermal picture.
    """
    fits = terms.SUBMISSION_ID.fullmatch(text) and not text.endswith(
        (".", terms.PROMPT_SUFFIX, terms.THERMAL_SUFFIX)
    )
    if not fits or _RESERVED.fullmatch(text) or text.casefold() in _MISSING:
        raise CellError(
            "bad_id",
            "A submission id has 1 to 64 letters, digits, or _ . -, starts with a letter or digit, and ends neither "
            f"with a dot nor with {terms.PROMPT_SUFFIX} or {terms.THERMAL_SUFFIX}; correct it.",
        )
    return text


def prompt_id(text: str) -> str:
    """Parse the id of a text that Question 10 has read aloud.

    Raises
    ------
    CellError
        ``bad_id`` if `terms.SUBMISSION_ID` does not match, which allows what an id of a text may have.
    """
    if not terms.SUBMISSION_ID.fullmatch(text):
        raise CellError(
            "bad_id",
            "A prompt id has 1 to 64 letters, digits, or _ . -, and starts with a letter or digit; correct it.",
        )
    return text


def cohort(text: str) -> str:
    """Parse a cohort number of Table 2."""
    number = text.upper()
    if number not in {c.number for c in terms.COHORTS}:
        raise CellError("bad_cohort", "A cohort is one of 1A to 4D; correct it.")
    return number


def sex(text: str) -> str:
    """Parse a sex and return ``M`` or ``F``."""
    try:
        return _SEX_WORDS[text.casefold()]
    except KeyError:
        raise CellError("bad_sex", "Sex is M or F, as the study's cohorts have it; correct it.") from None


def age_group(text: str) -> str:
    """Parse an age group and return ``adult`` or ``pediatric``."""
    if text.casefold() not in terms.AGE_GROUPS:
        raise CellError(
            "bad_age_group", "The age group is adult or pediatric; correct it, or leave it empty if unknown."
        )
    return text.casefold()


def skin_type(text: str) -> str:
    """Parse a Fitzpatrick type; 1 to 6 mean I to VI, also as ``1.0``, which pandas writes."""
    match = _WHOLE.fullmatch(text)
    if match and 1 <= int(match[1]) <= 6:
        return terms.SKIN_TYPES[int(match[1]) - 1]
    if text.upper() not in terms.SKIN_TYPES:
        raise CellError("bad_skin_type", "A skin type is one of I to VI; correct it.")
    return text.upper()


def score(text: str) -> int:
    """Parse a whole number from 0 to 10; ``3.0``, as spreadsheets write it, is one."""
    match = _WHOLE.fullmatch(text)
    if not match or int(match[1]) > 10:
        raise CellError(
            "bad_score", "This is a whole number from 0 to 10; correct it, or leave it empty if unknown."
        )
    return int(match[1])


def pain_target(text: str) -> int:
    """Parse a pain target, a whole number from 0 to 10."""
    try:
        return score(text)
    except CellError:
        raise CellError(
            "bad_pain_target", "A pain target is a whole number from 0 to 10; correct it."
        ) from None


def is_number(text: str) -> bool:
    """Return whether a cell holds a whole number; ``1.0`` is one."""
    return _WHOLE.fullmatch(text) is not None


def yes_or_no(text: str, *, codes: bool) -> bool:
    """Parse a yes/no answer.

    Parameters
    ----------
    text : str
        yes, no, y, n, true or false in upper or lower case; 1 and 0 if `codes`.
    codes : bool
        Whether the column holds no other numbers, so that 1 can only mean yes and 0 no. REDCap also exports
        1 for yes and 2 for no.
    """
    word = text.casefold()
    if word in _YES or word in _NO:
        return word in _YES
    match = _WHOLE.fullmatch(word)
    if match and int(match[1]) <= 1:
        if codes:
            return int(match[1]) == 1
        raise CellError(
            "ambiguous_answer",
            "This column has other numbers besides 0 and 1, so their meaning is unclear; write yes or no, or map the "
            "numbers in the setting ISS_READING__SURVEY_VALUES.",
        )
    raise CellError("bad_answer", "The answer is yes or no; correct it, or leave it empty if unknown.")


def setting(text: str) -> str:
    """Parse a setting and return ``home`` or ``clinic``."""
    if text.casefold() not in terms.SETTINGS:
        raise CellError(
            "bad_setting", "The setting is home or clinic; correct it, or leave it empty if unknown."
        )
    return text.casefold()


def day(text: str, order: DateOrder = "") -> date:
    """Parse a day written as 2021-03-31; midnight may follow, as spreadsheets and pandas write it.

    Parameters
    ----------
    text : str
        Year first, or with the month's name (31-Mar-2021); otherwise `order` must say what the first number is.
    order : {"", "month_first", "day_first"}
        How the file writes 3/31/2021 or 31/3/2021. Never guessed: up to the 12th of a month both would fit.

    Raises
    ------
    CellError
        ``bad_day``.
    """
    found = _DAY.match(text)
    time = _DAYS_TIME.fullmatch(text, found.end()) if found else None
    try:
        if found and (found.end() == len(text) or (time and not time["zone"] and not any(_clock(time)))):
            return _date_of(found, order)
    except ValueError:
        pass
    raise CellError(
        "bad_day",
        _unclear(text, found, order)
        or "A day is written as year-month-day, 2021-03-31, between 2000 and 2100; correct it.",
    )


def _date_of(found: re.Match[str], order: DateOrder) -> date:
    if found["year"]:
        year, month, day_ = found["year"], int(found["month"]), int(found["day"])
    elif found["name"]:
        year, month, day_ = found["year3"], _MONTHS.index(found["name"].lower()) + 1, int(found["day3"])
    elif order:
        numbers = int(found["first"]), int(found["second"])
        month, day_ = numbers if order == "month_first" else numbers[::-1]
        year = found["year2"]
    else:
        raise ValueError
    if not 2000 <= int(year) <= 2100:
        raise ValueError
    return date(int(year), month, day_)


def _clock(found: re.Match[str]) -> tuple[int, int, int, int]:
    """Return hour (0 to 23), minute, second and microsecond; smaller fractions are dropped."""
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
    if found["half"]:
        if not 1 <= hour <= 12:
            raise ValueError
        hour = hour % 12 + (12 if found["half"] in "Pp" else 0)
    return hour, minute, second, int((found["fraction"] or "0").ljust(9, "0")[:6])


def _unclear(text: str, found: re.Match[str] | None, order: DateOrder) -> str:
    """Return advice for a day that cannot be parsed for a known reason; empty for any other."""
    if _SERIAL.fullmatch(text):
        return "This is a spreadsheet's serial number for a day; format the column as yyyy-mm-dd hh:mm and export again."
    if found and found["first"] and not order:
        return (
            "Nothing says whether the day or the month comes first; set ISS_READING__DATE_ORDER to day_first or "
            "month_first, or put the year first."
        )
    if found and found["first"]:
        return f"This is not a valid time or does not fit the setting ISS_READING__DATE_ORDER={order}; put the year first."
    return ""


def utc_offset(text: str) -> int:
    """Parse an offset from UTC, in minutes: ``+02:00``, ``-5``, ``UTC-05:00``, ``+0530``, ``Z``.

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
    """A time as written in a table.

    Attributes
    ----------
    clock : datetime
        Naive: the clock time.
    offset_minutes : int or None
        That clock's offset from UTC; None where the time has none.
    in_utc : bool
        Whether the offset is zero: ``Z``, ``UTC``, ``GMT`` or ``+00:00``.
    """

    clock: datetime
    offset_minutes: int | None
    in_utc: bool = False


def moment(text: str, order: DateOrder = "") -> WrittenTime:
    """Parse a time in ISO 8601 or as spreadsheets and forms write it, with or without an offset.

    Accepted are ``T`` or a space in the middle, one or two digits for the hour, optional seconds and fractions, AM and PM,
    and the offsets ``Z``, ``UTC``, ``+05:30``, ``+0530``, ``+05``, ``GMT-5``; a zone name in brackets after the offset (RFC
    9557) is ignored. Zone names such as EST are not accepted, because several zones share one. Fractions smaller than a
    microsecond are dropped.

    Parameters
    ----------
    text : str
        The cell.
    order : {"", "month_first", "day_first"}
        As in `day`.

    Raises
    ------
    CellError
        ``bad_time`` if this is not a time between 2000 and 2100, or the offset exceeds `LARGEST_OFFSET`.

    Examples
    --------
    >>> moment("2021-03-31 09:05:00.5+0530")
    WrittenTime(clock=datetime.datetime(2021, 3, 31, 9, 5, 0, 500000), offset_minutes=330, in_utc=False)
    >>> moment("3/31/2021 12:05 AM", "month_first").clock
    datetime.datetime(2021, 3, 31, 0, 5)
    """
    found = _DAY.match(text)
    time = _DAYS_TIME.fullmatch(text, found.end()) if found else None
    try:
        if not found or not time:
            raise ValueError
        on = _date_of(found, order)
        clock = datetime(on.year, on.month, on.day, *_clock(time))
        offset = _offset_of(time)
    except ValueError:
        raise CellError(
            "bad_time",
            _unclear(text, found, order)
            or "A time is written as 2021-03-31T09:05:00-05:00 (day, time, offset from UTC), between 2000 and 2100; "
            "correct it.",
        ) from None
    return WrittenTime(clock, offset, in_utc=offset == 0)


def _offset_of(time: re.Match[str]) -> int | None:
    if time["zone"] is None:
        return None
    if time["sign"] is None:
        return 0
    minutes = int(time["minutes"] or time["minutes1"] or 0)
    size = int(time["hours"] or time["hours1"]) * 60 + minutes
    if minutes > 59 or size > LARGEST_OFFSET:
        raise ValueError
    return size if time["sign"] == "+" else -size
