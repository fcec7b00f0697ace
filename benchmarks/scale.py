"""Measure how monitoring scales with the study: sensor, `iss status`, `iss run` with nothing to do, asset pages.

    python -m benchmarks.scale [--sizes 112x18,1000x20]

The study is invented and up to date: tiny files in its folder, rows in the warehouse, and partitions, runs,
materializations and check results in Dagster's history. No video is decoded and no page is drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import DagsterRun, DagsterRunStatus
from dagster._core.utils import make_new_run_id

from benchmarks.incremental import TICK, made_up_study
from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.pipeline.staleness import PATIENT_TABLES
from iss_assets.settings import Settings

PAGE = {
    "header": "query($k: AssetKeyInput!) { assetNodeOrError(assetKey: $k) { ... on AssetNode { id description "
    "groupName kinds owners { ... on TeamAssetOwner { team } } jobs { name } "
    "partitionDefinition { name dimensionTypes { name } } } } }",
    "partitions": "query($k: AssetKeyInput!) { assetNodeOrError(assetKey: $k) { ... on AssetNode { "
    "partitionKeyConnection(limit: 1000, ascending: true) { results } assetPartitionStatuses { __typename "
    "... on DefaultPartitionStatuses { materializedPartitions failedPartitions unmaterializedPartitions "
    "materializingPartitions } } } } }",
    "events": "query($k: AssetKeyInput!) { assetOrError(assetKey: $k) { ... on Asset { "
    "assetMaterializations(limit: 100) { partition runId timestamp metadataEntries { label } } } } }",
    "checks": "query($k: AssetKeyInput!) { assetNodeOrError(assetKey: $k) { ... on AssetNode { "
    "assetChecksOrError { ... on AssetChecks { checks { name partitionStatuses { __typename } "
    "executionForLatestMaterialization { status evaluation { success } } } } } } } }",
    "graph": "query { assetNodes { id assetKey { path } staleStatus assetMaterializations(limit: 1) { timestamp } "
    "partitionStats { numPartitions numMaterialized numFailed } } }",
}
"""GraphQL queries of Dagster's pages of an asset and of the asset graph."""


def make_history(settings: Settings, patients: int) -> None:
    """Add a finished run to Dagster's history for every patient, with a materialization and a check result per table."""
    with open_instance(settings, many_runs=True) as instance:
        for number in range(1, patients + 1):
            patient = f"{number:04d}"
            tags = {"dagster/partition": patient}
            instance.add_run(
                DagsterRun("patient", make_new_run_id(), status=DagsterRunStatus.SUCCESS, tags=tags)
            )
            for table in PATIENT_TABLES:
                key = dg.AssetKey(table)
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(
                        key, partition=patient, metadata={"dagster/partition_row_count": 3}
                    )
                )
                instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(
                        asset_key=key, check_name="schema", passed=True, partition=patient
                    )
                )


def spent(*arguments: str) -> float:
    """Return the duration of an `iss` command in seconds."""
    began = time.perf_counter()
    command = [str(Path(sys.executable).with_name("iss")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"iss {arguments[0]} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return time.perf_counter() - began


def tick() -> tuple[float, list[str]]:
    """Return the duration of a sensor evaluation without imports, and the subjects of the runs it requests."""
    done = subprocess.run([sys.executable, "-c", TICK], check=True, capture_output=True, text=True)
    took, requested, _ = json.loads(done.stdout.splitlines()[-1])
    return took, requested


def ask_pages(settings: Settings) -> dict[str, float]:
    """Start Dagster's web server, send the queries of its pages twice, and return the durations of the second time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workspace = prepare_home(settings) / "workspace.yaml"
    command = [
        str(Path(sys.executable).with_name("dagster-webserver")),
        "-w",
        str(workspace),
        "-p",
        str(port),
    ]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    seconds: dict[str, float] = {}
    try:
        wait_for(port)
        for _ in range(2):
            for name, query in PAGE.items():
                began = time.perf_counter()
                answer = post(port, query, {"k": {"path": ["faces"]}} if "$k" in query else {})
                if answer.get("errors"):
                    raise SystemExit(f"{name}: {answer['errors'][0]['message']}")
                seconds[name] = time.perf_counter() - began
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
    return seconds


def post(port: int, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        result: dict[str, Any] = json.load(answer)
    return result


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if post(port, "{ assetNodes { id } }", {})["data"]["assetNodes"]:
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def measure(patients: int, videos: int, frames: int, scratch: Path) -> dict[str, float]:
    """Create a study of this size and measure everything."""
    settings = Settings(study=scratch / "study", home=scratch / "home")
    os.environ |= {
        "ISS_STUDY": str(settings.study),
        "ISS_HOME": str(settings.home),
        "ISS_READING__SETTLE_SECONDS": "0",
    }
    made_up_study(settings, patients, videos, frames)
    make_history(settings, patients)
    found: dict[str, float] = {"patients": patients, "videos": patients * videos}
    found["study-wide tables and pages s"] = spent("run", "--no-models")
    found["iss run, nothing to do s"] = spent("run", "--no-models")
    found["iss status s"] = spent("status")
    found["sensor, nothing to do s"], requested = tick()
    if requested:
        raise SystemExit(f"the invented study is stale: {requested[:5]}")
    with (settings.study / "enrollment.csv").open("a") as file:
        file.write("9999,1A,M,II,0,2025-01-02,+00:00\n")
    found["sensor, one new patient s"], requested = tick()
    if "9999" not in requested:
        raise SystemExit("the sensor did not detect the new patient")
    found |= {f"page: {name} s": seconds for name, seconds in ask_pages(settings).items()}
    found["warehouse MB"] = settings.warehouse_path.stat().st_size / 1e6
    history = settings.dagster_home / "history"
    found["Dagster's history MB"] = sum(f.stat().st_size for f in history.rglob("*") if f.is_file()) / 1e6
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", default="112x18,1000x20", help="patients x videos per patient, separated by commas"
    )
    parser.add_argument("--frames", type=int, default=20, help="frames per invented video")
    parser.add_argument("--tiny", action="store_true", help="one very small study, to check correctness")
    given = parser.parse_args()
    sizes = [
        tuple(int(n) for n in size.split("x")) for size in ("2x1" if given.tiny else given.sizes).split(",")
    ]
    columns = []
    for patients, videos in sizes:
        with tempfile.TemporaryDirectory() as folder:
            columns.append(measure(patients, videos, given.frames, Path(folder)))
            print(json.dumps(columns[-1]), file=sys.stderr, flush=True)
    print("| |" + "|".join(f" {c['patients']:,} patients, {c['videos']:,} videos " for c in columns) + "|")
    print("|---|" + "---|" * len(columns))
    for name in list(columns[0])[2:]:
        print(f"| {name} |" + "|".join(f" {c[name]:.2f} " for c in columns) + "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
