"""Movie boxes are read without trust: whatever is broken in them means that nothing is found."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from iss_assets.media.edits import Edit, unfollowed_edits


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _movie(entries: bytes, count: int, media_scale: int = 25) -> bytes:
    track = (
        _box(b"tkhd", bytes(12) + struct.pack(">I", 7) + bytes(64))
        + _box(b"edts", _box(b"elst", struct.pack(">II", 0, count) + entries))
        + _box(b"mdia", _box(b"mdhd", bytes(12) + struct.pack(">I", media_scale) + bytes(8)))
    )
    head = _box(b"mvhd", bytes(12) + struct.pack(">I", 1000) + bytes(80))
    return _box(b"ftyp", b"isom" + bytes(4)) + _box(b"moov", head + _box(b"trak", track))


ENTRIES = b"".join(
    struct.pack(">Iii", *e) for e in [(500, -1, 65536), (2000, 50, 65536), (1000, -1, 65536), (3000, 100, 0)]
)


def test_empty_edits_midway_and_held_pictures_are_found_by_track(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(_movie(ENTRIES, 4))
    assert unfollowed_edits(path) == {7: [Edit(2.5, 3.5, None, 1.0), Edit(3.5, 6.5, 4.0, 0.0)]}


def test_a_list_that_claims_more_entries_than_it_has_ends_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(_movie(ENTRIES, 2**32 - 1))
    assert len(unfollowed_edits(path)[7]) == 2


@pytest.mark.parametrize("cut", range(0, 260, 9))
def test_a_movie_box_that_breaks_off_raises_nothing(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(_movie(ENTRIES, 4)[:cut])
    assert set(unfollowed_edits(path)) <= {7}


def test_time_scales_of_zero_find_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(_movie(ENTRIES, 4, media_scale=0))
    assert unfollowed_edits(path) == {}
