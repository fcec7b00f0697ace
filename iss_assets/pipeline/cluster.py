"""What `home`, the launcher and the workers of a cluster agree on: queues, packages, environment variables."""

from __future__ import annotations

import fcntl
import os
import socket
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, Final

from iss_assets.settings import Settings
from iss_assets.warehouse.data_places import place_of
from iss_assets.warehouse.locking import hold

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

_HOST_FILE: Final = "host-"
_HOST_TIMEOUT_S: Final = 60.0
_kept_alone: dict[Path, BinaryIO] = {}
"""Homes that this process keeps other hosts out of, for as long as it runs."""

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


def use_scratch(settings: Settings) -> None:
    """Let this process, and those that it starts, put temporary files into the folder on this host's own disk.

    Raises
    ------
    ClusterProblem
        If the folder is one that other hosts see, too.
    """
    scratch = settings.cluster.scratch
    if scratch is None:
        return
    shared = [settings.home]
    if settings.warehouse.data_path and (data := place_of(settings.warehouse).folder):
        shared.append(data)
    if any(scratch.resolve().is_relative_to(folder.resolve()) for folder in shared):
        raise ClusterProblem(
            "ISS_CLUSTER__SCRATCH is in the home or in the data folder, which all hosts see; name a folder on this host's own disk"
        )
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["TMPDIR"] = str(scratch.resolve())


def require_one_host(settings: Settings) -> None:
    """Raise an error if another host works on a home whose warehouse is a file; otherwise keep other hosts out of it.

    DuckDB's file is not made for hosts that change it in turn through a network file system. On one host, a broker with any number
    of workers may use it.

    Raises
    ------
    ClusterProblem
        If processes on another host are using it.
    """
    home = settings.home.resolve()
    if settings.cluster.broker is None or settings.warehouse.catalog is not None or home in _kept_alone:
        return
    # each host has a file that its processes hold together
    mine = home / f"{_HOST_FILE}{host_id()}"
    with hold(home / "host.lock", exclusive=True, timeout_s=_HOST_TIMEOUT_S):
        for path in home.glob(f"{_HOST_FILE}*"):
            if path == mine:
                continue
            with path.open("ab") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise ClusterProblem(
                        "another host works on this home, and its warehouse is a file, which one host can use at a time. For "
                        "several hosts, set ISS_WAREHOUSE__CATALOG and ISS_WAREHOUSE__DATA_PATH on all of them; see: iss guide "
                        "shared_warehouse"
                    ) from None
                path.unlink()
        file = mine.open("ab")
        fcntl.flock(file, fcntl.LOCK_SH)
    _kept_alone[home] = file


def host_id() -> str:
    """Return what tells this host from others, the same in all its containers, until it is started again."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return socket.gethostname()


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
