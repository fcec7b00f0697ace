"""Choose device, precision and compilation of the networks, and describe what was used.

The training loop is in ``training``, recorded steps in ``capture``, concurrent folds in ``lanes``.
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
"""Maps inputs by name to logits."""


def choose_device(settings: TrainingSettings) -> str:
    """Return ``cuda`` or ``cpu``.

    Raises
    ------
    ValueError
        If the settings require CUDA and this machine has none.
    """
    has_cuda = settings.device != "cpu" and torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise ValueError("ISS_TRAINING__DEVICE is cuda and this machine has none: use auto or cpu")
    if has_cuda:
        # read when cuBLAS is first used; without it, products on several streams can differ in the last bits
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return "cuda" if has_cuda else "cpu"


def precision(settings: TrainingSettings, device: str) -> torch.dtype:
    """Return the number format of convolutions and matrix products: bfloat16 if the hardware supports it.

    Weights, their updates and the loss are always float32. The paper's Tesla T4 only emulates bfloat16, which is slower
    than float32.
    """
    if settings.precision == "auto":
        if device == "cuda":
            supported = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            supported = bool(torch.cpu._is_avx512_bf16_supported())
        return torch.bfloat16 if supported else torch.float32
    return torch.bfloat16 if settings.precision == "bfloat16" else torch.float32


def mixed_precision(settings: TrainingSettings, device: str) -> AbstractContextManager[Any]:
    """Return a context in which a network computes in its `precision`."""
    return torch.autocast(device, torch.bfloat16, enabled=precision(settings, device) == torch.bfloat16)


def describe_computation(
    settings: TrainingSettings, device: str, is_compiled: bool, is_captured: bool
) -> Computed:
    """Describe how a network is computed on this machine with these settings."""
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
    modes = ["compiled"] * is_compiled + ["captured"] * is_captured
    return Computed(
        device=name,
        precision=used,
        threads=torch.get_num_threads() if device == "cpu" else None,
        execution=" and ".join(modes) or "eager",
        library=f"torch {torch.__version__}",
    )


def should_compile(settings: TrainingSettings, device: str, steps: int) -> bool:
    """Return whether a training run is worth compiling.

    Parameters
    ----------
    settings : TrainingSettings
        ``compile``: ``auto`` compiles on CUDA, from ``compile_from_steps`` steps on, if torch's compiler works.
    device : str
        ``cpu`` or ``cuda``.
    steps : int
        Steps of the whole run, including those before an interruption.
    """
    if settings.compile != "auto":
        return settings.compile == "always"
    return device == "cuda" and steps >= settings.compile_from_steps and can_compile()


def compile_network(network: nn.Module, settings: TrainingSettings) -> Forward:
    """Compile a network with torch; its weights stay the same tensors.

    Only full batches use the compiled network: the last batch of an epoch has a different size in every fold, and torch
    stops compiling after a few sizes.
    """
    from torch._dynamo import config as tracing
    from torch._inductor import config as generating

    tracing.recompile_limit = max(tracing.recompile_limit, 64)  # one network per fold
    # otherwise kernels are chosen by timing them, and another process may choose differently
    generating.deterministic = True
    fast: Forward = torch.compile(network, dynamic=False)

    def forward(inputs: Mapping[str, Tensor]) -> Tensor:
        full = len(next(iter(inputs.values()))) == settings.batch_size
        return fast(inputs) if full else network(inputs)

    return forward


def can_compile() -> bool:
    """Return whether torch can compile for CUDA here: it needs Triton, a C compiler and the headers of Python."""
    from torch.utils._triton import has_triton

    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return bool(compiler) and headers.is_file() and has_triton()


@contextmanager
def repeatable() -> Iterator[None]:
    """Make the CUDA libraries deterministic inside this context, and restore their flags afterward."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
