"""Extracted videos that wait on disk for their patient's transaction.

The unit of work is a video, the unit of replacement a patient. A run that is killed after nine of ten videos has changed
nothing in the warehouse, and the next run finds the nine here and extracts only the tenth.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import pyarrow as arrow
import pyarrow.ipc

Rows: TypeAlias = arrow.Table | Callable[[], arrow.Table]
"""Rows in memory, or a function that returns rows on disk, the same ones at every call."""

_PORTION: Final = 1024
"""Rows read from disk at a time: 16 MB of crops and meshes."""
_PORTION_BYTES: Final = 16 * 2**20
"""Small portions are combined up to this size."""


def portions(rows: Rows) -> Iterator[arrow.Table]:
    """Yield rows in portions; a file is mapped again for each, so that only one is in memory."""
    whole = rows() if callable(rows) else rows
    count = whole.num_rows
    if not callable(rows) or count <= _PORTION:
        yield whole
        return
    del whole
    for start in range(0, count, _PORTION):
        yield rows().slice(start, _PORTION)


def batches(parts: Iterable[arrow.Table]) -> Iterator[list[arrow.Table]]:
    """Combine consecutive small portions, up to the size of a portion of crops and meshes.

    A row of sound is as large as many portions, so bytes count too.
    """
    together: list[arrow.Table] = []
    rows = size = 0
    for part in parts:
        rows, size = rows + part.num_rows, size + part.nbytes
        if together and (rows > _PORTION or size > _PORTION_BYTES):
            yield together
            together, rows, size = [], part.num_rows, part.nbytes
        together.append(part)
    if together:
        yield together


def map_file(path: Path) -> arrow.Table:
    """Map an Arrow file into memory; its rows are read when they are used."""
    with arrow.memory_map(str(path)) as source:
        return arrow.ipc.open_file(source).read_all()


class Spool:
    """One patient's waiting videos.

    Parameters
    ----------
    root : Path
        The spool folder of the home.
    patient_id : str
        A checked id (``protocol.terms``), safe as a file name, as are the video ids that the methods take.
    """

    def __init__(self, root: Path, patient_id: str):
        self._folder = root / patient_id

    def _path(self, video_id: str, table: str, fingerprint: str) -> Path:
        return self._folder / f"{video_id}.{table}.{fingerprint}.arrow"

    def scratch(self) -> Path:
        """Make an empty folder for files of the video in progress; `put` and `clear` remove it."""
        folder = self._folder / "scratch"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        return folder

    def put(
        self, video_id: str, fingerprints: Mapping[str, str], tables: Mapping[str, Path | arrow.Table]
    ) -> None:
        """Store one video's tables; each file appears whole or not at all.

        An Arrow file in the scratch folder is moved, not copied.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, rows in tables.items():
            path = self._path(video_id, name, fingerprints[name])
            if isinstance(rows, Path):
                rows.replace(path)
                continue
            scratch = path.with_suffix(f".{os.getpid()}.part")
            with arrow.OSFile(str(scratch), "wb") as sink, arrow.ipc.new_file(sink, rows.schema) as writer:
                writer.write_table(rows)
            scratch.replace(path)
        shutil.rmtree(self._folder / "scratch", ignore_errors=True)

    def get(self, video_id: str, table: str, fingerprint: str) -> arrow.Table | None:
        """Return a stored table, mapped from disk, or None if there is no such extraction."""
        path = self._path(video_id, table, fingerprint)
        return map_file(path) if path.exists() else None

    def write_note(self, video_id: str, table: str, fingerprint: str, text: str | None) -> None:
        """Store what was unusual about a video file with the table that was extracted from it; None removes it."""
        path = self._path(video_id, table, fingerprint).with_suffix(".txt")
        if text is None:
            path.unlink(missing_ok=True)
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(text, encoding="utf-8")

    def read_note(self, video_id: str, table: str, fingerprint: str) -> str | None:
        """Return what `write_note` stored."""
        path = self._path(video_id, table, fingerprint).with_suffix(".txt")
        return path.read_text(encoding="utf-8") if path.exists() else None

    def take(self, video_id: str, table: str, fingerprint: str) -> arrow.Table:
        """Return a table that `put` stored; it stays until `clear`.

        Raises
        ------
        FileNotFoundError
            If it was removed.
        """
        rows = self.get(video_id, table, fingerprint)
        if rows is None:
            raise FileNotFoundError(f"{table} of video {video_id} is missing from the spool; run again")
        return rows

    def clear(self, tables: Iterable[str]) -> None:
        """Remove the files of these tables, after their rows are in the warehouse."""
        shutil.rmtree(self._folder / "scratch", ignore_errors=True)
        for table in tables:
            for path in self._folder.glob(f"*.{table}.*"):
                path.unlink(missing_ok=True)
        if self._folder.exists() and not any(self._folder.iterdir()):
            self._folder.rmdir()
