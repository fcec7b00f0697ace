"""Which of a worker's processes executes a run: a real Redis, a real Postgres, and a real worker with one process."""

import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import LaunchRunContext

from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.pipeline.planning import PATIENT_JOB, WORDS_JOB
from iss_assets.settings import Settings
from iss_assets_tests.cli.processes import Iss
from iss_assets_tests.defs.test_backfill import running, wait_for

pytestmark = pytest.mark.slow


@dg.op
def say_process(context: dg.OpExecutionContext) -> None:
    (Path(os.environ["ISS_HOME"]) / context.run_id).write_text(str(os.getpid()))


def _job(name: str) -> dg.JobDefinition:
    @dg.job(name=name, executor_def=dg.in_process_executor)
    def made() -> None:
        say_process()

    return made


def patient_job() -> dg.JobDefinition:
    return _job(PATIENT_JOB)


def words_job() -> dg.JobDefinition:
    return _job(WORDS_JOB)


def test_words_never_run_in_a_process_that_has_extracted_nor_the_other_way_round(
    tmp_path: Path, postgres_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    iss = Iss(
        tmp_path / "study",
        tmp_path / "home",
        {"ISS_CLUSTER__STORAGE": postgres_url, "ISS_CLUSTER__BROKER": redis_url},
    )
    for name, value in iss.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("DAGSTER_HOME", "ISS_DAGSTER_STORAGE", "ISS_DAGSTER_BROKER"):
        monkeypatch.setenv(name, "")
    settings = Settings()
    prepare_home(settings)
    log = tmp_path / "worker.log"
    with open_instance(settings) as instance:

        def launch(make: Callable[[], dg.JobDefinition]) -> Path:
            job = dg.reconstructable(make)
            run = instance.create_run_for_job(job.get_definition(), job_code_origin=job.get_python_origin())
            instance.run_launcher.launch_run(LaunchRunContext(run, None))
            return settings.home / run.run_id

        # in the queue before there is a worker, so that their order is known
        places = [launch(job) for job in (patient_job, patient_job, words_job, words_job, patient_job)]
        with running(log, "iss", "worker", "--at-once", "1") as worker:
            ended = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
            wait_for(lambda: instance.get_runs_count(ended) == len(places), worker, log)
            said = log.read_text()
        first, second, words, more_words, last = (int(place.read_text()) for place in places)
    assert first == second and words == more_words
    assert len({first, words, last}) == 3, "each change of the kind takes a new process"
    assert "ERROR" not in said, "nothing is reported as having died"
