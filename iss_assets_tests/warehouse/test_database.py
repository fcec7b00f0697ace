"""The promises of the warehouse, on a real DuckDB file with real processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from iss_assets.schemas.base import InvalidTable
from iss_assets.schemas.evaluation import SplitStability, SubgroupResults
from iss_assets.schemas.intake import BpiScores, RejectedRows
from iss_assets.schemas.modeling import CvSplits
from iss_assets.schemas.operations import Extractions
from iss_assets.schemas.registry import TABLES
from iss_assets.schemas.visual import Faces, Landmarks
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse import database, engine
from iss_assets.warehouse.database import _CURRENT, Replacement, Warehouse, WarehouseError, _one_of
from iss_assets.warehouse.locking import LockTimeout, hold


@pytest.fixture(params=["started anew", "kept running"], autouse=True)
def duckdb_of_the_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every promise holds in both kinds of process."""
    monkeypatch.setattr(engine, "_engines", {})
    monkeypatch.setattr(engine, "_keeping", request.param == "kept running")
    yield
    for left in engine._engines.values():
        assert left.users == 0
        left.connection.close()


def splits(patient: str, n: int = 1, split: int = 1) -> pa.Table:
    return CvSplits.from_rows(
        [
            {
                "patient_id": f"{patient}-{i}",
                "split": split,
                "pain_level": "None",
                "source": "seed",
                "folds": 2,
                "seed": 0,
                "cohort_hash": "x",
            }
            for i in range(n)
        ]
    )


def count(warehouse: Warehouse, table: str = "cv_splits") -> int:
    return warehouse.query(f"select count(*) n from {table}")["n"][0].as_py()


def test_reading_apart_sees_the_same_tables_and_leaves_nothing_to_the_duckdb_that_is_kept(
    tmp_path: Path,
) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    warehouse.replace(CvSplits, splits("0001"), {})
    kept = dict(engine._engines)
    rows = "select patient_id from cv_splits"
    with warehouse.read(apart=True) as connection:
        assert connection.execute(rows).fetchall() == [("0001-0",)]
        # for all uses of one DuckDB
        connection.execute("set preserve_insertion_order = false")
        # while the one that is kept reads, too
        assert warehouse.query(rows).num_rows == 1
    assert engine._engines == kept
    order = warehouse.query("select current_setting('preserve_insertion_order') as kept")
    assert order["kept"].to_pylist() == [True]
    warehouse.replace(CvSplits, splits("0002"), {})
    assert warehouse.query(rows)["patient_id"].to_pylist() == ["0002-0"]


def test_a_fresh_warehouse_has_every_table_with_descriptions(warehouse: Warehouse) -> None:
    columns = warehouse.query(
        "select table_name, column_name, comment from duckdb_columns() "
        "where database_name = current_database() and schema_name = 'main'"
    ).to_pylist()
    assert {c["table_name"] for c in columns} == {t.__table__ for t in TABLES}
    assert all(c["comment"] for c in columns)


def test_rows_that_wait_on_disk_are_checked_and_then_written(warehouse: Warehouse) -> None:
    asked: list[pa.Table] = []

    def waiting(rows: pa.Table) -> Callable[[], pa.Table]:
        def read() -> pa.Table:
            asked.append(rows)
            return rows

        return read

    good, bad = splits("a", 3), splits("b").drop(["seed"])
    with pytest.raises(InvalidTable):
        warehouse.replace_all(
            [Replacement(CvSplits, waiting(good), {}), Replacement(CvSplits, waiting(bad), {"split": 9})]
        )
    assert count(warehouse) == 0
    asked.clear()
    assert warehouse.replace_all([Replacement(CvSplits, waiting(good), {})]) == [3]
    assert count(warehouse) == 3 and all(rows is good for rows in asked)


