"""The three networks are facenet-pytorch's, and boxes are suppressed as torchvision does it."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from iss_assets.media.faces import load_networks
from iss_assets.media.mtcnn import NETWORKS, _read_tensors, pretrained, suppress
from iss_assets.media.openvino_layers import runner

SIZES = {"pnet": (61, 83), "rnet": (24, 24), "onet": (48, 48)}


def pictures_for(name: str) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (5, *SIZES[name], 3)).astype(np.float32)


def package_answers(name: str, pictures: np.ndarray) -> list[np.ndarray]:
    from facenet_pytorch.models import mtcnn

    theirs = getattr(mtcnn, f"{name[0].upper()}Net")().eval()
    with torch.inference_mode():
        return [a.numpy() for a in theirs(torch.from_numpy(pictures).permute(0, 3, 1, 2))]


@pytest.mark.parametrize("place", range(3))
def test_on_a_processor_a_network_answers_as_the_packages_own_but_for_the_last_digits(place: int) -> None:
    name = list(NETWORKS)[place]
    pictures = pictures_for(name)
    answers = runner(load_networks()[place])(pictures)
    for mine, other in zip(answers, package_answers(name, pictures), strict=True):
        assert mine.shape == other.shape
        assert np.abs(mine - other).max() < 5e-6


def test_a_crops_answer_does_not_depend_on_what_else_is_in_the_batch() -> None:
    crops = pictures_for("rnet")
    run = runner(load_networks()[1])
    together = [a.copy() for a in run(crops)]
    for i in range(len(crops)):
        alone = run(np.ascontiguousarray(crops[i : i + 1]))
        assert all(np.array_equal(a[0], t[i]) for a, t in zip(alone, together, strict=True))


@pytest.mark.parametrize("name", list(NETWORKS))
def test_weights_are_read_without_torch_as_torch_reads_them(name: str) -> None:
    package = find_spec("facenet_pytorch")
    assert package is not None and package.origin is not None
    theirs = torch.load(Path(package.origin).parent / "data" / f"{name}.pt", weights_only=True)
    mine = pretrained(name)
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[key], theirs[key].numpy()) for key in mine)


def test_a_file_that_names_anything_but_weights_is_not_read_on() -> None:
    parts = [1, 2, {}, OrderedDict(a=print)]
    file = io.BytesIO(b"".join(pickle.dumps(part, 2) for part in parts))
    with pytest.raises(pickle.UnpicklingError, match="more than weights"):
        _read_tensors(file)


@pytest.mark.parametrize("overlap", [0.5, 0.7])
@pytest.mark.parametrize("ties", [False, True])
def test_the_same_boxes_stay_as_in_torchvision(overlap: float, ties: bool) -> None:
    from torchvision.ops import nms

    rng = np.random.default_rng(3)
    for _ in range(30):
        corner = rng.integers(0, 150, (rng.integers(1, 300), 2)) * 2 + 1
        boxes = np.floor(np.column_stack([corner, corner + 11]) / rng.uniform(0.1, 1)).astype(np.float32)
        scores = rng.uniform(0.6, 1, len(boxes)).astype(np.float32)
        if ties:
            scores = scores.round(1)
        theirs = nms(torch.from_numpy(boxes), torch.from_numpy(scores), overlap)
        assert suppress(boxes, scores, overlap).tolist() == theirs.tolist()


def test_no_box_stays_of_none() -> None:
    assert suppress(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []


def test_extraction_loads_neither_torch_nor_anything_that_reports_to_the_makers_of_its_parts() -> None:
    code = (
        "import sys, numpy as np, iss_assets.media.visual, iss_assets.media.faces as f, iss_assets.media.audio; "
        "from iss_assets.media.speech import speech_levels; f.load_networks(); "
        "speech_levels(np.random.default_rng(0).normal(0, 0.1, 44100).astype('float32'), 22050); "
        "print([m for m in sys.modules if m in ('torch', 'torchvision') or 'telemetry' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
