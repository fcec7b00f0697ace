"""Reading a csv file from any source: encoding, delimiter, header, broken rows.

Converts bytes to rows with line numbers, and drops rows of a REDCap export that belong to another table. What the columns
mean is up to ``folder_tables``.

A quote that is opened and never closed would swallow the rest of a file. So a row may span several lines only where a
column that is not ours, or one of free text, contains the line break; otherwise its first line is rejected and reading continues with the next.
"""

from __future__ import annotations

import csv
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from iss_assets.intake.paths import leads_out
from iss_assets.intake.records import ProblemLog, StudyFolderError

MAX_BYTES = 64 * 2**20
"""A larger csv file is not a table of patients or surveys: 112 patients submit about 4,000 rows, less than 1 MB."""

MAX_LINES = 200_000
"""The same limit in lines."""

MAX_LINE_LENGTH = 100_000
"""Longest row in characters; below the 131,072 that the csv module takes for one field."""

MAX_CONTINUATION = 50
"""Largest number of lines of one row."""

_SEPARATOR_LINE = re.compile(r'\s*"?sep=(?P<delimiter>\\t|[^"\w\r\n])?"?[,;\t ]*', re.IGNORECASE)
"""The line that Excel writes and reads before the header; when a spreadsheet saves it again, it becomes a quoted cell."""

_INVISIBLE = {
    **dict.fromkeys(
        [
            0x200B,
            0x200C,
            0x200D,
            0x200E,
            0x200F,
            0x2060,
            0xFEFF,
            *range(0x202A, 0x202F),
            *range(0x2066, 0x206A),
        ]
    ),
    0x00A0: " ",
    0x202F: " ",
}
"""Zero-width characters and direction marks are removed; non-breaking spaces (``8:05 PM``) become spaces."""

_IMPORT_ID = re.compile(r"""\s*\{['"]ImportId['"]:""")
"""The beginning of every cell in the third row of a Qualtrics export."""

_DELIMITERS = ",;\t|"

_INSTRUMENT = ("redcap_repeat_instrument", "repeat instrument")
_EVENT = ("redcap_event_name", "event name")
_BOOKKEEPING = (
    *_INSTRUMENT,
    *_EVENT,
    "redcap_repeat_instance",
    "repeat instance",
    "redcap_data_access_group",
)
"""Columns that REDCap adds to its exports, by name and by label."""

_HARMLESS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_ ()/.-]{0,39}")
_CODEPAGE_ADVICE = "save it as UTF-8 (in Excel: 'CSV UTF-8') and try again"


@dataclass(frozen=True)
class CsvRow:
    """One row: its first line, and its stripped cells by our column names; absent optional columns are empty."""

    line: int
    cells: dict[str, str]
    bookkeeping: dict[str, str] = field(default_factory=dict)
    """REDCap's own cells, by the column's name in lower case."""


@dataclass(frozen=True)
class _Header:
    """The header: its first and last line, and where our columns are; `named` is its width without unnamed columns at the
    end, which spreadsheets add."""

    line: int
    last_line: int
    delimiter: str
    width: int
    named: int
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
    instruments: Collection[str] = (),
    unreported: Collection[str] = (),
    free_text: Collection[str] = (),
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
        Collect rows that cannot be read, and columns that are not ours.
    instruments : collection of str
        In a REDCap export, the instruments or events whose rows count. Without any, rows in which all of our columns except
        the patient id are empty count as other instruments.
    unreported : collection of str
        Optional columns that may be missing without a word.
    free_text : collection of str
        Columns whose cells may contain line breaks and letters of any language.

    Raises
    ------
    StudyFolderError
        If the file is missing, is not a regular file, is too large, cannot be decoded, or lacks required columns.
    """
    lines = re.split(
        r"\r\n|\n|\r", _decode(_read_bytes(root, file), file, problems, any_letter=bool(free_text))
    )
    if len(lines) > MAX_LINES:
        raise StudyFolderError(f"{file} has more than {MAX_LINES:,} lines; check that it is the right file")
    header = _read_header(lines, file, required, optional, column_map)
    _report_columns(header, file, [name for name in optional if name not in unreported], problems)
    header = _after_explanations(lines, header, file, problems)
    rows = list(_rows(lines, header, file, [*required, *optional], rejected, free_text))
    return _own_rows(rows, header, file, instruments, problems)


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


def _decode(content: bytes, file: str, problems: ProblemLog, *, any_letter: bool) -> str:
    """Decode a file; anything that is not UTF-8 is read as Windows-1252, which Excel saves in western Europe and America.

    Cells of `any_letter` may come out wrong by that; all others are ASCII.
    """
    encoding = _encoding_of(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start]
        if encoding == "utf-8" and b"\0" not in content:
            text = content.decode("cp1252", errors="replace")
            line = 1 + len(re.findall(rb"\r\n|\n|\r", before))
            advice = (
                "Letters other than a to z may be wrong from there on: save it as 'CSV UTF-8'."
                if any_letter
                else "Nothing to do unless a column is not found; in that case save it as 'CSV UTF-8'."
            )
            problems.add(
                "not_utf8",
                "The file is not UTF-8 and was read as Windows-1252, as Excel saves it; this is the first line with such a "
                f"character. {advice}",
                file=file,
                line=line,
            )
            return text
        line = 1 + (before.count(b"\n") or before.count(b"\r"))
        where = f"byte {error.start + 1}" + (f", on line {line}" if encoding == "utf-8" else "")
        name = encoding.upper()[:6].rstrip("-")
        raise StudyFolderError(f"{file} is not valid {name} at {where}; {_CODEPAGE_ADVICE}") from None
    return text.lstrip("\ufeff")


def _encoding_of(content: bytes) -> str:
    """Detect the encoding by the byte order mark or, without one, by every second byte at the beginning being zero."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    start = content[:40]
    if len(start) >= 4 and not any(start[1::2]) and all(start[::2]):
        return "utf-16-le"
    if len(start) >= 4 and not any(start[::2]) and all(start[1::2]):
        return "utf-16-be"
    return "utf-8"