def test_pictures_are_stored_as_they_are_and_names_are_not_repeated(warehouse: Warehouse) -> None:
    rng = np.random.default_rng(0)
    # half of the bytes are those of every other one, which a search for what they share would find
    files = [bytes(3000) + rng.bytes(3000) for _ in range(2 * 300)]
    for number in range(2):
        rows = [
            {
                "video_id": f"v{number}", "patient_id": "0001", "frame_index": i, "x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0,
                "probability": 1.0, "faces_seen": 1, "crop": files[300 * number + i], "fingerprint": "f",
            }
            for i in range(300)
        ]  # fmt: skip
        warehouse.replace(Faces, Faces.from_rows(rows), {"video_id": f"v{number}"})
    stored = warehouse.query(
        "select column_name, compression from pragma_storage_info('faces') where segment_type in ('BLOB', 'VARCHAR')"
    ).to_pylist()
    ways = {(row["column_name"], row["compression"]) for row in stored}
    assert ("crop", "Uncompressed") in ways and len({way for name, way in ways if name == "crop"}) == 1
    assert ("video_id", "Uncompressed") not in ways
    kept = warehouse.query("select crop from faces order by video_id, frame_index")["crop"].to_pylist()
    assert kept == files


def test_a_transaction_larger_than_its_memory_goes_through(warehouse: Warehouse, tmp_path: Path) -> None:
    def mesh(video: int) -> Callable[[], pa.Table]:
        def read() -> pa.Table:
            numbers = np.random.default_rng(video).random((3000, 1404), dtype=np.float32)
            rows = {
                "patient_id": ["0001"] * 3000,
                "video_id": [f"0001-{video}"] * 3000,
                "frame_index": pa.array(range(3000), pa.int32()),
                "detected": [True] * 3000,
                "points": pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), 1404),
                "fingerprint": ["x"] * 3000,
            }
            return pa.table(rows).select(Landmarks.arrow_schema().names).cast(Landmarks.arrow_schema())

        return read

    # 168 MB in a writer that may hold 128
    written = warehouse.replace_all(
        [Replacement(Landmarks, mesh(v), {"video_id": f"0001-{v}"}) for v in range(10)]
    )
    assert written == [3000] * 10
    assert count(warehouse, "landmarks") == 30000
    assert sorted(p.name for p in warehouse.path.parent.iterdir()) == sorted(
        ["warehouse.duckdb", "warehouse.duckdb.lock", "warehouse.duckdb.lock.turn"]
    )


def test_replacing_a_partition_leaves_the_others_alone(warehouse: Warehouse) -> None:
    warehouse.replace(CvSplits, splits("a", 3), {})
    warehouse.replace(CvSplits, splits("b", 2, split=2), {"split": 2})
    warehouse.replace(CvSplits, splits("c", 1), {"split": 1})
    rows = warehouse.query("select patient_id, split from cv_splits order by all").to_pylist()
    assert rows == [
        {"patient_id": "b-0", "split": 2},
        {"patient_id": "b-1", "split": 2},
        {"patient_id": "c-0", "split": 1},
    ]


def test_replacements_of_one_table_take_place_in_their_order(warehouse: Warehouse) -> None:
    one, other, empty = splits("a"), splits("b"), splits("c").slice(0, 0)
    numbers = warehouse.replace_all(
        [
            Replacement(CvSplits, one, {"split": 1}),
            Replacement(CvSplits, other, {"split": 1}),
            Replacement(CvSplits, empty, {"source": "seed"}),
            Replacement(CvSplits, splits("d", 2, split=3), {"split": 3}),
            Replacement(CvSplits, splits("e", 2), {"split": 1}),
        ]
    )
    assert numbers == [one.num_rows, other.num_rows, 0, 2, 2]
    kept = warehouse.query("select patient_id from cv_splits order by all")["patient_id"].to_pylist()
    assert kept == ["d-0", "d-1", "e-0", "e-1"]


