"""What the stored face meshes show of a patient's behavior: geometric proxies, explained in docs/face_behavior.md."""

from __future__ import annotations

from typing import Any

from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column


def _angle(text: str) -> Any:
    return column("FLOAT", text, unit="°", nullable=True, ge=-180, le=180)


def _length(text: str, **checks: Any) -> Any:
    return column("FLOAT", text, unit="eye distances", nullable=True, **checks)


def _share(text: str) -> Any:
    return column("DOUBLE", text, nullable=True, **SHARE)


def _number(text: str, unit: str | None, **checks: Any) -> Any:
    return column("DOUBLE", text, unit=unit, nullable=True, **checks)


class FaceBehavior(Table):
    """One face mesh: pose of the head and geometric proxies of what the face does."""

    __table__ = "face_behavior"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    frame_index: object = column("INTEGER", "Number of the sample, from 0.", ge=0)
    time_s: object = column("DOUBLE", "Presentation time of the frame, as in `frames`.", unit="s", ge=0)
    chunk_index: object = column("INTEGER", "Number of the 4-second chunk from 0.", ge=0)
    repeated: object = column(
        "BOOLEAN",
        "Whether the sample shows the same picture as the one before; left out of speeds and summaries.",
    )
    facing: object = column(
        "BOOLEAN", "Whether the mesh can be trusted and the head is not turned away (settings, behavior)."
    )
    fit_error: object = _length(
        "Root mean square distance of forehead, nose and cheeks from the video's median face, after a rigid fit; empty for "
        "a mesh whose points coincide.",
        ge=0,
    )
    yaw_deg: object = _angle(
        "Turn of the head, positive to the picture's right; empty where the mesh does not fit."
    )
    pitch_deg: object = _angle("Nod of the head, positive up.")
    roll_deg: object = _angle("Tilt of the head, positive clockwise in the picture.")
    turn_speed: object = column(
        "FLOAT", "Speed of the head's rotation about any axis.", unit="°/s", nullable=True, ge=0
    )
    shift_speed: object = column(
        "FLOAT", "Speed of the head across the picture.", unit="eye distances/s", nullable=True, ge=0
    )
    still: object = column(
        "BOOLEAN", "Whether the head is still, in a span of a second or longer.", nullable=True
    )
    eye_aspect_ratio: object = column(
        "FLOAT", "Height over width of the eyes, mean of both.", nullable=True, ge=0
    )
    eye_openness: object = column(
        "FLOAT",
        "Eye aspect ratio as a share of the video's open eye (its 90th percentile).",
        nullable=True,
        ge=0,
    )
    blink: object = column("BOOLEAN", "Whether the sample belongs to a blink.", nullable=True)
    mouth_open: object = _length("Distance of the inner lips.", ge=0)
    mouth_width: object = _length("Distance of the corners of the mouth.", ge=0)
    lip_corners: object = _length("Height of the corners of the mouth above the middle of the lips.")
    jaw_drop: object = _length("Distance of the chin from the base of the nose.", ge=0)
    brow_height: object = _length(
        "Distance of the inner ends of the brows from the inner corners of the eyes.", ge=0
    )
    brow_lowering: object = _length(
        "The video's median of `brow_height` minus `brow_height`: positive when lowered."
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the measures.")


class FaceBehaviorSummary(Table):
    """One 4-second chunk's behavior; chunk -1 is the whole video."""

    __table__ = "face_behavior_summary"
    __key__ = ("video_id", "chunk_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    chunk_index: object = column("INTEGER", "Number of the chunk from 0; -1 for the whole video.", ge=-1)
    pictures: object = column("INTEGER", "Sampled pictures, each counted once.", ge=0)
    measured: object = column("INTEGER", "Those with a mesh that fits.", ge=0)
    facing: object = column("INTEGER", "Those in which the head is not turned away.", ge=0)
    seconds: object = column("DOUBLE", "Time that the measured pictures cover, without gaps.", unit="s", ge=0)
    away_share: object = _share("Share of the measured pictures with the head turned away.")
    yaw_median_deg: object = _number("Median of `yaw_deg`.", "°")
    yaw_sd_deg: object = _number("Standard deviation of `yaw_deg`.", "°", ge=0)
    pitch_median_deg: object = _number("Median of `pitch_deg`.", "°")
    pitch_sd_deg: object = _number("Standard deviation of `pitch_deg`.", "°", ge=0)
    roll_median_deg: object = _number("Median of `roll_deg`.", "°")
    roll_sd_deg: object = _number("Standard deviation of `roll_deg`.", "°", ge=0)
    turn_speed_median: object = _number("Median of `turn_speed`.", "°/s", ge=0)
    turn_speed_p90: object = _number("90th percentile of `turn_speed`.", "°/s", ge=0)
    shift_speed_median: object = _number("Median of `shift_speed`.", "eye distances/s", ge=0)
    still_share: object = _share("Share of the time in which the head is still.")
    longest_still_s: object = _number("Longest span in which the head is still.", "s", ge=0)
    yaw_slow_deg: object = _number("Root mean square of yaw from 0.5 to 1 Hz.", "°", ge=0)
    yaw_fast_deg: object = _number(
        "Root mean square of yaw above 1 and up to 4 Hz; empty below nine pictures per second.", "°", ge=0
    )
    pitch_slow_deg: object = _number("Root mean square of pitch from 0.5 to 1 Hz.", "°", ge=0)
    pitch_fast_deg: object = _number(
        "Root mean square of pitch above 1 and up to 4 Hz; empty below nine pictures per second.", "°", ge=0
    )
    roll_slow_deg: object = _number("Root mean square of roll from 0.5 to 1 Hz.", "°", ge=0)
    roll_fast_deg: object = _number(
        "Root mean square of roll above 1 and up to 4 Hz; empty below nine pictures per second.", "°", ge=0
    )
    nod_hz: object = _number("Frequency of a rhythm in pitch; empty without one.", "Hz", ge=0)
    shake_hz: object = _number("Frequency of a rhythm in yaw; empty without one.", "Hz", ge=0)
    blinks: object = column("INTEGER", "Blinks.", nullable=True, ge=0)
    blinks_per_minute: object = _number("Blinks per minute of facing time.", "1/min", ge=0)
    long_closures: object = column(
        "INTEGER", "Times that the lids stayed low for longer than a blink.", nullable=True, ge=0
    )
    closed_share: object = _share("Share of the facing time with the eyes closed.")
    eye_openness_median: object = _number("Median of `eye_openness`.", None, ge=0)
    mouth_open_median: object = _number("Median of `mouth_open`.", "eye distances", ge=0)
    mouth_open_range: object = _number(
        "From the 10th to the 90th percentile of `mouth_open`.", "eye distances", ge=0
    )
    mouth_motion: object = _number(
        "Root mean square of `mouth_open` from 0.5 to 4 Hz: speaking and chewing; empty below nine pictures per second.",
        "eye distances",
        ge=0,
    )
    mouth_width_median: object = _number("Median of `mouth_width`.", "eye distances", ge=0)
    mouth_width_range: object = _number(
        "From the 10th to the 90th percentile of `mouth_width`.", "eye distances", ge=0
    )
    lip_corners_median: object = _number("Median of `lip_corners`.", "eye distances")
    lip_corners_range: object = _number(
        "From the 10th to the 90th percentile of `lip_corners`.", "eye distances", ge=0
    )
    jaw_drop_median: object = _number("Median of `jaw_drop`.", "eye distances", ge=0)
    jaw_drop_range: object = _number(
        "From the 10th to the 90th percentile of `jaw_drop`.", "eye distances", ge=0
    )
    brow_height_median: object = _number("Median of `brow_height`.", "eye distances", ge=0)
    brow_height_range: object = _number(
        "From the 10th to the 90th percentile of `brow_height`.", "eye distances", ge=0
    )
    brow_lowering_p90: object = _number("90th percentile of `brow_lowering`.", "eye distances")
    fingerprint: object = column("VARCHAR", "Fingerprint of the measures.")


PROPORTIONS: tuple[str, ...] = tuple(
    f"{name}_median" for name in ("mouth_open", "mouth_width", "lip_corners", "jaw_drop", "brow_height")
)
"""Columns of `face_behavior_summary` that are lengths of a face at rest: they tell people apart."""

BEHAVIOR_OF_THE_MOMENT: tuple[str, ...] = tuple(
    c.name for c in FaceBehaviorSummary.columns() if c.nullable and c.name not in (*PROPORTIONS, "away_share")
)
"""Columns of `face_behavior_summary` that are measures of how head and face move."""

BEHAVIOR_MEASURES: tuple[str, ...] = tuple(
    name
    for name in (*BEHAVIOR_OF_THE_MOMENT, *PROPORTIONS)
    if name not in ("nod_hz", "shake_hz", "blinks", "long_closures")
)
"""The columns of `face_behavior_summary` that experiments take as predictors: no counts, which grow with the length of the
video, and no rhythms, which most videos lack."""

BEHAVIOR_SERIES: tuple[str, ...] = (
    "yaw_deg",
    "pitch_deg",
    "roll_deg",
    "turn_speed",
    "shift_speed",
    "still",
    "eye_openness",
    "blink",
    "mouth_open",
    "lip_corners",
    "brow_lowering",
)
"""The columns of `face_behavior` that experiments read over time: what head and face do, and no proportions of a face at rest
that would tell people apart."""
