"""Can a video be trusted? Its measures, the troubles found in it, and whether training may take it.

Belongs here: what measures of one video mean, against the thresholds of ``QualitySettings``.
Does not belong here: measuring pixels and sound (``measures``, ``mask``, ``speech``), rules over many videos (checks
of the study), telling people (alerts). Nothing is ever dropped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

from iss_assets.media.geometry import examine_meshes
from iss_assets.media.identity import Embedding, compare, embed_faces
from iss_assets.media.landmarks import decode_crops
from iss_assets.media.mask import Cover, measure_cover
from iss_assets.media.measures import perceptual_blur
from iss_assets.protocol.flags import CAUSE_OF, FLAGS
from iss_assets.settings import QualitySettings

QUALITY_CODE_VERSION: Final = "3"
"""Raised when the same rows and settings give other measures or flags than before."""

_MOST_EMBEDDED: Final = 40
"""Faces embedded a video, spread over it."""
_A_MOMENT: Final = 5
"""Faces in a row that are taken together when a video is compared with itself: one alone is too uncertain."""
_MESHES_AT_A_TIME: Final = 1024
_CROPS_AT_A_TIME: Final = 128
_NARROW_BAND_HZ: Final = 8000
"""Tracks of this rate hold nothing above 4 kHz; they are judged by what lies below."""


@dataclass(frozen=True)
class PersonVector:
    """What stands for the face of one video; see `person_of`."""

    method: str
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class OtherVideos:
    """What an assessment knows of other videos.

    Attributes
    ----------
    sha256s : collection of str
        Hashes of all other submissions of the study.
    persons : sequence of PersonVector
        Faces of the same patient's other videos.
    """

    sha256s: frozenset[str] = frozenset()
    persons: Sequence[PersonVector] = ()


@dataclass(frozen=True)
class VideoAssessment:
    """The verdict on one video.

    Attributes
    ----------
    measures : dict of str to float, str or None
        Every number behind the flags; ``<flag>_share`` is the share of the video that shows a trouble. None where
        it could not be measured. ``identity_method`` is a word.
    flags : list of str
        Troubles found, in the order of `FLAGS`; `flags.causes_of` groups them by what to act on.
    usable : bool
        Whether training may take it.
    unusable_reason : str or None
        The flag that says why not.
    """

    measures: dict[str, float | str | None]
    flags: list[str]
    usable: bool
    unusable_reason: str | None


@dataclass
class _Findings:
    settings: QualitySettings
    measures: dict[str, float | str | None] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)

    def share(self, flag: str, affected: NDArray[Any], limit: float | None = None) -> None:
        """Note the share of the video that a trouble takes and flag it from `limit` on."""
        share = float(np.mean(affected)) if len(affected) else None
        self.measures[f"{flag}_share"] = share
        if share is not None and share >= (self.settings.affected_share if limit is None else limit):
            self.flag(flag)

    def flag(self, flag: str) -> None:
        """Raise a flag; one without a cause, which no check would report, is a mistake in this module."""
        if flag not in CAUSE_OF:
            raise KeyError(f"flag {flag} belongs to no cause in protocol/flags.py")
        self.flags.add(flag)

    def flag_if(self, flag: str, condition: bool) -> None:
        if condition:
            self.flag(flag)


def assess_video(
    video: Mapping[str, Any],
    frames: arrow.Table,
    faces: arrow.Table,
    landmarks: arrow.Table,
    audio: Mapping[str, Any] | None,
    settings: QualitySettings,
    *,
    fps: float = 10.0,
    max_seconds: float = math.inf,
    others: OtherVideos | None = None,
) -> VideoAssessment:
    """Measure one video's quality and say which troubles it has.

    Parameters
    ----------
    video : mapping
        Its row of ``videos``.
    frames, faces, landmarks : pyarrow.Table
        Its rows of these tables, in any order; extra columns are ignored. Of the crops, those that `crops_needed`
        names are enough.
    audio : mapping or None
        Its row of ``audio`` (``waveform`` is not needed), None without a sound track.
    settings : QualitySettings
        Thresholds.
    fps : float
        Samples a second that the frames were taken with.
    max_seconds : float
        Where sampling stops whatever follows; what lies after it is not missing.
    others : OtherVideos, optional
        For `duplicate` and `other_person`.

    Returns
    -------
    VideoAssessment
    """
    found = _Findings(settings)
    others = others or OtherVideos()
    if video["status"] == "ok" and frames.num_rows > 0:
        frames, faces, landmarks = (_in_order(t) for t in (frames, faces, landmarks))
        # empty and broken files are all alike; what matters is that they cannot be read
        found.flag_if("duplicate", video["sha256"] in others.sha256s)
        _length(found, video, frames, fps, max_seconds)
        _faces(found, frames, faces)
        _light(found, frames)
        points, meshed = _meshes(landmarks)
        _mesh(found, landmarks, points, meshed)
        _crops(found, faces, fps)
        _person(found, faces, points, meshed, others.persons)
        _sound(found, video, audio)
        reason = _unusable(found)
    else:
        reason = "too_short" if video["status"] == "too_short" else "unreadable"
        found.measures["duration_s"] = video.get("duration_s")
    if reason is not None:
        found.flag(reason)
    return VideoAssessment(found.measures, [f for f in FLAGS if f in found.flags], reason is None, reason)


def crops_needed(count: int, settings: QualitySettings, fps: float) -> NDArray[np.int64]:
    """Name the faces, by their place in the order of frames, whose crops an assessment looks at.

    Parameters
    ----------
    count : int
        Faces of the video.
    settings : QualitySettings
        Crops a second.
    fps : float
        Samples a second.
    """
    return np.union1d(_crops_measured(count, settings, fps), _crops_embedded(count))


def _crops_measured(count: int, settings: QualitySettings, fps: float) -> NDArray[np.int64]:
    return np.arange(0, count, max(1, round(fps / settings.crops_per_second)))


def _crops_embedded(count: int) -> NDArray[np.int64]:
    """Spread up to `_MOST_EMBEDDED` over the video."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_EMBEDDED)).round().astype(np.int64))


