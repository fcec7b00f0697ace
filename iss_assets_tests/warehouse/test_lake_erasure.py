"""Who withdraws is gone from the shared warehouse: from its data files, its catalog, and the database server's disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iss_assets.privacy.certificate import Certificate
from iss_assets.privacy.withdrawal import finish_pending, pending_path, withdraw
from iss_assets.settings import Settings
from iss_assets.warehouse import lake_erasure
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.lake_erasure import erase
from iss_assets_tests.lakes import BOTH_PLACES, data_bytes, database_of, keep_versions, stop_engines
from iss_assets_tests.postgres import PostgresServer

PATIENT = "0002"
MARKER = "quokka-marker-4711"
NOTE = f"Zz {MARKER}"
"""Greater than every other text: the catalog has it as a column's maximum."""
PICTURE = b"\xff\xfe" + MARKER.encode() + bytes(range(97, 161))


@pytest.fixture
def marked(studied: Warehouse, postgres: PostgresServer) -> Warehouse:
    """The study, in which one patient's texts, pictures and numbers are unlike all others, and in the statistics of Postgres."""
    keep_versions(studied)
    with studied.write() as writer:
        writer.execute("update videos set problem = ? where patient_id = ?", [NOTE, PATIENT])
        writer.execute("update videos set bytes = 987654321 where patient_id = ?", [PATIENT])
        writer.execute("update faces set crop = ? where patient_id = ?", [PICTURE * 3, PATIENT])
    postgres.execute("analyze", database_of(str(studied.settings.catalog)))
    postgres.execute("checkpoint")
    return studied


@pytest.fixture
def settings(settings: Settings, marked: Warehouse) -> Settings:
    settings.home.mkdir(exist_ok=True)
    return settings.model_copy(update={"warehouse": marked.settings})


def ask(settings: Settings, lines: list[str] | None = None) -> Certificate:
    told = [] if lines is None else lines
    return withdraw(settings, PATIENT, reason="asked", who="tester", log=told.append)


def places(warehouse: Warehouse, postgres: PostgresServer) -> set[str]:
    """Return where the marker is: in a file of data, of the catalog's database, or of the write-ahead log."""
    settings = warehouse.settings
    number = postgres.execute(
        f"select oid from pg_database where datname = '{database_of(str(settings.catalog))}'"
    )[0][0]
    needles = (MARKER.encode(), MARKER.encode().hex().upper().encode())
    folders = {
        "catalog": postgres.folder / "base" / str(number),
        "log": postgres.folder / "pg_wal",
        "home": warehouse.path.parent,
    }
    found = {
        name
        for name, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    }
    if any(needle in content for content in data_bytes(warehouse) for needle in needles):
        found.add("data")
    return found


def found(warehouse: Warehouse) -> Iterator[tuple[str, object]]:
    """Yield conditions on columns whose smallest or largest value was the patient's, and how many rows meet them."""
    for condition in (
        "bytes > 1000",
        "bytes >= 1000",
        "bytes < 987654321",
        "problem > 'Zz'",
        "problem is null",
        "problem <= 'Zz' or problem is null",
        "patient_id <= '0002'",
        "patient_id > '0002'",
        "video_id between '0001-1' and '0003-1'",
        "duration_s >= 8",
    ):
        rows = warehouse.query(f"select count(*) as n from videos where {condition}")["n"][0].as_py()
        yield condition, rows


