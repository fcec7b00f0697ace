"""Maintenance of a shared warehouse, on a real Postgres: fewer files, the same rows, and no file that somebody needs is removed."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from iss_assets.build import build_defs
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.maintenance import maintain
from iss_assets_tests.warehouse.test_database import splits


@pytest.fixture
def tables(shared: WarehouseSettings, tmp_path: Path) -> Warehouse:
    """A shared warehouse that five small writes have left files in, three of which were replaced."""
    warehouse = Warehouse(tmp_path / "home" / "warehouse.duckdb", shared)
    for number in range(5):
        warehouse.replace(CvSplits, splits(f"p{number}", 3, split=number + 1), {"split": number + 1})
    for _ in range(3):
        warehouse.replace(CvSplits, splits("again", 2, split=1), {"split": 1})
    return warehouse


def files(settings: WarehouseSettings) -> set[Path]:
    return set(Path(str(settings.data_path)).rglob("*.parquet"))


def rows(warehouse: Warehouse) -> list[dict[str, object]]:
    return warehouse.query("select * from cv_splits order by all").to_pylist()


def test_small_files_become_one_and_what_was_replaced_is_removed(
    tables: Warehouse, shared: WarehouseSettings
) -> None:
    before, there = rows(tables), files(shared)
    done = maintain(tables, timedelta(0))
    assert rows(tables) == before
    assert done.files_after < done.files_before
    assert done.removed > 0
    assert len(files(shared)) < len(there)
    # and it can be written to as before
    tables.replace(CvSplits, splits("new", 1, split=9), {"split": 9})
    assert len(rows(tables)) == len(before) + 1


def test_what_is_younger_than_a_day_stays(tables: Warehouse, shared: WarehouseSettings) -> None:
    there = files(shared)
    done = maintain(tables)
    assert (done.snapshots, done.removed, done.orphans) == (0, 0, 0)
    assert there <= files(shared)


def test_files_that_nothing_names_are_removed_once_they_are_old(
    tables: Warehouse, shared: WarehouseSettings
) -> None:
    folder = next(iter(files(shared))).parent
    old, young = folder / "old.parquet", folder / "young.parquet"
    for path in (old, young):
        path.write_bytes(next(iter(files(shared))).read_bytes())
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))
    before = rows(tables)
    assert maintain(tables).orphans == 1
    assert not old.exists()
    assert young.exists()
    assert rows(tables) == before


def test_a_file_needs_none(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="only a shared warehouse"):
        maintain(warehouse)


def test_it_is_a_job_at_night_where_the_warehouse_is_shared_and_only_there(
    tables: Warehouse, shared: WarehouseSettings, settings: Settings
) -> None:
    alone = build_defs(settings.model_copy(update={"warehouse": shared.of_a_file()}))
    assert not alone.get_repository_def().has_job("maintenance")
    several = build_defs(settings.model_copy(update={"warehouse": shared}))
    repository = several.get_repository_def()
    assert repository.get_schedule_def("nightly_maintenance").job_name == "maintenance"
    with dg.DagsterInstance.ephemeral() as instance:
        result = repository.get_job("maintenance").execute_in_process(instance=instance)
    assert result.success
