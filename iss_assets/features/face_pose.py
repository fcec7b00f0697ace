"""Where a head is turned, and its face as seen from the front: geometry of stored face meshes.

A mesh is stored in fractions of its crop, and a crop is a box of any proportions that was cut at the picture's edge and
squeezed to a square. So a mesh is first brought back to the picture's pixels (`picture_points`). The head's rotation
then comes in two steps:

1. the axes of each mesh (`mesh_axes`): across from the eyes and temples, down from the top of the forehead to the chin;
2. a rigid fit of points that hardly move with expression to the video's own median face (`fit_rigid`), whose axes
   say where zero is. Compared with the axes alone, on real clips the fit follows an independent estimate better
   (OpenCV's solvePnP, without the mesh's depth), and the chin no longer counts, which moves with speech.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RIGID: Final = (
    10, 67, 109, 338, 297, 69, 299, 151, 9, 8, 168, 6, 197, 195, 5, 4, 2, 33, 263, 133, 362, 127, 356, 234, 454,
    117, 346, 50, 280, 129, 358, 98, 327, 103, 332, 54, 284, 21, 251, 162, 389,
)  # fmt: skip
"""Points of the forehead, the nose, the corners of the eyes, the cheekbones and the temples."""
_ACROSS: Final = ((33, 263), (133, 362), (127, 356))
"""Corners of the eyes and temples, the one on the picture's left first."""
_DOWN: Final = (10, 152)
"""Top of the forehead and chin."""
_EYES: Final = (33, 263)
"""Outer corners of the eyes; their distance is the unit of every length of a face."""
_NOTHING: Final = 1e-9
"""Lengths up to this are rounding errors."""


@dataclass(frozen=True)
class Heads:
    """The heads of one video, one value per mesh.

    Attributes
    ----------
    yaw, pitch, roll : ndarray of float, degrees
        Positive to the picture's right, up, and clockwise in the picture. Zero is where the axes of the video's median
        face point at the camera.
    face : ndarray of float, shape (n, 468, 3)
        The mesh turned to the front; x right, y down, z away from the camera; unit: the distance of the outer corners
        of the eyes. NaN where the mesh is none (`fit_error`).
    center : ndarray of float, shape (n, 2)
        Middle of the rigid points in the picture, in pixels.
    size : ndarray of float
        The unit of `face` in pixels.
    fit_error : ndarray of float
        Root mean square distance of the rigid points from those of the median face, in units of `face`; infinite for a mesh
        whose points coincide or are no numbers.
    """

    yaw: Floats
    pitch: Floats
    roll: Floats
    face: Floats
    center: Floats
    size: Floats
    fit_error: Floats


def picture_points(points: NDArray[Any], crops: NDArray[np.int64]) -> Floats:
    """Bring meshes from fractions of their crops to pixels of the picture.

    Parameters
    ----------
    points : ndarray of float, shape (n, 468, 3)
        As stored: x and y in fractions of the crop's sides, z on the scale of x.
    crops : ndarray of int, shape (n, 4)
        From `media.crops.crop_sides`.
    """
    left, top, width, height = crops.astype(np.float64).T[:, :, None]
    x, y, z = np.moveaxis(np.asarray(points, np.float64), 2, 0)
    return np.stack([left + x * width, top + y * height, z * width], axis=2)


def mesh_axes(points: Floats) -> Floats:
    """Return the rotation of each mesh from its axes, shape (n, 3, 3); columns: right, down, away from the camera."""
    left, right = np.array(_ACROSS).T
    x = _unit((points[:, right] - points[:, left]).sum(axis=1))
    z = _unit(np.cross(x, points[:, _DOWN[1]] - points[:, _DOWN[0]]))
    return np.stack([x, np.cross(z, x), z], axis=2)


