"""Baselines in the experiments' folds."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from iss_assets.evaluation.baselines import (
    BASELINES,
    baseline_accuracy,
    baseline_results,
    fit_rule,
    published_rule_accuracy,
    published_rule_cross_validated,
    quality_measures,
)
from iss_assets.protocol import published, terms
from iss_assets.schemas.evaluation import BaselineAccuracy, BaselineResults
from iss_assets.settings import EvaluationSettings

SETTINGS = EvaluationSettings(bootstrap_samples=999)


def run(
    patients: pd.DataFrame, scores: pd.DataFrame | None = None, quality: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Baselines for a frame of patients with the columns patient_id, split, pain_level, sex, skin_group."""
    none_scores = pd.DataFrame({"patient_id": [], "timeframe": [], "pain_now": []})
    if scores is not None and "pain_now" not in scores:
        scores = scores.assign(pain_now=np.nan)
    none_quality = pd.DataFrame(
        {"patient_id": [], "video_id": [], "face_rate": [], "landmark_rate": [], "measures": []}
    )
    table = baseline_accuracy(
        patients,
        patients,
        none_scores if scores is None else scores,
        none_quality if quality is None else quality,
        SETTINGS,
    )
    return BaselineAccuracy.check_rows(table).to_pandas()


@pytest.fixture
def six() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": list("abcdef"),
            "split": [1, 1, 2, 2, 3, 3],
            "pain_level": ["None", "Low", "None", "Severe", "None", "Severe"],
            "sex": list("MFMFMF"),
            "skin_group": ["light"] * 6,
        }
    )


def accuracy_of(found: pd.DataFrame, baseline: str, classes: int = 2) -> dict[str, float]:
    chosen = found[(found["baseline"] == baseline) & (found["classes"] == classes)]
    return dict(zip(chosen["patient_id"], chosen["accuracy"], strict=True))


def test_in_the_papers_cohort_sex_and_skin_alone_reach_two_thirds_in_sample(study: SimpleNamespace) -> None:
    """Table 2: men light 7 of 11, women light 4 of 6, men dark 5 of 9, women dark 3 of 3: 19 of 29."""
    people = study.patients.to_pandas()
    cells = (people["sex"] + " " + people["skin_group"]).tolist()
    classes = [terms.pain_class(level) for level in people["pain_level"]]
    rule = fit_rule(zip(cells, classes, [1.0] * 29, strict=True), terms.PAIN_CLASSES)
    right = [rule.predict(cell) == name for cell, name in zip(cells, classes, strict=True)]
    assert sum(right) == 19
    assert np.mean(right) == pytest.approx(0.655, abs=0.0005)
    assert published_rule_accuracy() == pytest.approx(19 / 29)


def test_the_published_rule_is_less_accurate_when_cross_validated() -> None:
    found = published_rule_cross_validated(200)
    assert np.mean(found) == pytest.approx(published.RULE_CROSS_VALIDATED, abs=0.005)
    assert 0.5 < min(found) < max(found) <= published_rule_accuracy() + 1e-9


def test_pain_now_predicts_from_the_answer_of_each_submission(six: pd.DataFrame) -> None:
    """a answers none twice and pain once (and has none); b answers pain; c has no answer and gets the fallback."""
    scores = pd.DataFrame(
        {"patient_id": list("aaabc"), "pain_now": [0, 0, 3, 1, None], "timeframe": "late AM"}
    )
    found = run(six, scores)
    accuracy = accuracy_of(found, "pain_now")
    assert (accuracy["a"], accuracy["b"]) == (pytest.approx(2 / 3), 1.0)
    fallback = found[found["baseline"] == "pain_now"].set_index("patient_id")["fallback"].to_dict()
    assert fallback == {**dict.fromkeys("cdef", True), "a": False, "b": False}
    assert set(found[found["baseline"] == "pain_now"]["classes"]) == {2}


def test_a_tie_in_a_cell_goes_to_the_class_that_is_more_common_overall() -> None:
    rule = fit_rule([("x", "No Pain", 1), ("x", "Pain", 1), ("y", "Pain", 1)], terms.PAIN_CLASSES)
    assert rule.predict("x") == "Pain"


def test_an_unknown_cell_gets_the_most_common_class_of_the_training_side() -> None:
    assert fit_rule([("x", "Pain", 1)], terms.PAIN_CLASSES).predict("z") == "Pain"


