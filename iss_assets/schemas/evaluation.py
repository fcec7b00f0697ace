"""Accuracy, baselines, intervals, subgroups and leakage tests."""

from __future__ import annotations

from iss_assets.protocol import terms
from iss_assets.schemas.base import PATIENT_ID, SHARE, Table, column

_CLASSES = (*terms.PAIN_CLASSES, *terms.PAIN_LEVELS)


class PatientAccuracy(Table):
    """One test patient's accuracy in one experiment."""

    __table__ = "patient_accuracy"
    __key__ = ("experiment", "patient_id")
    __partition__ = ("experiment",)

    experiment: object = column("VARCHAR", "Experiment.")
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    split: object = column("INTEGER", "Split in which the patient is tested.", ge=1)
    pain_level: object = column("VARCHAR", "The patient's level.", isin=terms.PAIN_LEVELS)
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    target: object = column("VARCHAR", "The patient's true class.", isin=_CLASSES)
    predicted: object = column("VARCHAR", "The class predicted for most items (weighted).", isin=_CLASSES)
    items: object = column("BIGINT", "Test items.", ge=1)
    weight: object = column("DOUBLE", "Sum of the items' weights.", gt=0)
    accuracy: object = column("DOUBLE", "Share of items predicted correctly, weighted by `weight`.", **SHARE)
    pain_probability: object = column(
        "DOUBLE", "Mean probability of pain over the items, weighted by `weight`.", **SHARE
    )
    predicted_shares: object = column(
        "VARCHAR", "Weighted share of items predicted as each class, as JSON: class to share."
    )
    profile: object = column("VARCHAR", "Profile of the model: paper or demo.", nullable=True)
    weights_origin: object = column(
        "VARCHAR",
        "Where the model's first weights came from: imagenet, file, random (ResNet50), imagenet (EfficientNet-Lite0), none.",
        nullable=True,
    )


class ExperimentResults(Table):
    """One experiment's row of Table 5, with intervals."""

    __table__ = "experiment_results"
    __key__ = ("experiment",)
    __partition__ = ("experiment",)

    experiment: object = column("VARCHAR", "Experiment.")
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    patients: object = column("INTEGER", "Test patients.", ge=0)
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
    balanced_accuracy: object = column("DOUBLE", "Mean of the classes' means.", nullable=True)
    auroc: object = column("DOUBLE", "Area under the ROC curve over patients.", nullable=True)
    p_value: object = column("DOUBLE", "By permutation of patients' labels.", nullable=True)
    p_value_holm: object = column("DOUBLE", "The same after Holm over experiments.", nullable=True)
    p_value_method: object = column("VARCHAR", "As `permutation_results.method`.", nullable=True)
    best_baseline: object = column("VARCHAR", "The best baseline in the same folds.", nullable=True)
    best_baseline_accuracy: object = column("DOUBLE", "Its mean accuracy over patients.", nullable=True)
    baseline_difference: object = column(
        "DOUBLE", "Mean accuracy minus the best baseline's, over the same patients.", nullable=True
    )
    baseline_difference_low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    baseline_difference_high: object = column("DOUBLE", "Upper end.", nullable=True)
    baseline_p_holm: object = column(
        "DOUBLE",
        "p of the difference (patients' signs flipped, two-sided), after Holm over experiments.",
        nullable=True,
        **SHARE,
    )
    beats_baseline: object = column(
        "VARCHAR",
        "no: not higher; not shown: higher, but the interval includes 0 or p (Holm) is not small; cannot be shown: "
        "higher, but with so few differing patients and so many experiments, p (Holm) could not have been small; yes; "
        "empty where no baseline was evaluated.",
        isin=("no", "not shown", "cannot be shown", "yes"),
        nullable=True,
    )
    sensitivity: object = column(
        "DOUBLE", "Share of patients with pain for whom pain is predicted.", nullable=True
    )
    specificity: object = column(
        "DOUBLE", "Share of patients without pain for whom no pain is predicted.", nullable=True
    )
    brier: object = column("DOUBLE", "Brier score of the patients' mean pain probability.", nullable=True)
    scaled_brier: object = column(
        "DOUBLE", "1 - Brier score / Brier score of the share of patients in pain.", nullable=True
    )
    models: object = column("INTEGER", "Trained splits behind this row.", ge=0)
    intervals: object = column("VARCHAR", "Every figure's interval, as JSON.", nullable=True)
    profile: object = column("VARCHAR", "paper or demo.")
    weights_origin: object = column("VARCHAR", "Where the first weights came from.")
    cohort_hash: object = column("VARCHAR", "Hash of the cohort trained on.")


