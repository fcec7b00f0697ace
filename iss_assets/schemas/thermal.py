"""Thermal pictures of faces: what was submitted, and the temperatures in it."""

from __future__ import annotations

from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column

THERMAL_STATUS = ("ok", "unreadable", "not_read")
PAIRINGS = ("clocks", "no_video", "no_time_in_picture", "no_time_in_video", "too_far_apart")


class Thermal(Table):
    """One submission's thermal picture, readable or not."""

    __table__ = "thermal"
    __key__ = ("submission_id",)
    __partition__ = ("patient_id",)
    __references__ = (("patient_id", "patients"),)

    submission_id: object = column("VARCHAR", "The submission; it may have no video.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    file: object = column("VARCHAR", "File, relative to the study folder.")
    sha256: object = column(
        "VARCHAR",
        "SHA-256 of the file; of its name, size and time if it cannot be opened.",
        str_length={"min_value": 64, "max_value": 64},
    )
    bytes: object = column("BIGINT", "Size of the file.", unit="B", ge=0)
    modified_ns: object = column("BIGINT", "Modification time of the file when it was hashed.", unit="ns")
    status: object = column(
        "VARCHAR",
        "ok; unreadable, see `problem`; not_read where the extra `thermal` is not installed.",
        isin=THERMAL_STATUS,
    )
    problem: object = column("VARCHAR", "What is wrong, in words; empty if nothing is.", nullable=True)
    width: object = column("INTEGER", "Width of the thermal picture.", unit="px", ge=1, nullable=True)
    height: object = column("INTEGER", "Its height.", unit="px", ge=1, nullable=True)
    taken_at: object = column(
        "TIMESTAMP WITH TIME ZONE",
        "When it was taken, by the camera's clock; empty if the file does not say.",
        nullable=True,
    )
    emissivity: object = column(
        "DOUBLE", "Emissivity of skin with which temperatures were computed.", nullable=True, **SHARE
    )
    camera_emissivity: object = column(
        "DOUBLE",
        "Emissivity that the camera was set to, and with which it shows temperatures itself.",
        nullable=True,
        **SHARE,
    )
    face_found: object = column(
        "BOOLEAN", "Whether something warm was found that may be a face.", nullable=True
    )
    face_x1: object = column("INTEGER", "Left edge of the face region.", unit="px", ge=0, nullable=True)
    face_y1: object = column("INTEGER", "Top edge.", unit="px", ge=0, nullable=True)
    face_x2: object = column("INTEGER", "Right edge (the column after it).", unit="px", ge=1, nullable=True)
    face_y2: object = column("INTEGER", "Bottom edge (the row after it).", unit="px", ge=1, nullable=True)
    forehead_c: object = column("DOUBLE", "Median of the middle of the forehead.", unit="°C", nullable=True)
    nose_c: object = column("DOUBLE", "Median of the nose.", unit="°C", nullable=True)
    min_c: object = column("DOUBLE", "Least temperature in the face region.", unit="°C", nullable=True)
    max_c: object = column("DOUBLE", "Greatest temperature in the face region.", unit="°C", nullable=True)
    pairing: object = column(
        "VARCHAR",
        "clocks if a frame of the video is paired with it, by the camera's clock and the time in the video's file; or why "
        "none is.",
        isin=PAIRINGS,
        nullable=True,
    )
    paired_frame: object = column(
        "INTEGER", "`frames.frame_index` of the frame nearest in time.", ge=0, nullable=True
    )
    pair_gap_s: object = column(
        "DOUBLE",
        "Seconds from that frame to the thermal picture; negative if the picture came first. Errors of both clocks are in it.",
        unit="s",
        nullable=True,
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the file, the video, the settings and the code.")
