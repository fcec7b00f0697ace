"""The tables of the warehouse, one pandera model each: the public contract of the project.

Belongs here: names, columns, types, ranges, keys. The data dictionary in ``docs/`` is made from this module.
Does not belong here: how a table is filled, and rules about the study as a whole (those are Great Expectations
suites: pandera guards the shape of a table, Great Expectations the study).
"""

from __future__ import annotations

from typing import Any

from iss_assets.protocol import terms
from iss_assets.schemas.base import Table, column

_PATIENT: dict[str, Any] = {"str_matches": terms.PATIENT_ID.pattern}
_ID: dict[str, Any] = {"str_matches": terms.SUBMISSION_ID.pattern}
_SHARE: dict[str, Any] = {"ge": 0, "le": 1}
_CLASSES = (*terms.PAIN_CLASSES, *terms.PAIN_LEVELS)
VIDEO_STATUS = ("ok", "unreadable", "no_video", "too_short", "too_large")
READING_STAGES = ("probe", "picture", "landmarks", "sound", "quality")
AUDIO_FEATURES = (
    *(f"mfcc_{i}" for i in range(1, 21)),
    "chroma_stft",
    "spectral_centroid",
    "spectral_bandwidth",
    "rolloff",
    "zero_crossing_rate",
)
"""The 25 audio features by name (paper, section 3.3.1)."""


class Patients(Table):
    """One enrolled patient."""

    __table__ = "patients"
    __key__ = ("patient_id",)
    __partition__ = ("patient_id",)

    patient_id: object = column("VARCHAR", "Patient id of the study.", **_PATIENT)
    cohort: object = column(
        "VARCHAR", "Cohort 1A to 4D of the paper's Table 2.", isin=[c.number for c in terms.COHORTS]
    )
    sex: object = column("VARCHAR", "M or F.", isin=terms.SEXES)
    skin_type: object = column("VARCHAR", "Fitzpatrick skin type I to VI.", isin=terms.SKIN_TYPES)
    skin_group: object = column("VARCHAR", "light (I-III) or dark (IV-VI).", isin=terms.SKIN_GROUPS)
    pain_target: object = column(
        "INTEGER", "Worst pain of the thirty days before enrollment, fixed for the whole study.", ge=0, le=10
    )
    pain_level: object = column(
        "VARCHAR", "None (0), Low (1-3), Moderate (4-6), Severe (7-10).", isin=terms.PAIN_LEVELS
    )
    enrolled_on: object = column("DATE", "Day of enrollment.", nullable=True)
    utc_offset_minutes: object = column(
        "INTEGER",
        "The patient's offset from UTC; counts for times that are written without one.",
        unit="min",
        nullable=True,
        ge=-14 * 60,
        le=14 * 60,
    )


class BpiScores(Table):
    """One submission's nine answers of the Brief Pain Inventory."""

    __table__ = "bpi_scores"
    __key__ = ("submission_id",)
    __partition__ = ("patient_id",)
    __references__ = (("patient_id", "patients"),)

    submission_id: object = column("VARCHAR", "Submission id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    submitted_at: object = column(
        "TIMESTAMP WITH TIME ZONE",
        "Moment of submission; empty where no offset from UTC is known, so that the moment is not either.",
        nullable=True,
    )
    written_time: object = column(
        "TIMESTAMP",
        "The time as it stands in surveys.csv, without its offset; on whatever clock wrote it.",
        nullable=True,
    )
    utc_offset_minutes: object = column(
        "INTEGER",
        "Offset from UTC of the local time of the check-in; empty where it is unknown.",
        unit="min",
        nullable=True,
        ge=-14 * 60,
        le=14 * 60,
    )
    utc_offset_source: object = column(
        "VARCHAR",
        "Where that offset comes from: written with the time, else the patient's, else the study's, else unknown.",
        isin=terms.OFFSET_SOURCES,
        nullable=True,
    )
    submitted_on: object = column(
        "DATE", "Local day of the check-in; empty where its offset is unknown.", nullable=True
    )
    timeframe: object = column(
        "VARCHAR",
        "Local time of day, four bins of six hours; empty where its offset is unknown.",
        isin=terms.TIMEFRAMES,
        nullable=True,
    )
    setting: object = column("VARCHAR", "home or clinic.", isin=terms.SETTINGS, nullable=True)
    pain_now: object = column("INTEGER", "Question 1: pain right now.", ge=0, le=10, nullable=True)
    chronic_pain: object = column(
        "BOOLEAN", "Question 2: pain related to the cancer for more than three months.", nullable=True
    )
    general_activity: object = column(
        "INTEGER", "Question 3: interference with general activity.", ge=0, le=10, nullable=True
    )
    mood: object = column("INTEGER", "Question 4: interference with mood.", ge=0, le=10, nullable=True)
    walking_ability: object = column(
        "INTEGER", "Question 5: interference with walking ability.", ge=0, le=10, nullable=True
    )
    normal_work: object = column(
        "INTEGER", "Question 6: interference with normal work.", ge=0, le=10, nullable=True
    )
    relationships: object = column(
        "INTEGER", "Question 7: interference with relations with other people.", ge=0, le=10, nullable=True
    )
    sleep: object = column("INTEGER", "Question 8: interference with sleep.", ge=0, le=10, nullable=True)
    enjoyment_of_life: object = column(
        "INTEGER", "Question 9: interference with enjoyment of life.", ge=0, le=10, nullable=True
    )
    missing_scores: object = column("INTEGER", "How many of the nine answers are missing.", ge=0, le=9)


