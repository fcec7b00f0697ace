"""Homes of earlier and of newer versions: what writers do to them, and what readers see of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from iss_assets.load import table
from iss_assets.schemas.base import Column
from iss_assets.schemas.registry import TABLES
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.ledger import STUDY, WHOLE, ledger
from iss_assets.warehouse.migration import SCHEMA_VERSION
from iss_assets.warehouse.row_groups import merge_row_groups

_OLD_LEDGER = """
drop table extractions;
create table extractions (
    patient_id varchar not null,
    video_id varchar not null,
    table_name varchar not null,
    fingerprint varchar not null,
    rows bigint not null,
    made_at timestamp with time zone not null,
    problem varchar
);
comment on table extractions is 'One video''s last extraction into one table: the ledger that says what is current.';
comment on column extractions.video_id is 'Video id; `*` for a table of the patient that is not per video.';
insert into extractions values
    ('0001', '0001-01', 'frames', 'f1', 12, '2026-01-05 09:00:00+00', null),
    ('0001', '0001-01', 'audio', 'f2', 1, '2026-01-05 09:00:00+00', 'The sound ends before the picture.'),
    ('0001', '*', 'patients', 'f3', 1, '2026-01-05 09:01:00+00', null),
    ('*', 'fusion_1|03', 'frame_predictions', 'f4', 40, '2026-01-06 09:00:00+00', null),
    ('*', '*', 'cv_splits', 'f5', 29, '2026-01-06 08:00:00+00', null);
"""
"""The ledger as version 1 made it, with a row of every kind."""

_OLD_ALERTS = """
insert into alerts (alert_id, run_id, patient_id, asset, check_name, severity, status, affected, numbers, content,
    first_seen, last_seen, changed_at, delivery, told_to, taken_by, attempts)
select 'alert' || n, 'run', '0001', 'video_quality', 'glare', 'WARN', status, [], '{}', 'c',
    '2026-01-05 09:00:00+00', '2026-01-05 09:00:00+00', '2026-01-05 09:00:00+00', delivery, [], [], 0
from (values (1, 'mended', 'told'), (2, 'raised', 'waiting'), (3, 'raised', 'told'), (4, 'closed', 'not_needed'))
    as a(n, status, delivery);
