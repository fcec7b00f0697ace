"""A server of object storage (moto's) of the tests' own, in a process of its own, that can be told to refuse requests.

The fixture `s3` (one server per process) is in ``conftest``. It keeps everything in memory and looks at no credentials; what servers
answer to wrong ones is among the faults that it can be told.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from iss_assets.server.children import end_with_parent
from iss_assets_tests.postgres import free_port

_START_S = 60.0
ENVIRONMENT: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "key-of-tests",
    "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
    "AWS_REGION": "eu-central-1",
    # nothing of this machine's own
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class S3Server:
    """A running server.

    Attributes
    ----------
    port : int
        Where it listens on 127.0.0.1.
    """

    port: int
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 reads: the address, and the credentials."""
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}"}

    @cached_property
    def client(self) -> Any:
        """boto3's client."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )

    def new_bucket(self, *, versions: bool = False, lock: bool = False) -> str:
        """Create a bucket and return its name."""
        name, client = f"bucket{next(self._numbers)}", self.client
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
        if versions:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def refuse(self, *rules: Mapping[str, str]) -> None:
        """Answer requests with an error `code` whose `method` is the one, and which have `text` in path or query; none refuses nothing."""
        self._tell("_rules", rules)

    def requests(self) -> list[str]:
        """Return what was asked for since the last call: method, path, query."""
        return list(self._tell("_requests", None))

    def _tell(self, what: str, body: object) -> Any:
        request = Request(f"http://127.0.0.1:{self.port}/{what}", json.dumps(body).encode(), method="POST")
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Run a server while the block runs; skip the test where moto is missing."""
    for package in ("boto3", "moto", "flask"):
        pytest.importorskip(package, reason=f"{package} is not installed: the extras `s3` and `dev`")
    server = S3Server(free_port())
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(server.port)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=end_with_parent(),
    )  # fmt: skip
    try:
        until = time.monotonic() + _START_S
        while True:
            try:
                server.refuse()
                break
            except URLError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("moto did not start") from None
                time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.wait()


class _Faults:
    """The server, with what it was told to refuse."""

    def __init__(self, app: Callable[..., Iterable[bytes]]):
        self._app = app
        self._rules: list[dict[str, str]] = []
        self._seen: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]
        if path in ("/_rules", "/_requests"):
            told = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            if path == "/_rules":
                self._rules = told
            seen, self._seen = self._seen, []
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(seen).encode()]
        self._seen.append(f"{method} {path}?{query}")
        for rule in self._rules:
            if rule["method"] in ("*", method) and rule["text"] in f"{path}?{query}":
                start(f"{rule.get('status', '403')} Refused", [("Content-Type", "application/xml")])
                return [f"<Error><Code>{rule['code']}</Code><Message>no</Message></Error>".encode()]
        return self._app(environ, start)


def _serve(port: int) -> None:
    from moto.server import create_backend_app
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, _Faults(create_backend_app("s3")), threaded=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
