"""What the daemon does on its own: watch the study folder, continue a training, record alerts, send them.

A sensor reads, calls one pure function and returns its result to Dagster. Decisions are made in ``pipeline.planning``,
``pipeline.training`` and ``alerting.rules``. See "Sensors" in Dagster's concept pages.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import dagster as dg

from iss_assets.alerting.store import close_gone, deliver
from iss_assets.defs.jobs import (
    accuracy_job,
    check_ins_job,
    embeddings_job,
    evaluation_job,
    follow_withdrawals_job,
    marts_job,
    patient_job,
    patient_report_job,
    report_job,
    study_job,
    train_job,
    words_job,
)
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.features.registry import is_on
from iss_assets.pipeline.following import CHANGE_TAG, follow_key
from iss_assets.pipeline.observing import observe
from iss_assets.pipeline.planning import MARTS, Plan, plan
from iss_assets.pipeline.prepared_read import hand_over
from iss_assets.pipeline.run_alerts import known_of, record_runs, record_waiting
from iss_assets.pipeline.run_history import (
    RANGE_END_TAG,
    RANGE_START_TAG,
    STATE_TAG,
    SUBJECT_TAG,
    TRAINING_STEP_TAG,
    TRAINING_TAG,
    finished_since,
    known_patients,
    newest_training,
    subjects_in_flight,
)
from iss_assets.pipeline.training import (
    TrainingRun,
    chosen_experiments,
    next_page_runs,
    next_training_runs,
)
from iss_assets.privacy.register import open_study, to_clean
from iss_assets.settings import Settings


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Return every sensor of the code location.

    Parameters
    ----------
    settings : Settings
        Intervals; where the study and its warehouse are comes from the resource ``warehouse`` at each tick.
    """
    return [
        _study_sensor(settings),
        _training_sensor(settings),
        _alert_watch(settings),
        _alert_delivery(settings),
        *([_withdrawals_elsewhere(settings)] if settings.warehouse.catalog else []),
    ]


def _withdrawals_elsewhere(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="withdrawals_elsewhere",
        job=follow_withdrawals_job,
        minimum_interval_seconds=settings.sensors.interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Requests a run when a patient has withdrawn on another host of the shared warehouse: it removes what this home "
            "keeps of them and writes a certificate. One that fails is requested again, with longer and longer waits."
        ),
    )
    def withdrawals_elsewhere(
        context: dg.SensorEvaluationContext, warehouse: WarehouseResource
    ) -> dg.SensorResult:
        change = to_clean(warehouse.settings())
        if change is None:
            return dg.SensorResult(skip_reason="this home has followed every withdrawal")
        key = follow_key(context.instance, change, time.time())
        if key is None:
            return dg.SensorResult(skip_reason="a withdrawal is being followed, or was tried a moment ago")
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, tags={CHANGE_TAG: str(change)})])

    return withdrawals_elsewhere


