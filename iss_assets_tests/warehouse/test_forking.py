"""A process that keeps DuckDB running can start others."""

from __future__ import annotations

import subprocess
import sys

import pytest

_STARTS_OTHERS = """
import os, subprocess, duckdb, iss_assets.warehouse.{module} as module
connection = duckdb.connect()
connection.execute("set threads = 4")
connection.execute("select sum(range) from range(10000000)").fetchall()
module._engines["a"] = connection
del connection
for _ in range(5):
    # with a function for the child, Python forks
    subprocess.run(["true"], preexec_fn=lambda: None, timeout=60, check=True)
os._exit(0)
"""


@pytest.mark.parametrize("module", ["engine", "lake"])
def test_a_forked_process_does_not_close_what_its_parent_keeps_running(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STARTS_OTHERS.format(module=module)],
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
