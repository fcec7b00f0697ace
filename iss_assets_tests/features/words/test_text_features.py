from __future__ import annotations

from pathlib import Path

import pytest

from iss_assets.features.words.text_features import text_features, word_form
from iss_assets.features.words.transcription import Transcript, Word
from iss_assets.features.words.word_lists import FIRST_PERSON, HESITATIONS, PAIN_WORDS


def spoken(
    text: str, *, step_s: float = 0.5, language: str | None = "en", gaps: dict[int, float] | None = None
) -> Transcript:
    """Return a transcript in which every word takes 0.4 s and begins `step_s` after the one before, plus gaps by number."""
    words, begin = [], 1.0
    for number, word in enumerate(text.split()):
        begin += (gaps or {}).get(number, 0.0)
        words.append(Word(word, round(begin, 3), round(begin + 0.4, 3), 0.9))
        begin += step_s
    return Transcript(tuple(words), text, language)


def test_words_are_counted_by_list() -> None:
    found = text_features(spoken("I've, um, I mean: my back Hurts. Uh... a burning pain, says Imelda"), 0.5)
    assert found.words == 13
    assert found.hesitations == 2
    assert found.pain_words == 3
    assert found.pain_word_share == pytest.approx(3 / 13)
    assert found.first_person_share == pytest.approx(3 / 13)


def test_speed_and_pauses_come_from_the_times_of_the_words() -> None:
    found = text_features(spoken("one two three four five six", gaps={2: 1.0, 4: 0.45}), 0.5)
    # the last word begins at 1 + 5 * 0.5 + 1.45 and ends 0.4 s later
    assert found.words_per_minute == pytest.approx(6 / 4.35 * 60)
    assert found.pauses == 2
    assert found.longest_pause_s == pytest.approx(1.1)
    assert found.pause_share == pytest.approx((1.1 + 0.55) / 4.35)
    assert text_features(spoken("one two three four five six", gaps={2: 1.0, 4: 0.45}), 0.6).pauses == 1


def test_lists_of_another_language_are_not_applied() -> None:
    found = text_features(spoken("minha dor me mata um pouco", language="pt"), 0.5)
    assert (found.hesitations, found.first_person_share, found.pain_words, found.pain_word_share) == (
        None,
    ) * 4
    assert found.words == 6
    assert found.words_per_minute is not None


def test_too_little_speech_has_no_speed() -> None:
    found = text_features(spoken("just this"), 0.5)
    assert (found.words, found.words_per_minute, found.pause_share, found.longest_pause_s) == (
        2,
        None,
        None,
        None,
    )
    nothing = text_features(Transcript(), 0.5)
    assert (nothing.words, nothing.pauses, nothing.pain_words, nothing.first_person_share) == (
        0,
        0,
        None,
        None,
    )


def test_lists_hold_words_as_they_are_compared() -> None:
    for words in (HESITATIONS, FIRST_PERSON, PAIN_WORDS):
        assert {word_form(word) for word in words} == words


def test_the_docs_list_every_pain_word() -> None:
    page = (Path(__file__).parents[3] / "docs" / "words.md").read_text("utf-8")
    listed = page.split("<!-- pain words -->")[1]
    assert set(listed.replace(",", " ").replace(".", " ").split()) == PAIN_WORDS
