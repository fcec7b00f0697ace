"""Series over the time of videos from the warehouse: what embeddings, meshes and behavior show, instance by instance.

Read video by video and averaged over each instance at once, so that a study's embeddings need not fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
from pyarrow import compute

from iss_assets.datasets.proportions import crop_heights
from iss_assets.features.face_pose import measure_heads, median_face
from iss_assets.modeling.items import SERIES
from iss_assets.modeling.series import Series, concatenated, join_series, mean_by_instance
from iss_assets.settings import FaceSettings, TrainingSettings
from iss_assets.warehouse.row_order import in_key_order

_MEDIAN_OF: Final = 400
"""Meshes of a video, evenly spaced, that its median face is made from."""
_POINTS: Final = 468
_Means = tuple[np.ndarray, np.ndarray, np.ndarray]

_COLUMNS: Final = ", ".join(f"{name}::float as {name}" for name in SERIES["behavior_series"][1])

_SAMPLES: Final = {
    "embedding_series": "select frame_index, f.time_s from _of_video join embeddings t using (video_id) "
    "join frames f using (video_id, frame_index) order by frame_index",
    "mesh_series": "select frame_index, f.time_s, h.height_share from _of_video join landmarks t using (video_id) "
    "join frames f using (video_id, frame_index) join _crops h using (video_id, frame_index) "
    "where t.detected order by frame_index",
    "behavior_series": f"select t.time_s, {_COLUMNS} from _of_video join face_behavior t using (video_id) where not t.repeated",
}
"""The samples of each of the `SERIES` in one video: seconds, and values that are numbers."""

_VECTORS: Final = {
    "embedding_series": "select frame_index, t.embedding as value from _of_video join embeddings t using (video_id)",
    "mesh_series": "select frame_index, t.points as value from _of_video join landmarks t using (video_id) where t.detected",
}
"""The vectors of these samples. They are read by themselves: joined to more than one row, they would all be in DuckDB's memory."""

IN_VIDEOS: Final = {
    "embedding_series": "select video_id from embeddings",
    "mesh_series": "select video_id from landmarks where detected",
    "behavior_series": "select video_id from face_behavior where not repeated",
}
"""The videos that have each of the `SERIES`."""


def load_series(
    connection: duckdb.DuckDBPyConnection,
    names: Sequence[str],
    chosen: pa.Table,
    settings: TrainingSettings,
    faces: FaceSettings,
) -> dict[str, Series]:
    """Load series of videos.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        An open warehouse.
    names : sequence of str
        Keys of `SERIES`.
    chosen : pyarrow.Table
        ``patient_id``, ``video_id`` and ``place`` (0, 1, ...) of the videos, ordered by patient.
    settings : TrainingSettings
        How many seconds an instance lasts, and how many instances a video has at most.
    faces : FaceSettings
        How crops were cut: a mesh is stored in fractions of its crop.

    Returns
    -------
    dict of str to Series
        All of the same instances. Meshes are turned to the front, in distances of the outer corners of the eyes, and are
        differences from the video's own median face: what the face does, not whose it is.
    """
    patients = chosen["patient_id"].unique().to_pylist()
    joined: list[dict[str, Series]] = []
    for patient in patients:
        own = chosen.filter(compute.field("patient_id") == patient).sort_by("place")
        parts = [
            {name: _by_instance(name, samples, place, settings) for name, samples in found.items()}
            for place, found in enumerate(_read(connection, names, own, faces))
        ]
        of_patient = {name: _concatenated([part[name] for part in parts]) for name in names}
        joined.append(join_series(of_patient, own.num_rows, settings.instances_per_video))
    return {name: concatenated([of_patient[name] for of_patient in joined]) for name in names}


def _read(
    connection: duckdb.DuckDBPyConnection, names: Sequence[str], videos: pa.Table, faces: FaceSettings
) -> Iterator[dict[str, pa.Table]]:
    """Yield the samples of each series in one video after the other."""
    for place in range(videos.num_rows):
        connection.register("_of_video", videos.slice(place, 1))
        if "mesh_series" in names:
            connection.register("_crops", crop_heights(connection, faces))
        found = {}
        for name in names:
            samples = connection.execute(_SAMPLES[name]).to_arrow_table()
            if name in _VECTORS:
                vectors = connection.execute(_VECTORS[name]).to_arrow_table()
                vectors = in_key_order(vectors, ("frame_index",))
                if vectors.num_rows != samples.num_rows:
                    there = np.isin(vectors["frame_index"].to_numpy(), samples["frame_index"].to_numpy())
                    vectors = vectors.filter(pa.array(there))
                samples = samples.append_column("value", vectors["value"])
            found[name] = samples
        yield found
        if "mesh_series" in names:
            connection.unregister("_crops")
        connection.unregister("_of_video")


def _concatenated(parts: Sequence[_Means]) -> _Means:
    """Return the instances of all videos; one without any does not know how many values they have."""
    measured = [part for part in parts if len(part[0])] or parts[:1]
    values, video, number = (np.concatenate([part[k] for part in measured]) for k in range(3))
    return values, video, number


def _by_instance(name: str, samples: pa.Table, place: int, settings: TrainingSettings) -> _Means:
    """Return the means of each instance of a video, the video's place, and the instances' numbers."""
    number = np.floor(samples["time_s"].to_numpy() / settings.instance_s + 1e-9).astype(np.int64)
    values, video, number = mean_by_instance(
        _values(name, samples), np.full(samples.num_rows, place, np.int64), number
    )
    return values, video, number


def _values(name: str, samples: pa.Table) -> np.ndarray:
    if name == "behavior_series":
        columns = SERIES[name][1]
        return np.column_stack([samples[c].to_numpy() for c in columns]).reshape(-1, len(columns))
    if not samples.num_rows:
        return np.zeros((0, 3 * _POINTS if name == "mesh_series" else 0), np.float32)
    flat = samples["value"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    values = flat.astype(np.float32, copy=False).reshape(samples.num_rows, -1)
    if name != "mesh_series":
        return values
    points = values.reshape(-1, _POINTS, 3) * np.array([1, 0, 1], np.float32)
    points[:, :, 1] = values.reshape(-1, _POINTS, 3)[:, :, 1] * samples["height_share"].to_numpy()[:, None]
    return movement(points.astype(np.float64)).astype(np.float32).reshape(len(values), -1)


def movement(points: np.ndarray) -> np.ndarray:
    """Return meshes of one video as differences from the video's own median face, free of the head's pose.

    Parameters
    ----------
    points : ndarray of float, (n, 468, 3)
        With equal units on all axes. A mesh whose points coincide or are no numbers gives NaN, and changes no other.

    Returns
    -------
    ndarray of float, (n, 468, 3)
        x right, y down, z away, in distances of the outer corners of the eyes.
    """
    heads = measure_heads(points, median_face(points[:: max(1, len(points) // _MEDIAN_OF)]))
    there = np.isfinite(heads.fit_error)
    moved = np.full(points.shape, np.nan)
    if there.any():
        moved[there] = heads.face[there] - np.median(heads.face[there], axis=0)
    return moved
