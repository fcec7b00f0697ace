"""Tests against chance and of pairs."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Mapping
from concurrent.futures import Executor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score

from iss_assets.evaluation.permutation import (
    Retraining,
    count_labelings,
    draws_to_stop,
    fixed_permutations,
    in_order,
    least_sign_flip_p,
    p_from_permutations,
    paired_differences,
    permutation_tests,
    permute_labels,
    retrained_scores,
    score_predictions,
    sequential_test,
    sign_flip_p,
)
from iss_assets.schemas.evaluation import PairedDifferences, PermutationResults
from iss_assets.settings import EvaluationSettings
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


def test_the_observed_labels_count_among_the_permutations() -> None:
    assert p_from_permutations(0.8, np.array([0.5, 0.8, 0.9])) == pytest.approx(3 / 4)
    assert p_from_permutations(0.95, np.array([0.5, 0.8, 0.9])) == pytest.approx(1 / 4)


def test_permutations_that_tie_with_the_observed_figure_count_despite_rounded_shares() -> None:
    """A third right for everybody, whatever the label says: each permutation ties."""
    thirds = rows([1 / 3] * 3, ["None"] * 3)
    thirds["predicted_shares"] = [json.dumps({"No Pain": 0.333333333, "Pain": 0.666666667})] * 3
    permuted = fixed_permutations(thirds, 99, 0)
    assert p_from_permutations(1 / 3, permuted) == 1.0


def test_perfect_predictions_of_eight_patients_have_the_counted_probability() -> None:
    """4 of 8 in pain: one labelling of 70 is as good as the true one."""
    permuted = fixed_permutations(rows([1.0] * 8, LEVELS), 9999, 0)
    assert np.mean(permuted >= 1) == pytest.approx(1 / 70, abs=0.004)
    assert permuted.mean() == pytest.approx(0.5, abs=0.01)


def test_a_model_that_always_predicts_pain_is_exactly_at_chance() -> None:
    permuted = fixed_permutations(rows([0.0, 1.0] * 4, LEVELS), 99, 0)
    assert permuted == pytest.approx(np.full(99, 0.5))
    assert p_from_permutations(0.5, permuted) == 1.0


def test_labels_are_permuted_between_patients_together_with_their_splits() -> None:
    levels = dict(zip("abcdef", ["None", "None", "Low", "Low", "Severe", "Severe"], strict=True))
    splits = dict(zip("abcdef", [1, 2, 1, 2, 1, 2], strict=True))
    permuted, permuted_splits = permute_labels(levels, splits, np.random.default_rng(1))
    assert permuted.keys() == permuted_splits.keys() == levels.keys() and permuted != levels
    pairs = [(permuted[p], permuted_splits[p]) for p in levels]
    assert sorted(pairs) == sorted((levels[p], splits[p]) for p in levels)  # folds stay stratified


def test_chance_of_a_majority_rule_is_that_of_stratified_folds(pool: Executor) -> None:
    """Eight patients in four folds of one with and one without pain: every training side is even, so the rule says one
    class for all and is right for half. Levels permuted without their splits would bias it in the wrong direction."""
    names = [f"p{n}" for n in range(8)]
    levels = dict(zip(names, ["None", "Severe"] * 4, strict=True))
    splits = {name: n // 2 for n, name in enumerate(names)}

    def majority(levels: Mapping[str, str], splits: Mapping[str, int]) -> pa.Table:
        said = []
        for patient in names:
            train = [levels[p] != "None" for p in names if splits[p] != splits[patient]]
            said.append("Pain" if 2 * sum(train) > len(train) else "No Pain")
        return pa.table(
            {"patient_id": names, "predicted": said, "pain_probability": [0.5] * 8, "weight": [1.0] * 8}
        )

    draws = [permute_labels(levels, splits, np.random.default_rng(n)) for n in range(20)]
    assert [a.accuracy for a in retrained_scores(majority, draws, 2, pool, 2)] == [0.5] * 20
    alone = retrained_scores(majority, [(permuted, splits) for permuted, _ in draws], 2, pool, 2)
    assert np.mean([a.accuracy for a in alone]) < 0.4


def test_accuracy_against_levels_is_a_mean_over_patients_of_weighted_items(study: SimpleNamespace) -> None:
    items = study.predictions.filter(np.array(study.predictions["experiment"].to_pylist()) == "fusion_3")
    levels = dict(
        zip(study.splits["patient_id"].to_pylist(), study.splits["pain_level"].to_pylist(), strict=True)
    )
    own = study.accuracy.to_pandas().query("experiment == 'fusion_3'")["accuracy"].mean()
    assert score_predictions(items, levels, 2).accuracy == pytest.approx(own)


def test_the_auroc_of_training_shares_is_below_one_half_when_patients_are_left_out(pool: Executor) -> None:
    """A model that knows nothing but the share of pain on its training side: it says less pain to whom it left out with
    pain. Its AUROC is 0 with one patient a fold, where 0.5 would be taken for chance."""
    levels = {f"p{n}": "None" if n < 4 else "Severe" for n in range(9)}

    def shares(levels: Mapping[str, str], splits: Mapping[str, int]) -> pa.Table:
        pain = {p: np.mean([levels[o] != "None" for o in levels if splits[o] != splits[p]]) for p in levels}
        said = ["Pain" if share > 0.5 else "No Pain" for share in pain.values()]
        return pa.table(
            {
                "patient_id": list(levels),
                "predicted": said,
                "pain_probability": list(pain.values()),
                "weight": [1.0] * 9,
            }
        )

    splits = {p: n for n, p in enumerate(levels)}
    assert score_predictions(shares(levels, splits), levels, 2).auroc == 0.0


def test_the_auroc_is_that_of_scikit_learn_over_patients_weighted_means() -> None:
    rng = np.random.default_rng(3)
    levels = {f"p{n}": "Low" if n % 3 else "None" for n in range(20)}
    rows = [(p, "Pain", float(rng.uniform()), float(w)) for p in levels for w in (1, 3)]
    frame = pd.DataFrame(rows, columns=["patient_id", "predicted", "pain_probability", "weight"])
    means = {
        str(p): np.average(g["pain_probability"], weights=g["weight"]) for p, g in frame.groupby("patient_id")
    }
    truth = [levels[p] != "None" for p in means]
    found = score_predictions(pa.Table.from_pandas(frame), levels, 2)
    assert found.auroc == pytest.approx(roc_auc_score(truth, list(means.values())))


def test_a_sequential_test_stops_at_the_decisive_draw() -> None:
    """Besag and Clifford's h / l: the second of the draws as good as 0.5 is the fourth."""
    drawn = iter([0.4, 0.5, 0.3, 0.9, 0.9])
    test = sequential_test(0.5, drawn, limit=19, stop_after=2)
    assert test.p_value == 2 / 4 and test.drawn.tolist() == [0.4, 0.5, 0.3, 0.9] and test.stopped
    assert next(drawn) == 0.9, "no more is drawn than is needed"
    whole = sequential_test(0.5, iter([0.1] * 18 + [0.6]), limit=19, stop_after=2)
    assert whole.p_value == 2 / 20 and not whole.stopped


