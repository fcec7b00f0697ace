"""Face detection: MTCNN's three networks, tuned for videos that show one large face, and the face crop.

The networks, weights, thresholds and box arithmetic are facenet-pytorch's (Zhang et al. 2016, "Joint Face Detection
and Alignment Using Multitask Cascaded Convolutional Networks"). What differs is where they search. Most of MTCNN's
cost is the image pyramid of its first network, so

- the pyramid is built on a picture halved down to `detection_side`, from `search_share` of the shorter side upwards, at
  the scales of facenet-pytorch's default; only if nothing is found there does it continue down to `min_face_share`;
- between full searches a single face is tracked: only the last box goes through the second and third network. A full
  search follows every `search_every` samples, after a scene change, while several faces are in view, and whenever the
  tracked face is uncertain.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iss_assets.media.crops import crop_sides
from iss_assets.media.mtcnn import NETWORKS, pretrained, suppress
from iss_assets.settings import FaceSettings

_DEFAULT_MIN_FACE: Final = 20.0
"""facenet-pytorch's smallest face in pixels; its pyramid starts from this size, and so does ours."""
_FACTOR: Final = 0.709
"""facenet-pytorch's step between two scales (about one over the root of two)."""
CELL: Final = 12
STRIDE: Final = 2
_MIN_TRACKED_PROBABILITY: Final = 0.95
"""A tracked face with a lower probability triggers a full search. The benchmark's false faces on hands and clothes
reach 0.7 to 0.97; real ones rarely fall below 0.98."""
_AS_PROBABLE: Final = 0.01
"""Faces within this of the largest probable one count as equally probable; the largest of them is chosen."""
_SCENE_CHANGE: Final = 0.06
"""Mean absolute luma difference between samples (0 to 1) above which the picture counts as a new scene."""
_CHUNK: Final = 16
"""Crops per network call: with more, the small networks no longer fit the processor's cache."""

Boxes = NDArray[Any]
"""Rows x1, y1, x2, y2, probability."""


@dataclass(frozen=True)
class Detection:
    """The chosen face of one frame.

    Attributes
    ----------
    box : tuple of float
        x1, y1, x2, y2 in pixels of the upright full-size picture; may extend beyond its edge.
    probability : float
        The third network's probability that this is a face.
    faces_seen : int
        Number of faces found by the last full search.
    """

    box: tuple[float, float, float, float]
    probability: float
    faces_seen: int


@functools.cache
def load_networks() -> tuple[Any, Any, Any]:
    """Load P-Net, R-Net and O-Net with facenet-pytorch's weights for the CPU, once per process."""
    from iss_assets.media.openvino_layers import picture_network

    pnet, rnet, onet = (picture_network(network, pretrained(name)) for name, network in NETWORKS.items())
    return pnet, rnet, onet


def choose_face(boxes: Boxes) -> int:
    """Return the index of the chosen face of one picture: the largest of those about as probable as the best.

    Choosing by size alone (facenet-pytorch's default) picks false faces on hands and clothes, which are large and less
    probable.

    Parameters
    ----------
    boxes : ndarray of float, shape (n, 5), n at smallest 1
        x1, y1, x2, y2, probability.
    """
    probable = np.flatnonzero(boxes[:, 4] >= boxes[:, 4].max() - _AS_PROBABLE)
    areas = (boxes[probable, 2] - boxes[probable, 0]) * (boxes[probable, 3] - boxes[probable, 1])
    return int(probable[areas.argmax()])


