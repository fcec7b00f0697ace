"""Assign whole patients to the splits of the cross-validation (paper, section 4, "Training Details").

The rules, in order of priority:

1. A split file wins.
2. A patient keeps the split assigned earlier.
3. The first assignment shuffles patients within each pain level and distributes them over the splits in turn, so that
   split sizes differ by at most one patient, overall and within each level.
4. A patient who joins later goes to the smallest split; among equals, to the one with the fewest patients of the same
   level.

With fewer patients than folds there is one split per patient, and more splits are added as patients join.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from iss_assets.protocol import terms
from iss_assets.schemas.modeling import CvSplits


class SplitFileError(ValueError):
    """A split file is invalid; the message names file, line and remedy."""


@dataclass(frozen=True, order=True)
class PatientLevel:
    """A patient and the pain level by which splits are stratified."""

    patient_id: str
    pain_level: str


def fold_subject(experiment: str, split: int) -> str:
    """Return a fold's subject in the ledger."""
    return f"{experiment}|{split:02d}"


def assign_splits(
    patients: Iterable[PatientLevel],
    folds: int = 10,
    seed: int = 2021,
    previous: pa.Table | None = None,
    split_file: Mapping[str, int] | None = None,
) -> pa.Table:
    """Assign each patient to the split in which they are tested.

    Parameters
    ----------
    patients : iterable of PatientLevel
        The study's patients, in any order.
    folds : int
        Number of splits, at least 2. The paper has 10: nine with three patients and one with two.
    seed : int
        Seed of the first assignment.
    previous : pyarrow.Table, optional
        Earlier rows of ``cv_splits``. Patients keep splits that were assigned with the same `folds` and `seed`; changing
        these settings requests a new assignment. Splits from a file are not kept: either the file still lists the
        patient, or it was withdrawn.
    split_file : mapping of patient id to split, optional
        An explicit assignment (see `read_split_file`), which has priority. Patients that it does not list are assigned
        as if they joined later; listed patients who are not enrolled are ignored (see `not_enrolled`).

    Returns
    -------
    pyarrow.Table
        Rows of ``cv_splits``, one per patient, ordered by id.

    Raises
    ------
    ValueError
        For fewer than two patients, a duplicate patient, an unknown level, or if all patients are in one split.

    Examples
    --------
    >>> splits = assign_splits([PatientLevel("0001", "None"), PatientLevel("0002", "Severe")])
    >>> sorted(splits["split"].to_pylist())
    [1, 2]
    """
    ordered = sorted(patients)
    levels = {p.patient_id: p.pain_level for p in ordered}
    if len(levels) < len(ordered):
        raise ValueError("a patient is listed twice")
    if len(ordered) < 2:
        raise ValueError(
            f"cross-validation needs at least two patients with usable data, and there are {len(ordered)}: "
            "add submissions, or check which videos are unusable and why"
        )
    if folds < 2:
        raise ValueError(f"cross-validation needs at least two folds, not {folds}")
    for unknown in set(levels.values()) - set(terms.PAIN_LEVELS):
        raise ValueError(f"{unknown!r} is not a pain level; levels are {', '.join(terms.PAIN_LEVELS)}")

    explicit = {p: s for p, s in (split_file or {}).items() if p in levels}
    split = dict(explicit)
    source = dict.fromkeys(explicit, "file")
    for row in _reusable_rows(previous, folds, seed):
        if row["patient_id"] in levels and row["patient_id"] not in explicit:
            split[row["patient_id"]] = row["split"]
            source[row["patient_id"]] = row["source"]
    first_time = not split
    splits = range(1, max([min(folds, len(ordered)), *split.values()]) + 1)
    rng = np.random.default_rng(seed)
    unassigned = [p for p in _shuffled_by_level(levels, rng) if p not in split]
    for place, patient in enumerate(unassigned):
        if first_time:
            split[patient] = splits[place % len(splits)]
        else:
            size = Counter(split.values())
            same_level = Counter(s for p, s in split.items() if levels[p] == levels[patient])
            split[patient] = min(splits, key=lambda s: (size[s], same_level[s], s))
        source[patient] = "seed" if first_time else "joined"
    if len(set(split.values())) < 2:
        raise ValueError(
            "all patients are in one split, so none is left to train on: assign them again with another "
            "ISS_TRAINING__SPLIT_SEED, or name at least two splits in the split file"
        )
    ids = [p.patient_id for p in ordered]
    cohort = cohort_hash((p, levels[p], split[p]) for p in ids)
    return CvSplits.from_rows(
        [
            {
                "patient_id": p,
                "split": split[p],
                "pain_level": levels[p],
                "source": source[p],
                "folds": folds,
                "seed": seed,
                "cohort_hash": cohort,
            }
            for p in ids
        ]
    )


