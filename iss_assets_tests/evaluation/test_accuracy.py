"""Accuracy as the paper computes it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pytest

from iss_assets.evaluation.accuracy import RefusedPredictions, patient_accuracy, table_5
from iss_assets.protocol.published import (
    BY_NAME,
    PATIENTS_BY_CLASS,
    PATIENTS_BY_LEVEL,
    TABLE_5,
    Published,
    analyzed_by_cohort,
)
from iss_assets.schemas.evaluation import PatientAccuracy
from iss_assets.schemas.modeling import CvSplits, FoldModels, FramePredictions
from iss_assets_tests.evaluation import invented


def splits_of(**place: tuple[int, str]) -> pa.Table:
    return CvSplits.from_rows(
        [
            {"patient_id": p, "split": s, "pain_level": level, "source": "seed", "cohort_hash": "c"}
            for p, (s, level) in place.items()
        ]
    )


def items_of(*rows: tuple[str, int, str, str, str, float, float]) -> pa.Table:
    """Items as (experiment, split, patient, target, predicted, pain probability, weight)."""
    return FramePredictions.from_rows(
        [
            {
                "experiment": e,
                "split": s,
                "patient_id": p,
                "video_id": f"v{n}",
                "frame_index": n,
                "target": t,
                "predicted": said,
                "probability": 0.6,
                "pain_probability": pain,
                "weight": w,
            }
            for n, (e, s, p, t, said, pain, w) in enumerate(rows)
        ]
    )


CV = splits_of(a=(1, "None"), b=(2, "Severe"))
MODELS = invented.fold_models(["m"], CV)


def test_a_patients_accuracy_is_the_weighted_share_of_items_predicted_right() -> None:
    items = items_of(
        ("m", 1, "a", "No Pain", "No Pain", 0.2, 30.0),
        ("m", 1, "a", "No Pain", "Pain", 0.8, 10.0),
        ("m", 2, "b", "Pain", "Pain", 0.9, 1.0),
    )
    a, b = patient_accuracy(items, CV, MODELS).to_pylist()
    assert a["accuracy"] == pytest.approx(0.75)
    assert a["pain_probability"] == pytest.approx((30 * 0.2 + 10 * 0.8) / 40)
    assert (a["items"], a["weight"], a["predicted"], a["classes"]) == (2, 40.0, "No Pain", 2)
    assert json.loads(a["predicted_shares"]) == {"No Pain": 0.75, "Pain": 0.25}
    assert b["accuracy"] == 1.0
    assert (b["profile"], b["weights_origin"]) == ("demo", "random")


def test_the_result_fits_the_table_of_the_warehouse(study: SimpleNamespace) -> None:
    checked = PatientAccuracy.check_rows(study.accuracy)
    assert checked.num_rows == 9 * 29


def test_four_classes_are_distinguished_from_two() -> None:
    items = items_of(("m", 2, "b", "Severe", "Low", 0.9, 1.0), ("m", 1, "a", "None", "None", 0.1, 1.0))
    rows = patient_accuracy(items, CV, MODELS).to_pylist()
    assert [(r["classes"], r["accuracy"]) for r in rows] == [(4, 1.0), (4, 0.0)]


def test_a_patient_whose_items_have_zero_weight_has_no_accuracy() -> None:
    items = items_of(("m", 1, "a", "No Pain", "Pain", 0.8, 0.0), ("m", 2, "b", "Pain", "Pain", 0.8, 1.0))
    assert patient_accuracy(items, CV, MODELS)["patient_id"].to_pylist() == ["b"]


def test_no_predictions_give_no_rows() -> None:
    assert patient_accuracy(items_of(), CV, MODELS).num_rows == 0


def test_a_patient_predicted_in_two_splits_is_rejected() -> None:
    items = items_of(("m", 1, "a", "No Pain", "Pain", 0.8, 1.0), ("m", 2, "a", "No Pain", "Pain", 0.8, 1.0))
    with pytest.raises(RefusedPredictions, match="more than one split"):
        patient_accuracy(items, CV, MODELS)


def test_a_patient_predicted_in_another_split_is_rejected() -> None:
    with pytest.raises(RefusedPredictions, match="not the patient's own"):
        patient_accuracy(items_of(("m", 2, "a", "No Pain", "Pain", 0.8, 1.0)), CV, MODELS)


def test_a_patient_who_was_trained_on_is_rejected() -> None:
    rows = MODELS.to_pylist()
    rows[0]["train_patients"] = ["a", "b"]
    with pytest.raises(RefusedPredictions, match="was trained on there"):
        patient_accuracy(items_of(("m", 1, "a", "No Pain", "Pain", 0.8, 1.0)), CV, FoldModels.from_rows(rows))


def test_predictions_of_an_unknown_model_are_rejected() -> None:
    with pytest.raises(RefusedPredictions, match="no row of fold_models"):
        patient_accuracy(items_of(("other", 1, "a", "No Pain", "Pain", 0.8, 1.0)), CV, MODELS)


def test_predictions_with_another_label_are_rejected() -> None:
    with pytest.raises(RefusedPredictions, match="train the experiment again"):
        patient_accuracy(items_of(("m", 1, "a", "Pain", "Pain", 0.8, 1.0)), CV, MODELS)


def test_mixed_class_names_are_rejected() -> None:
    with pytest.raises(RefusedPredictions, match="mix"):
        patient_accuracy(items_of(("m", 1, "a", "No Pain", "Severe", 0.8, 1.0)), CV, MODELS)


def test_the_papers_own_arithmetic_is_reproduced() -> None:
    """Fusion 3: 13 patients at 0.582 and 16 at 0.717 give 0.657, within the rounding of the published means."""
    levels = ["None"] * 13 + ["Low"] * 4 + ["Moderate"] * 4 + ["Severe"] * 8
    line = table_5(pd.DataFrame({"pain_level": levels, "accuracy": [0.582] * 13 + [0.717] * 16}))
    assert line["all_classes"] == pytest.approx(0.657, abs=0.001)
    assert line["all_classes"] == pytest.approx((13 * 0.582 + 16 * 0.717) / 29)
    assert line["no_pain"] == pytest.approx(0.582)
    assert line["pain"] == pytest.approx(0.717)


@pytest.mark.parametrize("row", TABLE_5, ids=lambda r: r.experiment)
def test_every_row_of_the_papers_table_is_a_mean_over_patients(row: Published) -> None:
    """Experiment 3 only without patient 0015: 13 and 15 patients."""
    if row.classes == 4:
        sizes = {level.lower(): n for level, n in PATIENTS_BY_LEVEL.items()}
    else:
        sizes = dict(zip(("no_pain", "pain"), PATIENTS_BY_CLASS[row.experiment], strict=True))
    levels = {
        "none": "None",
        "no_pain": "None",
        "low": "Low",
        "moderate": "Moderate",
        "severe": "Severe",
        "pain": "Severe",
    }
    rows = [(levels[name], row.figures[name]) for name, n in sizes.items() for _ in range(n)]
    line = table_5(pd.DataFrame(rows, columns=["pain_level", "accuracy"]))
    assert line["all_classes"] == pytest.approx(row.figures["all_classes"], abs=0.001)


def test_shares_above_a_threshold_exclude_the_threshold() -> None:
    line = table_5(pd.DataFrame({"pain_level": ["None"] * 4, "accuracy": [0.5, 0.51, 0.75, 0.76]}))
    assert (line["above_half"], line["above_three_quarters"]) == (0.75, 0.25)


def test_a_level_without_patients_has_no_mean() -> None:
    line = table_5(pd.DataFrame({"pain_level": ["None"], "accuracy": [1.0]}))
    assert line["severe"] is None and line["pain"] is None and line["none"] == 1.0


def test_the_published_cohort_has_the_patients_of_table_4() -> None:
    counts = dict.fromkeys(PATIENTS_BY_LEVEL, 0)
    for number, patients in analyzed_by_cohort().items():
        counts[list(counts)[int(number[0]) - 1]] += patients
    assert counts == PATIENTS_BY_LEVEL
    assert sum(analyzed_by_cohort().values()) == 29
    assert round(0.724 * 29) == 21 and BY_NAME["fusion_3"].above_half == 0.724
