"""Postgres restarts, and the data folder is full or gone, while a shared warehouse is written to or read.

Whoever is in the middle of something is told what is wrong, without a path; nothing is lost or half written, and the same
process goes on as soon as it is mended.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pyarrow as arrow
import pytest

from iss_assets.cli.doctor import _home as look_at_home
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.errors import WarehouseAway
from iss_assets.warehouse.maintenance import maintain
from iss_assets_tests.lakes import database_of, names, unnamed_files
from iss_assets_tests.postgres import PostgresServer
from iss_assets_tests.warehouse.test_database import splits

SETTING = "ISS_WAREHOUSE__DATA_PATH"


def folder_of(warehouse: Warehouse) -> Path:
    return Path(str(warehouse.settings.data_path))


def end_all_sessions(warehouse: Warehouse, postgres: PostgresServer) -> None:
    """End every session of the catalog's database, as a restart of Postgres does."""
    ended = postgres.execute(
        "select pg_terminate_backend(pid, 60000) from pg_stat_activity "
        f"where datname = '{database_of(str(warehouse.settings.catalog))}'"
    )
    assert ended and all(done for (done,) in ended)


def test_who_writes_or_reads_while_postgres_restarts_is_told_so_and_the_same_process_goes_on(
    tables: Warehouse, postgres: PostgresServer
) -> None:
    lost = "was lost: Postgres was restarted"
    with pytest.raises(WarehouseAway, match=f"{lost}.*nothing was written"), tables.write() as writer:
        end_all_sessions(tables, postgres)
        writer.replace(CvSplits, splits("new", 3), {})
    assert names(tables) == ["old-0", "old-1"]
    with pytest.raises(WarehouseAway, match="nothing was written"), tables.write() as writer:
        writer.replace(CvSplits, splits("new", 3), {})
        end_all_sessions(tables, postgres)
    assert names(tables) == ["old-0", "old-1"]
    with pytest.raises(WarehouseAway, match=f"{lost}.*try again"), tables.read() as connection:
        end_all_sessions(tables, postgres)
        connection.execute("select count(*) from cv_splits").fetchall()
    tables.replace(CvSplits, splits("new", 3), {})
    assert names(tables) == ["new-0", "new-1", "new-2"]


def test_an_error_of_ones_own_is_not_hidden_by_a_restart_of_postgres(
    tables: Warehouse, postgres: PostgresServer
) -> None:
    with pytest.raises(ValueError, match="my own"), tables.write() as writer:
        writer.replace(CvSplits, splits("new", 3), {})
        end_all_sessions(tables, postgres)
        raise ValueError("my own")
    assert names(tables) == ["old-0", "old-1"]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let the system refuse to write more into a file, as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_data_folder_that_is_full_loses_nothing_and_maintenance_removes_what_was_begun(
    tables: Warehouse,
) -> None:
    many = arrow.concat_tables([splits(f"p{number * 7919 % 99991:05}", 20) for number in range(400)])
    with no_file_larger_than(4096), pytest.raises(WarehouseAway, match=SETTING) as told:
        tables.replace(CvSplits, many, {})
    assert "File too large; nothing was written" in str(told.value)
    assert str(folder_of(tables)) not in str(told.value)
    assert names(tables) == ["old-0", "old-1"]
    tables.replace(CvSplits, many, {})
    assert len(names(tables)) == 8000
    maintain(tables, timedelta(0))
    assert unnamed_files(tables) == []
    assert len(names(tables)) == 8000


def test_a_commit_whose_second_names_cannot_be_made_is_not_carried_out(tables: Warehouse) -> None:
    in_the_way = folder_of(tables) / ".committing"
    if in_the_way.is_dir():
        in_the_way.rmdir()
    in_the_way.touch()
    with pytest.raises(WarehouseAway, match=rf"{SETTING}, cannot be used: .*; nothing was written") as told:
        tables.replace(CvSplits, splits("new", 3), {})
    assert str(folder_of(tables)) not in str(told.value)
    assert names(tables) == ["old-0", "old-1"]
    in_the_way.unlink()
    tables.replace(CvSplits, splits("new", 3), {})
    assert names(tables) == ["new-0", "new-1", "new-2"]


def test_nothing_is_written_into_what_is_left_of_a_data_folder_that_was_unmounted(
    tables: Warehouse, tmp_path: Path
) -> None:
    folder, elsewhere = folder_of(tables), tmp_path / "elsewhere"
    with pytest.raises(WarehouseAway, match=rf"{SETTING}, was unmounted"), tables.write() as writer:
        writer.replace(CvSplits, splits("new", 3), {})
        folder.rename(elsewhere)
        folder.mkdir()
    for use in (lambda: tables.replace(CvSplits, splits("new", 3), {}), lambda: names(tables)):
        with pytest.raises(WarehouseAway, match=SETTING) as told:
            use()
        assert str(folder) not in str(told.value)
    assert list(folder.iterdir()) == [], "this host's own disk, which other hosts do not see"
    folder.rmdir()
    elsewhere.rename(folder)
    assert names(tables) == ["old-0", "old-1"]
    tables.replace(CvSplits, splits("new", 3), {})
    assert names(tables) == ["new-0", "new-1", "new-2"]


def test_iss_doctor_says_how_much_room_the_data_folder_has_and_whether_it_can_be_written_to(
    tables: Warehouse, shared: WarehouseSettings
) -> None:
    settings, folder = Settings(home=tables.path.parent, warehouse=shared), folder_of(tables)

    def found() -> list[tuple[str, str, str]]:
        return [
            (f.state, f.subject, f.text.partition("free for the ")[2])
            for f in look_at_home(settings)
            if "data folder" in f.subject + f.text
        ]

    ((state, *room),) = found()
    assert state in ("ok", "warn") and room == ["disk", "data folder"]
    if os.geteuid():
        # root may write anyway
        folder.chmod(0o500)
        assert found() == [("fail", "data folder", "")]
        folder.chmod(0o700)
