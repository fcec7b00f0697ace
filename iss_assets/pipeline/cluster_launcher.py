"""Dagster's launcher of a cluster: runs go to the workers through Celery, and those whose worker is gone are noticed.

dagster-celery asks Celery how a run is; Celery keeps a run as started forever when its worker's host goes down. The workers
know better: each says what it works on. A run that no worker has known for ``silent_s`` seconds is reported as failed, and
Dagster's run retries hand it out again. The same question finds a worker process that was killed.

If the broker does not answer, nothing is known, no run is touched, and those in Dagster's queue stay there. A worker that is
alive but cut off may go on with a run that another worker continues meanwhile: it can write nothing any more
(``defs.resources``), and the second one waits for the patient's lock.

Each version of the code and of the settings that decide about results has queues of its own. A worker that was not restarted
after a change gets no runs, instead of making tables that the daemon finds stale.

Dagster has no public API for launchers, so this uses private parts:

- ``CheckRunHealthResult``, ``WorkerStatus``: what a launcher answers when Dagster's daemon asks how a run is.
- ``LaunchRunContext``: what the daemon hands to a launcher.
- ``CeleryRunLauncher._launch_celery_task_run``: hands over what `launch_run` has packed.
- ``DagsterUserCodeUnreachableError``: the one error of a launcher after which a run stays in Dagster's queue (``run_queue`` in
  ``dagster.yaml``); after any other it counts as failed.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Self

import dagster as dg
from celery import Celery
from dagster import Field, StringSource
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_RUN_PRIORITY_TAG, DAGSTER_CELERY_TASK_ID_TAG
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from iss_assets.pipeline.cluster import DEFAULT_QUEUE, QUEUE_TAG, QUEUES
from iss_assets.pipeline.run_history import RETRY_NUMBER_TAG
from iss_assets.settings import Settings
from iss_assets.version import installed_version
from iss_assets.warehouse.ledger import code_versions
from iss_assets.warehouse.migration import SCHEMA_VERSION

_PRIORITY_TAG: Final = "dagster/priority"
TASK_TAG: Final = DAGSTER_CELERY_TASK_ID_TAG
_ANSWER_S: Final = 1.5
"""Seconds in which workers may answer."""
_FRESH_S: Final = 3.0
"""Seconds for which an answer is used, so that the daemon asks once for all runs."""
_RECONNECTING_S: Final = 45.0
"""After the broker was away, workers come back within their longest pause, 30 s."""
_UNCLAIMED_S: Final = 20.0
"""A run that was handed out this long ago, and is neither in a queue nor at a worker, is lost."""
_UNQUEUED_S: Final = 60.0
"""A run that was made this long ago, and not put into Dagster's queue, never will be: whoever made it has ended in between."""
_LOOKS: Final = 3
FIRST: Final = 0
_LATER: Final = 9
"""Priorities in Redis, where the lowest number comes first."""

BROKER_AWAY: Final = (OperationalError, RedisError, OSError)
"""What is raised when the broker does not answer."""

CELERY: Final[Mapping[str, Any]] = {
    # Dagster's storage has the results
    "task_ignore_result": True,
    "task_send_sent_event": False,
    "worker_send_task_events": False,
    # a worker takes a run when it has a process for it, and not one to keep in reserve
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # a run is taken from the queue when it begins: one that takes days is never handed out a second time
    "task_acks_late": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_transport_options": {
        "visibility_timeout": 30 * 24 * 3600,
        # two lists per queue: runs whose process or host was gone come first
        "priority_steps": [FIRST, _LATER],
        "sep": ":",
        "socket_keepalive": True,
        "socket_connect_timeout": 5,
        "health_check_interval": 10,
        "max_retries": 3,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    },
}
"""Settings of Celery, the same in the daemon and in the workers."""


