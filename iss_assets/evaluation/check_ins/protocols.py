"""Predict every check-in of every patient from models that have never seen the patient, and by the references.

Two protocols, both by whole patients. A *new patient* is one of whom nothing is known. Of a *known patient* the first k
check-ins are known, answers and videos, and later ones are predicted: a model of change, learned from other patients' days,
is added to the patient's own level, which is the best linear guess from those k (Robinson, "That BLUP is a good thing",
Statistical Science 6 (1991), 15-32).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from iss_assets.evaluation.check_ins.design import HIGHEST, CheckIns, Design, instances, predictors
from iss_assets.evaluation.check_ins.learners import Fit, Fitted, Reader, learner, learner_of
from iss_assets.modeling.check_ins import NUISANCE, CheckInExperiment, Group, OverVideo
from iss_assets.modeling.series import SeriesView
from iss_assets.schemas.check_ins import CheckInAttention
from iss_assets.settings import CheckInSettings

Array = NDArray[np.float64]
X = TypeVar("X", Array, SeriesView)
"""Predictors, a row per check-in: measures, or the series that a network reads. Of a series the mean of a check-in is that over its
known instances, and what is subtracted from a check-in is subtracted from each instance."""

Note = Callable[[int, NDArray[np.int64], SeriesView, Array], None]
"""Takes where a network looked: the number of known check-ins, the rows of the check-ins that it predicted, their series, and the
attention to each instance."""

NEW, KNOWN = "new patient", "known patient"

TRAINING_MEAN, RUNNING_MEAN, LAST_ANSWER = "training_mean", "running_mean", "last_answer"
FIRST_ANSWERS, TIME_OF_DAY, ROOM = "first_answers", "time_of_day", "room_and_phone"
REFERENCES = {
    LAST_ANSWER: "the patient’s last answer",
    RUNNING_MEAN: "the mean of the patient’s earlier answers",
    FIRST_ANSWERS: "the patient’s first answers",
    TRAINING_MEAN: "the mean of other patients",
    TIME_OF_DAY: "the time of day",
    ROOM: "room, phone and time of day",
}
"""What models are compared with, with names on pages. None sees the patient. The first two know every earlier answer, which
no model does."""


def without_video(known: int) -> str:
    """Return the reference that is the same guess as a model's, without a video: of known patients from their first answers."""
    return FIRST_ANSWERS if known else TRAINING_MEAN


FITTED_REFERENCES: dict[str, tuple[Group, ...]] = {TIME_OF_DAY: ("time",), ROOM: NUISANCE}
"""References that are linear models on what says nothing of the person, in the protocol of the models."""


@dataclass
class Looks:
    """Collects where networks look at check-ins of patients whom they never saw in training.

    Attributes
    ----------
    instance_s : float
        Seconds of an instance.
    parts : list of pyarrow.Table
        Rows of ``check_in_attention``.
    """

    instance_s: float
    parts: list[pa.Table] = field(default_factory=list)

    def of(self, design: Design, model: str) -> Note:
        """Return what notes where one model of a target looks."""

        def note(known: int, rows: NDArray[np.int64], series: SeriesView, attention: Array) -> None:
            read = ~np.isnan(attention)
            check_in = np.repeat(rows, series.lengths)[read]
            start = series.number[read].astype(np.float64) * self.instance_s
            columns = {
                "target": pa.repeat(design.target.name, len(check_in)),
                "protocol": pa.repeat(KNOWN if known else NEW, len(check_in)),
                "known": np.full(len(check_in), known),
                "model": pa.repeat(model, len(check_in)),
                "patient_id": [design.patients[p] for p in design.patient[check_in]],
                "video_id": [design.submission[c] for c in check_in],
                "instance": series.number[read],
                "start_s": start,
                "end_s": start + self.instance_s,
                "attention": attention[read].clip(0, 1),
            }
            self.parts.append(pa.table(columns).cast(CheckInAttention.arrow_schema()))

        return note

    def table(self) -> pa.Table:
        """Return all rows of ``check_in_attention``."""
        return pa.concat_tables([CheckInAttention.from_rows([]), *self.parts])


