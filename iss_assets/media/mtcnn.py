"""MTCNN's three networks with facenet-pytorch's weights, and the suppression of overlapping boxes.

Belongs here: the layers (Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks") and how their weights are found. Does not belong here: pyramid, thresholds, boxes (``faces``).

The networks are those of ``facenet_pytorch.models.mtcnn``, and the weights are read from that package's own files.
Importing the package itself brings torchvision, and torchvision torch's compiler: a second and 160 MiB in every worker
process for three networks of a few layers. A test holds these against the package's, weight by weight and answer by
answer.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class PNet(nn.Module):
    """Proposals: a picture of any size, (n, 3, h, w), to box shifts (n, 4, h', w') and face or not (n, 2, h', w').

    A cell of the output stands for 12 by 12 pixels; cells are 2 pixels apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give shifts as shares of the cell's side, and probabilities."""
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_2(x), self.conv4_1(x).softmax(dim=1)


class RNet(nn.Module):
    """Refinement: crops (n, 3, 24, 24) to box shifts (n, 4) and face or not (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give shifts as shares of the box's side, and probabilities."""
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(_flat(x)))
        return self.dense5_2(x), self.dense5_1(x).softmax(dim=1)


class ONet(nn.Module):
    """Verdict: crops (n, 3, 48, 48) to box shifts (n, 4), five points (n, 10) and face or not (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.pool3 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give shifts as shares of the box's side, the points, and probabilities."""
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.pool3(self.prelu3(self.conv3(x)))
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(_flat(x)))
        return self.dense6_2(x), self.dense6_3(x), self.dense6_1(x).softmax(dim=1)


def _flat(x: Tensor) -> Tensor:
    """Flatten in the order of the weights, which were trained with width before height."""
    return x.permute(0, 3, 2, 1).flatten(1)


def pretrained(network: Callable[[], nn.Module]) -> nn.Module:
    """Make one of the three networks with facenet-pytorch's weights, for inference.

    Raises
    ------
    ModuleNotFoundError
        If facenet-pytorch is not installed.
    """
    package = find_spec("facenet_pytorch")  # finds, without importing
    if package is None or package.origin is None:
        raise ModuleNotFoundError("facenet-pytorch is not installed, and with it MTCNN's weights")
    made = network()
    file = Path(package.origin).parent / "data" / f"{type(made).__name__.lower()}.pt"
    made.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return made.eval()


def suppress(boxes: NDArray[Any], scores: NDArray[Any], overlap: float) -> NDArray[np.int64]:
    """Drop each box that shares more than `overlap` (IoU) with a better one.

    Parameters
    ----------
    boxes : ndarray, shape (n, 4)
        x1, y1, x2, y2.
    scores : ndarray, shape (n,)
        Positive; the better, the higher.
    overlap : float
        Shared area over united area.

    Returns
    -------
    ndarray of int64
        Indices of those that stay, the best first.
    """
    if len(boxes) == 0:
        return np.empty(0, np.int64)
    corners = np.asarray(boxes, np.float64)
    sized = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    kept = cv2.dnn.NMSBoxes(sized, np.asarray(scores, np.float32), 0.0, overlap)  # type: ignore[arg-type]
    return np.asarray(kept, np.int64).reshape(-1)
