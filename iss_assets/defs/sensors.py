"""What the daemon does by itself: look at the study folder, keep alerts, send them.

Belongs here: sensors, which read, call one pure function and hand its answer to Dagster.
Does not belong here: decisions (``pipeline.planning``, ``alerting.rules``), reading (``pipeline.observing``), sending (``alerts``).
See "Sensors" in Dagster's concept pages.

Training is in no sensor: it runs on request or on a schedule.
"""

from __future__ import annotations

import time

import dagster as dg

from iss_assets.alerting.store import close_gone, deliver
from iss_assets.defs.jobs import marts_job, patient_job, study_job
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.pipeline.observing import observe
from iss_assets.pipeline.planning import Plan, plan
from iss_assets.pipeline.run_alerts import known_of, record_runs
from iss_assets.pipeline.run_history import STATE_TAG, SUBJECT_TAG, finished_since
from iss_assets.settings import Settings


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Make every sensor of the code location.

    Parameters
    ----------
    settings : Settings
        Intervals; where the study and its warehouse are comes from the resource ``warehouse`` at each tick.
    """
    return [_study_sensor(settings), _alert_watch(settings), _alert_delivery(settings)]


def _study_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="study_sensor",
        jobs=[patient_job, study_job, marts_job],
        minimum_interval_seconds=settings.sensors.interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Watches the study folder: enrolls new patients, asks for a run of each patient whose answers, videos, "
            "settings or code changed, and then for the study-wide tables. A video that is still being copied "
            "waits; nothing is ever deleted because a folder cannot be read. Closes alerts of checks and patients that "
            "are gone."
        ),
    )
    def study_sensor(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
        current = warehouse.settings()
        seen = observe(context.instance, current)
        if context.repository_def is not None:
            close_gone(warehouse.warehouse(), known_of(context.repository_def, seen.enrolled))
        return to_result(plan(seen, time.time(), current.sensors), context)

    return study_sensor


def to_result(decision: Plan, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Put a plan into Dagster's words."""
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
            tags={SUBJECT_TAG: request.subject, STATE_TAG: request.state},
        )
        for request in decision.requests
    ]
    if not requests and not additions:
        return dg.SensorResult(skip_reason=decision.summary())
    return dg.SensorResult(run_requests=requests, dynamic_partitions_requests=additions)


def _alert_watch(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="alert_watch",
        minimum_interval_seconds=settings.alerts.interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Reads the checks and failures of every finished run, whoever launched it, and keeps the table `alerts`: "
            "what is new, what changed, what is mended."
        ),
    )
    def alert_watch(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
        runs, cursor = finished_since(context.instance, context.cursor)
        changed = record_runs(context.instance, warehouse.warehouse(), runs)
        said = f"{len(runs)} runs read, {len(changed)} alerts new, changed or seen again"
        context.log.info(said)
        return dg.SensorResult(skip_reason=said, cursor=cursor)

    return alert_watch


def _alert_delivery(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="alert_delivery",
        minimum_interval_seconds=settings.alerts.interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Sends what waits in the table `alerts` to the addresses in the settings, one message a run, and tries "
            "again later where a receiver is down. Ids, check names, numbers and fixed words only."
        ),
    )
    def alert_delivery(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult:
        current = warehouse.settings()
        done = deliver(warehouse.warehouse(), current)
        said = (
            f"{done.taken} messages taken, {done.refused} not taken, {done.waiting} alerts wait, "
            f"{done.given_up} given up"
            if current.alerts.urls
            else f"no address in the settings; {done.waiting} alerts are in the table and on the page only"
        )
        context.log.info(said)
        return dg.SensorResult(skip_reason=said)

    return alert_delivery
