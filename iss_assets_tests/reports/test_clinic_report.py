"""The clinic's report: the first screen, what is said where there is nothing, and what must not be on it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pytest

from iss_assets.evaluation.check_ins.study import CheckInInputs, evaluate_check_ins
from iss_assets.modeling import check_ins as modeling
from iss_assets.protocol.targets import target
from iss_assets.reports.clinic_questions import change_lines, likely_lines, needed_lines, questions, useful
from iss_assets.reports.clinic_report import ClinicReportInputs, write_clinic_report
from iss_assets.schemas.check_ins import CheckInPatientsNeeded
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import invent_check_ins

SETTINGS = CheckInSettings(targets=("pain_now", "sleep"), bootstrap_samples=199, permutations=999, trees=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    study = invent_check_ins(20, 6, effect=0.6, seed=3)
    tables = evaluate_check_ins(CheckInInputs(study.bpi_scores, study.splits, study.measures), SETTINGS)
    path = write_clinic_report(
        ClinicReportInputs(tables, SETTINGS, invented=True), tmp_path_factory.mktemp("clinic") / "page.html"
    )
    return SimpleNamespace(page=path.read_text(encoding="utf-8"), tables=tables)


def text(html: str) -> str:
    return re.sub(
        r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script).*?</\1>", "", html, flags=re.S))
    )


def test_the_first_screen_needs_no_statistics(made: SimpleNamespace) -> None:
    first = text(made.page.split('<nav aria-label="Contents"')[0])
    assert "Invented patients." in first
    assert "ups and downs of pain now" in first
    assert not re.search("[\u0370-\u03ff]|p =|Holm|kappa|ICC|regression|statistic|correlation", first)


def test_every_target_has_its_errors_agreement_and_patients(made: SimpleNamespace) -> None:
    words = text(made.page)
    for title in ("Pain now", "Interference with sleep"):
        assert f"{title}, after 3 check-ins: mean error in points" in words
        assert f"{title}: models and simple rules." in words
        assert f"{title} by patient, after 1 check-in." in words
    claims = made.tables["check_in_claims"]
    assert made.page.count("follows changes") == 6
    assert claims.num_rows == 2 * (2 * (1 + 2 * 4) + 1)


def test_the_errors_on_the_page_are_those_of_the_table(made: SimpleNamespace) -> None:
    metrics = made.tables["check_in_metrics"].to_pandas().set_index(["target", "known", "model", "metric"])
    row = metrics.loc[("pain_now", 3, "pain_now_ridge", "mean_error")]
    assert f"{row['estimate']:.2f} ({row['low']:.2f}–{row['high']:.2f})" in made.page


def test_a_study_without_results_has_a_page_that_says_what_is_needed(tmp_path: Path) -> None:
    page = text(write_clinic_report(ClinicReportInputs({}, SETTINGS), tmp_path / "p.html").read_text("utf-8"))
    assert "No check-in has been predicted yet; this page needs answers with usable videos" in page
    assert "Invented" not in page


@pytest.mark.parametrize(
    ("group", "question"),
    [("voice", "What does voice add"), ("words", "What do words add"), ("", "What do the videos add")],
)
def test_the_question_names_what_was_measured(
    group: str, question: str, made: SimpleNamespace, tmp_path: Path
) -> None:
    effects = made.tables["check_in_effects"]
    chosen = effects.slice(0, 1 if group else 0).to_pandas().assign(measure=f"{group}: a")
    tables = made.tables | {"check_in_effects": pa.Table.from_pandas(chosen, effects.schema)}
    page = write_clinic_report(ClinicReportInputs(tables, SETTINGS), tmp_path / "p.html").read_text("utf-8")
    assert f"{question} to the questionnaire?" in text(page)


def test_the_first_figure_answers_what_sensors_add_to_the_questionnaire(made: SimpleNamespace) -> None:
    first = made.page.split("<h2 id=")[2]
    assert "What do face and voice add to the questionnaire?" in text(first)
    assert "Pain now, after 5 check-ins: points by which the mean error gets smaller" in first
    assert "+ the questionnaire" in first and "all of these sensors at once" in first
    added = made.tables["check_in_added_value"].to_pandas()
    row = added[
        (added["target"] == "pain_now") & (added["known"] == 5) & (added["ordering"] == "question")
    ].iloc[0]
    assert f"{row['gain']:.2f}".replace("-", "−") in text(first)


def usefulness(**verdicts: str) -> pd.DataFrame:
    """One model's verdicts by event."""
    return pd.DataFrame(
        [
            {"target": "pain_now", "event": event, "known": 3, "model": "pain_now_ridge", "verdict": verdict}
            for event, verdict in verdicts.items()
        ]
    )


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (
            "yes",
            "does more good than acting on everyone, on no one, or without seeing the patient: pain now, linear model",
        ),
        ("no", "is not shown to do more good"),
        ("not shown", "is not shown to do more good"),
        ("cannot be shown", "was predicted for too few patients"),
    ],
)
def test_acting_on_a_model_is_recommended_only_where_it_is_shown(verdict: str, words: str) -> None:
    (line,) = useful(usefulness(severe=verdict))
    assert line.startswith(f"Acting on the predicted probability of an answer of 7 or more {words}")


