"""One pass over a video: frames with their measures, faces with their crops, and landmarks.

It combines the steps of ``video``, ``faces``, ``measures`` and ``landmarks``, and returns the rows of their tables.

With more than one thread, decoding, detection and mesh each run in their own thread; FFmpeg, OpenCV, OpenVINO and
MediaPipe all release the GIL. Several patients in parallel are faster with one thread each.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

from iss_assets.media.faces import Detection, FaceFinder, crop_face, shrink
from iss_assets.media.landmarks import (
    LANDMARK_CODE_VERSION,
    decode_crop,
    decode_crops,
    encode_crop,
    landmarks_from_crops,
    load_mesh,
    pack_points,
)
from iss_assets.media.measures import (
    FRAME_SIDE,
    PATCH_SIDE,
    TEXT_SIDE,
    FaceMeasures,
    measure_face,
    measure_frame,
    measure_text,
)
from iss_assets.media.opencv import opencv_in_one_thread
from iss_assets.media.row_store import RowStore
from iss_assets.media.upright import UprightRgb
from iss_assets.media.video import SampledFrame, open_video, sample_frames
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.settings import FaceSettings, LandmarkSettings, VideoSettings

__all__ = [
    "LANDMARK_CODE_VERSION",
    "VISUAL_CODE_VERSION",
    "VisualTables",
    "decode_crops",
    "extract_visual",
    "landmarks_from_crops",
]

VISUAL_CODE_VERSION: Final = "3"
"""Part of the fingerprints: raise it when the same video produces different frames or faces than before."""

_WAITING_MESHES: Final = 64
_WAITING_BATCHES: Final = 1


@dataclass
class VisualTables:
    """The frames, faces and landmarks of one video.

    Attributes
    ----------
    frames, faces, landmarks : pyarrow.Table
        Rows of the warehouse's tables, without video_id, patient_id and fingerprint.
    problem : str or None
        What was wrong with the file although it could be read.
    seconds_by_stage : dict of str to float
        Busy seconds of each stage (decode, picture, measure, detect, crop, mesh); stages overlap.
    """

    frames: arrow.Table
    faces: arrow.Table
    landmarks: arrow.Table
    problem: str | None
    seconds_by_stage: dict[str, float] = field(default_factory=dict)


@dataclass
class _FrameData:
    """One decoded picture and what was found in it; samples that repeat the picture share it."""

    size: tuple[int, int]
    luma: NDArray[np.uint8]
    patch: NDArray[np.uint8]
    text_luma: NDArray[np.uint8]
    picture: NDArray[np.uint8] | None
    """Full size; released once the face is cropped."""
    small: NDArray[np.uint8]
    scale: float
    detection: Detection | None = None
    crop: bytes | None = None
    face: FaceMeasures | None = None
    points: Future[NDArray[np.float32] | None] | None = None


def extract_visual(
    path: Path,
    video: VideoSettings,
    faces: FaceSettings,
    landmarks: LandmarkSettings,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
    scratch: Path | None = None,
) -> VisualTables:
    """Extract the frames, faces and landmarks of one video in one decoding pass.

    Parameters
    ----------
    path : Path
        The video.
    video, faces, landmarks : VideoSettings, FaceSettings, LandmarkSettings
        Sampling, detection, mesh.
    progress : callable, optional
        Called after every batch with the number of samples done and expected.
    threads : int, optional
        1 does everything in the calling thread; more overlap decoding, detection and mesh. By default one per
        processor. The result does not depend on it.
    scratch : Path, optional
        A folder to keep the rows in, as ``<table>.arrow``; the returned tables are memory-mapped from there. Without
        it they grow in memory: 16 kB per frame.

    Returns
    -------
    VisualTables

    Raises
    ------
    UnreadableVideo
        If the file has no usable picture; see `probe`.
    """
    threads = threads or os.cpu_count() or 1
    info, timeline = open_video(path, video)
    expected = max(1, round(info.duration_s * video.fps))
    source = sample_frames(path, video, threads, timeline)
    work = _VisualPass(video, faces, landmarks, scratch)
    work.mesh_thread = _mesh_pool if threads > 1 else _InlineExecutor()
    with opencv_in_one_thread():
        batches = _timed(iter(source), work.seconds)
        for batch in _prefetched(batches) if threads > 1 else batches:
            work.add(batch)
            if progress is not None:
                progress(work.samples, max(expected, work.samples))
        return work.finish(source.problem)


class _VisualPass:
    """The state of one video's pass."""

    def __init__(
        self,
        video: VideoSettings,
        faces: FaceSettings,
        landmarks: LandmarkSettings,
        scratch: Path | None = None,
    ) -> None:
        self.samples = 0
        self.seconds: dict[str, float] = defaultdict(float)
        self.mesh_thread: Any = None
        self._video, self._face_settings = video, faces
        self._landmark_settings = landmarks
        self._upright = UprightRgb()
        self._finder = FaceFinder(faces)
        self._shown: tuple[Any, _FrameData] | None = None
        self._frames: list[dict[str, Any]] = []
        self._faces: list[dict[str, Any]] = []
        self._waiting: deque[tuple[int, Future[Any]]] = deque()
        self._tables = {
            t: RowStore(t.measured_schema(), scratch, t.__table__) for t in (Frames, Faces, Landmarks)
        }

    def add(self, batch: list[SampledFrame]) -> None:
        """Process one batch of samples."""
        for sample in batch:
            before = self._shown[1].luma if self._shown else None
            repeated = self._shown is not None and self._shown[0] is sample.frame
            data = self._shown[1] if repeated and self._shown else self._prepare(sample)
            with self._stage("measure"):
                measures = measure_frame(data.luma, before, data.patch)
            if not repeated:
                with self._stage("detect"):
                    data.detection = self._finder.find(data.small, data.scale, measures.motion)
                self._crop(data)
            self._shown = (sample.frame, data)
            self._record(sample, data, asdict(measures))
            self.samples += 1
        self._flush()

    def finish(self, problem: str | None) -> VisualTables:
        """Wait for the last meshes and return the tables."""
        self._flush(wait_for_all=True)
        frames, faces, landmarks = (store.table() for store in self._tables.values())
        return VisualTables(frames, faces, landmarks, problem, dict(self.seconds))

    def _prepare(self, sample: SampledFrame) -> _FrameData:
        with self._stage("picture"):
            picture = self._upright(sample.frame)
            small, scale = shrink(picture, self._face_settings.detection_side)
            gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
            top, left = ((n - min(n, PATCH_SIDE)) // 2 for n in picture.shape[:2])
            patch = picture[top : top + PATCH_SIDE, left : left + PATCH_SIDE]
            return _FrameData(
                size=(picture.shape[1], picture.shape[0]),
                luma=_scaled(gray, FRAME_SIDE),
                patch=cv2.cvtColor(np.ascontiguousarray(patch), cv2.COLOR_RGB2GRAY),  # type: ignore[arg-type]
                text_luma=gray,  # type: ignore[arg-type]
                picture=picture,
                small=small,
                scale=scale,
            )

    def _crop(self, data: _FrameData) -> None:
        picture, data.picture = data.picture, None
        if data.detection is None or picture is None:
            return
        with self._stage("crop"):
            crop = crop_face(picture, data.detection.box, self._face_settings)
            data.crop = encode_crop(crop)
            stored = decode_crop(data.crop)
        with self._stage("measure"):
            data.face = measure_face(stored)
        data.points = self.mesh_thread.submit(self._mesh, stored)

    def _mesh(self, crop: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        with self._stage("mesh"):
            return load_mesh(self._landmark_settings)(crop)

    def _record(self, sample: SampledFrame, data: _FrameData, measures: dict[str, Any]) -> None:
        found = data.detection
        text = None
        if sample.frame_index % max(1, round(self._video.fps)) == 0:
            with self._stage("measure"):
                text_luma = _scaled(data.text_luma, TEXT_SIDE)
                zoom = text_luma.shape[1] / data.size[0]
                box = (*(zoom * v for v in found.box),) if found else None
                text = measure_text(text_luma, box)  # type: ignore[arg-type]
        self._frames.append(
            {
                "frame_index": sample.frame_index,
                "time_s": sample.time_s,
                "chunk_index": int(sample.frame_index / self._video.fps / self._video.chunk_seconds + 1e-9),
                **measures,
                **({f"face_{k}": v for k, v in asdict(data.face).items()} if data.face else {}),
                "text_share": text,
                "faces_seen": found.faces_seen if found else 0,
                "width": data.size[0],
                "height": data.size[1],
            }
        )
        if found and data.points:
            # a stream may change its picture size midway; boxes are in the pixels of their own picture
            x1, y1, x2, y2 = found.box
            self._faces.append(
                {
                    "frame_index": sample.frame_index,
                    **{"x1": x1, "y1": y1, "x2": x2, "y2": y2},
                    "probability": found.probability,
                    "faces_seen": found.faces_seen,
                    "crop": data.crop,
                }
            )
            self._waiting.append((sample.frame_index, data.points))

    def _flush(self, wait_for_all: bool = False) -> None:
        """Move finished rows to Arrow, so that only packed rows grow with the video's length."""
        self._add_rows(Frames, self._frames)
        self._add_rows(Faces, self._faces)
        done: list[int] = []
        points = []
        while self._waiting and (
            wait_for_all or len(self._waiting) > _WAITING_MESHES or self._waiting[0][1].done()
        ):
            index, future = self._waiting.popleft()
            done.append(index)
            points.append(future.result())
        if done:
            detected, packed = pack_points(points)
            self._tables[Landmarks].add(
                arrow.RecordBatch.from_arrays(
                    [arrow.array(done, arrow.int32()), detected, packed], schema=Landmarks.measured_schema()
                )
            )

    def _add_rows(self, table: Any, rows: list[dict[str, Any]]) -> None:
        if rows:
            schema = table.measured_schema()
            whole = [{name: row.get(name) for name in schema.names} for row in rows]
            self._tables[table].add(arrow.RecordBatch.from_pylist(whole, schema=schema))
            rows.clear()

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began


def _scaled(gray: Any, side: int) -> NDArray[np.uint8]:
    """Scale a picture down to a shorter side of `side` pixels; a smaller one is returned as is."""
    height, width = gray.shape
    zoom = side / min(height, width)
    if zoom >= 1:
        return gray  # type: ignore[no-any-return]
    size = (round(width * zoom), round(height * zoom))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _timed(batches: Iterator[Any], seconds: dict[str, float]) -> Iterator[Any]:
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        seconds["decode"] += time.perf_counter() - began
        if batch is None:
            return
        yield batch


def _prefetched(batches: Iterator[Any]) -> Iterator[Any]:
    """Run an iterator in a thread, `_WAITING_BATCHES` items ahead; its exception is raised here."""
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(_WAITING_BATCHES)
    stopped = threading.Event()

    def put(item: tuple[Any, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put((batch, None))
                if stopped.is_set():
                    return
            put((None, None))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=work, name="decode", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = waiting.get()
            if error is not None:
                raise error
            if batch is None:
                return
            yield batch
    finally:
        stopped.set()
        thread.join()


class _InlineExecutor:
    """Runs work immediately in the calling thread, with the interface of an executor."""

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args))
        return future


_mesh_pool = ThreadPoolExecutor(1, thread_name_prefix="mesh")
"""Kept for the life of the process, and with it the mesh that its thread has loaded."""
