"""A cluster on one machine: a real Postgres, a real Redis, a real daemon, and two hosts, each a group of processes.

The tests of this file share the cluster and follow one another.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from iss_assets.cli.location import load
from iss_assets.defs.assets.reading import patient_lock
from iss_assets.pipeline.cluster_launcher import TASK_TAG, ClusterLauncher, queue_of
from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.pipeline.run_history import (
    IN_PROGRESS,
    PARTITION_TAG,
    PID_TAG,
    RETRY_NUMBER_TAG,
    WILL_RETRY_TAG,
)
from iss_assets.pipeline.staleness import stale_patients
from iss_assets.pipeline.training import TrainingRun
from iss_assets.privacy.register import open_study
from iss_assets.schemas.registry import TABLES
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.cli.processes import Iss
from iss_assets_tests.defs.test_backfill import running, wait_for, write_study
from iss_assets_tests.postgres import PostgresServer, postgres_program
from iss_assets_tests.redis_server import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
AGAIN_S = 60.0
"""Seconds within which the work of a process or host that is gone is taken up."""


@dataclass
class Cluster:
    """The parts that run, and how to reach them."""

    iss: Iss
    settings: Settings
    instance: dg.DagsterInstance
    daemon: subprocess.Popen[bytes]
    logs: Path
    passwords: tuple[str, ...]
    database: str
    hosts: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def runs(self, patient: str) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(dg.RunsFilter(job_name="patient", tags={PARTITION_TAG: patient})))

    def host_of(self, run: dg.DagsterRun) -> subprocess.Popen[bytes]:
        """Return the host whose process executes a run: a process leads its host's group."""
        group = os.getpgid(int(run.tags[PID_TAG]))
        return next(host for host in self.hosts if host.pid == group)

    def wait(self, happened: object) -> object:
        try:
            return wait_for(happened, self.daemon, self.logs / "daemon.log")  # type: ignore[arg-type]  # any callable
        except AssertionError as late:
            raise AssertionError(f"{self.state()}\n{late}") from None

    def state(self) -> str:
        """Return what the history and the broker say, for whoever reads why a test failed."""
        launcher = self.instance.run_launcher
        assert isinstance(launcher, ClusterLauncher)
        with launcher.celery.connection_for_read() as connection:
            kept = [key.decode() for key in connection.default_channel.client.keys("*")]
        runs = [
            f"{run.run_id} {run.job_name} {run.tags.get(PARTITION_TAG)} {run.status.value} {run.tags.get(TASK_TAG)}"
            for run in self.instance.get_runs(limit=20)
        ]
        waiting = launcher.workers.tasks(waiting=True)
        return "\n".join(
            [*runs, f"broker: {kept}", f"waiting or executed: {waiting}", f"ours: {queue_of('')}"]
        )

    def settle(self) -> None:
        """Wait until nothing is stale or in progress: one patient's new video can make another patient stale."""

        def settled() -> bool:
            in_progress = self.instance.get_runs_count(dg.RunsFilter(statuses=list(IN_PROGRESS)))
            return not in_progress and not stale_patients(open_study(self.settings), self.settings)

        self.wait(settled)

    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse_path, self.settings.warehouse)


@pytest.fixture(scope="module")
def cluster(postgres: PostgresServer, redis: RedisServer) -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="iss-cluster-"))
    before = dict(os.environ)
    storage = postgres.new_database()
    settings_of_all = {
        "ISS_CLUSTER__STORAGE": storage,
        "ISS_CLUSTER__BROKER": redis.new_database(),
        "ISS_SENSORS__INTERVAL_S": "2",
        # a run that is taken up was not the study sensor's doing
        "ISS_SENSORS__RETRY_S": "3000",
        "ISS_READING__SETTLE_SECONDS": "0",
        "ISS_RUN__THREADS": "1",
    }
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(os.environ.update, before)
        stack.callback(os.environ.clear)
        iss = Iss(folder / "study", folder / "home", settings_of_all)
        write_study(iss.study)
        wanted = iss.environment()
        os.environ.clear()
        os.environ.update(wanted)
        settings = Settings()
        workspace = str(prepare_home(settings) / "workspace.yaml")
        daemon = stack.enter_context(running(folder / "daemon.log", "dagster-daemon", "run", "-w", workspace))
        instance = stack.enter_context(open_instance(settings))
        # it is made when it is first needed, and reads the environment then
        assert instance.run_launcher
        made = Cluster(iss, settings, instance, daemon, folder, (postgres.password, redis.password), storage)
        for name in ("a", "b"):
            os.environ["ISS_CLUSTER__SCRATCH"] = str(folder / f"scratch-{name}")
            arguments = ("worker", "--at-once", "1")
            made.hosts.append(stack.enter_context(running(folder / f"{name}.log", "iss", *arguments)))
        os.environ.pop("ISS_CLUSTER__SCRATCH")
        yield made


