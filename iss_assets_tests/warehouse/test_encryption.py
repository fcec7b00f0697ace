"""Encryption at rest: nothing of a study is in the clear, no error shows the key, and a kill loses nothing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from iss_assets import load
from iss_assets.schemas.intake import RejectedRows
from iss_assets.warehouse import engine
from iss_assets.warehouse.conversion import convert
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.engine import attach, encryption_library, is_encrypted
from iss_assets.warehouse.errors import KeyProblem
from iss_assets.warehouse.export import export_tables
from iss_assets.warehouse.keys import configured_key, forget_keys, new_key, read_key, write_key
from iss_assets.warehouse.spool import spool_lock
from iss_assets_tests.cli.processes import ROOT
from iss_assets_tests.warehouse.encrypted_homes import MARKERS, content_of, fill, found, settings_with


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | None]:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("first", "second"):
        write_key(folder / name, new_key())
    return {"none": None, "first": folder / "first", "second": folder / "second"}


@pytest.fixture(scope="module")
def homes(keys: dict[str, Path | None], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two homes with the same content, in the clear and encrypted."""
    root = tmp_path_factory.mktemp("homes")
    for name in ("none", "first"):
        fill(root / name, keys[name])
    return {name: root / name for name in ("none", "first")}


@pytest.fixture
def encrypted(homes: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(homes["first"], tmp_path / "encrypted"))


