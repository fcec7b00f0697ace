"""What would identify a withdrawn patient, and the search for it through every byte of a home.

An id is a token: ``0007`` is not found in ``00071``, in the middle of a run's id, or in a number. The files of DuckDB and
SQLite hold values side by side and compressed, so their tables are read as well as their bytes; gzip is unpacked.
"""

from __future__ import annotations

import gzip
import mmap
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb
import numpy as np

from iss_assets.protocol.naming import is_ordinary_number, stands_as_an_id
from iss_assets.warehouse.engine import is_encrypted
from iss_assets.warehouse.errors import WarehouseError

_LONG: Final = 10
"""Bytes from which on an id can be looked for among bytes of any kind without being found by chance."""
_BLOCK: Final = 16 * 2**20
_LARGEST_UNPACKED: Final = 256 * 2**20
_NO_ID: Final = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"  # the id of a run
    r"|(?<![\w.-])-?\d+\.\d+(?:[eE][+-]?\d+)?(?![\w.])"  # a number
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[+-]\d\d:?\d\d|Z)?"  # a time
)


Query: TypeAlias = Callable[..., list[tuple[Any, ...]]]
"""Runs a query, with parameters if it has any, and returns its rows."""


@dataclass(frozen=True)
class Traces:
    """What to look for.

    Attributes
    ----------
    patient : str
        The patient's id; empty if ids are not looked for.
    submissions, files : tuple of str
        Submission ids, and files' SHA-256 (hexadecimal).
    samples : tuple of str
        Pieces of faces and sound, hexadecimal.
    others : tuple of str
        Ids of others in which one of these ids is contained.
    """

    patient: str
    submissions: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def with_others(self, known: Iterable[str]) -> Traces:
        """Return the same with those of the known ids that contain one of these."""
        own = {self.patient, *self.submissions}
        longer = {o for o in known if o not in own and any(name in o for name in own)}
        return Traces(self.patient, self.submissions, self.files, self.samples, tuple(sorted(longer)))

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Traces:
        """Return what `dataclasses.asdict` made, as JSON gives it back."""
        return cls(
            found["patient"],
            *(tuple(found[name]) for name in ("submissions", "files", "samples", "others")),
        )

    @cached_property
    def _tokens(self) -> re.Pattern[str]:
        names = sorted({*self.submissions, *self.files}, key=len, reverse=True)
        token = rf"(?<![A-Za-z0-9]){re.escape(self.patient)}(?![A-Za-z0-9])"
        longer = [rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])" for name in names]
        # no text matches without anything to look for
        return re.compile("|".join([*longer, token] if self.patient else longer) or r"(?!)")

    def in_text(self, text: str) -> bool:
        """Return whether a text names the patient."""
        number = is_ordinary_number(self.patient)
        found = self._tokens.search(text)
        while found:
            begin, end = found.span()
            around = slice(max(0, begin - 80), end + 80)
            place = begin - around.start
            part = text[around]
            if not (
                (number and found[0] == self.patient and not stands_as_an_id(text, begin, end))
                or self._covered(part, place, place + end - begin, self.others)
                or (
                    found[0] not in self.files
                    and any(
                        m.start() <= place and m.end() >= place + end - begin for m in _NO_ID.finditer(part)
                    )
                )
            ):
                return True
            found = self._tokens.search(text, begin + 1)
        return False

    @staticmethod
    def _covered(text: str, begin: int, end: int, others: Iterable[str]) -> bool:
        for other in others:
            at = text.find(other)
            while at >= 0:
                if at <= begin and at + len(other) >= end:
                    return True
                at = text.find(other, at + 1)
        return False

    def in_value(self, value: object) -> bool:
        """Return whether a value of a database names the patient, also inside a packed one."""
        if isinstance(value, str):
            return self.in_text(value)
        if isinstance(value, bytes):
            return self.in_text(unpacked(value).decode("latin-1"))
        if isinstance(value, list | tuple):
            return any(self.in_value(one) for one in value)
        return False

    @cached_property
    def raw(self) -> tuple[bytes, ...]:
        """Bytes that are found nowhere by chance."""
        ids = [
            name.encode()
            for name in (self.patient, *self.submissions)
            if len(name) >= _LONG and not any(name in other for other in self.others)
        ]
        hashes = [bytes.fromhex(f) for f in self.files] + [f.encode() for f in self.files]
        return tuple(dict.fromkeys([*ids, *hashes, *(bytes.fromhex(s) for s in self.samples)]))


