from __future__ import annotations

import pytest

from iss_assets.features.words.spoken import WordErrors, spoken_words, word_errors


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It's 7 out of 10.", "it's seven out of ten"),
        ("I took 2.5 mg at 8 o'clock", "i took two point five mg at eight o'clock"),
        ("on the 21st, the 3rd and the 12th", "on the twenty first the third and the twelfth"),
        ("1,250 steps and 10,000 more", "one thousand two hundred fifty steps and ten thousand more"),
        ("since 1985, 2005 and 2021", "since nineteen eighty five two thousand five and twenty twenty one"),
        ("in 2000 and 1905", "in two thousand and nineteen oh five"),
        ("ZIP 97201", "zip nine seven two zero one"),
        ("50% better, right?", "fifty percent better right"),
        ("a well-known, 'quoted' thing…", "a well known quoted thing"),
        ("l’été à Köln", "l'été à köln"),
        ("", ""),
    ],
)
def test_text_is_compared_as_it_is_spoken(written: str, spoken: str) -> None:
    assert spoken_words(written) == spoken.split()


def test_errors_are_counted_by_kind() -> None:
    reference = ["the", "rainbow", "is", "a", "division", "of", "white", "light"]
    assert word_errors(reference, reference) == WordErrors(0, 0, 0, 8)
    assert word_errors(
        reference, ["the", "rainbow", "is", "division", "of", "bright", "light"]
    ) == WordErrors(1, 1, 0, 8)
    assert word_errors(
        reference, ["um", "the", "the", "rainbow", "is", "a", "division", "of", "white", "light"]
    ) == WordErrors(0, 0, 2, 8)
    assert word_errors(reference, []).rate == 1.0
    assert word_errors(reference, ["no"] * 12).rate == 1.5
    assert word_errors([], []).rate == 0.0
    assert word_errors([], ["um"]).rate == 1.0


def test_a_cut_reading_misses_words_and_adds_none() -> None:
    reference = [f"w{i}" for i in range(60)]
    assert word_errors(reference, reference[:20]) == WordErrors(0, 40, 0, 60)
