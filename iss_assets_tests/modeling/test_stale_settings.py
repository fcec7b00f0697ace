"""A changed setting makes only those experiments stale whose models it affects."""

from __future__ import annotations

from pathlib import Path

import pytest

from iss_assets.modeling.experiments import BY_NAME, EXPERIMENTS, READ_BY
from iss_assets.pipeline.staleness import embeddings_fingerprint, fold_fingerprints
from iss_assets.settings import Settings, TrainingSettings
from iss_assets.warehouse.database import Warehouse

EVERY = set(BY_NAME)
NETWORKS = {"resnet50_4_static", "resnet50_2_static", "fusion_1", "fusion_2", "fusion_3", "audio_static"}
ON_FACES = NETWORKS - {"audio_static"}
PROBE = {"embedding_probe"}
MIL = {"mil_embeddings", "mil_mesh", "mil_behavior"}

CHANGES: dict[str, tuple[object, set[str]]] = {
    "profile": ("demo", EVERY),
    "folds": (5, set()),
    "split_seed": (7, set()),
    "split_file": ("splits.csv", set()),
    "seed": (3, EVERY - PROBE),
    "epochs": (11, NETWORKS),
    "batch_size": (8, NETWORKS | MIL),
    "learning_rate": (1e-3, NETWORKS),
    "image_side": (64, ON_FACES),
    "feature_layer": ("layer4.1.conv1", {"fusion_3", "audio_static"}),
    "frames_per_patient": (2, ON_FACES | PROBE | {"forest_landmarks"}),
    "chunks_per_patient": (1, {"audio_static"}),
    "instance_s": (2.0, MIL),
    "instances_per_video": (60, MIL),
    "attention_epochs": (31, MIL),
    "attention_learning_rate": (2e-3, MIL),
    "attention_videos_per_patient": (2, MIL),
    "only_usable": (False, EVERY),
    "missing_scores": ("leave_out", {"forest_pain", "fusion_2", "fusion_3"}),
    "class_weights": (True, EVERY),
    "initial_weights": ("random", NETWORKS),
    "resnet50_weights": ("other.pth", NETWORKS),
    "embedding_network": ("resnet50", PROBE | {"mil_embeddings"}),
    "device": ("cpu", set()),
    "precision": ("float32", NETWORKS | PROBE),
    "compile": ("never", set()),
    "compile_from_steps": (7, set()),
    "folds_at_once": (3, set()),
    "checkpoint_s": (0.0, set()),
    "decoded_faces_gb": (1.0, set()),
    "encoded_faces_gb": (1.0, set()),
}
"""Every setting: another value than the default, and by hand which experiments' models it changes."""

DEFAULTS = TrainingSettings()


def test_every_setting_is_declared_and_tested() -> None:
    """Who adds one says which experiments read it, here and in ``READ_BY``."""
    fields = set(TrainingSettings.model_fields)
    assert fields - set(READ_BY) == set() and set(READ_BY) - fields == set()
    assert fields - set(CHANGES) == set() and set(CHANGES) - fields == set()


def fingerprints(study: Warehouse, training: TrainingSettings) -> dict[str, str]:
    """Return what a fold's model of each experiment is made from."""
    sides = ["0001", "0002", "0004"], ["0003"]
    return {e.name: fold_fingerprints(study, training, e, *sides)["fold_models"] for e in EXPERIMENTS}


_BEFORE: dict[str, str] = {}


def fingerprints_of_the_defaults(study: Warehouse) -> dict[str, str]:
    """Return `fingerprints` of `DEFAULTS`, made once: every test has the same study."""
    if not _BEFORE:
        _BEFORE.update(fingerprints(study, DEFAULTS))
    return _BEFORE


def test_nothing_is_stale_where_nothing_has_changed(study: Warehouse) -> None:
    assert fingerprints(study, DEFAULTS) == fingerprints_of_the_defaults(study)


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_changed_setting_makes_only_affected_experiments_stale(
    study: Warehouse, name: str, tmp_path: Path
) -> None:
    value, expected = CHANGES[name]
    if name == "resnet50_weights":
        value = tmp_path / str(value)
        Path(value).write_bytes(b"other weights")
    # every value is given, so that the profile changes nothing but itself
    changed = TrainingSettings.model_validate({**DEFAULTS.model_dump(), name: value})
    before = fingerprints_of_the_defaults(study)
    stale = {name for name, value in fingerprints(study, changed).items() if value != before[name]}
    assert stale == expected


@pytest.mark.parametrize(
    ("network", "weights", "stale"),
    [
        ("resnet50", "random", {"seed", "image_side"}),
        ("resnet50", "imagenet", {"image_side"}),
        ("efficientnet_lite0", "random", set()),
    ],
)
def test_embeddings_are_stale_when_their_own_network_would_see_or_compute_something_else(
    study: Warehouse, network: str, weights: str, stale: set[str]
) -> None:
    first = {"embedding_network": network, "initial_weights": weights, "image_side": 160, "seed": 0}

    def of(**changed: object) -> str:
        training = TrainingSettings.model_validate({**first, **changed})
        return embeddings_fingerprint(study, Settings(training=training), "0001")

    assert {name for name, value in (("seed", 1), ("image_side", 96)) if of(**{name: value}) != of()} == stale
    others = {"resnet50", "efficientnet_lite0"} - {network}
    assert all(of(embedding_network=other) != of() for other in others)
