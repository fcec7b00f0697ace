"""What reviews say about the flags: how often each is right, and whether reviewers agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import NamedTuple

import numpy as np

from iss_assets.evaluation.intervals import Interval, bca_interval, ratio_of_sums, share_interval


class FlagDecision(NamedTuple):
    """One reviewer's decision about one flag of one video."""

    reviewed_at: datetime
    reviewer: str
    patient_id: str
    video_id: str
    flag: str
    confirmed: bool


@dataclass(frozen=True)
class FlagPrecision:
    """How often a flag is right.

    Attributes
    ----------
    flag : str
        The flag.
    confirmed, rejected : int
        Videos whose flag was confirmed or rejected, by the latest decision.
    patients : int
        Patients they are of.
    precision : Interval
        Confirmed among reviewed videos, with an interval over patients: videos of one patient are alike.
    """

    flag: str
    confirmed: int
    rejected: int
    patients: int
    precision: Interval


@dataclass(frozen=True)
class Agreement:
    """How two reviewers agree on flags that both decided about.

    Attributes
    ----------
    reviewers : tuple of str
        Both accounts.
    flags : int
        Flags of videos that both decided about.
    agreed : int
        Those with the same decision.
    kappa : float or None
        Cohen's kappa; None where both always gave one and the same answer, so that chance explains everything.
    """

    reviewers: tuple[str, str]
    flags: int
    agreed: int
    kappa: float | None


def flag_precisions(
    decisions: Iterable[FlagDecision], *, confidence: float = 0.95, samples: int = 9999, seed: int = 0
) -> list[FlagPrecision]:
    """Return each reviewed flag's precision, the most often reviewed first.

    The interval is BCa over patients (Efron 1987). Where every decision is the same, resampling cannot tell anything,
    and the interval is the exact one (Clopper and Pearson 1934) with each patient counted once.

    Parameters
    ----------
    decisions : iterable of FlagDecision
        Of several about the same flag of the same video the latest counts.
    confidence, samples, seed : float, int, int
        As for `bca_interval`.
    """
    latest: dict[tuple[str, str], FlagDecision] = {}
    for decision in sorted(decisions, key=lambda d: d.reviewed_at):
        latest[decision.video_id, decision.flag] = decision
    by_flag: dict[str, list[FlagDecision]] = {}
    for decision in latest.values():
        by_flag.setdefault(decision.flag, []).append(decision)
    found = [_precision(flag, some, confidence, samples, seed) for flag, some in by_flag.items()]
    return sorted(found, key=lambda p: (-(p.confirmed + p.rejected), p.flag))


def _precision(
    flag: str, decisions: Sequence[FlagDecision], confidence: float, samples: int, seed: int
) -> FlagPrecision:
    names = sorted({d.patient_id for d in decisions})
    confirmed, reviewed = np.zeros(len(names)), np.zeros(len(names))
    for decision in decisions:
        place = names.index(decision.patient_id)
        reviewed[place] += 1
        confirmed[place] += decision.confirmed
    right, total = int(confirmed.sum()), int(reviewed.sum())
    if right in (0, total):
        interval = share_interval(len(names) if right else 0, len(names), confidence=confidence)
    else:
        ratio = ratio_of_sums(confirmed, reviewed)
        interval = bca_interval(ratio, len(names), confidence=confidence, samples=samples, seed=seed)
    return FlagPrecision(flag, right, total - right, len(names), interval)


def reviewer_agreements(decisions: Iterable[FlagDecision]) -> list[Agreement]:
    """Return how each two reviewers agree who decided about the same flags; each reviewer's latest decision counts.

    Cohen's kappa (Cohen 1960) is (observed - expected agreement) / (1 - expected agreement).
    """
    own: dict[str, dict[tuple[str, str], bool]] = {}
    for decision in sorted(decisions, key=lambda d: d.reviewed_at):
        own.setdefault(decision.reviewer, {})[decision.video_id, decision.flag] = decision.confirmed
    found = []
    for one, two in combinations(sorted(own), 2):
        both = sorted(own[one].keys() & own[two].keys())
        if both:
            a, b = (np.array([own[name][key] for key in both]) for name in (one, two))
            observed = float(np.mean(a == b))
            expected = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
            kappa = (observed - expected) / (1 - expected) if expected < 1 else None
            found.append(Agreement((one, two), len(both), int((a == b).sum()), kappa))
    return found
