"""Shapes are pinned at the paper's sizes without computing them: on torch's meta device tensors have shapes only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models import resnet50
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.functional import normalize

from iss_assets.modeling.experiments import experiment
from iss_assets.modeling.networks import CutBackbone, FacesToPictures, MapFusion, MelToPictures, build_network
from iss_assets.modeling.weights import empty_resnet50

WIDTHS = {"landmarks": 1404, "scores": 16, "audio_features": 25}
LAYER = "layer4.0.conv1"


def shapes_only(name: str, layer: str = LAYER) -> tuple[Any, dict[str, torch.Tensor]]:
    chosen = experiment(name)
    widths: dict[str, int] = {n: WIDTHS[n] for n in chosen.inputs if n in WIDTHS}
    with torch.device("meta"):
        network = build_network(chosen, empty_resnet50(), widths, layer)
        inputs = {n: torch.zeros(3, width) for n, width in widths.items()}
        if "faces" in chosen.inputs:
            inputs["faces"] = torch.zeros(3, 160, 160, 3, dtype=torch.uint8)
        if "mel" in chosen.inputs:
            inputs["mel"] = torch.zeros(3, 128, 173)
    return network.to("meta"), inputs


@pytest.mark.parametrize(
    ("name", "classes"),
    [("resnet50_4_static", 4), ("resnet50_2_static", 2), ("fusion_1", 2), ("fusion_2", 2), ("fusion_3", 2),
     ("audio_static", 2)],
)  # fmt: skip
def test_each_network_returns_one_logit_per_class(name: str, classes: int) -> None:
    network, inputs = shapes_only(name)
    assert network(inputs).shape == (3, classes)


def test_fusion_1_joins_1000_outputs_and_1404_landmarks() -> None:
    network, _ = shapes_only("fusion_1")
    assert network.backbone.fc.out_features == 1000
    assert network.head[0].in_features == 2404


def test_fusion_2_adds_nine_scores_sex_skin_timeframe_and_flag_to_the_same_feed_forward_network() -> None:
    one, two = shapes_only("fusion_1")[0], shapes_only("fusion_2")[0]
    assert two.head[0].in_features == 2420
    assert [m.weight.shape for m in one.head[2::2]] == [m.weight.shape for m in two.head[2::2]]


def test_fusion_3_adds_64_landmark_and_64_pain_features_to_the_papers_feature_map() -> None:
    network, inputs = shapes_only("fusion_3")
    assert network.feature_map(inputs).shape == (3, 512, 10, 10)
    assert [m[0].in_features for m in network.vectors.values()] == [1404, 16]
    assert network.head[0].in_channels == 512 + 64 + 64


def test_static_audio_adds_64_audio_features_to_the_feature_map_and_has_the_cnn_of_fusion_3() -> None:
    network, inputs = shapes_only("audio_static")
    assert network.feature_map(inputs).shape == (3, 512, 8, 11)
    assert network.head[0].in_channels == 512 + 64
    assert network.vectors["audio_features"][0].in_features == 25
    cnn = shapes_only("fusion_3")[0].head
    assert [m.weight.shape for m in network.head[3::2] if hasattr(m, "weight")] == [
        m.weight.shape for m in cnn[3::2] if hasattr(m, "weight")
    ]


def test_layers_after_the_feature_layer_are_not_stored() -> None:
    names = shapes_only("fusion_3")[0].state_dict()
    assert "backbone.layer4.0.conv1.weight" in names
    assert not any(
        n.startswith(("backbone.layer4.0.conv2", "backbone.layer4.1", "backbone.fc")) for n in names
    )


def test_normalization_constants_are_not_in_the_state_but_have_values_on_the_meta_device() -> None:
    with torch.device("meta"):
        network = build_network(
            experiment("fusion_3"), empty_resnet50(), {"landmarks": 1404, "scores": 16}, LAYER
        )
    assert not [name for name in network.state_dict() if name.startswith("pictures")]
    assert isinstance(network, MapFusion)
    assert network.pictures.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_another_feature_layer_can_be_set_and_an_unknown_one_is_rejected_with_a_list() -> None:
    network, inputs = shapes_only("fusion_3", "layer4.2.conv3")
    assert network.feature_map(inputs).shape == (3, 2048, 5, 5)
    with pytest.raises(ValueError, match=r"no convolution 'layer-4'.*layer4\.0\.conv1"):
        shapes_only("fusion_3", "layer-4")


@pytest.mark.parametrize(
    "layer",
    ["layer4.0.conv1", "layer4.0.bn2", "layer4.2.conv3", "layer4.0.downsample.1", "layer2.1.bn1"],
)
def test_the_map_is_what_the_whole_resnet50_computes_at_that_layer(layer: str) -> None:
    torch.manual_seed(0)
    whole = resnet50(weights=None).eval()
    pictures = torch.rand(2, 3, 64, 64)
    expected = create_feature_extractor(whole, {layer: "map"}, suppress_diff_warning=True)(pictures)["map"]
    assert torch.equal(CutBackbone(whole, layer)(pictures), expected)


def test_every_part_of_a_fusion_learns_end_to_end() -> None:
    torch.manual_seed(0)
    chosen = experiment("fusion_3")
    network = build_network(chosen, resnet50(weights=None), {"landmarks": 1404, "scores": 16}, LAYER)
    inputs = {
        "faces": torch.randint(0, 255, (4, 32, 32, 3), dtype=torch.uint8),
        "landmarks": torch.rand(4, 1404),
        "scores": torch.rand(4, 16),
    }
    torch.nn.functional.cross_entropy(network(inputs), torch.tensor([0, 1, 0, 1])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_faces_are_normalized_for_imagenet_and_stored_channels_last() -> None:
    faces = torch.randint(0, 255, (2, 8, 8, 3), dtype=torch.uint8)
    pictures = FacesToPictures()(faces)
    expected = normalize(faces.permute(0, 3, 1, 2) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(pictures, expected, atol=1e-6)
    assert pictures.is_contiguous(memory_format=torch.channels_last)


def test_spectrograms_keep_their_size_and_become_the_same_picture_in_three_channels() -> None:
    mel = torch.tensor([-120.0, -80.0, -40.0, 0.0]).reshape(1, 2, 2)
    pictures = MelToPictures()(mel)
    assert pictures.shape == (1, 3, 2, 2)
    deviation, mean = torch.tensor([0.229, 0.224, 0.225]), torch.tensor([0.485, 0.456, 0.406])
    shares = pictures[0] * deviation[:, None, None] + mean[:, None, None]
    assert torch.allclose(shares, torch.tensor([[0, 0], [0.5, 1]]).expand(3, 2, 2), atol=1e-6)


def test_an_experiment_without_a_network_is_rejected() -> None:
    with pytest.raises(ValueError, match="forest_pain is a forest, not a network"):
        build_network(experiment("forest_pain"), empty_resnet50(), {}, LAYER)
