"""SFace as an OpenVINO graph: the same vectors as OpenCV's dnn module, in two thirds of the time.

The network is a MobileNet (Howard et al. 2017) of 14 blocks for faces of 112 pixels; see ``face_networks`` for its source.
OpenVINO cannot read the file, whose weights are stored in blocks of 8 bits, so OpenCV reads it and the graph is built here.
What comes after a convolution at a fixed scale (batch normalization) is part of its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE: Final = 112
"""Width and height in pixels of the faces that it expects."""
WIDTH: Final = 128
"""Length of a vector."""

_BLOCKS: Final = 14
_HALVING: Final = (3, 5, 7, 13)
"""Blocks that halve the width and the height."""
_EPSILON: Final = {"conv": 1e-3, "bn1": 2e-5, "fc1": 2e-5}
"""Added to variances, as in the file."""
_BATCH: Final = 4
"""Faces at a time: more are not faster, and take more memory."""

Vectors = NDArray[np.float32]


class _File:
    """The weights in a file, by the names of its layers."""

    def __init__(self, content: bytes) -> None:
        self._network = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))

    def of(self, layer: str) -> list[NDArray[np.float32]]:
        """Return the weights of a layer."""
        # that is what OpenCV calls the layers of such a file
        return [np.asarray(blob, np.float32) for blob in self._network.getLayer(f"onnx_node!{layer}").blobs]

    def normalization(self, layer: str, epsilon: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a batch normalization as a factor and a shift per channel."""
        mean, variance, scale, shift = (b.ravel().astype(np.float64) for b in self.of(layer))
        factor = scale / np.sqrt(variance + epsilon)
        return factor, shift - mean * factor


def sface_network(content: bytes) -> Callable[[NDArray[np.uint8]], Vectors]:
    """Load the network.

    Parameters
    ----------
    content : bytes
        The ONNX file.

    Returns
    -------
    callable
        Takes RGB faces, uint8 of shape (n, 112, 112, 3), and returns their vectors as the network gives them, float32 of
        shape (n, 128). Not thread-safe.
    """
    from iss_assets.media.openvino_layers import compiled, op, runner

    file = _File(content)

    def constant(values: NDArray[Any]) -> Any:
        return op.constant(np.asarray(values, np.float32))

    def block(x: Any, name: str, stride: int = 1) -> Any:
        (kernel,) = file.of(f"{name}_conv2d")
        factor, shift = file.normalization(f"{name}_batchnorm", _EPSILON["conv"])
        kernel *= factor.astype(np.float32)[:, None, None, None]
        edge, strides = [kernel.shape[2] // 2] * 2, [stride, stride]
        if name.endswith("_dw"):  # each channel by itself
            moved = op.group_convolution(x, constant(kernel[:, None]), strides, edge, edge, [1, 1])
        else:
            moved = op.convolution(x, constant(kernel), strides, edge, edge, [1, 1])
        (slope,) = file.of(f"{name}_relu")
        return op.prelu(op.add(moved, constant(shift.reshape(1, -1, 1, 1))), constant(slope.ravel()))

    faces = op.parameter([-1, SIDE, SIDE, 3], np.float32)
    pixels = op.transpose(faces, op.constant([0, 3, 1, 2]))
    x = op.divide(op.subtract(pixels, op.constant(np.float32(127.5))), op.constant(np.float32(128)))
    x = block(x, "conv_1")
    for number in range(2, _BLOCKS + 1):
        x = block(x, f"conv_{number}_dw", 2 if number in _HALVING else 1)
        x = block(x, f"conv_{number}")
    # the last layer, between two normalizations
    before, before_shift = file.normalization("bn1", _EPSILON["bn1"])
    after, after_shift = file.normalization("fc1", _EPSILON["fc1"])
    weight, bias = file.of("pre_fc1")
    per_channel = weight.reshape(WIDTH, len(before), -1)
    shift = (per_channel.sum(axis=2) @ before_shift + bias.ravel()) * after + after_shift
    per_channel *= (before * after[:, None]).astype(np.float32)[..., None]
    flat = op.reshape(x, op.constant([0, -1]), special_zero=True)
    vectors = op.add(
        op.matmul(flat, constant(per_channel.reshape(WIDTH, -1)), False, True), constant(shift[None])
    )
    infer = runner(compiled([vectors], [faces]))

    def run(pictures: NDArray[np.uint8]) -> Vectors:
        starts = range(0, len(pictures), _BATCH)
        return np.concatenate([infer(pictures[i : i + _BATCH].astype(np.float32))[0] for i in starts])

    return run
