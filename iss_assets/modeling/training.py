"""How a network learns (paper, section 4, "Training Details"): read it from top to bottom.

Belongs here: the loop, its checkpoint, predicting. Does not belong here: batches (``data``), how networks look
(``networks``), what a fold is (``folds``), models that need no epochs (``forests``, ``probe``).

Same seed, same machine, same result, byte for byte: first weights and the order of items follow from the seed and the
epoch alone, nothing is dropped out, and CUDA is asked for its deterministic convolutions and products. So a training
that was killed and goes on from its last epoch ends with the same numbers as one that was not, and one beside others
with the same numbers as one alone. On a GPU a step is recorded once and replayed (``capture``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from iss_assets.modeling.capture import (
    CAPTURE_FROM,
    Ahead,
    Step,
    can_capture,
    captured,
    in_batches,
    kept,
    own_stream,
)
from iss_assets.modeling.computed import Computed
from iss_assets.modeling.computing import compiled, compiles, computed, mixed, repeatable
from iss_assets.modeling.data import Data, batch_order
from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.files import read_arrays, write_arrays
from iss_assets.modeling.items import Items, Preparation, evenly_spaced
from iss_assets.modeling.lanes import Steps
from iss_assets.modeling.networks import build_network
from iss_assets.modeling.weights import empty_resnet50, initial_resnet50, weights_fingerprint
from iss_assets.settings import TrainingSettings

CHECKPOINT_FILE: Final = "checkpoint.safetensors"
PREDICTION_BATCH: Final = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes
    ----------
    arrays : dict of ndarray
        The network's state under ``network.*``.
    history : list of dict
        ``epoch``, ``loss``, ``accuracy``, ``seconds`` of each epoch.
    origin : str
        Where the first weights came from.
    computed : Computed
        What it was computed with.
    """

    arrays: dict[str, np.ndarray]
    history: list[dict[str, float]]
    origin: str
    computed: Computed


