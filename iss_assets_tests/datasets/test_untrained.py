"""An experiment on measures that too few patients have is not trained, and the reason is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from iss_assets.datasets.items import patients_with_items
from iss_assets.modeling.experiments import experiment
from iss_assets.pipeline.staleness import make_splits
from iss_assets.pipeline.training import next_training_runs, untrained_experiments
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import Settings, TrainingSettings
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import STUDY, ledger_entry

VOICE = experiment("forest_voice")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, training=TrainingSettings(folds=2))


@pytest.fixture
def split(study: Warehouse, settings: Settings) -> Warehouse:
    rows, fingerprint = make_splits(study, settings)
    study.replace_all(
        [Replacement(CvSplits, rows, {}), ledger_entry(STUDY, CvSplits, fingerprint, rows.num_rows)]
    )
    return study


def test_patients_with_items_are_those_whose_usable_videos_were_measured(study: Warehouse) -> None:
    assert patients_with_items(study, VOICE, TrainingSettings()) == ["0001", "0002", "0003"]


def test_where_enough_patients_have_a_voice_the_forest_is_trained(
    split: Warehouse, settings: Settings
) -> None:
    assert untrained_experiments(split, settings) == {}
    batch = next_training_runs(split, settings, ["forest_voice"], ["0001"], {}, thorough=False)
    assert [run.subject for run in batch] == ["forest_voice"]


def test_where_too_few_have_one_it_is_not_and_the_reason_names_table_and_numbers(
    split: Warehouse, settings: Settings
) -> None:
    with split.write() as writer:
        writer.execute("delete from voice_features where patient_id <> '0001'")

    assert untrained_experiments(split, settings) == {
        "forest_voice": "1 of 3 patients have rows in voice_features for a video that can be trained on, and at least 3 "
        "are needed",
        "forest_measures": "1 of 3 patients have rows in voice_features and face_behavior_summary and text_features for a "
        "video that can be trained on, and at least 3 are needed",
    }
    batch = next_training_runs(split, settings, ["forest_voice", "forest_pain"], ["0001"], {}, thorough=False)
    assert [run.subject for run in batch] == ["forest_pain"], "the others are trained"


def test_before_patients_are_split_nothing_is_said(study: Warehouse, settings: Settings) -> None:
    with study.write() as writer:
        writer.execute("delete from voice_features")
    assert untrained_experiments(study, settings) == {}
    (first,) = next_training_runs(study, settings, ["forest_voice"], ["0001"], {}, thorough=False)
    assert first.job == "splits"
