"""A head with known pose and expression: the mesh of a public-domain portrait, made symmetric, then turned and projected."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from iss_assets.features.face_pose import picture_points
from iss_assets.media.crops import crop_sides
from iss_assets.media.faces import FaceFinder, crop_face
from iss_assets.media.landmarks import load_mesh, pack_points
from iss_assets.settings import FaceSettings, LandmarkSettings
from iss_assets_tests.media.films import portrait

UPPER_LIDS, LOWER_LIDS = (160, 158, 385, 387), (144, 153, 380, 373)
UPPER_LIP, LOWER_LIP, CORNERS, CHIN = 13, 14, (61, 291), 152
BROWS = (55, 285)


@cache
def head() -> NDArray[np.float64]:
    """Return a symmetric head that faces the camera, shape (468, 3): x right, y down, z away, outer eye corners 1 apart.

    Its forehead is straight above its chin, which is what zero pitch means.
    """
    picture = portrait(0, (640, 480), 0.8)
    found = FaceFinder(FaceSettings()).find(picture)
    assert found is not None
    crop = crop_face(picture, found.box, FaceSettings())
    points = load_mesh(LandmarkSettings())(crop)
    assert points is not None
    side = crop_sides(np.array([found.box]), np.array([640]), np.array([480]), 0, 160)
    mesh = picture_points(points.reshape(1, 468, 3), side)[0]
    mesh -= mesh.mean(axis=0)
    across = mesh[263] - mesh[33]
    mesh /= np.linalg.norm(across)
    turn, _ = Rotation.align_vectors(
        [[1, 0, 0], [0, 1, 0]], [across, mesh[152] - mesh[10]], weights=[np.inf, 1]
    )
    mesh = turn.apply(mesh)
    mesh -= (mesh[33] + mesh[263]) / 2
    mirrored = mesh * [-1, 1, 1]
    partner = cKDTree(mesh[:, :2]).query(mirrored[:, :2])[1]
    # points whose partners disagree (the portrait is not quite symmetric) pair up with themselves or a neighbor
    mesh = (mesh + mirrored[partner]) / 2
    straight = Rotation.from_euler("X", np.arctan2(*(mesh[CHIN] - mesh[10])[[2, 1]]))
    return np.asarray(straight.inv().apply(mesh))


def expression(
    blink: float = 0.0, mouth: float = 0.0, corners: float = 0.0, brows: float = 0.0
) -> NDArray[np.float64]:
    """Return the head with its eyes closed by a share, its mouth open, its lip corners up, its brows down, in eye distances."""
    face = head().copy()
    for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True):
        face[upper] += blink * (face[lower] - face[upper])
    face[[LOWER_LIP, CHIN], 1] += mouth
    face[list(CORNERS), 1] -= corners
    face[list(BROWS), 1] += brows
    return face


def turned(face: NDArray[Any], yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Turn a head: yaw to the picture's right, pitch up, roll clockwise, in degrees."""
    return np.asarray(Rotation.from_euler("YXZ", [-yaw, -pitch, roll], degrees=True).apply(face))


def film(
    heads: Sequence[NDArray[Any] | None],
    times: Sequence[float] | None = None,
    *,
    size: tuple[int, int] = (640, 480),
    unit: float = 90.0,
    at: tuple[float, float] = (320.0, 200.0),
    sides: tuple[float, float] = (1.0, 1.0),
    hashes: Sequence[int] | None = None,
    chunk_seconds: float = 4.0,
) -> tuple[arrow.Table, arrow.Table, arrow.Table]:
    """Return frames, faces and landmarks of a film of heads, None where there is no face.

    Parameters
    ----------
    heads : sequence of ndarray of shape (468, 3), or None
        From `expression` and `turned`.
    times : sequence of float, optional
        Ten per second if not given.
    size : tuple of int
        Width and height of the picture in pixels.
    unit : float
        Distance of the outer eye corners in pixels.
    at : tuple of float
        x and y of the point between the eyes.
    sides : tuple of float
        How much wider and higher than the head its box is; a box may reach beyond the picture.
    hashes : sequence of int, optional
        Hashes of the pictures; all different if not given.
    chunk_seconds : float
        Length of a chunk.
    """
    times = [n / 10 for n in range(len(heads))] if times is None else list(times)
    frames = arrow.table(
        {
            "frame_index": arrow.array(range(len(heads)), arrow.int32()),
            "time_s": arrow.array(times, arrow.float64()),
            "chunk_index": arrow.array([int(t / chunk_seconds + 1e-9) for t in times], arrow.int32()),
            "picture_hash": arrow.array(hashes or range(len(heads)), arrow.int64()),
            "width": arrow.array([size[0]] * len(heads), arrow.int32()),
            "height": arrow.array([size[1]] * len(heads), arrow.int32()),
        }
    )
    boxes, meshes = [], []
    for face in (h for h in heads if h is not None):
        pixels = face * unit + [*at, 0]
        low, high = pixels[:, :2].min(axis=0), pixels[:, :2].max(axis=0)
        middle, half = (low + high) / 2, (high - low) / 2 * sides
        box = np.concatenate([middle - half, middle + half]).astype(np.float32)
        # the crop in whole pixels, cut off at the edges of the picture
        left, top = (max(0, int(v)) for v in box[:2])
        right, bottom = (min(int(v), edge) for v, edge in zip(box[2:], size, strict=True))
        width, height = right - left, bottom - top
        boxes.append(box)
        meshes.append(((pixels - [left, top, 0]) / [width, height, width]).astype(np.float32).ravel())
    index = arrow.array([n for n, face in enumerate(heads) if face is not None], arrow.int32())
    x1, y1, x2, y2 = np.array(boxes, np.float32).reshape(-1, 4).T
    faces = arrow.table({"frame_index": index, "x1": x1, "y1": y1, "x2": x2, "y2": y2})
    detected, points = pack_points(list(meshes))
    return frames, faces, arrow.table({"frame_index": index, "detected": detected, "points": points})