def unpacked(value: bytes) -> bytes:
    """Return bytes unpacked if zlib or gzip packed them; as they are otherwise."""
    if value[:2] in (b"\x1f\x8b", b"\x78\x9c", b"\x78\x01", b"\x78\xda"):
        try:
            unpack = zlib.decompressobj(wbits=47)
            return unpack.decompress(value, _LARGEST_UNPACKED)
        except zlib.error:
            return value
    return value


@dataclass
class SearchResult:
    """What the search saw.

    Attributes
    ----------
    files, bytes : int
        Files read, and their bytes.
    tables : int
        Tables of databases that were read row by row.
    looked_for : dict
        What was looked for, by kind, in numbers.
    found : list of str
        Places at which something was found: a file, and a table in it where there is one.
    unread : list of str
        Files that could not be read.
    """

    files: int = 0
    bytes: int = 0
    tables: int = 0
    looked_for: dict[str, int] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def search_home(
    home: Path, traces: Traces, leave_out: Iterable[Path], open_warehouse: Callable[[Path], Any]
) -> SearchResult:
    """Search every file of a home.

    Parameters
    ----------
    home : Path
        The home.
    traces : Traces
        What to look for.
    leave_out : iterable of Path
        Files that are not searched: the withdrawal's own list of what to look for.
    open_warehouse : callable
        Takes a DuckDB file and returns a context manager that yields a connection to it.
    """
    result = SearchResult(
        looked_for={
            "patient id": int(bool(traces.patient)),
            "submission ids": len(traces.submissions),
            "hashes of files": len(traces.files),
            "samples of faces and sound": len(traces.samples),
        }
    )
    skipped = {path.resolve() for path in leave_out}
    finder = _Finder(traces.raw)
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if path.resolve() in skipped:
            continue
        if traces.in_text(name):
            result.found.append("the name of a file or folder")
        if path.is_symlink() or not path.is_file():
            continue
        try:
            result.files += 1
            result.bytes += path.stat().st_size
            for where in _in_file(path, traces, finder, result, open_warehouse):
                result.found.append(f"{'a file' if traces.in_text(name) else name}{where}")
        except FileNotFoundError:
            continue  # a lock or temporary file that is gone by now
        except (OSError, sqlite3.Error, duckdb.Error, WarehouseError, ValueError) as error:
            result.unread.append(f"{name} ({type(error).__name__})")
    return result


def _in_file(
    path: Path,
    traces: Traces,
    finder: _Finder,
    result: SearchResult,
    open_warehouse: Callable[[Path], Any],
) -> Iterator[str]:
    with path.open("rb") as file:
        head = file.read(8192)
        if not head:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if finder.found(content):
                yield ", its bytes"
            if head.startswith(b"SQLite format 3\0"):
                yield from _in_sqlite(path, traces, result)
            elif head[8:12] == b"DUCK":
                with open_warehouse(path) as connection:
                    yield from _in_duckdb(connection, traces, result)
                    if is_encrypted(path):
                        # in its bytes nothing can be found
                        yield from _in_blobs(connection, finder)
            elif head.startswith(b"\x1f\x8b"):
                with gzip.open(path) as packed:
                    text = packed.read(_LARGEST_UNPACKED)
                if finder.found(text) or traces.in_text(text.decode("latin-1")):
                    yield ", unpacked"
            elif path.suffix == ".safetensors":
                # numbers of any value follow, in which four digits stand by chance, as they do in an Arrow file
                size = int.from_bytes(head[:8], "little")
                if traces.in_text(content[8 : 8 + size].decode("latin-1")):
                    yield ", its description"
            elif path.suffix != ".arrow" and _in_words(content, traces):
                yield ""


def _in_words(content: mmap.mmap, traces: Traces) -> bool:
    overlap = 256
    return any(
        traces.in_text(content[max(0, begin - overlap) : begin + _BLOCK].decode("latin-1"))
        for begin in range(0, len(content), _BLOCK)
    )


