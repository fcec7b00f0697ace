"""A host of the tests' own, in a network namespace, behind a cable that can be pulled: what is sent then is lost, as it is in a network.

It takes Linux, root and iproute2; tests are skipped, with the reason, where one of them is missing.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class CabledHost:
    """A host that reaches this machine only, and only while its cable is plugged in.

    Attributes
    ----------
    name : str
        Of the namespace.
    address : str
        This machine's address, as that host sees it.
    """

    name: str
    address: str

    def command(self, *words: str) -> list[str]:
        """Return the command that runs another one on that host."""
        return ["ip", "netns", "exec", self.name, *words]

    def unplug(self) -> None:
        """Lose every packet from now on; neither side is told."""
        self._cable("down")

    def plug_in(self) -> None:
        """Let packets pass again."""
        self._cable("up")

    def _cable(self, state: str) -> None:
        # that host's end: this machine's keeps its address, and whoever listens there is not disturbed
        _ip("-n", self.name, "link", "set", "cable", state)


@contextmanager
def cabled_host() -> Iterator[CabledHost]:
    """Make a host, and remove it after the block; skip the test where that is not possible."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip(
            "a host in a network namespace takes root and iproute2 (Debian: apt-get install iproute2)"
        )
    number = secrets.randbelow(2**14)
    # 198.18.0.0/15 is for tests of networks (RFC 2544): four addresses for each cable
    base = f"198.{18 + number // 2**13}.{number % 2**13 // 64}"
    here, there = (f"{base}.{number % 64 * 4 + end}" for end in (1, 2))
    host = CabledHost(f"iss-{number}", here)
    try:
        _ip("netns", "add", host.name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.strip()}")
    try:
        _ip("link", "add", f"iss{number}", "type", "veth", "peer", "name", "cable", "netns", host.name)
        _ip("address", "add", f"{here}/30", "dev", f"iss{number}")
        _ip("link", "set", f"iss{number}", "up")
        _ip("-n", host.name, "address", "add", f"{there}/30", "dev", "cable")
        _ip("-n", host.name, "link", "set", "lo", "up")
        host.plug_in()
        yield host
    finally:
        # the cable goes with it
        _ip("netns", "delete", host.name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
