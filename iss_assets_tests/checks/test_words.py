"""Checks on words: none recognized, or in another language than the study's. They know figures only."""

from __future__ import annotations

import pytest

from iss_assets.checks.words import other_language
from iss_assets.settings import CheckSettings, Settings
from iss_assets_tests.checks.conftest import GOOD, OTHER, InventedStudy

FIRST = "0001-00"


@pytest.fixture
def told(study: InventedStudy) -> InventedStudy:
    """A study in which every video has forty words of English."""
    study.sql(
        "insert into transcripts select video_id, patient_id, 'a secret', 40, 'en', 0.99, 0.9, 20.0, 0.0, 'whisper', 'f' "
        "from videos where status = 'ok'"
    )
    return study


def change(study: InventedStudy, what: str) -> None:
    study.sql(f"update transcripts set {what} where video_id = '{FIRST}'")


def test_videos_with_words_in_the_study_s_language_pass(told: InventedStudy) -> None:
    assert told.failing(GOOD, ("check_words",)) == told.failing(OTHER, ("check_words",)) == set()
    assert told.finding("transcripts", "no_words").numbers["checked"] == 8


def test_speech_without_a_word_is_reported_once_by_the_check_that_says_why(told: InventedStudy) -> None:
    change(told, "words = 0, text = '', language = null, word_probability = null, left_out_s = 20.0")
    found = told.finding("transcripts", "no_words")
    assert found.affected == (FIRST,)
    assert found.numbers["seconds of speech"] == {FIRST: 20.0}
    assert told.failing() == {"transcripts:no_words"}
    told.sql(f"update video_quality set flags = ['no_speech'] where video_id = '{FIRST}'")
    assert told.failing() == {"video_quality:no_sound"}
    assert told.finding("transcripts", "no_words").numbers["explained by the sound's quality"] == 1


@pytest.mark.parametrize(
    ("language", "words", "languages", "reported"),
    [
        ("pt", 40, ("en",), True),
        ("pt", 9, ("en",), False),
        ("pt", 40, ("en", "pt"), False),
        ("pt", 40, (), False),
        ("en", 40, ("en",), False),
    ],
)
def test_another_language_is_reported_if_enough_is_said(
    language: str, words: int, languages: tuple[str, ...], reported: bool
) -> None:
    row = {"video_id": FIRST, "language": language, "words": words, "flags": [], "speech_s": 20.0}
    found = other_language({"words": [row]}, Settings(checks=CheckSettings(languages=languages)))
    assert found.affected == ((FIRST,) if reported else ())
    assert found.passed is not reported
    assert found.numbers["languages"] == ({FIRST: "pt"} if reported else {})


def test_no_finding_holds_what_was_said(told: InventedStudy) -> None:
    change(told, "words = 0")
    told.sql("update transcripts set language = 'pt' where video_id = '0001-02'")
    for name in ("no_words", "other_language"):
        assert not told.finding("transcripts", name).passed
        assert "secret" not in str(told.finding("transcripts", name))
