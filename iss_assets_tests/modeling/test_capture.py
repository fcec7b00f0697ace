"""Recorded steps, simulated on a CPU, give the same model as eager steps, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from iss_assets.modeling import capture, training
from iss_assets.modeling.capture import capture_step, snapshot
from iss_assets.modeling.embeddings import embed_faces
from iss_assets.modeling.experiments import EXPERIMENTS, Experiment, experiment
from iss_assets.modeling.fitting import fit_fold, predict_fold
from iss_assets.modeling.items import Items
from iss_assets.modeling.networks import build_network
from iss_assets.modeling.training import CHECKPOINT_FILE
from iss_assets.settings import TrainingSettings
from iss_assets_tests.modeling.conftest import planted_items
from iss_assets_tests.modeling.gpu_stand_in import Recorded, recorded

__all__ = ["recorded"]

pytestmark = pytest.mark.usefixtures("small_backbone")

SETTINGS = TrainingSettings(
    profile="demo", image_side=32, device="cpu", epochs=3, batch_size=8, learning_rate=1e-3, checkpoint_s=0
)
FACES, FUSION = experiment("resnet50_2_static"), experiment("fusion_3")
NETWORKS = [e for e in EXPERIMENTS if e.is_network and not e.has_attention]


class Killed(BaseException):
    """Simulates the end of the process."""


@pytest.mark.parametrize("chosen", NETWORKS, ids=lambda e: e.name)
def test_recorded_steps_give_the_same_file_as_eager_ones(
    tmp_path: Path, chosen: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = planted_items(chosen, each=5)  # two full batches and one of four
    eager = fit_fold(chosen, items, SETTINGS, tmp_path / "eager")
    stand_in = Recorded()
    monkeypatch.setattr(capture, "record", stand_in.record)
    monkeypatch.setattr(training, "can_capture", lambda device: True)
    monkeypatch.setattr(training, "CAPTURE_FROM", 1)
    fast = fit_fold(chosen, items, SETTINGS, tmp_path / "fast")
    assert (stand_in.graphs, stand_in.replays) == (1, 2 * SETTINGS.epochs)
    assert (eager.computed.execution, fast.computed.execution) == ("eager", "captured")
    assert eager.weights.read_bytes() == fast.weights.read_bytes()
    assert [e["loss"] for e in eager.history] == [e["loss"] for e in fast.history]


def test_a_killed_recorded_training_gives_the_same_model(tmp_path: Path, recorded: Recorded) -> None:
    items = planted_items(FUSION, each=5)
    uninterrupted = fit_fold(FUSION, items, SETTINGS, tmp_path / "uninterrupted")

    def kill(entry: dict[str, float]) -> None:
        if entry["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        fit_fold(FUSION, items, SETTINGS, tmp_path / "killed", progress=kill)
    assert (tmp_path / "killed" / CHECKPOINT_FILE).exists()
    again = fit_fold(FUSION, items, SETTINGS, tmp_path / "killed")
    assert recorded.graphs == 3
    assert uninterrupted.weights.read_bytes() == again.weights.read_bytes()


def test_a_checkpoint_of_another_computation_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored with a model as really used is true of the whole training."""
    items = planted_items(FUSION, each=5)

    def kill(_: dict[str, float]) -> None:
        raise Killed

    with pytest.raises(Killed):
        fit_fold(FUSION, items, SETTINGS, tmp_path, progress=kill)
    monkeypatch.setattr(capture, "record", Recorded().record)
    monkeypatch.setattr(training, "can_capture", lambda device: True)
    monkeypatch.setattr(training, "CAPTURE_FROM", 1)
    reported: list[float] = []
    fitted = fit_fold(FUSION, items, SETTINGS, tmp_path, progress=lambda e: reported.append(e["epoch"]))
    assert reported == [1, 2, 3] and fitted.computed.execution == "captured"


