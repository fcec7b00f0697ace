"""Models that are trained again on permuted labels, with real forests."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from iss_assets.defs.assets.evaluation import trainer
from iss_assets.evaluation.canaries import shuffled_labels_canary
from iss_assets.evaluation.permutation import PredictionScore, permute_labels, score_predictions
from iss_assets.modeling.experiments import experiment
from iss_assets.modeling.fitting import fit_fold, predict_fold
from iss_assets.modeling.items import Items
from iss_assets.modeling.retraining import cross_validate, subsample
from iss_assets.settings import EvaluationSettings, Settings, TrainingSettings
from iss_assets_tests.modeling.conftest import LEVELS, planted_items

PAIN = experiment("forest_pain")
SETTINGS = Settings(training=TrainingSettings(profile="demo"))
SIXTEEN = {f"{p:04d}": LEVELS[p % 4] for p in range(16)}
SPLITS = {patient: place // 4 for place, patient in enumerate(SIXTEEN)}


@pytest.fixture(scope="module")
def items() -> Items:
    return planted_items(PAIN, patients=16, each=2)


def test_the_planted_signal_is_found_and_permuted_labels_are_not(items: Items) -> None:
    train = trainer("forest_pain", items, SETTINGS)
    assert score_predictions(train(SIXTEEN, SPLITS), SIXTEEN, 2) == PredictionScore(1.0, 1.0)
    levels, splits = permute_labels(SIXTEEN, SPLITS, np.random.default_rng(3))
    permuted = train(levels, splits)
    assert score_predictions(permuted, levels, 2).accuracy < 0.9
    assert sorted(set(permuted["patient_id"].to_pylist())) == sorted(SIXTEEN)


@pytest.mark.parametrize("balanced", [False, True])
def test_training_again_gives_the_predictions_of_the_stored_models(
    items: Items, tmp_path: Path, balanced: bool
) -> None:
    settings = TrainingSettings(profile="demo", class_weights=balanced)
    again = cross_validate(PAIN, items, SPLITS, settings).to_pandas()
    for split in set(SPLITS.values()):
        test = items.of([p for p, s in SPLITS.items() if s == split])
        kept = fit_fold(PAIN, items.of([p for p, s in SPLITS.items() if s != split]), settings, tmp_path)
        rows = predict_fold(PAIN, kept, test, settings).to_pandas()
        own = again[again["patient_id"].isin(test.patients)]
        assert own["predicted"].tolist() == rows["predicted"].tolist()
        assert np.array_equal(own["pain_probability"], rows["pain_probability"])
    assert len(again) == len(items)


def test_patients_without_a_split_are_on_neither_side(items: Items) -> None:
    some = {p: s for p, s in SPLITS.items() if p != "0003"}
    without = cross_validate(PAIN, items, some, SETTINGS.training)
    assert sorted(set(without["patient_id"].to_pylist())) == sorted(some)
    alone = cross_validate(PAIN, items.of(list(some)), some, SETTINGS.training)
    assert without.equals(alone)


def test_a_leak_planted_into_real_training_is_caught_and_honest_training_is_not(items: Items) -> None:
    honest = trainer("forest_pain", items, SETTINGS)

    def leaky(levels: Mapping[str, str], splits: Mapping[str, int]) -> pa.Table:
        """Put a statistic of the label into the features, test patients included, as careless preparation does."""
        scores = np.array(items.inputs["scores"])
        scores[:, 0] = [levels[p] != "None" for p in items.patient_id]
        leaked = replace(items, inputs={"scores": scores})
        return trainer("forest_pain", leaked, SETTINGS)(levels, splits)

    few = EvaluationSettings(shuffle_repeats=3)
    with ThreadPoolExecutor(2) as pool:
        rows = [
            shuffled_labels_canary("m", SIXTEEN, SPLITS, 2, train, few, pool, 2) for train in (honest, leaky)
        ]
    assert [row["passed"] for row in rows] == [True, False]
    assert rows[1]["value"] > 0.9


def test_a_sample_takes_as_many_items_of_each_patient_evenly_spaced(items: Items) -> None:
    assert subsample(items, 1000) is items
    many = planted_items(experiment("forest_landmarks"), patients=4, each=12)
    some = subsample(many, 12)
    assert some.patient_id.tolist() == [p for p in many.patients for _ in range(3)]
    assert some.frame_index[:3].tolist() == [2, 6, 10]
    assert len(subsample(many, 1)) == 4
