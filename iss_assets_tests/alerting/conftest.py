"""Receivers of alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from iss_assets_tests.alerting.receiver import Receiver


@pytest.fixture
def receivers() -> Iterator[Callable[[], Receiver]]:
    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for receiver in made:
        receiver.server.shutdown()
        receiver.server.server_close()