def _plain(name: str) -> str:
    """Return a column's name in lower case, with a space for every line break and run of spaces."""
    return " ".join(name.split()).casefold()


def _read_header(
    lines: list[str], file: str, required: Sequence[str], optional: Sequence[str], column_map: dict[str, str]
) -> _Header:
    wanted = {name: _plain(column_map.get(name, name)) for name in (*required, *optional)}
    unknown = sorted(column_map.keys() - wanted.keys())
    if unknown:
        raise StudyFolderError(
            f"the column map for {file} names columns that do not exist: {', '.join(unknown)}; "
            f"its keys must be among {', '.join(wanted)}"
        )
    index = next((i for i, line in enumerate(lines) if line.strip()), None)
    named = _SEPARATOR_LINE.fullmatch(lines[index]) if index is not None else None
    if index is not None and named:
        index = next((i for i, line in enumerate(lines) if i > index and line.strip()), None)
    if index is None:
        raise StudyFolderError(f"{file} is empty; its first line must name the columns {', '.join(required)}")
    if "\0" in lines[index]:
        raise StudyFolderError(f"{file} is not a text file in UTF-8; {_CODEPAGE_ADVICE}")
    first = (named["delimiter"] or "").replace("\\t", "\t") if named else ""
    # the delimiter named in the file is preferred unless another one finds more of the columns
    found = []
    for delimiter in dict.fromkeys(first + _DELIMITERS):
        fields, taken = _record(lines, index, delimiter)
        names = [_plain(name) for name in fields or []]
        found.append((len(set(wanted.values()) & set(names)), len(names), delimiter, names, taken))
    _, _, delimiter, names, taken = max(found, key=lambda f: (f[0], f[2] == first, f[1]))
    missing = [name for name in required if wanted[name] not in names]
    if missing:
        setting = {"enrollment.csv": "ENROLLMENT_COLUMNS", "surveys.csv": "SURVEY_COLUMNS"}.get(file)
        raise StudyFolderError(
            f"{file} lacks the columns {', '.join(missing)}; add them to its first line"
            + (
                f", or, if they have other names there, map these in the setting ISS_READING__{setting}"
                if setting
                else ""
            )
        )
    twice = [name for name, there in wanted.items() if names.count(there) > 1]
    if twice:
        raise StudyFolderError(f"{file} has the columns {', '.join(twice)} more than once; keep one of each")
    positions = {name: names.index(there) for name, there in wanted.items() if there in names}
    named_width = max(i for i, name in enumerate(names) if name) + 1
    return _Header(index + 1, index + taken, delimiter, len(names), named_width, positions, names)


def _report_columns(header: _Header, file: str, optional: Sequence[str], problems: ProblemLog) -> None:
    ours = set(header.positions.values())
    extra = [
        name if _HARMLESS_NAME.fullmatch(name) else f"number {i + 1}"
        for i, name in enumerate(header.names)
        if i not in ours and name and name not in _BOOKKEEPING
    ]
    if extra:
        problems.add(
            "extra_columns",
            f"These columns are not used: {', '.join(extra)}. Nothing to do unless one should be mapped in the settings.",
            file=file,
            line=header.line,
        )
    for name in optional:
        if name not in header.positions:
            problems.add(
                "absent_column",
                f"The optional column {name} is missing; add it, or map it in the settings, if it is known.",
                file=file,
                line=header.line,
                column=name,
            )


