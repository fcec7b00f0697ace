"""What a face does, as distances on its frontal mesh: geometric proxies, not action units and not emotions.

Every length is in units of the distance between the outer corners of the eyes. Points of both sides are averaged. The
formulas are on the page docs/face_behavior.md, with what was seen when the most extreme frames of real clips were looked
at. A distance of the brows from each other and a score of pain (PSPI) are left out on purpose: the one is as small in
smiles as in frowns, the other peaked on smiles.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from iss_assets.features.face_pose import Floats

_RIGHT_EYE: Final = (33, 160, 158, 133, 153, 144)
_LEFT_EYE: Final = (362, 385, 387, 263, 373, 380)
"""Outer corner, two points of the upper lid, inner corner, two of the lower lid; the left eye from its inner corner."""
_LEAST_EYE: Final = 0.05
"""No eye is narrower; those of real faces are from 0.3 on."""
_CORNERS: Final = (61, 291)
_INNER_LIPS: Final = (13, 14)
_NOSE_BASE: Final = 2
_CHIN: Final = 152
_INNER_BROWS: Final = ((55, 133), (285, 362))
"""Inner end of a brow with the inner corner of its eye."""


def measure_faces(face: Floats) -> dict[str, Floats]:
    """Measure the proxies of frontal faces.

    Parameters
    ----------
    face : ndarray of float, shape (n, 468, 3)
        `Heads.face`.

    Returns
    -------
    dict
        Column of `face_behavior` to an array of n values.
    """
    left, right = _CORNERS
    upper, lower = _INNER_LIPS
    middle = (face[:, upper, 1] + face[:, lower, 1]) / 2
    return {
        "eye_aspect_ratio": (_aspect_ratio(face, _RIGHT_EYE) + _aspect_ratio(face, _LEFT_EYE)) / 2,
        "mouth_open": _distance(face, upper, lower),
        "mouth_width": _distance(face, left, right),
        "lip_corners": middle - (face[:, left, 1] + face[:, right, 1]) / 2,
        "jaw_drop": _distance(face, _NOSE_BASE, _CHIN),
        "brow_height": np.mean([_distance(face, *pair) for pair in _INNER_BROWS], axis=0),
    }


def _aspect_ratio(face: Floats, eye: tuple[int, ...]) -> Floats:
    """Return height over width of an eye: Soukupova and Cech (2016), equation 1."""
    outer, upper_1, upper_2, inner, lower_2, lower_1 = eye
    height = _distance(face, upper_1, lower_1) + _distance(face, upper_2, lower_2)
    return np.asarray(height / np.maximum(2 * _distance(face, outer, inner), 2 * _LEAST_EYE))


def _distance(face: Floats, one: int, other: int) -> Floats:
    return np.linalg.norm(face[:, one] - face[:, other], axis=1)
