"""Checklist and model card beyond the paper's target: check-ins, and other studies' models, only where there are any."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from iss_assets.evaluation.check_ins.study import CheckInInputs, evaluate_check_ins
from iss_assets.reports.further_targets import model_card, with_further_targets
from iss_assets.reports.report_answers import checklist_answers
from iss_assets.settings import CheckInSettings
from iss_assets.synthetic.check_ins import invent_check_ins
from iss_assets_tests.reports.test_external_report import predicted, tables
from iss_assets_tests.reports.test_study_report import inputs


@pytest.fixture(scope="module")
def check_ins() -> dict[str, pa.Table]:
    few = CheckInSettings(bootstrap_samples=199, permutations=99, trees=3)
    made = invent_check_ins(8, 4, effect=0.5)
    return dict(evaluate_check_ins(CheckInInputs(made.bpi_scores, made.splits, made.measures), few))


def test_check_ins_are_in_the_checklist_and_on_the_card_only_where_they_were_predicted(
    study: SimpleNamespace, evaluated: dict[str, pa.Table], check_ins: dict[str, pa.Table]
) -> None:
    without, with_them = inputs(study, evaluated), inputs(study, {**evaluated, **check_ins})
    plain, more = checklist_answers(without), checklist_answers(with_them)
    assert "check-in" not in plain["outcome"] and model_card(without) == []
    assert more["outcome"].startswith(plain["outcome"]) and "Of each check-in: pain now" in more["outcome"]
    assert "predicted for new patients and after 1" in more["partition"]
    # two targets have models of the same names, and each name is said once
    assert "For check-ins: linear model and boosted trees; the clinic’s report has them." in more["models"]
    assert "Check-ins: " in more["events"] and " of 8 patients" in more["events"]
    ((name, text),) = model_card(with_them)
    assert name == "Further labels" and "pain now" in text


def test_the_checklist_says_what_a_network_reads_where_one_was_evaluated(
    study: SimpleNamespace, evaluated: dict[str, pa.Table], check_ins: dict[str, pa.Table]
) -> None:
    metrics = check_ins["check_in_metrics"].to_pandas()
    metrics["model"] = metrics["model"].replace("pain_now_boosting", "pain_now_attention")
    more = checklist_answers(inputs(study, {**evaluated, **check_ins, "check_in_metrics": metrics}))
    assert "A network reads pictures of the face, instead of measures." in more["predictors"]
    assert "linear model, attention network on pictures of the face and boosted trees" in more["models"]
    plain = checklist_answers(inputs(study, {**evaluated, **check_ins}))
    assert "network reads" not in plain["predictors"]


def test_other_studies_models_are_told_with_the_verdict_of_the_table(
    study: SimpleNamespace, evaluated: dict[str, pa.Table]
) -> None:
    for right, words in (
        (1.0, "Random Forest Pain of study c0ffee carries over"),
        (0.2, "is no better here than the best simple rule"),
    ):
        given = inputs(study, {**evaluated, **tables(predicted("forest_pain", 24, right))})
        assert words in checklist_answers(given)["objectives"]
        assert words in dict(model_card(given))["Other studies’ models"]
    assert "study" not in with_further_targets({"objectives": "x"}, inputs(study, evaluated))["objectives"]
