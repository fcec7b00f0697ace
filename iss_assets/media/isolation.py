"""One bad file costs one file: whatever a video does to the program that reads it, there is an answer about that video.

Belongs here: the journal of what is being read, the second try in a process of its own, limits on time and memory, and
whose fault a failure is. Does not belong here: reading a video (``video``, ``visual``, ``audio``), keeping the verdict
(``assets``), starting workers (``pipeline.launcher``).

While a stage reads a video, a journal file that names both is locked. The lock goes away with the process, so a
journal file that nobody locks was left by a process that died, and its video is a *suspect*. A suspect, and a video
whose reading raised an error, is read again in a process of its own, with limits. If that fails too, the file is at
fault (`BrokenFile`). Neither a worker that somebody killed nor a power cut nor a full disk is held against a file: the
second try succeeds, or the machine is at fault (`MachineTrouble`) and the next run tries again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import hashlib
import json
import multiprocessing
import os
import signal
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self, TypeVar

Stage = Literal["probe", "picture", "landmarks", "sound", "quality"]
T = TypeVar("T")

_LOOK_S: Final = 0.2
"""Between two looks at the memory of a process that reads a suspect."""
_START_S: Final = 600.0
"""Longest start of such a process on a slow and busy machine, test film included."""
_SPARE_S: Final = 60.0
"""A process whose parent is gone may go on this much longer than its time before it ends itself."""
_FROM_OUTSIDE: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Signals by which people and systems end programs. SIGKILL is not among them: Linux ends with it what takes too much
memory."""
_MACHINES_ERRORS: Final = (ImportError, OSError)
_MACHINES_NAMES: Final = frozenset({"OutOfMemoryError", "AcceleratorError"})
"""Errors of a GPU that others use too."""
_SUBJECTS: Final[Mapping[Stage, str]] = {
    "probe": "Reading it",
    "picture": "Reading it",
    "landmarks": "Finding landmarks in it",
    "sound": "Reading its sound",
    "quality": "Measuring its quality",
}


class BrokenFile(Exception):
    """Reading the file failed twice, at last in a process of its own; the message is for people.

    Attributes
    ----------
    status : str
        For the table of videos.
    error : str
        Class of the last error, or ``died``, ``time`` or ``memory``.
    """

    status = "unreadable"

    def __init__(self, error: str, message: str):
        self.error = error
        super().__init__(message)


class RefusedFile(BrokenFile):
    """The reader itself says what is wrong with the file (`UnreadableVideo` and the like)."""

    def __init__(self, status: str, error: str, message: str):
        super().__init__(error, message)
        self.status = status


class ChangedFile(Exception):
    """The file went away or changed while it was read, so what was read is of no file; the next run reads it again."""


class MachineTrouble(RuntimeError):
    """Something failed that is not the file's fault; the next run tries again."""


@dataclass(frozen=True)
class Reading:
    """One stage of one video.

    Attributes
    ----------
    patient_id, video_id : str
        Checked ids (``protocol.terms``), safe in a file's name.
    stage : str
        What is done.
    sha256 : str
        Hash of the file.
    seconds : float
        How long it may take; see `time_limit`.
    path : Path or None
        The file; None where only rows are read.
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
    """A video and a stage at which a process died."""

    video_id: str
    stage: str
    sha256: str


def time_limit(base_s: float, factor: float, duration_s: float | None, size: int) -> float:
    """Give the seconds that a stage may take: a base, a multiple of the duration, and a second a megabyte."""
    return base_s + factor * max(0.0, duration_s or 0.0) + size / 1e6


def open_file(path: Path) -> int:
    """Open a file for reading and give its descriptor; a pipe or device in its place neither blocks nor is read.

    Raises
    ------
    OSError
        If it is not there, may not be read, or is not a regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path.name} is not a regular file")
    return handle


