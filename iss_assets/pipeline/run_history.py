"""Every query to Dagster's storage: which patients it knows, which runs are in progress, how runs ended, what failed.

Tags on runs are named here as well, since they are what the queries go by.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg

from iss_assets.pipeline.dagster_private import BulkActionStatus
from iss_assets.pipeline.partition_keys import PATIENTS
from iss_assets.pipeline.planning import MARTS, PATIENT_JOB, WORDS_JOB, Attempt, can_heal, subject_of
from iss_assets.pipeline.staleness import FEATURE_TABLES, PATIENT_TABLES, PROMPT_TABLES

PID_TAG, HOST_TAG, PROCESS_TAG = "iss/pid", "iss/host", "iss/process"
"""The process that executes a run; the last one says which process of that number, as numbers are used again."""
SUBJECT_TAG, STATE_TAG = "iss/subject", "iss/state"
"""What a run was requested for (`pipeline.planning`)."""
PARTITION_TAG = "dagster/partition"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
TRAINING_SCHEDULE = "weekly_training"
"""The schedule that starts a training."""
TRAINING_TAG, TRAINING_STEP_TAG = "iss/training", "iss/training_step"
"""On the runs that follow: the id of the run that the schedule started, and what this one brings up to date."""
_SCHEDULE_TAG = "dagster/schedule_name"
WILL_RETRY_TAG, RETRY_TAG = "dagster/will_retry", "dagster/auto_retry_run_id"
"""On a failed run: whether Dagster hands it out again, and the id of the run that continues its work. Also on runs that
were handed out again is `RETRY_NUMBER_TAG`."""
RETRY_NUMBER_TAG = "dagster/retry_number"
TAKEN_UP_TAG = "iss/taken_up"
"""On a run whose process died and whose work a later run continues, so that it raises no alert of its own."""

FINISHED: Final = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
IN_PROGRESS: Final = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUSPENDED,
    dg.DagsterRunStatus.CANCELING,
)

_LATE: Final = timedelta(minutes=5)
"""How far a clock may be behind; workers whose clock is off by more than a minute do not start (`cluster_database`)."""
_READ_UNTIL = "iss/told_until"
"""Key of the cursor that says up to where the command line has read runs for alerts."""
_PATIENT_KEYS = frozenset(dg.AssetKey(name) for name in (*PATIENT_TABLES, *FEATURE_TABLES, *PROMPT_TABLES))
_CHUNK = 500
"""Values per query; SQLite accepts a limited number."""


def known_patients(instance: dg.DagsterInstance) -> Sequence[str]:
    """Return the patients that have a partition."""
    return instance.get_dynamic_partitions(PATIENTS)


def add_patients(instance: dg.DagsterInstance, patients: Sequence[str]) -> None:
    """Add a partition for each patient."""
    instance.add_dynamic_partitions(PATIENTS, list(patients))


def process_tags() -> dict[str, str]:
    """Return the tags that say which process executes a run: this one."""
    return {
        PID_TAG: str(os.getpid()),
        HOST_TAG: socket.gethostname(),
        PROCESS_TAG: _started(os.getpid()),
    }


def tag_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Record on a run that this process executes it, unless that is recorded.

    A run that continues another one's work begins with that one's tags.

    It tells live runs from dead ones: when the machine goes down, nothing is left that could report them as failed.
    """
    tags = process_tags()
    if tags.items() - run.tags.items():
        instance.add_run_tags(run.run_id, tags)


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report runs as failed whose process is gone, so that the UI does not show them as running forever.

    Their slots in pools become free. In a cluster, the launcher finds them (`cluster_launcher`): processes of other hosts
    cannot be seen from here. What is reported there is what was handed out and lost on the way.

    Returns
    -------
    list of str
        The patients of these runs.
    """
    lost_runs = getattr(instance.run_launcher, "lost_runs", None)
    if lost_runs is not None:
        starting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING])
        lost: list[dg.DagsterRun] = lost_runs(instance.get_run_records(starting))
        for run in lost:
            instance.report_run_failed(run, "It was on its way to the workers, and none of them knows of it.")
        return [run.tags.get(PARTITION_TAG, "") for run in lost]
    patients = []
    started = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]
    for run in instance.get_runs(dg.RunsFilter(statuses=started)):
        if run.tags.get(HOST_TAG) == socket.gethostname() and not _runs_on(run.tags):
            instance.add_run_tags(run.run_id, {TAKEN_UP_TAG: "true"})
            instance.report_run_failed(
                run, "The process that ran it is gone; the next run continues its work."
            )
            patients.append(run.tags.get(PARTITION_TAG, ""))
    # a run that died keeps its slot in a pool, and without a daemon nobody else frees it: the next training would wait
    # for it forever
    for run_id in instance.event_log_storage.get_concurrency_run_ids():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    return patients


def is_taken_up(run: dg.DagsterRun) -> bool:
    """Return whether a later run continues the work of one whose process died.

    That it exists says more than that it will be made: a host that comes back reports its run as failed once more.
    """
    return bool({TAKEN_UP_TAG, RETRY_TAG} & run.tags.keys()) or run.tags.get(WILL_RETRY_TAG) == "true"


def _runs_on(tags: Mapping[str, str]) -> bool:
    """Return whether the process named in a run's tags still exists, or the tags name none."""
    number = tags.get(PID_TAG, "")
    if not number.isdigit():
        return True
    pid = int(number)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    recorded, found = tags.get(PROCESS_TAG, ""), _started(pid)
    return not recorded or not found or recorded == found


