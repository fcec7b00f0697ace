"""What starts at a time of day: training, stopped until somebody switches it on, and maintenance of a shared warehouse.

The schedule of training requests the first run, of the job ``splits``; the training sensor requests the runs that follow from it.
"""

from __future__ import annotations

import dagster as dg

from iss_assets.defs.jobs import maintenance_job, splits_job
from iss_assets.defs.resources import WarehouseResource
from iss_assets.pipeline.run_history import (
    TRAINING_SCHEDULE,
    TRAINING_STEP_TAG,
    known_patients,
    newest_training,
)
from iss_assets.pipeline.training import (
    SPLITS,
    chosen_experiments,
    next_training_runs,
    why_not_trained,
)
from iss_assets.settings import Settings


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return every schedule of the code location.

    Parameters
    ----------
    settings : Settings
        When training starts, and maintenance.
    """

    @dg.schedule(
        name=TRAINING_SCHEDULE,
        job=splits_job,
        cron_schedule=settings.sensors.training_cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=(
            "Starts a training of what is stale, with the run that assigns the patients to splits; the sensor "
            "`training_sensor` requests the rest. Stopped until you switch it on. Does nothing where the models are "
            "current, or while the last training is still running."
        ),
    )
    def weekly_training(
        context: dg.ScheduleEvaluationContext, warehouse: WarehouseResource
    ) -> dg.RunRequest | dg.SkipReason:
        training = newest_training(context.instance)
        if training is not None and training.unfinished:
            return dg.SkipReason(f"the last training is still running: run {training.unfinished[0][:8]}")
        current, store = warehouse.settings(), warehouse.warehouse()
        if reason := why_not_trained(store, current):
            return dg.SkipReason(reason)
        experiments = chosen_experiments(current)
        patients = known_patients(context.instance)
        if not next_training_runs(store, current, experiments, patients, {}, thorough=True):
            return dg.SkipReason("every model and result is current")
        return dg.RunRequest(tags={TRAINING_STEP_TAG: SPLITS})

    nightly = dg.ScheduleDefinition(
        name="nightly_maintenance",
        job=maintenance_job,
        cron_schedule=settings.warehouse.maintenance_cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Tidies up the shared warehouse. Writers wait meanwhile, readers do not.",
    )
    return [weekly_training, *([nightly] if settings.warehouse.catalog else [])]
