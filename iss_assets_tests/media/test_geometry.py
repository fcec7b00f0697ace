"""Meshes of a long video are examined in blocks."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from iss_assets.media import geometry
from iss_assets.settings import QualitySettings

SETTINGS = QualitySettings()


def test_meshes_in_blocks_are_examined_as_a_whole_would_be() -> None:
    rng = np.random.default_rng(0)
    face = rng.random((468, 3))
    points = (face + 0.1 * rng.standard_normal((2500, 468, 3)) * rng.random((2500, 1, 1))).astype(np.float32)
    index = np.cumsum(rng.integers(1, 3, 2500))
    whole = geometry._examine(points, index, SETTINGS)
    found = geometry.examine_meshes(points, index, SETTINGS)
    expected = [float(whole[n].mean()) for n in ("turned", "mirrored", "implausible", "jumped")]
    assert astuple(found)[:5] == (*expected, float(np.median(whole["roll"])))
    assert found.not_upright.tolist() == (whole["turned"] | whole["mirrored"]).tolist()
    after_neighbor = np.flatnonzero(np.diff(index) == 1) + 1
    jumped = {int(i) for i, is_far in zip(after_neighbor, whole["jumped"], strict=True) if is_far}
    assert found.not_a_face.tolist() == [bool(b) or i in jumped for i, b in enumerate(whole["implausible"])]
    assert 0 < found.jumping < 1 and 0 < found.turned < 1
