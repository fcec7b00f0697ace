"""Groups of patients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from iss_assets.evaluation.subgroups import gap, subgroup_results
from iss_assets.schemas.evaluation import SubgroupResults
from iss_assets.settings import EvaluationSettings


@pytest.fixture(scope="module")
def groups(study: SimpleNamespace, quick: EvaluationSettings) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    accuracies = study.accuracy.to_pandas().query("experiment == 'fusion_3'")
    table = SubgroupResults.check_rows(subgroup_results(accuracies, study.patients.to_pandas(), quick))
    return accuracies.merge(study.patients.to_pandas(), on="patient_id"), table.to_pylist()


def one(rows: list[dict[str, Any]], attribute: str, name: str) -> dict[str, Any]:
    return next(r for r in rows if (r["attribute"], r["group_name"]) == (attribute, name))


def test_a_groups_accuracy_is_the_mean_over_its_patients(
    groups: tuple[pd.DataFrame, list[dict[str, Any]]],
) -> None:
    people, rows = groups
    women = people[people["sex"] == "F"]
    row = one(rows, "sex", "F")
    assert row["patients"] == len(women) == 9
    assert row["accuracy"] == pytest.approx(women["accuracy"].mean())
    assert row["low"] < row["accuracy"] < row["high"]


def test_rates_count_patients_by_their_most_predicted_class(
    groups: tuple[pd.DataFrame, list[dict[str, Any]]],
) -> None:
    people, rows = groups
    dark = people[people["skin_group"] == "dark"]
    pain, said = dark["pain_level_x"] != "None", dark["predicted"] == "Pain"
    row = one(rows, "skin_group", "dark")
    assert row["pain_share"] == pytest.approx(8 / 12)
    assert row["predicted_pain_share"] == pytest.approx(said.mean())
    assert row["sensitivity"] == pytest.approx(said[pain].mean())
    assert row["specificity"] == pytest.approx((~said[~pain]).mean())


def test_groups_below_five_are_flagged(groups: tuple[pd.DataFrame, list[dict[str, Any]]]) -> None:
    _, rows = groups
    assert (
        one(rows, "sex_and_skin", "F dark")["small"] and one(rows, "sex_and_skin", "F dark")["patients"] == 3
    )
    assert not one(rows, "sex_and_skin", "M light")["small"]


def test_rates_without_patients_are_empty(
    groups: tuple[pd.DataFrame, list[dict[str, Any]]],
) -> None:
    _, rows = groups
    assert one(rows, "sex_and_skin", "F dark")["specificity"] is None
    assert one(rows, "cohort", "1A")["sensitivity"] is None


def test_a_gap_compares_groups_at_the_same_mix_of_patients(
    groups: tuple[pd.DataFrame, list[dict[str, Any]]],
) -> None:
    people, rows = groups
    means = people.assign(pain=people["pain_level_x"] != "None").groupby(["pain", "sex"])["accuracy"].mean()
    by_hand = (means[False, "F"] - means[False, "M"] + means[True, "F"] - means[True, "M"]) / 2
    row = one(rows, "sex", "M")
    assert row["gap"] == pytest.approx(by_hand) and row["gap_low"] < row["gap"] < row["gap_high"]
    assert "patients in the smallest group and class" in row["gap_note"]  # few women have no pain
    assert one(rows, "sex_and_skin", "M dark")["gap"] is None


def test_groups_that_differ_only_in_their_share_of_pain_have_no_gap() -> None:
    """Right for 0.9 of the items of patients in pain and for 0.3 of the others, whoever they are: plain means would
    show a gap of 0.3 between groups with three and with one of four in pain."""
    people = pd.DataFrame(
        [("F", "Severe")] * 6 + [("F", "None")] * 2 + [("M", "Severe")] * 2 + [("M", "None")] * 6,
        columns=["sex", "pain_level"],
    )
    right = people["pain_level"].map({"Severe": 0.9, "None": 0.3})
    settings = EvaluationSettings(bootstrap_samples=499)
    found = gap(people.assign(accuracy=right), people["sex"], settings)
    assert found.estimate == pytest.approx(0)
    plain = right.groupby(people["sex"]).mean()
    assert plain["F"] - plain["M"] == pytest.approx(0.3)


def test_a_gap_needs_both_classes_in_both_groups() -> None:
    people = pd.DataFrame({"sex": list("FFMM"), "pain_level": ["None", "Low", "Low", "Low"], "accuracy": 1.0})
    found = gap(people, people["sex"], EvaluationSettings())
    assert found.estimate is None and found.note == "a group lacks patients with or without pain"


def test_a_gap_based_on_one_patient_has_no_interval() -> None:
    people = pd.DataFrame(
        {
            "sex": list("FFFMMMMM"),
            "pain_level": ["None", "Low", "Low", "None", "None", "None", "Low", "Low"],
            "accuracy": [0.5, 0.9, 0.8, 1.0, 0.9, 1.0, 1.0, 0.9],
        }
    )
    found = gap(people, people["sex"], EvaluationSettings())
    assert found.estimate == pytest.approx(((0.5 - 2.9 / 3) + (0.85 - 0.95)) / 2)
    assert (found.low, found.high) == (None, None)
    assert found.note == "no interval: the smallest group and class has one patient"
    two = pd.concat([people, people.iloc[:1]], ignore_index=True)
    assert gap(two, two["sex"], EvaluationSettings()).low is not None


def test_age_groups_are_evaluated_where_the_study_has_them(
    study: SimpleNamespace, quick: EvaluationSettings, groups: tuple[pd.DataFrame, list[dict[str, Any]]]
) -> None:
    _, without = groups
    assert {r["attribute"] for r in without} == {"sex", "skin_group", "sex_and_skin", "cohort"}
    people = study.patients.to_pandas()
    # of the last patient it is not known
    people["age_group"] = ["pediatric"] * 6 + ["adult"] * (len(people) - 7) + [None]
    accuracies = study.accuracy.to_pandas().query("experiment == 'fusion_3'")
    rows = SubgroupResults.check_rows(subgroup_results(accuracies, people, quick)).to_pylist()
    assert [r for r in rows if r["attribute"] != "age_group"] == without
    young = set(people["patient_id"][:6])
    row = one(rows, "age_group", "pediatric")
    assert row["patients"] == 6
    assert row["accuracy"] == pytest.approx(
        accuracies.loc[accuracies["patient_id"].isin(young), "accuracy"].mean()
    )
    assert one(rows, "age_group", "adult")["patients"] == len(people) - 7