@pytest.fixture
def kept_running(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(engine, "_engines", {})
    monkeypatch.setattr(engine, "_keeping", True)
    yield
    for left in engine._engines.values():
        left.connection.close()


LEFT_IN_THE_LOG = """
import os, signal, sys
from pathlib import Path
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.warehouse.encrypted_homes import MARKERS, settings_with
warehouse = Warehouse(Path(sys.argv[1]) / "warehouse.duckdb", settings_with(Path(sys.argv[2]) if sys.argv[2] else None))
with warehouse.write() as writer:
    writer.execute("set checkpoint_threshold = '1GB'")
    writer.execute("update rejected_rows set code = ?", [MARKERS["log"].decode()])
    writer.execute("commit")
    os.kill(os.getpid(), signal.SIGKILL)
"""

SPILLS = """
select '{}' || i as word, hash(i) as place from range(1_500_000) as t(i) order by place
"""


@pytest.mark.parametrize("name", ["none", "first"])
def test_markers_in_every_channel_are_found_in_the_clear_and_not_when_encrypted(
    name: str, homes: dict[str, Path], keys: dict[str, Path | None], tmp_path: Path
) -> None:
    home = Path(shutil.copytree(homes[name], tmp_path / "home"))
    key = keys[name]
    warehouse = Warehouse(home / "warehouse.duckdb", settings_with(key))
    warehouse.snapshot(home / "snapshot.duckdb")
    killed = subprocess.run([sys.executable, "-c", LEFT_IN_THE_LOG, home, key or ""], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (home / "warehouse.duckdb.wal").stat().st_size > 0
    where = found(home)
    assert is_encrypted(warehouse.path) is is_encrypted(home / "snapshot.duckdb") is (key is not None)
    with Warehouse(home / "snapshot.duckdb", settings_with(key)).read(threads=1) as connection:
        rows = connection.execute(SPILLS.format(MARKERS["spilled"].decode()))
        assert rows.fetchone()
        spilled = list((home / "snapshot.duckdb.tmp").iterdir())
        assert sum(path.stat().st_size for path in spilled) > 1_000_000
        where |= {
            channel: names
            for channel, names in found(home).items()
            if channel == "spilled" or key is not None
        }
    if key is not None:
        assert where == {}
        code = warehouse.query("select code from rejected_rows")["code"].to_pylist()
        assert code == [MARKERS["log"].decode()]
    else:
        assert where["pixels"] >= {"warehouse.duckdb", "snapshot.duckdb"} <= where["words"]
        assert where["spool"] == {"v1.faces.f.arrow"} and where["note"] == {"v1.faces.f.txt"}
        assert where["log"] == {"warehouse.duckdb.wal"}
        assert where["spilled"] == {path.name for path in spilled} & where["spilled"] != set()


def test_every_way_of_opening_works_with_the_key(
    encrypted: Path, keys: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keys["first"] is not None
    monkeypatch.setenv("ISS_WAREHOUSE__KEY_FILE", str(keys["first"]))
    assert load.query("select count(*) as n from faces", encrypted)["n"][0] == 50
    warehouse = Warehouse(encrypted / "warehouse.duckdb", settings_with(keys["first"]))
    (table,) = export_tables(warehouse, ["rejected_rows"], "csv", tmp_path / "export")
    assert MARKERS["words"] in table.path.read_bytes()
    assert found(encrypted) == {}


@pytest.mark.usefixtures("kept_running")
def test_a_process_that_keeps_duckdb_running_follows_a_home_that_is_converted(
    homes: dict[str, Path], keys: dict[str, Path | None], tmp_path: Path
) -> None:
    home = Path(shutil.copytree(homes["none"], tmp_path / "home"))
    before = content_of(home, None)
    for old, new in (("none", "first"), ("first", "second"), ("second", "none")):
        warehouse = Warehouse(home / "warehouse.duckdb", settings_with(keys[old]))
        done = convert(warehouse, configured_key(settings_with(keys[new])))
        assert done.waiting == 4 and done.rows >= 51
        assert content_of(home, keys[new]) == before
    assert found(home) == found(homes["none"])


def test_a_changed_key_is_asked_for_again(
    encrypted: Path, keys: dict[str, Path | None], tmp_path: Path
) -> None:
    assert keys["first"] is not None and keys["second"] is not None
    current = tmp_path / "current"
    shutil.copy(keys["first"], current)
    forget_keys()
    settings = settings_with(None).model_copy(update={"key_command": f"cat '{current}'"})
    warehouse = Warehouse(encrypted / "warehouse.duckdb", settings)
    assert warehouse.query("select count(*) as n from faces")["n"].to_pylist() == [50]
    convert(warehouse, read_key(keys["second"]))
    shutil.copy(keys["second"], current)
    assert warehouse.query("select count(*) as n from faces")["n"].to_pylist() == [50]
    forget_keys()


def test_a_command_that_gives_a_wrong_key_is_asked_once_more_and_no_longer(
    encrypted: Path, keys: dict[str, Path | None], tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    forget_keys()
    command = f"sh -c 'echo once >> {asked}; cat {keys['second']}'"
    settings = settings_with(None).model_copy(update={"key_command": command})
    warehouse = Warehouse(encrypted / "warehouse.duckdb", settings)
    with pytest.raises(KeyProblem, match="not the one"):
        warehouse.query("select 1")
    assert asked.read_text().split() == ["once", "once"]
    forget_keys()


@pytest.mark.parametrize("opens", ["none", "second"])
def test_a_missing_or_wrong_key_is_one_clear_line_and_changes_nothing(
    opens: str, encrypted: Path, keys: dict[str, Path | None], tmp_path: Path
) -> None:
    warehouse = Warehouse(encrypted / "warehouse.duckdb", settings_with(keys[opens]))
    before = {path: path.read_bytes() for path in encrypted.rglob("*") if path.is_file()}
    uses = [
        lambda: warehouse.query("select 1"),
        lambda: warehouse.replace(RejectedRows, RejectedRows.from_rows([]), {}),
        lambda: warehouse.snapshot(tmp_path / "copy"),
        lambda: warehouse.create(),
        lambda: convert(warehouse, new_key()),
    ]
    for use in uses:
        with pytest.raises(KeyProblem) as caught:
            use()
        assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)
        assert ("ISS_WAREHOUSE__KEY_FILE" if opens == "none" else "not the one") in str(caught.value)
    after = {path: path.read_bytes() for path in encrypted.rglob("*") if path.is_file()}
    locks = {path for path in after if ".lock" in path.name}
    assert {p: c for p, c in after.items() if p not in locks} == {
        p: c for p, c in before.items() if p not in locks
    }
    assert not (tmp_path / "copy").exists()


def test_a_key_for_a_home_in_the_clear_is_an_error(
    homes: dict[str, Path], keys: dict[str, Path | None]
) -> None:
    with pytest.raises(KeyProblem, match="iss encrypt"):
        Warehouse(homes["none"] / "warehouse.duckdb", settings_with(keys["first"])).query("select 1")


def test_no_error_traceback_or_log_shows_the_key(
    encrypted: Path, keys: dict[str, Path | None], tmp_path: Path
) -> None:
    assert keys["first"] is not None and keys["second"] is not None
    (tmp_path / "no_database").write_bytes(b"x" * 10_000)
    damaged = tmp_path / "damaged.duckdb"
    content = (encrypted / "warehouse.duckdb").read_bytes()
    damaged.write_bytes(content[:4096] + bytes(len(content) - 4096))
    for key_file in (keys["first"], keys["second"]):
        secret = read_key(key_file)
        for path in (
            encrypted / "warehouse.duckdb",
            tmp_path / "no_database",
            damaged,
            tmp_path / "no/folder",
        ):
            texts = []
            connection = duckdb.connect()
            connection.execute(f"load '{encryption_library()}'")
            connection.execute("call enable_logging(level = 'trace')")
            for read_only in (True, False):
                try:
                    attach(connection, path, "w", secret, read_only=read_only)
                    connection.execute("detach w")
                except (duckdb.Error, KeyProblem) as error:
                    texts += [
                        "".join(
                            traceback.TracebackException.from_exception(error, capture_locals=True).format()
                        )
                    ]
            try:
                Warehouse(path, settings_with(key_file)).query("select 1")
            except (OSError, WarehouseError) as error:
                texts += [
                    "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
                ]
            logged = connection.execute("select * from duckdb_logs").fetchall()
            assert any("attach" in str(row) for row in logged)
            opens = path == encrypted / "warehouse.duckdb" and key_file == keys["first"]
            assert opens or len(texts) >= 2
            assert secret.text not in "".join(texts) and secret.text not in str(logged)


def test_whoever_may_query_cannot_read_the_key(encrypted: Path, keys: dict[str, Path | None]) -> None:
    assert keys["first"] is not None
    secret = read_key(keys["first"]).text
    with Warehouse(encrypted / "warehouse.duckdb", settings_with(keys["first"])).read() as connection:
        for query in ("duckdb_databases()", "duckdb_settings()", "duckdb_secrets()", "duckdb_variables()"):
            rows = connection.execute(f"select * from {query}").fetchall()
            assert secret not in str(rows)
        with pytest.raises(duckdb.PermissionException):
            connection.execute("select * from read_csv('https://127.0.0.1:1/x.csv')")


def test_a_damaged_encrypted_file_is_reported_as_damaged(
    encrypted: Path, keys: dict[str, Path | None]
) -> None:
    path = encrypted / "warehouse.duckdb"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))
    with pytest.raises(WarehouseError, match="damaged"):
        Warehouse(path, settings_with(keys["first"])).query("select 1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("none", "first", marks=pytest.mark.thorough),
        ("first", "second"),
        pytest.param("first", "none", marks=pytest.mark.thorough),
    ],
)
def test_a_conversion_killed_at_any_point_loses_nothing_and_leaves_nothing(
    old: str, new: str, homes: dict[str, Path], keys: dict[str, Path | None], tmp_path: Path
) -> None:
    template = homes["none" if old == "none" else "first"]
    expected = content_of(template, keys[old])
    command = [sys.executable, "-m", "iss_assets_tests.warehouse.killed_conversion"]
    subprocess.run(
        [*command, template, *(str(keys[k] or k) for k in (old, new)), tmp_path], cwd=ROOT, check=True
    )
    killed_at = {int(path.stem): path.read_text() for path in tmp_path.glob("*.point")}
    assert len(killed_at) >= 15 and len(set(killed_at.values())) >= 10
    opened_by = []
    for number in range(1, len(killed_at) + 2):
        home = tmp_path / str(number)
        in_the_clear_before = found(home)
        results = {}
        # the next command cleans up, whichever key it has
        for name in (new, old):
            with suppress(KeyProblem):
                results[name] = content_of(home, keys[name])
        (opens,) = results
        assert results[opens] == expected, killed_at[number]
        opened_by.append(opens)
        left = {p.name for p in home.rglob("*") if p.is_file() and ".lock" not in p.name}
        assert left == {"warehouse.duckdb", "v1.faces.f.arrow", "v1.faces.f.txt"}
        assert {p.name for p in home.iterdir() if p.is_dir()} == {"spool"}
        if opens == "none":
            assert found(home) == found(template if old == "none" else homes["none"])
        else:
            assert found(home) == {}
        if "none" not in (old, new):
            assert in_the_clear_before == {}
    # the old key up to a point, the new one from then on
    changed = opened_by.index(new)
    assert opened_by == [old] * changed + [new] * (len(opened_by) - changed)
    assert killed_at[changed + 1] == "recorded"


