"""The worker processes of `iss run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = """
import os, sys, time
from pathlib import Path
from iss_assets.pipeline import workers
from iss_assets.settings import Settings


def load():
    Path(os.environ["NOTE"]).write_text(str(os.getpid()))
    time.sleep(120)


if __name__ == "__main__":
    Settings().home.mkdir(parents=True, exist_ok=True)
    with workers.Workers(Settings(), load) as started:
        list(started.run(["0001"]))
"""


def is_there(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_command_however_it_is_ended(tmp_path: Path, sent: signal.Signals) -> None:
    script, note = tmp_path / "command.py", tmp_path / "pid"
    script.write_text(COMMAND)
    environment = {
        **os.environ,
        "NOTE": str(note),
        "ISS_HOME": str(tmp_path / "home"),
        "ISS_RUN__WORKERS": "1",
    }
    with subprocess.Popen([sys.executable, str(script)], env=environment) as command:
        until = time.monotonic() + 300
        while not (note.exists() and note.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        worker = int(note.read_text())
        assert is_there(worker)
        command.send_signal(sent)
        command.wait(120)
    until = time.monotonic() + 120
    while is_there(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_there(worker)


IN_THE_BACKGROUND = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import dagster as dg
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.job_runs import run_job
from iss_assets.settings import Settings


@dg.job
def nothing():
    pass


with open_instance(Settings()) as instance:
    assert run_job(lambda: dg.Definitions(jobs=[nothing]), instance, "nothing", "nothing").success
os.kill(os.getpid(), signal.SIGTERM)
print("still there")
"""


def test_a_command_in_the_background_can_still_be_ended(tmp_path: Path) -> None:
    environment = {**os.environ, "ISS_HOME": str(tmp_path / "home"), "ISS_STUDY": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", IN_THE_BACKGROUND],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "")
