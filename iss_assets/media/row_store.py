"""Collecting a video's rows batch by batch, in a file, since a video may be long: on disk, or one in memory."""

from __future__ import annotations

import mmap
from pathlib import Path

import pyarrow as arrow

from iss_assets.media.samples import unnamed_file


class RowStore:
    """Collects the batches of one table.

    Parameters
    ----------
    schema : pyarrow.Schema
        The table's schema.
    folder : Path or None
        Folder of the file; None keeps it in memory. Batches that were kept as such would lie between the pictures that come and
        go, so that their space is never used again: half an hour took 1.7 GB more, although the rows are 0.3 GB.
    name : str
        The file's name without its extension, ``.arrow``.
    """

    def __init__(self, schema: arrow.Schema, folder: Path | None, name: str) -> None:
        self._file = (folder / f"{name}.arrow").open("w+b") if folder else unnamed_file(None)
        self._writer = arrow.ipc.new_file(arrow.PythonFile(self._file, "w"), schema)

    def add(self, batch: arrow.RecordBatch) -> None:
        """Add a batch."""
        self._writer.write_batch(batch)

    def table(self) -> arrow.Table:
        """Return all rows, which are read when they are used; nothing can be added after this."""
        self._writer.close()
        with self._file:
            self._file.flush()
            content = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return arrow.ipc.open_file(arrow.py_buffer(content)).read_all()
