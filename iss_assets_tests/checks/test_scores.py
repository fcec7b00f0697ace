"""Each rule on enrollment and on the nine answers, on its issue and on its absence."""

from __future__ import annotations

import pytest

from iss_assets.checks.findings import Finding
from iss_assets.checks.scores import no_check_in
from iss_assets.checks.stages import SQL
from iss_assets.protocol import terms
from iss_assets_tests.checks.conftest import GOOD, OTHER, InventedStudy

NUMBERS = [n for n in terms.SCORES if n != "chronic_pain"]


def set_all(value: str) -> str:
    return ", ".join(f"{name} = {value}" for name in NUMBERS)


@pytest.mark.parametrize("patient", [GOOD, OTHER])
def test_nothing_fails_for_a_patient_in_whom_nothing_is_wrong(study: InventedStudy, patient: str) -> None:
    assert study.failing(patient) == set()


NO_ANSWER = f"update bpi_scores set {set_all('null')}, chronic_pain = null, missing_scores = 9"


def test_single_missing_answers_are_counted_by_question(study: InventedStudy) -> None:
    study.sql(
        "update bpi_scores set mood = null, sleep = null, missing_scores = 2 where submission_id = '0001-00'"
    )
    found = study.finding("bpi_scores", "missing_scores")
    assert found.affected == ("0001-00",)
    assert found.numbers["missing by question"] == {"mood": 1, "sleep": 1}
    assert (found.numbers["missing answers"], found.numbers["answers asked for"]) == (2, 72)
    assert study.failing() == {"bpi_scores:missing_scores"}


def test_a_survey_without_any_answer_is_one_of_the_missing_scores(study: InventedStudy) -> None:
    study.sql(f"{NO_ANSWER} where submission_id = '0001-02'")
    found = study.finding("bpi_scores", "missing_scores")
    assert (found.affected, found.numbers["without any answer"]) == (("0001-02",), 1)
    assert found.severity is None
    assert study.failing() == {"bpi_scores:missing_scores"}


def test_a_patient_who_answered_nothing_is_one_error_like_0015(study: InventedStudy) -> None:
    study.sql(f"{NO_ANSWER} where patient_id = '0001'")
    found = study.finding("bpi_scores", "missing_scores")
    assert (found.severity, found.lost, len(found.affected)) == ("ERROR", True, 8)
    assert (found.numbers["missing answers"], found.numbers["answers asked for"]) == (72, 72)
    assert study.failing() == {"bpi_scores:missing_scores"}


def test_a_patient_whose_surveys_never_came_is_the_same_error(study: InventedStudy) -> None:
    study.sql("delete from bpi_scores where patient_id = '0001'")
    found = study.finding("bpi_scores", "missing_scores")
    assert (found.severity, len(found.affected), found.numbers["missing answers"]) == ("ERROR", 8, 72)
    assert study.finding("bpi_scores", "video_without_survey").passed, "one cause, one check"
    study.sql("delete from videos where patient_id = '0001'")
    assert study.finding("bpi_scores", "missing_scores").passed, "nothing was asked for yet"


def test_an_answer_that_could_not_be_used_is_not_also_missing(study: InventedStudy) -> None:
    study.sql(
        "update bpi_scores set mood = null, missing_scores = 1 where submission_id = '0001-04'",
        "insert into rejected_rows values ('surveys.csv', 7, 'mood', '0001', '0001-04', 'bad_score', 'Correct it.')",
    )
    assert study.failing() == {"bpi_scores:rejected_answers"}


def test_a_row_that_could_not_be_used_is_not_also_a_video_without_survey(study: InventedStudy) -> None:
    study.sql(
        "delete from bpi_scores where submission_id = '0001-04'",
        "insert into rejected_rows values ('surveys.csv', 7, '', '0001', '0001-04', 'too_few_cells', 'Correct it.')",
    )
    assert study.finding("bpi_scores", "video_without_survey").passed
    assert not study.finding("bpi_scores", "rejected_answers").passed


def test_rejected_cells_are_reported_by_line_and_reason_without_the_value(study: InventedStudy) -> None:
    study.sql(
        "insert into rejected_rows values ('surveys.csv', 7, 'mood', '0001', '0001-04', 'bad_score', 'Correct it.')",
        "insert into rejected_rows values ('surveys.csv', 8, 'mood', '0002', '0002-04', 'bad_score', 'Correct it.')",
    )
    found = study.finding("bpi_scores", "rejected_answers")
    assert found.affected == ("0001-04",)
    assert (found.numbers["lines"], found.numbers["by reason"]) == ([7], {"bad_score": 1})


