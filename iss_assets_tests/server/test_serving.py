"""``iss serve`` as a process: everything behind one port, and everything ends together."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from iss_assets_tests.alerting.receiver import Receiver

STARTS_S, ENDS_S = 120.0, 10.0


class Served:
    """A running ``iss serve``."""

    def __init__(self, process: subprocess.Popen[str], mark: str, address: str, link: str) -> None:
        self.process, self.mark, self.address, self.link = process, mark, address, link
        self.browser = httpx2.Client(base_url=address, headers={"Origin": address}, timeout=30)

    def sign_in(self) -> None:
        assert self.browser.get(self.link).status_code == 303

    def children(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue
                if f"ISS_TEST_MARK={self.mark}".encode() in environment:
                    found.append(int(entry.name))
        return [pid for pid in found if pid != self.process.pid]

    def wait_until_gone(self) -> float:
        """Wait for the process and all that it started; return seconds."""
        began = time.monotonic()
        self.process.wait(ENDS_S)
        while self.children():
            assert time.monotonic() - began < ENDS_S, self.children()
            time.sleep(0.05)
        return time.monotonic() - began


@contextmanager
def serving(tmp_path: Path, **settings: str) -> Iterator[Served]:
    (tmp_path / "study").mkdir(exist_ok=True)
    mark = f"{tmp_path.name}-{os.getpid()}-{time.monotonic_ns()}"
    environment = {**os.environ, "ISS_TEST_MARK": mark, "ISS_HOME": str(tmp_path / "home"), **settings}
    command = [
        sys.executable,
        "-m",
        "iss_assets.cli",
        "serve",
        "--study",
        str(tmp_path / "study"),
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        [*command, "--home", str(tmp_path / "home")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment,
    )  # fmt: skip
    link = address = ""
    said = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"https?://\S+/link\?token=\S+", line):
                link = found[0]
            if found := re.search(r"Serving on (\S+?)\. ", line):
                address = found[1]
                break
        assert link and address, "".join(said)
        yield Served(process, mark, address, link)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(ENDS_S + 5)


@pytest.mark.slow
def test_one_port_serves_pages_and_dagster_and_a_signal_ends_everything(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        browser = served.browser
        assert browser.get("/health").text == "ok\n"
        assert browser.get("/dagster/server_info").status_code == 401
        served.sign_in()
        assert "Study" in browser.get("/").text
        assert '"assetPrefix":"/dagster"' in browser.get("/dagster/").text
        query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { pipelines { name } } } } }"
        found = browser.post("/dagster/graphql", json={"query": query}).json()["data"]["repositoriesOrError"]
        assert "patient" in {p["name"] for p in found["nodes"][0]["pipelines"]}
        # nothing else listens: the code server is on a socket that only this user can reach
        listening = _listening_ports([served.process.pid, *served.children()])
        assert listening == {int(served.address.rsplit(":", 1)[1])}
        folder = tmp_path / "home" / "run"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(served.children()) >= 2
        served.process.send_signal(signal.SIGTERM)
        assert served.wait_until_gone() < ENDS_S
        assert served.process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["grpc", "daemon", "itself"])
def test_a_part_that_crashes_ends_the_others_and_is_an_alert(tmp_path: Path, victim: str) -> None:
    receiver = Receiver()
    with serving(tmp_path, ISS_ALERTS__URLS=json.dumps([receiver.url])) as served:
        words = {"grpc": b"grpc\0--socket", "daemon": b"dagster._daemon"}
        pid = served.process.pid
        if victim in words:
            (pid,) = (
                child
                for child in served.children()
                if words[victim] in Path(f"/proc/{child}/cmdline").read_bytes()
            )
        os.kill(pid, signal.SIGKILL)
        assert served.wait_until_gone() < ENDS_S
        assert served.process.returncode == (1 if victim in words else -signal.SIGKILL)
    said = [message["message"] for message in receiver.got]
    assert [("daemon is silent" in text) for text in said] == ([True] if victim in words else [])


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "study").mkdir()
        found = subprocess.run(
            [sys.executable, "-m", "iss_assets.cli", "serve", "--port", str(port), "--home", str(tmp_path / "home")],
            capture_output=True, text=True,
        )  # fmt: skip
    assert found.returncode == 2 and "cannot listen on" in found.stderr and "Traceback" not in found.stderr


def _listening_ports(pids: list[int]) -> set[int]:
    """Return the TCP ports on which these processes listen, from /proc."""
    sockets = set()
    for pid in pids:
        try:
            handles = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        for handle in handles:
            try:
                sockets.add(str(handle.readlink()))
            except OSError:
                continue
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and f"socket:[{parts[9]}]" in sockets:
                found.add(int(parts[1].rsplit(":", 1)[1], 16))
    return found
