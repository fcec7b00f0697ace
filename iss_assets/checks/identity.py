"""Checks on whose face is seen in the study: one face under two patients, and whether faces are compared at all.

Within one patient's videos, faces are compared when their quality is assessed (``media.quality``). Here the patients are
compared with one another. Findings hold ids, never names or vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from iss_assets.checks.findings import Finding
from iss_assets.features.identity import stored_moments
from iss_assets.media.face_networks import comparison_missing
from iss_assets.media.identity import FaceMoments, PatientFace, faces_of_patient, shared_faces
from iss_assets.settings import Settings
from iss_assets.synthetic.marker import is_sample_study
from iss_assets.warehouse.database import Warehouse

SQL: Final = Path(__file__).parent / "sql" / "study_faces.sql"
_MOST: Final = 50
"""Findings listed by id; more are counted."""


def read_faces(warehouse: Warehouse, settings: Settings) -> list[PatientFace]:
    """Return the persons seen in each patient's videos; none where comparing is switched off.

    A file that was submitted for two patients is left out: it is a copy, which ``duplicate_files`` reports.
    """
    if not settings.identity.enabled:
        return []
    rows = warehouse.query(SQL.read_text("utf-8"))
    owners = dict(zip(rows["video_id"].to_pylist(), rows["patient_id"].to_pylist(), strict=True))
    of_patient: dict[str, dict[str, FaceMoments]] = {}
    for video, moments in stored_moments(rows).items():
        of_patient.setdefault(owners[video], {})[video] = moments
    return [
        face
        for patient, videos in of_patient.items()
        for face in faces_of_patient(patient, videos, settings.quality)
    ]


def one_face_two_patients(warehouse: Warehouse, settings: Settings) -> Finding:
    """Find persons who are seen under several patient ids: enrolled twice, or a video filed under the wrong patient."""
    limit = settings.checks.same_face_distance
    threshold = f"no two patients' faces closer than {limit} (1 - cosine)"
    if is_sample_study(settings.study):
        why = "the faces of the sample study are made from two portraits"
        return Finding(True, (), {"not compared": why}, threshold)
    faces = read_faces(warehouse, settings)
    shared = shared_faces(faces, limit)
    return Finding(
        not shared,
        tuple(sorted({video for one in shared for video in one.videos})),
        {
            "patients compared": len({face.patient_id for face in faces}),
            "persons under several ids": len(shared),
            "patients": [list(one.patients) for one in shared[:_MOST]],
            "distances": [one.distance for one in shared[:_MOST]],
        },
        threshold,
    )


def faces_not_compared(warehouse: Warehouse, settings: Settings) -> Finding:
    """Find out whether this machine has a network that compares faces, unless that is switched off."""
    why = comparison_missing(settings.identity)
    return Finding(
        why is None,
        (),
        {"enabled": settings.identity.enabled, **({"why": why} if why else {})},
        "a network that compares faces is installed",
    )


RULES: Final[Mapping[str, Callable[[Warehouse, Settings], Finding]]] = {
    "study_faces": one_face_two_patients,
    "study_faces_not_compared": faces_not_compared,
}
"""Check name to rule."""
