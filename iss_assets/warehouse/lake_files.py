"""The shared warehouse's data files: which ones the catalog names, and second names for those of a commit in progress.

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.errors import WarehouseAway
from iss_assets.warehouse.lake import DATA_FOLDER, NOT_MOUNTED, has_entries
from iss_assets.warehouse.lake_catalog import value

NAMED: Final = """
select distinct
    case
        when not f.path_is_relative then ''
        when not t.path_is_relative then t.path
        when not s.path_is_relative then s.path || t.path
        else (select value from ducklake_metadata where key = 'data_path' and scope is null) || s.path || t.path
    end || f.path
from (
    select table_id, path, path_is_relative from ducklake_data_file
    union all
    select table_id, path, path_is_relative from ducklake_delete_file
) as f
join ducklake_table as t using (table_id)
join ducklake_schema as s using (schema_id)
"""
"""Every file that the catalog names, of any snapshot."""
_FOLDER: Final = ".committing"
_LEAST_ROOM: Final = 64 * 2**20
_MADE_AT: Final = re.compile(r"^ducklake-([0-9a-f]{8})-([0-9a-f]{4})-7")
"""DuckLake names a file by the time in milliseconds (UUID version 7)."""


@contextmanager
def folder_problems(outcome: str = "nothing was written") -> Iterator[None]:
    """Turn an error of the file system in the block into one that names the setting and not the path.

    Raises
    ------
    WarehouseAway
        With what the system says: the disk is full, the folder is read-only.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise WarehouseAway(f"{DATA_FOLDER}, cannot be used: {why}; {outcome}") from None


def folder_with_files(settings: WarehouseSettings, session: Any) -> tuple[int, int]:
    """Return what the data folder is known by until it is mounted anew.

    Raises
    ------
    WarehouseAway
        If it is not there, or is empty while the catalog names files: written into it, they would be on this host only.
    """
    if not has_entries(settings) and value(
        session, "select exists (select from ducklake_data_file where end_snapshot is null)"
    ):
        raise WarehouseAway(NOT_MOUNTED)
    Path(str(settings.data_path)).mkdir(parents=True, exist_ok=True, mode=0o700)
    return _known_by(settings)


def require_room(settings: WarehouseSettings, session: Any) -> None:
    """Check that the data folder is there, can be written to, and has room.

    Raises
    ------
    WarehouseAway
        If not.
    """
    data = Path(str(settings.data_path))
    with folder_problems():
        folder_with_files(settings, session)
        if not os.access(data, os.W_OK):
            raise WarehouseAway(f"{DATA_FOLDER}, is not writable")
        if shutil.disk_usage(data).free < _LEAST_ROOM:
            raise WarehouseAway(f"{DATA_FOLDER}, is full: less than {_LEAST_ROOM >> 20} MiB are free")


def require_same_folder(settings: WarehouseSettings, folder: tuple[int, int]) -> None:
    """Check that the data folder is the one that was there before.

    Raises
    ------
    WarehouseAway
        If it was unmounted or mounted anew: what has been written meanwhile may be elsewhere.
    """
    if _known_by(settings) != folder:
        raise WarehouseAway(
            f"{DATA_FOLDER}, was unmounted or mounted anew while it was written to; nothing was written"
        )


def _known_by(settings: WarehouseSettings) -> tuple[int, int]:
    found = Path(str(settings.data_path)).stat()
    return found.st_dev, found.st_ino


class Committing:
    """Second names for the files that a writer has written since its turn began.

    Parameters
    ----------
    settings : WarehouseSettings
        Where the data are.
    name : str
        Of the commit, unlike any other.
    since : float
        Begin of the turn, by this host's clock.
    """

    def __init__(self, settings: WarehouseSettings, name: str, since: float):
        self._data = Path(str(settings.data_path))
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


def put_back_missing(settings: WarehouseSettings, session: Any) -> None:
    """Put back the files that the catalog names and that a writer, which died then, has removed; in the writer's turn."""
    data = Path(str(settings.data_path))
    if not (data / _FOLDER).is_dir() or not any((data / _FOLDER).iterdir()):
        return
    with session.cursor() as cursor:
        cursor.execute(NAMED)
        named = {Path(path) for (path,) in cursor.fetchall()}
    for commit in sorted((data / _FOLDER).iterdir()):
        for second in _files(commit):
            first = data / second.relative_to(commit)
            if first in named:
                _put_back(second, first)


def forget_second_names(settings: WarehouseSettings, older_than_s: float) -> None:
    """Remove second names that writers have left which died; see `put_back_missing`, which comes first."""
    data = Path(str(settings.data_path))
    if (data / _FOLDER).is_dir():
        for commit in (data / _FOLDER).iterdir():
            if commit.stat().st_mtime <= time.time() - older_than_s:
                shutil.rmtree(commit, ignore_errors=True)


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