@pytest.mark.parametrize(("alpha", "limit"), [(0.05, 199), (0.05, 99), (0.1, 39), (0.01, 199)])
def test_stopping_early_never_changes_the_verdict(alpha: float, limit: int) -> None:
    rng = np.random.default_rng(0)
    enough = draws_to_stop(alpha, limit)
    verdicts = []
    for shift in np.repeat(np.linspace(0, 4, 20), 10):
        draws = rng.normal(size=limit)
        plain = p_from_permutations(shift, draws) <= alpha
        verdicts.append(plain)
        assert (sequential_test(shift, draws, limit, enough).p_value <= alpha) == plain
    assert 0 < sum(verdicts) < 200


def test_sequential_p_values_are_valid_and_need_few_draws_under_the_null_hypothesis() -> None:
    """Observed and draws from one distribution: p <= x has a probability of x at most, for every x that p can be."""
    rng = np.random.default_rng(1)
    tests = [sequential_test(d[0], d[1:], 199, 10) for d in rng.normal(size=(4000, 200))]
    p = np.array([t.p_value for t in tests])
    for x in (0.005, 0.01, 0.05, 0.1, 0.2, 0.5):
        assert np.mean(p <= x + 1e-12) <= x + 3 * np.sqrt(x * (1 - x) / 4000)
    assert np.mean(p <= 0.05) > 0.04, "and not idly cautious"
    assert np.mean([len(t.drawn) for t in tests]) < 50, "instead of 199"


