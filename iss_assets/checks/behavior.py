"""Rules on behavior: whether what is said about a patient's face rests on enough of it.

Pure functions from a patient's rows (``sql/``) to a `Finding`.
"""

from __future__ import annotations

from typing import Final

from iss_assets.checks.findings import Data, Finding, Rule, found_in
from iss_assets.settings import Settings

QUERIES: Final = ("behavior", "behavior_frames")

_FEWEST: Final = 10
"""Pictures with a face from which a share says something: a second. That a face is missing is another check."""


def head_turned_away(data: Data, settings: Settings) -> Finding:
    """Find videos in which the head is turned away for most of the time with a face."""
    limit = settings.checks.away_share
    measured = [r for r in data["behavior"] if r["measured"] >= _FEWEST]
    away = {r["video_id"]: r["away_share"] for r in measured if r["away_share"] > limit}
    return found_in(
        away,
        len(measured),
        f"head turned away by more than {settings.behavior.facing_degrees:g} degrees in at most {limit:.0%} of the pictures",
        {"share turned away": {video: round(share, 3) for video, share in sorted(away.items())[:20]}},
    )


def behavior_without_mesh(data: Data, settings: Settings) -> Finding:
    """Find videos whose behavior is not that of their face meshes: a mesh that was not measured, or a sample without one."""
    rows = data["behavior_frames"]
    wrong = {
        r["video_id"]: sum(r[name] for name in ("without_sample", "without_mesh", "at_another_time"))
        for r in rows
    }
    affected = {video: pictures for video, pictures in wrong.items() if pictures}
    return found_in(
        affected,
        len(rows),
        "a sample for each face mesh, at the time of its picture",
        {"pictures": dict(sorted(affected.items())[:20])},
    )


RULES: Final[dict[str, dict[str, Rule]]] = {
    "face_behavior": {"behavior_without_mesh": behavior_without_mesh},
    "face_behavior_summary": {"head_turned_away": head_turned_away},
}
"""Table to its rules."""
