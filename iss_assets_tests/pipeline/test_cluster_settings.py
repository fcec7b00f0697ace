"""Settings of a cluster: what is refused, what Dagster is told, and what nobody gets to see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy
import yaml
from pydantic import ValidationError

from iss_assets.cli.doctor import examine
from iss_assets.pipeline import cluster
from iss_assets.pipeline.cluster import ClusterProblem
from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.pipeline.run_history import is_taken_up
from iss_assets.settings import Settings, storage_address
from iss_assets_tests.cli.processes import Iss
from iss_assets_tests.postgres import free_port

SECRET = "n0body-sees-it"
STORAGE = f"postgresql://iss:{SECRET}@127.0.0.1:1/history"
BROKER = f"redis://:{SECRET}@127.0.0.1:1/0"


def settings_of(tmp_path: Path, **given: str) -> Settings:
    return Settings.model_validate({"home": tmp_path / "home", "study": tmp_path / "study", "cluster": given})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"broker": BROKER}, "broker needs storage"),
        ({"storage": STORAGE.replace("postgresql", "mysql")}, "begins with postgresql://"),
        ({"storage": STORAGE, "broker": BROKER.replace("redis", "amqp")}, "begins with redis://"),
    ],
)
def test_incomplete_settings_are_refused_without_showing_an_address(
    tmp_path: Path, given: dict[str, str], why: str
) -> None:
    with pytest.raises(ValidationError, match=why) as refused:
        settings_of(tmp_path, **given)
    assert SECRET not in str(refused.value) + repr(refused.value)


def test_a_command_names_the_setting_and_not_its_value(tmp_path: Path) -> None:
    done = Iss(tmp_path / "study", tmp_path / "home", {"ISS_CLUSTER__BROKER": BROKER})("status")
    assert done.returncode == 2
    assert "ISS_CLUSTER" in done.stderr and "broker needs storage" in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_every_usual_way_to_write_a_postgres_address_becomes_the_one_that_dagster_takes(
    tmp_path: Path, kind: str
) -> None:
    settings = settings_of(tmp_path, storage=STORAGE.replace("postgresql", kind))
    prepare_home(settings)
    assert os.environ["ISS_DAGSTER_STORAGE"] == f"postgresql+psycopg2://iss:{SECRET}@127.0.0.1:1/history"


def test_dagsters_settings_refer_to_the_addresses_and_do_not_hold_them(tmp_path: Path) -> None:
    folder = prepare_home(settings_of(tmp_path, storage=STORAGE, broker=BROKER))
    for path in folder.iterdir():
        assert SECRET not in path.read_text()
    said = yaml.safe_load((folder / "dagster.yaml").read_text())
    assert said["storage"]["custom"]["config"] == {"postgres_url": {"env": "ISS_DAGSTER_STORAGE"}}
    assert said["run_launcher"]["config"]["broker"] == {"env": "ISS_DAGSTER_BROKER"}
    assert said["run_monitoring"]["max_resume_run_attempts"] == 0


def test_one_machine_is_told_nothing_of_a_cluster(tmp_path: Path) -> None:
    folder = prepare_home(settings_of(tmp_path))
    said = yaml.safe_load((folder / "dagster.yaml").read_text())
    assert set(said) == {
        "telemetry", "nux", "schedules", "sensors", "concurrency", "run_monitoring", "storage",
    }  # fmt: skip
    assert said["storage"]["custom"]["config"] == {"base_dir": {"env": "DAGSTER_HOME"}}
    assert set(yaml.safe_load((folder / "worker.yaml").read_text())) - set(said) == {"compute_logs"}


def test_a_missing_package_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PACKAGES", (*cluster.PACKAGES, "a-package-that-nobody-has"))
    prepare_home(settings_of(tmp_path))
    with pytest.raises(ClusterProblem, match=r"a-package-that-nobody-has is not .*iss-assets\[cluster\]"):
        prepare_home(settings_of(tmp_path, storage=STORAGE))


def test_the_definitions_load_without_the_packages_of_a_cluster() -> None:
    code = (
        "import sys; import iss_assets.definitions; "
        "print([m for m in ('celery', 'redis', 'dagster_celery', 'dagster_postgres') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@dg.op
def greet() -> None:
    """Do nothing."""


@dg.job(executor_def=dg.in_process_executor)
def greeting() -> None:
    greet()


def test_history_in_postgres_serves_one_machine_as_well(tmp_path: Path, postgres_url: str) -> None:
    settings = settings_of(tmp_path, storage=postgres_url)
    with open_instance(settings, many_runs=True) as writer:
        made = greeting.execute_in_process(instance=writer)
    with open_instance(settings) as reader:
        run = reader.get_run_by_id(made.run_id)
        assert run is not None and run.is_success and not is_taken_up(run)
        assert type(reader.run_launcher).__name__ == "DefaultRunLauncher"
    assert not list((settings.home / "dagster").rglob("*.db"))


def test_a_run_whose_work_is_continued_raises_no_alert_and_one_that_is_given_up_does() -> None:
    run = dg.DagsterRun(job_name="patient", status=dg.DagsterRunStatus.FAILURE)
    assert is_taken_up(run.with_tags({"dagster/will_retry": "true"}))
    assert not is_taken_up(run.with_tags({"dagster/will_retry": "false"}))


@pytest.mark.thorough
def test_iss_worker_says_what_does_not_answer(tmp_path: Path, postgres_url: str) -> None:
    home = Iss(tmp_path / "study", tmp_path / "home", {})
    assert "a worker needs the cluster's settings" in home("worker").stderr
    away = {"ISS_CLUSTER__STORAGE": STORAGE, "ISS_CLUSTER__BROKER": BROKER}
    done = Iss(tmp_path / "study", tmp_path / "home", away)("worker")
    assert (done.returncode, "Dagster's storage does not answer" in done.stderr) == (2, True)
    assert SECRET not in done.stdout + done.stderr
    done = Iss(tmp_path / "study", tmp_path / "home", {**away, "ISS_CLUSTER__STORAGE": postgres_url})(
        "worker"
    )
    assert (done.returncode, "the broker does not answer" in done.stderr) == (2, True)
    assert SECRET not in done.stdout + done.stderr
    assert "there is no queue fast" in home("worker", "--queue", "fast").stderr


def findings(settings: Settings) -> dict[str, tuple[str, str]]:
    return {f.subject: (f.state, f.text) for f in examine(settings)}


def test_iss_doctor_says_which_parts_answer(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    assert "broker" not in findings(settings_of(tmp_path))
    found = findings(settings_of(tmp_path, storage=postgres_url, broker=redis_url))
    assert found["Dagster's storage"] == ("ok", "Postgres answers")
    assert found["broker"][0] == "ok" and found["workers"] == ("warn", "none answers")
    assert found["daemon"][0] == "warn" and "iss serve" in found["daemon"][1]
    nothing = f"127.0.0.1:{free_port()}"
    away = {"storage": f"postgresql://iss:{SECRET}@{nothing}/x", "broker": f"redis://:{SECRET}@{nothing}/0"}
    found = findings(settings_of(tmp_path, **away))
    assert (found["Dagster's storage"][0], found["broker"][0]) == ("fail", "fail")
    assert SECRET not in str(found)


def test_no_run_is_taken_for_gone_while_the_broker_does_not_answer() -> None:
    from iss_assets.pipeline.cluster_launcher import ClusterLauncher

    launcher = ClusterLauncher(f"redis://127.0.0.1:{free_port()}/0", silent_s=0.0)
    run = dg.DagsterRun(job_name="patient", tags={"dagster-celery/task_id": "1"})
    assert [launcher.check_run_worker_health(run).status.value for _ in range(2)] == ["RUNNING"] * 2


def test_a_second_host_is_refused_where_the_warehouse_is_a_file_until_the_first_one_has_ended(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    given = {"ISS_CLUSTER__STORAGE": STORAGE, "ISS_CLUSTER__BROKER": BROKER, "ISS_HOME": str(home)}
    code = (
        "import sys; from iss_assets.pipeline import cluster, home; from iss_assets.settings import Settings\n"
        "cluster.host_id = lambda: sys.argv[1]\n"
        "home.prepare_home(Settings()); print('ready', flush=True); sys.stdin.read()"
    )

    def host(name: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, "-c", code, name], env={**os.environ, **given}, text=True, stdin=pipe, stdout=pipe, stderr=pipe
        )  # fmt: skip

    with host("a") as first, host("a") as beside:
        assert first.stdout and beside.stdout
        assert first.stdout.readline() == beside.stdout.readline() == "ready\n"
        _, errors = host("b").communicate()
        assert "another host works on this home" in errors and "ISS_WAREHOUSE__CATALOG" in errors
        assert SECRET not in errors
        for process in (first, beside):
            process.communicate("")
    out, _ = host("b").communicate("")
    assert out == "ready\n" and [path.name for path in home.glob("host-*")] == ["host-b"]


@pytest.mark.parametrize("place", ["home/scratch", "lake/scratch"])
def test_a_scratch_folder_that_other_hosts_see_is_refused(tmp_path: Path, place: str) -> None:
    lake = {"catalog": "postgres:host=127.0.0.1 port=1 dbname=iss", "data_path": str(tmp_path / "lake")}
    settings = Settings.model_validate(
        {
            "home": tmp_path / "home",
            "study": tmp_path / "study",
            "warehouse": lake,
            "cluster": {"scratch": tmp_path / place},
        }
    )
    with pytest.raises(ClusterProblem, match="all hosts see"):
        prepare_home(settings)


@pytest.mark.parametrize(
    ("statement", "begins"), [("select 1 from not_there_yet", True), ("select 1 / 0 from from", False)]
)
def test_a_table_that_another_process_is_about_to_create_is_waited_for_and_no_other_error(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, statement: str, begins: bool
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("ISS_DAGSTER_STORAGE", "")
    settings = settings_of(tmp_path, storage=postgres_url)
    assert settings.cluster.storage is not None
    address = storage_address(settings.cluster.storage)
    prepare_home(settings)
    really, asked = dg.DagsterInstance.from_config, []

    def first_fails(*place: str) -> dg.DagsterInstance:
        asked.append(place)
        if len(asked) == 1:
            engine = sqlalchemy.create_engine(address)
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text(statement))
        return really(*place)

    monkeypatch.setattr(dg.DagsterInstance, "from_config", first_fails)
    if begins:
        with open_instance(settings) as instance:
            assert instance.get_runs_count() == 0
    else:
        with pytest.raises(ClusterProblem, match="ProgrammingError"):
            open_instance(settings)
    assert len(asked) == 1 + begins
