"""The benchmarks' small forms run to the end; what they measure is nobody's test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_small_forms_of_the_benchmarks_run():
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    for name in ("extraction", "end_to_end", "overheads", "warehouse", "scale", "training"):
        assert f"## {name}" in told.stdout
    assert "times baseline" in told.stdout and "sensor, one new patient" in told.stdout
