"""Turn a study's tables into arrays for one target: answers, predictors, patients, and the order of check-ins.

Predictors come only from here. Measures of videos never hold answers, because tables of answers are no `Source`; answers of the
questionnaire are taken only where `Target.may_be_predicted_from` allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iss_assets.evaluation.check_in_order import sent
from iss_assets.modeling.check_ins import GROUPS, CheckInExperiment, Group, questionnaire_answers
from iss_assets.modeling.series import Series, SeriesView, starts_of
from iss_assets.protocol import terms
from iss_assets.protocol.targets import Target

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

KEYS = ("patient_id", "video_id")
"""Columns that identify a row of measures."""

HIGHEST = 10.0
"""The upper end of every scale; the lower end is 0."""


@dataclass(frozen=True)
class Filmed:
    """One series over the time of many videos.

    Attributes
    ----------
    video_id : tuple of str
        Ids of the videos.
    series : Series
        Their instances, a video each in the same order.
    made_by : str
        What made it, such as the network of the embeddings; series of two studies can be compared if it is the same.
    """

    video_id: tuple[str, ...]
    series: Series
    made_by: str


@dataclass(frozen=True)
class CheckIns:
    """All check-ins that may be learned from or predicted.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row per check-in, by patient and time: ``patient_id``, ``submission_id``, ``split``, and the nine answers.
    measures : mapping
        For each group of predictors other than the questionnaire, a data frame indexed by ``submission_id`` with numbers
        only; rows and columns may be missing.
    series : mapping
        What networks read of the narratives, by `CheckInExperiment.series`; videos may be missing.
    """

    rows: pd.DataFrame
    measures: Mapping[str, pd.DataFrame]
    series: Mapping[str, Filmed] = field(default_factory=dict)

    def can_fit(self, experiment: CheckInExperiment) -> bool:
        """Return whether there is anything that the experiment's model can learn from."""
        if experiment.series is None:
            return bool(self.available(experiment.groups))
        return experiment.series in self.series and self.series[experiment.series].series.values.size > 0

    def available(self, groups: Sequence[Group]) -> tuple[Group, ...]:
        """Return those of the groups that hold a measure."""
        return tuple(
            g for g in groups if g == "questionnaire" or (g in self.measures and self.measures[g].size > 0)
        )


@dataclass(frozen=True)
class Design:
    """One target as arrays, with a row per check-in that answers it.

    Attributes
    ----------
    target : Target
        What is predicted.
    y : ndarray of shape (n,)
        Answers, 0 to 10.
    patient : ndarray of shape (n,)
        Number of the patient in `patients`.
    patients : list of str
        Patient ids, sorted.
    split : ndarray of shape (patients,)
        Split in which each patient is tested.
    order : ndarray of shape (n,)
        1 for a patient's first check-in, 2 for the second, ...; rows are sorted by patient and order.
    submission : list of str
        Ids of the check-ins.
    """

    target: Target
    y: Array
    patient: Integers
    patients: list[str]
    split: Integers
    order: Integers
    submission: list[str]

    def __len__(self) -> int:
        """Return the number of check-ins."""
        return len(self.y)

    @property
    def weight(self) -> Array:
        """Weights with which every patient counts the same, however many check-ins there are; shape (n,)."""
        return 1 / np.bincount(self.patient, minlength=len(self.patients))[self.patient]


