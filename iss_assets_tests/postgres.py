"""A PostgreSQL server of the tests' own: Debian's programs, a data folder that is removed, a port that was free.

The fixtures `postgres` (one server per process) and `postgres_url` (a fresh database per test) are in ``conftest``. Tests are
skipped, with the reason, where PostgreSQL is not installed.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from iss_assets.server.children import end_with_parent

NO_POSTGRES = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
_OWNER = "postgres"
"""PostgreSQL refuses to run as root; Debian's package makes this user."""
_START_S = 60.0


def free_port() -> int:
    """Return a port that nothing listens on, and that is not one of those from which the system serves whoever names none.

    So nothing takes it before the server does that it is for: no connection of another process, no server on port 0.
    """
    while True:
        port = 12_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def postgres_program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs, which Debian keeps out of PATH; None if there is none."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3]))
    return shutil.which(name) or (str(versions[-1]) if versions else None)


@dataclass
class PostgresServer:
    """A running server.

    Attributes
    ----------
    port : int
        Where it listens on 127.0.0.1.
    folder : Path
        Its data.
    password : str
        Of its superuser `iss`; connections without it are refused.
    """

    port: int
    folder: Path
    password: str
    _numbers: Iterator[int] = field(default_factory=count)

    def url(self, database: str) -> str:
        """Return the address of a database, password included."""
        return f"postgresql://iss:{self.password}@127.0.0.1:{self.port}/{database}"

    def next_number(self) -> int:
        """Return a number that no other database has in its name."""
        return next(self._numbers)

    def new_database(self) -> str:
        """Create a database and return its address."""
        name = f"test{self.next_number()}"
        self.execute(f"create database {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement outside of a transaction and return its rows."""
        import psycopg2

        connection = psycopg2.connect(self.url(database))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@contextmanager
def running_postgres(*addresses: str) -> Iterator[PostgresServer]:
    """Run a server while the block runs; skip the test where PostgreSQL or its client is missing.

    Parameters
    ----------
    *addresses : str
        Of this machine, at which other hosts reach it.
    """
    pytest.importorskip("psycopg2", reason="the extra `cluster` is not installed")
    initdb, postgres = postgres_program("initdb"), postgres_program("postgres")
    if initdb is None or postgres is None:
        pytest.skip(NO_POSTGRES)
    owner: dict[str, object] = {}
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(_OWNER)
        except KeyError:
            pytest.skip(f"PostgreSQL does not run as root, and there is no user {_OWNER}")
        owner = {"user": _OWNER, "group": _OWNER, "extra_groups": []}
    # in the system's temporary folder: pytest's own may be entered by root only, and a socket's path must be short
    folder = Path(tempfile.mkdtemp(prefix="iss-pg-"))
    try:
        server = PostgresServer(free_port(), folder / "data", secrets.token_hex(8))
        secret = folder / "password"
        secret.write_text(server.password)
        if owner:
            for path in (folder, secret):
                shutil.chown(path, _OWNER, _OWNER)
        subprocess.run(
            [initdb, "-D", str(server.folder), "-U", "iss", "-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8"],
            check=True, capture_output=True, cwd=folder, **owner,  # type: ignore[call-overload]  # the owner's three
        )  # fmt: skip
        with (server.folder / "pg_hba.conf").open("a") as allowed:
            allowed.writelines(
                f"host all all {address} 255.255.255.252 scram-sha-256\n" for address in addresses
            )
        settings = {
            "listen_addresses": ",".join(("127.0.0.1", *addresses)), "port": server.port, "unix_socket_directories": folder,
            # the data lives as long as the tests
            "fsync": "off", "full_page_writes": "off", "max_connections": 200,
            # compiling a query takes longer than the queries of a few patients
            "jit": "off",
        }  # fmt: skip
        command = [postgres, "-D", str(server.folder), *(f"--{k}={v}" for k, v in settings.items())]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True,
                preexec_fn=end_with_parent(), **owner,  # type: ignore[call-overload]  # the owner's three
            )  # fmt: skip
        try:
            _wait_until_up(server, process, folder / "log")
            yield server
        finally:
            # a fast shutdown: clients are disconnected
            process.send_signal(signal.SIGINT)
            process.wait(_START_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_up(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg2

    until = time.monotonic() + _START_S
    while True:
        try:
            server.execute("select 1")
            return
        except psycopg2.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(
                    f"PostgreSQL did not start: {log.read_text(errors='replace')[-2000:]}"
                ) from None
            time.sleep(0.05)
