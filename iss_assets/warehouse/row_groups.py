"""The row groups that DuckDB stores a table in, and merging small ones.

Each transaction leaves a row group of its own in every table that it adds to. DuckDB would merge small ones whenever it
writes the file, but it only counts their rows: below 2,048 rows it rewrites a table each time, and a row of ``audio`` is a
megabyte. So its own merging is off (``engine``). Tables of small rows are merged here now and then; tables of large rows
stay as they are, which costs nothing because they are read by the megabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

import pyarrow as arrow

from iss_assets.schemas.base import Table
from iss_assets.schemas.registry import TABLES
from iss_assets.warehouse.database import Warehouse

_LARGE: Final = ("BLOB", "FLOAT[1404]", "FLOAT[]", "FLOAT[][]")
"""Types whose values take kilobytes."""
FULL: Final = 122_880
"""Most rows that DuckDB puts into a row group."""
_FEW: Final = 8
"""Fewer row groups than this are left alone."""


def mergeable_tables() -> list[type[Table]]:
    """List the tables whose row groups are merged: those without a column of large values."""
    return [table for table in TABLES if not any(c.sql in _LARGE for c in table.columns())]


def merge_row_groups(warehouse: Warehouse) -> dict[str, int]:
    """Merge the last row groups of tables that have many.

    A row is rewritten only if its row group at least doubles, so the total time is proportional to the number of rows
    ever written, times its logarithm.

    Returns
    -------
    dict
        Table to the number of row groups that became one.
    """
    if warehouse.shared:
        # its files are merged by `maintenance`
        return {}
    # a view of an older table has no row groups
    warehouse.create()
    with warehouse.read(threads=1) as connection:

        def query(sql: str) -> arrow.Table:
            return connection.execute(sql).to_arrow_table()

        fragmented = [t for t in mergeable_tables() if first_to_merge(row_group_sizes(query, t)) is not None]
    merged: dict[str, int] = {}
    for table in fragmented:
        name = table.__table__
        with warehouse.write(threads=1) as writer:
            # another process may have written since
            rows = row_group_sizes(writer.query, table)
            first = first_to_merge(rows)
            if first is None:
                continue
            start = sum(rows[:first])
            writer.execute(
                f"create or replace temporary table merged as from {name} where rowid >= ?", [start]
            )
            writer.execute(f"delete from {name} where rowid >= ?", [start])
            writer.execute(f"insert into {name} by name from merged")
            writer.execute("drop table merged")
            merged[name] = len(rows) - first
    return merged


def row_group_sizes(query: Callable[[str], arrow.Table], table: type[Table]) -> list[int]:
    """Return the rows in each row group of a table, deleted ones included, in storage order."""
    sql = (
        f"select max(start + count) as n from pragma_storage_info('{table.__table__}') "
        "where column_path = '[0]' group by row_group_id order by row_group_id"
    )
    rows: list[int] = query(sql)["n"].to_pylist()
    return rows


def first_to_merge(rows: Sequence[int]) -> int | None:
    """Return the first of the last row groups that are worth merging, or None.

    Parameters
    ----------
    rows : sequence of int
        Rows of each row group.

    Returns
    -------
    int or None
        The first row group that is not full and that, merged with all that follow, at least doubles; at least eight are
        merged.
    """
    after = list(accumulate(reversed(rows)))[::-1]
    for place, (own, together) in enumerate(zip(rows, after, strict=True)):
        if len(rows) - place < _FEW:
            return None
        if own < FULL and together >= 2 * own:
            return place
    return None
