"""The stored rows of one video, as features read them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as arrow

from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.base import VIDEO_CONSTANTS, Table
from iss_assets.warehouse import engine
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.row_order import in_key_order


class StoredRows:
    """One video's rows in the warehouse (a ``features.stages.SourceRows``).

    Parameters
    ----------
    warehouse : Warehouse
        Where the rows are.
    video_id : str
        The video.
    recording : Recording
        Which of the submission's videos it is: the tables that are named as those of narratives are then those of this one.
    """

    def __init__(
        self, warehouse: Warehouse, video_id: str, recording: Recording = Recording.NARRATIVE
    ) -> None:
        self._warehouse, self._video_id, self._recording = warehouse, video_id, recording

    def of(
        self, table: type[Table], columns: Sequence[str], frames: Sequence[int] | None = None
    ) -> arrow.Table:
        """Return columns of the video's rows of a table, in the order of the table's key.

        Parameters
        ----------
        table : type of Table
            A table of narratives with a column ``video_id``.
        columns : sequence of str
            Names of columns.
        frames : sequence of int, optional
            Only the rows with these frame indices; all by default.

        Raises
        ------
        KeyError
            If the table has no such column.
        """
        known = {c.name for c in table.columns()}
        if unknown := set(columns) - known:
            raise KeyError(f"{table.__table__} has no column {', '.join(sorted(unknown))}")
        order = [name for name in table.__key__ if name not in VIDEO_CONSTANTS]
        read = [*columns, *(name for name in order if name not in columns)]
        sql = f"select {', '.join(read)} from {self._recording.named(table.__table__)} where video_id = ?"
        parameters: list[object] = [self._video_id]
        if frames is not None:
            sql += " and list_contains(?::integer[], frame_index)"
            parameters.append([int(frame) for frame in frames])
        # DuckDB keeps what it has read in memory: the share of one thread is enough
        with self._warehouse.read(threads=1) as connection:
            rows: arrow.Table = connection.execute(sql, parameters).to_arrow_table()
        engine.end_after(rows.nbytes)
        return in_key_order(rows, order).select(list(columns))
