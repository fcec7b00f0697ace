"""Landmarks: crops survive encoding and decoding well enough for the mesh, and the mesh is on the face."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as arrow
import pytest
from PIL import Image

from iss_assets.media.faces import FaceFinder, crop_face
from iss_assets.media.landmarks import decode_crop, decode_crops, encode_crop, landmarks_from_crops
from iss_assets.settings import FaceSettings, LandmarkSettings
from iss_assets_tests.media.films import portrait

SETTINGS = LandmarkSettings()


@pytest.fixture(scope="module")
def crops() -> list[bytes]:
    finder, found = FaceFinder(FaceSettings()), []
    for k in range(4):
        picture = portrait(k / 4, (640, 360), 0.5)
        detection = finder.find(picture)
        assert detection is not None
        found.append(encode_crop(crop_face(picture, detection.box, FaceSettings())))
    return found


def test_a_stored_crop_is_an_rgb_picture_file_that_any_program_reads(crops: list[bytes]) -> None:
    ours = decode_crop(crops[0])
    plain = np.asarray(Image.open(io.BytesIO(crops[0])))
    assert ours.shape == (160, 160, 3) and np.abs(ours.astype(int) - plain).max() <= 2


def test_coding_hardly_changes_a_crop() -> None:
    crop = portrait(0, (160, 160), 0.8)
    assert np.abs(decode_crop(encode_crop(crop)).astype(int) - crop).mean() < 2


def test_crops_are_decoded_from_any_arrow_array_in_order(crops: list[bytes]) -> None:
    wanted = np.stack([decode_crop(c) for c in crops])
    for array in (
        arrow.array(crops, arrow.binary()),
        arrow.array(crops, arrow.large_binary()),
        arrow.array([b"", *crops], arrow.binary()).slice(1),
        arrow.chunked_array([crops[:1], [], crops[1:]], arrow.binary()),
    ):
        assert np.array_equal(decode_crops(array), wanted)
    assert decode_crops(arrow.array([], arrow.binary())).shape == (0, 160, 160, 3)


def test_a_crop_that_is_no_picture_is_an_error(crops: list[bytes]) -> None:
    with pytest.raises(ValueError, match="not a picture"):
        decode_crops(arrow.array([*crops, b"rubbish"], arrow.binary()))
    with pytest.raises(ValueError, match="missing"):
        decode_crops(arrow.array([*crops, None], arrow.binary()))


def test_the_mesh_lies_on_the_face_and_is_empty_without_one(crops: list[bytes]) -> None:
    wall = encode_crop(np.full((160, 160, 3), 120, np.uint8))
    detected, points = landmarks_from_crops(arrow.array([crops[0], wall, crops[1]], arrow.binary()), SETTINGS)
    assert detected.to_pylist() == [True, False, True]
    assert points.type == arrow.list_(arrow.float32(), 1404) and points.is_null().to_pylist() == [
        False,
        True,
        False,
    ]
    mesh = np.array(points[0].as_py()).reshape(468, 3)
    nose, chin, forehead = mesh[1], mesh[152], mesh[10]
    assert forehead[1] < nose[1] < chin[1] and 0.3 < nose[0] < 0.7


def test_landmarks_do_not_depend_on_order_or_container(crops: list[bytes]) -> None:
    _, forwards = landmarks_from_crops(arrow.array(crops, arrow.binary()), SETTINGS)
    _, backwards = landmarks_from_crops(list(reversed(crops)), SETTINGS)
    assert forwards.to_pylist() == backwards.to_pylist()[::-1]
