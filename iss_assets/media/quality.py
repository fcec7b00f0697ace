"""Can a video be trusted? Its quality measures, the issues found, and whether training may use it.

What one video's measures mean, compared with the thresholds of ``QualitySettings``. Nothing is ever dropped here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

from iss_assets.media.crops import crops_in, height_share
from iss_assets.media.geometry import examine_meshes
from iss_assets.media.identity import PersonFound
from iss_assets.media.landmarks import decode_crops
from iss_assets.media.mask import is_masked, measure_cover
from iss_assets.media.measures import perceptual_blur
from iss_assets.media.meshes import StoredMeshes
from iss_assets.media.moments import SampleTimes, Span, span_between
from iss_assets.protocol.flags import CAUSE_OF, FLAGS
from iss_assets.protocol.reviews import EXCLUDED
from iss_assets.settings import FaceSettings, QualitySettings

QUALITY_CODE_VERSION: Final = "6"
"""Part of the fingerprints: raise it when the same rows and settings produce different measures, flags, or moments."""

_CROP_BATCH: Final = 128
_NARROW_BAND_HZ: Final = 8000
"""Tracks of this rate contain nothing above 4 kHz; they are assessed by lower frequencies."""


@dataclass(frozen=True)
class OtherVideos:
    """What an assessment knows from the comparison with other videos.

    Attributes
    ----------
    sha256s : collection of str
        Hashes of all other submissions of the study.
    person : PersonFound, optional
        Whose face the video shows; None if it was not compared.
    """

    sha256s: frozenset[str] = frozenset()
    person: PersonFound | None = None


@dataclass(frozen=True)
class VideoAssessment:
    """The assessment of one video.

    Attributes
    ----------
    measures : dict of str to float, str or None
        Every number behind the flags; ``<flag>_share`` is the share of the video that shows an issue. None if it
        could not be measured. ``identity_method`` is a name.
    flags : list of str
        Issues found, in the order of `FLAGS`; `flags.causes_of` groups them by what to act on.
    usable : bool
        Whether training may use it.
    unusable_reason : str or None
        The flag that explains why not.
    moments : dict of str to list of (float, float)
        Flag to the spans of seconds in which it holds, by the same rule that raises it. A flag that is about the
        whole video, such as a muffled voice, has none.
    """

    measures: dict[str, float | str | None]
    flags: list[str]
    usable: bool
    unusable_reason: str | None
    moments: dict[str, list[Span]] = field(default_factory=dict)


@dataclass
class _Findings:
    settings: QualitySettings
    measures: dict[str, float | str | None] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    moments: dict[str, list[Span]] = field(default_factory=dict)

    def share(
        self, flag: str, affected: NDArray[Any], times: SampleTimes, limit: float | None = None
    ) -> None:
        """Record when and in which share of the video there is an issue; raise the flag if it is at least `limit`."""
        self.moments[flag] = times.spans(affected)
        share = float(np.mean(affected)) if len(affected) else None
        self.measures[f"{flag}_share"] = share
        if share is not None and share >= (self.settings.affected_share if limit is None else limit):
            self.flag(flag)

    def flag(self, flag: str) -> None:
        """Raise a flag; one without a cause, which no check would report, is a bug in this module."""
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
    crops: FaceSettings | None = None,
) -> VideoAssessment:
    """Measure one video's quality and flag its issues.

    Parameters
    ----------
    video : mapping
        Its row of ``videos``.
    frames, faces, landmarks : pyarrow.Table
        Its rows of these tables, in any order; extra columns are ignored. Only the crops listed by `crops_needed` are
        used.
    audio : mapping or None
        Its row of ``audio`` (``waveform`` is not needed); None without a sound track.
    settings : QualitySettings
        Thresholds.
    fps : float
        Sampled frames per second.
    max_seconds : float
        Second at which sampling stops; frames after it do not count as missing.
    others : OtherVideos, optional
        Needed for the flags `duplicate` and `other_person`.
    crops : FaceSettings, optional
        How the crops were cut; the defaults if not given.

    Returns
    -------
    VideoAssessment
    """
    found = _Findings(settings)
    others = others or OtherVideos()
    if video["status"] == "ok" and frames.num_rows > 0:
        frames, faces, landmarks = (_in_order(t) for t in (frames, faces, landmarks))
        # empty and broken files often have equal hashes; what matters is that they cannot be read
        found.flag_if("duplicate", video["sha256"] in others.sha256s)
        _length(found, video, frames, fps, max_seconds)
        times = SampleTimes(_numbers(frames, "time_s"), 1 / fps)
        own, meshes = (_places(frames, rows) for rows in (faces, landmarks))
        _faces(found, frames, faces, times, own)
        _light(found, frames, times)
        found_meshes = StoredMeshes(landmarks)
        sides = crops_in(frames, faces, found_meshes.frame_index, crops or FaceSettings())
        _mesh(found, landmarks, found_meshes, height_share(sides), times.of(meshes))
        _crops(found, faces, fps, times.of(own))
        _person(found, others.person)
        _sound(found, video, audio)
        reason = _unusable_reason(found.flags, found.measures, settings)
    else:
        reason = "too_short" if video["status"] == "too_short" else "unreadable"
        found.measures["duration_s"] = video.get("duration_s")
    if reason is not None:
        found.flag(reason)
    flags = [f for f in FLAGS if f in found.flags]
    moments = {flag: found.moments[flag] for flag in flags if found.moments.get(flag)}
    return VideoAssessment(found.measures, flags, reason is None, reason, moments)


def apply_review(
    assessment: VideoAssessment, rejected: Collection[str], include: bool | None, settings: QualitySettings
) -> VideoAssessment:
    """Return the assessment after people's decisions: without the flags they rejected, used or not as they said.

    A video in which nothing could be measured stays unusable, whatever was decided: there is nothing to use.

    Parameters
    ----------
    assessment : VideoAssessment
        What was measured; the measures stay as they are.
    rejected : collection of str
        Flags that count no longer. If one of them was why the video is not usable, the other flags decide.
    include : bool or None
        True to use the video whatever was measured, False to exclude it, None to let the flags decide.
    settings : QualitySettings
        Thresholds.
    """
    if "face_rate" not in assessment.measures:
        return assessment
    flags = [flag for flag in assessment.flags if flag not in rejected]
    reason = _unusable_reason(flags, assessment.measures, settings, set(rejected))
    if include is not None:
        reason = None if include else EXCLUDED
    elif reason is not None and reason not in flags:
        flags = [flag for flag in FLAGS if flag in {*flags, reason}]
    return VideoAssessment(assessment.measures, flags, reason is None, reason, assessment.moments)


def crops_needed(count: int, settings: QualitySettings, fps: float) -> NDArray[np.int64]:
    """Return the positions, in frame order, of the faces whose crops an assessment uses.

    Parameters
    ----------
    count : int
        Number of faces in the video.
    settings : QualitySettings
        Contains the number of crops per second.
    fps : float
        Sampled frames per second.
    """
    return np.arange(0, count, max(1, round(fps / settings.crops_per_second)))


def _in_order(rows: arrow.Table) -> arrow.Table:
    """Sort by frame; rows already in order are not copied, as a long video's meshes are large."""
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
    found.moments["too_long"] = span_between(settings.longest_s, duration)
    expected = min(duration, max_seconds) * fps
    found.measures["frames_expected_share"] = frames.num_rows / max(1.0, expected)
    # a short video may lack half a second
    tolerance = max(fps / 2, settings.frame_count_tolerance * expected)
    found.flag_if("wrong_frame_count", abs(frames.num_rows - expected) > tolerance)
    motion = _numbers(frames, "motion")
    still = motion < settings.still_motion  # the first sample has no motion: NaN is not still
    stretches = _runs(still)
    long = [(start, end) for start, end in stretches if (end - start) / fps >= settings.still_seconds]
    frozen = np.zeros(len(still), bool)
    for start, end in long:
        frozen[start:end] = True
    found.share("frozen", frozen, SampleTimes(_numbers(frames, "time_s"), 1 / fps))
    found.measures["longest_still_s"] = max(((end - start) / fps for start, end in stretches), default=0.0)