def _started(pid: int) -> str:
    """Return the boot and the moment at which a process started; empty where the system has no /proc."""
    with suppress(OSError, IndexError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # the name in parentheses may hold spaces; the start is field 22 (man proc_pid_stat)
        return f"{boot} {Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    return ""


class RunIsOver(RuntimeError):
    """This process executes a run that was reported as over, and another run may be doing its work."""


def require_unfinished(instance: dg.DagsterInstance, run_id: str) -> None:
    """Raise an error if a run is over.

    A host that was cut off goes on with a run that was taken for gone meanwhile, and must not write over what came after it.

    Raises
    ------
    RunIsOver
        If it succeeded, failed, or was canceled, by whatever was reported of it.
    """
    run = instance.get_run_by_id(run_id)
    if run is not None and run.is_finished:
        raise RunIsOver("this run was reported as over while it went on; nothing more is written")


def subjects_in_flight(instance: dg.DagsterInstance) -> frozenset[str]:
    """Return the patients, words and study-wide jobs of all runs in progress, however they were launched."""

    def subject(run: dg.DagsterRun) -> str:
        if patient := run.tags.get(PARTITION_TAG):
            return subject_of(run.job_name, patient)
        return run.tags.get(SUBJECT_TAG) or run.job_name

    return frozenset(subject(run) for run in instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS))))


