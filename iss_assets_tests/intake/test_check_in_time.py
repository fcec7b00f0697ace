"""Which offset from UTC counts, and what day and time of day follow from it."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from iss_assets.intake.cells import moment
from iss_assets.intake.check_in_time import check_in_time
from iss_assets.intake.folder import StudyFolderError, read_study, score_rows
from iss_assets.settings import ReadingSettings
from iss_assets_tests.intake.conftest import MakeStudy

ANSWERS = "home,0,no,0,1,0,0,1,2,0"


def test_the_offset_that_a_time_is_written_with_wins_over_the_patients() -> None:
    summer = check_in_time(moment("2021-07-12T12:30:00-04:00"), -300, 60)
    assert summer.submitted_at == datetime(2021, 7, 12, 16, 30, tzinfo=UTC)
    assert (summer.submitted_on, summer.timeframe) == (date(2021, 7, 12), "early PM")
    assert (summer.utc_offset_minutes, summer.utc_offset_source) == (-240, "written")


def test_the_patients_offset_counts_where_the_time_has_none_and_then_the_studys() -> None:
    written = moment("2021-01-01T02:00:00")
    own, study = check_in_time(written, 540, -300), check_in_time(written, None, -300)
    assert (own.submitted_at, own.utc_offset_source) == (datetime(2020, 12, 31, 17, tzinfo=UTC), "patient")
    assert (study.submitted_at, study.utc_offset_source) == (datetime(2021, 1, 1, 7, tzinfo=UTC), "study")
    assert own.submitted_on == study.submitted_on == date(2021, 1, 1)
    assert own.timeframe == study.timeframe == "early AM"


def test_a_time_without_any_offset_is_unknown_and_never_utc() -> None:
    found = check_in_time(moment("2021-01-12T20:05:00"), None, None)
    assert found.row() == {
        "submitted_at": None,
        "written_time": datetime(2021, 1, 12, 20, 5),
        "utc_offset_minutes": None,
        "utc_offset_source": "unknown",
        "submitted_on": None,
        "timeframe": None,
    }


def test_times_of_an_export_in_utc_can_be_declared_moments_only() -> None:
    written = moment("2021-01-12T03:00:00Z")
    literal = check_in_time(written, -300, None)
    assert (literal.submitted_on, literal.utc_offset_source) == (date(2021, 1, 12), "written")
    own = check_in_time(written, -300, None, "moment")
    assert own.submitted_at == literal.submitted_at == datetime(2021, 1, 12, 3, tzinfo=UTC)
    assert (own.submitted_on, own.timeframe, own.utc_offset_source) == (
        date(2021, 1, 11),
        "late PM",
        "patient",
    )
    nobody = check_in_time(written, None, None, "moment")
    assert nobody.submitted_at == literal.submitted_at
    assert (nobody.submitted_on, nobody.timeframe, nobody.utc_offset_source) == (None, None, "unknown")
    # an offset that is not UTC says where the clock was, whatever the setting
    assert (
        check_in_time(moment("2021-01-12T03:00:00+01:00"), -300, None, "moment").utc_offset_source
        == "written"
    )


def test_a_study_without_offsets_is_read_with_the_setting_and_says_where_each_came_from(
    make_study: MakeStudy,
) -> None:
    folder = make_study(
        surveys=[
            f"s1,0001,2021-01-12T20:05:00,{ANSWERS}",
            f"s2,0002,2021-01-12T20:05:00,{ANSWERS}",
            f"s3,0002,2021-01-13T20:05:00+09:00,{ANSWERS}",
        ]
    )
    unknown = read_study(folder)
    assert [s.time.utc_offset_source for s in unknown.submissions] == ["patient", "unknown", "written"]
    (reported,) = [p for p in unknown.problems if p.code == "time_without_offset"]
    assert (reported.file, reported.line, reported.column_name) == ("surveys.csv", 2, "submitted_at")
    assert reported.reason.startswith(
        "2 times have no offset from UTC (lines 2 and 3). For 1 the patient's own"
    )
    assert "For 1 nothing says which it is (line 3)" in reported.reason
    known = read_study(folder, ReadingSettings(utc_offset="-08:00"))
    assert [s.time.utc_offset_source for s in known.submissions] == ["patient", "study", "written"]
    assert [r["submitted_at"] for r in score_rows(known)] == [
        datetime(2021, 1, 13, 1, 5, tzinfo=UTC),
        datetime(2021, 1, 13, 4, 5, tzinfo=UTC),
        datetime(2021, 1, 13, 11, 5, tzinfo=UTC),
    ]


def test_a_file_without_offsets_is_reported_once_with_the_count_and_the_first_lines(
    make_study: MakeStudy,
) -> None:
    rows = [f"s{n},0002,2021-01-12T20:05:00,{ANSWERS}" for n in range(40)]
    study = read_study(make_study(surveys=rows, videos=()), ReadingSettings(utc_offset="-08:00"))
    (reported,) = [p for p in study.problems if p.code == "time_without_offset"]
    assert reported.reason == (
        "40 times have no offset from UTC (lines 2, 3, 4, 5, 6 and 35 more). "
        "For 40 the patient has none and the study's of the settings was used."
    )


def test_times_that_are_all_in_utc_are_reported_once_where_patients_live_elsewhere(
    make_study: MakeStudy,
) -> None:
    rows = [f"s{day},0001,2021-01-{day}T03:00:00Z,{ANSWERS}" for day in (12, 13, 14)]
    folder = make_study(surveys=rows)
    (reported,) = [p for p in read_study(folder).problems if p.code == "times_in_utc"]
    assert (reported.file, reported.line, reported.column_name) == ("surveys.csv", 2, "submitted_at")
    assert "3 of them" in reported.reason
    moments = ReadingSettings(utc_means="moment")
    for study in (
        read_study(folder, moments),
        read_study(make_study(surveys=[*rows, f"s15,0001,2021-01-15T03:00:00-05:00,{ANSWERS}"])),
        read_study(make_study(patients=["0001,1A,M,II,0,2021-01-04,+00:00"], surveys=rows)),
    ):
        assert "times_in_utc" not in {p.code for p in study.problems}


def test_a_study_offset_that_is_none_stops_the_reading_and_names_the_setting(make_study: MakeStudy) -> None:
    with pytest.raises(StudyFolderError, match="ISS_READING__UTC_OFFSET"):
        read_study(make_study(), ReadingSettings(utc_offset="EST"))


def test_an_unknown_time_is_called_future_only_where_it_must_be(make_study: MakeStudy) -> None:
    rows = [f"s1,0002,2021-01-14T13:00:00,{ANSWERS}", f"s2,0002,2021-01-14T15:00:00,{ANSWERS}"]
    # one day ahead of the clock is a wrong offset; at +14:00 the first of them is not even that
    found = read_study(make_study(surveys=rows), now=datetime(2021, 1, 13, 0, 0, tzinfo=UTC))
    assert [p.line for p in found.problems if p.code == "time_in_future"] == [3]