class ExperimentMetrics(Table):
    """One figure of one experiment with its interval over patients."""

    __table__ = "experiment_metrics"
    __key__ = ("experiment", "metric")

    experiment: object = column("VARCHAR", "Experiment.")
    metric: object = column("VARCHAR", "Name of the figure.")
    patients: object = column("INTEGER", "Patients behind it.", ge=0)
    estimate: object = column("DOUBLE", "Its value; empty where it is not defined.", nullable=True)
    low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    high: object = column("DOUBLE", "Upper end.", nullable=True)
    method: object = column("VARCHAR", "BCa, percentile, Clopper-Pearson (shares of patients), or none.")
    note: object = column("VARCHAR", "A caveat; empty if there is none.", nullable=True)
    reference: object = column(
        "DOUBLE",
        "What a model that has learned nothing would have: AUROC of models trained on permuted labels (where models are "
        "retrained), Brier score of the share of patients in pain; empty for other figures.",
        nullable=True,
    )


class ConfusionCounts(Table):
    """One cell of an experiment's confusion matrix over patients."""

    __table__ = "confusion_counts"
    __key__ = ("experiment", "target", "predicted")

    experiment: object = column("VARCHAR", "Experiment.")
    target: object = column("VARCHAR", "True class.", isin=_CLASSES)
    predicted: object = column("VARCHAR", "Class predicted for most items.", isin=_CLASSES)
    patients: object = column("INTEGER", "Patients.", ge=0)


class Calibration(Table):
    """One bin of predicted pain probability over patients."""

    __table__ = "calibration"
    __key__ = ("experiment", "bin")

    experiment: object = column("VARCHAR", "Experiment.")
    bin: object = column("INTEGER", "Number of the bin from 1.", ge=1)
    bin_low: object = column("DOUBLE", "Lower end of the bin.", **SHARE)
    bin_high: object = column("DOUBLE", "Upper end.", **SHARE)
    patients: object = column("INTEGER", "Patients in it.", ge=0)
    mean_probability: object = column("DOUBLE", "Mean predicted probability.", nullable=True, **SHARE)
    pain_share: object = column("DOUBLE", "Share of patients with pain.", nullable=True, **SHARE)


class BaselineAccuracy(Table):
    """One test patient's accuracy under one baseline."""

    __table__ = "baseline_accuracy"
    __key__ = ("baseline", "classes", "patient_id")

    baseline: object = column("VARCHAR", "Baseline.")
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    split: object = column("INTEGER", "Split in which the patient is tested.", ge=1)
    pain_level: object = column("VARCHAR", "The patient's level.", isin=terms.PAIN_LEVELS)
    items: object = column("BIGINT", "Test items (submissions or videos; 1 for the patient).", ge=1)
    accuracy: object = column("DOUBLE", "Share of items predicted correctly.", **SHARE)
    fallback: object = column(
        "BOOLEAN",
        "Nothing was known about the patient, so the majority class of the training side was predicted.",
    )


class BaselineResults(Table):
    """One baseline's mean accuracy over patients, in the experiments' folds."""

    __table__ = "baseline_results"
    __key__ = ("baseline", "classes")

    baseline: object = column("VARCHAR", "Baseline.")
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    patients: object = column("INTEGER", "Test patients.", ge=0)
    all_classes: object = column("DOUBLE", "Mean accuracy over patients.", **SHARE)
    all_classes_low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    all_classes_high: object = column("DOUBLE", "Upper end.", nullable=True)
    no_pain: object = column("DOUBLE", "Mean over patients without pain.", nullable=True)
    pain: object = column("DOUBLE", "Mean over patients with pain.", nullable=True)
    above_half: object = column("DOUBLE", "Share of patients above 0.5.", **SHARE)
    above_half_low: object = column("DOUBLE", "Lower end of its exact interval.", nullable=True)
    above_half_high: object = column("DOUBLE", "Upper end.", nullable=True)
    fallbacks: object = column("INTEGER", "Patients about whom nothing was known.", ge=0)


