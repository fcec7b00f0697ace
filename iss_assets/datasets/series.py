"""Series over the time of videos from the warehouse: what embeddings, meshes and behavior show, instance by instance.

Read patient by patient and averaged over each instance at once, so that a study's embeddings need not fit in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
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

_MEDIAN_OF: Final = 400
"""Meshes of a video, evenly spaced, that its median face is made from."""
_POINTS: Final = 468

_COLUMNS: Final = ", ".join(f"{name}::float as {name}" for name in SERIES["behavior_series"][1])

_SAMPLES: Final = {
    "embedding_series": "select c.place, f.time_s, t.embedding as value from _of_patient c join embeddings t using (video_id) "
    "join frames f using (video_id, frame_index)",
    "mesh_series": "select c.place, f.time_s, h.height_share, t.points as value "
    "from _of_patient c join landmarks t using (video_id) join frames f using (video_id, frame_index) "
    "join _crops h using (video_id, frame_index) where t.detected",
    "behavior_series": f"select c.place, t.time_s, {_COLUMNS} from _of_patient c join face_behavior t using (video_id) "
    "where not t.repeated",
}
"""The samples of each of the `SERIES`: place of the video, seconds, values."""

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
    before = 0
    for patient in patients:
        own = chosen.filter(compute.field("patient_id") == patient)
        connection.register("_of_patient", own)
        if "mesh_series" in names:
            connection.register("_crops", crop_heights(connection, faces))
        parts: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for name in names:
            samples = connection.execute(_SAMPLES[name]).to_arrow_table()
            video = samples["place"].to_numpy().astype(np.int64)
            number = np.floor(samples["time_s"].to_numpy() / settings.instance_s + 1e-9).astype(np.int64)
            values, video, number = mean_by_instance(_values(name, samples, video), video, number)
            parts[name] = values, video - before, number
        joined.append(join_series(parts, own.num_rows, settings.instances_per_video))
        before += own.num_rows
        if "mesh_series" in names:
            connection.unregister("_crops")
        connection.unregister("_of_patient")
    return {name: concatenated([of_patient[name] for of_patient in joined]) for name in names}


def _values(name: str, samples: pa.Table, video: np.ndarray) -> np.ndarray:
    if name == "behavior_series":
        columns = SERIES[name][1]
        return np.column_stack([samples[c].to_numpy() for c in columns]).reshape(-1, len(columns))
    flat = samples["value"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    values = flat.astype(np.float32, copy=False).reshape(samples.num_rows, -1)
    if name != "mesh_series" or not len(values):
        return (
            values if len(values) else np.zeros((0, 3 * _POINTS if name == "mesh_series" else 0), np.float32)
        )
    points = values.reshape(-1, _POINTS, 3) * np.array([1, 0, 1], np.float32)
    height = samples["height_share"].to_numpy()
    points[:, :, 1] = values.reshape(-1, _POINTS, 3)[:, :, 1] * height[:, None]
    moved = np.empty_like(values)
    for own in (np.flatnonzero(video == place) for place in np.unique(video)):
        moved[own] = movement(points[own].astype(np.float64)).reshape(len(own), -1)
    return moved


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
