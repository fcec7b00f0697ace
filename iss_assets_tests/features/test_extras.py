"""A feature whose packages are missing is off, and says so everywhere; a feature that nobody wants is silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from iss_assets.build import build_defs
from iss_assets.cli.doctor import examine
from iss_assets.features import extras
from iss_assets.features.registry import enabled_features, feature_named, missing_package_notes
from iss_assets.settings import Settings, WordSettings
from iss_assets.warehouse.ledger import code_versions

WANTED = WordSettings(enabled=True)


@pytest.fixture
def without_whisper(monkeypatch: pytest.MonkeyPatch) -> None:
    there = extras.is_installed
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "faster_whisper" and there(module))


@pytest.mark.usefixtures("without_whisper")
def test_without_its_packages_a_feature_is_off_and_everything_else_as_before(settings: Settings) -> None:
    wanted = settings.model_copy(update={"words": WANTED})
    unwanted = settings.model_copy(update={"words": WordSettings(enabled=False)})
    assert "words" not in {feature.name for feature in enabled_features(wanted)}
    assert code_versions(wanted) == code_versions(unwanted)
    graph = build_defs(wanted).resolve_asset_graph()
    keys = {key.to_user_string() for key in graph.materializable_asset_keys}
    assert "transcripts" not in keys
    assert "audio_features" in keys


@pytest.mark.usefixtures("without_whisper")
def test_what_is_missing_is_said_with_what_to_do(settings: Settings) -> None:
    wanted = settings.model_copy(update={"words": WANTED})
    (note,) = missing_package_notes(wanted)
    assert note == (
        "What is said is not recognized: faster-whisper not installed. Install with pip install 'iss-assets[speech]', or "
        "switch it off: ISS_WORDS__ENABLED=false"
    )
    (found,) = (finding for finding in examine(wanted) if finding.subject == "words")
    assert found.state == "warn"
    assert "faster-whisper not installed" in found.text
    assert "pip install 'iss-assets[speech]'" in found.fix


@pytest.mark.usefixtures("without_whisper")
def test_who_has_switched_it_off_hears_nothing_of_packages(settings: Settings) -> None:
    unwanted = settings.model_copy(update={"words": WordSettings(enabled=False)})
    assert missing_package_notes(unwanted) == []
    (found,) = (finding for finding in examine(unwanted) if finding.subject == "words")
    assert (found.state, found.text) == ("ok", "switched off by the settings")


def test_a_changed_model_or_setting_makes_words_stale_and_nothing_else(
    settings: Settings, tmp_path: Path
) -> None:
    pytest.importorskip("faster_whisper", reason="the extra speech is not installed")
    before = code_versions(settings.model_copy(update={"words": WANTED}))
    for name, content in (("model.bin", b"weights"), ("config.json", b"{}"), ("tokenizer.json", b"{}")):
        (tmp_path / name).write_bytes(content)
    for changed in (WordSettings(enabled=True, beam_size=1), WordSettings(enabled=True, model=tmp_path)):
        after = code_versions(settings.model_copy(update={"words": changed}))
        stale = {table for table in before if after[table] != before[table]}
        assert stale == set(feature_named("words").table_names)
    (tmp_path / "model.bin").write_bytes(b"others")
    again = code_versions(settings.model_copy(update={"words": WordSettings(enabled=True, model=tmp_path)}))
    assert again["transcripts"] != after["transcripts"]
