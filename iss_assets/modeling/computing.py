"""Where and how networks compute: device, precision, compilation, several folds at once.

Belongs here: what makes training faster and leaves what is learnt alone. Does not belong here: the loop (``training``),
data on their way to the device (``data``).
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from iss_assets.settings import TrainingSettings

T = TypeVar("T")
Forward = Callable[[Mapping[str, Tensor]], Tensor]
"""From inputs by name to logits."""


def choose_device(settings: TrainingSettings) -> str:
    """Give ``cuda`` or ``cpu``.

    Raises
    ------
    ValueError
        If CUDA is asked for and not there.
    """
    there = settings.device != "cpu" and torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ValueError("ISS_TRAINING__DEVICE asks for cuda and this machine has none: take auto or cpu")
    if there:
        # read when cuBLAS is first used; without it, products on several streams may differ in their last bits
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return "cuda" if there else "cpu"


def precision(settings: TrainingSettings, device: str) -> torch.dtype:
    """Give the numbers that convolutions and products are computed in: bfloat16 where the hardware has it.

    Weights, their updates and the loss are float32 in either case. The paper's Tesla T4 has no bfloat16 of its own,
    and emulating it is slower than float32.
    """
    if settings.precision == "auto":
        if device == "cuda":
            able = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            able = bool(torch.cpu._is_avx512_bf16_supported())
        return torch.bfloat16 if able else torch.float32
    return torch.bfloat16 if settings.precision == "bfloat16" else torch.float32


def mixed(settings: TrainingSettings, device: str) -> AbstractContextManager[Any]:
    """Give the context in which a network computes in its `precision`."""
    return torch.autocast(device, torch.bfloat16, enabled=precision(settings, device) == torch.bfloat16)


def compiled(network: nn.Module, settings: TrainingSettings, device: str) -> Forward:
    """Give the network, compiled by torch where the settings ask for it; its weights stay the same tensors.

    ``auto`` compiles on CUDA where torch's compiler can work (`can_compile`). Only batches of full size go the compiled
    way: an epoch's last one has another size in every fold, and torch gives up after a few sizes.
    """
    if settings.compile != "always" and not (
        settings.compile == "auto" and device == "cuda" and can_compile()
    ):
        return network
    from torch._dynamo import config as tracing
    from torch._inductor import config as generating

    tracing.recompile_limit = max(tracing.recompile_limit, 64)  # a network a fold
    # else kernels are chosen by a race between them, which the next process may see end in another way
    generating.deterministic = True
    fast: Forward = torch.compile(network, dynamic=False)

    def forward(inputs: Mapping[str, Tensor]) -> Tensor:
        full = len(next(iter(inputs.values()))) == settings.batch_size
        return fast(inputs) if full else network(inputs)

    return forward


def can_compile() -> bool:
    """Say whether torch can compile for CUDA here: Triton comes with torch, a C compiler and Python's headers do not."""
    from torch.utils._triton import has_triton

    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return bool(compiler) and headers.is_file() and has_triton()


_repeating = Lock()
_repeatable = 0
_before = (False, False)


@contextmanager
def repeatable() -> Iterator[None]:
    """Ask CUDA's libraries for the same result every time; folds may be inside at once, and the last one out undoes it."""
    global _repeatable, _before
    cudnn = torch.backends.cudnn
    with _repeating:
        if _repeatable == 0:
            _before = cudnn.deterministic, cudnn.benchmark
            cudnn.deterministic, cudnn.benchmark = True, False
        _repeatable += 1
    try:
        yield
    finally:
        with _repeating:
            _repeatable -= 1
            if _repeatable == 0:
                cudnn.deterministic, cudnn.benchmark = _before


class Stopped(RuntimeError):
    """A fold beside this one failed, or the run was cancelled; this one's checkpoint stays."""


def side_by_side(
    jobs: Sequence[Callable[[Callable[[], None]], T]], at_once: int, device: str
) -> Generator[tuple[int, T], None, None]:
    """Do jobs, several at once, and give (number of the job, result) as each is done.

    Parameters
    ----------
    jobs : sequence of callables
        Each is given a function to call now and then, which raises `Stopped` once the others have failed.
    at_once : int
        Jobs at once, each in a thread and, on CUDA, on a stream of its own; they share the data on the device. On the
        CPU they share its cores evenly. 1 does one after the other and nothing else.
    device : str
        ``cpu`` or ``cuda``.
    """
    if at_once == 1 or len(jobs) < 2:
        for number, job in enumerate(jobs):
            yield number, job(lambda: None)
        return
    stop = Event()
    threads = torch.get_num_threads()
    # as many streams as jobs at once: torch keeps a job's memory for the next one on the same stream
    streams: SimpleQueue[Any] = SimpleQueue()
    for _ in range(at_once):
        streams.put(torch.cuda.Stream() if device == "cuda" else None)

    def go_on() -> None:
        if stop.is_set():
            raise Stopped("stopped with the folds beside it")

    def work(job: Callable[[Callable[[], None]], T]) -> T:
        go_on()
        if device == "cpu":
            torch.set_num_threads(max(1, threads // at_once))  # of this thread
        stream = streams.get()
        try:
            with torch.cuda.stream(stream):  # None changes nothing
                return job(go_on)
        finally:
            streams.put(stream)

    with ThreadPoolExecutor(min(at_once, len(jobs))) as pool:
        running = {pool.submit(work, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            stop.set()
            if device == "cpu":
                torch.set_num_threads(threads)