def _places(frames: arrow.Table, rows: arrow.Table) -> NDArray[Any]:
    """Return the place of each row's frame among the frames."""
    return np.searchsorted(_numbers(frames, "frame_index"), _numbers(rows, "frame_index"))


def _faces(
    found: _Findings, frames: arrow.Table, faces: arrow.Table, times: SampleTimes, own: NDArray[Any]
) -> None:
    settings = found.settings
    has_face = np.isin(_numbers(frames, "frame_index"), _numbers(faces, "frame_index"))
    found.measures["face_rate"] = float(has_face.mean())
    found.share("face_missing", ~has_face, times)
    found.share("several_faces", _numbers(frames, "faces_seen") > 1, times, settings.several_share)
    x1, y1, x2, y2 = (_numbers(faces, name) for name in ("x1", "y1", "x2", "y2"))
    side = np.minimum(x2 - x1, y2 - y1)
    found.measures["face_px"] = float(np.median(side)) if len(side) else None
    found.share("face_small", side < settings.small_face_px, times.of(own))
    # each box is in the pixels of its own frame: a phone may be turned during the recording
    width, height = (_numbers(frames, name)[own] for name in ("width", "height"))
    inside = (np.minimum(x2, width) - np.maximum(x1, 0)) * (np.minimum(y2, height) - np.maximum(y1, 0))
    found.share("face_leaves", inside < settings.face_inside * (x2 - x1) * (y2 - y1), times.of(own))


