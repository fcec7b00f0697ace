"""Results as clear as they can be are told as such: where all patients are alike there is no interval, and p decides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from iss_assets.evaluation.check_ins import decisions
from iss_assets.evaluation.check_ins.claims import BEATS, BEATS_LAST, FOLLOWS, Claim, claims
from iss_assets.evaluation.check_ins.protocols import FIRST_ANSWERS, KNOWN, LAST_ANSWER, NEW, TRAINING_MEAN
from iss_assets.reports.clinic_lines import answer, first_lines
from iss_assets.settings import CheckInSettings

QUICK = CheckInSettings(calibration=(1,), bootstrap_samples=1999, permutations=199)
MODEL = "pain_now_ridge"


def predicted(protocol: str, answered: np.ndarray, models: dict[str, np.ndarray]) -> pd.DataFrame:
    """Predictions of shape (patients, check-ins) by each model or reference."""
    patient, check_in = (axis.ravel() for axis in np.indices(answered.shape))
    frame = pd.DataFrame(
        {
            "patient_id": [f"{p:04d}" for p in patient],
            "submission_id": [f"{p:04d}-{c}" for p, c in zip(patient, check_in, strict=True)],
            "check_in": check_in + 1,
            "answered": answered.ravel(),
        }
    )
    frame = frame.assign(target="pain_now", protocol=protocol, known=int(protocol == KNOWN))
    return pd.concat(
        [
            frame.assign(model=name, kind="model" if name == MODEL else "reference", predicted=values.ravel())
            for name, values in models.items()
        ],
        ignore_index=True,
    )  # fmt: skip


def claimed(rows: pd.DataFrame) -> dict[str, Claim]:
    nothing = pd.DataFrame({"light": np.nan}, index=rows["submission_id"].unique())
    return {c.kind: c for c in claims(rows, {"pain_now": nothing}, QUICK)}


@pytest.mark.parametrize("patients", [2, 6, 7, 10])
@pytest.mark.parametrize(("slope", "error"), [(1.0, 0.0), (0.5, 0.0), (-1.0, 3.0)])
def test_a_signal_without_noise_is_shown_from_as_many_patients_as_can_show_anything(
    patients: int, slope: float, error: float
) -> None:
    """p of all-alike values is by hand: two of the 2 ** patients signs, three claims."""
    answered = np.random.default_rng(0).permuted(np.tile(np.arange(1.0, 7), (patients, 1)), axis=1)
    follows = slope * (answered - 3.5) + 3.5
    models = {MODEL: follows, LAST_ANSWER: answered + 1, FIRST_ANSWERS: answered - 1}
    found = claimed(predicted(KNOWN, answered, models))
    least = min(1.0, 3 * 2 / 2**patients)
    assert found[FOLLOWS].value.low is None
    assert found[FOLLOWS].value.estimate == pytest.approx(np.sign(slope))
    assert found[FOLLOWS].p_holm == pytest.approx(least)
    enough = "yes" if least <= QUICK.alpha else "cannot be shown"
    assert found[FOLLOWS].verdict == (enough if slope > 0 else "no")
    if slope == 1:
        # each patient's error is smaller by exactly one point
        assert (found[BEATS].value.low, found[BEATS].value.estimate) == (None, 1.0)
        assert found[BEATS].verdict == found[BEATS_LAST].verdict == enough
    elif error:
        # ... or larger for each of them
        assert found[BEATS].value.estimate == pytest.approx(1 - np.abs(2 * (answered - 3.5)).mean())
        assert found[BEATS].verdict == found[BEATS_LAST].verdict == "no"


def test_a_signal_without_noise_is_told_without_an_interval() -> None:
    row = {
        "target": "pain_now",
        "known": 1,
        "model": MODEL,
        "patients": 12,
        "verdict": "yes",
        "low": None,
        "high": None,
    }
    rows = [row | {"claim": kind, "estimate": 1.0} for kind in (FOLLOWS, BEATS_LAST, BEATS)]
    effects = pd.DataFrame({"measure": ["voice: a"]})
    frame = pd.DataFrame(rows).astype({"low": float, "high": float})
    lead, points = first_lines(frame, effects, QUICK)
    assert lead.startswith("Voice follows the ups and downs of pain now, and predicts pain now better")
    assert (
        "from 0 (not at all) to 1 (in step): 1.00 (the same for every patient; 12 patients; linear model)"
        in points[0]
    )
    step = {"ordering": "question", "gain": 1.0, "gain_low": np.nan, "gain_high": np.nan}
    (said,) = answer(pd.DataFrame([row | step]), effects)
    assert "smaller by 1.00 points after 1 check-in (the same for every patient)." in said


@pytest.mark.parametrize(
    ("gain", "patients", "expected"),
    [(0.1, 8, "yes"), (0.1, 5, "cannot be shown"), (0.1, 1, "cannot be shown"), (-0.1, 8, "no"), (0.0, 8, "no")],
)  # fmt: skip
def test_the_same_benefit_for_every_patient_is_useful_if_there_are_enough(
    gain: float, patients: int, expected: str
) -> None:
    head = ("pain_now", "severe", KNOWN, 1, MODEL)
    found = decisions.usefulness(head, np.ones(patients, bool), np.full(patients, gain), QUICK)
    (made,) = decisions.corrected([found], QUICK)
    assert made.gain.low is None and made.verdict == expected


def test_the_last_answer_is_beaten_only_if_each_interval_is_above_zero() -> None:
    """The claim of two needs both; the one with the larger p may be the one whose interval is above 0."""
    over_last = np.array([0.9, 1.0, 0.8, -0.9, 0.7, 1.0, 0.6, 0.4, 0.9, 0.6])
    over_mean = np.array([1.1, -0.5, 0.3, 0.8, 0.2, 0.4, 1.2, 0.8, 0.0, 0.7])
    answered = np.full((10, 1), 5.0)

    def by(gains: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {MODEL: answered + 1, **{k: answered + 1 + v[:, None] for k, v in gains.items()}}

    both = claimed(predicted(NEW, answered, by({LAST_ANSWER: over_last, TRAINING_MEAN: over_mean})))[
        BEATS_LAST
    ]
    mean = claimed(predicted(NEW, answered, by({LAST_ANSWER: over_mean})))[BEATS_LAST]
    assert mean.verdict == "yes" and mean.value.low is not None and mean.value.low > 0
    assert both.p_holm <= QUICK.alpha and both.value.low is not None and both.value.low < 0
    assert both.verdict == "not shown"
