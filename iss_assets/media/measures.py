"""Cheap measures of one sampled picture and one face crop: light, contrast, sharpness, noise, glare, motion.

They are computed on every sampled frame while it is decoded, in well under half a millisecond. What a measure means
for a video is decided in ``quality``.

Luma is the full-range 8-bit gray picture (0 black, 255 white), as returned by
``cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)`` or PyAV's ``frame.reformat(format="gray")``, not the limited-range Y plane of
a video.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from iss_assets.media.text_regions import TEXT_SIDE, measure_text

__all__ = [
    "FRAME_SIDE",
    "PATCH_SIDE",
    "TEXT_SIDE",
    "FaceMeasures",
    "FrameMeasures",
    "measure_face",
    "measure_frame",
    "measure_text",
    "perceptual_blur",
]

Luma = NDArray[Any]
"""A gray 8-bit picture; public functions check dtype and shape."""

FRAME_SIDE: Final = 180
"""Shorter side in pixels of the picture that `measure_frame` expects (scaled with ``cv2.INTER_AREA``)."""

PATCH_SIDE: Final = 256
"""Side of the full-resolution patch from the picture's center in which noise is measured."""

_BLOWN: Final = 247
"""Lowest overexposed luma (ISO/IEC 29794-5; its reference implementation OFIQ counts luma 247 to 255)."""

_NOISE_MASK: Final = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_BLOCK: Final = 16
_BLUR_TAPS: Final = 11
"""Width in pixels of the second blur of Crete et al."""


def _face_ellipse(side: int) -> Luma:
    x = np.arange(side)[None, :] - (side - 1) / 2
    y = x.T
    inside = (x / (0.40 * side)) ** 2 + (y / (0.47 * side)) ** 2 <= 1
    return inside.astype(np.uint8) * 255


_ELLIPSES: Final = {160: _face_ellipse(160)}


@dataclass(frozen=True)
class FrameMeasures:
    """Measures of one picture; the names are columns of the table ``frames``.

    Attributes
    ----------
    luminance : float
        Mean luma, 0 to 1.
    contrast : float
        Standard deviation of luma, 0 to 1.
    highlight : float
        99th percentile of luma, 0 to 1: the brightness of the brightest objects. A well exposed picture of a dark
        scene has highlights, an underexposed one has none.
    sharpness : float
        Variance of the Laplacian of the scaled picture, in squared 8-bit steps.
    noise : float
        Standard deviation of noise in 8-bit steps, see `estimate_noise`.
    glare : float
        Share of the picture that is overexposed.
    motion : float or None
        Mean absolute difference of luma to the previous sample, 0 to 1; None for the first.
    picture_hash : int
        64-bit hash of the scaled picture; identical pictures have equal hashes.
    """

    luminance: float
    contrast: float
    highlight: float
    sharpness: float
    noise: float
    glare: float
    motion: float | None
    picture_hash: int


@dataclass(frozen=True)
class FaceMeasures:
    """Measures of one face crop; with the prefix ``face_`` they are columns of the table ``frames``.

    Only an upright ellipse inside the crop is measured, so that the background in its corners does not count.

    Attributes
    ----------
    luminance : float
        Mean luma, 0 to 1. It depends on skin tone as much as on light, so no flag is based on it alone.
    highlight : float
        99th percentile of luma, 0 to 1: shine of the skin, whites of the eyes, teeth. Those are bright in good
        light on any skin, which makes it the measure of exposure.
    glare : float
        Share of the face that is overexposed: two of three channels at their limit, so that color is lost.
    sharpness : float
        Variance of the Laplacian of the crop, in squared 8-bit steps.
    """

    luminance: float
    highlight: float
    glare: float
    sharpness: float


def measure_frame(luma: Luma, previous: Luma | None, patch: Luma | None = None) -> FrameMeasures:
    """Measure one sampled picture; takes about 0.25 ms.

    Parameters
    ----------
    luma : ndarray of uint8, shape (h, w)
        The upright picture scaled (``cv2.INTER_AREA``) to a shorter side of `FRAME_SIDE` pixels. Always scale to
        the same size: sharpness and hash depend on it.
    previous : ndarray of uint8, shape (h, w), or None
        The same for the previous sample, to measure motion; None for the first one or after a change of size.
    patch : ndarray of uint8, shape (up to `PATCH_SIDE`, up to `PATCH_SIDE`), or None
        The center of the picture in full resolution, to measure noise, which scaling down hides. Without it noise is
        measured on `luma` and comes out lower.

    Returns
    -------
    FrameMeasures

    Raises
    ------
    ValueError
        If a picture is empty, not two-dimensional or not 8-bit.
    """
    _require(luma, 2)
    mean, deviation = cv2.meanStdDev(luma)
    counts = cv2.calcHist([luma], [0], None, [256], [0, 256])[:, 0]
    motion = None
    if previous is not None and previous.shape == luma.shape:
        motion = float(cv2.norm(luma, previous, cv2.NORM_L1) / luma.size / 255)
    digest = hashlib.blake2b(luma.tobytes(), digest_size=8).digest()
    return FrameMeasures(
        luminance=float(mean[0, 0]) / 255,
        contrast=float(deviation[0, 0]) / 255,
        highlight=_percentile(counts, 0.99) / 255,
        sharpness=_sharpness(luma),
        noise=estimate_noise(luma if patch is None else patch),
        glare=float(counts[_BLOWN:].sum() / luma.size),
        motion=motion,
        picture_hash=int.from_bytes(digest, "little", signed=True),
    )


