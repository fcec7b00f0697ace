"""A writer on a host whose cable is pulled for half a minute while it writes to the shared warehouse, and another one on this host."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.maintenance import maintain
from iss_assets_tests.lakes import lake_settings, stop_engines, unnamed_files
from iss_assets_tests.network import cabled_host
from iss_assets_tests.postgres import running_postgres

CUT_S = 30.0
ROWS = 5
_WRITER = f"""
import sys
from pathlib import Path
from iss_assets.settings import WarehouseSettings
from iss_assets.schemas.modeling import CvSplits
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.warehouse.test_database import splits
home, catalog, data, writer, end = sys.argv[1:]
warehouse = Warehouse(Path(home), WarehouseSettings(catalog=catalog, data_path=data, lock_timeout_s=120))
number = 0
while not Path(end).exists():
    # a partition of one's own that grows, and one that both replace
    warehouse.replace(CvSplits, splits(f"own-{{writer}}-{{number}}", {ROWS}, split=int(writer)), {{"patient_id": "none"}})
    warehouse.replace(CvSplits, splits(f"same-{{writer}}-{{number}}", {ROWS}, split=100), {{"split": 100}})
    print(number, flush=True)
    number += 1
"""


@pytest.mark.slow
@pytest.mark.thorough
def test_a_host_without_a_network_for_half_a_minute_loses_nothing_writes_nothing_twice_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cabled_host() as host, running_postgres(host.address) as postgres, ExitStack() as stack:
        password = tmp_path / "pgpass"
        password.write_text(f"*:*:*:iss:{postgres.password}\n")
        password.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(password))
        settings = lake_settings(postgres, postgres.new_database(), tmp_path / "lake")
        here = Warehouse(tmp_path / "home" / "warehouse.duckdb", settings)
        here.create()
        stop_engines()
        end = tmp_path / "end"

        def start(writer: int, address: str, *before: str) -> Path:
            log = tmp_path / f"{writer}.log"
            catalog = str(settings.catalog).replace("127.0.0.1", address)
            command = [
                *before,
                sys.executable,
                "-c",
                _WRITER,
                str(tmp_path / f"{writer}" / "warehouse.duckdb"),
            ]
            command += [catalog, str(settings.data_path), str(writer), str(end)]
            with log.open("wb") as out:
                process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
            processes.append(process)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return log

        def more_of_both(n: int) -> None:
            """Wait until both writers have written `n` times since now."""
            until = time.monotonic() + 120
            before = [len(written(log)) for log in logs]
            while any(len(written(log)) < had + n for log, had in zip(logs, before, strict=True)):
                assert all(process.poll() is None for process in processes), [log.read_text() for log in logs]
                assert time.monotonic() < until, [log.read_text() for log in logs]
                time.sleep(0.05)

        processes: list[subprocess.Popen[bytes]] = []
        logs = [start(1, "127.0.0.1"), start(2, host.address, *host.command())]
        more_of_both(2)
        # it writes or waits for its turn at any moment
        host.unplug()
        time.sleep(1)
        during = len(written(logs[1]))
        time.sleep(CUT_S - 1)
        assert len(written(logs[1])) == during
        host.plug_in()
        more_of_both(2)
        end.touch()
        assert [process.wait(120) for process in processes] == [0, 0], [log.read_text() for log in logs]

        rows = here.query("select patient_id, split from cv_splits").to_pylist()
        own = sorted(row["patient_id"] for row in rows if row["split"] != 100)
        assert own == sorted(
            f"own-{writer}-{number}-{row}"
            for writer, log in ((1, logs[0]), (2, logs[1]))
            for number in written(log)
            for row in range(ROWS)
        )
        same = [row["patient_id"] for row in rows if row["split"] == 100]
        assert len(same) == len(set(same)) == ROWS
        assert {name.rpartition("-")[0] for name in same} <= {
            f"same-{writer}-{written(log)[-1]}" for writer, log in ((1, logs[0]), (2, logs[1]))
        }
        maintain(here, timedelta(0))
        assert unnamed_files(here) == []
        stop_engines()


def written(log: Path) -> list[int]:
    """Return the numbers of what a writer was told is written; anything else it says is an error."""
    lines = log.read_text().splitlines()
    assert all(line.isdigit() for line in lines), log.read_text()
    return [int(line) for line in lines]
