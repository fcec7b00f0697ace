"""Checks on the quality of videos: one per cause, from the flags in ``video_quality``.

Pure functions from a patient's rows (``sql/quality.sql``) to a `Finding`. Flags are set in ``media.quality``; nothing is
measured or compared with a threshold here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from iss_assets.checks.findings import Data, Finding, Row, Rule, found_in
from iss_assets.protocol.flags import CAUSES, Cause, causes_of, roots_of
from iss_assets.settings import Settings

QUERIES: Final = ("enrollment", "quality", "duplicates")


def report_cause(data: Data, settings: Settings, *, cause: Cause) -> Finding:
    """Find the videos with a cause that no other cause explains.

    It is an error if none of the patient's videos is usable and this cause is the reason for at least one of them.
    """
    rows = data["quality"]
    found = {r["video_id"]: raised for r in rows if (raised := causes_of(r["flags"]).get(cause.check))}
    hit = [r for r in rows if r["video_id"] in found]
    lost = [
        r["video_id"]
        for r in hit
        if not r["usable"] and roots_of(r["unusable_reason"], r["flags"]) & {*found[r["video_id"]]}
    ]
    everything = bool(lost) and not any(r["usable"] for r in rows)
    return found_in(
        found,
        len(rows),
        f"no video flagged {' or '.join(cause.flags)}",
        {
            "not usable": len(lost),
            "usable videos": sum(r["usable"] for r in rows),
            "by flag": dict(Counter(flag for raised in found.values() for flag in raised)),
            "also flagged": {
                r["video_id"]: others
                for r in hit
                if (others := _explained_by(r["flags"], found[r["video_id"]]))
            },
            "measures": {r["video_id"]: _measures(r["measures"], cause) for r in hit[:20]},
        },
        severity="ERROR" if everything else None,
        lost=everything,
    )


def _explained_by(flags: Sequence[str], raised: Sequence[str]) -> list[str]:
    """Return the flags of a video that the raised ones explain."""
    return [flag for flag in flags if flag not in raised and roots_of(flag, flags) & {*raised}]


def _measures(text: str, cause: Cause) -> dict[str, Any]:
    """Return the measures named after one of the flags: ``dark_share`` for ``dark``."""
    return {
        name: round(value, 4)
        for name, value in json.loads(text).items()
        if isinstance(value, int | float) and any(name.startswith(flag) for flag in cause.flags)
    }


def duplicate_files(data: Data, settings: Settings, *, cause: Cause) -> Finding:
    """Find copies; an error if a file was submitted for two patients, because one of them is then another person's."""
    found = report_cause(data, settings, cause=cause)
    twins: list[Row] = [r for r in data["duplicates"] if r["video_id"] in found.affected]
    own = {r["patient_id"] for r in data["enrollment"]}
    strangers = sorted({r["other_patient_id"] for r in twins} - own)
    return Finding(
        found.passed,
        found.affected,
        {
            **found.numbers,
            "same as": sorted({r["other_video_id"] for r in twins})[:50],
            "other patients": strangers,
        },
        found.threshold,
        severity="ERROR" if strangers else found.severity,
        lost=found.lost,
    )


RULES: Final[dict[str, Rule]] = {
    cause.check: partial(duplicate_files if cause.check == "duplicate_files" else report_cause, cause=cause)
    for cause in CAUSES
}
