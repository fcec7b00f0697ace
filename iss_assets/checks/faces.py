"""Rules on faces and landmarks: found often enough, shaped like a face, upright, where they were a moment ago.

Belongs here: pure functions from a patient's rows (``sql/``) to a `Finding`.
Does not belong here: reading, words about checks (``catalogue``), finding faces (``media``).
"""

from __future__ import annotations

import math
from typing import Any, Final

from iss_assets.checks.findings import Data, Finding, Row, Rule, found_in
from iss_assets.settings import Settings


def mesh_parameters(settings: Settings) -> dict[str, Any]:
    """Give the parameters of ``sql/meshes.sql``."""
    low, high = settings.checks.mesh_eye_ratio
    return {
        "min_ratio": low,
        "max_ratio": high,
        "max_roll": settings.checks.mesh_roll_degrees,
        "jump": settings.checks.jump_eye_distances,
    }


def face_detection_rate(data: Data, settings: Settings) -> Finding:
    """Compare the share of a patient's pictures with a face with the paper's, over all videos and for each.

    The check fails on the patient's whole rate; the videos below it are named.
    """
    limit = settings.checks.face_rate
    rows = [r for r in data["frame_counts"] if r["frames"]]
    frames, faces = sum(r["frames"] for r in rows), sum(r["faces"] for r in rows)
    passed = not frames or faces / frames >= limit
    low = {
        r["video_id"]: round(r["faces"] / r["frames"], 3) for r in rows if r["faces"] / r["frames"] < limit
    }
    numbers = {
        "frames": frames,
        "faces": faces,
        "rate": round(faces / frames, 4) if frames else None,
        "videos below": low,
    }
    return Finding(
        passed,
        () if passed else tuple(sorted(low)),
        numbers,
        f"at least {limit:g} of the pictures",
        "ERROR" if frames and not faces else None,
    )


def landmark_failure_rate(data: Data, settings: Settings) -> Finding:
    """Compare each video's share of faces without landmarks with the paper's 2.86 %, chance allowed for."""
    usual, rows = settings.checks.landmark_failures, data["meshes"]
    high = {
        r["video_id"]: round(r["failures"] / r["faces"], 4)
        for r in rows
        if r["failures"] / r["faces"] > usual + 2 * math.sqrt(usual * (1 - usual) / r["faces"])
    }
    faces, failures = sum(r["faces"] for r in rows), sum(r["failures"] for r in rows)
    numbers = {"faces": faces, "failures": failures, "failure rates": high}
    limit = f"at most {usual:.2%} of a video's faces, and twice the standard error of that"
    return found_in(high, len(rows), limit, numbers)


def _share_rule(row: Row, faults: tuple[str, ...], of: str, limit: float) -> dict[str, float]:
    shares = {fault: row[fault] / row[of] for fault in faults if row[of]}
    return {fault: round(share, 3) for fault, share in shares.items() if share > limit}


def _mesh_rule(data: Data, faults: tuple[str, ...], of: str, limit: float) -> Finding:
    rows = [r for r in data["meshes"] if r[of]]
    found = {r["video_id"]: s for r in rows if (s := _share_rule(r, faults, of, limit))}
    return found_in(found, len(rows), f"at most {limit:.0%} of a video's {of}", {"shares": found})


def implausible_mesh(data: Data, settings: Settings) -> Finding:
    """Find videos with meshes that lie beside the crop or have no face's proportions."""
    return _mesh_rule(data, ("implausible",), "meshes", settings.checks.mesh_fault_share)


def jumping_mesh(data: Data, settings: Settings) -> Finding:
    """Find videos whose face is suddenly elsewhere."""
    return _mesh_rule(data, ("jumps",), "steps", settings.checks.jump_share)


def mirrored_or_upside_down(data: Data, settings: Settings) -> Finding:
    """Find videos whose meshes are mirror images, lie on the side or stand on the head."""
    return _mesh_rule(data, ("mirrored", "turned"), "meshes", settings.checks.mesh_fault_share)


FACE_RULES: Final[dict[str, Rule]] = {"face_detection_rate": face_detection_rate}
MESH_RULES: Final[dict[str, Rule]] = {
    rule.__name__: rule
    for rule in (landmark_failure_rate, implausible_mesh, jumping_mesh, mirrored_or_upside_down)
}
