"""A step of a network recorded once as a CUDA graph and replayed: at batch 16 a GPU waits for launches, not for numbers.

Belongs here: recording, replaying, how far the processor may run ahead of the GPU. Does not belong here: what a step
does (``training``), which folds run side by side (``lanes``).

A graph is a list of kernels with the addresses they read and write. So everything that a step touches must stay where
it is: what the function closes over (weights, optimizer state, data), and the tensors it is given, into which each
call's values are copied. A replay runs the kernels that the same call would have launched, so it gives the same numbers.
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
"""From tensors of fixed shapes to a tensor, or to None where all it does is change others."""

CAPTURE_FROM: Final = 50
"""Recording takes about as long as so many steps; shorter work is not recorded."""

WARM_UPS: Final = 3
"""Calls before the recording, in which libraries choose kernels, allocate workspaces and compile."""

AHEAD: Final = 8
"""Steps that the processor may be ahead of the GPU."""


def can_capture(device: str) -> bool:
    """Say whether steps on this device can be recorded."""
    return device == "cuda"


def captured(
    step: Step[T], examples: tuple[Tensor, ...], restore: Callable[[], None] = lambda: None
) -> Step[T]:
    """Record a step and give a function that replays it.

    To be called on a stream of its own (see `own_stream`); replays go to the stream they are called on.

    Parameters
    ----------
    step : callable
        It reads nothing back from the GPU and draws no random numbers.
    examples : tuple of Tensor
        Arguments to warm up with; replays take tensors of the same shapes.
    restore : callable
        Undoes what the warm-up changed, in place.

    Returns
    -------
    callable
        Gives the same tensor at every call, with new values in it.
    """
    fixed = tuple(example.clone() for example in examples)
    for _ in range(WARM_UPS):
        step(*fixed)
    restore()
    replay, result = record(lambda: step(*fixed))

    def fast(*given: Tensor) -> T:
        for place, values in zip(fixed, given, strict=True):
            place.copy_(values)
        replay()
        return result

    return fast


def record(run: Callable[[], T]) -> tuple[Callable[[], None], T]:
    """Record what a function launches, without doing it; give what replays it and the function's result."""
    graph = torch.cuda.CUDAGraph()
    # "thread_local": a thread that pins memory for another fold meanwhile must not spoil the recording
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
        result = run()
    return graph.replay, result


def kept(network: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Note a network's and its optimizer's state; give what puts it back, in place.

    An optimizer that has not stepped yet has no state; it is then put back to zeros, from which Adam begins.
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
    """Give the stream of this number, None on the CPU. The same few are used again: torch keeps memory by stream."""
    if device != "cuda":
        return None
    while len(_streams) <= number:
        _streams.append(torch.cuda.Stream())
    return _streams[number]


@contextmanager
def own_stream(device: str) -> Iterator[None]:
    """Work on a stream on which steps can be recorded, unless the caller does so already."""
    if device != "cuda" or torch.cuda.current_stream() != torch.cuda.default_stream():
        yield
        return
    before, own = torch.cuda.current_stream(), stream_of(0, device)
    own.wait_stream(before)
    with torch.cuda.stream(own):
        yield
    before.wait_stream(own)


class Ahead:
    """Keeps the processor at most `AHEAD` steps ahead of the GPU, so that steps given are about steps done.

    Parameters
    ----------
    device : str
        On ``cpu`` there is nothing to wait for.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._under_way: deque[Any] = deque()

    def note(self) -> None:
        """Note a step that was just given to the current stream; wait for an early one where too many are under way."""
        if self._device != "cuda":
            return
        event = torch.cuda.Event(blocking=True)
        event.record()
        self._under_way.append(event)
        if len(self._under_way) > AHEAD:
            self._under_way.popleft().synchronize()


def in_batches(
    function: Step[Tensor], batches: Iterable[tuple[Tensor, ...]], count: int, size: int, device: str
) -> np.ndarray:
    """Give the rows that a function makes of batches, one after another: recorded where that pays.

    Parameters
    ----------
    function : callable
        From a batch's tensors, (k, ...) each, to rows, (k, columns). It changes nothing.
    batches : iterable of tuple of Tensor
        At least one; all but the last have `size` rows.
    count, size : int
        Batches, rows in each.
    device : str
        ``cpu`` or ``cuda``.
    """
    fast, ahead = None, Ahead(device)
    found: list[Tensor] = []
    for batch in batches:
        if can_capture(device) and count >= CAPTURE_FROM and len(batch[0]) == size:
            fast = fast or captured(function, batch)
            found.append(fast(*batch).clone())  # the next replay writes to the same place
        else:
            found.append(function(*batch))
        ahead.note()
    return torch.cat(found).cpu().numpy()