def test_streamed_pictures_are_copied_to_the_inputs_of_the_graph(
    tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = planted_items(FACES, each=5)
    near = fit_fold(FACES, items, SETTINGS, tmp_path / "near")
    monkeypatch.setattr("iss_assets.modeling.data.memory_budget", lambda device: 1000.0)
    far = fit_fold(FACES, items, SETTINGS, tmp_path / "far")
    assert recorded.replays == 2 * 2 * SETTINGS.epochs
    assert near.weights.read_bytes() == far.weights.read_bytes()


def test_predictions_and_embeddings_are_the_same_recorded_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = planted_items(FACES, each=33)  # two batches of 64 and one of four
    fitted = fit_fold(FACES, planted_items(FACES, each=4), SETTINGS, tmp_path)
    faces = np.asarray(items.inputs["faces"])

    def both() -> tuple[np.ndarray, np.ndarray]:
        rows = predict_fold(FACES, fitted, items, SETTINGS)
        return rows["pain_probability"].to_numpy(), embed_faces(faces, SETTINGS).vectors

    eager = both()
    stand_in = Recorded()
    monkeypatch.setattr(capture, "record", stand_in.record)
    monkeypatch.setattr(capture, "can_capture", lambda device: True)
    monkeypatch.setattr(capture, "CAPTURE_FROM", 1)
    fast = both()
    assert (stand_in.graphs, stand_in.replays) == (2, 4)
    assert all(np.array_equal(one, other) for one, other in zip(eager, fast, strict=True))
    assert len(np.unique(fast[0])) > len(items) / 2  # batches differ


@pytest.mark.parametrize("steps_before", [0, 2])
def test_the_warm_up_changes_neither_values_nor_addresses_of_the_state(
    steps_before: int,
) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        network(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()

    for _ in range(steps_before):
        step()

    def state() -> list[torch.Tensor]:
        moments = [t for of in optimizer.state.values() for t in of.values()]
        return [t.clone() for t in (*network.state_dict().values(), *moments)]

    before, restore = state(), snapshot(network, optimizer)
    step()
    places = [t.data_ptr() for t in network.state_dict().values()]
    restore()
    after = state()
    assert places == [t.data_ptr() for t in network.state_dict().values()]
    if steps_before:
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    else:  # Adam's state came into being, and is what it begins with
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=False))
        assert all(not t.any() for t in after[len(before) :])


def test_a_replay_takes_new_values_and_returns_the_same_tensor(recorded: Recorded) -> None:
    with torch.inference_mode():
        double = capture_step(lambda x: x * 2, (torch.zeros(3),))
        first = double(torch.tensor([1.0, 2.0, 3.0]))
        assert first.tolist() == [2, 4, 6]
        second = double(torch.tensor([5.0, 5.0, 5.0]))
        assert second.data_ptr() == first.data_ptr() and second.tolist() == [10, 10, 10]


def test_the_stand_in_notices_when_something_moves(recorded: Recorded) -> None:
    weight = torch.ones(2)

    def step(x: torch.Tensor) -> None:
        weight.add_(x)

    fast = capture_step(step, (torch.zeros(2),))
    fast(torch.ones(2))
    weight = torch.ones(2)
    with pytest.raises(AssertionError, match="has moved"):
        fast(torch.ones(2))


@pytest.mark.parametrize("chosen", NETWORKS, ids=lambda e: e.name)
def test_a_step_of_training_draws_no_random_numbers(chosen: Experiment) -> None:
    """Folds share one generator on a GPU; a draw would make a model depend on what trains beside it."""
    items = planted_items(chosen, each=2)
    widths = {"landmarks": 1404, "scores": 15, "audio_features": 25}
    widths = {name: widths[name] for name in chosen.inputs if name in widths}
    network = build_network(chosen, resnet50(weights=None), widths, SETTINGS.feature_layer).train()
    before = torch.random.get_rng_state()
    network({n: torch.from_numpy(np.asarray(v)) for n, v in items.inputs.items()}).sum().backward()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_predictions_in_both_precisions_agree_within_a_twentieth(tmp_path: Path) -> None:
    """Cards without bfloat16 compute in float32: probabilities of the same model differ by less than 0.05."""
    items = planted_items(FACES, each=12)
    found = []
    for precision in ("float32", "bfloat16"):
        settings = SETTINGS.model_copy(update={"precision": precision})
        fitted = fit_fold(FACES, items, settings, tmp_path / precision)
        found.append(predict_fold(FACES, fitted, items, settings)["pain_probability"].to_numpy())
    assert 0 < np.abs(found[0] - found[1]).max() < 0.05


def test_without_a_full_batch_no_graph_is_recorded(tmp_path: Path, recorded: Recorded) -> None:
    items: Items = planted_items(FACES, patients=2, each=2)
    fitted = fit_fold(FACES, items, SETTINGS, tmp_path)
    assert recorded.graphs == 0 and fitted.computed.execution == "eager"