class RejectedRows(Table):
    """One row of the study folder's csv files, or one file, that could not be used."""

    __table__ = "rejected_rows"
    __key__ = ("file", "line", "code", "column_name")

    file: object = column("VARCHAR", "File, relative to the study folder.")
    line: object = column("INTEGER", "Line in the file, 1 being the header; 0 where there is none.", ge=0)
    column_name: object = column("VARCHAR", "Column at fault, empty where it is the whole row.")
    patient_id: object = column("VARCHAR", "Patient id, where a valid one is known.", nullable=True)
    submission_id: object = column("VARCHAR", "Submission id, where a valid one is known.", nullable=True)
    code: object = column("VARCHAR", "Kind of trouble, a fixed word.")
    reason: object = column("VARCHAR", "What is wrong and what to do; never quotes the value.")


class StudyProblems(Table):
    """One trouble of the study folder that is reported though nothing was rejected."""

    __table__ = "study_problems"
    __key__ = ("file", "line", "code", "column_name")

    file: object = column("VARCHAR", "File, relative to the study folder.")
    line: object = column("INTEGER", "Line in the file, 1 being the header; 0 where there is none.", ge=0)
    column_name: object = column("VARCHAR", "Column at fault, empty where it is the whole row.")
    patient_id: object = column("VARCHAR", "Patient id, where known.", nullable=True)
    submission_id: object = column("VARCHAR", "Submission id, where known.", nullable=True)
    code: object = column("VARCHAR", "Kind of trouble, a fixed word.")
    reason: object = column("VARCHAR", "What is wrong and what to do; never quotes the value.")