def test_results_are_in_the_order_of_the_tasks_and_surplus_tasks_are_canceled(pool: Executor) -> None:
    last = threading.Event()
    begun = []

    def work(task: int) -> int:
        begun.append(task)
        if task == 0:
            assert last.wait(120)  # the first task ends after the second
        if task == 1:
            last.set()
        return task

    made = in_order(work, itertools.count(), pool, workers=2)
    assert [next(made) for _ in range(5)] == [0, 1, 2, 3, 4]
    made.close()
    assert max(begun) < 5 + 2 * 2


def test_a_failed_training_is_an_error_and_not_a_missing_draw(pool: Executor) -> None:
    def fails(levels: Mapping[str, str], splits: Mapping[str, int]) -> pa.Table:
        raise RuntimeError("broken")

    draws = retrained_scores(fails, [({"a": "None"}, {"a": 1})], 2, pool, 2)
    with pytest.raises(RuntimeError, match="broken"):
        next(draws)


def test_a_perfect_model_among_many_others_cannot_be_shown_with_few_permutations(
    study: SimpleNamespace, pool: Executor
) -> None:
    """39 permutations give p = 1/40 at the least, which Holm over nine makes 0.225 where no other is small."""
    accuracies = study.accuracy.to_pandas()
    levels, splits = (
        dict(zip(study.splits["patient_id"].to_pylist(), study.splits[c].to_pylist(), strict=True))
        for c in ("pain_level", "split")
    )

    def same(levels: Mapping[str, str], splits: Mapping[str, int]) -> pa.Table:
        said = ["Pain" if n % 2 else "No Pain" for n in range(29)]
        same = {"predicted": said, "pain_probability": [0.5] * 29, "weight": [1.0] * 29}
        return pa.table({"patient_id": list(levels), **same})

    perfect = accuracies["accuracy"].where(accuracies["experiment"] != "forest_pain", 1.0)
    again = {"forest_pain": Retraining(same)}
    table = permutation_tests(accuracies.assign(accuracy=perfect), levels, splits, again, SETTINGS, pool, 2)
    row = {r["experiment"]: r for r in table.to_pylist()}["forest_pain"]
    assert row["p_value"] == row["p_least"] == 1 / 40
    assert row["p_least_holm"] == row["p_value_holm"] > SETTINGS.alpha


def test_the_smallest_possible_p_is_reported_for_few_patients(study: SimpleNamespace, pool: Executor) -> None:
    """Two of four in pain: six labelings, so that p is 1/6 at the least, however many permutations are made."""
    assert count_labelings(["Pain", "Pain", "No Pain", "No Pain"]) == 6
    four = rows([1.0] * 4, ["None", "Severe"] * 2)
    levels = dict(zip(four["patient_id"], four["pain_level"], strict=True))
    row = permutation_tests(four, levels, dict.fromkeys(levels, 1), {}, SETTINGS, pool, 2).to_pylist()[0]
    assert row["p_least"] == pytest.approx(1 / 6) and row["p_value"] >= row["p_least"] - 0.04
    both = pd.concat([four, four.assign(experiment="n")])
    table = permutation_tests(both, levels, dict.fromkeys(levels, 1), {}, SETTINGS, pool, 2).to_pylist()
    assert [r["p_least_holm"] for r in table] == pytest.approx([1 / 3, 1 / 3], abs=0.02)


@pytest.mark.parametrize("differing", [1, 3, 12, 13])
def test_the_least_p_of_sign_flips_is_reached_where_all_differences_agree(differing: int) -> None:
    values = np.ones(differing)
    assert sign_flip_p(values, 999, 0) >= least_sign_flip_p(values, 999) * 0.99
    if differing <= 12:
        assert sign_flip_p(values, 999, 0) == least_sign_flip_p(values, 999) == 2 / 2**differing


