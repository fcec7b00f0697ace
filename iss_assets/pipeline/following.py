"""Whether this home has to follow a withdrawal of another host now; the daemon does so by a run of its own.

Not within a tick of a sensor: whoever works on the home is waited for, and its every byte is read.
"""

from __future__ import annotations

from typing import Final

import dagster as dg

from iss_assets.pipeline.run_history import IN_PROGRESS

FOLLOW_JOB: Final = "follow_withdrawals"
CHANGE_TAG: Final = "iss/register_change"
"""The change of the register of withdrawals that a run is to follow."""
_FIRST_WAIT_S: Final = 60.0
_LONGEST_WAIT_S: Final = 3600.0
_LOOKED_AT: Final = 20


def follow_key(instance: dg.DagsterInstance, change: int, now: float) -> str | None:
    """Return the key of the run that is due, or None while one is in progress or the last one has just failed.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        Earlier runs.
    change : int
        The change of the register that this home has not followed.
    now : float
        The time, in seconds since 1970.
    """
    records = instance.get_run_records(
        dg.RunsFilter(job_name=FOLLOW_JOB, tags={CHANGE_TAG: str(change)}), limit=_LOOKED_AT
    )
    if any(record.dagster_run.status in IN_PROGRESS for record in records):
        return None
    if not records:
        return str(change)
    newest = records[0]
    ended = newest.end_time or newest.update_timestamp.timestamp()
    if now - ended < min(_FIRST_WAIT_S * 2 ** (len(records) - 1), _LONGEST_WAIT_S):
        return None
    return f"{change}:{newest.dagster_run.run_id}"
