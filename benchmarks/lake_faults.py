"""Writers of a shared warehouse are killed, and the network is cut in the middle of a commit: what is lost, and what is left.

The tests do the same with three kills and a cut of a few seconds. Prints one row per fault.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

from benchmarks import end_on_sigterm
from iss_assets.schemas.modeling import CvSplits
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.maintenance import maintain
from iss_assets_tests.lakes import lake_settings, password_file, unnamed_files
from iss_assets_tests.postgres import PostgresServer, postgres_program, running_postgres
from iss_assets_tests.proxy import proxy_to
from iss_assets_tests.warehouse.test_database import splits

ROWS = 2000
_WRITER = """
import sys
from pathlib import Path
from iss_assets.settings import WarehouseSettings
from iss_assets.schemas.modeling import CvSplits
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.warehouse.test_database import splits
warehouse = Warehouse(Path(sys.argv[1]), WarehouseSettings(catalog=sys.argv[2], data_path=sys.argv[3]))
number = 0
while True:
    number += 1
    warehouse.replace(CvSplits, splits(f"{sys.argv[4]}-{number}", int(sys.argv[5]), split=7), {"split": 7})
    print("wrote", flush=True)
"""


def main() -> int:
    """Measure and print the table; return how often something was lost."""
    end_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cut", type=float, default=30.0, help="seconds without a network")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if options.tiny:
        options.kills, options.cut = 1, 1.0
    if postgres_program("initdb") is None:
        print("PostgreSQL is not installed (Debian: postgresql)")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="iss-lake-faults-"))
    try:
        with running_postgres() as postgres:
            os.environ["PGPASSFILE"] = str(password_file(postgres, folder))
            print(
                "| fault | times | rows lost or twice | longest wait for the lock, s | files left | after clean-up |"
            )
            print("|---|---|---|---|---|---|", flush=True)
            lost = _kill(postgres, folder, options.kills)
            lost += _cut(postgres, folder, options.cut)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return lost


def _kill(postgres: PostgresServer, folder: Path, times: int) -> int:
    settings = lake_settings(postgres, postgres.new_database(), folder / "killed")
    here = Warehouse(folder / "warehouse.duckdb", settings)
    here.create()
    wrong, waits = 0, []
    for number in range(times):
        command = [sys.executable, "-c", _WRITER, str(folder / "other.duckdb"), str(settings.catalog)]
        command += [str(settings.data_path), f"run{number}", str(ROWS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.uniform(0, 0.5))
            os.killpg(process.pid, signal.SIGKILL)
        began = time.monotonic()
        here.replace(CvSplits, splits("after", 1, split=8), {"split": 8})
        waits.append(time.monotonic() - began)
        names = here.query("select patient_id from cv_splits where split = 7")["patient_id"].to_pylist()
        whole = len(names) == len(set(names)) == ROWS and len({n.rpartition("-")[0] for n in names}) == 1
        wrong += not whole
    left = len(unnamed_files(here))
    maintain(here, timedelta(0))
    print(
        f"| killed | {times} | {wrong} | {max(waits):.2f} | {left} | {len(unnamed_files(here))} |", flush=True
    )
    return wrong + len(unnamed_files(here))


def _cut(postgres: PostgresServer, folder: Path, seconds: float) -> int:
    settings = lake_settings(postgres, postgres.new_database(), folder / "cut")
    here = Warehouse(folder / "warehouse.duckdb", settings)
    here.create()
    with proxy_to(postgres.port) as proxy:
        catalog = str(settings.catalog).replace(f"port={postgres.port}", f"port={proxy.port}")
        there = Warehouse(folder / "other.duckdb", settings.model_copy(update={"catalog": catalog}))
        there.replace(CvSplits, splits("before", ROWS, split=7), {"split": 7})
        proxy.on(b"INSERT INTO", b"COMMIT", "hold")
        first = threading.Thread(
            target=lambda: there.replace(CvSplits, splits("first", ROWS, split=7), {"split": 7})
        )
        began = time.monotonic()
        first.start()
        proxy.happened.wait()
        # the other host waits for its turn meanwhile
        second = threading.Thread(
            target=lambda: here.replace(CvSplits, splits("second", ROWS, split=8), {"split": 8})
        )
        second.start()
        time.sleep(seconds)
        proxy.resume()
        first.join()
        second.join()
        waited = time.monotonic() - began
        names = here.query("select patient_id from cv_splits")["patient_id"].to_pylist()
        wrong = sorted(names) != sorted(f"{n}-{i}" for n in ("first", "second") for i in range(ROWS))
    left = len(unnamed_files(here))
    maintain(here, timedelta(0))
    print(
        f"| cut for {seconds:g} s | 1 | {int(wrong)} | {waited:.2f} | {left} | {len(unnamed_files(here))} |"
    )
    return int(wrong) + len(unnamed_files(here))


if __name__ == "__main__":
    sys.exit(main())
