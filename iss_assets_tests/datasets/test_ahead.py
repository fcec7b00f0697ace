"""Reading ahead: the whole file, no longer than wanted, and not where it would do harm."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from iss_assets.datasets import ahead
from iss_assets.datasets.ahead import read_ahead


def _readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "read ahead"]


def test_the_file_is_read_to_its_end_and_the_reader_is_gone_after_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000_000)
    ended, lengths = threading.Event(), []
    read = ahead._read

    def announce(path: Path, done: threading.Event) -> None:
        lengths.append(read(path, done))
        ended.set()

    monkeypatch.setattr(ahead, "_read", announce)
    with read_ahead(path):
        assert ended.wait(120)
        assert lengths == [10_000_000]
    assert not _readers()


def test_a_block_that_fails_stops_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000_000)
    with pytest.raises(ValueError, match="broke"), read_ahead(path):
        raise ValueError("broke")
    assert not _readers()


def test_a_file_larger_than_the_memory_has_room_for_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    monkeypatch.setattr(ahead, "_MEMORY_SHARE", 0)
    with read_ahead(path):
        assert not _readers()
