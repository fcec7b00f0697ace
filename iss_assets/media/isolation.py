"""Isolation: one bad file costs one file, even if it crashes, hangs or exhausts the process that reads it.

`Guard` runs a stage on one video after another. A suspect (see ``journal``), and a video whose reading raised an
error, is read again in a separate process with limits on time and memory. If that fails too, the file is at fault
(`BrokenFile`). A killed worker, a power failure or a full disk is never blamed on the file: either the second try
succeeds, or the machine is at fault (`MachineError`) and the next run tries again.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

from iss_assets.media.errors import (
    BrokenFile,
    ChangedFile,
    MachineError,
    RefusedFile,
    UnreadableSound,
    UnreadableVideo,
)
from iss_assets.media.journal import Journal, Reading, Stage, same_file
from iss_assets.protocol.recordings import recording_of

T = TypeVar("T")

_POLL_S: Final = 0.2
"""Seconds between two checks of the memory of a process that reads a suspect."""
_START_S: Final = 600.0
"""Longest start of such a process on a slow and busy machine, self-test included."""
_GRACE_S: Final = 60.0
"""A process whose parent is gone ends itself this many seconds after its time limit."""
_OUTSIDE_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Signals by which people and systems end programs. SIGKILL is not among them: Linux sends it to processes that take
too much memory."""
_MACHINE_ERRORS: Final = (ImportError, OSError)
_MACHINE_ERROR_NAMES: Final = frozenset({"OutOfMemoryError", "AcceleratorError"})
"""Errors of a shared GPU."""
_SUBJECTS: Final[Mapping[Stage, str]] = {
    "probe": "Reading it",
    "picture": "Reading it",
    "landmarks": "Finding landmarks in it",
    "sound": "Reading its sound",
    "quality": "Measuring its quality",
    "thermal": "Reading it",
}


