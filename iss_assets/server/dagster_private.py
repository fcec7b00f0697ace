"""Dagster's private parts that the web application needs, in one place, each with its reason.

- ``WorkspaceProcessContext``, ``GrpcServerTarget``: there is no public way to make Dagster's web app for a workspace
  without its command line, which opens a port of its own.
- ``DagsterGrpcClient``: the only way to ask a code server on a socket whether it answers.
"""

from __future__ import annotations

from pathlib import Path

from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._grpc.client import DagsterGrpcClient

__all__ = ["GrpcServerTarget", "WorkspaceProcessContext", "code_server_answers"]


def code_server_answers(socket: Path) -> bool:
    """Return whether the code server on a socket answers."""
    if not socket.exists():
        return False
    try:
        DagsterGrpcClient(socket=str(socket)).ping("")
    except Exception:  # whatever gRPC raises: it does not answer yet
        return False
    return True
