"""Extracted videos that wait on disk until their patient's transaction.

Belongs here: Arrow files between extraction and commit. Does not belong here: deciding what is stale (``ledger``).

The unit of work is a video, the unit of replacement a patient. A run that is killed after nine of ten videos has
changed nothing in the warehouse, and the next run finds the nine here and does only the tenth.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as arrow
import pyarrow.ipc


class Spool:
    """One patient's waiting videos.

    Parameters
    ----------
    root : Path
        The spool folder of the home.
    patient_id, video_id
        Checked ids (``study.terms``), safe as names.
    """

    def __init__(self, root: Path, patient_id: str):
        self._folder = root / patient_id

    def _path(self, video_id: str, table: str, fingerprint: str) -> Path:
        return self._folder / f"{video_id}.{table}.{fingerprint}.arrow"

    def put(self, video_id: str, fingerprints: Mapping[str, str], tables: Mapping[str, arrow.Table]) -> None:
        """Store one video's tables; each file appears whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, rows in tables.items():
            path = self._path(video_id, name, fingerprints[name])
            scratch = path.with_suffix(f".{os.getpid()}.part")
            with arrow.OSFile(str(scratch), "wb") as sink, arrow.ipc.new_file(sink, rows.schema) as writer:
                writer.write_table(rows)
            scratch.replace(path)

    def get(self, video_id: str, table: str, fingerprint: str) -> arrow.Table | None:
        """Give a stored table, mapped from disk, or None if that extraction is not here."""
        path = self._path(video_id, table, fingerprint)
        if not path.exists():
            return None
        with arrow.memory_map(str(path)) as source:
            return arrow.ipc.open_file(source).read_all()

    def take(self, video_id: str, table: str, fingerprint: str) -> arrow.Table:
        """Give a table that was put here; it stays until `clear`.

        Raises
        ------
        FileNotFoundError
            If somebody removed it.
        """
        rows = self.get(video_id, table, fingerprint)
        if rows is None:
            raise FileNotFoundError(f"{table} of video {video_id} is gone from the spool; run again")
        return rows

    def clear(self, tables: Iterable[str]) -> None:
        """Remove what waits for these tables, once it is in the warehouse."""
        for table in tables:
            for path in self._folder.glob(f"*.{table}.*"):
                path.unlink(missing_ok=True)
        if self._folder.exists() and not any(self._folder.iterdir()):
            self._folder.rmdir()
