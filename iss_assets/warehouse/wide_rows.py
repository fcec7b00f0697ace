"""Reading pictures, meshes, spectrograms and sound, whose rows are too wide for some of DuckDB's ways to read a table.

DuckDB reads 2,048 rows at a time: 180 MB of spectrograms, in a list that grows by doubling, and gigabytes of sound, while a thread
may use 128 MB. Rows that were written together are read together: a patient's first videos, or all rows after the home was
encrypted. Only of rows that a filter has left is nothing else read, and only if the filter's own column is not asked for.
So these tables are read video by video, and the video's id is put back here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, takewhile
from typing import Final

import duckdb
import numpy as np
import pyarrow as arrow

from iss_assets.schemas.base import Table
from iss_assets.schemas.registry import BY_NAME
from iss_assets.warehouse.row_order import in_key_order

_VIDEO: Final = "video_id"
_NESTED: Final = "FLOAT[][]"
_LISTS: Final = 512
"""Rows with lists of lists that are read at a time: 45 MB of spectrograms."""


def is_wide(types: Sequence[str], key: Sequence[str]) -> bool:
    """Return whether a table has pictures, sound or vectors of videos.

    Parameters
    ----------
    types : sequence of str
        SQL types of its columns.
    key : sequence of str
        Names of the columns of its key.
    """
    packed = any(sql == "BLOB" or (sql.endswith("]") and sql != "VARCHAR[]") for sql in types)
    return packed and tuple(key[:1]) == (_VIDEO,)


def rows_of_video(
    connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[str], video_id: str
) -> arrow.Table:
    """Read one video's rows of a wide table, in the order of its key; lists of a fixed size as plain ones.

    Parameters
    ----------
    connection : DuckDBPyConnection
        A connection to one state of the warehouse.
    name : str
        The table.
    columns : sequence of str
        Names of its columns.
    video_id : str
        The video.
    """
    model = BY_NAME.get(name)
    if model is not None and any(c.sql == _NESTED for c in model.columns() if c.name in columns):
        index = model.__key__[-1]
        last = connection.execute(
            f'select coalesce(max("{index}"), 0) from "{name}" where {_VIDEO} = ?', [video_id]
        ).fetchone()
        starts = range(0, (last[0] if last else 0) + 1, _LISTS)
        spans = [(video_id, video_id, start, start + _LISTS) for start in starts]
        return arrow.concat_tables([_read_span(connection, name, columns, index, span) for span in spans])
    order = [k for k in model.__key__ if k != _VIDEO] if model else []
    read = [c for c in dict.fromkeys([*columns, *order]) if c != _VIDEO]
    rows = in_key_order(_read(connection, name, read, f"{_VIDEO} = ?", [video_id]), order)
    if _VIDEO in columns:
        rows = rows.append_column(_VIDEO, arrow.array([video_id] * rows.num_rows, arrow.string()))
    return rows.select(list(columns))


def read_videos(
    connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[str], videos: Sequence[str]
) -> Iterator[arrow.Table]:
    """Read rows of a wide table with lists of lists, those of several short videos together: a query takes ten milliseconds.

    Parameters
    ----------
    connection : DuckDBPyConnection
        A connection to one state of the warehouse.
    name : str
        The table.
    columns : sequence of str
        Names of its columns.
    videos : sequence of str
        The videos; of others there may be rows, too.

    Yields
    ------
    pyarrow.Table
        Rows in the order of the key, each video's in one table or in several in a row.
    """
    index = BY_NAME[name].__key__[-1]
    counted = connection.execute(
        f'select {_VIDEO}, count(*), max("{index}") from "{name}" group by all order by all'
    ).fetchall()
    wanted = set(videos)
    places = [n for n, (video, *_) in enumerate(counted) if video in wanted]
    while places:
        first = places[0]
        # what lies between is read with them
        ends = accumulate(rows for _, rows, _ in counted[first : places[-1] + 1])
        fitting = first + sum(1 for _ in takewhile(lambda rows: rows <= _LISTS, ends))
        together = [n for n in places if n < fitting] or [first]
        own = counted[first : together[-1] + 1]
        highest = max(index for *_, index in own)
        for start in range(0, highest + 1, _LISTS if len(own) == 1 else highest + 1):
            stop = start + _LISTS if len(own) == 1 else highest + 1
            yield _read_span(connection, name, columns, index, (own[0][0], own[-1][0], start, stop))
        places = places[len(together) :]


def _read_span(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: Sequence[str],
    index: str,
    span: tuple[str, str, int, int],
) -> arrow.Table:
    """Read the rows of videos between two and with an index between two, without and with the columns that are compared.

    DuckDB returns both in the order of storage.
    """
    compared = [_VIDEO, index]
    condition = f'{_VIDEO} >= ? and {_VIDEO} <= ? and "{index}" >= ? and "{index}" < ?'
    wide = _read(connection, name, [c for c in columns if c not in compared], condition, span)
    narrow = _read(connection, name, compared, condition, span)
    for column in compared:
        wide = wide.append_column(column, narrow[column])
    return in_key_order(wide, compared).select(list(columns))


def _read(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: Sequence[str],
    condition: str,
    values: Sequence[object],
) -> arrow.Table:
    quoted = ", ".join(f'"{c}"' for c in columns)
    rows = connection.execute(f'select {quoted} from "{name}" where {condition}', values).to_arrow_table()
    for place, column in enumerate(columns):
        if arrow.types.is_fixed_size_list(rows[column].type):
            rows = rows.set_column(place, column, _plain_lists(rows[column]))
    return rows


def _plain_lists(column: arrow.ChunkedArray) -> arrow.ChunkedArray:
    """Return lists of a fixed size as plain ones, of which missing ones are empty: Parquet has no others."""
    size, plain = column.type.list_size, arrow.list_(column.type.value_type)
    parts = []
    for chunk in column.chunks:
        there = chunk.is_valid().to_numpy(zero_copy_only=False)
        ends = np.concatenate([[0], np.cumsum(there * size)]).astype(np.int32)
        parts.append(
            arrow.ListArray.from_arrays(arrow.array(ends), chunk.flatten(), mask=arrow.array(~there))
        )
    return arrow.chunked_array(parts, plain)


def is_wide_table(table: type[Table]) -> bool:
    """Return whether a table of the warehouse has pictures, sound or vectors of videos."""
    return is_wide([c.sql for c in table.columns()], table.__key__)
