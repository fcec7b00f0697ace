"""The columns of ``bpi_scores`` that tell the time, by Python's datetime alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

TIMEFRAMES = {0: "early AM", 1: "late AM", 2: "early PM", 3: "late PM"}


def time_columns(at: datetime, offset_minutes: int = 0) -> dict[str, Any]:
    """Return the columns of a check-in at this moment, written with this offset."""
    local = at.astimezone(timezone(timedelta(minutes=offset_minutes)))
    return {
        "submitted_at": at.astimezone(UTC),
        "written_time": local.replace(tzinfo=None),
        "utc_offset_minutes": offset_minutes,
        "utc_offset_source": "written",
        "submitted_on": local.date(),
        "timeframe": TIMEFRAMES[local.hour // 6],
    }
