"""SFace in OpenVINO against OpenCV's own execution of the same file."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iss_assets.media.face_networks import HOW_TO_GET_SFACE, sface_file
from iss_assets.media.sface import SIDE, WIDTH, sface_network
from iss_assets_tests.media.test_identity import portrait_face


def _content() -> bytes:
    file = sface_file()
    assert file is not None, f"not installed: {HOW_TO_GET_SFACE}"
    return file.read_bytes()


def _faces(count: int) -> np.ndarray:
    """Return noise of many scales and two portraits: faces that differ."""
    rng = np.random.default_rng(7)
    made = []
    for number in range(count - 2):
        coarse = rng.integers(0, 256, (4 + 3 * number, 5 + 2 * number, 3)).astype(np.uint8)
        made.append(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
    portraits = [cv2.resize(portrait_face(name)[0], (SIDE, SIDE)) for name in ("collins", "hopper")]
    return np.stack([*made, *portraits])


@pytest.mark.parametrize("count", [3, 8, 21])
def test_vectors_are_those_of_opencv_and_each_face_has_its_own(count: int) -> None:
    faces = _faces(count)
    reference = cv2.dnn.readNetFromONNX(np.frombuffer(_content(), np.uint8))
    expected = []
    for face in faces:
        reference.setInput(cv2.dnn.blobFromImage(face, 1.0, (SIDE, SIDE), (0, 0, 0), swapRB=False))
        expected.append(reference.forward().ravel().copy())
    found = sface_network(_content())(faces)
    assert found.shape == (count, WIDTH)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    apart = np.abs(found[:, None] - found[None]).max(axis=2) + 9 * np.eye(count)
    assert apart.min() > 0.1
