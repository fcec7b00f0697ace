"""What reviews say about flags, checked against other libraries and a simulation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from iss_assets.evaluation.review_agreement import FlagDecision, flag_precisions, reviewer_agreements

START = datetime(2026, 1, 1, tzinfo=UTC)


def decision(number: int, reviewer: str, video: str, confirmed: bool, flag: str = "glare") -> FlagDecision:
    return FlagDecision(START + timedelta(minutes=number), reviewer, video[:4], video, flag, confirmed)


def test_kappa_is_that_of_another_library_and_counts_only_what_both_reviewed() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(60) < 0.6
    ana, ben = (np.where(rng.random(60) < 0.85, truth, ~truth) for _ in range(2))
    made = [decision(n, "ana", f"{n:04d}-01", bool(value)) for n, value in enumerate(ana)]
    made += [decision(n, "ben", f"{n:04d}-01", bool(value)) for n, value in enumerate(ben)]
    made += [decision(99, "eva", "9999-01", True)]
    # an earlier opinion that ben changed
    made += [decision(-5, "ben", "0003-01", not bool(ben[3]))]
    (pair,) = reviewer_agreements(made)
    assert pair.reviewers == ("ana", "ben") and pair.flags == 60 and pair.agreed == int((ana == ben).sum())
    assert pair.kappa == pytest.approx(cohen_kappa_score(ana, ben))
    (same,) = reviewer_agreements([decision(1, "a", "0001-01", True), decision(2, "b", "0001-01", True)])
    assert same.kappa is None and same.agreed == 1


def test_precision_counts_each_flag_of_a_video_once_by_the_latest_decision() -> None:
    made = [
        decision(1, "ana", "0001-01", False),
        decision(2, "ben", "0001-01", True),
        decision(3, "ana", "0001-02", True),
        decision(4, "ana", "0002-01", False),
        decision(5, "ana", "0002-01", True, "dark"),
    ]
    glare, dark = flag_precisions(made)
    assert (glare.flag, glare.confirmed, glare.rejected, glare.patients) == ("glare", 2, 1, 2)
    assert glare.precision.estimate == pytest.approx(2 / 3)
    # all alike: the exact interval, a patient counted once: 2.5 % ** (1 / 1) by hand
    assert (dark.precision.estimate, dark.precision.low) == (1.0, pytest.approx(0.025))


def test_the_interval_over_patients_covers_and_one_over_videos_would_not() -> None:
    rng = np.random.default_rng(11)
    covered, naive, studies = 0, 0, 120
    for study in range(studies):
        own = rng.beta(1.2, 0.8, 25)  # patients differ: mean 0.6
        made = [
            decision(v, "ana", f"{p:04d}-{v:02d}", bool(rng.random() < own[p]))
            for p in range(25)
            for v in range(12)
        ]
        (found,) = flag_precisions(made, samples=999, seed=study)
        low, high = found.precision.low, found.precision.high
        assert low is not None and high is not None
        covered += low <= 0.6 <= high
        half = 1.96 * np.sqrt(0.24 / 300)
        estimate = found.precision.estimate or 0.0
        naive += abs(estimate - 0.6) <= half
    assert covered / studies > 0.86 and naive / studies < 0.75
