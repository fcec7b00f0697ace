"""An attention network that predicts an answer of 0 to 10 from the series of a video (``attention``, ``series``).

It learns by least squares and not by an ordinal head: a mean of several items is no whole number, and what is predicted of a known
patient is a difference from the patient's own mean, which has no levels. Every patient gives the same number of videos to an epoch.
The number of epochs is chosen on a part of the training patients, as the penalty of ridge regression is. Results depend only on
the seed and the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from iss_assets.modeling.attention import AnswerNetwork
from iss_assets.modeling.attention_training import WEIGHT_DECAY, balanced_order, one_thread
from iss_assets.modeling.experiments import OverTime
from iss_assets.modeling.series import SeriesView, scale_of_series

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

VIDEOS_PER_PATIENT: Final = 4
"""Videos of each patient in an epoch, as for the paper's target (``attention_videos_per_patient``)."""
BATCH: Final = 16
"""Videos of a step."""
LEARNING_RATE: Final = 1e-3
"""Adam's rate, as for the paper's target (``attention_learning_rate``)."""
HELD_OUT: Final = 4
"""One in this many training patients is held out while the number of epochs is chosen."""
PREDICTION_BATCH: Final = 64


@dataclass(frozen=True)
class Scaled:
    """Videos whose instances are scaled batch by batch: there is no scaled copy of a study's embeddings.

    Attributes
    ----------
    series : SeriesView
        Videos, each with an instance.
    center, scale : ndarray of float32, (columns,)
        What is subtracted, and what divides the rest; what was not measured becomes 0, the mean of the training side.
    """

    series: SeriesView
    center: NDArray[np.float32]
    scale: NDArray[np.float32]

    def batch(self, videos: Integers) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scaled instances of some videos, one video after the other, and their numbers."""
        own = self.series[videos].gathered()
        own.values[:] -= self.center
        own.values[:] /= self.scale
        own.values[np.isnan(own.values)] = 0
        return torch.from_numpy(own.values), torch.from_numpy(own.lengths)


@dataclass(frozen=True)
class Attentive:
    """A fitted network, with the scales that it expects.

    Attributes
    ----------
    arrays : dict of ndarray
        State of the network; empty if there was nothing to learn from.
    over_time : str or None
        As of `AnswerNetwork`.
    center, scale : ndarray of float32, (columns,)
        Mean and standard deviation on the training side, every patient with the same weight.
    start, spread : float
        Mean and standard deviation of the answers on the training side.
    epochs : int
        Epochs that it learned for.
    """

    arrays: dict[str, NDArray[np.float32]]
    over_time: OverTime | None
    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    start: float
    spread: float
    epochs: int

    def predict(self, x: SeriesView) -> Array:
        """Predict answers from the series of videos, (n,); of a video of which nothing is known, the mean answer."""
        return self.read(x)[0]

    def read(self, x: SeriesView) -> tuple[Array, Array]:
        """Predict answers, and say where the network looked.

        Parameters
        ----------
        x : SeriesView
            Videos.

        Returns
        -------
        predicted : ndarray, (n,)
            As of `predict`.
        attention : ndarray, (rows of `x`,)
            Adds up to 1 over the instances of each video; NaN for an instance that was not read: of which nothing is known, or
            if there was nothing to learn from.
        """
        attention = np.full(len(x.rows), np.nan)
        predicted = np.full(len(x), self.start)
        kept = x.known()
        x = x.only(kept)
        seen = np.flatnonzero(x.lengths > 0)
        if not self.arrays or not len(seen):
            return predicted, attention
        network = AnswerNetwork(x.width, self.over_time)
        network.load_state_dict({name: torch.from_numpy(values) for name, values in self.arrays.items()})
        read = Scaled(x[seen], self.center, self.scale)
        numbers, attention[kept] = _read(network, read, np.arange(len(seen)))
        predicted[seen] += self.spread * numbers
        return predicted, attention


def fit_attention(
    x: SeriesView,
    y: Array,
    weight: Array,
    patient: Integers,
    over_time: OverTime | None,
    most_epochs: int,
    seed: int,
) -> Attentive:
    """Fit a network; choose the number of epochs by holding out some of the training patients.

    Parameters
    ----------
    x : SeriesView
        Videos of the training side; some may have no instance, and are left out.
    y, weight, patient : ndarray, (n,)
        Answers; weights of the videos, of which a patient's are all the same; number of each video's patient.
    over_time : str or None
        How the network looks at the neighbors of an instance.
    most_epochs : int
        Epochs to choose from, from 1.
    seed : int
        First weights and the order of videos depend on nothing else.
    """
    x = x.only(x.known())
    seen = np.flatnonzero(x.lengths > 0)
    of = patient[seen]
    start = float(weight @ y / weight.sum())
    spread = float(np.sqrt(weight @ (y - start) ** 2 / weight.sum()))
    people = np.unique(of)
    if len(people) < 2 or spread <= 0:
        nothing = np.zeros(0, np.float32)
        return Attentive({}, over_time, nothing, nothing, start, spread, 0)
    own = x[seen]
    scaled = Scaled(own, *scale_of_series(own, of))
    wanted, mass = (y[seen] - start) / spread, weight[seen]
    out = np.isin(of, people[np.random.default_rng([seed, 3]).permutation(len(people))[::HELD_OUT]])
    held, kept, every = np.flatnonzero(out), np.flatnonzero(~out), np.arange(len(of))
    _, errors = _train(scaled, wanted, of, kept, over_time, most_epochs, seed, held)
    missed = [float(mass[held] @ (found - wanted[held]) ** 2) for found in errors]
    epochs = 1 + int(np.argmin(missed))
    network, _ = _train(scaled, wanted, of, every, over_time, epochs, seed)
    arrays = {name: t.detach().numpy().copy() for name, t in network.state_dict().items()}
    return Attentive(arrays, over_time, scaled.center, scaled.scale, start, spread, epochs)


def _train(
    x: Scaled,
    wanted: Array,
    patient: Integers,
    learned: Integers,
    over_time: OverTime | None,
    epochs: int,
    seed: int,
    held: Integers | None = None,
) -> tuple[AnswerNetwork, list[Array]]:
    """Train a network on the videos `learned`; return it, and what it predicted of the videos `held` after each epoch."""
    with torch.random.fork_rng(devices=[]):  # keeps the random state of the caller
        torch.manual_seed(seed)
        network = AnswerNetwork(x.series.width, over_time)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    target = torch.from_numpy(wanted.astype(np.float32))
    predicted = []
    for epoch in range(1, epochs + 1):
        order = learned[balanced_order(patient[learned], VIDEOS_PER_PATIENT, seed, epoch)]
        with one_thread():
            for videos in np.split(order, range(BATCH, len(order), BATCH)):
                found = network(*x.batch(videos))
                loss = torch.nn.functional.mse_loss(found, target[videos])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        if held is not None:
            predicted.append(_read(network, x, held)[0])
    return network, predicted


@torch.inference_mode()
def _read(network: AnswerNetwork, x: Scaled, videos: Integers) -> tuple[Array, Array]:
    """Return the numbers of some videos, and the attention to each of their instances, one video after the other."""
    found = []
    with one_thread():
        for batch in np.split(videos, range(PREDICTION_BATCH, len(videos), PREDICTION_BATCH)):
            found.append(network.read(*x.batch(batch)))
    numbers, attention = (torch.cat(parts).double().numpy() for parts in zip(*found, strict=True))
    return numbers, attention