@pytest.mark.parametrize(
    "values",
    [
        [("x", 1, "p")],
        [("x", 1, None)],
        [("x", 1, "p"), ("x", 2, "q")],
        [("x", None, "p"), ("x", 2, "p"), ("x", 3, "p")],
        [("x", None, None), ("y", None, None)],
        [("x", 1, "p"), ("y", 2, "q"), ("y", None, "q")],
    ],
)
def test_what_has_one_of_the_values_is_found_and_nothing_else(values: list[tuple[object, ...]]) -> None:
    everything = list(product(["x", "y"], [1, 2, None], ["p", "q", None]))
    condition, parameters = _one_of(["a", "b", "c"], values)
    with duckdb.connect() as connection:
        connection.execute("create table t (a varchar, b integer, c varchar)")
        connection.executemany("insert into t values (?, ?, ?)", everything)
        found = connection.execute(f"select * from t where {condition}", parameters).fetchall()
    assert sorted(found, key=str) == sorted(set(values) & set(everything), key=str)


def test_no_column_named_means_every_row() -> None:
    assert _one_of([], [()]) == ("true", [])


def test_a_missing_value_is_a_fault_also_where_no_rule_looks_at_the_column(warehouse: Warehouse) -> None:
    entry = {"patient_id": "d", "subject": "*", "fingerprint": "f", "rows": 1, "made_at": datetime.now(UTC)}
    with pytest.raises(InvalidTable, match="table_name: not_nullable"):
        warehouse.replace(Extractions, Extractions.from_rows([entry]), {"patient_id": "d"})


@pytest.mark.parametrize("name", ["probability", "x1"])  # with a rule of its own, and without one
def test_a_value_that_is_not_a_number_counts_as_missing(warehouse: Warehouse, name: str) -> None:
    row = {"fingerprint": "f", "patient_id": "0001", "video_id": "v", "frame_index": 0}
    numbers = {c.name: 0.5 for c in Faces.columns() if c.sql in ("FLOAT", "DOUBLE")}
    rows = Faces.from_rows([{**row, **numbers, "faces_seen": 1, "crop": b"x", name: float("nan")}])
    with pytest.raises(InvalidTable, match=f"{name}: not_nullable"):
        warehouse.replace(Faces, rows, {})


def test_rows_that_do_not_fit_the_model_change_nothing(warehouse: Warehouse) -> None:
    warehouse.replace(CvSplits, splits("a"), {})
    bad = splits("b", 2).append_column("extra", [[1, 2]])
    with pytest.raises(InvalidTable, match="extra"):
        warehouse.replace_all([Replacement(CvSplits, splits("c"), {}), Replacement(CvSplits, bad, {})])
    assert warehouse.query("select patient_id from cv_splits")["patient_id"].to_pylist() == ["a-0"]


def test_every_fault_is_listed_with_keys_and_without_values(warehouse: Warehouse) -> None:
    rows = CvSplits.from_rows(
        [
            {
                "patient_id": "ok",
                "split": 0,
                "pain_level": "Enormous",
                "source": "seed",
                "folds": 2,
                "seed": 0,
                "cohort_hash": "x",
            },
            {
                "patient_id": "ok",
                "split": 1,
                "pain_level": None,
                "source": "seed",
                "folds": 2,
                "seed": 0,
                "cohort_hash": "x",
            },
        ]
    )
    with pytest.raises(InvalidTable) as caught:
        CvSplits.check_rows(rows)
    found = {(f["column"], f["check"].split("(")[0]) for f in caught.value.failures}
    assert found == {
        ("split", "greater_than_or_equal_to"),
        ("pain_level", "isin"),
        ("pain_level", "not_nullable"),
        (None, "key patient_id repeats"),
    }
    assert "Enormous" not in str(caught.value)


def test_a_column_of_the_wrong_type_is_a_fault_and_not_a_crash() -> None:
    rows = splits("a").set_column(1, "split", pa.array(["many"]))
    with pytest.raises(InvalidTable, match="type is string"):
        CvSplits.check_rows(rows)


def test_an_exception_in_a_write_leaves_the_old_rows(warehouse: Warehouse) -> None:
    warehouse.replace(CvSplits, splits("a"), {})
    with pytest.raises(RuntimeError, match="midway"), warehouse.write() as writer:
        writer.replace(CvSplits, splits("b"), {})
        raise RuntimeError("midway")
    assert warehouse.query("select patient_id from cv_splits")["patient_id"].to_pylist() == ["a-0"]