def test_a_rejected_row_without_a_known_submission_still_fails(study: InventedStudy) -> None:
    study.sql(
        "insert into rejected_rows values ('surveys.csv', 7, '', '0001', null, 'too_few_cells', 'Correct it.')"
    )
    found = study.finding("bpi_scores", "rejected_answers")
    assert not found.passed
    assert found.affected == ()


def test_the_same_questionnaire_over_two_weeks_is_reported(study: InventedStudy) -> None:
    study.sql(
        "update bpi_scores set pain_now = 3, mood = 4, sleep = 5, general_activity = 2, walking_ability = 2, "
        "normal_work = 1, relationships = 3, enjoyment_of_life = 6 where patient_id = '0001'"
    )
    found = study.finding("bpi_scores", "same_answers_for_weeks")
    assert len(found.affected) == 8
    assert found.numbers["longest repetition in days"] == 16


def test_one_number_for_every_question_over_two_weeks_is_reported(study: InventedStudy) -> None:
    study.sql(
        f"update bpi_scores set {set_all('cast(right(submission_id, 2) as integer) % 9 + 1')} "
        "where patient_id = '0001'"
    )
    found = study.finding("bpi_scores", "same_answers_for_weeks")
    assert found.numbers["longest run of one number in days"] == 16
    assert found.numbers["longest repetition in days"] == 0
    assert len(found.affected) == 8


def test_the_same_answers_for_some_days_are_no_habit(study: InventedStudy) -> None:
    study.sql(
        f"update bpi_scores set {set_all('4')} where patient_id = '0001' and right(submission_id, 2) < '11'"
    )
    assert study.finding("bpi_scores", "same_answers_for_weeks").passed


def test_all_zeros_are_what_a_patient_without_pain_answers(study: InventedStudy) -> None:
    study.sql(f"update bpi_scores set {set_all('0')}")
    assert study.finding("bpi_scores", "same_answers_for_weeks", OTHER).passed
    assert not study.finding("bpi_scores", "same_answers_for_weeks", GOOD).passed


def test_chronic_pain_that_comes_to_pass_is_no_flip(study: InventedStudy) -> None:
    study.sql("update bpi_scores set chronic_pain = right(submission_id, 2) > '07' where patient_id = '0001'")
    assert study.finding("bpi_scores", "chronic_pain_flips").passed


def test_chronic_pain_that_vanishes_is_a_flip(study: InventedStudy) -> None:
    study.sql("update bpi_scores set chronic_pain = false where submission_id = '0001-07'")
    assert study.finding("bpi_scores", "chronic_pain_flips").affected == ("0001-07",)


def test_two_submissions_on_the_patients_own_day_are_reported(study: InventedStudy) -> None:
    # 20:00 UTC on the 3rd is 15:00 for the patient; 04:00 UTC on the 4th is still the 3rd
    study.sql(
        "update bpi_scores set submitted_at = '2021-03-04 04:00:00+00', submitted_on = '2021-03-03' "
        "where submission_id = '0001-04'"
    )
    found = study.finding("bpi_scores", "more_than_one_a_day")
    assert found.affected == ("0001-02", "0001-04")
    assert found.numbers["days"] == 1


def test_a_complete_week_with_two_days_is_short(study: InventedStudy) -> None:
    study.sql("delete from bpi_scores where submission_id = '0001-09'")
    found = study.finding("bpi_scores", "fewer_than_three_a_week")
    assert not found.passed
    assert found.numbers["numbers of the short weeks"] == [2]


def test_a_week_that_still_runs_is_not_short(study: InventedStudy) -> None:
    found = study.finding("bpi_scores", "fewer_than_three_a_week")
    assert found.passed
    assert found.numbers["weeks"] == 2


def silent_from(study: InventedStudy, day: str) -> None:
    """Take the good patient's check-ins from a day on away; the other one's last is on March 17."""
    study.sql(f"delete from bpi_scores where patient_id = '{GOOD}' and submitted_on >= date '{day}'")


