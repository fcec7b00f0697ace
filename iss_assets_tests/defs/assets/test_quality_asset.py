"""What the quality of a patient's videos costs in reading, and which person's face it finds in them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from iss_assets.defs.assets import quality
from iss_assets.settings import IdentitySettings, Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.made_up import show_faces, tiny_study


@pytest.fixture
def reads(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each video's pictures and meshes are read, in a study of two videos a patient."""
    tiny_study(warehouse, patients=4)
    counted: Counter[str] = Counter()
    plain = quality.read_visual

    def counting(connection: Any, settings: Settings, video_id: str) -> quality.VisualRows:
        counted[video_id] += 1
        return plain(connection, settings, video_id)

    monkeypatch.setattr(quality, "read_visual", counting)
    return counted


@pytest.mark.parametrize("room", [1, quality._READ_BYTES])
def test_a_video_is_read_once_with_the_same_results_however_many_are_read_at_once(
    warehouse: Warehouse,
    settings: Settings,
    reads: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    room: int,
) -> None:
    whole = quality.assess_patient(warehouse, settings, "0001")
    reads.clear()
    monkeypatch.setattr(quality, "_READ_BYTES", room)
    assert quality.assess_patient(warehouse, settings, "0001") == whole
    assert reads == {"0001-1": 1, "0001-2": 1}
    assert [row["video_id"] for row in whole.rows] == ["0001-1", "0001-2"]


def test_the_rows_of_a_long_video_are_read_alone(
    warehouse: Warehouse, settings: Settings, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little its container says: what was read counts."""
    at_once: list[int] = []
    plain = Warehouse.read

    def counting(self: Warehouse, **options: Any) -> Any:
        at_once.append(sum(reads.values()))
        return plain(self, **options)

    monkeypatch.setattr(Warehouse, "read", counting)
    monkeypatch.setattr(quality, "_BYTES_PER_FRAME", 0)
    monkeypatch.setattr(quality, "_READ_BYTES", 1)
    quality.assess_patient(warehouse, settings, "0001")
    assert at_once[-2:] == [0, 1], "opened again for the second video"


def test_another_persons_video_is_flagged_with_its_moments(warehouse: Warehouse, settings: Settings) -> None:
    tiny_study(warehouse, patients=4)
    show_faces(warehouse, {"0001-1": [0, 0, 0], "0001-2": [0, 1, 1], "0002-1": [0, 0], "0002-2": [2, 2]})
    first, second = quality.assess_patient(warehouse, settings, "0001").rows
    assert "other_person" in first["flags"] and "other_person" in second["flags"]
    assert json.loads(second["measures"])["identity_distance"] == pytest.approx(1)
    warehouse_of = quality.assess_patient(warehouse, settings, "0002").rows
    assert all("other_person" in row["flags"] for row in warehouse_of), "two videos, two persons"
    alone = quality.assess_patient(warehouse, settings, "0003").rows
    assert not any("other_person" in row["flags"] for row in alone), "nothing is stored of their faces"


def test_a_person_who_takes_over_midway_is_flagged_with_the_moments(
    warehouse: Warehouse, settings: Settings
) -> None:
    tiny_study(warehouse, patients=4)
    show_faces(warehouse, {"0001-1": [0, 0, 0, 1], "0001-2": [0, 0]})
    first, second = quality.assess_patient(warehouse, settings, "0001").rows
    assert "other_person" in first["flags"] and "other_person" not in second["flags"]
    assert json.loads(first["moments"])["other_person"] == [[3.0, 4.0]]


def test_nobody_is_compared_where_that_is_switched_off(warehouse: Warehouse, settings: Settings) -> None:
    tiny_study(warehouse, patients=4)
    show_faces(warehouse, {"0001-1": [0, 0], "0001-2": [1, 1]})
    off = settings.model_copy(update={"identity": IdentitySettings(enabled=False)})
    rows = quality.assess_patient(warehouse, off, "0001").rows
    assert not any("other_person" in row["flags"] or "identity" in row["measures"] for row in rows)
    assert quality.assess_patient(warehouse, off, "0001").fingerprint != (
        quality.assess_patient(warehouse, settings, "0001").fingerprint
    )