class Videos(Table):
    """One submitted narrative video (Question 11), readable or not."""

    __table__ = "videos"
    __key__ = ("video_id",)
    __partition__ = ("patient_id",)
    __references__ = (("patient_id", "patients"),)

    video_id: object = column("VARCHAR", "The submission id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    file: object = column("VARCHAR", "File, relative to the study folder.")
    sha256: object = column(
        "VARCHAR",
        "SHA-256 of the file; of one that cannot be opened, of its name and time instead.",
        str_length={"min_value": 64, "max_value": 64},
    )
    bytes: object = column("BIGINT", "Size of the file.", unit="B", ge=0)
    modified_ns: object = column("BIGINT", "Modification time of the file when it was hashed.", unit="ns")
    container: object = column("VARCHAR", "Container as FFmpeg names it.", nullable=True)
    codec: object = column("VARCHAR", "Video codec as FFmpeg names it.", nullable=True)
    width: object = column(
        "INTEGER",
        "Width of the first picture, upright and with square pixels.",
        unit="px",
        ge=1,
        nullable=True,
    )
    height: object = column("INTEGER", "Height of that picture.", unit="px", ge=1, nullable=True)
    rotation: object = column(
        "INTEGER", "Degrees by which the file's metadata turns the picture.", unit="deg", nullable=True
    )
    source_fps: object = column("DOUBLE", "Average frame rate of the file.", unit="1/s", ge=0, nullable=True)
    duration_s: object = column("DOUBLE", "Duration of the video.", unit="s", ge=0, nullable=True)
    has_audio: object = column("BOOLEAN", "Whether there is a sound track.", nullable=True)
    audio_codec: object = column("VARCHAR", "Audio codec as FFmpeg names it.", nullable=True)
    has_prompt: object = column("BOOLEAN", "Whether the Question 10 reading was submitted with it.")
    status: object = column("VARCHAR", "ok, or why nothing can be seen in it.", isin=VIDEO_STATUS)
    problem: object = column(
        "VARCHAR",
        "What is wrong or unusual, in words; empty when nothing is. From opening the file, from reading its pictures and "
        "its sound, and from what failed on the way.",
        nullable=True,
    )
    file_problem: object = column(
        "VARCHAR", "The part of `problem` that opening the file showed.", nullable=True
    )
    transfer: object = column(
        "VARCHAR",
        "Transfer characteristic as FFmpeg names it: bt709, smpte2084 (HDR, PQ), arib-std-b67 (HDR, HLG), ...; unknown "
        "where the file does not say. HDR is measured after it is made SDR.",
        nullable=True,
    )


class VideoProblems(Table):
    """One stage of reading one video that failed because of the file: not tried again until file or code change."""

    __table__ = "video_problems"
    __key__ = ("video_id", "stage")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    stage: object = column("VARCHAR", "What was being done.", isin=READING_STAGES)
    sha256: object = column("VARCHAR", "SHA-256 of the file that failed.")
    version: object = column("VARCHAR", "Hash of the code and settings with which it failed.")
    status: object = column(
        "VARCHAR", "What it makes of the video: ok if the rest can be used.", isin=VIDEO_STATUS
    )
    error: object = column(
        "VARCHAR",
        "Class of the error, or died (the program was stopped), time, memory (limits).",
    )
    problem: object = column("VARCHAR", "The same in words, part of `videos.problem`.")


class Frames(Table):
    """One frame sampled from a video at 10 frames a second."""

    __table__ = "frames"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    frame_index: object = column("INTEGER", "Number of the sample from 0.", ge=0)
    time_s: object = column("DOUBLE", "Presentation time of the frame shown.", unit="s", ge=0)
    chunk_index: object = column("INTEGER", "Number of the 4-second chunk from 0.", ge=0)
    luminance: object = column("FLOAT", "Mean luma of the picture, 0 to 1.", **_SHARE)
    contrast: object = column("FLOAT", "Standard deviation of luma, 0 to 1.", **_SHARE)
    sharpness: object = column(
        "FLOAT", "Variance of the Laplacian of luma (8 bit) on the scaled picture.", ge=0
    )
    noise: object = column("FLOAT", "Standard deviation of noise in luma, 8 bit.", ge=0)
    glare: object = column("FLOAT", "Share of the picture that is blown out.", **_SHARE)
    highlight: object = column(
        "FLOAT", "99th percentile of luma, 0 to 1: what the brightest things reach.", nullable=True, **_SHARE
    )
    text_share: object = column(
        "FLOAT",
        "Share of the picture that lettering takes; looked for once a second.",
        nullable=True,
        **_SHARE,
    )
    face_luminance: object = column(
        "FLOAT", "Mean luma of the face, 0 to 1; empty without a face.", nullable=True, **_SHARE
    )
    face_highlight: object = column(
        "FLOAT", "99th percentile of the face's luma, 0 to 1; empty without a face.", nullable=True, **_SHARE
    )
    face_glare: object = column("FLOAT", "Share of the face that is blown out.", nullable=True, **_SHARE)
    face_sharpness: object = column("FLOAT", "Variance of the Laplacian on the crop.", ge=0, nullable=True)
    motion: object = column(
        "FLOAT",
        "Mean absolute luma difference to the sample before, 0 to 1; empty for the first.",
        nullable=True,
        **_SHARE,
    )
    picture_hash: object = column("BIGINT", "Hash of the scaled picture: identical frames have equal hashes.")
    faces_seen: object = column("INTEGER", "Faces found in the frame.", ge=0)
    width: object = column(
        "INTEGER",
        "Width of this picture, upright and with square pixels; differs from the video's where the recording turns or "
        "changes its size midway.",
        unit="px",
        ge=1,
        nullable=True,
    )
    height: object = column("INTEGER", "Height of this picture.", unit="px", ge=1, nullable=True)
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class Faces(Table):
    """One sampled frame with a face: the most probable large one."""

    __table__ = "faces"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    frame_index: object = column("INTEGER", "Number of the sample from 0.", ge=0)
    x1: object = column(
        "FLOAT", "Left of the box, in the pixels of this frame's own picture (`frames.width`).", unit="px"
    )
    y1: object = column("FLOAT", "Top of the box.", unit="px")
    x2: object = column("FLOAT", "Right of the box.", unit="px")
    y2: object = column("FLOAT", "Bottom of the box.", unit="px")
    probability: object = column("FLOAT", "MTCNN's probability that this is a face.", **_SHARE)
    faces_seen: object = column("INTEGER", "Faces found in the frame.", ge=1)
    crop: object = column("BLOB", "The 160x160 crop, an RGB picture file.")
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class Landmarks(Table):
    """One face: whether Face Mesh found it, and its 468 points."""

    __table__ = "landmarks"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    frame_index: object = column("INTEGER", "Number of the sample from 0.", ge=0)
    detected: object = column("BOOLEAN", "Whether a mesh was found.")
    points: object = column(
        "FLOAT[1404]",
        "468 points as x, y, z in turn; x and y as shares of the crop's side, z on x's scale; empty without a mesh.",
        nullable=True,
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class Audio(Table):
    """One video's sound track."""

    __table__ = "audio"
    __key__ = ("video_id",)
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    sample_rate: object = column("INTEGER", "Sample rate of the stored waveform.", unit="Hz", gt=0)
    duration_s: object = column("DOUBLE", "Duration of the sound.", unit="s", ge=0)
    loudness_lufs: object = column(
        "DOUBLE",
        "Integrated loudness (ITU-R BS.1770-4); empty when silent or under 0.4 s.",
        unit="LUFS",
        nullable=True,
    )
    snr_db: object = column(
        "DOUBLE",
        "Level of speech over the noise floor; empty without 0.3 s of speech.",
        unit="dB",
        nullable=True,
    )
    clipped_share: object = column(
        "DOUBLE", "Share of samples on a plateau at which the wave is cut off; 0 is normal.", **_SHARE
    )
    speech_share: object = column("DOUBLE", "Share of the time in which somebody speaks.", **_SHARE)
    high_band_db: object = column(
        "DOUBLE",
        "Energy above 4 kHz against the whole, during speech; empty when silent.",
        unit="dB",
        nullable=True,
    )
    peak: object = column("DOUBLE", "Largest absolute sample, 0 to 1 and above.", ge=0)
    waveform: object = column(
        "BLOB", "Mono FLAC, lossless for the stored samples; no bytes if nothing was decoded."
    )
    source_rate: object = column(
        "INTEGER",
        "Sample rate of the file's own track; empty if nothing was decoded.",
        unit="Hz",
        gt=0,
        nullable=True,
    )
    noise_dbfs: object = column(
        "DOUBLE", "Noise floor against full scale; empty when silent.", unit="dB", nullable=True
    )
    mid_band_db: object = column(
        "DOUBLE",
        "Energy from 2 to 4 kHz against the whole, during speech; empty when silent.",
        unit="dB",
        nullable=True,
    )
    inserted_silence_s: object = column(
        "DOUBLE",
        "Silence put in where the track starts late, or has a hole that the picture does not share.",
        unit="s",
        ge=0,
        nullable=True,
    )
    broken_packets: object = column("INTEGER", "Damaged packets that were skipped.", ge=0, nullable=True)
    problem: object = column("VARCHAR", "What is wrong, in words; empty when nothing is.", nullable=True)
    downmix: object = column(
        "VARCHAR",
        "What of the track's channels is heard: mono (it has one), mean (of all that agree), left, right, center, or "
        "channel 3 and the like; empty if nothing was decoded.",
        nullable=True,
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class MelSpectrograms(Table):
    """One 4-second chunk's Mel spectrogram."""

    __table__ = "mel_spectrograms"
    __key__ = ("video_id", "chunk_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    chunk_index: object = column("INTEGER", "Number of the chunk from 0.", ge=0)
    steps: object = column("INTEGER", "Time steps (173 for 4 s).", ge=1)
    mel: object = column(
        "FLOAT[][]", "128 bands of `steps` values in dB against the chunk's loudest.", unit="dB"
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class AudioFeatures(Table):
    """One 4-second chunk's 25 audio features; chunk -1 is the whole video."""

    __table__ = "audio_features"
    __key__ = ("video_id", "chunk_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    chunk_index: object = column("INTEGER", "Number of the chunk from 0; -1 for the whole video.", ge=-1)
    mfcc_1: object = column("DOUBLE", "Mean of Mel-frequency cepstral coefficient 1.")
    mfcc_2: object = column("DOUBLE", "Mean of MFCC 2.")
    mfcc_3: object = column("DOUBLE", "Mean of MFCC 3.")
    mfcc_4: object = column("DOUBLE", "Mean of MFCC 4.")
    mfcc_5: object = column("DOUBLE", "Mean of MFCC 5.")
    mfcc_6: object = column("DOUBLE", "Mean of MFCC 6.")
    mfcc_7: object = column("DOUBLE", "Mean of MFCC 7.")
    mfcc_8: object = column("DOUBLE", "Mean of MFCC 8.")
    mfcc_9: object = column("DOUBLE", "Mean of MFCC 9.")
    mfcc_10: object = column("DOUBLE", "Mean of MFCC 10.")
    mfcc_11: object = column("DOUBLE", "Mean of MFCC 11.")
    mfcc_12: object = column("DOUBLE", "Mean of MFCC 12.")
    mfcc_13: object = column("DOUBLE", "Mean of MFCC 13.")
    mfcc_14: object = column("DOUBLE", "Mean of MFCC 14.")
    mfcc_15: object = column("DOUBLE", "Mean of MFCC 15.")
    mfcc_16: object = column("DOUBLE", "Mean of MFCC 16.")
    mfcc_17: object = column("DOUBLE", "Mean of MFCC 17.")
    mfcc_18: object = column("DOUBLE", "Mean of MFCC 18.")
    mfcc_19: object = column("DOUBLE", "Mean of MFCC 19.")
    mfcc_20: object = column("DOUBLE", "Mean of MFCC 20.")
    chroma_stft: object = column("DOUBLE", "Mean of the chromagram.")
    spectral_centroid: object = column("DOUBLE", "Mean spectral centroid.", unit="Hz")
    spectral_bandwidth: object = column("DOUBLE", "Mean spectral bandwidth.", unit="Hz")
    rolloff: object = column("DOUBLE", "Mean frequency below which 85 % of the energy lies.", unit="Hz")
    zero_crossing_rate: object = column("DOUBLE", "Mean zero-crossing rate.", **_SHARE)
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class VideoQuality(Table):
    """One video's quality: shares, levels, flags, and whether it is usable."""

    __table__ = "video_quality"
    __key__ = ("video_id",)
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    frames: object = column("INTEGER", "Sampled frames.", ge=0)
    face_rate: object = column("DOUBLE", "Share of frames with a face.", nullable=True, **_SHARE)
    landmark_rate: object = column("DOUBLE", "Share of faces with a mesh.", nullable=True, **_SHARE)
    measures: object = column(
        "VARCHAR", "Every measure behind the flags, as JSON: name to value; names are in docs/quality.md."
    )
    flags: object = column("VARCHAR[]", "Troubles found, fixed words.")
    usable: object = column("BOOLEAN", "Whether training may take it.")
    unusable_reason: object = column("VARCHAR", "Why not, a flag's word; empty when usable.", nullable=True)
    fingerprint: object = column("VARCHAR", "Fingerprint of the measures.")


class CvSplits(Table):
    """One patient's place in the cross-validation."""

    __table__ = "cv_splits"
    __key__ = ("patient_id",)
    __references__ = (("patient_id", "patients"),)

    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    split: object = column("INTEGER", "The split in which the patient is tested, from 1.", ge=1)
    pain_level: object = column("VARCHAR", "The level that splits are stratified by.", isin=terms.PAIN_LEVELS)
    source: object = column(
        "VARCHAR",
        "Who chose the split: a split file, the seeded assignment, or the smallest fitting split on joining later.",
        isin=("file", "seed", "joined"),
    )
    folds: object = column(
        "INTEGER", "Splits that the settings asked for; there are fewer with fewer patients.", ge=2
    )
    seed: object = column("BIGINT", "Seed of the assignment.")
    cohort_hash: object = column("VARCHAR", "Hash of all patients, levels and splits.")


class Embeddings(Table):
    """One face as a frozen ResNet50 sees it."""

    __table__ = "embeddings"
    __key__ = ("video_id", "frame_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    frame_index: object = column("INTEGER", "Number of the sample from 0.", ge=0)
    embedding: object = column("FLOAT[2048]", "Output of the last average pooling.")
    weights_origin: object = column(
        "VARCHAR", "Where the network's weights came from: imagenet, file, random."
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
        "VARCHAR", "Where the first weights came from: imagenet, file, random, none."
    )
    weights: object = column(
        "VARCHAR", "File of the trained weights, relative to the home; empty if none.", nullable=True
    )
    history: object = column("VARCHAR", "Loss and accuracy per epoch, as JSON.", nullable=True)
    device: object = column(
        "VARCHAR",
        "What the model was computed on: the GPU's name, or cpu with the instructions used. Empty in this and the next "
        "four columns: fitted by a version that did not record it.",
        nullable=True,
    )
    precision: object = column(
        "VARCHAR",
        "Numbers that were really computed in: float32, float32 (TF32 convolutions), bfloat16, float64.",
        nullable=True,
    )
    threads: object = column(
        "INTEGER", "Threads of the CPU that sums were split among; empty on a GPU.", nullable=True, ge=1
    )
    execution: object = column(
        "VARCHAR",
        "How training steps ran: eager, captured (as CUDA graphs), compiled, compiled and captured.",
        nullable=True,
    )
    library: object = column("VARCHAR", "What computed it, with its version.", nullable=True)
    cohort_hash: object = column("VARCHAR", "Cohort hash that was trained on.")
    data_hash: object = column("VARCHAR", "Hash of the training data's fingerprints.")
    code_version: object = column("VARCHAR", "Version of the training code.")


class FramePredictions(Table):
    """One test item's prediction."""

    __table__ = "frame_predictions"
    __key__ = ("experiment", "video_id", "frame_index", "chunk_index")
    __partition__ = ("experiment", "split")

    experiment: object = column("VARCHAR", "Experiment.")
    split: object = column("INTEGER", "Split in which the patient is tested.", ge=1)
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    video_id: object = column("VARCHAR", "Video or submission id.", **_ID)
    frame_index: object = column("INTEGER", "Frame; empty for chunks and submissions.", nullable=True)
    chunk_index: object = column("INTEGER", "Chunk; empty for frames and submissions.", nullable=True)
    target: object = column("VARCHAR", "True class.")
    predicted: object = column("VARCHAR", "Predicted class.")
    probability: object = column("DOUBLE", "Probability of the predicted class.", **_SHARE)
    pain_probability: object = column("DOUBLE", "Probability of any pain (1 minus that of none).", **_SHARE)
    weight: object = column(
        "DOUBLE", "Weight in the patient's accuracy: a submission's frames; 1 for frames.", ge=0
    )


class PatientAccuracy(Table):
    """One test patient's accuracy in one experiment."""

    __table__ = "patient_accuracy"
    __key__ = ("experiment", "patient_id")
    __partition__ = ("experiment",)

    experiment: object = column("VARCHAR", "Experiment.")
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    split: object = column("INTEGER", "Split in which the patient is tested.", ge=1)
    pain_level: object = column("VARCHAR", "The patient's level.", isin=terms.PAIN_LEVELS)
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    target: object = column("VARCHAR", "The patient's true class.", isin=_CLASSES)
    predicted: object = column("VARCHAR", "The class predicted for most items (weighted).", isin=_CLASSES)
    items: object = column("BIGINT", "Test items.", ge=1)
    weight: object = column("DOUBLE", "Sum of the items' weights.", gt=0)
    accuracy: object = column("DOUBLE", "Share of items predicted right, weighted by `weight`.", **_SHARE)
    pain_probability: object = column(
        "DOUBLE", "Mean probability of pain over the items, weighted by `weight`.", **_SHARE
    )
    predicted_shares: object = column(
        "VARCHAR", "Weighted share of items predicted as each class, as JSON: class to share."
    )
    profile: object = column("VARCHAR", "Profile of the model: paper or demo.", nullable=True)
    weights_origin: object = column(
        "VARCHAR", "Where the model's first weights came from: imagenet, file, random, none.", nullable=True
    )


class ExperimentResults(Table):
    """One experiment's line of Table 5, with intervals."""

    __table__ = "experiment_results"
    __key__ = ("experiment",)
    __partition__ = ("experiment",)

    experiment: object = column("VARCHAR", "Experiment.")
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    patients: object = column("INTEGER", "Test patients.", ge=0)
    all_classes: object = column("DOUBLE", "Mean accuracy over patients.", **_SHARE)
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
    above_half: object = column("DOUBLE", "Share of patients with accuracy above 0.5.", **_SHARE)
    above_three_quarters: object = column("DOUBLE", "Share of patients above 0.75.", **_SHARE)
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
        **_SHARE,
    )
    beats_baseline: object = column(
        "VARCHAR",
        "no: not higher; not shown: higher, but the interval holds 0 or p (Holm) is not small; cannot be shown: higher, "
        "but so few patients differ, for so many experiments, that p (Holm) could not have been small; yes; empty where no baseline was judged.",
        isin=("no", "not shown", "cannot be shown", "yes"),
        nullable=True,
    )
    sensitivity: object = column(
        "DOUBLE", "Share of patients with pain for whom pain is predicted.", nullable=True
    )
    specificity: object = column("DOUBLE", "Share of patients without pain for whom none is.", nullable=True)
    brier: object = column("DOUBLE", "Brier score of the patients' mean pain probability.", nullable=True)
    scaled_brier: object = column(
        "DOUBLE", "1 - Brier score / Brier score of the share of patients in pain.", nullable=True
    )
    models: object = column("INTEGER", "Trained splits behind this line.", ge=0)
    intervals: object = column("VARCHAR", "Every figure's interval, as JSON.", nullable=True)
    profile: object = column("VARCHAR", "paper or demo.")
    weights_origin: object = column("VARCHAR", "Where the first weights came from.")
    cohort_hash: object = column("VARCHAR", "Cohort hash that was trained on.")


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
    note: object = column("VARCHAR", "What to mind; empty for nothing.", nullable=True)
    reference: object = column(
        "DOUBLE",
        "What a model that has learned nothing would have: AUROC of models trained on permuted labels (where models are "
        "trained again), Brier score of the share of patients in pain; empty for other figures.",
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
    bin_low: object = column("DOUBLE", "Lower end of the bin.", **_SHARE)
    bin_high: object = column("DOUBLE", "Upper end.", **_SHARE)
    patients: object = column("INTEGER", "Patients in it.", ge=0)
    mean_probability: object = column("DOUBLE", "Mean predicted probability.", nullable=True, **_SHARE)
    pain_share: object = column("DOUBLE", "Share of patients with pain.", nullable=True, **_SHARE)


class BaselineAccuracy(Table):
    """One test patient's accuracy under one baseline."""

    __table__ = "baseline_accuracy"
    __key__ = ("baseline", "classes", "patient_id")

    baseline: object = column("VARCHAR", "Baseline.")
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    patient_id: object = column("VARCHAR", "Patient id.", **_PATIENT)
    split: object = column("INTEGER", "Split in which the patient is tested.", ge=1)
    pain_level: object = column("VARCHAR", "The patient's level.", isin=terms.PAIN_LEVELS)
    items: object = column("BIGINT", "Test items (submissions or videos; 1 for the patient).", ge=1)
    accuracy: object = column("DOUBLE", "Share of items predicted right.", **_SHARE)
    fallback: object = column(
        "BOOLEAN", "Nothing was known of the patient, and the majority of the training side was predicted."
    )


class BaselineResults(Table):
    """One baseline's mean accuracy over patients, in the experiments' folds."""

    __table__ = "baseline_results"
    __key__ = ("baseline", "classes")

    baseline: object = column("VARCHAR", "Baseline.")
    classes: object = column("INTEGER", "Two or four.", isin=(2, 4))
    patients: object = column("INTEGER", "Test patients.", ge=0)
    all_classes: object = column("DOUBLE", "Mean accuracy over patients.", **_SHARE)
    all_classes_low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    all_classes_high: object = column("DOUBLE", "Upper end.", nullable=True)
    no_pain: object = column("DOUBLE", "Mean over patients without pain.", nullable=True)
    pain: object = column("DOUBLE", "Mean over patients with pain.", nullable=True)
    above_half: object = column("DOUBLE", "Share of patients above 0.5.", **_SHARE)
    above_half_low: object = column("DOUBLE", "Lower end of its exact interval.", nullable=True)
    above_half_high: object = column("DOUBLE", "Upper end.", nullable=True)
    fallbacks: object = column("INTEGER", "Patients of whom nothing was known.", ge=0)


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
    permutations: object = column("INTEGER", "Permutations of patients' labels that were made.", ge=1)
    most_permutations: object = column("INTEGER", "Permutations that were to be made at most.", ge=1)
    stopped: object = column("BOOLEAN", "Whether the test stopped before, since p could no longer be small.")
    observed: object = column("DOUBLE", "Mean accuracy over patients.", **_SHARE)
    chance_mean: object = column("DOUBLE", "Mean of the permutations.", **_SHARE)
    chance_high: object = column(
        "DOUBLE",
        "Their 95th percentile (that of the setting `confidence`); empty where too few were made.",
        nullable=True,
        **_SHARE,
    )
    chance_auroc: object = column(
        "DOUBLE",
        "Mean AUROC of models trained on permuted labels; empty where no model is trained again.",
        nullable=True,
        **_SHARE,
    )
    p_value: object = column(
        "DOUBLE",
        "One-sided. All permutations made: the share at least as good, the observed one counted. Stopped: those at "
        "least as good over all made (Besag and Clifford 1991).",
        **_SHARE,
    )
    p_value_holm: object = column("DOUBLE", "After Holm over experiments.", **_SHARE)
    p_least: object = column(
        "DOUBLE",
        "The smallest p that so many permutations, or labels of so few patients, can give.",
        **_SHARE,
    )
    p_least_holm: object = column(
        "DOUBLE",
        "The smallest p that this test could have had after Holm, the others being as they are: above alpha, no "
        "result could have been told from chance.",
        **_SHARE,
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
    difference: object = column("DOUBLE", "Mean over patients of first minus second.", ge=-1, le=1)
    low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    high: object = column("DOUBLE", "Upper end.", nullable=True)
    p_value: object = column("DOUBLE", "Two-sided, by flipping signs of patients' differences.", **_SHARE)
    p_least: object = column("DOUBLE", "The smallest p that so many patients that differ can give.", **_SHARE)
    p_value_holm: object = column("DOUBLE", "After Holm over the pairs of this kind.", **_SHARE)


class SubgroupResults(Table):
    """One experiment's figures in one group of patients."""

    __table__ = "subgroup_results"
    __key__ = ("experiment", "attribute", "group_name")

    experiment: object = column("VARCHAR", "Experiment.")
    attribute: object = column("VARCHAR", "sex, skin_group, sex_and_skin or cohort.")
    group_name: object = column("VARCHAR", "The group.")
    patients: object = column("INTEGER", "Patients in it.", ge=1)
    small: object = column("BOOLEAN", "Fewer patients than the marked cell size.")
    accuracy: object = column("DOUBLE", "Mean accuracy over its patients.", **_SHARE)
    low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    high: object = column("DOUBLE", "Upper end.", nullable=True)
    pain_share: object = column("DOUBLE", "Share of its patients with pain.", **_SHARE)
    predicted_pain_share: object = column(
        "DOUBLE", "Share of its patients for whom pain is predicted.", **_SHARE
    )
    sensitivity: object = column("DOUBLE", "Among its patients with pain.", nullable=True, **_SHARE)
    sensitivity_low: object = column("DOUBLE", "Lower end of its exact interval.", nullable=True, **_SHARE)
    sensitivity_high: object = column("DOUBLE", "Upper end.", nullable=True, **_SHARE)
    specificity: object = column("DOUBLE", "Among its patients without pain.", nullable=True, **_SHARE)
    specificity_low: object = column("DOUBLE", "Lower end of its exact interval.", nullable=True, **_SHARE)
    specificity_high: object = column("DOUBLE", "Upper end.", nullable=True, **_SHARE)
    gap: object = column(
        "DOUBLE",
        "Attributes of two groups: accuracy of the first group by name minus the second's, patients with and without "
        "pain weighing the same in both.",
        nullable=True,
        ge=-1,
        le=1,
    )
    gap_low: object = column("DOUBLE", "Lower end of its interval.", nullable=True)
    gap_high: object = column("DOUBLE", "Upper end.", nullable=True)
    gap_note: object = column("VARCHAR", "Why there is no gap, or what to mind.", nullable=True)


class QualityAssociations(Table):
    """One quality measure's association with pain over patients."""

    __table__ = "quality_associations"
    __key__ = ("measure",)

    measure: object = column("VARCHAR", "Measure of video_quality.")
    patients: object = column("INTEGER", "Patients with the measure.", ge=0)
    auroc: object = column(
        "DOUBLE", "Chance that a patient with pain has the higher mean; 0.5 is none.", nullable=True, **_SHARE
    )
    p_value: object = column("DOUBLE", "Mann-Whitney, two-sided.", nullable=True, **_SHARE)
    p_value_holm: object = column("DOUBLE", "After Holm over measures.", nullable=True, **_SHARE)


class CanaryResults(Table):
    """One alarm for leakage: what was tried, what came out, whether that is as it must be."""

    __table__ = "canary_results"
    __key__ = ("canary", "subject")

    canary: object = column("VARCHAR", "What was tried.")
    subject: object = column("VARCHAR", "Experiment, features or study that it was tried on.")
    value: object = column("DOUBLE", "What came out.", nullable=True)
    limit_value: object = column("DOUBLE", "What it is held against.", nullable=True)
    passed: object = column(
        "BOOLEAN", "Whether it is as it must be; empty where it only informs.", nullable=True
    )
    detail: object = column("VARCHAR", "In words.")


class SplitStability(Table):
    """One experiment's result under another assignment of patients to splits."""

    __table__ = "split_stability"
    __key__ = ("experiment", "split_seed")

    experiment: object = column("VARCHAR", "Experiment.")
    split_seed: object = column("INTEGER", "Seed of the assignment.")
    patients: object = column("INTEGER", "Test patients.", ge=0)
    all_classes: object = column("DOUBLE", "Mean accuracy over patients.", **_SHARE)


class CheckResults(Table):
    """One check's last result on one patient, or on the whole study."""

    __table__ = "check_results"
    __key__ = ("patient_id", "asset", "check_name")
    __partition__ = ("patient_id", "asset")

    patient_id: object = column(
        "VARCHAR",
        "Patient id; `*` for the whole study.",
        str_matches=rf"^\*$|{terms.PATIENT_ID.pattern}",
    )
    asset: object = column("VARCHAR", "Asset, which is also the table, that the check is on.")
    check_name: object = column("VARCHAR", "Name of the check; docs/checks.md says what it looks for.")
    passed: object = column("BOOLEAN", "Whether all is well.")
    severity: object = column(
        "VARCHAR", "WARN, or ERROR where nothing can be used before it is mended.", isin=("WARN", "ERROR")
    )
    affected: object = column("VARCHAR[]", "Video or submission ids at fault.")
    numbers: object = column("VARCHAR", "What was counted and measured, as JSON: name to value.")
    threshold: object = column("VARCHAR", "What the numbers are held against, in words.")
    hint: object = column("VARCHAR", "What to do about it, one sentence; empty when passed.", nullable=True)
    fingerprint: object = column("VARCHAR", "Fingerprint of the check's settings and code.")
    run_id: object = column("VARCHAR", "Dagster's run.")
    evaluated_at: object = column("TIMESTAMP WITH TIME ZONE", "When.")


class Alerts(Table):
    """One trouble from when it was raised until it was mended or closed, and who was told of it."""

    __table__ = "alerts"
    __key__ = ("alert_id",)
    __partition__ = ("alert_id",)

    alert_id: object = column("VARCHAR", "Hash of patient, asset, check and the moment it was raised.")
    run_id: object = column("VARCHAR", "Dagster's run that raised, changed or mended it last.")
    patient_id: object = column(
        "VARCHAR",
        "Patient id; `*` for the whole study.",
        str_matches=rf"^\*$|{terms.PATIENT_ID.pattern}",
    )
    asset: object = column("VARCHAR", "Asset that was checked; step or job that failed.")
    check_name: object = column("VARCHAR", "Check that failed; `run_failed` for a run.")
    severity: object = column("VARCHAR", "WARN or ERROR.", isin=("WARN", "ERROR"))
    status: object = column(
        "VARCHAR",
        "raised; mended; closed: no run can look at it any more.",
        isin=("raised", "mended", "closed"),
    )
    reason: object = column(
        "VARCHAR", "Why it was closed.", nullable=True, isin=("check removed", "not enrolled any more")
    )
    affected: object = column("VARCHAR[]", "Video or submission ids at fault; for a run, classes of errors.")
    numbers: object = column("VARCHAR", "What was counted, as JSON: name to number.")
    content: object = column("VARCHAR", "Hash of status, severity and ids: a new one is told.")
    first_seen: object = column("TIMESTAMP WITH TIME ZONE", "When it was raised.")
    last_seen: object = column("TIMESTAMP WITH TIME ZONE", "When it was looked at last.")
    changed_at: object = column("TIMESTAMP WITH TIME ZONE", "When status, severity or ids changed last.")
    delivery: object = column(
        "VARCHAR",
        "waiting: somebody is still to be told; told; given_up; not_needed: over before anybody was told.",
        isin=("waiting", "told", "given_up", "not_needed"),
    )
    told_at: object = column("TIMESTAMP WITH TIME ZONE", "When everybody had been told last.", nullable=True)
    told_to: object = column("VARCHAR[]", "Marks of the addresses that have heard of it.")
    taken_by: object = column("VARCHAR[]", "Marks of the addresses that have its present content.")
    attempts: object = column("INTEGER", "Rounds in which somebody did not take the present content.", ge=0)
    next_try_at: object = column("TIMESTAMP WITH TIME ZONE", "Not tried again before.", nullable=True)
    message_keys: object = column(
        "VARCHAR",
        "The message that last told an address of the present content and was not taken, as JSON: mark to key.",
        nullable=True,
    )


class Extractions(Table):
    """One video's last extraction into one table: the ledger that says what is current."""

    __table__ = "extractions"
    __key__ = ("patient_id", "video_id", "table_name")
    __partition__ = ("patient_id", "table_name")

    patient_id: object = column("VARCHAR", "Patient id; `*` for a table about the whole study.")
    video_id: object = column("VARCHAR", "Video id; `*` for a table of the patient that is not per video.")
    table_name: object = column("VARCHAR", "Table.")
    fingerprint: object = column("VARCHAR", "Hash of file, settings and code version.")
    rows: object = column("BIGINT", "Rows written.", ge=0)
    made_at: object = column("TIMESTAMP WITH TIME ZONE", "When.")
    problem: object = column(
        "VARCHAR",
        "What was unusual about the file, found on the way: the part of `videos.problem` that came from here.",
        nullable=True,
    )


TABLES: tuple[type[Table], ...] = (
    Patients,
    BpiScores,
    RejectedRows,
    StudyProblems,
    Videos,
    VideoProblems,
    Frames,
    Faces,
    Landmarks,
    Audio,
    MelSpectrograms,
    AudioFeatures,
    VideoQuality,
    CvSplits,
    Embeddings,
    FoldModels,
    FramePredictions,
    PatientAccuracy,
    ExperimentResults,
    ExperimentMetrics,
    ConfusionCounts,
    Calibration,
    BaselineAccuracy,
    BaselineResults,
    PermutationResults,
    PairedDifferences,
    SubgroupResults,
    QualityAssociations,
    CanaryResults,
    SplitStability,
    CheckResults,
    Alerts,
    Extractions,
)
"""Every table, in the order in which the data flow."""

EVALUATION: tuple[type[Table], ...] = (
    ExperimentResults,
    ExperimentMetrics,
    ConfusionCounts,
    Calibration,
    BaselineAccuracy,
    BaselineResults,
    PermutationResults,
    PairedDifferences,
    SubgroupResults,
    QualityAssociations,
    CanaryResults,
    SplitStability,
)
"""The tables that `evaluation` makes, each whole and in minutes, from predictions. A home whose columns are those of an
earlier version gets them empty, and the next evaluation fills them."""

BY_NAME: dict[str, type[Table]] = {t.__table__: t for t in TABLES}
