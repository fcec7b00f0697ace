"""Answers that change from check-in to check-in: predictions, metrics, effects and claims."""

from __future__ import annotations

from typing import Any

from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column

_PROTOCOLS = ("new patient", "known patient")
_TARGET = "Target: pain_now, interference (mean of the seven items), or one of the items."
_PROTOCOL = "new patient: nothing is known; known patient: the first check-ins are."
_KNOWN = "Number of the patient's first check-ins that are known; 0 for new patients."
_MODEL = "Experiment, or reference (last_answer, running_mean, first_answers, training_mean, time_of_day, room_and_phone)."
_SCALE: dict[str, Any] = {"ge": 0, "le": 10}


class CheckInPredictions(Table):
    """One check-in's answer, predicted by one model or reference that never saw the patient in training."""

    __table__ = "check_in_predictions"
    __key__ = ("target", "protocol", "known", "model", "submission_id")

    target: object = column("VARCHAR", _TARGET)
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    known: object = column("INTEGER", _KNOWN, ge=0)
    model: object = column("VARCHAR", _MODEL)
    kind: object = column("VARCHAR", "model or reference.", isin=("model", "reference"))
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    submission_id: object = column("VARCHAR", "Submission id.", **SUBMISSION_ID)
    check_in: object = column("INTEGER", "1 for the patient's first check-in with a usable video.", ge=1)
    answered: object = column("DOUBLE", "The answer.", **_SCALE)
    predicted: object = column("DOUBLE", "The predicted answer.", **_SCALE)


class CheckInPatients(Table):
    """One patient's metrics under one model or reference."""

    __table__ = "check_in_patients"
    __key__ = ("target", "protocol", "known", "model", "patient_id")

    target: object = column("VARCHAR", _TARGET)
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    known: object = column("INTEGER", _KNOWN, ge=0)
    model: object = column("VARCHAR", _MODEL)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    check_ins: object = column("INTEGER", "Predicted check-ins.", ge=1)
    mean_error: object = column("DOUBLE", "Mean absolute error.", unit="points", **_SCALE)
    kappa: object = column("DOUBLE", "Quadratic-weighted kappa of whole numbers.", nullable=True)
    icc: object = column("DOUBLE", "ICC(2,1) of predictions and answers.", nullable=True)
    within_correlation: object = column(
        "DOUBLE",
        "Spearman's rank correlation; empty with few check-ins, or if all answers are the same.",
        nullable=True,
    )
    changes: object = column("INTEGER", "Important changes between neighboring check-ins.", ge=0)
    changes_detected: object = column(
        "INTEGER", "Of these, predicted in the same direction and as large.", ge=0
    )
    steady: object = column("INTEGER", "Neighboring check-ins without an important change.", ge=0)
    false_alarms: object = column("INTEGER", "Of these, those for which a change is predicted.", ge=0)


class CheckInMetrics(Table):
    """One metric of one model or reference over patients, with its interval."""

    __table__ = "check_in_metrics"
    __key__ = ("target", "protocol", "known", "model", "metric")

    target: object = column("VARCHAR", _TARGET)
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    known: object = column("INTEGER", _KNOWN, ge=0)
    model: object = column("VARCHAR", _MODEL)
    kind: object = column("VARCHAR", "model or reference.", isin=("model", "reference"))
    metric: object = column(
        "VARCHAR",
        "mean_error (points), kappa (quadratic-weighted), icc (2,1), within_correlation (Spearman, mean over patients), "
        "changes_detected and false_alarms (shares).",
    )
    check_ins: object = column("INTEGER", "Predicted check-ins.", ge=0)
    patients: object = column("INTEGER", "Patients for whom the metric is defined.", ge=0)
    estimate: object = column("DOUBLE", "Value over patients; empty where it is not defined.", nullable=True)
    low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    high: object = column("DOUBLE", "Upper end.", nullable=True)
    method: object = column("VARCHAR", "BCa, percentile, or none.")
    note: object = column("VARCHAR", "A caveat; empty if there is none.", nullable=True)


