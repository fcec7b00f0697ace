"""Whether a video can be trusted."""

from __future__ import annotations

from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column


class VideoQuality(Table):
    """One video's quality: shares, levels, flags, and whether it is usable."""

    __table__ = "video_quality"
    __key__ = ("video_id",)
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    frames: object = column("INTEGER", "Sampled frames.", ge=0)
    face_rate: object = column("DOUBLE", "Share of frames with a face.", nullable=True, **SHARE)
    landmark_rate: object = column("DOUBLE", "Share of faces with a mesh.", nullable=True, **SHARE)
    measures: object = column(
        "VARCHAR",
        "Every measure behind the flags, as JSON: name to value; docs/quality.md explains the names.",
    )
    moments: object = column(
        "VARCHAR",
        "When the flags hold, as JSON: flag to spans of seconds, rejected flags too. A flag about the whole "
        "video has none; empty in rows of version 3 and before.",
        nullable=True,
    )
    flags: object = column("VARCHAR[]", "Quality issues found and not rejected by a person, fixed words.")
    usable: object = column("BOOLEAN", "Whether training may use the video.")
    unusable_reason: object = column(
        "VARCHAR", "Why not, a flag or a fixed word; empty when usable.", nullable=True
    )
    reviewed: object = column(
        "BOOLEAN", "Whether a person has decided about the video or a flag.", nullable=True
    )
    decision: object = column(
        "VARCHAR", "include or exclude, if a person decided that.", nullable=True, isin=("include", "exclude")
    )
    rejected_flags: object = column(
        "VARCHAR[]", "Flags that were measured and that a person rejected; not in `flags`.", nullable=True
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the measures.")