class FaceFinder:
    """Finds the face in the samples of one video, in order. Create one object per video.

    Parameters
    ----------
    settings : FaceSettings
        Thresholds, scales, and how often to search.
    """

    def __init__(self, settings: FaceSettings) -> None:
        self._settings = settings
        from iss_assets.media.openvino_layers import runner

        self._networks = [runner(network) for network in load_networks()]
        self._tracked: Boxes | None = None
        self._since_search = 0
        self._shape: tuple[int, ...] = ()

    def find(
        self, small: NDArray[np.uint8], scale: float = 1.0, motion: float | None = None
    ) -> Detection | None:
        """Find the face in the next sample.

        Parameters
        ----------
        small : ndarray of uint8, shape (height, width, 3)
            The upright RGB picture, scaled by `shrink`.
        scale : float
            Scaled size over full size.
        motion : float, optional
            Mean absolute luma difference to the previous sample, 0 to 1.

        Returns
        -------
        Detection or None
            With its box in the full-size picture; None if no face is found.
        """
        if small.shape != self._shape:
            # a new size means a new picture: the previous box does not apply to it
            self._shape, self._tracked = small.shape, None
        to_small = np.array([scale, scale, scale, scale, 1])
        boxes = self._track(small, self._tracked * to_small, motion) if self._tracked is not None else None
        if boxes is not None:
            self._since_search += 1
        else:
            boxes = self._search(small, scale)
            self._since_search = 0
        boxes = boxes / to_small
        self._tracked = boxes if len(boxes) == 1 else None
        return chosen_detection(boxes)

    def _track(self, small: NDArray[np.uint8], before: Boxes, motion: float | None) -> Boxes | None:
        """Search where the face was; return None if the result cannot be trusted."""
        if self._since_search + 1 >= self._settings.search_every or (
            motion is not None and motion > _SCENE_CHANGE
        ):
            return None
        boxes = self._refine(small, square(before))
        sure = (
            len(boxes) == 1
            and boxes[0, 4] >= _MIN_TRACKED_PROBABILITY
            and _overlap(boxes[0], before[0]) >= 0.5
        )
        return boxes if sure else None

    def _search(self, small: NDArray[np.uint8], scale: float) -> Boxes:
        """Search the whole picture, first for large faces, then for small ones."""
        smallest, large, shorter = scales(small.shape, scale, self._settings)
        boxes = self._refine(small, self._propose(small, scale, large, shorter))
        if not len(boxes) and large > smallest:
            boxes = self._refine(small, self._propose(small, scale, smallest, large))
        return boxes

    def _propose(self, small: NDArray[np.uint8], scale: float, smallest: float, largest: float) -> Boxes:
        """Run the first network on the pyramid's levels for faces from `smallest` up to `largest` pixels."""
        pnet = self._networks[0]
        height, width = small.shape[:2]
        sums: Any = cv2.integral(small, sdepth=cv2.CV_32S)
        whole = np.array([[0, 0, width, height]])
        found = []
        for zoom in pyramid(scale, smallest, largest, min(height, width)):
            level = as_input(area_means(sums, whole, int(height * zoom + 1), int(width * zoom + 1)))
            regression, probability = pnet(level)
            rows, columns = np.nonzero(probability[0, 1] >= self._settings.thresholds[0])
            score = probability[0, 1, rows, columns]
            shift = regression[0, :, rows, columns]
            corner = np.stack([columns, rows, columns, rows], 1).astype(np.float32) * STRIDE + 1
            corner[:, 2:] += CELL - 1
            boxes = np.floor(corner / np.float32(zoom))
            rated = np.concatenate([boxes, score[:, None], shift], axis=1)
            found.append(rated[suppress(rated[:, :4], rated[:, 4], 0.5)])
        if not found:
            return np.empty((0, 5), np.float32)
        joined = np.concatenate(found)
        every = joined[suppress(joined[:, :4], joined[:, 4], 0.7)]
        sides = np.tile(every[:, 2:4] - every[:, 0:2], 2)
        return square(np.column_stack([every[:, :4] + every[:, 5:9] * sides, every[:, 4]]))

    def _refine(self, small: NDArray[np.uint8], boxes: Boxes) -> Boxes:
        """Run the second and third network on proposals and return the faces."""
        _, rnet, onet = self._networks
        boxes, crops = cut(small, boxes, 24)
        if len(boxes):
            regression, probability = _run(rnet, crops)
            keep = probability[:, 1] > self._settings.thresholds[1]
            boxes, regression = boxes[keep], regression[keep]
            boxes[:, 4] = probability[keep, 1]
            kept = suppress(boxes[:, :4], boxes[:, 4], 0.7)
            boxes = square(regress(boxes[kept], regression[kept]))
        boxes, crops = cut(small, boxes, 48)
        if len(boxes):
            regression, _, probability = _run(onet, crops)
            keep = probability[:, 1] > self._settings.thresholds[2]
            boxes = boxes[keep]
            boxes[:, 4] = probability[keep, 1]
            boxes = drop_nested(regress(boxes, regression[keep]))
        return boxes


