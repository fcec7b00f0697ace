"""A folder that every host sees, with second names for the files of a commit in progress.

DuckLake removes the files that a transaction has written if its commit fails. It takes a commit for failed, too, if the catalog
has carried it out and only the answer was lost; the catalog then names files that are gone. So before a commit its files get
second names (hard links) in a folder beside the tables, from which they are put back: by the writer itself, or, if it dies in
that moment, by the next one.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Hashable, Iterator, Set
from pathlib import Path
from typing import Final

import duckdb

from iss_assets.warehouse.data_place import STUDY_MARK
from iss_assets.warehouse.room import require_room_in

_NAME: Final = "the data folder of the shared warehouse, ISS_WAREHOUSE__DATA_PATH"
_FOLDER: Final = ".committing"
_MADE_AT: Final = re.compile(r"^ducklake-([0-9a-f]{8})-([0-9a-f]{4})-7")
"""DuckLake names a file by the time in milliseconds (UUID version 7)."""


class Folder:
    """The folder; see `data_place.DataPlace`.

    Parameters
    ----------
    address : str
        Its path, with a slash at the end.
    """

    name = _NAME
    gone = f"{_NAME}, is missing or empty on this host, but tables have files in it: is it mounted?"
    guards_commits = False

    def __init__(self, address: str):
        self.address = address
        self.folder: Path | None = Path(address)
        self._data = Path(address)

    def extensions(self) -> list[str]:
        """Return none: DuckDB itself reads files."""
        return []

    def connect(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Do nothing: the system says who may do what."""

    def explained(self, text: str) -> str:
        """Return the text of an error without the path."""
        return f"{self.name}: {text.replace(self.address, '')}" if self.address in text else text

    def prepare(self) -> None:
        """Make the folder."""
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)

    def has_entries(self) -> bool:
        """Return whether there is something in it besides the id of its study."""
        return self._data.is_dir() and any(
            not path.name.startswith(STUDY_MARK) for path in self._data.iterdir()
        )

    def marks(self) -> set[str]:
        """Return the names of folders that begin with `STUDY_MARK`."""
        names = {path.name for path in self._data.iterdir()} if self._data.is_dir() else set()
        return {name for name in names if name.startswith(STUDY_MARK)}

    def mark(self, name: str) -> None:
        """Make an empty folder of this name."""
        self.prepare()
        (self._data / name).mkdir(exist_ok=True, mode=0o700)

    def known_by(self) -> Hashable:
        """Return what the folder is known by until it is mounted anew."""
        found = self._data.stat()
        return found.st_dev, found.st_ino

    def require_writable(self) -> None:
        """Check that it can be written to, and has room."""
        require_room_in(self._data, self.name)

    def committing(self, connection: duckdb.DuckDBPyConnection, name: str, since: float) -> SecondNames:
        """Give every file that was written `since` then a second name."""
        return SecondNames(self._data, name, since)

    def put_back_missing(self, named: Callable[[], Set[str]]) -> None:
        """Give the `named` files their first name again, if they have a second one only."""
        if not (self._data / _FOLDER).is_dir() or not any((self._data / _FOLDER).iterdir()):
            return
        wanted = {Path(path) for path in named()}
        for commit in sorted((self._data / _FOLDER).iterdir()):
            for second in _files(commit):
                first = self._data / second.relative_to(commit)
                if first in wanted:
                    _put_back(second, first)

    def tidy(self, older_than_s: float) -> list[str]:
        """Remove second names that writers have left which died; see `put_back_missing`, which comes first."""
        if (self._data / _FOLDER).is_dir():
            for commit in (self._data / _FOLDER).iterdir():
                if commit.stat().st_mtime <= time.time() - older_than_s:
                    shutil.rmtree(commit, ignore_errors=True)
        return []

    def files(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Return the path of every file."""
        return [
            path
            for (path,) in connection.execute("select file from glob(?)", [f"{self.address}**"]).fetchall()
        ]

    def erase_history(self) -> list[str]:
        """Do nothing: a file that was removed is gone."""
        return []


class SecondNames:
    """Second names for the files that a writer has written since its turn began; see `data_place.Committing`.

    Parameters
    ----------
    data : Path
        The folder.
    name : str
        Of the commit, unlike any other.
    since : float
        Begin of the turn, by this host's clock.
    """

    def __init__(self, data: Path, name: str, since: float):
        self._data = data
        self._folder = self._data / _FOLDER / name
        try:
            for path in _files(self._data):
                if _made_at(path.name) >= int(since * 1000):
                    second = self._folder / path.relative_to(self._data)
                    second.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    _link(path, second)
        except OSError:
            self.forget()
            raise

    def put_back(self) -> None:
        """Give every file its first name again."""
        for second in _files(self._folder):
            _put_back(second, self._data / second.relative_to(self._folder))

    def forget(self) -> None:
        """Remove the second names."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        if _FOLDER in folders:
            folders.remove(_FOLDER)
        for name in names:
            yield Path(place, name)


def _made_at(name: str) -> float:
    found = _MADE_AT.match(name)
    return int(found[1] + found[2], 16) if found else float("inf")


def _put_back(second: Path, first: Path) -> None:
    if not first.exists():
        first.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _link(second, first)


def _link(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except FileExistsError:
        pass
    except OSError:
        # a file system without hard links
        shutil.copy2(path, other)
