"""Invented videos as series: noise, with a stretch in it that carries the signal, or none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.items import Items, make_items
from iss_assets.modeling.series import Series, starts_of

LEVELS = ("None", "Low", "Moderate", "Severe")
COLUMNS = 8


@dataclass(frozen=True)
class PlantedVideos:
    """Videos, and for each of their instances whether it lies in the planted stretch."""

    items: Items
    planted: np.ndarray


def planted_videos(
    experiment: Experiment, *, patients: int = 24, each: int = 3, effect: float = 4.0, seed: int = 0
) -> PlantedVideos:
    """Make videos of 20 to 40 instances; a stretch of five at a random place goes up with the level.

    Every video has the stretch, which stands out in another column whatever the level, so that it can be found; with an effect
    of 0 it says nothing. Patients take turns in the four levels.
    """
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), each)
    lengths = rng.integers(20, 41, len(owner))
    values = rng.normal(size=(lengths.sum(), COLUMNS)).astype(np.float32)
    planted = np.zeros(len(values), bool)
    for first, length, patient in zip(starts_of(lengths), lengths, owner, strict=False):
        begin = first + rng.integers(0, length - 5)
        planted[begin : begin + 5] = True
        if effect:
            values[begin : begin + 5, 0] += effect * (patient % 4 - 1.5)
            values[begin : begin + 5, 1] += 4
    number = np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)
    items = make_items(
        experiment,
        patient_id=[f"{p:04d}" for p in owner],
        video_id=[f"v{v}" for v in range(len(owner))],
        level=[LEVELS[p % 4] for p in owner],
        inputs={},
        series={experiment.inputs[0]: Series(values, number, starts_of(lengths))},
    )
    return PlantedVideos(items, planted)
