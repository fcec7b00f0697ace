"""Tables as spreadsheets and REDCap write them: separator lines, broken headers, encodings, other instruments, zeros."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from iss_assets.intake.folder import StudyFolder, StudyFolderError, read_study
from iss_assets.settings import ReadingSettings
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, PATIENTS, SURVEY_HEADER, SURVEYS, MakeStudy

ANSWERS = "home,0,no,0,1,0,0,1,2,0"


def reported(study: StudyFolder, code: str) -> list[tuple[str, int, str]]:
    return [(p.file, p.line, p.column_name) for p in (*study.rejected, *study.problems) if p.code == code]


SEPARATORS: dict[str, Callable[[str], str]] = {
    "semicolon": lambda text: "sep=;\r\n" + text.replace(",", ";"),
    "comma": lambda text: "sep=,\n" + text,
    "tab": lambda text: "sep=\t\n" + text.replace(",", "\t"),
    "tab in letters": lambda text: "sep=\\t\n" + text.replace(",", "\t"),
    "pipe": lambda text: "SEP=|\n" + text.replace(",", "|"),
    "caret": lambda text: "sep=^\n" + text.replace(",", "^"),
    "quoted": lambda text: '"sep=;"\r\n' + text.replace(",", ";"),
    "saved again": lambda text: '"sep=;";;;;;;\r\n' + text.replace(",", ";"),
    "empty line before": lambda text: "\n\nsep=;\n\n" + text.replace(",", ";"),
    "wrong": lambda text: "sep=,\r\n" + text.replace(",", ";"),
    "cut off": lambda text: "sep=\r\n" + text.replace(",", ";"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", SEPARATORS)
def test_the_line_that_names_the_separator_is_read_and_no_row(
    make_study: MakeStudy, separator: str, encoding: str
) -> None:
    plain = read_study(make_study())
    change = SEPARATORS[separator]
    enrollment = change("\n".join([ENROLLMENT_HEADER, *PATIENTS, ""])).encode(encoding)
    surveys = change("\n".join([SURVEY_HEADER, *SURVEYS, "s3,0001,never,,,,,,,,,,", ""])).encode(encoding)
    study = read_study(make_study(enrollment, surveys))
    assert (study.patients, study.submissions) == (plain.patients, plain.submissions)
    # lines are those that an editor shows
    lines = surveys.decode(encoding).lstrip("\ufeff").replace("\r\n", "\n").split("\n")
    (line,) = [number for number, text in enumerate(lines, start=1) if text.startswith("s3")]
    assert reported(study, "bad_time") == [("surveys.csv", line, "submitted_at")]


def test_a_header_may_break_its_lines_within_quotes(make_study: MakeStudy) -> None:
    header = SURVEY_HEADER.replace("pain_now", '"Pain right now\r\n(0 to 10)"').replace("mood", '"mood\n"')
    surveys = "\r\n".join([header, *SURVEYS, "s3,0001,never,,,,,,,,,,", ""])
    settings = ReadingSettings(survey_columns={"pain_now": "pain right now (0 to 10)"})
    study = read_study(make_study(surveys=surveys.encode()), settings)
    assert (study.submissions, study.rejected[0].code) == (read_study(make_study()).submissions, "bad_time")
    assert reported(study, "bad_time") == [("surveys.csv", 6, "submitted_at")]


def test_a_header_may_break_the_lines_of_columns_that_are_not_used(make_study: MakeStudy) -> None:
    header = 'note,"how do you\n\nfeel; today,\nhonestly?",' + ENROLLMENT_HEADER
    study = read_study(make_study("\n".join([header, *(f",,{row}" for row in PATIENTS)])))
    assert study.patient_ids == ("0001", "0002")
    assert [p.line for p in study.patients] == [5, 6]


def test_a_header_whose_quote_never_closes_is_an_error_and_not_an_empty_study(make_study: MakeStudy) -> None:
    with pytest.raises(StudyFolderError, match="lacks the columns"):
        read_study(make_study("\n".join(['"' + ENROLLMENT_HEADER, *PATIENTS])))


# ------------------------------------------------------------------ REDCap


REDCAP_HEADER = (
    "record_id,redcap_event_name,redcap_repeat_instrument,redcap_repeat_instance,"
    "cohort,sex,skin_type,pain_target,enrolled_on,utc_offset,demographics_complete,"
    "submission_id,submitted_at,setting,pain_now,chronic_pain,general_activity,mood,walking_ability,normal_work,"
    "relationships,sleep,enjoyment_of_life,checkin_complete,weight"
)
REDCAP = [
    "0001,baseline_arm_1,,,1A,M,II,0,2021-01-04,-05:00,2,,,,,,,,,,,,,,",
    "0001,daily_arm_1,checkin,1,,,,,,,,s1,2021-01-05T09:05:00-05:00,home,0,no,0,1,0,0,1,2,0,2,",
    "0001,daily_arm_1,weight,1,,,,,,,,,,,,,,,,,,,,,71",
    "0002,baseline_arm_1,,,4D,F,V,8,2021-01-11,,2,,,,,,,,,,,,,,",
    "0002,daily_arm_1,checkin,1,,,,,,,,s2,2021-01-12T20:00:00+01:00,clinic,7,yes,6,5,7,6,5,8,6,2,",
    "0002,daily_arm_1,weight,1,,,,,,,,,,,,,,,,,,,,,64",
    "0002,daily_arm_1,checkin,2,,,,,,,,s3,,home,7,yes,6,5,7,6,5,8,6,2,",
]
MAPPED = {"enrollment_columns": {"patient_id": "record_id"}, "survey_columns": {"patient_id": "record_id"}}


def test_one_redcap_export_is_both_tables_and_rows_of_other_forms_are_reported_once(
    make_study: MakeStudy,
) -> None:
    export = "\n".join([REDCAP_HEADER, *REDCAP])
    study = read_study(make_study(export, export), ReadingSettings(**MAPPED))
    plain = read_study(make_study())
    assert (study.patients, study.submissions) == (plain.patients, plain.submissions)
    others = [
        (p.file, p.line, p.reason.split(" rows")[0]) for p in study.problems if p.code == "other_instruments"
    ]
    assert others == [("enrollment.csv", 3, "5"), ("surveys.csv", 2, "4")]
    # what is there of ours is never taken for another form's
    assert [(p.file, p.line, p.code) for p in study.rejected] == [("surveys.csv", 8, "empty_cell")]


def test_a_setting_says_which_instrument_or_event_counts(make_study: MakeStudy) -> None:
    screening = "0001,screening_arm_1,,,,,,,,,,s0,2021-01-02T09:05:00-05:00,home,9,no,0,1,0,0,1,2,0,2,"
    export = "\n".join([REDCAP_HEADER, *REDCAP[:-1], screening])
    folder = make_study(export, export)
    assert [s.submission_id for s in read_study(folder, ReadingSettings(**MAPPED)).submissions] == [
        "s0",
        "s1",
        "s2",
    ]
    for name in ("checkin", "daily_arm_1"):
        settings = ReadingSettings(
            **MAPPED, survey_instruments=(name,), enrollment_instruments=("Baseline_Arm_1",)
        )
        study = read_study(folder, settings)
        assert [s.submission_id for s in study.submissions] == ["s1", "s2"]
        assert study.patient_ids == ("0001", "0002")
        (found,) = [p for p in study.problems if p.code == "other_instruments" and p.file == "surveys.csv"]
        assert found.reason.startswith("5 rows")
        assert "1 of them have values" in found.reason


def test_redcap_columns_by_label_are_known_as_well(make_study: MakeStudy) -> None:
    header = REDCAP_HEADER.replace(
        "redcap_event_name,redcap_repeat_instrument", "Event Name,Repeat Instrument"
    )
    export = "\n".join([header, *REDCAP])
    study = read_study(make_study(export, export), ReadingSettings(**MAPPED))
    assert len(reported(study, "other_instruments")) == 2
    assert [p.code for p in study.rejected] == ["empty_cell"]


def test_empty_answers_are_kept_where_there_is_no_other_form(make_study: MakeStudy) -> None:
    study = read_study(
        make_study(surveys=[*SURVEYS, "s3,0001,2021-01-06T09:00:00Z,,,,,,,,,,", "s4,0001,,,,,,,,,,,"])
    )
    assert [s.submission_id for s in study.submissions] == ["s1", "s2", "s3"]
    assert reported(study, "other_instruments") == []
    assert reported(study, "empty_cell") == [("surveys.csv", 5, "submitted_at")]


# ------------------------------------------------------------------ leading zeros


def hints(study: StudyFolder) -> list[tuple[str, int, str]]:
    found = (*study.rejected, *study.problems)
    return [(p.file, p.line, p.code) for p in found if "leading zeros" in p.reason]


def test_zeros_lost_in_the_surveys_are_hinted_at_in_both_tables(make_study: MakeStudy) -> None:
    study = read_study(make_study(surveys=[SURVEYS[0], SURVEYS[1].replace("0002", "2")]))
    assert hints(study) == [("surveys.csv", 3, "unknown_patient"), ("enrollment.csv", 3, "leading_zeros")]
    assert "line 3 of enrollment.csv" in study.rejected[0].reason
    (problem,) = [p for p in study.problems if p.code == "leading_zeros"]
    assert "line 3 of surveys.csv" in problem.reason
    assert problem.patient_id == "0002"


def test_zeros_lost_in_the_enrollment_are_hinted_at_in_surveys_and_folders(make_study: MakeStudy) -> None:
    study = read_study(make_study(patients=[PATIENTS[0], PATIENTS[1].replace("0002", "2")]))
    assert hints(study) == [
        ("surveys.csv", 3, "unknown_patient"),
        ("videos/0002", 0, "unknown_patient"),
        ("enrollment.csv", 3, "leading_zeros"),
    ]
    assert all("line 3 of enrollment.csv" in p.reason for p in study.rejected)


def test_zeros_lost_in_the_name_of_a_folder_are_hinted_at(make_study: MakeStudy) -> None:
    study = read_study(make_study(videos=["0001/s1.mp4", "02/s2.mov"]))
    assert hints(study) == [("videos/02", 0, "unknown_patient"), ("enrollment.csv", 3, "leading_zeros")]
    assert "videos/02" in next(p.reason for p in study.problems if p.code == "leading_zeros")


def test_an_unknown_id_that_is_another_number_or_no_number_gets_no_such_hint(make_study: MakeStudy) -> None:
    rows = [SURVEYS[0], SURVEYS[1].replace("0002", "20"), SURVEYS[1].replace("s2,0002", "s3,A2")]
    study = read_study(make_study(surveys=rows, videos=["0001/s1.mp4", "A0002/s2.mov"]))
    assert len(reported(study, "unknown_patient")) == 3
    assert hints(study) == []


def test_two_enrolled_ids_that_are_one_number_are_reported(make_study: MakeStudy) -> None:
    study = read_study(make_study(patients=[*PATIENTS, "1,1A,M,II,0,2021-01-04,-05:00"]))
    assert hints(study) == [("enrollment.csv", 4, "leading_zeros")]
    assert study.patient_ids == ("0001", "0002", "1")


def test_zeros_lost_in_a_submissions_id_are_hinted_at_for_survey_and_video(make_study: MakeStudy) -> None:
    study = read_study(
        make_study(surveys=[f"7,0001,2021-01-05T09:05:00-05:00,{ANSWERS}"], videos=["0001/007.mp4"])
    )
    assert hints(study) == [
        ("surveys.csv", 2, "survey_without_video"),
        ("videos/0001/007.mp4", 0, "video_without_survey"),
    ]
    assert "videos/0001/007.mp4" in study.problems[-2].reason


def test_a_table_in_the_code_page_of_windows_is_read_and_reported_once_with_its_line(
    make_study: MakeStudy,
) -> None:
    surveys = "\r\n".join(
        [SURVEY_HEADER + ",remark", *(f"{row},5 \u20ac, caf\xe9".replace(", c", " c") for row in SURVEYS)]
    )
    study = read_study(make_study(surveys=surveys.encode("cp1252")))
    assert study.submissions == read_study(make_study()).submissions
    assert (study.rejected, reported(study, "not_utf8")) == ((), [("surveys.csv", 2, "")])


def test_the_rows_in_which_qualtrics_explains_its_columns_are_left_out_and_reported_once(
    make_study: MakeStudy,
) -> None:
    names = SURVEY_HEADER.split(",")
    questions = ",".join(f'"{name}, how\nis it now?"' for name in names)
    imports = ",".join(f'"{{""ImportId"":""{name}""}}"' for name in names)
    surveys = "\n".join([SURVEY_HEADER, questions, imports, *SURVEYS, f"s3,0001,never,{ANSWERS}", ""])
    study = read_study(make_study(surveys=surveys.encode()))
    assert study.submissions == read_study(make_study()).submissions
    assert reported(study, "extra_header_rows") == [("surveys.csv", 2, "")]
    last = 3 + len(names) + len(SURVEYS) + 1
    assert [(p.code, p.line) for p in study.rejected] == [("bad_time", last)]


def test_a_first_row_that_is_wrong_is_no_explanation(make_study: MakeStudy) -> None:
    surveys = "\n".join([SURVEY_HEADER, f"s3,0001,never,{ANSWERS}", *SURVEYS, ""])
    study = read_study(make_study(surveys=surveys.encode()))
    assert study.submissions == read_study(make_study()).submissions
    assert reported(study, "extra_header_rows") == [] and reported(study, "bad_time") == [
        ("surveys.csv", 2, "submitted_at")
    ]


def test_unnamed_columns_at_the_end_may_be_there_or_not(make_study: MakeStudy) -> None:
    rows = [row + ending for row, ending in zip(SURVEYS, ("", ",", ",,,"), strict=False)]
    surveys = "\n".join([SURVEY_HEADER + ",,", *rows, SURVEYS[0].rsplit(",", 1)[0], ""])
    study = read_study(make_study(surveys=surveys.encode()))
    plain = read_study(make_study(surveys="\n".join([SURVEY_HEADER, *SURVEYS[: len(rows)], ""]).encode()))
    assert study.submissions == plain.submissions
    assert reported(study, "wrong_number_of_fields") == [("surveys.csv", len(rows) + 2, "")]


@pytest.mark.parametrize(
    ("written", "order"),
    [
        ("1/13/2021 7:05:33 PM", "month_first"),
        ("13/1/2021 19:05:33", "day_first"),
        ("13.01.2021 19:05:33", "day_first"),
    ],
)
def test_times_that_a_spreadsheet_rewrote_are_read_as_the_setting_says(
    make_study: MakeStudy, written: str, order: str
) -> None:
    surveys = "\n".join([SURVEY_HEADER, f"s3,0001,{written},{ANSWERS}", ""]).encode()
    settings = ReadingSettings.model_validate({"date_order": order})
    (submission,) = read_study(make_study(surveys=surveys), settings).submissions
    assert submission.time.written_time == datetime(2021, 1, 13, 19, 5, 33)
    assert reported(read_study(make_study(surveys=surveys)), "bad_time") == [
        ("surveys.csv", 2, "submitted_at")
    ]


def test_yes_and_no_that_pandas_made_numbers_of_are_read(make_study: MakeStudy) -> None:
    rows = [
        f"s{n},0001,2021-01-1{n}T10:00:00Z,home,0,{word},0,1,0,0,1,2,0"
        for n, word in ((1, "1.0"), (2, "0.0"))
    ]
    study = read_study(make_study(surveys="\n".join([SURVEY_HEADER, *rows, ""]).encode()))
    assert [s.chronic_pain for s in study.submissions] == [True, False]
    study = read_study(
        make_study(
            surveys="\n".join(
                [SURVEY_HEADER, *rows, rows[0].replace("s1", "s3").replace("1.0", "2.0"), ""]
            ).encode()
        )
    )
    assert [s.chronic_pain for s in study.submissions] == [None, None, None]


def test_invisible_characters_and_the_formula_that_keeps_zeros_are_no_part_of_a_cell(
    make_study: MakeStudy,
) -> None:
    rows = [
        f'\u200bs1\ufeff,"=""0001""",2021-01-12 8:05\u202fPM,{ANSWERS}',
        f"\u202as2\u202c,\u00a00001\u00a0,2021-01-13\u00a020:05,{ANSWERS}",
    ]
    study = read_study(make_study(surveys="\n".join([SURVEY_HEADER, *rows, ""]).encode()))
    assert [(s.submission_id, s.patient_id, s.time.written_time) for s in study.submissions] == [
        ("s1", "0001", datetime(2021, 1, 12, 20, 5)),
        ("s2", "0001", datetime(2021, 1, 13, 20, 5)),
    ]
    assert [p for p in study.rejected if p.file == "surveys.csv"] == []