def training_steps(
    experiment: Experiment,
    train: Items,
    preparation: Preparation,
    per_class: np.ndarray,
    settings: TrainingSettings,
    device: str,
    out_dir: Path,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> Steps[Trained]:
    """Train a network end to end: Adam, cross entropy, all epochs, no early stop (paper, "Training Details").

    Stops after each step, so that others can take theirs (``lanes.side_by_side``; ``lanes.finish`` for one alone).
    Whoever stops it for good can have it taken up again at its last epoch.

    Parameters
    ----------
    experiment : Experiment
        One that is a network.
    train : Items
        The training side, at least two items.
    preparation : Preparation
        Fitted on `train`.
    per_class : ndarray, (classes,)
        Weight of each class in the loss; ones as in the paper.
    settings : TrainingSettings
        Epochs, batch size, learning rate, seed, first weights, precision, compilation.
    device : str
        ``cpu`` or ``cuda``.
    out_dir : Path
        Where ``checkpoint.safetensors`` lies while training is under way.
    progress : callable, optional
        Called with each epoch's entry of the history.

    Yields
    ------
    int
        Items of each step; 0 once everything is ready for the first.

    Returns
    -------
    Trained
    """
    if len(train) < 2:
        raise ValueError(f"{experiment.name}: a network needs at least two items to learn from")
    data = Data(train, preparation, device)
    with torch.random.fork_rng(devices=[]):  # leave the caller's random numbers alone
        torch.manual_seed(settings.seed)
        backbone, origin = initial_resnet50(settings)
        network = build_network(experiment, backbone, data.widths, settings.feature_layer)
    network = network.to(device).to(memory_format=torch.channels_last).train()
    on_gpu = device == "cuda"
    optimizer = torch.optim.Adam(
        network.parameters(), lr=settings.learning_rate, fused=True, capturable=on_gpu
    )
    weight = torch.from_numpy(per_class).float().to(device)
    n, size = len(train), settings.batch_size
    batches = [len(places) for places in batch_order(n, size, settings.seed, epoch=1)]
    steps = len(batches) * settings.epochs
    faster = compiles(settings, device, steps)
    recorded = can_capture(device) and size in batches and steps >= CAPTURE_FROM
    used = computed(settings, device, faster, recorded)
    forward = compiled(network, settings) if faster else network
    loss_sum, right = torch.zeros((), device=device), torch.zeros((), device=device)

    def step(*batch: Tensor) -> None:
        inputs, target = data.take(*batch)
        with mixed(settings, device):
            logits = forward(inputs)
        loss = functional.cross_entropy(logits.float(), target, weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        # summed on the device: reading a number back would wait for it
        loss_sum.add_(loss.detach() * len(target))
        right.add_((logits.argmax(1) == target).sum())

    checkpoint = out_dir / CHECKPOINT_FILE
    run = _run_key(experiment, train, preparation, settings, origin, used)
    history = _resume(checkpoint, run, network, optimizer)
    full: Step[None] = step
    if recorded:
        places = batch_order(n, size, settings.seed, epoch=1)
        index, sent = next(data.sent([p for p in places if len(p) == size][:1]))
        full = captured(step, (index, *sent), restore=kept(network, optimizer))
    ahead = Ahead(device)
    yield 0
    for epoch in range(len(history) + 1, settings.epochs + 1):
        started = time.perf_counter()
        loss_sum.zero_()
        right.zero_()
        for index, sent in data.sent(batch_order(n, size, settings.seed, epoch)):
            (full if len(index) == size else step)(index, *sent)
            ahead.note()
            yield len(index)
        loss, accuracy = float(loss_sum) / n, float(right) / n  # here the device is waited for
        took = time.perf_counter() - started
        history.append({"epoch": epoch, "loss": loss, "accuracy": accuracy, "seconds": took})
        if not np.isfinite(loss):
            raise ValueError(
                f"{experiment.name}: the loss is not finite in epoch {epoch}: inputs hold values that are no numbers, "
                "or ISS_TRAINING__LEARNING_RATE is too high"
            )
        if epoch < settings.epochs:
            _save(checkpoint, run, network, optimizer, history)
        if progress is not None:
            progress(history[-1])
    checkpoint.unlink(missing_ok=True)
    arrays = {f"network.{name}": t.detach().cpu().numpy() for name, t in network.state_dict().items()}
    return Trained(arrays, history, origin, used)


@torch.inference_mode()
def predict_network(
    experiment: Experiment,
    arrays: dict[str, np.ndarray],
    preparation: Preparation,
    test: Items,
    settings: TrainingSettings,
    device: str,
) -> np.ndarray:
    """Give class probabilities, (n, classes) float64, of items that the network has not seen.

    Parameters
    ----------
    experiment : Experiment
        What the network was trained for.
    arrays : dict of ndarray
        Its state, as `training_steps` gave it.
    preparation : Preparation
        Fitted on the training side.
    test : Items
        At least one item.
    settings : TrainingSettings
        Those it was trained with.
    device : str
        ``cpu`` or ``cuda``.
    """
    with own_stream(device), repeatable():
        data = Data(test, preparation, device)
        with torch.device("meta"):
            network = build_network(experiment, empty_resnet50(), data.widths, settings.feature_layer)
        _load(network, arrays, assign=True)
        network = network.to(device).to(memory_format=torch.channels_last).eval()

        def probabilities(*batch: Tensor) -> Tensor:
            inputs, _ = data.take(*batch)
            with mixed(settings, device):
                logits = network(inputs)
            return logits.double().softmax(1)

        order = np.split(np.arange(len(test)), range(PREDICTION_BATCH, len(test), PREDICTION_BATCH))
        sent = ((index, *far) for index, far in data.sent(order))
        return in_batches(probabilities, sent, len(order), PREDICTION_BATCH, device)


def _run_key(
    experiment: Experiment,
    train: Items,
    preparation: Preparation,
    settings: TrainingSettings,
    origin: str,
    used: Computed,
) -> str:
    """Hash what a training is made of and computed with, so that a checkpoint of another is never taken up."""
    digest = hashlib.sha256()
    words = [
        experiment.name,
        experiment.settings_read(settings),
        experiment.code_version,
        origin,
        weights_fingerprint(settings),
        asdict(used),
    ]
    digest.update(json.dumps(words).encode())
    for column in (train.patient_id, train.video_id, train.frame_index, train.chunk_index, train.target):
        digest.update(np.ascontiguousarray(column).tobytes())
    for fitted in preparation.arrays().values():
        digest.update(fitted.tobytes())
    sample = evenly_spaced(len(train), 64)  # all pixels would take longer to hash than they are worth
    for values in train.inputs.values():
        digest.update(np.ascontiguousarray(values[sample]).tobytes())
    return digest.hexdigest()


def _load(network: nn.Module, arrays: dict[str, np.ndarray], assign: bool = False) -> None:
    """Give a network its state back; the counts of batches that earlier versions stored are left out."""
    state = OrderedDict(
        (name.removeprefix("network."), torch.from_numpy(values))
        for name, values in arrays.items()
        if name.startswith("network.") and not name.endswith("num_batches_tracked")
    )
    # without it, torch takes the state for one of before it counted batches, and adds counts that are not wanted
    state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    network.load_state_dict(state, assign=assign)


def _save(
    path: Path,
    run: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:
    arrays = {f"network.{name}": t.detach().cpu().numpy() for name, t in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            arrays[f"adam.{number}.{name}"] = value.detach().cpu().numpy()
    write_arrays(path, arrays, {"run": run, "history": json.dumps(history)})


def _resume(
    path: Path, run: str, network: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Take up a checkpoint of the same training; give the history up to it, empty where there is none."""
    if not path.exists():
        return []
    try:
        arrays, described = read_arrays(path)
    except ValueError:
        log.warning("%s is damaged; this fold starts at the first epoch", path.name)
        return []
    if described.get("run") != run:
        log.info("%s is of another training; this fold starts at the first epoch", path.name)
        return []
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    _load(network, arrays)
    parameters = list(network.parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, number, key = name.split(".")
            parameter = parameters[int(number)]
            if (
                value.shape == parameter.shape
            ):  # fused Adam walks memory, so moments must lie as the weights do
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    history: list[dict[str, float]] = json.loads(described["history"])
    log.info("going on after epoch %d", len(history))
    return history
