from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iss_assets.modeling.folds import (
    PatientLevel,
    SplitFileError,
    assign_splits,
    cohort_hash,
    not_enrolled,
    read_split_file,
    sides,
    splits_in,
)
from iss_assets.protocol import terms
from iss_assets.schemas.modeling import CvSplits


def cohort(*counts: int) -> list[PatientLevel]:
    levels = [level for level, n in zip(terms.PAIN_LEVELS, counts, strict=True) for _ in range(n)]
    return [PatientLevel(f"{i:04d}", level) for i, level in enumerate(levels, start=1)]


def as_dict(table: pa.Table) -> dict[str, int]:
    return dict(zip(table["patient_id"].to_pylist(), table["split"].to_pylist(), strict=True))


PAPER = cohort(13, 4, 4, 8)
some_cohort = st.tuples(*[st.integers(0, 12)] * 4).filter(lambda c: sum(c) >= 2).map(lambda c: cohort(*c))


def test_the_papers_29_patients_give_nine_splits_of_three_and_one_of_two() -> None:
    table = assign_splits(PAPER)
    sizes = Counter(table["split"].to_pylist())
    assert sorted(sizes.values()) == [2] + [3] * 9
    assert sorted(sizes) == list(range(1, 11))
    CvSplits.check_rows(table)
    assert set(table["source"].to_pylist()) == {"seed"}


@given(some_cohort, st.integers(2, 12), st.integers(0, 10_000))
def test_every_patient_is_in_one_split_and_splits_differ_by_one_at_most_in_all_and_in_each_level(
    patients: list[PatientLevel], folds: int, seed: int
) -> None:
    table = assign_splits(patients, folds=folds, seed=seed)
    split = as_dict(table)
    assert set(split) == {p.patient_id for p in patients}
    used = range(1, min(folds, len(patients)) + 1)
    sizes = Counter(split.values())
    assert max(sizes[s] for s in used) - min(sizes[s] for s in used) <= 1
    for level in terms.PAIN_LEVELS:
        alike = Counter(split[p.patient_id] for p in patients if p.pain_level == level)
        assert max(alike[s] for s in used) - min(alike[s] for s in used) <= 1


@given(some_cohort, st.integers(0, 10_000), st.randoms())
def test_the_order_of_the_patients_does_not_matter(
    patients: list[PatientLevel], seed: int, random: Random
) -> None:
    shuffled = random.sample(patients, len(patients))
    assert assign_splits(patients, seed=seed).equals(assign_splits(shuffled, seed=seed))


def test_another_seed_gives_other_splits() -> None:
    assert as_dict(assign_splits(PAPER, seed=1)) != as_dict(assign_splits(PAPER, seed=2))


@given(some_cohort, st.integers(0, 20), st.integers(2, 10))
def test_a_patient_keeps_the_split_when_others_join(
    patients: list[PatientLevel], joining: int, folds: int
) -> None:
    first = assign_splits(patients, folds=folds)
    newcomers = [PatientLevel(f"N{i:03d}", terms.PAIN_LEVELS[i % 4]) for i in range(joining)]
    second = assign_splits([*patients, *newcomers], folds=folds, previous=first)
    before, after = as_dict(first), as_dict(second)
    assert {p: after[p] for p in before} == before
    sizes = Counter(after.values())
    assert max(sizes.values()) - min(sizes.values()) <= 1
    source = dict(zip(second["patient_id"].to_pylist(), second["source"].to_pylist(), strict=True))
    assert all(source[p.patient_id] == "joined" for p in newcomers)
    third = assign_splits([*patients, *newcomers], folds=folds, previous=second)
    assert third.equals(second)


def test_a_new_patient_goes_to_the_smallest_split_with_the_fewest_of_the_same_level() -> None:
    first = assign_splits(cohort(2, 2, 0, 0), folds=2)
    last = assign_splits([*cohort(2, 2, 0, 0), PatientLevel("9998", "Severe")], folds=2, previous=first)
    place = as_dict(last)["9998"]
    third = assign_splits(
        [*cohort(2, 2, 0, 0), PatientLevel("9998", "Severe"), PatientLevel("9999", "Severe")],
        folds=2,
        previous=last,
    )
    assert as_dict(third)["9999"] != place


def test_with_fewer_patients_than_folds_there_is_one_split_per_patient_and_splits_are_added() -> None:
    first = assign_splits(cohort(1, 1, 1, 0), folds=10)
    assert splits_in(first) == [1, 2, 3]
    second = assign_splits([*cohort(1, 1, 1, 0), PatientLevel("9999", "None")], folds=10, previous=first)
    assert as_dict(second)["9999"] == 4


def test_a_withdrawal_does_not_move_other_patients() -> None:
    first = assign_splits(PAPER)
    second = assign_splits(PAPER[1:], previous=first)
    assert as_dict(second) == {p: s for p, s in as_dict(first).items() if p != PAPER[0].patient_id}
    assert second["cohort_hash"][0] != first["cohort_hash"][0]


