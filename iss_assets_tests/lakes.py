"""Shared warehouses for tests, each in a database and a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse import lake
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.lake_catalog import rows
from iss_assets.warehouse.lake_files import NAMED
from iss_assets.warehouse.lake_store import LakeStore
from iss_assets_tests.postgres import PostgresServer


def password_file(server: PostgresServer, folder: Path) -> Path:
    """Write the password where libpq looks for it, if PGPASSFILE names the file."""
    path = folder / "pgpass"
    path.write_text(f"127.0.0.1:*:*:iss:{server.password}\n")
    path.chmod(0o600)
    return path


def lake_settings(server: PostgresServer, url: str, data: Path) -> WarehouseSettings:
    """Return the settings of a shared warehouse in a database, of which `url` is the address."""
    catalog = f"postgres:host=127.0.0.1 port={server.port} user=iss dbname={database_of(url)}"
    return WarehouseSettings(catalog=catalog, data_path=str(data), lock_timeout_s=60)


def database_of(address: str) -> str:
    """Return the database in an address or in a catalog."""
    return address.replace("=", "/").rpartition("/")[2]


def copy_lake(server: PostgresServer, source: WarehouseSettings, data: Path) -> WarehouseSettings:
    """Copy a shared warehouse that nobody uses, and return the settings of the copy."""
    original = database_of(str(source.catalog))
    name = f"{original}_{server.next_number()}"
    server.execute(f"create database {name} template {original}")
    shutil.copytree(str(source.data_path), data)
    server.execute(f"update ducklake_metadata set value = '{data}/' where key = 'data_path'", name)
    return lake_settings(server, server.url(name), data)


def unnamed_files(warehouse: Warehouse) -> list[Path]:
    """Return the files in the data folder that the catalog does not name, second names included."""
    assert isinstance(warehouse.store, LakeStore)
    with warehouse.store.catalog.session() as session:
        named = {Path(path) for (path,) in rows(session, NAMED)}
    there = {path for path in Path(str(warehouse.settings.data_path)).rglob("*") if path.is_file()}
    assert named <= there, "the catalog names files that are gone"
    return sorted(there - named)


def stop_engines() -> None:
    """End the DuckDBs that this process keeps running, and with them their connections to Postgres."""
    for engine in lake._engines.values():
        engine.connection.close()
    lake._engines.clear()
