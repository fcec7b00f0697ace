"""All features, in the order in which they run."""

from __future__ import annotations

from iss_assets.features.stages import FeatureStage
from iss_assets.schemas.audio import Audio
from iss_assets.schemas.behavior import FaceBehavior, FaceBehaviorSummary
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.schemas.voice import VoiceFeatures
from iss_assets.settings import Settings

FEATURES: tuple[FeatureStage, ...] = (
    FeatureStage(
        name="voice",
        tables=(VoiceFeatures,),
        sources=(Audio,),
        code_version="1",
        measure="iss_assets.features.voice:measure_video",
        description="Silero's voice-activity detector for pauses, afx-audio for pitch and loudness; over speech only. "
        "Formulas and sources: docs/voice.md.",
    ),
    FeatureStage(
        name="behavior",
        tables=(FaceBehavior, FaceBehaviorSummary),
        sources=(Frames, Faces, Landmarks),
        code_version="1",
        measure="iss_assets.features.behavior:measure_video",
        description="Head pose, blinks, mouth, brows, and motion of the head, from the stored meshes: geometric proxies, "
        "explained in docs/face_behavior.md.",
        kinds=frozenset({"python", "numpy", "duckdb"}),
    ),
)
"""Every feature; a feature reads only tables of extraction and of features before it."""


def enabled_features(settings: Settings) -> tuple[FeatureStage, ...]:
    """Return the features that the settings have on."""
    return tuple(feature for feature in FEATURES if feature.enabled(settings))


def feature_named(name: str) -> FeatureStage:
    """Return a feature by its name."""
    return next(feature for feature in FEATURES if feature.name == name)
