"""The promises of the shared warehouse, on a real Postgres: the same tables as the file's, for several hosts at once."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as arrow
import pytest
from pydantic import ValidationError

from iss_assets import load
from iss_assets.schemas.intake import Patients
from iss_assets.schemas.modeling import CvSplits
from iss_assets.schemas.registry import TABLES
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse import lake
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.export import export_tables
from iss_assets.warehouse.moving import move_to_file, move_to_shared
from iss_assets.warehouse.sql.build import build_models, run_tests, try_models
from iss_assets.warehouse.sql.models import SqlModels, load_models
from iss_assets.warehouse.sql.record import remove_gone
from iss_assets_tests.lakes import BOTH_PLACES, database_of, stop_engines
from iss_assets_tests.made_up import tiny_study
from iss_assets_tests.postgres import PostgresServer
from iss_assets_tests.warehouse.test_database import splits


@pytest.fixture(scope="module")
def studied_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study in a file."""
    warehouse = Warehouse(tmp_path_factory.mktemp("studied") / "warehouse.duckdb")
    tiny_study(warehouse)
    build_models(warehouse, load_models(warehouse.settings.sql_dir))
    return warehouse.path


@pytest.fixture
def in_a_file(warehouse: Warehouse, studied_file: Path) -> Warehouse:
    """A copy of the study in the file of a home."""
    shutil.copy(studied_file, warehouse.path)
    return warehouse


@pytest.fixture
def tables(shared: WarehouseSettings, tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "home" / "warehouse.duckdb", shared)


def content(warehouse: Warehouse) -> dict[str, tuple[Any, ...]]:
    """Return what tells whether every table has the same rows: types, their number, and a hash of all values."""
    with warehouse.read() as connection:
        names = [*(t.__table__ for t in TABLES), *load_models(warehouse.settings.sql_dir).models]
        assert len(names) > 60
        return {
            name: (
                str(connection.execute(f"select * from {name} limit 0").description),
                connection.execute(
                    f"select count(*), sum(hash(_row)::hugeint) from {name} as _row"
                ).fetchone(),
            )
            for name in names
        }


def test_a_patient_is_replaced_and_another_one_stays(tables: Warehouse) -> None:
    tables.replace(CvSplits, splits("a", 2), {})
    tables.replace(CvSplits, splits("b", 3), {"patient_id": "b"})
    assert tables.query("select count(*) n from cv_splits")["n"].to_pylist() == [5]
    tables.replace(CvSplits, splits("b", 1), {"patient_id": "b-0"})
    assert tables.query("select patient_id p from cv_splits order by all")["p"].to_pylist() == [
        "a-0",
        "a-1",
        "b-0",
        "b-1",
        "b-2",
    ]


def test_what_fails_is_undone(tables: Warehouse) -> None:
    tables.replace(CvSplits, splits("a", 2), {})
    with pytest.raises(RuntimeError, match="in the middle"), tables.write() as writer:
        writer.replace(CvSplits, splits("b", 3), {})
        raise RuntimeError("in the middle")
    assert tables.query("select count(*) n from cv_splits")["n"].to_pylist() == [2]


def test_a_reader_sees_one_snapshot_and_keeps_nobody_waiting(tables: Warehouse) -> None:
    tables.replace(CvSplits, splits("a", 2), {})
    with tables.read() as connection:
        before = tables.stamp()
        tables.replace(CvSplits, splits("b", 3), {"patient_id": "b"})
        assert connection.execute("select count(*) from cv_splits").fetchone() == (2,)
        with pytest.raises(duckdb.Error, match="read-only"):
            connection.execute("delete from cv_splits")
    assert tables.query("select count(*) n from cv_splits")["n"].to_pylist() == [5]
    assert tables.stamp() != before


def test_reading_apart_sees_the_same_rows(tables: Warehouse) -> None:
    tables.replace(CvSplits, splits("0001"), {})
    asked = "select patient_id, split from cv_splits order by all"
    with tables.read(apart=True) as connection:
        apart = connection.execute(asked).fetchall()
        assert tables.query(asked).num_rows == len(apart) > 0
    assert [tuple(row.values()) for row in tables.query(asked).to_pylist()] == apart


@BOTH_PLACES
def test_every_table_and_model_has_the_types_and_rows_that_it_has_in_a_file(
    studied: Warehouse, in_a_file: Warehouse
) -> None:
    assert content(studied) == content(in_a_file)
    points = studied.query("select points from landmarks where detected limit 1")["points"]
    assert points.type == arrow.list_(arrow.float32(), 1404)


