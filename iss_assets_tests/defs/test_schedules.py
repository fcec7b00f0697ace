"""The weekly training: when it starts, and which runs it requests until everything is current."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from iss_assets.build import build_defs
from iss_assets.defs.resources import WarehouseResource
from iss_assets.defs.schedules import build_schedules
from iss_assets.defs.sensors import build_sensors
from iss_assets.pipeline.run_history import TRAINING_SCHEDULE, newest_training
from iss_assets.settings import EvaluationSettings, SensorSettings, Settings, TrainingSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.defs.test_definitions import keys_that_are_not_snake_case


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


@dataclass
class Clinic:
    """A home with patients to train on, and a daemon that does one step when asked."""

    settings: Settings
    instance: dg.DagsterInstance
    cursor: str | None = None
    ran: list[str] = field(default_factory=list)

    @property
    def resources(self) -> dict[str, object]:
        return {"warehouse": Configured(study=str(self.settings.study), home=str(self.settings.home))}

    def tick(self) -> dg.RunRequest | dg.SkipReason:
        (schedule,) = build_schedules(self.settings)
        with dg.build_schedule_context(self.instance, resources=self.resources) as context:
            answer = schedule(context)
        assert isinstance(answer, dg.RunRequest | dg.SkipReason)
        return answer

    def watch(self) -> list[dg.RunRequest]:
        (sensor,) = (s for s in build_sensors(self.settings) if s.name == "training_sensor")
        with dg.build_sensor_context(
            instance=self.instance, resources=self.resources, cursor=self.cursor
        ) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor or self.cursor
        return list(result.run_requests or ())

    def execute(self, request: dg.RunRequest, job: str) -> bool:
        """Run what was requested, as the queue would."""
        defs = build_defs(self.settings, resource_overrides=self.resources)
        result = defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            run_config=request.run_config,
            tags=dict(request.tags),
            raise_on_error=False,
        )
        self.ran.append(job)
        return result.success

    def start(self) -> bool:
        request = self.tick()
        assert isinstance(request, dg.RunRequest)
        request = request.with_replaced_attrs(
            tags={**request.tags, "dagster/schedule_name": TRAINING_SCHEDULE}
        )
        return self.execute(request, "splits")


class Configured(WarehouseResource):
    """The resource with the settings of a test, which a process of its own would read from the environment."""

    def settings(self) -> Settings:
        return (
            super()
            .settings()
            .model_copy(update={"training": TRAINING, "evaluation": EVALUATION, "sensors": SENSORS})
        )


TRAINING = TrainingSettings(profile="demo", folds=2, device="cpu")
EVALUATION = EvaluationSettings(bootstrap_samples=199, permutations=99, retrained_permutations=19)
SENSORS = SensorSettings(training_experiments=("forest_pain", "forest_landmarks"))


@pytest.fixture
def clinic(settings: Settings, instance: dg.DagsterInstance, made_once: Path) -> Clinic:
    settings.home.mkdir()
    Warehouse(made_once).snapshot(settings.warehouse_path)
    instance.add_dynamic_partitions("patients", [f"{patient:04d}" for patient in range(1, 7)])
    return Clinic(settings, instance)


def test_it_is_stopped_until_somebody_starts_it(settings: Settings) -> None:
    schedule = build_defs(settings).get_repository_def().get_schedule_def(TRAINING_SCHEDULE)
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "0 18 * * 5"


def test_it_fires_on_fridays_at_six_in_the_evening(clinic: Clinic) -> None:
    (schedule,) = build_schedules(clinic.settings)
    monday = datetime(2026, 1, 5, tzinfo=UTC)
    times = schedule_execution_time_iterator(
        monday.timestamp(), str(schedule.cron_schedule), schedule.execution_timezone
    )
    first, second = next(times), next(times)
    assert (first, second) == (
        datetime(2026, 1, 9, 18, tzinfo=UTC),
        datetime(2026, 1, 16, 18, tzinfo=UTC),
    )
    with dg.build_schedule_context(
        clinic.instance, scheduled_execution_time=first, resources=clinic.resources
    ) as context:
        answer = schedule.evaluate_tick(context)
    (request,) = answer.run_requests or ()
    assert answer.skip_message is None
    assert request.tags["dagster/schedule_name"] == TRAINING_SCHEDULE, "by which the sensor finds it"


def test_another_cron_is_taken_from_the_settings(settings: Settings) -> None:
    daily = settings.model_copy(update={"sensors": SensorSettings(training_cron="30 2 * * *")})
    (schedule,) = build_schedules(daily)
    assert schedule.cron_schedule == "30 2 * * *"


def test_a_week_is_skipped_while_the_last_training_is_running(clinic: Clinic) -> None:
    started = dg.DagsterRun(
        job_name="splits",
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/schedule_name": TRAINING_SCHEDULE},
    )
    clinic.instance.add_run(started)
    answer = clinic.tick()
    assert isinstance(answer, dg.SkipReason)
    assert started.run_id[:8] in (answer.skip_message or "")
    assert clinic.watch() == [], "what follows waits for it"


def test_a_study_without_videos_to_learn_from_is_skipped(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    answer = Clinic(settings, instance).tick()
    assert isinstance(answer, dg.SkipReason)
    assert "0 patients have videos that can be trained on" in (answer.skip_message or "")


def test_an_experiment_that_does_not_exist_fails_the_tick(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "SENSORS", SensorSettings(training_experiments=("forest_pian",)))
    with pytest.raises(ValueError, match="forest_pian"):
        clinic.tick()


def test_runs_of_an_earlier_version_start_no_training(clinic: Clinic) -> None:
    clinic.instance.add_run(
        dg.DagsterRun(
            job_name=TRAINING_SCHEDULE,
            status=dg.DagsterRunStatus.SUCCESS,
            tags={"dagster/schedule_name": TRAINING_SCHEDULE},
        )
    )
    assert clinic.watch() == []


def test_a_training_requests_every_step_in_its_order_and_each_once(clinic: Clinic) -> None:
    assert clinic.watch() == [], "the sensor starts none"
    assert clinic.start()
    batches = []
    while requests := clinic.watch():
        batches.append([str(request.job_name) for request in requests])
        assert len({request.run_key for request in requests}) == len(requests)
        assert all(clinic.execute(request, str(request.job_name)) for request in requests)
    assert batches == [
        ["train", "train"],
        ["accuracy"],
        ["evaluate"],
        ["check_ins"],
        ["marts"],
        ["report", "patient_reports"],
    ]
    store = Warehouse(clinic.settings.warehouse_path)
    results = store.query("select experiment, models from experiment_results order by all").to_pylist()
    assert results == [
        {"experiment": "forest_landmarks", "models": 2},
        {"experiment": "forest_pain", "models": 2},
    ]
    assert (clinic.settings.reports_dir / "study_report.html").exists()
    training = newest_training(clinic.instance)
    assert training is not None
    assert len(training.done) == len(clinic.ran) == 9
    assert clinic.cursor == training.training_id
    assert keys_that_are_not_snake_case(clinic.instance) == set()
    assert isinstance(clinic.tick(), dg.SkipReason), "everything is current"
    with store.write() as writer:
        writer.execute("delete from fold_models")
    assert clinic.watch() == [], "what becomes stale later waits for the next training"
    assert isinstance(clinic.tick(), dg.RunRequest)


@pytest.mark.thorough
def test_an_experiment_that_fails_stops_no_other_and_is_not_tried_again(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clinic.start()
    ended = {}
    while requests := clinic.watch():
        for request in requests:
            # a folder that cannot be written: one of the two experiments fails
            if request.job_name == "train":
                (clinic.settings.models_dir / "forest_landmarks").parent.mkdir(exist_ok=True)
                (clinic.settings.models_dir / "forest_landmarks").write_text("in the way")
            name = f"{request.job_name} {request.tags.get('dagster/asset_partition_range_start', '')}"
            assert name not in ended
            ended[name] = clinic.execute(request, str(request.job_name))
    assert [name for name, success in ended.items() if not success] == ["train forest_landmarks|01"]
    results = Warehouse(clinic.settings.warehouse_path).query("select experiment from experiment_results")
    assert results["experiment"].to_pylist() == ["forest_pain"]
    assert (clinic.settings.reports_dir / "study_report.html").exists()
