"""Measure what encryption at rest costs: the same work in the clear and encrypted, as ratios.

    python -m benchmarks.encryption [--faces 20000] [--rounds 3] [--patients 4]

Writing is one transaction per video of 500 crops and meshes, like the run of a patient; reading is every crop and point;
copying is what `iss encrypt` does without the comparison; opening is one query of a process that does not keep DuckDB
running. Extraction end to end is `iss run` without models on a sample study. Both kinds alternate, so that
a machine that becomes slower does so for both; of several rounds the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.warehouse import fill
from iss_assets.settings import WarehouseSettings
from iss_assets.synthetic.sample import write_sample_study
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.engine import Opened, attach
from iss_assets.warehouse.keys import Key, new_key, write_key

ALLOWED_END_TO_END = 1.15


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def read_all(warehouse: Warehouse) -> None:
    """Read every crop and point once."""
    warehouse.query("select sum(hash(crop) % 2) from faces")
    warehouse.query("select sum(list_sum(points)) from landmarks")


def copy(warehouse: Warehouse, to: Path, key: Key | None) -> None:
    """Copy the database into a new file."""
    opened = Opened(warehouse.path, True, warehouse.key(), encrypts=key is not None)
    opened.configure(None, 125, 1024)
    attach(opened.connection, to, "copied", key, read_only=False)
    opened.connection.execute("copy from database warehouse to copied")
    opened.connection.execute("detach copied")
    opened.close()


def end_to_end(study: Path, home: Path, key_file: Path | None) -> float:
    """Return the seconds of `iss run` without models, in processes of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ISS_")}
    environment |= {"ISS_STUDY": str(study), "ISS_HOME": str(home), "ISS_RUN__WORKERS": "1"}
    if key_file:
        environment["ISS_WAREHOUSE__KEY_FILE"] = str(key_file)
    command = [sys.executable, "-m", "iss_assets.cli", "run", "--no-models"]
    return timed(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))


def main() -> int:
    """Print one row per kind of work; return 1 if extraction end to end costs more than is allowed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--tiny", action="store_true", help="little of everything, to check correctness")
    given = parser.parse_args()
    if given.tiny:
        given.faces, given.rounds, given.patients, given.seconds = 1000, 1, 0, 4.5
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        key = new_key()
        write_key(root / "key", key)
        if given.patients:
            write_sample_study(root / "study", patients=given.patients, seconds=given.seconds)
        for number in range(given.rounds):
            seconds: dict[str, dict[bool, float]] = {}
            for encrypted in (False, True):
                settings = WarehouseSettings(key_file=root / "key" if encrypted else None)
                warehouse = Warehouse(root / f"{number}-{encrypted}.duckdb", settings)
                warehouse.create()
                opening = statistics.median(timed(partial(warehouse.query, "select 1")) for _ in range(10))
                seconds.setdefault("opening", {})[encrypted] = opening
                seconds.setdefault("writing", {})[encrypted] = fill(warehouse, given.faces)
                read_all(warehouse)
                seconds.setdefault("reading", {})[encrypted] = timed(partial(read_all, warehouse))
                copied = root / f"{number}-{encrypted}-copy.duckdb"
                took = timed(partial(copy, warehouse, copied, warehouse.key()))
                seconds.setdefault("copying", {})[encrypted] = took
                copied.unlink()
                if given.patients:
                    home = root / f"home-{number}-{encrypted}"
                    took = end_to_end(root / "study", home, settings.key_file)
                    seconds.setdefault("extraction end to end", {})[encrypted] = took
            for work, pair in seconds.items():
                found.setdefault(work, []).append((pair[False], pair[True]))
    print("| work | in the clear, s | encrypted, s | ratio |\n|---|---|---|---|")
    ratios = {}
    for work, pairs in found.items():
        ratios[work] = statistics.median(b / a for a, b in pairs)
        a, b = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
        print(f"| {work} | {a:.3f} | {b:.3f} | {ratios[work]:.2f} |")
    return int(ratios.get("extraction end to end", 1.0) > ALLOWED_END_TO_END and not given.tiny)


if __name__ == "__main__":
    sys.exit(main())
