"""Run one job of the code location in this process, as a run of the Dagster instance like any other.

The job is the same that the daemon launches; it differs only in who starts it and in the process that it runs in.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import dagster as dg

from iss_assets.intake.folder import StudyFolder
from iss_assets.pipeline.home import without_folders
from iss_assets.pipeline.prepared_read import prepared
from iss_assets.pipeline.run_history import RANGE_END_TAG, RANGE_START_TAG, process_tags

Load: TypeAlias = Callable[[], dg.Definitions]
"""Returns the definitions whose jobs are run; handed in from above, since nothing here may import them."""


@dataclass(frozen=True)
class Outcome:
    """How one run ended.

    Attributes
    ----------
    subject : str
        The patient, or what a person calls the job.
    run_id : str
        The run; empty if it never began.
    success : bool
        Whether it succeeded.
    problem : str
        Why not, in one line without paths.
    """

    subject: str
    run_id: str
    success: bool
    problem: str = ""


def run_job(
    load: Load,
    instance: dg.DagsterInstance,
    job: str,
    subject: str,
    *,
    partitions: tuple[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    folder: StudyFolder | None = None,
) -> Outcome:
    """Run one job and return how it ended.

    Parameters
    ----------
    load : callable
        Returns the definitions that the job is in.
    instance : dagster.DagsterInstance
        Where the run is recorded.
    job : str
        Name of the job.
    subject : str
        What a person calls it.
    partitions : tuple of str, optional
        First and last partition; a single one if they are the same.
    config : mapping, optional
        Run configuration.
    tags : mapping, optional
        Tags of the run besides its own.
    folder : StudyFolder, optional
        The read of the study folder that the run works on; without, it reads the folder itself.
    """
    with _restored_sigterm(), prepared(folder):
        return _execute(load, instance, job, subject, partitions, config, tags)


def _execute(
    load: Load,
    instance: dg.DagsterInstance,
    job: str,
    subject: str,
    partitions: tuple[str, str] | None,
    config: Mapping[str, Any] | None,
    tags: Mapping[str, str] | None,
) -> Outcome:
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    all_tags = {**process_tags(), **(tags or {})}
    key = None
    if partitions and partitions[0] == partitions[1]:
        key = partitions[0]
    elif partitions:
        all_tags |= {RANGE_START_TAG: partitions[0], RANGE_END_TAG: partitions[1]}
    result = (
        load()
        .resolve_job_def(job)
        .execute_in_process(
            instance=instance,
            partition_key=key,
            raise_on_error=False,
            tags=all_tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **(config or {})},
        )
    )
    return Outcome(subject, result.run_id, result.success, "" if result.success else _reason(result))


@contextmanager
def _restored_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM: after a run Dagster sets it to that of SIGINT, which a background job ignores.

    Dagster does so when the result of the run is garbage collected, so the result must be gone before this ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _reason(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            if error is not None and error.cause is not None:
                error = error.cause
            message = (error.message if error else "").strip().splitlines()
            return f"{event.step_key}: {without_folders(message[0]) if message else 'failed'}"
    return "failed; the run's log in the UI says why"
