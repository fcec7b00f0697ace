"""Rows that wait on disk: whole or not at all, and never all in memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow as arrow
import pytest

from iss_assets.media.row_store import RowStore
from iss_assets.warehouse.spool import Spool, batches, map_file, portions

SCHEMA = arrow.schema([("frame_index", arrow.int32()), ("crop", arrow.binary())])


def batch(first: int, count: int) -> arrow.RecordBatch:
    crops = [bytes([i % 251]) * 50 for i in range(first, first + count)]
    return arrow.record_batch([arrow.array(range(first, first + count), arrow.int32()), crops], schema=SCHEMA)


def test_batches_kept_in_a_file_are_those_kept_in_memory(tmp_path: Path) -> None:
    stores = [RowStore(SCHEMA, folder, "faces") for folder in (None, tmp_path)]
    for store in stores:
        store.add(batch(0, 700))
        store.add(batch(700, 1900))
    memory, file = (store.table() for store in stores)
    assert memory.equals(file) and memory.num_rows == 2600
    assert map_file(tmp_path / "faces.arrow").equals(memory)
    assert RowStore(SCHEMA, tmp_path, "empty").table().num_rows == 0


@pytest.mark.parametrize("on_disk", [True, False])
def test_batches_that_were_added_are_held_by_the_file_alone(tmp_path: Path, on_disk: bool) -> None:
    """In Arrow's and the C library's memory they would lie between the pictures that come and go."""
    store = RowStore(SCHEMA, tmp_path if on_disk else None, "faces")
    before = arrow.total_allocated_bytes()
    for first in range(0, 26_000, 2600):
        store.add(batch(first, 2600))
    assert arrow.total_allocated_bytes() == before
    rows = store.table()
    assert arrow.total_allocated_bytes() == before
    assert rows["frame_index"].to_pylist() == list(range(26_000)) and rows.nbytes > 1e6


@pytest.mark.parametrize("count", [0, 1, 1024, 2600])
def test_portions_of_what_waits_are_all_of_it_in_order_and_small(count: int) -> None:
    whole = arrow.Table.from_batches([batch(0, count)])
    parts = list(portions(lambda: whole))
    assert arrow.concat_tables(parts).equals(whole)
    assert max(part.num_rows for part in parts) <= 1024
    assert [part.num_rows for part in portions(whole)] == [count]


def test_large_rows_are_not_put_together_however_few_they_are() -> None:
    large = arrow.table({"waveform": arrow.array([bytes(9 * 2**20)], arrow.binary())})
    small = arrow.table({"waveform": arrow.array([bytes(2**20)], arrow.binary())})
    groups = list(batches([large, large, small, small, large]))
    assert [[part.nbytes // 2**20 for part in group] for group in groups] == [[9], [9, 1, 1], [9]]


@pytest.mark.parametrize("counts", [[], [0], [300, 300, 300, 300, 300], [1024, 1, 2600, 0, 5]])
def test_small_portions_are_put_together_in_order_and_stay_small(counts: list[int]) -> None:
    parts = [arrow.Table.from_batches([batch(place, count)]) for place, count in enumerate(counts)]
    groups = list(batches(iter(parts)))
    assert [part for group in groups for part in group] == parts
    rows = [[part.num_rows for part in group] for group in groups]
    assert all(sum(own) <= 1024 or len(own) == 1 for own in rows)
    # none could have taken what came after it
    assert all(sum(own) + after[0] > 1024 for own, after in pairwise(rows))


def test_what_is_put_from_a_file_is_found_again_and_the_scratch_folder_is_gone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "0001")
    scratch = spool.scratch()
    assert scratch is not None
    (scratch / "left_by_a_killed_run").write_text("x")
    assert spool.scratch() == scratch and list(scratch.iterdir()) == []
    store = RowStore(SCHEMA, scratch, "faces")
    store.add(batch(0, 2600))
    whole = store.table().combine_chunks()
    spool.put(
        "0001-1", {"faces": "a", "landmarks": "c"}, {"faces": scratch / "faces.arrow", "landmarks": whole}
    )
    assert not scratch.exists()
    assert spool.take("0001-1", "faces", "a").combine_chunks().equals(whole)
    assert spool.take("0001-1", "landmarks", "c").combine_chunks().equals(whole)
    assert spool.get("0001-1", "faces", "b") is None
    with pytest.raises(FileNotFoundError):
        spool.take("0001-1", "faces", "b")
    spool.scratch()
    spool.clear(["faces", "landmarks"])
    assert list(tmp_path.iterdir()) == []
