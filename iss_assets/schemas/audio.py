"""What is measured in a video's sound."""

from __future__ import annotations

from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column

AUDIO_FEATURES = (
    *(f"mfcc_{i}" for i in range(1, 21)),
    "chroma_stft",
    "spectral_centroid",
    "spectral_bandwidth",
    "rolloff",
    "zero_crossing_rate",
)
"""The 25 audio features by name (paper, section 3.3.1)."""


class Audio(Table):
    """One video's sound track."""

    __table__ = "audio"
    __key__ = ("video_id",)
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
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
        "Level of speech above the noise floor; empty without 0.3 s of speech.",
        unit="dB",
        nullable=True,
    )
    clipped_share: object = column(
        "DOUBLE", "Share of samples on a plateau where the waveform is cut off; 0 is normal.", **SHARE
    )
    speech_share: object = column("DOUBLE", "Share of the time with speech.", **SHARE)
    high_band_db: object = column(
        "DOUBLE",
        "Energy above 4 kHz relative to the total, during speech; empty when silent.",
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
        "DOUBLE", "Noise floor relative to full scale; empty when silent.", unit="dB", nullable=True
    )
    mid_band_db: object = column(
        "DOUBLE",
        "Energy from 2 to 4 kHz relative to the total, during speech; empty when silent.",
        unit="dB",
        nullable=True,
    )
    inserted_silence_s: object = column(
        "DOUBLE",
        "Silence inserted where the track starts late, or has a gap that the picture does not.",
        unit="s",
        ge=0,
        nullable=True,
    )
    broken_packets: object = column("INTEGER", "Damaged packets that were skipped.", ge=0, nullable=True)
    problem: object = column("VARCHAR", "What is wrong, in words; empty if nothing is.", nullable=True)
    downmix: object = column(
        "VARCHAR",
        "Which of the track's channels was used: mono (it has one), mean (of all that agree), left, right, center, or "
        "channel 3 and so on; empty if nothing was decoded.",
        nullable=True,
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class MelSpectrograms(Table):
    """One 4-second chunk's Mel spectrogram."""

    __table__ = "mel_spectrograms"
    __key__ = ("video_id", "chunk_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    chunk_index: object = column("INTEGER", "Number of the chunk from 0.", ge=0)
    steps: object = column("INTEGER", "Time steps (173 for 4 s).", ge=1)
    mel: object = column(
        "FLOAT[][]", "128 bands of `steps` values in dB relative to the chunk's loudest.", unit="dB"
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class AudioFeatures(Table):
    """One 4-second chunk's 25 audio features; chunk -1 is the whole video."""

    __table__ = "audio_features"
    __key__ = ("video_id", "chunk_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
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
    rolloff: object = column("DOUBLE", "Mean frequency below which 85 % of the energy is found.", unit="Hz")
    zero_crossing_rate: object = column("DOUBLE", "Mean zero-crossing rate.", **SHARE)
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")
