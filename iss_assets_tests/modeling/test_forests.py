from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import RandomForestClassifier

from iss_assets.modeling.experiments import experiment
from iss_assets.modeling.files import read_arrays
from iss_assets.modeling.fitting import PREDICTIONS, fit_fold, predict_fold
from iss_assets.modeling.forests import SMALL, Forest, grow_forest
from iss_assets.schemas.modeling import FramePredictions
from iss_assets.settings import TrainingSettings
from iss_assets_tests.modeling.conftest import planted_items

SETTINGS = TrainingSettings(seed=3)
PAIN = experiment("forest_pain")


@pytest.mark.parametrize("columns", [1, 12, 300])
@pytest.mark.parametrize("classes", [(0, 1), (0, 2, 3)])
@pytest.mark.parametrize("weights", ["frames", "ones", "balanced"])
def test_the_forest_equals_that_of_scikit_learn_node_by_node(
    columns: int, classes: tuple[int, ...], weights: str
) -> None:
    rng = np.random.default_rng(1)
    x = np.round(rng.normal(size=(150, columns)), 1).astype(np.float32)  # with ties
    target = rng.choice(classes, 150)
    weight = {
        "frames": rng.integers(1, 50, 150).astype(float),
        "ones": np.ones(150),
        "balanced": rng.uniform(0.3, 2.0, 150),
    }[weights]
    forest = grow_forest(x, target, weight, classes=4, seed=5, trees=20)
    model = RandomForestClassifier(20, max_samples=round(weight.sum()), random_state=5)
    model.fit(x, target, sample_weight=weight)
    assert np.array_equal(
        forest.threshold, np.concatenate([tree.tree_.threshold for tree in model.estimators_])
    )
    unseen = rng.normal(size=(200, columns)).astype(np.float32)
    probabilities = forest.probabilities(unseen)
    assert np.allclose(probabilities[:, classes], model.predict_proba(unseen), atol=1e-12)
    assert np.allclose(probabilities.sum(axis=1), 1) and len(forest.roots) == 20


