"""Put runs into the queue of a cluster, and follow them to their end: what `iss run` and `iss train` do there.

A run whose worker is gone is followed into the run that continues its work. Whoever stops waiting stops nothing: the runs
stay in the queue, and the next `iss run` follows those that are still in progress.

Dagster has no public API to put a run of a code location into its queue without a server of that location, so this uses
private parts:

- ``ReconstructableRepository``: says where a worker finds a job in Python.
- ``RegisteredCodeLocationOrigin``, ``RemoteRepositoryOrigin``: say which code location a run belongs to, by name; the
  daemon and the web application know where it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from iss_assets.pipeline.cluster import LOCATION, ClusterProblem
from iss_assets.pipeline.dagster_private import last_heartbeat
from iss_assets.pipeline.home import without_folders
from iss_assets.pipeline.job_runs import Load, Outcome
from iss_assets.pipeline.planning import MARTS, PATIENT_JOB, WORDS_JOB
from iss_assets.pipeline.run_history import (
    IN_PROGRESS,
    PARTITION_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    RETRY_TAG,
    STATE_TAG,
    WILL_RETRY_TAG,
    events_of,
)
from iss_assets.pipeline.training import TrainingRun

POLL_S: Final = 1.0
_QUIET_S: Final = 120.0
"""Seconds without a finished run after which is said what the queue waits for."""
_SILENT_S: Final = 120.0
"""The daemon reports every 30 s."""
_AHEAD: Final = 2
"""Patients put into the queue ahead of time, as a multiple of the runs that are handed out."""

Log = Callable[[str], None]


def require_daemon(instance: dg.DagsterInstance) -> None:
    """Raise an error if no daemon takes runs from the queue.

    Raises
    ------
    ClusterProblem
        With how long it has been silent.
    """
    last = last_heartbeat(instance)
    if last is None:
        raise ClusterProblem("no daemon takes runs from the queue; start it on one machine: iss serve")
    if (silent := time.time() - last) > _SILENT_S:
        raise ClusterProblem(
            f"the daemon has been silent for {silent / 60:.0f} min, and nothing leaves the queue without it; "
            "start it on one machine: iss serve"
        )


def queue_run(load: Load, instance: dg.DagsterInstance, run: TrainingRun) -> str:
    """Put a run into the queue and return its id.

    Parameters
    ----------
    load : callable
        Returns the definitions.
    instance : dagster.DagsterInstance
        The cluster's.
    run : TrainingRun
        The job, partitions, configuration and tags.
    """
    definition = load().resolve_job_def(run.job)
    tags = {**definition.tags, **run.tags}
    if run.partitions and run.partitions[0] == run.partitions[1]:
        tags[PARTITION_TAG] = run.partitions[0]
    elif run.partitions:
        tags |= {RANGE_START_TAG: run.partitions[0], RANGE_END_TAG: run.partitions[1]}
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), "__repository__")
    code = ReconstructableRepository.for_module("iss_assets.definitions", "defs")
    created = instance.create_run_for_job(
        definition,
        run_config=run.config,
        tags=tags,
        status=dg.DagsterRunStatus.NOT_STARTED,
        remote_job_origin=repository.get_job_origin(run.job),
        job_code_origin=code.get_reconstructable_job(run.job).get_python_origin(),
    )
    # the queue asks for no workspace
    instance.submit_run(created.run_id, workspace=None)  # type: ignore[arg-type]
    return created.run_id


def run_in_queue(
    load: Load, instance: dg.DagsterInstance, runs: list[TrainingRun], log: Log, ahead: int
) -> Iterator[tuple[TrainingRun, Outcome]]:
    """Put runs into the queue, a few ahead of what the workers take, and yield how they ended, as they do.

    Where the same run is in progress already, requested by somebody else, that one is followed.

    Parameters
    ----------
    load : callable
        Returns the definitions.
    instance : dagster.DagsterInstance
        The cluster's.
    runs : list of TrainingRun
        What to run.
    log : callable
        Takes a line for the person who waits, if nothing happens for long.
    ahead : int
        Runs that are handed to the workers at a time (``cluster.runs``).
    """
    waiting = list(reversed(runs))
    followed: dict[str, TrainingRun] = {}
    in_progress = {
        (found.job_name, found.tags.get(PARTITION_TAG) or found.tags.get(STATE_TAG)): found.run_id
        for found in instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS)))
        if found.job_name in (PATIENT_JOB, WORDS_JOB, MARTS)
    }
    quiet_since = time.monotonic()
    while waiting or followed:
        while waiting and len(followed) < ahead * _AHEAD:
            run = waiting.pop()
            about = run.partitions[0] if run.partitions else run.tags.get(STATE_TAG)
            run_id = in_progress.pop((run.job, about), None) or queue_run(load, instance, run)
            followed[run_id] = run
        for ended in instance.get_runs(dg.RunsFilter(run_ids=list(followed))):
            if not ended.is_finished:
                continue
            # a host that comes back may say of its run again how it ended, so the run that continues it comes first
            if next_id := ended.tags.get(RETRY_TAG):
                followed[next_id] = followed.pop(ended.run_id)
                continue
            if ended.tags.get(WILL_RETRY_TAG) == "true":
                continue
            run = followed.pop(ended.run_id)
            quiet_since = time.monotonic()
            yield run, Outcome(run.subject, ended.run_id, ended.is_success, _reason(instance, ended))
        if time.monotonic() - quiet_since > _QUIET_S:
            quiet_since = time.monotonic()
            log(_what_it_waits_for(instance, followed))
        if followed:
            time.sleep(POLL_S)


def _what_it_waits_for(instance: dg.DagsterInstance, followed: Mapping[str, Any]) -> str:
    try:
        require_daemon(instance)
    except ClusterProblem as problem:
        return str(problem)
    begun = instance.get_runs_count(
        dg.RunsFilter(run_ids=list(followed), statuses=[dg.DagsterRunStatus.STARTED])
    )
    if begun:
        return f"{begun} runs are being executed, {len(followed) - begun} wait"
    return f"{len(followed)} runs wait, and no worker executes any of them; see: iss doctor"


def _reason(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return why a run did not succeed, in one line; empty if it did."""
    if run.is_success:
        return ""
    if run.status == dg.DagsterRunStatus.CANCELED:
        return "canceled"
    for _, event in events_of(instance, run.run_id, {dg.DagsterEventType.STEP_FAILURE}):
        error = event.step_failure_data.error
        if error is not None and error.cause is not None:
            error = error.cause
        message = (error.message if error else "").strip().splitlines()
        return f"{event.step_key}: {without_folders(message[0]) if message else 'failed'}"
    return (
        "its process or host was gone, and again when it was tried again; the run's log in the UI says more"
    )
