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
from iss_assets.pipeline import launcher
from iss_assets.settings import Settings


def load():
    Path(os.environ["NOTE"]).write_text(str(os.getpid()))
    time.sleep(120)


if __name__ == "__main__":
    Settings().home.mkdir(parents=True, exist_ok=True)
    list(launcher.run_patients(["0001"], Settings(), load))
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
        until = time.monotonic() + 60
        while not (note.exists() and note.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        worker = int(note.read_text())
        assert is_there(worker)
        command.send_signal(sent)
        command.wait(30)
    until = time.monotonic() + 20
    while is_there(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_there(worker)
