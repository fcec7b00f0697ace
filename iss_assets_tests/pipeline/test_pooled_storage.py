"""Dagster's history in Postgres over a connection that stays open: few of them, lost ones replaced, none shared with a child."""

from __future__ import annotations

import gc
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as db
from dagster_postgres import PostgresRunStorage

from iss_assets.pipeline.home import open_instance
from iss_assets.settings import Settings
from iss_assets_tests.lakes import database_of
from iss_assets_tests.postgres import PostgresServer


@pytest.fixture
def instance(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    for name in ("DAGSTER_HOME", "ISS_DAGSTER_STORAGE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("ISS_CLUSTER__STORAGE", postgres_url)
    with open_instance(Settings(home=tmp_path / "home")) as opened:
        yield opened


def sessions(postgres: PostgresServer, url: str) -> set[object]:
    """Return the numbers of the server's processes that serve a database."""
    return {
        number
        for (number,) in postgres.execute(
            f"select pid from pg_stat_activity where datname = '{database_of(url)}'"
        )
    }


def served_by(instance: dg.DagsterInstance) -> int:
    """Return the number of the server's process that this process speaks to."""
    storage = instance.run_storage
    assert isinstance(storage, PostgresRunStorage)
    with storage.connect() as connection:
        return int(connection.execute(db.text("select pg_backend_pid()")).scalar_one())


def _in_child(work: Any) -> Any:
    """Return what a function returns in a forked process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(work(), pipe)
            gc.collect()
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        content = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return pickle.loads(content)


def test_a_process_keeps_one_connection_whatever_it_does(
    instance: dg.DagsterInstance, postgres: PostgresServer, postgres_url: str
) -> None:
    mine = served_by(instance)

    @dg.job
    def nothing() -> None:
        pass

    assert nothing.execute_in_process(instance=instance).success
    instance.add_dynamic_partitions("patients", ["0001"])
    assert instance.get_dynamic_partitions("patients") == ["0001"]
    assert instance.all_instigator_state() == []
    assert served_by(instance) == mine
    # those that were opened for a moment end in theirs
    until = time.monotonic() + 60
    while sessions(postgres, postgres_url) != {mine}:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_forked_process_has_a_connection_of_its_own_and_leaves_its_parents_alone(
    instance: dg.DagsterInstance, postgres: PostgresServer, postgres_url: str
) -> None:
    instance.add_dynamic_partitions("patients", ["0001"])

    def work() -> tuple[list[str], int, set[object]]:
        gc.collect()
        found = instance.get_dynamic_partitions("patients")
        return list(found), served_by(instance), sessions(postgres, postgres_url)

    mine = served_by(instance)
    for _ in range(3):
        found, its, at_that_time = _in_child(work)
        assert found == ["0001"]
        assert its != mine and {its, mine} <= at_that_time
        # the child has ended; the parent still speaks to the same process of the server
        instance.add_dynamic_partitions("patients", ["0001"])
        assert served_by(instance) == mine


def test_a_connection_that_was_lost_is_replaced_without_an_error(
    instance: dg.DagsterInstance, postgres: PostgresServer, postgres_url: str
) -> None:
    instance.add_dynamic_partitions("patients", ["0001"])
    lost = served_by(instance)
    assert postgres.execute(f"select pg_terminate_backend({lost}, 60000)") == [(True,)]
    assert instance.get_dynamic_partitions("patients") == ["0001"]
    assert served_by(instance) != lost