def _study_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="study_sensor",
        jobs=[patient_job, *([words_job] if is_on("words", settings) else []), study_job, marts_job],
        minimum_interval_seconds=settings.sensors.interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Watches the study folder: enrolls new patients, requests a run of each patient whose answers, videos, "
            "settings or code changed, and then of their words and for the study-wide tables. A video that is still being copied "
            "waits; nothing is ever deleted because a folder cannot be read. Closes alerts of checks and patients that "
            "are gone."
        ),
    )
    def study_sensor(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
        current = warehouse.settings()
        folder = open_study(current)
        state = observe(context.instance, current, folder)
        if context.repository_def is not None:
            close_gone(warehouse.warehouse(), known_of(context.repository_def, state.enrolled))
        decision = plan(state, time.time(), current.sensors)
        if decision.requests:
            # else each would be an attempt that cannot succeed, and after a few the patient is given up
            warehouse.warehouse().require_room()
        reads = {
            request.subject: hand_over(folder, current, request.partition)
            for request in decision.requests
            if request.partition is not None
        }
        return to_result(decision, context, reads)

    return study_sensor


def to_result(
    decision: Plan, context: dg.SensorEvaluationContext, reads: Mapping[str, Mapping[str, str]] | None = None
) -> dg.SensorResult:
    """Return a plan as run requests and partitions to add; `reads` are further tags of a subject's run."""
    context.log.info(decision.summary())
    additions = (
        [patients_partitions.build_add_request(list(decision.add_partitions))]
        if decision.add_partitions
        else []
    )
    requests = [
        dg.RunRequest(
            run_key=request.key,
            job_name=request.job,
            partition_key=request.partition,
            tags={
                SUBJECT_TAG: request.subject,
                STATE_TAG: request.state,
                **(reads or {}).get(request.subject, {}),
            },
        )
        for request in decision.requests
    ]
    if not requests and not additions:
        return dg.SensorResult(skip_reason=decision.summary())
    return dg.SensorResult(run_requests=requests, dynamic_partitions_requests=additions)


def _training_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="training_sensor",
        jobs=[
            embeddings_job,
            train_job,
            accuracy_job,
            evaluation_job,
            check_ins_job,
            marts_job,
            report_job,
            patient_report_job,
        ],
        minimum_interval_seconds=settings.alerts.interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Continues the training that the schedule `weekly_training` started: requests what is stale in the order "
            "of `iss train` (embeddings, models, accuracies, evaluation, check-ins, marts, pages), each batch when the one "
            "before has finished. Starts no training itself."
        ),
    )
    def training_sensor(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
        training = newest_training(context.instance)
        if training is None or training.training_id == context.cursor:
            return dg.SensorResult(skip_reason="no training is under way")
        if training.unfinished:
            return dg.SensorResult(
                skip_reason=f"{len(training.unfinished)} runs of a training have not finished"
            )
        current, store = warehouse.settings(), warehouse.warehouse()
        batch = next_training_runs(
            store,
            current,
            chosen_experiments(current),
            known_patients(context.instance),
            training.done,
            thorough=True,
        ) or next_page_runs(context.instance, store, current, training.done)
        if not batch:
            return dg.SensorResult(skip_reason="the training has finished", cursor=training.training_id)
        if batch[0].job == MARTS and MARTS in subjects_in_flight(context.instance):
            return dg.SensorResult(skip_reason="the SQL marts are being built")
        return dg.SensorResult(run_requests=[_request(run, training.training_id) for run in batch])

    return training_sensor


def _request(run: TrainingRun, training_id: str) -> dg.RunRequest:
    first, last = run.partitions or (None, None)
    tags = {**run.tags, TRAINING_TAG: training_id, TRAINING_STEP_TAG: run.subject}
    if first is not None and last is not None and first != last:
        tags |= {RANGE_START_TAG: first, RANGE_END_TAG: last}
    return dg.RunRequest(
        # once in each training
        run_key=f"{training_id}:{run.subject}",
        job_name=run.job,
        partition_key=first if first == last else None,
        run_config=run.config,
        tags=tags,
    )


def _alert_watch(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="alert_watch",
        minimum_interval_seconds=settings.alerts.interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Reads the checks and failures of every finished run, however it was launched, and keeps the table `alerts`: "
            "what is new, what changed, what is resolved. In a cluster, also whether runs wait that no worker takes."
        ),
    )
    def alert_watch(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
        runs, cursor = finished_since(context.instance, context.cursor)
        changed = record_runs(context.instance, warehouse.warehouse(), runs)
        unserved = record_waiting(
            context.instance, warehouse.warehouse(), warehouse.settings().cluster.unserved_s
        )
        summary = f"{len(runs)} runs read, {len(changed)} alerts new, changed or unchanged"
        summary += f"; {unserved} runs wait, and no worker takes them" if unserved else ""
        context.log.info(summary)
        return dg.SensorResult(skip_reason=summary, cursor=cursor)

    return alert_watch


def _alert_delivery(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="alert_delivery",
        minimum_interval_seconds=settings.alerts.interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Sends what waits in the table `alerts` to the addresses in the settings, one message per run, and tries "
            "again later where a receiver is down. Ids, check names, numbers and fixed words only."
        ),
    )
    def alert_delivery(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
        current = warehouse.settings()
        done = deliver(warehouse.warehouse(), current)
        summary = (
            f"{done.taken} messages taken, {done.refused} not taken, {done.waiting} alerts wait, "
            f"{done.given_up} given up"
            if current.alerts.urls
            else f"no address in the settings; {done.waiting} alerts are in the table and on the page only"
        )
        context.log.info(summary)
        return dg.SensorResult(skip_reason=summary)

    return alert_delivery
