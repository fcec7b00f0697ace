"""Checks on the words of a patient: none in a video in which somebody speaks, or in a language that is not the study's.

Pure functions from a patient's rows (``sql/words.sql``) to a `Finding`. None of them reads what was said.
"""

from __future__ import annotations

from typing import Final

from iss_assets.checks.findings import Data, Finding, Rule, found_in
from iss_assets.protocol.flags import SOUND_FLAGS
from iss_assets.settings import Settings

QUERIES: Final = ("words",)


def no_words(data: Data, settings: Settings) -> Finding:
    """Find videos with sound in which no word was recognized, and that no flag on the sound explains."""
    rows = data["words"]
    without = [r for r in rows if not r["words"]]
    affected = [r for r in without if not SOUND_FLAGS & {*r["flags"]}]
    numbers = {
        "explained by the sound's quality": len(without) - len(affected),
        "seconds of speech": {r["video_id"]: round(r["speech_s"], 1) for r in affected[:20]},
    }
    return found_in((r["video_id"] for r in affected), len(rows), "words in every video", numbers)


def other_language(data: Data, settings: Settings) -> Finding:
    """Find videos in a language that is not one of the study's, by enough words to be sure."""
    limits = settings.checks
    rows = [r for r in data["words"] if r["language"] is not None and r["words"] >= limits.language_words]
    affected = {r["video_id"]: r["language"] for r in rows if r["language"] not in limits.languages}
    wanted = ", ".join(limits.languages) or "any language"
    if not limits.languages:
        affected = {}
    return found_in(affected, len(rows), wanted, {"languages": affected})


RULES: Final[dict[str, Rule]] = {rule.__name__: rule for rule in (no_words, other_language)}