def _light(found: _Findings, frames: arrow.Table, times: SampleTimes) -> None:
    """Assess light on the face, or on the whole picture if there is no face."""
    settings = found.settings
    highlight, face_glare = _numbers(frames, "face_highlight"), _numbers(frames, "face_glare")
    bare = np.isnan(highlight)
    dark = np.where(
        bare, _numbers(frames, "luminance") < settings.dark_picture, highlight < settings.dark_highlight
    )
    found.share("dark", dark, times)
    found.measures["face_highlight"] = _median(highlight)
    found.measures["face_luminance"] = _median(_numbers(frames, "face_luminance"))
    on_face = (face_glare > settings.glare_face) | (
        _numbers(frames, "face_luminance") > settings.glare_luminance
    )
    limit = np.where(bare, settings.glare_no_face, settings.glare_picture)
    found.share("glare", on_face | (_numbers(frames, "glare") > limit), times)
    found.measures["face_glare"] = _median(face_glare)
    grain = _numbers(frames, "noise") / np.maximum(_numbers(frames, "highlight"), 0.1)
    found.measures["grain"] = _median(grain)
    found.share("grainy", grain > settings.grain, times)
    text = _numbers(frames, "text_share")
    looked_at = np.flatnonzero(~np.isnan(text))
    text = text[looked_at]
    found.measures["text_share"] = float(text.mean()) if len(text) else None
    every = int(np.median(np.diff(looked_at))) if len(looked_at) > 1 else 1
    found.share("signage", text > settings.text_share, times.of(looked_at, every))


