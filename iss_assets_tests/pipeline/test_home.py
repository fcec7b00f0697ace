"""The home is complete before a second process opens it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from iss_assets_tests.cli.processes import Iss

_OPENS = """
import sys
from iss_assets.pipeline.home import open_instance
from iss_assets.settings import Settings
settings = Settings()
print("ready", flush=True)
sys.stdin.readline()
with open_instance(settings) as instance:
    print(instance.get_runs(), instance.all_instigator_state(), instance.all_asset_keys())
"""


def test_processes_that_open_a_new_home_at_once_do_not_create_its_databases_twice(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    command = [sys.executable, "-c", _OPENS]
    processes = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=Iss(tmp_path / "study", tmp_path / "home").environment(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], [error[-500:] for _, error in said]
    assert [out for out, _ in said] == ["[] [] []\n"] * 3
