"""Is it the same person? Face embeddings and their comparison.

Nobody is identified: no names are used, and vectors are compared only within one patient's videos.

There are two methods, and every result reports which one was used and how confident it is:

``vggface2``
    InceptionResnetV1 with facenet-pytorch's VGGFace2 weights, as in the paper (section 3.3.1). The weights are a
    file named in the settings, or facenet-pytorch's cached copy. They are never downloaded from here.
``mesh``
    Without weights: proportions of the face mesh. They distinguish very different faces only.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from iss_assets.settings import QualitySettings

WEIGHTS_NAME: Final = "20180402-114759-vggface2.pt"
"""The file of facenet-pytorch's release v2.2.9 that ``InceptionResnetV1(pretrained="vggface2")`` loads."""

HOW_TO_GET_WEIGHTS: Final = (
    f"save {WEIGHTS_NAME} (facenet-pytorch, release v2.2.9) and put its path in the setting "
    'quality.identity_weights, or run InceptionResnetV1(pretrained="vggface2") once on a machine with internet access'
)

_BATCH: Final = 16
_STABLE: Final = (
    (33, 263), (133, 362), (33, 133), (362, 263), (168, 4), (168, 2), (4, 152), (2, 152), (10, 168), (10, 152),
    (234, 454), (127, 356), (58, 288), (172, 397), (136, 365), (48, 278), (98, 327), (129, 358), (6, 4), (116, 345),
    (33, 2), (263, 2), (234, 152), (454, 152),
)  # fmt: skip
"""Pairs of mesh points whose distance changes little with speech and expression: eyes, nose, cheekbones, jaw, forehead."""


@dataclass(frozen=True)
class Embedding:
    """One vector per face.

    Attributes
    ----------
    method : str
        ``vggface2`` or ``mesh``; only vectors of one method can be compared.
    vectors : ndarray of float32, shape (n, 512) or (n, 24)
        Rows of unit length (``vggface2``) or logarithms of proportions (``mesh``). A face without a mesh is a row of
        NaN.
    """

    method: Literal["vggface2", "mesh"]
    vectors: NDArray[np.float32]

    def center(self) -> NDArray[np.float32] | None:
        """Return one vector that represents all rows; None if there are none."""
        rows = self.vectors[np.isfinite(self.vectors).all(axis=1)]
        if not len(rows):
            return None
        if self.method == "mesh":
            return np.median(rows, axis=0).astype(np.float32)
        mean = rows.mean(axis=0)
        return (mean / max(float(np.linalg.norm(mean)), 1e-9)).astype(np.float32)


@dataclass(frozen=True)
class Comparison:
    """Two faces compared.

    Attributes
    ----------
    method : str
        As in `Embedding`.
    distance : float
        Squared Euclidean distance of unit vectors, 0 to 4 (``vggface2``), or root mean square difference of the
        logarithms of proportions (``mesh``: 0.05 means that proportions differ by 5 %).
    same : bool
        Whether the distance is below the setting's threshold.
    confidence : float
        0.5 at the threshold, approaching 1 away from it; never above 0.7 for ``mesh``.
    """

    method: str
    distance: float
    same: bool
    confidence: float


def weights_file(settings: QualitySettings) -> Path | None:
    """Return the path of the VGGFace2 weights: the setting's file, else torch's cached copy, else None.

    Raises
    ------
    FileNotFoundError
        If the setting names a file that does not exist.
    """
    if settings.identity_weights is not None:
        if not settings.identity_weights.is_file():
            raise FileNotFoundError(
                f"the file of quality.identity_weights does not exist: {HOW_TO_GET_WEIGHTS}"
            )
        return settings.identity_weights
    home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    cached = home / "checkpoints" / WEIGHTS_NAME
    return cached if cached.is_file() else None


def embed_faces(
    crops: NDArray[Any], points: NDArray[Any], settings: QualitySettings, *, boxes: NDArray[Any] | None = None
) -> Embedding:
    """Compute one vector per face.

    Parameters
    ----------
    crops : ndarray of uint8, shape (n, 160, 160, 3)
        RGB crops.
    points : ndarray of float, shape (n, 468, 3)
        Their meshes in the crop's units, NaN where there is none. Used only if there are no weights.
    settings : QualitySettings
        Contains the path of the weights.
    boxes : ndarray of float, shape (n, 4), optional
        x1, y1, x2, y2 that the crops were cut from. A crop is square but its box is not: the boxes restore the mesh's
        true proportions.

    Returns
    -------
    Embedding

    Raises
    ------
    FileNotFoundError
        If the setting names weights that do not exist.
    """
    weights = weights_file(settings)
    if weights is None:
        if boxes is not None:
            wide, tall = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
            points = points * np.stack([wide, tall, wide], axis=1)[:, None, :]
        return Embedding("mesh", mesh_proportions(points))
    return Embedding("vggface2", _network_vectors(crops, weights))


def compare(first: NDArray[Any], second: NDArray[Any], method: str, settings: QualitySettings) -> Comparison:
    """Compare two vectors of the same method.

    Parameters
    ----------
    first, second : ndarray of float, shape (d,)
        Vectors as in `Embedding`.
    method : str
        ``vggface2`` or ``mesh``.
    settings : QualitySettings
        Contains the thresholds.
    """
    if method == "vggface2":
        distance, limit, surest = float(np.sum((first - second) ** 2)), settings.identity_distance, 1.0
    else:
        distance, limit, surest = float(np.sqrt(np.mean((first - second) ** 2))), settings.mesh_distance, 0.7
    confidence = 0.5 + min(0.5, abs(distance - limit) / (2 * limit))
    return Comparison(method, distance, distance < limit, min(surest, confidence))


def mesh_proportions(points: NDArray[Any]) -> NDArray[np.float32]:
    """Return the logarithms of 24 distances within a mesh relative to their geometric mean.

    Distances in space do not change when the head turns, and relative distances do not change when it moves closer.

    Parameters
    ----------
    points : ndarray of float, shape (n, 468, 3)
        NaN rows are allowed.

    Returns
    -------
    ndarray of float32, shape (n, 24)
    """
    first, second = np.array(_STABLE).T
    distance = np.linalg.norm(points[:, first] - points[:, second], axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.log(distance)
    logarithm[~np.isfinite(logarithm).all(axis=1)] = np.nan
    return (logarithm - logarithm.mean(axis=1, keepdims=True)).astype(np.float32)


def _network_vectors(crops: NDArray[Any], weights: Path) -> NDArray[np.float32]:
    import torch

    network = _network(str(weights), weights.stat().st_mtime_ns)
    found = [np.empty((0, 512), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(crops), _BATCH):
            batch = (
                torch.from_numpy(np.ascontiguousarray(crops[start : start + _BATCH]))
                .permute(0, 3, 1, 2)
                .float()
            )
            found.append(network((batch - 127.5) / 128.0).numpy())
    return np.concatenate(found)


@functools.lru_cache(maxsize=1)
def _network(weights: str, _changed: int) -> Any:
    import torch
    from facenet_pytorch import InceptionResnetV1

    state = torch.load(weights, map_location="cpu", weights_only=True)
    network = InceptionResnetV1(pretrained=None, classify=False)
    # the release's file also contains the classifier of the 8631 identities
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith("logits.")})
    return network.eval()
