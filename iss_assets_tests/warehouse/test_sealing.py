"""Sealed files: read back whole, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as arrow
import pytest

from iss_assets.warehouse import spool as spool_module
from iss_assets.warehouse.keys import Key, new_key
from iss_assets.warehouse.sealing import BLOCK_BYTES, BrokenSeal, SealedWriter, is_sealed, unseal
from iss_assets.warehouse.spool import Spool

KEY = new_key()


def seal(path: Path, content: bytes, name: str = "name", pieces: int = 1) -> None:
    with SealedWriter(path, name, KEY) as file:
        step = max(1, -(-len(content) // pieces))
        for start in range(0, len(content), step):
            assert file.write(content[start : start + step]) == len(content[start : start + step])
        assert file.tell() == len(content)


@pytest.mark.parametrize(
    "size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, 5_000_000]
)
@pytest.mark.parametrize("pieces", [1, 7])
def test_what_is_sealed_is_read_back(size: int, pieces: int, tmp_path: Path) -> None:
    content, path = os.urandom(size), tmp_path / "file"
    seal(path, content, pieces=pieces)
    assert is_sealed(path) and path.stat().st_mode & 0o777 == 0o600
    assert unseal(path, "name", KEY) == content
    assert content[:64] not in path.read_bytes() or size < 2


def test_two_files_with_the_same_content_have_nothing_in_common(tmp_path: Path) -> None:
    for name in ("a", "b"):
        seal(tmp_path / name, bytes(64))
    a, b = ((tmp_path / name).read_bytes() for name in ("a", "b"))
    assert a[:8] == b[:8] and a[8:24] != b[8:24] and a[24:56] != b[24:56]


def test_a_changed_byte_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seal(path, os.urandom(100))
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BrokenSeal):
            unseal(path, "name", KEY)


def test_a_cut_or_rearranged_file_is_noticed(tmp_path: Path) -> None:
    path, block = tmp_path / "file", BLOCK_BYTES + 16
    seal(path, os.urandom(3 * BLOCK_BYTES))
    whole = path.read_bytes()
    head, blocks = whole[:24], [whole[24 + n * block : 24 + (n + 1) * block] for n in range(3)]
    assert head + b"".join(blocks) == whole
    for changed in (
        head + blocks[0] + blocks[1],
        head + blocks[0],
        head,
        head[:10],
        b"",
        whole[:-1],
        whole + b"x",
        head + blocks[1] + blocks[0] + blocks[2],
        head + blocks[0] + blocks[2],
        head + blocks[0] * 2 + blocks[2],
    ):
        path.write_bytes(changed)
        with pytest.raises(BrokenSeal):
            unseal(path, "name", KEY)


def test_another_name_or_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seal(path, b"content", name="0001/a")
    for name, key in (("0001/b", KEY), ("0002/a", KEY), ("0001/a", new_key())):
        with pytest.raises(BrokenSeal):
            unseal(path, name, key)
    assert unseal(path, "0001/a", KEY) == b"content"


ROWS = arrow.table({"frame_index": [1, 2], "crop": [b"face", b"x" * 3_000_000]})


def test_a_sealed_spool_gives_back_what_was_put_and_has_no_folder_for_files_in_the_clear(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, "0001", KEY)
    assert spool.scratch() is None
    spool.put("v1", {"faces": "f"}, {"faces": ROWS})
    spool.write_note("v1", "faces", "f", "torn file")
    assert spool.get("v1", "faces", "f") == ROWS and spool.read_note("v1", "faces", "f") == "torn file"
    assert all(is_sealed(path) for path in (tmp_path / "0001").iterdir())
    assert {path.suffix for path in (tmp_path / "0001").iterdir()} == {".arrow", ".txt"}
    spool.clear(["faces"])
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_spool_that_were_swapped_are_removed_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # not what arrives at the root logger, which other packages configure for the whole process
    said: list[str] = []
    monkeypatch.setattr(spool_module.log, "warning", lambda text, *values: said.append(text % values))
    spool = Spool(tmp_path, "0001", KEY)
    spool.put("v1", {"faces": "f"}, {"faces": ROWS})
    spool.put("v2", {"faces": "f"}, {"faces": ROWS.slice(1)})
    (tmp_path / "0001/v1.faces.f.arrow").replace(tmp_path / "0001/v2.faces.f.arrow")
    assert spool.get("v2", "faces", "f") is None and list((tmp_path / "0001").iterdir()) == []
    assert len(said) == 1 and "extracted again" in said[0]
    other = Spool(tmp_path, "0002", KEY)
    spool.put("v1", {"faces": "f"}, {"faces": ROWS})
    (tmp_path / "0001").rename(tmp_path / "0002")
    assert other.get("v1", "faces", "f") is None


@pytest.mark.parametrize(("first", "then"), [(None, KEY), (KEY, None), (KEY, new_key())])
def test_files_of_another_key_or_none_are_not_read(
    first: Key | None, then: Key | None, tmp_path: Path
) -> None:
    Spool(tmp_path, "0001", first).put("v1", {"faces": "f"}, {"faces": ROWS})
    assert Spool(tmp_path, "0001", then).get("v1", "faces", "f") is None
    assert list((tmp_path / "0001").iterdir()) == []
