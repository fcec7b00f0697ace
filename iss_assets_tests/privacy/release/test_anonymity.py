"""Quasi-identifiers are generalized until nobody stands out, and summaries have no small groups."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iss_assets.privacy.release.anonymity import STEPS, TooFewPatients, generalize
from iss_assets.privacy.release.make import Released
from iss_assets.privacy.release.small_cells import Disclosure, without_small_cells
from iss_assets.protocol import terms
from iss_assets_tests.made_up import TABLE_2
from iss_assets_tests.privacy.release.conftest import Make, read

REGISTERED = [c for c in STEPS if c != "pain_level"]


def person(cohort: str, skin_type: str = "") -> dict[str, object]:
    c = next(c for c in terms.COHORTS if c.number == cohort)
    skin = skin_type or ("I" if c.skin_group == "light" else "IV")
    return {
        "cohort": cohort,
        "sex": c.sex,
        "skin_type": skin,
        "skin_group": c.skin_group,
        "pain_level": c.pain_level,
    }


@given(
    st.lists(
        st.builds(
            person,
            st.sampled_from([c.number for c in terms.COHORTS]),
        ),
        min_size=5,
        max_size=60,
    ),
    st.integers(2, 5),
    st.booleans(),
)
def test_every_combination_is_shared_by_k_patients(
    people: list[dict[str, object]], k: int, open_tier: bool
) -> None:
    quasi = list(STEPS) if open_tier else REGISTERED
    found = generalize({str(n): p for n, p in enumerate(people)}, quasi, k)
    sizes = Counter(tuple(sorted(v.items(), key=str)) for v in found.patients.values())
    assert min(sizes.values()) == found.smallest >= k
    # nothing is invented: a value is the patient's own, or withheld
    for patient, values in found.patients.items():
        assert all(v is None or v == people[int(patient)].get(c) for c, v in values.items())


def test_the_paper_s_thirty_patients_keep_their_sex_and_nothing_else() -> None:
    people = [person(c) for c, n in TABLE_2.items() for _ in range(n)]
    found = generalize({str(n): p for n, p in enumerate(people)}, REGISTERED, k=5)
    # only three women have dark skin
    assert found.withheld == ("skin_type", "cohort", "age_group", "skin_group")
    assert found.smallest == 10


def test_a_full_study_keeps_cohorts_when_every_cohort_has_seven_patients() -> None:
    people = [
        person(c.number, "I" if c.skin_group == "light" else "V") for c in terms.COHORTS for _ in range(7)
    ]
    found = generalize({str(n): p for n, p in enumerate(people)}, REGISTERED, k=5)
    assert (found.withheld, found.smallest) == ((), 7)


def test_a_few_rare_patients_are_emptied_rather_than_everybody() -> None:
    people = (
        [person("1A") for _ in range(60)]
        + [person("4D") for _ in range(4)]
        + [person("3B") for _ in range(2)]
    )
    found = generalize({str(n): p for n, p in enumerate(people)}, REGISTERED, k=5)
    assert found.withheld == ()
    assert found.emptied == {str(n) for n in range(60, 66)}
    assert found.patients["0"]["cohort"] == "1A"
    assert set(found.patients["65"].values()) == {None}


def test_fewer_patients_than_k_stop_the_release() -> None:
    with pytest.raises(TooFewPatients, match="4 patients may be shared"):
        generalize({str(n): person("1A") for n in range(4)}, REGISTERED, k=5)


def test_the_open_tier_withholds_pain_levels_that_would_single_somebody_out_and_what_tells_them(
    release: Make, released: dict[str, Released]
) -> None:
    assert "patient_accuracy" in read(released["open"].folder)
    hidden = read(release("open", k=7).folder)
    assert set(hidden["patients"]["pain_level"].to_pylist()) == {None}
    assert set(hidden["cv_splits"]["pain_level"].to_pylist()) == {None}
    assert "patient_accuracy" not in hidden
    # elsewhere the pain level is the outcome, without which nothing can be learned
    assert None not in read(release("registered", k=7).folder)["patients"]["pain_level"].to_pylist()


def small(table: str, rows: list[dict[str, Any]], k: int = 5, **more: Any) -> list[dict[str, Any]]:
    sizes = more.pop("levels", {"None": 14, "Low": 5, "Moderate": 5, "Severe": 8})
    return without_small_cells(table, rows, Disclosure(k, more.pop("hidden", ()), sizes, merge=True))[0]


def cells(*counts: int) -> list[dict[str, Any]]:
    pairs = [(t, p) for t in terms.PAIN_CLASSES for p in terms.PAIN_CLASSES]
    return [
        {"experiment": "e", "target": t, "predicted": p, "patients": n}
        for (t, p), n in zip(pairs, counts, strict=True)
    ]


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ((10, 2, 3, 15), [10, 15, 5]),  # 2 and 3 make five
        ((10, 2, 6, 15), [10, 15, 8]),  # 2 alone would be small, and could be computed if it were dropped
        ((1, 1, 1, 1), []),
        ((10, 5, 6, 15), [5, 6, 10, 15]),
    ],
)
def test_small_cells_of_a_confusion_matrix_are_merged(counts: tuple[int, ...], kept: list[int]) -> None:
    found = small("confusion_counts", cells(*counts))
    assert sorted(r["patients"] for r in found) == sorted(kept)
    assert all(r["patients"] >= 5 for r in found)


def test_groups_next_to_a_small_one_are_withheld_too() -> None:
    rows = [
        {"experiment": "e", "attribute": a, "group_name": g, "patients": n}
        for a, g, n in (
            ("sex", "F", 3),
            ("sex", "M", 20),
            ("skin_group", "light", 13),
            ("skin_group", "dark", 10),
        )
    ]
    assert {r["attribute"] for r in small("subgroup_results", rows)} == {"skin_group"}
    assert not small("subgroup_results", rows, hidden={"skin_group"})


def test_means_of_small_levels_are_withheld_together_with_those_that_would_give_them_away() -> None:
    row = {"experiment": "e", "patients": 29, "all_classes": 0.5, "no_pain": 0.6, "pain": 0.4}
    row |= {"none": 0.6, "low": 0.1, "moderate": 0.2, "severe": 0.3}
    (found,) = small("experiment_results", [row], levels={"None": 14, "Low": 4, "Moderate": 5, "Severe": 8})
    assert found["low"] is found["moderate"] is found["none"] is None
    assert (found["all_classes"], found["pain"]) == (0.5, 0.4)
    (whole,) = small("experiment_results", [row])
    assert whole == row
    # two small levels that are four patients together: all patients minus the other levels would be their mean
    (found,) = small("experiment_results", [row], levels={"None": 14, "Low": 2, "Moderate": 2, "Severe": 8})
    assert [found[level] for level in LEVELS] == [None] * 4
    # of three patients without pain, all patients minus those with pain would be the mean
    (found,) = small("experiment_results", [row], levels={"None": 3, "Low": 5, "Moderate": 5, "Severe": 8})
    assert found["no_pain"] is found["pain"] is None


LEVELS = [level.lower() for level in terms.PAIN_LEVELS]


def computed_from(figure: str, sizes: list[int], classes: int) -> list[float] | None:
    """Return the weights with which a figure sums up the means of the four levels; None if it is no such sum."""
    patients = np.array(sizes, float)
    pain = patients * [0, 1, 1, 1]
    means = {level: np.eye(4)[place] * bool(sizes[place]) for place, level in enumerate(LEVELS)}
    means |= {"all_classes": patients / patients.sum(), "no_pain": means["none"]}
    means["pain"] = pain / max(pain.sum(), 1)
    if classes == 2:
        means["balanced_accuracy"] = (means["no_pain"] + means["pain"]) / 2
    else:
        means["balanced_accuracy"] = (patients > 0) / (patients > 0).sum()
    return means[figure].tolist() if figure in means else None


@given(
    st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(lambda n: sum(n) >= 5), st.sampled_from([2, 4])
)
def test_no_mean_of_fewer_than_k_patients_can_be_computed_from_what_is_shown(
    sizes: list[int], classes: int
) -> None:
    names = [*LEVELS, "all_classes", "no_pain", "pain", "balanced_accuracy"]
    row = {"experiment": "e", "classes": classes, "patients": sum(sizes), **dict.fromkeys(names, 0.5)}
    row["intervals"] = json.dumps({name: [0.4, 0.6] for name in names})
    levels = dict(zip(terms.PAIN_LEVELS, sizes, strict=True))
    (found,) = small("experiment_results", [row], levels=levels)
    metrics = [{"experiment": "e", "metric": name, "patients": sum(sizes)} for name in names]
    of_metrics = {r["metric"] for r in small("experiment_metrics", metrics, levels=levels)}
    assert "all_classes" in of_metrics
    for shown in ({n for n in names if found[n] is not None}, json.loads(found["intervals"]), of_metrics):
        known = np.array([weights for n in shown if (weights := computed_from(n, sizes, classes))])
        for count in (1, 2, 3):
            for group in combinations(range(4), count):
                of_group = np.array([n if place in group else 0 for place, n in enumerate(sizes)], float)
                if 0 < of_group.sum() < 5:
                    rank = np.linalg.matrix_rank(np.vstack([known, of_group]))
                    assert rank > np.linalg.matrix_rank(known), (shown, group)


def test_what_is_emptied_is_told_with_its_reason() -> None:
    row = {"experiment": "e", "classes": 2, "patients": 29, "no_pain": 0.6, "pain": 0.4, "sensitivity": 0.5}
    few = Disclosure(5, (), {"None": 26, "Low": 1, "Moderate": 1, "Severe": 1}, merge=True)
    (found,), told = without_small_cells("experiment_results", [row], few)
    assert found["sensitivity"] is None
    assert told is not None and told.startswith("values of no_pain, pain, sensitivity: fewer than 5 patients")
