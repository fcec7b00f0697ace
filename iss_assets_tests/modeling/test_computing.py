"""Device, precision, compilation and folds side by side change the speed and not what is learnt."""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import partial
from threading import Barrier

import numpy as np
import pytest
import torch

from iss_assets.modeling import computing
from iss_assets.modeling.computing import choose_device, compiled, precision, repeatable, side_by_side
from iss_assets.modeling.experiments import experiment
from iss_assets.modeling.fitting import fit_fold, folds_side_by_side, predict_fold
from iss_assets.modeling.training import CHECKPOINT_FILE
from iss_assets.settings import TrainingSettings
from iss_assets_tests.modeling.conftest import planted_items

pytestmark = pytest.mark.usefixtures("small_backbone")

FACES, FOREST = experiment("resnet50_2_static"), experiment("forest_pain")
SETTINGS = TrainingSettings(profile="demo", image_side=32, device="cpu", folds_at_once=2)


def test_cuda_is_taken_when_there_and_an_error_when_only_wished_for(monkeypatch):
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
def test_bfloat16_is_taken_where_the_hardware_has_it_and_not_where_it_is_emulated(monkeypatch, able):
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
def test_training_in_either_precision_learns_and_keeps_float32_weights(tmp_path, numbers):
    from iss_assets.modeling.files import read_arrays

    settings = SETTINGS.model_copy(update={"precision": numbers, "epochs": 3, "learning_rate": 1e-3})
    fitted = fit_fold(FACES, planted_items(FACES, each=8), settings, tmp_path)
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    kept = read_arrays(fitted.weights)[0]
    assert {str(a.dtype) for n, a in kept.items() if n.endswith("weight")} == {"float32"}


def test_full_batches_are_compiled_on_cuda_or_when_asked(monkeypatch):
    taken: list[str] = []

    def network(inputs):
        taken.append("plain")

    monkeypatch.setattr(torch, "compile", lambda network, dynamic: lambda inputs: taken.append("compiled"))
    monkeypatch.setattr(computing, "can_compile", lambda: True)
    assert compiled(network, TrainingSettings(), "cpu") is network
    assert compiled(network, TrainingSettings(compile="never"), "cuda") is network
    for settings, device in ((TrainingSettings(), "cuda"), (TrainingSettings(compile="always"), "cpu")):
        forward = compiled(network, settings, device)
        for size in (16, 5, 17):
            forward({"scores": torch.zeros(size, 2)})
    assert taken == ["compiled", "plain", "plain"] * 2
    monkeypatch.setattr(computing, "can_compile", lambda: False)
    assert compiled(network, TrainingSettings(), "cuda") is network


def test_the_compiler_needs_triton_a_c_compiler_and_pythons_headers(monkeypatch, tmp_path):
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


def test_compiled_training_learns_and_its_weights_can_be_read_as_usual(tmp_path, monkeypatch):
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
    assert np.allclose(*rows, atol=0.02)


def test_cudas_flags_are_as_before_once_the_last_fold_is_out(monkeypatch):
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", True)
    before = cudnn.deterministic
    one, two = repeatable(), repeatable()
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
    two.__exit__(None, None, None)
    assert (cudnn.deterministic, cudnn.benchmark) == (before, True)


@pytest.mark.parametrize("chosen", [FACES, experiment("fusion_3")], ids=lambda e: e.name)
def test_folds_side_by_side_end_with_the_same_weights_as_one_after_the_other(tmp_path, chosen):
    """Building one network must not disturb the training of another."""
    items = planted_items(chosen, each=4)
    sides = [items.of(["0000", "0001", "0002"]), items.of(["0001", "0002", "0003"])]

    def fit(folder, side, go_on):
        return fit_fold(chosen, side, SETTINGS, tmp_path / folder, go_on=go_on).weights.read_bytes()

    made = {}
    for at_once in (1, 2):
        settings = SETTINGS.model_copy(update={"folds_at_once": at_once})
        jobs = [partial(fit, f"{at_once}-{n}", side) for n, side in enumerate(sides)]
        made[at_once] = dict(folds_side_by_side(chosen, jobs, settings))
    assert made[1] == made[2]
    assert made[1][0] != made[1][1]


def test_folds_of_networks_run_at_once_and_forests_one_after_the_other():
    meet = Barrier(2)

    def job(go_on):
        go_on()
        meet.wait(5)
        return "met"

    assert sorted(folds_side_by_side(FACES, [job, job], SETTINGS)) == [(0, "met"), (1, "met")]
    order = []
    jobs = [lambda go_on, n=n: order.append(n) for n in range(3)]
    assert [number for number, _ in folds_side_by_side(FOREST, jobs, SETTINGS)] == order == [0, 1, 2]


def test_jobs_at_once_share_as_many_streams_and_no_more(monkeypatch):
    """torch keeps memory by stream: one a job would keep that of every job until the end."""
    made, used, meet = [], [], Barrier(2)

    class Stream:
        def __init__(self):
            made.append(self)

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: used.append(stream) or nullcontext())

    def job(go_on):
        meet.wait(5)

    list(side_by_side([job] * 6, 2, "cuda"))
    assert len(made) == 2 and len(used) == 6 and set(used) == set(made)


def test_a_fold_that_fails_ends_those_beside_it_and_their_checkpoints_stay(tmp_path):
    items = planted_items(FACES, each=4)
    one_epoch_done = Barrier(2)

    def failing(go_on):
        one_epoch_done.wait(60)
        raise ValueError("no numbers")

    def fitting(go_on):
        def told(entry):
            if entry["epoch"] == 1:
                one_epoch_done.wait(60)

        settings = SETTINGS.model_copy(update={"epochs": 10_000})
        return fit_fold(FACES, items, settings, tmp_path, told, go_on)

    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match="no numbers"):
        list(side_by_side([failing, fitting], 2, "cpu"))
    assert (tmp_path / CHECKPOINT_FILE).exists()
    assert torch.get_num_threads() == threads
    assert computing._repeatable == 0