def same_file(reading: Reading, *, thorough: bool) -> bool:
    """Say whether a file is still there as it was hashed: by size and time, and if `thorough` by its content."""
    if reading.path is None:
        return True
    try:
        handle = open_file(reading.path)
        with open(handle, "rb") as file:  # noqa: PTH123 - it is open already
            seen = os.fstat(handle)
            if (seen.st_size, seen.st_mtime_ns) != (reading.size, reading.mtime_ns):
                return False
            return not thorough or hashlib.file_digest(file, "sha256").hexdigest() == reading.sha256
    except OSError:
        return False


class _Entry:
    """A journal file that this process has locked.

    Attributes
    ----------
    died : bool
        Whether a process died at this very reading.
    keep : bool
        Whether the file stays when the lock is given back, so that the next run is as careful as this one.
    """

    def __init__(self, died: bool):
        self.died = self.keep = died


class Journal:
    """What is being read at this moment, by whichever process.

    Parameters
    ----------
    folder : Path
        In the home; made when needed, readable by its owner only.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    @contextmanager
    def entry(self, reading: Reading) -> Iterator[_Entry]:
        """Lock the journal file of a reading while the block runs; an error leaves none, a death does."""
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
        """Give the readings at which a process died, of one patient or of all."""
        return [suspect for _, suspect in self._left(patient_id)]

    def forget(self, patient_id: str, hashes: Mapping[str, str]) -> None:
        """Drop what is known of a patient's files that are gone or were replaced; `hashes` are the present ones."""
        for path, suspect in self._left(patient_id):
            if hashes.get(suspect.video_id) != suspect.sha256:
                path.unlink(missing_ok=True)

    def _left(self, patient_id: str | None) -> Iterator[tuple[Path, Suspect]]:
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
                continue  # at work
            finally:
                os.close(handle)
            if found and patient_id in (None, found["patient_id"]):
                yield path, Suspect(found["video_id"], found["stage"], found["sha256"])

    @staticmethod
    def _lock(path: Path) -> int:
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            # whoever held it may have removed it meanwhile: then this is the lock of no file
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == path.stat().st_ino:
                    return handle
            os.close(handle)


def _content(handle: int) -> dict[str, str]:
    """Read a journal file; nothing if it is new, or was never written because the power went out."""
    try:
        found = json.loads(os.pread(handle, 4096, 0))
        return found if isinstance(found, dict) and {*Suspect._fields, "patient_id"} <= found.keys() else {}
    except ValueError:
        return {}


