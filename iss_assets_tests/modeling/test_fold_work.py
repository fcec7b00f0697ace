"""Training of folds from and to the warehouse: what is trained, reused, retrained and removed."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import dagster as dg
import numpy as np
import pytest

from iss_assets.defs.assets.fold_work import fit_experiment
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.withdrawn import Scope
from iss_assets.modeling import attention_training
from iss_assets.modeling.experiments import Experiment, experiment
from iss_assets.modeling.folds import PatientLevel, assign_splits
from iss_assets.pipeline.staleness import stale_experiments
from iss_assets.privacy.withdrawn_rows import Removed, remove_rows, traces_in
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.modeling.conftest import SIDE

pytestmark = pytest.mark.usefixtures("small_backbone")

FACES, PAIN, MESH = (experiment(name) for name in ("resnet50_2_static", "forest_pain", "mil_mesh"))
CONTEXT = cast(dg.AssetExecutionContext, SimpleNamespace(log=logging.getLogger(__name__)))
FRAMES = 7
"""Of ten that each patient has."""
COHORT = [PatientLevel("0001", "None"), PatientLevel("0002", "Low"), PatientLevel("0003", "Moderate")]


@pytest.fixture
def home(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small study in a home of its own, three patients in three splits, small networks, two folds at once."""
    for name, value in {
        "PROFILE": "demo", "IMAGE_SIDE": str(SIDE), "EPOCHS": "1", "DEVICE": "cpu", "FOLDS": "3", "FOLDS_AT_ONCE": "2",
        "FRAMES_PER_PATIENT": str(FRAMES),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"ISS_TRAINING__{name}", value)
    folder = tmp_path / "home"
    folder.mkdir()
    store = Warehouse(Warehouse(made_once).snapshot(folder / "warehouse.duckdb"))
    store.replace(CvSplits, assign_splits(COHORT, folds=3), where={})
    return folder


def fit(home: Path, chosen: Experiment = FACES, splits: Sequence[int] = (1, 2, 3)) -> dict[str, object]:
    note = fit_experiment(CONTEXT, WarehouseResource(home=str(home)), chosen, list(splits))
    return {name: note[name] for name in ("fitted", "predicted_again", "kept", "empty_splits")}


def done(fitted: int = 0, predicted: int = 0, kept: int = 0, empty: int = 0) -> dict[str, object]:
    return {"fitted": fitted, "predicted_again": predicted, "kept": kept, "empty_splits": empty}


def rows(home: Path, sql: str) -> list[dict]:
    return Warehouse(home / "warehouse.duckdb").query(sql).to_pylist()


@pytest.mark.parametrize("chosen", [FACES, PAIN], ids=lambda e: e.name)
def test_folds_are_trained_once_and_only_changed_ones_are_retrained(home: Path, chosen: Experiment) -> None:
    assert fit(home, chosen) == done(fitted=3)
    assert not stale_experiments(Warehouse(home / "warehouse.duckdb"), Settings(home=home), [chosen.name])
    models = rows(home, "select * from fold_models order by split")
    assert sorted(p for m in models for p in m["test_patients"]) == ["0001", "0002", "0003"]
    assert all(len(m["train_patients"]) == 2 and (home / m["weights"]).is_file() for m in models)
    assert all(json.loads(m["history"])[0]["epoch"] == 1 for m in models)
    predicted = Counter(r["patient_id"] for r in rows(home, "select patient_id from frame_predictions"))
    assert predicted == dict.fromkeys(("0001", "0002", "0003"), FRAMES if chosen is FACES else 2)
    assert fit(home, chosen) == done(kept=3)

    (home / models[1]["weights"]).unlink()
    assert fit(home, chosen) == done(fitted=1, kept=2)
    assert fit(home, chosen, splits=[2]) == done(kept=1)


def test_attention_is_kept_with_the_predictions_that_were_made_with_it(home: Path) -> None:
    store = Warehouse(home / "warehouse.duckdb")
    assert fit(home, MESH) == done(fitted=3)
    each = rows(
        home, "select patient_id, video_id, split, sum(attention) s from video_attention group by all"
    )
    assert {r["video_id"] for r in each} == {"s1a", "s1b", "s2a", "s2b", "s3a", "s3b"}
    assert all(r["s"] == pytest.approx(1) for r in each)
    tested = {r["patient_id"]: r["split"] for r in rows(home, "select patient_id, split from cv_splits")}
    assert all(tested[r["patient_id"]] == r["split"] for r in each), (
        "of models that were not trained on the patient"
    )
    made = {
        (r["split"], r["fingerprint"]) for r in rows(home, "select split, fingerprint from video_attention")
    }
    recorded = "select subject, table_name, fingerprint from extractions where subject like 'mil_mesh|%'"
    ledger = {(r["subject"], r["table_name"]): r["fingerprint"] for r in rows(home, recorded)}
    for split, fingerprint in made:
        assert ledger[f"mil_mesh|{split:02d}", "video_attention"] == fingerprint
        assert ledger[f"mil_mesh|{split:02d}", "frame_predictions"] == fingerprint
    assert not stale_experiments(store, Settings(home=home), [MESH.name])
    assert fit(home, MESH) == done(kept=3)

    with store.write() as writer:
        writer.execute("delete from extractions where table_name = 'video_attention' and subject like '%02'")
    assert stale_experiments(store, Settings(home=home), [MESH.name])
    assert fit(home, MESH) == done(predicted=1, kept=2)

    assert fit(home, PAIN) == done(fitted=3)
    assert {r["experiment"] for r in rows(home, "select experiment from video_attention")} == {"mil_mesh"}
    store.replace(CvSplits, assign_splits(COHORT, folds=2), where={})
    fit(home, MESH)
    assert {r["split"] for r in rows(home, "select split from video_attention")} == {1, 2}


