"""A backfill as the UI launches it, under a real web server and a real daemon."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.pipeline.staleness import PATIENT_TABLES
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.defs.test_definitions import keys_that_are_not_snake_case
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER, SURVEYS, VIDEOS
from iss_assets_tests.intake.conftest import PATIENTS as ENROLLED

PATIENTS = ("0001", "0002")
LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
"""What "Launch backfill" in the UI sends."""


@contextmanager
def running(log: Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of Dagster's programs in a group of its own, and end everything in that group afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name(program)), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            # the group holds its code server and runs, too, which may outlive it
            for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)


def wait_for(happened: Callable[[], Any], process: subprocess.Popen[bytes], log: Path) -> Any:
    """Wait for what may take ten times as long on a busy machine; give what it gives."""
    deadline = time.monotonic() + 300
    while not (result := happened()):
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.25)
    return result


def ask(port: int, query: str, variables: dict[str, Any]) -> dict[str, Any] | None:
    """Ask the web server; None while it does not answer yet."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            result: dict[str, Any] = json.load(answer)
    except (urllib.error.URLError, ConnectionError):
        return None
    return result


def write_study(folder: Path) -> None:
    """Write a study whose videos cannot be read: nothing is decoded, and every table and check is made all the same."""
    for name in VIDEOS:
        path = folder / "videos" / name
        path.parent.mkdir(parents=True)
        path.write_text("This is no video.")
    (folder / "enrollment.csv").write_text("\n".join([ENROLLMENT_HEADER, *ENROLLED, ""]))
    (folder / "surveys.csv").write_text("\n".join([SURVEY_HEADER, *SURVEYS, ""]))


def checks_by_partition(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str | None, set[str]]:
    found: dict[str | None, set[str]] = {}
    events = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    for record in events.records:
        event = record.event_log_entry.dagster_event
        assert event is not None
        data = event.asset_check_evaluation_data
        found.setdefault(data.partition, set()).add(f"{data.asset_key.to_user_string()}:{data.check_name}")
    return found


@pytest.mark.slow
def test_a_backfill_from_the_ui_ends_with_every_patients_partition_and_its_own_check_results(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(settings.study)
    # what `prepare_home` sets goes with the test
    for name in ("DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    workspace = str(prepare_home(settings) / "workspace.yaml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    params = {
        "selector": {
            "partitionSetName": "patient_partition_set",
            "repositorySelector": {
                "repositoryLocationName": "iss_assets",
                "repositoryName": "__repository__",
            },
        },
        "partitionNames": list(PATIENTS),
    }
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("patients", list(PATIENTS))
        log = tmp_path / "webserver.log"
        with running(log, "dagster-webserver", "-w", workspace, "-p", str(port)) as server:
            answer = wait_for(lambda: ask(port, LAUNCH, {"params": params}), server, log)
        assert answer["data"]["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", answer

        def done() -> bool:
            runs = instance.get_runs(dg.RunsFilter(job_name="patient"))
            return len(runs) >= len(PATIENTS) and all(run.is_finished for run in runs)

        log = tmp_path / "daemon.log"
        with running(log, "dagster-daemon", "run", "-w", workspace) as daemon:
            wait_for(done, daemon, log)
        runs = {
            run.tags["dagster/partition"]: run for run in instance.get_runs(dg.RunsFilter(job_name="patient"))
        }
        assert runs.keys() == set(PATIENTS)
        assert {run.status for run in runs.values()} == {dg.DagsterRunStatus.SUCCESS}
        backfill = answer["data"]["launchPartitionBackfill"]["backfillId"]
        assert {run.tags["dagster/backfill"] for run in runs.values()} == {backfill}, (
            "the sensor asked for none"
        )
        for table in PATIENT_TABLES:
            assert instance.get_materialized_partitions(dg.AssetKey(table)) == set(PATIENTS), table
        assert keys_that_are_not_snake_case(instance) == set()
        seen = {patient: checks_by_partition(instance, run) for patient, run in runs.items()}
    assert all(seen[patient].keys() == {patient} for patient in PATIENTS)
    kept = Warehouse(settings.warehouse_path, settings.warehouse).query(
        "select patient_id, asset || ':' || check_name as name from check_results where patient_id <> '*'"
    )
    assert len(kept) > 20
    for patient in PATIENTS:
        of_patient = {r["name"] for r in kept.to_pylist() if r["patient_id"] == patient}
        assert of_patient == seen[patient][patient]
