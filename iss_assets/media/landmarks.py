"""Landmarks: MediaPipe's Face Mesh on stored face crops, and the coding of those crops.

Belongs here: encoding and decoding crops, the 468 points of a crop.
Does not belong here: finding and cutting faces (``faces``), judging how many meshes were found (``quality``).

The mesh always runs on the crop as it is stored, so that landmarks made again from stored crops are the same to the
last bit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

from iss_assets.settings import LandmarkSettings

LANDMARK_CODE_VERSION: Final = "1"
"""Goes into fingerprints: changes whenever the same crop gives other points."""

POINTS: Final = 468
POINT_VALUES: Final = 3 * POINTS

_JPEG: Final = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]
"""JPEG at quality 95 with full colour: 13 kB a crop against 41 kB as PNG and 27 kB as lossless WebP, coded in 0.3 ms
against 1.5 and 14. It moves the mesh by 0.1 % of the crop's side on average."""

_loading = threading.Lock()
_meshes = threading.local()


def encode_crop(crop: NDArray[np.uint8]) -> bytes:
    """Code an RGB crop, shape (side, side, 3), for storage."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), _JPEG)
    if not done:
        raise ValueError("the crop cannot be coded")
    return data.tobytes()


def decode_crop(data: bytes | memoryview) -> NDArray[np.uint8]:
    """Give a stored crop as RGB, shape (side, side, 3).

    Raises
    ------
    ValueError
        If the bytes are no picture.
    """
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError("a stored crop is no picture; extract its video again")
    return picture  # type: ignore[return-value]


def decode_crops(
    crops: arrow.BinaryArray | arrow.ChunkedArray, threads: int | None = None
) -> NDArray[np.uint8]:
    """Decode stored crops, without a Python object a crop and in threads.

    Parameters
    ----------
    crops : pyarrow BinaryArray, LargeBinaryArray or ChunkedArray of them
        Coded pictures of one size, none empty.
    threads : int, optional
        Default: one a processor.

    Returns
    -------
    ndarray of uint8, shape (n, side, side, 3)
    """
    views = list(_views(crops))
    if not views:
        return np.empty((0, 160, 160, 3), np.uint8)
    first = decode_crop(views[0])
    out = np.empty((len(views), *first.shape), np.uint8)

    def fill(span: tuple[int, int]) -> None:
        for i in range(*span):
            out[i] = decode_crop(views[i])

    workers = threads or os.cpu_count() or 1
    borders = np.linspace(0, len(views), min(4 * workers, len(views)) + 1).astype(int).tolist()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, pairwise(borders)))
    return out


def _views(crops: Any) -> Iterator[memoryview]:
    """Give each value's bytes where they lie."""
    for chunk in crops.chunks if isinstance(crops, arrow.ChunkedArray) else [crops]:
        wide = arrow.types.is_large_binary(chunk.type)
        _, offsets, data = chunk.buffers()
        if not len(chunk):
            continue
        if chunk.null_count:
            raise ValueError("a stored crop is missing; extract its video again")
        ends = np.frombuffer(offsets, np.int64 if wide else np.int32)[chunk.offset :][: len(chunk) + 1]
        whole = memoryview(data)
        yield from (whole[a:b] for a, b in pairwise(ends.tolist()))


@contextmanager
def _native_noise_silenced() -> Iterator[None]:
    """Send what C++ writes to the error output while networks load to nowhere: it cannot be told otherwise."""
    with _loading:
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def load_mesh(settings: LandmarkSettings) -> Callable[[NDArray[np.uint8]], NDArray[np.float32] | None]:
    """Give Face Mesh as a function of a crop, loaded once a thread and setting.

    Returns
    -------
    callable
        Takes an RGB crop, gives points of shape (1404,) or None where there is no mesh.
    """
    loaded = _meshes.__dict__.setdefault("by_settings", {})
    if settings not in loaded:
        with _native_noise_silenced():
            from mediapipe.python.solutions.face_mesh import FaceMesh

            mesh = FaceMesh(
                static_image_mode=True,
                max_num_faces=1,
                refine_landmarks=False,
                min_detection_confidence=settings.min_confidence,
            )
            # the first picture still logs
            mesh.process(np.zeros((160, 160, 3), np.uint8))
        loaded[settings] = mesh
    mesh = loaded[settings]

    def find_points(crop: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        faces = mesh.process(crop).multi_face_landmarks
        if not faces:
            return None
        points = np.fromiter(
            (v for p in faces[0].landmark for v in (p.x, p.y, p.z)), np.float32, POINT_VALUES
        )
        return points if np.isfinite(points).all() else None

    return find_points


def landmarks_from_crops(
    crops: arrow.BinaryArray | arrow.ChunkedArray | Iterable[bytes], settings: LandmarkSettings
) -> tuple[arrow.BooleanArray, arrow.FixedSizeListArray]:
    """Find the mesh of every stored crop.

    Parameters
    ----------
    crops : pyarrow array of binaries, or any iterable of bytes
        Coded crops.
    settings : LandmarkSettings
        `min_confidence`.

    Returns
    -------
    detected : BooleanArray
        Whether a mesh was found.
    points : FixedSizeListArray of float32, 1404 a row
        x, y, z in turn, x and y as shares of the crop's side; null without a mesh.
    """
    find_points = load_mesh(settings)
    views = _views(crops) if isinstance(crops, arrow.Array | arrow.ChunkedArray) else crops
    return pack_points([find_points(decode_crop(view)) for view in views])


def pack_points(
    points: list[NDArray[np.float32] | None],
) -> tuple[arrow.BooleanArray, arrow.FixedSizeListArray]:
    """Put points, shape (1404,) each or None, into Arrow."""
    missing = np.array([p is None for p in points], bool)
    values = np.zeros((len(points), POINT_VALUES), np.float32)
    for row, found in zip(values, points, strict=True):
        if found is not None:
            row[:] = found
    packed = arrow.FixedSizeListArray.from_arrays(
        arrow.array(values.ravel()), POINT_VALUES, mask=arrow.array(missing)
    )
    return arrow.array(~missing), packed
