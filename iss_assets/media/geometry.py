"""Geometry of stored landmarks: whether a face is turned, mirrored, implausible or jumping."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from iss_assets.media.meshes import Meshes
from iss_assets.settings import QualitySettings

_RIGHT_EYE: Final = (33, 133)
_LEFT_EYE: Final = (362, 263)
_MOUTH: Final = (61, 291)
_NOSE: Final = 4
_BLOCK: Final = 1024
"""Meshes processed at a time."""


@dataclass(frozen=True)
class MeshFindings:
    """Shares of a video's meshes.

    Attributes
    ----------
    turned : float
        The eyes are not above the mouth: a quarter turn would bring the face closer to upright.
    mirrored : float
        The right eye is where the left should be.
    implausible : float
        Points far outside the crop, eyes on top of each other, or a nose outside the face.
    jumping : float
        Share of steps between neighboring samples in which the shape changes more than a face can.
    roll_deg : float or None
        Median angle of the line between the eyes.
    not_upright : ndarray of bool, one per mesh
        Turned or mirrored.
    not_a_face : ndarray of bool, one per mesh
        Implausible, or jumped to from the mesh before it.
    """

    turned: float
    mirrored: float
    implausible: float
    jumping: float
    roll_deg: float | None
    not_upright: NDArray[np.bool_] = field(compare=False)
    not_a_face: NDArray[np.bool_] = field(compare=False)


def examine_meshes(
    points: Meshes, heights: NDArray[Any], frame_index: NDArray[Any], settings: QualitySettings
) -> MeshFindings:
    """Examine the meshes of one video.

    Parameters
    ----------
    points : Meshes
        n meshes of 468 points, in fractions of their crops' sides.
    heights : ndarray of float, shape (n,)
        Heights of the crops as shares of their widths; angles and shapes are those in the picture.
    frame_index : ndarray of int, shape (n,)
        The samples that they belong to, in ascending order.
    settings : QualitySettings
        Thresholds; those for meshes begin with ``mesh_``.

    Returns
    -------
    MeshFindings
        Zeros and None without meshes.
    """
    if len(points) == 0:
        none = np.zeros(0, bool)
        return MeshFindings(0.0, 0.0, 0.0, 0.0, None, none, none)
    # all at once, an hour of meshes in double precision would take a gigabyte
    parts = [
        _examine(
            points[max(0, start - 1) : start + _BLOCK],
            heights[max(0, start - 1) : start + _BLOCK],
            frame_index[max(0, start - 1) : start + _BLOCK],
            settings,
        )
        for start in range(0, len(points), _BLOCK)
    ]
    # each part but the first starts with the last mesh of the previous part, for the step between them
    whole = [parts[0]] + [{k: v if k == "jumped" else v[1:] for k, v in part.items()} for part in parts[1:]]
    of = {name: np.concatenate([part[name] for part in whole]) for name in whole[0]}
    jumped = np.zeros(len(points), bool)
    jumped[1:][np.diff(frame_index) == 1] = of["jumped"]
    return MeshFindings(
        turned=float(of["turned"].mean()),
        mirrored=float(of["mirrored"].mean()),
        implausible=float(of["implausible"].mean()),
        jumping=float(of["jumped"].mean()) if len(of["jumped"]) else 0.0,
        roll_deg=float(np.median(of["roll"])),
        not_upright=of["turned"] | of["mirrored"],
        not_a_face=of["implausible"] | jumped,
    )


def _examine(
    points: NDArray[Any], heights: NDArray[Any], frame_index: NDArray[Any], settings: QualitySettings
) -> dict[str, NDArray[Any]]:
    """Return one value per mesh, and for ``jumped`` one per step between neighboring samples."""
    flat = points[..., :2].astype(np.float64)
    true = flat.copy()
    true[..., 1] *= heights[:, None]
    right, left, mouth = (true[:, list(where)].mean(axis=1) for where in (_RIGHT_EYE, _LEFT_EYE, _MOUTH))
    across, down = left - right, mouth - (left + right) / 2
    outside = ((flat < -settings.mesh_outside) | (flat > 1 + settings.mesh_outside)).any(axis=(1, 2))
    apart = flat[:, list(_LEFT_EYE)].mean(axis=1) - flat[:, list(_RIGHT_EYE)].mean(axis=1)
    close = np.linalg.norm(apart, axis=1) < settings.mesh_eye_distance
    low, high = flat.min(axis=1), flat.max(axis=1)
    nose = flat[:, _NOSE]
    margin = settings.mesh_nose_margin * (high - low)
    astray = ((nose < low + margin) | (nose > high - margin)).any(axis=1)
    return {
        "roll": np.degrees(np.arctan2(across[:, 1], across[:, 0])),
        "mirrored": across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0] < 0,
        # a mirrored face has its eyes swapped, so the position of the mouth decides what is upright
        "turned": np.abs(np.degrees(np.arctan2(down[:, 0], down[:, 1]))) > settings.mesh_turned_degrees,
        "implausible": outside | close | astray,
        "jumped": _jumped(true, frame_index, settings.mesh_jump),
    }


def _jumped(true: NDArray[Any], frame_index: NDArray[Any], jump: float) -> NDArray[np.bool_]:
    centered = true - true.mean(axis=1, keepdims=True)
    shape = centered / np.maximum(np.sqrt((centered**2).sum(axis=2).mean(axis=1)), 1e-6)[:, None, None]
    way = np.linalg.norm(np.diff(shape, axis=0), axis=2).mean(axis=1)
    # the shape has a mean radius of 1, a face is two radii wide
    return way[np.diff(frame_index) == 1] > 2 * jump
