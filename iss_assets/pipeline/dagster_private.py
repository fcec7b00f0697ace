"""What we use of Dagster beyond its public API, and why.

Four other modules import ``dagster._...``, since what they import is slow to load and few processes need it; each gives
its reasons in the same form: `pipeline.event_log` (workers of `iss run`), `pipeline.cluster_launcher` and
`pipeline.queued_runs` (several machines), and `server.dagster_private` (the web application). A test finds any further import. Look at these five first when a new version of Dagster breaks something.

`BulkActionStatus`
    `DagsterInstance.get_backfills` filters by it, and Dagster exports the method's argument nowhere else. Without it
    the study sensor would read every backfill that there ever was, at each tick.
``get_daemon_heartbeats``, ``get_required_daemon_types``
    Not documented, and the only ways to ask whether the daemon is alive, short of a GraphQL request.
`NoOpComputeLogManager`
    Named in ``worker.yaml`` (`pipeline.home`). Dagster's documentation names it by the private path, too. With the
    default one, each run of `iss run` starts two programs (``tail``) to copy what the run prints.
"""

from dagster import DagsterInstance
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager

__all__ = ["BulkActionStatus", "NoOpComputeLogManager", "last_heartbeat"]


def last_heartbeat(instance: DagsterInstance) -> float | None:
    """Return when the part of the daemon that has been silent longest reported last (Unix time); None if one never did."""
    beats = instance.get_daemon_heartbeats()
    wanted = instance.get_required_daemon_types()
    return min(beats[name].timestamp for name in wanted) if wanted and set(wanted) <= set(beats) else None