def _in_sqlite(path: Path, traces: Traces, result: SearchResult) -> Iterator[str]:
    connection = sqlite3.connect(path, timeout=60)
    try:
        names = [n for (n,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in names:
            result.tables += 1
            if any(
                traces.in_value(value)
                for row in connection.execute(f"select * from {quoted(table)}")
                for value in row
            ):
                yield f", table {table}"
        if connection.execute("pragma freelist_count").fetchone()[0]:
            yield ", pages that are not used any more"
    finally:
        connection.close()


def text_columns(query: Query) -> list[tuple[str, str, str, str]]:
    """Return schema, table, column and type of every column of the warehouse's tables that can hold a text."""
    return [
        (schema, table, column, kind)
        for schema, table, column, kind in query(
            "select schema_name, table_name, column_name, data_type from duckdb_columns() "
            "where database_name = current_database() and not internal and table_name in "
            "(select table_name from duckdb_tables() where database_name = current_database()) "
            "and regexp_matches(data_type, 'VARCHAR|JSON|ENUM') order by all"
        )
    ]


def columns_with(query: Query, traces: Traces) -> Iterator[tuple[str, str, str]]:
    """Yield schema, table and column of every text that names the patient; each table is read as a whole first."""
    for (schema, table), columns in groupby(text_columns(query), key=lambda found: found[:2]):
        names = [column for _, _, column, _ in columns]
        values = ", ".join(f"{quoted(name)}::varchar" for name in names)
        texts = query(f"select distinct unnest([{values}]) from {quoted(schema)}.{quoted(table)}")
        if any(text is not None and traces.in_text(text) for (text,) in texts):
            for name in names:
                if any(traces.in_text(text) for text in texts_of(query, schema, table, name)):
                    yield schema, table, name


def texts_of(query: Query, schema: str, table: str, column: str) -> list[str]:
    """Return the different texts of a column, those of lists as DuckDB writes them."""
    found = query(f"select distinct {quoted(column)}::varchar from {quoted(schema)}.{quoted(table)}")
    return [text for (text,) in found if text is not None]


def _in_duckdb(connection: duckdb.DuckDBPyConnection, traces: Traces, result: SearchResult) -> Iterator[str]:
    def query(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql).fetchall()

    for _, table, column in columns_with(query, traces):
        yield f", table {table}, column {column}"
    result.tables += len({(schema, table) for schema, table, _, _ in text_columns(query)})


def search_tables(
    connection: duckdb.DuckDBPyConnection, traces: Traces, result: SearchResult
) -> Iterator[str]:
    """Search the tables of a database whose files hold nothing readable, and yield where something was found."""
    yield from _in_duckdb(connection, traces, result)
    yield from _in_blobs(connection, _Finder(traces.raw))


def _in_blobs(connection: duckdb.DuckDBPyConnection, finder: _Finder) -> Iterator[str]:
    """Look for samples and hashes in the pictures and sounds of a database, one row at a time."""
    columns = connection.execute(
        "select schema_name, table_name, column_name from duckdb_columns() where database_name = current_database() "
        "and not internal and data_type = 'BLOB' and table_name in "
        "(select table_name from duckdb_tables() where database_name = current_database()) order by all"
    ).fetchall()
    for schema, table, column in columns:
        values = connection.execute(
            f"select {quoted(column)} from {quoted(schema)}.{quoted(table)} where {quoted(column)} is not null"
        )
        while row := values.fetchone():
            if finder.found(row[0]):
                yield f", table {table}, column {column}"
                break


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


class _Finder:
    """Looks for many byte strings at once: two bytes decide by table whether a place is worth a look."""

    def __init__(self, needles: Iterable[bytes]) -> None:
        self._by_start: dict[bytes, list[bytes]] = {}
        self._first, self._second = np.zeros(65536, bool), np.zeros(65536, bool)
        self._longest = 0
        for needle in needles:
            self._by_start.setdefault(needle[:4], []).append(needle)
            self._first[int.from_bytes(needle[:2], "little")] = True
            self._second[int.from_bytes(needle[2:4], "little")] = True
            self._longest = max(self._longest, len(needle))

    def found(self, content: mmap.mmap | bytes) -> bool:
        """Return whether any of the byte strings is in the content."""
        if not self._by_start:
            return False
        size = len(content)
        for begin in range(0, size, _BLOCK):
            block = content[begin : min(size, begin + _BLOCK + self._longest)]
            values = np.frombuffer(block, np.uint8).astype(np.uint16)
            if len(values) < 4:
                continue
            pairs = values[:-1] | (values[1:] << 8)
            places = np.flatnonzero(self._first[pairs[:-2]] & self._second[pairs[2:]])
            for place in places.tolist():
                for needle in self._by_start.get(block[place : place + 4], ()):
                    if block.startswith(needle, place):
                        return True
        return False
