"""Reading a csv file that anybody may have made: encoding, delimiter, header, broken rows.

Belongs here: bytes to rows with line numbers. Does not belong here: what the columns mean (``folder_tables``).

A quote that is opened and never closed would swallow the rest of a file. So a row may only go on over several lines
where a column that is not ours holds the line break; otherwise its first line is rejected and reading goes on with
the next one.
"""

from __future__ import annotations

import csv
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from iss_assets.study.paths import leads_out
from iss_assets.study.records import ProblemLog, StudyFolderError

MAX_BYTES = 64 * 2**20
"""A larger csv file is not a table of patients or surveys: 112 patients submit about 4,000 rows, below 1 MB."""

MAX_LINES = 200_000
"""The same in lines."""

MAX_LINE_LENGTH = 100_000
"""Longest row in characters; below the 131,072 that the csv module takes for one field."""

MAX_CONTINUATION = 50
"""Most lines that one row may take."""

_HARMLESS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_ ()/.-]{0,39}")
_CODEPAGE_ADVICE = "save it as UTF-8 (in Excel: 'CSV UTF-8') and try again"


@dataclass(frozen=True)
class CsvRow:
    """One row: its first line, and its cells by our column names, stripped; absent optional columns are empty."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class _Header:
    line: int
    delimiter: str
    width: int
    positions: dict[str, int]
    names: list[str]


def read_csv(
    root: Path,
    file: str,
    required: Sequence[str],
    optional: Sequence[str],
    column_map: dict[str, str],
    rejected: ProblemLog,
    problems: ProblemLog,
) -> list[CsvRow]:
    """Read the rows of a csv file in the study folder.

    Parameters
    ----------
    root : Path
        The study folder.
    file : str
        Name of the csv file in it.
    required, optional : sequence of str
        Our names of the columns.
    column_map : dict
        Our name to the file's name, where they differ.
    rejected, problems : ProblemLog
        Where rows that cannot be read, and columns that are not ours, are noted.

    Raises
    ------
    StudyFolderError
        If the file is missing, no ordinary file, too large, not decodable, or lacks required columns.
    """
    lines = re.split(r"\r\n|\n|\r", _decode(_read_bytes(root, file), file))
    if len(lines) > MAX_LINES:
        raise StudyFolderError(f"{file} has more than {MAX_LINES:,} lines; check that it is the right file")
    header = _read_header(lines, file, required, optional, column_map)
    _report_columns(header, file, optional, problems)
    return list(_rows(lines, header, file, [*required, *optional], rejected))


def _read_bytes(root: Path, file: str) -> bytes:
    path = root / file
    try:
        if leads_out(root, path):
            raise StudyFolderError(
                f"{file} is a link that leads out of the study folder; put the file itself there"
            )
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise StudyFolderError(f"{file} is not a file; put the csv file there under this name")
        if found.st_size > MAX_BYTES:
            raise StudyFolderError(
                f"{file} has {found.st_size / 2**20:.0f} MB, more than {MAX_BYTES // 2**20}; check that it is the right file"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise StudyFolderError(
            f"{file} is missing in the study folder {root.name!r}; put it there, or name the right folder with ISS_STUDY"
        ) from None
    except OSError as error:
        raise StudyFolderError(
            f"{file} cannot be read ({error.strerror}); check its permissions and that the drive is there"
        ) from None


def _decode(content: bytes, file: str) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = 1 + (before.count(b"\n") or before.count(b"\r"))
        where = f"byte {error.start + 1}" + ("" if encoding == "utf-16" else f", on line {line}")
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise StudyFolderError(f"{file} is not valid {name} at {where}; {_CODEPAGE_ADVICE}") from None
    return text.removeprefix("\ufeff")


def _read_header(
    lines: list[str], file: str, required: Sequence[str], optional: Sequence[str], column_map: dict[str, str]
) -> _Header:
    wanted = {name: column_map.get(name, name).strip().casefold() for name in (*required, *optional)}
    unknown = sorted(column_map.keys() - wanted.keys())
    if unknown:
        raise StudyFolderError(
            f"the column map for {file} names columns that do not exist: {', '.join(unknown)}; "
            f"its keys are among {', '.join(wanted)}"
        )
    index = next((i for i, line in enumerate(lines) if line.strip()), None)
    if index is None:
        raise StudyFolderError(f"{file} is empty; its first line must name the columns {', '.join(required)}")
    if "\0" in lines[index]:
        raise StudyFolderError(f"{file} is not a text file in UTF-8; {_CODEPAGE_ADVICE}")
    best: tuple[int, int, str, list[str]] | None = None
    for delimiter in ",;\t":
        names = [name.strip().casefold() for name in _record([lines[index]], 0, delimiter)[0] or []]
        score = (len(set(wanted.values()) & set(names)), len(names), delimiter, names)
        if best is None or score[:2] > best[:2]:
            best = score
    assert best is not None
    names = best[3]
    missing = [name for name in required if wanted[name] not in names]
    if missing:
        setting = "ISS_READING__" + ("ENROLLMENT_COLUMNS" if file.startswith("enrol") else "SURVEY_COLUMNS")
        raise StudyFolderError(
            f"{file} lacks the columns {', '.join(missing)}; add them to its first line, or, where they have other "
            f"names there, give these in the setting {setting}"
        )
    twice = [name for name, there in wanted.items() if names.count(there) > 1]
    if twice:
        raise StudyFolderError(f"{file} has the columns {', '.join(twice)} more than once; keep one of each")
    positions = {name: names.index(there) for name, there in wanted.items() if there in names}
    return _Header(index + 1, best[2], len(names), positions, names)


def _report_columns(header: _Header, file: str, optional: Sequence[str], problems: ProblemLog) -> None:
    ours = set(header.positions.values())
    extra = [
        name if _HARMLESS_NAME.fullmatch(name) else f"number {i + 1}"
        for i, name in enumerate(header.names)
        if i not in ours and name
    ]
    if extra:
        problems.add(
            "extra_columns",
            f"These columns are not used: {', '.join(extra)}. Nothing to do, unless one should be mapped in the settings.",
            file=file,
            line=header.line,
        )
    for name in optional:
        if name not in header.positions:
            problems.add(
                "absent_column",
                f"The optional column {name} is not there; add it or map it in the settings if it is known.",
                file=file,
                line=header.line,
                column=name,
            )


def _rows(
    lines: list[str], header: _Header, file: str, columns: list[str], rejected: ProblemLog
) -> Iterator[CsvRow]:
    i = header.line
    while i < len(lines):
        line, start = lines[i], i + 1
        i += 1
        if not line.strip(f" \t\r\n\v\f{header.delimiter}"):
            continue
        fault, taken = "", 1
        cells: list[str] = []
        if len(line) > MAX_LINE_LENGTH:
            fault = "line_too_long"
        elif "\0" in line:
            fault = "nul_byte"
        else:
            fields, taken = _record(lines, start - 1, header.delimiter)
            if fields is None:
                fault, taken = "broken_quotes", 1
            else:
                cells = [cell.strip() for cell in fields]
                while len(cells) > header.width and not cells[-1]:
                    cells.pop()
                if len(cells) != header.width:
                    fault, taken = "wrong_number_of_fields", 1
                elif any("\n" in cells[p] for p in header.positions.values()):
                    fault, taken = "broken_quotes", 1
        if fault:
            rejected.add(fault, _ROW_FAULTS[fault], file=file, line=start)
        else:
            positions = header.positions
            yield CsvRow(start, {n: cells[positions[n]] if n in positions else "" for n in columns})
        i += taken - 1


_ROW_FAULTS = {
    "line_too_long": f"The row is longer than {MAX_LINE_LENGTH:,} characters; export the table again.",
    "nul_byte": "The row holds a NUL byte, so the file was damaged on its way; export the table again.",
    "broken_quotes": "A quotation mark is opened or closed in the wrong place; correct the row or export again.",
    "wrong_number_of_fields": "The row has more or fewer fields than the header; put fields that hold the delimiter "
    "in quotation marks.",
}


def _record(lines: list[str], index: int, delimiter: str) -> tuple[list[str] | None, int]:
    """Split the row that starts at `index`; give its fields (None if its quotes are broken) and its lines."""
    if '"' not in lines[index]:
        return lines[index].split(delimiter), 1
    reader = csv.reader(
        (line + "\n" for line in islice(lines, index, index + MAX_CONTINUATION)),
        delimiter=delimiter,
        strict=True,
    )
    try:
        return next(reader), reader.line_num
    except (csv.Error, StopIteration):
        return None, 1