def test_retraining_is_used_if_available_and_the_method_is_reported(
    study: SimpleNamespace, pool: Executor
) -> None:
    accuracies = study.accuracy.to_pandas().query("experiment in ['forest_pain', 'fusion_3']")
    levels = dict(
        zip(study.splits["patient_id"].to_pylist(), study.splits["pain_level"].to_pylist(), strict=True)
    )
    splits = dict(zip(study.splits["patient_id"].to_pylist(), study.splits["split"].to_pylist(), strict=True))
    seen = []

    def fit_predict(permuted: Mapping[str, str], permuted_splits: Mapping[str, int]) -> pa.Table:
        assert sorted(permuted_splits.values()) == sorted(splits.values())
        seen.append(dict(permuted))
        return invented.predictions({"forest_pain": 2}, study.splits, items=2)

    table = PermutationResults.check_rows(
        permutation_tests(
            accuracies, levels, splits, {"forest_pain": Retraining(fit_predict)}, SETTINGS, pool, 2
        )
    )
    by_name = {r["experiment"]: r for r in table.to_pylist()}
    first = by_name["forest_pain"]
    assert first["method"] == "retrained" and first["most_permutations"] == 39
    assert first["permutations"] == 2 and first["stopped"], (
        "always as good: two draws settle it at 0.05 of 39"
    )
    assert first["p_value"] == 1.0 and 0 <= first["chance_auroc"] <= 1 and first["chance_high"] is None
    assert by_name["fusion_3"]["method"] == "fixed predictions" and by_name["fusion_3"]["permutations"] == 999
    assert by_name["fusion_3"]["chance_auroc"] is None
    assert 2 <= len(seen) <= 2 + 2 * 2 and all(sorted(d.values()) == sorted(levels.values()) for d in seen)
    smaller, larger = sorted((r["p_value"], r["p_value_holm"]) for r in table.to_pylist())
    assert smaller[1] == pytest.approx(min(1, 2 * smaller[0]))
    assert larger[1] == pytest.approx(max(larger[0], smaller[1]))


def test_the_observed_accuracy_comes_from_the_smaller_model_too(
    study: SimpleNamespace, pool: Executor
) -> None:
    accuracies = study.accuracy.to_pandas().query("experiment == 'forest_pain'")
    levels, splits = (
        dict(zip(study.splits["patient_id"].to_pylist(), study.splits[c].to_pylist(), strict=True))
        for c in ("pain_level", "split")
    )

    def always_pain(levels: Mapping[str, str], splits: Mapping[str, int]) -> pa.Table:
        same = {"predicted": ["Pain"] * 29, "pain_probability": [0.6] * 29, "weight": [1.0] * 29}
        return pa.table({"patient_id": list(levels), **same})

    smaller = {"forest_pain": Retraining(always_pain, smaller=True)}
    tests = permutation_tests(accuracies, levels, splits, smaller, SETTINGS, pool, 2)
    row = PermutationResults.check_rows(tests).to_pylist()[0]
    assert row["method"] == "retrained, smaller"
    assert [row["observed"], row["chance_mean"]] == pytest.approx([16 / 29] * 2)
    assert row["p_value"] == 1.0


def test_sign_flips_of_three_patients_are_enumerated() -> None:
    """Of the eight patterns of 1, 2, 3 only all plus and all minus reach a sum of 6."""
    assert sign_flip_p(np.array([1.0, 2.0, 3.0]), 999, 0) == pytest.approx(2 / 8)


def test_patients_without_a_difference_do_not_count() -> None:
    assert sign_flip_p(np.zeros(5), 999, 0) == 1.0
    assert sign_flip_p(np.array([0, 0, 1.0, 2.0, 3.0]), 999, 0) == pytest.approx(2 / 8)


def test_random_sign_flips_agree_with_the_t_test() -> None:
    values = np.random.default_rng(4).normal(0.1, 0.3, 29)
    assert sign_flip_p(values, 9999, 0) == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.02)


def test_pairs_are_compared_over_the_patients_tested_by_both() -> None:
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


def test_models_with_two_classes_are_not_compared_with_four(study: SimpleNamespace) -> None:
    pairs = paired_differences(
        study.accuracy.to_pandas(),
        pd.DataFrame({"baseline": [], "classes": [], "patient_id": [], "accuracy": []}),
        SETTINGS,
    ).to_pylist()
    assert not any("resnet50_4_static" in (r["first"], r["second"]) for r in pairs)
    assert len(pairs) == 8 * 7 // 2
