"""Writing the warehouse's file anew, so that nothing of what was deleted is left in it.

DuckDB keeps deleted values in its pages: after ``delete``, ``checkpoint`` and ``vacuum`` of a warehouse with 160 crops, all
160 were still in the file. A new file that only the remaining rows were copied to has none of them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from iss_assets.warehouse.copying import COPY_MEMORY_MB, copy_file
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.engine import DATABASE, attach, is_encrypted, spilled
from iss_assets.warehouse.swap import sync


def rewrite(warehouse: Warehouse) -> tuple[int, int]:
    """Copy every row to a new file and put it in the old one's place, while nobody reads or writes.

    An interruption leaves the old file or the new one. The log and the temporary files of processes that died go too.

    Returns
    -------
    tuple of int
        Bytes of the file before and after.
    """
    path = warehouse.path
    fresh = path.with_name(f".{path.name}.new")
    key = warehouse.key()
    with warehouse.alone(COPY_MEMORY_MB) as opened:
        before = path.stat().st_size
        _remove(fresh)
        with opened() as connection:
            # the rows keep their order, and the memory that they need does not depend on the size of the file
            attach(connection, fresh, "fresh", key, read_only=False)
            fresh.chmod(0o600)
            copy_file(connection, DATABASE, "fresh")
            connection.execute("detach fresh")
        sync(fresh)
        if is_encrypted(fresh) != is_encrypted(path):
            _remove(fresh)
            raise WarehouseError(
                f"{path.name} was not written anew: the copy would not be encrypted like the file"
            )
        fresh.replace(path)
        sync(path.parent)
        path.with_name(path.name + ".wal").unlink(missing_ok=True)
        _remove(spilled(path))
        return before, path.stat().st_size


def _remove(path: Path) -> None:
    for one in (path, path.with_name(path.name + ".wal")):
        if one.is_dir():
            shutil.rmtree(one)
        else:
            one.unlink(missing_ok=True)
