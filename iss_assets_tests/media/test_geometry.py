"""Meshes of a long video are examined in blocks, and at the proportions of the picture."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from iss_assets.media import geometry
from iss_assets.media.crops import crops_in, height_share
from iss_assets.settings import FaceSettings, QualitySettings
from iss_assets_tests.features.synthetic_head import film, head, turned

SETTINGS = QualitySettings()


def test_meshes_in_blocks_are_examined_as_a_whole_would_be() -> None:
    rng = np.random.default_rng(0)
    face = rng.random((468, 3))
    points = (face + 0.1 * rng.standard_normal((2500, 468, 3)) * rng.random((2500, 1, 1))).astype(np.float32)
    index = np.cumsum(rng.integers(1, 3, 2500))
    heights = rng.uniform(0.7, 1.4, 2500)
    whole = geometry._examine(points, heights, index, SETTINGS)
    found = geometry.examine_meshes(points, heights, index, SETTINGS)
    expected = [float(whole[n].mean()) for n in ("turned", "mirrored", "implausible", "jumped")]
    assert astuple(found)[:5] == (*expected, float(np.median(whole["roll"])))
    assert found.not_upright.tolist() == (whole["turned"] | whole["mirrored"]).tolist()
    after_neighbor = np.flatnonzero(np.diff(index) == 1) + 1
    jumped = {int(i) for i, is_far in zip(after_neighbor, whole["jumped"], strict=True) if is_far}
    assert found.not_a_face.tolist() == [bool(b) or i in jumped for i, b in enumerate(whole["implausible"])]
    assert 0 < found.jumping < 1 and 0 < found.turned < 1


@pytest.mark.parametrize(
    "how", [{}, {"sides": (1.0, 1.6)}, {"sides": (1.6, 1.0)}, {"at": (60.0, 200.0)}, {"at": (320.0, 50.0)}]
)
def test_a_head_tilted_by_25_degrees_is_tilted_by_25_degrees_in_a_crop_of_any_proportions(how: dict) -> None:
    frames, faces, landmarks = film([turned(head(), 0, 0, 25)] * 3, **how)
    points = np.array(landmarks["points"].to_pylist(), np.float32).reshape(-1, 468, 3)
    index = landmarks["frame_index"].to_numpy()
    heights = height_share(crops_in(frames, faces, index, FaceSettings()))
    assert geometry.examine_meshes(points, heights, index, SETTINGS).roll_deg == pytest.approx(25, abs=0.3)
