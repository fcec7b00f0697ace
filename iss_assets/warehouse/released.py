"""A release folder read like a warehouse: its Parquet files as views, with this version's columns.

What a release withholds is empty there: a column without values, a table without rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb
import pyarrow.parquet as pq

from iss_assets.schemas.registry import TABLES
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.engine import pin
from iss_assets.warehouse.stores import Opening

DICTIONARY: Final = "datapackage.json"
"""The file that every release folder and export has."""


def is_release(folder: Path) -> bool:
    """Return whether a folder holds a release, not a home."""
    return (folder / DICTIONARY).is_file() and (folder / "patients.parquet").is_file()


class ReleasedTables(Warehouse):
    """The tables of a release folder, for reading only.

    Parameters
    ----------
    folder : Path
        The folder that `iss release` wrote, or a copy of it.
    """

    def __init__(self, folder: Path):
        # the folder itself stands for the file; there is no lock, because nobody writes there
        super().__init__(folder / DICTIONARY)
        self.folder = folder

    @contextmanager
    def read(self, threads: int | None = None, *, apart: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the Parquet files as views in a DuckDB in memory, which is always one of its own."""
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
            pin(connection)
            if threads is not None:
                connection.execute(f"set threads = {int(threads)}")
            for table in TABLES:
                path = self.folder / f"{table.__table__}.parquet"
                there = set(pq.read_schema(path).names) if path.is_file() else set()
                columns = ", ".join(f'{_cell(c.name, there)}::{c.sql} as "{c.name}"' for c in table.columns())
                source = f"read_parquet('{_quoted(str(path))}')" if there else "(select 1) where false"
                connection.execute(f'create view "{table.__table__}" as select {columns} from {source}')
            yield connection

    def create(self) -> None:
        """Do nothing, because a release is complete.

        Raises
        ------
        WarehouseError
            If the folder is not a release.
        """
        if not is_release(self.folder):
            raise WarehouseError(f"{self.folder.name} is not a release: it has no {DICTIONARY}")

    def snapshot(self, to: Path) -> Path:
        """Refuse: a release is a copy already."""
        raise WarehouseError("a release is not copied into a warehouse; copy its folder")

    def require(self, table: str, column: str) -> None:
        """Check that the release has a column.

        Raises
        ------
        WarehouseError
            If it does not.
        """
        path = self.folder / f"{table}.parquet"
        if not (path.is_file() and column in pq.read_schema(path).names):
            raise WarehouseError(
                f"this release does not have {table}.{column}; withheld.csv in its folder says what is left out and why"
            )

    @contextmanager
    def _exclusive(self, threads: int | None = None, extra_mb: int = 0) -> Iterator[Opening]:
        raise WarehouseError("a release is for reading only")
        yield  # pragma: no cover


def _cell(column: str, there: set[str]) -> str:
    return f'"{column}"' if column in there else "null"


def _quoted(text: str) -> str:
    return text.replace("'", "''")
