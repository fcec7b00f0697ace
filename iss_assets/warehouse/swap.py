"""The last step of encrypting, decrypting, or rekeying a home, which a killed process leaves to the next command.

The new files are made next to the old ones. Then a record is written, and from then on the new ones count: they are moved
over the old ones, one rename per file. A process that finds such files without the record removes them (the old key opens
the home); one that finds the record moves what is left (the new key does). Neither needs a key.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from iss_assets.warehouse.engine import spilled


@dataclass(frozen=True)
class SwapFiles:
    """The files of a conversion.

    Attributes
    ----------
    warehouse : Path
        The warehouse.
    """

    warehouse: Path

    @property
    def new_warehouse(self) -> Path:
        """The warehouse as it will be."""
        return self.warehouse.with_name(self.warehouse.name + ".converting")

    @property
    def spool(self) -> Path:
        """The spool of this warehouse's home."""
        return self.warehouse.with_name("spool")

    @property
    def new_spool(self) -> Path:
        """The spool's files as they will be, by their places in it."""
        return self.warehouse.with_name(self.warehouse.name + ".spool")

    @property
    def record(self) -> Path:
        """Exists while the new files count and are not all in place."""
        return self.warehouse.with_name(self.warehouse.name + ".converted")

    def left_over(self) -> bool:
        """Return whether there is anything to clean up."""
        return self.record.exists() or self.new_warehouse.exists() or self.new_spool.exists()


def reached(point: str) -> None:
    """Do nothing; tests replace it to end the process at a point."""


def commit(files: SwapFiles) -> None:
    """Write the record, after everything that it is about is on disk."""
    with files.record.open("wb") as record:
        os.fsync(record.fileno())
    sync(files.record.parent)


def settle(files: SwapFiles) -> None:
    """Complete a swap whose record exists, else remove what a conversion has made; the caller holds the writer's lock."""
    if files.record.exists():
        if files.new_warehouse.exists():
            files.new_warehouse.replace(files.warehouse)
        reached("warehouse in place")
        for path in _files_in(files.new_spool):
            path.replace(files.spool / path.relative_to(files.new_spool))
            reached("a waiting file in place")
        sync(files.warehouse.parent)
    shutil.rmtree(files.new_spool, ignore_errors=True)
    for rest in (files.new_warehouse, files.new_warehouse.with_name(files.new_warehouse.name + ".wal")):
        rest.unlink(missing_ok=True)
    # DuckDB leaves it behind when it is killed; it may hold rows in the clear
    for folder in (spilled(files.warehouse), spilled(files.new_warehouse)):
        shutil.rmtree(folder, ignore_errors=True)
    reached("cleaned")
    files.record.unlink(missing_ok=True)
    sync(files.warehouse.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []
