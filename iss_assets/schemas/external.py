"""External validation: what the models of another study predict for this study's patients (`iss predict`)."""

from __future__ import annotations

from iss_assets.protocol import terms
from iss_assets.schemas.base import PATIENT_ID, SHARE, Table, column

_CLASSES = (*terms.PAIN_CLASSES, *terms.PAIN_LEVELS)
_SOURCE = "The study that trained the models: hash of its patients and splits, as in its own report."
_VERDICTS = ("no", "not shown", "cannot be shown", "yes")

SAME_FILE = "same_file"
SAME_ANSWERS = "same_answers"


class ExternalResults(Table):
    """One experiment of another study on this study's patients: accuracy, the best simple rule, and whether it carries over."""

    __table__ = "external_results"
    __key__ = ("source", "experiment")
    __partition__ = ("source",)

    source: object = column("VARCHAR", _SOURCE)
    experiment: object = column("VARCHAR", "Experiment.")
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    patients: object = column("INTEGER", "Patients of this study who were predicted.", ge=1)
    in_training_study: object = column(
        "INTEGER", "Patients of this study left out because the training study has them, too.", ge=0
    )
    without_items: object = column("INTEGER", "Patients without anything that the models read.", ge=0)
    all_classes: object = column("DOUBLE", "Mean accuracy over patients.", **SHARE)
    all_classes_low: object = column(
        "DOUBLE", "Lower end of its interval (BCa over patients).", nullable=True
    )
    all_classes_high: object = column("DOUBLE", "Upper end.", nullable=True)
    no_pain: object = column("DOUBLE", "Mean over patients without pain.", nullable=True)
    pain: object = column("DOUBLE", "Mean over patients with pain.", nullable=True)
    none: object = column("DOUBLE", "Mean over level None.", nullable=True)
    low: object = column("DOUBLE", "Mean over level Low.", nullable=True)
    moderate: object = column("DOUBLE", "Mean over level Moderate.", nullable=True)
    severe: object = column("DOUBLE", "Mean over level Severe.", nullable=True)
    above_half: object = column("DOUBLE", "Share of patients with accuracy above 0.5.", **SHARE)
    above_three_quarters: object = column("DOUBLE", "Share of patients above 0.75.", **SHARE)
    best_baseline: object = column("VARCHAR", "The simple rule with the highest mean accuracy.")
    best_baseline_accuracy: object = column("DOUBLE", "Its mean accuracy over the same patients.", **SHARE)
    baseline_difference: object = column("DOUBLE", "Mean accuracy minus the best simple rule's.")
    baseline_difference_low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    baseline_difference_high: object = column("DOUBLE", "Upper end.", nullable=True)
    baseline_p_holm: object = column(
        "DOUBLE",
        "p of the difference (patients' signs flipped, two-sided), after Holm over experiments.",
        **SHARE,
    )
    carries_over: object = column(
        "VARCHAR",
        "yes: better than the best simple rule; no: not higher; not shown: higher, but it may be chance; cannot be shown: "
        "higher, but nothing could have been shown with so few patients.",
        isin=_VERDICTS,
    )
    trained_accuracy: object = column(
        "DOUBLE",
        "Mean accuracy in the training study, on patients left out; empty: not evaluated there.",
        nullable=True,
    )
    trained_accuracy_low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    trained_accuracy_high: object = column("DOUBLE", "Upper end.", nullable=True)
    fold_spread: object = column(
        "DOUBLE",
        "Standard deviation between the folds' probabilities of pain, mean over patients; empty with one fold.",
        nullable=True,
    )
    models: object = column("INTEGER", "Trained folds whose probabilities were averaged.", ge=1)
    train_patients: object = column("INTEGER", "Patients that the folds learned from, together.", ge=1)
    train_events: object = column("INTEGER", "Of these, patients with pain.", ge=0)
    profile: object = column("VARCHAR", "Profile of the training: paper or demo.")
    weights_origin: object = column("VARCHAR", "Where the first weights came from.")
    code_version: object = column("VARCHAR", "Version of the training code.")


