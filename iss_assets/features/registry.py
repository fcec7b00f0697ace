"""All features, in the order in which they run."""

from __future__ import annotations

from iss_assets.features.stages import FeatureStage
from iss_assets.settings import Settings

FEATURES: tuple[FeatureStage, ...] = ()
"""Every feature; a feature reads only tables of extraction and of features before it."""


def enabled_features(settings: Settings) -> tuple[FeatureStage, ...]:
    """Return the features that the settings have on."""
    return tuple(feature for feature in FEATURES if feature.enabled(settings))


def feature_named(name: str) -> FeatureStage:
    """Return a feature by its name."""
    return next(feature for feature in FEATURES if feature.name == name)
