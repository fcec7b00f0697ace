"""Cross-validate forests in memory on given levels and splits, without storing models, for permutation tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.fitting import columns_of
from iss_assets.modeling.forests import TREES, grow_forest
from iss_assets.modeling.items import Items, class_weights, evenly_spaced, fit_preparation, make_items
from iss_assets.settings import TrainingSettings


def subsample(items: Items, limit: int) -> Items:
    """Select at most `limit` items, evenly spaced and with an equal share for each patient."""
    if len(items) <= limit:
        return items
    each = max(1, limit // len(items.patients))
    owned = [np.flatnonzero(items.patient_id == patient) for patient in items.patients]
    return items.take(np.sort(np.concatenate([own[evenly_spaced(len(own), each)] for own in owned])))


def relabel(experiment: Experiment, items: Items, levels: Mapping[str, str]) -> Items:
    """Return the same items with other pain levels for their patients."""
    level = [
        levels.get(patient, own)
        for patient, own in zip(items.patient_id.tolist(), items.level.tolist(), strict=True)
    ]
    relabeled = make_items(
        experiment, items.patient_id, items.video_id, level, items.inputs, weight=items.weight
    )
    return replace(relabeled, frame_index=items.frame_index, chunk_index=items.chunk_index)


def cross_validate(
    experiment: Experiment,
    items: Items,
    splits: Mapping[str, int],
    settings: TrainingSettings,
    trees: int = TREES,
) -> pa.Table:
    """Grow a forest on the training side of every split and predict the patients left out.

    Parameters
    ----------
    experiment : Experiment
        An experiment whose model is a forest.
    items : Items
        All items; those of patients without a split are ignored.
    splits : mapping of patient id to split
        The split in which each patient is tested.
    settings : TrainingSettings
        Seed, class weights.
    trees : int
        Number of trees of each forest.

    Returns
    -------
    pyarrow.Table
        ``patient_id``, ``predicted``, ``pain_probability`` and ``weight`` of every item. With `TREES` trees, the
        predictions equal those of `fit_fold` and `predict_fold`.

    Raises
    ------
    ValueError
        If the model of the experiment is not a forest, or if a training side has no items.
    """
    if experiment.model != "forest":
        raise ValueError(f"{experiment.name} is not a forest: training it repeatedly would take too long")
    items = items.of(list(splits))
    place = np.array([splits[patient] for patient in items.patient_id.tolist()])
    names = np.asarray(experiment.class_names)
    parts = []
    for split in sorted(set(place.tolist())):
        train, test = items.take(place != split), items.take(place == split)
        preparation = fit_preparation(train, scaled=False)
        weight = train.weight
        if settings.class_weights:
            weight = weight * class_weights(train.target, weight, experiment.classes)[train.target]
        forest = grow_forest(
            columns_of(experiment, preparation, train),
            train.target,
            weight,
            experiment.classes,
            settings.seed,
            trees,
        )
        probabilities = forest.probabilities(columns_of(experiment, preparation, test))
        parts.append(
            pa.table(
                {
                    "patient_id": test.patient_id,
                    "predicted": names[probabilities.argmax(axis=1)],
                    "pain_probability": 1 - probabilities[:, 0],
                    "weight": test.weight,
                }
            )
        )
    return pa.concat_tables(parts)
