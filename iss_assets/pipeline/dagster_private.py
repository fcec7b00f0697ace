"""What we use of Dagster beyond its public API, and why.

Two other modules import ``dagster._...``, since what they import is slow to load and few processes need it; each gives
its reasons in the same form: `pipeline.event_log` (workers of `iss run`) and `server.dagster_private` (the web
application). A test finds any further import. Look at these three first when a new version of Dagster breaks something.

`BulkActionStatus`
    `DagsterInstance.get_backfills` filters by it, and Dagster exports the method's argument nowhere else. Without it
    the study sensor would read every backfill that there ever was, at each tick.
`NoOpComputeLogManager`
    Named in ``worker.yaml`` (`pipeline.home`). Dagster's documentation names it by the private path, too. With the
    default one, each run of `iss run` starts two programs (``tail``) to copy what the run prints.
"""

from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager

__all__ = ["BulkActionStatus", "NoOpComputeLogManager"]
