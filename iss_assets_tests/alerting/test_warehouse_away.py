"""A warehouse that cannot be used is an alert, though no alert can be stored then."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iss_assets.alerting.store import deliver, record
from iss_assets.schemas.modeling import CvSplits
from iss_assets.server.warehouse_watch import WarehouseWatch
from iss_assets.settings import AlertSettings, Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.errors import WarehouseAway
from iss_assets_tests.alerting.receiver import Receiver
from iss_assets_tests.alerting.test_alerts import observed
from iss_assets_tests.warehouse.test_database import splits

Watched = Callable[..., tuple[Settings, Receiver]]


@pytest.fixture
def watched(tmp_path: Path, receivers: Callable[[], Receiver]) -> Watched:
    """Settings of a home with rows, and the address of its alerts."""

    def make(
        home: Path = tmp_path / "home", warehouse: WarehouseSettings | None = None
    ) -> tuple[Settings, Receiver]:
        receiver = receivers()
        alerts = AlertSettings.model_validate({"urls": [receiver.url], "retry_s": 0, "timeout_s": 8})
        (tmp_path / "study").mkdir()
        settings = Settings(
            study=tmp_path / "study", home=home, alerts=alerts, warehouse=warehouse or WarehouseSettings()
        )
        Warehouse(settings.warehouse_path, settings.warehouse).replace(CvSplits, splits("old", 2), {})
        return settings, receiver

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 80 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def stored(settings: Settings) -> list[tuple[str, str, str]]:
    found = Warehouse(settings.warehouse_path, settings.warehouse).query(
        "select check_name, status, delivery from alerts order by all"
    )
    return [tuple(row.values()) for row in found.to_pylist()]


def look(watch: WarehouseWatch, times: int) -> None:
    for _ in range(times):
        watch.look()


def test_what_is_away_for_longer_than_a_moment_is_told_once_and_so_is_its_return(watched: Watched) -> None:
    settings, receiver = watched()
    said: list[str] = []
    watch = WarehouseWatch(settings, said.append)
    aside = settings.warehouse_path.with_name("aside")

    look(watch, 3)
    settings.warehouse_path.rename(aside)
    settings.warehouse_path.write_bytes(b"this is not a database")
    watch.look()
    aside.replace(settings.warehouse_path)
    look(watch, 2)
    # a moment is no alert
    assert (said, receiver.tried, stored(settings)) == ([], 0, [])

    settings.warehouse_path.rename(aside)
    settings.warehouse_path.write_bytes(b"this is not a database")
    look(watch, 5)
    assert [message["title"] for message in receiver.got] == ["Study: 1 issue"]
    assert receiver.got[0]["message"].splitlines()[0] == (
        "ERROR raised: whole study, The warehouse cannot be used: nothing new is stored (warehouse / warehouse_away)"
    )
    aside.replace(settings.warehouse_path)
    look(watch, 3)
    assert [message["title"] for message in receiver.got] == ["Study: 1 issue", "Study: 1 resolved"]
    assert stored(settings) == [("warehouse_away", "resolved", "delivered")]
    assert said == [
        "The warehouse cannot be used: warehouse.duckdb cannot be opened: it is damaged, unreadable, or not a DuckDB file.",
        "The warehouse can be used again.",
    ]
    assert str(settings.home) not in repr([said, receiver.got])


def test_a_receiver_that_is_down_too_is_tried_again_and_hears_nothing_of_what_is_over(
    watched: Watched,
) -> None:
    settings, receiver = watched()
    watch = WarehouseWatch(settings, lambda _: None)
    aside = settings.warehouse_path.with_name("aside")
    receiver.answer = "fail"
    settings.warehouse_path.rename(aside)
    settings.warehouse_path.write_bytes(b"this is not a database")
    look(watch, 4)
    assert (receiver.tried, receiver.got) == (3, [])
    assert len({key for key, _ in receiver.keys}) == 1, "the same message, again"
    aside.replace(settings.warehouse_path)
    watch.look()
    assert stored(settings) == [("warehouse_away", "resolved", "not_needed")]
    # told of it, and down when it is over: the usual deliveries take it up
    receiver.answer = "ok"
    settings.warehouse_path.rename(aside)
    settings.warehouse_path.write_bytes(b"this is not a database")
    look(watch, 2)
    receiver.answer = "fail"
    aside.replace(settings.warehouse_path)
    watch.look()
    assert ("warehouse_away", "resolved", "waiting") in stored(settings)
    receiver.answer = "ok"
    deliver(Warehouse(settings.warehouse_path), settings)
    assert [message["title"] for message in receiver.got] == ["Study: 1 issue", "Study: 1 resolved"]


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_home_whose_disk_is_full_or_read_only(watched: Watched, small_disk: Path, how: str) -> None:
    settings, receiver = watched(small_disk / "home")
    warehouse, said = Warehouse(settings.warehouse_path), list[str]()
    watch = WarehouseWatch(settings, said.append)
    look(watch, 2)
    assert said == []
    ballast = small_disk / "ballast"
    if how == "full":
        ballast.write_bytes(bytes(30 * 2**20))
        reason = "the home, ISS_HOME, is full: less than 64 MiB are free"
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        reason = "the home, ISS_HOME, is not writable"
    # the study's sensor asks the same before it requests runs
    with pytest.raises(WarehouseAway, match=reason):
        warehouse.require_room()
    look(watch, 3)
    assert said == [f"The warehouse cannot be used: {reason}."]
    assert len(receiver.got) == 1
    if how == "full":
        ballast.unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    watch.look()
    assert len(receiver.got) == 2 and stored(settings) == [("warehouse_away", "resolved", "delivered")]


def test_a_shared_warehouse_whose_data_folder_is_gone(watched: Watched, shared: WarehouseSettings) -> None:
    settings, receiver = watched(warehouse=shared)
    data = Path(str(shared.data_path))
    watch = WarehouseWatch(settings, lambda _: None)
    data.rename(data.with_name("unmounted"))
    look(watch, 3)
    assert [message["title"] for message in receiver.got] == ["Study: 1 issue"]
    data.with_name("unmounted").rename(data)
    # what else had to wait is sent as usual
    record(Warehouse(settings.warehouse_path, shared), [observed()])
    watch.look()
    assert [message["title"] for message in receiver.got] == ["Study: 1 issue", "Study: 1 resolved"]
    assert stored(settings) == [
        ("dark_or_grainy", "raised", "waiting"),
        ("warehouse_away", "resolved", "delivered"),
    ]


def test_a_busy_warehouse_is_not_away(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, receiver = watched()
    monkeypatch.setattr("iss_assets.server.warehouse_watch._LOCK_S", 0.1)
    watch = WarehouseWatch(settings, pytest.fail)
    with Warehouse(settings.warehouse_path).write():
        look(watch, 3)
    assert not receiver.tried
