"""What goes wrong in a cluster, each with a real Postgres or Redis and nothing that takes long: no daemon, no worker processes.

``test_cluster`` has processes and hosts that are killed.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg2
import pytest
from celery.contrib.testing.worker import start_worker
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from pydantic import SecretStr

from iss_assets.cli.doctor import _cluster
from iss_assets.cli.location import load
from iss_assets.defs.resources import WarehouseResource
from iss_assets.pipeline import cluster_launcher
from iss_assets.pipeline.cluster import ClusterProblem
from iss_assets.pipeline.cluster_database import DaemonTurn, clock_off_s, daemon_turn, require_clock
from iss_assets.pipeline.cluster_launcher import ClusterLauncher, queue_of
from iss_assets.pipeline.cluster_state import look
from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.pipeline.planning import StudyState, plan
from iss_assets.pipeline.queued_runs import queue_run
from iss_assets.pipeline.run_alerts import observations_of, record_waiting
from iss_assets.pipeline.run_history import (
    RETRY_NUMBER_TAG,
    RETRY_TAG,
    STATE_TAG,
    SUBJECT_TAG,
    WILL_RETRY_TAG,
    RunIsOver,
    attempts_of,
    end_dead_runs,
    errors_of,
    finished_since,
    is_taken_up,
)
from iss_assets.pipeline.training import TrainingRun
from iss_assets.reports.quality_report import quality_report
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import SensorSettings, Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.postgres import PostgresServer, free_port
from iss_assets_tests.warehouse.test_database import splits

AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def settings(tmp_path: Path, postgres_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a cluster, in the environment as well."""
    given = {
        "ISS_HOME": tmp_path / "home", "ISS_STUDY": tmp_path / "study", "ISS_WORDS__ENABLED": "false",
        "ISS_CLUSTER__STORAGE": postgres_url, "ISS_CLUSTER__BROKER": redis_url,
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    # what `prepare_home` sets goes with the test
    for name in ("DAGSTER_HOME", "ISS_DAGSTER_STORAGE", "ISS_DAGSTER_BROKER"):
        monkeypatch.setenv(name, "")
    return Settings()


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(settings) as opened:
        yield opened


def launcher_of(instance: dg.DagsterInstance) -> ClusterLauncher:
    launcher = instance.run_launcher
    assert isinstance(launcher, ClusterLauncher)
    return launcher


@contextmanager
def worker_of(settings: Settings, queue: str) -> Iterator[None]:
    """Run a worker in this process that serves a queue and knows no task."""
    assert settings.cluster.broker is not None
    app = ClusterLauncher(settings.cluster.broker.get_secret_value(), 0.0).celery
    with start_worker(app, pool="solo", perform_ping_check=False, queues=[queue]):
        yield


def until(happened: Callable[[], bool]) -> None:
    """Wait for what may take long on a busy machine."""
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline


def take_from_queue(instance: dg.DagsterInstance) -> None:
    """Do once what Dagster's daemon does with its queue."""
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as context:
        list(QueuedRunCoordinatorDaemon(1).run_iteration(context))


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_run_stays_in_dagsters_queue_while_the_broker_does_not_answer_and_is_handed_out_afterwards(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = queue_run(load, instance, TrainingRun("study_folder", "the study folder"))
    with monkeypatch.context() as patched:
        patched.setenv("ISS_DAGSTER_BROKER", f"redis://127.0.0.1:{free_port()}/0")
        with dg.DagsterInstance.from_config(str(settings.dagster_home)) as cut_off:
            take_from_queue(cut_off)
            assert status_of(instance, run_id) == dg.DagsterRunStatus.QUEUED
    take_from_queue(instance)
    assert status_of(instance, run_id) == dg.DagsterRunStatus.STARTING
    assert launcher_of(instance).workers.waiting() == 1


def report_at(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType, at: datetime) -> None:
    """Report an event of a run on a host whose clock says that it is `at`."""
    event = dg.DagsterEvent(event_type_value=kind.value, job_name="patient")
    instance.report_dagster_event(event, run_id, timestamp=at.timestamp())


def test_runs_that_nobody_will_begin_are_reported_as_failed_so_that_their_patients_are_not_blocked(
    instance: dg.DagsterInstance,
) -> None:
    on_its_way = dg.DagsterRun(job_name="patient")
    instance.add_run(on_its_way)
    report_at(instance, on_its_way.run_id, dg.DagsterEventType.PIPELINE_STARTING, AN_HOUR_AGO)
    just_made = dg.DagsterRun(job_name="patient")
    instance.add_run(just_made)
    assert end_dead_runs(instance) == [""]
    assert status_of(instance, on_its_way.run_id) == dg.DagsterRunStatus.FAILURE
    assert status_of(instance, just_made.run_id) == dg.DagsterRunStatus.NOT_STARTED, (
        "it is being put into the queue"
    )
    (made,) = instance.get_run_records(dg.RunsFilter(run_ids=[just_made.run_id]))
    old = made._replace(update_timestamp=AN_HOUR_AGO)
    assert [run.run_id for run in launcher_of(instance).lost_runs([old])] == [just_made.run_id]


def test_nothing_is_taken_for_lost_while_workers_may_still_be_coming_back_to_a_broker_that_was_restarted(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = queue_run(load, instance, TrainingRun("study_folder", "the study folder"))
    take_from_queue(instance)
    launcher = launcher_of(instance)
    with launcher.celery.connection_for_write() as connection:
        connection.default_channel.client.flushdb()
    (record_of_run,) = instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
    old = record_of_run._replace(update_timestamp=AN_HOUR_AGO)
    # there is no worker whose answer could take long
    monkeypatch.setattr(cluster_launcher, "_ANSWER_S", 0.1)
    up_s = launcher.workers.broker_up_s()
    monkeypatch.setattr(cluster_launcher, "_RECONNECTING_S", up_s + 3600)
    assert launcher.lost_runs([old]) == []
    monkeypatch.setattr(cluster_launcher, "_RECONNECTING_S", up_s - 1)
    assert [run.run_id for run in launcher.lost_runs([old])] == [run_id]


def test_a_host_that_comes_back_after_its_run_was_taken_for_gone_writes_nothing_and_raises_no_alert(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    resource = WarehouseResource()
    plain = Warehouse(settings.warehouse_path, settings.warehouse)
    plain.replace(CvSplits, splits("before"), {})

    @dg.asset
    def cv_splits(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> None:
        warehouse.warehouse().replace(CvSplits, splits("early"), {})
        # meanwhile, on another host
        instance.report_run_failed(context.run, "no worker knows of it")
        plain.replace(CvSplits, splits("continued"), {})
        warehouse.warehouse().replace(CvSplits, splits("late"), {})

    done = dg.materialize(
        [cv_splits], instance=instance, resources={"warehouse": resource}, raise_on_error=False
    )
    assert plain.query("select patient_id p from cv_splits")["p"].to_pylist() == ["continued-0"]
    assert errors_of(instance, done.run_id) == {"cv_splits": [RunIsOver.__name__]}
    # the run that continues its work was made when it was first reported as failed
    instance.add_run_tags(done.run_id, {RETRY_TAG: "the one that continues it"})
    run = instance.get_run_by_id(done.run_id)
    assert run is not None and is_taken_up(run)
    assert [o for o in observations_of(instance, run) if not o.passed] == []


def test_one_host_runs_the_daemon_and_another_one_may_when_it_is_gone(
    settings: Settings, postgres: PostgresServer
) -> None:
    storage = settings.cluster.storage
    assert storage is not None
    sessions = (
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'iss daemon%'"
    )
    with daemon_turn(storage) as first:
        with (
            pytest.raises(ClusterProblem, match=f"runs already, on {os.uname().nodename}"),
            daemon_turn(storage),
        ):
            pass
        postgres.execute(sessions)
        assert first.kept(), "Postgres was restarted, and nobody else wanted it"
        with pytest.raises(ClusterProblem), daemon_turn(storage):
            pass
        postgres.execute(sessions)
        with daemon_turn(storage) as second:
            assert not first.kept() and second.kept()
    with daemon_turn(storage) as third:
        assert third.kept()


def test_a_daemon_goes_on_while_postgres_is_away_since_nobody_else_can_take_its_turn() -> None:
    away = SecretStr(f"postgresql://iss@127.0.0.1:{free_port()}/x")
    with pytest.raises(ClusterProblem, match="does not answer"), daemon_turn(away):
        pass
    assert DaemonTurn(away).kept()


def test_a_host_whose_clock_is_wrong_starts_no_worker_and_the_doctor_says_so(
    settings: Settings, postgres_url: str
) -> None:
    assert abs(clock_off_s(settings)) < 5, "one machine has one clock"
    require_clock(settings)
    prepare_home(settings)
    assert look(settings).clock == ""
    name = postgres_url.rpartition("/")[2]
    with psycopg2.connect(postgres_url) as session, session.cursor() as cursor:
        cursor.execute(
            "create function public.clock_timestamp() returns timestamptz language sql "
            "as $$ select pg_catalog.clock_timestamp() + interval '90 seconds' $$"
        )
        cursor.execute(f"alter database {name} set search_path = public, pg_catalog")
    with pytest.raises(ClusterProblem, match=r"clock is (89|90) s behind"):
        require_clock(settings)
    assert "behind that of Postgres" in look(settings).clock


def test_runs_of_hosts_whose_clocks_differ_are_all_read_once(instance: dg.DagsterInstance) -> None:
    now = datetime.now(UTC)

    def ended(off: timedelta) -> str:
        run = instance.add_run(dg.DagsterRun(job_name="patient"))
        report_at(instance, run.run_id, dg.DagsterEventType.PIPELINE_SUCCESS, now + off)
        return run.run_id

    def read(cursor: str | None) -> tuple[list[str], str | None]:
        runs, cursor = finished_since(instance, cursor)
        return [run.run_id for run in runs], cursor

    first = [ended(timedelta()), ended(timedelta(hours=2))]
    got, cursor = read(None)
    assert got == first
    behind, ahead = ended(timedelta(minutes=-4)), ended(timedelta(hours=1))
    got, cursor = read(cursor)
    assert got == [behind, ahead], "neither is hidden by the host that is two hours ahead"
    assert read(cursor) == ([], cursor)
    assert read(read(cursor)[1])[0] == []


def test_an_alert_says_that_runs_wait_which_no_worker_takes_until_there_is_one(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    launcher = launcher_of(instance)
    # looking several times is for workers that are late with their answer
    monkeypatch.setattr(cluster_launcher, "_LOOKS", 1)
    queue_run(load, instance, TrainingRun("train", "an experiment"))
    assert record_waiting(instance, warehouse, 3600) == 0, "it was put into the queue just now"

    def alerts() -> list[tuple[str, str]]:
        return [(alert["check_name"], alert["status"]) for alert in quality_report(warehouse).alerts]

    take_from_queue(instance)
    with worker_of(settings, queue_of("dagster")):
        until(lambda: list(launcher.workers.queues().values()) == [["dagster"]])
        assert record_waiting(instance, warehouse, 0) == 1, "the worker takes no trainings"
    assert alerts() == [("queue_not_served", "raised")]
    assert record_waiting(instance, warehouse, 0) == 1
    assert warehouse.query("select * from alerts").num_rows == 1, "said once"
    with launcher.celery.connection_for_write() as connection:
        # this worker is there, and works on nothing
        connection.default_channel.client.flushdb()
    with worker_of(settings, queue_of("gpu")):
        until(lambda: record_waiting(instance, warehouse, 0) == 0)
    assert alerts() == [("queue_not_served", "resolved")]


def test_a_worker_with_other_code_or_settings_gets_no_runs_and_the_doctor_names_it(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def queue_with(name: str, value: str) -> str:
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            return queue_of("dagster")

    assert queue_with("ISS_RUN__THREADS", "3") == queue_of("dagster"), "it decides about no result"
    other = queue_with("ISS_VIDEO__MAX_SECONDS", "60")
    queue_run(load, instance, TrainingRun("study_folder", "the study folder"))
    take_from_queue(instance)
    workers = launcher_of(instance).workers
    with worker_of(settings, other):
        until(lambda: list(workers.queues().values()) == [[]])
        assert (workers.waiting(), workers.tasks()) == (1, set())
        found = [(f.state, f.text) for f in _cluster(settings) if f.subject == "workers"]
    assert [state for state, text in found if "other code or settings" in text] == ["warn"]


def test_a_patient_who_ends_every_worker_ends_as_failed_with_one_alert_and_is_not_tried_forever(
    instance: dg.DagsterInstance,
) -> None:
    tags = {"dagster/partition": "0001", SUBJECT_TAG: "0001", STATE_TAG: "s"}
    runs: list[dg.DagsterRun] = []
    for number in range(3):
        root, parent = (runs[0].run_id, runs[-1].run_id) if runs else (None, None)
        # as Dagster's daemon does
        again = {RETRY_NUMBER_TAG: str(number), "dagster/root_run_id": root, "dagster/parent_run_id": parent}
        given = {**tags, **{name: value for name, value in again.items() if root and value}}
        run = dg.DagsterRun(job_name="patient", tags=given, root_run_id=root, parent_run_id=parent)
        runs.append(instance.add_run(run))
        # as the launcher's silence of a worker is reported
        instance.report_run_failed(run, "no worker knows of it: its process or host is gone")
    ended = [instance.get_run_by_id(run.run_id) for run in runs]
    assert [run and run.tags[WILL_RETRY_TAG] for run in ended] == ["true", "true", "false"]
    failures = [[o.asset for o in observations_of(instance, run) if not o.passed] for run in ended if run]
    assert failures == [[], [], ["patient"]]
    state = StudyState(["0001"], {"0001": "s"}, {}, ["0001"], attempts=attempts_of(instance, ["0001"]))
    decision = plan(state, time.time() + 1e6, SensorSettings())
    assert decision.requests == () and decision.given_up == {"0001": "failed 3 times; see its last run"}
    changed = plan(replace(state, stale={"0001": "another"}), time.time(), SensorSettings())
    assert [request.subject for request in changed.requests] == ["0001"], "a new file is tried at once"
