"""One row per experiment, and additional figures."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from iss_assets.evaluation.results import (
    calibration,
    confusion_counts,
    experiment_metrics,
    experiment_results,
    figures,
)
from iss_assets.schemas.evaluation import Calibration, ConfusionCounts, ExperimentMetrics, ExperimentResults
from iss_assets.settings import EvaluationSettings

SETTINGS = EvaluationSettings(bootstrap_samples=999)


@pytest.fixture
def five() -> pd.DataFrame:
    """Five patients: (level, accuracy, predicted, pain probability)."""
    rows = [
        ("None", 0.9, "No Pain", 0.2),
        ("None", 0.4, "Pain", 0.6),
        ("Low", 0.8, "Pain", 0.7),
        ("Severe", 0.3, "No Pain", 0.3),
        ("Severe", 1.0, "Pain", 0.9),
    ]
    frame = pd.DataFrame(rows, columns=["pain_level", "accuracy", "predicted", "pain_probability"])
    frame["target"] = ["No Pain" if level == "None" else "Pain" for level in frame["pain_level"]]
    return frame.assign(experiment="m", classes=2, patient_id=list("abcde"))


def test_every_figure_matches_a_manual_calculation(five: pd.DataFrame) -> None:
    found = {name: i.estimate for name, i in figures(five, SETTINGS).items()}
    assert found["all_classes"] == pytest.approx(3.4 / 5)
    assert found["no_pain"] == pytest.approx(0.65)
    assert found["pain"] == pytest.approx(2.1 / 3)
    assert found["severe"] == pytest.approx(0.65)
    assert found["moderate"] is None
    assert found["above_half"] == pytest.approx(3 / 5)
    assert found["above_three_quarters"] == pytest.approx(3 / 5)
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    assert found["balanced_accuracy"] == pytest.approx((0.65 + 0.7) / 2)
    assert found["brier"] == pytest.approx((0.2**2 + 0.6**2 + 0.3**2 + 0.7**2 + 0.1**2) / 5)
    brier = found["brier"]
    assert brier is not None and found["scaled_brier"] == pytest.approx(1 - brier / (0.6 * 0.4))
    assert found["calibration_in_the_large"] == pytest.approx((0.2 + 0.6 + 0.7 + 0.3 + 0.9) / 5 - 3 / 5)
    assert found["auroc"] == pytest.approx((2 + 1 + 2) / 6), "0.7 beats both, 0.3 one, 0.9 both"


def test_a_levels_interval_resamples_that_levels_patients(five: pd.DataFrame) -> None:
    found = figures(five, SETTINGS)
    assert (found["no_pain"].low, found["no_pain"].high) == (0.4, 0.9)
    assert found["low"].low is None and found["low"].note == "one patient: no interval"


def test_metrics_match_their_table(five: pd.DataFrame) -> None:
    table = ExperimentMetrics.check_rows(experiment_metrics(five, SETTINGS))
    assert table.num_rows == 16
    low = next(r for r in table.to_pylist() if r["metric"] == "low")
    assert low["patients"] == 1 and low["method"] == "none"


def test_confusion_counts_patients(five: pd.DataFrame) -> None:
    cells = {
        (r["target"], r["predicted"]): r["patients"]
        for r in ConfusionCounts.check_rows(confusion_counts(five)).to_pylist()
    }
    assert cells == {
        ("No Pain", "No Pain"): 1,
        ("No Pain", "Pain"): 1,
        ("Pain", "No Pain"): 1,
        ("Pain", "Pain"): 2,
    }


def test_calibration_compares_predicted_and_observed(five: pd.DataFrame) -> None:
    rows = Calibration.check_rows(calibration(five, 2)).to_pylist()
    assert [r["patients"] for r in rows] == [2, 3]
    assert rows[0]["mean_probability"] == pytest.approx(0.25) and rows[0]["pain_share"] == pytest.approx(0.5)
    assert rows[1]["mean_probability"] == pytest.approx(2.2 / 3) and rows[1]["pain_share"] == pytest.approx(
        2 / 3
    )


def test_a_probability_of_one_falls_into_the_last_bin(five: pd.DataFrame) -> None:
    rows = calibration(five.assign(pain_probability=1.0), 5).to_pylist()
    assert [r["patients"] for r in rows] == [0, 0, 0, 0, 5]
    assert rows[0]["mean_probability"] is None


def line(
    five: pd.DataFrame,
    difference: tuple[float, float | None, float | None],
    p: float = 0.01,
    least: float = 0.001,
) -> dict[str, Any]:
    models = pd.DataFrame(
        {
            "experiment": ["m", "m"],
            "profile": ["demo"] * 2,
            "weights_origin": ["random", "imagenet"],
            "cohort_hash": "c",
        }
    )
    mean = five["accuracy"].mean() - difference[0]
    base = pd.DataFrame(
        {
            "baseline": ["sex"] * 5 + ["majority"] * 5,
            "classes": 2,
            "patient_id": list("abcde") * 2,
            "accuracy": [mean] * 5 + [mean - 0.1] * 5,
        }
    )
    pairs = pd.DataFrame(
        {"first": "m", "second": ["sex", "majority"], "difference": [difference[0], difference[0] + 0.1]}
    ).assign(low=difference[1], high=difference[2], p_value=p, p_least=least)
    metrics = experiment_metrics(five, SETTINGS).to_pandas()
    table: pa.Table = experiment_results(five, models, metrics, pairs, base, alpha=0.05)
    return ExperimentResults.check_rows(table).to_pylist()[0]


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        ((-0.1, -0.2, 0.0), "no"),
        ((0.0, -0.1, 0.1), "no"),
        ((0.1, -0.05, 0.2), "not shown"),
        ((0.1, 0.02, 0.2), "yes"),
        # all patients differ by the same: there is no interval
        ((0.1, None, None), "yes"),
        ((-0.1, None, None), "no"),
    ],
)
def test_a_model_is_compared_with_the_best_baseline(
    five: pd.DataFrame, difference: tuple[float, float | None, float | None], verdict: str
) -> None:
    row = line(five, difference)
    assert row["best_baseline"] == "sex"
    assert row["beats_baseline"] == verdict


def test_an_interval_above_zero_is_not_sufficient(five: pd.DataFrame) -> None:
    row = line(five, (0.1, 0.02, 0.2), p=0.06)
    assert (row["beats_baseline"], row["baseline_p_holm"]) == ("not shown", 0.06)


def test_a_difference_cannot_be_shown_if_no_p_could_have_been_small(five: pd.DataFrame) -> None:
    assert line(five, (0.1, 0.02, 0.2), p=0.06, least=0.0625)["beats_baseline"] == "cannot be shown"
    assert line(five, (-0.1, -0.2, 0.0), p=0.06, least=0.0625)["beats_baseline"] == "no"


def test_shares_of_patients_have_exact_intervals_even_if_all_agree(five: pd.DataFrame) -> None:
    found = figures(five.assign(accuracy=0.9), SETTINGS)
    for name in ("above_half", "above_three_quarters", "sensitivity", "specificity"):
        assert found[name].method == "Clopper-Pearson"
    assert found["above_half"].low == pytest.approx(0.025 ** (1 / 5)) and found["above_half"].high == 1


def test_figures_have_the_reference_of_an_uninformative_model(five: pd.DataFrame) -> None:
    chance = pd.DataFrame({"experiment": ["m"], "chance_auroc": [0.41]})
    rows = {r["metric"]: r for r in experiment_metrics(five, SETTINGS, chance).to_pylist()}
    assert rows["auroc"]["reference"] == 0.41
    assert rows["brier"]["reference"] == pytest.approx(0.6 * 0.4)
    assert rows["sensitivity"]["reference"] is None
    rows = {r["metric"]: r for r in experiment_metrics(five, SETTINGS).to_pylist()}
    assert rows["auroc"]["reference"] is None, "nothing was trained again: not known, and not 0.5"


def test_claims_to_beat_the_baseline_are_corrected_for_the_number_of_experiments(five: pd.DataFrame) -> None:
    """p of 0.02, 0.03 and 0.04: with Holm 0.06 each, so that none is shown."""
    names, tables = ["a", "b", "c"], []
    both = pd.concat([five.assign(experiment=name) for name in names])
    models = pd.DataFrame(
        {"experiment": names, "profile": "demo", "weights_origin": "none", "cohort_hash": "c"}
    )
    base = pd.DataFrame({"baseline": "sex", "classes": 2, "patient_id": list("abcde"), "accuracy": [0.1] * 5})
    pairs = pd.DataFrame({"first": names, "second": "sex", "difference": 0.1, "low": 0.02, "high": 0.2})
    metrics = experiment_metrics(both, SETTINGS).to_pandas()
    for values in ([0.02, 0.03, 0.04], [0.01, 0.03, 0.04]):
        rows = experiment_results(
            both, models, metrics, pairs.assign(p_value=values, p_least=0.001), base, alpha=0.05
        ).to_pylist()
        tables.append([(r["beats_baseline"], round(r["baseline_p_holm"], 9)) for r in rows])
    assert tables == [
        [("not shown", 0.06)] * 3,
        [("yes", 0.03), ("not shown", 0.06), ("not shown", 0.06)],
    ]


def test_a_row_has_intervals_profile_and_every_origin_of_weights(five: pd.DataFrame) -> None:
    row = line(five, (0.1, 0.02, 0.2))
    assert row["all_classes_low"] < row["all_classes"] < row["all_classes_high"]
    assert json.loads(row["intervals"])["no_pain"] == [0.4, 0.9]
    assert row["weights_origin"] == "imagenet, random" and row["models"] == 2 and row["p_value"] is None


def test_without_baselines_there_is_no_claim(five: pd.DataFrame) -> None:
    models = pd.DataFrame({"experiment": [], "profile": [], "weights_origin": [], "cohort_hash": []})
    row = experiment_results(
        five, models, experiment_metrics(five, SETTINGS).to_pandas(), alpha=0.05
    ).to_pylist()[0]
    assert row["beats_baseline"] is None and row["profile"] == "unknown"
