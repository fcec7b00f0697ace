"""EfficientNet-Lite0: real weights, the right preprocessing, and the same numbers as a computation without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data as pictures
from sklearn.datasets import load_sample_image
from torchvision.models import ResNet50_Weights

from iss_assets.modeling import weights
from iss_assets.modeling.efficientnet import LiteNormalization, pretrained_lite0
from iss_assets.modeling.embeddings import LITE0_SIDE, embed_faces, embedding_side
from iss_assets.modeling.weights import (
    LITE0_ORIGIN,
    LITE0_SHA256,
    WeightsUnavailable,
    embedding_fingerprint,
    find_embedding_weights,
    lite0_file,
)
from iss_assets.settings import TrainingSettings

CLASSES = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
"""Names of ImageNet's classes in the order of every network's outputs."""

KERNELS_AND_STRIDES = [
    (3, 1), (3, 2), (3, 1), (5, 2), (5, 1), (3, 2), (3, 1), (3, 1), (5, 1), (5, 1), (5, 1), (5, 2), (5, 1), (5, 1),
    (5, 1), (3, 1),
]  # fmt: skip
"""The sixteen blocks of EfficientNet-B0 (Tan and Le 2019, table 1), one pair per block."""


def square(picture: np.ndarray) -> np.ndarray:
    """Cut the largest square out of the middle of a picture, at the side that the network was trained on."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    cut = picture[top : top + side, left : left + side]
    return cv2.resize(cut, (LITE0_SIDE, LITE0_SIDE), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    ("picture", "sure_of", "at_least"),
    [
        ("coffee", {"espresso"}, 0.85),
        ("cat", {"Egyptian cat", "tiger cat", "tabby"}, 0.8),
        ("rocket", {"missile", "projectile", "space shuttle"}, 0.25),
        ("china", {"palace", "bell cote", "monastery"}, 0.5),
    ],
)
def test_it_names_what_is_on_public_photographs(picture: str, sure_of: set[str], at_least: float) -> None:
    photograph = load_sample_image("china.jpg") if picture == "china" else getattr(pictures, picture)()
    with torch.inference_mode():
        shown = LiteNormalization()(torch.from_numpy(square(photograph)[None]))
        probability = pretrained_lite0()(shown).softmax(1)[0].numpy()
    assert CLASSES[int(probability.argmax())] in sure_of
    assert sum(probability[CLASSES.index(name)] for name in sure_of) > at_least


def by_hand(picture: np.ndarray, state: Mapping[str, np.ndarray]) -> np.ndarray:
    """Compute the features of one picture with numpy and scipy alone, straight from the file of weights."""

    def normalized(x: np.ndarray, name: str) -> np.ndarray:
        """Apply batch normalization to (channels, rows, columns)."""
        scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 0.001)
        shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
        return x * scale[:, None, None] + shift[:, None, None]

    def slid(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
        """Slide a kernel over one channel; with stride 2 and even sides, TensorFlow's first place is one pixel later."""
        full = ndimage.correlate(x, kernel, mode="constant")
        start = (stride - 1) if x.shape[0] % 2 == 0 else 0
        return full[start::stride, start::stride]

    def mixed(x: np.ndarray, name: str) -> np.ndarray:
        """Mix channels at each place."""
        return np.tensordot(state[f"{name}.weight"][:, :, 0, 0], x, axes=1)

    def capped(x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, 6)

    x = (picture.transpose(2, 0, 1).astype(float) - 127) / 128
    stem = state["_conv_stem.weight"]
    x = np.stack([sum(slid(x[c], kernels[c], 2) for c in range(3)) for kernels in stem])
    x = capped(normalized(x, "_bn0"))
    for number, (kernel, stride) in enumerate(KERNELS_AND_STRIDES):
        block = f"_blocks.{number}"
        inner = x
        if f"{block}._expand_conv.weight" in state:
            inner = capped(normalized(mixed(inner, f"{block}._expand_conv"), f"{block}._bn0"))
        kernels = state[f"{block}._depthwise_conv.weight"][:, 0]
        assert kernels.shape[1:] == (kernel, kernel)
        inner = np.stack([slid(channel, k, stride) for channel, k in zip(inner, kernels, strict=True)])
        inner = capped(normalized(inner, f"{block}._bn1"))
        inner = normalized(mixed(inner, f"{block}._project_conv"), f"{block}._bn2")
        x = x + inner if inner.shape == x.shape else inner
    return capped(normalized(mixed(x, "_conv_head"), "_bn1")).mean((1, 2))


def test_an_embedding_is_what_numpy_computes_from_the_file_of_weights() -> None:
    path = lite0_file()
    assert path is not None
    state = {k: v.numpy().astype(float) for k, v in torch.load(path, weights_only=True).items()}
    face = square(pictures.astronaut()[:200, 120:320])
    vectors = embed_faces(face[None], TrainingSettings(device="cpu", precision="float32")).vectors
    expected = by_hand(face, state)
    assert vectors.shape == (1, 1280) and expected.max() > 1
    assert np.abs(vectors[0] - expected).max() < 1e-4 * expected.max()


def test_faces_are_shown_at_the_side_that_the_network_was_trained_on() -> None:
    assert embedding_side(TrainingSettings(profile="demo")) == 224
    assert embedding_side(TrainingSettings(profile="demo", embedding_network="resnet50")) == 64


@pytest.mark.parametrize("profile", ["paper", "demo"])
def test_every_profile_embeds_with_pretrained_weights(profile: str) -> None:
    settings = TrainingSettings.model_validate({"profile": profile})
    embedded = embed_faces(np.zeros((0, 224, 224, 3), np.uint8), settings)
    assert embedded.weights_origin == LITE0_ORIGIN and embedded.vectors.shape == (0, 1280)
    assert LITE0_SHA256[:16] in embedding_fingerprint(settings)
    assert find_embedding_weights(settings).available


def test_a_missing_package_and_another_file_are_refused_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"not these")
    for found, words in ((None, "ISS_TRAINING__EMBEDDING_NETWORK=resnet50"), (other, "install that version")):
        monkeypatch.setattr(weights, "lite0_file", lambda found=found: found)
        with pytest.raises(WeightsUnavailable, match=words) as caught:
            embed_faces(np.zeros((0, 224, 224, 3), np.uint8), TrainingSettings())
        assert str(tmp_path) not in str(caught.value)
        answer = find_embedding_weights(TrainingSettings())
        assert not answer.available and words in answer.remedy
