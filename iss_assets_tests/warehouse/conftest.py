"""A study in a shared warehouse, for several files of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.sql.build import build_models
from iss_assets.warehouse.sql.models import load_models
from iss_assets_tests.lakes import copy_lake, names, password_file, stop_engines
from iss_assets_tests.made_up import tiny_study
from iss_assets_tests.postgres import PostgresServer
from iss_assets_tests.s3_server import S3Server
from iss_assets_tests.warehouse.test_database import splits


@pytest.fixture(scope="session")
def studied_lake(
    postgres: PostgresServer, empty_lake: WarehouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WarehouseSettings]:
    """A shared warehouse with a study of eight patients and the SQL models, to be copied."""
    folder = tmp_path_factory.mktemp("studied_lake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSFILE", str(password_file(postgres, folder)))
        settings = copy_lake(postgres, empty_lake, folder / "data")
        tables = Warehouse(folder / "warehouse.duckdb", settings)
        tiny_study(tables)
        build_models(tables, load_models(settings.sql_dir))
        stop_engines()
    yield settings


@pytest.fixture
def studied(
    postgres: PostgresServer,
    studied_lake: WarehouseSettings,
    data_place: Path | tuple[S3Server, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Warehouse]:
    """A copy of the study."""
    monkeypatch.setenv("PGPASSFILE", str(password_file(postgres, tmp_path)))
    settings = copy_lake(postgres, studied_lake, data_place)
    monkeypatch.setenv("ISS_WAREHOUSE__CATALOG", str(settings.catalog))
    monkeypatch.setenv("ISS_WAREHOUSE__DATA_PATH", str(settings.data_path))
    yield Warehouse(tmp_path / "home" / "warehouse.duckdb", settings)
    stop_engines()


@pytest.fixture
def tables(shared: WarehouseSettings, tmp_path: Path) -> Warehouse:
    """A warehouse with two rows, which this process has used before."""
    found = Warehouse(tmp_path / "home" / "warehouse.duckdb", shared)
    found.replace(CvSplits, splits("old", 2), {})
    assert names(found) == ["old-0", "old-1"]
    return found