def with_limit(study: InventedStudy, days: int, patient: str = GOOD) -> Finding:
    settings = study.resource.settings()
    changed = settings.model_copy(
        update={"checks": settings.checks.model_copy(update={"no_check_in_days": days})}
    )
    data = {
        name: study.warehouse.query(
            (SQL / f"{name}.sql").read_text("utf-8").replace("$patient", f"'{patient}'")
        ).to_pylist()
        for name in ("enrollment", "scores")
    }
    return no_check_in(data, changed)


def test_a_patient_who_stopped_is_found_by_what_others_submit(study: InventedStudy) -> None:
    assert study.finding("bpi_scores", "no_check_in").numbers == {"days": 0}
    silent_from(study, "2021-03-03")  # the only one left is of March 1
    found = study.finding("bpi_scores", "no_check_in")
    assert (found.passed, found.numbers) == (False, {"days": 16})
    assert study.finding("bpi_scores", "no_check_in", OTHER).passed


@pytest.mark.parametrize(("limit", "passed"), [(16, False), (17, True), (0, True)])
def test_the_days_are_a_setting_and_none_switches_it_off(
    study: InventedStudy, limit: int, passed: bool
) -> None:
    silent_from(study, "2021-03-03")
    assert with_limit(study, limit).passed == passed


def test_who_never_checked_in_is_counted_from_enrollment(study: InventedStudy) -> None:
    silent_from(study, "2021-03-01")
    assert study.finding("bpi_scores", "no_check_in").numbers == {"days": 16}


def test_nobody_is_called_silent_after_the_three_months_of_enrollment(study: InventedStudy) -> None:
    study.sql(
        f"update bpi_scores set submitted_on = submitted_on + 60 where patient_id = '{GOOD}'",
        f"update bpi_scores set submitted_on = submitted_on + 300 where patient_id = '{OTHER}'",
    )
    # the last check-in is on May 16, and the thirteen weeks end on May 31
    assert with_limit(study, 15).numbers == {"days": 15}
    assert with_limit(study, 16).passed


def test_a_check_in_of_unknown_time_may_be_the_newest(study: InventedStudy) -> None:
    silent_from(study, "2021-03-05")
    assert not study.finding("bpi_scores", "no_check_in").passed
    study.sql(UNKNOWN.format("0001-02"))
    assert study.finding("bpi_scores", "no_check_in").passed


def test_survey_and_video_are_missed_in_each_other(study: InventedStudy) -> None:
    study.sql(
        "delete from bpi_scores where submission_id = '0001-00'",
        "delete from videos where video_id = '0001-02'",
    )
    assert study.finding("bpi_scores", "video_without_survey").affected == ("0001-00",)
    assert study.finding("bpi_scores", "survey_without_video").affected == ("0001-02",)


@pytest.mark.parametrize("change", ["cohort = '1A'", "sex = 'M'", "skin_type = 'VI'", "pain_target = 0"])
def test_a_cohort_that_does_not_fit_is_an_error(study: InventedStudy, change: str) -> None:
    study.sql(f"update patients set {change} where patient_id = '0001'")
    assert not study.finding("patients", "cohort_contradiction").passed
    assert study.finding("patients", "cohort_contradiction", OTHER).passed


UNKNOWN = (
    "update bpi_scores set submitted_at = null, submitted_on = null, timeframe = null, utc_offset_minutes = null, "
    "utc_offset_source = 'unknown' where submission_id = '{}'"
)


def test_a_check_in_of_unknown_time_is_reported_and_blamed_for_nothing_else(study: InventedStudy) -> None:
    before = study.failing(stages=("check_scores",))
    study.sql(UNKNOWN.format("0001-09"))
    found = study.finding("bpi_scores", "unknown_time")
    assert (found.passed, found.affected) == (False, ("0001-09",))
    # without it week two would be short; it may belong there
    assert study.failing(stages=("check_scores",)) - before == {"bpi_scores:unknown_time"}
    study.sql("delete from bpi_scores where submission_id = '0001-09'")
    assert not study.finding("bpi_scores", "fewer_than_three_a_week").passed


def test_two_check_ins_of_unknown_time_are_not_on_one_day_and_no_flip(study: InventedStudy) -> None:
    study.sql(UNKNOWN.format("0001-02"), UNKNOWN.format("0001-04"))
    study.sql("update bpi_scores set chronic_pain = false where submission_id = '0001-04'")
    assert study.finding("bpi_scores", "more_than_one_a_day").passed
    assert study.finding("bpi_scores", "chronic_pain_flips").passed