@BOTH_PLACES
def test_after_a_withdrawal_that_was_interrupted_no_byte_is_left_and_filters_find_what_is_there(
    marked: Warehouse, settings: Settings, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert places(marked, postgres) == {"data", "catalog", "log"}
    with marked.read() as connection:
        others = connection.execute(
            "select hash(list(v order by video_id)) from videos v where patient_id <> ?", [PATIENT]
        ).fetchall()
    lines: list[str] = []
    for step in ("recompute_bounds", "write_anew"):
        # as if killed there
        with monkeypatch.context() as patch:
            patch.setattr(lake_erasure, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                ask(settings, lines)
        assert pending_path(settings.home).exists()
    certificate = finish_pending(settings, lines.append)
    assert certificate is not None and certificate.complete, certificate and certificate.remains
    assert certificate.rows["videos"] == 2 and certificate.rows["faces"] == 12
    assert any("reading since before is waited for" in line for line in lines)
    assert not any(MARKER in line or PATIENT in line for line in lines)

    assert places(marked, postgres) == set()
    assert dict(found(marked)) == {
        "bytes > 1000": 0,
        "bytes >= 1000": 14,
        "bytes < 987654321": 14,
        "problem > 'Zz'": 0,
        "problem is null": 14,
        "problem <= 'Zz' or problem is null": 14,
        "patient_id <= '0002'": 2,
        "patient_id > '0002'": 12,
        "video_id between '0001-1' and '0003-1'": 3,
        "duration_s >= 8": 14,
    }
    with marked.read() as connection:
        assert others == connection.execute("select hash(list(v order by video_id)) from videos v").fetchall()
    # what is written later is found, too, by this process and by one that begins then
    with marked.write() as writer:
        writer.execute("update videos set bytes = 5000, problem = 'Zzz' where patient_id = '0003'")
    for _ in range(2):
        assert {"bytes > 1000": 2, "problem > 'Zz'": 2}.items() <= dict(found(marked)).items()
        stop_engines()
    assert places(marked, postgres) == set()


def delete(warehouse: Warehouse) -> None:
    with warehouse.write() as writer:
        for table in ("videos", "faces"):
            writer.execute(f"delete from {table} where patient_id = ?", [PATIENT])


def test_readers_from_before_are_waited_for_and_named_and_lose_nothing(marked: Warehouse) -> None:
    impatient = Warehouse(marked.path, marked.settings.model_copy(update={"lock_timeout_s": 1.0}))
    with marked.read() as connection:
        delete(marked)
        with pytest.raises(WarehouseError, match=r"1 sessions still read rows from before.*127\.0\.0\.1"):
            erase(impatient)
        assert connection.execute("select count(*), count(crop) from faces").fetchone() == (96, 96)
    assert erase(impatient) == []
    assert impatient.query("select count(*) as n from faces")["n"].to_pylist() == [84]


def test_what_the_role_may_not_do_is_named_with_what_the_administrator_has_to_run(
    marked: Warehouse, postgres: PostgresServer, tmp_path: Path
) -> None:
    database = database_of(str(marked.settings.catalog))
    delete(marked)
    stop_engines()
    postgres.execute(f"create role limited login password '{postgres.password}'")
    try:
        postgres.execute(
            "do $$ declare t text; begin for t in select oid::regclass::text from pg_class where relkind = 'r' and "
            "relnamespace = 'public'::regnamespace loop execute 'alter table ' || t || ' owner to limited'; end loop; end $$",
            database,
        )
        passwords = tmp_path / "pgpass"
        passwords.write_text(passwords.read_text() + f"127.0.0.1:*:*:limited:{postgres.password}\n")
        catalog = str(marked.settings.catalog).replace("user=iss", "user=limited")
        limited = Warehouse(marked.path, marked.settings.model_copy(update={"catalog": catalog}))
        with pytest.raises(
            WarehouseError, match=f"pg_statistic still holds.*alter database {database} owner to limited"
        ):
            erase(limited)
        postgres.execute(f"alter database {database} owner to limited")
        (left,) = erase(limited)
        assert "write-ahead log" in left
        assert places(marked, postgres) == {"log"}
        for statement in left.partition("run: ")[2].split("; ")[:2]:
            postgres.execute(statement, database)
        assert erase(limited) == []
        assert places(marked, postgres) == set()
    finally:
        stop_engines()
        postgres.execute(f"alter database {database} owner to iss")
        postgres.execute("drop owned by limited cascade", database)
        postgres.execute("drop role limited")
