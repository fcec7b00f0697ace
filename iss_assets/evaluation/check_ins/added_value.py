"""What each group of predictors adds to those before it, on the same folds, and in the reverse order.

Nested models: the same linear model with one more group at each step. Each step's gain is a difference over the same patients.
Forward, what is cheap comes first (who the patient is, the room and the phone, the questionnaire), so that a later step shows what a
sensor adds. In the reverse order the sensors come first: what then is left for the questionnaire shows what a sensor could replace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from iss_assets.evaluation.check_ins.design import Array, CheckIns, Design, predictors
from iss_assets.evaluation.check_ins.learners import learner
from iss_assets.evaluation.check_ins.metrics import over_patients
from iss_assets.evaluation.check_ins.protocols import KNOWN, NEW, most_known, predict_known, predict_new
from iss_assets.evaluation.intervals import Interval, holm, least_holm, mean_of
from iss_assets.evaluation.permutation import least_sign_flip_p, sign_flip_p
from iss_assets.evaluation.verdicts import NOT_SHOWN, verdict
from iss_assets.modeling.check_ins import SENSORS, Group
from iss_assets.settings import CheckInSettings

STEPS: tuple[Group, ...] = ("demographics", "quality", "questionnaire", "face", "behavior", "voice", "words")
"""Groups in the order in which they are added; those that a study does not have are skipped."""

FORWARD, REVERSE, QUESTION = "forward", "reverse", "question"
ORDERINGS = (FORWARD, REVERSE, QUESTION)
"""One group after another; the same backward; and the question itself, all sensors at once on top of everything else."""

ALL_SENSORS = "all sensors"
"""Name of the one step of `QUESTION`."""


@dataclass(frozen=True)
class Step:
    """One group, added to those before it.

    Attributes
    ----------
    target, protocol, known : str, str, int
        What was predicted, and how.
    ordering : str
        One of `ORDERINGS`.
    step : int
        1 for the first group.
    group : str
        The group that was added, or `ALL_SENSORS`.
    error : Interval
        Mean error with the group and those before it, in points.
    gain : Interval
        By how many points the group makes the mean error smaller.
    p, p_least, p_holm, p_least_holm : float
        Two-sided p by sign flips over patients; the smallest possible; both after Holm over all steps.
    verdict : str
        As of a claim (see ``verdicts``).
    """

    target: str
    protocol: str
    known: int
    ordering: str
    step: int
    group: str
    error: Interval
    gain: Interval
    p: float
    p_least: float
    p_holm: float = 1.0
    p_least_holm: float = 1.0
    verdict: str = NOT_SHOWN


def added_value(check_ins: CheckIns, designs: Sequence[Design], settings: CheckInSettings) -> list[Step]:
    """Fit the nested models of every target, for new patients and for known ones.

    Parameters
    ----------
    check_ins : CheckIns
        The study.
    designs : sequence of Design
        The check-ins of each target.
    settings : CheckInSettings
        Numbers of known check-ins, of which the largest is used that leaves something to predict for half of the patients;
        coverage, level, resamples, sign flips.

    Returns
    -------
    list of Step
        Those that could be predicted.
    """
    made = [step for of in designs for step in _of_target(check_ins, of, settings)]
    adjusted = holm([s.p for s in made])
    reachable = least_holm([s.p for s in made], [s.p_least for s in made])
    return [
        replace(
            s,
            p_holm=float(p),
            p_least_holm=float(least),
            verdict=verdict(s.gain.estimate, s.gain.low, float(p), float(least), settings.alpha),
        )
        for s, p, least in zip(made, adjusted, reachable, strict=True)
    ]


def _of_target(check_ins: CheckIns, of: Design, settings: CheckInSettings) -> list[Step]:
    there = check_ins.available(STEPS)
    known = most_known(of, settings)
    errors: dict[frozenset[Group], Mapping[int, Array]] = {}

    def errors_of(groups: Sequence[Group]) -> Mapping[int, Array]:
        """Return each patient's mean error by number of known check-ins, NaN for those who were not predicted."""
        key = frozenset(groups)
        if key not in errors:
            x, _ = predictors(check_ins, of, groups)
            ridge = learner("ridge", settings)
            predicted = {0: predict_new(ridge, x, of), **predict_known(ridge, x, of, [known])}
            errors[key] = {k: _patient_errors(values, of) for k, values in predicted.items()}
        return errors[key]

    sensors = [g for g in SENSORS if g in there]
    others = [g for g in there if g not in sensors]
    paths: list[tuple[str, list[tuple[str, list[Group]]]]] = [
        (FORWARD, [(g, [g]) for g in there]),
        (REVERSE, [(g, [g]) for g in reversed(there)]),
    ]
    if sensors and others:
        paths.append((QUESTION, [("", others), (ALL_SENSORS, sensors)]))
    steps = []
    for ordering, path in paths:
        before: list[Group] = []
        for number, (name, added) in enumerate(path, start=1):
            after = [*before, *added]
            for k in (0, known) if name else ():
                without, with_it = errors_of(before)[k], errors_of(after)[k]
                both = ~np.isnan(without) & ~np.isnan(with_it)
                if both.sum() < 2:
                    continue
                gain = (without - with_it)[both]
                steps.append(
                    Step(
                        of.target.name,
                        KNOWN if k else NEW,
                        k,
                        ordering,
                        1 if ordering == QUESTION else number,
                        name,
                        over_patients(mean_of(with_it[both]), int(both.sum()), settings),
                        over_patients(mean_of(gain), len(gain), settings),
                        sign_flip_p(gain, settings.permutations, settings.seed),
                        least_sign_flip_p(gain, settings.permutations),
                    )
                )
            before = after
    return steps


def _patient_errors(predicted: Array, of: Design) -> Array:
    known = ~np.isnan(predicted)
    count = np.bincount(of.patient[known], minlength=len(of.patients)).astype(float)
    total = np.bincount(
        of.patient[known], weights=np.abs(predicted - of.y)[known], minlength=len(of.patients)
    )
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)