def test_a_conversion_waits_for_patients_in_progress_and_says_so(
    encrypted: Path, keys: dict[str, Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iss_assets.warehouse.conversion._SPOOL_TIMEOUT_S", 0.05)
    warehouse = Warehouse(encrypted / "warehouse.duckdb", settings_with(keys["first"]))
    with (
        spool_lock(encrypted / "spool", exclusive=False, timeout_s=1),
        pytest.raises(WarehouseError, match="in use"),
    ):
        convert(warehouse, None)
    convert(warehouse, None)
    assert is_encrypted(warehouse.path) is False


def test_a_full_disk_and_a_copy_that_differs_change_nothing(
    homes: dict[str, Path], keys: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(shutil.copytree(homes["none"], tmp_path / "home"))
    warehouse, key = Warehouse(home / "warehouse.duckdb", settings_with(None)), new_key()
    before = warehouse.path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(
            "iss_assets.warehouse.conversion.shutil.disk_usage", lambda path: SimpleNamespace(free=0)
        )
        with pytest.raises(WarehouseError, match="0 MB are free"):
            convert(warehouse, key)
    with monkeypatch.context() as patched:
        patched.setattr("iss_assets.warehouse.conversion.swap.reached", _changes_the_copy)
        with pytest.raises(WarehouseError, match="table faces differs"):
            convert(warehouse, key)
    assert warehouse.path.read_bytes() == before
    assert not list(home.glob("*.converting*")) and not list(home.glob("*.spool"))


def _changes_the_copy(point: str) -> None:
    if point == "copied":
        frame = sys._getframe(1)
        frame.f_locals["connection"].execute(
            "update converted.faces set crop = 'x'::blob where frame_index = 7"
        )