"""
_OLD_RECORD = """
create schema loader;
create table loader.models_made (
    name varchar primary key, kind varchar not null, mark varchar not null, folder varchar not null
);
insert into loader.models_made values ('mine', 'table', 'm1', 'd1');
"""
_OLD_EVALUATION = """
drop table split_stability;
create table split_stability (experiment varchar, accuracy double);
insert into split_stability values ('fusion_1', 0.5);
"""

LEDGER = {
    ("0001", "0001-01", "frames"): "f1",
    ("0001", "0001-01", "audio"): "f2",
    ("0001", WHOLE, "patients"): "f3",
    (STUDY, "fusion_1|03", "frame_predictions"): "f4",
    (STUDY, WHOLE, "cv_splits"): "f5",
}
STATES = [("resolved", "delivered"), ("raised", "waiting"), ("raised", "delivered"), ("closed", "not_needed")]


@pytest.fixture
def old(tmp_path: Path, empty_warehouse: Path) -> Path:
    """Return the warehouse of a home of version 1."""
    path = tmp_path / "old" / "warehouse.duckdb"
    path.parent.mkdir(mode=0o700)
    shutil.copy(empty_warehouse, path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("drop schema loader cascade")
        for statements in (_OLD_LEDGER, _OLD_ALERTS, _OLD_RECORD, _OLD_EVALUATION):
            connection.execute(statements)
    return path


def columns_of(path: Path, name: str) -> list[str]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return [row[0] for row in connection.execute(f"describe {name}").fetchall()]


def states(warehouse: Warehouse) -> list[tuple[str, str]]:
    rows = warehouse.query("select status, delivery from alerts order by alert_id").to_pylist()
    return [(row["status"], row["delivery"]) for row in rows]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_writer_migrates_the_ledger_with_its_rows(old: Path) -> None:
    warehouse = Warehouse(old)
    with warehouse.write():
        pass
    assert columns_of(old, "extractions") == [c.name for c in columns_of_model("extractions")]
    assert ledger(warehouse) == LEDGER
    kept = warehouse.query("select rows, problem from extractions where fingerprint = 'f2'").to_pylist()
    assert kept == [{"rows": 1, "problem": "The sound ends before the picture."}]
    assert states(warehouse) == STATES
    assert columns_of(old, "loader.models_made") == ["name", "kind", "definition_hash", "folder_hash"]
    assert warehouse.query("select * from loader.models_made").to_pylist() == [
        {"name": "mine", "kind": "table", "definition_hash": "m1", "folder_hash": "d1"}
    ]
    assert warehouse.query("select version from loader.schema_version").to_pylist() == [
        {"version": SCHEMA_VERSION}
    ]


def test_a_migrated_home_has_the_tables_and_descriptions_of_a_new_one(
    old: Path, empty_warehouse: Path
) -> None:
    Warehouse(old).create()
    described = (
        "select table_name, column_name, data_type, is_nullable, comment from duckdb_columns() "
        "where schema_name = 'main' and database_name = current_database() order by all"
    )
    with (
        duckdb.connect(str(old), read_only=True) as migrated,
        duckdb.connect(str(empty_warehouse), read_only=True) as new,
    ):
        assert migrated.execute(described).fetchall() == new.execute(described).fetchall()


def test_a_reader_sees_an_old_home_as_it_would_be_and_leaves_it_as_it_is(old: Path) -> None:
    before = digest(old)
    warehouse = Warehouse(old)
    assert ledger(warehouse) == LEDGER
    assert ledger(warehouse, "0001").keys() == {key for key in LEDGER if key[0] == "0001"}
    assert states(warehouse) == STATES
    evaluation = warehouse.query("select * from split_stability")
    assert (evaluation.num_rows, evaluation.column_names) == (
        0,
        [c.name for c in columns_of_model("split_stability")],
    )
    assert digest(old) == before


def test_merging_row_groups_migrates_an_old_home_first(old: Path) -> None:
    assert merge_row_groups(Warehouse(old)) == {}
    assert "subject" in columns_of(old, "extractions")


def test_the_notebook_api_loads_tables_of_an_old_home(old: Path) -> None:
    loaded = table("extractions", home=old.parent)
    assert list(loaded.columns) == [c.name for c in columns_of_model("extractions")]
    assert set(loaded["subject"]) == {"0001-01", "*", "fusion_1|03"}


def test_a_reader_continues_when_a_writer_migrates_between_two_reads(old: Path) -> None:
    warehouse = Warehouse(old)
    assert ledger(warehouse) == LEDGER
    subprocess.run(
        [sys.executable, "-c", _MIGRATE, str(old)], check=True, capture_output=True, env={**os.environ}
    )
    assert ledger(warehouse) == LEDGER


_MIGRATE = """
import sys
from pathlib import Path
from iss_assets.warehouse.database import Warehouse
Warehouse(Path(sys.argv[1])).create()
"""

_KILLED = """
import dataclasses, os, signal, sys
from pathlib import Path
from iss_assets.warehouse import database

plan = database.plan_migration

def all_but_the_commit(connection, **more):
    found = plan(connection, **more)
    def statements():
        yield from found.statements
        os.kill(os.getpid(), signal.SIGKILL)
    return dataclasses.replace(found, statements=statements())