def _clean(cell: str) -> str:
    """Strip a cell of whitespace and invisible characters; ``="0007"``, which keeps zeros in Excel, becomes ``0007``."""
    text = cell.translate(_INVISIBLE).strip()
    return text[2:-1].strip() if len(text) > 3 and text.startswith('="') and text.endswith('"') else text


def _after_explanations(lines: list[str], header: _Header, file: str, problems: ProblemLog) -> _Header:
    """Skip the two rows below the header in which Qualtrics explains the columns, and report where they were."""
    _, first = (
        _record(lines, header.last_line, header.delimiter) if header.last_line < len(lines) else (None, 1)
    )
    index = header.last_line + first
    if index >= len(lines):
        return header
    fields, taken = _record(lines, index, header.delimiter)
    if not any(_IMPORT_ID.match(cell) for cell in fields or []):
        return header
    problems.add(
        "extra_header_rows",
        f"Lines {header.last_line + 1} to {index + taken} explain the columns, as Qualtrics writes them, and were left out. "
        "Nothing to do.",
        file=file,
        line=header.last_line + 1,
    )
    return replace(header, last_line=index + taken)


def _rows(
    lines: list[str],
    header: _Header,
    file: str,
    columns: list[str],
    rejected: ProblemLog,
    free_text: Collection[str],
) -> Iterator[CsvRow]:
    i = header.last_line
    single_line = [position for name, position in header.positions.items() if name not in free_text]
    bookkeeping = {name: i for i, name in enumerate(header.names) if name in _BOOKKEEPING}
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
                cells = [_clean(cell) for cell in fields]
                while len(cells) > header.width and not cells[-1]:
                    cells.pop()
                if header.named <= len(cells) < header.width:
                    cells += [""] * (header.width - len(cells))
                if len(cells) != header.width:
                    fault, taken = "wrong_number_of_fields", 1
                elif any("\n" in fields[p] for p in single_line if p < len(fields)) or any(
                    "\n" in cell for cell in fields[header.width :]
                ):
                    # in the cell as it was read: stripped, a cell of nothing but a line break would look empty
                    fault, taken = "broken_quotes", 1
        if fault:
            rejected.add(fault, _ROW_FAULTS[fault], file=file, line=start)
        else:
            positions = header.positions
            yield CsvRow(
                start,
                {n: cells[positions[n]] if n in positions else "" for n in columns},
                {n: cells[p] for n, p in bookkeeping.items()},
            )
        i += taken - 1


def _own_rows(
    rows: list[CsvRow], header: _Header, file: str, instruments: Collection[str], problems: ProblemLog
) -> list[CsvRow]:
    """Leave out the rows of other REDCap instruments and events, and report their number."""
    if not any(name in header.names for name in (*_INSTRUMENT, *_EVENT)):
        return rows
    patient = header.positions["patient_id"]
    data = [n for n, p in header.positions.items() if p != patient and header.names[p] not in _BOOKKEEPING]
    wanted = {_plain(name) for name in instruments}

    def is_own(row: CsvRow) -> bool:
        named = (_plain(row.bookkeeping.get(name, "")) for name in (*_INSTRUMENT, *_EVENT))
        return any(row.cells[name] for name in data) and (not wanted or not wanted.isdisjoint(named))

    own = [is_own(row) for row in rows]
    others = [row for row, mine in zip(rows, own, strict=True) if not mine]
    if others:
        filled = sum(any(row.cells[name] for name in data) for row in others)
        more = f" {filled} of them have values in columns of this table; check the setting." if filled else ""
        problems.add(
            "other_instruments",
            f"{len(others)} rows belong to other REDCap instruments or events, the first in line {others[0].line}, and were "
            f"left out.{more or ' Nothing to do.'}",
            file=file,
            line=others[0].line,
        )
    return [row for row, mine in zip(rows, own, strict=True) if mine]


_ROW_FAULTS = {
    "line_too_long": f"The row is longer than {MAX_LINE_LENGTH:,} characters; export the table again.",
    "nul_byte": "The row contains a NUL byte, so the file was damaged in transfer; export the table again.",
    "broken_quotes": "A quotation mark is opened or closed in the wrong place; correct the row or export again.",
    "wrong_number_of_fields": "The row has more or fewer fields than the header; put fields that contain the delimiter "
    "in quotation marks.",
}


def _record(lines: list[str], index: int, delimiter: str) -> tuple[list[str] | None, int]:
    """Split the row that starts at `index`; return its fields (None if its quotes are broken) and number of lines."""
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
