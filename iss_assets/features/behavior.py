"""What a patient's head and face do in one video, from its stored meshes: per sample, per chunk, and as a whole.

Samples are placed by their presentation times. One that repeats the picture before it counts once, and nothing is
computed across a gap. The formulas, their sources, and what was seen in real clips are on the page docs/face_behavior.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

from iss_assets.features.blinks import LEAST_RATIO, EyeEvents, find_eye_events, open_eye
from iss_assets.features.face_pose import measure_heads, median_face, picture_points
from iss_assets.features.face_proxies import measure_faces
from iss_assets.features.head_motion import (
    durations,
    frequencies,
    slopes,
    spectrum,
    still_samples,
    stretches,
    turning_speed,
    windows,
)
from iss_assets.features.stages import SourceRows
from iss_assets.media.crops import BOX, crops_in
from iss_assets.media.meshes import Meshes, StoredMeshes
from iss_assets.schemas.behavior import FaceBehavior, FaceBehaviorSummary
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.settings import BehaviorSettings, FaceSettings, Settings

_OF_MEDIAN: Final = 2048
"""Meshes that are enough for the median face; up to twice as many count."""
_BLOCK: Final = 512
"""Meshes processed at a time: 6 MB in double precision, of which there are several copies."""
_POSE: Final = ("yaw_deg", "pitch_deg", "roll_deg")
_PROXIES: Final = ("mouth_open", "mouth_width", "lip_corners", "jaw_drop", "brow_height")
_FEWEST: Final = 10
"""Pictures that a median, spread, or percentile needs: a second."""
_SLOW: Final = 1.0
"""Hertz: slow movements of the head, as in speaking, up to here; nodding and shaking above."""
_RHYTHM_SHARE: Final = 0.5
_RHYTHM_DEGREES: Final = 0.5
_RHYTHM_ABOVE: Final = 0.5
"""A rhythm holds half of the power in three neighboring frequencies, moves the head by half a degree (root mean square),
and is faster than 0.5 Hz: slow drifts alone have most power at the lowest frequency."""


def measure_video(video: Mapping[str, Any], rows: SourceRows, settings: Settings) -> dict[str, arrow.Table]:
    """Measure one video's behavior from its stored rows, see `measure_behavior`."""
    return measure_behavior(
        rows.of(Frames, ["frame_index", "time_s", "chunk_index", "picture_hash", "width", "height"]),
        rows.of(Faces, ["frame_index", *BOX]),
        rows.of(Landmarks, ["frame_index", "detected", "points"]),
        settings.behavior,
        settings.faces,
    )


def measure_behavior(
    frames: arrow.Table,
    faces: arrow.Table,
    landmarks: arrow.Table,
    settings: BehaviorSettings,
    crops: FaceSettings,
) -> dict[str, arrow.Table]:
    """Measure one video's behavior.

    Parameters
    ----------
    frames : pyarrow.Table
        frame_index, time_s, chunk_index, picture_hash, width, height; one row per sample, in order.
    faces : pyarrow.Table
        frame_index, x1, y1, x2, y2.
    landmarks : pyarrow.Table
        frame_index, detected, points.
    settings : BehaviorSettings
        Gaps, thresholds, and lengths of windows.
    crops : FaceSettings
        `margin` and `image_size`, with which the crops were cut.

    Returns
    -------
    dict of str to pyarrow.Table
        Rows of `face_behavior` and `face_behavior_summary`, without video_id, patient_id and fingerprint.
    """
    samples = _measure_samples(frames, faces, landmarks, settings, crops)
    events = _add_time_courses(samples, settings)
    return {
        "face_behavior": _table(FaceBehavior, samples),
        "face_behavior_summary": _table(FaceBehaviorSummary, _summaries(frames, samples, events, settings)),
    }


