"""The three networks are facenet-pytorch's, and boxes are suppressed as torchvision does it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from iss_assets.media.mtcnn import ONet, PNet, RNet, pretrained, suppress


@pytest.mark.parametrize(("ours", "size"), [(PNet, (61, 83)), (RNet, (24, 24)), (ONet, (48, 48))])
def test_a_network_answers_exactly_as_the_packages_own(ours, size):
    from facenet_pytorch.models import mtcnn

    theirs = getattr(mtcnn, ours.__name__)().eval()
    pictures = torch.randn(5, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        answers = zip(pretrained(ours)(pictures), theirs(pictures), strict=True)
        assert all(torch.equal(mine, other) for mine, other in answers)


@pytest.mark.parametrize("overlap", [0.5, 0.7])
@pytest.mark.parametrize("ties", [False, True])
def test_the_same_boxes_stay_as_in_torchvision(overlap, ties):
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


def test_no_box_stays_of_none():
    assert suppress(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []


def test_workers_load_neither_torchvision_nor_the_compiler():
    import subprocess
    import sys

    code = (
        "import sys, iss_assets.media.visual, iss_assets.media.faces as f; f.load_networks(); "
        "print([m for m in ('torchvision', 'torch._dynamo') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
