"""Dagster's private parts that the web application needs, in one place, each with its reason.

- ``WorkspaceProcessContext``, ``GrpcServerTarget``: there is no public way to make Dagster's web app for a workspace
  without its command line, which opens a port of its own.
- ``get_daemon_heartbeats``, ``get_required_daemon_types``: not documented, and the only ways to ask whether the daemon is
  alive, short of a GraphQL request to ourselves.
- ``DagsterGrpcClient``: the only way to ask a code server on a socket whether it answers.
"""

from __future__ import annotations

from pathlib import Path

from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._grpc.client import DagsterGrpcClient

__all__ = ["GrpcServerTarget", "WorkspaceProcessContext", "code_server_answers", "last_heartbeat"]


def last_heartbeat(instance: DagsterInstance) -> float | None:
    """Return when the part of the daemon that has been silent longest reported last (Unix time); None if one never did."""
    beats = instance.get_daemon_heartbeats()
    wanted = instance.get_required_daemon_types()
    return min(beats[name].timestamp for name in wanted) if wanted and set(wanted) <= set(beats) else None


def code_server_answers(socket: Path) -> bool:
    """Return whether the code server on a socket answers."""
    if not socket.exists():
        return False
    try:
        DagsterGrpcClient(socket=str(socket)).ping("")
    except Exception:  # whatever gRPC raises: it does not answer yet
        return False
    return True
