"""Same person or not: two real portraits through SFace, the plumbing of VGGFace2, and comparisons of known vectors."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from iss_assets.media.face_networks import (
    HOW_TO_GET_SFACE,
    WEIGHTS_NAME,
    FaceNetwork,
    ModelFileError,
    find_network,
    weights_file,
)
from iss_assets.media.identity import (
    MIN_FACES,
    FaceMoments,
    PatientFace,
    align_face,
    average_moments,
    compare_videos,
    distances,
    embed_faces,
    faces_of_patient,
    five_points,
    shared_faces,
)
from iss_assets.media.landmarks import load_mesh
from iss_assets.settings import IdentitySettings, LandmarkSettings, QualitySettings
from iss_assets.synthetic.portraits import portrait_pixels

SETTINGS = QualitySettings()
RNG = np.random.default_rng(0)
CROPS = RNG.integers(0, 256, (2, 160, 160, 3), np.uint8)
BOXES = {"collins": (178, 62, 272, 178), "hopper": (165, 120, 360, 340)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "own.pt"
    torch.save(InceptionResnetV1(pretrained=None, classify=True, num_classes=5).state_dict(), path)
    return path


def _sface() -> FaceNetwork:
    found = find_network(IdentitySettings())
    assert found is not None and found.method == "sface", f"not installed: {HOW_TO_GET_SFACE}"
    return found


@functools.cache
def portrait_face(
    name: str, above_and_below: int = 0, left_out: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a portrait's crop, mesh and the crop's box in the portrait.

    The box is higher by some pixels `above_and_below` the face, and lacks a share of it on the left.
    """
    x1, y1, x2, y2 = BOXES[name]
    y1, y2 = y1 - above_and_below, y2 + above_and_below
    x1 += round(left_out * (x2 - x1))
    box = np.array([x1, y1, x2, y2], np.float32)
    crop = np.asarray(cv2.resize(portrait_pixels(name)[y1:y2, x1:x2], (160, 160)), np.uint8)
    points = load_mesh(LandmarkSettings())(crop)
    assert points is not None
    return crop, points.reshape(468, 3), box


def _size(box: np.ndarray) -> np.ndarray:
    return np.asarray(box[2:] - box[:2])


def _vector(name: str) -> np.ndarray:
    crop, points, box = portrait_face(name)
    return embed_faces(crop[None], points[None], _size(box)[None], _sface())[0]


def _darker(crop: np.ndarray) -> np.ndarray:
    return ((crop / 255) ** 2.2 * 0.25 * 255).clip(0, 255).astype(np.uint8)


def _person(number: int, size: int = 128) -> np.ndarray:
    return np.eye(size, dtype=np.float32)[number]


def _near(person: np.ndarray, distance: float, direction: int = 100) -> np.ndarray:
    """Return a vector at a distance from a person's."""
    cosine = 1 - distance
    return (cosine * person + np.sqrt(1 - cosine**2) * _person(direction, len(person))).astype(np.float32)


def _video(*vectors: np.ndarray, faces: int = 5, method: str = "sface") -> FaceMoments:
    start = np.arange(len(vectors), dtype=float)
    return FaceMoments(method, start, start + 1, np.full(len(vectors), faces), np.stack(vectors))


# --- networks


def test_two_persons_are_far_apart_and_one_is_near_in_other_light_with_glasses_and_mirrored() -> None:
    collins, hopper = _vector("collins"), _vector("hopper")
    assert distances(collins, hopper) > 0.8
    crop, points, _ = portrait_face("collins")
    glasses = crop.copy()
    for corners in ((33, 133), (263, 362)):
        outer, inner = (points[list(corners), :2] * 160).astype(float)
        middle, width = (outer + inner) / 2, float(np.linalg.norm(outer - inner))
        ellipse = ((float(middle[0]), float(middle[1])), (1.9 * width, 1.6 * width), 0.0)
        cv2.ellipse(glasses, ellipse, (25, 20, 20), 3, cv2.LINE_AA)
    for changed in (_darker(crop), glasses, np.ascontiguousarray(crop[:, ::-1])):
        mesh = load_mesh(LandmarkSettings())(changed)
        assert mesh is not None
        own = embed_faces(
            changed[None], mesh.reshape(1, 468, 3), _size(portrait_face("collins")[2])[None], _sface()
        )[0]
        assert distances(own, collins) < SETTINGS.sface_distance - 0.1
        assert distances(own, hopper) > SETTINGS.sface_distance


def test_a_squeezed_crop_gets_its_proportions_back() -> None:
    """A crop is square and its box is not: with its size, a squeezed face is that of the picture, and without it is not."""
    crop, points, box = portrait_face("collins", above_and_below=35)
    square = np.array([160, 160], np.float32)
    mended, squeezed = embed_faces(
        np.stack([crop, crop]), np.stack([points, points]), np.stack([_size(box), square]), _sface()
    )
    assert distances(mended, _vector("collins")) < 0.1
    assert distances(squeezed, _vector("collins")) > 0.5


