"""Finding faces: the same face as facenet-pytorch's own MTCNN, the same crop, and the choice among several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils.detect_face import extract_face
from numpy.typing import NDArray
from PIL import Image

from iss_assets.media.faces import Detection, FaceFinder, area_means, choose_face, crop_face, shrink
from iss_assets.settings import FaceSettings
from iss_assets_tests.media.films import portrait

SETTINGS = FaceSettings()


@pytest.fixture(scope="module")
def mtcnn() -> Iterator[MTCNN]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield MTCNN()
    torch.set_num_threads(threads)


def find_all(pictures: list[NDArray[np.uint8]], settings: FaceSettings = SETTINGS) -> list[Detection | None]:
    finder = FaceFinder(settings)
    return [finder.find(*shrink(p, settings.detection_side)) for p in pictures]


def iou(one: tuple[float, ...], other: NDArray[np.float64]) -> float:
    x = min(one[2], other[2]) - max(one[0], other[0])
    y = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, x) * max(0, y)
    union = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
    return shared / union


@pytest.mark.parametrize(
    ("size", "share"), [((640, 360), 0.12), ((480, 848), 0.3), ((1280, 720), 0.6), ((1280, 720), 0.12)]
)
def test_a_moving_face_is_found_where_the_plain_way_finds_it(
    mtcnn: MTCNN, size: tuple[int, int], share: float
) -> None:
    pictures = [portrait(k / 10, size, share) for k in range(12)]
    for k, (found, picture) in enumerate(zip(find_all(pictures), pictures, strict=True)):
        if k in (4, 11):
            boxes, _ = mtcnn.detect(Image.fromarray(picture))
            assert found is not None and iou(found.box, boxes[0]) >= 0.75
            assert found.probability > 0.9 and found.faces_seen >= 1


def test_a_picture_that_needs_no_scaling_gives_the_boxes_of_the_unscaled_picture(mtcnn: MTCNN) -> None:
    picture = portrait(0.3, (480, 360), 0.4)
    (found,) = find_all([picture])
    boxes, probabilities = mtcnn.detect(Image.fromarray(picture))
    assert found is not None
    assert found.box == pytest.approx(tuple(boxes[0]), abs=0.5)
    assert found.probability == pytest.approx(probabilities[0], abs=1e-3)


def test_a_face_that_leaves_is_lost_at_once_and_found_again_when_it_comes_back() -> None:
    there, gone = portrait(0, (640, 360)), np.full((360, 640, 3), 120, np.uint8)
    found = find_all([there, there, gone, gone, there, there])
    assert [f is not None for f in found] == [True, True, False, False, True, True]


def test_a_face_that_appears_elsewhere_is_found_at_once() -> None:
    picture = portrait(0, (640, 360), 0.3)
    moved = np.roll(picture, 220, axis=1)
    before, after = find_all([picture, moved])
    assert before is not None and after is not None
    assert after.box[0] - before.box[0] == pytest.approx(220, abs=15)


def test_a_larger_second_face_is_noticed_within_a_second() -> None:
    small = portrait(0, (360, 360), 0.25)
    alone = np.hstack([small, np.full((360, 360, 3), 128, np.uint8)])
    both = np.hstack([small, portrait(0, (360, 360), 0.5)])
    found = find_all([alone] * 3 + [both] * SETTINGS.search_every)
    assert found[-1] is not None and found[-1].faces_seen == 2 and found[-1].box[0] > 360


def test_the_largest_of_the_equally_probable_faces_is_taken() -> None:
    false_large = [0, 0, 300, 300, 0.97]
    real_small, real_large = [0, 0, 50, 50, 1.0], [0, 0, 90, 90, 0.995]
    assert choose_face(np.array([false_large, real_small, real_large])) == 2


def test_a_plain_wall_holds_no_face() -> None:
    assert find_all([np.full((240, 320, 3), 90, np.uint8)]) == [None]


def test_a_picture_smaller_than_any_face_holds_none() -> None:
    assert find_all([np.zeros((8, 8, 3), np.uint8)]) == [None]


@pytest.mark.parametrize("margin", [0, 20])
@pytest.mark.parametrize(
    "box", [(100.7, 40.2, 217.9, 190.6), (-12.3, -5.0, 90.0, 120.9), (250.2, 150.1, 400.0, 300.5)]
)
def test_a_crop_is_facenet_pytorch_s_crop(box: tuple[float, float, float, float], margin: int) -> None:
    picture = portrait(0.4)
    plain = extract_face(Image.fromarray(picture), np.array(box), 160, margin)
    ours = crop_face(picture, box, FaceSettings(margin=margin))
    assert np.array_equal(ours, plain.permute(1, 2, 0).numpy().astype(np.uint8))


def test_areas_are_averaged_as_torch_does() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    edges = np.array([[3, 5, 103, 90], [0, 0, 131, 97], [10, 10, 22, 17]])
    sums: Any = cv2.integral(picture, sdepth=cv2.CV_32S)
    ours = area_means(sums, edges, 24, 24)
    for (x1, y1, x2, y2), mean in zip(edges, ours, strict=True):
        part = torch.from_numpy(picture[y1:y2, x1:x2].copy()).permute(2, 0, 1)[None].float()
        torchs = torch.nn.functional.interpolate(part, size=(24, 24), mode="area")[0].permute(1, 2, 0).numpy()
        assert np.allclose(mean, torchs, atol=1e-3)
