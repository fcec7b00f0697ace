"""MTCNN's three networks with facenet-pytorch's weights, and the suppression of overlapping boxes.

The layers (Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks") are
written independently of the library that computes them (``openvino_layers``); pyramid, thresholds and boxes are in
``faces``.

The networks are those of ``facenet_pytorch.models.mtcnn``. The weights are read from that package's files, so that
neither the package nor torch, half a gigabyte of every worker's memory, has to be loaded. Tests compare the outputs
with the package's.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

Weights = Mapping[str, NDArray[np.float32]]
"""Keyed by names like ``conv1.weight``."""


class Layers(Protocol[T]):
    """The layers of a network, as some library computes them. A layer's name is that of its weights."""

    def conv(self, name: str, x: T) -> T:
        """Convolve (n, c, h, w) without padding."""

    def prelu(self, name: str, x: T) -> T:
        """Multiply negative values by the channel's slope."""

    def pool(self, x: T, size: int) -> T:
        """Take the maximum of each window of `size` with stride 2; the last windows may extend beyond the edge."""

    def flat(self, x: T) -> T:
        """Flatten (n, c, h, w) in the order of the weights, which were trained with width before height."""

    def dense(self, name: str, x: T) -> T:
        """Multiply (n, c) by a matrix and add a bias."""

    def softmax(self, x: T) -> T:
        """Apply softmax over the channels."""


def pnet(net: Layers[T], x: T) -> tuple[T, ...]:
    """Propose faces: pictures of any size (n, 3, h, w) to box shifts (n, 4, h', w') and face or not (n, 2, h', w').

    Each output cell covers 12 by 12 pixels; cells are 2 pixels apart.
    """
    x = net.pool(net.prelu("prelu1", net.conv("conv1", x)), 2)
    x = net.prelu("prelu3", net.conv("conv3", net.prelu("prelu2", net.conv("conv2", x))))
    return net.conv("conv4_2", x), net.softmax(net.conv("conv4_1", x))


def rnet(net: Layers[T], x: T) -> tuple[T, ...]:
    """Refine proposals: crops (n, 3, 24, 24) to box shifts (n, 4) and face or not (n, 2)."""
    x = net.pool(net.prelu("prelu1", net.conv("conv1", x)), 3)
    x = net.pool(net.prelu("prelu2", net.conv("conv2", x)), 3)
    x = net.prelu("prelu3", net.conv("conv3", x))
    x = net.prelu("prelu4", net.dense("dense4", net.flat(x)))
    return net.dense("dense5_2", x), net.softmax(net.dense("dense5_1", x))


def onet(net: Layers[T], x: T) -> tuple[T, ...]:
    """Decide: crops (n, 3, 48, 48) to box shifts (n, 4), five points (n, 10) and face or not (n, 2)."""
    x = net.pool(net.prelu("prelu1", net.conv("conv1", x)), 3)
    x = net.pool(net.prelu("prelu2", net.conv("conv2", x)), 3)
    x = net.pool(net.prelu("prelu3", net.conv("conv3", x)), 2)
    x = net.prelu("prelu4", net.conv("conv4", x))
    x = net.prelu("prelu5", net.dense("dense5", net.flat(x)))
    return net.dense("dense6_2", x), net.dense("dense6_3", x), net.softmax(net.dense("dense6_1", x))


NETWORKS: Final[Mapping[str, Callable[[Layers[Any], Any], tuple[Any, ...]]]] = {
    "pnet": pnet,
    "rnet": rnet,
    "onet": onet,
}
"""In the order in which they run; the names are those of their weight files."""


def pretrained(name: str) -> Weights:
    """Read one network's weights from facenet-pytorch's files.

    Raises
    ------
    ModuleNotFoundError
        If facenet-pytorch is not installed.
    """
    package = find_spec("facenet_pytorch")  # finds the package without importing it
    if package is None or package.origin is None:
        raise ModuleNotFoundError("facenet-pytorch, which contains MTCNN's weights, is not installed")
    with (Path(package.origin).parent / "data" / f"{name}.pt").open("rb") as file:
        return _read_tensors(file)


class _Storage:
    """Placeholder for numbers that follow later in the file."""

    def __init__(self) -> None:
        self.values = np.empty(0, np.float32)


class _Unpickler(pickle.Unpickler):
    """Reads torch's dictionaries of tensors without torch, and refuses anything that could run code."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *given: given[:4],
            ("torch", "FloatStorage"): np.float32,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError("the file contains more than weights")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        return self.storages.setdefault(pid[2], _Storage())


def _read_tensors(file: BinaryIO) -> Weights:
    """Read the format that torch wrote before 1.6: pickled names and shapes, then the numbers of each storage.

    Only float32 is supported, the type in which networks are stored.
    """
    for _ in range(3):  # magic number, version, system information
        pickle.load(file)
    reader = _Unpickler(file)
    tensors: Mapping[str, tuple[_Storage, int, tuple[int, ...], tuple[int, ...]]] = reader.load()
    for key in pickle.load(file):
        count = int(np.frombuffer(file.read(8), "<i8")[0])
        reader.storages[key].values = np.frombuffer(file.read(4 * count), "<f4")
    return {name: _strided(*tensor) for name, tensor in tensors.items()}


def _strided(
    storage: _Storage, start: int, shape: tuple[int, ...], steps: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return a tensor in row-major order, given its offset, shape and strides in the storage."""
    places = sum(
        (step * index for step, index in zip(steps, np.indices(shape, sparse=True), strict=True)), start
    )
    return storage.values[places]


def suppress(boxes: NDArray[Any], scores: NDArray[Any], overlap: float) -> NDArray[np.int64]:
    """Drop each box that overlaps a better one by more than `overlap` (IoU).

    Parameters
    ----------
    boxes : ndarray, shape (n, 4)
        x1, y1, x2, y2.
    scores : ndarray, shape (n,)
        Positive; higher is better.
    overlap : float
        Intersection over union, 0 to 1.

    Returns
    -------
    ndarray of int64
        Indices of the boxes that remain, best first.
    """
    if len(boxes) == 0:
        return np.empty(0, np.int64)
    corners = np.asarray(boxes, np.float64)
    sized = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    kept = cv2.dnn.NMSBoxes(sized, np.asarray(scores, np.float32), 0.0, overlap)  # type: ignore[arg-type]
    return np.asarray(kept, np.int64).reshape(-1)