def test_alignment_brings_eyes_nose_and_mouth_to_their_places() -> None:
    places = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.36, 0.8], [0.64, 0.8]])
    picture = np.zeros((160, 160, 3), np.uint8)
    for x, y in places:
        cv2.circle(picture, (round(x * 160), round(y * 160)), 4, (255, 255, 255), -1)
    # the box is half as wide as it is high, so the face is narrow, and stays so
    seen = align_face(picture, places, np.array([100, 200]))
    _, _, _, centers = cv2.connectedComponentsWithStats((seen[..., 0] > 128).astype(np.uint8))
    found = centers[1:]
    assert len(found) == 5
    eyes = found[np.argsort(found[:, 1])][:2]
    mouth = found[np.argsort(found[:, 1])][3:]
    assert abs(eyes[0, 1] - eyes[1, 1]) < 1 and 40 < eyes[:, 1].mean() < 52
    # 0.4 of the width to 0.4 of the height, as in the picture that the crop was cut from
    wide, tall = abs(eyes[0, 0] - eyes[1, 0]), mouth[:, 1].mean() - eyes[:, 1].mean()
    assert wide / tall == pytest.approx(0.5, abs=0.05)


def test_the_five_points_are_the_eyes_the_nose_and_the_corners_of_the_mouth() -> None:
    _, points, _ = portrait_face("hopper")
    left, right, nose, corner, other = five_points(points[None])[0]
    assert left[0] < nose[0] < right[0] and corner[0] < nose[0] < other[0]
    assert left[1] < nose[1] < corner[1]


def test_another_file_than_the_tested_one_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "other.onnx"
    file.write_bytes(b"another model")
    with pytest.raises(ModelFileError, match=r"not the file that was tested.*--no-deps"):
        embed_faces(CROPS, np.zeros((2, 468, 3)), np.ones((2, 2)), FaceNetwork("sface", file))


def test_without_any_network_there_is_none(remove_sface: Callable[[], None]) -> None:
    remove_sface()
    assert find_network(IdentitySettings()) is None


def test_weights_with_their_classifier_give_unit_vectors(weights: Path) -> None:
    network = find_network(IdentitySettings(weights=weights))
    assert network is not None and network.method == "vggface2"
    found = embed_faces(CROPS, np.zeros((2, 468, 3)), np.ones((2, 2)), network)
    assert found.shape == (2, 512)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_weights_in_torchs_cache_are_used_without_a_setting(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert weights_file(IdentitySettings()) is None
    cache = tmp_path / "torch" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / WEIGHTS_NAME).write_bytes(weights.read_bytes())
    assert weights_file(IdentitySettings()) == cache / WEIGHTS_NAME


def test_a_missing_weights_file_is_an_error_that_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"identity.weights.*facenet-pytorch, release"):
        find_network(IdentitySettings(weights=tmp_path / "none.pt"))


# --- moments


def test_a_moment_is_the_mean_of_its_faces_and_lasts_until_the_next() -> None:
    ann = _person(0)
    vectors = np.stack([_near(ann, 0.2, 50), _near(ann, 0.2, 51), ann, _person(1)])
    found = average_moments("sface", np.array([0.0, 1.0, 2.0, 5.0]), np.array([0, 0, 0, 2]), vectors, 6.0)
    assert found.start_s.tolist() == [0, 5] and found.end_s.tolist() == [5, 6]
    assert found.faces.tolist() == [3, 1]
    assert distances(found.vectors[0], ann) < 0.1
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    assert found.comparable().faces.tolist() == [3], "one face is too uncertain"


# --- one patient's videos


def test_a_patient_who_is_alone_in_all_videos_is_not_flagged_though_days_differ() -> None:
    ann = _person(0)
    days = {f"v{n}": _video(*[_near(ann, 0.3, 10 + n)] * 4) for n in range(5)}
    found = compare_videos(days, SETTINGS)
    assert not any(f.other_video or f.spans for f in found.values())
    assert all(0 < (f.across or 0) < SETTINGS.sface_distance for f in found.values())


def test_a_person_who_takes_over_midway_is_found_with_the_moments() -> None:
    ann, bob = _person(0), _person(1)
    found = compare_videos({"v": _video(ann, ann, ann, bob, bob, ann)}, SETTINGS)["v"]
    assert found.spans == [(3.0, 5.0)] and found.other_share == pytest.approx(2 / 6)
    assert found.within == pytest.approx(1) and found.across is None
    half = compare_videos({"v": _video(ann, ann, bob, bob)}, SETTINGS)["v"]
    assert half.spans == [(2.0, 4.0)], "of two persons who are seen equally long, it is the later one"


