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
        "changes_detected and false_alarms (shares). Of models and of the same guess without a video also: "
        "calibration_intercept (points) and calibration_slope of the predicted answer; covered, covered_severe, told (shares "
        "of check-ins whose range of likely answers holds the answer, the same of severe answers, and those with a range that is "
        "of use) and set_width (points). Of models also, after severe_ or worse_: intercept, slope (logistic recalibration) and "
        "scaled_brier of the probability of a severe answer, or of one that is worse than the first answers. Of linear models that are "
        "shown to follow changes: size_of_sign, the correlation within patients without what learning from few patients and "
        "rounded answers hide of it.",
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


_EVENT = "severe: an answer of 7 or more; worse: by an important change above the mean of the patient's first answers."
_EVENTS = ("severe", "worse")


class CheckInSets(Table):
    """What one model holds possible at one check-in: a range of likely answers, and probabilities, from other patients' errors."""

    __table__ = "check_in_sets"
    __key__ = ("target", "protocol", "known", "model", "submission_id")

    target: object = column("VARCHAR", _TARGET)
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    known: object = column("INTEGER", _KNOWN, ge=0)
    model: object = column(
        "VARCHAR", "Experiment, or the same guess without a video: first_answers, training_mean."
    )
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    submission_id: object = column("VARCHAR", "Submission id.", **SUBMISSION_ID)
    low: object = column("DOUBLE", "Smallest likely answer (conformal prediction set).", **_SCALE)
    high: object = column("DOUBLE", "Largest likely answer.", **_SCALE)
    cannot_tell: object = column(
        "BOOLEAN",
        "The range is too wide to be of use: its middle may be more than an important change away from the answer.",
    )
    severe_probability: object = column("DOUBLE", "Probability of an answer of 7 or more.", **SHARE)
    worse_probability: object = column(
        "DOUBLE",
        "Probability of an answer that is by an important change above the mean of the first answers; empty for new patients.",
        nullable=True,
        **SHARE,
    )


class CheckInCalibration(Table):
    """One dot of a calibration curve: check-ins for which one model predicted similar values."""

    __table__ = "check_in_calibration"
    __key__ = ("target", "outcome", "protocol", "known", "model", "bin")

    target: object = column("VARCHAR", _TARGET)
    outcome: object = column(
        "VARCHAR", f"answer: the answer itself, in points. {_EVENT}", isin=("answer", *_EVENTS)
    )
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    known: object = column("INTEGER", _KNOWN, ge=0)
    model: object = column("VARCHAR", "Experiment.")
    bin: object = column("INTEGER", "1 for the smallest predictions.", ge=1)
    check_ins: object = column("INTEGER", "Check-ins in the bin.", ge=1)
    patients: object = column("INTEGER", "Their patients.", ge=1)
    predicted: object = column("DOUBLE", "Mean prediction: points, or a probability.")
    observed: object = column("DOUBLE", "Mean answer, or share of check-ins with the event.")
    observed_low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    observed_high: object = column("DOUBLE", "Upper end.", nullable=True)


class CheckInBenefits(Table):
    """Net benefit of acting on one model's probability, or on everyone, from one threshold on."""

    __table__ = "check_in_benefits"
    __key__ = ("target", "event", "protocol", "known", "acted_on", "threshold")

    target: object = column("VARCHAR", _TARGET)
    event: object = column("VARCHAR", _EVENT, isin=_EVENTS)
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    known: object = column("INTEGER", _KNOWN, ge=0)
    acted_on: object = column(
        "VARCHAR",
        "Whose probability: an experiment, or the same guess without a video; or everyone. Acting on no one is 0.",
    )
    threshold: object = column("DOUBLE", "The probability from which one acts.", **SHARE)
    patients: object = column("INTEGER", "Patients.", ge=1)
    check_ins: object = column("INTEGER", "Check-ins, the same for every strategy.", ge=1)
    events: object = column("INTEGER", "Check-ins with the event.", ge=0)
    net_benefit: object = column(
        "DOUBLE",
        "Share of check-ins rightly acted on, minus the share acted on in vain times threshold / (1 - threshold).",
    )
    low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    high: object = column("DOUBLE", "Upper end.", nullable=True)


