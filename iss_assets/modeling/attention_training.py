"""Train an attention network on whole videos (``attention``), and predict with it, in seconds on one core of a laptop.

Every patient gives the same number of videos to an epoch, so that patients with many videos do not dominate. Results depend
only on the seed and the data: there is no dropout, and sampling depends only on seed and epoch. A fold takes seconds, so an
interrupted one starts again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch

from iss_assets.modeling.attention import AttentionNetwork
from iss_assets.modeling.computed import Computed
from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.items import Items, Preparation, class_weights
from iss_assets.modeling.lanes import Steps
from iss_assets.modeling.series import starts_of
from iss_assets.modeling.training import Trained
from iss_assets.settings import TrainingSettings

WEIGHT_DECAY: Final = 1e-4
"""Of Adam, as in Ilse et al. 2018, appendix."""
PREDICTION_BATCH: Final = 64


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: on more, steps this small wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def balanced_order(patient_id: np.ndarray, per_patient: int, seed: int, epoch: int) -> np.ndarray:
    """Draw the videos of an epoch: the same number of each patient, shuffled.

    A patient's videos are drawn in turn, in an order that is shuffled each time all of them have been drawn. So each is drawn
    as often as the patient's others, give or take one.

    Parameters
    ----------
    patient_id : ndarray of str, (n,)
        Patient of each video.
    per_patient : int
        Videos per patient and epoch; a patient with fewer gives some more than once.
    seed, epoch : int
        They alone determine the draw; epochs are counted from 1.

    Returns
    -------
    ndarray of int64, (patients x per_patient,)
    """
    drawn = []
    for number, patient in enumerate(np.unique(patient_id)):
        own = np.flatnonzero(patient_id == patient)
        turns = (epoch - 1) * per_patient + np.arange(per_patient)
        for turn in np.unique(turns // len(own)):
            shuffled = np.random.default_rng([seed, 1, number, turn]).permutation(own)
            drawn.append(shuffled[turns[turns // len(own) == turn] % len(own)])
    places = np.concatenate(drawn)
    return places[np.random.default_rng([seed, 2, epoch]).permutation(len(places))]


def patient_weights(patient_id: np.ndarray) -> np.ndarray:
    """Return the weight of each video with which all patients weigh the same: 1 over the patient's number of videos."""
    _, place, count = np.unique(patient_id, return_inverse=True, return_counts=True)
    weights: np.ndarray = 1 / count[place]
    return weights


def attention_steps(
    experiment: Experiment,
    train: Items,
    preparation: Preparation,
    settings: TrainingSettings,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> Steps[Trained]:
    """Train an attention network: Adam, the likelihood of the ordered levels, all epochs.

    Parameters
    ----------
    experiment : Experiment
        An experiment whose model is ``attention``.
    train : Items
        The training side; every video has an instance.
    preparation : Preparation
        Fitted on `train`.
    settings : TrainingSettings
        The fields whose names begin with ``attention_``; batch size, seed and class weights.
    progress : callable, optional
        Called with the history entry of each epoch.

    Yields
    ------
    int
        Number of videos of each epoch.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If the loss is not finite.
    """
    series, lengths = preparation.instances(train), train.instances_per_video()
    equal = patient_weights(train.patient_id)
    shares = np.bincount(train.target, weights=equal, minlength=experiment.classes)
    per_class = (
        class_weights(train.target, equal, experiment.classes)
        if settings.class_weights
        else np.ones(experiment.classes)
    )
    with torch.random.fork_rng(devices=[]):  # keeps the random state of the caller
        torch.manual_seed(settings.seed)
        # half a patient more of each level: one that is absent gets a small probability and finite thresholds
        network = AttentionNetwork(series.shape[1], torch.from_numpy(shares + 0.5), experiment.over_time)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=settings.attention_learning_rate, weight_decay=WEIGHT_DECAY
    )
    weight = torch.from_numpy(per_class).float()
    history: list[dict[str, float]] = []
    for epoch in range(1, settings.attention_epochs + 1):
        started = time.perf_counter()
        order = balanced_order(train.patient_id, settings.attention_videos_per_patient, settings.seed, epoch)
        batches = np.split(order, range(settings.batch_size, len(order), settings.batch_size))
        with one_thread():
            loss, correct = _learn(network, optimizer, weight, series, lengths, train.target, batches)
        n, took = len(order), time.perf_counter() - started
        history.append({"epoch": epoch, "loss": loss / n, "accuracy": correct / n, "seconds": took})
        if not np.isfinite(loss):
            raise ValueError(
                f"{experiment.name}: the loss is not finite in epoch {epoch}: inputs contain infinite values, or "
                "ISS_TRAINING__ATTENTION_LEARNING_RATE is too high"
            )
        if progress is not None:
            progress(history[-1])
        yield n
    arrays = {f"network.{name}": t.detach().numpy() for name, t in network.state_dict().items()}
    return Trained(arrays, history, "none", describe_attention())


