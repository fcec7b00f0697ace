"""A Redis server of the tests' own: Debian's program, nothing on disk, a port that was free, a password."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from iss_assets.server.children import end_with_parent
from iss_assets_tests.postgres import free_port

NO_REDIS = "Redis is not installed (Debian: apt-get install redis-server)"
_START_S = 30.0
_DATABASES = 1000


@dataclass
class RedisServer:
    """A running server."""

    port: int
    password: str
    _numbers: Iterator[int] = field(default_factory=count)

    def new_database(self) -> str:
        """Return the address of a database that nobody has used, password included."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{next(self._numbers)}"


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Run a server while the block runs; skip the test where Redis or its client is missing."""
    redis = pytest.importorskip("redis", reason="the extra `cluster` is not installed")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip(NO_REDIS)
    server = RedisServer(free_port(), secrets.token_hex(8))
    folder = Path(tempfile.mkdtemp(prefix="iss-redis-"))
    settings = folder / "redis.conf"
    settings.write_text(
        f'port {server.port}\nbind 127.0.0.1\nrequirepass {server.password}\nsave ""\nappendonly no\n'
        f"databases {_DATABASES}\ndir {folder}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=end_with_parent(),
        )  # fmt: skip
    try:
        until = time.monotonic() + _START_S
        while True:
            try:
                redis.Redis.from_url(server.new_database()).ping()
                break
            except redis.exceptions.ConnectionError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((folder / "log").read_text(errors="replace")) from None
                time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(_START_S)
        shutil.rmtree(folder, ignore_errors=True)
