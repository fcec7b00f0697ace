"""Checks on Question 10: what a patient read aloud.

Pure functions from a patient's rows (``sql/prompt_readings.sql``) to a `Finding`. What counts as read is decided in
``features.prompts``.
"""

from __future__ import annotations

from typing import Final

from iss_assets.checks.findings import Data, Finding, Rule, found_in
from iss_assets.settings import Settings

QUERIES: Final = ("prompt_readings",)


def prompt_not_read(data: Data, settings: Settings) -> Finding:
    """Find readings in which none of the study's texts was read."""
    rows = [r for r in data["prompt_readings"] if r["read"] is not None]
    affected = {r["video_id"]: r for r in rows if not r["read"]}
    numbers = {
        "word error rate": {v: round(r["word_error_rate"], 2) for v, r in affected.items()},
        "words spoken": {v: r["words"] for v, r in affected.items()},
        "could not be assessed": len(data["prompt_readings"]) - len(rows),
    }
    threshold = f"a word error rate of at most {settings.prompt.read_at_most:g} for one of the texts"
    return found_in(affected, len(rows), threshold, numbers)


def prompt_cut_short(data: Data, settings: Settings) -> Finding:
    """Find readings that lack the beginning or the end of the text."""
    read = [r for r in data["prompt_readings"] if r["read"]]
    rows = [r for r in read if r["cut_short"] is not None]
    affected = {r["video_id"]: round(r["share_read"], 2) for r in rows if r["cut_short"]}
    threshold = f"at least {settings.prompt.whole_share:.0%} of the text"
    numbers = {"share of the text": affected, "could not be assessed": len(read) - len(rows)}
    return found_in(affected, len(rows), threshold, numbers)


def prompt_not_assessed(data: Data, settings: Settings) -> Finding:
    """Find readings of which the recognized words do not say whether a text was read, or all of it; none without texts."""
    rows = [r for r in data["prompt_readings"] if r["texts"]]
    affected = [r["video_id"] for r in rows if r["read"] is None or (r["read"] and r["cut_short"] is None)]
    return found_in(affected, len(rows), "enough recognized words in every reading")


def prompt_unknown(data: Data, settings: Settings) -> Finding:
    """Find readings whose survey names a text that the study does not have, or another one than was read."""
    rows = [r for r in data["prompt_readings"] if r["prompt_id"] is not None]
    unknown = [r["video_id"] for r in rows if not r["prompt_known"]]
    another = [
        r["video_id"] for r in rows if r["prompt_known"] and r["read"] and r["text_read"] != r["prompt_id"]
    ]
    numbers = {"not in prompts.csv": len(unknown), "another text was read": len(another)}
    return found_in([*unknown, *another], len(rows), "the text that surveys.csv names", numbers)


RULES: Final[dict[str, Rule]] = {
    rule.__name__: rule for rule in (prompt_not_read, prompt_cut_short, prompt_not_assessed, prompt_unknown)
}
