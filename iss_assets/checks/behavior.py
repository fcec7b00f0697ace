"""Rules on behavior: whether what is said about a patient's face rests on enough of it.

Pure functions from a patient's rows (``sql/``) to a `Finding`.
"""

from __future__ import annotations

from typing import Final

from iss_assets.checks.findings import Data, Finding, Rule, found_in
from iss_assets.settings import Settings

QUERIES: Final = ("behavior",)

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


RULES: Final[dict[str, Rule]] = {"head_turned_away": head_turned_away}
