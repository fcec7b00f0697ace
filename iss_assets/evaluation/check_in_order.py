"""In which order a patient's check-ins were sent, also where the UTC offset of some is unknown.

A check-in without a known offset has no moment, only the time that was written. Moments in UTC and written times must not be
compared with each other: hours lie between them. Such a check-in is taken to have been sent where the patient was at the check-in
next to it, by the clock.
"""

from __future__ import annotations

from typing import Final

import pandas as pd

SENT_SQL: Final = """(
  with own as (
    select
      submission_id, written_time, submitted_at at time zone 'UTC' as moment, utc_offset_minutes as away,
      submitted_at at time zone 'UTC' + to_minutes(utc_offset_minutes) as clock
    from bpi_scores
    where patient_id = $patient
  )
  select submission_id, coalesce(moment, written_time - to_minutes(coalesce((
    select arg_min(k.away, (abs(epoch(k.clock) - epoch(own.written_time)), k.clock)) from own as k where k.clock is not null
  ), 0))) as sent
  from own
)"""
"""The same as `sent` in SQL, as a table of one patient's check-ins."""


def local_times(bpi_scores: pd.DataFrame) -> pd.Series:
    """Return the time on the patient's clock, without an offset: as it was written where the offset is unknown.

    Parameters
    ----------
    bpi_scores : pandas.DataFrame
        ``submitted_at``, ``written_time``, and ``utc_offset_minutes``; without the latter, times were written by the patient's
        clock.
    """
    moment, written = _moments(bpi_scores), _written(bpi_scores)
    if "utc_offset_minutes" not in bpi_scores:
        return written.fillna(moment)
    local = moment + pd.to_timedelta(bpi_scores["utc_offset_minutes"].astype(float), unit="min")
    return local.fillna(written).fillna(moment)


def sent(bpi_scores: pd.DataFrame) -> pd.Series:
    """Return when each check-in was sent, in UTC, by which those of a patient can be ordered; estimated where it is unknown.

    Parameters
    ----------
    bpi_scores : pandas.DataFrame
        Rows of that name, with the columns that `local_times` needs and ``patient_id``.
    """
    moment = _moments(bpi_scores)
    found = moment.fillna(_written(bpi_scores))
    clock = local_times(bpi_scores)
    of_clock = moment.notna()
    if "utc_offset_minutes" in bpi_scores:
        of_clock &= bpi_scores["utc_offset_minutes"].notna()
    for _, own in moment[moment.isna()].groupby(bpi_scores["patient_id"]):
        patient = bpi_scores.at[own.index[0], "patient_id"]
        known = clock[of_clock & (bpi_scores["patient_id"] == patient)].sort_values()
        for place in own.index if len(known) else ():
            nearest = (known - found[place]).abs().idxmin()
            found[place] -= clock[nearest] - moment[nearest]
    return found


def _moments(bpi_scores: pd.DataFrame) -> pd.Series:
    return pd.to_datetime(bpi_scores["submitted_at"], utc=True).dt.tz_localize(None).astype("datetime64[us]")


def _written(bpi_scores: pd.DataFrame) -> pd.Series:
    return pd.to_datetime(bpi_scores["written_time"]).astype("datetime64[us]")