def test_a_forest_of_many_items_equals_that_of_scikit_learn() -> None:
    """More than `SMALL` items grow in threads, more than `CHUNK` are predicted in pieces."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(SMALL + 1, 4)).astype(np.float32)
    target = (x[:, 0] + rng.normal(size=len(x)) > 0).astype(int)
    forest = grow_forest(x, target, np.ones(len(x)), 2, seed=1, trees=4)
    model = RandomForestClassifier(4, max_samples=1.0, random_state=1)
    model.fit(x, target, sample_weight=np.ones(len(x)))
    assert np.allclose(forest.probabilities(x), model.predict_proba(x), atol=1e-12)


def test_a_weighted_submission_has_the_effect_of_its_frames_in_the_papers_table() -> None:
    """Held against scikit-learn's own forest on the repeated rows, means over five seeds: two such means differ by 0.018
    a patient by chance alone; forests that draw as many rows as there are submissions differ by 0.07."""
    rng = np.random.default_rng(7)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        target = rng.integers(0, 2, n)
        scores = rng.normal(target[:, None] + 4.0, 2.5, (n, 9))
        return np.clip(np.round(scores), 0, 10).astype(np.float32), target

    x, target = draw(60)
    frames = rng.integers(2, 40, 60)
    unseen, _ = draw(200)
    rows = np.repeat(np.arange(60), frames)

    def mean_of_five(grow: Callable[[int], np.ndarray], first_seed: int) -> np.ndarray:
        return np.mean([grow(first_seed + n) for n in range(5)], axis=0)

    def on_frames(seed: int) -> np.ndarray:
        model = RandomForestClassifier(100, random_state=seed)
        return model.fit(x[rows], target[rows]).predict_proba(unseen)

    def on_submissions(seed: int) -> np.ndarray:
        return grow_forest(x, target, frames.astype(float), 2, seed).probabilities(unseen)

    def drawing_submissions(seed: int) -> np.ndarray:
        model = RandomForestClassifier(100, random_state=seed)
        return model.fit(x, target, sample_weight=frames.astype(float)).predict_proba(unseen)

    by_frames = mean_of_five(on_frames, 100)
    assert np.abs(mean_of_five(on_submissions, 0) - by_frames).mean() < 0.03
    assert np.abs(mean_of_five(drawing_submissions, 0) - by_frames).mean() > 0.05


def test_the_same_seed_gives_the_same_forest_and_another_seed_a_different_one() -> None:
    x = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    target = np.arange(80) % 2
    one, two, other = (grow_forest(x, target, np.ones(80), 2, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one.arrays()[n], two.arrays()[n]) for n in one.arrays())
    assert not np.array_equal(one.feature[:50], other.feature[:50])


def test_a_class_that_the_training_side_lacks_gets_probability_zero() -> None:
    forest = grow_forest(np.zeros((4, 2), np.float32), np.full(4, 2), np.ones(4), classes=4, seed=0)
    assert forest.probabilities(np.ones((3, 2), np.float32)).tolist() == [[0, 0, 1, 0]] * 3
    again = Forest.from_arrays(forest.arrays())
    assert np.array_equal(again.share, forest.share)


@pytest.mark.parametrize("name", ["forest_pain", "forest_landmarks", "embedding_probe"])
def test_models_without_epochs_learn_a_planted_signal_that_generalizes_to_new_patients(
    name: str, tmp_path: Path
) -> None:
    chosen = experiment(name)
    items = planted_items(chosen, patients=8)
    train, test = items.of([f"{p:04d}" for p in range(4)]), items.of([f"{p:04d}" for p in range(4, 8)])
    reported: list[dict[str, float]] = []
    fitted = fit_fold(chosen, train, SETTINGS, tmp_path, progress=reported.append)
    rows = predict_fold(chosen, fitted, test, SETTINGS)
    assert rows.schema == PREDICTIONS
    right = np.array(rows["target"].to_pylist()) == np.array(rows["predicted"].to_pylist())
    assert right.mean() > 0.95
    assert reported == fitted.history
    origin = (
        "imagenet (EfficientNet-Lite0)" if name == "embedding_probe" else "none"
    )  # a probe's is that of its embeddings
    assert (fitted.weights_origin, fitted.train_items, fitted.seed) == (origin, len(train), 3)
    assert fitted.train_patients == ["0000", "0001", "0002", "0003"]


def test_predictions_match_their_table_and_the_order_of_the_items(tmp_path: Path) -> None:
    items = planted_items(PAIN, patients=4, each=2)
    videos = np.array([f"s{i}" for i in range(len(items))])
    items = type(items)(**{**vars(items), "video_id": videos})
    rows = predict_fold(PAIN, fit_fold(PAIN, items, SETTINGS, tmp_path), items, SETTINGS)
    FramePredictions.check_rows(rows.append_column("split", pa.array([1] * len(items), pa.int32())))
    assert rows["video_id"].to_pylist() == videos.tolist()
    assert rows["frame_index"].null_count == rows["chunk_index"].null_count == len(items)
    assert rows["weight"].to_pylist() == [7.0] * len(items)
    pain = np.array(rows["predicted"].to_pylist()) == "Pain"
    probability = rows["probability"].to_numpy()
    assert np.allclose(rows["pain_probability"].to_numpy(), np.where(pain, probability, 1 - probability))


def test_a_model_is_reproducible_byte_by_byte_and_contains_no_path(tmp_path: Path) -> None:
    items = planted_items(PAIN)
    settings = TrainingSettings(seed=3, split_file=tmp_path / "secret" / "splits.csv")
    one = fit_fold(PAIN, items, settings, tmp_path / "a")
    two = fit_fold(PAIN, items, settings, tmp_path / "b")
    assert one.weights.read_bytes() == two.weights.read_bytes()
    assert b"secret" not in one.weights.read_bytes()
    assert '"split_file": "splits.csv"' in one.settings
    assert one.weights.stat().st_mode & 0o077 == 0


def test_class_weights_change_the_forest_only_when_switched_on(tmp_path: Path) -> None:
    items = planted_items(PAIN)
    plain = fit_fold(PAIN, items, SETTINGS, tmp_path / "a")
    balanced = fit_fold(PAIN, items, TrainingSettings(seed=3, class_weights=True), tmp_path / "b")
    shares = [read_arrays(f.weights)[0]["forest.share"][0] for f in (plain, balanced)]
    assert not np.allclose(shares[0], shares[1])


def test_a_file_of_another_experiment_or_a_damaged_one_is_rejected(tmp_path: Path) -> None:
    fitted = fit_fold(PAIN, planted_items(PAIN), SETTINGS, tmp_path)
    landmarks = experiment("forest_landmarks")
    with pytest.raises(ValueError, match="a model of forest_pain, not of forest_landmarks"):
        predict_fold(landmarks, fitted, planted_items(landmarks), SETTINGS)
    fitted.weights.write_bytes(fitted.weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="train this fold again"):
        predict_fold(PAIN, fitted, planted_items(PAIN), SETTINGS)


def test_no_training_items_are_an_error_and_no_test_items_give_an_empty_table(tmp_path: Path) -> None:
    items = planted_items(PAIN)
    with pytest.raises(ValueError, match="the training side has no items"):
        fit_fold(PAIN, items.of([]), SETTINGS, tmp_path)
    fitted = fit_fold(PAIN, items, SETTINGS, tmp_path)
    assert predict_fold(PAIN, fitted, items.of([]), SETTINGS).equals(PREDICTIONS.empty_table())


def test_a_probe_whose_training_side_has_one_class_predicts_it(tmp_path: Path) -> None:
    probe = experiment("embedding_probe")
    items = planted_items(probe)
    fitted = fit_fold(probe, items.of(["0001"]), SETTINGS, tmp_path)
    rows = predict_fold(probe, fitted, items, SETTINGS)
    assert set(rows["predicted"].to_pylist()) == {"Pain"}
    assert min(rows["probability"].to_pylist()) > 0.999
