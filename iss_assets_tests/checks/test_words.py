"""Checks on words: none recognized, in another language than the study's, tables that do not fit. They know figures only."""

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
        "insert into transcripts select video_id, patient_id, 'a secret', 40, 'en', 0.99, 0.9, 20.0, 0.0, 0.0, 'whisper', 'f' "
        "from videos where status = 'ok'",
        "insert into transcript_words select video_id, patient_id, n, 'secret', 0.3 * n, 0.3 * n + 0.2, 0.9, 'f' "
        "from videos, range(40) as numbers (n) where status = 'ok'",
        f"insert into transcript_spans values ('{FIRST}', '{GOOD}', 38, 39, 'person', 'spacy', 'f')",
        "insert into text_features (video_id, patient_id, words, pauses, fingerprint) "
        "select video_id, patient_id, 40, 0, 'f' from videos where status = 'ok'",
    )
    return study


def change(study: InventedStudy, what: str) -> None:
    study.sql(f"update transcripts set {what} where video_id = '{FIRST}'")


def test_videos_with_words_in_the_study_s_language_pass(told: InventedStudy) -> None:
    assert told.failing(GOOD, ("check_words",)) == told.failing(OTHER, ("check_words",)) == set()
    for table, check, checked in (
        ("transcripts", "no_words", 8),
        ("transcripts", "speech_without_words", 8),
        ("transcript_words", "words_out_of_time", 8),
        ("transcript_spans", "spans_outside_text", 1),
        ("text_features", "text_features_of_other_words", 8),
    ):
        assert told.finding(table, check).numbers["checked"] == checked


def test_speech_without_a_word_is_reported_once_by_the_check_that_says_why(told: InventedStudy) -> None:
    change(told, "words = 0, text = '', language = null, word_probability = null, left_out_s = 20.0")
    for table in ("transcript_words", "transcript_spans"):
        told.sql(f"delete from {table} where video_id = '{FIRST}'")
    told.sql(f"update text_features set words = 0 where video_id = '{FIRST}'")
    found = told.finding("transcripts", "no_words")
    assert found.affected == (FIRST,)
    assert found.numbers["seconds of speech"] == {FIRST: 20.0}
    assert told.failing() == {"transcripts:no_words"}
    told.sql(f"update video_quality set flags = ['no_speech'] where video_id = '{FIRST}'")
    assert told.failing() == {"video_quality:no_sound"}
    assert told.finding("transcripts", "no_words").numbers["explained by the sound's quality"] == 1


@pytest.mark.parametrize(
    ("speech_s", "wordless_s", "reported"),
    [
        (20.0, 4.1, True),
        (20.0, 3.9, False),
        # half an hour in which a quarter of a minute is lost
        (1800.0, 15.0, True),
        (1800.0, 9.9, False),
        # made before it was looked for
        (20.0, "null", False),
    ],
)
def test_a_part_of_the_speech_without_words_is_reported(
    told: InventedStudy, speech_s: float, wordless_s: float | str, reported: bool
) -> None:
    change(told, f"speech_s = {speech_s}, wordless_s = {wordless_s}")
    assert told.failing() == ({"transcripts:speech_without_words"} if reported else set())
    found = told.finding("transcripts", "speech_without_words")
    assert found.numbers["seconds"] == ({FIRST: wordless_s} if reported else {})


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


OF_FIRST = f"where video_id = '{FIRST}'"


@pytest.mark.parametrize(
    ("wrong", "failing"),
    [
        (f"delete from transcript_words {OF_FIRST} and word_index = 7", "words_out_of_time"),
        (f"update transcript_words set start_s = 9.0 {OF_FIRST} and word_index = 7", "words_out_of_time"),
        (f"update transcript_words set end_s = 17.5 {OF_FIRST} and word_index = 39", "words_out_of_time"),
        (f"update transcript_words set end_s = start_s - 0.1 {OF_FIRST} and word_index = 7", "words_out_of_time"),
        (f"update transcript_spans set last_word = 40 {OF_FIRST}", "spans_outside_text"),
        (f"update transcript_spans set last_word = 37 {OF_FIRST}", "spans_outside_text"),
        (f"update text_features set words = 39 {OF_FIRST}", "text_features_of_other_words"),
        (f"delete from text_features {OF_FIRST}", "text_features_of_other_words"),
    ],
)  # fmt: skip
def test_tables_of_words_that_do_not_fit_fail_the_check_of_that_table_and_no_other(
    told: InventedStudy, wrong: str, failing: str
) -> None:
    told.sql(wrong)
    ((check, affected, severity),) = told.failing_with()
    assert (check, affected, severity) == (failing, (FIRST,), "WARN")


@pytest.mark.parametrize(
    "allowed",
    [
        # said before the word before it, and after the end, by less than recognition may be wrong
        f"update transcript_words set start_s = 2.9, end_s = 3.0 {OF_FIRST} and word_index = 7",
        f"update transcript_words set end_s = 16.9 {OF_FIRST} and word_index = 39",
        f"delete from transcript_spans {OF_FIRST}",
    ],
)
def test_times_that_are_a_little_off_and_texts_that_name_nobody_pass(
    told: InventedStudy, allowed: str
) -> None:
    told.sql(allowed)
    assert told.failing() == set()


@pytest.mark.parametrize("kept", ["text_features", "transcript_words", "transcript_spans"])
def test_a_table_of_words_whose_transcript_is_gone_is_noticed(told: InventedStudy, kept: str) -> None:
    for table in ("transcripts", "text_features", "transcript_words", "transcript_spans"):
        if table != kept:
            told.sql(f"delete from {table} {OF_FIRST}")
    assert {asset.split(":")[0] for asset in told.failing()} == {kept}