class ExternalPatients(Table):
    """One patient of this study, predicted by all folds of one experiment of another study."""

    __table__ = "external_patients"
    __key__ = ("source", "experiment", "patient_id")
    __partition__ = ("source",)

    source: object = column("VARCHAR", _SOURCE)
    experiment: object = column("VARCHAR", "Experiment.")
    patient_id: object = column("VARCHAR", "Patient id in this study.", **PATIENT_ID)
    pain_level: object = column("VARCHAR", "The patient's level.", isin=terms.PAIN_LEVELS)
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    target: object = column("VARCHAR", "The patient's true class.", isin=_CLASSES)
    predicted: object = column("VARCHAR", "The class predicted for most items (weighted).", isin=_CLASSES)
    items: object = column("BIGINT", "Items.", ge=1)
    weight: object = column("DOUBLE", "Sum of the items' weights.", gt=0)
    accuracy: object = column("DOUBLE", "Share of items predicted correctly, weighted by `weight`.", **SHARE)
    pain_probability: object = column(
        "DOUBLE", "Probability of pain: mean over the folds and, weighted, over the items.", **SHARE
    )
    lowest_probability: object = column("DOUBLE", "That of the fold with the lowest.", **SHARE)
    highest_probability: object = column("DOUBLE", "That of the fold with the highest.", **SHARE)
    fold_spread: object = column(
        "DOUBLE", "Standard deviation between the folds; empty with one fold.", nullable=True
    )
    predicted_shares: object = column(
        "VARCHAR", "Weighted share of items predicted as each class, as JSON: class to share."
    )


class ExternalMetrics(Table):
    """One figure of one experiment of another study on this study's patients, with its interval."""

    __table__ = "external_metrics"
    __key__ = ("source", "experiment", "metric")
    __partition__ = ("source",)

    source: object = column("VARCHAR", _SOURCE)
    experiment: object = column("VARCHAR", "Experiment.")
    metric: object = column("VARCHAR", "Name of the figure, as in `experiment_metrics`.")
    patients: object = column("INTEGER", "Patients behind it.", ge=0)
    estimate: object = column("DOUBLE", "Its value; empty where it is not defined.", nullable=True)
    low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    high: object = column("DOUBLE", "Upper end.", nullable=True)
    method: object = column("VARCHAR", "BCa, percentile, Clopper-Pearson (shares of patients), or none.")
    note: object = column("VARCHAR", "A caveat; empty if there is none.", nullable=True)
    reference: object = column(
        "DOUBLE",
        "What a model that has learned nothing would have: 0.5 for the AUROC, and the Brier score of the share of patients in "
        "pain; empty for other figures.",
        nullable=True,
    )


class ExternalBaselines(Table):
    """One simple rule on this study's patients: a constant, or a rule fitted in the training study."""

    __table__ = "external_baselines"
    __key__ = ("source", "baseline", "classes")
    __partition__ = ("source",)

    source: object = column("VARCHAR", _SOURCE)
    baseline: object = column(
        "VARCHAR", "majority, sex, skin, sex_and_skin (of the training study), or always_ and a class."
    )
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    patients: object = column("INTEGER", "Patients of this study.", ge=1)
    all_classes: object = column("DOUBLE", "Mean accuracy over patients.", **SHARE)
    all_classes_low: object = column("DOUBLE", "Lower end of its exact interval.", nullable=True)
    all_classes_high: object = column("DOUBLE", "Upper end.", nullable=True)
    no_pain: object = column("DOUBLE", "Mean over patients without pain.", nullable=True)
    pain: object = column("DOUBLE", "Mean over patients with pain.", nullable=True)


class ExternalLeftOut(Table):
    """One patient of this study who was not predicted by one experiment of another study, and why."""

    __table__ = "external_left_out"
    __key__ = ("source", "experiment", "patient_id")
    __partition__ = ("source",)

    source: object = column("VARCHAR", _SOURCE)
    experiment: object = column("VARCHAR", "Experiment.")
    patient_id: object = column("VARCHAR", "Patient id in this study.", **PATIENT_ID)
    reason: object = column(
        "VARCHAR",
        "same_file: a file of the patient is in the training study; same_answers: the same id with the same answers on the "
        "same day is; otherwise why no item could be made, as in training (no_consent, no_video, no_faces, ...).",
    )


EXTERNAL: tuple[type[Table], ...] = (
    ExternalResults,
    ExternalPatients,
    ExternalMetrics,
    ExternalBaselines,
    ExternalLeftOut,
)
"""The tables of an external validation. `iss predict` replaces those of one source, together."""
