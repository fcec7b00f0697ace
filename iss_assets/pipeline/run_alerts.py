"""From finished runs to the table ``alerts``, and sending what waits there: after a command, and by the sensors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from iss_assets.alerting.rules import RUN_FAILED, WHOLE_STUDY, Alert, Known, Observation
from iss_assets.alerting.store import Delivery, close_gone, deliver, is_raised, record
from iss_assets.pipeline.run_history import (
    PARTITION_TAG,
    RunIsOver,
    errors_of,
    events_of,
    is_taken_up,
    runs_by_id,
    unread_runs,
)
from iss_assets.privacy.register import SomebodyWithdrew
from iss_assets.protocol import terms
from iss_assets.protocol.catalogue import QUEUE_NOT_SERVED, WITHOUT_RUNS
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse

_KINDS = {
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
}

IDS_KEY = "ids"
"""Metadata of a check that lists the videos or submissions at fault."""


def observations_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[Observation]:
    """Return what a finished run found: every check's outcome, and every step's success or failure.

    A run that a person canceled is no failure. One that failed without a failed step (its process died) counts as a
    failure of its job, unless a later run continues its work; what its checks found before that counts in any case.
    """
    partition = run.tags.get(PARTITION_TAG) or WHOLE_STUDY
    found: list[Observation] = []
    failed_steps = 0
    last: datetime | None = None
    errors = errors_of(instance, run.run_id) if run.status == dg.DagsterRunStatus.FAILURE else {}
    if any(SomebodyWithdrew.__name__ in names for names in errors.values()):
        # it is done again without whoever withdrew, who must not be named now
        return []
    for at, event in events_of(instance, run.run_id, _KINDS):
        last = at
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            found.append(_of_check(run.run_id, partition, event.asset_check_evaluation_data, at))
        elif event.step_key is not None:
            passed = event.event_type == dg.DagsterEventType.STEP_SUCCESS
            names = tuple(errors.get(event.step_key, ()))
            if names == (RunIsOver.__name__,):
                # what a host went on with that was taken for gone: the run that continues its work says how it ended
                continue
            failed_steps += not passed
            # a blocking check that failed ends its step with this error, and is reported as a check
            if names != ("DagsterAssetCheckFailedError",):
                found.append(_of_step(run.run_id, partition, event.step_key, passed, at, names))
    ended = last or datetime.now(UTC)
    if run.status == dg.DagsterRunStatus.SUCCESS:
        found.append(_of_step(run.run_id, partition, run.job_name, True, ended))
    elif run.status == dg.DagsterRunStatus.FAILURE and not failed_steps and not is_taken_up(run):
        found.append(_of_step(run.run_id, partition, run.job_name, False, ended))
    return found


def _of_check(run_id: str, partition: str, data: dg.AssetCheckEvaluation, at: datetime) -> Observation:
    ids = data.metadata.get(IDS_KEY)
    listed = ids.value if ids is not None and isinstance(ids.value, list) else []
    return Observation(
        run_id=run_id,
        patient_id=data.partition or partition,
        asset=data.asset_key.to_user_string(),
        check_name=data.check_name,
        passed=data.passed,
        severity=data.severity.value,
        at=at,
        affected=tuple(i for i in listed if isinstance(i, str) and terms.SUBMISSION_ID.match(i)),
        numbers={
            # earlier versions wrote the words as they are
            name.replace("_", " "): value.value
            for name, value in data.metadata.items()
            if isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue) and value.value is not None
        },
    )


def _of_step(
    run_id: str, partition: str, step: str, passed: bool, at: datetime, errors: tuple[str, ...] = ()
) -> Observation:
    return Observation(run_id, partition, step, RUN_FAILED, passed, "ERROR", at, errors)


def record_runs(
    instance: dg.DagsterInstance, warehouse: Warehouse, runs: Sequence[dg.DagsterRun]
) -> list[Alert]:
    """Bring the table ``alerts`` up to date with finished runs, and return the alerts that are new or different.

    Runs may be passed again and in any order.
    """
    return record(warehouse, [o for run in runs for o in observations_of(instance, run)])


def record_waiting(instance: dg.DagsterInstance, warehouse: Warehouse, unserved_s: float) -> int:
    """Raise the alert that no worker takes the runs that wait, or resolve it, and return how many runs that are.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        The study's; without a cluster, nothing waits for a worker.
    warehouse : Warehouse
        Where the table ``alerts`` is.
    unserved_s : float
        Seconds that a run may wait.
    """
    unserved_runs = getattr(instance.run_launcher, "unserved_runs", None)
    if unserved_runs is None:
        return 0
    now = datetime.now(UTC)
    waiting = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING],
        created_before=now - timedelta(seconds=unserved_s),
    )
    records = instance.get_run_records(waiting)
    count = int(unserved_runs(records)) if records else 0
    if count or is_raised(warehouse, WHOLE_STUDY, QUEUE_NOT_SERVED.asset, QUEUE_NOT_SERVED.name):
        record(warehouse, [Observation.of_program(QUEUE_NOT_SERVED, passed=not count, at=now)])
    return count


def known_of(repository: dg.RepositoryDefinition, enrolled: Iterable[str]) -> Known:
    """Return what can be reported on: the checks and steps of the code location, the patients of the study folder."""
    jobs = repository.get_all_jobs()
    of_runs = ((key.asset_key.to_user_string(), key.name) for key in repository.asset_graph.asset_check_keys)
    return Known(
        checks=frozenset({*of_runs, *((check.asset, check.name) for check in WITHOUT_RUNS)}),
        steps=frozenset(name for job in jobs for name in (job.name, *(node.name for node in job.nodes))),
        patients=frozenset(enrolled),
    )


def report_runs(
    instance: dg.DagsterInstance,
    settings: Settings,
    run_ids: Sequence[str],
    repository: dg.RepositoryDefinition,
    enrolled: Collection[str] | None,
) -> Delivery:
    """Record runs of the command line as alerts and send what waits; the daemon's sensors do so for every run.

    Runs of a command that was killed before it came to this are recorded as well.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        Where the runs are.
    settings : Settings
        Home and addresses; without addresses nothing is sent.
    run_ids : sequence of str
        Finished runs; ids of runs that never existed are left out. They are needed in a home only whose runs have
        never been read (`run_history.begin_reading_runs`).
    repository : dagster.RepositoryDefinition
        The checks and steps that exist: alerts of others are closed.
    enrolled : collection of str, optional
        The patients of the study folder: alerts of others are closed. None where that is not known: nothing is closed.
    """
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    unread = unread_runs(instance)
    if unread is None:
        unread = iter([runs_by_id(instance, run_ids)] if any(run_ids) else [])
    for runs in unread:
        record_runs(instance, warehouse, runs)
    if enrolled is not None:
        close_gone(warehouse, known_of(repository, enrolled))
    return deliver(warehouse, settings)
