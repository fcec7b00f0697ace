"""What `home`, the launcher and the workers of a cluster agree on: queues, packages, environment variables."""

from __future__ import annotations

from importlib import metadata
from typing import Final

from iss_assets.settings import Settings

QUEUE_TAG: Final = "dagster-celery/queue"
"""The tag on a job that names the queue of its runs."""
DEFAULT_QUEUE: Final = "dagster"
GPU_QUEUE: Final = "gpu"
"""The queue of training and embeddings."""
LOCATION: Final = "iss_assets"
"""Name of the code location."""
QUEUES: Final = (DEFAULT_QUEUE, GPU_QUEUE)

STORAGE_VARIABLE: Final = "ISS_DAGSTER_STORAGE"
BROKER_VARIABLE: Final = "ISS_DAGSTER_BROKER"
"""Environment variables that ``dagster.yaml`` refers to, so that no file and no run record holds a password."""

PACKAGES: Final = ("dagster-postgres", "dagster-celery", "psycopg2-binary", "redis")


class ClusterProblem(ValueError):
    """The cluster is not set up completely, or a part of it does not answer; the message says which."""


def require_packages(settings: Settings) -> None:
    """Raise an error if the settings name a cluster whose packages are not installed.

    Raises
    ------
    ClusterProblem
        With the names of the missing packages.
    """
    if settings.cluster.storage is None:
        return
    if missing := missing_packages():
        raise ClusterProblem(
            f"the settings name a cluster, but {', '.join(missing)} is not installed: pip install 'iss-assets[cluster]'"
        )


def missing_packages() -> list[str]:
    """Return the packages of the extra ``cluster`` that are not installed."""
    missing = []
    for name in PACKAGES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    return missing


def storage_away(error: Exception) -> str:
    """Return that Dagster's storage does not answer, with the kind of error: its text may name the user and the host."""
    return f"Dagster's storage does not answer ({type(error).__name__}): ISS_CLUSTER__STORAGE"
