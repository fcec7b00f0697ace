"""A worker that has grown gives memory back; a small one keeps it for the next video."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from iss_assets.defs.assets import video_work

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux")


def leave_much_free() -> None:
    """Take and free memory in blocks too small to go back by themselves, with one still in use behind them."""
    blocks = [np.ones(16_000, np.uint8) for _ in range(6_000)]
    last = np.ones(16_000, np.uint8)
    blocks.clear()
    leave_much_free.last = last  # type: ignore[attr-defined]


@linux
def test_the_size_of_the_process_is_read_in_megabytes() -> None:
    status = Path("/proc/self/status").read_text()
    (reported,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")]
    found = video_work._resident_mb()
    assert found == pytest.approx(reported * 1024 / 1e6, rel=0.1)


@linux
@pytest.mark.parametrize(("large", "given_back"), [(0, True), (1_000_000, False)])
def test_only_a_large_process_gives_memory_back(
    monkeypatch: pytest.MonkeyPatch, large: int, given_back: bool
) -> None:
    monkeypatch.setattr(video_work, "_LARGE_MB", large)
    video_work.give_memory_back()
    leave_much_free()
    before = video_work._resident_mb()
    video_work.give_memory_back()
    after = video_work._resident_mb()
    assert before is not None and after is not None
    assert (before - after > 50) == given_back


def test_where_the_size_is_not_known_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    monkeypatch.setattr(video_work, "_resident_mb", lambda: None)

    class Library:
        malloc_trim = staticmethod(trimmed.append)

    monkeypatch.setattr("ctypes.CDLL", lambda _: Library)
    video_work.give_memory_back()
    assert trimmed == [0]
