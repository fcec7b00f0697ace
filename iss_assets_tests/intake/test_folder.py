"""The study folder as a whole: accepted rows, every issue reported with file and line, errors that say what to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from iss_assets.intake.folder import (
    Problem,
    StudyFolder,
    StudyFolderError,
    patient_rows,
    problem_rows,
    read_study,
    rejected_rows,
    score_rows,
    study_signature,
)
from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.intake import BpiScores, Patients, RejectedRows, StudyProblems
from iss_assets.settings import ReadingSettings
from iss_assets_tests.intake.conftest import (
    ENROLLMENT_HEADER,
    PATIENTS,
    SURVEY_HEADER,
    SURVEYS,
    VIDEOS,
    MakeStudy,
)


def codes(problems: tuple[Problem, ...]) -> list[tuple[str, int, str, str]]:
    return [(p.file, p.line, p.column_name, p.code) for p in problems]


def found(study: StudyFolder) -> set[str]:
    return {p.code for p in (*study.rejected, *study.problems)}


def test_a_good_folder_is_read_without_a_word(make_study: MakeStudy) -> None:
    study = read_study(make_study())
    assert (study.rejected, study.problems) == ((), ())
    assert study.patient_ids == ("0001", "0002")
    assert study.patient("0001").enrolled_on == date(2021, 1, 4)
    assert study.patient("0001").utc_offset_minutes == -300
    assert study.patient("0002").utc_offset_minutes is None
    assert [v.name for v in study.videos] == ["videos/0001/s1.mp4", "videos/0002/s2.MOV"]
    assert study.videos[0].size == len(b"not opened here")
    assert study.expected("0001") == ("s1",)
    first = study.submissions_of("0001")[0]
    assert first.scores == {
        "pain_now": 0,
        "chronic_pain": False,
        "general_activity": 0,
        "mood": 1,
        "walking_ability": 0,
        "normal_work": 0,
        "relationships": 1,
        "sleep": 2,
        "enjoyment_of_life": 0,
    }


def test_its_rows_fit_the_warehouse_tables(make_study: MakeStudy) -> None:
    study = read_study(
        make_study(
            surveys=[*SURVEYS, "s3,0001,2021-01-06T09:00:00Z,home,11,maybe,,,,,,,", "s4,0009,,,,,,,,,,,"]
        )
    )
    for table, rows in (
        (Patients, patient_rows(study)),
        (BpiScores, score_rows(study)),
        (RejectedRows, rejected_rows(study)),
        (StudyProblems, problem_rows(study)),
    ):
        assert rows
        # an age group that is not known is left out, so that the rows of older studies are hashed as before
        assert set(rows[0]) | ({"age_group"} if table is Patients else set()) == set(
            table.arrow_schema().names
        )
        table.check_rows(table.from_rows(rows))
    assert [r["missing_scores"] for r in score_rows(study)] == [0, 0, 9]
    assert [r["timeframe"] for r in score_rows(study, "0001")] == ["late AM", "late AM"]
    assert patient_rows(study, "0002")[0]["skin_group"] == "dark"
    assert patient_rows(study, "0002")[0]["pain_level"] == "Severe"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(",", " , "),
        lambda text: text.replace("\n", "\n\n") + "\n,,,,\n",
        lambda text: "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in text.splitlines()),
        lambda text: text.replace("patient_id", " Patient_ID ").replace("sex", "SEX"),
        lambda text: text.replace("\n", ",,\n"),
    ],
    ids=["bom", "crlf", "cr", "semicolon", "tab", "spaces", "blank", "quoted", "header case", "trailing"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_every_usual_way_of_writing_csv_is_read_alike(
    make_study: MakeStudy, change: Callable[[str], str], encoding: str
) -> None:
    plain = read_study(make_study())
    enrollment = change("\n".join([ENROLLMENT_HEADER, *PATIENTS, ""])).encode(encoding)
    surveys = change("\n".join([SURVEY_HEADER, *SURVEYS, ""])).encode(encoding)
    study = read_study(make_study(enrollment, surveys))
    assert (study.patients, study.submissions, study.rejected) == (
        plain.patients,
        plain.submissions,
        (),
    )


def test_columns_of_a_redcap_export_are_mapped(make_study: MakeStudy) -> None:
    enrollment = "record_id,site,cohort,sex,fitz,worst_pain\n7,e1,4D,2,5,8\n"
    surveys = "\n".join([SURVEY_HEADER, "s1,7,2021-01-12T20:00:00Z,home,7,2,6,5,7,6,5,8,6"])
    settings = ReadingSettings(
        enrollment_columns={"patient_id": "Record_ID", "skin_type": "fitz", "pain_target": "worst_pain"},
        enrollment_values={"sex": {"1": "M", "2": "F"}},
        survey_values={"chronic_pain": {"1": "yes", "2": "no"}},
    )
    study = read_study(make_study(enrollment, surveys, ["7/s1.mp4"]), settings)
    assert study.rejected == ()
    assert (study.patient("7").sex, study.patient("7").skin_type) == ("F", "V")
    assert study.submissions[0].chronic_pain is False
    extra = next(p for p in study.problems if p.code == "extra_columns")
    assert "site" in extra.reason
    assert [p.column_name for p in study.problems if p.code == "absent_column"] == [
        "enrolled_on",
        "utc_offset",
    ]


@pytest.mark.parametrize(
    ("row", "column", "code"),
    [
        ("0003,5A,M,II,0,,", "cohort", "bad_cohort"),
        ("0003,1A,X,II,0,,", "sex", "bad_sex"),
        ("0003,1A,M,VII,0,,", "skin_type", "bad_skin_type"),
        ("0003,1A,M,II,11,,", "pain_target", "bad_pain_target"),
        ("0003,1A,M,II,2.5,,", "pain_target", "bad_pain_target"),
        ("0003,1A,M,II,,,", "pain_target", "empty_cell"),
        ("../x,1A,M,II,0,,", "patient_id", "bad_id"),
        ("..,1A,M,II,0,,", "patient_id", "bad_id"),
        ("NUL,1A,M,II,0,,", "patient_id", "bad_id"),
        ("José,1A,M,II,0,,", "patient_id", "bad_id"),
        (",1A,M,II,0,,", "patient_id", "empty_cell"),
        ("0003,1A,M,II", "", "wrong_number_of_fields"),
        ("0003,1A,M,II,0,,,x", "", "wrong_number_of_fields"),
        ('0003,"1A,M,II,0,,', "", "broken_quotes"),
        ('0003,"1A"x,M,II,0,,', "", "broken_quotes"),
        ("0003,1A,M,I\0I,0,,", "", "nul_byte"),
        ("0003,1A,M,II,0,," + "x" * 200_000, "", "line_too_long"),
        (PATIENTS[0], "", "repeated_row"),
    ],
)
def test_a_bad_enrollment_row_is_rejected_with_its_line_and_the_others_stay(
    make_study: MakeStudy, row: str, column: str, code: str
) -> None:
    study = read_study(make_study([PATIENTS[0], row, PATIENTS[1]]))
    assert study.patient_ids == ("0001", "0002")
    assert codes(study.rejected) == [("enrollment.csv", 3, column, code)]


def test_rows_that_differ_under_one_id_are_both_reported_and_the_first_stays(make_study: MakeStudy) -> None:
    study = read_study(make_study([*PATIENTS, "0001,1C,M,V,0,,"]))
    assert study.patient("0001").cohort == "1A"
    assert codes(study.rejected) == [("enrollment.csv", 4, "", "conflicting_row")]
    assert codes(study.problems) == [("enrollment.csv", 2, "", "conflicting_row")]
    assert "Line 4" in study.problems[0].reason


def test_a_contradicted_cohort_is_reported_and_the_stated_one_stays(make_study: MakeStudy) -> None:
    study = read_study(make_study(["0001,2B,M,II,0,,+2", PATIENTS[1]]))
    assert study.patient("0001").cohort == "2B"
    assert codes(study.problems) == [("enrollment.csv", 2, "cohort", "cohort_contradiction")]
    assert "1A" in study.problems[0].reason


def test_optional_cells_that_are_bad_count_as_missing(make_study: MakeStudy) -> None:
    study = read_study(make_study(["0001,1A,M,II,0,4.1.2021,+25:00", PATIENTS[1]]))
    assert (study.patient("0001").enrolled_on, study.patient("0001").utc_offset_minutes) == (None, None)
    assert codes(study.rejected) == [
        ("enrollment.csv", 2, "enrolled_on", "bad_day"),
        ("enrollment.csv", 2, "utc_offset", "bad_utc_offset"),
    ]


@pytest.mark.parametrize(
    ("row", "column", "code"),
    [
        ("s9,0099,2021-01-05T09:05:00Z,home,0,no,0,1,0,0,1,2,0", "patient_id", "unknown_patient"),
        ("s/9,0001,2021-01-05T09:05:00Z,home,0,no,0,1,0,0,1,2,0", "submission_id", "bad_id"),
        ("s9_prompt,0001,2021-01-05T09:05:00Z,home,0,no,0,1,0,0,1,2,0", "submission_id", "bad_id"),
        ("s9,0001,05/01/2021 9:05,home,0,no,0,1,0,0,1,2,0", "submitted_at", "bad_time"),
        ("s9,0001,2021-02-30T09:05:00Z,home,0,no,0,1,0,0,1,2,0", "submitted_at", "bad_time"),
        ("s9,0001,0001-01-01T00:00:00+14:00,home,0,no,0,1,0,0,1,2,0", "submitted_at", "bad_time"),
        ("s9,0001,2021-01-15T09:05:00+14:01,home,0,no,0,1,0,0,1,2,0", "submitted_at", "bad_time"),
        ("s9,0001,2021-01-15T09:05:60Z,home,0,no,0,1,0,0,1,2,0", "submitted_at", "bad_time"),
        ("s9,0001,2021-01-15T24:00:00Z,home,0,no,0,1,0,0,1,2,0", "submitted_at", "bad_time"),
        ("s9,0001,,home,0,no,0,1,0,0,1,2,0", "submitted_at", "empty_cell"),
        (SURVEYS[0], "", "repeated_row"),
    ],
)
def test_a_bad_survey_row_is_rejected_with_its_line_and_the_others_stay(
    make_study: MakeStudy, row: str, column: str, code: str
) -> None:
    study = read_study(make_study(surveys=[SURVEYS[0], row, SURVEYS[1]]))
    assert [s.submission_id for s in study.submissions] == ["s1", "s2"]
    assert codes(study.rejected) == [("surveys.csv", 3, column, code)]


@pytest.mark.parametrize("cell", ["11", "-1", "3.5", "ten", "1e1", "٣", "0x3"])
def test_a_score_that_is_none_is_missing_and_its_cell_is_reported(make_study: MakeStudy, cell: str) -> None:
    row = f"s1,0001,2021-01-05T09:05:00-05:00,home,0,no,0,{cell},0,0,1,2,0"
    study = read_study(make_study(surveys=[row, SURVEYS[1]]))
    assert study.submissions[0].mood is None
    assert study.submissions[0].sleep == 2
    assert codes(study.rejected) == [("surveys.csv", 2, "mood", "bad_score")]
    assert cell not in study.rejected[0].reason.replace("0 to 10", "")


def test_one_and_zero_are_yes_and_no_only_where_the_column_has_no_other_code(
    make_study: MakeStudy,
) -> None:
    def answers(*cells: str) -> list[bool | None]:
        rows = [
            f"s{i},0001,2021-01-{10 + i}T09:05:00Z,home,0,{cell},0,1,0,0,1,2,0"
            for i, cell in enumerate(cells)
        ]
        return [s.chronic_pain for s in read_study(make_study(surveys=rows, videos=())).submissions]

    assert answers("1", "0", "Yes", "NO", "true", "") == [True, False, True, False, True, None]
    assert answers("1", "2", "yes") == [None, None, True]


def test_impossible_times_are_reported(make_study: MakeStudy) -> None:
    rows = [
        "s1,0001,2021-01-03T23:05:00-05:00,home,0,no,0,1,0,0,1,2,0",
        "s3,0001,2021-01-04T00:30:00+00:00,home,0,no,0,1,0,0,1,2,0",
        "s4,0001,2021-01-09T09:05:00,home,0,no,0,1,0,0,1,2,0",
        "s5,0001,2021-03-09T09:05:00Z,home,0,no,0,1,0,0,1,2,0",
    ]
    study = read_study(
        make_study(surveys=rows, videos=[f"0001/{r[:2]}.mp4" for r in rows]),
        now=datetime(2021, 2, 1, tzinfo=UTC),
    )
    assert len(study.submissions) == 4
    borrowed = study.submissions[2].time
    assert borrowed.submitted_at == datetime(2021, 1, 9, 14, 5, tzinfo=UTC)
    assert (borrowed.utc_offset_minutes, borrowed.utc_offset_source) == (-300, "patient")
    assert [c for c in codes(study.problems) if c[0] == "surveys.csv"] == [
        ("surveys.csv", 2, "submitted_at", "before_enrollment"),
        ("surveys.csv", 4, "submitted_at", "time_without_offset"),
        ("surveys.csv", 5, "submitted_at", "time_in_future"),
    ]


def test_a_submission_id_claimed_by_two_patients_belongs_to_neither(make_study: MakeStudy) -> None:
    row = "s1,0002,2021-01-15T09:05:00Z,home,0,no,0,1,0,0,1,2,0"
    study = read_study(make_study(surveys=[*SURVEYS, row]))
    assert [s.submission_id for s in study.submissions] == ["s2"]
    assert codes(study.rejected) == [
        ("surveys.csv", 2, "submission_id", "id_of_two_patients"),
        ("surveys.csv", 4, "submission_id", "id_of_two_patients"),
    ]


def test_an_unclosed_quote_costs_its_own_row_only(make_study: MakeStudy) -> None:
    rows = [f"s{i},0001,2021-01-15T09:05:00Z,home,0,no,0,1,0,0,1,2,0" for i in range(100, 300)]
    rows[10] = rows[10].replace("home", '"home')
    rows[20] = rows[20].replace("home", '"home"')
    study = read_study(make_study(surveys=rows))
    assert len(study.submissions) == 199
    assert codes(study.rejected)[0] == ("surveys.csv", 12, "", "broken_quotes")
    assert {p.line for p in study.rejected if p.file == "surveys.csv"} == {12}


@pytest.mark.parametrize(
    "row",
    [
        's3,0001,2021-01-15T09:05:00Z,home,0,no,0,1,0,0,1,2,"',
        's3,0001,2021-01-15T09:05:00Z,home,0,no,0,1,0,0,1,2,0,"',
    ],
    ids=["in the last column", "after the last column"],
)
@pytest.mark.parametrize("following", ['"', ' " ', '",,', '\u200b"'])
def test_an_unclosed_quote_that_only_the_next_line_closes_rejects_both_lines(
    make_study: MakeStudy, row: str, following: str
) -> None:
    """Between the quotes is nothing but a line break, which looks like an empty cell once it is stripped."""
    study = read_study(make_study(surveys=[*SURVEYS, row, following, "s4," + SURVEYS[0].split(",", 1)[1]]))
    assert [s.line for s in study.submissions] == [2, 3, 6]
    assert {p.line for p in study.rejected if p.file == "surveys.csv"} == {4, 5}


def test_a_line_break_in_a_column_that_is_not_ours_is_part_of_the_row(make_study: MakeStudy) -> None:
    surveys = "\n".join(
        [SURVEY_HEADER + ",remarks", SURVEYS[0] + ',"first line\nsecond ""line"""', SURVEYS[1] + ","]
    )
    study = read_study(make_study(surveys=surveys))
    assert [s.line for s in study.submissions] == [2, 4]
    assert study.rejected == ()


