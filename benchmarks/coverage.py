"""How often the report's intervals contain the truth: a simulation of the whole procedure, from patients to interval.

    python -m benchmarks.coverage [--studies 1000]

Each study enrolls 29 new patients (13 without pain, 4 low, 4 moderate, 8 severe, as in the paper), each with three
submissions of 15 scores: a shift with pain, a deviation specific to the patient, and noise. It has ten folds over whole
patients, one forest per fold, accuracy per patient, and intervals as in the report. They are compared with two truths:
the accuracy of the same ten models on new patients, and its mean over all studies, which a replication with other
patients would estimate.

The report's intervals resample patients and keep the models. They do not include how the models would have differed with
other patients in the training set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from iss_assets.evaluation.intervals import bca_interval, mean_of, share_interval
from iss_assets.modeling.folds import PatientLevel, assign_splits
from iss_assets.modeling.forests import grow_forest
from iss_assets.protocol.published import PATIENTS_BY_LEVEL

COLUMNS, SUBMISSIONS, TREES, FRESH = 15, 3, 30, 1000
LEVELS = tuple(PATIENTS_BY_LEVEL)
SHIFT = {"None": 0.0, "Low": 0.3, "Moderate": 0.6, "Severe": 0.9}


def submissions(levels: Sequence[str], each: int, rng: np.random.Generator) -> np.ndarray:
    """Draw scores, shape (patients, each, columns): pain shifts a third of the columns."""
    shift = np.array([SHIFT[level] for level in levels])[:, None, None] * (np.arange(COLUMNS) % 3 == 0)
    own = rng.normal(0, 1, (len(levels), 1, COLUMNS))
    return (shift + own + rng.normal(0, 0.7, (len(levels), each, COLUMNS))).astype(np.float32)


def study(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run one study; return each patient's accuracy, and the models' accuracy on new patients with their levels."""
    rng = np.random.default_rng((29, seed))
    levels = [level for level, n in PATIENTS_BY_LEVEL.items() for _ in range(n)]
    x, pain = submissions(levels, SUBMISSIONS, rng), np.array([level != "None" for level in levels])
    people = [PatientLevel(f"{n:04d}", level) for n, level in enumerate(levels)]
    split = np.array(assign_splits(people, 10, seed)["split"].to_pylist())
    share = np.array([PATIENTS_BY_LEVEL[level] for level in LEVELS]) / len(levels)
    fresh_levels = rng.choice(LEVELS, FRESH, p=share)
    fresh = submissions(list(fresh_levels), 1, rng)[:, 0]
    fresh_right = np.zeros(FRESH)
    accuracy = np.zeros(len(levels))
    for number in sorted(set(split.tolist())):
        train, test = split != number, split == number
        flat = x[train].reshape(-1, COLUMNS)
        target = np.repeat(pain[train], SUBMISSIONS).astype(np.int64)
        forest = grow_forest(flat, target, np.ones(len(flat)), 2, seed, TREES)
        predicted = forest.probabilities(x[test].reshape(-1, COLUMNS)).argmax(axis=1).reshape(-1, SUBMISSIONS)
        accuracy[test] = (predicted == pain[test][:, None]).mean(axis=1)
        fresh_right += forest.probabilities(fresh).argmax(axis=1) == (fresh_levels != "None")
    return accuracy, fresh_right / len(set(split.tolist())), fresh_levels


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--tiny", action="store_true", help="five studies, for correctness only")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.studies = 5
    levels = np.array([level for level, n in PATIENTS_BY_LEVEL.items() for _ in range(n)])
    groups = {"all patients": levels != ""} | {f"level {name}": levels == name for name in LEVELS}
    runs = [study(seed) for seed in range(options.studies)]
    print("| mean accuracy over | patients | truth | same models | repeated study |\n|---|---|---|---|---|")
    for name, among in groups.items():
        fresh = [(of == name.removeprefix("level ")) | (name == "all patients") for _, _, of in runs]
        own = np.array([right[mask].mean() for (_, right, _), mask in zip(runs, fresh, strict=True)])
        truth = float(own.mean())
        found = [bca_interval(mean_of(a[among]), int(among.sum()), samples=1999) for a, _, _ in runs]
        bounds = np.array([(i.low, i.high) for i in found], float)  # NaN: all values equal, no interval
        same_models = np.mean((bounds[:, 0] <= own) & (own <= bounds[:, 1]))
        repeated = np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1]))
        print(f"| {name} | {among.sum()} | {truth:.3f} | {same_models:.1%} | {repeated:.1%} |")
    above = np.array([(a > 0.5).sum() for a, _, _ in runs])
    truth = float(above.mean() / len(levels))
    shares = [share_interval(int(n), len(levels)) for n in above]
    covered = np.mean([i.low <= truth <= i.high for i in shares if i.low is not None and i.high is not None])
    print(
        f"\nShare of patients above 0.5, exact interval: contains {truth:.3f} in {covered:.1%} of {len(runs)} studies."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
