"""Measure all SQL models on a study of the planned size: 112 patients, 2,000 videos, 750,000 invented frames.

Run it with ``python -m benchmarks.marts``. The limits are 20 s and 4 GB on two cores, to which the process is restricted.
Filling the warehouse is not included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.sql.build import build_models, run_tests
from iss_assets.warehouse.sql.models import load_models
from iss_assets_tests.made_up import large_study

CORES = 2
MAX_SECONDS = 20.0
MAX_GB = 4.0


def measure(file: Path) -> dict[str, float]:
    """Build every model and run every test in this process; return seconds and peak memory."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    warehouse = Warehouse(file)
    started = time.perf_counter()
    models = load_models(WarehouseSettings().sql_dir)
    loaded = time.perf_counter()
    build_models(warehouse, models)
    built = time.perf_counter()
    failed = sum(
        not r.passed for results in run_tests(warehouse, models.models.values()).values() for r in results
    )
    return {
        "models": len(models.models),
        "load_s": loaded - started,
        "build_s": built - loaded,
        "tests_s": time.perf_counter() - built,
        "failed_tests": failed,
        "peak_gb": peak_gb(),
    }


def peak_gb() -> float:
    """Return the peak memory of this program in GB; ``getrusage`` would include the parent's before ``exec``."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1e6


def main() -> dict[str, float]:
    """Fill a warehouse, measure in a separate process (so that memory is that of the models), print the result."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "warehouse.duckdb"
        before = time.perf_counter()
        large_study(Warehouse(file))
        print(
            f"filled in {time.perf_counter() - before:.1f} s, {file.stat().st_size / 1e6:.0f} MB", flush=True
        )
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.marts", str(file)], check=True, capture_output=True, text=True
        )
    result: dict[str, float] = json.loads(done.stdout)
    for name, value in result.items():
        print(f"{name:>14}  {value:.2f}")
    within = result["load_s"] + result["build_s"] <= MAX_SECONDS and result["peak_gb"] <= MAX_GB
    print(f"limits: {MAX_SECONDS:.0f} s and {MAX_GB:.0f} GB: {'yes' if within else 'NO'}")
    return result


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]))))
    else:
        main()
