"""Vectors of faces, by which videos are compared."""

from __future__ import annotations

from iss_assets.schemas.base import PATIENT_ID, SUBMISSION_ID, Table, column


class FaceIdentity(Table):
    """One moment of a video: the mean of a few consecutive faces, as a vector that can be compared with others."""

    __table__ = "face_identity"
    __key__ = ("video_id", "moment")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    moment: object = column(
        "INTEGER", "Number of the moment from 0; one in which all faces are covered is missing.", ge=0
    )
    start_s: object = column("DOUBLE", "When its first face is seen.", unit="s", ge=0)
    end_s: object = column("DOUBLE", "When the next moment begins, or the last face ends.", unit="s", ge=0)
    faces: object = column(
        "INTEGER",
        "Faces averaged: those with a mesh that nothing covers. Below three it is not compared.",
        ge=1,
    )
    method: object = column(
        "VARCHAR",
        "Network: `sface`, or `vggface2` (InceptionResnetV1); vectors of different networks are not compared.",
        isin=["sface", "vggface2"],
    )
    distance: object = column(
        "FLOAT",
        "1 - cosine to the video's most typical moment, which is near half of the others: 0 for the same vector, about 1 for two persons. Distances to other "
        "videos are in the SQL model `face_distances`.",
        ge=0,
        le=2,
    )
    vector: object = column(
        "FLOAT[]",
        "The mean, of length 1. It recognizes the person as a picture does, and leaves the study as pictures do.",
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of what it was made from.")
