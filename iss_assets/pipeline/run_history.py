"""Every question to Dagster's storage about runs: which are at work, how they ended, what failed."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
from dagster import DagsterInstance
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.dagster_run import FINISHED_STATUSES, NOT_FINISHED_STATUSES, RunRecord

from iss_assets.pipeline.planning import MARTS, Attempt, can_heal
from iss_assets.pipeline.staleness import PATIENT_TABLES

PID_TAG, HOST_TAG = "iss/pid", "iss/host"


def end_dead_runs(instance: DagsterInstance) -> list[str]:
    """Mark runs as failed whose process is gone, so that the UI does not show them as running for ever.

    Their places in pools become free. Gives the patients of these runs.
    """
    from dagster import DagsterRunStatus, RunsFilter

    pass

    patients = []
    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.STARTING])):
        pid = run.tags.get(PID_TAG, "")
        if run.tags.get(HOST_TAG) == socket.gethostname() and pid.isdigit() and not _alive(int(pid)):
            instance.add_run_tags(run.run_id, {TAKEN_UP_TAG: "true"})
            instance.report_run_failed(
                run, "The process that ran it is gone; `iss run` takes the work up again."
            )
            patients.append(run.tags.get("dagster/partition", ""))
    # a run that died keeps its place in a pool, and where no daemon runs nobody else gives it back: the next
    # training would wait for it for ever
    for run_id in instance.event_log_storage.get_concurrency_run_ids():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    return patients


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


SUBJECT_TAG, STATE_TAG = "iss/subject", "iss/state"


PARTITION_TAG = "dagster/partition"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"


TRAINING_SCHEDULE = "weekly_training"
"""The schedule that starts a training."""
TRAINING_TAG, TRAINING_STEP_TAG = "iss/training", "iss/training_step"
"""On the runs that follow: the id of the run that the schedule started, and what this one brings up to date."""
_SCHEDULE_TAG = "dagster/schedule_name"


TAKEN_UP_TAG = "iss/taken_up"
"""On a run whose process died and whose work a later command takes up, so that it is no trouble of its own."""


_PATIENT_KEYS = frozenset(dg.AssetKey(name) for name in PATIENT_TABLES)


_CHUNK = 500
"""Values in one question to Dagster's storage; SQLite takes a limited number."""


