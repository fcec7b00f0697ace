"""Folds of other splits or with other training settings are never averaged with the rest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from iss_assets.evaluation.comparable import (
    OTHER_LEVEL,
    OTHER_SPLITS,
    OTHER_WAY,
    LeftOut,
    comparable_folds,
    experiments_with_old_levels,
    outdated_splits,
)
from iss_assets.schemas.modeling import FoldModels

SPLIT_OF = {"a": 1, "b": 1, "c": 2, "d": 2, "e": 3, "f": 3}


def cv(split_of: dict[str, int]) -> pd.DataFrame:
    return pd.DataFrame({"patient_id": list(split_of), "split": list(split_of.values())})


def folds(split_of: dict[str, int], experiment: str = "m", day: int = 1, **more: Any) -> list[dict]:
    return [
        {
            "experiment": experiment,
            "split": split,
            "trained_at": datetime(2026, 1, day, tzinfo=UTC),
            "train_patients": [p for p, s in split_of.items() if s != split],
            "test_patients": [p for p, s in split_of.items() if s == split],
            "train_items": 1,
            "settings": json.dumps({"epochs": 10, "folds": 3}),
            "profile": "paper",
            "seed": 0,
            "weights_origin": "none",
            "cohort_hash": "c",
            "data_hash": "d",
            "code_version": "1",
            **more,
        }
        for split in sorted(set(split_of.values()))
    ]


def evaluated(rows: list[dict], split_of: dict[str, int]) -> tuple[list[tuple[str, int]], list[LeftOut]]:
    included, left_out = comparable_folds(FoldModels.from_rows(rows).to_pandas(), cv(split_of))
    return list(zip(included["experiment"], included["split"], strict=True)), left_out


def test_folds_of_the_current_splits_trained_alike_are_all_included() -> None:
    assert evaluated(folds(SPLIT_OF), SPLIT_OF) == ([("m", 1), ("m", 2), ("m", 3)], [])
    assert evaluated([], SPLIT_OF) == ([], [])


def test_a_growing_or_shrinking_cohort_excludes_no_folds() -> None:
    joined = {**SPLIT_OF, "g": 1}
    withdrawn = {p: s for p, s in SPLIT_OF.items() if p != "c"}
    for today in (joined, withdrawn):
        assert len(evaluated(folds(SPLIT_OF), today)[0]) == 3


@pytest.mark.parametrize(
    ("today", "gone"),
    [
        ({"a": 1, "b": 2, "c": 1, "d": 2, "e": 1, "f": 2}, [1, 2, 3]),  # fewer splits
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}, [1, 2, 3]),  # more splits
        ({**SPLIT_OF, "a": 2}, [1, 2]),  # one patient moved by a split file: the third split is as it was
        ({"a": 1, "b": 1, "c": 2, "d": 2}, [3]),  # a split whose patients have all withdrawn
        ({}, [1, 2, 3]),
    ],
)
def test_folds_that_do_not_match_the_current_splits_are_excluded(
    today: dict[str, int], gone: list[int]
) -> None:
    included, left_out = evaluated(folds(SPLIT_OF), today)
    assert [split for _, split in included] == [s for s in (1, 2, 3) if s not in gone]
    assert left_out == [LeftOut("m", tuple(gone), "paper", OTHER_SPLITS)]
    assert outdated_splits(folds(SPLIT_OF), today) == gone


@pytest.mark.parametrize(
    "other",
    [
        {"profile": "demo"},
        {"seed": 1},
        {"weights_origin": "random"},
        {"code_version": "2"},
        {"settings": json.dumps({"epochs": 2, "folds": 3})},
    ],
)
def test_within_an_experiment_only_folds_trained_like_the_newest_are_included(other: dict[str, str]) -> None:
    rows = folds(SPLIT_OF) + folds(SPLIT_OF, "n")
    rows[1] |= {**other, "trained_at": datetime(2026, 2, 1, tzinfo=UTC)}
    included, left_out = evaluated(rows, SPLIT_OF)
    assert included == [("m", 2), ("n", 1), ("n", 2), ("n", 3)]
    assert left_out == [LeftOut("m", (1, 3), "paper", OTHER_WAY)]
    assert str(left_out[0]) == f"m, split 1, 3 (profile paper): {OTHER_WAY}"


def test_where_and_how_fast_a_fold_was_computed_does_not_matter() -> None:
    rows = folds(SPLIT_OF)
    rows[0] |= {"settings": json.dumps({"epochs": 10, "folds": 4, "device": "cuda", "compile": "never"})}
    assert len(evaluated(rows, SPLIT_OF)[0]) == 3


def test_the_newest_fold_of_other_splits_does_not_affect_the_current_ones() -> None:
    """An experiment of four splits, of which the first was made again before the cohort got its three."""
    rows = folds(SPLIT_OF)
    rows.append({**rows[0], "split": 4, "profile": "demo", "trained_at": datetime(2026, 3, 1, tzinfo=UTC)})
    included, left_out = evaluated(rows, SPLIT_OF)
    assert included == [("m", 1), ("m", 2), ("m", 3)]
    assert left_out == [LeftOut("m", (4,), "demo", OTHER_SPLITS)]


def test_an_experiment_trained_on_a_corrected_level_is_excluded() -> None:
    today = pd.DataFrame({"patient_id": ["a", "b"], "pain_level": ["Severe", "None"]})
    targets = pd.DataFrame(
        [
            ("two", "a", "Pain"),  # Moderate before: the same class of two
            ("two", "b", "None"),
            ("four", "a", "Moderate"),
            ("four", "b", "None"),
            ("four", "gone", "Mild"),
        ],
        columns=["experiment", "patient_id", "target"],
    )
    assert experiments_with_old_levels(targets, today) == ["four"]
    rows = folds(SPLIT_OF, "two") + folds(SPLIT_OF, "four")
    included, left_out = comparable_folds(FoldModels.from_rows(rows).to_pandas(), cv(SPLIT_OF), ["four"])
    assert set(included["experiment"]) == {"two"}
    assert left_out == [LeftOut("four", (1, 2, 3), "paper", OTHER_LEVEL)]


def test_a_setting_that_does_not_affect_an_experiment_excludes_none_of_its_folds() -> None:
    rows = folds(SPLIT_OF, "fusion_1") + folds(SPLIT_OF, "audio_static")
    for row in (rows[0], rows[3]):
        row |= {"settings": json.dumps({"epochs": 10, "folds": 3, "chunks_per_patient": 5})}
        row["trained_at"] = datetime(2026, 2, 1, tzinfo=UTC)
    included, left_out = evaluated(rows, SPLIT_OF)
    assert included == [("audio_static", 1), ("fusion_1", 1), ("fusion_1", 2), ("fusion_1", 3)]
    assert left_out == [LeftOut("audio_static", (2, 3), "paper", OTHER_WAY)]
