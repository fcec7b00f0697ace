"""Where and how networks compute: device, precision, compilation, and a record of what was really used.

Belongs here: choosing them. Does not belong here: the loop (``training``), recorded steps (``capture``), several folds
at once (``lanes``), data on their way to the device (``data``).
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iss_assets.modeling.computed import Computed
from iss_assets.settings import TrainingSettings

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


def computed(settings: TrainingSettings, device: str, is_compiled: bool, is_captured: bool) -> Computed:
    """Say what a network is computed with here and now."""
    used = str(precision(settings, device)).removeprefix("torch.")
    if device == "cuda":
        name = torch.cuda.get_device_name()
        if (
            used == "float32"
            and torch.backends.cudnn.allow_tf32
            and torch.cuda.get_device_capability() >= (8, 0)
        ):
            used = "float32 (TF32 convolutions)"
    else:
        name = f"cpu ({torch.backends.cpu.get_cpu_capability()})"
    ways = ["compiled"] * is_compiled + ["captured"] * is_captured
    return Computed(
        device=name,
        precision=used,
        threads=torch.get_num_threads() if device == "cpu" else None,
        execution=" and ".join(ways) or "eager",
        library=f"torch {torch.__version__}",
    )


def compiles(settings: TrainingSettings, device: str, steps: int) -> bool:
    """Say whether a training of so many steps is compiled.

    Parameters
    ----------
    settings : TrainingSettings
        ``compile``: ``auto`` does on CUDA, from ``compile_from_steps`` on, where torch's compiler works.
    device : str
        ``cpu`` or ``cuda``.
    steps : int
        Steps of the whole training, also of one that was killed and goes on.
    """
    if settings.compile != "auto":
        return settings.compile == "always"
    return device == "cuda" and steps >= settings.compile_from_steps and can_compile()


def compiled(network: nn.Module, settings: TrainingSettings) -> Forward:
    """Give the network compiled by torch; its weights stay the same tensors.

    Only batches of full size go the compiled way: an epoch's last one has another size in every fold, and torch gives up
    after a few sizes.
    """
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


@contextmanager
def repeatable() -> Iterator[None]:
    """Ask CUDA's libraries for the same result every time; on the way out everything is as before."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