def _version() -> str:
    """Return a hash of this code and of the settings that decide about results, as they are now: it takes a millisecond."""
    settings = Settings()
    parts = {
        **code_versions(settings),
        "package": installed_version(),
        "schema": str(SCHEMA_VERSION),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


def queue_of(name: str) -> str:
    """Return the name in the broker of one of the queues of this version."""
    return f"{name}@{_version()}"


class Workers:
    """What the workers of a cluster say about themselves.

    Parameters
    ----------
    app : celery.Celery
        The cluster's Celery application.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def tasks(self, *, waiting: bool = False) -> set[str]:
        """Return the ids of what the workers execute, and with `waiting` also of what waits for one.

        Raises
        ------
        kombu.exceptions.OperationalError, redis.exceptions.RedisError, OSError
            If the broker does not answer.
        """
        # what waits first: a run that a worker takes in between is then seen twice and not missed
        found = self._queued() if waiting else set[str]()
        asked = self._app.control.inspect(timeout=_ANSWER_S)
        replies = [asked.active() or {}]
        if waiting:
            replies.append(asked.reserved() or {})
        return found | {task["id"] for reply in replies for tasks in reply.values() for task in tasks}

    def queues(self) -> dict[str, list[str]]:
        """Return the workers that answer, each with the queues of this version that it serves; the same errors as `tasks`.

        Workers of another version serve none.
        """
        self.require_broker()
        replies = self._app.control.inspect(timeout=_ANSWER_S).active_queues() or {}
        ours = {queue_of(name): name for name in QUEUES}
        return {
            name: sorted(ours[queue["name"]] for queue in queues if queue["name"] in ours)
            for name, queues in replies.items()
        }

    def waiting(self) -> int:
        """Return how many runs wait for a worker; the same errors as `tasks`."""
        return len(self._queued())

    def require_broker(self) -> None:
        """Raise an error if the broker does not answer."""
        with self._app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)

    def broker_up_s(self) -> float:
        """Return how long ago the broker was started; the same errors as `tasks`."""
        with self._app.connection_for_read() as connection:
            return float(connection.default_channel.client.info("server")["uptime_in_seconds"])

    def _queued(self) -> set[str]:
        with self._app.connection_for_read() as connection:
            client = connection.default_channel.client
            lists = [name for queue in map(queue_of, QUEUES) for name in (queue, f"{queue}:{_LATER}")]
            messages = [message for name in lists for message in client.lrange(name, 0, -1)]
        return {json.loads(message)["headers"]["id"] for message in messages}


class ClusterLauncher(CeleryRunLauncher):
    """Hands runs to the workers, and notices workers that are gone.

    Parameters
    ----------
    broker : str
        Address of the Redis database.
    silent_s : float
        A run that no worker has known for this long is over.
    inst_data
        Dagster's own.
    """

    def __init__(self, broker: str, silent_s: float, inst_data: Any = None) -> None:
        super().__init__(
            default_queue=DEFAULT_QUEUE, broker=broker, config_source=dict(CELERY), inst_data=inst_data
        )
        self.workers = Workers(self.celery)
        self._silent_s = silent_s
        self._known: tuple[float, set[str] | None] = (float("-inf"), None)
        self._patient_until = 0.0
        self._missing_since: dict[str, float] = {}

    @classmethod
    def config_type(cls) -> Any:
        """Return what ``dagster.yaml`` may say."""
        return {"broker": StringSource, "silent_s": Field(float)}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        """Create the launcher from the settings in ``dagster.yaml``."""
        return cls(inst_data=inst_data, **config_value)

    @property
    def supports_resume_run(self) -> bool:
        """Return False: a run whose process is gone is done again, by a run of its own."""
        return False

    def launch_run(self, context: LaunchRunContext) -> None:
        """Hand a run to the workers, ahead of others if it continues the work of one whose process or host is gone.

        Raises
        ------
        DagsterUserCodeUnreachableError
            If the broker does not answer; the run stays in Dagster's queue then.
        """
        run = context.dagster_run
        priority = str(FIRST if RETRY_NUMBER_TAG in run.tags else _LATER)
        queue = queue_of(run.tags.get(QUEUE_TAG, DEFAULT_QUEUE))
        prior = run.with_tags({**run.tags, DAGSTER_CELERY_RUN_PRIORITY_TAG: priority, QUEUE_TAG: queue})
        try:
            super().launch_run(context._replace(dagster_run=prior))
        except BROKER_AWAY as error:
            raise DagsterUserCodeUnreachableError(
                f"the broker does not answer ({type(error).__name__}); the run stays in the queue"
            ) from None

    def _launch_celery_task_run(self, run: dg.DagsterRun, task_signature: Any, routing_key: str) -> None:
        """Note the task's id on the run, and then hand it over.

        dagster-celery does it the other way round. Dagster reads all tags of a run to write one, so that a worker that begins at
        once, and notes which process it is, can take the task's id from the run again.
        """
        task = str(uuid.uuid4())
        self._instance.add_run_tags(run.run_id, {TASK_TAG: task})
        task_signature.apply_async(
            task_id=task,
            priority=int(run.tags[DAGSTER_CELERY_RUN_PRIORITY_TAG]),
            queue=run.tags[QUEUE_TAG],
            routing_key=f"{run.tags[QUEUE_TAG]}.{routing_key}",
        )
        self._instance.report_engine_event("The run was handed to the broker.", run, cls=type(self))

    def terminate(self, run_id: str) -> bool:
        """End a run's process; it is canceled and not retried."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        task = run.tags.get(TASK_TAG)
        if task is None:
            return False
        # also drops it where it still waits in a queue
        self.celery.control.revoke(task, terminate=True, signal="SIGTERM")
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether a worker has known of a started run within the last seconds."""
        task, now = run.tags.get(TASK_TAG, ""), time.monotonic()
        known = self._ask()
        if known is None or task in known:
            self._missing_since.pop(task, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        since = self._missing_since.setdefault(task, now)
        if now - since < self._silent_s or now < self._patient_until:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._missing_since.pop(task, None)
        # the run that continues its work begins with its tags, and so leaves Dagster's queue first
        self._instance.add_run_tags(run.run_id, {_PRIORITY_TAG: "1"})
        return CheckRunHealthResult(WorkerStatus.FAILED, "no worker knows of it: its process or host is gone")

    def _ask(self) -> set[str] | None:
        """Return what workers execute, asked a moment ago at most; None if the broker does not answer."""
        asked_at, known = self._known
        if time.monotonic() - asked_at > _FRESH_S:
            try:
                self.workers.require_broker()
                known = self.workers.tasks()
            except BROKER_AWAY:
                known = None
                self._missing_since.clear()
                self._patient_until = time.monotonic() + _RECONNECTING_S
            self._known = time.monotonic(), known
        return known

    def get_run_worker_debug_info(
        self, run: dg.DagsterRun, include_container_logs: bool | None = True
    ) -> str | None:
        """Return nothing more than the run's tags say."""
        return None

    def lost_runs(self, records: Sequence[dg.RunRecord]) -> list[dg.DagsterRun]:
        """Return the runs that will never begin: not put into Dagster's queue, or in no queue of the broker and at no worker.

        Parameters
        ----------
        records : sequence of dagster.RunRecord
            Runs with the status NOT_STARTED or STARTING.
        """
        now = time.time()
        lost: list[dg.DagsterRun] = []
        suspects: list[dg.DagsterRun] = []
        for record in records:
            run, since = record.dagster_run, now - record.update_timestamp.timestamp()
            if run.status == dg.DagsterRunStatus.NOT_STARTED:
                lost += [run] if since > _UNQUEUED_S else []
            elif since > _UNCLAIMED_S:
                # without the tag it was never handed out: the daemon ended in between
                (suspects if TASK_TAG in run.tags else lost).append(run)
        for _ in range(_LOOKS):
            if not suspects:
                break
            try:
                self.workers.require_broker()
                if self.workers.broker_up_s() < _RECONNECTING_S:
                    return lost
                known: Collection[str] = self.workers.tasks(waiting=True)
            except BROKER_AWAY:
                return lost
            suspects = [run for run in suspects if run.tags[TASK_TAG] not in known]
        return lost + suspects

    def unserved_runs(self, records: Sequence[dg.RunRecord]) -> int:
        """Return how many runs wait for a worker that is not there; all of them if the broker does not answer.

        Parameters
        ----------
        records : sequence of dagster.RunRecord
            Runs with the status QUEUED or STARTING.
        """
        waiting = [r.dagster_run for r in records if r.dagster_run.status == dg.DagsterRunStatus.STARTING]
        wanted = [run.tags.get(QUEUE_TAG, DEFAULT_QUEUE) for run in waiting]
        served: set[str] = set()
        for _ in range(_LOOKS):
            if served >= set(wanted):
                break
            try:
                served |= {queue for queues in self.workers.queues().values() for queue in queues}
            except BROKER_AWAY:
                return len(records)
        return sum(queue not in served for queue in wanted)
