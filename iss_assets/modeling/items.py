"""Items (frames, chunks, submissions) as arrays, and the preprocessing fitted on the training side.

``datasets.items`` loads them from the warehouse; ``pictures`` stores their pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.pictures import EncodedFaces, SharedPictures
from iss_assets.modeling.series import Series, scale_of_series
from iss_assets.protocol import terms
from iss_assets.schemas.behavior import (
    BEHAVIOR_MEASURES,
    BEHAVIOR_SERIES,
    FaceBehavior,
    FaceBehaviorSummary,
)
from iss_assets.schemas.modeling import Embeddings
from iss_assets.schemas.visual import Landmarks
from iss_assets.schemas.voice import VOICE_FEATURES, VoiceFeatures
from iss_assets.schemas.words import TEXT_MEASURES, TextFeatures

SCORE_COLUMNS: Final = (
    *terms.SCORES,
    "sex_female",
    "skin_dark",
    *(f"timeframe_{name.replace(' ', '_').lower()}" for name in terms.TIMEFRAMES),
)
"""The 15 columns of the input ``scores``: nine answers (0 to 10; yes/no as 1/0; NaN if missing), then sex, skin group
and timeframe as 0/1 (paper, section 4, Experiments 2 and 3)."""

ANSWERS: Final = len(terms.SCORES)
"""Number of leading `SCORE_COLUMNS` that can be missing; the others never are."""

MEASURES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "voice": (VoiceFeatures.__table__, VOICE_FEATURES),
        "behavior": (FaceBehaviorSummary.__table__, BEHAVIOR_MEASURES),
        "text": (TextFeatures.__table__, TEXT_MEASURES),
    }
)
"""The inputs that are measures of a whole video, each with its table and columns. A measure can be missing (NaN)."""

SERIES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "embedding_series": (Embeddings.__table__, ("embedding",)),
        "mesh_series": (Landmarks.__table__, ("points",)),
        "behavior_series": (FaceBehavior.__table__, BEHAVIOR_SERIES),
    }
)
"""The inputs that are series over the time of a video, each with its table and columns."""

MEL_FLOOR_DB: Final = -80.0
"""Lowest value of a spectrogram in dB relative to its maximum (``power_to_db`` of librosa with ``top_db=80``)."""


InputArray = np.ndarray | EncodedFaces | SharedPictures


@dataclass(frozen=True)
class Items:
    """Items of one experiment in a fixed order. Every array has n rows.

    Attributes
    ----------
    patient_id, video_id : ndarray of str, (n,)
        Patient, and video or submission.
    frame_index, chunk_index : ndarray of int32, (n,)
        -1 if the item is not a frame, or not a chunk.
    level : ndarray of str, (n,)
        The patient's pain level.
    target : ndarray of int64, (n,)
        Index into the experiment's ``class_names``.
    weight : ndarray of float64, (n,)
        Number of frames for a submission; 1 for frames, chunks, and videos.
    inputs : dict
        By name: ``faces`` uint8 (n, side, side, 3) RGB; ``landmarks`` float32 (n, 1404), 468 points x, y, z;
        ``scores`` float32 (n, 15), see `SCORE_COLUMNS`; ``mel`` float32 (n, 128, 173) in dB; ``audio_features``
        float32 (n, 25); ``embeddings`` float32 (n, width of the network); ``voice`` and others float32, see `MEASURES`.
    series : dict of Series
        By name: ``mesh_series`` and others of an experiment on whole videos, see `SERIES`; all of the same instances.
    """

    patient_id: np.ndarray
    video_id: np.ndarray
    frame_index: np.ndarray
    chunk_index: np.ndarray
    level: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    inputs: dict[str, InputArray]
    series: dict[str, Series] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {name: getattr(self, name) for name in _COLUMNS} | self.inputs | self.series
        for name, column in columns.items():
            if len(column) != len(self.target):
                raise ValueError(f"{name} has {len(column)} rows and target has {len(self.target)}")

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index: np.ndarray) -> Items:
        """Select items with a boolean mask, or with indices in the desired order."""
        indices = np.flatnonzero(index) if index.dtype == bool else index
        return Items(
            **{name: getattr(self, name)[indices] for name in _COLUMNS},
            inputs={
                name: values[indices] if isinstance(values, np.ndarray) else values.select(indices)
                for name, values in self.inputs.items()
            },
            series={name: series.select(indices) for name, series in self.series.items()},
        )

    def of(self, patients: Sequence[str]) -> Items:
        """Select the items of some patients without changing the order."""
        return self.take(np.isin(self.patient_id, np.asarray(patients, dtype=str)))

    def instances_per_video(self) -> np.ndarray:
        """Return the number of instances of each video of an experiment on series, int64 (n,)."""
        return next(iter(self.series.values())).lengths

    @property
    def patients(self) -> list[str]:
        """Sorted patient ids."""
        return sorted(set(self.patient_id.tolist()))


_COLUMNS: Final = ("patient_id", "video_id", "frame_index", "chunk_index", "level", "target", "weight")


def make_items(
    experiment: Experiment,
    patient_id: Sequence[str] | np.ndarray,
    video_id: Sequence[str] | np.ndarray,
    level: Sequence[str] | np.ndarray,
    inputs: dict[str, InputArray],
    frame_index: np.ndarray | None = None,
    chunk_index: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    series: dict[str, Series] | None = None,
) -> Items:
    """Create the items of an experiment from arrays; targets are derived from the pain levels.

    Raises
    ------
    ValueError
        If an input of the experiment is missing, or if lengths differ.
    """
    series = series or {}
    for name in experiment.inputs:
        if name not in inputs and name not in series:
            raise ValueError(f"experiment {experiment.name} needs the input {name}")
    level = np.asarray(level, dtype=str)
    n = len(level)
    names, place = np.unique(level, return_inverse=True)
    classes = [experiment.class_names.index(experiment.target(name)) for name in names.tolist()]
    return Items(
        patient_id=np.asarray(patient_id, dtype=str),
        video_id=np.asarray(video_id, dtype=str),
        frame_index=np.full(n, -1, np.int32) if frame_index is None else frame_index.astype(np.int32),
        chunk_index=np.full(n, -1, np.int32) if chunk_index is None else chunk_index.astype(np.int32),
        level=level,
        target=np.asarray(classes, np.int64)[place] if n else np.zeros(0, np.int64),
        weight=np.ones(n) if weight is None else weight.astype(np.float64),
        inputs={name: inputs[name] for name in experiment.inputs if name in inputs},
        series={name: series[name] for name in experiment.inputs if name in series},
    )


def evenly_spaced(n: int, limit: int | None) -> np.ndarray:
    """Return at most `limit` evenly spaced indices of n, always the same ones.

    Examples
    --------
    >>> evenly_spaced(10, 3).tolist()
    [1, 5, 8]
    """
    if limit is None or n <= limit:
        return np.arange(n)
    return ((np.arange(limit) + 0.5) * n / limit).astype(np.int64)


@dataclass(frozen=True)
class Preparation:
    """Preprocessing fitted on the training side: medians of the answers, and scales.

    Attributes
    ----------
    medians : ndarray of float32, (9,), or empty
        Weighted median of each answer over the training items; replaces missing answers.
    centre, scale : dict of ndarray of float32
        Mean and standard deviation of ``scores``, ``audio_features``, ``embeddings`` and each of the `SERIES`, by input. Forests get unscaled
        values because they only compare them. Landmarks stay raw (paper, Experiment 4: "raw landmarks"), and
        spectrograms have a fixed scale.
    typical : dict of ndarray of float32
        Median of each of the `MEASURES` over the training items, by input; replaces missing ones.
    """

    medians: np.ndarray
    centre: dict[str, np.ndarray]
    scale: dict[str, np.ndarray]
    typical: dict[str, np.ndarray] = field(default_factory=dict)

    def vectors(self, items: Items) -> dict[str, np.ndarray]:
        """Return the inputs that are numbers as float32, ready for a model.

        ``scores`` and each of the `MEASURES` get one more column that is 1 if any value was imputed.
        """
        ready: dict[str, np.ndarray] = {}
        for name, values in items.inputs.items():
            if name in ("faces", "mel"):
                continue
            vector = np.asarray(values, np.float32)
            if name == "scores":
                vector = _imputed(vector, np.pad(self.medians, (0, vector.shape[1] - ANSWERS)))
            elif name in MEASURES:
                vector = _imputed(vector, self.typical[name])
            if name in self.centre:
                vector = (vector - self.centre[name]) / self.scale[name]
            ready[name] = vector
        return ready

    def instances(self, items: Items) -> np.ndarray:
        """Return the instances of all videos, one video after the other, as float32 (rows, columns), ready for a network.

        The series of an experiment stand side by side. What was not measured gets the mean of the training side, and one
        more column per series is 1 where anything was not.
        """
        ready = []
        for name, series in items.series.items():
            scaled = (series.values - self.centre[name]) / self.scale[name]
            ready.append(_imputed(scaled, np.zeros(scaled.shape[1], np.float32)))
        return np.concatenate(ready, axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, for the model file."""
        flat = {"prepare.medians": self.medians}
        for name in self.centre:
            flat[f"prepare.centre.{name}"] = self.centre[name]
            flat[f"prepare.scale.{name}"] = self.scale[name]
        return flat | {f"prepare.typical.{name}": values for name, values in self.typical.items()}

    @classmethod
    def from_arrays(cls, flat: dict[str, np.ndarray]) -> Preparation:
        """Create a preparation from the result of `arrays`."""
        centre, scale, typical = (
            {n.removeprefix(prefix): array for n, array in flat.items() if n.startswith(prefix)}
            for prefix in ("prepare.centre.", "prepare.scale.", "prepare.typical.")
        )
        return cls(flat["prepare.medians"], centre, scale, typical)


