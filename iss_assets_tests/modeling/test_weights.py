from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import ResNet50_Weights, resnet50

from iss_assets.modeling.files import content_hash
from iss_assets.modeling.weights import (
    FoundWeights,
    WeightsUnavailable,
    find_weights,
    initial_resnet50,
    weights_fingerprint,
)
from iss_assets.settings import IdentitySettings, QualitySettings, Settings, TrainingSettings
from iss_assets.warehouse.ledger import code_versions


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return resnet50(weights=None).state_dict()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without a network, and with an empty cache of its own."""

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hub" / "checkpoints"


def names_both_remedies(error: BaseException) -> bool:
    return "ISS_TRAINING__RESNET50_WEIGHTS" in str(error) and "ISS_TRAINING__INITIAL_WEIGHTS=random" in str(
        error
    )


def test_without_file_and_hub_the_error_names_both_remedies(no_hub: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="neither in torchvision's cache nor") as caught:
        initial_resnet50(TrainingSettings())
    assert names_both_remedies(caught.value)
    found = find_weights(TrainingSettings())
    assert not found.available and names_both_remedies(ValueError(found.remedy))


def test_weights_in_the_cache_need_no_network_connection(
    no_hub: Path, state: dict[str, torch.Tensor]
) -> None:
    no_hub.mkdir(parents=True)
    torch.save(state, no_hub / Path(ResNet50_Weights.IMAGENET1K_V1.url).name)
    network, origin = initial_resnet50(TrainingSettings())
    assert origin == "imagenet"
    assert torch.equal(network.get_parameter("conv1.weight"), state["conv1.weight"])
    assert find_weights(TrainingSettings()).available


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_are_loaded_from_either_file_format(
    tmp_path: Path, state: dict[str, torch.Tensor], suffix: str, no_hub: Path
) -> None:
    file = tmp_path / f"resnet50.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    settings = TrainingSettings(resnet50_weights=file)
    network, origin = initial_resnet50(settings)
    assert origin == "file"
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert find_weights(settings) == FoundWeights(True, f"ImageNet, from the file {file.name}")


def test_random_weights_must_be_chosen_and_depend_on_the_seed(no_hub: Path) -> None:
    settings = TrainingSettings(initial_weights="random")
    for seed in (1, 1, 2, 1):
        torch.manual_seed(seed)
        expected, following = resnet50(weights=None).state_dict(), torch.rand(3)
        torch.manual_seed(seed)
        network, origin = initial_resnet50(settings)
        assert origin == "random"
        # whatever is drawn next is the same too, and no network shares its weights with the one before
        assert torch.equal(torch.rand(3), following)
        assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
        assert all(p.requires_grad for p in network.parameters())
        with torch.no_grad():
            for value in network.state_dict().values():
                value.zero_()
    assert "by choice" in find_weights(settings).text


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harmed"),))


def test_missing_damaged_malicious_and_mismatched_files_are_rejected(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {name: tmp_path / name for name in ("missing.pth", "empty.pth", "text.pth", "text.safetensors",
                                                "harmful.pth", "list.pth", "other.pth", "head.pth")}  # fmt: skip
    files["empty.pth"].touch()
    files["text.pth"].write_text("no weights")
    files["text.safetensors"].write_text("no weights")
    files["harmful.pth"].write_bytes(pickle.dumps(Harmful(), protocol=2))
    torch.save([1, 2], files["list.pth"])
    torch.save({"weight": torch.zeros(2)}, files["other.pth"])
    torch.save({**state, "fc.weight": torch.zeros(2, 2048)}, files["head.pth"])
    for name, file in files.items():
        with pytest.raises(WeightsUnavailable, match=name) as caught:
            initial_resnet50(TrainingSettings(resnet50_weights=file))
        assert names_both_remedies(caught.value)
        assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "harmed").exists()
    assert not find_weights(TrainingSettings(resnet50_weights=files["missing.pth"])).available


def test_initial_weights_are_identified_by_content_and_not_by_name(tmp_path: Path) -> None:
    file = tmp_path / "resnet50.pth"
    settings = TrainingSettings(resnet50_weights=file)
    assert weights_fingerprint(settings) == "file that is not there"
    file.write_bytes(b"one")
    first = weights_fingerprint(settings)
    (tmp_path / "copy.pth").write_bytes(b"one")
    assert weights_fingerprint(TrainingSettings(resnet50_weights=tmp_path / "copy.pth")) == first
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert weights_fingerprint(settings) != first
    assert weights_fingerprint(TrainingSettings()) == "imagenet"
    assert weights_fingerprint(TrainingSettings(initial_weights="random", resnet50_weights=file)) == "random"


def test_a_file_is_hashed_again_only_if_size_or_mtime_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"content")
    first = content_hash(file)
    assert first == hashlib.sha256(b"content").hexdigest()
    monkeypatch.setattr("hashlib.file_digest", None)
    assert content_hash(file) == first


def test_faces_and_quality_are_stale_when_the_identity_weights_are_replaced(
    tmp_path: Path, remove_sface: Callable[[], None]
) -> None:
    file = tmp_path / "vggface2.pt"
    file.write_bytes(b"one")
    settings = Settings(identity=IdentitySettings(weights=file))
    seen = [code_versions(settings)]
    file.write_bytes(b"another")
    seen.append(code_versions(settings))
    file.unlink()
    seen.append(code_versions(settings))
    remove_sface()
    seen.append(code_versions(Settings()))
    compared = ("face_identity", "video_quality")
    for table in compared:
        assert len({versions[table] for versions in seen}) == 4, table
    rest = [{n: v for n, v in versions.items() if n not in compared} for versions in seen]
    assert all(versions == rest[0] for versions in rest)


def test_faces_are_stale_when_the_limits_of_a_mask_change_and_not_when_those_of_a_person_do() -> None:
    first = code_versions(Settings())
    person = code_versions(Settings(quality=QualitySettings(sface_distance=0.5)))
    assert person["face_identity"] == first["face_identity"]
    assert person["video_quality"] != first["video_quality"]
    mask = code_versions(Settings(quality=QualitySettings(mask_lips=1.0)))
    assert mask["face_identity"] != first["face_identity"]
