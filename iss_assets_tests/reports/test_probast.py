"""The PROBAST+AI assessment: every answer follows from a fact, in both directions, and is left open without one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from iss_assets.modeling.experiments import BY_NAME
from iss_assets.reports.probast import (
    AUTHORS,
    DEVELOPMENT,
    EVALUATION,
    HIGH,
    LOW,
    NO,
    PROBABLY,
    PROBABLY_NOT,
    UNCLEAR,
    YES,
    RunFacts,
    assess,
    rate,
    summary,
)
from iss_assets.reports.run_facts import facts_of_external, facts_of_study, predictors
from iss_assets.schemas.evaluation import CanaryResults, QualityAssociations
from iss_assets.schemas.intake import BpiScores
from iss_assets_tests.reports.test_external_report import inputs as external_inputs
from iss_assets_tests.reports.test_study_report import inputs

GOOD = RunFacts(
    enrolled=400, analyzed=400, events=200, others=200, reads_answers=False, fewest_columns=10, quality_differs=False,
    missing_share=0.0, missing_scores="impute", gap_days=1, first_gap_days=0, splits=10, canaries_run=5, canaries_failed=0,
    class_weights=False, intervals=True, calibrated=True, rules=True, small_groups=0, groups=4,
)  # fmt: skip


def answer(facts: RunFacts, asked: str) -> str:
    (found,) = [a for a in assess(facts) if asked in a.asked]
    return found.answer


@pytest.mark.parametrize(
    ("asked", "fact", "expected"),
    [
        ("inclusions", {}, YES),
        ("inclusions", {"analyzed": 390}, PROBABLY),
        ("inclusions", {"analyzed": 300}, PROBABLY_NOT),
        ("sources", {}, AUTHORS),
        ("sources", {"invented": True}, NO),
        ("assessed alike", {}, YES),
        ("assessed alike", {"quality_differs": True}, PROBABLY_NOT),
        ("assessed alike", {"quality_differs": None}, AUTHORS),
        ("without knowing the outcome", {}, YES),
        ("without knowing the outcome", {"reads_answers": True}, NO),
        ("kept out of the outcome", {"reads_answers": True}, PROBABLY_NOT),
        ("kept out of the outcome", {}, YES),
        ("without knowing predictors", {}, YES),
        ("without knowing predictors", {"first_gap_days": -3}, NO),
        ("time between", {}, PROBABLY),
        ("time between", {"gap_days": 20}, PROBABLY_NOT),
        ("time between", {"gap_days": 45}, NO),
        ("time between", {"gap_days": None}, AUTHORS),
        ("develop a model", {}, YES),
        ("develop a model", {"events": 120}, PROBABLY_NOT),
        ("develop a model", {"events": 40}, NO),
        ("develop a model", {"fewest_columns": 1404}, NO),
        ("evaluate one", {}, YES),
        ("evaluate one", {"others": 99}, NO),
        ("Missing data", {}, YES),
        ("Missing data", {"missing_share": 0.04}, PROBABLY),
        ("Missing data", {"missing_share": 0.2}, PROBABLY_NOT),
        ("Missing data", {"missing_share": 0.04, "missing_scores": "leave_out"}, NO),
        ("optimism", {}, YES),
        ("optimism", {"splits": None}, AUTHORS),
        ("leakage", {}, YES),
        ("leakage", {"canaries_failed": 1}, NO),
        ("leakage", {"canaries_run": None}, AUTHORS),
        ("imbalance", {}, YES),
        ("imbalance", {"class_weights": True}, NO),
        ("measures of performance", {}, YES),
        ("measures of performance", {"calibrated": False}, NO),
        ("simpler rules", {}, YES),
        ("simpler rules", {"rules": False}, NO),
        ("fairness", {}, YES),
        ("fairness", {"small_groups": 2}, PROBABLY_NOT),
        ("another setting or time", {}, NO),
    ],
)
def test_an_answer_follows_from_the_facts(asked: str, fact: dict[str, Any], expected: str) -> None:
    assert answer(replace(GOOD, **fact), asked) == expected


def test_a_domain_is_as_good_as_its_worst_answer() -> None:
    rated = rate(assess(GOOD), DEVELOPMENT)
    assert rated["Predictors"] == LOW and rated["Outcome"] == LOW and rated["Analysis"] == LOW
    assert (rated["Participants and data sources"], rated["Overall"]) == (UNCLEAR, UNCLEAR)
    # that models were evaluated nowhere else concerns the evaluation, not the development
    assert rate(assess(GOOD), EVALUATION)["Analysis"] == HIGH
    assert rate(assess(replace(GOOD, reads_answers=True)), DEVELOPMENT)["Predictors"] == HIGH
    assert rate(assess(replace(GOOD, class_weights=True)), DEVELOPMENT)["Analysis"] == HIGH


def test_without_a_record_nothing_is_answered_that_depends_on_one() -> None:
    known = {a.asked: a.answer for a in assess(RunFacts()) if not a.open}
    # of what the program always does: its predictors, its outcome; and that nobody else's patients were predicted
    assert set(known.values()) == {YES, NO} and len(known) == 3


def test_on_other_studies_models_only_the_evaluation_is_assessed() -> None:
    made = summary(replace(GOOD, trained_here=False))
    assert [name for name, _ in made["ratings"]] == ["Risk of bias of the evaluation"]  # type: ignore[attr-defined]  # a list of pairs
    answers = assess(replace(GOOD, trained_here=False, canaries_run=None))
    assert not [a for a in answers if a.parts == (DEVELOPMENT,)]
    assert {a.answer for a in answers if "leakage" in a.asked or "another setting" in a.asked} == {YES}


def test_facts_come_from_the_tables(study: SimpleNamespace, evaluated: dict[str, pa.Table]) -> None:
    facts = facts_of_study(inputs(study, evaluated))
    levels = study.accuracy.to_pandas().drop_duplicates("patient_id")["pain_level"]
    assert (facts.events, facts.others) == (int((levels != "None").sum()), int((levels == "None").sum()))
    assert (facts.enrolled, facts.splits, facts.reads_answers) == (29, 10, True)
    # the forest on the answers has the fewest predictors
    assert facts.fewest_columns == predictors(BY_NAME["forest_pain"]) == 15
    assert facts.class_weights is False and facts.missing_scores == "impute"
    assert facts.missing_share == pytest.approx(6 / (29 * 6))
    assert facts.gap_days is not None and facts.gap_days > 0
    assert answer(facts, "evaluate one") == NO


def test_a_failed_alarm_and_an_association_reach_the_answers(
    study: SimpleNamespace, evaluated: dict[str, pa.Table]
) -> None:
    def facts(**changed: pa.Table) -> RunFacts:
        return facts_of_study(inputs(study, {**evaluated, **changed}))

    alarm = {
        "canary": "shuffled labels",
        "subject": "forest_pain",
        "detail": "",
        "value": 0.9,
        "limit_value": 0.6,
    }
    for passed, said in ((True, YES), (False, NO)):
        rows = CanaryResults.from_rows([{**alarm, "passed": passed}])
        assert answer(facts(canary_results=rows), "leakage") == said
    measure = {"measure": "luminance", "patients": 29, "auroc": 0.8, "p_value": 0.001}
    for p, said in ((0.01, PROBABLY_NOT), (0.4, YES)):
        rows = QualityAssociations.from_rows([{**measure, "p_value_holm": p}])
        assert answer(facts(quality_associations=rows), "assessed alike") == said
    complete = study.scores.to_pandas().assign(missing_scores=0)
    without = facts_of_study(
        replace(inputs(study, evaluated), bpi_scores=BpiScores.from_rows(complete.to_dict("records")[:1]))
    )
    assert answer(without, "Missing data") == YES


def test_facts_of_an_external_validation() -> None:
    given = external_inputs()
    frames = [given.frame(f"external_{name}") for name in ("results", "metrics", "patients", "baselines")]
    facts = facts_of_external(*frames, invented=False)
    assert (facts.enrolled, facts.analyzed, facts.events, facts.others) == (25, 24, 12, 12)
    assert facts.trained_here is False and facts.reads_answers is True
    assert answer(facts, "evaluate one") == NO
