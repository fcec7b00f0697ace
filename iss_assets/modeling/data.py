"""Feed the items of one side of a split to a network in batches.

Data that fit stay on the device; the rest is prefetched in the order of the batches. What items are is defined in
``items``, how pictures are stored in ``pictures``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from iss_assets.modeling.items import InputArray, Items, Preparation
from iss_assets.modeling.pictures import EncodedFaces, SharedPictures, writable

DEVICE_SHARE: Final = 0.6
"""Share of the free memory of the device that data may take; the rest is for the network."""
WINDOW: Final = 1024
"""Items fetched per query if they are not in memory: DuckDB then returns about 15,000 crops per second, and only a few
hundred in batches of 16."""

T = TypeVar("T")


def memory_budget(device: str) -> float:
    """Return how many bytes of data may be put on a device; there is no limit on the CPU."""
    if device != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info()
    # memory that torch has cached since an earlier experiment is not free for others, but is for us
    cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return (free + cached) * DEVICE_SHARE


def batch_order(n: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Shuffle n indices into batches.

    A last batch of one item is merged into the one before: batch normalization needs a variance.

    Parameters
    ----------
    n, size : int
        Number of items, and items per batch.
    seed, epoch : int
        They alone determine the order.

    Returns
    -------
    list of ndarray of int64
    """
    places = np.random.default_rng([seed, epoch]).permutation(n)
    starts = list(range(size, n, size))
    if starts and n - starts[-1] == 1:
        starts.pop()
    return np.split(places, starts)


class Data:
    """Inputs and targets of one side of a split, delivered batch by batch on a device.

    Pictures stay bytes, three per pixel, until they enter the network. Inputs that fit on a GPU are stored there, even
    faces that do not fit in main memory. Other inputs are sent batch by batch, a few batches ahead; those that do not
    fit in main memory either are fetched in windows of the order, one window ahead. The order does not depend on where
    the data are, and neither does the trained model.

    Parameters
    ----------
    items : Items
        One side of a split.
    preparation : Preparation
        Fitted on the training side.
    device : str
        ``cpu`` or ``cuda``.
    budget : float, optional
        Bytes that data may take on the device; by default `memory_budget`.

    Attributes
    ----------
    widths : dict of str to int
        Number of columns of each vector input, in the order of the experiment.
    """

    def __init__(self, items: Items, preparation: Preparation, device: str, budget: float | None = None):
        self.device = device
        vectors = preparation.vectors(items)
        self.widths = {name: vectors[name].shape[1] for name in items.inputs if name in vectors}
        self._on_device: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._streamed: dict[str, InputArray] = {}
        budget = memory_budget(device) if budget is None else budget
        for name, values in {
            **vectors,
            **{n: v for n, v in items.inputs.items() if n not in vectors},
        }.items():
            if isinstance(values, SharedPictures | EncodedFaces):
                size = 0 if values.sent_to(device) else values.shared_bytes
            else:
                size = values.nbytes
            # faces stay encoded because main memory is too small for them, which is not true of a GPU
            if size > budget or (isinstance(values, EncodedFaces) and device == "cpu"):
                self._streamed[name] = values
                continue
            budget -= size
            if isinstance(values, SharedPictures | EncodedFaces):
                self._on_device[name] = values.on_device(device), torch.from_numpy(values.places).to(device)
            else:
                self._on_device[name] = torch.from_numpy(writable(values)).to(device), None
        self._target = torch.from_numpy(writable(items.target)).to(device)

    @property
    def streamed_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that are not stored on the device."""
        return tuple(self._streamed)

    def batches(self, order: list[np.ndarray]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Yield inputs and targets of each batch."""
        for index, streamed in self.send(order):
            yield self.take(index, *streamed)

    def send(self, order: list[np.ndarray]) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Yield the arguments of `take` for each batch: its indices on the device, and its streamed inputs."""
        # one transfer for all batches: a transfer per batch would stall the GPU each time
        indices = torch.from_numpy(np.concatenate(order)).to(self.device).split([len(p) for p in order])
        streamed: Iterator[dict[str, Tensor]] = (
            self._streamed_batches(order) if self._streamed else repeat({})
        )
        for index, inputs in zip(indices, streamed, strict=False):
            yield index, tuple(inputs[name].to(self.device, non_blocking=True) for name in self._streamed)

    def take(self, index: Tensor, *streamed: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return inputs and targets of a batch without waiting for the device, so that it can be part of a graph."""
        inputs = {n: v[index if rows is None else rows[index]] for n, (v, rows) in self._on_device.items()}
        return {**inputs, **dict(zip(self._streamed, streamed, strict=True))}, self._target[index]

    def _streamed_batches(self, order: list[np.ndarray]) -> Iterator[dict[str, Tensor]]:
        per_window = max(1, WINDOW // len(order[0]))
        windows = (order[start : start + per_window] for start in range(0, len(order), per_window))
        decoders = min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(decoders) as decoder:
            fetched = prefetch(reader, (partial(self._fetch, window) for window in windows), 1)
            batches = (partial(self._decode, window, places) for window, split in fetched for places in split)
            yield from prefetch(decoder, batches, decoders)

    def _fetch(self, window: list[np.ndarray]) -> tuple[dict[str, InputArray], list[np.ndarray]]:
        """Load the items of a window; return them and the indices of each batch within the window."""
        places = np.concatenate(window)
        found: dict[str, InputArray] = {
            name: values.fetch(places) if isinstance(values, EncodedFaces) else values[places]
            for name, values in self._streamed.items()
        }
        return found, np.split(np.arange(len(places)), np.cumsum([len(p) for p in window])[:-1])

    def _decode(self, window: dict[str, InputArray], places: np.ndarray) -> dict[str, Tensor]:
        batch = {name: torch.from_numpy(values[places]) for name, values in window.items()}
        return {name: t.pin_memory() for name, t in batch.items()} if self.device == "cuda" else batch


def prefetch(pool: Executor, tasks: Iterable[Callable[[], T]], limit: int) -> Iterator[T]:
    """Yield the results of tasks in order while a pool works on the next ones, at most `limit` of them.

    Examples
    --------
    >>> with ThreadPoolExecutor() as pool:
    ...     list(prefetch(pool, (partial(pow, n, 2) for n in range(4)), 2))
    [0, 1, 4, 9]
    """
    waiting: deque[Future[T]] = deque()
    for task in tasks:
        waiting.append(pool.submit(task))
        if len(waiting) > limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
