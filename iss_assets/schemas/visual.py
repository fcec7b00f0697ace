"""What is measured in a video's frames."""

from __future__ import annotations

from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column


class Frames(Table):
    """One frame sampled from a video at 10 frames per second."""

    __table__ = "frames"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    frame_index: object = column("INTEGER", "Number of the sample, from 0.", ge=0)
    time_s: object = column("DOUBLE", "Presentation time of the frame shown.", unit="s", ge=0)
    chunk_index: object = column("INTEGER", "Number of the 4-second chunk from 0.", ge=0)
    luminance: object = column("FLOAT", "Mean luma of the frame, 0 to 1.", **SHARE)
    contrast: object = column("FLOAT", "Standard deviation of luma, 0 to 1.", **SHARE)
    sharpness: object = column(
        "FLOAT", "Variance of the Laplacian of luma (8 bit) on the scaled frame.", ge=0
    )
    noise: object = column("FLOAT", "Standard deviation of noise in luma, 8 bit.", ge=0)
    glare: object = column("FLOAT", "Share of the frame that is blown out.", **SHARE)
    highlight: object = column(
        "FLOAT", "99th percentile of luma, 0 to 1: the level of the brightest areas.", nullable=True, **SHARE
    )
    text_share: object = column(
        "FLOAT",
        "Share of the frame covered by lettering; measured once per second.",
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
        "Mean absolute luma difference from the previous sample, 0 to 1; empty for the first.",
        nullable=True,
        **SHARE,
    )
    picture_hash: object = column("BIGINT", "Hash of the scaled frame: identical frames have equal hashes.")
    faces_seen: object = column("INTEGER", "Faces found in the frame.", ge=0)
    width: object = column(
        "INTEGER",
        "Width of this frame, upright and with square pixels; differs from the video's where the recording rotates or "
        "changes size midway.",
        unit="px",
        ge=1,
        nullable=True,
    )
    height: object = column("INTEGER", "Height of this frame.", unit="px", ge=1, nullable=True)
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class Faces(Table):
    """One sampled frame with a face: the most probable large one."""

    __table__ = "faces"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    frame_index: object = column("INTEGER", "Number of the sample, from 0.", ge=0)
    x1: object = column("FLOAT", "Left of the box, in pixels of this frame (`frames.width`).", unit="px")
    y1: object = column("FLOAT", "Top of the box.", unit="px")
    x2: object = column("FLOAT", "Right of the box.", unit="px")
    y2: object = column("FLOAT", "Bottom of the box.", unit="px")
    probability: object = column("FLOAT", "MTCNN's probability that this is a face.", **SHARE)
    faces_seen: object = column("INTEGER", "Faces found in the frame.", ge=1)
    crop: object = column("BLOB", "The 160x160 crop, an RGB image file.")
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class Landmarks(Table):
    """One face: whether Face Mesh found a mesh, and its 468 points."""

    __table__ = "landmarks"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    frame_index: object = column("INTEGER", "Number of the sample, from 0.", ge=0)
    detected: object = column("BOOLEAN", "Whether a mesh was found.")
    points: object = column(
        "FLOAT[1404]",
        "468 points, each as x, y, z; x and y as shares of the crop's side, z on the scale of x; empty without a mesh.",
        nullable=True,
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")
