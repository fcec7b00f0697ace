"""A training whose process is killed resumes after its last epoch at the next start, without a daemon."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iss_assets.cli.location import load
from iss_assets.modeling.folds import PatientLevel, assign_splits
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.job_runs import run_job
from iss_assets.pipeline.run_history import end_dead_runs
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.modeling.conftest import SIDE

TRAIN = """
from iss_assets.cli.location import load
from iss_assets.pipeline.job_runs import run_job
from iss_assets.pipeline.home import open_instance
from iss_assets.settings import Settings
with open_instance(Settings()) as instance:
    run_job(load, instance, "train", "a fold", partitions=("resnet50_2_static|01",) * 2)
"""


@pytest.mark.slow
@pytest.mark.thorough
def test_a_killed_training_releases_its_pool_slot_and_resumes_after_its_last_epoch(
    made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    store = Warehouse(Warehouse(made_once).snapshot(home / "warehouse.duckdb"))
    levels = [PatientLevel("0001", "None"), PatientLevel("0002", "Low")]
    store.replace(CvSplits, assign_splits(levels, folds=2), where={})
    for name, value in {
        "PROFILE": "demo",
        "IMAGE_SIDE": str(SIDE),
        "EPOCHS": "8",
        "DEVICE": "cpu",
        "CHECKPOINT_S": "0",
    }.items():
        monkeypatch.setenv(f"ISS_TRAINING__{name}", value)
    monkeypatch.setenv("ISS_HOME", str(home))
    checkpoint = home / "models" / "resnet50_2_static" / "01" / "checkpoint.safetensors"

    training = subprocess.Popen([sys.executable, "-c", TRAIN], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 600
    while not checkpoint.exists() and training.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    training.send_signal(signal.SIGKILL)
    assert training.wait() == -signal.SIGKILL and checkpoint.exists()

    caplog.set_level(logging.INFO, logger="iss_assets.modeling.training")
    with open_instance(Settings()) as instance:
        assert len(instance.event_log_storage.get_concurrency_run_ids()) == 1
        end_dead_runs(instance)
        assert not instance.event_log_storage.get_concurrency_run_ids()
        assert run_job(load, instance, "train", "it", partitions=("resnet50_2_static|01",) * 2).success
    assert "resuming after epoch" in caplog.text
    assert not checkpoint.exists()
    epochs = store.query("select json_array_length(history) as n from fold_models")["n"].to_pylist()
    assert epochs == [8]
