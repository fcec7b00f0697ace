"""What loading leaves out, and what a process says when it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from iss_assets import loading

LOADED = object()


@pytest.mark.parametrize(
    ("has_gpu", "before", "after"),
    [(False, {}, None), (True, {}, "absent"), (False, {"triton": LOADED}, LOADED)],
)
def test_triton_is_left_out_only_where_there_is_no_gpu_and_nobody_has_loaded_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_gpu: bool, before: dict[str, object], after: object
) -> None:
    device = tmp_path / "nvidiactl"
    if has_gpu:
        device.touch()
    monkeypatch.setattr(loading, "GPU_DEVICES", (str(device),))
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    for name, module in before.items():
        monkeypatch.setitem(sys.modules, name, module)
    loading.leave_out_triton()
    assert sys.modules.get("triton", "absent") is after
    monkeypatch.delitem(sys.modules, "triton", raising=False)


def test_a_process_that_has_trained_ends_without_a_word() -> None:
    program = """
from iss_assets.loading import quick_loading
with quick_loading():
    import iss_assets.modeling.training
    import torch
    import torchvision
layer = torch.nn.Linear(3, 2)
adam = torch.optim.Adam(layer.parameters(), fused=True)
layer(torch.ones(2, 3)).sum().backward()
adam.step()
import sys
from pathlib import Path
from iss_assets.loading import GPU_DEVICES
has_gpu = any(Path(device).exists() for device in GPU_DEVICES)
assert has_gpu or sys.modules["triton"] is None, "torch has loaded Triton"
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")
