"""``iss serve`` as a process: everything behind one port, and everything ends together."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from iss_assets.settings import Settings
from iss_assets.warehouse.conversion import convert
from iss_assets.warehouse.keys import forget_keys, new_key, read_key, write_key
from iss_assets_tests.alerting.receiver import Receiver
from iss_assets_tests.cli.processes import Iss
from iss_assets_tests.server.invented_study import make_study

STARTS_S, ENDS_S = 300.0, 30.0


class Served:
    """A running ``iss serve``."""

    def __init__(
        self, process: subprocess.Popen[str], mark: str, address: str, link: str, trust: ssl.SSLContext
    ) -> None:
        self.process, self.mark, self.address, self.link = process, mark, address, link
        self.browser = httpx2.Client(base_url=address, headers={"Origin": address}, timeout=120, verify=trust)

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
        trust = ssl.create_default_context(cafile=settings.get("ISS_SERVER__CERTIFICATE"))
        yield Served(process, mark, address, link, trust)
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
@pytest.mark.parametrize(
    "victim", [*(pytest.param(part, marks=pytest.mark.thorough) for part in ("grpc", "daemon")), "itself"]
)
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


def self_made_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for this machine and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@pytest.mark.slow
def test_with_a_certificate_and_a_long_path_it_speaks_https_and_leaves_no_folder_elsewhere(
    tmp_path: Path,
) -> None:
    certificate, key = self_made_certificate(tmp_path)
    long, elsewhere = tmp_path / ("a long name " * 9), tmp_path / "t"
    long.mkdir()
    elsewhere.mkdir()
    with serving(
        long, TMPDIR=str(elsewhere), ISS_SERVER__CERTIFICATE=str(certificate), ISS_SERVER__CERTIFICATE_KEY=str(key)
    ) as served:  # fmt: skip
        assert served.address.startswith("https://") and served.link.startswith("https://")
        answer = served.browser.get(served.link)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-") and "; Secure" in cookie and "HttpOnly" in cookie
        assert served.browser.get("/").status_code == 200
        assert "max-age" in served.browser.get("/health").headers["strict-transport-security"]
        with pytest.raises(httpx2.TransportError):  # no plain HTTP beside it
            httpx2.get(served.address.replace("https", "http") + "/health")
        (sockets,) = elsewhere.glob("iss-*")
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700 and (sockets / "code.sock").is_socket()
        served.process.send_signal(signal.SIGTERM)
        assert served.wait_until_gone() < ENDS_S
        assert served.process.returncode == 0
    assert list(elsewhere.glob("iss-*")) == []


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


@pytest.fixture
def encrypted(tmp_path: Path, empty_warehouse: Path) -> Iterator[dict[str, Path]]:
    """An encrypted home with invented patients, and two keys: its own and another."""
    settings = Settings(study=tmp_path / "study", home=tmp_path / "home")
    settings.home.mkdir(mode=0o700)
    warehouse = make_study(settings, empty_warehouse)
    keys = {name: tmp_path / name for name in ("own", "other")}
    for path in keys.values():
        write_key(path, new_key())
    convert(warehouse, read_key(keys["own"]))
    yield keys
    forget_keys()


@pytest.mark.parametrize("key", [None, "other"])
def test_an_encrypted_home_is_not_served_without_its_key(
    tmp_path: Path, encrypted: dict[str, Path], key: str | None
) -> None:
    found = Iss(
        tmp_path / "study", tmp_path / "home", {"ISS_WAREHOUSE__KEY_FILE": str(encrypted[key])} if key else {}
    )("serve", "--port", "0")
    assert found.returncode == 2 and found.stdout == "" and len(found.stderr.splitlines()) == 1
    assert ("not the one" if key else "ISS_WAREHOUSE__KEY_FILE") in found.stderr
    assert str(tmp_path) not in found.stderr


@pytest.mark.slow
@pytest.mark.thorough
def test_a_home_that_gets_another_key_while_it_is_served_says_so_and_shows_nothing_until_it_has_the_key(
    tmp_path: Path, encrypted: dict[str, Path]
) -> None:
    current = tmp_path / "current"
    shutil.copy(encrypted["own"], current)
    with serving(tmp_path, ISS_WAREHOUSE__KEY_FILE=str(current)) as served:
        served.sign_in()
        assert "0007" in served.browser.get("/patients").text
        assert served.browser.get("/media/0007-01").status_code == 200
        iss = Iss(tmp_path / "study", tmp_path / "home", {"ISS_WAREHOUSE__KEY_FILE": str(current)})
        iss.ok("rekey", "--key-file", str(encrypted["other"]))
        for path in ("/", "/patients", "/patients/0007", "/review", "/review/0007-01", "/media/0007-01"):
            found = served.browser.get(path)
            assert found.status_code == 503, path
            assert "not the one that warehouse.duckdb is encrypted with" in found.text
            # not in the middle of a random token
            assert not re.search(r"(?<![0-9A-Za-z])0007(?![0-9A-Za-z])", found.text)
            assert str(tmp_path) not in found.text
        assert served.process.poll() is None and served.browser.get("/health").status_code == 200
        shutil.copy(encrypted["other"], current)
        assert "0007" in served.browser.get("/patients").text
        assert served.browser.get("/media/0007-01").status_code == 200
        # Ctrl-C ends it as SIGTERM does, the preview being made included
        served.process.send_signal(signal.SIGINT)
        assert served.wait_until_gone() < ENDS_S
        assert served.process.returncode == 0


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
