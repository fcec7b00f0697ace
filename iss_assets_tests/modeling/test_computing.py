"""Device, precision and compilation, and their record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from iss_assets.modeling import computing
from iss_assets.modeling.computing import (
    choose_device,
    compile_network,
    describe_computation,
    precision,
    repeatable,
    should_compile,
)
from iss_assets.modeling.experiments import experiment
from iss_assets.modeling.files import read_arrays
from iss_assets.modeling.fitting import fit_fold, predict_fold
from iss_assets.settings import TrainingSettings
from iss_assets_tests.modeling.conftest import planted_items

pytestmark = pytest.mark.usefixtures("small_backbone")

FACES = experiment("resnet50_2_static")
SETTINGS = TrainingSettings(profile="demo", image_side=32, device="cpu")


def test_cuda_is_used_if_available_and_requiring_it_otherwise_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "as before")  # so that it is as before afterwards
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(TrainingSettings()) == "cpu"
    with pytest.raises(ValueError, match="this machine has none"):
        choose_device(TrainingSettings(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(TrainingSettings(device="cpu")) == "cpu"
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert choose_device(TrainingSettings()) == "cuda"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"  # before anything is computed there


@pytest.mark.parametrize("able", [True, False])
def test_bfloat16_is_used_if_the_hardware_supports_it_and_not_if_emulated(
    monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able)
    # the paper's Tesla T4 can emulate it only
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or able
    )
    expected = torch.bfloat16 if able else torch.float32
    assert precision(TrainingSettings(), "cpu") == precision(TrainingSettings(), "cuda") == expected
    assert precision(TrainingSettings(precision="float32"), "cuda") == torch.float32
    assert precision(TrainingSettings(precision="bfloat16"), "cpu") == torch.bfloat16


@pytest.mark.parametrize("numbers", ["float32", "bfloat16"])
def test_training_in_either_precision_learns_and_keeps_float32_weights(tmp_path: Path, numbers: str) -> None:
    settings = SETTINGS.model_copy(update={"precision": numbers, "epochs": 3, "learning_rate": 1e-3})
    fitted = fit_fold(FACES, planted_items(FACES, each=8), settings, tmp_path)
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    arrays = read_arrays(fitted.weights)[0]
    assert {str(a.dtype) for n, a in arrays.items() if n.endswith("weight")} == {"float32"}


def test_only_full_batches_use_the_compiled_network(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    class Network(torch.nn.Module):
        def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
            taken.append("plain")
            return inputs["scores"]

    monkeypatch.setattr(torch, "compile", lambda network, dynamic: lambda inputs: taken.append("compiled"))
    forward = compile_network(Network(), TrainingSettings())
    for size in (16, 5, 17):
        forward({"scores": torch.zeros(size, 2)})
    assert taken == ["compiled", "plain", "plain"]


def test_long_trainings_are_compiled_on_cuda_and_all_if_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "can_compile", lambda: True)
    auto = TrainingSettings(compile_from_steps=100)
    assert [should_compile(auto, "cuda", steps) for steps in (99, 100)] == [False, True]
    assert not should_compile(auto, "cpu", 10**9)
    assert should_compile(TrainingSettings(compile="always"), "cpu", 1)
    assert not should_compile(TrainingSettings(compile="never"), "cuda", 10**9)
    monkeypatch.setattr(computing, "can_compile", lambda: False)
    assert not should_compile(auto, "cuda", 100)


def test_the_compiler_needs_triton_a_c_compiler_and_pythons_headers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "Python.h").touch()
    there = {
        "has_triton": ("torch.utils._triton.has_triton", lambda: True, lambda: False),
        "cc": ("shutil.which", lambda name: f"/bin/{name}", lambda name: None),
        "headers": (
            "sysconfig.get_paths",
            lambda: {"include": str(tmp_path)},
            lambda: {"include": "/nowhere"},
        ),
    }
    monkeypatch.delenv("CC", raising=False)
    for target, present, _ in there.values():
        monkeypatch.setattr(target, present)
    assert computing.can_compile()
    for target, present, missing in there.values():
        monkeypatch.setattr(target, missing)
        assert not computing.can_compile()
        monkeypatch.setattr(target, present)


def test_compiled_training_learns_and_gives_a_normal_model_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler's own code generator takes a minute a network on a CPU; everything before it runs here."""
    compile_really = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda network, dynamic: compile_really(network, dynamic=dynamic, backend="aot_eager"),
    )
    settings = SETTINGS.model_copy(update={"compile": "always", "precision": "float32"})
    items = planted_items(FACES, each=9)  # two full batches and a smaller one
    one = fit_fold(FACES, items, settings, tmp_path / "one")
    two = fit_fold(FACES, items, settings.model_copy(update={"compile": "never"}), tmp_path / "two")
    rows = [
        predict_fold(FACES, fitted, items, settings)["pain_probability"].to_numpy() for fitted in (one, two)
    ]
    assert np.allclose(rows[0], rows[1], atol=0.02)


def test_cuda_flags_are_restored_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", True)
    before = cudnn.deterministic
    with pytest.raises(ValueError, match="no numbers"), repeatable():
        assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
        raise ValueError("no numbers")
    assert (cudnn.deterministic, cudnn.benchmark) == (before, True)


def test_the_computation_is_described_for_cpu_and_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    here = describe_computation(TrainingSettings(precision="float32"), "cpu", False, False)
    assert (here.precision, here.threads, here.execution) == ("float32", 1, "eager")
    assert here.device.startswith("cpu (") and here.library == f"torch {torch.__version__}"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    for capability, plain in (((9, 0), "float32 (TF32 convolutions)"), ((7, 5), "float32")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda value=capability: value)
        there = describe_computation(TrainingSettings(precision="float32"), "cuda", True, True)
        assert there.precision == plain
    assert (there.device, there.threads) == ("NVIDIA H100 80GB HBM3", None)
    assert there.execution == "compiled and captured"
    assert (
        describe_computation(TrainingSettings(precision="bfloat16"), "cuda", False, True).precision
        == "bfloat16"
    )


@pytest.mark.parametrize("name", ["forest_pain", "embedding_probe", "resnet50_2_static"])
def test_a_fitted_fold_records_its_computation(tmp_path: Path, name: str) -> None:
    chosen = experiment(name)
    used = fit_fold(chosen, planted_items(chosen, each=4), SETTINGS, tmp_path).computed
    network = chosen.is_network
    assert used.library.startswith("torch 2" if network else "scikit-learn 1")
    assert used.threads == (1 if network else used.threads) and used.execution == "eager"
    assert used.precision in (("float32", "bfloat16") if network else ("float32", "float64"))
