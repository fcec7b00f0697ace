"""Which of the study's texts was read aloud."""

from __future__ import annotations

import random

import pytest

from iss_assets.features.prompts import (
    PromptReading,
    assess_reading,
    comparable_words,
    part_read,
    word_error_rate,
)
from iss_assets.settings import PromptSettings

TEXTS = {
    "wind": "The north wind and the sun were arguing about which of them was stronger, when a traveler came along, "
    "wrapped in a warm coat. They agreed that whoever first made the traveler take off his coat had won.",
    "garden": "On Monday we planted 25 seeds in the garden behind Mrs. O'Neil's house. By the 3rd of May, the first green "
    "leaves had come up. It was 7:30 in the morning, and nobody else was awake.",
    "lake": "The lake was still. A small boat lay at the end of the pier, and two ducks slept beside it. In winter we "
    "used to walk across the ice, but now the water was warm and clear.",
}
NARRATIVE = (
    "Well, today was not so good. I woke up at four because of my back, and the pain in the morning was about a six. "
    "The pills help, but they make me tired, and I could not walk the dog."
)
SETTINGS = PromptSettings()


def assess(spoken: str, language: str | None = "en") -> PromptReading:
    return assess_reading(TEXTS, spoken, language, SETTINGS)


@pytest.mark.parametrize("text_id", sorted(TEXTS))
def test_a_text_that_was_read_word_by_word_is_found(text_id: str) -> None:
    assert assess(TEXTS[text_id]) == PromptReading(
        text_id, 0.0, True, False, 1.0, len(comparable_words(TEXTS[text_id], "en"))
    )


def test_it_does_not_matter_how_a_transcript_writes_it() -> None:
    spoken = (
        "on monday we planted twenty-five seeds in the garden behind mrs oneils house by the third of may the first "
        "green leaves had come up it was seven thirty in the morning and nobody else was awake"
    )
    assert assess(spoken).word_error_rate == 0
    assert assess(spoken.upper().replace("TWENTY-FIVE", "25")).word_error_rate == 0


def test_a_reading_with_slips_is_still_a_reading() -> None:
    spoken = "um the lake was was still a little boat lay at the end of the beer and two ducks slept beside it in winter "
    spoken += "we used to walk over the ice but now the water was warm and clear"
    reading = assess(spoken)
    assert (reading.text_read, reading.read, reading.cut_short) == ("lake", True, False)
    # um, was, little, beer, over: five of 37 words
    assert reading.word_error_rate == pytest.approx(5 / 37)


def test_a_narrative_is_not_a_reading() -> None:
    reading = assess(NARRATIVE)
    assert (reading.text_read, reading.read, reading.cut_short, reading.share_read) == (
        None,
        False,
        None,
        None,
    )
    assert reading.word_error_rate is not None
    assert reading.word_error_rate > 0.87
    assert not assess("").read
    assert assess("").words == 0
    assert assess("").word_error_rate == 1


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("missing", ["end", "beginning"])
def test_a_reading_that_was_cut_short_says_so(share: float, missing: str) -> None:
    words = TEXTS["wind"].split()
    kept = int(len(words) * share)
    reading = assess(" ".join(words[:kept] if missing == "end" else words[-kept:]))
    assert (reading.text_read, reading.read, reading.cut_short) == ("wind", True, True)
    assert reading.share_read == pytest.approx(kept / len(words))
    assert reading.word_error_rate == pytest.approx(1 - kept / len(words))


def test_speech_without_words_leaves_open_what_was_read_and_takes_nothing_back_that_was_heard() -> None:
    def heard(spoken: str) -> PromptReading:
        return assess_reading(TEXTS, spoken, "en", SETTINGS, much_without_words=True)

    whole, half = heard(TEXTS["lake"]), heard(" ".join(TEXTS["wind"].split()[:20]))
    assert whole == assess(TEXTS["lake"])
    assert (half.text_read, half.read, half.cut_short) == ("wind", True, None)
    assert half.share_read == pytest.approx(20 / len(TEXTS["wind"].split()))
    assert heard(NARRATIVE) == PromptReading(words=len(comparable_words(NARRATIVE, "en")))
    assert heard("") == PromptReading(words=0)


def test_a_few_words_of_a_text_are_not_a_reading() -> None:
    assert not assess("The north wind and the").read
    assert not assess("I was in the garden").read


