"""Whether the parts of a cluster answer, for `iss doctor`."""

from __future__ import annotations

from dataclasses import dataclass, field

from iss_assets.pipeline.cluster import ClusterProblem
from iss_assets.pipeline.cluster_database import MOST_OFF_S, clock_off_s, clock_text
from iss_assets.pipeline.cluster_launcher import BROKER_AWAY, ClusterLauncher
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.queued_runs import require_daemon
from iss_assets.settings import Settings


@dataclass
class ClusterState:
    """What was found.

    Attributes
    ----------
    storage, broker, daemon : str
        Why the part does not answer; empty if it does.
    clock : str
        What is wrong with this host's clock; empty if nothing is.
    waiting : int
        Runs that wait in the broker for a worker.
    workers : dict
        Names of the workers that answer, each with the queues that it serves; none if its version is another one.
    """

    storage: str = ""
    broker: str = ""
    daemon: str = ""
    clock: str = ""
    waiting: int = 0
    workers: dict[str, list[str]] = field(default_factory=dict)


def look(settings: Settings) -> ClusterState:
    """Ask every part of the cluster that the settings name."""
    state = ClusterState()
    try:
        with open_instance(settings) as instance:
            off = clock_off_s(settings)
            state.clock = clock_text(off) if abs(off) > MOST_OFF_S else ""
            if settings.cluster.broker is not None:
                try:
                    require_daemon(instance)
                except ClusterProblem as problem:
                    state.daemon = str(problem)
    except ClusterProblem as problem:
        state.storage = str(problem)
    if settings.cluster.broker is not None:
        workers = ClusterLauncher(
            settings.cluster.broker.get_secret_value(), settings.cluster.silent_s
        ).workers
        try:
            state.workers = workers.queues()
            state.waiting = workers.waiting()
        except BROKER_AWAY as error:
            state.broker = f"it does not answer ({type(error).__name__})"
    return state
