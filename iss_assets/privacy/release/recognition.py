"""How well the patients of a release can be recognized from what it contains, measured on the release itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from iss_assets.evaluation.reidentification import Recognition, recognize
from iss_assets.protocol import terms
from iss_assets.schemas.audio import AUDIO_FEATURES
from iss_assets.schemas.behavior import BEHAVIOR_OF_THE_MOMENT
from iss_assets.schemas.voice import VOICE_FEATURES
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.row_order import in_key_order

_Vectors = tuple[list[str], np.ndarray]
_SAMPLES_PER_VIDEO: Final = 40
"""Meshes or embeddings of a video that are averaged, evenly spaced: one chunk's worth."""


def measure_recognition(tables: Warehouse) -> list[Recognition]:
    """Measure recognition from every kind of features that these tables contain, one row of features per video.

    Parameters
    ----------
    tables : Warehouse
        A release, or the study's own warehouse.

    Returns
    -------
    list of Recognition
        One entry per kind; kinds without a row are left out.
    """
    found = []
    for name, load in FEATURES.items():
        patients, values = load(tables)
        if patients:
            found.append(recognize(name, np.array(patients), values))
    return found


def _means(table: str, column: str, condition: str = "true") -> Callable[[Warehouse], _Vectors]:
    """Return a loader of the mean of some vectors of each video."""
    # places first: windows and sorting would keep all vectors of the study in DuckDB's memory
    chosen = f"""
        with places as (
            select video_id, frame_index
            from {table}
            where {column} is not null and {condition}
            window own as (partition by video_id order by frame_index)
            qualify (row_number() over own - 1) % greatest(1, count(*) over (partition by video_id) // {_SAMPLES_PER_VIDEO}) = 0
        )
        select patient_id, video_id, frame_index, {column} as vector
        from {table} semi join places using (video_id, frame_index)
    """

    def load(tables: Warehouse) -> _Vectors:
        rows = in_key_order(tables.query(chosen), ("patient_id", "video_id", "frame_index"))
        if not rows.num_rows:
            return [], np.zeros((0, 0))
        vectors = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        values = vectors.reshape(rows.num_rows, -1)
        if table == "landmarks":
            values = _comparable(values.astype(float))
        videos = np.array(rows["video_id"].to_pylist())
        _, first, place = np.unique(videos, return_index=True, return_inverse=True)
        sums = np.zeros((len(first), values.shape[1]))
        np.add.at(sums, place, values)
        owners = np.array(rows["patient_id"].to_pylist())[first]
        return owners.tolist(), sums / np.bincount(place)[:, None]

    return load


def _comparable(meshes: np.ndarray) -> np.ndarray:
    """Move every mesh to the origin and scale it to one size, so that the shape of a face counts, not its place."""
    points = meshes.reshape(len(meshes), -1, 3)
    centered = points - points.mean(axis=1, keepdims=True)
    size = np.sqrt((centered**2).sum(axis=(1, 2), keepdims=True))
    return np.asarray((centered / np.where(size > 0, size, 1)).reshape(len(meshes), -1))


def _columns(sql: str, columns: tuple[str, ...]) -> Callable[[Warehouse], _Vectors]:
    def load(tables: Warehouse) -> _Vectors:
        rows = tables.query(sql)
        numbers = [
            np.array([np.nan if v is None else v for v in rows[c].to_pylist()], float) for c in columns
        ]
        patients = [str(p) for p in rows["patient_id"].to_pylist()]
        values = np.column_stack(numbers) if patients else np.zeros((0, len(columns)))
        informative = ~np.isnan(values).all(axis=1)
        return [p for p, kept in zip(patients, informative, strict=True) if kept], values[informative]

    return load


_ONE_WIDTH: Final = "len(embedding) = (select mode(len(embedding)) from embeddings)"
"""Embeddings by another network than most (of patients who are no longer trained on) cannot be compared with the others."""

FEATURES: Final[dict[str, Callable[[Warehouse], _Vectors]]] = {
    "landmarks (face meshes)": _means("landmarks", "points"),
    "embeddings of faces": _means("embeddings", "embedding", _ONE_WIDTH),
    "audio features of whole videos": _columns(
        "select * from audio_features where chunk_index = -1 order by patient_id, video_id", AUDIO_FEATURES
    ),
    "voice measures of whole videos": _columns(
        "select * from voice_features where chunk_index = -1 order by patient_id, video_id", VOICE_FEATURES
    ),
    "behavior of whole videos": _columns(
        "select * from face_behavior_summary where chunk_index = -1 order by patient_id, video_id",
        BEHAVIOR_OF_THE_MOMENT,
    ),
    "scores of a check-in": _columns(
        "select * replace (chronic_pain::integer as chronic_pain) from bpi_scores order by patient_id, submission_id",
        terms.SCORES,
    ),
}
"""Every kind of features that a release may contain, and how to load one row per video."""
