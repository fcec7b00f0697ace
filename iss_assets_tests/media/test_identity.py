"""Same person or not: the network's plumbing with weights of our own, and the mesh's proportions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from iss_assets.media.identity import (
    WEIGHTS_NAME,
    Embedding,
    compare,
    embed_faces,
    mesh_proportions,
    weights_file,
)
from iss_assets.settings import QualitySettings

RNG = np.random.default_rng(0)
MESH = RNG.uniform(0.1, 0.9, (468, 3)).astype(np.float32)
CROPS = RNG.integers(0, 256, (2, 160, 160, 3), np.uint8)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "own.pt"
    torch.save(InceptionResnetV1(pretrained=None, classify=True, num_classes=5).state_dict(), path)
    return path


def _turned(mesh: np.ndarray, degrees: float, zoom: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return zoom * mesh @ turn.T + 0.1


def test_weights_with_their_classifier_give_unit_vectors(weights: Path) -> None:
    settings = QualitySettings(identity_weights=weights)
    found = embed_faces(CROPS, np.full((2, 468, 3), np.nan), settings)
    assert found.method == "vggface2" and found.vectors.shape == (2, 512)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


def test_weights_in_torchs_cache_are_used_without_a_setting(weights: Path, tmp_path: Path) -> None:
    assert weights_file(QualitySettings()) is None
    cache = tmp_path / "torch" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / WEIGHTS_NAME).write_bytes(weights.read_bytes())
    assert weights_file(QualitySettings()) == cache / WEIGHTS_NAME


def test_a_missing_weights_file_is_an_error_that_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="facenet-pytorch, release"):
        embed_faces(CROPS, np.zeros((2, 468, 3)), QualitySettings(identity_weights=tmp_path / "none.pt"))


def test_without_weights_the_mesh_is_compared_and_says_so() -> None:
    found = embed_faces(CROPS, np.stack([MESH] * 2), QualitySettings())
    assert found.method == "mesh"


def test_proportions_do_not_change_with_pose_and_distance() -> None:
    here, there = mesh_proportions(np.stack([MESH, _turned(MESH, 25, 1.7)]))
    np.testing.assert_allclose(here, there, atol=1e-4)


def test_boxes_give_a_squeezed_mesh_its_proportions_back() -> None:
    squeezed = MESH / np.array([100, 140, 100], np.float32)
    found = embed_faces(CROPS[:1], squeezed[None], QualitySettings(), boxes=np.array([[0, 0, 100, 140]]))
    np.testing.assert_allclose(found.vectors, mesh_proportions(MESH[None]), atol=1e-4)


def test_a_face_without_mesh_has_no_vector_and_no_part_in_the_center() -> None:
    found = Embedding("mesh", mesh_proportions(np.stack([MESH, np.full_like(MESH, np.nan)])))
    assert np.isnan(found.vectors[1]).all()
    center = found.center()
    assert center is not None
    np.testing.assert_allclose(center, found.vectors[0])
    assert Embedding("mesh", found.vectors[1:]).center() is None


def test_a_very_different_face_is_another_person_and_confidence_is_modest_without_weights() -> None:
    longer = MESH * np.array([1.0, 1.6, 1.0], np.float32)
    one, other = mesh_proportions(np.stack([MESH, longer]))
    same, differ = (compare(one, v, "mesh", QualitySettings()) for v in (one, other))
    assert same.same and not differ.same
    assert max(same.confidence, differ.confidence) <= 0.7


def test_unit_vectors_at_right_angles_are_other_persons() -> None:
    one, other = np.eye(2, 512, dtype=np.float32)
    found = compare(one, other, "vggface2", QualitySettings())
    assert found.distance == pytest.approx(2) and not found.same and found.confidence > 0.85