def shrink(picture: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], float]:
    """Halve a picture for as long as its shorter side stays at smallest `side` pixels.

    Halving averages blocks of two by two pixels and costs a fifth of scaling by other factors.

    Parameters
    ----------
    picture : ndarray of uint8, shape (height, width, 3)
        Full size.
    side : int
        Minimum length of the shorter side in pixels.

    Returns
    -------
    small : ndarray of uint8, shape (height, width, 3)
    scale : float
        Scaled size over full size: 1, 1/2, 1/4, ...
    """
    scale = 1.0
    while min(picture.shape[:2]) // 2 >= side:
        height, width = picture.shape[0] // 2, picture.shape[1] // 2
        even = picture[: 2 * height, : 2 * width]
        picture = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        scale /= 2
    return picture, scale


def scales(shape: tuple[int, ...], scale: float, settings: FaceSettings) -> tuple[float, float, float]:
    """Return the face sizes to search for in a scaled picture.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the scaled picture, then anything.
    scale : float
        Scaled size over full size.
    settings : FaceSettings
        `min_face_share` and `search_share`.

    Returns
    -------
    smallest : float
        Smallest face searched for at all, in pixels of the scaled picture.
    large : float
        Smallest face of the first search.
    shorter : float
        Shorter side of the scaled picture.
    """
    shorter = min(shape[:2])
    smallest = max(_DEFAULT_MIN_FACE * scale, settings.min_face_share * shorter, CELL)
    return smallest, max(settings.search_share * shorter, smallest), shorter


def pyramid(scale: float, smallest: float, largest: float, shorter: float) -> list[float]:
    """Return the zoom factors at which faces from `smallest` up to `largest` pixels fit the first network.

    They are the zoom factors of facenet-pytorch's default pyramid on the full-size picture, so that both propose the
    same boxes.

    Parameters
    ----------
    scale : float
        Scaled size over full size.
    smallest, largest : float
        Face sizes in pixels of the scaled picture.
    shorter : float
        Shorter side of the scaled picture.
    """
    zooms = []
    size = _DEFAULT_MIN_FACE * scale
    while size <= shorter and size < largest:
        # a level also responds to faces somewhat smaller and larger than its own size
        if size >= smallest * 0.999:
            zooms.append(CELL / size)
        size /= _FACTOR
    return zooms


def crop_face(
    picture: NDArray[np.uint8], box: tuple[float, float, float, float], settings: FaceSettings
) -> NDArray[np.uint8]:
    """Cut a face out of the full-size picture as facenet-pytorch's ``extract_face`` does from a PIL picture.

    Parameters
    ----------
    picture : ndarray of uint8, shape (height, width, 3)
        Upright RGB.
    box : tuple of float
        x1, y1, x2, y2 in pixels.
    settings : FaceSettings
        `image_size` and `margin`.

    Returns
    -------
    ndarray of uint8, shape (image_size, image_size, 3)
    """

    side = settings.image_size
    height, width = np.array(picture.shape[:2])[:, None]
    left, top, wide, tall = crop_sides(np.array([box]), width, height, settings.margin, side)[0].tolist()
    face = Image.fromarray(np.ascontiguousarray(picture[top : top + tall, left : left + wide]))
    return np.asarray(face.resize((side, side), Image.Resampling.BILINEAR))


def chosen_detection(boxes: Boxes) -> Detection | None:
    """Return the chosen face of a picture; None if there is none."""
    if not len(boxes):
        return None
    x1, y1, x2, y2, probability = (float(v) for v in boxes[choose_face(boxes)])
    return Detection((x1, y1, x2, y2), min(probability, 1.0), len(boxes))