def _measure_samples(
    frames: arrow.Table,
    faces: arrow.Table,
    landmarks: arrow.Table,
    settings: BehaviorSettings,
    crops: FaceSettings,
) -> dict[str, NDArray[Any]]:
    """Return what single meshes show: one value per sample with a mesh."""
    time, index = _numbers(frames, "time_s"), _numbers(frames, "frame_index")
    meshes = StoredMeshes(landmarks)
    found = meshes.frame_index
    place = np.searchsorted(index, found)
    sides = crops_in(frames, faces, found, crops)
    samples: dict[str, NDArray[Any]] = {
        "frame_index": found,
        "time_s": time[place],
        "chunk_index": _numbers(frames, "chunk_index")[place],
        "repeated": _repeated(frames)[place],
        **_measure_meshes(meshes, sides),
    }
    fits = samples["fit_error"] <= settings.max_fit_error
    # nobody can say by how much a mesh without any extent does not fit
    samples["fit_error"] = np.where(np.isfinite(samples["fit_error"]), samples["fit_error"], np.nan)
    for name in (*_POSE, *_PROXIES, "eye_aspect_ratio", "center_x", "center_y", "size"):
        samples[name] = np.where(fits, samples[name], np.nan)
    turned = np.maximum(np.abs(samples["yaw_deg"]), np.abs(samples["pitch_deg"]))
    samples["facing"] = fits & (turned <= settings.facing_degrees)
    return samples


def _measure_meshes(points: Meshes, sides: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    names = (*_POSE, "center_x", "center_y", "size", "fit_error", "eye_aspect_ratio", *_PROXIES)
    if not len(points):
        return {name: np.empty(0) for name in names}
    step = max(1, len(points) // _OF_MEDIAN)
    median = median_face(picture_points(points[::step], sides[::step]))
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for start in range(0, len(points), _BLOCK):
        heads = measure_heads(
            picture_points(points[start : start + _BLOCK], sides[start : start + _BLOCK]), median
        )
        measured = {
            "yaw_deg": heads.yaw,
            "pitch_deg": heads.pitch,
            "roll_deg": heads.roll,
            "center_x": heads.center[:, 0],
            "center_y": heads.center[:, 1],
            "size": heads.size,
            "fit_error": heads.fit_error,
            **measure_faces(heads.face),
        }
        for name, values in measured.items():
            parts[name].append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _add_time_courses(samples: dict[str, NDArray[Any]], settings: BehaviorSettings) -> EyeEvents:
    """Add what takes several samples to see, and return how the eyes closed and opened."""
    count = len(samples["time_s"])
    new = ~samples["repeated"]
    moving = np.flatnonzero(new & np.isfinite(samples["yaw_deg"]))
    time = samples["time_s"][moving]
    stretch = stretches(time, settings.max_gap_s)
    angle = np.column_stack([np.unwrap(samples[name][moving], period=360) for name in _POSE])
    place = np.column_stack([samples["center_x"][moving], samples["center_y"][moving]])
    speed = turning_speed(samples["pitch_deg"][moving], slopes(time, angle, stretch, settings.speed_seconds))
    shift = np.hypot(*slopes(time, place, stretch, settings.speed_seconds).T) / samples["size"][moving]
    still = still_samples(time, speed, stretch, settings.still_degrees_per_s, settings.still_seconds)
    samples["turn_speed"] = _spread(speed, moving, count)
    samples["shift_speed"] = _spread(shift, moving, count)
    samples["still"] = _spread(np.where(np.isfinite(speed), still, np.nan), moving, count)

    looking = np.flatnonzero(new & samples["facing"])
    ratio = samples["eye_aspect_ratio"]
    samples["eye_openness"] = (
        ratio / max(open_eye(ratio[looking]), LEAST_RATIO) if len(looking) else ratio * np.nan
    )
    eyes = samples["time_s"][looking]
    events = find_eye_events(eyes, ratio[looking], stretches(eyes, settings.max_gap_s), settings)
    in_blink = np.zeros(len(eyes))
    for start, end in zip(events.start[events.blink], events.end[events.blink], strict=True):
        in_blink[(eyes > start) & (eyes < end)] = 1
    samples["blink"] = _spread(in_blink, looking, count)
    brows = samples["brow_height"]
    samples["brow_lowering"] = (np.median(brows[looking]) if len(looking) else np.nan) - brows
    return events


def _summaries(
    frames: arrow.Table,
    samples: Mapping[str, NDArray[Any]],
    events: EyeEvents,
    settings: BehaviorSettings,
) -> dict[str, NDArray[Any]]:
    """Return the summary's columns: the whole video (chunk -1), then each chunk."""
    chunk_of = _numbers(frames, "chunk_index")
    new = ~_repeated(frames)
    chunks = np.unique(chunk_of)
    # a blink belongs to the chunk in which the eyes are least open
    event_chunk = samples["chunk_index"][np.searchsorted(samples["time_s"], events.lowest)]
    rows = []
    for chunk in [-1, *chunks.tolist()] if len(chunks) else []:
        within = (samples["chunk_index"] == chunk) | (chunk < 0)
        chosen = {name: values[within & ~samples["repeated"]] for name, values in samples.items()}
        eyes = EyeEvents(*(part[(event_chunk == chunk) | (chunk < 0)] for part in vars(events).values()))
        pictures = int((new & ((chunk_of == chunk) | (chunk < 0))).sum())
        rows.append(
            {"chunk_index": chunk, "pictures": pictures, **_summarize(chosen, eyes, settings, chunk < 0)}
        )
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]} if rows else {}