class Guard:
    """Runs one stage on one patient's videos so that no video stops the others.

    Parameters
    ----------
    journal : Journal
        The home's journal.
    patient_id : str
        The patient. If a process died on one of the patient's videos, all of them are read in a separate process:
        the run that finds one suspect does not die on the next.
    memory_gb : float
        Memory limit of that process in GB.
    self_test : callable, optional
        Runs the stage on a test video. If that fails too, the machine is at fault.
    machine_errors : tuple of exception classes, optional
        Errors that are not the file's fault, in addition to those of the operating system.
    log : callable, optional
        Called with lines for the log: ids, error classes and code locations.
    """

    def __init__(
        self,
        journal: Journal,
        patient_id: str,
        memory_gb: float,
        *,
        self_test: Callable[[], None] | None = None,
        machine_errors: tuple[type[BaseException], ...] = (),
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._journal = journal
        self._memory_gb = memory_gb
        self._self_test = self_test
        self._machine_errors = (*_MACHINE_ERRORS, *machine_errors)
        self._log = log or (lambda line: None)
        self._isolate_all = bool(journal.suspects(patient_id))
        self._reader: _Reader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def attempt(self, reading: Reading, work: Callable[..., T], *args: Any) -> T:
        """Call ``work(*args)`` and return its result.

        Parameters
        ----------
        reading : Reading
            The stage and the video.
        work : callable
            A module-level function: it, its arguments and its result must be picklable.
        *args
            Arguments of `work`.

        Raises
        ------
        BrokenFile
            If the file is at fault: a `RefusedFile` if the reader reports it.
        ChangedFile
            If the file is no longer the one that was hashed.
        MachineError
            If the test video fails too, or someone ended the process that read the file.
        Exception
            Any error that is the machine's fault: a full disk, a lock.
        """
        with self._journal.entry(reading) as entry:
            failures = ["died"] if entry.died else []
            if not entry.died and not self._isolate_all:
                try:
                    with _time_limited(reading.seconds):
                        result = work(*args)
                    return self._checked(reading, result)
                except ChangedFile:
                    raise
                except BaseException as error:
                    answer = _classified(error, self._machine_errors)
                    if answer is None:
                        raise
                    if isinstance(answer, _MachineFailed):
                        self._require_unchanged(reading)
                        raise
                    if isinstance(answer, _Refused):
                        self._require_unchanged(reading)
                        raise RefusedFile(answer.status, answer.error, answer.message) from None
                    self._log_failure(reading, answer)
                    failures.append(answer.error)
            entry.keep = True
            try:
                result = self._attempt_in_process(reading, failures, work, args)
            except (BrokenFile, ChangedFile):
                entry.keep = False
                raise
            entry.keep = False
            return result  # type: ignore[no-any-return]

    def _attempt_in_process(
        self, reading: Reading, failures: list[str], work: Callable[..., Any], args: tuple[Any, ...]
    ) -> Any:
        """Try in another process until it succeeds or has failed twice, counting earlier failures."""
        try:
            while True:
                if self._reader is None or not self._reader.alive:
                    self._close()
                    self._reader = _Reader(self._self_test, self._machine_errors)
                answer = self._reader.ask(work, args, reading.seconds, self._memory_gb)
                if isinstance(answer, _Done):
                    return self._checked(reading, answer.result)
                if isinstance(answer, _MachineFailed):
                    self._close()
                    self._require_unchanged(reading)
                    raise MachineError(answer.message)
                if isinstance(answer, _Refused):
                    self._require_unchanged(reading)
                    raise RefusedFile(answer.status, answer.error, answer.message)
                self._log_failure(reading, answer)
                self._close()
                failures.append(answer.error)
                if len(failures) >= 2:
                    self._require_unchanged(reading)
                    raise BrokenFile(answer.error, _broken_message(reading, answer.error, self._memory_gb))
        finally:
            if not self._isolate_all:
                self._close()

    def _checked(self, reading: Reading, result: T) -> T:
        """Return the result, provided that it comes from the file that was hashed."""
        # a disk that fails midway looks like a damaged file
        self._require_unchanged(reading, thorough=bool(getattr(result, "problem", None)))
        return result

    def _require_unchanged(self, reading: Reading, *, thorough: bool = True) -> None:
        if not same_file(reading, thorough=thorough):
            raise ChangedFile("The file went away or changed while it was read; the next run reads it again.")

    def _log_failure(self, reading: Reading, answer: _Failed) -> None:
        self._log(f"video {reading.video_id}, {reading.stage}: {answer.error}\n{answer.where}".rstrip())

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _broken_message(reading: Reading, error: str, memory_gb: float) -> str:
    stage = recording_of(reading.stage)[1]
    subject = _SUBJECTS.get(stage, f"Measuring its {stage}")
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
def _time_limited(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer: a decoder in an endless loop cannot be stopped in any other way.

    The video is then a suspect. The watchdog is C code: it does not need the GIL, and prints every thread's stack.
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


class _MachineFailed(NamedTuple):
    message: str


_Answer = _Done | _Refused | _Failed | _MachineFailed


def _classified(
    error: BaseException, machine_errors: tuple[type[BaseException], ...]
) -> _Refused | _Failed | _MachineFailed | None:
    """Return whose fault an error is; None if it is a request to stop."""
    import av.error

    name = type(error).__name__
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit) or "Interrupt" in name:
        return None
    if isinstance(error, UnreadableVideo | UnreadableSound):
        return _Refused(getattr(error, "status", "unreadable"), name, str(error))
    # FFmpeg's errors come from the file, even those named like an error of the operating system
    if name in _MACHINE_ERROR_NAMES or (
        isinstance(error, machine_errors) and not isinstance(error, av.error.FFmpegError)
    ):
        return _MachineFailed(f"{name} while a video was read")
    # code locations only: variables and messages may quote patient data
    return _Failed(name, "".join(traceback.format_tb(error.__traceback__)))


class _Reader:
    """A process that reads suspects one after another until one of them ends it."""

    def __init__(
        self, self_test: Callable[[], None] | None, machine_errors: tuple[type[BaseException], ...]
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, self_test, machine_errors), name="suspects", daemon=True
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
            raise MachineError(
                f"this machine cannot read a test video either ({why}); run `iss doctor` to find out why"
            )

    @property
    def alive(self) -> bool:
        """Whether the process is running: someone may also end one that waits for work."""
        return self._process.is_alive()

    def ask(
        self, work: Callable[..., Any], args: tuple[Any, ...], seconds: float, memory_gb: float
    ) -> _Answer:
        """Call ``work(*args)`` in the process, and end it if it takes too long or too much memory."""
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
        while not self._connection.poll(_POLL_S):
            if time.monotonic() > deadline:
                return _Failed("time")
            if memory_gb is not None and _resident_gb(self._process.pid) > memory_gb:
                return _Failed("memory")
        try:
            answer: _Answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode or 0
            if -code in _OUTSIDE_SIGNALS:
                return _MachineFailed("someone ended the process that read a video")
            return _Failed("died")
        return answer


def _serve(
    connection: Connection,
    self_test: Callable[[], None] | None,
    machine_errors: tuple[type[BaseException], ...],
) -> None:
    """Run the self-test, then serve requests until the other side closes the connection."""
    # whatever the parent does with these signals, the child must stay possible to end
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.enable(file=sys.__stderr__ or sys.stderr)
    threading.Thread(target=end_with_parent, daemon=True).start()

    def run(work: Callable[..., Any], args: tuple[Any, ...], seconds: float) -> _Answer | None:
        try:
            with _time_limited(seconds + _GRACE_S):
                return _Done(work(*args))
        except BaseException as error:
            return _classified(error, machine_errors)

    answer = run(self_test, (), _START_S) if self_test else _Done(None)
    while answer is not None:
        connection.send(answer)
        try:
            asked = connection.recv()
        except EOFError:
            return
        answer = run(*asked)


def end_with_parent() -> None:
    """End this process as soon as its parent is gone, however the parent ended; runs in its own thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _resident_gb(pid: int | None) -> float:
    """Return the resident memory of a process in GB; 0 where the system has no /proc."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9
