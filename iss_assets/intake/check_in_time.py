"""When a check-in was sent, and what day and time it was where the patient was.

This module has the one rule of which UTC offset counts. The offset written with the time comes first: a phone knows about
daylight saving time and travel, a table of patients does not. The patient's own offset is used only where the time has
none, and the study's where the patient has none either. Without any of them the local day, the time of day and the moment
are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from iss_assets.intake.cells import WrittenTime
from iss_assets.protocol import terms


@dataclass(frozen=True)
class CheckInTime:
    """The time of a check-in.

    Attributes
    ----------
    written_time : datetime
        Naive: the time as written in the table, without its offset.
    submitted_at : datetime or None
        The moment in UTC; None where no offset is known.
    utc_offset_minutes : int or None
        UTC offset of the local time; None where unknown.
    utc_offset_source : str
        One of `terms.OFFSET_SOURCES`.
    """

    written_time: datetime
    submitted_at: datetime | None
    utc_offset_minutes: int | None
    utc_offset_source: str

    @property
    def local(self) -> datetime | None:
        """The clock time where the patient was (naive); None where unknown."""
        if self.submitted_at is None or self.utc_offset_minutes is None:
            return None
        return self.submitted_at.replace(tzinfo=None) + timedelta(minutes=self.utc_offset_minutes)

    @property
    def submitted_on(self) -> date | None:
        """The local day."""
        return self.local.date() if self.local else None

    @property
    def timeframe(self) -> str | None:
        """The local time of day, one of `terms.TIMEFRAMES`."""
        return terms.timeframe(self.local) if self.local else None

    def row(self) -> dict[str, Any]:
        """Return the columns of ``bpi_scores`` that hold the time."""
        return {
            "submitted_at": self.submitted_at,
            "written_time": self.written_time,
            "utc_offset_minutes": self.utc_offset_minutes,
            "utc_offset_source": self.utc_offset_source,
            "submitted_on": self.submitted_on,
            "timeframe": self.timeframe,
        }


def check_in_time(
    written: WrittenTime,
    patient_offset: int | None,
    study_offset: int | None,
    utc_means: Literal["offset", "moment"] = "offset",
) -> CheckInTime:
    """Choose the UTC offset that counts and return the check-in's time.

    Parameters
    ----------
    written : WrittenTime
        The time as written in the table.
    patient_offset, study_offset : int or None
        Minutes from UTC in ``enrollment.csv`` and in the settings.
    utc_means : {"offset", "moment"}
        What a time written in UTC means: that the patient's clock showed UTC, or only the moment (exports that convert
        every time to UTC). In the second case the local offset is the patient's or the study's.

    Examples
    --------
    >>> found = check_in_time(WrittenTime(datetime(2021, 7, 12, 12, 30), -240), -300, None)
    >>> found.submitted_on, found.timeframe, found.utc_offset_source
    (datetime.date(2021, 7, 12), 'early PM', 'written')
    """
    own = written.offset_minutes
    local: int | None
    if own is not None and not (written.in_utc and utc_means == "moment"):
        local, source = own, "written"
    elif patient_offset is not None:
        local, source = patient_offset, "patient"
    elif study_offset is not None:
        local, source = study_offset, "study"
    else:
        local, source = None, "unknown"
    counted = own if own is not None else local
    at = None if counted is None else (written.clock - timedelta(minutes=counted)).replace(tzinfo=UTC)
    return CheckInTime(written.clock, at, local, source)
