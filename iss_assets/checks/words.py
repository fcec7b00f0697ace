"""Checks on the words of a patient: none while somebody speaks, words in a language that is not the study's, or tables of
words that do not fit one another.

Pure functions from a patient's rows (``sql/``) to a `Finding`. None of them reads what was said.
"""

from __future__ import annotations

from typing import Final

from iss_assets.checks.findings import Data, Finding, Rule, found_in
from iss_assets.protocol.flags import SOUND_FLAGS
from iss_assets.settings import Settings

QUERIES: Final = ("words", "word_tables")

_SLACK_S: Final = 1.0
"""Seconds by which the recognition may be wrong about when a word is said; it is within 0.06 s where that is known."""


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


def speech_without_words(data: Data, settings: Settings) -> Finding:
    """Find videos with words in which somebody also speaks for long without one."""
    limits = settings.checks
    rows = [r for r in data["words"] if r["words"]]
    missing = {r["video_id"]: round(r["wordless_s"] or 0.0, 1) for r in rows}
    affected = {
        r["video_id"]: missing[r["video_id"]]
        for r in rows
        if missing[r["video_id"]] > limits.wordless_limit_s(r["speech_s"])
    }
    threshold = f"at most {limits.wordless_share:.0%} of the speech and {limits.wordless_s:g} s without words"
    return found_in(affected, len(rows), threshold, {"seconds": affected})


def other_language(data: Data, settings: Settings) -> Finding:
    """Find videos in a language that is not one of the study's, by enough words to be sure."""
    limits = settings.checks
    rows = [r for r in data["words"] if r["language"] is not None and r["words"] >= limits.language_words]
    affected = {r["video_id"]: r["language"] for r in rows if r["language"] not in limits.languages}
    wanted = ", ".join(limits.languages) or "any language"
    if not limits.languages:
        affected = {}
    return found_in(affected, len(rows), wanted, {"languages": affected})


def words_out_of_time(data: Data, settings: Settings) -> Finding:
    """Find videos whose words are not said one after the other, or after the end, or are not as many as the text has."""
    rows = data["word_tables"]
    affected = [
        r["video_id"]
        for r in rows
        if r["stored"] != (r["words"] or 0)
        or r["ends_first"]
        or (r["back_s"] or 0.0) > _SLACK_S
        or (r["stored"] and r["last_end_s"] > (r["ends_s"] or 0.0) + _SLACK_S)
    ]
    threshold = (
        f"words one after the other and before the video's end, within {_SLACK_S:g} s, as many as in the text"
    )
    return found_in(affected, len(rows), threshold)


def spans_outside_text(data: Data, settings: Settings) -> Finding:
    """Find videos in which a stretch of words points at words that are not there."""
    rows = [r for r in data["word_tables"] if r["spans"]]
    affected = [
        r["video_id"]
        for r in rows
        if r["turned_round"] or r["last_index"] is None or r["last_word"] > r["last_index"]
    ]
    return found_in(affected, len(rows), "each stretch within the words of its video")


def text_features_of_other_words(data: Data, settings: Settings) -> Finding:
    """Find videos with a text and no figures about it, figures and no text, or figures about another number of words."""
    rows = [r for r in data["word_tables"] if r["words"] is not None or r["figures_of"] is not None]
    affected = [r["video_id"] for r in rows if r["words"] != r["figures_of"]]
    return found_in(affected, len(rows), "figures about as many words as the text has")


RULES: Final[dict[str, dict[str, Rule]]] = {
    "transcripts": {rule.__name__: rule for rule in (no_words, speech_without_words, other_language)},
    "transcript_words": {"words_out_of_time": words_out_of_time},
    "transcript_spans": {"spans_outside_text": spans_outside_text},
    "text_features": {"text_features_of_other_words": text_features_of_other_words},
}
"""Table to its rules."""