def check_ins(
    bpi_scores: pd.DataFrame,
    splits: pd.DataFrame,
    measures: Mapping[str, pd.DataFrame],
    series: Mapping[str, Filmed] | None = None,
) -> CheckIns:
    """Select and order the check-ins of the patients who are in a split.

    Parameters
    ----------
    bpi_scores, splits : pandas.DataFrame
        The tables ``bpi_scores`` and ``cv_splits``.
    measures : mapping
        Measures of usable videos by group, with ``video_id``, which is the id of the check-in.
    series : mapping, optional
        Series of usable videos, as of `CheckIns`.

    Returns
    -------
    CheckIns
        Only check-ins with a usable video: those in the measures of any group that is measured on a video. Times of day are
        added as the group ``time``.
    """
    indexed: dict[str, pd.DataFrame] = {g: _numbers(frame) for g, frame in measures.items()}
    filmed = set().union(*(frame.index for g, frame in indexed.items() if g != "demographics"))
    known = bpi_scores[bpi_scores["submission_id"].isin(filmed)].merge(
        splits[["patient_id", "split"]], on="patient_id"
    )
    known = known.assign(_sent=sent(known))
    known = known.sort_values(["patient_id", "_sent", "submission_id"], kind="stable", ignore_index=True)
    answers = known[list(terms.SCORES)].apply(pd.to_numeric, errors="coerce").astype(float)
    rows = pd.concat([known[["patient_id", "submission_id", "split", "timeframe"]], answers], axis=1)
    day = pd.DataFrame(
        {f"time.{name}": (known["timeframe"] == name).astype(float) for name in terms.TIMEFRAMES}
    )
    day[known["timeframe"].isna().to_numpy()] = np.nan
    day.index = pd.Index(known["submission_id"])
    return CheckIns(rows, {**indexed, "time": day}, series or {})


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Return measures as finite numbers by video; text, times and lists are no measures."""
    kept = frame.set_index("video_id").drop(columns=["patient_id"], errors="ignore")
    kept = kept.select_dtypes(["number", "bool"]).astype(float).replace([np.inf, -np.inf], np.nan)
    return kept[~kept.index.duplicated()]


def design(check_ins: CheckIns, target: Target) -> Design:
    """Return the check-ins that answer a target.

    The mean of several items needs more than half of them, as the Brief Pain Inventory's guide asks (Cleeland 2009).
    """
    answers = check_ins.rows[list(target.answers)]
    y = answers.mean(axis=1).where(answers.notna().sum(axis=1) > len(target.answers) / 2)
    rows = check_ins.rows[y.notna()]
    patients = sorted(rows["patient_id"].unique())
    number = {p: i for i, p in enumerate(patients)}
    patient = rows["patient_id"].map(number).to_numpy(np.int64)
    split = rows.groupby("patient_id")["split"].first().reindex(patients).to_numpy(np.int64)
    order = (rows.groupby("patient_id").cumcount() + 1).to_numpy().astype(np.int64)
    return Design(
        target, y.dropna().to_numpy(float), patient, patients, split, order, list(rows["submission_id"])
    )


def same_series(one: Mapping[str, Filmed], other: Mapping[str, Filmed]) -> list[str]:
    """Return the names of the series that two studies have, made in the same way."""
    return [name for name, there in one.items() if name in other and there.made_by == other[name].made_by]


def alike(one: CheckIns, other: CheckIns) -> tuple[CheckIns, CheckIns]:
    """Return two studies with the measures that both have, in the same order, and the series that were made in the same way."""

    filmed = same_series(one.series, other.series)

    def common(study: CheckIns, columns: Mapping[str, Sequence[str]]) -> CheckIns:
        return CheckIns(
            study.rows,
            {group: study.measures[group][list(names)] for group, names in columns.items()},
            {name: study.series[name] for name in filmed},
        )

    shared = {
        group: [name for name in frame.columns if name in other.measures[group].columns]
        for group, frame in one.measures.items()
        if group in other.measures
    }
    return common(one, shared), common(other, shared)


def predictors(check_ins: CheckIns, of: Design, groups: Sequence[Group]) -> tuple[Array, list[str]]:
    """Return the predictors of a target, with their names.

    Parameters
    ----------
    check_ins : CheckIns
        The study.
    of : Design
        The target's check-ins.
    groups : sequence of str
        Groups of `GROUPS`; those that the study does not have add no column.

    Returns
    -------
    ndarray of shape (n, predictors)
        NaN where a measure is missing.
    list of str
        Names, ``group: measure``.
    """
    blocks, names = [np.empty((len(of), 0))], []
    for group in GROUPS:
        if group not in groups:
            continue
        if group == "questionnaire":
            table = check_ins.rows.set_index("submission_id")[list(questionnaire_answers(of.target))]
        elif group in check_ins.measures:
            table = check_ins.measures[group]
        else:
            continue
        blocks.append(table.reindex(of.submission).to_numpy(float))
        names += [f"{group}: {column}" for column in table.columns]
    return np.column_stack(blocks), names


def instances(check_ins: CheckIns, of: Design, name: str) -> SeriesView:
    """Return what a network reads of each check-in of a target; of one without a series, no instance."""
    filmed = check_ins.series[name]
    where = {video: place for place, video in enumerate(filmed.video_id)}
    place = np.array([where.get(submission, -1) for submission in of.submission], np.int64)
    rows = filmed.series.rows_of(place[place >= 0])
    lengths = np.zeros(len(of), np.int64)
    lengths[place >= 0] = filmed.series.lengths[place[place >= 0]]
    return SeriesView(filmed.series, rows, starts_of(lengths))