def test_an_event_that_is_rare_among_known_patients_is_drawn_for_new_ones(made: SimpleNamespace) -> None:
    benefits = made.tables["check_in_benefits"].to_pandas()
    frames = {name: table.to_pandas() for name, table in made.tables.items()}

    def titles(rows: pd.DataFrame) -> list[str]:
        return [d["title"] for d in questions(frames | {"check_in_benefits": rows}, 3, SETTINGS)["decisions"]]

    drawn = "Pain now, {}: net benefit of acting on an answer of 7 or more"
    assert drawn.format("after 3 check-ins") in titles(benefits)
    assert drawn.format("for new patients") in titles(benefits[benefits["known"] == 0])


def test_intervals_over_very_few_patients_are_said_to_be_too_short(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    warning = "Intervals over fewer than 5 patients, as here in places, are too short to be relied on"
    assert warning not in text(made.page)
    claims = made.tables["check_in_claims"].to_pandas().assign(patients=4)
    inputs = ClinicReportInputs(made.tables | {"check_in_claims": claims}, SETTINGS)
    assert warning in text(write_clinic_report(inputs, tmp_path / "few.html").read_text("utf-8"))


def test_each_event_has_a_sentence_of_its_own() -> None:
    severe, worse = useful(usefulness(severe="no", worse="yes"))
    assert "not shown" in severe
    assert "change for the worse from the first answers does more good" in worse
    assert useful(usefulness(severe="no").head(0)) == []


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("known", "about 40 patients (30 to 55)"),
        (
            "too few patients to know",
            "30 to 55 patients; with 12 patients this study does not know its own variance",
        ),
        ("cannot be said", "cannot be said from 12 patients"),
    ],
)
def test_a_number_of_patients_is_stated_only_as_well_as_it_is_known(verdict: str, words: str) -> None:
    row = {"target": "pain_now", "known": 3, "model": "pain_now_ridge", "quantity": "mean_error"}
    row |= {"patients": 12, "wanted": 0.25, "verdict": verdict}
    (line,) = needed_lines(pd.DataFrame([row | {"needed": 40, "needed_low": 30, "needed_high": 55}]))
    assert line.startswith(
        "Pain now, after 3 check-ins, linear model. To know the mean error to within 0.25 points: "
    )
    assert words in line
    assert ("about" in line) == (verdict == "known")
    (alone,) = needed_lines(
        pd.DataFrame(
            [
                row
                | {
                    "patients": 1,
                    "needed": None,
                    "needed_low": None,
                    "needed_high": None,
                    "verdict": "cannot be said",
                }
            ]
        )
    )
    assert alone.endswith("cannot be said from 1 patient.")


def test_numbers_of_patients_stay_whole_beside_one_that_cannot_be_said() -> None:
    row = {
        "target": "pain_now",
        "known": 1,
        "model": "pain_now_ridge",
        "patients": 29,
        "check_ins": 100,
        "wanted": 0.25,
    }
    told = {
        "between_variance": 1.0,
        "within_variance": 1.0,
        "needed": 1200,
        "needed_low": 20,
        "needed_high": 1390,
    }
    rows = [
        row | told | {"quantity": "mean_error", "verdict": "known"},
        row | told | {"quantity": "gain_over_last_answer", "verdict": "too few patients to know"},
        row | dict.fromkeys(told) | {"quantity": "correlation", "verdict": "cannot be said"},
    ]
    (line,) = needed_lines(CheckInPatientsNeeded.from_rows(rows).to_pandas())
    assert "points: about 1,200 patients (20 to 1,390); " in line
    assert "points: 20 to 1,390 patients; with 29 patients" in line
    assert line.endswith("to within 0.25: cannot be said from 29 patients.")


def test_ranges_calibration_decisions_and_numbers_of_patients_are_on_the_page(made: SimpleNamespace) -> None:
    words = text(made.page)
    metrics = made.tables["check_in_metrics"].to_pandas().set_index(["target", "known", "model", "metric"])
    # the linear model, though the other one may do better on the same check-ins
    assert likely_lines(made.tables["check_in_metrics"].to_pandas(), "pain_now", 3, SETTINGS)[0] in words
    slope = metrics.loc[("pain_now", 3, "pain_now_ridge", "calibration_slope")]
    assert f"{slope['estimate']:.2f} {slope['low']:.2f} to {slope['high']:.2f}" in words
    needed = made.tables["check_in_patients_needed"].to_pandas()
    assert all(line in words for line in needed_lines(needed))
    assert "net benefit of acting on an answer of 7 or more" in words
    assert "Pain now: how far the interval of the mean error reaches to either side" in words
    reach = made.tables["check_in_interval_reach"].to_pandas()
    own = reach[(reach["target"] == "pain_now") & (reach["quantity"] == "mean_error")].set_index("patients")
    told = " ".join(f"{own.loc[n, 'reach']:.2f}" for n in (29, 112, 1000))
    assert f"29 patients 112 patients 1,000 patients Pain now the mean error {told}" in words


