"""``deploy/roles.sql``, with a real Postgres: each role does its work, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import psycopg2
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from iss_assets.cli.main import app
from iss_assets.intake.withdrawn import Scope
from iss_assets.pipeline.home import open_instance
from iss_assets.privacy.one_study import require_one_study
from iss_assets.privacy.register import note_home, register_withdrawal
from iss_assets.privacy.withdrawal import pending_path, withdraw
from iss_assets.schemas.intake import Patients
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.lake_store import LakeStore
from iss_assets.warehouse.postgres_disk import recycle_log
from iss_assets_tests.lakes import copy_lake, database_of, stop_engines
from iss_assets_tests.postgres import PostgresServer
from iss_assets_tests.warehouse.test_database import splits

DEPLOY = Path(__file__).parents[1] / "deploy"
OWNER = "hospital"
_GIVE = """
do $$
declare
    name text;
begin
    for name in select tablename from pg_tables where schemaname = 'public' loop
        execute format('alter table %I owner to hospital', name);
    end loop;
    alter function iss_require_turn() owner to hospital;
end
$$
"""
As = Callable[[str], Settings]


@pytest.fixture(scope="module")
def as_role(
    postgres: PostgresServer, empty_lake: WarehouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[As]:
    """Return a function that returns the settings of one home with another role of the database."""
    if shutil.which("psql") is None:
        pytest.skip("PostgreSQL's client programs are not installed")
    folder = tmp_path_factory.mktemp("roles")
    with pytest.MonkeyPatch.context() as patch:
        passwords = folder / "pgpass"
        passwords.write_text(f"127.0.0.1:*:*:*:{postgres.password}\n")
        passwords.chmod(0o600)
        patch.setenv("PGPASSFILE", str(passwords))
        lake = copy_lake(postgres, empty_lake, folder / "lake")
        catalog, history = database_of(str(lake.catalog)), database_of(postgres.new_database())
        postgres.execute(f"create role {OWNER} login password '{postgres.password}'")
        for database in (catalog, history):
            postgres.execute(f"alter database {database} owner to {OWNER}")
        postgres.execute(_GIVE, catalog)

        def settings(role: str) -> Settings:
            place = f"postgres:host=127.0.0.1 port={postgres.port} user={role} dbname={catalog}"
            address = f"postgresql://{role}@127.0.0.1:{postgres.port}/{history}"
            return Settings(
                study=folder / "study",
                home=folder / "home",
                warehouse=lake.model_copy(update={"catalog": place}),
                cluster={"storage": SecretStr(address)},  # type: ignore[arg-type]  # a section
            )

        (folder / "home").mkdir()
        owner = settings(OWNER)
        require_one_study(owner)
        note_home(owner)
        register_withdrawal(owner, "0009", Scope.ALL, [], [])
        open_instance(owner).dispose()
        for _ in range(2):  # it may be repeated
            for database in (catalog, history):
                subprocess.run(
                    ["psql", "--no-psqlrc", "--host=127.0.0.1", f"--port={postgres.port}", "--username=iss",
                     f"--dbname={database}", f"--file={DEPLOY / 'roles.sql'}"],
                    check=True, capture_output=True,
                )  # fmt: skip
        for kind in ("writer", "reader", "backup"):
            postgres.execute(f"alter role {OWNER}_{kind} password '{postgres.password}'")
        yield settings
        stop_engines()


def tables(settings: Settings) -> Warehouse:
    return Warehouse(settings.warehouse_path, settings.warehouse)


def recycled_log(settings: Settings) -> list[str]:
    store = tables(settings).store
    assert isinstance(store, LakeStore)
    with store.catalog.session() as session:
        return recycle_log(session)


def refused(settings: Settings, statement: str) -> bool:
    """Return whether Postgres refuses a statement to the role, and would not if the role had not been narrowed."""
    session = psycopg2.connect(str(settings.warehouse.catalog).removeprefix("postgres:"))
    session.autocommit = True
    try:
        with session.cursor() as cursor:
            cursor.execute("set default_transaction_read_only = off")
            cursor.execute(statement)
    except psycopg2.errors.InsufficientPrivilege:
        return True
    finally:
        session.close()
    return False


def test_a_worker_writes_rows_and_history_and_changes_no_table(as_role: As) -> None:
    writer = as_role(f"{OWNER}_writer")
    require_one_study(writer)
    note_home(writer)
    tables(writer).replace(CvSplits, splits("written", 3), {})
    with tables(writer).write() as one:
        one.execute("create or replace table a_model as select 1 as x")
    assert tables(as_role(OWNER)).query("select count(*) n from cv_splits, a_model")["n"].to_pylist() == [3]
    store = tables(writer).store
    assert isinstance(store, LakeStore)
    store.maintain(timedelta(0))

    @dg.job
    def nothing() -> None:
        pass

    with open_instance(writer) as instance:
        instance.add_dynamic_partitions("patients", ["0001"])
        assert nothing.execute_in_process(instance=instance).success
    for statement in (
        "drop trigger iss_require_turn on ducklake_snapshot_changes",
        "alter table ducklake_snapshot_changes disable trigger all",
        "truncate ducklake_data_file",
        "drop table iss_writer_turn",
        "update iss_study set id = 'x'",
        "delete from iss_register",
        "create table mine (x int)",
        "create temporary table mine (x int)",
    ):
        assert refused(writer, statement), statement


def test_a_reader_queries_the_tables_and_writes_nothing(
    as_role: As, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, reader = as_role(OWNER), as_role(f"{OWNER}_reader")
    tables(owner).replace(CvSplits, splits("read", 2), {})
    monkeypatch.setenv("ISS_WAREHOUSE__CATALOG", str(reader.warehouse.catalog))
    monkeypatch.setenv("ISS_WAREHOUSE__DATA_PATH", str(reader.warehouse.data_path))
    query = ["sql", "select count(*) as n from cv_splits", "--format", "csv", "--home", str(tmp_path)]
    done = CliRunner().invoke(app, query)
    assert (done.exit_code, done.stdout.split()) == (0, ["n", "2"]), done.stderr
    assert tables(reader).query("select * from cv_splits").num_rows == 2

    with pytest.raises(WarehouseError, match=r"role may not do this .*read-only transaction.*roles\.sql"):
        tables(reader).replace(CvSplits, splits("more"), {})
    for statement in (
        "delete from ducklake_data_file",
        "insert into ducklake_snapshot values (99)",
        "delete from iss_register",
        "create table mine (x int)",
    ):
        assert refused(reader, statement), statement
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        assert reader.cluster.storage is not None
        psycopg2.connect(reader.cluster.storage.get_secret_value())
    assert tables(owner).query("select * from cv_splits").num_rows == 2


def test_a_withdrawal_says_what_a_workers_role_may_not_do(as_role: As) -> None:
    owner, writer = as_role(OWNER), as_role(f"{OWNER}_writer")
    patient = {
        "cohort": "1A",
        "sex": "M",
        "skin_type": "II",
        "skin_group": "light",
        "pain_target": 0,
        "pain_level": "None",
    }
    both = Patients.from_rows([{"patient_id": one, **patient} for one in ("0001", "0002")])
    tables(owner).replace(Patients, both, {})
    with pytest.raises(WarehouseError, match=r"role may not do this .*permission denied"):
        withdraw(writer, "0002", reason="asked", who="tester", log=lambda _: None)
    assert tables(owner).query("select patient_id from patients order by 1")["patient_id"].to_pylist() == [
        "0001",
        "0002",
    ]
    # the owner's next `iss withdraw` or `iss run` finishes it, and may do all that it takes
    assert pending_path(writer.home).exists()
    register_withdrawal(owner, "0002", Scope.ALL, [], [])
    assert recycled_log(owner) == []
    (left,) = recycled_log(writer)
    assert f"grant pg_checkpoint, pg_monitor to {OWNER}_writer" in left


def test_a_backup_needs_a_role_that_only_reads(as_role: As, postgres: PostgresServer, tmp_path: Path) -> None:
    backup = as_role(f"{OWNER}_backup")
    assert backup.cluster.storage is not None
    databases = {
        "iss": database_of(str(backup.warehouse.catalog)),
        "dagster": database_of(backup.cluster.storage.get_secret_value()),
    }
    service = tmp_path / "pg_service.conf"
    service.write_text(
        "".join(
            f"[{name}]\nhost=127.0.0.1\nport={postgres.port}\nuser={OWNER}_backup\ndbname={database}\n\n"
            for name, database in databases.items()
        )
    )
    environment = {
        "PATH": os.environ["PATH"],
        "PGPASSFILE": os.environ["PGPASSFILE"],
        "PGSERVICEFILE": str(service),
        "ISS_HOME": str(backup.home),
        "ISS_WAREHOUSE__DATA_PATH": str(backup.warehouse.data_path),
    }
    made = subprocess.run(
        [DEPLOY / "backup.sh", tmp_path / "backup"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "backup" / "SHA256SUMS").exists()
    assert refused(backup, "delete from iss_home") and refused(backup, "create table mine (x int)")
