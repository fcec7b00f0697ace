"""Lettering in the background: lines of characters on a sign, a door, a poster or a screen.

It measures how much of the picture is covered by lettering. Nothing here reads the text, which may name a person or a
place.

The method is the classical one for text in scenes (B. Epshtein, E. Ofek, Y. Wexler, "Detecting Text in Natural
Scenes with Stroke Width Transform", CVPR 2010, section 4): connected ink on a plain background, with strokes of uniform
width, in rows of three or more with the same height, ink, background and baseline. It needs no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

TEXT_SIDE: Final = 360
"""Shorter side in pixels of the picture that `measure_text` expects."""

_MIN_HEIGHT: Final = 9
"""Characters smaller than this (2.5 % of the picture's shorter side) cannot be distinguished from texture."""
_MAX_HEIGHT_SHARE: Final = 0.35
_CONTRAST: Final = 40.0
"""Minimum difference between ink and background in 8-bit steps."""
_MAX_COMPONENTS: Final = 400


@dataclass(frozen=True)
class _Glyphs:
    """Candidates for characters, one entry each."""

    box: NDArray[np.float32]  # x, y, width, height
    ink: NDArray[np.float32]
    ground: NDArray[np.float32]
    stroke: NDArray[np.float32]
    shape: NDArray[np.float32]  # 8 x 8 picture of the ink, flat


def measure_text(luma: NDArray[Any], face_box: tuple[float, float, float, float] | None) -> float:
    """Return the share of a picture covered by lines of lettering; takes about 10 ms, so use it once per second.

    Call it for samples with ``frame_index % round(fps) == 0`` and leave ``frames.text_share`` empty for the others.

    Parameters
    ----------
    luma : ndarray of uint8, shape (h, w)
        The upright picture, full-range gray, scaled down to a shorter side of `TEXT_SIDE` pixels; smaller ones are
        enlarged here.
    face_box : (x1, y1, x2, y2) or None
        The face in the pixels of `luma`. It is left out together with its surroundings: hair, glasses, collar.

    Returns
    -------
    float
        0 without lettering; 0.002 is a room number across the room, 0.05 a poster.
    """
    if luma.dtype != np.uint8 or luma.ndim != 2 or luma.size == 0:
        raise ValueError(f"expected a non-empty gray 8-bit picture, not {luma.dtype}{luma.shape}")
    zoom = TEXT_SIDE / min(luma.shape)
    if zoom > 1:
        luma = cv2.resize(luma, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        face_box = None if face_box is None else tuple(zoom * v for v in face_box)  # type: ignore[assignment]
    area = 0.0
    for picture in (luma, cv2.bitwise_not(luma)):
        for line in _lines(_dark_glyphs(picture, face_box)):
            x, y = line[:, :2].min(axis=0)
            right, bottom = (line[:, :2] + line[:, 2:]).max(axis=0)
            area += float((right - x) * (bottom - y))
    return min(1.0, area / luma.size)


def _dark_glyphs(luma: NDArray[Any], face_box: tuple[float, float, float, float] | None) -> _Glyphs:
    """Find connected dark ink on a plain lighter background that could be a character."""
    height, width = luma.shape
    window = max(15, (min(height, width) // 8) | 1)
    smooth = cv2.GaussianBlur(luma, (3, 3), 0)
    ground = cv2.boxFilter(smooth, cv2.CV_16S, (window, window), borderType=cv2.BORDER_REPLICATE)
    ink = (smooth < ground - _CONTRAST / 4).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8, ltype=cv2.CV_32S)
    x, y, w, h, area = stats.T
    fill = area / (w * h)
    keep = (
        (h >= _MIN_HEIGHT)
        & (h <= height * _MAX_HEIGHT_SHARE)
        & (w <= h * 1.6)
        & (w >= h * 0.08)
        & (fill > 0.15)
        & (fill < 0.95)
        & (x > 0)
        & (y > 0)
        & (x + w < width)
        & (y + h < height)
    )
    keep[0] = False
    if face_box is not None:
        x1, y1, x2, y2 = face_box
        side, tall = x2 - x1, y2 - y1
        keep &= (
            (x > x2 + 0.25 * side)
            | (x + w < x1 - 0.25 * side)
            | (y > y2 + 0.3 * tall)
            | (y + h < y1 - 0.45 * tall)
        )
    index = np.flatnonzero(keep)
    if index.size > _MAX_COMPONENTS:
        index = index[np.argsort(-area[index])[:_MAX_COMPONENTS]]
    distance = cv2.distanceTransform(ink, cv2.DIST_L2, 3)
    rows: list[tuple[NDArray[np.float32], float, float, float, NDArray[np.float32]]] = []
    for i in index:
        glyph = _describe(smooth, labels, distance, int(i), stats[i])
        if glyph is not None:
            rows.append(glyph)
    if not rows:
        empty = np.empty(0, np.float32)
        return _Glyphs(np.empty((0, 4), np.float32), empty, empty, empty, np.empty((0, 64), np.float32))
    boxes, inks, grounds, strokes, shapes = zip(*rows, strict=True)
    return _Glyphs(
        np.stack(boxes),
        np.array(inks, np.float32),
        np.array(grounds, np.float32),
        np.array(strokes, np.float32),
        np.stack(shapes),
    )


def _describe(
    luma: NDArray[Any],
    labels: NDArray[Any],
    distance: NDArray[Any],
    label: int,
    stat: NDArray[Any],
) -> tuple[NDArray[np.float32], float, float, float, NDArray[np.float32]] | None:
    """Measure one candidate; return None if its strokes or background are not those of a character."""
    x, y, w, h, _ = (int(v) for v in stat)
    margin = 2
    view = np.s_[max(0, y - margin) : y + h + margin, max(0, x - margin) : x + w + margin]
    mine = labels[view] == label
    gray = luma[view]
    around = cv2.dilate(mine.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    if around.sum() < 0.1 * mine.size:
        return None
    # the edge of a stroke is half ink, half background: its center shows the ink
    depth = distance[view][mine]
    ink = float(np.percentile(gray[mine], 25))
    ground = gray[around]
    level = float(np.median(ground))
    contrast = level - ink
    if contrast < _CONTRAST:
        return None
    if float(np.percentile(ground, 75) - np.percentile(ground, 25)) > 0.3 * contrast:
        return None
    if float(np.mean(ground < ink + 0.5 * contrast)) > 0.12:
        return None
    deepest = float(depth.max())
    # in a stroke of uniform width the mean depth is about half the maximum, in a blob a third
    if depth.mean() < 0.36 * deepest or 2 * deepest > 0.5 * h:
        return None
    inside = mine[y - max(0, y - margin) :, x - max(0, x - margin) :][:h, :w].astype(np.float32)
    shape = cv2.resize(inside, (8, 8), interpolation=cv2.INTER_AREA).ravel()
    return np.array([x, y, w, h], np.float32), ink, level, 2 * deepest, shape


def _lines(glyphs: _Glyphs) -> list[NDArray[np.float32]]:
    """Group candidates into rows of three or more and return each row's boxes."""
    from scipy.sparse.csgraph import connected_components

    count = len(glyphs.box)
    if count < 3:
        return []
    x, y, w, h = glyphs.box.T
    bottom, center = y + h, y + h / 2

    def differ(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.abs(values[:, None] - values[None, :])

    tall = np.maximum(h[:, None], h[None, :])
    low = np.minimum(h[:, None], h[None, :])
    gap = np.maximum(x[:, None], x[None, :]) - np.minimum((x + w)[:, None], (x + w)[None, :])
    stroke = np.maximum(glyphs.stroke[:, None], glyphs.stroke[None, :]) / np.minimum(
        glyphs.stroke[:, None], glyphs.stroke[None, :]
    )
    near = (
        (low > 0.6 * tall)
        & (gap < 1.5 * tall)
        & (gap > -0.15 * tall)
        & (differ(center) < 0.3 * tall)
        & ((differ(bottom) < 0.2 * tall) | (differ(y) < 0.2 * tall))
        & (differ(glyphs.ink) < 40)
        & (differ(glyphs.ground) < 35)
        & (stroke < 2.2)
    )
    np.fill_diagonal(near, False)
    _, group = connected_components(near, directed=False)
    return [
        glyphs.box[members]
        for members in map(np.flatnonzero, (group == g for g in np.unique(group)))
        if _is_line(glyphs, members)
    ]


def _is_line(glyphs: _Glyphs, members: NDArray[np.intp]) -> bool:
    if len(members) < 3:
        return False
    x, y, w, h = glyphs.box[members].T
    if x.max() + w.max() - x.min() < 1.2 * h.max():
        return False
    # letters differ from one another; dots, stripes and tiles of a pattern do not
    shapes = glyphs.shape[members]
    distance = np.abs(shapes[:, None] - shapes[None, :]).mean(axis=2)
    alike = distance < 0.12
    kinds = len(np.unique(alike.argmax(axis=1)))
    if kinds < min(3, len(members) - 1):
        return False
    # a baseline: bottoms (or tops) on one straight line
    middle = x + w / 2
    for edge in (y + h, y):
        fit = np.polyfit(middle, edge, 1)
        if np.median(np.abs(np.polyval(fit, middle) - edge)) < 0.1 * h.max() and abs(fit[0]) < 0.5:
            return True
    return False