def test_hostile_values_never_become_sql(warehouse: Warehouse) -> None:
    warehouse.replace(CvSplits, splits("a"), {})
    warehouse.replace(CvSplits, splits("b").slice(0, 0), {"patient_id": "x' or '1'='1"})
    assert count(warehouse) == 1
    with pytest.raises(WarehouseError, match="no column"), warehouse.write() as writer:
        writer.replace(CvSplits, splits("b"), {"1=1; drop table cv_splits; --": 1})
    assert count(warehouse) == 1


def test_a_reader_cannot_write(warehouse: Warehouse) -> None:
    with warehouse.read() as connection, pytest.raises(duckdb.Error, match="read-only"):
        connection.execute("delete from cv_splits")


def _write_many(path: Path, name: str, times: int, keeping: bool) -> None:
    engine._keeping = keeping
    warehouse = Warehouse(path, WarehouseSettings(lock_timeout_s=120))
    for i in range(times):
        warehouse.replace(CvSplits, splits(f"{name}-{i}", 5, split=int(name) + 1), {"patient_id": "none"})


def _read_many(path: Path, stop: Path, seen: Queue[str], keeping: bool) -> None:
    engine._keeping = keeping
    warehouse = Warehouse(path, WarehouseSettings(lock_timeout_s=120))
    while not stop.exists():
        n = count(warehouse)
        if n % 5:
            seen.put(f"saw {n} rows, half a transaction")
            return
    seen.put("ok")


def test_eight_writers_and_two_readers_at_once_lose_nothing_and_do_not_fail(tmp_path: Path) -> None:
    path, stop = tmp_path / "w.duckdb", tmp_path / "stop"
    # ten processes of their own that load everything once between them
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    seen = processes.Queue()
    keeping = engine._keeping
    readers = [processes.Process(target=_read_many, args=(path, stop, seen, keeping)) for _ in range(2)]
    writers = [processes.Process(target=_write_many, args=(path, str(i), 5, keeping)) for i in range(8)]
    for process in readers + writers:
        process.start()
    for process in writers:
        process.join(120)
    stop.touch()
    assert [seen.get(timeout=60) for _ in readers] == ["ok", "ok"]
    assert [p.exitcode for p in writers] == [0] * 8
    assert count(Warehouse(path)) == 8 * 5 * 5


