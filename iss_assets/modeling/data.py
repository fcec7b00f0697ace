"""A side's data on their way to a network: on the device where they fit, else read ahead in the order wanted.

Belongs here: batches. Does not belong here: what items are (``items``), how pictures are kept (``pictures``), the
loop over batches (``training``).
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
from iss_assets.modeling.pictures import EncodedFaces, SharedPictures

DEVICE_SHARE: Final = 0.6
"""Data may take this share of the device's free memory; the rest is for the network."""
WINDOW: Final = 1024
"""Items that are fetched at once where they do not lie in memory: DuckDB gives some 15,000 crops a second then, and a
few hundred if asked for a batch of 16 at a time."""

T = TypeVar("T")


def room_on(device: str) -> float:
    """Give the bytes that data may take on a device: on the CPU what is there is there."""
    if device != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info()
    # what torch keeps of an experiment before is not free to others, and is to us
    kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return (free + kept) * DEVICE_SHARE


def batch_order(n: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Shuffle n places into batches; a last batch of one joins the one before, since it has no variance to normalise.

    Parameters
    ----------
    n, size : int
        Items, items a batch.
    seed, epoch : int
        The order follows from these two alone.
    """
    places = np.random.default_rng([seed, epoch]).permutation(n)
    starts = list(range(size, n, size))
    if starts and n - starts[-1] == 1:
        starts.pop()
    return np.split(places, starts)


class Data:
    """A side's inputs and targets, given batch by batch on a device.

    Bytes stay bytes, three a pixel, until the network takes them. What fits on a GPU lies there, also faces that are
    too many for this side's memory. What does not is sent batch by batch, some batches ahead; what does not fit in
    memory either is fetched by windows of the order, one ahead. The order is the same wherever the data lie, and so is
    what is learnt.

    Parameters
    ----------
    items : Items
        One side of a split.
    preparation : Preparation
        Fitted on the training side.
    device : str
        ``cpu`` or ``cuda``.
    room : float, optional
        Bytes that data may take on the device; by default a share of what is free there.

    Attributes
    ----------
    widths : dict of str to int
        Columns of each vector input, in the experiment's order.
    """

    def __init__(self, items: Items, preparation: Preparation, device: str, room: float | None = None):
        self.device = device
        vectors = preparation.vectors(items)
        self.widths = {name: vectors[name].shape[1] for name in items.inputs if name in vectors}
        self._near: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._far: dict[str, InputArray] = {}
        room = room_on(device) if room is None else room
        for name, values in {
            **vectors,
            **{n: v for n, v in items.inputs.items() if n not in vectors},
        }.items():
            if isinstance(values, SharedPictures | EncodedFaces):
                size = 0 if values.sent_to(device) else values.shared_bytes
            else:
                size = values.nbytes
            # what stays encoded does so for want of memory on this side, not on a GPU's
            if size > room or (isinstance(values, EncodedFaces) and device == "cpu"):
                self._far[name] = values
                continue
            room -= size
            if isinstance(values, SharedPictures | EncodedFaces):
                self._near[name] = values.on_device(device), torch.from_numpy(values.places).to(device)
            else:
                self._near[name] = torch.from_numpy(np.ascontiguousarray(values)).to(device), None
        self._target = torch.from_numpy(items.target).to(device)

    @property
    def sent_by_batch(self) -> tuple[str, ...]:
        """Names of the inputs that do not lie on the device."""
        return tuple(self._far)

    def batches(self, order: list[np.ndarray]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Give inputs and targets of each batch of places."""
        for index, sent in self.sent(order):
            yield self.take(index, *sent)

    def sent(self, order: list[np.ndarray]) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Give each batch's places, on the device, and those of its inputs that do not lie there: arguments of `take`."""
        # sent once: a transfer at every batch would stop the GPU each time
        indices = torch.from_numpy(np.concatenate(order)).to(self.device).split([len(p) for p in order])
        ahead: Iterator[dict[str, Tensor]] = self._far_batches(order) if self._far else repeat({})
        for index, far in zip(indices, ahead, strict=False):
            yield index, tuple(far[name].to(self.device, non_blocking=True) for name in self._far)

    def take(self, index: Tensor, *sent: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Give a batch's inputs and targets; nothing in it waits for the device, so that it can be part of a graph."""
        inputs = {n: v[index if rows is None else rows[index]] for n, (v, rows) in self._near.items()}
        return {**inputs, **dict(zip(self._far, sent, strict=True))}, self._target[index]

    def _far_batches(self, order: list[np.ndarray]) -> Iterator[dict[str, Tensor]]:
        many = max(1, WINDOW // len(order[0]))
        windows = (order[start : start + many] for start in range(0, len(order), many))
        decoders = min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(decoders) as decoder:
            fetched = in_advance(reader, (partial(self._fetch, window) for window in windows), 1)
            batches = (partial(self._decode, window, places) for window, split in fetched for places in split)
            yield from in_advance(decoder, batches, decoders)

    def _fetch(self, window: list[np.ndarray]) -> tuple[dict[str, InputArray], list[np.ndarray]]:
        """Get a window's items into memory, and where in them each of its batches lies."""
        places = np.concatenate(window)
        found: dict[str, InputArray] = {
            name: values.fetch(places) if isinstance(values, EncodedFaces) else values[places]
            for name, values in self._far.items()
        }
        return found, np.split(np.arange(len(places)), np.cumsum([len(p) for p in window])[:-1])

    def _decode(self, window: dict[str, InputArray], places: np.ndarray) -> dict[str, Tensor]:
        batch = {name: torch.from_numpy(values[places]) for name, values in window.items()}
        return {name: t.pin_memory() for name, t in batch.items()} if self.device == "cuda" else batch


def in_advance(pool: Executor, tasks: Iterable[Callable[[], T]], most: int) -> Iterator[T]:
    """Give the results of tasks in their order, while a pool works on at most so many that come after.

    Examples
    --------
    >>> with ThreadPoolExecutor() as pool:
    ...     list(in_advance(pool, (partial(pow, n, 2) for n in range(4)), 2))
    [0, 1, 4, 9]
    """
    waiting: deque[Future[T]] = deque()
    for task in tasks:
        waiting.append(pool.submit(task))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
