"""Whether a folder can be written to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from iss_assets.warehouse.errors import WarehouseAway

_LEAST: Final = 64 * 2**20
"""A patient's rows take a few megabytes, and a writer keeps the old ones until it has written the new."""


def require_room_in(folder: Path, name: str) -> None:
    """Check that a folder can be written to, and that its disk has room for a patient's rows.

    Parameters
    ----------
    folder : Path
        It exists.
    name : str
        What an error calls it; never its path.

    Raises
    ------
    WarehouseAway
        If not.
    """
    if not os.access(folder, os.W_OK):
        raise WarehouseAway(f"{name}, is not writable")
    if shutil.disk_usage(folder).free < _LEAST:
        raise WarehouseAway(f"{name}, is full: less than {_LEAST >> 20} MiB are free")
