"""The names of partitions: patients, and an experiment with its split."""

from __future__ import annotations

from iss_assets.settings import Settings

PATIENTS = "patients"
"""Name of the partitions by patient."""


def most_splits(settings: Settings) -> int:
    """Return how many splits the UI offers: the paper's ten, or more where `ISS_TRAINING__FOLDS` asks for them.

    With fewer, the rest stay empty.
    """
    return max(10, settings.training.folds)


def fold_key(experiment: str, split: int) -> str:
    """Return the partition key of one experiment and split."""
    return f"{experiment}|{split:02d}"
