"""Extracted videos that wait on disk for their patient's transaction.

The unit of work is a video, the unit of replacement a patient. A run that is killed after nine of ten videos has changed
nothing in the warehouse, and the next run finds the nine here and extracts only the tenth.

The spool of an encrypted home holds sealed files only (``sealing``), each bound to its patient and name. What is extracted
stays in memory until it is sealed.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import pyarrow as arrow
import pyarrow.ipc

from iss_assets.warehouse.keys import Key
from iss_assets.warehouse.locking import hold
from iss_assets.warehouse.sealing import BrokenSeal, SealedWriter, is_sealed, unseal

log = logging.getLogger(__name__)

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


@contextmanager
def spool_lock(root: Path, *, exclusive: bool, timeout_s: float) -> Iterator[None]:
    """Hold the lock of a home's spool: shared to extract, exclusive to convert all of its files."""
    with hold(root.with_name(f"{root.name}.lock"), exclusive=exclusive, timeout_s=timeout_s):
        yield


def read_waiting(path: Path, key: Key | None) -> bytearray | bytes:
    """Return the content of a file of the spool.

    Parameters
    ----------
    path : Path
        A file in a patient's folder.
    key : Key or None
        The home's key; None if the home is not encrypted.

    Raises
    ------
    BrokenSeal
        If it is not what was stored there: changed, moved here, of another key, or not sealed where all files are.
    """
    if key is not None:
        return unseal(path, _place(path), key)
    if is_sealed(path):
        raise BrokenSeal(f"{path.name} is sealed, but the home is not encrypted")
    return path.read_bytes()


def write_waiting(path: Path, place: Path, key: Key | None, content: bytes | bytearray) -> None:
    """Write a file of the spool to `path`, where it stays until it is moved to `place`, and wait until it is on disk."""
    with SealedWriter(path, _place(place), key) if key is not None else path.open("wb") as file:
        file.write(content)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _place(path: Path) -> str:
    """Return what a sealed file is bound to."""
    return f"{path.parent.name}/{path.name}"


class Spool:
    """One patient's waiting videos.

    Parameters
    ----------
    root : Path
        The spool folder of the home.
    patient_id : str
        A checked id (``protocol.terms``), safe as a file name, as are the video ids that the methods take.
    key : Key, optional
        The home's key (`Warehouse.key`); without one, files are in the clear.
    """

    def __init__(self, root: Path, patient_id: str, key: Key | None = None):
        self._folder, self._key = root / patient_id, key

    def _path(self, video_id: str, table: str, fingerprint: str) -> Path:
        return self._folder / f"{video_id}.{table}.{fingerprint}.arrow"

    def scratch(self) -> Path | None:
        """Make an empty folder for files of the video in progress; `put` and `clear` remove it.

        In an encrypted home there is none, since those files would be in the clear.
        """
        folder = self._folder / "scratch"
        shutil.rmtree(folder, ignore_errors=True)
        if self._key is not None:
            return None
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
            with self._open(scratch, path) as sink, arrow.ipc.new_file(sink, rows.schema) as writer:
                writer.write_table(rows)
            scratch.replace(path)
        shutil.rmtree(self._folder / "scratch", ignore_errors=True)

    def _open(self, path: Path, place: Path) -> arrow.NativeFile:
        if self._key is None:
            return arrow.OSFile(str(path), "wb")
        return arrow.PythonFile(SealedWriter(path, _place(place), self._key), "w")

    def get(self, video_id: str, table: str, fingerprint: str) -> arrow.Table | None:
        """Return a stored table, mapped from disk or unsealed, or None if there is no such extraction."""
        path = self._path(video_id, table, fingerprint)
        if not path.exists():
            return None
        if self._key is None and not is_sealed(path):
            return map_file(path)
        content = self._read(path)
        return None if content is None else arrow.ipc.open_file(arrow.py_buffer(content)).read_all()

    def _read(self, path: Path) -> bytearray | bytes | None:
        """Return a file's content; remove it if its seal is broken, so that its video is extracted again."""
        try:
            return read_waiting(path, self._key)
        except FileNotFoundError:
            return None
        except BrokenSeal as error:
            log.warning("spool: %s; it is removed and the video is extracted again", error)
            path.unlink(missing_ok=True)
            return None

    def write_note(self, video_id: str, table: str, fingerprint: str, text: str | None) -> None:
        """Store what was unusual about a video file with the table that was extracted from it; None removes it."""
        path = self._path(video_id, table, fingerprint).with_suffix(".txt")
        if text is None:
            path.unlink(missing_ok=True)
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = path.with_suffix(f".{os.getpid()}.part")
        write_waiting(scratch, path, self._key, text.encode())
        scratch.replace(path)

    def read_note(self, video_id: str, table: str, fingerprint: str) -> str | None:
        """Return what `write_note` stored."""
        content = self._read(self._path(video_id, table, fingerprint).with_suffix(".txt"))
        return None if content is None else content.decode()

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
