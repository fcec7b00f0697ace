"""Folds, trained models and their predictions."""

from __future__ import annotations

from iss_assets.protocol import terms
from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column


class CvSplits(Table):
    """One patient's place in the cross-validation."""

    __table__ = "cv_splits"
    __key__ = ("patient_id",)
    __references__ = (("patient_id", "patients"),)

    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    split: object = column("INTEGER", "The split in which the patient is tested, from 1.", ge=1)
    pain_level: object = column(
        "VARCHAR", "The level by which splits are stratified.", isin=terms.PAIN_LEVELS
    )
    source: object = column(
        "VARCHAR",
        "How the split was chosen: a split file, the seeded assignment, or, for later patients, the smallest suitable split.",
        isin=("file", "seed", "joined"),
    )
    folds: object = column(
        "INTEGER", "Number of splits in the settings; fewer patients give fewer splits.", ge=2
    )
    seed: object = column("BIGINT", "Seed of the assignment.")
    cohort_hash: object = column("VARCHAR", "Hash of all patients, levels and splits.")


class Embeddings(Table):
    """One face's embedding by a frozen network."""

    __table__ = "embeddings"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    frame_index: object = column("INTEGER", "Number of the sample from 0.", ge=0)
    embedding: object = column(
        "FLOAT[]",
        "Output of the last average pooling: 1,280 numbers of EfficientNet-Lite0, 2,048 of ResNet50.",
    )
    weights_origin: object = column(
        "VARCHAR",
        "The network and its weights: imagenet (EfficientNet-Lite0); or imagenet, file, random for ResNet50.",
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the crops, the weights and the code.")


class FoldModels(Table):
    """One trained model: an experiment on the training side of one split."""

    __table__ = "fold_models"
    __key__ = ("experiment", "split")
    __partition__ = ("experiment", "split")

    experiment: object = column("VARCHAR", "Experiment.")
    split: object = column("INTEGER", "Split whose patients were left out.", ge=1)
    trained_at: object = column("TIMESTAMP WITH TIME ZONE", "When training ended.")
    train_patients: object = column("VARCHAR[]", "Patients trained on.")
    test_patients: object = column("VARCHAR[]", "Patients left out.")
    train_items: object = column("BIGINT", "Items trained on.", ge=0)
    settings: object = column("VARCHAR", "Settings of the training, as JSON.")
    profile: object = column("VARCHAR", "paper or demo.")
    seed: object = column("INTEGER", "Seed.")
    weights_origin: object = column(
        "VARCHAR",
        "Where the first weights came from: imagenet, file, random (ResNet50), imagenet (EfficientNet-Lite0), none.",
    )
    weights: object = column(
        "VARCHAR", "File of the trained weights, relative to the home; empty if none.", nullable=True
    )
    history: object = column("VARCHAR", "Loss and accuracy per epoch, as JSON.", nullable=True)
    device: object = column(
        "VARCHAR",
        "What the model was computed on: the GPU's name, or cpu with the instructions used. Empty in this and the next "
        "four columns: trained by a version that did not record it.",
        nullable=True,
    )
    precision: object = column(
        "VARCHAR",
        "Precision actually used: float32, float32 (TF32 convolutions), bfloat16, float64.",
        nullable=True,
    )
    threads: object = column(
        "INTEGER", "CPU threads that computed the sums; empty on a GPU.", nullable=True, ge=1
    )
    execution: object = column(
        "VARCHAR",
        "How training steps ran: eager, captured (as CUDA graphs), compiled, compiled and captured.",
        nullable=True,
    )
    library: object = column("VARCHAR", "Library that trained it, with its version.", nullable=True)
    cohort_hash: object = column("VARCHAR", "Hash of the cohort trained on.")
    data_hash: object = column("VARCHAR", "Hash of the training data's fingerprints.")
    code_version: object = column("VARCHAR", "Version of the training code.")


class VideoAttention(Table):
    """One stretch of a test video: how much of a model's attention it got."""

    __table__ = "video_attention"
    __key__ = ("experiment", "video_id", "instance")
    __partition__ = ("experiment", "split")

    experiment: object = column("VARCHAR", "Experiment.")
    split: object = column("INTEGER", "Split in which the patient is tested.", ge=1)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    instance: object = column(
        "INTEGER", "Number of the stretch from 0; stretches in which nothing was measured have no row.", ge=0
    )
    start_s: object = column("DOUBLE", "Where it begins in the video.", unit="s", ge=0)
    end_s: object = column("DOUBLE", "Where it ends.", unit="s", ge=0)
    attention: object = column(
        "DOUBLE", "Its share of the model's attention to the video; all shares add up to 1.", **SHARE
    )
    fingerprint: object = column(
        "VARCHAR", "Fingerprint of the predictions that were made with this attention."
    )


class FramePredictions(Table):
    """One test item's prediction."""

    __table__ = "frame_predictions"
    __key__ = ("experiment", "video_id", "frame_index", "chunk_index")
    __partition__ = ("experiment", "split")

    experiment: object = column("VARCHAR", "Experiment.")
    split: object = column("INTEGER", "Split in which the patient is tested.", ge=1)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    video_id: object = column("VARCHAR", "Video or submission id.", **SUBMISSION_ID)
    frame_index: object = column("INTEGER", "Frame; empty for chunks and submissions.", nullable=True)
    chunk_index: object = column("INTEGER", "Chunk; empty for frames and submissions.", nullable=True)
    target: object = column("VARCHAR", "True class.")
    predicted: object = column("VARCHAR", "Predicted class.")
    probability: object = column("DOUBLE", "Probability of the predicted class.", **SHARE)
    pain_probability: object = column("DOUBLE", "Probability of any pain (1 minus that of no pain).", **SHARE)
    weight: object = column(
        "DOUBLE", "Weight in the patient's accuracy: a submission's frames; 1 for frames.", ge=0
    )
