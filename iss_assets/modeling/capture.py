"""Record one step of a network as a CUDA graph and replay it; at batch size 16 kernel launches are the bottleneck.

This module records and replays steps and limits how far the CPU runs ahead of the GPU. What a step does is in
``training``; which folds run at the same time is decided in ``lanes``.

A graph is a list of kernels with the addresses they read and write. Everything that a step touches must therefore keep
its address: the tensors that the function closes over (weights, optimizer state, data), and its arguments, into which
the values of each call are copied. A replay runs the kernels that the same call would have launched, so the numbers
are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

T = TypeVar("T")
Step = Callable[..., T]
"""Maps tensors of fixed shapes to a tensor, or to None if it only changes other tensors."""

CAPTURE_FROM: Final = 50
"""Shorter runs are not recorded: recording takes about as long as this many steps."""

WARM_UPS: Final = 3
"""Calls before recording, during which libraries choose kernels, allocate workspaces and compile."""

MAX_QUEUED_STEPS: Final = 8
"""Steps that the CPU may queue before it waits for the GPU."""


def can_capture(device: str) -> bool:
    """Return whether steps can be recorded on this device."""
    return device == "cuda"


def capture_step(
    step: Step[T], examples: tuple[Tensor, ...], restore: Callable[[], None] = lambda: None
) -> Step[T]:
    """Record a step and return a function that replays it.

    Call it on a stream other than the default one (see `own_stream`). A replay runs on the stream that is current.

    Parameters
    ----------
    step : callable
        Must not read anything back from the GPU or draw random numbers.
    examples : tuple of Tensor
        Arguments for the warm-up; replays take tensors of the same shapes.
    restore : callable
        Undoes the changes of the warm-up, in place.

    Returns
    -------
    callable
        Returns the same tensor on every call, with new values in it.
    """
    fixed = tuple(example.clone() for example in examples)
    for _ in range(WARM_UPS):
        step(*fixed)
    restore()
    replay, result = record(lambda: step(*fixed))

    def fast(*arguments: Tensor) -> T:
        for target, values in zip(fixed, arguments, strict=True):
            target.copy_(values)
        replay()
        return result

    return fast


def record(run: Callable[[], T]) -> tuple[Callable[[], None], T]:
    """Record the kernels that a function launches without running them; return a replay function and the result."""
    graph = torch.cuda.CUDAGraph()
    # "thread_local": another thread that pins memory for another fold must not invalidate the recording
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
        result = run()
    return graph.replay, result


def snapshot(network: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Copy the state of a network and its optimizer; return a function that restores it in place.

    An optimizer that has not stepped yet has no state. It is then reset to zeros, which is where Adam starts.
    """
    with torch.no_grad():
        weights = {name: t.clone() for name, t in network.state_dict().items()}
        moments = {
            parameter: {name: t.clone() for name, t in state.items()}
            for parameter, state in optimizer.state.items()
        }

    @torch.no_grad()
    def restore() -> None:
        for name, t in network.state_dict().items():
            t.copy_(weights[name])
        for parameter, state in optimizer.state.items():
            for name, t in state.items():
                t.copy_(moments[parameter][name]) if parameter in moments else t.zero_()
        optimizer.zero_grad(set_to_none=True)

    return restore


_streams: list[Any] = []


def stream_of(number: int, device: str) -> Any:
    """Return a numbered stream, None on the CPU. Streams are reused because torch caches memory for each one."""
    if device != "cuda":
        return None
    while len(_streams) <= number:
        _streams.append(torch.cuda.Stream())
    return _streams[number]


@contextmanager
def own_stream(device: str) -> Iterator[None]:
    """Switch to a stream on which steps can be recorded, unless the caller already did."""
    if device != "cuda" or torch.cuda.current_stream() != torch.cuda.default_stream():
        yield
        return
    before, own = torch.cuda.current_stream(), stream_of(0, device)
    own.wait_stream(before)
    with torch.cuda.stream(own):
        yield
    before.wait_stream(own)


class StepQueue:
    """Limits the CPU to `MAX_QUEUED_STEPS` unfinished steps, so that steps queued are roughly steps done.

    Parameters
    ----------
    device : str
        On ``cpu`` nothing is queued.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._pending: deque[Any] = deque()

    def add(self) -> None:
        """Register a step that was just sent to the current stream; wait for an old one if too many are pending."""
        if self._device != "cuda":
            return
        event = torch.cuda.Event(blocking=True)
        event.record()
        self._pending.append(event)
        if len(self._pending) > MAX_QUEUED_STEPS:
            self._pending.popleft().synchronize()


def in_batches(
    function: Step[Tensor], batches: Iterable[tuple[Tensor, ...]], count: int, size: int, device: str
) -> np.ndarray:
    """Apply a function to batches and concatenate the rows; record it as a graph if there are enough batches.

    Parameters
    ----------
    function : callable
        Maps the tensors of a batch, each (k, ...), to rows (k, columns). Must not change anything.
    batches : iterable of tuple of Tensor
        At least one; all but the last have `size` rows.
    count, size : int
        Number of batches, and rows per batch.
    device : str
        ``cpu`` or ``cuda``.

    Returns
    -------
    ndarray, (n, columns)
    """
    fast, queue = None, StepQueue(device)
    rows: list[Tensor] = []
    for batch in batches:
        if can_capture(device) and count >= CAPTURE_FROM and len(batch[0]) == size:
            fast = fast or capture_step(function, batch)
            rows.append(fast(*batch).clone())  # the next replay overwrites the tensor
        else:
            rows.append(function(*batch))
        queue.add()
    return torch.cat(rows).cpu().numpy()