def fit_rigid(points: Floats, to: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit point sets to one of the same points by rotation, scale and shift, with least squares.

    Kabsch (1976), doi:10.1107/S0567739476001873, with the scale of Umeyama (1991), doi:10.1109/34.88573.

    Parameters
    ----------
    points : ndarray of float, shape (n, k, 3)
        Sets of the same k points.
    to : ndarray of float, shape (k, 3)
        What each set is fitted to.

    Returns
    -------
    rotation : ndarray, shape (n, 3, 3)
        Turns `to` into the direction of each set.
    size : ndarray, shape (n,)
        Scales `to` to each set.
    error : ndarray, shape (n,)
        Root mean square distance that is left, in units of `to`. Infinite for a set whose points coincide or are no numbers:
        it has no direction.
    """
    known = np.isfinite(points).all(axis=(1, 2))
    # a mesh that is not a number would stop the decomposition of all others
    moved = np.where(known[:, None, None], points, 0.0)
    moved = moved - moved.mean(axis=1, keepdims=True)
    still = to - to.mean(axis=0)
    left, values, right = np.linalg.svd(np.einsum("nki,kj->nij", moved, still))
    # a reflection would fit some turned faces better than a rotation
    sign = np.where(np.linalg.det(left @ right) < 0, -1.0, 1.0)
    left[:, :, 2] *= sign[:, None]
    values[:, 2] *= sign
    spread = float((still**2).sum())
    size = values.sum(axis=1) / max(spread, _NOTHING)
    rest = (moved**2).sum(axis=(1, 2)) - size**2 * spread
    error = np.sqrt(np.maximum(rest, 0) / len(to)) / np.maximum(size, _NOTHING)
    return left @ right, size, np.where(known & (size > _NOTHING), error, np.inf)


def angles(rotation: Floats) -> tuple[Floats, Floats, Floats]:
    """Return yaw, pitch and roll in degrees: first roll in the picture's plane, then pitch, then yaw.

    In the picture's axes (x right, y down, z away), rotation = Ry(-yaw) Rx(-pitch) Rz(roll).
    """
    away = rotation[:, :, 2]
    yaw = np.arctan2(-away[:, 0], away[:, 2])
    pitch = np.arctan2(away[:, 1], np.hypot(away[:, 0], away[:, 2]))
    roll = np.arctan2(rotation[:, 1, 0], rotation[:, 1, 1])
    return np.degrees(yaw), np.degrees(pitch), np.degrees(roll)


def median_face(points: Floats) -> Floats:
    """Return the median of one video's meshes, each turned to the front by its own axes, shape (468, 3).

    Its unit is the distance of its outer corners of the eyes. Meshes whose corners coincide, or that are no numbers, are left
    out; without any other, all points of the median are 0.
    """
    points = points[np.isfinite(points).all(axis=(1, 2))]
    front = _turned(points - points.mean(axis=1, keepdims=True), mesh_axes(points))
    distance = np.linalg.norm(front[:, _EYES[1]] - front[:, _EYES[0]], axis=1)
    there = distance > _NOTHING
    if not there.any():
        return np.zeros(points.shape[1:])
    median = np.median(front[there] / distance[there, None, None], axis=0)
    # the axes of a median are not quite the median of axes
    front = _turned(median[None], mesh_axes(median[None]))[0]
    return np.asarray(front / max(float(np.linalg.norm(front[_EYES[1]] - front[_EYES[0]])), _NOTHING))


def measure_heads(points: Floats, median: Floats) -> Heads:
    """Measure pose and frontal face of meshes.

    Parameters
    ----------
    points : ndarray of float, shape (n, 468, 3)
        From `picture_points`.
    median : ndarray of float, shape (468, 3)
        From `median_face`, of the whole video.
    """
    rigid = list(RIGID)
    points = np.where(np.isfinite(points), points, np.nan)
    rotation, size, error = fit_rigid(points[:, rigid], median[rigid])
    middle = points[:, rigid].mean(axis=1, keepdims=True)
    # a mesh that went wrong has no face, rather than one whose eyes are shut
    unit = np.where(np.isfinite(error), size, np.nan)
    face = _turned(points - middle, rotation) / unit[:, None, None]
    return Heads(*angles(rotation), face, middle[:, 0, :2], size, error)


def _turned(points: Floats, rotation: Floats) -> Floats:
    """Turn meshes back by their rotations."""
    return points @ rotation


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))