def as_input(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalize pictures, shape (n, height, width, 3), to the range that the networks were trained with."""
    return (pixels - np.float32(127.5)) * np.float32(0.0078125)


def area_means(sums: NDArray[np.int32], edges: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """Scale parts of a picture to one size by averaging areas, as torch's ``interpolate(mode="area")`` does.

    facenet-pytorch resamples this way; with OpenCV's INTER_AREA, faces near a threshold appear and disappear. With a
    summed-area table, each output pixel costs four lookups however large the part is.

    Parameters
    ----------
    sums : ndarray of int32, shape (h + 1, w + 1, 3)
        ``cv2.integral`` of the picture.
    edges : ndarray of int, shape (n, 4)
        Parts as x1, y1, x2, y2, ends exclusive.
    height, width : int
        Output size in pixels.

    Returns
    -------
    ndarray of float32, shape (n, height, width, 3)
    """

    def bins(start: NDArray[Any], end: NDArray[Any], count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        length, steps = (end - start)[:, None], np.arange(count)
        return start[:, None] + steps * length // count, start[:, None] - (-(steps + 1) * length // count)

    edges = edges.astype(np.int64)
    left, right = bins(edges[:, 0], edges[:, 2], width)
    top, bottom = bins(edges[:, 1], edges[:, 3], height)
    row, flat = sums.shape[1], sums.reshape(-1, 3)
    above, below = (top * row)[:, :, None], (bottom * row)[:, :, None]
    first, last = left[:, None, :], right[:, None, :]
    total = flat.take(below + last, axis=0)
    total -= flat.take(above + last, axis=0)
    total -= flat.take(below + first, axis=0)
    total += flat.take(above + first, axis=0)
    # sums of up to 65,000 pixels are exact in float32, so the mean is rounded only once
    means = total.astype(np.float32)
    means /= ((bottom - top)[:, :, None] * (right - left)[:, None, :]).astype(np.float32)[..., None]
    return means


def _run(network: Any, crops: NDArray[np.float32]) -> list[NDArray[Any]]:
    # a network's outputs share its memory, which the next call overwrites
    parts = [
        [answer.copy() for answer in network(as_input(crops[i : i + _CHUNK]))]
        for i in range(0, len(crops), _CHUNK)
    ]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def cut(picture: NDArray[np.uint8], boxes: Boxes, side: int) -> tuple[Boxes, NDArray[np.float32]]:
    """Cut boxes out of a picture, scaled to `side` pixels; drop boxes entirely outside the picture.

    Returns
    -------
    boxes : ndarray of float32, shape (m, 5)
        Those that remain.
    crops : ndarray of float32, shape (m, side, side, 3)
    """
    height, width = picture.shape[:2]
    edges = boxes[:, :4].astype(np.int32)
    edges[:, :2] = np.maximum(edges[:, :2], 1) - 1
    edges[:, 2] = np.minimum(edges[:, 2], width)
    edges[:, 3] = np.minimum(edges[:, 3], height)
    inside = (edges[:, 2] > edges[:, 0]) & (edges[:, 3] > edges[:, 1])
    boxes, edges = boxes[inside].astype(np.float32), edges[inside]
    if not len(boxes):
        return boxes, np.empty((0, side, side, 3), np.float32)
    x, y = edges[:, 0].min(), edges[:, 1].min()
    part = np.ascontiguousarray(picture[y : edges[:, 3].max(), x : edges[:, 2].max()])
    sums: Any = cv2.integral(part, sdepth=cv2.CV_32S)
    return boxes, area_means(sums, edges - [x, y, x, y], side, side)


def square(boxes: Boxes) -> Boxes:
    """Make boxes square around their center, with the longer side's length."""
    boxes = boxes.astype(np.float32)
    size = boxes[:, 2:4] - boxes[:, :2]
    longer = size.max(axis=1, keepdims=True, initial=0)
    boxes[:, :2] += size / 2 - longer / 2
    boxes[:, 2:4] = boxes[:, :2] + longer
    return boxes


def regress(boxes: Boxes, shift: NDArray[Any]) -> Boxes:
    """Move boxes, shape (n, 5), by a network's shifts of their edges, shape (n, 4), in fractions of the side."""
    size = np.tile(boxes[:, 2:4] - boxes[:, :2] + 1, 2)
    return np.column_stack([boxes[:, :4] + shift * size, boxes[:, 4]])


def drop_nested(boxes: Boxes) -> Boxes:
    """Drop every box that overlaps a more probable one by more than 70 % of the smaller box."""
    order = list(np.argsort(boxes[:, 4])[::-1])
    kept: list[int] = []
    while order:
        best = order.pop(0)
        kept.append(best)
        order = [i for i in order if _overlap(boxes[best], boxes[i], of_smaller=True) <= 0.7]
    return boxes[kept]


def _overlap(one: NDArray[Any], other: NDArray[Any], of_smaller: bool = False) -> float:
    """Return the intersection over the union, or over the smaller box, in whole pixels as facenet-pytorch counts."""
    x = min(one[2], other[2]) - max(one[0], other[0]) + 1
    y = min(one[3], other[3]) - max(one[1], other[1]) + 1
    shared = max(0.0, float(x)) * max(0.0, float(y))
    first = float((one[2] - one[0] + 1) * (one[3] - one[1] + 1))
    second = float((other[2] - other[0] + 1) * (other[3] - other[1] + 1))
    return shared / (min(first, second) if of_smaller else first + second - shared)
