"""The study folder's files and rows of one patient: found, listed, and deleted if that was asked for.

Cells are compared, never interpreted, and a file keeps every byte of its other rows.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from iss_assets.intake.folder_videos import VIDEOS
from iss_assets.intake.inventory import sha256_of
from iss_assets.intake.paths import leads_out
from iss_assets.intake.records import StudyFolderError
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
        Csv files and folders that could not be read, or were not because they lead out of the study folder.
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
    found = StudyFiles()
    found.files += [path.relative_to(root).as_posix() for path in _videos(root, traces, found.unread)]
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
    """Delete a patient's files and rows; each csv file is replaced in one step.

    What cannot be deleted stays: look again with `find_study_files`.
    """
    for path in list(_videos(root, traces)):
        with suppress(OSError):
            path.unlink(missing_ok=True)
    folder = root / VIDEOS / traces.patient
    # beyond a link there may be anybody's files
    if folder.is_dir() and not leads_out(root, folder):
        shutil.rmtree(folder, ignore_errors=True)
    # not to be locked is not to be written to
    with suppress(StudyFolderError), reviews_locked(root):
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
    try:
        with partial.open("wb") as file:
            file.write("".join(row for _, row, own in rows if not own).encode(encoding))
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(path.stat().st_mode & 0o777)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()


def _videos(root: Path, traces: Traces, unread: list[str] | None = None) -> Iterator[Path]:
    """Yield every file in the patient's folder, and files of the patient's submissions in other folders.

    A link is a file, wherever it leads. `unread` takes the folders that were not read.
    """

    def not_read(path: Path, why: str) -> None:
        if unread is not None:
            unread.append(f"{path.relative_to(root).as_posix()} ({why})")

    top = root / VIDEOS
    if leads_out(root, top):
        not_read(top, "leads out of the study folder")
        return
    try:
        folders = sorted(top.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        not_read(top, type(error).__name__)
        return
    for folder in folders:
        own = folder.name == traces.patient
        if folder.is_symlink() or not folder.is_dir():
            if own or _stem(folder) in traces.submissions:
                yield folder
            continue
        for place, names, files in os.walk(
            folder, onerror=lambda error: not_read(Path(error.filename), type(error).__name__)
        ):
            names.sort()
            links = [name for name in names if _is_link(Path(place) / name)]
            for path in sorted(Path(place) / name for name in (*files, *links)):
                if own or _stem(path) in traces.submissions:
                    yield path


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False  # it cannot be listed either, and is reported then


def _stem(path: Path) -> str:
    """Return the submission that a file would be of, by its name."""
    stem = path.name.rpartition(".")[0]
    return stem.removesuffix(terms.PROMPT_SUFFIX).removesuffix(terms.THERMAL_SUFFIX)


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