class CheckInEffects(Table):
    """How one measure of face, behavior, voice or words goes along with one target within patients."""

    __table__ = "check_in_effects"
    __key__ = ("target", "measure")

    target: object = column("VARCHAR", _TARGET)
    measure: object = column("VARCHAR", "Group and name of the measure.")
    patients: object = column("INTEGER", "Patients with two or more check-ins.", ge=1)
    check_ins: object = column("INTEGER", "Their check-ins.", ge=2)
    points: object = column(
        "DOUBLE",
        "Points of the answer per standard deviation of the measure within patients (mixed model with a random intercept).",
        unit="points",
    )
    low: object = column("DOUBLE", "Lower end of its interval.")
    high: object = column("DOUBLE", "Upper end.")
    correlation: object = column("DOUBLE", "The same as a correlation within patients.")
    p_value: object = column("DOUBLE", "Two-sided (Wald, t distribution).", **SHARE)
    p_value_holm: object = column("DOUBLE", "After Holm over the measures of the target.", **SHARE)
    between_variance: object = column("DOUBLE", "Variance of patients' levels.", ge=0)
    within_variance: object = column("DOUBLE", "Variance within patients that the measure leaves.", ge=0)


class CheckInClaims(Table):
    """One claim about one model, tested over patients, and whether it is supported."""

    __table__ = "check_in_claims"
    __key__ = ("target", "protocol", "known", "model", "claim")

    target: object = column("VARCHAR", _TARGET)
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    known: object = column("INTEGER", _KNOWN, ge=0)
    model: object = column("VARCHAR", "Experiment, or room_and_phone: a canary.")
    claim: object = column(
        "VARCHAR",
        "follows changes (correlation with the answers within patients); beats the last answer (and the same guess without a "
        "video); beats the best reference (smaller mean error).",
    )
    against: object = column("VARCHAR", "The reference; empty where there is none.")
    patients: object = column("INTEGER", "Patients compared.", ge=0)
    estimate: object = column(
        "DOUBLE",
        "Correlation, or points by which the mean error is smaller than the reference's.",
        nullable=True,
    )
    low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    high: object = column("DOUBLE", "Upper end.", nullable=True)
    reference_error: object = column(
        "DOUBLE", "The reference's mean error on the same check-ins.", unit="points", nullable=True
    )
    p_value: object = column("DOUBLE", "Two-sided, by flipping signs of patients' values.", **SHARE)
    p_value_holm: object = column("DOUBLE", "After Holm over all claims.", **SHARE)
    p_least_holm: object = column(
        "DOUBLE", "The smallest p (Holm) that this claim could have had, given the others.", **SHARE
    )
    verdict: object = column(
        "VARCHAR",
        "yes; no: points the other way; not shown: in favor, but it may be chance; cannot be shown: nothing could have "
        "been shown with so few patients.",
        isin=("yes", "no", "not shown", "cannot be shown"),
    )


class CheckInAddedValue(Table):
    """What one group of predictors adds to those before it, for one target, over the same patients."""

    __table__ = "check_in_added_value"
    __key__ = ("target", "known", "ordering", "step")

    target: object = column("VARCHAR", _TARGET)
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    known: object = column("INTEGER", _KNOWN, ge=0)
    ordering: object = column(
        "VARCHAR",
        "forward: demographics, quality, questionnaire, face, behavior, voice, words; reverse: the same backward; question: "
        "all sensors at once on top of the others.",
        isin=("forward", "reverse", "question"),
    )
    step: object = column("INTEGER", "1 for the first group.", ge=1)
    added: object = column("VARCHAR", "The group that was added, or all sensors.")
    patients: object = column("INTEGER", "Patients compared.", ge=2)
    error: object = column("DOUBLE", "Mean error with this group and those before it.", unit="points")
    error_low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    error_high: object = column("DOUBLE", "Upper end.", nullable=True)
    gain: object = column("DOUBLE", "By how much the group makes the mean error smaller.", unit="points")
    gain_low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    gain_high: object = column("DOUBLE", "Upper end.", nullable=True)
    p_value: object = column("DOUBLE", "Two-sided, by flipping signs of patients' gains.", **SHARE)
    p_value_holm: object = column("DOUBLE", "After Holm over all steps.", **SHARE)
    verdict: object = column(
        "VARCHAR",
        "yes; no: the error is not smaller; not shown: smaller, but it may be chance; cannot be shown: nothing could have "
        "been shown with so few patients.",
        isin=("yes", "no", "not shown", "cannot be shown"),
    )


CHECK_INS: tuple[type[Table], ...] = (
    CheckInPredictions,
    CheckInPatients,
    CheckInMetrics,
    CheckInEffects,
    CheckInClaims,
    CheckInAddedValue,
)
"""The tables of the check-in evaluation, each made whole and within seconds."""
