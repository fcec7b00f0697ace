"""Several folds at once on one GPU, from one thread: each advances a step in turn, on a stream of its own.

Belongs here: whose turn it is, how many at once. Does not belong here: what a step is (``training``, ``capture``).

A fold's steps, their order and their kernels are the same however many run beside it, and so is its model. On the CPU
folds go one after another: a step takes all cores there.
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
"""Work that stops after each step, giving the items it has taken (0 while it gets ready), and ends with a result."""

WINDOW_S: Final = 1.0
"""Seconds over which the rate of all folds together is measured."""
SETTLE_STEPS: Final = 16
"""Steps of each fold before that: twice what the processor may be ahead of the GPU."""
GAIN: Final = 1.02
"""One more fold must make the whole this much faster for another to be tried."""
ROOM: Final = 1.5
"""Free memory wanted for one more fold, over what the last one took."""


@dataclass
class _Lane:
    job: int
    place: int
    steps: Steps[Any]
    taken: int = 0


def side_by_side(
    jobs: Sequence[Callable[[], Steps[T]]], at_once: int | None, device: str
) -> Generator[tuple[int, T], None, None]:
    """Do jobs, several at once, and give (number of the job, result) as each is done.

    Parameters
    ----------
    jobs : sequence of callables
        Each begins its work when called.
    at_once : int or None
        Jobs at once; None lets `Pace` find out. On the CPU it is always one.
    device : str
        ``cpu`` or ``cuda``.
    """
    pace = Pace(1 if device == "cpu" else at_once, len(jobs), device)
    waiting = deque(enumerate(jobs))
    free = list(range(len(jobs)))
    lanes: list[_Lane] = []
    try:
        with repeatable():
            while waiting or lanes:
                if waiting and len(lanes) < pace.at_once:
                    number, job = waiting.popleft()
                    lanes.append(_Lane(number, free.pop(0), job()))
                    pace.changed(lanes)
                for lane in list(lanes):
                    with torch.cuda.stream(stream_of(lane.place, device)):  # None changes nothing
                        try:
                            taken = next(lane.steps)
                        except StopIteration as done:
                            result: T = done.value
                            lanes.remove(lane)
                        else:
                            lane.taken += taken > 0
                            pace.note(taken, lanes)
                            continue
                    free.insert(0, lane.place)
                    pace.changed(lanes)
                    yield lane.job, result
    finally:
        for lane in lanes:  # one failed, or nobody wants the rest: checkpoints stay
            lane.steps.close()


def finish(steps: Steps[T], device: str) -> T:
    """Do one job to its end."""
    ((_, result),) = side_by_side([lambda: steps], 1, device)
    return result


class Pace:
    """Finds out how many folds at once make the whole fastest: one more as long as that pays and there is memory.

    What is learnt does not depend on what it finds.

    Parameters
    ----------
    at_once : int or None
        So many from the start; None finds out.
    jobs : int
        More are never needed.
    device : str
        ``cpu`` or ``cuda``.
    clock : callable
        Seconds that have passed.
    memory : callable
        Bytes that torch holds, and bytes that are free to it.
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
        self._held = self._memory()[0] if self._growing else 0
        self._started = 0.0
        self._items = -1

    def changed(self, lanes: Sequence[_Lane]) -> None:
        """Begin measuring anew: a fold came or went."""
        self._items = -1

    def note(self, taken: int, lanes: Sequence[_Lane]) -> None:
        """Count items; after a while, decide on one more fold."""
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
        rate, (held, free) = self._items / took, self._memory()
        log.info("%d folds at once: %.0f items a second", self.at_once, rate)
        pays, fits = rate > self._best * GAIN, free > ROOM * (held - self._held)
        self._best, self._held, self._items = max(rate, self._best), held, -1
        self._growing = pays and fits and self.at_once < self._jobs
        self.at_once += self._growing


def _cuda_memory() -> tuple[int, int]:
    held = torch.cuda.memory_reserved()
    return held, torch.cuda.mem_get_info()[0]
