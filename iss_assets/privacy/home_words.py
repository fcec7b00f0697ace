"""Every word that stands in a home, outside of the tables of the study: to find who is named there and is known by a hash only."""

from __future__ import annotations

import mmap
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from iss_assets.intake.withdrawn import words_in
from iss_assets.privacy.postgres_history import values_in_postgres
from iss_assets.privacy.traces import quoted, unpacked
from iss_assets.settings import Settings

_HEAD: Final = 8192
_BLOCK: Final = 16 * 2**20
_OVERLAP: Final = 256
_NUMBERS: Final = (".arrow", ".safetensors")
"""Files of numbers, which begin with a description in words."""


def words_of_home(settings: Settings) -> set[str]:
    """Return the words in names and contents of the home's files, and in Dagster's history wherever it is.

    Raises
    ------
    OSError, sqlite3.Error
        If something cannot be read.
    """
    words: set[str] = set()
    for path in sorted(settings.home.rglob("*")):
        words.update(words_in(path.name), words_in(path.stem))
        if path.is_symlink() or not path.is_file():
            continue
        try:
            for text in _texts(path):
                words.update(words_in(text))
        except FileNotFoundError:
            continue  # a lock or temporary file that is gone by now
    if settings.cluster.storage is not None:
        for value in values_in_postgres(settings.cluster.storage):
            words.update(words_in(_text(value)))
    return words


def _texts(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if not head or head[8:12] == b"DUCK":
            return
        if head.startswith(b"SQLite format 3\0"):
            connection = sqlite3.connect(path, timeout=60)
            try:
                tables = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
                for (table,) in tables:
                    for row in connection.execute(f"select * from {quoted(table)}"):
                        yield " ".join(_text(value) for value in row)
            finally:
                connection.close()
        elif head.startswith(b"\x1f\x8b"):
            yield unpacked(path.read_bytes()).decode("latin-1")
        elif path.suffix in _NUMBERS:
            yield head.decode("latin-1")
        else:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for begin in range(0, len(content), _BLOCK):
                    yield content[max(0, begin - _OVERLAP) : begin + _BLOCK].decode("latin-1")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return unpacked(value).decode("latin-1")
    return " ".join(_text(one) for one in value) if isinstance(value, list | tuple) else str(value)
