"""Shared warehouses for tests, each in a database and a folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse import lake
from iss_assets.warehouse.data_bucket import Bucket
from iss_assets.warehouse.data_places import place_of
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.lake_catalog import rows
from iss_assets.warehouse.lake_files import NAMED
from iss_assets.warehouse.lake_store import LakeStore
from iss_assets.warehouse.object_storage import ObjectStorage
from iss_assets_tests.postgres import PostgresServer
from iss_assets_tests.s3_server import S3Server

PREFIX = "iss/lake"
"""Of the data in a bucket."""
BOTH_PLACES = pytest.mark.parametrize(
    "data_place", ["folder", pytest.param("bucket", marks=pytest.mark.thorough)], indirect=True
)
"""For tests of what a shared warehouse promises wherever its data are."""


def password_file(server: PostgresServer, folder: Path) -> Path:
    """Write the password where libpq looks for it, if PGPASSFILE names the file."""
    path = folder / "pgpass"
    path.write_text(f"127.0.0.1:*:*:iss:{server.password}\n")
    path.chmod(0o600)
    return path


def lake_settings(server: PostgresServer, url: str, data: Path | str) -> WarehouseSettings:
    """Return the settings of a shared warehouse in a database, of which `url` is the address."""
    catalog = f"postgres:host=127.0.0.1 port={server.port} user=iss dbname={database_of(url)}"
    return WarehouseSettings(catalog=catalog, data_path=str(data), lock_timeout_s=60)


def database_of(address: str) -> str:
    """Return the database in an address or in a catalog."""
    return address.replace("=", "/").rpartition("/")[2]


def copy_lake(
    server: PostgresServer, source: WarehouseSettings, data: Path | tuple[S3Server, str]
) -> WarehouseSettings:
    """Copy a shared warehouse that nobody uses, with its data into a folder or a bucket, and return the settings of the copy."""
    original = database_of(str(source.catalog))
    name = f"{original}_{server.next_number()}"
    server.execute(f"create database {name} template {original}")
    if isinstance(data, Path):
        shutil.copytree(str(source.data_path), data)
        address = str(data)
    else:
        client, bucket = data[0].client, data[1]
        for path in Path(str(source.data_path)).rglob("*.parquet"):
            key = f"{PREFIX}/{path.relative_to(str(source.data_path))}"
            client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        address = f"s3://{bucket}/{PREFIX}"
    server.execute(f"update ducklake_metadata set value = '{address}/' where key = 'data_path'", name)
    return lake_settings(server, server.url(name), address)


def data_files(warehouse: Warehouse) -> set[str]:
    """Return every file of the data, second names included."""
    assert isinstance(warehouse.store, LakeStore)
    if isinstance(place := warehouse.store.place, Bucket):
        return {place.address + key.removeprefix(f"{PREFIX}/") for key in place._objects()}
    return {str(path) for path in Path(place.address).rglob("*") if path.is_file()}


def keep_versions(warehouse: Warehouse) -> None:
    """Let the bucket of a warehouse keep what is removed from it; nothing for a folder."""
    if (bucket := _bucket(warehouse)) is not None:
        bucket.call("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})


def data_bytes(warehouse: Warehouse) -> Iterator[bytes]:
    """Yield what every file of the data holds; of a bucket every version of every object."""
    bucket = _bucket(warehouse)
    if bucket is None:
        yield from (Path(path).read_bytes() for path in data_files(warehouse))
        return
    for page in bucket.pages("list_object_versions"):
        for one in page.get("Versions", ()):
            yield bucket.call("get_object", Key=one["Key"], VersionId=one["VersionId"])["Body"].read()


def _bucket(warehouse: Warehouse) -> ObjectStorage | None:
    place = place_of(warehouse.settings)
    return place._storage if isinstance(place, Bucket) else None


def names(warehouse: Warehouse) -> list[str]:
    """Return the patients in ``cv_splits``, in order."""
    found: list[str] = warehouse.query("select patient_id from cv_splits order by all")[
        "patient_id"
    ].to_pylist()
    return found


def unnamed_files(warehouse: Warehouse) -> list[str]:
    """Return the files of the data that the catalog does not name, second names included."""
    assert isinstance(warehouse.store, LakeStore)
    with warehouse.store.catalog.session() as session:
        named = {path for (path,) in rows(session, NAMED)}
    there = data_files(warehouse)
    assert named <= there, "the catalog names files that are gone"
    return sorted(there - named)


def stop_engines() -> None:
    """End the DuckDBs that this process keeps running, and with them their connections to Postgres."""
    for engines in (lake._engines, lake._spare):
        for engine in engines.values():
            engine.connection.close()
        engines.clear()
