"""The benchmarks' small forms run to the end; what they measure is nobody's test."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from benchmarks.__main__ import TINY

ROOT = Path(__file__).resolve().parent.parent
BY_THE_COMMAND = "warehouse"
SAYS = {
    "extraction": "times baseline",
    "end_to_end": "study-wide s",
    "overheads": "loading the code location",
    "scale": "sensor, one new patient",
    "training": "times naive",
    "evaluation": "the whole evaluation",
    "coverage": "repeated study",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TINY.keys() - {BY_THE_COMMAND}))
def test_the_small_form_of_a_benchmark_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has loaded already what a new one would load again."""
    monkeypatch.setattr(sys, "argv", [name, *TINY[name]])
    monkeypatch.chdir(ROOT)
    with mock.patch.dict(os.environ):
        assert not importlib.import_module(f"benchmarks.{name}").main()
    assert SAYS[name] in capsys.readouterr().out


def test_the_command_runs_those_that_it_is_asked_for() -> None:
    command = [sys.executable, "-m", "benchmarks", "--tiny"]
    told = subprocess.run(
        [*command, BY_THE_COMMAND], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert told.returncode == 0, told.stderr[-2000:]
    assert told.stdout.count("## ") == 1 and f"## {BY_THE_COMMAND}" in told.stdout
    assert "memory for it" in told.stdout
    unknown = subprocess.run([*command, "nothing"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert unknown.returncode == 2 and "no such benchmark here: nothing" in unknown.stderr