def person_of(faces: arrow.Table, landmarks: arrow.Table, settings: QualitySettings) -> PersonVector | None:
    """Give what stands for the face of one video, for `OtherVideos.persons`; None without a describable face."""
    if faces.num_rows == 0:
        return None
    faces, landmarks = _in_order(faces), _in_order(landmarks)
    points, meshed = _meshes(landmarks)
    embedding, _ = _embedding(faces, points, meshed, settings)
    centre = embedding.centre()
    return None if centre is None else PersonVector(embedding.method, centre)


def _in_order(rows: arrow.Table) -> arrow.Table:
    """Sort by frame; rows that are in order stay where they are, as a copy of a long video's meshes is large."""
    ordered = bool((np.diff(_numbers(rows, "frame_index")) >= 0).all())
    return rows if ordered else rows.sort_by("frame_index")


def _length(
    found: _Findings, video: Mapping[str, Any], frames: arrow.Table, fps: float, max_seconds: float
) -> None:
    settings = found.settings
    duration = float(video["duration_s"] or frames.num_rows / fps)
    found.measures["duration_s"] = duration
    found.flag_if("too_short", duration < settings.shortest_s)
    found.flag_if("too_long", duration > settings.longest_s)
    expected = min(duration, max_seconds) * fps
    found.measures["frames_expected_share"] = frames.num_rows / max(1.0, expected)
    # half a second is what a short video may lack
    tolerance = max(fps / 2, settings.frame_count_tolerance * expected)
    found.flag_if("wrong_frame_count", abs(frames.num_rows - expected) > tolerance)
    motion = _numbers(frames, "motion")
    still = motion < settings.still_motion  # the first sample has no motion: NaN is not still
    stretches = _runs(still)
    long = [(start, end) for start, end in stretches if (end - start) / fps >= settings.still_seconds]
    frozen = np.zeros(len(still), bool)
    for start, end in long:
        frozen[start:end] = True
    found.share("frozen", frozen)
    found.measures["longest_still_s"] = max(((end - start) / fps for start, end in stretches), default=0.0)


def _faces(found: _Findings, frames: arrow.Table, faces: arrow.Table) -> None:
    settings = found.settings
    seen = np.isin(_numbers(frames, "frame_index"), _numbers(faces, "frame_index"))
    found.measures["face_rate"] = float(seen.mean())
    found.share("face_missing", ~seen)
    found.share("several_faces", _numbers(frames, "faces_seen") > 1, settings.several_share)
    x1, y1, x2, y2 = (_numbers(faces, name) for name in ("x1", "y1", "x2", "y2"))
    side = np.minimum(x2 - x1, y2 - y1)
    found.measures["face_px"] = float(np.median(side)) if len(side) else None
    found.share("face_small", side < settings.small_face_px)
    # each box lies in the pixels of its own frame: a recording may turn midway
    own = np.searchsorted(_numbers(frames, "frame_index"), _numbers(faces, "frame_index"))
    width, height = (_numbers(frames, name)[own] for name in ("width", "height"))
    inside = (np.minimum(x2, width) - np.maximum(x1, 0)) * (np.minimum(y2, height) - np.maximum(y1, 0))
    found.share("face_leaves", inside < settings.face_inside * (x2 - x1) * (y2 - y1))