@dataclass(frozen=True)
class KnownModel:
    """A model for known patients: how answers change with measures, and how much a patient's first answers count.

    Attributes
    ----------
    change : Linear, Boosted or Attentive
        From deviations of measures from the patient's own mean to deviations of the answer.
    mean : float
        Mean answer over patients, at each patient's own mean of measures.
    between, within : float
        Variance of patients' levels, and of a patient's answers around it that the measures leave.
    """

    change: Fitted
    mean: float
    between: float
    within: float

    def own_share(self, known: int) -> float:
        """Return how much of a patient's distance from the mean is believed after `known` answers, 0 to 1."""
        noise = self.within / known
        return self.between / (self.between + noise) if self.between + noise > 0 else 0.0

    def predict(self, x: X, known_x: X, known_y: Array) -> Array:
        """Predict later answers of one patient.

        Parameters
        ----------
        x : ndarray of shape (n, measures)
            Measures of later check-ins.
        known_x, known_y : ndarray of shape (k, measures) and (k,)
            Measures and answers of the first check-ins.
        """
        own = own_means(known_x)
        level = float(np.mean(known_y - self.change.predict(known_x - own)))
        base = self.mean + self.own_share(len(known_y)) * (level - self.mean)
        return base + self.change.predict(x - own)


def own_means(values: Array | SeriesView) -> Array:
    """Return the mean of each measure over its known values, NaN where there is none."""
    x = _by_check_in(values)
    known = ~np.isnan(x)
    with np.errstate(invalid="ignore"):
        return np.where(known.any(axis=0), np.where(known, x, 0).sum(axis=0) / known.sum(axis=0), np.nan)


def _by_check_in(values: Array | SeriesView) -> Array:
    return values.means() if isinstance(values, SeriesView) else values


def means_by_patient(measured: Array | SeriesView, patient: NDArray[np.int64], patients: int) -> Array:
    """Return each patient's mean of each column over its known values, NaN where there is none; shape (patients, columns)."""
    values = _by_check_in(measured)
    known = ~np.isnan(values)
    total, count = np.zeros((patients, values.shape[1])), np.zeros((patients, values.shape[1]))
    np.add.at(total, patient, np.where(known, values, 0))
    np.add.at(count, patient, known)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)


def deviations(values: X, patient: NDArray[np.int64]) -> X:
    """Return values minus their patient's mean, by column."""
    people, place = np.unique(patient, return_inverse=True)
    return values - means_by_patient(values, place, len(people))[place]


def fit_new(fit: Fit, x: Array | SeriesView, design: Design, train: NDArray[np.bool_]) -> Fitted:
    """Fit a model for new patients on the check-ins selected by `train`, of shape (n,)."""
    return fit(x[train], design.y[train], design.weight[train], design.patient[train])


def fit_known(fit: Fit, x: X, design: Design, train: NDArray[np.bool_]) -> KnownModel | None:
    """Fit a model for known patients on the check-ins selected by `train`; None without a patient who has two."""
    patient, y = design.patient[train], design.y[train]
    count = np.bincount(patient, minlength=len(design.patients))
    several = count[patient] > 1
    if not several.any():
        return None
    dx, dy = deviations(x[train], patient), deviations(y[:, None], patient)[:, 0]
    weight = design.weight[train]
    change = fit(dx[several], dy[several], weight[several], patient[several])
    levels = np.array([y[patient == p].mean() for p in np.unique(patient)])
    left = dy[several] - change.predict(dx[several])
    free = several.sum() - len(np.unique(patient[several]))
    within = float(left @ left / max(1, free))
    # the variance of means is that of levels plus that of the mean of each patient's days
    noise = within * float(np.mean(1 / count[np.unique(patient)]))
    between = max(0.0, float(levels.var(ddof=1)) - noise) if len(levels) > 1 else 0.0
    return KnownModel(change, float(levels.mean()), between, within)


def predict_new(fit: Fit, x: X, design: Design, note: Note | None = None) -> Array:
    """Predict every check-in with a model fitted without the patient's split; NaN where nothing could be fitted.

    Where networks looked is given to `note`, if there is one.
    """
    predicted = np.full(len(design), np.nan)
    of_row = design.split[design.patient]
    for split in np.unique(design.split):
        test = of_row == split
        if not test.all():
            predicted[test] = _predict(fit_new(fit, x, design, ~test), x[test], 0, test, note)
    return np.clip(predicted, 0, HIGHEST)


