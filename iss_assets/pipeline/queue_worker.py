"""`iss worker`: takes runs from the queues of a cluster and executes them, several at a time, each in a process of its own.

The main process starts the others before it loads anything heavy. Each executes one run after another, so that models and
packages are loaded once; words have others than the rest (`pipeline.run_task`). When the main process is gone, they end too: on a
host, everything runs or nothing does.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import secrets
import signal
import socket
import threading
import time
import warnings
from collections.abc import Sequence
from typing import Any, Final

from celery import signals
from celery.platforms import EX_OK, SecurityWarning
from celery.worker import state

from iss_assets.pipeline.cluster import ClusterProblem
from iss_assets.pipeline.cluster_database import require_clock
from iss_assets.pipeline.cluster_launcher import BROKER_AWAY, Workers, queue_of
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.run_task import RunTask, cluster_app
from iss_assets.privacy.one_study import require_one_study
from iss_assets.settings import Settings
from iss_assets.warehouse.engine import keep_running

_NOTICE_S: Final = 1.0
"""Seconds after which a process notices that the main process is gone."""
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_LOOK_S: Final = 0.2


def work(settings: Settings, queues: Sequence[str], at_once: int) -> int:
    """Execute runs until a signal; the first one lets runs that have begun finish.

    Parameters
    ----------
    settings : Settings
        The cluster, and the home that all machines see.
    queues : sequence of str
        The queues to take runs from.
    at_once : int
        Runs executed at the same time.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    ClusterProblem
        If the settings name no broker, storage or broker do not answer, or this host's clock is wrong.
    AnotherStudy
        If the shared warehouse is of another study.
    """
    if settings.cluster.broker is None:
        raise ClusterProblem(
            "a worker needs the cluster's settings: ISS_CLUSTER__BROKER and ISS_CLUSTER__STORAGE"
        )
    os.environ["ISS_RUN__WORKERS"] = str(at_once)
    threads = str(max(1, settings.run.threads // at_once))
    os.environ["ISS_RUN__THREADS"] = os.environ["OMP_NUM_THREADS"] = threads
    # creates the tables, before several processes try to
    open_instance(settings).dispose()
    require_clock(settings)
    require_one_study(settings)
    app = cluster_app(settings.cluster.broker.get_secret_value())
    try:
        Workers(app).require_broker()
    except BROKER_AWAY as error:
        raise ClusterProblem(
            f"the broker does not answer ({type(error).__name__}): ISS_CLUSTER__BROKER"
        ) from None
    signals.worker_process_init.connect(_start_process)
    signals.task_postrun.connect(_restore_sigterm)
    # Celery holds receivers weakly
    signals.worker_ready.connect(_End, weak=False)
    # its advice is an option that this command does not have; docs/cluster.md says who should run it
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = app.Worker(
        # several workers of a host are told apart
        hostname=f"iss-{secrets.token_hex(3)}@{socket.gethostname()}",
        queues=[queue_of(name) for name in queues],
        concurrency=at_once,
        pool="prefork",
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


class _End:
    """Ends a worker that got a signal when the runs that it has begun are finished, and at the second signal at once.

    Until then it answers that it executes them. Celery's own way to end stops answering first, and the daemon would take these
    runs for gone and hand them out again.

    Parameters
    ----------
    sender : celery.worker.consumer.Consumer
        What takes runs from the queues; it is ready.
    """

    def __init__(self, sender: Any, **_: Any) -> None:
        self._consumer = sender
        for number in _ENDING:
            signal.signal(number, self._end)

    def _end(self, number: int, _: Any) -> None:
        for each in _ENDING:
            signal.signal(each, lambda *_: os._exit(1))
        # the main thread may hold a lock that is needed
        threading.Thread(target=self._finish, daemon=True).start()

    def _finish(self) -> None:
        consumer = self._consumer
        queues = [*consumer.app.amqp.queues.consume_from]
        for name in queues:
            consumer.call_soon(consumer.cancel_task_queue, name)
        while state.reserved_requests or self._takes_from(queues):
            time.sleep(_LOOK_S)
        state.should_stop = EX_OK

    def _takes_from(self, queues: Sequence[str]) -> bool:
        # there is none when the consumer has shut down
        taker = self._consumer.task_consumer
        return taker is not None and any(map(taker.consuming_from, queues))


def _start_process(**_: Any) -> None:
    """Prepare a process that executes runs."""
    parent = os.getppid()
    threading.Thread(target=_end_without, args=(parent,), daemon=True).start()
    # Celery marks its processes as ones that may start no others; reading a video that failed starts one
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # there is no other way
    settings = Settings()
    keep_running(settings.run.threads)
    # what MediaPipe's C++ and Dagster print, with ids of patients
    path = settings.home / f"worker-{socket.gethostname()}.log"
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    faulthandler.enable()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_NOTICE_S)
    os._exit(1)


def _restore_sigterm(task: RunTask, **_: Any) -> None:
    """Let SIGTERM end the process again: after a run, Dagster sets it to what SIGINT does, and that is nothing here."""
    if not task.gave_back:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