@pytest.mark.parametrize("before", range(1, 8))
def test_a_moment_in_which_one_takes_over_from_the_other_hides_neither(before: int) -> None:
    """It is nearer to both than they are to one another."""
    ann, bob = _near(_person(0), 0.1, 50), _near(_person(1), 0.1, 51)
    both = (ann + bob) / np.linalg.norm(ann + bob)
    after = 8 - before
    found = compare_videos({"v": _video(*[ann] * before, both, *[bob] * after)}, SETTINGS)["v"]
    longer_first = before >= after
    assert found.spans == [(before + 1.0, 9.0) if longer_first else (0.0, float(before))]
    assert found.other_share == pytest.approx(min(before, after) / 9)


def test_the_video_that_shows_somebody_else_is_flagged_and_the_others_are_not() -> None:
    ann, bob = _person(0), _person(1)
    found = compare_videos({"1": _video(ann), "2": _video(ann), "3": _video(bob), "4": _video(ann)}, SETTINGS)
    assert {name for name, f in found.items() if f.other_video} == {"3"}
    assert found["3"].spans == [(0.0, 1.0)] and found["1"].spans == []
    assert found["3"].across == pytest.approx(1)
    assert found["1"].across == pytest.approx(0, abs=1e-6), (
        "the other person's video is not what it is compared with"
    )


def test_of_two_videos_with_two_persons_nobody_knows_which_is_the_patients() -> None:
    ann, bob = _person(0), _person(1)
    found = compare_videos({"1": _video(ann), "2": _video(bob)}, SETTINGS)
    assert all(f.other_video for f in found.values())
    tie = compare_videos({n: _video(ann if n < "3" else bob) for n in "1234"}, SETTINGS)
    assert all(f.other_video for f in tie.values())


def test_in_a_video_of_somebody_else_the_moments_of_the_patient_are_not_reported() -> None:
    ann, bob = _person(0), _person(1)
    found = compare_videos({"1": _video(ann), "2": _video(ann), "3": _video(bob, bob, ann)}, SETTINGS)["3"]
    assert found.other_video and found.spans == [(0.0, 2.0)]


def test_vectors_of_different_networks_are_not_compared() -> None:
    ann, bob = _person(0), _person(1, 512)
    one, other = _video(ann), _video(bob, method="vggface2")
    found = compare_videos({"1": one, "2": other}, SETTINGS)
    assert [f.across for f in found.values()] == [None, None]
    for same, distance, differs in ((_near(ann, 0.5), 0.5, False), (_person(1), 1, True)):
        for f in compare_videos({"1": one, "2": _video(same)}, SETTINGS).values():
            assert (f.across, f.other_video) == (pytest.approx(distance, abs=1e-6), differs)


def test_a_video_with_too_few_faces_is_in_no_comparison() -> None:
    ann, bob = _person(0), _person(1)
    few = _video(bob, faces=2)
    found = compare_videos({"1": _video(ann), "2": few}, SETTINGS)
    assert set(found) == {"1"} and found["1"].across is None


# --- the whole study


def test_one_face_under_two_patients_is_found_also_if_it_is_in_one_video_only() -> None:
    ann, bob, cleo = _person(0), _person(1), _person(2)
    faces = [
        *faces_of_patient("0001", {"a": _video(ann), "b": _video(_near(ann, 0.2))}, SETTINGS),
        *faces_of_patient("0002", {"c": _video(bob), "d": _video(bob), "e": _video(ann)}, SETTINGS),
        *faces_of_patient("0003", {"f": _video(cleo)}, SETTINGS),
    ]
    (shared,) = shared_faces(faces, 0.45)
    assert shared.patients == ("0001", "0002") and shared.videos == ("a", "b", "e")
    assert shared.distance < 0.1


def test_a_person_enrolled_three_times_is_one_finding() -> None:
    ann = _person(0)
    faces = [PatientFace(f"000{n}", (f"v{n}",), _near(ann, 0.2, 50 + n)) for n in range(3)]
    (shared,) = shared_faces(faces, 0.45)
    assert shared.patients == ("0000", "0001", "0002")
    assert shared_faces(faces, 0.01) == []


def test_in_a_study_of_a_thousand_patients_the_two_who_are_one_person_are_found() -> None:
    rng = np.random.default_rng(1)
    people = rng.normal(size=(1000, 128))
    people[17] = people[800]
    faces = []
    for number, person in enumerate(people):
        vectors = person + 0.4 * rng.normal(size=(11, 8, 128))
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        videos = {f"{number:04}-{v}": _video(*vectors[v].astype(np.float32)) for v in range(11)}
        faces += faces_of_patient(f"{number:04}", videos, SETTINGS)
    assert len(faces) == 1000
    assert [shared.patients for shared in shared_faces(faces, 0.45)] == [("0017", "0800")]


def test_the_summary_of_faces_compares_the_moments_that_the_distances_compare() -> None:
    model = Path(__file__).resolve().parents[2] / "dbt_like_sql" / "marts" / "identity_over_time.sql"
    assert set(re.findall(r"faces >= (\d+)", model.read_text("utf-8"))) == {str(MIN_FACES)}
