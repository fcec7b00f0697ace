"""The journal of what is being read: how a run knows at which video an earlier process died.

While a stage reads a video, a journal file that names both is locked. The lock disappears with the process, so a
journal file that nobody has locked was left by a process that died, and its video is a *suspect*.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from iss_assets.protocol.recordings import Recording, recording_of

Stage = str
"""A stage of reading a video: probe, picture, landmarks, sound, quality, thermal, or the name of a feature; the stages of
Question 10 readings begin with `prompt_` (``protocol.recordings``)."""

THERMAL: Final = "thermal"
"""The stage that reads thermal pictures, and with them how the videos' files say when they were recorded."""
OF_OTHER_FILES: Final = frozenset({THERMAL})
"""Stages that read other files than videos."""


@dataclass(frozen=True)
class Reading:
    """One stage of reading one video.

    Attributes
    ----------
    patient_id, video_id : str
        Checked ids (``protocol.terms``), safe in a file's name.
    stage : str
        The stage that runs.
    sha256 : str
        Hash of the file.
    seconds : float
        Time limit in seconds; see `time_limit`.
    path : Path or None
        The file; None if only stored rows are read.
    size, mtime_ns : int
        Bytes and modification time of the file when it was hashed.
    """

    patient_id: str
    video_id: str
    stage: Stage
    sha256: str
    seconds: float
    path: Path | None = None
    size: int = 0
    mtime_ns: int = 0


class Suspect(NamedTuple):
    """A video and the stage during which a process died."""

    video_id: str
    stage: str
    sha256: str


def time_limit(base_s: float, factor: float, duration_s: float | None, size: int) -> float:
    """Return a stage's time limit in seconds: a base, plus a multiple of the duration, plus one second per megabyte.

    Parameters
    ----------
    base_s : float
        Seconds that any file may take.
    factor : float
        Seconds of processing allowed per second of video.
    duration_s : float or None
        Length of the video in seconds; None counts as 0.
    size : int
        Size of the file in bytes.
    """
    return base_s + factor * max(0.0, duration_s or 0.0) + size / 1e6


def open_file(path: Path) -> int:
    """Open a file for reading and return its descriptor; a pipe or device in its place neither blocks nor is read.

    Raises
    ------
    OSError
        If the file does not exist, may not be read, or is not a regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path.name} is not a regular file")
    return handle


def same_file(reading: Reading, *, thorough: bool) -> bool:
    """Return whether a file is unchanged since it was hashed: by size and time and, if `thorough`, by its content."""
    if reading.path is None:
        return True
    try:
        handle = open_file(reading.path)
        with open(handle, "rb") as file:  # noqa: PTH123 - it is open already
            status = os.fstat(handle)
            if (status.st_size, status.st_mtime_ns) != (reading.size, reading.mtime_ns):
                return False
            return not thorough or hashlib.file_digest(file, "sha256").hexdigest() == reading.sha256
    except OSError:
        return False


class _Entry:
    """A journal file that this process has locked.

    Attributes
    ----------
    died : bool
        Whether a process died during this same reading.
    keep : bool
        Whether the file stays when the lock is released, so that the next run is as careful as this one.
    """

    def __init__(self, died: bool):
        self.died = self.keep = died


class Journal:
    """What is being read right now, by any process.

    Parameters
    ----------
    folder : Path
        A folder in the home; created when needed, readable only by its owner.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    @contextmanager
    def entry(self, reading: Reading) -> Iterator[_Entry]:
        """Lock the journal file of a reading while the block runs; an error removes the file, a crash leaves it."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{reading.video_id}.{reading.stage}"
        handle = self._lock(path)
        try:
            entry = _Entry(_content(handle).get("sha256") == reading.sha256)
            content = {name: getattr(reading, name) for name in ("patient_id", "video_id", "stage", "sha256")}
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({**content, "pid": os.getpid()}).encode(), 0)
            try:
                yield entry
            finally:
                if not entry.keep:
                    path.unlink(missing_ok=True)
        finally:
            os.close(handle)

    def suspects(self, patient_id: str | None = None) -> list[Suspect]:
        """Return the readings during which a process died, of one patient or of all."""
        return [suspect for _, suspect in self._abandoned(patient_id)]

    def forget(
        self,
        patient_id: str,
        hashes: Mapping[str, str],
        recording: Recording = Recording.NARRATIVE,
        stage: Stage | None = None,
    ) -> None:
        """Drop a patient's entries for files that were removed or replaced.

        Parameters
        ----------
        patient_id : str
            The patient.
        hashes : mapping
            The current files' hashes by video id, or by what `stage` calls its files; empty to drop all.
        recording : Recording
            Which of the submissions' videos are meant.
        stage : str, optional
            A stage that reads files of its own (`OF_OTHER_FILES`); the stages that read videos by default.
        """
        for path, suspect in self._abandoned(patient_id):
            of_others = suspect.stage if suspect.stage in OF_OTHER_FILES else None
            if of_others != stage or recording_of(suspect.stage)[0] is not recording:
                continue
            if hashes.get(suspect.video_id) != suspect.sha256:
                path.unlink(missing_ok=True)

    def _abandoned(self, patient_id: str | None) -> Iterator[tuple[Path, Suspect]]:
        try:
            paths = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return
        for path in paths:
            try:
                handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = _content(handle)
            except BlockingIOError:
                continue  # another process is reading it
            finally:
                os.close(handle)
            if found and patient_id in (None, found["patient_id"]):
                yield path, Suspect(found["video_id"], found["stage"], found["sha256"])

    @staticmethod
    def _lock(path: Path) -> int:
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            # the previous owner may have removed the file meanwhile: then this lock belongs to no file
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == path.stat().st_ino:
                    return handle
            os.close(handle)


def _content(handle: int) -> dict[str, str]:
    """Read a journal file; return an empty dict if it is new, or if a power failure kept it from being written."""
    try:
        found = json.loads(os.pread(handle, 4096, 0))
        return found if isinstance(found, dict) and {*Suspect._fields, "patient_id"} <= found.keys() else {}
    except ValueError:
        return {}