def subjects_in_flight(instance: dg.DagsterInstance) -> frozenset[str]:
    """Give the patients, and the study-wide jobs, that runs not yet ended work on, whoever launched them."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
    return frozenset(run.tags.get(PARTITION_TAG) or run.tags.get(SUBJECT_TAG) or run.job_name for run in runs)


@dataclass(frozen=True)
class Training:
    """The runs of one training that the schedule started.

    Attributes
    ----------
    training_id : str
        Id of the run that the schedule requested.
    unfinished : tuple of str
        Ids of runs that are queued or running.
    done : dict
        What finished runs were to bring up to date, to whether they succeeded.
    """

    training_id: str
    unfinished: tuple[str, ...]
    done: dict[str, bool]


def newest_training(instance: dg.DagsterInstance) -> Training | None:
    """Return the newest training that the schedule started, None before the first."""
    started = instance.get_runs(
        # earlier versions trained inside one run, of a job of the schedule's own name
        dg.RunsFilter(job_name="splits", tags={_SCHEDULE_TAG: TRAINING_SCHEDULE}),
        limit=1,
    )
    if not started:
        return None
    followed = instance.get_runs(dg.RunsFilter(tags={TRAINING_TAG: started[0].run_id}))
    runs = [*started, *followed]
    return Training(
        started[0].run_id,
        tuple(run.run_id for run in runs if not run.is_finished),
        {run.tags.get(TRAINING_STEP_TAG, ""): run.is_success for run in runs if run.is_finished},
    )


def attempts_of(instance: dg.DagsterInstance, subjects: Sequence[str]) -> dict[str, list[Attempt]]:
    """Give the ended runs that the sensor asked for, newest first, for each subject.

    Only the newest one's log is opened, to see whether its failure can heal: that alone decides.
    """
    attempts: dict[str, list[Attempt]] = {}
    for start in range(0, len(subjects), _CHUNK):
        records = instance.get_run_records(
            dg.RunsFilter(
                statuses=FINISHED_STATUSES, tags={SUBJECT_TAG: list(subjects[start : start + _CHUNK])}
            )
        )
        for record in records:
            of_subject = attempts.setdefault(record.dagster_run.tags[SUBJECT_TAG], [])
            of_subject.append(
                Attempt(
                    run_id=record.dagster_run.run_id,
                    state=record.dagster_run.tags.get(STATE_TAG, ""),
                    ended_at=record.end_time or record.update_timestamp.timestamp(),
                    can_heal=bool(of_subject) or _can_heal(instance, record),
                )
            )
    return attempts


def backfilled_patients(instance: dg.DagsterInstance) -> frozenset[str]:
    """Give the patients whose runs a backfill is launching, of the job or of assets chosen in the UI."""
    patients: set[str] = set()
    for backfill in instance.get_backfills(status=BulkActionStatus.REQUESTED):
        if backfill.job_name == "patient":
            patients.update(backfill.partition_names or ())
        elif backfill.asset_backfill_data is not None:
            subsets = backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key
            for key in subsets.keys() & _PATIENT_KEYS:
                patients.update(subsets[key].get_partition_keys())
    return frozenset(patients)


def finished_since(
    instance: dg.DagsterInstance, cursor: str | None, most: int = 50
) -> tuple[list[dg.DagsterRun], str | None]:
    """Give the runs that ended after a cursor, the oldest first, and the new cursor.

    Unlike Dagster's run-status sensors this starts with the first run there ever was, so runs of the command line
    that ended while no daemon was there are read as soon as there is one.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        Where the runs are.
    cursor : str, optional
        What the last call gave.
    most : int
        Runs read at a time.
    """
    at, done = json.loads(cursor) if cursor else [None, []]
    # the storage compares with "later than"; runs of the very moment of the cursor may still come
    since = datetime.fromisoformat(at) - timedelta(microseconds=1) if at else None
    records = instance.get_run_records(
        dg.RunsFilter(statuses=FINISHED_STATUSES, updated_after=since),
        limit=most + len(done),
        order_by="update_timestamp",
        ascending=True,
    )
    new = [r for r in records if r.dagster_run.run_id not in done]
    if not new:
        return [], cursor
    moment = records[-1].update_timestamp
    same = [r.dagster_run.run_id for r in records if r.update_timestamp == moment]
    return [r.dagster_run for r in new], json.dumps([moment.isoformat(), same])


def errors_of(instance: dg.DagsterInstance, run_id: str) -> dict[str, list[str]]:
    """Give the error classes of a run's failed steps, by step: names only, since messages may hold content.

    A step that failed for some videos or SQL models names their errors in the metadata of its failure.
    """
    found: dict[str, list[str]] = {}
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records:
        event = record.event_log_entry.dagster_event
        if event is None or event.step_key is None:
            continue
        data = event.step_failure_data
        failure = data.user_failure_data
        several = (failure.metadata.get("videos") or failure.metadata.get("models")) if failure else None
        value = several.value if several is not None else None
        if isinstance(value, dict) and value:
            found[event.step_key] = sorted({str(name) for name in value.values()})
        else:
            # Dagster's own error stands around the one that the step raised
            error = data.error.cause or data.error if data.error else None
            found[event.step_key] = [error.cls_name] if error and error.cls_name else []
    return found


def _can_heal(instance: dg.DagsterInstance, record: RunRecord) -> bool:
    if record.dagster_run.status != dg.DagsterRunStatus.FAILURE:
        return True
    return can_heal(
        {name for names in errors_of(instance, record.dagster_run.run_id).values() for name in names}
    )


def _newest_state(instance: dg.DagsterInstance, subject: str) -> str | None:
    """Give the state of a subject's last run that succeeded."""
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], tags={SUBJECT_TAG: subject}), limit=1
    )
    return records[0].dagster_run.tags.get(STATE_TAG) if records else None


def _marts_at(instance: dg.DagsterInstance) -> float | None:
    newest = instance.get_run_records(
        dg.RunsFilter(job_name=MARTS, statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1
    )
    first = newest or instance.get_run_records(limit=1, ascending=True)
    return (first[0].end_time or first[0].create_timestamp.timestamp()) if first else None