class PermutationResults(Table):
    """One experiment's test against chance."""

    __table__ = "permutation_results"
    __key__ = ("experiment",)

    experiment: object = column("VARCHAR", "Experiment.")
    method: object = column(
        "VARCHAR",
        "retrained; retrained, smaller (fewer trees or some of the items, the observed figure too); or fixed "
        "predictions.",
        isin=("retrained", "retrained, smaller", "fixed predictions"),
    )
    permutations: object = column("INTEGER", "Permutations of patients' labels that were computed.", ge=1)
    most_permutations: object = column(
        "INTEGER", "Largest number of permutations that the settings allowed.", ge=1
    )
    stopped: object = column("BOOLEAN", "Whether the test stopped early, because p could no longer be small.")
    observed: object = column("DOUBLE", "Mean accuracy over patients.", **SHARE)
    chance_mean: object = column("DOUBLE", "Mean of the permutations.", **SHARE)
    chance_high: object = column(
        "DOUBLE",
        "Their 95th percentile (that of the setting `confidence`); empty where too few were computed.",
        nullable=True,
        **SHARE,
    )
    chance_auroc: object = column(
        "DOUBLE",
        "Mean AUROC of models trained on permuted labels; empty where no model is retrained.",
        nullable=True,
        **SHARE,
    )
    p_value: object = column(
        "DOUBLE",
        "One-sided. All permutations computed: the share at least as good, counting the observed one. Stopped early: "
        "those at least as good over all computed (Besag and Clifford 1991).",
        **SHARE,
    )
    p_value_holm: object = column("DOUBLE", "After Holm over experiments.", **SHARE)
    p_least: object = column(
        "DOUBLE",
        "The smallest p possible with this number of permutations and patients.",
        **SHARE,
    )
    p_least_holm: object = column(
        "DOUBLE",
        "The smallest p this test could have had after Holm, given the other tests: above alpha, no result could have "
        "been distinguished from chance.",
        **SHARE,
    )


class PairedDifferences(Table):
    """One pair of models compared over the same patients."""

    __table__ = "paired_differences"
    __key__ = ("first", "second", "classes")

    first: object = column("VARCHAR", "Experiment.")
    second: object = column("VARCHAR", "Experiment or baseline.")
    second_kind: object = column("VARCHAR", "experiment or baseline.", isin=("experiment", "baseline"))
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    patients: object = column("INTEGER", "Patients that both were tested on.", ge=1)
    difference: object = column("DOUBLE", "Mean over patients of the first minus the second.", ge=-1, le=1)
    low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    high: object = column("DOUBLE", "Upper end.", nullable=True)
    p_value: object = column("DOUBLE", "Two-sided, by flipping signs of patients' differences.", **SHARE)
    p_least: object = column(
        "DOUBLE", "The smallest p possible with this number of differing patients.", **SHARE
    )
    p_value_holm: object = column("DOUBLE", "After Holm over the pairs of this kind.", **SHARE)


class SubgroupResults(Table):
    """One experiment's figures in one group of patients."""

    __table__ = "subgroup_results"
    __key__ = ("experiment", "attribute", "group_name")

    experiment: object = column("VARCHAR", "Experiment.")
    attribute: object = column("VARCHAR", "sex, skin_group, sex_and_skin, cohort or age_group.")
    group_name: object = column("VARCHAR", "The group.")
    patients: object = column("INTEGER", "Patients in it.", ge=1)
    small: object = column("BOOLEAN", "Whether it has fewer patients than the setting `small_cell`.")
    accuracy: object = column("DOUBLE", "Mean accuracy over its patients.", **SHARE)
    low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    high: object = column("DOUBLE", "Upper end.", nullable=True)
    pain_share: object = column("DOUBLE", "Share of its patients with pain.", **SHARE)
    predicted_pain_share: object = column(
        "DOUBLE", "Share of its patients for whom pain is predicted.", **SHARE
    )
    sensitivity: object = column("DOUBLE", "Among its patients with pain.", nullable=True, **SHARE)
    sensitivity_low: object = column("DOUBLE", "Lower end of its exact interval.", nullable=True, **SHARE)
    sensitivity_high: object = column("DOUBLE", "Upper end.", nullable=True, **SHARE)
    specificity: object = column("DOUBLE", "Among its patients without pain.", nullable=True, **SHARE)
    specificity_low: object = column("DOUBLE", "Lower end of its exact interval.", nullable=True, **SHARE)
    specificity_high: object = column("DOUBLE", "Upper end.", nullable=True, **SHARE)
    gap: object = column(
        "DOUBLE",
        "Attributes of two groups: accuracy of the first group by name minus the second's, patients with and without "
        "pain weighted equally in both.",
        nullable=True,
        ge=-1,
        le=1,
    )
    gap_low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    gap_high: object = column("DOUBLE", "Upper end.", nullable=True)
    gap_note: object = column("VARCHAR", "Why there is no gap, or a caveat.", nullable=True)


