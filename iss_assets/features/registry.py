"""All features, in the order in which they run."""

from __future__ import annotations

from iss_assets.features.identity_inputs import identity_inputs
from iss_assets.features.stages import FeatureStage
from iss_assets.features.words.availability import SPEECH
from iss_assets.features.words.model_files import model_hashes
from iss_assets.schemas.audio import Audio
from iss_assets.schemas.behavior import FaceBehavior, FaceBehaviorSummary
from iss_assets.schemas.identity import FaceIdentity
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.schemas.voice import VoiceFeatures
from iss_assets.schemas.words import TextFeatures, Transcripts, TranscriptSpans, TranscriptWords
from iss_assets.settings import Settings

FEATURES: tuple[FeatureStage, ...] = (
    FeatureStage(
        name="identity",
        tables=(FaceIdentity,),
        sources=(Frames, Faces, Landmarks),
        code_version="2",
        measure="iss_assets.features.identity:measure_video",
        description="Is it the same person? A few faces at a time, as vectors that the flag `other_person` and the study's "
        "check for one face under two patients compare. Nobody is identified.",
        kinds=frozenset({"opencv", "duckdb"}),
        models=identity_inputs,
    ),
    FeatureStage(
        name="voice",
        tables=(VoiceFeatures,),
        sources=(Audio,),
        code_version="2",
        measure="iss_assets.features.voice:measure_video",
        description="Silero's voice-activity detector for pauses, afx-audio for pitch and loudness; over speech only. "
        "Formulas and sources: docs/voice.md.",
    ),
    FeatureStage(
        name="behavior",
        tables=(FaceBehavior, FaceBehaviorSummary),
        sources=(Frames, Faces, Landmarks),
        code_version="2",
        measure="iss_assets.features.behavior:measure_video",
        description="Head pose, blinks, mouth, brows, and motion of the head, from the stored meshes: geometric proxies, "
        "explained in docs/face_behavior.md.",
        kinds=frozenset({"python", "numpy", "duckdb"}),
    ),
    FeatureStage(
        name="words",
        tables=(Transcripts, TranscriptWords, TranscriptSpans, TextFeatures),
        sources=(Audio,),
        code_version="4",
        measure="iss_assets.features.words.measure:measure_video",
        description="Whisper on the stored sound, in this process: nothing is sent anywhere. What is said is the most private "
        "data of all; no page, log or alert shows it.",
        models=model_hashes,
        extra=SPEECH,
    ),
)
"""Every feature; a feature reads only tables of extraction and of features before it."""


def enabled_features(settings: Settings) -> tuple[FeatureStage, ...]:
    """Return the features that the settings have on."""
    return tuple(feature for feature in FEATURES if feature.enabled(settings))


def features_without_packages(settings: Settings) -> tuple[FeatureStage, ...]:
    """Return the features that the settings have on and that are off, because packages that they need are missing."""
    return tuple(feature for feature in FEATURES if feature.wanted(settings) and feature.missing_packages())


def missing_package_notes(settings: Settings) -> list[str]:
    """Return one sentence for each feature that is off without the settings saying so: why, and what can be done."""
    notes = []
    for feature in features_without_packages(settings):
        assert feature.extra is not None
        notes.append(
            f"{feature.extra.without[:1].upper()}{feature.extra.without[1:]}: {', '.join(feature.missing_packages())} not "
            f"installed. Install with {feature.extra.remedy}, or switch it off: ISS_{feature.name.upper()}__ENABLED=false"
        )
    return notes


def is_on(name: str, settings: Settings) -> bool:
    """Return whether the section with this name is on and, if it is a feature's, the packages are there."""
    of_feature = next((feature for feature in FEATURES if feature.name == name), None)
    return of_feature.enabled(settings) if of_feature else bool(getattr(settings, name).enabled)


def feature_named(name: str) -> FeatureStage:
    """Return a feature by its name."""
    return next(feature for feature in FEATURES if feature.name == name)