def test_a_rule_is_fitted_without_the_test_patients(six: pd.DataFrame) -> None:
    """All men are without pain and all women in pain, so sex is right for everybody from the others alone."""
    found = run(six)
    assert accuracy_of(found, "sex") == dict.fromkeys("abcdef", 1.0)
    assert accuracy_of(found, "skin") == accuracy_of(found, "majority")
    flipped = six.assign(pain_level=["Low", "None", *six["pain_level"][2:]])
    assert accuracy_of(run(flipped), "sex")["a"] == 0.0


def test_always_pain_is_right_for_patients_in_pain_and_only_with_two_classes(six: pd.DataFrame) -> None:
    found = run(six)
    assert accuracy_of(found, "always_pain") == {"a": 0.0, "b": 1.0, "c": 0.0, "d": 1.0, "e": 0.0, "f": 1.0}
    assert accuracy_of(found, "always_pain", 4) == {}
    never = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0, "e": 1.0, "f": 0.0}
    assert accuracy_of(found, "always_none") == accuracy_of(found, "always_none", 4) == never


def test_the_majority_is_that_of_the_training_side() -> None:
    people = pd.DataFrame(
        {
            "patient_id": list("abc"),
            "split": [1, 2, 3],
            "pain_level": ["None", "Low", "Severe"],
            "sex": ["M"] * 3,
            "skin_group": ["dark"] * 3,
        }
    )
    assert accuracy_of(run(people), "majority") == {"a": 0.0, "b": 0.0, "c": 0.0}


def test_every_patient_weighs_the_same_in_training_however_many_submissions(six: pd.DataFrame) -> None:
    """Patient d sends nine evening forms; c, e and f send one evening form each: 3 patients in evening against 1."""
    people = six.assign(pain_level=["None", "Low", "None", "Severe", "None", "None"])
    scores = pd.DataFrame(
        {"patient_id": ["d"] * 9 + ["c", "e", "f", "a"], "timeframe": ["late PM"] * 12 + ["late PM"]}
    )
    assert accuracy_of(run(people, scores), "timeframe")["a"] == 1.0


def test_a_patient_without_submissions_gets_the_fallback_and_is_flagged(six: pd.DataFrame) -> None:
    scores = pd.DataFrame({"patient_id": list("abcde"), "timeframe": ["late AM"] * 5})
    found = run(six, scores)
    marked = found[(found["baseline"] == "timeframe") & (found["classes"] == 2)].set_index("patient_id")[
        "fallback"
    ]
    assert marked.to_dict() == {**dict.fromkeys("abcde", False), "f": True}


def test_the_forest_on_quality_finds_pain_planted_in_luminance() -> None:
    rng = np.random.default_rng(0)
    people = pd.DataFrame(
        {
            "patient_id": [f"p{i}" for i in range(20)],
            "split": [i % 5 + 1 for i in range(20)],
            "pain_level": ["None", "Severe"] * 10,
            "sex": ["M"] * 20,
            "skin_group": ["dark"] * 20,
        }
    )
    rows = []
    for person in people.itertuples():
        for n in range(3):
            light = 0.2 if person.pain_level == "Severe" else 0.7
            measures = {"luminance": light + rng.normal(0, 0.02), "noise": rng.normal(), "note": "text"}
            rows.append((person.patient_id, f"{person.patient_id}-{n}", 1.0, None, json.dumps(measures)))
    quality = pd.DataFrame(rows, columns=["patient_id", "video_id", "face_rate", "landmark_rate", "measures"])
    found = accuracy_of(run(people, quality=quality), "quality")
    assert np.mean(list(found.values())) > 0.95


def test_only_finite_numbers_become_quality_measures() -> None:
    row = {
        "patient_id": "a",
        "video_id": "v",
        "face_rate": 0.5,
        "landmark_rate": None,
        "measures": '{"x": 1, "y": true, "z": "dark", "w": null, "v": Infinity}',
    }
    found = quality_measures(pd.DataFrame([row])).iloc[0]
    assert found["x"] == 1.0 and found["y"] == 1.0 and found["face_rate"] == 0.5
    assert "z" not in found and "w" not in found and np.isnan(found["v"]) and np.isnan(found["landmark_rate"])


def test_results_are_means_over_patients_with_intervals(six: pd.DataFrame) -> None:
    table = baseline_results(run(six), SETTINGS)
    row = {(r["baseline"], r["classes"]): r for r in BaselineResults.check_rows(table).to_pylist()}
    assert row["always_pain", 2]["all_classes"] == 0.5
    assert row["always_pain", 2]["no_pain"] == 0.0 and row["always_pain", 2]["pain"] == 1.0
    assert row["always_pain", 2]["all_classes_low"] < 0.5 < row["always_pain", 2]["all_classes_high"]
    assert {b for b, _ in row} == set(BASELINES)
