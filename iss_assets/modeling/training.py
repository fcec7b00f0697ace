"""Train networks (paper, section 4, "Training Details"), write checkpoints, and predict.

Results are reproducible byte for byte on the same machine with the same seed: initial weights and the order of items
depend only on seed and epoch, there is no dropout, and CUDA uses deterministic convolutions and products. An
interrupted run that resumes after its last saved epoch therefore ends with the same weights as an uninterrupted one, and so
does a fold that trains concurrently with others. On a GPU a step is recorded once and replayed (``capture``).
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
    Step,
    StepQueue,
    can_capture,
    capture_step,
    in_batches,
    own_stream,
    snapshot,
)
from iss_assets.modeling.computed import Computed
from iss_assets.modeling.computing import (
    compile_network,
    describe_computation,
    mixed_precision,
    repeatable,
    should_compile,
)
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
        State of the network, with names ``network.*``.
    history : list of dict
        ``epoch``, ``loss``, ``accuracy``, ``seconds`` of each epoch.
    origin : str
        Origin of the initial weights.
    computed : Computed
        Device, precision and library.
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
    """Train a network end to end: Adam, cross entropy, all epochs, no early stopping (paper, "Training Details").

    Yields after each step, so that other folds can take turns (``lanes.side_by_side``; ``lanes.run_to_end`` for a
    single fold). An interrupted run resumes after the last epoch that was saved (``checkpoint_s``).

    Parameters
    ----------
    experiment : Experiment
        An experiment whose model is a network.
    train : Items
        The training side, with at least two items.
    preparation : Preparation
        Fitted on `train`.
    per_class : ndarray, (classes,)
        Weight of each class in the loss; the paper uses ones.
    settings : TrainingSettings
        Epochs, batch size, learning rate, seed, initial weights, precision, compilation.
    device : str
        ``cpu`` or ``cuda``.
    out_dir : Path
        Folder of ``checkpoint.safetensors`` during training.
    progress : callable, optional
        Called with the history entry of each epoch.

    Yields
    ------
    int
        Number of items of each step; 0 after the setup.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        For fewer than two items, or if the loss is not finite.

    References
    ----------
    Kingma and Ba, "Adam: A method for stochastic optimization", ICLR 2015.
    """
    if len(train) < 2:
        raise ValueError(f"{experiment.name}: a network needs at least two items to learn from")
    data = Data(train, preparation, device)
    with torch.random.fork_rng(devices=[]):  # keeps the random state of the caller
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
    batches = [len(indices) for indices in batch_order(n, size, settings.seed, epoch=1)]
    steps = len(batches) * settings.epochs
    compiles = should_compile(settings, device, steps)
    captures = can_capture(device) and size in batches and steps >= CAPTURE_FROM
    used = describe_computation(settings, device, compiles, captures)
    forward = compile_network(network, settings) if compiles else network
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)

    def step(*batch: Tensor) -> None:
        inputs, target = data.take(*batch)
        with mixed_precision(settings, device):
            logits = forward(inputs)
        loss = functional.cross_entropy(logits.float(), target, weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        # summed on the device, because reading a value back would wait for it
        loss_sum.add_(loss.detach() * len(target))
        correct.add_((logits.argmax(1) == target).sum())

    checkpoint = out_dir / CHECKPOINT_FILE
    run = _run_key(experiment, train, preparation, settings, origin, used)
    history = _resume(checkpoint, run, network, optimizer)
    full_step: Step[None] = step
    if captures:
        order = batch_order(n, size, settings.seed, epoch=1)
        index, streamed = next(data.send([indices for indices in order if len(indices) == size][:1]))
        full_step = capture_step(step, (index, *streamed), restore=snapshot(network, optimizer))
    queue = StepQueue(device)
    saved_at = time.perf_counter()
    yield 0
    for epoch in range(len(history) + 1, settings.epochs + 1):
        started = time.perf_counter()
        loss_sum.zero_()
        correct.zero_()
        for index, streamed in data.send(batch_order(n, size, settings.seed, epoch)):
            (full_step if len(index) == size else step)(index, *streamed)
            queue.add()
            yield len(index)
        loss, accuracy = float(loss_sum) / n, float(correct) / n  # waits for the device
        took = time.perf_counter() - started
        history.append({"epoch": epoch, "loss": loss, "accuracy": accuracy, "seconds": took})
        if not np.isfinite(loss):
            raise ValueError(
                f"{experiment.name}: the loss is not finite in epoch {epoch}: inputs contain NaN or infinite values, "
                "or ISS_TRAINING__LEARNING_RATE is too high"
            )
        if epoch < settings.epochs and time.perf_counter() - saved_at >= settings.checkpoint_s:
            _save(checkpoint, run, network, optimizer, history)
            saved_at = time.perf_counter()
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
    """Predict class probabilities of items with a trained network.

    Parameters
    ----------
    experiment : Experiment
        The experiment that the network was trained for.
    arrays : dict of ndarray
        State of the network, as returned by `training_steps`.
    preparation : Preparation
        Fitted on the training side.
    test : Items
        At least one item.
    settings : TrainingSettings
        Settings that it was trained with.
    device : str
        ``cpu`` or ``cuda``.

    Returns
    -------
    ndarray of float64, (n, classes)
    """
    with own_stream(device), repeatable():
        data = Data(test, preparation, device)
        with torch.device("meta"):
            network = build_network(experiment, empty_resnet50(), data.widths, settings.feature_layer)
        _load(network, arrays, assign=True)
        network = network.to(device).to(memory_format=torch.channels_last).eval()

        def probabilities(*batch: Tensor) -> Tensor:
            inputs, _ = data.take(*batch)
            with mixed_precision(settings, device):
                logits = network(inputs)
            return logits.double().softmax(1)

        order = np.split(np.arange(len(test)), range(PREDICTION_BATCH, len(test), PREDICTION_BATCH))
        batches = ((index, *streamed) for index, streamed in data.send(order))
        return in_batches(probabilities, batches, len(order), PREDICTION_BATCH, device)


def _run_key(
    experiment: Experiment,
    train: Items,
    preparation: Preparation,
    settings: TrainingSettings,
    origin: str,
    used: Computed,
) -> str:
    """Hash the data, settings and computation of a training run, so that only its own checkpoint is resumed."""
    digest = hashlib.sha256()
    parts = [
        experiment.name,
        experiment.settings_read(settings),
        experiment.code_version,
        origin,
        weights_fingerprint(settings),
        asdict(used),
    ]
    digest.update(json.dumps(parts).encode())
    for column in (train.patient_id, train.video_id, train.frame_index, train.chunk_index, train.target):
        digest.update(np.ascontiguousarray(column).tobytes())
    for fitted in preparation.arrays().values():
        digest.update(fitted.tobytes())
    sample = evenly_spaced(len(train), 64)  # hashing all pixels would take too long
    for values in train.inputs.values():
        digest.update(np.ascontiguousarray(values[sample]).tobytes())
    return digest.hexdigest()


def _load(network: nn.Module, arrays: dict[str, np.ndarray], assign: bool = False) -> None:
    """Load the state of a network; batch counts stored by earlier versions are ignored."""
    state = OrderedDict(
        (name.removeprefix("network."), torch.from_numpy(values))
        for name, values in arrays.items()
        if name.startswith("network.") and not name.endswith("num_batches_tracked")
    )
    # without the metadata, torch assumes a format without batch counts and adds them
    state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]  # set by torch, not declared
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
    """Load the checkpoint of the same training run, if any; return its history, otherwise an empty list."""
    if not path.exists():
        return []
    try:
        arrays, described = read_arrays(path)
    except ValueError:
        log.warning("%s is damaged; this fold starts from the first epoch", path.name)
        return []
    if described.get("run") != run:
        log.info("%s belongs to another training run; this fold starts from the first epoch", path.name)
        return []
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    _load(network, arrays)
    parameters = list(network.parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, number, key = name.split(".")
            parameter = parameters[int(number)]
            if value.shape == parameter.shape:
                # fused Adam needs moments with the memory layout of the weights
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    history: list[dict[str, float]] = json.loads(described["history"])
    log.info("resuming after epoch %d", len(history))
    return history
