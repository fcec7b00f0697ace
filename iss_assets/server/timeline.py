"""What was measured when in one video: the data of the desk's timeline and overlay. Ids and numbers only."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from iss_assets.features.face_pose import picture_points
from iss_assets.media.crops import BOX, crop_sides
from iss_assets.media.moments import SampleTimes, Span
from iss_assets.media.speech import VAD_RATE, VAD_WINDOW, speech_windows
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse

MESH_WINDOW_S: Final = 10.0
"""Seconds of meshes in one answer: 0.4 MB at ten meshes a second."""
_MOST_LIGHT: Final = 600
"""Values of the light curve; more than a timeline has pixels for."""

_FRAMES: Final = """
select f.time_s, f.luminance, f.faces_seen, f.width, f.height, a.x1, a.y1, a.x2, a.y2
from frames as f
left join faces as a using (video_id, frame_index)
where f.video_id = ?
order by f.frame_index
"""

_FOUND: Final = """
select l.frame_index, f.time_s, f.width, f.height, a.x1, a.y1, a.x2, a.y2
from landmarks as l
inner join faces as a using (video_id, frame_index)
inner join frames as f using (video_id, frame_index)
where l.video_id = ? and l.detected and f.time_s >= ? and f.time_s < ?
order by l.frame_index
"""
_MESHES: Final = """
select points
from landmarks
where video_id = ? and list_contains(?::integer[], frame_index)
order by frame_index
"""
"""Meshes are read by themselves: a join would have all of a video's in DuckDB's memory."""


def timeline_of(warehouse: Warehouse, settings: Settings, video_id: str) -> dict[str, Any]:
    """Return spans, light, and face boxes of a video, ready for JSON.

    Returns
    -------
    dict
        ``duration`` in seconds; ``flags``: flag to spans; ``face``, ``several``: spans; ``light``: (second, 0 to 1);
        ``boxes``: (second, left, top, right, bottom) in fractions of the picture.
    """
    with warehouse.read() as connection:
        seen = connection.execute(_FRAMES, [video_id]).to_arrow_table()
        known = connection.execute(
            "select v.duration_s, q.moments from videos as v left join video_quality as q using (video_id) "
            "where v.video_id = ?",
            [video_id],
        ).fetchone()
    duration, moments = known or (None, None)
    columns = {name: _numbers(seen[name]) for name in seen.column_names}
    times = SampleTimes(columns["time_s"], 1 / settings.video.fps)
    has_face = ~np.isnan(columns["x1"])
    step = max(1, -(-len(times.begin) // _MOST_LIGHT))
    return {
        "duration": duration or (float(times.begin[-1]) + times.lasts if len(times.begin) else 0.0),
        "flags": json.loads(moments or "{}"),
        "face": times.spans(has_face),
        "several": times.spans(columns["faces_seen"] > 1),
        "light": np.stack([times.begin, columns["luminance"]], axis=1)[::step].round(3).tolist(),
        "boxes": np.concatenate([times.begin[:, None], _boxes(columns)], axis=1)[has_face].round(4).tolist(),
    }


def meshes_of(warehouse: Warehouse, settings: Settings, video_id: str, begin_s: float) -> bytes:
    """Return the meshes of `MESH_WINDOW_S` seconds: for each the second and 468 times x and y, in fractions of the
    picture, as little-endian 32-bit floats.
    """
    with warehouse.read() as connection:
        found = connection.execute(_FOUND, [video_id, begin_s, begin_s + MESH_WINDOW_S]).to_arrow_table()
        frames = found["frame_index"].to_pylist()
        meshes = connection.execute(_MESHES, [video_id, frames]).to_arrow_table()
    if not found.num_rows:
        return b""
    columns = {name: _numbers(found[name]) for name in found.column_names}
    points = meshes["points"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 468, 3)
    boxes = np.stack([columns[name] for name in BOX], axis=1)
    faces = settings.faces
    crops = crop_sides(boxes, columns["width"], columns["height"], faces.margin, faces.image_size)
    pixels = picture_points(points, crops)[..., :2]
    placed = pixels / np.stack([columns["width"], columns["height"]], axis=1)[:, None]
    rows = np.concatenate([columns["time_s"][:, None], placed.reshape(len(placed), -1)], axis=1)
    return rows.astype("<f4").tobytes()


def speech_of(warehouse: Warehouse, video_id: str) -> list[Span]:
    """Return when somebody speaks, found in the stored waveform; 5 ms per second of sound."""
    from iss_assets.media.audio import read_waveform

    rows = warehouse.query("select waveform from audio where video_id = ?", [video_id]).to_pylist()
    samples, rate = read_waveform(rows[0]["waveform"]) if rows and rows[0]["waveform"] else (np.zeros(0), 0)
    if not rate or not samples.any():
        return []
    speaking = speech_windows(samples, rate)
    lasts = VAD_WINDOW / VAD_RATE
    return SampleTimes(np.arange(len(speaking)) * lasts, lasts).spans(speaking)


def _boxes(columns: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return left, top, right, bottom in fractions of each frame's own size."""
    width, height = columns["width"], columns["height"]
    return np.stack(
        [
            columns["x1"] / width,
            columns["y1"] / height,
            columns["x2"] / width,
            columns["y2"] / height,
        ],
        axis=1,
    )


def _numbers(column: Any) -> NDArray[Any]:
    return column.cast("float64").to_numpy()