def cohort_hash(rows: Iterable[tuple[str, str, int]]) -> str:
    """Return a hash of patients, levels and splits that does not depend on their order (16 hexadecimal digits)."""
    lines = sorted(f"{patient}\t{level}\t{split}\n" for patient, level, split in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def splits_in(cv_splits: pa.Table) -> list[int]:
    """Return the sorted numbers of the splits that have patients."""
    return sorted(set(cv_splits["split"].to_pylist()))


def sides(cv_splits: pa.Table, split: int) -> tuple[list[str], list[str]]:
    """Return the training patients and the test patients of a split, both sorted.

    Raises
    ------
    ValueError
        If the split has no test patients.
    """
    pairs = list(zip(cv_splits["patient_id"].to_pylist(), cv_splits["split"].to_pylist(), strict=True))
    train = [patient for patient, place in pairs if place != split]
    test = [patient for patient, place in pairs if place == split]
    if not test:
        raise ValueError(f"no patient is in split {split}; splits are {splits_in(cv_splits)}")
    return sorted(train), sorted(test)


def read_split_file(path: Path) -> dict[str, int]:
    """Read an explicit assignment: a CSV file with the columns ``patient_id`` and ``split``.

    The delimiter is a comma or a semicolon; a byte order mark and additional columns are ignored.

    Raises
    ------
    SplitFileError
        If the file is missing or not UTF-8, a column is missing, a patient id is invalid or repeated, a split is not a
        whole number from 1 to 1000, or there are fewer than two splits. The message names file and line, but never
        quotes a value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SplitFileError(f"split file {path.name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SplitFileError(f"split file {path.name} is not UTF-8: save it as CSV in UTF-8") from error
    header = text.split("\n", 1)[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    reader.fieldnames = [(name or "").strip().lower() for name in reader.fieldnames or []]
    for required in ("patient_id", "split"):
        if required not in reader.fieldnames:
            raise SplitFileError(f"{path.name}, line 1: column {required} is missing")
    assigned: dict[str, int] = {}
    for row in reader:
        where = f"{path.name}, line {reader.line_num}"
        patient, number = (row["patient_id"] or "").strip(), (row["split"] or "").strip()
        if not terms.PATIENT_ID.match(patient):
            raise SplitFileError(f"{where}: patient_id is empty or not letters, digits and hyphens")
        if patient in assigned:
            raise SplitFileError(f"{where}: this patient is already listed above")
        if not (number.isascii() and number.isdigit() and len(number) <= 4 and 1 <= int(number) <= 1000):
            raise SplitFileError(f"{where}: split is not a whole number from 1 to 1000")
        assigned[patient] = int(number)
    if len(set(assigned.values())) < 2:
        raise SplitFileError(f"{path.name}: cross-validation needs patients in at least two splits")
    return assigned


def not_enrolled(split_file: Mapping[str, int], patients: Iterable[PatientLevel]) -> list[str]:
    """Return the sorted patients who are listed in a split file but not enrolled."""
    return sorted(set(split_file) - {p.patient_id for p in patients})


def _reusable_rows(previous: pa.Table | None, folds: int, seed: int) -> list[dict[str, Any]]:
    """Return the rows of an earlier assignment that are still valid."""
    if previous is None:
        return []
    return [
        row
        for row in previous.select(["patient_id", "split", "source", "folds", "seed"]).to_pylist()
        if (row["folds"], row["seed"]) == (folds, seed) and row["source"] != "file"
    ]


def _shuffled_by_level(levels: Mapping[str, str], rng: np.random.Generator) -> list[str]:
    """List patients by level, shuffled within each level."""
    return [
        patient
        for level in terms.PAIN_LEVELS
        for patient in rng.permutation(sorted(p for p, other in levels.items() if other == level)).tolist()
    ]
