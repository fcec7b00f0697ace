"""Single cells: what they are taken for, and what is not guessed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from iss_assets.study import cells
from iss_assets.study.cells import CellError


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("+02:00", 120),
        ("-5", -300),
        ("UTC-05:00", -300),
        ("gmt+1", 60),
        ("+0530", 330),
        ("Z", 0),
        ("0", 0),
        ("-14:00", -840),
        ("\u22123:30", -210),
        ("02:00", 120),
    ],
)
def test_offsets_are_read_in_the_usual_ways(text: str, minutes: int) -> None:
    assert cells.utc_offset(text) == minutes


@pytest.mark.parametrize("text", ["+15", "+14:30", "-300", "+02:60", "EST", "+2.5", "", "Europe/Berlin"])
def test_offsets_that_could_mean_two_things_or_nothing_are_refused(text: str) -> None:
    with pytest.raises(CellError) as caught:
        cells.utc_offset(text)
    assert caught.value.code == "bad_utc_offset"


@pytest.mark.parametrize("text", ["a", "S1", "2021-01-05_a.2", "x" * 64])
def test_submission_ids_of_the_pattern_are_taken(text: str) -> None:
    assert cells.submission_id(text) == text


@pytest.mark.parametrize(
    "text", ["", "..", ".a", "a.", "a/b", "a\\b", "con", "LPT1.x", "x" * 65, "a_prompt", "a b", "s1\n"]
)
def test_submission_ids_that_could_be_paths_or_devices_are_refused(text: str) -> None:
    with pytest.raises(CellError):
        cells.submission_id(text)


def test_a_moment_keeps_its_own_offset_before_the_patients() -> None:
    assert cells.moment("2021-01-05T09:05:00Z", 120) == (datetime(2021, 1, 5, 9, 5, tzinfo=UTC), False)
    found, borrowed = cells.moment("2021-01-05 09:05", 120)
    assert borrowed
    assert found == datetime(2021, 1, 5, 7, 5, tzinfo=UTC)


def test_whole_numbers_as_spreadsheets_write_them_are_scores() -> None:
    assert [cells.score(text) for text in ("0", "10", "3.0", "07", "4,00")] == [0, 10, 3, 7, 4]


def test_sex_and_skin_type_are_read_in_words_and_digits() -> None:
    assert [cells.sex(text) for text in ("m", "Female")] == ["M", "F"]
    assert [cells.skin_type(text) for text in ("iv", "6", "I")] == ["IV", "VI", "I"]