def test_sql_models_are_replaced_tested_and_removed_like_those_of_a_file(
    studied: Warehouse, in_a_file: Warehouse, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(studied.settings.sql_dir, folder)
    before, failing = content(studied), dict[str, object]()
    for one in (studied, in_a_file):
        models = load_models(folder)
        build_models(one, models)
        failing[one.name] = [
            (r.test.sql, r.failing_rows)
            for rows in run_tests(one, models.models.values()).values()
            for r in rows
        ]
    assert content(studied) == before
    assert failing[studied.name] == failing[in_a_file.name]
    (folder / "marts" / "extra.sql").write_text("select 1 as n\n")
    build_models(studied, load_models(folder), ["extra"])
    assert studied.query("select n from extra")["n"].to_pylist() == [1]
    (folder / "marts" / "extra.sql").unlink()
    assert try_models(studied, load_models(folder), ["stg_patients"]).removed == ("extra",)


def test_a_model_that_fails_takes_no_other_with_it(studied: Warehouse, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "marts").mkdir(parents=True)
    for name, sql in (
        ("first", "select patient_id from patients"),
        ("second", "select cohort::integer as n from patients"),
        ("third", "select count(*) as n from patients"),
        ("fourth", "select n from second"),
    ):
        (folder / "marts" / f"{name}.sql").write_text(f"{sql}\n")
    models = load_models(folder)
    assert len(models.models) == 4
    outcomes = try_models(studied, models, models.models).outcomes
    assert {n for n, rows in outcomes.items() if isinstance(rows, Exception)} == {"second", "fourth"}
    assert studied.query("select n from third")["n"].to_pylist() == [8]
    assert studied.query("select count(*) n from first")["n"].to_pylist() == [8]


def test_an_older_shared_warehouse_is_read_as_it_is_and_migrated_by_the_next_writer(
    studied: Warehouse, postgres: PostgresServer
) -> None:
    with studied.write() as writer:
        writer.execute("alter table videos drop column problem")
        writer.execute("update loader.schema_version set version = 1")
        writer.execute("drop table landmarks")
    from iss_assets.warehouse import database

    database._CURRENT.clear()
    assert studied.query("select distinct problem from videos")["problem"].to_pylist() == [None]
    assert studied.query("select count(*) n from landmarks")["n"].to_pylist() == [0]
    database._CURRENT.clear()
    studied.create()
    assert studied.query("select count(*) n from videos where problem is null")["n"].to_pylist() == [16]
    with studied.read() as connection:
        found = connection.execute(
            "select count(*) from duckdb_columns() where database_name = 'warehouse' and column_name = 'problem' "
            "and table_name = 'videos' and comment is not null"
        ).fetchone()
    assert found == (1,)


def test_a_newer_one_is_refused(tables: Warehouse) -> None:
    tables.replace(CvSplits, splits("a"), {})
    with tables.write() as writer:
        writer.execute("update loader.schema_version set version = 999")
    from iss_assets.warehouse import database

    database._CURRENT.clear()
    with pytest.raises(WarehouseError, match="newer version"):
        tables.create()


@BOTH_PLACES
def test_a_snapshot_is_a_file_with_the_same_rows(studied: Warehouse, tmp_path: Path) -> None:
    before = content(studied)
    copy = studied.copied(tmp_path / "copy.duckdb")
    studied.replace(CvSplits, splits("later"), {})
    assert not copy.shared and copy.path.stat().st_mode & 0o077 == 0
    assert content(copy) == before


def test_exports_are_those_of_a_file(studied: Warehouse, in_a_file: Warehouse, tmp_path: Path) -> None:
    for one, name in ((studied, "a"), (in_a_file, "b")):
        export_tables(one, ["patients", "patient_timeline", "videos"], "csv", tmp_path / name)
    for name in ("patients.csv", "patient_timeline.csv", "videos.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_notebooks_read_the_shared_warehouse(studied: Warehouse, settings: Settings) -> None:
    assert load.warehouse(settings.home).shared
    assert len(load.table("bpi_scores", home=settings.home)) == 16


@BOTH_PLACES
def test_a_home_moves_there_and_back_with_every_table_the_same(
    shared: WarehouseSettings, in_a_file: Warehouse, settings: Settings
) -> None:
    settings = settings.model_copy(update={"warehouse": shared})
    assert in_a_file.path == settings.warehouse_path
    with in_a_file.write() as writer:
        writer.execute("create table own (id integer primary key, note varchar default 'x')")
        writer.execute("insert into own values (1, 'mine')")
        writer.execute("create view own_view as select * from own")
        writer.execute("create view a_view_of_it as select * from own_view")
    before = content(in_a_file)
    there = move_to_shared(settings)
    assert not in_a_file.path.exists() and there.file.exists()
    tables = Warehouse(settings.warehouse_path, shared)
    assert content(tables) == before
    assert tables.query("select note from a_view_of_it")["note"].to_pylist() == ["mine"]
    back = move_to_file(settings)
    assert (back.tables, back.rows) == (there.tables, there.rows)
    assert content(Warehouse(settings.warehouse_path)) == before
    # what SQL models made is known as theirs in both places
    models = load_models(shared.sql_dir)
    nothing = SqlModels(models.folder)
    for one in (tables, Warehouse(settings.warehouse_path)):
        with one.write() as writer:
            assert remove_gone(writer, nothing) == sorted(models.models)


_KILLED = """
import os, signal, sys
from pathlib import Path
from iss_assets.settings import Settings
from iss_assets.warehouse import moving, swap
home, way, point = sys.argv[1:]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def progress(done, number, table):
    if point == "copying" and table == "faces":
        die()
swap.reached = lambda reached: die() if point == reached else None
(moving.move_to_file if way == "to file" else moving.move_to_shared)(Settings(home=Path(home)), progress)
"""


def _killed(settings: Settings, way: str, point: str) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(settings.home), way, point], check=False)
    assert done.returncode == -signal.SIGKILL, (way, point)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_move_that_is_killed_has_moved_nothing_or_everything_and_the_next_call_completes_it(
    shared: WarehouseSettings, warehouse: Warehouse, settings: Settings
) -> None:
    settings = settings.model_copy(update={"warehouse": shared})
    path, tables = settings.warehouse_path, Warehouse(settings.warehouse_path, shared)
    warehouse.replace(CvSplits, splits("a", 3), {})
    everything = "select patient_id from cv_splits order by all"
    before, file_bytes = warehouse.query(everything), path.read_bytes()

    _killed(settings, "to shared", "copying")
    assert not tables.query(everything).num_rows and path.read_bytes() == file_bytes
    _killed(settings, "to shared", "in the shared warehouse")
    assert tables.query(everything) == before and path.read_bytes() == file_bytes
    # the file that is still in its place is seen to be the one that was moved
    there = move_to_shared(settings)
    assert not path.exists() and there.file.read_bytes() == file_bytes and there.tables > 50

    _killed(settings, "to file", "in a file")
    assert not path.exists() and tables.query(everything) == before
    back = move_to_file(settings)
    assert (back.tables, back.rows) == (there.tables, there.rows)
    assert Warehouse(path).query(everything) == before
    # killed before anybody was told: the same again changes nothing
    written = path.stat().st_mtime_ns
    assert move_to_file(settings) == back and path.stat().st_mtime_ns == written
    assert not list(path.parent.glob("*.moving*")) and not list(path.parent.glob("*.tmp"))


