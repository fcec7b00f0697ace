"""The network between a writer and the catalog is cut: nothing is lost, nothing is there twice, and no turn is used twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.lake_catalog import LakeCatalog
from iss_assets.warehouse.maintenance import maintain
from iss_assets_tests.lakes import BOTH_PLACES, database_of, names, stop_engines, unnamed_files
from iss_assets_tests.postgres import PostgresServer
from iss_assets_tests.proxy import Proxy, proxy_to
from iss_assets_tests.warehouse.test_database import splits

COMMIT = b"INSERT INTO", b"COMMIT"
"""What a connection carries that writes to the catalog, and how it ends."""


@pytest.fixture
def here(shared: WarehouseSettings, tmp_path: Path) -> Warehouse:
    """The warehouse, reached directly."""
    return Warehouse(tmp_path / "here" / "warehouse.duckdb", shared)


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with proxy_to(postgres.port) as proxy:
        yield proxy
        stop_engines()


@pytest.fixture
def there(here: Warehouse, postgres: PostgresServer, proxy: Proxy, tmp_path: Path) -> Warehouse:
    """The same, reached through the proxy."""
    catalog = str(here.settings.catalog).replace(f"port={postgres.port}", f"port={proxy.port}")
    here.replace(CvSplits, splits("old", 2), {})
    found = Warehouse(
        tmp_path / "there" / "warehouse.duckdb", here.settings.model_copy(update={"catalog": catalog})
    )
    assert names(found) == ["old-0", "old-1"]
    return found


def end_the_lock(warehouse: Warehouse, postgres: PostgresServer) -> None:
    """End the session that holds the writer's lock, as Postgres does when nobody answers."""
    postgres.execute(
        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted and database = "
        f"(select oid from pg_database where datname = '{database_of(str(warehouse.settings.catalog))}')"
    )


@BOTH_PLACES
def test_who_has_lost_the_turn_to_another_writer_cannot_commit(
    here: Warehouse, postgres: PostgresServer, tmp_path: Path
) -> None:
    other = Warehouse(tmp_path / "other" / "warehouse.duckdb", here.settings)
    with pytest.raises(WarehouseError, match="nothing was written"), here.write() as writer:
        writer.replace(CvSplits, splits("lost", 2), {})
        end_the_lock(here, postgres)
        other.replace(CvSplits, splits("other", 3), {})
    assert names(here) == ["other-0", "other-1", "other-2"]
    # nobody else wrote: the turn is still one's own
    with here.write() as writer:
        writer.replace(CvSplits, splits("mine", 1), {})
        end_the_lock(here, postgres)
    assert names(here) == ["mine-0"]


def test_who_writes_without_a_turn_is_refused_by_the_database_itself(here: Warehouse) -> None:
    here.create()
    opened = here.store.open(read_only=False)
    opened.connection.execute("create table stray (n integer)")
    with pytest.raises(Exception, match="turn to write is another"):
        opened.connection.execute("commit")
    opened.close()
    with pytest.raises(Exception, match="stray"):
        here.query("from stray")


@BOTH_PLACES
def test_a_commit_whose_answer_is_lost_is_looked_up_and_counts(there: Warehouse, proxy: Proxy) -> None:
    proxy.on(*COMMIT, "lose answer")
    there.replace(CvSplits, splits("new", 3), {})
    assert proxy.happened.is_set()
    assert names(there) == ["new-0", "new-1", "new-2"]


@BOTH_PLACES
def test_a_writer_that_dies_when_the_answer_is_lost_takes_no_file_with_it(
    there: Warehouse, here: Warehouse, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.on(*COMMIT, "lose answer")
    with monkeypatch.context() as patch:
        patch.setattr(LakeCatalog, "carried_out", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            there.replace(CvSplits, splits("new", 3, split=1), {"split": 1})
    # DuckLake has removed the file; the next writer puts it back
    here.replace(CvSplits, splits("next", 1, split=2), {"split": 2})
    assert names(here) == ["new-0", "new-1", "new-2", "next-0"]
    maintain(here, timedelta(0))
    assert names(here) == ["new-0", "new-1", "new-2", "next-0"]
    assert unnamed_files(here) == []


def test_a_commit_that_does_not_arrive_is_told_and_can_be_repeated(
    there: Warehouse, here: Warehouse, proxy: Proxy
) -> None:
    proxy.on(*COMMIT, "lose request")
    with pytest.raises(WarehouseError, match="nothing was written"):
        there.replace(CvSplits, splits("new", 3), {})
    assert proxy.happened.is_set()
    assert names(here) == ["old-0", "old-1"]
    there.replace(CvSplits, splits("new", 3), {})
    assert names(here) == ["new-0", "new-1", "new-2"]


def test_a_short_cut_in_the_middle_of_a_commit_delays_it_and_the_next_writer_comes_after_it(
    there: Warehouse, here: Warehouse, proxy: Proxy
) -> None:
    proxy.on(*COMMIT, "hold")
    first = threading.Thread(target=lambda: there.replace(CvSplits, splits("first", 3), {"split": 1}))
    second = threading.Thread(target=lambda: here.replace(CvSplits, splits("second", 2), {"split": 1}))
    first.start()
    assert proxy.happened.wait(60)
    second.start()
    second.join(1)
    assert second.is_alive()
    proxy.resume()
    for thread in (first, second):
        thread.join(60)
        assert not thread.is_alive()
    assert names(here) == ["second-0", "second-1"]
