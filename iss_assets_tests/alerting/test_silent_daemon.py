"""A daemon that falls silent is an alert, sent by the web application because nobody else can."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from iss_assets.alerting.rules import Observation
from iss_assets.alerting.store import close_gone, deliver, record
from iss_assets.cli.location import load
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.run_alerts import known_of
from iss_assets.reports.quality_report import Level, quality_report
from iss_assets.server.daemon_watch import DaemonWatch
from iss_assets.settings import AlertSettings, ServerSettings, Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.alerting.receiver import Receiver
from iss_assets_tests.alerting.test_alerts import observed

SILENT_S = 6.0
# Dagster's own daemon with its own parts: each reports when it starts, and then at most every second
DAEMON = """
import sys
from dagster import DagsterInstance
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.controller import daemon_controller_from_instance
with DagsterInstance.from_config(sys.argv[1]) as instance:
    with daemon_controller_from_instance(instance, EmptyWorkspaceTarget(), heartbeat_interval_seconds=1) as controller:
        controller.check_daemon_loop()
"""


@pytest.fixture
def watched(tmp_path: Path, receivers: Callable[[], Receiver]) -> tuple[Settings, Receiver]:
    receiver = receivers()
    alerts = AlertSettings.model_validate({"urls": [receiver.url], "retry_s": 0, "timeout_s": 8})
    (tmp_path / "study").mkdir()
    return (
        Settings(
            study=tmp_path / "study",
            home=tmp_path / "home",
            alerts=alerts,
            server=ServerSettings(daemon_silent_s=SILENT_S),
        ),
        receiver,
    )


@pytest.fixture
def instance(watched: tuple[Settings, Receiver]) -> Iterator[dg.DagsterInstance]:
    with open_instance(watched[0]) as opened:
        yield opened


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_daemon_that_is_stopped_is_reported_once_and_so_is_its_return(
    watched: tuple[Settings, Receiver], instance: dg.DagsterInstance
) -> None:
    settings, receiver = watched
    warehouse = Warehouse(settings.warehouse_path)
    watch = DaemonWatch(settings, instance, pytest.fail)
    command = [sys.executable, "-c", DAEMON, str(settings.dagster_home)]
    daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: watch.state().heard)
        watch.look()
        assert watch.state().alive and not receiver.tried
        # another alert waits, and the daemon that should send it will not
        record(warehouse, [observed()])
        daemon.send_signal(signal.SIGSTOP)
        wait_for(lambda: not watch.state().alive)
        for _ in range(3):
            watch.look()
        assert sorted(message["title"] for message in receiver.got) == [
            "Study: 1 issue",
            "Study: 1 issue (patient 0012)",
        ]
        (text,) = (m["message"] for m in receiver.got if m["title"] == "Study: 1 issue")
        assert text.splitlines() == [
            "ERROR raised: whole study, The daemon is silent: nothing new is picked up (daemon / daemon_silent)",
            "   Start iss serve again; if this comes back, tell the engineer, who finds the reason in serve.log in the home.",
        ]
        (item,) = quality_report(warehouse).items
        assert item.cost.level is Level.BROKEN and item.what_to_do.startswith("Start iss serve again")
        # `iss run` closes alerts of what the program no longer looks at: this is not one of them
        changed = close_gone(warehouse, known_of(load().get_repository_def(), ["0012"]))
        assert "daemon" not in [alert.asset for alert in changed]

        daemon.kill()
        daemon.wait(120)
        daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(lambda: watch.state().alive)
        for _ in range(3):
            watch.look()
        assert [m["title"] for m in receiver.got if "issue" not in m["title"]] == ["Study: 1 resolved"]
        assert len(receiver.got) == 3 and quality_report(warehouse).items == []
    finally:
        daemon.kill()
        daemon.wait(120)


def test_nothing_is_said_of_a_daemon_that_may_still_be_starting(
    watched: tuple[Settings, Receiver], instance: dg.DagsterInstance
) -> None:
    settings, receiver = watched
    before = DaemonWatch(settings, instance, pytest.fail)
    before._record(alive=False)
    watch = DaemonWatch(settings, instance, pytest.fail)
    watch.look()
    # the alert of an earlier server is not resolved before this one's daemon was heard of
    assert [a["status"] for a in quality_report(Warehouse(settings.warehouse_path)).alerts] == ["raised"]
    assert not receiver.tried
    wait_for(lambda: not watch.state().alive)
    watch.look()
    assert len(receiver.got) == 1


def test_a_warehouse_that_cannot_be_written_now_is_written_at_the_next_look(
    watched: tuple[Settings, Receiver], instance: dg.DagsterInstance
) -> None:
    settings, receiver = watched
    said: list[str] = []
    watch = DaemonWatch(settings, instance, said.append)
    wait_for(lambda: not watch.state().alive)
    settings.warehouse_path.write_bytes(b"this is not a database")
    watch.look()
    watch.look()
    assert len(said) == 1 and not receiver.tried
    settings.warehouse_path.unlink()
    watch.look()
    assert len(receiver.got) == 1 and len(said) == 1


def test_the_sender_ends_with_the_process_that_waits_for_it(
    watched: tuple[Settings, Receiver], tmp_path: Path
) -> None:
    settings, receiver = watched
    receiver.answer = "slow"
    record(Warehouse(settings.warehouse_path), [Observation(**{**observed().__dict__})])
    mark = f"{tmp_path.name}-{os.getpid()}"

    def senders() -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                marked = entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes()
            except OSError:
                continue
            if marked and b"alerting.sender" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        return found

    child = os.fork()
    if not child:
        os.environ["ISS_TEST_MARK"] = mark
        threading.Thread(target=deliver, args=(Warehouse(settings.warehouse_path), settings)).start()
        time.sleep(60)
        os._exit(0)
    wait_for(lambda: receiver.tried > 0)
    assert len(senders()) == 1
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(lambda: not senders(), 10)