def runs_at_work(instance: dg.DagsterInstance) -> int:
    """Return how many runs have begun and not ended; a run that is queued has read no setting yet."""
    begun = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    return instance.get_runs_count(dg.RunsFilter(statuses=begun))


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
    """Return the finished runs that the sensor requested, newest first, for each subject.

    Only the newest one's log is opened, to find out whether its failure can heal: that alone decides.
    """
    attempts: dict[str, list[Attempt]] = {}
    for start in range(0, len(subjects), _CHUNK):
        records = instance.get_run_records(
            dg.RunsFilter(statuses=list(FINISHED), tags={SUBJECT_TAG: list(subjects[start : start + _CHUNK])})
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
    """Return the patients whose runs a backfill is launching, of the job or of assets chosen in the UI."""
    patients: set[str] = set()
    for backfill in instance.get_backfills(status=BulkActionStatus.REQUESTED):
        if backfill.job_name in (PATIENT_JOB, WORDS_JOB):
            patients.update(backfill.partition_names or ())
        elif backfill.asset_backfill_data is not None:
            subsets = backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key
            for key in subsets.keys() & _PATIENT_KEYS:
                patients.update(subsets[key].get_partition_keys())
    return frozenset(patients)


def finished_since(
    instance: dg.DagsterInstance, cursor: str | None, limit: int = 50
) -> tuple[list[dg.DagsterRun], str | None]:
    """Return the runs that ended after a cursor, the oldest first, and the new cursor.

    Unlike Dagster's run-status sensors this starts with the first run there ever was, so runs of the command line
    that ended while no daemon was there are read as soon as there is one. A run's end has the time of the host that executed
    it, so a host whose clock is behind by less than `_LATE` is read as well.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        Where the runs are.
    cursor : str, optional
        What the last call returned.
    limit : int
        Runs read at a time.
    """
    at, read = json.loads(cursor) if cursor else (None, {})
    until = datetime.fromisoformat(at) if at else None
    # an earlier version listed the runs of the very moment of the cursor, and had read all before
    earlier = isinstance(read, list)
    done: dict[str, str] = dict.fromkeys(read, at) if earlier else read
    since = until - _LATE - timedelta(microseconds=1) if until else None
    records = instance.get_run_records(
        # the storage compares with "later than"
        dg.RunsFilter(statuses=list(FINISHED), updated_after=since),
        limit=limit + len(done),
        order_by="update_timestamp",
        ascending=True,
    )
    new = [
        record
        for record in records
        if done.get(record.dagster_run.run_id) != record.update_timestamp.isoformat()
        and not (earlier and until and record.update_timestamp < until)
    ]
    if not new:
        return [], cursor
    # a clock that is ahead must not hide the runs of all others
    latest = min(records[-1].update_timestamp, datetime.now(UTC))
    latest = max(latest, until) if until else latest
    done |= {record.dagster_run.run_id: record.update_timestamp.isoformat() for record in records}
    kept = {
        run_id: moment for run_id, moment in done.items() if datetime.fromisoformat(moment) >= latest - _LATE
    }
    return [record.dagster_run for record in new], json.dumps([latest.isoformat(), kept])


def begin_reading_runs(instance: dg.DagsterInstance) -> None:
    """Record from when on the command line reads runs for alerts, in a home that has no record of it yet."""
    if not instance.run_storage.get_cursor_values({_READ_UNTIL}):
        instance.run_storage.set_cursor_values({_READ_UNTIL: json.dumps([datetime.now(UTC).isoformat(), []])})


def unread_runs(instance: dg.DagsterInstance) -> Iterator[Sequence[dg.DagsterRun]] | None:
    """Return the runs that ended since the command line last read them, in portions; None if it never did.

    A portion counts as read when the next one is asked for.
    """
    cursor = instance.run_storage.get_cursor_values({_READ_UNTIL}).get(_READ_UNTIL)
    return None if cursor is None else _portions(instance, cursor)


def _portions(instance: dg.DagsterInstance, cursor: str | None) -> Iterator[Sequence[dg.DagsterRun]]:
    runs, cursor = finished_since(instance, cursor)
    while runs:
        yield runs
        runs, cursor = finished_since(instance, cursor)
    if cursor is not None:
        instance.run_storage.set_cursor_values({_READ_UNTIL: cursor})


def runs_by_id(instance: dg.DagsterInstance, run_ids: Collection[str]) -> Sequence[dg.DagsterRun]:
    """Return the runs with these ids; ids of runs that never existed are left out."""
    return instance.get_runs(dg.RunsFilter(run_ids=[i for i in run_ids if i]))


def events_of(
    instance: dg.DagsterInstance, run_id: str, kinds: set[dg.DagsterEventType]
) -> Iterator[tuple[datetime, dg.DagsterEvent]]:
    """Yield the events of these kinds that a run logged, oldest first, each with its time (UTC)."""
    for record in instance.get_records_for_run(run_id, of_type=kinds).records:
        event = record.event_log_entry.dagster_event
        if event is not None:
            yield datetime.fromtimestamp(record.event_log_entry.timestamp, UTC), event


def errors_of(instance: dg.DagsterInstance, run_id: str) -> dict[str, list[str]]:
    """Return the error classes of a run's failed steps, by step: names only, since messages may hold content.

    A step that failed for some videos or SQL models names their errors in the metadata of its failure.
    """
    found: dict[str, list[str]] = {}
    for _, event in events_of(instance, run_id, {dg.DagsterEventType.STEP_FAILURE}):
        if event.step_key is None:
            continue
        data = event.step_failure_data
        failure = data.user_failure_data
        several = (failure.metadata.get("videos") or failure.metadata.get("models")) if failure else None
        value = several.value if several is not None else None
        if isinstance(value, dict) and value:
            found[event.step_key] = sorted({str(name) for name in value.values()})
        else:
            # Dagster's own error wraps the one that the step raised
            error = data.error.cause or data.error if data.error else None
            found[event.step_key] = [error.cls_name] if error and error.cls_name else []
    return found


def _can_heal(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    if record.dagster_run.status != dg.DagsterRunStatus.FAILURE:
        return True
    return can_heal(
        {name for names in errors_of(instance, record.dagster_run.run_id).values() for name in names}
    )


def last_state(instance: dg.DagsterInstance, subject: str) -> str | None:
    """Return the state that a subject's last successful run was made for; None before the first."""
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], tags={SUBJECT_TAG: subject}), limit=1
    )
    return records[0].dagster_run.tags.get(STATE_TAG) if records else None


def unless_made(instance: dg.DagsterInstance, subject: str, state: str | None) -> str | None:
    """Return a subject's state, or None where its last successful run was made for that state."""
    return None if last_state(instance, subject) == state else state


def marts_made_at(instance: dg.DagsterInstance) -> float | None:
    """Return when the marts were last made, or else the first run ended, in seconds since 1970; None before that."""
    newest = instance.get_run_records(
        dg.RunsFilter(job_name=MARTS, statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1
    )
    first = newest or instance.get_run_records(limit=1, ascending=True)
    return (first[0].end_time or first[0].create_timestamp.timestamp()) if first else None
