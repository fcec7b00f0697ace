"""The weekly training: when it asks for a run, and what the run does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from iss_assets.build import build_defs
from iss_assets.cli.location import load
from iss_assets.defs.resources import WarehouseResource
from iss_assets.defs.schedules import NAME, build_schedules, make_training_job
from iss_assets.pipeline import launcher as runner
from iss_assets.settings import SensorSettings, Settings
from iss_assets.warehouse.database import Warehouse


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def tick(settings: Settings, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    (schedule,) = build_schedules(settings, load)
    answer = schedule(dg.build_schedule_context(instance))
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


def train(settings: Settings, instance: dg.DagsterInstance, *experiments: str) -> dg.ExecuteInProcessResult:
    resource = WarehouseResource(study=str(settings.study), home=str(settings.home))
    return make_training_job(load).execute_in_process(
        instance=instance,
        resources={"warehouse": resource},
        run_config={"ops": {"train_what_is_stale": {"config": {"experiments": list(experiments)}}}},
        raise_on_error=False,
    )


def test_it_stands_in_the_code_location_and_is_stopped_until_somebody_starts_it(settings: Settings) -> None:
    schedule = build_defs(settings).get_repository_def().get_schedule_def(NAME)
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "0 18 * * 5"


def test_a_tick_asks_for_the_experiments_of_the_settings(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    chosen = settings.model_copy(update={"sensors": SensorSettings(training_experiments=("forest_pain",))})
    request = tick(chosen, instance)
    assert isinstance(request, dg.RunRequest)
    assert request.run_config["ops"] == {"train_what_is_stale": {"config": {"experiments": ["forest_pain"]}}}


def test_it_fires_on_fridays_at_six_in_the_evening_with_something_the_job_can_do(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    (schedule,) = build_schedules(settings, load)
    monday = datetime(2026, 1, 5, tzinfo=UTC)
    times = schedule_execution_time_iterator(
        monday.timestamp(), str(schedule.cron_schedule), schedule.execution_timezone
    )
    first, second = next(times), next(times)
    assert (first, second) == (
        datetime(2026, 1, 9, 18, tzinfo=UTC),
        datetime(2026, 1, 16, 18, tzinfo=UTC),
    )
    with dg.build_schedule_context(instance, scheduled_execution_time=first) as context:
        answer = schedule.evaluate_tick(context)
    (request,) = answer.run_requests or ()
    assert answer.skip_message is None
    assert dg.validate_run_config(make_training_job(load), request.run_config)


def test_another_cron_is_taken_from_the_settings(settings: Settings) -> None:
    daily = settings.model_copy(update={"sensors": SensorSettings(training_cron="30 2 * * *")})
    (schedule,) = build_schedules(daily, load)
    assert schedule.cron_schedule == "30 2 * * *"


def test_a_week_is_left_out_while_the_last_training_is_at_work(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    instance.add_run(dg.DagsterRun(job_name=NAME, status=dg.DagsterRunStatus.STARTED))
    assert isinstance(tick(settings, instance), dg.SkipReason)


def test_a_study_without_videos_to_learn_from_is_left_alone(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    result = train(settings, instance, "forest_pain")
    assert result.success
    assert {run.job_name for run in instance.get_runs()} <= {NAME, "report"}


def test_an_experiment_that_does_not_exist_fails_before_anything_runs(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    assert not train(settings, instance, "forest_pian").success
    assert {run.job_name for run in instance.get_runs()} == {NAME}


def test_a_part_that_fails_fails_the_training_and_names_its_run(
    settings: Settings,
    warehouse: Warehouse,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def judge(
        _: object, __: object, experiments: list[str], summary: runner.Summary, *more: object, **rest: object
    ):
        summary.outcomes.append(runner.Outcome(experiments[0], "12345678-aaaa", False, "no memory"))

    monkeypatch.setattr(runner, "judge", judge)
    monkeypatch.setattr(runner, "finish", lambda *_, **__: None)
    result = train(settings, instance, "forest_pain")
    assert not result.success
    (failure,) = (e.step_failure_data.user_failure_data for e in result.all_events if e.is_step_failure)
    assert "forest_pain (run 12345678)" in failure.description
