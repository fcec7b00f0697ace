"""Embed faces with a frozen backbone, once per patient; the linear probe (``probe``) learns from them in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from iss_assets.modeling.items import InputArray
from iss_assets.modeling.weights import initial_resnet50
from iss_assets.settings import TrainingSettings

EMBEDDING_WIDTH: Final = 2048
"""Number of outputs of ResNet50 before its last layer."""

_BATCH: Final = 64


@dataclass(frozen=True)
class Embedded:
    """Embeddings and the origin of the backbone that made them.

    Attributes
    ----------
    vectors : ndarray of float32, (n, 2048)
        One row per crop; it does not depend on the other crops.
    weights_origin : str
        ``imagenet``, ``file`` or ``random``.
    """

    vectors: np.ndarray
    weights_origin: str


def embed_faces(crops: InputArray, settings: TrainingSettings) -> Embedded:
    """Embed face crops with the initial weights of ResNet50, frozen and without the last layer.

    Parameters
    ----------
    crops : ndarray of uint8 or EncodedFaces, (n, side, side, 3)
        RGB; n may be 0.
    settings : TrainingSettings
        Initial weights, seed (for random weights) and device.

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
    from iss_assets.modeling.networks import FacesToPictures

    device = choose_device(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        backbone, origin = initial_resnet50(settings)
    backbone.fc = torch.nn.Identity()
    if len(crops) == 0:
        return Embedded(np.empty((0, EMBEDDING_WIDTH), np.float32), origin)
    starts = range(0, len(crops), _BATCH)
    with torch.inference_mode(), own_stream(device), repeatable():
        network = torch.nn.Sequential(FacesToPictures(), backbone)
        network = network.to(device).to(memory_format=torch.channels_last).eval()

        def embed(batch: torch.Tensor) -> torch.Tensor:
            with mixed_precision(settings, device):
                return network(batch).float()

        batches = (
            (torch.from_numpy(crops[np.arange(start, min(start + _BATCH, len(crops)))]).to(device),)
            for start in starts
        )
        return Embedded(in_batches(embed, batches, len(starts), _BATCH, device), origin)
