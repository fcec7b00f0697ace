"""What is measured in a video's pictures."""

from __future__ import annotations

from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column


class Frames(Table):
    """One frame sampled from a video at 10 frames a second."""

    __table__ = "frames"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    frame_index: object = column("INTEGER", "Number of the sample from 0.", ge=0)
    time_s: object = column("DOUBLE", "Presentation time of the frame shown.", unit="s", ge=0)
    chunk_index: object = column("INTEGER", "Number of the 4-second chunk from 0.", ge=0)
    luminance: object = column("FLOAT", "Mean luma of the picture, 0 to 1.", **SHARE)
    contrast: object = column("FLOAT", "Standard deviation of luma, 0 to 1.", **SHARE)
    sharpness: object = column(
        "FLOAT", "Variance of the Laplacian of luma (8 bit) on the scaled picture.", ge=0
    )
    noise: object = column("FLOAT", "Standard deviation of noise in luma, 8 bit.", ge=0)
    glare: object = column("FLOAT", "Share of the picture that is blown out.", **SHARE)
    highlight: object = column(
        "FLOAT", "99th percentile of luma, 0 to 1: what the brightest things reach.", nullable=True, **SHARE
    )
    text_share: object = column(
        "FLOAT",
        "Share of the picture that lettering takes; looked for once a second.",
        nullable=True,
        **SHARE,
    )
    face_luminance: object = column(
        "FLOAT", "Mean luma of the face, 0 to 1; empty without a face.", nullable=True, **SHARE
    )
    face_highlight: object = column(
        "FLOAT", "99th percentile of the face's luma, 0 to 1; empty without a face.", nullable=True, **SHARE
    )
    face_glare: object = column("FLOAT", "Share of the face that is blown out.", nullable=True, **SHARE)
    face_sharpness: object = column("FLOAT", "Variance of the Laplacian on the crop.", ge=0, nullable=True)
    motion: object = column(
        "FLOAT",
        "Mean absolute luma difference to the sample before, 0 to 1; empty for the first.",
        nullable=True,
        **SHARE,
    )
    picture_hash: object = column("BIGINT", "Hash of the scaled picture: identical frames have equal hashes.")
    faces_seen: object = column("INTEGER", "Faces found in the frame.", ge=0)
    width: object = column(
        "INTEGER",
        "Width of this picture, upright and with square pixels; differs from the video's where the recording turns or "
        "changes its size midway.",
        unit="px",
        ge=1,
        nullable=True,
    )
    height: object = column("INTEGER", "Height of this picture.", unit="px", ge=1, nullable=True)
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class Faces(Table):
    """One sampled frame with a face: the most probable large one."""

    __table__ = "faces"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    frame_index: object = column("INTEGER", "Number of the sample from 0.", ge=0)
    x1: object = column(
        "FLOAT", "Left of the box, in the pixels of this frame's own picture (`frames.width`).", unit="px"
    )
    y1: object = column("FLOAT", "Top of the box.", unit="px")
    x2: object = column("FLOAT", "Right of the box.", unit="px")
    y2: object = column("FLOAT", "Bottom of the box.", unit="px")
    probability: object = column("FLOAT", "MTCNN's probability that this is a face.", **SHARE)
    faces_seen: object = column("INTEGER", "Faces found in the frame.", ge=1)
    crop: object = column("BLOB", "The 160x160 crop, an RGB picture file.")
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class Landmarks(Table):
    """One face: whether Face Mesh found it, and its 468 points."""

    __table__ = "landmarks"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    frame_index: object = column("INTEGER", "Number of the sample from 0.", ge=0)
    detected: object = column("BOOLEAN", "Whether a mesh was found.")
    points: object = column(
        "FLOAT[1404]",
        "468 points as x, y, z in turn; x and y as shares of the crop's side, z on x's scale; empty without a mesh.",
        nullable=True,
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")