def measure_face(crop: NDArray[Any]) -> FaceMeasures:
    """Measure one RGB face crop; takes about 0.1 ms.

    Parameters
    ----------
    crop : ndarray of uint8, shape (side, side, 3)
        The crop as stored (160 x 160 by default), RGB.

    Returns
    -------
    FaceMeasures

    Raises
    ------
    ValueError
        If the crop is empty, not square, not RGB or not 8-bit.
    """
    _require(crop, 3)
    side = crop.shape[0]
    if crop.shape[1:] != (side, 3):
        raise ValueError(f"a face crop must be a square RGB picture, not {crop.shape}")
    ellipse = _ELLIPSES.get(side)
    if ellipse is None:
        ellipse = _ELLIPSES[side] = _face_ellipse(side)
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    counts = cv2.calcHist([luma], [0], ellipse, [256], [0, 256])[:, 0]
    total = float(counts.sum())
    red, green, blue = cv2.split(crop)
    middle = cv2.max(cv2.min(red, green), cv2.min(cv2.max(red, green), blue))
    blown = int(np.count_nonzero((middle >= _BLOWN) & (ellipse > 0)))
    return FaceMeasures(
        luminance=float(counts @ np.arange(256, dtype=np.float32)) / total / 255,
        highlight=_percentile(counts, 0.99) / 255,
        glare=blown / total,
        sharpness=_sharpness(luma),
    )


def estimate_noise(luma: Luma) -> float:
    """Estimate the standard deviation of noise in 8-bit steps.

    Immerkaer's operator (J. Immerkaer, "Fast Noise Variance Estimation", Computer Vision and Image Understanding
    64(2), 1996) removes flat and sloped areas and leaves noise, edges and texture. So that edges and texture do not
    count as noise, it is averaged over blocks of 16 x 16 pixels, and the lower quartile of the blocks is returned;
    blocks clipped to black or white, where noise is invisible, are left out.

    Parameters
    ----------
    luma : ndarray of uint8, shape (h, w)
        A picture in full resolution.

    Returns
    -------
    float
        0 if every block is clipped or the picture is smaller than a block.
    """
    _require(luma, 2)
    height, width = (n // _BLOCK for n in luma.shape)
    if height == 0 or width == 0:
        return 0.0
    luma = luma[: height * _BLOCK, : width * _BLOCK]
    response = np.abs(cv2.filter2D(luma, cv2.CV_16S, _NOISE_MASK)).astype(np.float32)
    level = cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)
    blocks = cv2.resize(response, (width, height), interpolation=cv2.INTER_AREA)[(level > 8) & (level < 247)]
    if blocks.size == 0:
        return 0.0
    # E|n * M| = 6 sigma sqrt(2/pi) for white noise: the mask's coefficients have norm 6
    return float(np.percentile(blocks, 25) * np.sqrt(np.pi / 2) / 6)


def _sharpness(luma: Luma) -> float:
    deviation = cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S))[1]
    return float(deviation[0, 0] ** 2)


def _percentile(counts: NDArray[Any], share: float) -> float:
    total = np.cumsum(counts)
    return float(np.searchsorted(total, share * total[-1]))


def _require(picture: NDArray[Any], dimensions: int) -> None:
    if picture.dtype != np.uint8 or picture.ndim != dimensions or picture.size == 0:
        raise ValueError(
            f"expected a non-empty 8-bit picture of {dimensions} dimensions, not {picture.dtype}{picture.shape}"
        )


def perceptual_blur(luma: Luma) -> float:
    """Measure how blurred a picture is, regardless of brightness and contrast; takes about 0.3 ms at 80 pixels.

    A sharp picture loses much of the difference between neighboring pixels when it is blurred again, a blurred one
    little (F. Crete, T. Dolmiere, P. Ladret, M. Nicolas, "The blur effect: perception and estimation with a new
    no-reference perceptual blur metric", SPIE 6492, 2007). The variance of the Laplacian, in contrast, grows with
    light and contrast and would call dark skin blurred.

    Parameters
    ----------
    luma : ndarray of uint8, shape (h, w)
        At least 8 pixels in each direction.

    Returns
    -------
    float
        0 (sharp) to 1 (blurred), in the worse direction; 1 for a picture without any contrast.
    """
    _require(luma, 2)
    picture = luma.astype(np.float32)
    worst = 0.0
    for axis, kernel in ((0, (1, _BLUR_TAPS)), (1, (_BLUR_TAPS, 1))):
        again = cv2.blur(picture, kernel, borderType=cv2.BORDER_REFLECT)
        before = np.abs(np.diff(picture, axis=axis))
        lost = np.maximum(0.0, before - np.abs(np.diff(again, axis=axis)))
        total = float(before.sum())
        worst = max(worst, 1.0 - float(lost.sum()) / total if total > 0 else 1.0)
    return worst
