"""Several processes that write to the shared warehouse at once, as several hosts do, and writers that are killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.maintenance import maintain
from iss_assets_tests.lakes import BOTH_PLACES, unnamed_files
from iss_assets_tests.warehouse.test_database import splits

WRITERS, TIMES, ROWS = 4, 8, 5
KILLS = 3
"""``benchmarks/lake_faults.py`` kills twenty."""


def _write_many(path: Path, settings: WarehouseSettings, writer: int) -> None:
    warehouse = Warehouse(path, settings)
    for number in range(TIMES):
        # a partition of one's own, and one that everybody replaces
        warehouse.replace(
            CvSplits, splits(f"own-{writer}-{number}", ROWS, split=writer + 1), {"patient_id": "none"}
        )
        warehouse.replace(CvSplits, splits(f"same-{writer}-{number}", ROWS, split=100), {"split": 100})


@BOTH_PLACES
@pytest.mark.slow
def test_four_writers_lose_nothing_and_what_all_replace_is_there_once(
    shared: WarehouseSettings, tmp_path: Path
) -> None:
    processes = multiprocessing.get_context("spawn")
    hosts = [tmp_path / f"host-{n}" / "warehouse.duckdb" for n in range(WRITERS)]
    Warehouse(hosts[0], shared).create()
    writers = [processes.Process(target=_write_many, args=(path, shared, n)) for n, path in enumerate(hosts)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(240)
    assert [p.exitcode for p in writers] == [0] * WRITERS
    rows = Warehouse(hosts[0], shared).query("select patient_id, split from cv_splits").to_pylist()
    own = [row["patient_id"] for row in rows if row["split"] != 100]
    assert len(own) == len(set(own)) == WRITERS * TIMES * ROWS
    same = [row["patient_id"] for row in rows if row["split"] == 100]
    # one writer's last replacement, whole, and nobody else's
    assert len(same) == ROWS
    (last,) = {name.rpartition("-")[0] for name in same}
    assert last.endswith(f"-{TIMES - 1}")


_KILLED = """
import sys
from pathlib import Path
from iss_assets.settings import WarehouseSettings
from iss_assets.schemas.modeling import CvSplits
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.warehouse.test_database import splits
warehouse = Warehouse(Path(sys.argv[1]), WarehouseSettings(catalog=sys.argv[2], data_path=sys.argv[3]))
print("ready", flush=True)
number = 0
while True:
    number += 1
    warehouse.replace(CvSplits, splits(f"{sys.argv[4]}-{number}", 2000, split=7), {"split": 7})
    print("wrote", flush=True)
"""


@BOTH_PLACES
@pytest.mark.slow
def test_a_killed_writer_leaves_the_old_rows_or_the_new_ones_no_lock_and_after_maintenance_no_file(
    shared: WarehouseSettings, tmp_path: Path
) -> None:
    here = Warehouse(tmp_path / "here" / "warehouse.duckdb", shared)
    here.create()
    for attempt in range(KILLS):
        command = [sys.executable, "-c", _KILLED, str(tmp_path / "there" / "warehouse.duckdb")]
        command += [str(shared.catalog), str(shared.data_path), f"run{attempt}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            assert process.stdout.readline() == "wrote\n"
            # somewhere in the middle of the next replacement
            time.sleep(random.uniform(0, 0.3))
            os.killpg(process.pid, signal.SIGKILL)
        names = here.query("select patient_id from cv_splits where split = 7")["patient_id"].to_pylist()
        assert len(names) == len(set(names)) == 2000
        assert len({name.rpartition("-")[0] for name in names}) == 1
        began = time.monotonic()
        here.replace(CvSplits, splits(f"after-{attempt}", 1, split=8), {"split": 8})
        # Postgres notices at once that the session is gone; keepalives would take 35 s
        assert time.monotonic() - began < 30
    maintain(here, timedelta(0))
    assert unnamed_files(here) == []
    assert here.query("select count(*) n from cv_splits where split = 8")["n"].to_pylist() == [1]
