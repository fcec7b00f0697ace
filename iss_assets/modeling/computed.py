"""The device, precision and library that a model was computed with, as stored beside it.

Settings may leave these open (``auto``); the stored model does not. This module needs no torch, so that forests can
use it; the choice itself is made in ``computing``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from threadpoolctl import threadpool_info


@dataclass(frozen=True)
class Computed:
    """What a model was computed with; columns of ``fold_models``.

    Attributes
    ----------
    device : str
        The GPU's name, or ``cpu`` and the instructions that torch uses there.
    precision : str
        Number format of the computation: ``float32``, ``float32 (TF32 convolutions)`` (the default for float32 on
        NVIDIA GPUs since Ampere), ``bfloat16`` or ``float64``. The weights of a network are always float32.
    threads : int or None
        CPU threads that sums were split among, which can change the last digits; None if they have no effect.
    execution : str
        ``eager``, ``captured``, ``compiled`` or ``compiled and captured``.
    library : str
        Library and version.
    """

    device: str
    precision: str
    threads: int | None
    execution: str
    library: str


def by_scikit_learn(model: Literal["forest", "linear_probe"]) -> Computed:
    """Describe how scikit-learn computes here. A forest only compares numbers, so threads do not change it."""
    library = f"scikit-learn {version('scikit-learn')}"
    if model == "forest":
        return Computed("cpu", "float64", None, "eager", library)
    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return Computed("cpu", "float32", max(pools, default=1), "eager", library)