database.plan_migration = all_but_the_commit
database.Warehouse(Path(sys.argv[1])).create()
"""


def test_a_migration_killed_before_its_commit_leaves_the_old_home(old: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(old)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert "video_id" in columns_of(old, "extractions") and "subject" not in columns_of(old, "extractions")
    assert columns_of(old, "split_stability") == ["experiment", "accuracy"]
    Warehouse(old).create()
    assert ledger(Warehouse(old)) == LEDGER


def test_a_migration_that_fails_changes_nothing_and_says_so(old: Path) -> None:
    with duckdb.connect(str(old)) as connection:
        # somebody's own index: DuckDB renames no column that one depends on
        connection.execute("create index mine on extractions (video_id)")
    with pytest.raises(WarehouseError, match=r"could not be migrated.*nothing was changed"):
        Warehouse(old).create()
    assert "video_id" in columns_of(old, "extractions")
    assert columns_of(old, "split_stability") == ["experiment", "accuracy"]
    assert columns_of(old, "loader.models_made") == ["name", "kind", "mark", "folder"]


def test_embeddings_of_2048_numbers_are_kept_where_other_widths_are_possible_now(old: Path) -> None:
    with duckdb.connect(str(old)) as connection:
        connection.execute("alter table embeddings alter column embedding set data type float[2048]")
        connection.execute(
            "insert into embeddings by name select '0001-01' as video_id, '0001' as patient_id, 3 as frame_index, "
            "'random' as weights_origin, 'f' as fingerprint, list_transform(range(2048), lambda x: x) as embedding"
        )
    asked = (
        "select embedding[7] as seventh, len(embedding) as width, typeof(embedding) as type from embeddings"
    )
    kept = [{"seventh": 6.0, "width": 2048, "type": "FLOAT[]"}]
    warehouse = Warehouse(old)
    assert warehouse.query(asked).to_pylist() == kept
    warehouse.create()
    assert warehouse.query(asked).to_pylist() == kept


def test_a_home_of_version_8_keeps_its_check_ins_and_gets_tables_for_where_networks_looked(
    tmp_path: Path, empty_warehouse: Path
) -> None:
    path = tmp_path / "eight.duckdb"
    shutil.copy(empty_warehouse, path)
    new = ("check_in_attention", "check_in_shortcuts")
    with duckdb.connect(str(path)) as connection:
        for name in new:
            connection.execute(f"drop table {name}")
        connection.execute("update loader.schema_version set version = 8")
        connection.execute(
            "insert into check_in_predictions values "
            "('pain_now', 'new patient', 0, 'pain_now_ridge', 'model', '0001', '0001-01', 1, 4, 5)"
        )
    warehouse = Warehouse(path)

    def seen() -> list[int]:
        names = ("check_in_predictions", *new)
        return [warehouse.query(f"select * from {name}").num_rows for name in names]

    assert seen() == [1, 0, 0] and columns_of(path, "loader.schema_version")
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("select version from loader.schema_version").fetchall() == [(8,)]
    warehouse.create()
    assert seen() == [1, 0, 0]
    for name in new:
        assert columns_of(path, name) == [c.name for c in columns_of_model(name)]
    assert warehouse.query("select version from loader.schema_version")["version"].to_pylist() == [
        SCHEMA_VERSION
    ]


@pytest.mark.parametrize("use", ["read", "write"])
def test_a_home_of_a_newer_version_is_refused_and_left_alone(
    tmp_path: Path, empty_warehouse: Path, use: str
) -> None:
    path = tmp_path / "newer.duckdb"
    shutil.copy(empty_warehouse, path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"update loader.schema_version set version = {SCHEMA_VERSION + 1}")
        connection.execute("alter table extractions rename column subject to topic")
    before = digest(path)
    with pytest.raises(WarehouseError, match="newer version of iss-assets"), getattr(Warehouse(path), use)():
        pytest.fail("it was opened")
    assert digest(path) == before


def test_other_columns_need_another_schema_version() -> None:
    """If this fails, raise SCHEMA_VERSION, so that an older program says that the home is newer, and enter the new hash."""
    tables = sorted((model.__table__, [(c.name, c.sql) for c in model.columns()]) for model in TABLES)
    assert (SCHEMA_VERSION, hashlib.sha256(repr(tables).encode()).hexdigest()[:12]) == (
        9,
        "10d045332e71",
    )


def columns_of_model(name: str) -> tuple[Column, ...]:
    return next(model for model in TABLES if model.__table__ == name).columns()