class Guard:
    """Carries out one stage for one patient's videos, so that none of them stops the others.

    Parameters
    ----------
    journal : Journal
        Of the home.
    patient_id : str
        Whose videos. If a process died at one of them, all are read in a process of their own: the run that finds
        one suspect does not die at the next.
    memory_gb : float
        Most that such a process may take.
    rehearsal : callable, optional
        Does the stage's work on a test film. Where that fails as well, it is the machine's fault.
    machines_errors : tuple of exception classes, optional
        Errors that are not the file's fault, besides those of the operating system.
    tell : callable, optional
        Takes a line for the log: ids, error classes and places in the code.
    """

    def __init__(
        self,
        journal: Journal,
        patient_id: str,
        memory_gb: float,
        *,
        rehearsal: Callable[[], None] | None = None,
        machines_errors: tuple[type[BaseException], ...] = (),
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._journal = journal
        self._memory_gb = memory_gb
        self._rehearsal = rehearsal
        self._machines_errors = (*_MACHINES_ERRORS, *machines_errors)
        self._tell = tell or (lambda line: None)
        self._careful = bool(journal.suspects(patient_id))
        self._reader: _Reader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def attempt(self, reading: Reading, work: Callable[..., T], *args: Any) -> T:
        """Do ``work(*args)`` and give what it gives.

        Parameters
        ----------
        reading : Reading
            What is done.
        work : callable
            A function of a module: it, its arguments and its result may have to go to another process.
        *args
            For `work`.

        Raises
        ------
        BrokenFile
            If the file is at fault: a `RefusedFile` where the reader says so.
        ChangedFile
            If it is no longer the file that was hashed.
        MachineTrouble
            If a test film fails too, or somebody ended the process that read the file.
        Exception
            Any error that is the machine's: a full disk, a lock.
        """
        with self._journal.entry(reading) as entry:
            failures = ["died"] if entry.died else []
            if not entry.died and not self._careful:
                try:
                    with _ends_in_time(reading.seconds):
                        result = work(*args)
                    return self._checked(reading, result)
                except ChangedFile:
                    raise
                except BaseException as error:
                    answer = _answer_of(error, self._machines_errors)
                    if answer is None:
                        raise
                    if isinstance(answer, _Trouble):
                        self._changed(reading)
                        raise
                    if isinstance(answer, _Refused):
                        self._changed(reading)
                        raise RefusedFile(answer.status, answer.error, answer.message) from None
                    self._say(reading, answer)
                    failures.append(answer.error)
            entry.keep = True
            try:
                result = self._alone(reading, failures, work, args)
            except (BrokenFile, ChangedFile):
                entry.keep = False
                raise
            entry.keep = False
            return result  # type: ignore[no-any-return]

    def _alone(
        self, reading: Reading, failures: list[str], work: Callable[..., Any], args: tuple[Any, ...]
    ) -> Any:
        """Try in another process until it works or has failed twice, earlier failures included."""
        try:
            while True:
                if self._reader is None or not self._reader.alive:
                    self._close()
                    self._reader = _Reader(self._rehearsal, self._machines_errors)
                answer = self._reader.ask(work, args, reading.seconds, self._memory_gb)
                if isinstance(answer, _Done):
                    return self._checked(reading, answer.result)
                if isinstance(answer, _Trouble):
                    self._close()
                    self._changed(reading)
                    raise MachineTrouble(answer.message)
                if isinstance(answer, _Refused):
                    self._changed(reading)
                    raise RefusedFile(answer.status, answer.error, answer.message)
                self._say(reading, answer)
                self._close()
                failures.append(answer.error)
                if len(failures) >= 2:
                    self._changed(reading)
                    raise BrokenFile(answer.error, _in_words(reading, answer.error, self._memory_gb))
        finally:
            if not self._careful:
                self._close()

    def _checked(self, reading: Reading, result: T) -> T:
        """Give a result if it is of the file that was hashed."""
        # a disk that fails midway looks like a damaged file
        self._changed(reading, thorough=bool(getattr(result, "problem", None)))
        return result

    def _changed(self, reading: Reading, *, thorough: bool = True) -> None:
        if not same_file(reading, thorough=thorough):
            raise ChangedFile("The file went away or changed while it was read; the next run reads it again.")

    def _say(self, reading: Reading, answer: _Failed) -> None:
        self._tell(f"video {reading.video_id}, {reading.stage}: {answer.error}\n{answer.where}".rstrip())

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _in_words(reading: Reading, error: str, memory_gb: float) -> str:
    subject = _SUBJECTS[reading.stage]
    limit = (
        f"{reading.seconds:.0f} seconds" if reading.seconds < 120 else f"{reading.seconds / 60:.0f} minutes"
    )
    what = {
        "died": "stopped the program twice",
        "time": f"did not come to an end within {limit}",
        "memory": f"takes more than {memory_gb:g} GB of memory",
        "MemoryError": "takes more memory than there is",
    }.get(error, f"fails with an error of the program ({error})")
    return f"{subject} {what}; submit the video again."


@contextmanager
def _ends_in_time(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer: a decoder in an endless loop cannot be stopped in any other way.

    The video is a suspect then. The watchdog is C code: it needs no Python lock, and says where every thread was.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class _Done(NamedTuple):
    result: Any


class _Refused(NamedTuple):
    status: str
    error: str
    message: str


class _Failed(NamedTuple):
    error: str
    where: str = ""


class _Trouble(NamedTuple):
    message: str


_Answer = _Done | _Refused | _Failed | _Trouble


def _answer_of(
    error: BaseException, machines_errors: tuple[type[BaseException], ...]
) -> _Refused | _Failed | _Trouble | None:
    """Say whose fault an error is; None if it is a request to stop."""
    import av.error

    from iss_assets.media.audio import UnreadableSound
    from iss_assets.media.video import UnreadableVideo

    name = type(error).__name__
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit) or "Interrupt" in name:
        return None
    if isinstance(error, UnreadableVideo | UnreadableSound):
        return _Refused(getattr(error, "status", "unreadable"), name, str(error))
    # FFmpeg's errors come from the file, also those that have the name of an error of the operating system
    if name in _MACHINES_NAMES or (
        isinstance(error, machines_errors) and not isinstance(error, av.error.FFmpegError)
    ):
        return _Trouble(f"{name} while a video was read")
    # where it happened, without what was in the variables or the message
    return _Failed(name, "".join(traceback.format_tb(error.__traceback__)))


class _Reader:
    """A process that reads suspects, one after the other, until one of them ends it."""

    def __init__(
        self, rehearsal: Callable[[], None] | None, machines_errors: tuple[type[BaseException], ...]
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, rehearsal, machines_errors), name="suspects", daemon=True
        )
        self._process.start()
        other.close()
        try:
            answer = self._answer(time.monotonic() + _START_S, None)
        except BaseException:
            self.close()
            raise
        if not isinstance(answer, _Done):
            self.close()
            why = answer.error if isinstance(answer, _Failed) else answer.message  # type: ignore[union-attr]
            raise MachineTrouble(
                f"a test film cannot be read on this machine either ({why}); `iss doctor` looks for the reason"
            )

    @property
    def alive(self) -> bool:
        """Whether the process is there: one that waits for work may be ended by somebody too."""
        return self._process.is_alive()

    def ask(
        self, work: Callable[..., Any], args: tuple[Any, ...], seconds: float, memory_gb: float
    ) -> _Answer:
        """Let the process do ``work(*args)``; one that takes too long or too much memory is ended."""
        try:
            self._connection.send((work, args, seconds))
        except ConnectionError:
            return _Failed("died")
        return self._answer(time.monotonic() + seconds, memory_gb)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.join()
        self._process.close()

    def _answer(self, deadline: float, memory_gb: float | None) -> _Answer:
        while not self._connection.poll(_LOOK_S):
            if time.monotonic() > deadline:
                return _Failed("time")
            if memory_gb is not None and _resident_gb(self._process.pid) > memory_gb:
                return _Failed("memory")
        try:
            answer: _Answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode or 0
            if -code in _FROM_OUTSIDE:
                return _Trouble("somebody ended the process that read a video")
            return _Failed("died")
        return answer


def _serve(
    connection: Connection,
    rehearsal: Callable[[], None] | None,
    machines_errors: tuple[type[BaseException], ...],
) -> None:
    """Rehearse, then do what is asked for until the other side closes the connection."""
    # whatever the parent does with them: a child that cannot be ended is in nobody's interest
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.enable(file=sys.__stderr__ or sys.stderr)
    threading.Thread(target=end_with_parent, daemon=True).start()

    def carry_out(work: Callable[..., Any], args: tuple[Any, ...], seconds: float) -> _Answer | None:
        try:
            with _ends_in_time(seconds + _SPARE_S):
                return _Done(work(*args))
        except BaseException as error:
            return _answer_of(error, machines_errors)

    answer = carry_out(rehearsal, (), _START_S) if rehearsal else _Done(None)
    while answer is not None:
        connection.send(answer)
        try:
            asked = connection.recv()
        except EOFError:
            return
        answer = carry_out(*asked)


def end_with_parent() -> None:
    """End this process as soon as its parent is gone, however that ended; runs in a thread of its own."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _resident_gb(pid: int | None) -> float:
    """Give the memory of a process, 0 where the system does not say it in /proc."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9
