"""Select the trained folds that may be evaluated together: current splits, same training settings.

A change of the cohort does not invalidate folds: new patients are in no model yet, and patients who left are no longer
tested. Changing the number of folds, the seed or the split file moves patients between splits. A fold may then have
test patients from several splits, or a test patient on its training side, and averaging it with other folds would
count patients twice or not at all.
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

OTHER_SPLITS = "the assignment of patients to splits has changed"
OTHER_WAY = "trained with other settings or code than the newest fold of the same experiment"
OTHER_LEVEL = "a patient's pain level was corrected after training"


@dataclass(frozen=True)
class LeftOut:
    """Folds of an experiment that are excluded from the evaluation.

    Attributes
    ----------
    experiment : str
        Name of the experiment.
    splits : tuple of int
        Numbers of the splits.
    profile : str
        Profile of their training; several are separated by commas.
    reason : str
        `OTHER_SPLITS`, `OTHER_WAY` or `OTHER_LEVEL`.
    """

    experiment: str
    splits: tuple[int, ...]
    profile: str
    reason: str

    def __str__(self) -> str:
        """Describe the folds in one line."""
        which = ", ".join(map(str, self.splits))
        return f"{self.experiment}, split {which} (profile {self.profile}): {self.reason}"


def outdated_splits(folds: Sequence[Mapping[str, Any]], split_of: Mapping[str, int]) -> list[int]:
    """Return the sorted splits of the folds that do not match the current assignment of patients.

    Parameters
    ----------
    folds : sequence of mappings
        ``split``, ``train_patients`` and ``test_patients`` of each fold of an experiment, as in ``fold_models``.
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
    """Return the sorted experiments whose training used an outdated class of a patient.

    Parameters
    ----------
    targets : pandas.DataFrame
        Distinct ``experiment``, ``patient_id`` and ``target`` of ``frame_predictions``.
    cv_splits : pandas.DataFrame
        Current ``patient_id`` and ``pain_level``.
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
    """Select the folds that may be evaluated together.

    Parameters
    ----------
    fold_models, cv_splits : pandas.DataFrame
        The tables of those names.
    relabelled : collection of str
        Experiments to exclude altogether: see `experiments_with_old_levels`.

    Returns
    -------
    folds : pandas.DataFrame
        Rows of `fold_models` that match the current splits. Within an experiment they share profile, settings, origin
        of the initial weights and code version with the fold that was trained last.
    left_out : list of LeftOut
        The other folds, ordered by experiment.
    """
    split_of = dict(zip(cv_splits["patient_id"], cv_splits["split"], strict=True))
    included, left_out = [], []
    for experiment, group in fold_models.groupby("experiment", sort=True):
        fits = pd.Series([_fits(row._asdict(), split_of) for row in rows_of(group)], index=group.index)
        alike = fits
        if fits.any():
            ways = group.apply(_training_key, axis=1)
            newest = group[fits].sort_values("trained_at").index[-1]
            alike = fits & (ways == ways.loc[newest])
        wrong = alike & (experiment in relabelled)
        included.append(group[alike & ~wrong])
        reasons = ((~fits, OTHER_SPLITS), (fits & ~alike, OTHER_WAY), (wrong, OTHER_LEVEL))
        for these, reason in reasons:
            if these.any():
                others = group[these]
                profile = ", ".join(sorted(set(others["profile"])))
                left_out.append(LeftOut(str(experiment), tuple(sorted(others["split"])), profile, reason))
    return (pd.concat(included) if included else fold_models.iloc[:0]), left_out


def _training_key(fold: pd.Series) -> str:
    """Return a string that is equal for folds trained alike: relevant settings, initial weights and code version."""
    known = BY_NAME.get(fold["experiment"])
    # for an experiment unknown to this version, the settings that affect any experiment
    candidates = EXPERIMENTS if known is None else (known,)
    read = {name for name in READ_BY if any(e.reads(name) for e in candidates)}
    chosen = {k: v for k, v in json.loads(fold["settings"]).items() if k in read}
    named = [fold["profile"], int(fold["seed"]), fold["weights_origin"], fold["code_version"]]
    return json.dumps([named, chosen], sort_keys=True)
