from __future__ import annotations

import cv2
import numpy as np
import pytest

from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.items import SCORE_COLUMNS, Items, make_items

LEVELS = ("None", "Severe", "Low", "Moderate")


def planted_items(
    experiment: Experiment, patients: int = 4, each: int = 12, side: int = 32, seed: int = 0
) -> Items:
    """Items whose every input tells the level: patients cycle through None, Severe, Low, Moderate."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), each)
    rank = np.array([0, 3, 1, 2])[owner % 4]
    pain = (rank > 0).astype(np.float32)
    n = len(owner)
    faces = rng.integers(60, 120, (n, side, side, 3)).astype(np.uint8)
    faces[:, : side // 2] += np.array([0, 60, 95, 130], np.uint8)[rank][:, None, None, None]
    scores = rng.integers(0, 3, (n, len(SCORE_COLUMNS))).astype(np.float32)
    scores[:, :9] += 5 * pain[:, None]
    scores[:, 9:] = 0
    features = rng.normal(size=(n, 25)).astype(np.float32)
    features[:, 3] += 4 * pain
    mel = rng.uniform(-80, -60, (n, 128, 24)).astype(
        np.float32
    )  # a tenth of 4 s: the network takes any length
    mel[:, :64] += 50 * pain[:, None, None]
    values = {
        "faces": faces,
        "landmarks": (rng.uniform(0.2, 0.4, (n, 1404)) + 0.4 * pain[:, None]).astype(np.float32),
        "scores": scores,
        "mel": mel,
        "audio_features": features,
        "embeddings": (rng.normal(size=(n, 64)) + 2 * pain[:, None]).astype(np.float32),
    }
    numbers = np.tile(np.arange(each), patients)
    return make_items(
        experiment,
        patient_id=[f"{p:04d}" for p in owner],
        video_id=[f"v{p}-{k // 6}" for p, k in zip(owner, numbers, strict=True)],
        level=[LEVELS[p % 4] for p in owner],
        inputs=values,
        frame_index=numbers if experiment.item == "frame" else None,
        chunk_index=numbers if experiment.item == "chunk" else None,
        weight=np.full(n, 7.0) if experiment.item == "submission" else None,
    )


@pytest.fixture(autouse=True)
def one_thread():
    """Beside other work on the same cores, torch's threads wait for one another far longer than they compute."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def as_png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
