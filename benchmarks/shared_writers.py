"""Measure how many replacements four writers at once get done in a shared warehouse and in a file, and that none is lost.

    python -m benchmarks.shared_writers [--writers 4] [--times 200] [--rounds 2] [--rows 50] [--tiny]

A replacement is one video's meshes, in a transaction of its own, as a patient's run writes them. Writers are processes, each with
a DuckDB of its own; Postgres runs on the same machine. File and shared warehouse take turns, a share of the replacements each
round, so that other work on the machine slows both.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as arrow

from benchmarks import end_on_sigterm
from iss_assets.media.landmarks import POINT_VALUES, pack_points
from iss_assets.schemas.visual import Landmarks
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.lakes import lake_settings, password_file
from iss_assets_tests.postgres import postgres_program, running_postgres

REQUIRED_RATIO = 0.3


def meshes(video: str, rows: int) -> arrow.Table:
    """Return the meshes of a video; points are random."""
    random = np.random.default_rng(0)
    detected, points = pack_points(list(random.random((rows, POINT_VALUES), np.float32)))
    constant = {
        name: arrow.repeat(arrow.scalar(value, arrow.string()), rows)
        for name, value in {
            "patient_id": video.partition("-")[0],
            "video_id": video,
            "fingerprint": "x",
        }.items()
    }
    columns = {
        "frame_index": arrow.array(np.arange(rows), arrow.int32()), "detected": detected, "points": points,
    }  # fmt: skip
    return arrow.table({**constant, **columns}).select(Landmarks.arrow_schema().names)


def write(path: Path, settings: WarehouseSettings, writer: int, numbers: range, rows: int, ready) -> None:  # type: ignore[no-untyped-def]  # a barrier of an unnamed type
    """Replace one video after another, each by its meshes."""
    warehouse = Warehouse(path, settings)
    warehouse.create()
    tables = {n: meshes(f"{writer:04d}-{n}", rows) for n in numbers}
    ready.wait()
    for number, table in tables.items():
        warehouse.replace(Landmarks, table, {"video_id": f"{writer:04d}-{number}"})


def measure(paths: list[Path], settings: WarehouseSettings, numbers: range, rows: int) -> float:
    """Return how long the writers take, from when all are ready."""
    processes = multiprocessing.get_context("spawn")
    ready = processes.Barrier(len(paths) + 1)
    writers = [
        processes.Process(target=write, args=(path, settings, n, numbers, rows, ready))
        for n, path in enumerate(paths)
    ]
    for process in writers:
        process.start()
    ready.wait()
    began = time.perf_counter()
    for process in writers:
        process.join()
    spent = time.perf_counter() - began
    if any(process.exitcode for process in writers):
        raise SystemExit("a writer failed")
    return spent


def main() -> int:
    """Measure, print the table, and return 1 if a replacement is lost or the shared warehouse is too slow."""
    end_on_sigterm()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--times", type=int, default=200, help="replacements per writer")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=50, help="of a replacement")
    parser.add_argument("--tiny", action="store_true", help="few replacements, to check correctness")
    given = parser.parse_args()
    if given.tiny:
        given.writers, given.times, given.rounds = 2, 2, 1
    print("| warehouse | replacements per s | of the file's rate | lost |\n|---|---|---|---|", flush=True)
    if postgres_program("initdb") is None:
        print("| shared | : PostgreSQL is not installed (Debian: postgresql)")
        return 0
    per_round = given.times // given.rounds
    with running_postgres() as postgres, tempfile.TemporaryDirectory(prefix="iss-writers-bench-") as name:
        folder = Path(name)
        os.environ["PGPASSFILE"] = str(password_file(postgres, folder))
        file = WarehouseSettings(lock_timeout_s=600)
        shared = lake_settings(postgres, postgres.new_database(), folder / "data").model_copy(
            update={"lock_timeout_s": 600.0}
        )
        one, own = folder / "warehouse.duckdb", [folder / str(n) / "lake" for n in range(given.writers)]
        places = {"file": ([one] * given.writers, file), "shared": (own, shared)}
        spent = dict.fromkeys(places, 0.0)
        for paths, settings in places.values():
            Warehouse(paths[0], settings).create()
        for number in range(given.rounds):
            numbers = range(number * per_round, (number + 1) * per_round)
            for place, (paths, settings) in places.items():
                spent[place] += measure(paths, settings, numbers, given.rows)
        failed = False
        done = given.writers * given.rounds * per_round
        for place, (paths, settings) in places.items():
            found = (
                Warehouse(paths[0], settings)
                .query(
                    "select count(*) n from (select video_id from landmarks group by video_id "
                    f"having count(*) = {given.rows} and count(distinct frame_index) = {given.rows})"
                )["n"][0]
                .as_py()
            )
            ratio = spent["file"] / spent[place]
            print(f"| {place} | {done / spent[place]:.1f} | {ratio:.2f} | {done - found} of {done} |")
            failed |= found != done or ratio < REQUIRED_RATIO
    return 0 if given.tiny else int(failed)


if __name__ == "__main__":
    sys.exit(main())