def predict_known(
    fit: Fit, x: X, design: Design, known: Sequence[int], note: Note | None = None
) -> dict[int, Array]:
    """Predict, for each number of known check-ins, all later ones; NaN for those that are known.

    Where networks looked is given to `note`, if there is one.
    """
    predicted = {k: np.full(len(design), np.nan) for k in known}
    of_row = design.split[design.patient]
    for split in np.unique(design.split):
        test = of_row == split
        model = None if test.all() else fit_known(fit, x, design, ~test)
        if model is None:
            continue
        for k in known:
            later = test & (design.order > k)
            first = test & (design.order <= k)
            predicted[k][later] = _predict_later(model, x, design, first, later, k, note)
    return {k: np.clip(values, 0, HIGHEST) for k, values in predicted.items()}


def _predict_later(
    model: KnownModel,
    x: X,
    design: Design,
    first: NDArray[np.bool_],
    later: NDArray[np.bool_],
    known: int,
    note: Note | None = None,
) -> Array:
    """Do what `KnownModel.predict` does, for the `later` check-ins of several patients whose `first` ones are known."""
    patient = design.patient
    own = means_by_patient(x[first], patient[first], len(design.patients))
    left = design.y[first] - model.change.predict(x[first] - own[patient[first]])
    count = np.bincount(patient[first], minlength=len(design.patients))
    total = np.bincount(patient[first], weights=left, minlength=len(design.patients))
    level = (total / np.maximum(count, 1))[patient[later]]
    base = model.mean + model.own_share(known) * (level - model.mean)
    return base + _predict(model.change, x[later] - own[patient[later]], known, later, note)


def _predict(model: Fitted, x: X, known: int, rows: NDArray[np.bool_], note: Note | None) -> Array:
    """Predict the check-ins selected by `rows`, whose predictors are `x`, and note where a network looked."""
    if note is None or not isinstance(model, Reader) or not isinstance(x, SeriesView):
        return model.predict(x)
    predicted, attention = model.read(x)
    note(known, np.flatnonzero(rows), x, attention)
    return predicted


def predictions(
    check_ins: CheckIns,
    design: Design,
    experiments: Sequence[CheckInExperiment],
    settings: CheckInSettings,
    looks: Looks | None = None,
) -> pd.DataFrame:
    """Predict a target by every experiment and reference, in both protocols.

    Parameters
    ----------
    check_ins : CheckIns
        The study.
    design : Design
        The target's check-ins.
    experiments : sequence of CheckInExperiment
        Models of this target.
    settings : CheckInSettings
        Numbers of known check-ins, size of the boosted models.
    looks : Looks, optional
        Collects where networks look at the check-ins that they predict.

    Returns
    -------
    pandas.DataFrame
        ``target``, ``protocol``, ``known`` (0 for new patients), ``model``, ``kind`` (model or reference), ``patient_id``,
        ``submission_id``, ``check_in`` (1 for a patient's first), ``answered``, ``predicted``. Answers that nothing was
        known about, such as the last answer at the first check-in, have no row.
    """
    ridge = learner("ridge", settings)
    found: list[_Prediction] = []
    for name, kind, fit, read in _fitted(check_ins, experiments, settings):
        x, _ = _read(check_ins, design, read)
        note = looks.of(design, name) if looks is not None else None
        found.append((NEW, 0, name, kind, predict_new(fit, x, design, note)))
        for k, values in predict_known(fit, x, design, settings.calibration, note).items():
            found.append((KNOWN, k, name, kind, values))
    nothing = np.empty((len(design), 0))
    mean = predict_new(ridge, nothing, design)
    first = predict_known(ridge, nothing, design, settings.calibration)
    return _rows(design, found + _unfitted(design, mean, first, settings))


