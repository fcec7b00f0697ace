"""What a group adds is found where it adds something, and only there; both orders use the same folds and patients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from iss_assets.evaluation.check_ins.added_value import FORWARD, QUESTION, REVERSE
from iss_assets.protocol import terms
from iss_assets.reports.clinic_lines import answer
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import invent_check_ins
from iss_assets_tests.evaluation.check_ins.conftest import evaluate


@pytest.fixture(scope="module")
def silent(quick: CheckInSettings) -> dict[str, pd.DataFrame]:
    """A sign in the voice, and a questionnaire whose other answers never change."""
    study = invent_check_ins(29, 10, effect=0.8, seed=1)
    scores = study.bpi_scores.assign(**dict.fromkeys(terms.INTERFERENCE_ITEMS, 5))
    return evaluate(type(study)(study.patients, scores, study.splits, study.measures), quick)


def steps(tables: dict[str, pd.DataFrame], ordering: str, known: int) -> pd.DataFrame:
    rows = tables["check_in_added_value"]
    return rows[(rows["ordering"] == ordering) & (rows["known"] == known)].set_index("added")


def test_a_sign_in_the_voice_is_what_the_voice_adds(silent: dict[str, pd.DataFrame]) -> None:
    forward = steps(silent, FORWARD, 5)
    assert forward.index.tolist() == ["quality", "questionnaire", "face", "voice"]
    assert forward["verdict"].to_dict() | {"quality": "", "face": ""} == {
        "quality": "",
        "questionnaire": "no",
        "face": "",
        "voice": "yes",
    }
    assert not forward.loc[["quality", "face"], "verdict"].eq("yes").any()
    assert steps(silent, QUESTION, 5)["verdict"].tolist() == ["yes"]
    said = answer(silent["check_in_added_value"], silent["check_in_effects"])
    assert len(said) == 1
    assert (
        "beyond the other answers of the questionnaire: face and voice make the error smaller by" in said[0]
    )


def test_beside_a_questionnaire_that_says_it_all_the_voice_adds_nothing(
    planted: SimpleNamespace, nothing: SimpleNamespace
) -> None:
    for tables in (planted.tables, nothing.tables):
        for known in (0, 5):
            assert steps(tables, FORWARD, known).at["questionnaire", "verdict"] == "yes"
            assert steps(tables, QUESTION, known)["verdict"].tolist() != ["yes"]
        said = answer(tables["check_in_added_value"], tables["check_in_effects"])
        assert (
            "face and voice are not shown to add anything for new patients and after 5 check-ins" in said[0]
        )
    # first in line, the voice has something to say where there is a sign, and nothing where there is none
    first = {
        name: steps(study.tables, REVERSE, 5).loc["voice"]
        for name, study in (("sign", planted), ("none", nothing))
    }
    assert first["sign"]["gain"] > 0.05 > first["none"]["gain"] and first["sign"]["gain_low"] > 0
    assert first["none"]["verdict"] != "yes"
    # and the questionnaire is not replaced
    assert steps(planted.tables, REVERSE, 5).at["questionnaire", "verdict"] == "yes"


@pytest.mark.parametrize(
    ("measures", "said"),
    [
        (
            ["face: a"],
            (
                "face makes the error smaller by",
                "face is not shown to add anything",
                "too few patients to show whether face adds anything",
            ),
        ),
        (
            ["words: a"],
            (
                "words make the error smaller by",
                "words are not shown to add anything",
                "too few patients to show whether words add anything",
            ),
        ),
        (
            [],
            ("the videos make the", "the videos are not", "too few patients to show whether the videos add"),
        ),
    ],
)
def test_the_answer_names_what_was_measured(
    measures: list[str], said: tuple[str, str, str], silent: dict[str, pd.DataFrame]
) -> None:
    rows = silent["check_in_added_value"]
    row = rows[rows["ordering"] == QUESTION].head(1)
    effects = silent["check_in_effects"].head(len(measures)).assign(measure=measures)
    for verdict, words in zip(("yes", "no", "cannot be shown"), said, strict=True):
        (line,) = answer(row.assign(verdict=verdict), effects)
        assert f"of the questionnaire: {words}" in line


def test_gains_add_up_and_both_orders_end_at_the_same_model(silent: dict[str, pd.DataFrame]) -> None:
    for known in (0, 5):
        forward, reverse = steps(silent, FORWARD, known), steps(silent, REVERSE, known)
        assert forward["error"].iloc[-1] == pytest.approx(reverse["error"].iloc[-1])
        assert forward["gain"].sum() == pytest.approx(reverse["gain"].sum())
        np.testing.assert_allclose(-np.diff(forward["error"]), forward["gain"].iloc[1:], atol=1e-12)
        together = steps(silent, QUESTION, known)
        assert together["gain"].iloc[0] == pytest.approx(forward.loc[["face", "voice"], "gain"].sum())


def test_all_steps_share_one_level(silent: dict[str, pd.DataFrame]) -> None:
    rows = silent["check_in_added_value"]
    assert len(rows) == 2 * (4 + 4 + 1)
    smallest = rows.sort_values("p_value").iloc[0]
    assert smallest["p_value_holm"] == pytest.approx(min(1.0, smallest["p_value"] * len(rows)))
