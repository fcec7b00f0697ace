"""Claims are made where there is something, and only there; the first lines say which."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from iss_assets.evaluation.check_ins.claims import BEATS, BEATS_LAST, FOLLOWS, claims, without
from iss_assets.evaluation.check_ins.protocols import ROOM
from iss_assets.evaluation.verdicts import VERDICTS
from iss_assets.reports.clinic_lines import first_lines
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import Confounder, invent_check_ins
from iss_assets_tests.evaluation.check_ins.conftest import evaluate


def lines(tables: dict[str, pd.DataFrame], settings: CheckInSettings) -> tuple[str, str]:
    lead, points = first_lines(tables["check_in_claims"], tables["check_in_effects"], settings)
    return lead, "\n".join(points)


def test_a_planted_effect_is_claimed_and_the_first_lines_say_so(
    planted: SimpleNamespace, quick: CheckInSettings
) -> None:
    found = planted.tables["check_in_claims"].set_index(["claim", "known", "model"])
    follows = found.loc[(FOLLOWS, 1, "pain_now_ridge")]
    assert follows["verdict"] == "yes"
    assert follows["low"] < 0.6 < follows["high"] + 0.05
    assert found.loc[(BEATS_LAST, 5, "pain_now_ridge"), "verdict"] == "yes"
    lead, points = lines(planted.tables, quick)
    assert lead.startswith("Face and voice follow the ups and downs of pain now")
    assert (
        "Pain now is predicted better than by the patient’s last answer, and than by a guess without the video: "
        in points
    )
    assert f"from 0 (not at all) to 1 (in step): {found.xs(FOLLOWS)['estimate'].max():.2f}" in points


def test_without_an_effect_nothing_is_claimed_and_the_first_lines_say_so(
    nothing: SimpleNamespace, quick: CheckInSettings
) -> None:
    found = nothing.tables["check_in_claims"]
    # knowing a patient's first answers beats the last one here, without any help from the video
    error = nothing.tables["check_in_metrics"].set_index(["known", "model", "metric"])["estimate"]
    assert error[5, "pain_now_ridge", "mean_error"] < error[5, "last_answer", "mean_error"] - 0.2
    assert not (found["verdict"] == "yes").any()
    lead, points = lines(nothing.tables, quick)
    assert lead.startswith("Nothing is shown: ")
    assert "Pain now: face and voice are not shown to go along with a patient’s ups and downs." in points


@pytest.mark.parametrize(
    ("follows", "beats", "lead"),
    [
        ("yes", "yes", "Voice follows the ups and downs of pain now, and predicts pain now better than any simple rule."),
        ("yes", "not shown", "Voice follows the ups and downs of pain now, but no model is shown to predict"),
        ("not shown", "yes", "Models of voice predict pain now better than any simple rule, but are not shown to follow"),
        ("not shown", "not shown", "Nothing is shown: no model of voice is shown to follow"),
        ("no", "no", "Nothing is shown: no model of voice is shown to follow"),
        ("cannot be shown", "cannot be shown", "Nothing could have been shown: there are too few patients"),
    ],
)  # fmt: skip
def test_the_lead_says_what_the_verdicts_say(
    follows: str, beats: str, lead: str, planted: SimpleNamespace, quick: CheckInSettings
) -> None:
    rows = planted.tables["check_in_claims"].copy()
    rows["verdict"] = rows["claim"].map({FOLLOWS: follows, BEATS: beats, BEATS_LAST: beats})
    rows = rows[rows["model"] != ROOM]
    effects = planted.tables["check_in_effects"]
    said, points = first_lines(rows, effects[effects["measure"].str.startswith("voice")], quick)
    assert said.startswith(lead)
    against = {
        "yes": "Pain now is predicted better than by the patient’s last answer, and than by a guess without the video: both models",
        "no": "Pain now is not predicted better than by the patient’s last answer, and than by a guess without the video: both models",
        "not shown": "Pain now is not shown to be predicted better than by the patient’s last answer, and than by a guess without the video: both models",
        "cannot be shown": "There are too few patients to show whether pain now is predicted better than by the patient’s last answer, and than by a guess without the video: both models",
    }
    assert any(p.startswith(against[beats]) for p in points)
    assert points[0].startswith(
        {
            "yes": "Pain now: voice goes along with a patient’s ups and downs. How closely, from 0 (not at all) to 1 (in step): ",
            "no": "Pain now: voice is not shown to go along with a patient’s ups and downs.",
            "not shown": "Pain now: voice is not shown to go along with a patient’s ups and downs.",
            "cannot be shown": "Pain now: too few patients to show whether voice goes along with a patient’s ups and downs.",
        }[follows]
    )


@pytest.mark.parametrize(
    ("measures", "verdicts", "said"),
    [
        (["face: a"], ["cannot be shown"], "too few patients to show whether face goes along"),
        (["face: a"], ["no"], "face is not shown to go along"),
        (["words: a"], ["not shown"], "words are not shown to go along"),
        (["face: a", "behavior: b", "words: c"], ["yes", "no"], "face, behavior and words go along"),
        # what cannot be shown of one model is not what the other one shows
        (["voice: a"], ["cannot be shown", "no"], "too few patients to show whether voice goes along"),
        (["voice: a"], ["cannot be shown", "not shown"], "voice is not shown to go along"),
        ([], ["not shown"], "the videos are not shown to go along"),
    ],
)
def test_ups_and_downs_are_told_of_what_was_measured(
    measures: list[str],
    verdicts: list[str],
    said: str,
    planted: SimpleNamespace,
    quick: CheckInSettings,
) -> None:
    rows = planted.tables["check_in_claims"]
    rows = rows[(rows["claim"] == FOLLOWS) & (rows["model"] != ROOM)].head(len(verdicts))
    assert len(rows) == len(verdicts)
    effects = planted.tables["check_in_effects"].head(len(measures)).assign(measure=measures)
    _, points = first_lines(rows.assign(verdict=verdicts), effects, quick)
    assert points[0].startswith(f"Pain now: {said} with a patient’s ups and downs.")


NETWORK = "pain_now_attention"


@pytest.mark.parametrize(
    ("supported", "lead", "points"),
    [
        (
            {("pain_now_ridge", FOLLOWS)},
            "Face and voice follow the ups and downs of pain now, but no model is shown to predict an answer better",
            [
                "Pain now: face and voice go along with a patient’s ups and downs.",
                "Pain now: pictures of the face are not shown to go along",
            ],
        ),
        (
            {(NETWORK, FOLLOWS)},
            "Pictures of the face follow the ups and downs of pain now, but no model is shown to predict an answer better",
            [
                "Pain now: pictures of the face go along with a patient’s ups and downs.",
                "Pain now: face and voice are not shown to go along",
            ],
        ),
        (
            {("pain_now_boosting", FOLLOWS), (NETWORK, FOLLOWS), (NETWORK, BEATS)},
            "Face and voice follow the ups and downs of pain now, and pictures of the face predict pain now better than any simple rule.",
            [
                "Pain now: face and voice go along with a patient’s ups and downs.",
                "Pain now: pictures of the face go along with a patient’s ups and downs.",
            ],
        ),
        (
            {(NETWORK, FOLLOWS), (NETWORK, BEATS)},
            "Pictures of the face follow the ups and downs of pain now, and predict pain now better than any simple rule.",
            ["Pain now: pictures of the face go along", "Pain now: face and voice are not shown to go along"],
        ),
        (
            {(NETWORK, BEATS)},
            "Models of pictures of the face predict pain now better than any simple rule, but are not shown to follow",
            ["Pain now: neither face and voice nor pictures of the face are shown to go along"],
        ),
        (
            {("interference_ridge", FOLLOWS), (NETWORK, FOLLOWS)},
            "Pictures of the face follow the ups and downs of pain now, and face and voice follow the ups and downs of pain "
            "interference, but no model is shown",
            ["Pain now: pictures of the face go along", "Pain now: face and voice are not shown to go along"],
        ),
        (
            set(),
            "Nothing is shown: no model of face and voice or of pictures of the face is shown to follow a patient’s ups and downs, or to "
            "predict",
            ["Pain now: neither face and voice nor pictures of the face are shown to go along"],
        ),
    ],
)
def test_a_claim_is_told_of_what_its_model_reads(
    supported: set[tuple[str, str]],
    lead: str,
    points: list[str],
    planted: SimpleNamespace,
    quick: CheckInSettings,
) -> None:
    """Claims of two targets by linear model, trees and, for pain now, a network on pictures."""
    rows = planted.tables["check_in_claims"]
    rows = rows[rows["model"] != ROOM]
    of_network = rows[rows["model"] == "pain_now_ridge"].assign(model=NETWORK)
    other = rows.assign(
        target="interference", model=rows["model"].str.replace("pain_now", "interference", regex=False)
    )
    every = pd.concat([rows, of_network, other], ignore_index=True)
    every["verdict"] = [
        "yes" if key in supported else "not shown" for key in zip(every["model"], every["claim"], strict=True)
    ]
    said, told = first_lines(every, planted.tables["check_in_effects"], quick)
    assert said.startswith(lead)
    for start, point in zip(points, told, strict=False):
        assert point.startswith(start)
    along = [p for p in told if "along with" in p and p.startswith("Pain now")]
    assert len(along) == len(points)


def test_a_model_that_does_not_beat_the_last_answer_is_reported_as_such(quick: CheckInSettings) -> None:
    """Where pain drifts slowly, the last answer is hard to beat, and the first lines say that it was not."""
    study = invent_check_ins(20, 12, effect=0.3, seed=4)
    scores = study.bpi_scores.copy()
    smooth = scores.groupby("patient_id")["pain_now"].transform(lambda v: v.ewm(alpha=0.15).mean())
    scores["pain_now"] = smooth.round()
    tables = evaluate(type(study)(study.patients, scores, study.splits, study.measures), quick)
    found = tables["check_in_claims"]
    against_last = found[found["claim"] == BEATS_LAST]
    assert (against_last["verdict"] == "no").all()
    _, points = lines(tables, quick)
    assert (
        "Pain now is not predicted better than by the patient’s last answer, and than by a guess without the video: both models, for new patients and after 1, 3 and 5"
        in points
    )


def test_too_few_patients_cannot_show_anything_and_are_told_so(quick: CheckInSettings) -> None:
    tables = evaluate(invent_check_ins(4, 5, effect=0.9, seed=1), quick)
    assert set(tables["check_in_claims"]["verdict"]) <= {"cannot be shown", "no"}
    assert lines(tables, quick)[0].startswith("Nothing could have been shown: there are too few patients")


def test_a_study_without_check_ins_has_empty_tables_and_a_sentence(quick: CheckInSettings) -> None:
    study = invent_check_ins(2, 2)
    empty = evaluate(type(study)(study.patients, study.bpi_scores.iloc[:0], study.splits, {}), quick)
    assert all(table.empty for table in empty.values())
    assert lines(empty, quick)[0].startswith("No check-in has been predicted yet")


def test_all_claims_share_one_level(planted: SimpleNamespace, quick: CheckInSettings) -> None:
    rows = planted.tables["check_in_predictions"]
    found = claims(
        rows, {"pain_now": planted.study.measures["quality"].set_index("video_id")[["quality.noise"]]}, quick
    )
    # each of two models: ups and downs, and two references in four situations; and the canary
    assert len(found) == 2 * (1 + 2 * 4) + 1
    smallest = min(found, key=lambda c: c.p)
    assert smallest.p_holm == pytest.approx(min(1.0, smallest.p * len(found)))
    assert {c.verdict for c in found} <= set(VERDICTS)


@pytest.mark.parametrize(
    ("confounder", "effect"), [("room", 0.0), ("room", 0.5), ("phone", 0.0), ("time of day", 0.0)]
)
def test_a_model_that_only_knows_the_room_is_exposed_and_one_that_knows_the_patient_is_not(
    confounder: Confounder, effect: float, quick: CheckInSettings
) -> None:
    """Room, phone or time of day goes along with pain, and shows in a measure of the face that has nothing else to say."""
    study = invent_check_ins(29, 10, effect=effect, confounded=0.6, confounder=confounder, seed=2)
    tables = evaluate(study, quick)
    # the naive figure would be a success: the face's measure goes along with pain within patients
    naive = tables["check_in_effects"].set_index("measure").loc["face: face.brightness"]
    assert naive["p_value_holm"] < 0.001 and naive["correlation"] > 0.4
    found = tables["check_in_claims"]
    canary = found[found["model"] == ROOM]
    assert canary["verdict"].tolist() == ["yes"]
    models = found[found["model"] != ROOM]
    assert (models["verdict"] == "yes").any() == bool(effect)
    # nor is it worth acting on a face that only shows the light
    assert effect or not (tables["check_in_usefulness"]["verdict"] == "yes").any()
    lead, points = lines(tables, quick)
    assert lead.startswith("Face and voice follow the ups and downs" if effect else "Nothing is shown: ")
    assert (
        "Take care: room, phone and time of day alone go along with the ups and downs of pain now" in points
    )


def test_what_the_room_explains_is_taken_out_and_no_more() -> None:
    rng = np.random.default_rng(0)
    light, own = rng.normal(size=(2, 200))
    rest = without(2 * light + own, np.column_stack([light, np.full(200, np.nan), np.zeros(200)]), 180)
    assert abs(rest @ light) < 1e-9
    assert np.corrcoef(rest, own)[0, 1] > 0.99
    # many measures of few check-ins: only the few that go along with the series most
    many = without(2 * light + own, np.column_stack([rng.normal(size=(200, 150)), light]), 15)
    assert np.var(many) > 0.5 and abs(np.corrcoef(many, light)[0, 1]) < 0.3
    np.testing.assert_array_equal(without(own, np.empty((200, 0)), 180), own)
