"""What does not fit into memory is on the host's own disk, private, and gone with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse import spilling
from iss_assets.warehouse.database import Warehouse, WarehouseError

_CODE = """
import sys
from iss_assets.warehouse.spilling import spill_folder
folder = spill_folder()
folder.mkdir()
(folder / "rows").write_text("somebody")
print(folder, flush=True)
sys.stdin.read()
"""


def process() -> tuple[subprocess.Popen[str], Path]:
    started = subprocess.Popen(
        [sys.executable, "-c", _CODE], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert started.stdout
    return started, Path(started.stdout.readline().strip())


def test_a_process_that_was_killed_leaves_nothing_for_longer_than_until_the_next_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    killed, of_killed = process()
    alive, of_alive = process()
    assert tmp_path in of_killed.parents and of_killed != of_alive
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (of_killed.parent, of_killed.parent.parent))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    third, of_third = process()
    assert not of_killed.parent.exists() and (of_alive / "rows").exists()
    for one in (alive, third):
        one.communicate("")
    assert not of_alive.parent.exists() and not of_third.parent.exists()


def test_a_folder_that_others_can_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(spilling, "_own", {})
    (tmp_path / f"iss-spill-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(WarehouseError, match="only this user can open"):
        spilling.spill_folder()


def test_duckdb_spills_there_when_it_works_with_a_shared_warehouse(
    shared: WarehouseSettings, tmp_path: Path
) -> None:
    warehouse = Warehouse(tmp_path / "home" / "warehouse.duckdb", shared)
    where = warehouse.query("select current_setting('temp_directory') as place")["place"][0].as_py()
    assert Path(where) == spilling.spill_folder()
    assert tmp_path / "home" not in Path(where).parents
    assert Path(str(shared.data_path)) not in Path(where).parents
