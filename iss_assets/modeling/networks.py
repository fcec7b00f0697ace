"""The network architectures of Experiments 1 and 4 to 7 (paper, section 4), each trained end to end.

Every network maps a dictionary of tensors by input name to logits (n, classes). Shapes in the docstrings are for faces
of 160 px and spectrograms of 128 x 173; tests check them. The paper names the parts but leaves their widths to its
supplement, so the widths of the small networks are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.items import MEL_FLOOR_DB

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION: Final = (0.229, 0.224, 0.225)
"""Mean and standard deviation of RGB values (0 to 1) with which torchvision's ImageNet weights were trained."""

VECTOR_FEATURES: Final = 64
"""Outputs of the landmark-, pain- and audio-specific networks."""


class ImageNetNormalization(nn.Module):
    """Normalizes pictures (n, 3, rows, columns) with values from 0 to 1 for ImageNet weights.

    Mean and deviation are non-persistent buffers: creating them for every batch would stall the GPU, and they must not
    be in the model file. They have values even if the network is built on torch's meta device and loaded from a file.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            numbers = torch.tensor(values, dtype=torch.float32, device="cpu")[:, None, None]
            self.register_buffer(name, numbers, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalize the pictures."""
        return (pictures - self.mean) / self.deviation


class FacesToPictures(ImageNetNormalization):
    """Converts crops (n, side, side, 3) uint8 to normalized pictures (n, 3, side, side), channels last."""

    def forward(self, faces: Tensor) -> Tensor:
        """Convert to pictures."""
        return super().forward(faces.permute(0, 3, 1, 2) / 255)


class MelToPictures(ImageNetNormalization):
    """Converts spectrograms (n, 128, 173) in dB to normalized pictures (n, 3, 128, 173), channels last.

    -80 to 0 dB are mapped to 0 to 1, the same in all three channels, followed by the ImageNet normalization. Nothing is
    resized: a convolutional network accepts any size, and each pixel remains one Mel band and one hop.
    """

    def forward(self, mel: Tensor) -> Tensor:
        """Convert to pictures."""
        shares = (mel / -MEL_FLOOR_DB + 1).clamp(0, 1)
        pictures = super().forward(shares[:, None].expand(-1, 3, -1, -1))
        return pictures.contiguous(memory_format=torch.channels_last)


class FaceNetwork(nn.Module):
    """Experiment 1: ResNet50 with its last layer replaced.

    faces (n, 160, 160, 3) -> ResNet50 -> 2048 -> linear -> (n, 4) or (n, 2).
    """

    def __init__(self, backbone: nn.Module, classes: int):
        super().__init__()
        self.pictures = FacesToPictures()
        self.backbone = backbone
        self.backbone.fc = nn.Linear(2048, classes)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute logits (n, classes)."""
        return self.backbone(self.pictures(inputs["faces"]))


class VectorFusion(nn.Module):
    """Experiments 4 and 5, Fusion 1 and 2: outputs of ResNet50 and raw vectors into a feed-forward network.

    Fusion 1: 1000 outputs of ResNet50's own last layer + 1404 landmarks = 2404 features.
    Fusion 2: the same + 16 (nine scores, sex, skin, four timeframes, imputation flag) = 2420 features.
    The rest is the same in both: -> 512 -> 128 -> (n, 2), with ReLU in between.
    """

    def __init__(self, backbone: nn.Module, widths: Mapping[str, int], classes: int):
        super().__init__()
        self.pictures = FacesToPictures()
        self.backbone = backbone
        self.vectors = tuple(widths)
        self.head = nn.Sequential(
            nn.Linear(1000 + sum(widths.values()), 512),
            nn.ReLU(),
            nn.Linear(512, 128),
            nn.ReLU(),
            nn.Linear(128, classes),
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute logits (n, classes)."""
        features = self.backbone(self.pictures(inputs["faces"]))
        vectors = (inputs[name].to(features.dtype) for name in self.vectors)
        return self.head(torch.cat([features, *vectors], dim=1))


class CutBackbone(nn.Module):
    """ResNet50 up to a layer within one of its blocks, for example ``layer4.0.conv1``; weights keep their names.

    torchvision's feature extractor does the same, but it temporarily patches all torch modules while tracing, which
    breaks folds that are training concurrently.
    """

    def __init__(self, backbone: nn.Module, layer: str):
        super().__init__()
        stage, block, inner = layer.split(".", 2)
        stages = ("layer1", "layer2", "layer3", "layer4")
        self.path = ("conv1", "bn1", "relu", "maxpool", *stages[: stages.index(stage) + 1])
        for name in self.path[:-1]:
            self.add_module(name, backbone.get_submodule(name))
        blocks = list(backbone.get_submodule(stage).children())
        cut = CutBlock(blocks[int(block)], inner)
        self.add_module(stage, nn.Sequential(*blocks[: int(block)], cut))

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute the feature map of the layer."""
        for name in self.path:
            pictures = self.get_submodule(name)(pictures)
        return pictures


class CutBlock(nn.Module):
    """The first layers of a ResNet50 block, on its main path or its shortcut."""

    def __init__(self, block: nn.Module, inner: str):
        super().__init__()
        self.path: tuple[str, ...]
        if inner.startswith("downsample."):
            shortcut = list(block.get_submodule("downsample").children())
            self.path = ("downsample",)
            self.add_module("downsample", nn.Sequential(*shortcut[: int(inner.split(".")[1]) + 1]))
            return
        self.path = _MAIN_PATH[: _MAIN_PATH.index(inner) + 1]
        for name in self.path:
            self.add_module(name, block.get_submodule(name))

    def forward(self, features: Tensor) -> Tensor:
        """Compute the feature map of the last remaining layer."""
        for name in self.path:
            features = self.get_submodule(name)(features)
        return features


_MAIN_PATH: Final = ("conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3", "bn3")
"""Layers of torchvision's bottleneck block from its input to where the shortcut is added."""


