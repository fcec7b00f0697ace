"""Simulate CUDA graphs on a CPU: a replay calls the function again.

Like with CUDA, recording a training step does not execute it, a replay reads and writes the memory addresses of the
recording, and the next replay overwrites the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from iss_assets.modeling import capture


class Recorded:
    """Graphs recorded and replays made in a test."""

    def __init__(self) -> None:
        self.graphs = 0
        self.replays = 0

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Replace `capture.record`."""
        self.graphs += 1
        places = _places(run)
        # a forward pass changes nothing, but a training step must not be executed while it is recorded
        result = run() if torch.is_inference_mode_enabled() else None

        def replay() -> None:
            assert _places(run) == places, "something that the graph touches has moved"
            self.replays += 1
            new = run()
            if isinstance(result, Tensor):
                result.copy_(new)

        return replay, result


def _places(run: Callable[[], Any]) -> dict[str, int]:
    """Return the address of every tensor that a function closes over, including weights and optimizer state."""
    found: dict[str, int] = {}

    def look(name: str, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            found[name] = value.data_ptr()
        elif isinstance(value, torch.nn.Module):
            for part, tensor in value.state_dict(keep_vars=True).items():
                found[f"{name}.{part}"] = tensor.data_ptr()
        elif isinstance(value, torch.optim.Optimizer):
            for number, state in enumerate(value.state.values()):
                for part, tensor in state.items():
                    found[f"{name}.{number}.{part}"] = tensor.data_ptr()
        elif isinstance(value, tuple):
            for number, part in enumerate(value):
                look(f"{name}.{number}", part, depth)
        elif callable(value) and getattr(value, "__closure__", None) and depth < 4:
            for part, cell in zip(value.__code__.co_freevars, value.__closure__, strict=True):
                look(f"{name}.{part}", cell.cell_contents, depth + 1)

    look("run", run, 0)
    return found


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Record steps on the CPU, however few there are."""
    made = Recorded()
    monkeypatch.setattr(capture, "record", made.record)
    for name in ("iss_assets.modeling.capture", "iss_assets.modeling.training"):
        monkeypatch.setattr(f"{name}.can_capture", lambda device: True)
        monkeypatch.setattr(f"{name}.CAPTURE_FROM", 1)
    return made
