"""What the quality of a patient's videos costs in reading, with the same results however much is kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from iss_assets.defs.assets import quality
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.made_up import tiny_study


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


def test_a_video_is_read_once_though_it_is_compared_with_the_others(
    warehouse: Warehouse, settings: Settings, reads: Counter[str]
) -> None:
    rows = quality.assess_patient(warehouse, settings, "0001").rows
    assert reads == {"0001-1": 1, "0001-2": 1}
    assert [row["video_id"] for row in rows] == ["0001-1", "0001-2"]
    assert all('"identity_distance"' in row["measures"] for row in rows), "they were compared"


def test_what_would_fill_the_memory_is_read_again_with_the_same_results(
    warehouse: Warehouse, settings: Settings, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = quality.assess_patient(warehouse, settings, "0001")
    reads.clear()
    with warehouse.read() as connection:
        size = quality.read_visual(connection, settings, "0001-1").bytes
    reads.clear()
    monkeypatch.setattr(quality, "_KEPT_BYTES", size)
    assert quality.assess_patient(warehouse, settings, "0001") == once
    assert reads == {"0001-1": 1, "0001-2": 2}


def test_a_video_larger_than_its_container_says_is_not_kept(
    warehouse: Warehouse, settings: Settings, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = quality.assess_patient(warehouse, settings, "0001")
    reads.clear()
    monkeypatch.setattr(quality, "_BYTES_PER_FRAME", 0)
    monkeypatch.setattr(quality, "_KEPT_BYTES", 0)
    assert quality.assess_patient(warehouse, settings, "0001") == once
    assert reads == {"0001-1": 3, "0001-2": 3}, "looked at, let go, and read for each of the two passes"


def test_a_single_video_is_compared_with_nothing(
    warehouse: Warehouse, settings: Settings, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse.write() as writer:
        writer.execute("delete from videos where video_id = '0001-2'")
    monkeypatch.setattr(quality, "_KEPT_BYTES", 0)
    (row,) = quality.assess_patient(warehouse, settings, "0001").rows
    assert reads == {"0001-1": 1}
    assert '"identity_distance"' not in row["measures"]
