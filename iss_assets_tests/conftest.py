"""Fixtures that every test may use: a fresh warehouse, settings that point nowhere else, the folder of real clips."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test sees the defaults and what it sets itself, never the developer's own study."""
    for name in list(os.environ):
        if name.startswith("ISS_") and name != "ISS_REAL_CLIPS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("ISS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ISS_STUDY", str(tmp_path / "study"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(study=tmp_path / "study", home=tmp_path / "home")


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "home" / "warehouse.duckdb", WarehouseSettings(lock_timeout_s=60))


@pytest.fixture(scope="session")
def real_clips() -> Path:
    folder = os.environ.get("ISS_REAL_CLIPS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ISS_REAL_CLIPS names no folder of real clips")
    return Path(folder)
