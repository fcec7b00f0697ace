"""The submitted videos as files, and what could not be read."""

from __future__ import annotations

from iss_assets.schemas.base import PATIENT_ID, SUBMISSION_ID, Table, column

VIDEO_STATUS = ("ok", "unreadable", "no_video", "too_short", "too_large")


class Videos(Table):
    """One submitted narrative video (Question 11), readable or not."""

    __table__ = "videos"
    __key__ = ("video_id",)
    __partition__ = ("patient_id",)
    __references__ = (("patient_id", "patients"),)

    video_id: object = column("VARCHAR", "The submission id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    file: object = column("VARCHAR", "File, relative to the study folder.")
    sha256: object = column(
        "VARCHAR",
        "SHA-256 of the file; of its name, size and time if it cannot be opened.",
        str_length={"min_value": 64, "max_value": 64},
    )
    bytes: object = column("BIGINT", "Size of the file.", unit="B", ge=0)
    modified_ns: object = column("BIGINT", "Modification time of the file when it was hashed.", unit="ns")
    container: object = column("VARCHAR", "Container as FFmpeg names it.", nullable=True)
    codec: object = column("VARCHAR", "Video codec as FFmpeg names it.", nullable=True)
    width: object = column(
        "INTEGER",
        "Width of the first frame, upright and with square pixels.",
        unit="px",
        ge=1,
        nullable=True,
    )
    height: object = column("INTEGER", "Height of that frame.", unit="px", ge=1, nullable=True)
    rotation: object = column("INTEGER", "Rotation in the file's metadata.", unit="deg", nullable=True)
    source_fps: object = column("DOUBLE", "Average frame rate of the file.", unit="1/s", ge=0, nullable=True)
    duration_s: object = column("DOUBLE", "Duration of the video.", unit="s", ge=0, nullable=True)
    has_audio: object = column("BOOLEAN", "Whether there is a sound track.", nullable=True)
    audio_codec: object = column("VARCHAR", "Audio codec as FFmpeg names it.", nullable=True)
    has_prompt: object = column("BOOLEAN", "Whether the Question 10 reading was submitted with it.")
    status: object = column("VARCHAR", "ok, or why the video cannot be used.", isin=VIDEO_STATUS)
    problem: object = column(
        "VARCHAR",
        "What is wrong or unusual, in words; empty if nothing is. Found when the file was opened, when pictures and sound "
        "were read, and in stages that failed.",
        nullable=True,
    )
    file_problem: object = column(
        "VARCHAR", "The part of `problem` found when the file was opened.", nullable=True
    )
    transfer: object = column(
        "VARCHAR",
        "Transfer characteristic as FFmpeg names it: bt709, smpte2084 (HDR, PQ), arib-std-b67 (HDR, HLG), ...; unknown "
        "where the file does not say. HDR is converted to SDR before it is measured.",
        nullable=True,
    )


class VideoProblems(Table):
    """One stage of reading one video that failed because of the file; retried only when the file or the code changes."""

    __table__ = "video_problems"
    __key__ = ("video_id", "stage")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    stage: object = column(
        "VARCHAR",
        "Stage that failed: probe, picture, landmarks, sound, quality, or the name of a feature; with `prompt_` before it if "
        "it was the Question 10 reading.",
        str_matches=r"^[a-z_]+$",
    )
    sha256: object = column("VARCHAR", "SHA-256 of the file that failed.")
    version: object = column("VARCHAR", "Hash of the code and settings at the time.")
    status: object = column(
        "VARCHAR", "Resulting status of the video: ok if the rest can be used.", isin=VIDEO_STATUS
    )
    error: object = column(
        "VARCHAR",
        "Class of the error, or died (the process was killed), time or memory (a limit was exceeded).",
    )
    problem: object = column("VARCHAR", "The error in words, part of `videos.problem`.")
