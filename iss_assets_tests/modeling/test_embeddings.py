from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from iss_assets.modeling.embeddings import embed_faces
from iss_assets.modeling.experiments import experiment
from iss_assets.modeling.fitting import fit_fold, predict_fold
from iss_assets.modeling.items import Items, make_items
from iss_assets.settings import TrainingSettings
from iss_assets_tests.modeling.conftest import planted_items

SETTINGS = TrainingSettings(profile="demo", image_side=32, device="cpu")
RESNET50 = SETTINGS.model_copy(update={"embedding_network": "resnet50"})


@pytest.mark.parametrize(
    ("settings", "width", "origin"),
    [(SETTINGS, 1280, "imagenet (EfficientNet-Lite0)"), (RESNET50, 2048, "random")],
    ids=["efficientnet_lite0", "resnet50"],
)
def test_an_embedding_depends_neither_on_other_crops_nor_on_the_random_state(
    settings: TrainingSettings, width: int, origin: str
) -> None:
    crops = planted_items(experiment("resnet50_2_static"), each=2).inputs["faces"]
    assert isinstance(crops, np.ndarray)
    embedded = embed_faces(crops, settings)
    together = embedded.vectors
    alone = embed_faces(crops[3:4], settings).vectors
    assert together.shape == (8, width) and together.dtype == np.float32
    assert embedded.weights_origin == origin
    scale = np.abs(together).max()
    assert np.allclose(together[3] / scale, alone[0] / scale, atol=1e-5)
    assert embed_faces(crops[:0], settings).vectors.shape == (0, width)


def test_a_linear_probe_on_frozen_embeddings_learns_a_planted_signal(tmp_path: Path) -> None:
    faces = planted_items(experiment("resnet50_2_static"), patients=8)
    embeddings = embed_faces(faces.inputs["faces"], SETTINGS).vectors
    probe = experiment("embedding_probe")
    items: Items = make_items(
        probe, faces.patient_id, faces.video_id, faces.level, {"embeddings": embeddings}, faces.frame_index
    )
    fitted = fit_fold(probe, items.of([f"{p:04d}" for p in range(4)]), SETTINGS, tmp_path)
    rows: pa.Table = predict_fold(probe, fitted, items.of([f"{p:04d}" for p in range(4, 8)]), SETTINGS)
    assert np.mean(np.array(rows["target"]) == np.array(rows["predicted"])) > 0.9
