"""``deploy/backup.sh`` and ``restore.sh``, with a real Postgres: what is restored is what was there, to the row."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import dagster as dg
import pytest

from iss_assets.privacy.one_study import require_one_study
from iss_assets.schemas.modeling import CvSplits
from iss_assets.schemas.registry import TABLES
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.bucket_copy import main, save
from iss_assets.warehouse.data_bucket import Bucket
from iss_assets.warehouse.data_place import STUDY_MARK
from iss_assets.warehouse.data_places import place_of
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.lake_study import FILE
from iss_assets.warehouse.object_storage import StorageProblem, look_again
from iss_assets_tests.lakes import database_of, lake_settings
from iss_assets_tests.made_up import tiny_study
from iss_assets_tests.postgres import PostgresServer
from iss_assets_tests.s3_server import S3Server
from iss_assets_tests.warehouse.test_database import splits

DEPLOY = Path(__file__).parents[1] / "deploy"


class Place:
    """Databases, the place of the tables and the home that an environment points to."""

    def __init__(self, server: PostgresServer, folder: Path, catalog: str, tables: Path | str) -> None:
        folder.mkdir(exist_ok=True)
        history = server.new_database()
        self.home, self.tables = folder / "home", tables
        service = folder / "pg_service.conf"
        service.write_text(
            "".join(
                f"[{name}]\nhost=127.0.0.1\nport={server.port}\nuser=iss\npassword={server.password}\n"
                f"dbname={database_of(database)}\n\n"
                for name, database in (("iss", catalog), ("dagster", history))
            )
        )
        self.environment = {
            # the python3 that has this package
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
            "ISS_HOME": str(self.home),
            "ISS_WAREHOUSE__DATA_PATH": str(tables),
            "PGSERVICEFILE": str(service),
        }

    def run(self, script: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the folder ``deploy`` here."""
        return subprocess.run(
            [DEPLOY / script, folder],
            env={**self.environment, **more}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def history(self) -> dg.DagsterInstance:
        """Open Dagster's history as the address in ``deploy/systemd/iss.env`` says."""
        os.environ["PGSERVICEFILE"] = self.environment["PGSERVICEFILE"]
        return dg.DagsterInstance.from_config(str(self.home / "dagster"))


@pytest.fixture
def study(
    postgres: PostgresServer, shared: WarehouseSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Place, Warehouse]:
    """A shared study: rows, Dagster's history, and a home with what only a home has."""
    if shutil.which("pg_dump") is None:
        pytest.skip("PostgreSQL's client programs are not installed")
    place = Place(postgres, tmp_path / "here", str(shared.catalog), str(shared.data_path))
    warehouse = Warehouse(place.home / "warehouse.duckdb", shared)
    tiny_study(warehouse)
    require_one_study(Settings(study=tmp_path / "study", home=place.home, warehouse=shared))
    (place.home / "dagster").mkdir(parents=True)
    (place.home / "dagster" / "dagster.yaml").write_text(
        "storage:\n  postgres:\n    postgres_url:\n      env: HISTORY\n"
    )
    for name, text in (
        ("audit.jsonl", "{}\n"),
        ("withdrawals/key", "k"),
        ("models/m", "w"),
        ("spool/s", "x"),
    ):
        (place.home / name).parent.mkdir(exist_ok=True)
        (place.home / name).write_text(text)
    monkeypatch.setenv("HISTORY", "postgresql+psycopg2:///?service=dagster")
    monkeypatch.setenv("PGSERVICEFILE", "none yet")
    with place.history() as instance:
        instance.add_dynamic_partitions("patients", ["0001", "0002"])
    return place, warehouse


def _rows(warehouse: Warehouse) -> dict[str, object]:
    return {
        table.__table__: warehouse.query(
            f"select count(*) n, sum(hash(_row)::hugeint)::varchar h from {table.__table__} as _row"
        ).to_pylist()
        for table in TABLES
    }


def empty(bucket: tuple[S3Server, str]) -> None:
    """Remove every object."""
    server, name = bucket
    for found in server.client.list_objects_v2(Bucket=name)["Contents"]:
        server.client.delete_object(Bucket=name, Key=found["Key"])


@pytest.mark.parametrize(
    ("data_place", "into"),
    [
        ("folder", "folder"),
        pytest.param("bucket", "bucket", marks=pytest.mark.thorough),
        pytest.param("folder", "bucket", marks=pytest.mark.thorough),
        pytest.param("bucket", "folder", marks=pytest.mark.thorough),
    ],
    indirect=["data_place"],
)
def test_what_is_restored_elsewhere_is_what_was_backed_up(
    postgres: PostgresServer,
    study: tuple[Place, Warehouse],
    data_place: Path | tuple[S3Server, str],
    into: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, warehouse = study
    before = _rows(warehouse)
    assert sum(rows[0]["n"] for rows in before.values()) > 100  # type: ignore[index]  # lists of one row
    made = place.run("backup.sh", tmp_path / "backup")
    assert made.returncode == 0, made.stderr
    # what happens afterwards is not in it
    warehouse.replace(CvSplits, splits("later"), {})

    catalog = postgres.new_database()
    tables: Path | str = tmp_path / "there" / "tables"
    if into == "bucket":
        server: S3Server = request.getfixturevalue("s3")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        tables = f"s3://{server.new_bucket()}/another/place"
    there = Place(postgres, tmp_path / "there", catalog, tables)
    done = there.run("restore.sh", tmp_path / "backup")
    assert done.returncode == 0, done.stderr

    # nothing of the first place is needed any more
    if isinstance(data_place, Path):
        shutil.rmtree(place.tables)
    else:
        empty(data_place)
    restored = Warehouse(there.home / "warehouse.duckdb", lake_settings(postgres, catalog, there.tables))
    assert _rows(restored) == before
    # the home is still of the study that the catalog and the data are of
    study_id = (there.home / FILE).read_text()
    assert place_of(restored.settings).marks() == {f"{STUDY_MARK}{study_id}"}
    restored.replace(CvSplits, splits("new"), {})
    assert restored.query("select patient_id p from cv_splits")["p"].to_pylist() == ["new-0"]
    with there.history() as instance:
        assert instance.get_dynamic_partitions("patients") == ["0001", "0002"]
    assert (there.home / "withdrawals" / "key").read_text() == "k"
    assert not (there.home / "spool").exists()
    folders = [there.home, Path(tables)] if into == "folder" else [there.home]
    assert {path.stat().st_mode & 0o077 for path in folders} <= {0, 0o055}

    again = there.run("restore.sh", tmp_path / "backup")
    assert again.returncode == 2 and "is not empty" in again.stderr
    if into == "bucket":
        # objects of another study are not written over
        third = Place(postgres, tmp_path / "third", postgres.new_database(), tables)
        refused = third.run("restore.sh", tmp_path / "backup")
        assert refused.returncode == 1 and "there are objects at this address already" in refused.stderr
        assert str(tables) not in refused.stderr


def test_a_backup_that_is_made_while_patients_are_written_has_whole_transactions(
    postgres: PostgresServer, study: tuple[Place, Warehouse], tmp_path: Path
) -> None:
    place, warehouse = study
    stop, written = threading.Event(), [0]

    def write() -> None:
        while not stop.is_set():
            version = written[-1] + 1
            warehouse.replace_all(
                [Replacement(CvSplits, splits(p, 1, version), {"patient_id": f"{p}-0"}) for p in ("a", "b")]
            )
            written.append(version)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while written[-1] < 2:
            assert writer.is_alive()
            stop.wait(0.05)
        first = written[-1]
        made = place.run("backup.sh", tmp_path / "backup")
        last = written[-1]
    finally:
        stop.set()
        writer.join()
    assert made.returncode == 0, made.stderr
    assert last > first, "nothing was written meanwhile"

    catalog = postgres.new_database()
    there = Place(postgres, tmp_path / "there", catalog, tmp_path / "there" / "tables")
    assert there.run("restore.sh", tmp_path / "backup").returncode == 0
    restored = Warehouse(there.home / "warehouse.duckdb", lake_settings(postgres, catalog, there.tables))
    versions = restored.query("select split s from cv_splits where patient_id in ('a-0', 'b-0')")[
        "s"
    ].to_pylist()
    assert len(versions) == 2 and len(set(versions)) == 1
    assert first <= versions[0] <= last + 1


def test_a_backup_during_which_a_file_was_deleted_is_refused(
    study: tuple[Place, Warehouse], tmp_path: Path
) -> None:
    place, _ = study
    (tmp_path / "bin").mkdir()
    # as a withdrawal does, after the catalog was dumped and before its files are copied
    shim = tmp_path / "bin" / "tar"
    shim.write_text(
        f'#!/bin/sh\nrm -f "$(find {place.tables} -name "*.parquet" | sort | head -1)"\nexec {shutil.which("tar")} "$@"\n'
    )
    shim.chmod(0o755)
    made = place.run("backup.sh", tmp_path / "backup", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert made.returncode == 1
    assert "this backup is incomplete" in made.stderr
    assert not (tmp_path / "backup" / "SHA256SUMS").exists()


def test_a_backup_that_was_changed_is_not_restored(
    postgres: PostgresServer, study: tuple[Place, Warehouse], tmp_path: Path
) -> None:
    place, _ = study
    assert place.run("backup.sh", tmp_path / "backup").returncode == 0
    (tmp_path / "backup" / "home" / "withdrawals" / "key").write_text("another")
    there = Place(postgres, tmp_path / "there", postgres.new_database(), tmp_path / "there" / "tables")
    done = there.run("restore.sh", tmp_path / "backup")
    assert done.returncode == 1 and "withdrawals/key: FAILED" in done.stdout
    assert list(Path(there.tables).iterdir()) == []


@pytest.mark.parametrize("data_place", ["bucket"], indirect=True)
def test_a_backup_from_which_an_object_went_missing_is_refused(
    study: tuple[Place, Warehouse],
    data_place: tuple[S3Server, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, _ = study
    server, _ = data_place
    # as if it had been removed by a withdrawal since the objects were listed
    names = sorted(Bucket(str(place.tables), plain_http=False).names())
    server.refuse({"method": "*", "text": names[0], "code": "NoSuchKey", "status": "404"})
    made = place.run("backup.sh", tmp_path / "backup")
    assert made.returncode == 1
    assert "1 data files were deleted meanwhile" in made.stderr
    assert not (tmp_path / "backup" / "SHA256SUMS").exists()
    server.refuse({"method": "*", "text": "", "code": "AccessDenied"})
    refused = place.run("backup.sh", tmp_path / "another")
    assert refused.returncode == 1 and "its credentials lack a right" in refused.stderr
    assert str(place.tables) not in refused.stderr


@pytest.mark.parametrize("data_place", ["bucket"], indirect=True)
def test_a_download_that_breaks_off_again_and_again_is_told_without_an_address(
    data_place: tuple[S3Server, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boto3.exceptions import RetriesExceededError
    from boto3.s3 import inject

    def break_off(*_: object, **__: object) -> None:
        raise RetriesExceededError(ConnectionError("http://storage.clinic.example"))

    server, bucket = data_place
    server.client.put_object(Bucket=bucket, Key="iss/main/a.parquet", Body=b"x")
    monkeypatch.setattr(inject, "download_file", break_off)
    look_again()
    with pytest.raises(StorageProblem, match=r"does not answer \(RetriesExceededError\)") as error:
        save(Bucket(f"s3://{bucket}/iss/", plain_http=False), tmp_path / "copy")
    look_again()
    assert "clinic" not in str(error.value)


@pytest.mark.parametrize("name", ["../up", "/root", "a/../../up", "a//b", "a/./b", "."])
@pytest.mark.parametrize("data_place", ["bucket"], indirect=True)
def test_an_object_whose_name_leads_out_of_the_folder_is_not_copied(
    data_place: tuple[S3Server, str], name: str, tmp_path: Path
) -> None:
    server, bucket = data_place
    server.client.put_object(Bucket=bucket, Key=f"iss/{name}", Body=b"x")
    with pytest.raises(StorageProblem, match="none of a file in a folder"):
        save(Bucket(f"s3://{bucket}/iss/", plain_http=False), tmp_path / "copy")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "pgpass"]


def test_the_bucket_copier_is_called_rightly_or_says_how(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISS_WAREHOUSE__DATA_PATH", str(tmp_path))
    assert main(["save", str(tmp_path / "new")]) == 2
    assert "usage: " in capsys.readouterr().err
    monkeypatch.setenv("ISS_WAREHOUSE__DATA_PATH", "s3://user:secret@bucket/x")
    assert main(["save", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    assert "write s3://bucket/prefix" in said and "secret" not in said
