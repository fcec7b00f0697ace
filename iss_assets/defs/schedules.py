"""Training by schedule: once a week, what is stale, and only where somebody has switched it on.

Belongs here: the schedule, and the job that it starts. Does not belong here: what is stale and in which order it is
made (``pipeline.launcher.judge``, the way of `iss train`), what the daemon does without a clock (``sensors``).
See "Schedules" in Dagster's concept pages.

No ``from __future__ import annotations`` here: ``op`` wants its arguments' types, not their names.
"""

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from pydantic import Field

from iss_assets.defs.resources import WarehouseResource
from iss_assets.modeling.experiments import BY_NAME, experiment
from iss_assets.pipeline import launcher
from iss_assets.pipeline.launcher import Load
from iss_assets.settings import Settings

NAME = "weekly_training"


class TrainingConfig(dg.Config):
    """What to train: names of experiments, all of them if empty."""

    experiments: list[str] = Field(default_factory=list)


def make_training_job(load: Load) -> dg.JobDefinition:
    """Return the job that does what `iss train` does.

    Parameters
    ----------
    load : callable
        Gives the definitions whose jobs it runs.
    """

    @dg.op(
        description=(
            "Brings splits, models, accuracies and the evaluation up to date, each as a run of its own, then the "
            "pages. What is current is not made again."
        )
    )
    def train_what_is_stale(
        context: dg.OpExecutionContext, config: TrainingConfig, warehouse: WarehouseResource
    ) -> None:
        """Do what `iss train` does."""
        names = [experiment(name).name for name in config.experiments] or list(BY_NAME)
        summary, settings = launcher.Summary(), warehouse.settings()
        launcher.judge(context.instance, settings, names, summary, context.log.info, thorough=True, load=load)
        launcher.finish(context.instance, settings, summary, context.log.info, load=load)
        for note in summary.notes:
            context.log.info(note)
        if summary.failed:
            runs = ", ".join(f"{outcome.subject} (run {outcome.run_id[:8]})" for outcome in summary.failed)
            raise dg.Failure(f"not everything could be trained: {runs}", allow_retries=False)
        context.log.info(
            f"{len(summary.outcomes)} runs made" if summary.outcomes else "the models have seen everything"
        )

    @dg.job(
        name=NAME,
        description="Train what is stale, and judge it: splits, models, accuracies, evaluation, pages.",
        executor_def=dg.in_process_executor,
    )
    def training_job() -> None:
        """Hold the one step."""
        train_what_is_stale()

    return training_job


def build_schedules(settings: Settings, load: Load) -> list[dg.ScheduleDefinition]:
    """Make every schedule of the code location.

    Parameters
    ----------
    settings : Settings
        When, and which experiments.
    load : callable
        Gives the definitions whose jobs the training runs.
    """

    @dg.schedule(
        name=NAME,
        job=make_training_job(load),
        cron_schedule=settings.sensors.training_cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=(
            "Trains and judges what is stale, as `iss train` does. Stopped until you switch it on; a week is left out "
            "while the training of the last one is still at work."
        ),
    )
    def weekly_training(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        at_work = context.instance.get_runs(
            dg.RunsFilter(job_name=NAME, statuses=list(NOT_FINISHED_STATUSES)), limit=1
        )
        if at_work:
            return dg.SkipReason(f"the last training is still at work: run {at_work[0].run_id[:8]}")
        chosen = TrainingConfig(experiments=list(settings.sensors.training_experiments))
        return dg.RunRequest(run_config=dg.RunConfig(ops={"train_what_is_stale": chosen}))

    return [weekly_training]
