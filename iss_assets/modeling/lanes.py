"""Train several folds concurrently on one GPU from one thread: they take turns, each on its own stream.

The number of concurrent folds does not change the steps of a fold, their order or their kernels, and therefore not its
model. On the CPU folds run one after another because a step uses all cores. What a step does is in ``training``.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import torch

from iss_assets.modeling.capture import stream_of
from iss_assets.modeling.computing import repeatable

log = logging.getLogger(__name__)

T = TypeVar("T")
Steps = Generator[int, None, T]
"""A job that yields after each step the number of items of the step (0 during setup), and returns a result."""

WINDOW_S: Final = 1.0
"""Seconds over which the total rate of all folds is measured."""
SETTLE_STEPS: Final = 16
"""Steps of each fold before a measurement starts: twice the number that may be queued on the GPU."""
GAIN: Final = 1.02
"""Another fold is added if the last one increased the total rate by at least this factor."""
MEMORY_MARGIN: Final = 1.5
"""Free memory required for another fold, as a multiple of what the last one needed."""


@dataclass
class _Lane:
    job: int
    stream: int
    steps: Steps[Any]
    taken: int = 0


def side_by_side(
    jobs: Sequence[Callable[[], Steps[T]]], at_once: int | None, device: str
) -> Generator[tuple[int, T], None, None]:
    """Run jobs concurrently and yield (index of the job, result) as soon as each is done.

    Parameters
    ----------
    jobs : sequence of callables
        Each starts its work when called.
    at_once : int or None
        Number of concurrent jobs; None lets `Pace` determine it. Always one on the CPU.
    device : str
        ``cpu`` or ``cuda``.
    """
    pace = Pace(1 if device == "cpu" else at_once, len(jobs), device)
    waiting = deque(enumerate(jobs))
    free_streams = list(range(len(jobs)))
    lanes: list[_Lane] = []
    try:
        with repeatable():
            while waiting or lanes:
                if waiting and len(lanes) < pace.at_once:
                    number, job = waiting.popleft()
                    lanes.append(_Lane(number, free_streams.pop(0), job()))
                    pace.restart()
                for lane in list(lanes):
                    with torch.cuda.stream(stream_of(lane.stream, device)):  # None has no effect
                        try:
                            taken = next(lane.steps)
                        except StopIteration as done:
                            result: T = done.value
                            lanes.remove(lane)
                        else:
                            lane.taken += taken > 0
                            pace.step_done(taken, lanes)
                            continue
                    free_streams.insert(0, lane.stream)
                    pace.restart()
                    yield lane.job, result
    finally:
        for lane in lanes:  # after an error, or if the caller stopped early; checkpoints are kept
            lane.steps.close()


def run_to_end(steps: Steps[T], device: str) -> T:
    """Run a single job and return its result."""
    ((_, result),) = side_by_side([lambda: steps], 1, device)
    return result


class Pace:
    """Determines how many concurrent folds are fastest: adds one while that increases the rate and memory is free.

    The models do not depend on the number.

    Parameters
    ----------
    at_once : int or None
        A fixed number; None determines it.
    jobs : int
        Total number of jobs, an upper limit.
    device : str
        ``cpu`` or ``cuda``.
    clock : callable
        Returns a time in seconds.
    memory : callable
        Returns the bytes reserved by torch, and the bytes free on the device.
    """

    def __init__(
        self,
        at_once: int | None,
        jobs: int,
        device: str,
        clock: Callable[[], float] = time.perf_counter,
        memory: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        self.at_once = max(1, min(at_once or 1, jobs))
        self._growing = at_once is None and jobs > 1
        self._jobs, self._clock = jobs, clock
        self._memory = memory or _cuda_memory
        self._best = 0.0
        self._reserved = self._memory()[0] if self._growing else 0
        self._started = 0.0
        self._items = -1

    def restart(self) -> None:
        """Restart the measurement because a fold was added or removed."""
        self._items = -1

    def step_done(self, taken: int, lanes: Sequence[_Lane]) -> None:
        """Count the items of a step; at the end of a measurement, decide whether to add a fold."""
        if not self._growing:
            return
        if self._items < 0:
            if len(lanes) == self.at_once and all(lane.taken >= SETTLE_STEPS for lane in lanes):
                self._started, self._items = self._clock(), 0
            return
        self._items += taken
        took = self._clock() - self._started
        if took < WINDOW_S:
            return
        rate, (reserved, free) = self._items / took, self._memory()
        log.info("%d concurrent folds: %.0f items per second", self.at_once, rate)
        is_faster, fits = rate > self._best * GAIN, free > MEMORY_MARGIN * (reserved - self._reserved)
        self._best, self._reserved, self._items = max(rate, self._best), reserved, -1
        self._growing = is_faster and fits and self.at_once < self._jobs
        self.at_once += self._growing


def _cuda_memory() -> tuple[int, int]:
    return torch.cuda.memory_reserved(), torch.cuda.mem_get_info()[0]
