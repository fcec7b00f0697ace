"""Groups of patients."""

from __future__ import annotations

import pytest

from iss_assets.evaluation.subgroups import subgroup_results
from iss_assets.warehouse.tables import SubgroupResults


@pytest.fixture(scope="module")
def groups(study, quick):
    accuracies = study.accuracy.to_pandas().query("experiment == 'fusion_3'")
    table = SubgroupResults.check_rows(subgroup_results(accuracies, study.patients.to_pandas(), quick))
    return accuracies.merge(study.patients.to_pandas(), on="patient_id"), table.to_pylist()


def one(rows, attribute, name):
    return next(r for r in rows if (r["attribute"], r["group_name"]) == (attribute, name))


def test_a_groups_accuracy_is_the_mean_over_its_patients(groups):
    people, rows = groups
    women = people[people["sex"] == "F"]
    row = one(rows, "sex", "F")
    assert row["patients"] == len(women) == 9
    assert row["accuracy"] == pytest.approx(women["accuracy"].mean())
    assert row["low"] < row["accuracy"] < row["high"]


def test_rates_count_patients_by_the_class_said_most(groups):
    people, rows = groups
    dark = people[people["skin_group"] == "dark"]
    pain, said = dark["pain_level_x"] != "None", dark["predicted"] == "Pain"
    row = one(rows, "skin_group", "dark")
    assert row["pain_share"] == pytest.approx(8 / 12)
    assert row["predicted_pain_share"] == pytest.approx(said.mean())
    assert row["sensitivity"] == pytest.approx(said[pain].mean())
    assert row["specificity"] == pytest.approx((~said[~pain]).mean())


def test_cells_below_five_are_marked(groups):
    _, rows = groups
    assert (
        one(rows, "sex_and_skin", "F dark")["small"] and one(rows, "sex_and_skin", "F dark")["patients"] == 3
    )
    assert not one(rows, "sex_and_skin", "M light")["small"]


def test_rates_that_need_patients_who_are_not_there_stay_empty(groups):
    _, rows = groups
    assert one(rows, "sex_and_skin", "F dark")["specificity"] is None
    assert one(rows, "cohort", "1A")["sensitivity"] is None


def test_the_largest_gap_leaves_small_groups_out(groups):
    people, rows = groups
    people = people.assign(group=people["sex"] + " " + people["skin_group"])
    means = people[people["group"] != "F dark"].groupby("group")["accuracy"].mean()
    assert one(rows, "sex_and_skin", "M dark")["largest_gap"] == pytest.approx(means.max() - means.min())