def test_a_whole_reading_that_goes_on_is_not_cut_short() -> None:
    reading = assess(f"Okay. {TEXTS['lake']} That is all, thank you.")
    assert (reading.text_read, reading.cut_short) == ("lake", False)


@pytest.mark.parametrize("text_id", sorted(TEXTS))
@pytest.mark.parametrize("first", [0.3, 0.6, 1.0])
def test_who_begins_again_has_read_the_text(text_id: str, first: float) -> None:
    words = TEXTS[text_id].split()
    begun = " ".join(words[: round(first * len(words))])
    reading = assess(f"{begun} oh sorry once more {TEXTS[text_id]}")
    assert (reading.text_read, reading.read, reading.cut_short) == (text_id, True, False)
    assert reading.word_error_rate is not None and reading.word_error_rate > first, (
        "what was added still counts"
    )


def test_a_long_narrative_around_a_text_does_not_hide_it_and_is_none_alone() -> None:
    talk = f"{NARRATIVE} {NARRATIVE}"
    reading = assess(f"{talk} {TEXTS['garden']} {talk}")
    assert (reading.text_read, reading.read, reading.cut_short) == ("garden", True, False)
    assert not assess(f"{talk} {talk} {talk}").read


def test_without_texts_nothing_is_known() -> None:
    words = len(comparable_words(NARRATIVE, "en"))
    assert assess_reading({}, NARRATIVE, "en", SETTINGS) == PromptReading(words=words)


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("de", "Am 3. Mai um 14:30 Uhr sah Frau Groß 21 Vögel.", "am dritten mai um vierzehn dreißig uhr sah frau gross einundzwanzig vögel"),
        ("fr", "L’été, il y a 97 oiseaux à Nîmes.", "l'ete il y a quatre-vingt-dix-sept oiseaux a nimes"),
        ("es", "¿Cuántos años? Treinta y dos.", "cuantos años 32"),
        ("es", "A las 22 horas", "a las veintidós horas"),
        ("it", "C'è un gatto; 1.200 topi.", "c’è un gatto mille duecento topi"),
        ("nl", "Er waren 45 eenden, 22 zwanen.", "er waren vijfenveertig eenden tweeëntwintig zwanen"),
        ("pt", "São 16 patos.", "sao dezesseis patos"),
        ("zh", "北风和太阳。", "北 风 和 太 阳"),
        ("ja", "北風と太陽、ガラス", "北風と太陽 ｶﾞﾗｽ"),
        ("hi", "मेरे पास १२ किताबें हैं।", "मेरे पास 12 किताबें हैं"),
        ("ar", "مَرْحَبًا ٢٥", "مرحبا 25"),
        ("ru", "Ещё ЁЖ", "еще еж"),
        ("tr", "IŞIK İstanbul", "ışık istanbul"),
        (None, "1,000 “quotes” — don’t!", "1000 quotes dont"),
    ],
)  # fmt: skip
def test_languages_scripts_and_numbers(language: str | None, written: str, spoken: str) -> None:
    assert comparable_words(written, language) == comparable_words(spoken, language)
    assert len(comparable_words(written, language)) >= 2


def test_words_that_differ_stay_different() -> None:
    assert comparable_words("25 seeds", "en") != comparable_words("26 seeds", "en")
    assert comparable_words("был дом", "ru") != comparable_words("был том", "ru")
    assert comparable_words("आप", "hi") != comparable_words("आपका", "hi")


def slow_distance(a: list[str], b: list[str]) -> int:
    """Levenshtein's distance, cell by cell."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def test_the_fast_distances_are_those_of_the_definition() -> None:
    chance = random.Random(7)
    for _ in range(150):
        text = chance.choices("abcd", k=chance.randint(1, 9))
        spoken = chance.choices("abcd", k=chance.randint(0, 9))
        assert word_error_rate(text, spoken) == slow_distance(text, spoken) / len(text)
        parts = {
            (begin, end): slow_distance(text[begin:end], spoken)
            for begin in range(len(text) + 1)
            for end in range(begin, len(text) + 1)
        }
        found = part_read(text, spoken)
        assert found.errors == min(parts.values())
        longest = max(end - begin for (begin, end), errors in parts.items() if errors == found.errors)
        assert len(found.words) == longest
        assert parts[found.words.start, found.words.stop] == found.errors
