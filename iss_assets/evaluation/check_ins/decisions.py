"""Would acting on a model's probability do more good than acting on everyone, on no one, or on what is known without the person?

What is known without the person is the same guess without the video, and the guess from room, phone and time of day, which show in
a video too: a model that has only learned these must not be called useful.

The net benefit of acting where the probability is at least t is the share of check-ins where it was right to act, minus the share where it
was not, weighed by t / (1 - t): whoever acts at 20 % would rather act four times in vain than miss once. Acting on no one has
a net benefit of 0. Each patient has the same weight.

References
----------
Vickers and Elkin, "Decision curve analysis", Medical Decision Making 26 (2006), 565-574; Talluri and Shete, "Using the weighted area under
the net benefit curve for decision curve analysis", BMC Medical Informatics and Decision Making 16 (2016), 94: the mean over
thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from iss_assets.evaluation.check_ins.design import Array, Integers
from iss_assets.evaluation.check_ins.metrics import over_patients
from iss_assets.evaluation.intervals import Interval, holm, least_holm, mean_of
from iss_assets.evaluation.permutation import least_sign_flip_p, sign_flip_p
from iss_assets.evaluation.verdicts import NOT_SHOWN, verdict
from iss_assets.settings import CheckInSettings

EVERYONE, NO_ONE = "everyone", "no one"
STEP = 0.05
"""Distance between thresholds."""


def thresholds(settings: CheckInSettings) -> list[float]:
    """Return the probabilities at which somebody may act, from the smallest to the largest of the settings."""
    count = int(np.floor((settings.act_to - settings.act_from) / STEP + 1e-9)) + 1
    return [round(settings.act_from + i * STEP, 6) for i in range(count)]


def patient_benefit(
    happened: NDArray[np.bool_], acts: NDArray[np.bool_], patient: Integers, threshold: float
) -> Array:
    """Return each patient's net benefit per check-in.

    Parameters
    ----------
    happened, acts : ndarray of shape (n,)
        Whether there was something to act on, and whether one acts.
    patient : ndarray of shape (n,)
        Number of each row's patient, from 0 without gaps.
    threshold : float
        The probability from which one would act.
    """
    value = np.where(happened, 1.0, -threshold / (1 - threshold)) * acts
    return np.asarray(np.bincount(patient, weights=value) / np.bincount(patient))


@dataclass(frozen=True)
class Benefit:
    """Net benefit of one way to act at one threshold.

    Attributes
    ----------
    acted_on : str
        A model or reference whose probability is acted on, or `EVERYONE`.
    threshold : float
        The probability from which one acts.
    value : Interval
        Check-ins rightly acted on, net of those acted on in vain, as a share of all.
    """

    acted_on: str
    threshold: float
    value: Interval


@dataclass(frozen=True)
class Usefulness:
    """Whether a model's probability is worth more than doing without it, over all thresholds.

    Attributes
    ----------
    target, event, protocol, known, model : str, str, str, int, str
        What was predicted, how, and by what.
    check_ins, events : int
        Predicted check-ins, and those with the event.
    gain : Interval
        Net benefit beyond the best of acting on everyone, on no one, without the video, and on room, phone and time of day, mean
        over thresholds. At each threshold the best is the one with the largest net benefit on the same check-ins: chosen in their
        favor.
    p, p_least, p_holm, p_least_holm : float
        Two-sided p by sign flips over patients; the smallest possible; both after Holm over all.
    verdict : str
        As of a claim (see ``verdicts``).
    """

    target: str
    event: str
    protocol: str
    known: int
    model: str
    check_ins: int
    events: int
    gain: Interval
    p: float
    p_least: float
    p_holm: float = 1.0
    p_least_holm: float = 1.0
    verdict: str = NOT_SHOWN


def benefits(
    happened: NDArray[np.bool_],
    probability: Mapping[str, Array],
    patient: Integers,
    settings: CheckInSettings,
) -> list[Benefit]:
    """Return the decision curves of everyone and of each probability, on the same check-ins; acting on no one is 0 everywhere."""
    everyone = np.ones(len(happened), bool)
    return [
        Benefit(name, t, over_patients(mean_of(own), len(own), settings))
        for t in thresholds(settings)
        for name, acts in [(EVERYONE, everyone), *((n, p >= t) for n, p in probability.items())]
        for own in [patient_benefit(happened, acts, patient, t)]
    ]


def gain(
    happened: NDArray[np.bool_],
    probability: Array,
    rivals: Sequence[Array],
    patient: Integers,
    settings: CheckInSettings,
) -> Array:
    """Return each patient's net benefit of acting on a probability beyond the best of doing without it, mean over thresholds.

    Parameters
    ----------
    happened, probability : ndarray of shape (n,)
        Whether there was something to act on, and its predicted probability.
    rivals : sequence of ndarray of shape (n,)
        Probabilities that know nothing of the person in the video.
    patient : ndarray of shape (n,)
        Number of each row's patient, from 0 without gaps.
    settings : CheckInSettings
        Thresholds.
    """
    beyond = []
    for t in thresholds(settings):
        own, *others = (
            patient_benefit(happened, acts, patient, t)
            for acts in (
                probability >= t,
                np.zeros(len(happened), bool),
                np.ones(len(happened), bool),
                *(rival >= t for rival in rivals),
            )
        )
        beyond.append(own - max(others, key=lambda other: float(other.mean())))
    return np.asarray(np.mean(beyond, axis=0))


def usefulness(
    head: tuple[str, str, str, int, str],
    happened: NDArray[np.bool_],
    beyond: Array,
    settings: CheckInSettings,
) -> Usefulness:
    """Test the gain of one model, of shape (patients,), before any correction; see `corrected`."""
    return Usefulness(
        *head,
        len(happened),
        int(happened.sum()),
        over_patients(mean_of(beyond), len(beyond), settings),
        sign_flip_p(beyond, settings.permutations, settings.seed),
        least_sign_flip_p(beyond, settings.permutations),
    )


def corrected(made: Sequence[Usefulness], settings: CheckInSettings) -> list[Usefulness]:
    """Return the same with Holm's correction over all of them, and with verdicts."""
    adjusted = holm([u.p for u in made])
    reachable = least_holm([u.p for u in made], [u.p_least for u in made])
    return [
        replace(
            u,
            p_holm=float(p),
            p_least_holm=float(least),
            verdict=verdict(u.gain.estimate, u.gain.low, float(p), float(least), settings.alpha),
        )
        for u, p, least in zip(made, adjusted, reachable, strict=True)
    ]
