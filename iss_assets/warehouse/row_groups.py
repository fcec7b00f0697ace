"""The pieces that DuckDB stores a table in (its row groups), and putting them together again.

Belongs here: which pieces are worth joining, and joining them. Does not belong here: what is in the tables.

A transaction leaves a piece of its own in every table that it adds to. DuckDB would join small ones whenever it writes
the file, but judges them by their rows alone: below 2,048 rows it writes a table anew each time, and a row of ``audio``
is a megabyte. So its own joining is off (``engine``). Tables of small rows are joined here, now and then; those of
large rows stay in pieces, which costs nothing, as each is read by the megabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

import pyarrow as arrow

from iss_assets.schemas.base import Table
from iss_assets.schemas.registry import TABLES
from iss_assets.warehouse.database import Warehouse

_LARGE: Final = ("BLOB", "FLOAT[1404]", "FLOAT[2048]", "FLOAT[][]")
"""Types whose values take kilobytes."""
FULL: Final = 122_880
"""Rows that DuckDB puts into a piece at most."""
_FEW: Final = 8
"""Fewer pieces than this are left."""


def mergeable_tables() -> list[type[Table]]:
    """List the tables whose pieces are joined: those without a column of large values."""
    return [table for table in TABLES if not any(c.sql in _LARGE for c in table.columns())]


def merge_row_groups(warehouse: Warehouse) -> dict[str, int]:
    """Put the last pieces of tables together where they are many.

    A row is written anew only when the piece that it is in at least doubles, so all of this takes time in proportion to
    what was ever written, times its logarithm.

    Returns
    -------
    dict
        Table to the number of pieces that became one.
    """
    with warehouse.read(threads=1) as connection:

        def query(sql: str) -> arrow.Table:
            return connection.execute(sql).to_arrow_table()

        late = [t for t in mergeable_tables() if first_to_merge(row_group_sizes(query, t)) is not None]
    joined: dict[str, int] = {}
    for table in late:
        name = table.__table__
        with warehouse.write(threads=1) as writer:
            # somebody may have written since
            rows = row_group_sizes(writer.query, table)
            first = first_to_merge(rows)
            if first is None:
                continue
            start = sum(rows[:first])
            writer.execute(
                f"create or replace temporary table joined as from {name} where rowid >= ?", [start]
            )
            writer.execute(f"delete from {name} where rowid >= ?", [start])
            writer.execute(f"insert into {name} by name from joined")
            writer.execute("drop table joined")
            joined[name] = len(rows) - first
    return joined


def row_group_sizes(query: Callable[[str], arrow.Table], table: type[Table]) -> list[int]:
    """Give the rows in each piece of a table, deleted ones included, in the order in which they are stored."""
    sql = (
        f"select max(start + count) as n from pragma_storage_info('{table.__table__}') "
        "where column_path = '[0]' group by row_group_id order by row_group_id"
    )
    rows: list[int] = query(sql)["n"].to_pylist()
    return rows


def first_to_merge(rows: Sequence[int]) -> int | None:
    """Give the first of the last pieces that are worth joining, or None.

    Parameters
    ----------
    rows : sequence of int
        Rows of each piece.

    Returns
    -------
    int or None
        The first piece which, with all that come after it, makes at least twice its own rows, if these are at least
        eight pieces and it is not full.
    """
    after = list(accumulate(reversed(rows)))[::-1]
    for place, (own, together) in enumerate(zip(rows, after, strict=True)):
        if len(rows) - place < _FEW:
            return None
        if own < FULL and together >= 2 * own:
            return place
    return None
