"""MTCNN over many pictures at once, for a GPU: every picture is searched in full, and none is followed.

Belongs here: batches, the networks' layers in torch. Does not belong here: which layers (``mtcnn``), pyramid, boxes and
choice (``faces``), which are the same.

On a processor following a face is cheaper than any batch; on a GPU a call costs more than what is computed in it, so
that all levels, proposals and crops of a batch of pictures go through each network together.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from iss_assets.media.faces import (
    CELL,
    STRIDE,
    Boxes,
    Detection,
    chosen_detection,
    cut,
    drop_nested,
    pyramid,
    regress,
    scales,
    square,
)
from iss_assets.media.mtcnn import NETWORKS, Weights, pretrained, suppress
from iss_assets.settings import FaceSettings

_CROPS: Final = 8192
"""Crops a network call: 230 MB at the third network's size."""


def device_of(settings: FaceSettings) -> str:
    """Give the device that faces are found on.

    Raises
    ------
    RuntimeError
        If CUDA is asked for by name and is not there.
    """
    if settings.device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if settings.device == "cuda":
        raise RuntimeError("faces.device is cuda, and torch finds no GPU here; set it to auto or cpu")
    return "cpu"


class TorchLayers:
    """`mtcnn.Layers` that torch computes.

    Parameters
    ----------
    weights : mapping of str to ndarray
        By names like ``conv1.weight``.
    device : str
        Where.
    """

    def __init__(self, weights: Weights, device: str) -> None:
        import torch

        self._functions = torch.nn.functional
        self._weights = {n: torch.from_numpy(w).to(device) for n, w in weights.items()}

    def conv(self, name: str, x: Any) -> Any:
        """See `mtcnn.Layers`."""
        return self._functions.conv2d(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def prelu(self, name: str, x: Any) -> Any:
        """See `mtcnn.Layers`."""
        return self._functions.prelu(x, self._weights[f"{name}.weight"])

    def pool(self, x: Any, size: int) -> Any:
        """See `mtcnn.Layers`."""
        return self._functions.max_pool2d(x, size, 2, ceil_mode=True)

    def flat(self, x: Any) -> Any:
        """See `mtcnn.Layers`."""
        return x.permute(0, 3, 2, 1).flatten(1)

    def dense(self, name: str, x: Any) -> Any:
        """See `mtcnn.Layers`."""
        return self._functions.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def softmax(self, x: Any) -> Any:
        """See `mtcnn.Layers`."""
        return x.softmax(dim=1)


@functools.cache
def torch_networks(device: str) -> tuple[Any, ...]:
    """Load P-Net, R-Net and O-Net with facenet-pytorch's weights once a process, for torch."""
    return tuple(
        functools.partial(network, TorchLayers(pretrained(name), device))
        for name, network in NETWORKS.items()
    )


class BatchFinder:
    """Finds the faces of pictures of one size at once.

    Parameters
    ----------
    settings : FaceSettings
        Thresholds and scales.
    device : str
        Where torch computes: ``cuda``, or ``cpu`` for comparison.
    """

    def __init__(self, settings: FaceSettings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._networks = torch_networks(device)

    def find(self, pictures: Sequence[NDArray[np.uint8]], scale: float = 1.0) -> list[Detection | None]:
        """Find the face in each picture.

        Parameters
        ----------
        pictures : sequence of ndarray of uint8, shape (height, width, 3)
            Upright RGB, all of one size, scaled by `shrink`.
        scale : float
            Scaled over full size.

        Returns
        -------
        list of Detection or None
            One a picture, boxes in the full-size picture.
        """
        least, large, shorter = scales(pictures[0].shape, scale, self._settings)
        boxes = self._refine(pictures, self._propose(pictures, scale, large, shorter))
        without = [i for i, found in enumerate(boxes) if not len(found)]
        if without and large > least:
            again = [pictures[i] for i in without]
            found = self._refine(again, self._propose(again, scale, least, large))
            for i, small in zip(without, found, strict=True):
                boxes[i] = small
        to_small = np.array([scale, scale, scale, scale, 1])
        return [chosen_detection(found / to_small) for found in boxes]

    def _propose(
        self, pictures: Sequence[NDArray[np.uint8]], scale: float, least: float, most: float
    ) -> list[Boxes]:
        import torch

        height, width = pictures[0].shape[:2]
        found: list[list[NDArray[Any]]] = [[] for _ in pictures]
        with torch.inference_mode():
            whole = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2).float()
            for zoom in pyramid(scale, least, most, min(height, width)):
                size = int(height * zoom + 1), int(width * zoom + 1)
                level = torch.nn.functional.interpolate(whole, size=size, mode="area")
                regression, probability = self._networks[0]((level - 127.5) * 0.0078125)
                owner, rows, columns = torch.nonzero(
                    probability[:, 1] >= self._settings.thresholds[0], as_tuple=True
                )
                corner = torch.stack([columns, rows, columns, rows], 1).float() * STRIDE + 1
                corner[:, 2:] += CELL - 1
                score = probability[owner, 1, rows, columns]
                shift = regression[owner, :, rows, columns]
                rated = torch.cat([torch.floor(corner / zoom), score[:, None], shift], 1).cpu().numpy()
                whose = owner.cpu().numpy()
                for i, kept in enumerate(found):
                    own = rated[whose == i]
                    kept.append(own[suppress(own[:, :4], own[:, 4], 0.5)])
        proposals = []
        for parts in found:
            joined = np.concatenate(parts) if parts else np.empty((0, 9), np.float32)
            every = joined[suppress(joined[:, :4], joined[:, 4], 0.7)]
            sides = np.tile(every[:, 2:4] - every[:, 0:2], 2)
            proposals.append(square(np.column_stack([every[:, :4] + every[:, 5:9] * sides, every[:, 4]])))
        return proposals

    def _refine(self, pictures: Sequence[NDArray[np.uint8]], boxes: Sequence[Boxes]) -> list[Boxes]:
        refined = []
        for own, (regression, probability) in self._verdicts(1, 24, pictures, boxes):
            keep = probability[:, 1] > self._settings.thresholds[1]
            own, regression = own[keep], regression[keep]
            own[:, 4] = probability[keep, 1]
            kept = suppress(own[:, :4], own[:, 4], 0.7)
            refined.append(square(regress(own[kept], regression[kept])))
        faces = []
        for own, (regression, _, probability) in self._verdicts(2, 48, pictures, refined):
            keep = probability[:, 1] > self._settings.thresholds[2]
            own = own[keep]
            own[:, 4] = probability[keep, 1]
            faces.append(drop_nested(regress(own, regression[keep])))
        return faces

    def _verdicts(
        self, network: int, side: int, pictures: Sequence[NDArray[np.uint8]], boxes: Sequence[Boxes]
    ) -> list[tuple[Boxes, list[NDArray[Any]]]]:
        """Run a network over all pictures' boxes together; give each picture's boxes with their answers."""
        import torch

        cuts = [cut(picture, own, side) for picture, own in zip(pictures, boxes, strict=True)]
        crops = np.concatenate([c for _, c in cuts])
        with torch.inference_mode():
            # one call at least, so that a batch without a box has answers of the right shape as well
            parts = [
                self._networks[network](
                    ((torch.from_numpy(crops[i : i + _CROPS]).to(self._device) - 127.5) * 0.0078125).permute(
                        0, 3, 1, 2
                    )
                )
                for i in range(0, max(1, len(crops)), _CROPS)
            ]
        answers = [torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)]
        ends = np.cumsum([len(c) for _, c in cuts])[:-1]
        shares = zip(*(np.split(answer, ends) for answer in answers), strict=True)
        return [(own, list(share)) for (own, _), share in zip(cuts, shares, strict=True)]
