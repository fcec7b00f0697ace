"""Sorting wide rows outside of DuckDB.

DuckDB sorts whole rows, keeps much of what it sorts in its own memory, and fails where that is not enough: with 128 MB for one
thread, at the meshes of a video of half an hour (104 MB), and with 256 MB at a study's. Pictures, meshes and sound are therefore
read in the order in which they are stored, which nearly always is that of their key, and sorted here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as arrow


def in_key_order(rows: arrow.Table, key: Sequence[str]) -> arrow.Table:
    """Sort rows by columns, ascending; rows that are in order already are not copied.

    Parameters
    ----------
    rows : pyarrow.Table
        Rows with the columns of the key, none of which has missing values.
    key : sequence of str
        Names of narrow columns; with none, the order stays.
    """
    if not key or rows.num_rows < 2:
        return rows
    place = "place in the table"
    narrow = rows.select(list(key)).append_column(place, arrow.array(np.arange(rows.num_rows)))
    places = narrow.sort_by([(name, "ascending") for name in (*key, place)])[place].to_numpy()
    return rows if (np.diff(places) == 1).all() else rows.take(places)
