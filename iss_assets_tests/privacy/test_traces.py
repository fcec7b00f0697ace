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
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.engine import Opened, is_encrypted
from iss_assets.warehouse.keys import new_key, read_key, write_key
from iss_assets_tests.made_up import tiny_study

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


@pytest.mark.parametrize(
    "text",
    [
        '"partition": "1012"',
        "videos/1012/a.mp4",
        "1012",
        "patient 1012: the video is damaged",
        "Patient 1012 and others",
        "1 patient (1012) has no check-in",
        "patients 7, 12 and 1012 are late",
        "iss export --patient 1012",
        "select * from faces where patient_id = 1012",
        "patient_id in (1012)",
    ],
)
def test_an_id_that_is_an_ordinary_number_is_found_where_a_sentence_or_a_value_means_the_patient(
    text: str,
) -> None:
    assert Traces("1012").in_text(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"videos": 1012, "line": 1012}',
        "chapter 1012",
        "1012 patients",
        "patient 0007: 1012 frames",
        "outpatient 1012",
    ],
)
def test_an_id_that_is_an_ordinary_number_is_not_found_where_it_counts_something(text: str) -> None:
    assert not Traces("1012").in_text(text)


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


def test_what_is_left_behind_in_an_encrypted_home_is_found(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write_key(tmp_path / "key", new_key())
    warehouse = Warehouse(home / "warehouse.duckdb", WarehouseSettings(key_file=tmp_path / "key"))
    tiny_study(warehouse)
    crop = warehouse.query("select crop from faces where patient_id = '0001' limit 1")["crop"][0].as_py()
    (home / "snapshot.duckdb").write_bytes((home / "warehouse.duckdb").read_bytes())
    assert is_encrypted(home / "snapshot.duckdb")

    @contextmanager
    def with_key(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        opened = Opened(path, read_only=True, key=read_key(tmp_path / "key"))
        try:
            yield opened.connection
        finally:
            opened.close()

    samples = Traces("", samples=(crop[-24:].hex(),))
    assert crop[-24:] not in (home / "warehouse.duckdb").read_bytes()
    result = search_home(home, samples, [], with_key)
    assert result.unread == []
    assert result.found == [
        f"{name}, table faces, column crop" for name in ("snapshot.duckdb", "warehouse.duckdb")
    ]
    of_nobody = search_home(home, Traces("", samples=(b"no pixels of anybody 012".hex(),)), [], with_key)
    assert (of_nobody.found, of_nobody.unread) == ([], [])

    # a snapshot under a key that is gone is no clean one
    write_key(tmp_path / "other", new_key())
    other = Warehouse(tmp_path / "other.duckdb", WarehouseSettings(key_file=tmp_path / "other"))
    tiny_study(other)
    (tmp_path / "other.duckdb").replace(home / "old.duckdb")
    assert search_home(home, samples, [], with_key).unread == ["old.duckdb (KeyProblem)"]
