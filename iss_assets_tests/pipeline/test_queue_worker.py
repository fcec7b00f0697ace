"""Which of a worker's processes executes a run, and how a worker ends: a real Redis, a real Postgres, a real worker."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from celery.signals import before_task_publish
from dagster._core.launcher import LaunchRunContext

from iss_assets.pipeline.cluster_launcher import TASK_TAG, ClusterLauncher
from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.pipeline.planning import PATIENT_JOB, WORDS_JOB
from iss_assets.settings import Settings
from iss_assets_tests.cli.processes import Iss
from iss_assets_tests.defs.test_backfill import running, wait_for
from iss_assets_tests.proxy import Proxy, proxy_to

pytestmark = pytest.mark.slow
SILENT_S = 5.0
RELEASE = "release"


@dg.op
def say_process(context: dg.OpExecutionContext) -> None:
    (Path(os.environ["ISS_HOME"]) / context.run_id).write_text(str(os.getpid()))


@dg.op
def wait_for_release() -> None:
    while not (Path(os.environ["ISS_HOME"]) / RELEASE).exists():
        time.sleep(0.1)


def _job(name: str) -> dg.JobDefinition:
    @dg.job(name=name, executor_def=dg.in_process_executor)
    def made() -> None:
        say_process()

    return made


def patient_job() -> dg.JobDefinition:
    return _job(PATIENT_JOB)


def words_job() -> dg.JobDefinition:
    return _job(WORDS_JOB)


def held_job() -> dg.JobDefinition:
    @dg.job(name=PATIENT_JOB, executor_def=dg.in_process_executor)
    def held() -> None:
        wait_for_release()

    return held


@dataclass
class Queue:
    """Where runs are put, without a daemon."""

    settings: Settings
    instance: dg.DagsterInstance

    @property
    def launcher(self) -> ClusterLauncher:
        launcher = self.instance.run_launcher
        assert isinstance(launcher, ClusterLauncher)
        return launcher

    def launch(self, make: Callable[[], dg.JobDefinition]) -> str:
        job = dg.reconstructable(make)
        run = self.instance.create_run_for_job(job.get_definition(), job_code_origin=job.get_python_origin())
        self.launcher.launch_run(LaunchRunContext(run, None))
        return run.run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def health(self, run_id: str) -> str:
        """Return what the daemon is told when it asks how a run is."""
        return self.launcher.check_run_worker_health(self.run(run_id)).status.value


@pytest.fixture
def broker(redis_url: str) -> Iterator[tuple[str, Proxy]]:
    """The address of a broker that can be cut off, and what cuts it off."""
    before, _, after = redis_url.rpartition("@")
    host, _, rest = after.partition(":")
    port, _, database = rest.partition("/")
    with proxy_to(int(port)) as proxy:
        yield f"{before}@{host}:{proxy.port}/{database}", proxy


@pytest.fixture
def queue(
    tmp_path: Path, postgres_url: str, broker: tuple[str, Proxy], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Queue]:
    iss = Iss(
        tmp_path / "study",
        tmp_path / "home",
        {
            "ISS_CLUSTER__STORAGE": postgres_url,
            "ISS_CLUSTER__BROKER": broker[0],
            "ISS_CLUSTER__SILENT_S": str(SILENT_S),
        },
    )
    for name, value in iss.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("DAGSTER_HOME", "ISS_DAGSTER_STORAGE", "ISS_DAGSTER_BROKER"):
        monkeypatch.setenv(name, "")
    settings = Settings()
    prepare_home(settings)
    with open_instance(settings) as instance:
        yield Queue(settings, instance)


@contextmanager
def at_work(queue: Queue, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a worker that executes a run which goes on until it is released."""
    with running(log, "iss", "worker", "--at-once", "1") as worker:
        held = queue.launch(held_job)
        wait_for(lambda: queue.run(held).status == dg.DagsterRunStatus.STARTED, worker, log)
        yield worker, held