class CheckInUsefulness(Table):
    """Whether acting on one model's probability does more good than the best of doing without it, over all thresholds."""

    __table__ = "check_in_usefulness"
    __key__ = ("target", "event", "protocol", "known", "model")

    target: object = column("VARCHAR", _TARGET)
    event: object = column("VARCHAR", _EVENT, isin=_EVENTS)
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    known: object = column("INTEGER", _KNOWN, ge=0)
    model: object = column("VARCHAR", "Experiment.")
    patients: object = column("INTEGER", "Patients compared.", ge=0)
    check_ins: object = column("INTEGER", "Their check-ins.", ge=0)
    events: object = column("INTEGER", "Check-ins with the event.", ge=0)
    gain: object = column(
        "DOUBLE",
        "Net benefit beyond the best of acting on everyone, on no one, and on the same guess without a video; mean over "
        "thresholds.",
    )
    low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    high: object = column("DOUBLE", "Upper end.", nullable=True)
    p_value: object = column("DOUBLE", "Two-sided, by flipping signs of patients' gains.", **SHARE)
    p_value_holm: object = column("DOUBLE", "After Holm over all rows of the table.", **SHARE)
    verdict: object = column(
        "VARCHAR",
        "yes; no: not more good; not shown: more, but it may be chance; cannot be shown: nothing could have been shown with "
        "so few patients.",
        isin=("yes", "no", "not shown", "cannot be shown"),
    )


_QUANTITY = (
    "mean_error (points); gain_over_last_answer: by how much it is smaller than the last answer's (points); correlation: of "
    "predictions and answers within patients. Of the linear model."
)
_QUANTITIES = ("mean_error", "gain_over_last_answer", "correlation")


class CheckInPatientsNeeded(Table):
    """How many patients a study needs for an interval as narrow as wanted, as far as this study knows its own variance."""

    __table__ = "check_in_patients_needed"
    __key__ = ("target", "quantity")

    target: object = column("VARCHAR", _TARGET)
    quantity: object = column("VARCHAR", _QUANTITY, isin=_QUANTITIES)
    known: object = column("INTEGER", "Number of the patients' first check-ins that are known.", ge=1)
    model: object = column("VARCHAR", "Experiment.")
    patients: object = column("INTEGER", "Patients that the variance is estimated from.", ge=0)
    check_ins: object = column("INTEGER", "Their check-ins.", ge=0)
    between_variance: object = column("DOUBLE", "Variance between patients.", nullable=True, ge=0)
    within_variance: object = column("DOUBLE", "Variance within patients.", nullable=True, ge=0)
    wanted: object = column("DOUBLE", "How far the interval is to reach to either side.", gt=0)
    needed: object = column("INTEGER", "Patients needed; empty where it cannot be said.", nullable=True, ge=2)
    needed_low: object = column(
        "INTEGER", "Lower end of the range that holds nine in ten estimates.", nullable=True, ge=2
    )
    needed_high: object = column("INTEGER", "Upper end.", nullable=True, ge=2)
    verdict: object = column(
        "VARCHAR",
        "known: the range spans at most a factor of two; too few patients to know; cannot be said: nothing could be estimated.",
        isin=("known", "too few patients to know", "cannot be said"),
    )


class CheckInIntervalReach(Table):
    """How far an interval reaches to either side in simulated studies with one number of patients."""

    __table__ = "check_in_interval_reach"
    __key__ = ("target", "quantity", "patients")

    target: object = column("VARCHAR", _TARGET)
    quantity: object = column("VARCHAR", _QUANTITY, isin=_QUANTITIES)
    patients: object = column("INTEGER", "Patients of the simulated studies.", ge=2)
    reach: object = column("DOUBLE", "Half of the interval's width, median of studies.", ge=0)
    reach_low: object = column("DOUBLE", "Lower end of the range that holds nine in ten studies.", ge=0)
    reach_high: object = column("DOUBLE", "Upper end.", ge=0)