def test_files_that_fit_nowhere_are_each_reported(make_study: MakeStudy, tmp_path: Path) -> None:
    root = make_study(
        videos=[
            *VIDEOS,
            "0001/s1.mov",
            "0001/s1_prompt.mp4",
            "0001/lonely_prompt.mp4",
            "0001/notes.txt",
            "0001/two words.mp4",
            '0001/it\'s "quoted".mp4',
            "0001/émile.mp4",
            "0001/.mp4",
            "0001/.DS_Store",
            "0001/Thumbs.db",
            "0001/nested/s3.mp4",
            "0001/s2.mp4",
            "0001/s7.mp4",
            "0002/s7.mp4",
            "0002/s8.webm",
            "0099/s1.mp4",
            "no id/s1.mp4",
            "loose.mp4",
            ".hidden/s1.mp4",
        ]
    )
    (tmp_path / "elsewhere.mp4").write_bytes(b"x")
    (root / "videos/0001/s5.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    (root / "videos/0001/s6.mp4").symlink_to(root / "videos/0001/gone.mp4")
    (root / "videos/0002/s9.mp4").symlink_to(root / "videos/0001/s1.mp4")
    study = read_study(root)
    assert {(p.file, p.code) for p in study.rejected} == {
        ("videos/0001/s1.mp4", "duplicate_video_file"),
        ("videos/0001/two words.mp4", "bad_id"),
        ('videos/0001/it\'s "quoted".mp4', "bad_id"),
        ("videos/0001/émile.mp4", "bad_id"),
        ("videos/0001/nested", "not_a_file"),
        ("videos/0001/s2.mp4", "wrong_patient"),
        ("videos/0001/s7.mp4", "id_of_two_patients"),
        ("videos/0002/s7.mp4", "id_of_two_patients"),
        ("videos/0099", "unknown_patient"),
        ("videos/no id", "bad_id"),
        ("videos/loose.mp4", "not_in_patient_folder"),
        ("videos/0001/s5.mp4", "link_outside"),
        ("videos/0001/s6.mp4", "unreachable_file"),
    }
    assert {(p.file, p.code) for p in study.problems} == {
        ("videos/0001/notes.txt", "not_a_video"),
        ("videos/0001/lonely_prompt.mp4", "prompt_without_narrative"),
        ("videos/0002/s8.webm", "video_without_survey"),
        ("videos/0002/s9.mp4", "video_without_survey"),
    }
    assert study.expected("0001") == ("s1",)
    (reading,) = study.videos_of("0001", Recording.PROMPT)
    assert reading.path == root / "videos/0001/s1_prompt.mp4"
    assert (reading.name, reading.submission_id) == ("videos/0001/s1_prompt.mp4", "s1")
    assert study.expected("0002") == ("s2", "s8", "s9")
    for problem in (*study.rejected, *study.problems):
        assert "words" not in problem.reason
        assert str(root) not in problem.reason


def test_thermal_pictures_belong_to_a_survey_or_a_video_and_others_are_each_reported(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    root = make_study(
        videos=[
            "0001/s1.mp4",
            "0001/s1_thermal.JPG",
            "0001/s1_thermal.jpeg",
            "0002/s2_thermal.jpeg",  # a survey without a video
            "0002/s8.mp4",  # a video without a survey
            "0002/s8_thermal.jpg",
            "0001/s2_thermal.jpg",
            "0001/s8_thermal.jpg",
            "0001/lonely_thermal.jpg",
            "0001/s1_thermal.png",
            "0001/s1_thermal.mp4",
            "0001/s1_thermal",
            "0001/two words_thermal.jpg",
            "0001/s1_prompt_thermal.jpg",
            "0001/photo.jpg",
            "0099/s1_thermal.jpg",
        ]
    )
    (tmp_path / "elsewhere.jpg").write_bytes(b"x")
    (root / "videos/0001/s3_thermal.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    study = read_study(root)
    assert [(t.patient_id, t.submission_id, t.name) for t in study.thermals] == [
        ("0001", "s1", "videos/0001/s1_thermal.JPG"),
        ("0002", "s2", "videos/0002/s2_thermal.jpeg"),
        ("0002", "s8", "videos/0002/s8_thermal.jpg"),
    ]
    assert [v.submission_id for v in study.videos] == ["s1", "s8"]
    assert study.part_of("0002").thermals == study.thermals_of("0002") == study.thermals[1:]
    assert {(p.file.removeprefix("videos/"), p.code) for p in study.rejected} == {
        ("0001/s1_thermal.jpeg", "duplicate_thermal_file"),
        ("0001/s2_thermal.jpg", "wrong_patient"),
        ("0001/s8_thermal.jpg", "thermal_without_submission"),
        ("0001/lonely_thermal.jpg", "thermal_without_submission"),
        ("0001/s1_thermal.png", "not_a_thermal_picture"),
        ("0001/s1_thermal.mp4", "not_a_thermal_picture"),
        ("0001/two words_thermal.jpg", "bad_id"),
        ("0001/s1_prompt_thermal.jpg", "bad_id"),
        ("0001/s3_thermal.jpg", "link_outside"),
        ("0099", "unknown_patient"),
    }
    assert {(p.file, p.code) for p in study.problems if p.code == "not_a_video"} == {
        ("videos/0001/photo.jpg", "not_a_video"),
        ("videos/0001/s1_thermal", "not_a_video"),
    }


def test_a_thermal_picture_of_another_patients_video_is_not_used(make_study: MakeStudy) -> None:
    study = read_study(make_study(surveys=[], videos=["0001/s8.mp4", "0002/s8_thermal.jpg"]))
    assert study.thermals == ()
    assert [(p.file, p.code) for p in study.rejected] == [
        ("videos/0002/s8_thermal.jpg", "thermal_without_submission")
    ]


def test_a_new_thermal_picture_changes_its_own_patients_signature_once_it_is_settled(
    make_study: MakeStudy,
) -> None:
    before = study_signature(make_study(videos=["0001/s1.mp4", "0002/s2.mp4"]))
    root = make_study(videos=["0001/s1_thermal.jpg"])
    after = study_signature(root, ReadingSettings(settle_seconds=10))
    assert {p for p in after.patients if after.patients[p] != before.patients[p]} == {"0001"}
    assert "videos/0001/s1_thermal.jpg" in after.unsettled["0001"]
    (root / "videos/0001/s1_thermal.jpg").write_bytes(b"another picture")
    assert study_signature(root).patients["0001"] != after.patients["0001"]


def test_names_that_are_no_text_can_stand_in_the_tables(make_study: MakeStudy) -> None:
    root = make_study()
    folder = os.fsencode(root / "videos" / "0001")
    for name in (b"\xff\xfe.mp4", b"a\nb.mp4"):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(b"x")
    study = read_study(root)
    assert [p.code for p in study.rejected] == ["bad_id", "bad_id"]
    RejectedRows.check_rows(RejectedRows.from_rows(rejected_rows(study)))
    assert all(p.file.isprintable() for p in study.rejected)


def test_surveys_without_video_and_patients_without_anything_are_reported(make_study: MakeStudy) -> None:
    study = read_study(make_study([*PATIENTS, "0003,1A,M,II,0,,"], videos=VIDEOS[:1]))
    assert codes(study.problems) == [
        ("enrollment.csv", 4, "", "no_submissions"),
        ("surveys.csv", 3, "", "survey_without_video"),
    ]


def test_an_empty_study_is_no_error_but_is_reported(make_study: MakeStudy) -> None:
    root = make_study([], [], [])
    (root / "videos").rmdir()
    study = read_study(root)
    assert (study.patients, study.submissions, study.videos) == ((), (), ())
    assert {p.code for p in study.problems} == {"no_patients", "no_videos_folder"}


def test_each_folder_that_cannot_be_read_is_an_error_that_says_what_to_do(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    header = ENROLLMENT_HEADER
    cases: list[tuple[bytes | None, str]] = [
        (None, "enrollment.csv is missing.*ISS_STUDY"),
        (b"", "enrollment.csv is empty.*patient_id"),
        (
            b"patient_id,cohort\n",
            "lacks the columns sex, skin_type, pain_target.*ISS_READING__ENROLLMENT_COLUMNS",
        ),
        (header.encode() + b"\n0001,Jos\xe9\0", "not valid UTF-8 at byte 76, on line 2.*CSV UTF-8"),
        (b"patient_id,cohort\0\0,sex", "not a text file in UTF-8"),
        (header.encode("utf-16")[:-1], "not valid UTF-16"),
        ((header + ",sex").encode(), "columns sex more than once"),
        (header.encode() + b"\n" * 200_001, "more than 200,000 lines"),
    ]
    for content, message in cases:
        root = make_study()
        (root / "enrollment.csv").unlink()
        if content is not None:
            (root / "enrollment.csv").write_bytes(content)
        with pytest.raises(StudyFolderError, match=message) as caught:
            read_study(root)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(StudyFolderError, match="does not exist; name the right folder"):
        read_study(tmp_path / "nowhere")
    with pytest.raises(StudyFolderError, match="is not a folder"):
        read_study(make_study() / "surveys.csv")
    with pytest.raises(
        StudyFolderError, match=r"column map for enrollment\.csv names columns that do not exist: age"
    ):
        read_study(make_study(), ReadingSettings(enrollment_columns={"age": "x"}))
    with pytest.raises(StudyFolderError, match="names columns that do not exist: age"):
        read_study(make_study(), ReadingSettings(survey_values={"age": {}}))


def test_csv_files_that_are_no_files_are_errors(make_study: MakeStudy, tmp_path: Path) -> None:
    root = make_study()
    (root / "surveys.csv").rename(tmp_path / "surveys.csv")
    (root / "surveys.csv").symlink_to(tmp_path / "surveys.csv")
    with pytest.raises(StudyFolderError, match="link that leads out"):
        read_study(root)
    (root / "surveys.csv").unlink()
    (root / "surveys.csv").mkdir()
    with pytest.raises(StudyFolderError, match="not a file"):
        read_study(root)


def test_a_patient_folder_that_cannot_be_listed_is_an_error_and_not_an_empty_one(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_study()
    scandir = os.scandir

    def broken(path: str | Path) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "0001":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(StudyFolderError, match="videos/0001 cannot be listed"):
        read_study(root)


def test_a_missing_videos_folder_is_an_error_once_there_are_submissions(make_study: MakeStudy) -> None:
    root = make_study(videos=())
    (root / "videos").rmdir()
    with pytest.raises(StudyFolderError, match=r"videos is missing though surveys\.csv has submissions"):
        read_study(root)


def test_the_signature_changes_for_the_changed_patient_only(make_study: MakeStudy) -> None:
    before = study_signature(make_study())
    assert before.patients.keys() == {"0001", "0002"}
    moved = study_signature(make_study([PATIENTS[1], PATIENTS[0]], SURVEYS[::-1], videos=()))
    assert moved.patients == before.patients
    changes = (
        {"patients": ["0001,1A,M,III,0,2021-01-04,-05:00", PATIENTS[1]]},
        {"surveys": [SURVEYS[0].replace(",home", ",clinic"), SURVEYS[1]]},
        {"surveys": [SURVEYS[0].replace(",home", ",hospital"), SURVEYS[1]]},
        {"videos": ["0001/s1_prompt.mp4"]},
        {"videos": ["0001/s9.mp4"]},
    )
    for change in changes:
        after = study_signature(make_study(**{"videos": (), **change}))
        assert after.patients["0001"] != before.patients["0001"]
        assert after.patients["0002"] == before.patients["0002"]
        assert after.study != before.study
        for extra in change.get("videos", ()):
            (make_study(videos=()) / "videos" / extra).unlink()


def test_a_video_that_was_just_written_waits(make_study: MakeStudy) -> None:
    root = make_study()
    now = datetime.now(UTC)
    fresh = study_signature(root, ReadingSettings(settle_seconds=10), now=now)
    assert fresh.unsettled == {"0001": ("videos/0001/s1.mp4",), "0002": ("videos/0002/s2.MOV",)}
    later = study_signature(root, ReadingSettings(settle_seconds=10), now=now + timedelta(seconds=11))
    assert later.unsettled == {}
    copied = root / "videos/0001/s1.mp4"
    os.utime(copied, (0, 0))
    still = study_signature(root, ReadingSettings(settle_seconds=10), now=datetime.now(UTC))
    assert "0001" in still.unsettled


def test_twenty_thousand_submissions_are_read_in_seconds(tmp_path: Path, make_study: MakeStudy) -> None:
    patients = [f"{i:04d},1A,M,II,0,2021-01-04,-05:00" for i in range(1, 113)]
    surveys = [
        f"s{i},{1 + i % 112:04d},2021-01-{5 + i % 20:02d}T09:05:00-05:00,home,0,no,0,1,0,0,1,2,0"
        for i in range(20_000)
    ]
    root = make_study(patients, surveys, videos=())
    for i in range(2_000):
        folder = root / "videos" / f"{1 + i % 112:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"s{i}.mp4").touch()
    start = time.process_time()
    study = read_study(root)
    assert len(study.submissions) == 20_000
    assert len(study.videos) == 2_000
    assert time.process_time() - start < 15, "processor seconds"


def test_records_compare_without_their_line(make_study: MakeStudy) -> None:
    patient = read_study(make_study()).patients[0]
    assert replace(patient, line=99) == patient
