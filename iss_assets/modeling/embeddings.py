"""Embed faces with a frozen network, once per patient; the linear probe (``probe``) learns from them in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from iss_assets.modeling.items import InputArray
from iss_assets.modeling.weights import embedding_origin, initial_resnet50
from iss_assets.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

EMBEDDING_CODE_VERSION: Final = "3"
"""Version of the code that embeds faces. 3: with EfficientNet-Lite0 by default."""

LITE0_SIDE: Final = 224
"""Side in pixels of the pictures that EfficientNet-Lite0 was trained on."""

_RESNET50_WIDTH: Final = 2048
_BATCH: Final = 64


@dataclass(frozen=True)
class Embedded:
    """Embeddings and the origin of the network that made them.

    Attributes
    ----------
    vectors : ndarray of float32, (n, width)
        One row per crop; it does not depend on the other crops. The width is 1280 (EfficientNet-Lite0) or 2048 (ResNet50).
    weights_origin : str
        ``imagenet (EfficientNet-Lite0)``; or, for ResNet50, ``imagenet``, ``file`` or ``random``.
    """

    vectors: np.ndarray
    weights_origin: str


def embedding_side(settings: TrainingSettings) -> int:
    """Return the side in pixels that crops have when they are embedded."""
    return LITE0_SIDE if settings.embedding_network == "efficientnet_lite0" else settings.image_side


def embed_faces(crops: InputArray, settings: TrainingSettings) -> Embedded:
    """Embed face crops with a frozen network without its last layer.

    Parameters
    ----------
    crops : ndarray of uint8 or EncodedFaces, (n, side, side, 3)
        RGB, of the side that `embedding_side` returns; n may be 0.
    settings : TrainingSettings
        Network, initial weights and seed (of ResNet50), and device.

    Returns
    -------
    Embedded

    Raises
    ------
    iss_assets.modeling.weights.WeightsUnavailable
        If pretrained weights are required and unavailable.
    """
    import torch

    from iss_assets.modeling.capture import in_batches, own_stream
    from iss_assets.modeling.computing import choose_device, mixed_precision, repeatable

    device = choose_device(settings)
    embedder, width = _embedder(settings)
    if len(crops) == 0:
        return Embedded(np.empty((0, width), np.float32), embedding_origin(settings))
    starts = range(0, len(crops), _BATCH)
    with torch.inference_mode(), own_stream(device), repeatable():
        network = embedder.to(device).to(memory_format=torch.channels_last).eval()

        def embed(batch: torch.Tensor) -> torch.Tensor:
            with mixed_precision(settings, device):
                return network(batch).float()

        batches = (
            (torch.from_numpy(crops[np.arange(start, min(start + _BATCH, len(crops)))]).to(device),)
            for start in starts
        )
        vectors = in_batches(embed, batches, len(starts), _BATCH, device)
    return Embedded(vectors, embedding_origin(settings))


def _embedder(settings: TrainingSettings) -> tuple[nn.Module, int]:
    """Create the network that embeds, from crops (n, side, side, 3) uint8 to vectors, and return it with their width."""
    import torch

    from iss_assets.modeling.efficientnet import WIDTH, Features, pretrained_lite0
    from iss_assets.modeling.networks import FacesToPictures

    if settings.embedding_network == "efficientnet_lite0":
        return Features(pretrained_lite0()), WIDTH
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        backbone, _ = initial_resnet50(settings)
    backbone.fc = torch.nn.Identity()
    return torch.nn.Sequential(FacesToPictures(), backbone), _RESNET50_WIDTH