def _crops(found: _Findings, faces: arrow.Table, fps: float, times: SampleTimes) -> None:
    settings = found.settings
    chosen = crops_needed(faces.num_rows, settings, fps)
    taken = faces.take(arrow.array(chosen))
    times = times.of(chosen, int(chosen[1]) if len(chosen) > 1 else 1)
    side = np.minimum(
        _numbers(taken, "x2") - _numbers(taken, "x1"), _numbers(taken, "y2") - _numbers(taken, "y1")
    )
    blur, covers = [], []
    for crop, pixels in zip(_decoded(taken["crop"]), side, strict=True):
        # a face enlarged to the crop's size looks blurred, so it is measured at its own size
        size = int(np.clip(pixels, 40, 80))
        luma = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_AREA)
        blur.append(perceptual_blur(luma))
        covers.append(measure_cover(crop))
    found.measures["blur"] = _median(np.array(blur, float))
    found.share("blurred", np.array(blur, float) > settings.blur, times)
    masked = [is_masked(c, settings) for c in covers]
    found.measures["mask_difference"] = _median(np.array([c.difference for c in covers], float))
    found.measures["mask_lips"] = _median(np.array([c.lips for c in covers], float))
    found.share("mask", np.array(masked, bool), times)


def _decoded(crops: arrow.ChunkedArray) -> Iterator[NDArray[np.uint8]]:
    """Yield decoded crops, a few at a time: half an hour of them takes 280 MB."""
    for start in range(0, len(crops), _CROP_BATCH):
        yield from decode_crops(crops.slice(start, _CROP_BATCH))


def _mesh(
    found: _Findings,
    landmarks: arrow.Table,
    meshes: StoredMeshes,
    heights: NDArray[Any],
    times: SampleTimes,
) -> None:
    settings = found.settings
    detected = _numbers(landmarks, "detected") > 0
    found.measures["landmark_rate"] = float(detected.mean()) if len(detected) else None
    found.share("landmarks_missing", ~detected, times, settings.landmark_failure)
    findings = examine_meshes(meshes, heights, meshes.frame_index, settings)
    found.measures["roll_deg"] = findings.roll_deg
    found.measures["turned_share"] = findings.turned
    found.measures["mirrored_share"] = findings.mirrored
    found.measures["implausible_share"] = findings.implausible
    found.measures["jumping_share"] = findings.jumping
    there = times.of(detected)
    found.moments["rotated"] = there.spans(findings.not_upright)
    found.moments["landmarks_implausible"] = there.spans(findings.not_a_face)
    found.flag_if("rotated", max(findings.turned, findings.mirrored) >= settings.affected_share)
    found.flag_if(
        "landmarks_implausible", max(findings.implausible, findings.jumping) >= settings.landmark_failure
    )


def _person(found: _Findings, person: PersonFound | None) -> None:
    if person is None:
        return
    found.measures["identity_method"] = person.method
    found.measures["identity_within"] = person.within
    found.measures["identity_distance"] = person.across
    found.measures["other_person_share"] = person.other_share
    found.moments["other_person"] = person.spans
    elsewhere = person.other_share >= found.settings.other_person_share
    found.flag_if("other_person", person.other_video or elsewhere)


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
    found.moments["sound_cut"] = span_between(audio["duration_s"], video["duration_s"])
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


def _unusable_reason(
    flags: Collection[str],
    measures: Mapping[str, float | str | None],
    settings: QualitySettings,
    rejected: AbstractSet[str] = frozenset(),
) -> str | None:
    for flag in settings.unusable_flags:
        if flag in flags:
            return flag
    face_rate, landmark_rate = measures.get("face_rate"), measures.get("landmark_rate")
    few_faces = not isinstance(face_rate, float) or face_rate < settings.min_face_rate
    if few_faces and "face_missing" not in rejected:
        return "face_missing"
    few_meshes = not isinstance(landmark_rate, float) or landmark_rate < settings.min_landmark_rate
    if few_meshes and not rejected & {"face_missing", "landmarks_missing"}:
        return "landmarks_missing"
    return None


def _numbers(table: arrow.Table, name: str) -> NDArray[Any]:
    """Return a column as floats, with NaN for nulls."""
    column = table[name]
    if arrow.types.is_boolean(column.type):
        column = column.cast(arrow.int8())
    return column.cast(arrow.float64()).to_numpy()


def _median(values: NDArray[Any]) -> float | None:
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else None


def _runs(values: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and end (exclusive) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