def test_words_never_run_in_a_process_that_has_extracted_nor_the_other_way_round(
    tmp_path: Path, queue: Queue
) -> None:
    log = tmp_path / "worker.log"
    # in the queue before there is a worker, so that their order is known
    runs = [queue.launch(job) for job in (patient_job, patient_job, words_job, words_job, patient_job)]
    with running(log, "iss", "worker", "--at-once", "1") as worker:
        ended = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
        wait_for(lambda: queue.instance.get_runs_count(ended) == len(runs), worker, log)
        said = log.read_text()
    first, second, words, more_words, last = (int((queue.settings.home / run).read_text()) for run in runs)
    assert first == second and words == more_words
    assert len({first, words, last}) == 3, "each change of the kind takes a new process"
    assert "ERROR" not in said, "nothing is reported as having died"


def test_a_run_says_which_task_it_is_before_any_worker_can_begin_it(queue: Queue) -> None:
    seen = {}

    def published(headers: dict[str, str], **_: object) -> None:
        for run in queue.instance.get_runs():
            seen[run.run_id] = run.tags.get(TASK_TAG), headers["id"]

    before_task_publish.connect(published)
    run_id = queue.launch(patient_job)
    before_task_publish.disconnect(published)
    noted, handed_over = seen[run_id]
    assert noted == handed_over == queue.run(run_id).tags[TASK_TAG]


def test_a_worker_that_is_told_to_end_finishes_its_run_which_nobody_takes_for_gone_and_begins_no_other(
    tmp_path: Path, queue: Queue
) -> None:
    with at_work(queue, tmp_path / "worker.log") as (worker, held):
        worker.send_signal(signal.SIGTERM)
        until = time.monotonic() + 2 * SILENT_S
        other = queue.launch(patient_job)
        while time.monotonic() < until:
            assert queue.health(held) == "RUNNING"
            assert worker.poll() is None
            time.sleep(0.5)
        assert queue.launcher.workers.waiting() == 1, "the other one stays in the queue"
        (queue.settings.home / RELEASE).touch()
        assert worker.wait(120) == 0
    assert queue.run(held).status == dg.DagsterRunStatus.SUCCESS
    assert (
        queue.run(other).status == dg.DagsterRunStatus.NOT_STARTED and queue.launcher.workers.waiting() == 1
    )


@pytest.mark.thorough
def test_a_worker_that_is_told_to_end_while_its_broker_is_away_finishes_its_run_and_ends_when_it_is_back(
    tmp_path: Path, queue: Queue, broker: tuple[str, Proxy]
) -> None:
    _, proxy = broker
    with at_work(queue, tmp_path / "worker.log") as (worker, held):
        proxy.away()
        time.sleep(2)
        worker.send_signal(signal.SIGTERM)
        time.sleep(2)
        assert worker.poll() is None, "it waits for its run"
        (queue.settings.home / RELEASE).touch()
        wait_for(lambda: queue.run(held).is_finished, worker, tmp_path / "worker.log")
        proxy.back()
        assert worker.wait(120) == 0, (tmp_path / "worker.log").read_text()
    assert queue.run(held).status == dg.DagsterRunStatus.SUCCESS


@pytest.mark.thorough
def test_a_worker_without_a_run_ends_though_its_broker_is_away(
    tmp_path: Path, queue: Queue, broker: tuple[str, Proxy]
) -> None:
    _, proxy = broker
    log = tmp_path / "worker.log"
    with running(log, "iss", "worker", "--at-once", "1") as worker:
        done = queue.launch(patient_job)
        wait_for(lambda: queue.run(done).is_finished, worker, log)
        time.sleep(1)
        proxy.away()
        time.sleep(2)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, log.read_text()


def test_a_second_signal_ends_a_worker_at_once_and_its_run_is_taken_for_gone(
    tmp_path: Path, queue: Queue
) -> None:
    with at_work(queue, tmp_path / "worker.log") as (worker, held):
        worker.send_signal(signal.SIGINT)
        time.sleep(1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 1
        until = time.monotonic() + 120
        while queue.health(held) == "RUNNING":
            assert time.monotonic() < until
            time.sleep(0.5)
    assert queue.run(held).status == dg.DagsterRunStatus.STARTED, "it did not end by itself"
