"""Which trained folds may be judged together: those of today's splits, trained in one way.

Belongs here: the choice among the rows of ``fold_models``, and why a fold is left out.
Does not belong here: making folds anew or removing them (``assets``), judging (``results``).

A cohort that grows leaves the folds in place: who joins is in no model yet, who leaves is tested no more. Another
number of folds, seed or split file moves patients; then a fold's test patients are no longer those of one split, or
one of them stands on its training side, and averaging it with others would count patients twice or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from iss_assets.evaluation.frames import rows_of
from iss_assets.modeling.experiments import BY_NAME, EXPERIMENTS, READ_BY
from iss_assets.protocol import terms

OTHER_SPLITS = "the patients are split in another way now"
OTHER_WAY = "trained in another way than the newest fold of the same experiment"
OTHER_LEVEL = "a patient's pain level was corrected after it was trained"


@dataclass(frozen=True)
class LeftOut:
    """Folds of an experiment that are not judged.

    Attributes
    ----------
    experiment : str
        Whose.
    splits : tuple of int
        Which.
    profile : str
        Profile that they were trained in, several with commas between.
    reason : str
        `OTHER_SPLITS`, `OTHER_WAY` or `OTHER_LEVEL`.
    """

    experiment: str
    splits: tuple[int, ...]
    profile: str
    reason: str

    def __str__(self) -> str:
        """Say it in one line."""
        which = ", ".join(map(str, self.splits))
        return f"{self.experiment}, split {which} (profile {self.profile}): {self.reason}"


def outdated_splits(folds: Sequence[Mapping[str, Any]], split_of: Mapping[str, int]) -> list[int]:
    """Give those of an experiment's folds that do not fit how the patients are split now, in order.

    Parameters
    ----------
    folds : sequence of mappings
        ``split``, ``train_patients`` and ``test_patients`` of each, as in ``fold_models``.
    split_of : mapping of patient id to split
        ``cv_splits``.
    """
    return sorted(int(fold["split"]) for fold in folds if not _fits(fold, split_of))


def _fits(fold: Mapping[str, Any], split_of: Mapping[str, int]) -> bool:
    split = fold["split"]
    return (
        split in set(split_of.values())
        and all(split_of.get(patient, split) == split for patient in fold["test_patients"])
        and all(split_of.get(patient) != split for patient in fold["train_patients"])
    )


def experiments_with_old_levels(targets: pd.DataFrame, cv_splits: pd.DataFrame) -> list[str]:
    """Give the experiments that learnt another class of a patient than the one of today.

    Parameters
    ----------
    targets : pandas.DataFrame
        ``experiment``, ``patient_id`` and ``target`` as they stand in ``frame_predictions``, each once.
    cv_splits : pandas.DataFrame
        ``patient_id`` and ``pain_level`` of today.
    """
    level_of = dict(zip(cv_splits["patient_id"], cv_splits["pain_level"], strict=True))
    found = set()
    for row in rows_of(targets):
        level = level_of.get(row.patient_id)
        if level is not None and row.target not in (level, terms.pain_class(level)):
            found.add(str(row.experiment))
    return sorted(found)


def comparable_folds(
    fold_models: pd.DataFrame, cv_splits: pd.DataFrame, relabelled: Collection[str] = ()
) -> tuple[pd.DataFrame, list[LeftOut]]:
    """Choose the folds that may be judged together.

    Parameters
    ----------
    fold_models, cv_splits : pandas.DataFrame
        The tables of those names.
    relabelled : collection of str
        Experiments of which no fold may be judged: see `relabelled`.

    Returns
    -------
    folds : pandas.DataFrame
        Rows of `fold_models`: they fit today's splits, and within an experiment they share profile, settings, origin of
        the first weights and version of the code with the one that was trained last.
    left_out : list of LeftOut
        The others, in order of experiment.
    """
    split_of = dict(zip(cv_splits["patient_id"], cv_splits["split"], strict=True))
    kept, left = [], []
    for experiment, group in fold_models.groupby("experiment", sort=True):
        fits = pd.Series([_fits(row._asdict(), split_of) for row in rows_of(group)], index=group.index)
        alike = fits
        if fits.any():
            ways = group.apply(_way, axis=1)
            newest = group[fits].sort_values("trained_at").index[-1]
            alike = fits & (ways == ways.loc[newest])
        wrong = alike & (experiment in relabelled)
        kept.append(group[alike & ~wrong])
        reasons = ((~fits, OTHER_SPLITS), (fits & ~alike, OTHER_WAY), (wrong, OTHER_LEVEL))
        for these, reason in reasons:
            if these.any():
                others = group[these]
                profile = ", ".join(sorted(set(others["profile"])))
                left.append(LeftOut(str(experiment), tuple(sorted(others["split"])), profile, reason))
    return (pd.concat(kept) if kept else fold_models.iloc[:0]), left


def _way(fold: pd.Series) -> str:
    """Give in one string how a model was trained: the settings that its experiment reads, first weights, code."""
    known = BY_NAME.get(fold["experiment"])
    of = (
        EXPERIMENTS if known is None else (known,)
    )  # one that this version does not have: what any experiment reads
    read = {name for name in READ_BY if any(e.reads(name) for e in of)}
    chosen = {k: v for k, v in json.loads(fold["settings"]).items() if k in read}
    named = [fold["profile"], int(fold["seed"]), fold["weights_origin"], fold["code_version"]]
    return json.dumps([named, chosen], sort_keys=True)