@pytest.fixture(autouse=True)
def settings_of_the_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.iss.environment().items():
        monkeypatch.setenv(name, value)


def rows_that_appear_twice(warehouse: Warehouse) -> dict[str, int]:
    """Return each table with two rows of one key, with how many rows are too many."""
    surplus = {}
    for table in TABLES:
        keys = ", ".join(table.__key__)
        rows = warehouse.query(f"select count(*) - count(distinct ({keys})) n from {table.__table__}")
        if rows["n"][0].as_py():
            surplus[table.__table__] = rows["n"][0].as_py()
    return surplus


def test_the_sensor_hands_patients_to_both_hosts_and_everything_is_up_to_date_afterwards(
    cluster: Cluster,
) -> None:
    def marts() -> bool:
        made = cluster.instance.get_runs(dg.RunsFilter(job_name="marts"))
        return any(run.is_success for run in made)

    cluster.wait(marts)
    done = [run for run in cluster.instance.get_runs(dg.RunsFilter(job_name="patient")) if run.is_success]
    assert {run.tags[PARTITION_TAG] for run in done} == {"0001", "0002"}
    assert {cluster.host_of(run).pid for run in done} == {host.pid for host in cluster.hosts}
    assert rows_that_appear_twice(cluster.warehouse()) == {}
    assert cluster.warehouse().query("select count(*) n from patients")["n"][0].as_py() == 2


def test_iss_run_follows_the_queue_and_ends_when_everything_is_up_to_date(cluster: Cluster) -> None:
    cluster.settle()
    for content in ("Still no video.", "No video yet.", "A letter."):
        (cluster.iss.study / "videos" / "0002" / "0002-01.mp4").write_text(content)
        done = cluster.iss("run", "--no-models")
        assert done.returncode == 0, done.stderr
        # on a busy machine the sensor has done it before the command has loaded
        if " 0002" in done.stderr:
            break
    assert " 0002" in done.stderr and " 0 failed." in done.stdout
    newest = cluster.runs("0002")[0]
    assert newest.is_success
    assert cluster.host_of(newest) in cluster.hosts, "a worker executed it, and not iss run"
    cluster.settle()
    assert "0 with something to bring up to date" in cluster.iss.ok("status")


def start_and_hold(held: ExitStack, cluster: Cluster, patient: str, content: str) -> dg.DagsterRun:
    """Take the patient's turn and change a video; return the run that follows, which waits for its turn."""
    cluster.settle()
    known = {run.run_id for run in cluster.runs(patient)}
    held.enter_context(patient_lock(cluster.settings, patient))
    path = next((cluster.iss.study / "videos" / patient).iterdir())
    path.write_text(content)

    def begun() -> dg.DagsterRun | None:
        new = (run for run in cluster.runs(patient) if run.run_id not in known)
        steps = {dg.DagsterEventType.STEP_SUCCESS}
        return next(
            (
                run
                for run in new
                if PID_TAG in run.tags
                and cluster.instance.get_records_for_run(run.run_id, of_type=steps).records
            ),
            None,
        )

    found = cluster.wait(begun)
    assert isinstance(found, dg.DagsterRun)
    return found


def taken_up(cluster: Cluster, died: dg.DagsterRun, killed_at: float) -> dg.DagsterRun:
    """Wait for the run that continues another one's work; it must have begun in time."""
    patient = died.tags[PARTITION_TAG]

    def again() -> dg.DagsterRun | None:
        return next(
            (r for r in cluster.runs(patient) if r.parent_run_id == died.run_id and r.is_success), None
        )

    found = cluster.wait(again)
    assert isinstance(found, dg.DagsterRun)
    record = cluster.instance.get_run_record_by_id(found.run_id)
    assert record is not None and record.start_time is not None
    assert record.start_time - killed_at < AGAIN_S
    was = cluster.instance.get_run_by_id(died.run_id)
    assert was is not None and was.status == dg.DagsterRunStatus.FAILURE
    assert (was.tags[WILL_RETRY_TAG], found.tags[RETRY_NUMBER_TAG]) == ("true", "1")
    return found


def test_when_a_host_goes_down_another_one_finishes_its_patient_and_no_row_appears_twice(
    cluster: Cluster,
) -> None:
    with ExitStack() as held:
        run = start_and_hold(held, cluster, "0001", "This is no video either.")
        host = cluster.host_of(run)
        os.killpg(host.pid, signal.SIGKILL)
        killed_at = time.time()
        host.wait(120)
    cluster.hosts.remove(host)
    again = taken_up(cluster, run, killed_at)
    assert cluster.host_of(again) is cluster.hosts[0], "the one that is left"
    assert rows_that_appear_twice(cluster.warehouse()) == {}
    stored = cluster.warehouse().query("select count(*) n from videos where patient_id = '0001'")
    assert stored["n"][0].as_py() == len(list((cluster.iss.study / "videos" / "0001").iterdir()))
    failures = cluster.warehouse().query("select * from alerts where check_name = 'run_failed'")
    assert failures.num_rows == 0, "its work was continued, so nobody is told"


