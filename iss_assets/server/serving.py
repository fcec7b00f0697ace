"""`iss serve`: one port, one process to stop, and everything behind it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import duckdb
import uvicorn
from dagster import DagsterInstance
from dagster_webserver.app import create_app_from_workspace_process_context

from iss_assets.intake.records import StudyFolderError
from iss_assets.pipeline.home import open_instance, prepare_home
from iss_assets.privacy.one_study import require_one_study
from iss_assets.privacy.register import require_own_study
from iss_assets.server.application import DAGSTER, DagsterApps, build_application
from iss_assets.server.children import Children
from iss_assets.server.daemon_watch import DaemonWatch
from iss_assets.server.dagster_private import (
    GrpcServerTarget,
    WorkspaceProcessContext,
    code_server_answers,
)
from iss_assets.server.previews import Previews
from iss_assets.server.warehouse_watch import WarehouseWatch
from iss_assets.settings import Settings
from iss_assets.synthetic.marker import is_sample_study
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.engine import keep_running
from iss_assets.warehouse.locking import LockTimeout

STOP_S: Final = 8.0
"""Seconds from a signal or a crash after which everything is ended the hard way; operators are promised ten."""
READY_S: Final = 120.0
"""Seconds within which the code server must answer."""
_KEY_S: Final = 5.0
"""Seconds to wait for a writer before the key is tried."""
_TURN_S: Final = 5.0
"""Seconds between looks at whether the daemon is still this host's to run."""
_LONGEST_SOCKET: Final = 100
"""Bytes; the kernel takes 107 for the path of a socket."""
_SOCKET: Final = "code.sock"

Say = Callable[[str], None]


class ServeError(RuntimeError):
    """The application cannot be started."""


def serve(settings: Settings, say: Say) -> int:
    """Serve until a signal or until one of the processes ends; then this process ends, too.

    Parameters
    ----------
    settings : Settings
        Study, home, and where to listen.
    say : callable
        Prints a line for the person at the terminal.

    Returns
    -------
    int
        0 after a signal before everything had started. Later this process ends here: with status 0 after SIGINT or
        SIGTERM, 1 after a crash of a part.

    Raises
    ------
    ServeError
        If the port is taken, or a part does not start.
    ClusterProblem
        If another host of the cluster runs the daemon.
    KeyProblem
        If the home is encrypted and its key is missing or wrong.
    AnotherStudy
        If the shared warehouse is of another study.
    OtherFolder
        If the study folder is of another study than the home.
    """
    server = settings.server
    _try_key(settings)
    listening = _listen(server.host, server.port)
    port = listening.getsockname()[1]
    settings = settings.model_copy(update={"server": server.model_copy(update={"port": port})})
    keep_running()
    dagster_home = prepare_home(settings)
    # nobody is to see the faces of another study's patients
    require_one_study(settings)
    require_own_study(settings)
    with (
        _daemon_turn(settings) as is_our_turn,
        _socket_folder(settings.home.resolve()) as folder,
        _stopping() as stop,
    ):
        code_socket = folder / _SOCKET
        children = Children(settings.home / "serve.log", _environment())
        try:
            say("Starting ...")
            children.start("the code server", _code_server(code_socket, server.code_location))
            children.wait_until(lambda: stop.is_set() or code_server_answers(code_socket), READY_S)
            if stop.is_set():
                return 0
            if server.daemon:
                workspace = dagster_home / "serve.yaml"
                workspace.write_text(_workspace(code_socket, server.code_location), "utf-8")
                children.start(
                    "the daemon", [sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace)]
                )
            _run(settings, listening, code_socket, children, stop, say, is_our_turn)
        except RuntimeError as error:
            raise ServeError(str(error)) from error
        finally:
            children.stop()
            listening.close()


@contextmanager
def _daemon_turn(settings: Settings) -> Iterator[Callable[[], bool]]:
    """Be the one host of a cluster that runs the daemon; yield a function that says whether it still is."""
    storage = settings.cluster.storage
    if storage is None or not settings.server.daemon:
        yield lambda: True
        return
    # it needs the packages of the extra
    from iss_assets.pipeline.cluster_database import daemon_turn

    with daemon_turn(storage) as turn:
        yield turn.kept


def _try_key(settings: Settings) -> None:
    """Open an encrypted warehouse once: without its key no page could show anything, and no run could work."""
    quick = settings.warehouse.model_copy(update={"lock_timeout_s": _KEY_S})
    warehouse = Warehouse(settings.warehouse_path, quick)
    # where somebody writes for longer, or the file is damaged, the pages say so
    with contextlib.suppress(LockTimeout, duckdb.Error):
        if not warehouse.shared and warehouse.exists():
            warehouse.query("select 1")


