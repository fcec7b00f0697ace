"""Stored meshes are read a slice at a time, whatever pieces Arrow holds them in."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as arrow
import pytest

from iss_assets.media import meshes
from iss_assets.media.landmarks import POINT_VALUES, pack_points
from iss_assets.media.meshes import StoredMeshes

COUNT = 50
FOUND = np.arange(COUNT) % 7 != 3


def rows(frames: np.ndarray) -> arrow.Table:
    """Return samples whose meshes tell by their values which they are."""
    detected, points = pack_points(
        [np.arange(POINT_VALUES, dtype=np.float32) + 10_000 * n if FOUND[n] else None for n in frames]
    )
    return arrow.table({"frame_index": 2 * frames, "detected": detected, "points": points})


@pytest.fixture(params=["one piece", "several pieces", "a part of a piece", "batches of 4"])
def landmarks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> arrow.Table:
    """Return the same 50 samples, held in different ways."""
    if request.param == "several pieces":
        edges = (0, 1, 20, 20, 37, COUNT)
        return arrow.concat_tables([rows(np.arange(a, b)) for a, b in pairwise(edges)])
    if request.param == "a part of a piece":
        more = arrow.concat_tables([rows(np.arange(10)), rows(np.arange(COUNT))]).combine_chunks()
        return more.slice(10)
    if request.param == "batches of 4":
        monkeypatch.setattr(meshes, "_BATCH", 4)
    return rows(np.arange(COUNT))


@pytest.mark.parametrize(
    "span", [slice(None), slice(0, 5), slice(11, 30), slice(None, None, 8), slice(3, 40, 5), slice(60, 70)]
)
def test_a_slice_holds_the_meshes_that_were_found(landmarks: arrow.Table, span: slice) -> None:
    stored = StoredMeshes(landmarks)
    expected = [values for values in landmarks["points"].to_pylist() if values is not None]
    assert len(stored) == FOUND.sum()
    assert stored.frame_index.tolist() == (2 * np.flatnonzero(FOUND)).tolist()
    wanted = np.array(expected[span], np.float32).reshape(-1, 468, 3)
    assert np.array_equal(stored[span], wanted)


def test_a_number_that_is_missing_is_no_number() -> None:
    values: list[Any] = [[0.5] * POINT_VALUES, None, [0.25] * POINT_VALUES]
    values[2][1] = None
    points = arrow.array(values, arrow.list_(arrow.float32(), POINT_VALUES))
    stored = StoredMeshes(
        arrow.table({"frame_index": [0, 1, 2], "detected": [True, False, True], "points": points})
    )
    whole = stored[:]
    assert np.isnan(whole[1, 0]).tolist() == [False, True, False] and np.isnan(whole).sum() == 1


def test_a_video_without_meshes_has_none() -> None:
    nothing = rows(np.arange(0))
    assert len(StoredMeshes(nothing)) == 0 and StoredMeshes(nothing)[:].shape == (0, 468, 3)
    missed = rows(np.array([3, 10]))
    assert len(StoredMeshes(missed)) == 0 and StoredMeshes(missed)[0:5].shape == (0, 468, 3)
