"""The report of an external validation, and the rule behind its first lines."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from iss_assets.evaluation.external import Cohorts, Predicted, evaluate_externally, simple_rules
from iss_assets.modeling.experiments import BY_NAME
from iss_assets.modeling.items import make_items
from iss_assets.reports.external_report import ExternalReportInputs, first_lines, write_external_report
from iss_assets.settings import EvaluationSettings
from iss_assets_tests.evaluation.invented import fold_models, splits
from iss_assets_tests.evaluation.invented import patients as paper_patients

SETTINGS = EvaluationSettings(bootstrap_samples=499, permutations=499)
LEVELS = ("None", "Low", "None", "Severe")


def people(n: int, name: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": [f"{name}{k:03d}" for k in range(n)],
            "pain_level": [LEVELS[k % 4] for k in range(n)],
            "sex": ["F" if k // 4 % 2 else "M" for k in range(n)],
            "skin_group": ["light" if k // 2 % 2 else "dark" for k in range(n)],
        }
    )


def predicted(
    experiment: str, n: int, right: float, *, folds: int = 3, apart: float = 0.02, lean: float = 0.0
) -> Predicted:
    """Predictions of which a share is right; folds lie `apart`, and all lean towards pain."""
    chosen, here = BY_NAME[experiment], people(n, "H")
    items = make_items(
        chosen,
        here["patient_id"].to_numpy(),
        [f"v{p}" for p in here["patient_id"]],
        here["pain_level"].to_numpy(),
        {name: np.zeros((n, 1), np.float32) for name in chosen.inputs},
    )
    good = np.arange(n) < round(right * n)
    answer = np.where(good, items.target, (items.target + 1) % chosen.classes)
    arrays = []
    for fold in range(folds):
        sure = 0.8 + apart * (fold - (folds - 1) / 2)
        p = np.full((n, chosen.classes), (1 - sure) / (chosen.classes - 1))
        p[np.arange(n), answer] = sure
        p[:, 0] = np.clip(p[:, 0] - lean, 0, 1)
        p[:, -1] += 1 - p.sum(axis=1)
        arrays.append(p)
    models = fold_models([experiment], splits(paper_patients(), folds)).to_pandas()
    return Predicted(
        chosen,
        items,
        arrays,
        models,
        {},
        {"all_classes": 0.7, "all_classes_low": 0.6, "all_classes_high": 0.8},
    )


def tables(*given: Predicted, overlap: dict[str, str] | None = None) -> dict[str, Any]:
    n = max(len(one.items.patients) for one in given)
    trained = paper_patients().to_pandas()[["patient_id", "pain_level", "sex", "skin_group"]]
    return evaluate_externally(given, Cohorts("c0ffee", trained, people(n, "H"), overlap or {}), SETTINGS)


def inputs(**more: Any) -> ExternalReportInputs:
    made = tables(
        predicted("forest_pain", 24, 1.0),
        predicted("resnet50_4_static", 24, 0.4),
        overlap={"X1": "same_file"},
    )
    return ExternalReportInputs(
        made, {"fusion_1": "this study has nothing that it reads"}, SETTINGS, made_at=datetime(2026, 3, 1, 12, tzinfo=UTC), **more
    )  # fmt: skip


def lines(*given: Predicted, **more: Any) -> tuple[str, str]:
    made = tables(*given, **more)
    lead, points = first_lines(
        made["external_results"].to_pandas(), made["external_metrics"].to_pandas(), SETTINGS
    )
    return lead, " ".join(points)


@pytest.mark.parametrize(
    ("right", "n", "lead", "point"),
    [
        (1.0, 24, "The model carries over: it predicts these patients", "Random Forest Pain carries over: mean accuracy 1.00"),
        (0.62, 24, "The model is not shown to carry over", "not shown to carry over: mean accuracy 0.62"),
        (0.3, 24, "The model is not shown to carry over", "is no better here than the best simple rule: mean accuracy 0.29"),
        (1.0, 4, "there are too few patients", "too few patients to show whether it carries over"),
    ],
)  # fmt: skip
def test_the_first_line_says_what_the_table_supports(right: float, n: int, lead: str, point: str) -> None:
    said, points = lines(predicted("forest_pain", n, right))
    assert lead in said
    assert point in points


def test_of_several_models_those_that_carry_over_are_named() -> None:
    good, bad = predicted("forest_pain", 24, 1.0), predicted("forest_landmarks", 24, 0.3)
    assert lines(good, bad)[0].startswith("1 of 2 models carries over: Random Forest Pain predicts")
    assert lines(good, predicted("forest_landmarks", 24, 0.97))[0].startswith("All 2 models carry over")
    assert lines(bad, predicted("forest_voice", 24, 0.2))[0].startswith("None of the 2 models is shown")


def test_probabilities_that_lean_and_folds_that_disagree_are_told_only_where_they_do() -> None:
    sober = lines(predicted("forest_pain", 40, 0.9))[1]
    assert "expects pain" not in sober and "disagree" not in sober
    assert (
        "expects pain more often than it occurs here" in lines(predicted("forest_pain", 40, 0.9, lean=0.3))[1]
    )
    assert (
        "expects pain more rarely than it occurs here"
        in lines(predicted("forest_pain", 40, 0.9, lean=-0.3))[1]
    )
    assert "folds of Random Forest Pain disagree" in lines(predicted("forest_pain", 40, 0.9, apart=0.2))[1]


@pytest.mark.parametrize(
    ("lean", "patients", "words"),
    [
        (0.3, 24, "expects pain more often than it occurs here: by 30% of patients (the same for all)."),
        (-0.3, 24, "expects pain more rarely than it occurs here: by 30% of patients (the same for all)."),
        (0.0, 24, ""),
        (0.3, 1, ""),
    ],
)
def test_probabilities_that_lean_by_the_same_for_every_patient_are_told(
    lean: float, patients: int, words: str
) -> None:
    made = tables(predicted("forest_pain", 24, 1.0))
    metrics = made["external_metrics"].to_pandas()
    of_it = metrics["metric"] == "calibration_in_the_large"
    alike = {"estimate": lean, "low": None, "high": None, "patients": patients}
    metrics.loc[of_it, list(alike)] = list(alike.values())
    _, points = first_lines(made["external_results"].to_pandas(), metrics, SETTINGS)
    said = [p for p in points if "expects pain" in p]
    assert words in "".join(said) and bool(said) == bool(words)


def test_enough_patients_are_not_called_few_and_nobody_is_said_to_be_left_out() -> None:
    many, few = lines(predicted("forest_pain", 400, 0.9))[1], lines(predicted("forest_pain", 24, 0.9))[1]
    assert "200 with and 200 without pain" in many and "That is few" not in many
    assert "That is few" in few
    assert "left out" not in few.replace("on patients left out", "")
    assert "1 patient of this study is in the training study, too, and was left out" in lines(
        predicted("forest_pain", 24, 0.9), overlap={"X1": "same_file"}
    )[1]  # fmt: skip


def test_one_patient_is_told_in_the_singular(tmp_path: Path) -> None:
    made = tables(predicted("forest_pain", 1, 1.0))
    page = write_external_report(ExternalReportInputs(made, {}, SETTINGS), tmp_path / "p.html").read_text(
        "utf-8"
    )
    said = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page))
    assert (
        "1 patient, 0 with and 1 without pain, predicted by the mean of 3 folds that learned from 29 other patients."
        in said
    )
    assert "1 experiment, 3 trained folds of the training study" in said
    assert not re.search(r"\b1 (patients|folds|experiments|trained folds)\b", said)


def test_simple_rules_know_the_training_study_and_not_this_one() -> None:
    trained = people(8, "T").assign(pain_level=["Severe", "Severe", "Severe", "None"] * 2)
    here = people(6, "H").assign(pain_level="None")
    made = simple_rules(Cohorts("c", trained, here, {}), list(here["patient_id"]), 2)
    assert set(made["majority"].values()) == {"Pain"}
    assert set(made["always_none"].values()) == {"No Pain"}
    assert set(made) == {"majority", "sex", "skin", "sex_and_skin", "always_none", "always_pain"}
    four = simple_rules(Cohorts("c", trained, here, {}), list(here["patient_id"]), 4)
    assert set(four["always_moderate"].values()) == {"Moderate"}


def test_the_page_has_the_patients_the_rules_and_what_was_left_out(tmp_path: Path) -> None:
    page = write_external_report(inputs(), tmp_path / "external.html").read_text("utf-8")
    said = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page))
    for words in (
        "1 of 2 models carries over",
        "H023",
        "the most common class of sex and skin group combined there",
        "in the training study, too: the same file",
        "this study has nothing that it reads",
        "no model was trained again, recalibrated or chosen by these results",
        "In the study that trained it, on patients left out: 0.70.",
    ):
        assert words in said, words
    assert "Invented patients" not in said


@pytest.mark.parametrize(
    ("overlap", "left_out", "patient", "models"),
    [
        ({"X1": "same_file"}, {}, "X1", ["all"]),
        # nobody else was left out of anything, and still one of two models is not all
        ({}, {"X2": "no_scores"}, "X2", ["Random", "Forest", "Pain"]),
    ],
)
def test_only_a_patient_whom_no_model_predicted_is_left_out_by_all(
    overlap: dict[str, str], left_out: dict[str, str], patient: str, models: list[str], tmp_path: Path
) -> None:
    forest = replace(predicted("forest_pain", 24, 0.8), left_out=left_out)
    made = tables(forest, predicted("resnet50_4_static", 24, 0.4), overlap=overlap)
    page = write_external_report(ExternalReportInputs(made, {}, SETTINGS), tmp_path / "p.html").read_text(
        "utf-8"
    )
    section = page[page.index("Patients who were not predicted.") :].split("</table>")[0]
    rows = [re.sub("<[^>]+>|\\s+", " ", row).split() for row in section.split("<tr>")]
    (row,) = (row for row in rows if patient in row)
    assert row[-len(models) :] == models