def test_another_number_of_folds_or_another_seed_gives_a_new_assignment() -> None:
    first = assign_splits(PAPER, folds=10, seed=1)
    assert as_dict(assign_splits(PAPER, folds=4, seed=1, previous=first)) == as_dict(
        assign_splits(PAPER, folds=4, seed=1)
    )
    assert as_dict(assign_splits(PAPER, folds=10, seed=2, previous=first)) == as_dict(
        assign_splits(PAPER, folds=10, seed=2)
    )


def test_a_split_file_wins_over_the_seed_and_over_earlier_splits(tmp_path: Path) -> None:
    file = tmp_path / "splits.csv"
    file.write_text("\ufeffPatient_ID;Split;note\r\n0001;7;\r\n0002;3;x\r\n8888;2;\r\n", encoding="utf-8")
    explicit = read_split_file(file)
    assert explicit == {"0001": 7, "0002": 3, "8888": 2}
    assert not_enrolled(explicit, PAPER) == ["8888"]
    first = assign_splits(PAPER)
    table = assign_splits(PAPER, previous=first, split_file=explicit)
    split = as_dict(table)
    assert (split["0001"], split["0002"]) == (7, 3)
    assert {p: split[p] for p in split if p not in explicit} == {
        p: s for p, s in as_dict(first).items() if p not in explicit
    }
    assert table["source"].to_pylist()[:3] == ["file", "file", "seed"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("patient,split\n0001,1\n", "line 1: column patient_id is missing"),
        ("patient_id\n0001\n", "line 1: column split is missing"),
        ("", "line 1: column patient_id is missing"),
        ("patient_id,split\n0001,1\n0002,two\n", "line 3: split is not a whole number"),
        ("patient_id,split\n0001,0\n", "line 2: split is not a whole number"),
        ("patient_id,split\n0001,\n", "line 2: split is not a whole number"),
        ("patient_id,split\n0001\n", "line 2: split is not a whole number"),
        ("patient_id,split\n0001,99999999999\n", "line 2: split is not a whole number"),
        ("patient_id,split\n../x,1\n", "line 2: patient_id is empty or not"),
        ("patient_id,split\n0001,1\n0001,2\n", "line 3: this patient is already listed above"),
        ("patient_id,split\n0001,1\n0002,1\n", "at least two splits"),
    ],
)
def test_an_invalid_split_file_is_rejected_with_file_and_line(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "splits.csv"
    file.write_text(content)
    with pytest.raises(SplitFileError, match=message) as caught:
        read_split_file(file)
    assert "splits.csv" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_split_file_that_is_unreadable_or_not_utf8_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SplitFileError, match=r"splits\.csv cannot be read"):
        read_split_file(tmp_path / "splits.csv")
    (tmp_path / "latin.csv").write_bytes(b"patient_id,split\n\xe4\xf6,1\n")
    with pytest.raises(SplitFileError, match="not UTF-8"):
        read_split_file(tmp_path / "latin.csv")


@pytest.mark.parametrize("patients", [[], [PatientLevel("0001", "None")]])
def test_fewer_than_two_patients_cannot_be_cross_validated(patients: list[PatientLevel]) -> None:
    with pytest.raises(ValueError, match="at least two patients"):
        assign_splits(patients)


def test_impossible_assignments_are_rejected() -> None:
    with pytest.raises(ValueError, match="two folds"):
        assign_splits(PAPER, folds=1)
    with pytest.raises(ValueError, match="twice"):
        assign_splits([*PAPER, PAPER[0]])
    with pytest.raises(ValueError, match="not a pain level"):
        assign_splits([PatientLevel("0001", "None"), PatientLevel("0002", "Extreme")])
    with pytest.raises(ValueError, match="all patients are in one split"):
        assign_splits(PAPER[:2], split_file={"0001": 1, "0002": 1, "8888": 2})


@given(some_cohort)
def test_the_sides_of_a_split_share_no_patient_and_together_are_the_study(
    patients: list[PatientLevel],
) -> None:
    table = assign_splits(patients)
    for split in splits_in(table):
        train, test = sides(table, split)
        assert not set(train) & set(test)
        assert sorted(train + test) == table["patient_id"].to_pylist()
        assert train and test


def test_a_split_without_patients_has_no_sides() -> None:
    with pytest.raises(ValueError, match="no patient is in split 11"):
        sides(assign_splits(PAPER), 11)


def test_the_cohort_hash_changes_with_patients_levels_and_splits_only() -> None:
    rows = [("0001", "None", 1), ("0002", "Low", 2)]
    assert cohort_hash(rows) == cohort_hash(reversed(rows))
    assert len({cohort_hash(rows), cohort_hash(rows[:1]), cohort_hash([rows[0], ("0002", "Low", 1)]),
                cohort_hash([rows[0], ("0002", "None", 2)])}) == 4  # fmt: skip
