"""The study folder's files and rows of one patient: found, listed, and deleted if that was asked for.

Cells are compared, never interpreted, and a file keeps every byte of its other rows.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from iss_assets.intake.folder_videos import VIDEOS
from iss_assets.intake.inventory import sha256_of
from iss_assets.intake.paths import leads_out
from iss_assets.intake.reviews import reviews_locked
from iss_assets.privacy.traces import Traces
from iss_assets.protocol import terms
from iss_assets.settings import ReadingSettings

_PATIENT, _SUBMISSION = "patient_id", ("submission_id", "video_id")
_LONGEST_ROW = 50
"""Lines of one row; a quote that is never closed ends there."""


@dataclass
class StudyFiles:
    """What the study folder holds of a patient.

    Attributes
    ----------
    files : list of str
        Files, relative to the study folder.
    rows : dict
        Csv file to the lines in which the patient's rows begin.
    unread : list of str
        Csv files that could not be read.
    """

    files: list[str] = field(default_factory=list)
    rows: dict[str, list[int]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """One line for each thing to delete."""
        return self.files + [
            f"{file}, line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines))}"
            for file, lines in self.rows.items()
        ]


def find_study_files(root: Path, traces: Traces, reading: ReadingSettings) -> StudyFiles:
    """List what the study folder holds of a patient; nothing if there is no folder."""
    found = StudyFiles(files=[path.relative_to(root).as_posix() for path in _videos(root, traces)])
    for path in _tables(root):
        try:
            lines = [line for line, _, own in _rows(_text(path)[0], traces, reading) if own]
        except (OSError, UnicodeDecodeError, csv.Error):
            found.unread.append(path.name)
            continue
        if lines:
            found.rows[path.name] = lines
    return found


def hashes_of(root: Path, traces: Traces) -> list[str]:
    """Return the SHA-256 of every file of a patient that can be read, prompts and thermal pictures included."""
    hashes = []
    for path in _videos(root, traces):
        try:
            hashes.append(sha256_of(path))
        except OSError:
            continue
    return hashes


def delete_study_files(root: Path, traces: Traces, reading: ReadingSettings) -> None:
    """Delete a patient's files and rows; each csv file is replaced in one step."""
    for path in list(_videos(root, traces)):
        path.unlink(missing_ok=True)
    folder = root / VIDEOS / traces.patient
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)
    with reviews_locked(root):
        for path in _tables(root):
            _delete_rows(path, traces, reading)


def _delete_rows(path: Path, traces: Traces, reading: ReadingSettings) -> None:
    try:
        text, encoding = _text(path)
        rows = list(_rows(text, traces, reading))
    except (OSError, UnicodeDecodeError, csv.Error):
        return  # listed as unread
    if not any(own for *_, own in rows):
        return
    partial = path.with_name(f".{path.name}.tmp")
    with partial.open("wb") as file:
        file.write("".join(row for _, row, own in rows if not own).encode(encoding))
        file.flush()
        os.fsync(file.fileno())
    partial.chmod(path.stat().st_mode & 0o777)
    partial.replace(path)


def _videos(root: Path, traces: Traces) -> Iterator[Path]:
    """Yield every file in the patient's folder, and files of the patient's submissions in other folders."""
    top = root / VIDEOS
    if not top.is_dir() or leads_out(root, top):
        return
    for folder in sorted(top.iterdir()):
        if not folder.is_dir() or folder.is_symlink():
            continue
        for path in sorted(folder.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            stem = path.name.rpartition(".")[0]
            stem = stem.removesuffix(terms.PROMPT_SUFFIX).removesuffix(terms.THERMAL_SUFFIX)
            if folder.name == traces.patient or stem in traces.submissions:
                yield path


def _tables(root: Path) -> list[Path]:
    try:
        return sorted(p for p in root.glob("*.csv") if p.is_file() and not p.is_symlink())
    except OSError:
        return []


def _text(path: Path) -> tuple[str, str]:
    """Return a file's text and an encoding that gives back the same bytes; ids are ASCII in any of them."""
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        # with the mark as a letter of the text, so that it is written again
        encoding = "utf-16-le" if content[:1] == b"\xff" else "utf-16-be"
        return content.decode(encoding), encoding
    return content.decode("latin-1"), "latin-1"


def _rows(text: str, traces: Traces, reading: ReadingSettings) -> Iterator[tuple[int, str, bool]]:
    """Yield the line in which each row begins, its text with the end of line, and whether it is the patient's."""
    # at the ends of lines only, unlike `splitlines`, and as they are
    lines = io.StringIO(text, newline="").readlines()
    columns: dict[int, str] = {}
    delimiter, place = ",", 0
    names = _names(reading)
    while place < len(lines):
        longest = min(_LONGEST_ROW, len(lines) - place)
        heights = (n for n in range(1, longest + 1) if "".join(lines[place : place + n]).count('"') % 2 == 0)
        height = next(heights, 1)
        row = "".join(lines[place : place + height])
        if not columns:
            for delimiter in ",;\t|":
                header = [cell.strip("\ufeff\xef\xbb\xbf \"'\r\n").lower() for cell in row.split(delimiter)]
                columns = {n: names[name] for n, name in enumerate(header) if name in names}
                if columns:
                    break
            yield place + 1, row, False
        else:
            cells = next(csv.reader([row], delimiter=delimiter), [""])
            yield place + 1, row, _is_own(cells, columns, traces)
        place += height


def _is_own(cells: list[str], columns: dict[int, str], traces: Traces) -> bool:
    for place, kind in columns.items():
        cell = cells[place].strip(" \t\r\n'\xa0") if place < len(cells) else ""
        if cell and (cell == traces.patient if kind == _PATIENT else cell in traces.submissions):
            return True
    return False


def _names(reading: ReadingSettings) -> dict[str, str]:
    """Return what columns of ids are called, in lower case, in our csv files and in those of the settings."""
    names = {_PATIENT: _PATIENT, **dict.fromkeys(_SUBMISSION, "submission_id")}
    for mapping in (reading.enrollment_columns, reading.survey_columns):
        for ours, theirs in mapping.items():
            if ours in (_PATIENT, *_SUBMISSION):
                names[theirs.strip().lower()] = _PATIENT if ours == _PATIENT else "submission_id"
    return names
