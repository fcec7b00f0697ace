"""Predictors never hold the answers that define a target; check-ins are in order of time."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest

from iss_assets.evaluation.check_ins.design import check_ins, design, predictors
from iss_assets.modeling.check_ins import (
    CHECK_IN_EXPERIMENTS,
    GROUPS,
    SENSORS,
    SOURCES,
    questionnaire_answers,
)
from iss_assets.protocol import targets, terms
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import invent_check_ins


@pytest.mark.parametrize("name", list(targets.BY_NAME))
def test_no_predictor_changes_when_the_answers_that_define_the_target_change(name: str) -> None:
    study = invent_check_ins(6, 4, seed=3)
    target = targets.target(name)
    other = study.bpi_scores.copy()
    rng = np.random.default_rng(0)
    for answer in target.answers:
        other[answer] = rng.permutation(10 - other[answer])
    found = []
    for scores in (study.bpi_scores, other):
        rows = check_ins(scores, study.splits, study.measures)
        found.append(predictors(rows, design(rows, target), tuple(GROUPS)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    # the questionnaire's other answers are there
    assert sum(n.startswith("questionnaire: ") for n in found[0][1]) == len(terms.SCORES) - len(
        target.answers
    )


def test_no_answer_is_among_the_measures_of_videos() -> None:
    answers = {*terms.SCORES, "pain_target", "pain_level", "cohort"}
    for source in SOURCES:
        for table in filter(None, (source.table, source.minus)):
            if table in BY_NAME:
                assert not answers & {c.name for c in BY_NAME[table].columns()}, table
    assert {e.groups for e in CHECK_IN_EXPERIMENTS if e.series is None} == {SENSORS}
    assert not {"questionnaire", "demographics"} & set(SENSORS)


def test_interference_is_not_predicted_from_its_items_and_an_item_not_from_itself() -> None:
    assert questionnaire_answers(targets.target("interference")) == ("pain_now", "chronic_pain")
    assert "sleep" not in questionnaire_answers(targets.target("sleep"))
    assert "mood" in questionnaire_answers(targets.target("sleep"))


def test_the_settings_name_the_protocols_targets() -> None:
    annotation = CheckInSettings.model_fields["targets"].annotation
    assert get_args(get_args(annotation)[0]) == tuple(targets.BY_NAME)
    with pytest.raises(ValueError, match="no check-in target 'pain_target'"):
        targets.target("pain_target")


def test_check_ins_are_in_order_of_time_and_only_those_with_a_usable_video() -> None:
    study = invent_check_ins(3, 4, seed=0)
    scores = study.bpi_scores.sample(frac=1, random_state=1)
    # one check-in has no known offset, one no usable video, one patient is in no split
    scores.loc[scores["submission_id"] == "0001-02", "submitted_at"] = pd.NaT
    measures = {g: f[f["video_id"] != "0002-03"] for g, f in study.measures.items()}
    rows = check_ins(scores, study.splits[study.splits["patient_id"] != "0003"], measures)
    made = design(rows, targets.target("pain_now"))
    assert made.submission == [f"0001-0{i}" for i in (1, 2, 3, 4)] + [f"0002-0{i}" for i in (1, 2, 4)]
    assert made.order.tolist() == [1, 2, 3, 4, 1, 2, 3]
    assert made.weight.sum() == pytest.approx(2)


def test_the_mean_of_the_items_needs_more_than_half_of_them() -> None:
    study = invent_check_ins(2, 3, seed=0)
    scores = study.bpi_scores.astype(dict.fromkeys(terms.INTERFERENCE_ITEMS, float))
    scores.loc[0, list(terms.INTERFERENCE_ITEMS[:4])] = np.nan
    scores.loc[1, list(terms.INTERFERENCE_ITEMS[:3])] = np.nan
    made = design(check_ins(scores, study.splits, study.measures), targets.target("interference"))
    assert "0001-01" not in made.submission
    expected = scores.loc[1, list(terms.INTERFERENCE_ITEMS[3:])].astype(float).mean()
    assert made.y[made.submission.index("0001-02")] == pytest.approx(expected)


def test_broken_measures_are_missing_and_text_is_no_measure() -> None:
    study = invent_check_ins(2, 2, seed=0)
    voice = study.measures["voice"].assign(words="my pain is 7")
    voice.loc[0, "voice.sign"] = np.inf
    rows = check_ins(study.bpi_scores, study.splits, {"voice": voice})
    x, names = predictors(rows, design(rows, targets.target("pain_now")), SENSORS)
    assert all(name.startswith("voice: voice.") for name in names)
    assert np.isnan(x[0, names.index("voice: voice.sign")]) and np.isfinite(x[1:]).all()
