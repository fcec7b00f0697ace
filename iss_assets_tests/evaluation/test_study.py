"""The whole evaluation in one call."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from iss_assets.evaluation.permutation import Retraining
from iss_assets.evaluation.study import EvaluationInputs, evaluate_study
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import EvaluationSettings
from iss_assets_tests.evaluation import invented


def inputs(study: SimpleNamespace, **more: Any) -> EvaluationInputs:
    return EvaluationInputs(
        study.accuracy, study.splits, study.models, study.patients, study.scores, study.quality, **more
    )


def test_every_table_matches_its_schema_and_has_rows(evaluated: dict[str, pa.Table]) -> None:
    assert len(evaluated) == 13
    for name, table in evaluated.items():
        assert BY_NAME[name].check_rows(table).num_rows > 0, name


def test_experiments_are_in_the_order_of_the_papers_table(evaluated: dict[str, pa.Table]) -> None:
    names = evaluated["experiment_results"]["experiment"].to_pylist()
    assert names[:3] == ["resnet50_4_static", "resnet50_2_static", "forest_landmarks"]
    assert names[-1] == "embedding_probe"


def test_each_experiment_has_a_verdict_and_a_method(evaluated: dict[str, pa.Table]) -> None:
    for row in evaluated["experiment_results"].to_pylist():
        assert row["beats_baseline"] in ("no", "not shown", "cannot be shown", "yes")
        assert row["p_value_method"] == (
            "retrained" if row["experiment"] == "forest_pain" else "fixed predictions"
        )
        assert row["p_value"] <= row["p_value_holm"]


def test_stability_has_a_row_for_every_seed(
    evaluated: dict[str, pa.Table], quick: EvaluationSettings
) -> None:
    assert evaluated["split_stability"]["split_seed"].to_pylist() == list(quick.stability_seeds)


def test_figures_of_an_experiment_do_not_depend_on_other_experiments(
    evaluated: dict[str, pa.Table], one_evaluated: SimpleNamespace
) -> None:
    for name in ("experiment_metrics", "subgroup_results", "confusion_counts", "calibration"):
        alone = one_evaluated.tables[name]
        together = evaluated[name].filter(pc.field("experiment") == "forest_pain")
        if (
            name == "experiment_metrics"
        ):  # nothing is trained again for the one, so that its AUROC has no reference
            alone, together = (table.drop_columns(["reference"]) for table in (alone, together))
        assert alone.equals(together), name
    assert one_evaluated.tables["baseline_accuracy"].equals(evaluated["baseline_accuracy"])


def test_a_single_experiment_can_be_evaluated(one_evaluated: SimpleNamespace) -> None:
    row = one_evaluated.tables["experiment_results"].to_pylist()[0]
    assert row["models"] == 10 and row["p_value_holm"] == row["p_value"]
    assert one_evaluated.tables["canary_results"].num_rows == 0
    assert one_evaluated.tables["split_stability"].num_rows == 0


def test_without_predictions_there_are_only_baselines(
    study: SimpleNamespace, quick: EvaluationSettings
) -> None:
    found = evaluate_study(
        EvaluationInputs(
            study.accuracy.slice(0, 0),
            study.splits,
            study.models,
            study.patients,
            study.scores,
            study.quality,
        ),
        quick,
    )
    assert found["experiment_results"].num_rows == 0 and found["baseline_results"].num_rows == 16


@pytest.mark.parametrize("levels", [["None"], ["Low"], ["None", "Severe"]], ids="+".join)
def test_a_cohort_without_some_levels_is_evaluated_as_far_as_possible(
    study: SimpleNamespace, quick: EvaluationSettings, levels: list[str]
) -> None:
    splits = study.splits.filter(pc.field("pain_level").isin(levels))

    def of_them(table: pa.Table) -> pa.Table:
        return table.filter(pc.field("patient_id").isin(splits["patient_id"].to_pylist()))

    found = evaluate_study(
        EvaluationInputs(
            of_them(study.accuracy),
            splits,
            study.models,
            of_them(study.patients),
            of_them(study.scores),
            of_them(study.quality),
        ),
        quick,
    )
    for name, table in found.items():
        BY_NAME[name].check_rows(table)
    row = found["experiment_results"].to_pylist()[0]
    both = len({level == "None" for level in levels}) == 2
    assert (row["auroc"] is not None) == both
    assert [row[name] is not None for name in ("none", "low", "moderate", "severe")] == [
        name in levels for name in ("None", "Low", "Moderate", "Severe")
    ]
    if not both:  # labels that are all alike cannot be permuted into others
        assert set(
            found["permutation_results"]
            .filter(pc.field("experiment") != "resnet50_4_static")["p_value"]
            .to_pylist()
        ) == {1.0}


def test_retraining_an_experiment_without_predictions_is_an_error(
    study: SimpleNamespace, quick: EvaluationSettings
) -> None:
    with pytest.raises(ValueError, match="nobody"):
        evaluate_study(inputs(study, fit_predict={"nobody": lambda levels, splits: pa.table({})}), quick)


def test_progress_counts_every_training_to_its_end_and_no_figure_depends_on_the_number_of_workers(
    study: SimpleNamespace, quick: EvaluationSettings
) -> None:
    results = {}
    for workers in (1, 3):
        steps: list[tuple[int, int]] = []

        def again(levels: Mapping[str, str], splits: Mapping[str, int]) -> pa.Table:
            """A model whose figures depend on the labels it is given."""
            seed = sum(n * (level != "None") for n, level in enumerate(levels.values()))
            return invented.predictions({"forest_pain": 2}, study.splits, seed=seed, items=2)

        given = inputs(
            study,
            retraining={"forest_pain": Retraining(again)},
            fit_predict={"forest_pain": again},
            by_seed={
                "forest_pain": lambda seed: invented.predictions({"forest_pain": 2}, study.splits, seed=seed)
            },
        )

        def progress(done: int, of: int, _: str, steps: list[tuple[int, int]] = steps) -> None:
            steps.append((done, of))

        results[workers] = evaluate_study(given, quick, progress, workers)
        assert steps[-1][0] == steps[-1][1] == 19 + 4 + 2
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert all(results[1][name].equals(results[3][name]) for name in results[1])
