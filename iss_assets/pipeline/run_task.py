"""The task of Celery that executes a run: words in processes of their own, as `iss run` has them (`pipeline.workers`).

What extraction has loaded stays in a process, and words need almost as much again. A process that has executed runs of one
kind and gets one of the other gives it back to its queue, ahead of all others, and ends; Celery starts a new one in its place.
Words come after the runs of all patients, so that this is rare.

dagster-celery packs what a task gets; ``ExecuteRunArgs`` and ``unpack_value`` are the private parts of Dagster that read it.
"""

from __future__ import annotations

import logging
import signal
from typing import Any, Final

from billiard.common import human_status
from billiard.pool import EX_RECYCLE
from celery import Celery, Task
from dagster import DagsterInstance
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value
from dagster_celery.tasks import create_execute_job_task

from iss_assets.pipeline.cluster_launcher import BROKER_AWAY, FIRST, ClusterLauncher
from iss_assets.pipeline.planning import WORDS_JOB

_LOGGER: Final = "celery.worker.request"
_REPLACED: Final = human_status(EX_RECYCLE)


class RunTask(Task):  # type: ignore[misc]  # Celery has no types
    """Executes a run, unless this process has executed runs of the other kind."""

    gave_back = False
    """Whether this process has given a run back, and ends."""
    _did_words: bool | None = None
    """Whether this process executes words; None until its first run."""

    def __call__(self, execute_job_args_packed: Any) -> Any:
        """Execute the run, or give it back and end the process."""
        words = _job_of(execute_job_args_packed) == WORDS_JOB
        if self._did_words not in (None, words) and self._gave_back():
            # Celery's main process sends one to a process that ends, and would log that it was killed
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise SystemExit(EX_RECYCLE)
        self._did_words = words
        return self.run(execute_job_args_packed)

    def _gave_back(self) -> bool:
        """Put the run back under the same id; return False if the broker does not answer, so that it is executed here."""
        request = self.request
        try:
            self.apply_async(
                kwargs=request.kwargs,
                task_id=request.id,
                queue=request.delivery_info["routing_key"],
                priority=FIRST,
            )
        except BROKER_AWAY:
            return False
        self.gave_back = True
        return True


def cluster_app(broker: str) -> Celery:
    """Return the Celery application of a worker; a process that gave its run back is not logged as one that died."""
    app = ClusterLauncher(broker, 0.0).celery
    create_execute_job_task(app, base=RunTask)  # type: ignore[arg-type]  # annotated as if each keyword were a dict
    logging.getLogger(_LOGGER).addFilter(_died)
    return app


def _died(record: logging.LogRecord) -> bool:
    return _REPLACED not in record.getMessage()


def _job_of(packed: Any) -> str | None:
    run_id = unpack_value(packed, as_type=ExecuteRunArgs).run_id
    with DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
    return run.job_name if run else None
