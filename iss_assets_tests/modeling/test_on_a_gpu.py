"""Recorded steps on a real GPU, which other tests only simulate. Skipped without one.

It needs little more than torch, so that it can run on a rented machine: ``pytest --noconftest`` with this file.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.training import invent
from iss_assets.modeling import capture, data, training
from iss_assets.modeling.capture import CAPTURE_FROM
from iss_assets.modeling.computing import can_compile
from iss_assets.modeling.embeddings import embed_faces
from iss_assets.modeling.experiments import EXPERIMENTS, Experiment, experiment
from iss_assets.modeling.fitting import fit_fold, fitting_steps, folds_side_by_side, predict_fold
from iss_assets.modeling.items import Items
from iss_assets.modeling.pictures import SharedPictures
from iss_assets.settings import TrainingSettings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

FACES, FUSION = experiment("resnet50_2_static"), experiment("fusion_3")
SETTINGS = TrainingSettings(
    initial_weights="random", device="cuda", compile="never", epochs=2, image_side=96, folds_at_once=1
)
N = 16 * 26 + 7
"""26 full batches and one that is not: with two epochs enough to be recorded."""


@pytest.fixture(scope="module")
def faces() -> Items:
    return invent(FACES, N, 96)


def planted(n: int) -> Items:
    """Faces of which those of a patient with pain are brighter below."""
    items = invent(FACES, n, 96)
    faces = np.asarray(items.inputs["faces"]) // 2
    faces[items.target == 1, 48:] += 60
    return Items(**{**vars(items), "inputs": {"faces": SharedPictures(faces)}})


class Killed(BaseException):
    """Simulates the end of the process."""


@pytest.mark.parametrize(
    "chosen", [e for e in EXPERIMENTS if e.is_network and not e.has_attention], ids=lambda e: e.name
)
def test_recorded_eager_and_killed_training_give_the_same_file(
    tmp_path: Path, chosen: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 160 if chosen is FACES else 96
    items, settings = invent(chosen, N, side), SETTINGS.model_copy(update={"image_side": side})
    fast = fit_fold(chosen, items, settings, tmp_path / "fast")
    assert fast.computed.execution == "captured" and fast.history[-1]["loss"] != fast.history[0]["loss"]

    def kill(_: dict[str, float]) -> None:
        raise Killed

    with pytest.raises(Killed):
        fit_fold(chosen, items, settings, tmp_path / "killed", kill)
    reported: list[float] = []
    again = fit_fold(chosen, items, settings, tmp_path / "killed", lambda e: reported.append(e["epoch"]))
    assert reported == [2]
    assert again.weights.read_bytes() == fast.weights.read_bytes()
    # an eager step is recorded as another way of computing, and computes the same
    monkeypatch.setattr(training, "can_capture", lambda device: False)
    eager = fit_fold(chosen, items, settings, tmp_path / "eager")
    assert eager.computed.execution == "eager"
    one, two = (training.read_arrays(f.weights)[0] for f in (fast, eager))
    assert [name for name in one if not np.array_equal(one[name], two[name])] == []


@pytest.mark.parametrize("chosen", [FACES, FUSION], ids=lambda e: e.name)
def test_concurrent_folds_give_the_same_models_and_memory_does_not_grow_with_the_total(
    tmp_path: Path, chosen: Experiment
) -> None:
    items = invent(chosen, N, 96)
    parts = [items.take(np.arange(N) != left) for left in range(6)]
    peaks, files = {}, {}
    for at_once, some in ((1, parts[:5]), (5, parts[:5]), (3, parts[:3]), (3, parts)):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        settings = SETTINGS.model_copy(update={"folds_at_once": at_once})
        jobs = [
            partial(fitting_steps, chosen, part, settings, tmp_path / f"{at_once}-{len(some)}-{number}")
            for number, part in enumerate(some)
        ]
        done = dict(folds_side_by_side(chosen, jobs, settings))
        files[at_once, len(some)] = [done[n].weights.read_bytes() for n in range(len(some))]
        peaks[at_once, len(some)] = torch.cuda.max_memory_reserved()
    assert files[1, 5] == files[5, 5] == files[3, 6][:5]
    assert files[3, 3] == files[1, 5][:3]
    assert len(set(files[3, 6])) == 6
    print({k: f"{v / 1e9:.2f} GB" for k, v in peaks.items()})
    assert peaks[3, 6] < 1.35 * peaks[3, 3]


def test_streamed_pictures_give_the_same_model_as_those_on_the_gpu(
    tmp_path: Path, faces: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = fit_fold(FACES, faces, SETTINGS, tmp_path / "near")
    monkeypatch.setattr(data, "memory_budget", lambda device: 10_000.0)
    far = fit_fold(FACES, invent(FACES, N, 96), SETTINGS, tmp_path / "far")
    assert near.weights.read_bytes() == far.weights.read_bytes()


def test_predictions_and_embeddings_are_the_same_recorded_or_not_and_agree_between_precisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = planted(64 * (CAPTURE_FROM + 2) + 5)
    fitted = fit_fold(FACES, planted(N), SETTINGS, tmp_path / "bfloat16")
    assert fitted.computed.precision == "bfloat16"

    def predicted() -> np.ndarray:
        return predict_fold(FACES, fitted, many, SETTINGS)["pain_probability"].to_numpy()

    crops = np.asarray(many.inputs["faces"])
    fast = predicted(), embed_faces(crops, SETTINGS).vectors
    with monkeypatch.context() as patch:
        patch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: False)
        plain = predicted()
    difference = np.abs(fast[0] - plain)
    print(
        f"bfloat16 against float32, the same model: {difference.mean():.5f} mean, {difference.max():.4f} at most"
    )
    assert 0 < difference.mean() < 0.02
    monkeypatch.setattr(capture, "can_capture", lambda device: False)
    eager = predicted(), embed_faces(crops, SETTINGS).vectors
    assert all(np.array_equal(one, two) for one, two in zip(fast, eager, strict=True))


@pytest.mark.skipif(not can_compile(), reason="torch cannot compile here")
def test_compiled_training_is_reproducible_with_concurrent_folds(tmp_path: Path) -> None:
    items = invent(FUSION, N, 96)
    settings = SETTINGS.model_copy(update={"compile": "always", "folds_at_once": 2})
    jobs = [partial(fitting_steps, FUSION, items, settings, tmp_path / str(n)) for n in range(2)]
    done = dict(folds_side_by_side(FUSION, jobs, settings))
    alone = fit_fold(FUSION, items, settings, tmp_path / "alone")
    assert alone.computed.execution == "compiled and captured"
    print("seconds:", [round(f.seconds) for f in (done[0], done[1], alone)])
    assert len({f.weights.read_bytes() for f in (done[0], done[1], alone)}) == 1


def test_no_checkpoint_remains_after_training(tmp_path: Path, faces: Items) -> None:
    fit_fold(FACES, faces, SETTINGS, tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["model.safetensors"]