class QualityAssociations(Table):
    """One quality measure's association with pain over patients."""

    __table__ = "quality_associations"
    __key__ = ("measure",)

    measure: object = column("VARCHAR", "Measure of video_quality.")
    patients: object = column("INTEGER", "Patients with the measure.", ge=0)
    auroc: object = column(
        "DOUBLE", "Chance that a patient with pain has the higher mean; 0.5 is none.", nullable=True, **SHARE
    )
    p_value: object = column("DOUBLE", "Mann-Whitney, two-sided.", nullable=True, **SHARE)
    p_value_holm: object = column("DOUBLE", "After Holm over measures.", nullable=True, **SHARE)


class AttentionShortcuts(Table):
    """One experiment's attention to one kind of flagged stretches, beside chance."""

    __table__ = "attention_shortcuts"
    __key__ = ("experiment", "flag")

    experiment: object = column("VARCHAR", "Experiment on whole videos.")
    flag: object = column("VARCHAR", "Flag of the recording that holds for part of some videos.")
    patients: object = column("INTEGER", "Test patients with such a video.", ge=1)
    videos: object = column("INTEGER", "Their videos of which the flag covers a part.", ge=1)
    attention: object = column(
        "DOUBLE", "Share of the attention on flagged stretches, mean over patients.", **SHARE
    )
    chance: object = column(
        "DOUBLE", "Share of the video that is flagged, which attention would give by chance.", **SHARE
    )
    difference: object = column("DOUBLE", "Mean over patients of attention minus chance.", ge=-1, le=1)
    difference_low: object = column("DOUBLE", "Lower end of its interval (BCa over patients).", nullable=True)
    difference_high: object = column("DOUBLE", "Upper end.", nullable=True)
    p_value: object = column("DOUBLE", "Two-sided, by flipping signs of patients' differences.", **SHARE)
    p_value_holm: object = column("DOUBLE", "After Holm over experiments and flags.", **SHARE)
    p_least_holm: object = column(
        "DOUBLE", "The smallest p (Holm) that so many differing patients could have given.", **SHARE
    )
    verdict: object = column(
        "VARCHAR",
        "Whether the model looks at flagged stretches more than chance would. no: not more; not shown: more, but the interval "
        "includes 0 or p (Holm) is not small; cannot be shown: more, but with so few patients p could not have been small; yes.",
        isin=("no", "not shown", "cannot be shown", "yes"),
    )


class CanaryResults(Table):
    """One leakage test: what was tried, the result, and whether it is as expected."""

    __table__ = "canary_results"
    __key__ = ("canary", "subject")

    canary: object = column("VARCHAR", "What was tried.")
    subject: object = column("VARCHAR", "Experiment, features or study that was tested.")
    value: object = column("DOUBLE", "The result.", nullable=True)
    limit_value: object = column("DOUBLE", "The limit that the result is compared with.", nullable=True)
    passed: object = column(
        "BOOLEAN", "Whether the result is as expected; empty where it is for information only.", nullable=True
    )
    detail: object = column("VARCHAR", "Description of the result.")


class SplitStability(Table):
    """One experiment's result under another assignment of patients to splits."""

    __table__ = "split_stability"
    __key__ = ("experiment", "split_seed")

    experiment: object = column("VARCHAR", "Experiment.")
    split_seed: object = column("INTEGER", "Seed of the assignment.")
    patients: object = column("INTEGER", "Test patients.", ge=0)
    all_classes: object = column("DOUBLE", "Mean accuracy over patients.", **SHARE)