def test_nothing_is_moved_into_a_warehouse_with_rows_or_over_a_file(
    shared: WarehouseSettings, warehouse: Warehouse, settings: Settings
) -> None:
    settings = settings.model_copy(update={"warehouse": shared})
    tables = Warehouse(settings.warehouse_path, shared)
    tables.replace(CvSplits, splits("there"), {})
    warehouse.replace(CvSplits, splits("here", 2), {})
    for move in (move_to_shared, move_to_file):
        with pytest.raises(WarehouseError, match="have rows already, and different ones"):
            move(settings)
    assert warehouse.query("select count(*) n from cv_splits")["n"].to_pylist() == [2]
    assert tables.query("select count(*) n from cv_splits")["n"].to_pylist() == [1]


def test_a_typed_query_reaches_the_tables_and_nothing_else(studied: Warehouse, tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    catalog = str(studied.settings.catalog).removeprefix("postgres:")

    def files() -> int:
        return sum(1 for _ in Path(str(studied.settings.data_path)).rglob("*.parquet"))

    before = files()
    assert before
    for query in (
        "select count(*) from patients",
        "with p as (from patients) select count(*) from p",
        "select count(*) from warehouse.main.patients p, range(1) where exists (from unnest([1]))",
        "select count(*) from main.patients",
    ):
        assert studied.answer(query).columns[0].to_pylist() == [8]
    assert "patients" in studied.answer("show tables")["name"].to_pylist()
    for query in (
        f"select * from read_csv('{outside}')",
        f"copy patients to '{tmp_path / 'stolen.csv'}'",
        f"copy patients to '{studied.settings.data_path}stolen.csv'",
        f"attach '{tmp_path / 'x.duckdb'}'",
        f"attach 'postgres:{catalog}' as other",
        f"select * from postgres_scan('{catalog}', 'public', 'ducklake_snapshot')",
        "select * from postgres_query('__ducklake_metadata_warehouse', 'select 1')",
        "call postgres_execute('__ducklake_metadata_warehouse', 'drop table ducklake_table')",
        "from query('select 1')",
        "delete from patients",
        "drop table patients",
        "call warehouse.merge_adjacent_files()",
        "set enable_external_access = true",
        "select * from duckdb_databases()",
        "from duckdb_databases",
        "select * from __ducklake_metadata_warehouse.ducklake_snapshot",
        "select * from __ducklake_metadata_warehouse.public.ducklake_snapshot",
        "select (select max(snapshot_id) from __DUCKLAKE_metadata_warehouse.public.ducklake_snapshot) from patients",
        "with p as (from __ducklake_metadata_warehouse.pg_catalog.pg_shadow) select * from p",
        "from query_table('__ducklake_metadata_warehouse.public.ducklake_snapshot')",
        "select * from ducklake_cleanup_old_files('warehouse', cleanup_all => true)",
        "select * from patients where exists (from ducklake_expire_snapshots('warehouse', older_than => now()))",
        f"from '{studied.settings.data_path}main/patients/*.parquet'",
        f"from read_blob('{studied.settings.data_path}**')",
        f"from glob('{studied.settings.data_path}**')",
    ):
        with pytest.raises((duckdb.Error, WarehouseError)):
            studied.answer(query)
    assert files() == before
    assert not list(tmp_path.rglob("stolen.csv"))
    assert studied.query("select count(*) n from patients")["n"].to_pylist() == [8]


@pytest.mark.parametrize(
    "given",
    [
        "host=db dbname=iss password=geheim",
        "postgres:host=db dbname=iss password='ge heim'",
        "postgres://u:geheim@db/iss",
    ],
)
def test_a_password_in_the_settings_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(ValidationError) as refused:
        WarehouseSettings(catalog=given, data_path="/data")
    assert "heim" not in str(refused.value)


def test_half_of_the_settings_says_which_one_is_missing() -> None:
    with pytest.raises(ValidationError, match="ISS_WAREHOUSE__DATA_PATH is missing"):
        WarehouseSettings(catalog="postgres:host=db dbname=iss")
    with pytest.raises(ValidationError, match="ISS_WAREHOUSE__CATALOG is missing"):
        WarehouseSettings(data_path="/data")
    with pytest.raises(ValidationError, match="absolute path"):
        WarehouseSettings(catalog="postgres:host=db dbname=iss", data_path="data")
    with pytest.raises(ValidationError, match="encrypted storage"):
        WarehouseSettings(catalog="postgres:host=db dbname=iss", data_path="/data", key_file=Path("/key"))


def test_a_missing_extension_names_the_command_that_installs_it(
    tables: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake, "find_spec", lambda name: None)
    with pytest.raises(WarehouseError, match=r"duckdb-extension-.*==.*iss-assets\[cluster\]"):
        tables.query("select 1")


def test_a_catalog_that_is_away_is_told_without_the_connection_string(
    tables: Warehouse, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tables.settings.model_copy(update={"catalog": "postgres:host=127.0.0.1 port=1 dbname=x user=iss"})
    with pytest.raises(WarehouseError, match="cannot be reached") as refused:
        Warehouse(tables.path, gone).exists()
    assert "keepalives" not in str(refused.value)
    (tmp_path / "pgpass").write_text(f"127.0.0.1:*:*:iss:{'wrong'}\n")
    with pytest.raises(WarehouseError, match="password authentication failed") as refused:
        tables.query("select 1")
    assert postgres.password not in str(refused.value) and "wrong" not in str(refused.value)


def test_a_data_folder_that_is_not_mounted_is_neither_read_nor_written(tables: Warehouse) -> None:
    tables.replace(CvSplits, splits("a"), {})
    data = Path(str(tables.settings.data_path))
    away = data.with_name("away")
    data.rename(away)
    for make in (lambda: None, data.mkdir):
        make()
        stop_engines()
        for use in (lambda: tables.query("select 1"), lambda: tables.replace(CvSplits, splits("b"), {})):
            with pytest.raises(WarehouseError, match=r"missing or empty on this host.*is it mounted"):
                use()
    assert not any(data.iterdir())
    data.rmdir()
    away.rename(data)
    assert tables.query("select count(*) n from cv_splits")["n"].to_pylist() == [1]


def test_another_folder_a_newer_catalog_and_a_role_without_rights_are_told_in_one_line(
    tables: Warehouse, postgres: PostgresServer, tmp_path: Path
) -> None:
    tables.replace(CvSplits, splits("a"), {})
    database, role, secret = (
        database_of(str(tables.settings.catalog)),
        f"guest{postgres.next_number()}",
        "geheim",
    )
    postgres.execute(f"create role {role} login password '{secret}'")
    with (tmp_path / "pgpass").open("a") as file:
        file.write(f"127.0.0.1:*:*:{role}:{secret}\n")
    (tmp_path / "other").mkdir()

    def refused(**changed: str) -> str:
        stop_engines()
        other = Warehouse(tables.path, tables.settings.model_copy(update=changed))
        with pytest.raises(WarehouseError) as error:
            other.query("select count(*) from cv_splits")
        assert "\n" not in str(error.value) and secret not in str(error.value)
        return str(error.value)

    assert "does not match existing data path" in refused(data_path=f"{tmp_path / 'other'}/")
    guest = str(tables.settings.catalog).replace("user=iss", f"user={role}")
    assert "permission denied for table ducklake_metadata" in refused(catalog=guest)
    assert 'database "nowhere" does not exist' in refused(
        catalog=str(tables.settings.catalog).replace(f"dbname={database}", "dbname=nowhere")
    )
    postgres.execute("update ducklake_metadata set value = '99.0' where key = 'version'", database)
    assert "the same version of iss-assets on every host" in (said := refused())
    assert "catalog version is 99.0" in said and "AUTOMATIC_MIGRATION" not in said


def test_after_a_restart_of_the_database_the_next_use_goes_on(
    tables: Warehouse, postgres: PostgresServer
) -> None:
    tables.replace(CvSplits, splits("a"), {})
    postgres.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = "
        f"'{database_of(str(tables.settings.catalog))}' and pid <> pg_backend_pid()"
    )
    assert tables.query("select count(*) n from cv_splits")["n"].to_pylist() == [1]
    tables.replace(CvSplits, splits("b"), {"patient_id": "b"})
    assert tables.query("select count(*) n from cv_splits")["n"].to_pylist() == [2]


def test_what_is_for_files_says_so(tables: Warehouse, settings: Settings) -> None:
    from iss_assets.warehouse.conversion import convert
    from iss_assets.warehouse.row_groups import merge_row_groups

    tables.replace(CvSplits, splits("a"), {})
    assert merge_row_groups(tables) == {}
    with pytest.raises(WarehouseError, match="this one is shared"):
        convert(tables, None)


@pytest.mark.parametrize("shared", [True, False])
def test_a_process_that_reads_for_a_run_reads_the_same_rows_and_writes_none(
    shared: bool, studied: Warehouse, tmp_path: Path
) -> None:
    if not shared:
        studied = Warehouse(tmp_path / "file.duckdb")
        tiny_study(studied)
    asked = []
    # the check of a run: a local function, which no other process can have
    run = Warehouse(studied.path, studied.settings, lambda: asked.append(1))
    there = pickle.loads(pickle.dumps(run))
    patients = "select * from patients order by patient_id"
    assert there.query(patients).num_rows == 8 and there.query(patients).equals(run.query(patients))
    one, gone = {"patient_id": "0001"}, Patients.from_rows([])
    with pytest.raises(WarehouseError, match="only reads for a run"):
        there.replace(Patients, gone, one)
    assert not asked and run.query(patients).num_rows == 8
    # without a check there is nothing to be passed by
    pickle.loads(pickle.dumps(studied)).replace(Patients, gone, one)
    assert run.query(patients).num_rows == 7
