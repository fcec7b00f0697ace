"""Fit one fold of any experiment on the training side of a split, and predict the patients left out.

Assets and notebooks call `fit_fold` and `predict_fold` for every kind of model (``forests``, ``probe``, ``training``).
The model file ``model.safetensors`` holds only numbers and is safe to open. It includes the preprocessing fitted on the
training side, so prediction needs nothing else.
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
from iss_assets.modeling.probe import Probe, fit_probe
from iss_assets.modeling.weights import embedding_origin
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
"""Columns of ``frame_predictions`` without ``split``, which the caller adds."""


ATTENTION: Final = pa.schema(
    [
        ("experiment", pa.string()),
        ("patient_id", pa.string()),
        ("video_id", pa.string()),
        ("instance", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("attention", pa.float64()),
    ]
)
"""Columns of ``video_attention`` without ``split`` and ``fingerprint``, which the caller adds."""


@dataclass(frozen=True)
class FittedFold:
    """A trained model and its row in ``fold_models``.

    Attributes
    ----------
    weights : Path
        Path of the model file.
    weights_origin : str
        ``imagenet``, ``file``, ``random``, or ``none`` without a network. For a probe, the origin of its embeddings.
    history : list of dict
        One entry per epoch: ``epoch``, ``loss``, ``accuracy`` (on the training side, during training), ``seconds``.
        Models without epochs have a single entry.
    train_items : int
        Number of training items.
    train_patients : list of str
        The patients whose items these are.
    settings : str
        The settings as JSON, file names without their folders.
    profile, seed, code_version
        As in ``fold_models``.
    computed : Computed
        Device, precision and library.
    seconds : float
        Duration of the fit.
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
        The experiment.
    train : Items
        The training side; the caller guarantees that it contains no test patient.
    settings : TrainingSettings
        Epochs, seed, initial weights, device, ...
    out_dir : Path
        Folder of this fold, where ``model.safetensors`` is written. Networks also write ``checkpoint.safetensors``
        there during training: an interrupted run resumes after its last saved epoch when it is called again with the
        same items and settings.
    progress : callable, optional
        Called with the history entry of each epoch.

    Returns
    -------
    FittedFold

    Raises
    ------
    ValueError
        If there are no training items.
    iss_assets.modeling.weights.WeightsUnavailable
        If pretrained weights are required and neither a file nor the hub provides them.
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
    """Fit a fold like `fit_fold`, but yield after each training step, for `folds_side_by_side`."""
    if len(train) == 0:
        raise ValueError(
            f"{experiment.name}: the training side has no items; check which items were excluded and why, "
            "or run without this experiment"
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
        x, weight = columns_of(experiment, preparation, train), train.weight * per_class[train.target]
        probe = fit_probe(x, train.target, weight, classes)
        arrays, used = probe.arrays(), by_scikit_learn(experiment.model)
        origin = embedding_origin(settings)
        history = [_summary(probe.probabilities(x), train)]
    elif experiment.has_attention:
        from iss_assets.modeling.attention_training import attention_steps

        trained = yield from attention_steps(experiment, train, preparation, settings, progress)
        arrays, history, used = trained.arrays, trained.history, trained.computed
        origin = embedding_origin(settings) if experiment.uses_embeddings else "none"
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
        # only settings that affect the model, so that the file does not depend on the number of concurrent folds
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
    """Predict test items with the model of a fold.

    The paper evaluates with a batch size of one. In evaluation mode a network treats every item independently (batch
    normalization uses the averages from training), so larger batches give the same predictions faster.

    Parameters
    ----------
    experiment : Experiment
        The experiment that the model was fitted for.
    weights : Path or FittedFold
        The model file.
    test : Items
        Items of patients who were not in the training side; may be empty.
    settings : TrainingSettings
        Device and batch size.

    Returns
    -------
    pyarrow.Table
        Columns of `PREDICTIONS`, rows in the order of `test`.

    Raises
    ------
    ValueError
        If the file belongs to another experiment or was written by another version of the code.
    """
    return prediction_table(experiment, test, fold_probabilities(experiment, weights, test, settings))


def fold_probabilities(
    experiment: Experiment, weights: Path | FittedFold, test: Items, settings: TrainingSettings
) -> np.ndarray:
    """Return the class probabilities of test items, (n, classes), from the model of a fold; see `predict_fold`."""
    arrays, described = _read_model(experiment, weights)
    if len(test) == 0:
        return np.zeros((0, experiment.classes))
    preparation = Preparation.from_arrays(arrays)
    if experiment.model == "forest":
        return Forest.from_arrays(arrays).probabilities(columns_of(experiment, preparation, test))
    if experiment.model == "linear_probe":
        return Probe.from_arrays(arrays).probabilities(columns_of(experiment, preparation, test))
    if experiment.has_attention:
        from iss_assets.modeling.attention_training import predict_attention

        probabilities, _ = predict_attention(experiment, arrays, preparation, test)
        return probabilities
    from iss_assets.modeling.computing import choose_device
    from iss_assets.modeling.training import predict_network

    trained_with = TrainingSettings.model_validate(json.loads(described["settings"]))
    return predict_network(experiment, arrays, preparation, test, trained_with, choose_device(settings))


def attention_of_fold(
    experiment: Experiment, weights: Path | FittedFold, test: Items, settings: TrainingSettings
) -> pa.Table:
    """Return where in each test video the model of a fold looks.

    Parameters
    ----------
    experiment, weights, test : Experiment, Path or FittedFold, Items
        As for `predict_fold`; an experiment without attention has no rows.
    settings : TrainingSettings
        How many seconds an instance lasts.

    Returns
    -------
    pyarrow.Table
        Columns of `ATTENTION`: a row per instance, in the order of `test` and of time.

    Raises
    ------
    ValueError
        As `predict_fold`.
    """
    if not experiment.has_attention or len(test) == 0:
        return ATTENTION.empty_table()
    from iss_assets.modeling.attention_training import predict_attention

    arrays, _ = _read_model(experiment, weights)
    _, attention = predict_attention(experiment, arrays, Preparation.from_arrays(arrays), test)
    series = next(iter(test.series.values()))
    start = series.number.astype(np.float64) * settings.instance_s
    columns = {
        "experiment": pa.repeat(experiment.name, len(attention)),
        "patient_id": np.repeat(test.patient_id, series.lengths),
        "video_id": np.repeat(test.video_id, series.lengths),
        "instance": series.number,
        "start_s": start,
        "end_s": start + settings.instance_s,
        "attention": attention.clip(0, 1),
    }
    return pa.table(columns).cast(ATTENTION)


def _read_model(
    experiment: Experiment, weights: Path | FittedFold
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a model file, and refuse that of another experiment or another version of the code."""
    file = weights.weights if isinstance(weights, FittedFold) else weights
    arrays, described = read_arrays(file)
    if described.get("experiment") != experiment.name:
        raise ValueError(
            f"{file.name} contains a model of {described.get('experiment')}, not of {experiment.name}"
        )
    if described.get("code_version") != experiment.code_version:
        raise ValueError(
            f"{file.name} was written by another version of the training code: train this fold again"
        )
    return arrays, described


Result = TypeVar("Result")


def folds_side_by_side(
    experiment: Experiment,
    jobs: Sequence[Callable[[], Generator[int, None, Result]]],
    settings: TrainingSettings,
) -> Generator[tuple[int, Result], None, None]:
    """Run the jobs of the folds of an experiment; networks run several folds at once on a GPU.

    Parameters
    ----------
    experiment : Experiment
        Forests use all cores, and an attention network takes seconds, so their folds run one after another.
    jobs : sequence of callables
        Each returns a generator that does the work step by step, like `fitting_steps`.
    settings : TrainingSettings
        ``folds_at_once`` and device.

    Yields
    ------
    tuple
        Index of a job and its result, as soon as it is done.
    """
    if not experiment.is_network or experiment.has_attention:
        for number, job in enumerate(jobs):
            yield number, _exhaust(job())
        return
    from iss_assets.modeling.computing import choose_device
    from iss_assets.modeling.lanes import side_by_side

    yield from side_by_side(jobs, settings.folds_at_once, choose_device(settings))


def _exhaust(steps: Generator[Any, None, Result]) -> Result:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Result = done.value
            return result


def prediction_table(experiment: Experiment, test: Items, probabilities: np.ndarray) -> pa.Table:
    """Combine items and their class probabilities, (n, classes), into a table with the columns of `PREDICTIONS`."""
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
    """Return the settings as JSON with file names instead of paths, which must not leave this machine."""
    values = settings.model_dump(mode="json")
    for name in ("split_file", "resnet50_weights"):
        path = getattr(settings, name)
        values[name] = path.name if path is not None else None
    return json.dumps(values, sort_keys=True)


def columns_of(experiment: Experiment, preparation: Preparation, items: Items) -> np.ndarray:
    """Concatenate the vectors of an experiment to the input matrix of forests and probe, (n, columns)."""
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
