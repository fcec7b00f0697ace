"""Maintenance of the shared warehouse: merge small files, forget old snapshots, remove files that nothing names.

Every write leaves a small Parquet file for each table, and the files that it replaced stay for readers of earlier snapshots. Both grow
without end if nobody tidies up. It is done in the writer's turn: removing files that no snapshot names, next to an open
write, would remove what that write is about to commit. Only what is older than a day goes, because an open reader may still need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.lake_store import LakeStore

KEPT: Final = timedelta(days=1)
"""How long snapshots, and files that nothing names, are kept: longer than anybody reads."""


@dataclass(frozen=True)
class Maintained:
    """What was done.

    Attributes
    ----------
    files_before, files_after : int
        Files that hold today's rows.
    snapshots : int
        Earlier snapshots that can no longer be read.
    removed : int
        Files of such snapshots that were removed.
    orphans : int
        Files that no snapshot named, left by writers that were killed.
    """

    files_before: int
    files_after: int
    snapshots: int
    removed: int
    orphans: int


def maintain(warehouse: Warehouse, kept: timedelta = KEPT) -> Maintained:
    """Tidy up a shared warehouse; other writers wait, readers do not.

    Parameters
    ----------
    warehouse : Warehouse
        The shared warehouse.
    kept : timedelta
        What is younger than this is kept.

    Raises
    ------
    WarehouseError
        If it is a file: there is nothing to do.
    """
    if not isinstance(warehouse.store, LakeStore):
        raise WarehouseError("only a shared warehouse needs maintenance; this one is a file")
    warehouse.create()
    return Maintained(*warehouse.store.maintain(kept))
