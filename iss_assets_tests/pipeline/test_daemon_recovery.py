"""A run that dies under a real daemon is recovered by the next tick of the study sensor."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from iss_assets.defs.assets.reading import patient_lock
from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.pipeline.run_history import PARTITION_TAG, PID_TAG, STATE_TAG, TAKEN_UP_TAG
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.defs.test_backfill import running, wait_for, write_study

PATIENT = "0001"


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize(
    "killed",
    ["the run's process", "every process, as when the machine goes down"],
)
def test_the_next_tick_recovers_a_run_that_was_killed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    for name in ("DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("ISS_SENSORS__INTERVAL_S", "1")
    monkeypatch.setenv("ISS_SENSORS__RETRY_S", "0")
    monkeypatch.setenv("ISS_READING__SETTLE_SECONDS", "0")
    write_study(settings.study)
    workspace = str(prepare_home(settings) / "workspace.yaml")
    daemon_command = ("dagster-daemon", "run", "-w", workspace)

    with ExitStack() as stack:
        instance = stack.enter_context(open_instance(settings))

        def runs() -> list[dg.DagsterRun]:
            return list(instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: PATIENT})))

        def waits_for_its_turn() -> dg.DagsterRun | None:
            answered = PATIENT in instance.get_materialized_partitions(dg.AssetKey("bpi_scores"))
            return next((r for r in runs() if answered and PID_TAG in r.tags), None)

        def recovered() -> dg.DagsterRun | None:
            return next((r for r in runs() if r.is_success), None)

        # the run writes the answers, and then waits for its turn with the videos until it is killed
        turn = stack.enter_context(ExitStack())
        turn.enter_context(patient_lock(settings, PATIENT))
        log = tmp_path / "daemon.log"
        daemon = stack.enter_context(running(log, *daemon_command))
        victim = wait_for(waits_for_its_turn, daemon, log)
        if killed != "the run's process":
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait(120)
        os.kill(int(victim.tags[PID_TAG]), signal.SIGKILL)
        turn.close()
        if killed != "the run's process":
            log = tmp_path / "daemon-2.log"
            daemon = stack.enter_context(running(log, *daemon_command))
        again = wait_for(recovered, daemon, log)
        died = instance.get_run_by_id(victim.run_id)
    assert died is not None and died.status == dg.DagsterRunStatus.FAILURE
    assert again.run_id != died.run_id
    assert (again.job_name, STATE_TAG in again.tags) == ("patient", True), "the sensor asked for it"
    # where nobody else was left to report the failure, the tick did so, and raised no alert for it; where its server
    # watched the process, whoever looks first reports it
    assert TAKEN_UP_TAG in died.tags or killed == "the run's process"
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    made = warehouse.query(f"select distinct table_name from extractions where patient_id = '{PATIENT}'")
    assert {"bpi_scores", "videos", "video_quality"} <= set(made["table_name"].to_pylist())