def test_folds_of_whole_videos_that_are_done_are_kept_when_a_later_one_fails(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = attention_training.balanced_order
    calls = []

    def failing(patient_id: np.ndarray, *more: int) -> np.ndarray:
        calls.append(sorted(set(patient_id.tolist())))
        if len({tuple(c) for c in calls}) == 3:  # the third training side
            raise KeyboardInterrupt
        return learned(patient_id, *more)

    monkeypatch.setattr(attention_training, "balanced_order", failing)
    with pytest.raises(KeyboardInterrupt):
        fit(home, MESH)
    monkeypatch.undo()
    for name, value in {"PROFILE": "demo", "FOLDS": "3"}.items():
        monkeypatch.setenv(f"ISS_TRAINING__{name}", value)
    assert {r["split"] for r in rows(home, "select split from video_attention")} == {1, 2}


def test_withdrawal_takes_the_attention_to_the_patient_and_of_every_model_that_learned_from_them(
    home: Path,
) -> None:
    fit(home, MESH)
    store = Warehouse(home / "warehouse.duckdb")
    removed: list[Removed] = []
    # of three patients in three splits, two models learned from the second, and the third was tested on them
    before = Counter(r["patient_id"] for r in rows(home, "select patient_id from video_attention"))
    remove_rows(store, traces_in(store, "0002"), Scope.ALL, removed.append)
    assert rows(home, "select * from video_attention") == []
    assert removed[0].rows["video_attention"] == before["0002"]
    assert removed[0].made_again["video_attention"] == before["0001"] + before["0003"]
    left = rows(
        home, "select * from extractions where table_name = 'video_attention' and subject not like '%|02'"
    )
    assert [r for r in left if "mil_mesh" in r["subject"]] == []


def test_new_data_of_a_patient_are_predicted_in_the_own_split_and_retrain_the_others(
    home: Path,
) -> None:
    fit(home)
    own = rows(home, "select split from cv_splits where patient_id = '0002'")[0]["split"]
    with Warehouse(home / "warehouse.duckdb").write() as writer:
        writer.execute("update faces set fingerprint = 'changed' where video_id = 's2a'")
    assert stale_experiments(Warehouse(home / "warehouse.duckdb"), Settings(home=home), [FACES.name])
    assert fit(home, splits=[own]) == done(predicted=1)
    assert fit(home) == done(fitted=2, kept=1)


def test_a_split_without_patients_is_removed(home: Path) -> None:
    fit(home, PAIN)
    store = Warehouse(home / "warehouse.duckdb")
    store.replace(CvSplits, assign_splits(COHORT, folds=2), where={})
    assert stale_experiments(store, Settings(home=home), [PAIN.name])
    assert fit(home, PAIN, splits=[3]) == done(empty=1)  # alone it takes nothing with it
    assert {r["split"] for r in rows(home, "select split from fold_models")} == {1, 2}
    assert fit(home, PAIN) == done(fitted=1, kept=1, empty=1)  # one split tests whom it tested before
    assert {r["split"] for r in rows(home, "select split from frame_predictions")} == {1, 2}
    assert {r["subject"] for r in rows(home, "select subject from extractions")} == {
        "forest_pain|01",
        "forest_pain|02",
    }
    assert sorted(f.name for f in (home / "models" / PAIN.name).iterdir()) == ["01", "02"]
    assert fit(home, PAIN) == done(kept=2, empty=1)
    assert not stale_experiments(store, Settings(home=home), [PAIN.name])


def test_folds_of_other_splits_are_removed_with_the_first_current_fold_and_not_before(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(home, PAIN)
    store = Warehouse(home / "warehouse.duckdb")
    moved = {"0001": 2, "0002": 2, "0003": 1}
    store.replace(CvSplits, assign_splits(COHORT, folds=3, split_file=moved), where={})
    made = rows(home, "select * from fold_models order by split")

    def fails(*_: object) -> None:
        raise ValueError("no weights")

    with monkeypatch.context() as patch:
        patch.setattr("iss_assets.defs.assets.fold_work.fitting_steps", fails)
        with pytest.raises(ValueError, match="no weights"):
            fit(home, PAIN)
    assert rows(home, "select * from fold_models order by split") == made
    assert all((home / row["weights"]).is_file() for row in made)

    assert fit(home, PAIN, splits=[1]) == done(fitted=1)
    assert [r["split"] for r in rows(home, "select split from fold_models")] == [1]
    assert {r["patient_id"] for r in rows(home, "select patient_id from frame_predictions")} == {"0003"}


def test_a_joining_patient_is_in_the_row_of_the_model_that_predicts_them_and_did_not_change(
    home: Path,
) -> None:
    store = Warehouse(home / "warehouse.duckdb")
    two = assign_splits(COHORT[:2], folds=3, split_file={"0001": 1, "0002": 2})
    store.replace(CvSplits, two, where={})
    fit(home, PAIN)
    joined = assign_splits(COHORT, folds=3, split_file={"0001": 1, "0002": 2, "0003": 2})
    store.replace(CvSplits, joined, where={})
    assert stale_experiments(store, Settings(home=home), [PAIN.name])
    assert fit(home, PAIN) == done(fitted=1, predicted=1, empty=1)
    models = rows(home, "select * from fold_models order by split")
    assert [m["test_patients"] for m in models] == [["0001"], ["0002", "0003"]]
    assert {m["cohort_hash"] for m in models} == set(joined["cohort_hash"].to_pylist())
    assert not stale_experiments(store, Settings(home=home), [PAIN.name])