def _run(
    settings: Settings,
    listening: socket.socket,
    code_socket: Path,
    children: Children,
    stop: threading.Event,
    say: Say,
    is_our_turn: Callable[[], bool],
) -> NoReturn:
    server = settings.server
    address = (
        server.public_url
        or f"{'https' if server.certificate else 'http'}://{_shown(server.host)}:{server.port}"
    )

    def announce(secret: str) -> None:
        say(f"Sign in once with this link: {address.rstrip('/')}/link?token={secret}")

    with (
        open_instance(settings) as instance,
        _dagster_apps(instance, code_socket, server.code_location) as dagster,
        closing(Previews(settings.video)) as previews,
    ):
        previews.warm_up()
        watch = DaemonWatch(settings, instance, say)
        application = build_application(
            settings,
            dagster,
            announce,
            previews,
            invented=is_sample_study(settings.study),
            daemon=watch.state,
        )
        config = uvicorn.Config(
            application, log_level="warning", access_log=False, lifespan="off", server_header=False,
            ssl_certfile=server.certificate, ssl_keyfile=server.certificate_key, timeout_graceful_shutdown=2,
            proxy_headers=bool(server.trusted_proxies), forwarded_allow_ips=list(server.trusted_proxies),
            ws="websockets-sansio",
        )  # fmt: skip
        web = _Server(config)
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        for look in (watch.run, WarehouseWatch(settings, say).run):
            threading.Thread(target=look, args=(stop,), daemon=True).start()
        lost = threading.Event()
        threading.Thread(target=_watch_turn, args=(is_our_turn, lost), daemon=True).start()
        say(f"Serving on {address}. Ctrl-C stops it.")
        ended = None
        while not stop.wait(0.3):
            with contextlib.suppress(StudyFolderError):  # pages say it
                application.state.study.forget_what_is_gone()
            ended = children.ended() or (None if thread.is_alive() else ("the web server", 1))
            if lost.is_set():
                say("Another host runs the daemon by now; everything is being stopped here.")
                ended = ("the daemon", 1)
                break
            if ended:
                say(
                    f"{ended[0]} ended with status {ended[1]}; everything is being stopped. See serve.log in the home."
                )
                break
        status = 1 if ended else 0
        threading.Timer(STOP_S, _end, (children, code_socket, status)).start()
        last_words = threading.Thread(target=watch.report_end, daemon=True)
        if ended:
            last_words.start()
        web.should_exit = True
        children.stop()
        thread.join(1)
        if ended:
            last_words.join()
        previews.close()
        # leaving Dagster's contexts and the interpreter in order takes seconds, and nothing is left to be saved
        _end(children, code_socket, status)


def _watch_turn(is_ours: Callable[[], bool], lost: threading.Event) -> None:
    """Set an event when another host has taken the daemon's turn."""
    while is_ours():
        time.sleep(_TURN_S)
    lost.set()


def _end(children: Children, code_socket: Path, status: int) -> NoReturn:
    """End this process and what is left of its children at once."""
    children.kill()
    _remove_folder_of(code_socket)
    sys.stdout.flush()
    os._exit(status)


class _Server(uvicorn.Server):
    """Without signal handlers of its own: it runs in a thread."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Set an event on SIGINT and SIGTERM instead of ending where the program stands."""
    stop = threading.Event()

    def note(number: int, _: Any) -> None:
        stop.set()

    before = {
        number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _dagster_apps(instance: DagsterInstance, code_socket: Path, location: str) -> Iterator[DagsterApps]:
    target = GrpcServerTarget(host="localhost", port=None, socket=str(code_socket), location_name=location)
    with (
        WorkspaceProcessContext(instance, target, read_only=False) as full,
        WorkspaceProcessContext(instance, target, read_only=True) as read_only,
    ):
        yield DagsterApps(
            create_app_from_workspace_process_context(full, path_prefix=DAGSTER, live_data_poll_rate=2000),
            create_app_from_workspace_process_context(
                read_only, path_prefix=DAGSTER, live_data_poll_rate=2000
            ),
        )


@contextmanager
def _socket_folder(home: Path) -> Iterator[Path]:
    """Yield a folder that only this user can enter, short enough for the path of a socket."""
    folder = home / "run"
    if len(os.fsencode(folder / _SOCKET)) <= _LONGEST_SOCKET:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        (folder / _SOCKET).unlink(missing_ok=True)
    else:
        folder = Path(tempfile.mkdtemp(prefix="iss-"))
    try:
        yield folder
    finally:
        _remove_folder_of(folder / _SOCKET)


def _remove_folder_of(code_socket: Path) -> None:
    shutil.rmtree(code_socket.parent, ignore_errors=True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, number)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        raise ServeError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listening


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _code_server(code_socket: Path, location: str) -> list[str]:
    return [
        sys.executable, "-m", "dagster", "api", "grpc", "--socket", str(code_socket),
        "--module-name", "iss_assets.definitions", "--location-name", location,
    ]  # fmt: skip


def _workspace(code_socket: Path, location: str) -> str:
    server = {"grpc_server": {"host": "localhost", "socket": str(code_socket), "location_name": location}}
    return json.dumps({"load_from": [server]}, indent=1) + "\n"  # JSON is YAML


def _environment() -> dict[str, str]:
    return {**os.environ, "DAGSTER_DISABLE_TELEMETRY": "1"}