def predictions_elsewhere(
    trained: tuple[CheckIns, Design],
    here: tuple[CheckIns, Design],
    experiments: Sequence[CheckInExperiment],
    settings: CheckInSettings,
    looks: Looks | None = None,
) -> pd.DataFrame:
    """Predict a target in one study by models of another.

    Parameters
    ----------
    trained : tuple of CheckIns and Design
        The study whose check-ins the models learn from, all of them.
    here : tuple of CheckIns and Design
        The study that is predicted, with the same measures in the same order.
    experiments, settings, looks
        As of `predictions`.

    Returns
    -------
    pandas.DataFrame
        As of `predictions`; the mean of other patients is that of the other study's.
    """
    (there_rows, there), (here_rows, of) = trained, here
    ridge, everybody = learner("ridge", settings), np.ones(len(there), bool)

    def applied(fit: Fit, x_there: X, x: X, note: Note | None = None) -> dict[int, Array]:
        """Return predictions by number of known check-ins, 0 for new patients; NaN for those that are known."""
        new = fit_new(fit, x_there, there, everybody)
        values = {0: np.clip(_predict(new, x, 0, np.ones(len(of), bool), note), 0, HIGHEST)}
        model = fit_known(fit, x_there, there, everybody)
        for k in settings.calibration:
            values[k] = np.full(len(of), np.nan)
            later = of.order > k
            if model is not None:
                values[k][later] = np.clip(_predict_later(model, x, of, ~later, later, k, note), 0, HIGHEST)
        return values

    found: list[_Prediction] = []
    for name, kind, fit, read in _fitted(there_rows, experiments, settings):
        x_there, names = _read(there_rows, there, read)
        x, own_names = _read(here_rows, of, read)
        if names != own_names:
            raise ValueError("both studies need the same measures in the same order")
        note = looks.of(of, name) if looks is not None else None
        found += [(KNOWN if k else NEW, k, name, kind, v) for k, v in applied(fit, x_there, x, note).items()]
    first = applied(ridge, np.empty((len(there), 0)), np.empty((len(of), 0)))
    return _rows(of, found + _unfitted(of, first[0], first, settings))


_Prediction = tuple[str, int, str, str, Array]
"""Protocol, known check-ins, model, kind, and the predicted answers, NaN where nothing is predicted."""


def _fitted(
    check_ins: CheckIns, experiments: Sequence[CheckInExperiment], settings: CheckInSettings
) -> list[tuple[str, str, Fit, tuple[Group, ...] | OverVideo]]:
    """Return name, kind, fit, and groups of predictors or series, of all models and fitted references."""
    ridge = learner("ridge", settings)
    return [
        *(
            (e.name, "model", learner_of(e, settings), e.series or e.groups)
            for e in experiments
            if check_ins.can_fit(e)
        ),
        *((name, "reference", ridge, groups) for name, groups in FITTED_REFERENCES.items()),
    ]


def _read(check_ins: CheckIns, of: Design, read: tuple[Group, ...] | OverVideo) -> tuple[Any, list[str]]:
    """Return what a model reads of the check-ins of a target, with names of the columns if they are measures."""
    return (instances(check_ins, of, read), []) if isinstance(read, str) else predictors(check_ins, of, read)


def _unfitted(
    design: Design, mean: Array, first: Mapping[int, Array], settings: CheckInSettings
) -> list[_Prediction]:
    """Return references that see no measure: the mean of other patients, the first answers, and the patient's own history."""
    found: list[_Prediction] = []
    last, running = own_history(design)
    for k in (0, *settings.calibration):
        protocol = KNOWN if k else NEW
        later = np.where(design.order > k, 1.0, np.nan)
        for name, values in ((TRAINING_MEAN, mean), (LAST_ANSWER, last), (RUNNING_MEAN, running)):
            found.append((protocol, k, name, "reference", values * later))
        if k:
            found.append((protocol, k, FIRST_ANSWERS, "reference", first[k]))
    return found


def _rows(design: Design, found: Sequence[_Prediction]) -> pd.DataFrame:
    keys = pd.DataFrame(
        {
            "patient_id": [design.patients[p] for p in design.patient],
            "submission_id": design.submission,
            "check_in": design.order,
            "answered": design.y,
        }
    )
    blocks = [
        keys.assign(
            target=design.target.name, protocol=protocol, known=k, model=name, kind=kind, predicted=values
        )[~np.isnan(values)]
        for protocol, k, name, kind, values in found
    ]
    order = ["target", "protocol", "known", "model", "kind", *keys.columns, "predicted"]
    return pd.concat(blocks, ignore_index=True)[order]


def most_known(design: Design, settings: CheckInSettings, *, left: int = 1) -> int:
    """Return the largest number of known check-ins that leaves so many to predict for half of the patients."""
    count = np.bincount(design.patient)
    enough = [k for k in settings.calibration if (count >= k + left).mean() >= 0.5]
    return max(enough, default=min(settings.calibration))


def own_history(design: Design) -> tuple[Array, Array]:
    """Return each patient's last answer and mean of all earlier answers at every check-in; NaN at the first."""
    last, running = np.full(len(design), np.nan), np.full(len(design), np.nan)
    for number in range(len(design.patients)):
        own = np.flatnonzero(design.patient == number)
        last[own[1:]] = design.y[own[:-1]]
        running[own[1:]] = np.cumsum(design.y[own])[:-1] / np.arange(1, len(own))
    return last, running