def _light(found: _Findings, frames: arrow.Table) -> None:
    """Judge light on the face where there is one, on the whole picture where there is none."""
    settings = found.settings
    highlight, face_glare = _numbers(frames, "face_highlight"), _numbers(frames, "face_glare")
    bare = np.isnan(highlight)
    dark = np.where(
        bare, _numbers(frames, "luminance") < settings.dark_picture, highlight < settings.dark_highlight
    )
    found.share("dark", dark)
    found.measures["face_highlight"] = _median(highlight)
    found.measures["face_luminance"] = _median(_numbers(frames, "face_luminance"))
    on_face = (face_glare > settings.glare_face) | (
        _numbers(frames, "face_luminance") > settings.glare_luminance
    )
    limit = np.where(bare, settings.glare_no_face, settings.glare_picture)
    found.share("glare", on_face | (_numbers(frames, "glare") > limit))
    found.measures["face_glare"] = _median(face_glare)
    grain = _numbers(frames, "noise") / np.maximum(_numbers(frames, "highlight"), 0.1)
    found.measures["grain"] = _median(grain)
    found.share("grainy", grain > settings.grain)
    text = _numbers(frames, "text_share")
    text = text[~np.isnan(text)]
    found.measures["text_share"] = float(text.mean()) if len(text) else None
    found.share("signage", text > settings.text_share)


def _crops(found: _Findings, faces: arrow.Table, fps: float) -> None:
    settings = found.settings
    chosen = _crops_measured(faces.num_rows, settings, fps)
    taken = faces.take(arrow.array(chosen))
    side = np.minimum(
        _numbers(taken, "x2") - _numbers(taken, "x1"), _numbers(taken, "y2") - _numbers(taken, "y1")
    )
    blur, covers = [], []
    for crop, pixels in zip(_decoded(taken["crop"]), side, strict=True):
        # more pixels than the face had were made up by enlarging it, and are no blur of the lens
        size = int(np.clip(pixels, 40, 80))
        luma = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_AREA)
        blur.append(perceptual_blur(luma))
        covers.append(measure_cover(crop))
    found.measures["blur"] = _median(np.array(blur, float))
    found.share("blurred", np.array(blur, float) > settings.blur)
    masked = [_is_masked(c, settings) for c in covers]
    found.measures["mask_difference"] = _median(np.array([c.difference for c in covers], float))
    found.measures["mask_lips"] = _median(np.array([c.lips for c in covers], float))
    found.share("mask", np.array(masked, bool))


def _decoded(crops: arrow.ChunkedArray) -> Iterator[NDArray[np.uint8]]:
    """Give crops decoded, a few at a time: those of half an hour take 280 MB."""
    for start in range(0, len(crops), _CROPS_AT_A_TIME):
        yield from decode_crops(crops.slice(start, _CROPS_AT_A_TIME))


def _is_masked(cover: Cover, settings: QualitySettings) -> bool:
    hidden = cover.difference > settings.mask_difference and cover.lips < settings.mask_lips
    return hidden or cover.difference > settings.mask_sure