def test_a_run_whose_process_is_killed_is_handed_out_again(cluster: Cluster) -> None:
    with ExitStack() as held:
        run = start_and_hold(held, cluster, "0002", "Nor is this.")
        os.kill(int(run.tags[PID_TAG]), signal.SIGKILL)
        killed_at = time.time()
    again = taken_up(cluster, run, killed_at)
    assert again.tags[PID_TAG] != run.tags[PID_TAG]
    assert rows_that_appear_twice(cluster.warehouse()) == {}


def test_a_patient_who_is_requested_twice_is_processed_once_at_a_time(cluster: Cluster) -> None:
    from iss_assets.pipeline.queued_runs import queue_run

    wanted = TrainingRun("patient", "0001", ("0001", "0001"))
    ids = [queue_run(load, cluster.instance, wanted) for _ in range(2)]

    def both_ended() -> list[tuple[float, float]] | None:
        records = cluster.instance.get_run_records(dg.RunsFilter(run_ids=ids))
        times = [(r.start_time or 0.0, r.end_time) for r in records if r.end_time is not None]
        return sorted(times) if len(times) == 2 else None

    times = cluster.wait(both_ended)
    assert isinstance(times, list)
    (_, first_ended), (second_began, _) = times
    assert second_began > first_ended
    assert all(run.is_success for run in cluster.runs("0001")[:2])


def test_a_run_that_is_canceled_ends_and_is_not_handed_out_again(cluster: Cluster) -> None:
    with ExitStack() as held:
        run = start_and_hold(held, cluster, "0001", "This is to be canceled.")
        assert cluster.instance.run_coordinator.cancel_run(run.run_id)

        def ended() -> dg.DagsterRun | None:
            found = cluster.instance.get_run_by_id(run.run_id)
            return found if found and found.is_finished else None

        canceled = cluster.wait(ended)
        assert isinstance(canceled, dg.DagsterRun)
        assert canceled.status == dg.DagsterRunStatus.CANCELED
        assert canceled.tags.get(WILL_RETRY_TAG) != "true"


def test_a_run_is_lost_when_the_broker_has_lost_its_message_and_not_while_it_waits(cluster: Cluster) -> None:
    from iss_assets.pipeline.queued_runs import queue_run

    for host in cluster.hosts:
        host.send_signal(signal.SIGTERM)
        host.wait(120)
    cluster.hosts.clear()
    run_id = queue_run(load, cluster.instance, TrainingRun("study_folder", "the study folder"))
    launcher = cluster.instance.run_launcher
    assert isinstance(launcher, ClusterLauncher)

    def handed_out() -> dg.RunRecord | None:
        (record,) = cluster.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
        run = record.dagster_run
        starting = run.status == dg.DagsterRunStatus.STARTING and TASK_TAG in run.tags
        return record if starting and launcher.workers.waiting() else None

    record = cluster.wait(handed_out)
    assert isinstance(record, dg.RunRecord)
    assert launcher.lost_runs([record]) == [], "it was handed out just now"
    old = record._replace(update_timestamp=datetime.fromtimestamp(0, UTC))
    assert launcher.lost_runs([old]) == [], "it waits for a worker"
    with launcher.celery.connection_for_write() as connection:
        connection.default_channel.client.flushdb()
    # workers may take as long to come back after the broker was started, and nothing is taken for lost meanwhile
    cluster.wait(lambda: [run.run_id for run in launcher.lost_runs([old])] == [run_id])


def test_no_password_is_in_the_home_in_a_log_or_in_dagsters_history(cluster: Cluster) -> None:
    secrets = [password.encode() for password in cluster.passwords]
    files = [path for path in cluster.logs.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert not any(secret in path.read_bytes() for secret in secrets), path.name
    dump = postgres_program("pg_dump")
    assert dump is not None
    history = subprocess.run([dump, cluster.database], capture_output=True, check=True).stdout
    assert b"dagster/partition" in history
    assert not any(secret in history for secret in secrets)
    assert cluster.settings.home.stat().st_mode & 0o077 == 0


def test_a_daemon_that_is_gone_is_reported_at_once_and_nothing_is_queued(cluster: Cluster) -> None:
    os.killpg(cluster.daemon.pid, signal.SIGKILL)
    cluster.daemon.wait(120)
    cluster.instance.wipe_daemon_heartbeats()
    before = cluster.instance.get_runs_count()
    done = cluster.iss("run")
    assert (done.returncode, cluster.instance.get_runs_count()) == (2, before)
    assert "start it on one machine: iss serve" in done.stderr
