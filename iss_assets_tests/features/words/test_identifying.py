from __future__ import annotations

import pytest

from iss_assets.features.words.identifying import identifying_spans
from iss_assets.features.words.transcription import Word
from iss_assets.schemas.words import SPAN_KINDS
from iss_assets_tests.features.words.speech import needs_speech

pytestmark = needs_speech


def flagged(text: str, language: str | None = "en") -> list[tuple[str, str]]:
    words = [Word(word, number, number + 0.4, 0.9) for number, word in enumerate(text.split())]
    return [
        (span.kind, " ".join(word.text for word in words[span.first : span.last + 1]))
        for span in identifying_spans(words, language)
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("My name is Margaret Ellis, and I hurt.", [("person", "Margaret Ellis,")]),
        ("Dr. Nguyen changed the patch.", [("person", "Dr. Nguyen")]),
        ("My friend Priya sent a card.", [("person", "Priya")]),
        ("I live on Maple Street now.", [("street", "Maple Street")]),
        ("We moved from 24 Birch Road to Seattle.", [("street", "24 Birch Road"), ("place", "Seattle.")]),
        ("Call me at 555-217-4412 tonight.", [("phone", "555-217-4412")]),
        (
            "It is five five five, two one seven, four four one two.",
            [("phone", "five five five, two one seven, four four one two.")],
        ),
        ("The zip code is 97201.", [("number", "97201.")]),
        ("I was born on 12/03/1952.", [("number", "12/03/1952.")]),
        ("Write to m.ellis@example.com please.", [("email", "m.ellis@example.com")]),
        ("Write to ellis at example dot com please.", [("email", "ellis at example dot com")]),
    ],
)
def test_what_names_somebody_or_some_place_is_flagged(text: str, found: list[tuple[str, str]]) -> None:
    assert flagged(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "I walked down the street for half an hour.",
        "It was 10,000 steps, and I rate it 6.5 of 10.",
        "I took ten milligrams at eight and slept four hours.",
        "My daughter came by, and my husband drove.",
        "The pain went from one to five, then to three.",
        "",
    ],
)
def test_what_names_nobody_is_not(text: str) -> None:
    assert flagged(text) == []


def test_other_languages_have_numbers_and_addresses_only() -> None:
    assert flagged("Me chamo João, ligue para 11 98765 4321.", "pt") == [("phone", "11 98765 4321.")]


def test_most_of_what_a_story_gives_away_is_found() -> None:
    story = (
        "Good morning, this is Harold Jennings from Baltimore. My wife Ruth and I used to live at 118 Juniper Lane in Columbus. "
        "Dr. Patel at Saint Agnes Hospital sent me to Johns Hopkins. Our son Kevin works for Boeing in Seattle. The nurse, "
        "Maria Gonzalez, calls me every Friday at 410-555-0199. I grew up near Lake Erie, in a small town called Vermilion. "
        "My neighbor Walter drives me along Charles Street to the clinic. Send it to harold.jennings@example.org."
    )
    wanted = (
        "Harold Jennings",
        "Baltimore",
        "Ruth",
        "118 Juniper Lane",
        "Columbus",
        "Patel",
        "Agnes",
        "Hopkins",
        "Kevin",
        "Boeing",
        "Seattle",
        "Maria Gonzalez",
        "410-555-0199",
        "Lake Erie",
        "Vermilion",
        "Walter",
        "Charles Street",
        "harold.jennings@example.org",
    )
    found = " | ".join(text for _, text in flagged(story))
    missed = [name for name in wanted if name not in found]
    assert len(missed) <= 2, missed


def test_every_kind_of_the_table_is_found_and_no_other() -> None:
    story = (
        "My name is Margaret Ellis. We moved from Maple Street to Seattle, and I worked for Microsoft. "
        "Call me at 555-217-4412, or write to m.ellis@example.com. The zip code is 97201."
    )
    assert {kind for kind, _ in flagged(story)} == set(SPAN_KINDS)
