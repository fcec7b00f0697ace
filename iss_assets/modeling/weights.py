"""First weights of ResNet50: from torchvision's hub, from a file, or random by choice.

Belongs here: finding and checking them. Does not belong here: what is built on them (``networks``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

from iss_assets.modeling.files import content_hash
from iss_assets.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

WAYS_OUT = (
    "Either name a file with torchvision's ImageNet weights of ResNet50 (resnet50-*.pth, or .safetensors) in "
    "ISS_TRAINING__RESNET50_WEIGHTS, or choose training from scratch with ISS_TRAINING__INITIAL_WEIGHTS=random, "
    "which is printed with every result"
)


class WeightsUnavailable(RuntimeError):
    """Pretrained weights are wanted and cannot be had; the message names both ways out."""


def initial_resnet50(settings: TrainingSettings) -> tuple[nn.Module, str]:
    """Give torchvision's ResNet50 with its first weights, and where they come from.

    The paper fine-tunes a ResNet50 "pretrained on ImageNet" of 2021: torchvision's ``IMAGENET1K_V1``.

    Returns
    -------
    network : torch.nn.Module
        1000 outputs, on the CPU. Random weights follow torch's current seed.
    origin : str
        ``file``, ``imagenet`` (the hub, or its cache) or ``random``.

    Raises
    ------
    WeightsUnavailable
        If neither file nor hub gives ImageNet weights. They are never replaced by random ones.
    """
    from torchvision.models import resnet50

    origin, path = wanted_origin(settings), settings.resnet50_weights
    if origin == "random":
        return resnet50(weights=None), origin
    network = empty_resnet50()
    state = _from_hub() if path is None else _from_file(path)
    _check(network, state, path)
    network.load_state_dict(state, assign=True)
    return network, origin


def wanted_origin(settings: TrainingSettings) -> str:
    """Give the origin that first weights have under these settings: ``file``, ``imagenet`` or ``random``."""
    if settings.initial_weights == "random":
        return "random"
    return "imagenet" if settings.resnet50_weights is None else "file"


def weights_fingerprint(settings: TrainingSettings) -> str:
    """Give what tells first weights apart: the origin and, of a file, its content.

    A file that is replaced under the same name is another one; where it lies does not matter.
    """
    origin, path = wanted_origin(settings), settings.resnet50_weights
    if origin != "file" or path is None:
        return origin
    return f"file {content_hash(path)[:16]}" if path.is_file() else "file that is not there"


def empty_resnet50() -> nn.Module:
    """Give a ResNet50 without numbers, to be filled with ``load_state_dict(..., assign=True)``."""
    import torch
    from torchvision.models import resnet50

    with torch.device("meta"):
        return resnet50(weights=None)


@dataclass(frozen=True)
class FoundWeights:
    """Whether first weights can be had, said without downloading anything.

    Attributes
    ----------
    available : bool
        Whether they lie on this machine, or none are needed.
    text : str
        What was found, for a person.
    mend : str
        What to do about it; empty where nothing is to be done.
    """

    available: bool
    text: str
    mend: str = ""


def find_weights(settings: TrainingSettings) -> FoundWeights:
    """Look for the first weights that the settings ask for, without downloading anything."""
    import torch
    from torchvision.models import ResNet50_Weights

    if settings.initial_weights == "random":
        return FoundWeights(True, "random by choice: results are no measure of the paper's")
    if settings.resnet50_weights is not None:
        name = settings.resnet50_weights.name
        if settings.resnet50_weights.is_file():
            return FoundWeights(True, f"ImageNet, from the file {name}")
        return FoundWeights(
            False, f"the file {name} in ISS_TRAINING__RESNET50_WEIGHTS is not there", WAYS_OUT
        )
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(ResNet50_Weights.IMAGENET1K_V1.url).name
    if cached.is_file():
        return FoundWeights(True, "ImageNet, in torchvision's cache")
    return FoundWeights(
        False,
        "ImageNet, to be downloaded from torchvision's hub when first needed",
        f"nothing where the hub can be reached. {WAYS_OUT}",
    )


def _from_file(path: Path) -> Mapping[str, Any]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise WeightsUnavailable(f"the weights file {path.name} is not there. {WAYS_OUT}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only: a file from elsewhere must not be able to run code
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise WeightsUnavailable(f"the weights file {path.name} cannot be read. {WAYS_OUT}.") from error
    except Exception as error:  # torch raises pickle's own errors, which are of no common class
        raise WeightsUnavailable(
            f"the weights file {path.name} is no file of plain weights. {WAYS_OUT}."
        ) from error
    if not isinstance(state, Mapping):
        raise WeightsUnavailable(f"the weights file {path.name} is no file of plain weights. {WAYS_OUT}.")
    return state


def _from_hub() -> Mapping[str, Any]:
    from torchvision.models import ResNet50_Weights

    try:
        return ResNet50_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsUnavailable(
            f"ImageNet weights of ResNet50 are neither in torchvision's cache nor can its hub be reached. {WAYS_OUT}."
        ) from error


def _check(network: nn.Module, state: Mapping[str, Any], path: Path | None) -> None:
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    fits = all(
        name in state and getattr(state[name], "shape", None) == shape for name, shape in wanted.items()
    )
    if not fits or set(state) - set(wanted):
        name = path.name if path is not None else "from the hub"
        raise WeightsUnavailable(
            f"the weights {name} are not those of torchvision's ResNet50 with its 1000 outputs. {WAYS_OUT}."
        )
