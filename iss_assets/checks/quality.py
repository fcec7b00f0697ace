"""Rules on ``video_quality``: one check a trouble that the paper lists, from the flags that were raised.

Belongs here: pure functions from a patient's rows (``sql/quality.sql``) to a `Finding`.
Does not belong here: raising flags (``media.quality``), words about checks (``catalogue``).
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any, Final

from iss_assets.checks.catalogue import CATALOGUE
from iss_assets.checks.findings import Data, Finding, Rule, found_in
from iss_assets.settings import Settings

QUERIES: Final = ("quality",)


def flagged(data: Data, settings: Settings, *, flags: tuple[str, ...]) -> Finding:
    """Find the videos with one of `flags`; an error where every video has one and none is usable."""
    rows = data["quality"]
    hit = [r for r in rows if set(flags) & set(r["flags"])]
    counts = Counter(flag for r in hit for flag in r["flags"] if flag in flags)
    hopeless = bool(rows) and len(hit) == len(rows) and not any(r["usable"] for r in rows)
    return found_in(
        (r["video_id"] for r in hit),
        len(rows),
        f"no video flagged {' or '.join(flags)}",
        {
            "by flag": dict(counts),
            "share of the videos": round(len(hit) / len(rows), 3) if rows else None,
            "measures": {r["video_id"]: _measures(r["measures"], flags) for r in hit[:20]},
        },
        severity="ERROR" if hopeless else None,
    )


def _measures(text: str, flags: tuple[str, ...]) -> dict[str, Any]:
    """Give the measures that are named after one of the flags: ``dark_share`` for ``dark``."""
    return {
        name: round(value, 4)
        for name, value in json.loads(text).items()
        if isinstance(value, int | float) and any(name.startswith(flag) for flag in flags)
    }


def nothing_usable(data: Data, settings: Settings) -> Finding:
    """Find a patient of whose videos training may not take one."""
    rows = data["quality"]
    usable = sum(r["usable"] for r in rows)
    passed = usable > 0 or not rows
    reasons = Counter(r["unusable_reason"] for r in rows if not r["usable"])
    return Finding(
        passed,
        () if passed else tuple(r["video_id"] for r in rows),
        {"videos": len(rows), "usable": usable, "reasons": dict(reasons)},
        "at least 1 usable",
    )


RULES: Final[dict[str, Rule]] = {
    **{c.name: partial(flagged, flags=c.flags) for c in CATALOGUE if c.flags},
    "nothing_usable": nothing_usable,
}