class CheckInAttention(Table):
    """One stretch of a narrative: how much attention it got from a network that never saw the patient in training."""

    __table__ = "check_in_attention"
    __key__ = ("target", "protocol", "known", "model", "video_id", "instance")

    target: object = column("VARCHAR", _TARGET)
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    known: object = column("INTEGER", _KNOWN, ge=0)
    model: object = column("VARCHAR", "Experiment; only networks have attention.")
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    video_id: object = column("VARCHAR", "Video id, which is the id of the check-in.", **SUBMISSION_ID)
    instance: object = column(
        "INTEGER", "Number of the stretch from 0; stretches in which nothing was measured have no row.", ge=0
    )
    start_s: object = column("DOUBLE", "Where it begins in the video.", unit="s", ge=0)
    end_s: object = column("DOUBLE", "Where it ends.", unit="s", ge=0)
    attention: object = column(
        "DOUBLE",
        "Its share of the network's attention when it predicted this check-in; the shares of a video add up to 1.",
        **SHARE,
    )


class CheckInShortcuts(Table):
    """One network's attention to one kind of flagged stretches of narratives, beside chance."""

    __table__ = "check_in_shortcuts"
    __key__ = ("target", "protocol", "model", "flag")

    target: object = column("VARCHAR", _TARGET)
    protocol: object = column("VARCHAR", _PROTOCOL, isin=_PROTOCOLS)
    model: object = column("VARCHAR", "Experiment; only networks have attention.")
    flag: object = column("VARCHAR", "Flag of the recording that holds for part of some videos.")
    patients: object = column("INTEGER", "Patients with such a video.", ge=1)
    videos: object = column("INTEGER", "Their videos of which the flag covers a part.", ge=1)
    attention: object = column(
        "DOUBLE",
        "Share of the attention on flagged stretches, mean over patients; of known patients the mean over all numbers of known "
        "check-ins.",
        **SHARE,
    )
    chance: object = column(
        "DOUBLE", "Share of the video that is flagged, which attention would give by chance.", **SHARE
    )
    difference: object = column("DOUBLE", "Mean over patients of attention minus chance.", ge=-1, le=1)
    difference_low: object = column("DOUBLE", "Lower end of its interval (BCa over patients).", nullable=True)
    difference_high: object = column("DOUBLE", "Upper end.", nullable=True)
    p_value: object = column("DOUBLE", "Two-sided, by flipping signs of patients' differences.", **SHARE)
    p_value_holm: object = column("DOUBLE", "After Holm over targets, protocols, models and flags.", **SHARE)
    p_least_holm: object = column(
        "DOUBLE", "The smallest p (Holm) that so many differing patients could have given.", **SHARE
    )
    verdict: object = column(
        "VARCHAR",
        "Whether the network looks at flagged stretches more than chance would. no: not more; not shown: more, but the interval "
        "includes 0 or p (Holm) is not small; cannot be shown: more, but with so few patients p could not have been small; yes.",
        isin=("no", "not shown", "cannot be shown", "yes"),
    )


CHECK_INS: tuple[type[Table], ...] = (
    CheckInPredictions,
    CheckInPatients,
    CheckInMetrics,
    CheckInEffects,
    CheckInClaims,
    CheckInAddedValue,
    CheckInSets,
    CheckInCalibration,
    CheckInBenefits,
    CheckInUsefulness,
    CheckInPatientsNeeded,
    CheckInIntervalReach,
    CheckInAttention,
    CheckInShortcuts,
)
"""The tables of the check-in evaluation, each made whole and within seconds."""
