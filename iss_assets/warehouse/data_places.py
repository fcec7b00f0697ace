"""Where a shared warehouse's data files are, by its settings."""

from __future__ import annotations

from iss_assets.settings import OBJECT_STORAGE, WarehouseSettings
from iss_assets.warehouse.data_bucket import Bucket
from iss_assets.warehouse.data_folder import Folder
from iss_assets.warehouse.data_place import DataPlace


def place_of(settings: WarehouseSettings) -> DataPlace:
    """Return the place of the data files of a shared warehouse."""
    address = str(settings.data_path)
    if address.startswith(OBJECT_STORAGE):
        return Bucket(address, plain_http=settings.plain_http)
    return Folder(address)