def _meshes(landmarks: arrow.Table) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Give the meshes that there are, (n, 468, 3), and the samples they belong to."""
    there = _numbers(landmarks, "detected") > 0
    points = np.empty((int(there.sum()), 468, 3), np.float32)
    filled = 0
    # piece by piece: filtered and joined as a whole, the meshes of a long video are in memory three times
    for start in range(0, landmarks.num_rows, _MESHES_AT_A_TIME):
        part = landmarks.slice(start, _MESHES_AT_A_TIME)
        found = part.filter(part["detected"])["points"].combine_chunks()
        points[filled : filled + len(found)] = (
            found.flatten().to_numpy(zero_copy_only=False).reshape(-1, 468, 3)
        )
        filled += len(found)
    return points, _numbers(landmarks, "frame_index")[there]


def _mesh(found: _Findings, landmarks: arrow.Table, points: NDArray[Any], meshed: NDArray[Any]) -> None:
    settings = found.settings
    detected = _numbers(landmarks, "detected") > 0
    found.measures["landmark_rate"] = float(detected.mean()) if len(detected) else None
    found.share("landmarks_missing", ~detected, settings.landmark_failure)
    findings = examine_meshes(points, meshed, settings)
    found.measures["roll_deg"] = findings.roll_deg
    found.measures["turned_share"] = findings.turned
    found.measures["mirrored_share"] = findings.mirrored
    found.measures["implausible_share"] = findings.implausible
    found.measures["jumping_share"] = findings.jumping
    found.flag_if("rotated", max(findings.turned, findings.mirrored) >= settings.affected_share)
    found.flag_if(
        "landmarks_implausible", max(findings.implausible, findings.jumping) >= settings.landmark_failure
    )


def _person(
    found: _Findings,
    faces: arrow.Table,
    points: NDArray[Any],
    meshed: NDArray[Any],
    persons: Sequence[PersonVector],
) -> None:
    settings = found.settings
    if faces.num_rows == 0:
        return
    embedding, second = _embedding(faces, points, meshed, settings)
    centre = embedding.centre()
    if centre is None:
        return
    found.measures["identity_method"] = embedding.method
    moments = [
        Embedding(embedding.method, embedding.vectors[second == s]).centre() for s in np.unique(second)
    ]
    inside = [compare(m, centre, embedding.method, settings) for m in moments if m is not None]
    found.share("other_person", np.array([not c.same for c in inside], bool))
    found.measures["identity_within"] = max((c.distance for c in inside), default=None)
    against = [
        compare(centre, p.vector, embedding.method, settings) for p in persons if p.method == embedding.method
    ]
    if against:
        middle = sorted(against, key=lambda c: c.distance)[len(against) // 2]
        found.measures["identity_distance"] = middle.distance
        found.measures["identity_confidence"] = middle.confidence
        found.flag_if("other_person", not middle.same)


def _embedding(
    faces: arrow.Table, points: NDArray[Any], meshed: NDArray[Any], settings: QualitySettings
) -> tuple[Embedding, NDArray[Any]]:
    """Embed up to `_MOST_EMBEDDED` bare faces spread over the video; give the stretch of time of each too."""
    index = _numbers(faces, "frame_index")
    chosen = _crops_embedded(len(index))
    taken = faces.take(arrow.array(chosen))
    mesh = np.full((len(chosen), 468, 3), np.nan, np.float32)
    there = np.isin(index[chosen], meshed)
    mesh[there] = points[np.searchsorted(meshed, index[chosen][there])]
    boxes = np.stack([_numbers(taken, name) for name in ("x1", "y1", "x2", "y2")], axis=1)
    crops = decode_crops(taken["crop"])
    # under a mask a mesh is guessed and an embedding that of the mask
    bare = np.array([not _is_masked(measure_cover(crop), settings) for crop in crops], bool)
    stretch = np.arange(len(chosen)) // _A_MOMENT
    return embed_faces(crops[bare], mesh[bare], settings, boxes=boxes[bare]), stretch[bare]


def _sound(found: _Findings, video: Mapping[str, Any], audio: Mapping[str, Any] | None) -> None:
    settings, measures = found.settings, found.measures
    if audio is None or not audio["duration_s"]:
        found.flag("no_sound")
        return
    for name in ("loudness_lufs", "snr_db", "noise_dbfs", "clipped_share", "speech_share", "high_band_db"):
        measures[name] = audio[name]
    measures["mid_band_db"] = audio["mid_band_db"]
    missing = max(0.0, float(video["duration_s"] or 0.0) - audio["duration_s"]) + (
        audio["inserted_silence_s"] or 0.0
    )
    share = min(1.0, missing / max(float(video["duration_s"] or audio["duration_s"]), 1e-9))
    measures["sound_cut_share"] = share
    found.flag_if("sound_cut", share >= settings.affected_share)
    if audio["peak"] <= 10 ** (settings.silent_dbfs / 20) or audio["noise_dbfs"] is None:
        found.flag("silent")
        return
    found.flag_if("quiet", audio["loudness_lufs"] is None or audio["loudness_lufs"] < settings.quiet_lufs)
    narrow = (audio["source_rate"] or 0) <= _NARROW_BAND_HZ
    level = audio["mid_band_db"] if narrow else audio["high_band_db"]
    limit = settings.muffled_mid_db if narrow else settings.muffled_high_db
    found.flag_if("muffled", level is not None and level < limit)
    found.flag_if("clipped", audio["clipped_share"] >= settings.clipped_share)
    found.flag_if("no_speech", audio["speech_share"] < settings.speech_share)
    if audio["snr_db"] is not None:
        found.flag_if("noisy_sound", audio["snr_db"] < settings.noisy_snr_db)
    else:
        found.flag_if("noisy_sound", audio["noise_dbfs"] > settings.noisy_floor_dbfs)


def _unusable(found: _Findings) -> str | None:
    for flag in found.settings.unusable_flags:
        if flag in found.flags:
            return flag
    face_rate, landmark_rate = found.measures.get("face_rate"), found.measures.get("landmark_rate")
    if not isinstance(face_rate, float) or face_rate < found.settings.min_face_rate:
        return "face_missing"
    if not isinstance(landmark_rate, float) or landmark_rate < found.settings.min_landmark_rate:
        return "landmarks_missing"
    return None


def _numbers(table: arrow.Table, name: str) -> NDArray[Any]:
    """Give a column as floats with NaN for nulls."""
    column = table[name]
    if arrow.types.is_boolean(column.type):
        column = column.cast(arrow.int8())
    return column.cast(arrow.float64()).to_numpy()


def _median(values: NDArray[Any]) -> float | None:
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else None


def _runs(marks: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Give start and end (exclusive) of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
