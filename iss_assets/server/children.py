"""The processes behind the web application: Dagster's code server and daemon. All of them end together.

Each child leads a process group of its own, so that what it starts (runs) ends with it, and gets SIGTERM from the
kernel when this process disappears without a word (``kill -9``).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

END_S: Final = 4.0
"""Seconds that children get to end by themselves; then they are killed."""
_PR_SET_PDEATHSIG: Final = 1


class Children:
    """Processes that belong together.

    Parameters
    ----------
    log : Path
        Where their output goes, readable by its owner only.
    environment : mapping
        Their environment variables.
    """

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self._log, self._environment = log, dict(environment)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a child under a name for messages. To be called from the main thread."""
        with open(self._log, "ab", opener=lambda p, f: os.open(p, f, 0o600)) as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment,
                start_new_session=True, preexec_fn=end_with_parent(),
            )  # fmt: skip

    def ended(self) -> tuple[str, int] | None:
        """Return name and exit status of the first child that has ended, None while all run."""
        for name, process in self._processes.items():
            status = process.poll()
            if status is not None:
                return name, status
        return None

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until something that the children do is there.

        Raises
        ------
        RuntimeError
            If a child ends, or the time is over.
        """
        until = time.monotonic() + seconds
        while not ready():
            ended = self.ended()
            if ended:
                raise RuntimeError(f"{ended[0]} ended with status {ended[1]}; {self._log.name} says why")
            if time.monotonic() > until:
                raise RuntimeError(f"not ready after {seconds:.0f} s; {self._log.name} says more")
            time.sleep(0.1)

    def stop(self) -> None:
        """End all of them and what they started: SIGTERM, then SIGKILL."""
        for process in self._processes.values():
            _signal(process, signal.SIGTERM)
        until = time.monotonic() + END_S
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        self.kill()
        for process in self._processes.values():
            process.wait()

    def kill(self) -> None:
        """End all of them and what they started at once."""
        for process in self._processes.values():
            _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def end_with_parent() -> Callable[[], None]:
    """Return what a child runs before its program, so that the kernel ends it with this process."""
    parent = os.getpid()

    def prepare() -> None:
        with contextlib.suppress(OSError, AttributeError):  # Linux only
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
