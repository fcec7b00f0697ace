"""What names a patient, and what only looks like it."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from iss_assets.privacy.traces import Traces, search_home

OTHERS = ("0003-0007", "00071", "A-0007-b")
TRACES = Traces("0007", ("visit-33",), ("ab" * 32,), (b"pixels of a face 0123456".hex(),)).with_others(OTHERS)


@contextmanager
def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(path, read_only=True) as connection:
        yield connection


@pytest.mark.parametrize(
    "text",
    [
        "0007",
        "patient 0007.",
        '{"partition": "0007"}',
        "reports/patients/0007.html",
        "0007-01.mp4",
        "patient_0007",
        "dagster/partition=0007",
        "0003-0007 and 0007",
        "visit-33_prompt.mov",
        f"sha256:{'ab' * 32}",
    ],
)
def test_an_id_is_found_wherever_it_stands_for_itself(text: str) -> None:
    assert TRACES.in_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "00071",
        "10007",
        "x0007",
        "videos/0003/0003-0007.mp4",
        "A-0007-b",
        "loss 0.0007, then 1.5e-0007x",
        "run 1b9d6bcd-0007-4b2d-9b5d-ab8dfbbd4bed",
        "visit-331",
        "at 2021-03-04T10:00:00.0007+00:00",
    ],
)
def test_an_id_in_another_id_a_number_or_a_time_is_not_found(text: str) -> None:
    assert not TRACES.in_text(text)


def test_an_id_that_is_an_ordinary_number_counts_between_quotes_and_slashes_only() -> None:
    traces = Traces("12")
    assert traces.in_text('"partition": "12"') and traces.in_text("videos/12/a.mp4") and traces.in_text("12")
    assert not traces.in_text('{"videos": 12, "line": 12}') and not traces.in_text("chapter 12")


def test_the_search_looks_into_names_tables_deleted_rows_and_packed_files(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "deep" / "0007").mkdir(parents=True)
    (home / "kept.log").write_text("00071 done\n")
    (home / "some.log").write_text("patient 0007 done\n")
    with gzip.open(home / "old.log.gz", "wt") as packed:
        packed.write("patient 0007 done\n" * 50)
    with sqlite3.connect(home / "runs.db") as runs:
        runs.execute("create table run_tags (key text, value text)")
        runs.execute("insert into run_tags values ('dagster/partition', '0007')")
    with sqlite3.connect(home / "deleted.db") as deleted:
        # as in an SQLite that was not built to overwrite what it deletes
        deleted.execute("pragma secure_delete = off")
        deleted.execute("create table crops (crop blob)")
        deleted.executemany("insert into crops values (?)", [(bytes.fromhex(TRACES.samples[0]) * 40,)] * 200)
        deleted.commit()
        deleted.execute("delete from crops")
    with duckdb.connect(home / "own.duckdb") as own:
        own.execute("create table notes as select ['a', '0007'] as names")
    (home / "pending.json").write_text("0007")

    result = search_home(home, TRACES, [home / "pending.json"], opened)
    assert result.unread == []
    assert sorted(result.found) == [
        "deleted.db, its bytes",
        "deleted.db, pages that are not used any more",
        "old.log.gz, unpacked",
        "own.duckdb, table notes, column names",
        "runs.db, table run_tags",
        "some.log",
        "the name of a file or folder",
    ]


def test_a_file_that_cannot_be_read_is_reported_and_not_taken_for_clean(tmp_path: Path) -> None:
    (tmp_path / "broken.duckdb").write_bytes(b"12345678DUCK" + b"\0" * 5000)
    assert [line.partition(" ")[0] for line in search_home(tmp_path, TRACES, [], opened).unread] == [
        "broken.duckdb"
    ]
