"""Collecting a video's rows batch by batch, in memory or, since a video may be long, in a file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as arrow


class RowStore:
    """Collects the batches of one table.

    Parameters
    ----------
    schema : pyarrow.Schema
        The table's schema.
    folder : Path or None
        Folder of the file; None keeps the batches in memory.
    name : str
        The file's name without its extension, ``.arrow``.
    """

    def __init__(self, schema: arrow.Schema, folder: Path | None, name: str) -> None:
        self._schema, self._batches = schema, list[arrow.RecordBatch]()
        self._path = folder / f"{name}.arrow" if folder else None
        self._writer = arrow.ipc.new_file(str(self._path), schema) if self._path else None

    def add(self, batch: arrow.RecordBatch) -> None:
        """Add a batch."""
        if self._writer:
            self._writer.write_batch(batch)
        else:
            self._batches.append(batch)

    def table(self) -> arrow.Table:
        """Return all rows; nothing can be added after this."""
        if self._writer is None or self._path is None:
            return arrow.Table.from_batches(self._batches, schema=self._schema)
        self._writer.close()
        with arrow.memory_map(str(self._path)) as source:
            return arrow.ipc.open_file(source).read_all()
