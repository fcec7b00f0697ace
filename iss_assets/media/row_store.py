"""Rows of a video that come batch by batch: kept in memory, or in a file where a video may be long.

Belongs here: collecting batches of one table. Does not belong here: what is in them (``visual``).
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as arrow


class RowStore:
    """Collects the batches of one table.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the table.
    folder : Path or None
        Where the file lies; None keeps the batches in memory.
    name : str
        The file's name without its ending, ``.arrow``.
    """

    def __init__(self, schema: arrow.Schema, folder: Path | None, name: str) -> None:
        self._schema, self._batches = schema, list[arrow.RecordBatch]()
        self._path = folder / f"{name}.arrow" if folder else None
        self._writer = arrow.ipc.new_file(str(self._path), schema) if self._path else None

    def add(self, batch: arrow.RecordBatch) -> None:
        """Keep a batch."""
        if self._writer:
            self._writer.write_batch(batch)
        else:
            self._batches.append(batch)

    def table(self) -> arrow.Table:
        """Give all rows; nothing is added after this."""
        if self._writer is None or self._path is None:
            return arrow.Table.from_batches(self._batches, schema=self._schema)
        self._writer.close()
        with arrow.memory_map(str(self._path)) as source:
            return arrow.ipc.open_file(source).read_all()