def _summarize(
    of: Mapping[str, NDArray[Any]], eyes: EyeEvents, settings: BehaviorSettings, whole: bool
) -> dict[str, float]:
    """Summarize the samples of a chunk or of the whole video, each picture once."""
    fits = np.isfinite(of["yaw_deg"])
    head = {name: values[fits] for name, values in of.items()}
    face = {name: values[of["facing"]] for name, values in of.items()}
    time, stretch = head["time_s"], stretches(head["time_s"], settings.max_gap_s)
    weight = durations(time, stretch)
    facing_stretch = stretches(face["time_s"], settings.max_gap_s)
    facing_weight = durations(face["time_s"], facing_stretch)
    facing_seconds = float(facing_weight.sum())
    pose = {f"{name.removesuffix('_deg')}_median_deg": _median(head[name]) for name in _POSE}
    spread = {
        f"{name.removesuffix('_deg')}_sd_deg": float(np.std(head[name])) if len(time) >= _FEWEST else np.nan
        for name in _POSE
    }
    return {
        "measured": len(time),
        "facing": len(face["time_s"]),
        "seconds": float(weight.sum()),
        "away_share": 1 - len(face["time_s"]) / len(time) if len(time) else np.nan,
        **pose,
        **spread,
        "turn_speed_median": _median(head["turn_speed"]),
        "turn_speed_p90": _percentile(head["turn_speed"], 90),
        "shift_speed_median": _median(head["shift_speed"]),
        "still_share": _share_of(head["still"], weight),
        "longest_still_s": _longest(head["still"], time, stretch) if len(time) >= _FEWEST else np.nan,
        **_rhythms(head, stretch, settings, whole),
        "blinks": float(eyes.blink.sum()) if facing_seconds else np.nan,
        "blinks_per_minute": float(eyes.blink.sum()) / facing_seconds * 60 if facing_seconds else np.nan,
        "long_closures": float((~eyes.blink).sum()) if facing_seconds else np.nan,
        "closed_share": _share_of(face["eye_openness"] < settings.closed_eye, facing_weight),
        "eye_openness_median": _median(face["eye_openness"]),
        **{f"{name}_median": _median(face[name]) for name in _PROXIES},
        **{f"{name}_range": _percentile(face[name], 90) - _percentile(face[name], 10) for name in _PROXIES},
        "mouth_motion": _rms(
            _mean_spectrum(face["time_s"], face["mouth_open"], facing_stretch, settings, whole)
        ),
        "brow_lowering_p90": _percentile(face["brow_lowering"], 90),
    }


def _rhythms(
    head: Mapping[str, NDArray[Any]], stretch: NDArray[Any], settings: BehaviorSettings, whole: bool
) -> dict[str, float]:
    """Return slow and fast motion about each axis, and the frequencies of nodding and shaking."""
    angle = np.column_stack([np.unwrap(head[name], period=360) for name in _POSE])
    power = _mean_spectrum(head["time_s"], angle, stretch, settings, whole)
    at = frequencies(settings.spectrum_seconds)
    found: dict[str, float] = {}
    for number, name in enumerate(n.removesuffix("_deg") for n in _POSE):
        found[f"{name}_slow_deg"] = _rms(power[at <= _SLOW, number])
        found[f"{name}_fast_deg"] = _rms(power[at > _SLOW, number])
    return {**found, "nod_hz": _rhythm(at, power[:, 1]), "shake_hz": _rhythm(at, power[:, 0])}


