"""Checks on the voices of a patient: not measured, implausible, or unlike the patient's other videos.

Pure functions from a patient's rows (``sql/voice.sql``) to a `Finding`.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Final

from iss_assets.checks.findings import Data, Finding, Rule, found_in
from iss_assets.protocol.flags import SOUND_FLAGS
from iss_assets.settings import Settings

QUERIES: Final = ("voice",)

_MIN_OTHERS: Final = 2
"""Other videos whose median is what a patient usually sounds like."""


def voice_not_measured(data: Data, settings: Settings) -> Finding:
    """Find videos with sound, but without a pitch, that no flag on the sound explains."""
    rows = data["voice"]
    without = [r for r in rows if r["f0_median_hz"] is None]
    affected = [r for r in without if not SOUND_FLAGS & {*r["flags"]}]
    numbers = {
        "explained by the sound's quality": len(without) - len(affected),
        "seconds of speech": {r["video_id"]: round(r["speech_s"], 1) for r in affected[:20]},
    }
    return found_in((r["video_id"] for r in affected), len(rows), "a pitch in every video", numbers)


def implausible_pitch(data: Data, settings: Settings) -> Finding:
    """Find videos whose median pitch no one speaks at."""
    low, high = settings.checks.pitch_lowest_hz, settings.checks.pitch_highest_hz
    rows = [r for r in data["voice"] if r["f0_median_hz"] is not None]
    affected = {
        r["video_id"]: round(r["f0_median_hz"], 1) for r in rows if not low <= r["f0_median_hz"] <= high
    }
    return found_in(affected, len(rows), f"{low:g} to {high:g} Hz", {"hertz": affected})


def pitch_unlike_other_videos(data: Data, settings: Settings) -> Finding:
    """Find videos whose pitch is far from that of the patient's other videos."""
    limit = settings.checks.pitch_change_semitones
    pitch = {
        r["video_id"]: 12 * math.log2(r["f0_median_hz"])
        for r in data["voice"]
        if r["f0_median_hz"] is not None
    }
    away = {}
    for video_id, semitones in pitch.items():
        others = [other for name, other in pitch.items() if name != video_id]
        if len(others) >= _MIN_OTHERS and abs(semitones - median(others)) > limit:
            away[video_id] = round(semitones - median(others), 1)
    return found_in(away, len(pitch), f"at most {limit:g} semitones", {"semitones": away})


RULES: Final[dict[str, Rule]] = {
    rule.__name__: rule for rule in (voice_not_measured, implausible_pitch, pitch_unlike_other_videos)
}
