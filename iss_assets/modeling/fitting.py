"""One fold of any experiment: fit on the training side, predict the patients left out.

Belongs here: the two calls that assets and notebooks make, the same for every experiment, and the model's file.
Does not belong here: how each kind of model learns (``forests``, ``probe``, ``training``).

A model's file is ``model.safetensors``: numbers only, safe to open, with what the preparation learnt on the training
side inside, so that predicting needs nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa

from iss_assets.modeling.computed import Computed, by_scikit_learn
from iss_assets.modeling.experiments import Experiment
from iss_assets.modeling.files import read_arrays, write_arrays
from iss_assets.modeling.forests import Forest, grow_forest
from iss_assets.modeling.items import Items, Preparation, class_weights, fit_preparation
from iss_assets.modeling.weights import wanted_origin
from iss_assets.settings import TrainingSettings

MODEL_FILE: Final = "model.safetensors"

PREDICTIONS: Final = pa.schema(
    [
        ("experiment", pa.string()),
        ("patient_id", pa.string()),
        ("video_id", pa.string()),
        ("frame_index", pa.int32()),
        ("chunk_index", pa.int32()),
        ("target", pa.string()),
        ("predicted", pa.string()),
        ("probability", pa.float64()),
        ("pain_probability", pa.float64()),
        ("weight", pa.float64()),
    ]
)
"""``frame_predictions`` without ``split``, which the caller knows."""


@dataclass(frozen=True)
class FittedFold:
    """A trained model and what ``fold_models`` wants to know of it.

    Attributes
    ----------
    weights : Path
        The model's file.
    weights_origin : str
        ``imagenet``, ``file``, ``random``, or ``none`` where no network is in it. A probe's is its embeddings'.
    history : list of dict
        One entry an epoch: ``epoch``, ``loss``, ``accuracy`` (on the training side, while learning), ``seconds``.
        A single entry for models without epochs.
    train_items : int
        Items learnt from.
    train_patients : list of str
        Whose they are.
    settings : str
        The settings as JSON, file names without their folders.
    profile, seed, code_version
        As in ``fold_models``.
    computed : Computed
        What it was computed with.
    seconds : float
        Time that fitting took.
    """

    weights: Path
    weights_origin: str
    history: list[dict[str, float]]
    train_items: int
    train_patients: list[str]
    settings: str
    profile: str
    seed: int
    code_version: str
    computed: Computed
    seconds: float


def fit_fold(
    experiment: Experiment,
    train: Items,
    settings: TrainingSettings,
    out_dir: Path,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> FittedFold:
    """Fit an experiment's model on the training side of a split.

    Parameters
    ----------
    experiment : Experiment
        What to learn.
    train : Items
        The training side; the caller vouches that no test patient is in it.
    settings : TrainingSettings
        Epochs, seed, first weights, device, ...
    out_dir : Path
        Folder of this fold; gets ``model.safetensors``. Networks also keep ``checkpoint.safetensors`` there while
        they learn: a training that was killed goes on from its last epoch when it is called again with the same
        items and settings.
    progress : callable, optional
        Called with each epoch's entry of the history.

    Returns
    -------
    FittedFold

    Raises
    ------
    ValueError
        Without items to learn from.
    iss_assets.modeling.weights.WeightsUnavailable
        If pretrained weights are wanted and can be had neither from a file nor from the hub.
    """
    job = partial(fitting_steps, experiment, train, settings, out_dir, progress)
    ((_, fitted),) = folds_side_by_side(experiment, [job], settings)
    return fitted


def fitting_steps(
    experiment: Experiment,
    train: Items,
    settings: TrainingSettings,
    out_dir: Path,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> Generator[int, None, FittedFold]:
    """Do what `fit_fold` does, stopping after each step of a network, for `folds_side_by_side`."""
    if len(train) == 0:
        raise ValueError(
            f"{experiment.name}: the training side has no items; see what was left out and why, "
            "or start without this experiment"
        )
    started = time.perf_counter()
    out_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    preparation = fit_preparation(train, scaled=experiment.model != "forest")
    classes = experiment.classes
    per_class = (
        class_weights(train.target, train.weight, classes) if settings.class_weights else np.ones(classes)
    )
    origin = "none"
    if experiment.model == "forest":
        x, weight = columns_of(experiment, preparation, train), train.weight * per_class[train.target]
        forest = grow_forest(x, train.target, weight, classes, settings.seed)
        arrays, used = forest.arrays(), by_scikit_learn(experiment.model)
        history = [_summary(forest.probabilities(x), train)]
    elif experiment.model == "linear_probe":
        from iss_assets.modeling.probe import fit_probe

        x, weight = columns_of(experiment, preparation, train), train.weight * per_class[train.target]
        probe = fit_probe(x, train.target, weight, classes)
        arrays, used = probe.arrays(), by_scikit_learn(experiment.model)
        origin = wanted_origin(settings)  # of the backbone that made the embeddings
        history = [_summary(probe.probabilities(x), train)]
    else:
        from iss_assets.modeling.computing import choose_device
        from iss_assets.modeling.training import training_steps

        trained = yield from training_steps(
            experiment, train, preparation, per_class, settings, choose_device(settings), out_dir, progress
        )
        arrays, history, origin, used = trained.arrays, trained.history, trained.origin, trained.computed
    if not experiment.is_network and progress is not None:
        progress(history[0])
    text = settings_text(settings)
    described = {
        "experiment": experiment.name,
        "code_version": experiment.code_version,
        "weights_origin": origin,
        # what it was computed beside is no part of a model: the file is the same with one fold at once or five
        "settings": json.dumps(experiment.settings_read(settings), sort_keys=True),
    }
    write_arrays(out_dir / MODEL_FILE, arrays | preparation.arrays(), described)
    return FittedFold(
        weights=out_dir / MODEL_FILE,
        weights_origin=origin,
        history=history,
        train_items=len(train),
        train_patients=train.patients,
        settings=text,
        profile=settings.profile,
        seed=settings.seed,
        code_version=experiment.code_version,
        computed=used,
        seconds=time.perf_counter() - started,
    )


def predict_fold(
    experiment: Experiment, weights: Path | FittedFold, test: Items, settings: TrainingSettings
) -> pa.Table:
    """Predict test items with a fold's model.

    The paper evaluates with a batch size of one. A network in evaluation mode treats every item by itself (batch
    normalisation uses the averages learnt in training), so predicting in batches gives the same answers faster.

    Parameters
    ----------
    experiment : Experiment
        What the model was fitted for.
    weights : Path or FittedFold
        The model's file.
    test : Items
        Items of patients that the model has not seen; possibly none.
    settings : TrainingSettings
        Device and batch size.

    Returns
    -------
    pyarrow.Table
        In the shape of `PREDICTIONS`, in the order of `test`.

    Raises
    ------
    ValueError
        If the file belongs to another experiment or another version of the code.
    """
    file = weights.weights if isinstance(weights, FittedFold) else weights
    arrays, described = read_arrays(file)
    if described.get("experiment") != experiment.name:
        raise ValueError(
            f"{file.name} holds a model of {described.get('experiment')}, not of {experiment.name}"
        )
    if described.get("code_version") != experiment.code_version:
        raise ValueError(
            f"{file.name} was made by another version of the training code: train this fold again"
        )
    if len(test) == 0:
        return PREDICTIONS.empty_table()
    preparation = Preparation.from_arrays(arrays)
    if experiment.model == "forest":
        probabilities = Forest.from_arrays(arrays).probabilities(columns_of(experiment, preparation, test))
    elif experiment.model == "linear_probe":
        from iss_assets.modeling.probe import Probe

        probabilities = Probe.from_arrays(arrays).probabilities(columns_of(experiment, preparation, test))
    else:
        from iss_assets.modeling.computing import choose_device
        from iss_assets.modeling.training import predict_network

        trained_with = TrainingSettings.model_validate(json.loads(described["settings"]))
        probabilities = predict_network(
            experiment, arrays, preparation, test, trained_with, choose_device(settings)
        )
    return prediction_table(experiment, test, probabilities)


Work = TypeVar("Work")


def folds_side_by_side(
    experiment: Experiment,
    jobs: Sequence[Callable[[], Generator[int, None, Work]]],
    settings: TrainingSettings,
) -> Generator[tuple[int, Work], None, None]:
    """Do the jobs of an experiment's folds; those of networks several at once on a GPU.

    Parameters
    ----------
    experiment : Experiment
        Forests take all cores by themselves and are grown one after another.
    jobs : sequence of callables
        Each begins work that goes on step by step, as `fitting_steps` does.
    settings : TrainingSettings
        ``folds_at_once`` and device.

    Yields
    ------
    tuple
        Number of the job and its result, as each is done.
    """
    if not experiment.is_network:
        for number, job in enumerate(jobs):
            yield number, _exhaust(job())
        return
    from iss_assets.modeling.computing import choose_device
    from iss_assets.modeling.lanes import side_by_side

    yield from side_by_side(jobs, settings.folds_at_once, choose_device(settings))


def _exhaust(steps: Generator[Any, None, Work]) -> Work:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Work = done.value
            return result


def prediction_table(experiment: Experiment, test: Items, probabilities: np.ndarray) -> pa.Table:
    """Put probabilities, (n, classes), beside the items that they belong to; see `PREDICTIONS`."""
    predicted = probabilities.argmax(axis=1)
    names = np.asarray(experiment.class_names)
    columns = {
        "experiment": pa.repeat(experiment.name, len(test)),
        "patient_id": test.patient_id,
        "video_id": test.video_id,
        "frame_index": pa.array(test.frame_index, mask=test.frame_index < 0),
        "chunk_index": pa.array(test.chunk_index, mask=test.chunk_index < 0),
        "target": names[test.target],
        "predicted": names[predicted],
        "probability": probabilities.max(axis=1).clip(0, 1),
        "pain_probability": (1 - probabilities[:, 0]).clip(0, 1),
        "weight": test.weight,
    }
    return pa.table(columns).cast(PREDICTIONS)


def settings_text(settings: TrainingSettings) -> str:
    """Give the settings as JSON, files by name only: where they lie on this machine is nobody's business."""
    values = settings.model_dump(mode="json")
    for name in ("split_file", "resnet50_weights"):
        path = getattr(settings, name)
        values[name] = path.name if path is not None else None
    return json.dumps(values, sort_keys=True)


def columns_of(experiment: Experiment, preparation: Preparation, items: Items) -> np.ndarray:
    """Put an experiment's vectors side by side, as forests and the probe see them: (n, columns)."""
    vectors = preparation.vectors(items)
    return np.concatenate([vectors[name] for name in experiment.inputs], axis=1)


def _summary(probabilities: np.ndarray, train: Items) -> dict[str, float]:
    chosen = probabilities[np.arange(len(train)), train.target].clip(1e-12, 1)
    right = probabilities.argmax(axis=1) == train.target
    return {
        "epoch": 1,
        "loss": float(np.average(-np.log(chosen), weights=train.weight)),
        "accuracy": float(np.average(right, weights=train.weight)),
    }