def _mean_spectrum(
    time: NDArray[Any],
    values: NDArray[Any],
    stretch: NDArray[Any],
    settings: BehaviorSettings,
    whole: bool,
) -> NDArray[Any]:
    """Return the mean spectrum of the windows of a video, or the spectrum of a chunk's only window.

    NaN without any window, and at frequencies that the samples of no window show.
    """
    seconds, columns = settings.spectrum_seconds, values if values.ndim == 2 else values[:, None]
    if whole:
        spans = windows(time, stretch, seconds)
    else:
        spans = [
            ((time[a] + time[b - 1] - seconds) / 2, slice(a, b))
            for a, b in _spans(stretch)
            if time[b - 1] - time[a] <= seconds
        ]
    found = [spectrum(time[span], columns[span], start, seconds) for start, span in spans]
    nothing = np.full((len(frequencies(seconds)), columns.shape[1]), np.nan)
    kept = np.array([power for power in found if power is not None]).reshape(-1, *nothing.shape)
    shown = np.isfinite(kept)
    return np.divide(
        np.where(shown, kept, 0).sum(axis=0), shown.sum(axis=0), out=nothing, where=shown.any(axis=0)
    )


def _rhythm(at: NDArray[Any], power: NDArray[Any]) -> float:
    """Return the frequency of a rhythm among those that are shown; NaN if none stands out."""
    shown = np.isfinite(power)
    at, power = at[shown], power[shown]
    if not power.sum():
        return float("nan")
    peak = int(power.argmax())
    near = power[max(0, peak - 1) : peak + 2].sum()
    stands_out = near >= _RHYTHM_SHARE * power.sum() and np.sqrt(near) >= _RHYTHM_DEGREES
    return float(at[peak]) if stands_out and at[peak] > _RHYTHM_ABOVE else float("nan")


def _spans(stretch: NDArray[Any]) -> list[tuple[int, int]]:
    """Return the first index and the one after the last of every stretch."""
    if not len(stretch):
        return []
    edges = np.flatnonzero(np.diff(stretch, prepend=-1, append=-1))
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def _longest(still: NDArray[Any], time: NDArray[Any], stretch: NDArray[Any]) -> float:
    """Return the longest span of still samples within one stretch, in seconds."""
    flag = still == 1
    group = np.cumsum(np.r_[True, (flag[1:] != flag[:-1]) | (np.diff(stretch) != 0)])
    return max((float(time[b - 1] - time[a]) for a, b in _spans(group) if flag[a]), default=0.0)


def _share_of(flag: NDArray[Any], weight: NDArray[Any]) -> float:
    """Return the share of the time in which something holds, of the time in which it is known."""
    known = np.isfinite(flag.astype(float))
    total = float(weight[known].sum())
    return float(np.clip(weight[known] @ flag[known] / total, 0, 1)) if total else float("nan")


def _median(values: NDArray[Any]) -> float:
    return _percentile(values, 50)


def _percentile(values: NDArray[Any], percent: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, percent)) if len(known) >= _FEWEST else float("nan")


def _rms(power: NDArray[Any]) -> float:
    return float(np.sqrt(power.sum()))


def _repeated(frames: arrow.Table) -> NDArray[np.bool_]:
    """Return which samples show the picture before them: no time has passed, or nothing in the picture has changed."""
    time, picture = _numbers(frames, "time_s"), _numbers(frames, "picture_hash")
    return np.r_[False, (np.diff(time) <= 0) | (picture[1:] == picture[:-1])][: len(time)]


def _spread(values: NDArray[Any], where: NDArray[Any], count: int) -> NDArray[Any]:
    """Return values at their places among `count` samples, NaN elsewhere."""
    whole = np.full(count, np.nan)
    whole[where] = values
    return whole


def _numbers(table: arrow.Table, name: str) -> NDArray[Any]:
    return table[name].to_numpy()


def _table(model: Any, columns: Mapping[str, NDArray[Any]]) -> arrow.Table:
    """Return columns as rows of a model, NaN as missing."""
    schema = model.measured_schema()
    if not columns:
        return schema.empty_table()
    arrays = []
    for field in schema:
        values = columns[field.name]
        missing = np.isnan(values) if values.dtype.kind == "f" else None
        if missing is not None and not arrow.types.is_floating(field.type):
            values = np.where(missing, 0, values).astype(bool if field.type == arrow.bool_() else np.int64)
        arrays.append(arrow.array(values, mask=missing).cast(field.type))
    return arrow.table(arrays, schema=schema)
