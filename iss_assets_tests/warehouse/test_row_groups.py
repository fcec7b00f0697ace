"""Tables in pieces: large rows are never written twice, small ones are put together when that pays."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from iss_assets.schemas.audio import Audio
from iss_assets.schemas.base import Table
from iss_assets.schemas.operations import Extractions
from iss_assets.schemas.registry import TABLES
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import ledger_rows
from iss_assets.warehouse.row_groups import (
    FULL,
    first_to_merge,
    merge_row_groups,
    mergeable_tables,
    row_group_sizes,
)


def _pieces(warehouse: Warehouse, table: type[Table]) -> list[int]:
    return row_group_sizes(warehouse.query, table)


def _sound(warehouse: Warehouse, n: int, size: int) -> None:
    row = {c.name: None for c in Audio.columns()}
    numbers = {
        "sample_rate": 22050,
        "duration_s": 1.0,
        "clipped_share": 0.0,
        "speech_share": 0.0,
        "peak": 0.1,
    }
    made = {"inserted_silence_s": 0.0, "broken_packets": 0, "waveform": bytes([n % 256]) * size}
    ids = {"patient_id": f"{n:04d}", "video_id": f"v{n:04d}", "fingerprint": "f"}
    warehouse.replace(Audio, Audio.from_rows([{**row, **numbers, **made, **ids}]), {"video_id": f"v{n:04d}"})


def _entries(warehouse: Warehouse, patient: str, rows: int) -> None:
    entries = ledger_rows([(patient, f"v{k:05d}", "frames", "mark", k) for k in range(rows)])
    warehouse.replace_all([Replacement(Extractions, entries, {"patient_id": patient})])


def test_what_was_written_of_large_rows_stays_where_it_is(tmp_path: Path) -> None:
    warehouse, size = Warehouse(tmp_path / "w.duckdb"), 1_000_000
    for n in range(30):
        _sound(warehouse, n, size)
    assert _pieces(warehouse, Audio) == [1] * 30
    # a table that is written anew each time leaves the places of the older ones behind, several times as much
    assert warehouse.path.stat().st_size < 2.5 * 30 * size
    assert merge_row_groups(warehouse) == {}
    assert [len(w) for w in warehouse.query("select waveform from audio")["waveform"].to_pylist()] == [
        size
    ] * 30


def test_replaced_rows_leave_no_piece_behind(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "w.duckdb")
    for _ in range(5):
        _sound(warehouse, 1, 300_000)
    assert _pieces(warehouse, Audio) == [1]


def test_many_small_pieces_become_one_with_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "w.duckdb")
    _entries(warehouse, "0000", 1000)
    for n in range(1, 21):
        _entries(warehouse, f"{n:04d}", n)
    _entries(warehouse, "0003", 4)  # a hole in the middle
    before = warehouse.query("select * from extractions")
    assert len(_pieces(warehouse, Extractions)) == 21
    assert merge_row_groups(warehouse) == {"extractions": 20}
    assert _pieces(warehouse, Extractions) == [1000, before.num_rows - 1000]
    assert warehouse.query("select * from extractions").equals(before)
    assert merge_row_groups(warehouse) == {}


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        ([], None),
        ([5] * 7, None),
        ([5] * 8, 0),
        ([1000] + [5] * 8, 1),
        ([40] + [5] * 8, 0),
        ([41] + [5] * 8, 1),
        ([41] + [5] * 7, None),
        ([FULL] * 9 + [5] * 8, 9),
        ([FULL] * 20, None),
    ],
)
def test_pieces_are_joined_where_the_first_of_them_doubles(rows: list[int], first: int | None) -> None:
    assert first_to_merge(rows) == first


def test_no_row_is_written_more_often_than_the_logarithm_of_all() -> None:
    pieces: list[int] = []
    written = 0
    for _ in range(4000):
        pieces.append(6)
        first = first_to_merge(pieces)
        if first is not None:
            written += sum(pieces[first:])
            pieces[first:] = [sum(pieces[first:])]
    assert len(pieces) < 100
    assert written < 6 * 4000 * 12


def test_every_table_is_either_joined_or_has_large_values() -> None:
    left = {t.__table__ for t in TABLES} - {t.__table__ for t in mergeable_tables()}
    large = {"faces", "landmarks", "audio", "mel_spectrograms", "face_identity"}
    assert left == {"embeddings", *large, *(f"prompt_{name}" for name in large)}


def test_a_file_of_an_older_format_is_brought_to_the_present_one_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    warehouse = Warehouse(path)
    _entries(warehouse, "0001", 3)
    old = tmp_path / "old.duckdb"
    with duckdb.connect() as connection:
        connection.execute(f"attach '{path}' as new; attach '{old}' as old (storage_version 'v0.10.2')")
        connection.execute("copy from database new to old")
    older = Warehouse(old)
    _entries(older, "0002", 2)
    assert older.query(
        "select tags.storage_version as v from duckdb_databases() where database_name = current_database()"
    )["v"].to_pylist() == ["v1.4.0+"]
    assert older.query("select count(*) as n from extractions")["n"].to_pylist() == [5]
