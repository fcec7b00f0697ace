"""Tests against chance and of pairs."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from iss_assets.evaluation.permutation import (
    accuracy_against,
    dealt_out,
    fixed_permutations,
    p_from_permutations,
    paired_differences,
    permutation_tests,
    retrained_accuracies,
    sign_flip_p,
)
from iss_assets.settings import EvaluationSettings
from iss_assets.warehouse.tables import PairedDifferences, PermutationResults
from iss_assets_tests.evaluation import invented

SETTINGS = EvaluationSettings(bootstrap_samples=999, permutations=999, retrained_permutations=39)


def rows(right_share: list[float], levels: list[str], experiment: str = "m") -> pd.DataFrame:
    """patient_accuracy of a two-class experiment with these accuracies."""
    made = []
    for n, (share, level) in enumerate(zip(right_share, levels, strict=True)):
        target, other = ("No Pain", "Pain") if level == "None" else ("Pain", "No Pain")
        made.append(
            {
                "experiment": experiment,
                "patient_id": f"p{n}",
                "pain_level": level,
                "classes": 2,
                "target": target,
                "accuracy": share,
                "predicted_shares": json.dumps({target: share, other: 1 - share}),
            }
        )
    return pd.DataFrame(made)


LEVELS = ["None", "Severe"] * 4


def test_the_observed_labels_count_among_the_permutations():
    assert p_from_permutations(0.8, np.array([0.5, 0.8, 0.9])) == pytest.approx(3 / 4)
    assert p_from_permutations(0.95, np.array([0.5, 0.8, 0.9])) == pytest.approx(1 / 4)


def test_permutations_that_tie_with_the_observed_figure_count_though_shares_are_kept_rounded():
    """A third right for everybody, whatever the label says: each permutation ties."""
    thirds = rows([1 / 3] * 3, ["None"] * 3)
    thirds["predicted_shares"] = [json.dumps({"No Pain": 0.333333333, "Pain": 0.666666667})] * 3
    permuted = fixed_permutations(thirds, 99, 0)
    assert p_from_permutations(1 / 3, permuted) == 1.0


def test_perfect_predictions_of_eight_patients_are_as_rare_as_counting_says():
    """4 of 8 in pain: one labelling of 70 is as good as the true one."""
    permuted = fixed_permutations(rows([1.0] * 8, LEVELS), 9999, 0)
    assert np.mean(permuted >= 1) == pytest.approx(1 / 70, abs=0.004)
    assert permuted.mean() == pytest.approx(0.5, abs=0.01)


def test_a_model_that_says_pain_to_everybody_is_exactly_chance():
    permuted = fixed_permutations(rows([0.0, 1.0] * 4, LEVELS), 99, 0)
    assert permuted == pytest.approx(np.full(99, 0.5))
    assert p_from_permutations(0.5, permuted) == 1.0


def test_labels_are_dealt_out_among_patients_with_their_splits_and_none_is_lost():
    levels = dict(zip("abcdef", ["None", "None", "Low", "Low", "Severe", "Severe"], strict=True))
    splits = dict(zip("abcdef", [1, 2, 1, 2, 1, 2], strict=True))
    dealt, dealt_splits = dealt_out(levels, splits, np.random.default_rng(1))
    assert dealt.keys() == dealt_splits.keys() == levels.keys() and dealt != levels
    pairs = [(dealt[p], dealt_splits[p]) for p in levels]
    assert sorted(pairs) == sorted((levels[p], splits[p]) for p in levels)  # folds stay stratified


def test_chance_of_a_majority_rule_is_that_of_stratified_folds():
    """Eight patients in four folds of one with and one without pain: every training side is even, so the rule says one
    class to all and is right for half. Levels dealt out without their splits would make it lean the wrong way."""
    names = [f"p{n}" for n in range(8)]
    levels = dict(zip(names, ["None", "Severe"] * 4, strict=True))
    splits = {name: n // 2 for n, name in enumerate(names)}

    def majority(levels, splits):
        said = []
        for patient in names:
            train = [levels[p] != "None" for p in names if splits[p] != splits[patient]]
            said.append("Pain" if 2 * sum(train) > len(train) else "No Pain")
        return pa.table({"patient_id": names, "predicted": said, "weight": [1.0] * 8})

    draws = [dealt_out(levels, splits, np.random.default_rng(n)) for n in range(20)]
    assert retrained_accuracies(majority, draws, 2).tolist() == [0.5] * 20
    alone = retrained_accuracies(majority, [(dealt, splits) for dealt, _ in draws], 2)
    assert alone.mean() < 0.4


def test_accuracy_against_levels_is_a_mean_over_patients_of_weighted_items(study):
    items = study.predictions.filter(np.array(study.predictions["experiment"].to_pylist()) == "fusion_3")
    levels = dict(
        zip(study.splits["patient_id"].to_pylist(), study.splits["pain_level"].to_pylist(), strict=True)
    )
    own = study.accuracy.to_pandas().query("experiment == 'fusion_3'")["accuracy"].mean()
    assert accuracy_against(items, levels, 2) == pytest.approx(own)


def test_retraining_is_used_where_it_is_offered_and_the_method_is_told(study):
    accuracies = study.accuracy.to_pandas().query("experiment in ['forest_pain', 'fusion_3']")
    levels = dict(
        zip(study.splits["patient_id"].to_pylist(), study.splits["pain_level"].to_pylist(), strict=True)
    )
    splits = dict(zip(study.splits["patient_id"].to_pylist(), study.splits["split"].to_pylist(), strict=True))
    seen = []

    def fit_predict(dealt, dealt_splits):
        assert sorted(dealt_splits.values()) == sorted(splits.values())
        seen.append(dict(dealt))
        return invented.predictions({"forest_pain": 2}, study.splits, items=2)

    table = PermutationResults.check_rows(
        permutation_tests(accuracies, levels, splits, {"forest_pain": fit_predict}, SETTINGS)
    )
    by_name = {r["experiment"]: r for r in table.to_pylist()}
    assert by_name["forest_pain"]["method"] == "retrained" and by_name["forest_pain"]["permutations"] == 39
    assert by_name["fusion_3"]["method"] == "fixed predictions" and by_name["fusion_3"]["permutations"] == 999
    assert len(seen) == 39 and all(sorted(d.values()) == sorted(levels.values()) for d in seen)
    smaller, larger = sorted((r["p_value"], r["p_value_holm"]) for r in table.to_pylist())
    assert smaller[1] == pytest.approx(min(1, 2 * smaller[0]))
    assert larger[1] == pytest.approx(max(larger[0], smaller[1]))


def test_what_is_trained_on_a_sample_is_observed_on_the_sample(study):
    accuracies = study.accuracy.to_pandas().query("experiment == 'forest_pain'")
    levels, splits = (
        dict(zip(study.splits["patient_id"].to_pylist(), study.splits[c].to_pylist(), strict=True))
        for c in ("pain_level", "split")
    )

    def always_pain(levels, splits):
        return pa.table({"patient_id": list(levels), "predicted": ["Pain"] * 29, "weight": [1.0] * 29})

    tests = permutation_tests(
        accuracies, levels, splits, {"forest_pain": always_pain}, SETTINGS, {"forest_pain"}
    )
    row = PermutationResults.check_rows(tests).to_pylist()[0]
    assert row["method"] == "retrained on a sample"
    assert [row["observed"], row["chance_mean"]] == pytest.approx([16 / 29] * 2)
    assert row["p_value"] == 1.0


def test_sign_flips_of_three_patients_are_counted_in_full():
    """Of the eight patterns of 1, 2, 3 only all plus and all minus reach a sum of 6."""
    assert sign_flip_p(np.array([1.0, 2.0, 3.0]), 999, 0) == pytest.approx(2 / 8)


def test_patients_that_do_not_differ_say_nothing():
    assert sign_flip_p(np.zeros(5), 999, 0) == 1.0
    assert sign_flip_p(np.array([0, 0, 1.0, 2.0, 3.0]), 999, 0) == pytest.approx(2 / 8)


def test_random_sign_flips_agree_with_the_t_test():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(4).normal(0.1, 0.3, 29)
    assert sign_flip_p(values, 9999, 0) == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.02)


def test_pairs_are_compared_over_the_patients_that_both_have_seen():
    first = rows([1.0, 0.5, 0.0, 1.0], LEVELS[:4], "first")
    second = rows([0.5, 0.5, 0.5], LEVELS[:3], "second")
    base = pd.DataFrame(
        {"baseline": "sex", "classes": 2, "patient_id": ["p0", "p1", "p2", "p3"], "accuracy": [1.0, 0, 0, 0]}
    )
    table = PairedDifferences.check_rows(paired_differences(pd.concat([first, second]), base, SETTINGS))
    by_pair = {(r["first"], r["second"]): r for r in table.to_pylist()}
    assert by_pair["first", "second"]["patients"] == 3
    assert by_pair["first", "second"]["difference"] == pytest.approx((0.5 + 0 - 0.5) / 3)
    assert by_pair["first", "sex"]["difference"] == pytest.approx((0 + 0.5 + 0 + 1) / 4)
    assert by_pair["first", "sex"]["second_kind"] == "baseline"
    assert by_pair["first", "second"]["p_value"] == 1.0


def test_models_with_two_classes_are_not_compared_with_four(study):
    pairs = paired_differences(
        study.accuracy.to_pandas(),
        pd.DataFrame({"baseline": [], "classes": [], "patient_id": [], "accuracy": []}),
        SETTINGS,
    ).to_pylist()
    assert not any("resnet50_4_static" in (r["first"], r["second"]) for r in pairs)
    assert len(pairs) == 8 * 7 // 2