def fit_preparation(train: Items, scaled: bool) -> Preparation:
    """Fit medians and scales on the training side only.

    Parameters
    ----------
    train : Items
        The training side of a split.
    scaled : bool
        Whether the model needs scaled vectors (networks and the linear probe do, forests do not).

    Notes
    -----
    What is missing for all training patients is replaced by 0 (for an answer "no pain", "does not interfere"); the flag
    marks it as imputed. A constant column keeps the scale 1.
    """
    medians = np.zeros(0, np.float32)
    if "scores" in train.inputs:
        answers = np.asarray(train.inputs["scores"])[:, :ANSWERS]
        medians = np.array([_weighted_median(column, train.weight) for column in answers.T], np.float32)
    typical = {
        name: np.array(
            [_weighted_median(column, train.weight) for column in np.asarray(values).T], np.float32
        )
        for name, values in train.inputs.items()
        if name in MEASURES
    }
    fitted = Preparation(medians, {}, {}, typical)
    if not scaled:
        return fitted
    centre: dict[str, np.ndarray] = {}
    scale: dict[str, np.ndarray] = {}
    for name in ("scores", "audio_features", "embeddings"):
        if name in train.inputs:
            values = fitted.vectors(train)[name].astype(np.float64)
            deviation = values.std(axis=0)
            centre[name] = values.mean(axis=0).astype(np.float32)
            scale[name] = np.where(deviation > 1e-6, deviation, 1.0).astype(np.float32)
    for name, series in train.series.items():
        centre[name], scale[name] = scale_of_series(series, train.patient_id)
    return Preparation(medians, centre, scale, typical)


