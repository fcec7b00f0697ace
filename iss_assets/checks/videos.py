"""Rules on submitted videos and their sampled pictures: unreadable, odd length, no sound, copies, frozen, incomplete.

Belongs here: pure functions from a patient's rows (``sql/``) to a `Finding`.
Does not belong here: reading, words about checks (``catalogue``), what the pictures show (``quality``, ``faces``).
"""

from __future__ import annotations

from typing import Final

from iss_assets.checks.findings import Data, Finding, Rule, found_in
from iss_assets.settings import Settings

QUERIES: Final = ("enrollment", "videos", "duplicates")


def picture_parameters(settings: Settings) -> dict[str, float]:
    """Give the parameters of ``sql/frame_counts.sql``."""
    quality = settings.quality
    return {
        "still_motion": quality.still_motion,
        "still_frames": round(quality.still_seconds * settings.video.fps),
    }


def unreadable_videos(data: Data, settings: Settings) -> Finding:
    """Find videos in which nothing can be seen."""
    rows = data["videos"]
    return found_in((r["video_id"] for r in rows if r["status"] != "ok"), len(rows), "none")


def no_usable_video(data: Data, settings: Settings) -> Finding:
    """Find a patient of whose videos not one can be read, like the paper's patient 0009."""
    rows = data["videos"]
    readable = sum(r["status"] == "ok" for r in rows)
    passed = readable > 0 or not rows
    affected = () if passed else tuple(r["video_id"] for r in rows)
    return Finding(passed, affected, {"videos": len(rows), "readable": readable}, "at least 1 readable")


def duration(data: Data, settings: Settings) -> Finding:
    """Find narratives outside 15 s to 3 min; the paper saw 3.5 to 136 s."""
    low, high = settings.quality.shortest_s, settings.quality.longest_s
    known = {
        r["video_id"]: r["duration_s"]
        for r in data["videos"]
        if r["status"] in ("ok", "too_short") and r["duration_s"] is not None
    }
    odd = {v: round(s, 1) for v, s in known.items() if not low <= s <= high}
    return found_in(odd, len(known), f"{low:g} to {high:g} s", {"seconds": odd})


def no_sound(data: Data, settings: Settings) -> Finding:
    """Find readable videos without a sound track."""
    rows = [r for r in data["videos"] if r["status"] == "ok"]
    silent = [r["video_id"] for r in rows if not r["has_audio"]]
    return found_in(silent, len(rows), "each with sound")


def duplicate_files(data: Data, settings: Settings) -> Finding:
    """Find files that lie under two submissions, and as an error, under two patients."""
    rows = data["duplicates"]
    patients = sorted({r["other_patient_id"] for r in rows})
    own = {r["patient_id"] for r in data["enrollment"]}
    strangers = [p for p in patients if p not in own]
    return found_in(
        (r["video_id"] for r in rows),
        len(data["videos"]),
        "each file once",
        {"same as": sorted({r["other_video_id"] for r in rows})[:50], "other patients": strangers},
        severity="ERROR" if strangers else None,
    )


def frozen_picture(data: Data, settings: Settings) -> Finding:
    """Find videos that stand still, for seconds at a time, over too large a share."""
    quality = settings.quality
    shares = {r["video_id"]: r["still"] / r["steps"] for r in data["frame_counts"] if r["steps"]}
    frozen = {v: round(s, 3) for v, s in shares.items() if s >= quality.affected_share}
    limit = f"less than {quality.affected_share:.0%} in stretches of {quality.still_seconds:g} s or more"
    return found_in(frozen, len(shares), limit, {"still shares": frozen})


def frame_count(data: Data, settings: Settings) -> Finding:
    """Find videos whose number of samples does not fit their duration: they break off, or the duration lies."""
    tolerance, fps = settings.checks.frame_count_tolerance, settings.video.fps
    rows = [r for r in data["frame_counts"] if r["duration_s"]]
    wrong = {}
    for row in rows:
        expected = min(row["duration_s"], settings.video.max_seconds) * fps
        if abs(row["frames"] - expected) > max(fps / 2, tolerance * expected):
            wrong[row["video_id"]] = {"frames": row["frames"], "expected": round(expected)}
    return found_in(
        wrong, len(rows), f"within {tolerance:.0%} or half a second of {fps:g} a second", {"counts": wrong}
    )


RULES: Final[dict[str, Rule]] = {
    rule.__name__: rule for rule in (unreadable_videos, no_usable_video, duration, no_sound, duplicate_files)
}
FRAME_RULES: Final[dict[str, Rule]] = {rule.__name__: rule for rule in (frozen_picture, frame_count)}
