"""Runs of patients, and the command ``iss``, without the processes that they start: those load everything anew."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any
from unittest import mock

import pytest
from typer.testing import CliRunner

from iss_assets.cli import main
from iss_assets.pipeline import workers
from iss_assets.pipeline.job_runs import Outcome


class ThisProcess:
    """Stands in for the pool of worker processes: a new one takes ten seconds to load what this process has loaded."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def shutdown(self) -> None:
        workers._worker_instance().dispose()

    def submit(self, work: Callable[[str], Outcome], patient: str) -> Future[Outcome]:
        workers._worker_instance.cache_clear()
        done: Future[Outcome] = Future()
        done.set_result(work(patient))
        return done


def quiet(*_: object) -> None:
    """Ignore progress."""


def work_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run patients in this process instead of in workers."""
    monkeypatch.setattr(workers, "ProcessPoolExecutor", ThisProcess)
    monkeypatch.setattr(workers, "_freeze_loaded_objects", quiet)


def iss_in_this_process(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Execute a command as `iss` would, with definitions of its own: the environment says which assets there are."""
    sys.modules.pop("iss_assets.definitions", None)
    with mock.patch.object(sys, "__stderr__", _kept_open()):
        done = CliRunner().invoke(main.app, list(arguments))
    told = done.stderr
    if done.exc_info and not isinstance(done.exception, SystemExit | None):
        told += "".join(traceback.format_exception(*done.exc_info))
    return subprocess.CompletedProcess(["iss", *arguments], done.exit_code, done.stdout, told)


def _kept_open() -> Any:
    """Return the stream of absl's log handler, if there is one.

    When Dagster sets up logging, that handler closes its stream unless it is one of the process's: it would be the one in
    which pytest captures what is printed.
    """
    absl = sys.modules.get("absl.logging")
    return absl.get_absl_handler().python_handler.stream if absl else sys.__stderr__


def run_iss_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `subprocess.run` execute ``iss run`` and ``iss status`` here, and everything else as ever."""
    work_in_this_process(monkeypatch)
    start = subprocess.run

    def run(command: Sequence[str], *arguments: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
        if command[0].endswith("/iss") and command[1] in ("run", "status"):
            return iss_in_this_process(command[1:])
        return start(command, *arguments, **options)

    monkeypatch.setattr(subprocess, "run", run)