def test_important_changes_are_told_in_a_sentence() -> None:
    rows = [("pain_now_ridge", "changes_detected", 0.15), ("pain_now_ridge", "false_alarms", 0.04)]
    frame = pd.DataFrame(
        [*rows, ("last_answer", "changes_detected", 0.06)], columns=["model", "metric", "estimate"]
    ).assign(target="pain_now", known=3)
    assert change_lines(frame, "pain_now", 3) == [
        "Pain now, after 3 check-ins: the linear model detects 15% of important changes, the last answer 6%. "
        "Where there is none, it gives a false alarm 4% of the time."
    ]
    assert change_lines(frame.iloc[1:], "pain_now", 3) == []


def ranges(told: float, severe: tuple[float, float | None], patients: int = 9) -> pd.DataFrame:
    """The linear model's and another model's metrics of ranges, and those of the same guess without a video."""
    rows = [("pain_now_ridge", "covered", 0.93, 0.96), ("pain_now_ridge", "told", told, None)]
    rows += [("pain_now_ridge", "covered_severe", *severe), ("pain_now_boosting", "told", 1.0, None)]
    rows += [("first_answers", "told", 0.2, None), ("first_answers", "covered", 0.9, 0.95)]
    frame = pd.DataFrame(rows, columns=["model", "metric", "estimate", "high"])
    return frame.assign(target="pain_now", known=3, patients=patients)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (0.04, "is narrow enough to be of use for fewer than 1 of 10"),
        (0.7, "is narrow enough to be of use for 7 of 10"),
        (1.0, "is narrow enough to be of use for 10 of 10"),
    ],
)
def test_a_model_that_cannot_tell_is_said_to_be_one(told: float, words: str) -> None:
    (line,) = likely_lines(ranges(told, (0.9, 0.95)), "pain_now", 3, SETTINGS)
    assert line.startswith(
        "Pain now, after 3 check-ins, linear model: the range holds the answer of more than 9 of 10"
    )
    assert f"{words} (without the video for 2 of 10)." in line
    assert "Take care" not in line


def test_where_no_range_is_of_use_the_line_says_whether_one_is_without_the_video() -> None:
    said = "and is too wide to be of use for every one of them: the model cannot tell"
    frame = ranges(0.0, (0.9, 0.95))
    (line,) = likely_lines(frame, "pain_now", 3, SETTINGS)
    assert f"{said} (without the video it is of use for 2 of 10)." in line
    frame.loc[(frame["model"] == "first_answers") & (frame["metric"] == "told"), "estimate"] = 0.0
    (line,) = likely_lines(frame, "pain_now", 3, SETTINGS)
    assert f"{said}, and neither could a guess without the video." in line


def test_ranges_that_miss_severe_answers_are_warned_of() -> None:
    (line,) = likely_lines(ranges(0.7, (0.6, 0.89)), "pain_now", 3, SETTINGS)
    assert line.endswith("Take care: of severe answers it holds only 6 of 10.")
    # no patient's severe answer is in its range: there is no interval, and nothing could be clearer
    (line,) = likely_lines(ranges(0.7, (0.0, None)), "pain_now", 3, SETTINGS)
    assert line.endswith("Take care: of severe answers it holds only 0 of 10.")
    for severe, patients in (((1.0, None), 9), ((0.0, None), 1)):
        (line,) = likely_lines(ranges(0.7, severe, patients), "pain_now", 3, SETTINGS)
        assert "Take care" not in line
    assert likely_lines(ranges(0.7, (0.6, 0.89)).head(0), "pain_now", 3, SETTINGS) == []


def test_another_experiment_is_one_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = modeling.CheckInExperiment("pain_now_voice", target("pain_now"), ("voice",), "ridge")
    monkeypatch.setattr(modeling, "CHECK_IN_EXPERIMENTS", (*modeling.CHECK_IN_EXPERIMENTS, entry))
    study = invent_check_ins(12, 6, effect=0.8, seed=3)
    settings = SETTINGS.model_copy(update={"targets": ("pain_now",)})
    tables = evaluate_check_ins(CheckInInputs(study.bpi_scores, study.splits, study.measures), settings)
    for name in ("check_in_predictions", "check_in_metrics", "check_in_claims", "check_in_sets"):
        assert "pain_now_voice" in tables[name]["model"].to_pylist(), name
    page = write_clinic_report(ClinicReportInputs(tables, settings), tmp_path / "p.html").read_text("utf-8")
    assert "Linear model of voice" in text(page)