_KILLED = """
import sys, numpy as np, pyarrow as arrow
from pathlib import Path
from iss_assets.warehouse import engine
from iss_assets.warehouse.database import Warehouse
from iss_assets.schemas.visual import Landmarks
engine._keeping = sys.argv[3] == "True"
n = 3000
rows = arrow.table({
    "video_id": ["v"] * n, "patient_id": ["p"] * n, "frame_index": arrow.array(range(n), arrow.int32()),
    "detected": [True] * n,
    "points": arrow.FixedSizeListArray.from_arrays(arrow.array(np.random.rand(n * 1404).astype("f4")), 1404),
    "fingerprint": [sys.argv[2]] * n,
})
warehouse = Warehouse(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    warehouse.replace(Landmarks, rows, {"patient_id": "p"})
    print("wrote", flush=True)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_the_old_rows_or_the_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    for attempt in range(4):
        command = [sys.executable, "-c", _KILLED, str(path), f"run{attempt}", str(engine._keeping)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.2 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        rows = (
            Warehouse(path)
            .query(
                "select count(*) n, count(distinct fingerprint) runs, count(distinct frame_index) frames from landmarks"
            )
            .to_pylist()[0]
        )
        assert rows in ({"n": 0, "runs": 0, "frames": 0}, {"n": 3000, "runs": 1, "frames": 3000})


def test_a_program_that_keeps_the_file_open_is_waited_for_and_then_named(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    Warehouse(path).create()
    code = (
        f"import duckdb, time; c = duckdb.connect({str(path)!r}); print('open', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with pytest.raises(LockTimeout, match="another program"):
            Warehouse(path, WarehouseSettings(lock_timeout_s=0.3)).query("select 1")
    finally:
        other.kill()
        other.wait()
    assert count(Warehouse(path)) == 0


def test_a_waiting_writer_goes_before_readers_that_come_later(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order: list[str] = []

    def take(name: str, exclusive: bool) -> None:
        with hold(path, exclusive=exclusive, timeout_s=10):
            order.append(name)

    with hold(path, exclusive=False, timeout_s=1):
        writer = threading.Thread(target=take, args=("writer", True))
        writer.start()
        time.sleep(0.1)
        reader = threading.Thread(target=take, args=("reader", False))
        reader.start()
        time.sleep(0.1)
        assert order == []
    writer.join()
    reader.join()
    assert order == ["writer", "reader"]


def test_a_reader_within_a_reader_waits_for_no_writer_that_waits_for_the_outer_one(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    reader = Warehouse(path, WarehouseSettings(lock_timeout_s=5))
    reader.create()
    told: list[str] = []

    def write() -> None:
        Warehouse(path, WarehouseSettings(lock_timeout_s=30)).replace(CvSplits, splits("a", 3), {})
        told.append("written")

    writer = threading.Thread(target=write)
    with reader.read() as outer:
        writer.start()
        time.sleep(0.3)
        with reader.read() as inner:
            for connection in (outer, inner):
                assert connection.execute("select count(*) from cv_splits").fetchall() == [(0,)]
        with pytest.raises(RuntimeError, match="reads"), reader.write():
            pass
        assert reader.query("select count(*) n from cv_splits")["n"].to_pylist() == [0]
        assert not told
    writer.join(30)
    assert told == ["written"]
    assert reader.query("select count(*) n from cv_splits")["n"].to_pylist() == [3]


def test_reads_of_one_state_open_the_file_once_and_keep_writers_out(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.replace(CvSplits, splits("a", 2), {})
    opened: list[object] = []
    attach = engine.attach

    def counted(*arguments: Any, **options: Any) -> None:
        opened.append(arguments)
        attach(*arguments, **options)

    monkeypatch.setattr(engine, "attach", counted)
    hasty = Warehouse(warehouse.path, WarehouseSettings(lock_timeout_s=0.1))
    refused: list[Exception] = []

    def write() -> None:
        try:
            hasty.replace(CvSplits, splits("b", 1), {})
        except LockTimeout as error:
            refused.append(error)

    with warehouse.one_state():
        before = warehouse.query("select count(*) n from cv_splits")
        other = threading.Thread(target=write)
        other.start()
        other.join()
        assert warehouse.query("select count(*) n from cv_splits").equals(before)
    assert len(refused) == 1
    assert len(opened) == 1
    hasty.replace(CvSplits, splits("b", 1), {"patient_id": "b-0"})
    assert warehouse.query("select count(*) n from cv_splits")["n"].to_pylist() == [3]


def test_a_file_that_is_no_database_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "w.duckdb").write_text("not a database at all" * 1000)
    with pytest.raises(WarehouseError, match="damaged"):
        Warehouse(tmp_path / "w.duckdb").query("select 1")


def test_a_table_of_another_version_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table cv_splits (patient_id varchar, cards integer)")
    with pytest.raises(WarehouseError, match="another version"):
        Warehouse(path).create()


def test_tables_that_the_evaluation_makes_anew_are_emptied_where_their_columns_were_others(
    tmp_path: Path,
) -> None:
    """A home of an earlier version continues to work: nothing but figures that the next run computes again is lost."""
    made, path = tmp_path / "made.duckdb", tmp_path / "w.duckdb"
    Warehouse(made).replace(CvSplits, splits("a", 4), {})
    made.rename(path)  # a file that this process has not seen yet
    with duckdb.connect(str(path)) as connection:
        connection.execute("drop table subgroup_results")
        connection.execute("create table subgroup_results (experiment varchar, largest_gap double)")
        connection.execute("insert into subgroup_results values ('fusion_3', 0.2)")
    Warehouse(path).create()
    found = Warehouse(path).query("select * from subgroup_results")
    assert found.num_rows == 0 and found.schema.names == [c.name for c in SubgroupResults.columns()]
    assert Warehouse(path).query("select count(*) n from cv_splits")["n"].to_pylist() == [len(splits("a", 4))]


def test_tables_that_the_evaluation_made_stay_where_their_columns_are_those_of_today(tmp_path: Path) -> None:
    made, path = tmp_path / "made.duckdb", tmp_path / "w.duckdb"
    row = {"experiment": "fusion_3", "split_seed": 1, "patients": 29, "all_classes": 0.5}
    Warehouse(made).replace(SplitStability, SplitStability.from_rows([row]), {})
    made.rename(path)  # a file that this process has not seen yet
    Warehouse(path).create()
    assert Warehouse(path).query("select * from split_stability").to_pylist() == [row]


def test_a_snapshot_is_a_whole_warehouse_of_its_own(warehouse: Warehouse, tmp_path: Path) -> None:
    warehouse.replace(CvSplits, splits("a", 4), {})
    copy = Warehouse(warehouse.snapshot(tmp_path / "copy.duckdb"))
    with warehouse.write() as writer:
        writer.replace(CvSplits, splits("b"), {})
        assert count(copy) == 4


def test_packed_columns_are_checked_by_type(warehouse: Warehouse) -> None:
    good = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(1404, "f4")), 1404)
    row = {
        "video_id": ["v"],
        "patient_id": ["p"],
        "frame_index": [0],
        "detected": [True],
        "fingerprint": ["f"],
    }
    assert warehouse.replace(Landmarks, pa.table({**row, "points": good}), {}) == 1
    with pytest.raises(InvalidTable, match="points"):
        Landmarks.check_rows(pa.table({**row, "points": [[0.0, 1.0]]}))


def test_rejected_rows_replace_whole(warehouse: Warehouse) -> None:
    row = {
        "file": "surveys.csv",
        "line": 2,
        "column_name": "",
        "code": "unknown_patient",
        "reason": "no such",
    }
    assert warehouse.replace(RejectedRows, RejectedRows.from_rows([row]), {}) == 1
    assert warehouse.replace(RejectedRows, RejectedRows.from_rows([]), {}) == 0
    assert count(warehouse, "rejected_rows") == 0


def test_other_programs_can_open_the_file_between_two_uses(warehouse: Warehouse) -> None:
    warehouse.replace(CvSplits, splits("a", 3), {})
    code = "import duckdb, sys; print(duckdb.connect(sys.argv[1]).execute('select count(*) from cv_splits').fetchone())"
    for _ in range(2):
        said = subprocess.run(
            [sys.executable, "-c", code, str(warehouse.path)], capture_output=True, text=True, check=True
        )
        assert said.stdout == "(3,)\n"
        assert count(warehouse) == 3


def test_a_reader_within_a_reader_leaves_the_first_one_its_file(warehouse: Warehouse) -> None:
    warehouse.replace(CvSplits, splits("a", 3), {})
    with warehouse.read() as first:
        with warehouse.read() as second:
            assert second.execute("select count(*) from cv_splits").fetchone() == (3,)
        assert first.execute("select count(*) from cv_splits").fetchone() == (3,)


def test_what_one_use_makes_for_itself_is_gone_at_the_next(warehouse: Warehouse) -> None:
    with warehouse.read() as connection:
        connection.execute("create temp table own as select 1")
    with pytest.raises(duckdb.CatalogException, match="own"):
        warehouse.query("select * from own")
    with pytest.raises(duckdb.Error, match="read-only"), warehouse.read() as connection:
        connection.execute("create table more as select 1")


def test_a_duckdb_that_is_kept_is_started_once(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    if not engine._keeping:
        pytest.skip("of the kept one")
    warehouse.replace(CvSplits, splits("a", 3), {})
    monkeypatch.setattr(duckdb, "connect", lambda *_, **__: pytest.fail("another one was started"))
    assert count(warehouse) == 3


def test_one_that_is_idle_can_be_ended_and_one_that_is_used_goes_on(warehouse: Warehouse) -> None:
    if not engine._keeping:
        pytest.skip("of the kept one")
    warehouse.replace(CvSplits, splits("a", 3), {})
    with warehouse.read() as connection:
        engine.end_idle()
        assert connection.execute("select count(*) from cv_splits").fetchone() == (3,)
    assert engine._engines
    engine.end_idle()
    assert not engine._engines
    assert count(warehouse) == 3


def test_a_query_that_somebody_typed_reaches_no_file_and_later_uses_do(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    warehouse.replace(CvSplits, splits("a", 3), {})
    file = tmp_path / "rows.csv"
    file.write_text("n\n7\n")
    with warehouse.read() as connection:
        assert warehouse.answer("select count(*) n from cv_splits")["n"].to_pylist() == [3]
        with pytest.raises(duckdb.PermissionException):
            warehouse.answer(f"from '{file}'")
        assert connection.execute(f"from '{file}'").fetchall() == [(7,)]
    assert warehouse.query(f"from '{file}'")["n"].to_pylist() == [7]
    warehouse.replace(CvSplits, splits("b", 2), {"patient_id": "none"})
    assert count(warehouse) == 5


AT = datetime(2021, 1, 12, 2, tzinfo=timezone(timedelta(hours=-5)))


def made_at(value: datetime) -> dict[str, object]:
    return {
        "patient_id": "0001",
        "subject": "*",
        "table_name": "patients",
        "fingerprint": "f",
        "rows": 1,
        "made_at": value,
    }


def test_a_moment_goes_into_arrow_as_the_moment_that_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYARROW_IGNORE_TIMEZONE", "1")
    for value in (AT, pd.Timestamp(AT), AT.astimezone(UTC)):
        (found,) = Extractions.from_rows([made_at(value)])["made_at"].to_pylist()
        assert found == datetime(2021, 1, 12, 7, tzinfo=UTC)


def test_a_time_without_an_offset_is_no_moment_and_is_not_taken_for_utc() -> None:
    with pytest.raises(InvalidTable, match="made_at"):
        Extractions.from_rows([made_at(datetime(2021, 1, 12, 2))])
    rows = Extractions.from_rows([made_at(AT)])
    naive = rows.set_column(
        rows.column_names.index("made_at"),
        "made_at",
        pa.array([datetime(2021, 1, 12, 2)], pa.timestamp("us")),
    )
    with pytest.raises(InvalidTable, match="made_at"):
        Extractions.check_rows(naive)


def test_a_moment_is_no_day() -> None:
    with pytest.raises(InvalidTable, match="submitted_on"):
        BpiScores.from_rows([{"submission_id": "a", "submitted_on": AT}])


def test_columns_that_may_be_empty_now_are_so_in_a_file_of_an_earlier_version(warehouse: Warehouse) -> None:
    with warehouse.write() as writer:
        writer.execute("alter table bpi_scores drop column utc_offset_source")
        writer.execute("alter table bpi_scores alter column submitted_at set not null")
        writer.execute("comment on column bpi_scores.timeframe is 'what it meant before'")
    _CURRENT.clear()
    warehouse.create()
    reported = (
        "select column_name, is_nullable, comment from duckdb_columns() where table_name = 'bpi_scores'"
    )
    found = {r["column_name"]: r for r in warehouse.query(reported).to_pylist()}
    wanted = {c.name: c for c in BpiScores.columns()}
    assert found.keys() == wanted.keys()
    assert found["submitted_at"]["is_nullable"]
    assert not found["submission_id"]["is_nullable"]
    assert found["timeframe"]["comment"] == wanted["timeframe"].description


def test_opening_a_current_warehouse_in_a_new_process_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.create()
    # what this process remembers of the file a new one does not
    database._CURRENT.clear()
    with warehouse.read() as connection:
        assert database.plan_migration(connection).statements == ()
