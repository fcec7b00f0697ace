"""What the assets that read videos share: one lock per patient, and the guard around every video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import duckdb

from iss_assets.features.registry import FEATURES
from iss_assets.features.self_test import run_feature_self_test
from iss_assets.media.isolation import Guard
from iss_assets.media.journal import Journal, Stage
from iss_assets.media.self_test import run_self_test
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.spool import spool_lock

MAX_PATIENT_S = 24 * 3600.0
"""Longest wait for the lock: ninety days of three-minute narratives are 4.5 hours of video."""


@contextmanager
def patient_lock(settings: Settings, patient_id: str) -> Iterator[None]:
    """Hold the lock of a patient, so that of two runs, on any hosts, the second finds the work of the first done.

    The home is not encrypted or decrypted meanwhile.

    Raises
    ------
    LockTimeout
        If another run holds it for more than `MAX_PATIENT_S` seconds.
    """
    settings.spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    with (
        spool_lock(settings.spool_dir, exclusive=False, timeout_s=MAX_PATIENT_S),
        warehouse.lock(patient_id, timeout_s=MAX_PATIENT_S),
    ):
        yield


def guard(
    settings: Settings, patient_id: str, stage: Stage, log: Callable[[str], None] | None = None
) -> Guard:
    """Return the guard of one stage for one patient's videos.

    Parameters
    ----------
    settings : Settings
        Memory limit, and where the journal is.
    patient_id : str
        The patient whose videos are read.
    stage : str
        The stage, which the journal and the self-test depend on.
    log : callable, optional
        Called with a sentence when a video has to be read again.
    """
    is_feature = any(feature.name == stage for feature in FEATURES)
    return Guard(
        Journal(settings.journal_dir),
        patient_id,
        settings.run.video_memory_gb,
        self_test=partial(run_feature_self_test if is_feature else run_self_test, stage, settings),
        machine_errors=(duckdb.Error, WarehouseError),
        log=log,
    )
