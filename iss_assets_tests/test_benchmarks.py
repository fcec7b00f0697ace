"""The small versions of the benchmarks run to completion; their results are not tested."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from benchmarks import reidentification
from benchmarks.__main__ import TINY, jobs
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.keys import new_key, write_key
from iss_assets_tests.made_up import tiny_study
from iss_assets_tests.this_process import run_iss_in_this_process

ROOT = Path(__file__).resolve().parent.parent
RUN_BY_COMMAND = "warehouse"
SAYS = {
    "extraction": "times baseline",
    "end_to_end": "study-wide s",
    "overheads": "loading the code location",
    "encryption": "| copying |",
    "features": "| all without words, by the clock |",
    "words": "| 14 dB below the voice |",
    "scale": "sensor, one new patient",
    "training": "times naive",
    "evaluation": "the whole evaluation",
    "coverage": "repeated study",
    "check_ins": "| 29 | 0.5 | 0 | 0 | 1 |",
    "check_in_pictures": "| 12 | 0.5 | 0 | 0 | the sign | 1 |",
    "reidentification": "25 features, 2 apart",
    "web_application": "| 3 timelines |",
}


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(TINY.keys() - {RUN_BY_COMMAND}))
def test_the_small_version_of_a_benchmark_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has already loaded the libraries; `end_to_end` starts the command, as all of them do in full."""
    monkeypatch.setattr(sys, "argv", [name, *TINY[name]])
    monkeypatch.chdir(ROOT)
    if name != "end_to_end":
        run_iss_in_this_process(monkeypatch)
    with mock.patch.dict(os.environ):
        assert not importlib.import_module(f"benchmarks.{name}").main()
    assert SAYS[name] in capsys.readouterr().out


def test_recognition_is_measured_in_an_encrypted_home_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_key(tmp_path / "key", new_key())
    monkeypatch.setenv("ISS_WAREHOUSE__KEY_FILE", str(tmp_path / "key"))
    settings = Settings(home=tmp_path / "home")
    tiny_study(Warehouse(settings.warehouse_path, settings.warehouse))
    monkeypatch.setattr(sys, "argv", ["reidentification", "--home", str(settings.home)])
    reidentification.main()
    assert "| landmarks (face meshes) | 8 | 16 | " in capsys.readouterr().out


def test_the_command_knows_every_benchmark() -> None:
    runnable = {
        path.stem
        for path in (ROOT / "benchmarks").glob("[!_]*.py")
        if 'if __name__ == "__main__"' in path.read_text()
    }
    assert set(jobs("clips", tiny=False)) == runnable
    assert runnable - set(jobs(None, tiny=False)) == {"quality", "identity"}
    assert set(TINY) <= runnable


def test_the_command_runs_the_requested_benchmarks() -> None:
    command = [sys.executable, "-m", "benchmarks", "--tiny"]
    done = subprocess.run(
        [*command, RUN_BY_COMMAND], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("## ") == 1 and f"## {RUN_BY_COMMAND}" in done.stdout
    assert "memory for loading" in done.stdout
    unknown = subprocess.run([*command, "nothing"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert unknown.returncode == 2 and "unknown benchmark: nothing" in unknown.stderr
