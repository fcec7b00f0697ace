"""The metrics agree with scikit-learn, scipy, statsmodels, and a number that pingouin computed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, recall_score
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from iss_assets.evaluation.check_ins.metrics import icc, metrics, patient_sums, per_patient, weighted_kappa
from iss_assets.settings import CheckInSettings

SETTINGS = CheckInSettings(bootstrap_samples=499)


@pytest.fixture
def rows() -> pd.DataFrame:
    """Seven patients with five check-ins each."""
    rng = np.random.default_rng(6)
    level = np.repeat(rng.uniform(2, 8, 7), 5)
    answered = np.clip(np.round(level + rng.normal(0, 2, 35)), 0, 10)
    return pd.DataFrame(
        {
            "patient_id": np.repeat([f"{i:04d}" for i in range(7)], 5),
            "check_in": np.tile(np.arange(1, 6), 7),
            "answered": answered,
            "predicted": np.clip(level + 0.5 * (answered - level) + rng.normal(0, 1, 35), 0, 10),
        }
    )


def test_metrics_over_patients_agree_with_other_software(rows: pd.DataFrame) -> None:
    found = metrics(patient_sums(rows, SETTINGS)[1], SETTINGS)
    assert found["mean_error"].estimate == pytest.approx(
        mean_absolute_error(rows["answered"], rows["predicted"])
    )
    whole = np.floor(rows["predicted"] + 0.5).astype(int)
    assert found["kappa"].estimate == pytest.approx(
        cohen_kappa_score(rows["answered"].astype(int), whole, weights="quadratic", labels=range(11))
    )
    raters = pd.concat(
        [
            pd.DataFrame({"item": range(35), "rater": name, "score": rows[name]})
            for name in ("answered", "predicted")
        ]
    )
    # Shrout and Fleiss's formula on the mean squares of statsmodels
    mean_square = anova_lm(ols("score ~ C(item) + C(rater)", raters).fit())
    between, rater, error = mean_square["sum_sq"] / mean_square["df"]
    assert found["icc"].estimate == pytest.approx(
        (between - error) / (between + error + 2 * (rater - error) / 35)
    )
    # ICC(A,1) of pingouin 0.7.0 for these rows; its license, the GPL, keeps it out of the requirements
    assert found["icc"].estimate == pytest.approx(0.7949662321500478, rel=1e-6)
    each = [spearmanr(g["answered"], g["predicted"])[0] for _, g in rows.groupby("patient_id")]
    assert found["within_correlation"].estimate == pytest.approx(np.mean(each))


def test_metrics_of_one_patient_agree_with_other_software(rows: pd.DataFrame) -> None:
    for row, (_, own) in zip(
        per_patient(*patient_sums(rows, SETTINGS), SETTINGS), rows.groupby("patient_id"), strict=True
    ):
        whole = np.floor(own["predicted"] + 0.5).astype(int)
        assert row["kappa"] == pytest.approx(
            cohen_kappa_score(own["answered"].astype(int), whole, weights="quadratic", labels=range(11))
        )
        assert row["within_correlation"] == pytest.approx(spearmanr(own["answered"], own["predicted"])[0])
        assert row["mean_error"] == pytest.approx((own["answered"] - own["predicted"]).abs().mean())


def test_a_patient_with_many_check_ins_counts_as_much_as_one_with_few(rows: pd.DataFrame) -> None:
    first = rows[rows["patient_id"] == "0000"]
    many = pd.concat([first.assign(check_in=first["check_in"] + 5 * i) for i in range(9)])
    other = pd.concat([many, rows[rows["patient_id"] != "0000"]])
    weight = 1 / other.groupby("patient_id")["patient_id"].transform("size")
    found = metrics(patient_sums(other, SETTINGS)[1], SETTINGS)
    before = metrics(patient_sums(rows, SETTINGS)[1], SETTINGS)
    assert found["mean_error"].estimate == pytest.approx(before["mean_error"].estimate)
    whole = np.floor(other["predicted"] + 0.5).astype(int)
    assert found["kappa"].estimate == pytest.approx(
        cohen_kappa_score(
            other["answered"].astype(int), whole, weights="quadratic", labels=range(11), sample_weight=weight
        )
    )


def test_a_change_is_detected_in_its_direction_and_size_and_only_between_neighbors() -> None:
    rows = pd.DataFrame(
        {
            "patient_id": "0001",
            #                 +3 detected, -2 wrong way, 0 false alarm, then a gap, +2 too small
            "check_in": [1, 2, 3, 4, 6, 7],
            "answered": [2.0, 5, 3, 3, 9, 7],
            "predicted": [3.0, 5, 6, 3, 8, 6.5],
        }
    )
    row = per_patient(*patient_sums(rows, SETTINGS), SETTINGS)[0]
    assert (row["changes"], row["changes_detected"], row["steady"], row["false_alarms"]) == (3, 1, 1, 1)
    found = metrics(patient_sums(rows, SETTINGS)[1], SETTINGS)
    assert found["changes_detected"].estimate == pytest.approx(1 / 3)
    assert found["false_alarms"].estimate == 1.0
    larger = CheckInSettings(important_change=3, bootstrap_samples=499)
    assert per_patient(*patient_sums(rows, larger), larger)[0]["changes"] == 1


def test_a_patient_with_many_changes_counts_as_much_as_one_with_few() -> None:
    """One patient has ten changes, none detected; the other one, which is: half, and not one in eleven."""
    wild = [0.0, 5] * 5 + [0] * 4
    rows = pd.DataFrame(
        {
            "patient_id": ["A"] * 3 + ["B"] * 14,
            "check_in": [1, 2, 3, *range(1, 15)],
            "answered": [0.0, 5, 5, *wild],
            "predicted": [0.0, 5, 9, *[2.5] * 14],
        }
    )
    each = [
        recall_score(
            abs(own["answered"].diff()[1:]) >= 2, abs(own["predicted"].diff()[1:]) >= 2, pos_label=label
        )
        for label in (True, False)
        for _, own in rows.groupby("patient_id")
    ]
    found = metrics(patient_sums(rows, SETTINGS)[1], SETTINGS)
    assert found["changes_detected"].estimate == np.mean(each[:2]) == 0.5
    assert found["false_alarms"].estimate == 1 - np.mean(each[2:]) == 0.5


def test_what_is_not_defined_is_empty_and_not_zero() -> None:
    same = pd.DataFrame(
        {"patient_id": "0001", "check_in": [1, 2, 3], "answered": 4.0, "predicted": [4.0, 4.1, 3.9]}
    )
    row = per_patient(*patient_sums(same, SETTINGS), SETTINGS)[0]
    assert row["within_correlation"] is None and row["kappa"] is None
    assert metrics(patient_sums(same, SETTINGS)[1], SETTINGS)["changes_detected"].note == "no patients"
    flat = same.assign(answered=[1.0, 4, 7], predicted=5.0)
    assert per_patient(*patient_sums(flat, SETTINGS), SETTINGS)[0]["within_correlation"] == 0.0


def test_resampled_patients_are_patients_repeated(rows: pd.DataFrame) -> None:
    """A count of 2 gives what the same rows twice give: the bootstrap resamples what it should."""
    _, sums = patient_sums(rows, SETTINGS)
    counts = np.array([[2.0, 0, 1, 1, 0, 3, 0]])
    ids = [f"{i:04d}" for i in range(7)]
    drawn = pd.concat(
        [
            rows[rows["patient_id"] == p].assign(patient_id=f"{p}-{n}")
            for p, times in zip(ids, counts[0], strict=True)
            for n in range(int(times))
        ]
    )
    _, again = patient_sums(drawn, SETTINGS)
    one = np.ones((1, 7))
    assert weighted_kappa(sums.cells)(counts) == pytest.approx(weighted_kappa(again.cells)(one))
    assert icc(sums.moments, sums.check_ins)(counts) == pytest.approx(
        icc(again.moments, again.check_ins)(one)
    )
