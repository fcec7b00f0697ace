"""What a model was really computed with: settings may leave it open (``auto``), the stored model does not.

Belongs here: the record, without torch, which forests do not need. Does not belong here: choosing (``computing``).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal


@dataclass(frozen=True)
class Computed:
    """What a model was computed with; columns of ``fold_models``.

    Attributes
    ----------
    device : str
        The GPU's name, or ``cpu`` and the instructions that torch uses there.
    precision : str
        Numbers computed in: ``float32``, ``float32 (TF32 convolutions)`` (what NVIDIA GPUs from Ampere on take for
        float32), ``bfloat16`` or ``float64``. A network's weights are float32 in any case.
    threads : int or None
        Threads of the CPU that sums were split among, which moves last digits; None where they play no part.
    execution : str
        ``eager``, ``captured``, ``compiled`` or ``compiled and captured``.
    library : str
        What computed it, and its version.
    """

    device: str
    precision: str
    threads: int | None
    execution: str
    library: str


def by_scikit_learn(model: Literal["forest", "linear_probe"]) -> Computed:
    """Say what scikit-learn computes with here. A forest compares numbers, and is the same with any number of threads."""
    from threadpoolctl import threadpool_info

    library = f"scikit-learn {version('scikit-learn')}"
    if model == "forest":
        return Computed("cpu", "float64", None, "eager", library)
    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return Computed("cpu", "float32", max(pools, default=1), "eager", library)