def class_weights(target: np.ndarray, weight: np.ndarray, classes: int) -> np.ndarray:
    """Compute class weights inversely proportional to class frequency.

    The weight of a class is n / (number of classes present x n of the class), and 0 for an absent class. This is
    ``class_weight="balanced"`` of scikit-learn (King and Zeng, Political Analysis 9, 2001).

    Parameters
    ----------
    target, weight : ndarray, (n,)
        Classes and weights of the training items.
    classes : int
        Number of classes of the experiment.

    Returns
    -------
    ndarray of float64, (classes,)
    """
    mass = np.bincount(target, weights=weight, minlength=classes)
    present = mass > 0
    return np.divide(mass.sum(), present.sum() * mass, out=np.zeros(classes), where=present)


def _imputed(values: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """Replace missing values by the typical ones, and add a column that is 1 where any was missing."""
    missing = np.isnan(values)
    return np.column_stack([np.where(missing, typical, values), missing.any(axis=1)]).astype(np.float32)


def _weighted_median(column: np.ndarray, weight: np.ndarray) -> float:
    known = ~np.isnan(column)
    if not known.any():
        return 0.0
    order = np.argsort(column[known], kind="stable")
    values, mass = column[known][order], np.cumsum(weight[known][order])
    return float(values[np.searchsorted(mass, mass[-1] / 2)])
