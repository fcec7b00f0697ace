"""The training loop with a small backbone; ``test_learning`` checks that each network learns."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from iss_assets.modeling import training
from iss_assets.modeling.experiments import Experiment, experiment
from iss_assets.modeling.files import read_arrays, write_arrays
from iss_assets.modeling.fitting import FittedFold, fit_fold, predict_fold
from iss_assets.modeling.items import EncodedFaces, Items
from iss_assets.modeling.training import CHECKPOINT_FILE
from iss_assets.modeling.weights import WeightsUnavailable
from iss_assets.schemas.modeling import FramePredictions
from iss_assets.settings import TrainingSettings
from iss_assets_tests.modeling.conftest import as_png, planted_items

pytestmark = pytest.mark.usefixtures("small_backbone")

SETTINGS = TrainingSettings(profile="demo", image_side=32, learning_rate=1e-3, device="cpu", checkpoint_s=0)
SHORT = SETTINGS.model_copy(update={"epochs": 3})
FACES, FUSION = experiment("resnet50_2_static"), experiment("fusion_3")


def accuracy(chosen: Experiment, fitted: FittedFold, items: Items) -> float:
    rows = predict_fold(chosen, fitted, items, SETTINGS)
    FramePredictions.check_rows(rows.append_column("split", pa.array([1] * len(rows), pa.int32())))
    return float(np.mean(np.array(rows["target"]) == np.array(rows["predicted"])))


class Killed(BaseException):
    """Simulates the end of the process."""


def test_killed_training_resumes_after_its_last_epoch_and_gives_the_same_model(tmp_path: Path) -> None:
    items = planted_items(FUSION, each=6)
    uninterrupted = fit_fold(FUSION, items, SHORT, tmp_path / "uninterrupted")

    def kill(entry: dict[str, float]) -> None:
        if entry["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        fit_fold(FUSION, items, SHORT, tmp_path / "killed", progress=kill)
    assert (tmp_path / "killed" / CHECKPOINT_FILE).exists()
    reported: list[float] = []
    again = fit_fold(
        FUSION, items, SHORT, tmp_path / "killed", progress=lambda e: reported.append(e["epoch"])
    )
    assert reported == [3]
    one, two = read_arrays(uninterrupted.weights)[0], read_arrays(again.weights)[0]
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert [e["loss"] for e in again.history] == [e["loss"] for e in uninterrupted.history]
    assert not (tmp_path / "killed" / CHECKPOINT_FILE).exists()


def test_an_epoch_is_saved_only_when_enough_time_has_passed_since_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock[0])
    settings = SETTINGS.model_copy(update={"epochs": 7, "checkpoint_s": 25})
    items, saved = planted_items(FUSION, each=2), list[int]()
    file = tmp_path / CHECKPOINT_FILE

    def kill(entry: dict[str, float]) -> None:
        clock[0] += 10
        if file.exists():
            saved.append(len(json.loads(read_arrays(file)[1]["history"])))
        if entry["epoch"] == 6:
            raise Killed

    with pytest.raises(Killed):
        fit_fold(FUSION, items, settings, tmp_path, progress=kill)
    assert saved == [4, 4, 4]  # 30 s have passed when epoch 4 ends, and 20 more when epoch 6 does
    reported: list[float] = []
    fit_fold(FUSION, items, settings, tmp_path, progress=lambda e: reported.append(e["epoch"]))
    assert reported == [5, 6, 7]


def test_a_checkpoint_of_other_items_or_a_damaged_one_is_not_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=training.__name__)

    for seed, message in ((0, None), (1, "belongs to another training run"), (1, "is damaged")):
        if message == "is damaged":
            (tmp_path / CHECKPOINT_FILE).write_bytes(b"\0" * 100)
        reported: list[float] = []

        def kill(entry: dict[str, float], reported: list[float] = reported) -> None:
            reported.append(entry["epoch"])
            raise Killed

        caplog.clear()
        with pytest.raises(Killed):
            fit_fold(FUSION, planted_items(FUSION, each=2, seed=seed), SHORT, tmp_path, progress=kill)
        assert reported == [1]
        assert message is None or message in caplog.text


def test_the_same_seed_gives_the_same_file_and_another_seed_a_different_one(tmp_path: Path) -> None:
    items = planted_items(FUSION, each=4)
    torch.manual_seed(11)
    one = fit_fold(FUSION, items, SHORT, tmp_path / "one")
    torch.manual_seed(12)  # the caller's random numbers do not matter, and are not touched
    expected = torch.random.get_rng_state()
    two = fit_fold(FUSION, items, SHORT, tmp_path / "two")
    assert torch.equal(torch.random.get_rng_state(), expected)
    other = fit_fold(FUSION, items, SHORT.model_copy(update={"seed": 1}), tmp_path / "other")
    assert one.weights.read_bytes() == two.weights.read_bytes()
    assert one.weights.read_bytes() != other.weights.read_bytes()


def test_predictions_do_not_depend_on_the_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = planted_items(FACES, each=5)
    fitted = fit_fold(FACES, items, SHORT, tmp_path)
    together = predict_fold(FACES, fitted, items, SHORT)["pain_probability"].to_numpy()
    monkeypatch.setattr(training, "PREDICTION_BATCH", 1)
    alone = predict_fold(FACES, fitted, items, SHORT)["pain_probability"].to_numpy()
    assert np.allclose(together, alone, atol=1e-5)


def test_encoded_faces_give_the_same_model(tmp_path: Path) -> None:
    items = planted_items(FACES, each=4)
    files = pa.array([as_png(face) for face in np.asarray(items.inputs["faces"])], pa.large_binary())
    encoded = Items(**{**vars(items), "inputs": {"faces": EncodedFaces(files, 32)}})
    one = fit_fold(FACES, items, SHORT, tmp_path / "one")
    two = fit_fold(FACES, encoded, SHORT, tmp_path / "two")
    assert one.weights.read_bytes() == two.weights.read_bytes()
    assert accuracy(FACES, one, items) == accuracy(FACES, two, encoded)


def test_a_checkpoint_with_other_initial_weights_is_not_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=training.__name__)
    file = tmp_path / "resnet50.safetensors"
    settings = SHORT.model_copy(update={"initial_weights": "imagenet", "resnet50_weights": file})

    def kill(_: dict[str, float]) -> None:
        raise Killed

    for seed in (0, 1):
        torch.manual_seed(seed)
        save_file(torchvision.models.resnet50(weights=None).state_dict(), file)
        with pytest.raises(Killed):
            fit_fold(FACES, planted_items(FACES, each=2), settings, tmp_path / "fold", progress=kill)
    assert "belongs to another training run" in caplog.text


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("owners", [["0000", "0001"], ["0002"]])
def test_a_network_can_be_trained_with_absent_classes(
    tmp_path: Path, owners: list[str], weighted: bool
) -> None:
    """Four classes of which two, or one, are there: a small fold can lack a level."""
    four = experiment("resnet50_4_static")
    items = planted_items(four, each=6)
    settings = SHORT.model_copy(update={"class_weights": weighted})
    fitted = fit_fold(four, items.of(owners), settings, tmp_path)
    assert all(np.isfinite(e["loss"]) for e in fitted.history)
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    probability = predict_fold(four, fitted, items, settings)["probability"].to_numpy()
    assert np.isfinite(probability).all() and len(probability) == len(items)


def test_a_patient_without_answers_can_be_trained_on_and_predicted(tmp_path: Path) -> None:
    chosen = experiment("fusion_2")
    items = planted_items(chosen, each=4)
    scores = items.inputs["scores"]
    assert isinstance(scores, np.ndarray)
    scores[np.isin(items.patient_id, ["0001", "0003"]), :9] = np.nan
    train, test = items.of(["0000", "0001", "0002"]), items.of(["0003"])
    fitted = fit_fold(chosen, train, SHORT, tmp_path)
    assert np.isfinite(predict_fold(chosen, fitted, test, SHORT)["pain_probability"].to_numpy()).all()
    nobody = fit_fold(chosen, items.of(["0001", "0003"]), SHORT, tmp_path)
    assert np.isfinite(predict_fold(chosen, nobody, items, SHORT)["pain_probability"].to_numpy()).all()


def test_missing_pretrained_weights_stop_the_training_and_leave_no_model(tmp_path: Path) -> None:
    wanted = TrainingSettings(image_side=32, resnet50_weights=tmp_path / "nowhere.pth")
    with pytest.raises(WeightsUnavailable):
        fit_fold(FACES, planted_items(FACES, each=2), wanted, tmp_path / "fold")
    assert list((tmp_path / "fold").iterdir()) == []


def test_nan_inputs_stop_the_training_with_a_message(tmp_path: Path) -> None:
    items = planted_items(FUSION, each=3)
    landmarks = np.full_like(np.asarray(items.inputs["landmarks"]), np.nan)
    broken = Items(**{**vars(items), "inputs": {**items.inputs, "landmarks": landmarks}})
    with pytest.raises(ValueError, match="loss is not finite in epoch 1"):
        fit_fold(FUSION, broken, SHORT, tmp_path)


def test_a_network_needs_more_than_one_item(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two items"):
        fit_fold(FACES, planted_items(FACES, patients=1, each=1), SHORT, tmp_path)


def test_the_demo_profile_changes_only_settings_that_are_not_given(tmp_path: Path) -> None:
    demo = TrainingSettings(profile="demo", epochs=5)
    assert (demo.folds, demo.epochs, demo.initial_weights) == (3, 5, "random")
    paper = TrainingSettings()
    assert (paper.folds, paper.epochs, paper.batch_size, paper.learning_rate) == (10, 10, 16, 1e-4)
    assert (paper.initial_weights, paper.image_side, paper.frames_per_patient) == ("imagenet", 160, None)


def test_a_model_of_a_version_that_counted_batches_predicts_as_before(tmp_path: Path) -> None:
    items = planted_items(FACES, each=4)
    fitted = fit_fold(FACES, items, SHORT, tmp_path)
    before = predict_fold(FACES, fitted, items, SHORT)
    arrays, described = read_arrays(fitted.weights)
    means = [name for name in arrays if name.endswith("running_mean")]
    counts = {name.replace("running_mean", "num_batches_tracked"): np.array(9) for name in means}
    assert len(counts) > 10 and not counts.keys() & arrays.keys()
    write_arrays(fitted.weights, arrays | counts, described)
    assert predict_fold(FACES, fitted, items, SHORT).equals(before)


def test_a_model_file_does_not_depend_on_the_number_of_concurrent_folds(tmp_path: Path) -> None:
    items = planted_items(FACES, each=4)
    others = {"folds_at_once": 5, "compile_from_steps": 7, "decoded_faces_gb": 1.0}
    one = fit_fold(FACES, items, SHORT, tmp_path / "one")
    two = fit_fold(FACES, items, SHORT.model_copy(update=others), tmp_path / "two")
    assert one.weights.read_bytes() == two.weights.read_bytes()
