"""Single cells: what they are taken for, and what is not guessed."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from iss_assets.intake import cells
from iss_assets.intake.cells import CellError


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


@pytest.mark.parametrize(
    ("text", "clock", "minutes"),
    [
        ("2021-01-05T09:05:00Z", datetime(2021, 1, 5, 9, 5), 0),
        ("2021-01-05 09:05:00 UTC", datetime(2021, 1, 5, 9, 5), 0),
        ("2021-01-05t09:05z", datetime(2021, 1, 5, 9, 5), 0),
        ("2021-01-05 09:05", datetime(2021, 1, 5, 9, 5), None),
        ("2021-01-05T09:05:07,25", datetime(2021, 1, 5, 9, 5, 7, 250000), None),
        ("2021-01-05T09:05:07.123456789+0530", datetime(2021, 1, 5, 9, 5, 7, 123456), 330),
        ("2021-01-05 09:05:07 -00:30", datetime(2021, 1, 5, 9, 5, 7), -30),
        ("2021-01-05T09:05:07-05", datetime(2021, 1, 5, 9, 5, 7), -300),
        ("2021-01-05T09:05:07\u221203:30", datetime(2021, 1, 5, 9, 5, 7), -210),
        ("2020-12-31T23:59:59+14:00", datetime(2020, 12, 31, 23, 59, 59), 840),
        ("2021-01-01T00:00:00-14:00", datetime(2021, 1, 1), -840),
        ("2021-07-05T09:05:00-04:00[America/New_York]", datetime(2021, 7, 5, 9, 5), -240),
        ("2021-01-05T09:05:00+5:30", datetime(2021, 1, 5, 9, 5), 330),
        ("2021-01-05 9:05", datetime(2021, 1, 5, 9, 5), None),
        ("2021-01-05 09:05:00 PM", datetime(2021, 1, 5, 21, 5), None),
        ("2021-01-05 12:30 AM", datetime(2021, 1, 5, 0, 30), None),
        ("2021-01-05 12:30 p.m.", datetime(2021, 1, 5, 12, 30), None),
        ("2021/01/05 7:05:33 PM GMT-5", datetime(2021, 1, 5, 19, 5, 33), -300),
        ("2021/1/5 7:05:33 am UTC+5:45", datetime(2021, 1, 5, 7, 5, 33), 345),
        ("5-Jan-2021 20:05", datetime(2021, 1, 5, 20, 5), None),
    ],
)
def test_times_are_read_as_they_are_written(text: str, clock: datetime, minutes: int | None) -> None:
    found = cells.moment(text)
    assert (found.clock, found.offset_minutes) == (clock, minutes)


@pytest.mark.parametrize(
    "text",
    [
        "2021-01-05",
        "2021-02-29T09:05:00Z",
        "2021-01-05T25:05:00Z",
        "2021-01-05T09:60:00Z",
        "2021-01-05T09:05:00+05:60",
        "2021-01-05T09:05:00+14:30",
        "2021-01-05T09:05:00+530",
        "2021-01-05 13:05 PM",
        "2021-01-05 0:05 AM",
        "1/5/2021 9:05",
        "5.1.2021 9:05",
        "1/5/21 9:05",
        "2021-01/05 9:05",
        "2021-01-059:05",
        "44201.3784722222",
        "2021-01-05T09:05:00[America/New_York]",
        "2021-01-05T09:05:00EST",
        "20210105T090500Z",
        "1999-12-31T23:59:59Z",
        "2101-01-01T00:00:00Z",
        "٢٠٢١-01-05T09:05:00Z",
        "2021-01-05T09:05:00Z; drop table patients",
    ],
)
def test_times_that_are_none_or_could_mean_two_things_are_refused(text: str) -> None:
    with pytest.raises(CellError) as caught:
        cells.moment(text)
    assert caught.value.code == "bad_time"


@pytest.mark.parametrize("text", ["2021-01-11", "2021-01-11 00:00:00", "2021-01-11T00:00:00.000"])
def test_a_day_may_be_followed_by_midnight(text: str) -> None:
    assert cells.day(text) == date(2021, 1, 11)


@pytest.mark.parametrize("text", ["2021-01-11T22:00:00", "2021-01-11T00:00:00Z", "2021-01-11T"])
def test_a_day_with_any_other_time_is_refused(text: str) -> None:
    with pytest.raises(CellError):
        cells.day(text)


@pytest.mark.parametrize(
    "text", ["2021-1-11", "2021/01/11", "2021.1.11 0:00", "11-Jan-2021", "2021-01-11 12:00 AM"]
)
def test_days_that_can_mean_one_day_only_need_no_setting(text: str) -> None:
    assert cells.day(text) == date(2021, 1, 11)


@pytest.mark.parametrize("mark", ["/", "-", "."])
def test_whether_the_day_or_the_month_comes_first_is_reported_and_never_guessed(mark: str) -> None:
    on, clear = f"3{mark}4{mark}2021", f"13{mark}4{mark}2021"
    assert (cells.day(on, "month_first"), cells.day(on, "day_first")) == (date(2021, 3, 4), date(2021, 4, 3))
    assert cells.moment(f"{on} 7:05:33", "month_first").clock == datetime(2021, 3, 4, 7, 5, 33)
    assert cells.moment(f"{on} 7:05:33 PM", "day_first").clock == datetime(2021, 4, 3, 19, 5, 33)
    assert cells.moment("2021-04-03 19:05", "month_first").clock == datetime(2021, 4, 3, 19, 5)
    for text in (on, clear):
        with pytest.raises(CellError, match="ISS_READING__DATE_ORDER to day_first or month_first"):
            cells.moment(f"{text} 7:05")
        with pytest.raises(CellError, match="ISS_READING__DATE_ORDER to day_first or month_first"):
            cells.day(text)
    with pytest.raises(CellError, match="DATE_ORDER=month_first"):
        cells.day(clear, "month_first")


@pytest.mark.parametrize("text", ["44207", "44207.8368055556", "44207,8"])
def test_a_spreadsheets_number_of_a_day_is_refused_with_its_cause(text: str) -> None:
    with pytest.raises(CellError, match="spreadsheet"):
        cells.moment(text, "day_first")
    with pytest.raises(CellError, match="spreadsheet"):
        cells.day(text)


@pytest.mark.parametrize("text", ["7.0", "7,00", "1E+5", "1.2E+11"])
def test_an_id_that_a_program_made_a_number_of_is_refused_with_its_cause(text: str) -> None:
    with pytest.raises(CellError, match="turned the id into a number") as caught:
        cells.patient_id(text)
    assert caught.value.code == "bad_id"


def test_whole_numbers_as_spreadsheets_write_them_are_scores() -> None:
    assert [cells.score(text) for text in ("0", "10", "3.0", "07", "4,00")] == [0, 10, 3, 7, 4]


def test_sex_and_skin_type_are_read_in_words_and_digits() -> None:
    assert [cells.sex(text) for text in ("m", "Female")] == ["M", "F"]
    assert [cells.skin_type(text) for text in ("iv", "6", "I", "2.0")] == ["IV", "VI", "I", "II"]