class MapFusion(nn.Module):
    """Experiments 6 and 7, Fusion 3 and Static Audio: a feature map and learned vectors into a CNN.

    Fusion 3: faces -> ResNet50 up to ``layer4[0].conv1`` -> map (n, 512, 10, 10); landmarks 1404 -> 128 -> 64;
    scores 16 -> 128 -> 64. Static Audio: spectrogram -> map (n, 512, 8, 11); features 25 -> 128 -> 64.

    The vectors are repeated at every position of the map, so that concatenation preserves the spatial layout for the
    CNN: (n, 640, 10, 10) and (n, 576, 8, 11). The CNN is the same in both: 3x3 convolution to 256, 3x3 convolution to
    128, each with batch normalization and ReLU; mean over positions; linear -> (n, 2). Later layers of ResNet50 are
    neither computed nor stored.
    """

    def __init__(
        self, backbone: nn.Module, layer: str, picture: str, widths: Mapping[str, int], classes: int
    ):
        super().__init__()
        self.picture = picture
        self.pictures = FacesToPictures() if picture == "faces" else MelToPictures()
        channels = _channels(backbone, layer)
        self.backbone = CutBackbone(backbone, layer)
        self.vectors = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, VECTOR_FEATURES), nn.ReLU()
                )
                for name, width in widths.items()
            }
        )
        self.head = nn.Sequential(
            nn.Conv2d(channels + VECTOR_FEATURES * len(widths), 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Conv2d(256, 128, 3, padding=1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, classes),
        )

    def feature_map(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute the feature map of the backbone, (n, 512, rows, columns)."""
        return self.backbone(self.pictures(inputs[self.picture]))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute logits (n, classes)."""
        features = self.feature_map(inputs)
        rows, columns = features.shape[2:]
        repeated = [
            network(inputs[name])[:, :, None, None].to(features.dtype).expand(-1, -1, rows, columns)
            for name, network in self.vectors.items()
        ]
        return self.head(torch.cat([features, *repeated], dim=1))


def build_network(
    experiment: Experiment, backbone: nn.Module, widths: Mapping[str, int], feature_layer: str
) -> nn.Module:
    """Build an experiment's network on a ResNet50.

    Parameters
    ----------
    experiment : Experiment
        An experiment whose model is a network.
    backbone : torch.nn.Module
        torchvision's ResNet50 with 1000 outputs.
    widths : mapping of str to int
        Number of columns of each vector input, in the order of the experiment.
    feature_layer : str
        Layer whose feature map Fusion 3 and Static Audio use.

    Raises
    ------
    ValueError
        If the model of the experiment is not a network, or if ResNet50 has no such layer.
    """
    network: nn.Module
    if experiment.model == "resnet50":
        network = FaceNetwork(backbone, experiment.classes)
    elif experiment.model in ("fusion_1", "fusion_2"):
        network = VectorFusion(backbone, widths, experiment.classes)
    elif experiment.model in ("fusion_3", "audio_static"):
        picture = "faces" if experiment.model == "fusion_3" else "mel"
        network = MapFusion(backbone, feature_layer, picture, widths, experiment.classes)
    else:
        raise ValueError(f"experiment {experiment.name} is a {experiment.model}, not a network")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # only a momentum of None needs the batch count, and each of the 53 counters would launch a GPU kernel
            module.num_batches_tracked = None
    return network


def _channels(backbone: nn.Module, layer: str) -> int:
    """Return the number of channels of the feature map of a layer."""
    modules = dict(backbone.named_modules())
    module = modules.get(layer) if layer.startswith("layer") else None
    if not isinstance(module, nn.Conv2d | nn.BatchNorm2d):
        convolutions = [n for n, m in modules.items() if isinstance(m, nn.Conv2d) and n.startswith("layer4")]
        raise ValueError(
            f"ResNet50 has no convolution {layer!r} (ISS_TRAINING__FEATURE_LAYER); its last stage has "
            + ", ".join(convolutions)
        )
    return module.out_channels if isinstance(module, nn.Conv2d) else module.num_features
