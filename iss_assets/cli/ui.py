"""``iss ui``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

from iss_assets.cli.options import Home, Study, load_settings, user_errors
from iss_assets.pipeline.home import prepare_home
from iss_assets.settings import Settings

LOCALHOST = "127.0.0.1"
SHUTDOWN_S = 7.0
"""Seconds that Dagster's processes have to end after a signal, before they are killed."""


def ui(
    study: Study = None,
    home: Home = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is this machine only.")
    ] = LOCALHOST,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
) -> None:
    """Serve Dagster's UI and daemon (sensors, schedules, the run queue)."""
    settings = load_settings(study, home)
    with user_errors():
        _require_free_port(host, port, "--port")
        _require_free_port(LOCALHOST, settings.run.reports_port, "ISS_RUN__REPORTS_PORT")
        workspace = prepare_home(settings) / "workspace.yaml"
        settings.reports_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    typer.echo(
        f"Dagster UI on http://{host}:{port}, reports on http://{LOCALHOST}:{settings.run.reports_port}"
    )
    typer.echo("Ctrl-C stops both")
    signal.signal(signal.SIGTERM, _interrupt)
    # a shell starts background jobs with SIGINT ignored, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    dagster = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "-h", host, "-p", str(port)]
    status = 0
    try:
        with _child(_reports_server(settings), output=subprocess.DEVNULL), _child(dagster) as process:
            status = process.wait()
    except KeyboardInterrupt:
        pass
    raise typer.Exit(status)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _require_free_port(host: str, port: int, option: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}); "
                f"choose another port with {option}"
            ) from error


def _reports_server(settings: Settings) -> list[str]:
    address = [str(settings.run.reports_port), "--bind", LOCALHOST]
    return [sys.executable, "-m", "http.server", *address, "--directory", str(settings.reports_dir)]


@contextmanager
def _child(command: list[str], output: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a process group of its own; on the way out, end every process of that group."""
    process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        # a second Ctrl-C must not leave processes behind
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process group as Ctrl-C does; kill what is left of it after `SHUTDOWN_S`."""
    deadline = time.monotonic() + SHUTDOWN_S
    _signal_group(process, signal.SIGINT)
    # signal 0 only asks whether any process of the group is left
    while process.poll() is None or _signal_group(process, 0):
        if time.monotonic() > deadline:
            _signal_group(process, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.05)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to every process of a group; return whether there was one."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True