def _learn(
    network: AttentionNetwork,
    optimizer: torch.optim.Optimizer,
    weight: torch.Tensor,
    series: np.ndarray,
    lengths: np.ndarray,
    target: np.ndarray,
    batches: Sequence[np.ndarray],
) -> tuple[float, int]:
    """Take a step for each batch of videos; return the sum of their losses, and how many were predicted right before."""
    starts, wanted = starts_of(lengths), torch.from_numpy(target)
    loss_sum, correct = 0.0, 0
    for videos in batches:
        found, _ = network(*_batch(series, starts, lengths, videos))
        loss = torch.nn.functional.nll_loss(found, wanted[videos], weight, reduction="sum")
        optimizer.zero_grad(set_to_none=True)
        (loss / len(videos)).backward()
        optimizer.step()
        loss_sum += float(loss.detach())
        correct += int((found.argmax(1) == wanted[videos]).sum())
    return loss_sum, correct


def describe_attention() -> Computed:
    """Describe how attention networks are computed here: always on the CPU, where they take seconds."""
    return Computed(
        f"cpu ({torch.backends.cpu.get_cpu_capability()})",
        "float32",
        1,
        "eager",
        f"torch {torch.__version__}",
    )


@torch.inference_mode()
def predict_attention(
    experiment: Experiment, arrays: dict[str, np.ndarray], preparation: Preparation, test: Items
) -> tuple[np.ndarray, np.ndarray]:
    """Predict videos with a trained attention network.

    Parameters
    ----------
    experiment : Experiment
        The experiment that the network was trained for.
    arrays : dict of ndarray
        State of the network, as returned by `attention_steps`.
    preparation : Preparation
        Fitted on the training side.
    test : Items
        At least one video; every video has an instance.

    Returns
    -------
    probabilities : ndarray of float64, (n, classes)
    attention : ndarray of float64, (rows,)
        Of every instance of every video; adds up to 1 over the instances of each video.
    """
    series, lengths = preparation.instances(test), test.instances_per_video()
    network = AttentionNetwork(series.shape[1], torch.ones(experiment.classes), experiment.over_time)
    state = {
        n.removeprefix("network."): torch.from_numpy(a) for n, a in arrays.items() if n.startswith("network.")
    }
    network.load_state_dict(state)
    network.eval()
    starts = starts_of(lengths)
    batches = np.split(np.arange(len(test)), range(PREDICTION_BATCH, len(test), PREDICTION_BATCH))
    with one_thread():
        found = [network(*_batch(series, starts, lengths, videos)) for videos in batches]
    probabilities = torch.cat([p for p, _ in found]).double().softmax(1)
    return probabilities.numpy(), torch.cat([a for _, a in found]).double().numpy()


def _batch(
    series: np.ndarray, starts: np.ndarray, lengths: np.ndarray, videos: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = np.concatenate([np.arange(starts[v], starts[v + 1]) for v in videos])
    return torch.from_numpy(series[rows]), torch.from_numpy(lengths[videos])
