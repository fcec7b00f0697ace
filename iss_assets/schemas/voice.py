"""How a patient speaks."""

from __future__ import annotations

from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column

VOICE_FEATURES = (
    "phonation_share",
    "pause_count",
    "pause_median_s",
    "pause_total_s",
    "speech_rate",
    "articulation_rate",
    "f0_median_hz",
    "f0_range_semitones",
    "hnr_db",
    "loudness",
    "loudness_range",
    "spectral_slope_0_500",
    "spectral_slope_500_1500",
)
"""The measures of a voice, by name; each can be empty."""


class VoiceFeatures(Table):
    """How the patient speaks in one 4-second chunk; chunk -1 is the whole video."""

    __table__ = "voice_features"
    __key__ = ("video_id", "chunk_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    chunk_index: object = column("INTEGER", "Number of the chunk from 0; -1 for the whole video.", ge=-1)
    speech_s: object = column(
        "DOUBLE", "Time in stretches of speech, including silences too short for a pause.", unit="s", ge=0
    )
    voiced_s: object = column("DOUBLE", "Time with a voice, where pitch can be measured.", unit="s", ge=0)
    phonation_share: object = column(
        "DOUBLE",
        "Share of speech in the time from the first word to the last; empty outside of it.",
        nullable=True,
        **SHARE,
    )
    pause_count: object = column(
        "INTEGER", "Pauses that begin here; empty without speech.", ge=0, nullable=True
    )
    pause_median_s: object = column(
        "DOUBLE", "Median length of these pauses; empty if there are none.", unit="s", gt=0, nullable=True
    )
    pause_total_s: object = column(
        "DOUBLE", "Time in pauses here; empty without speech.", unit="s", ge=0, nullable=True
    )
    speech_rate: object = column(
        "DOUBLE",
        "Syllable nuclei per second from the first word to the last, pauses included.",
        unit="1/s",
        gt=0,
        nullable=True,
    )
    articulation_rate: object = column(
        "DOUBLE", "Syllable nuclei per second of speech, without pauses.", unit="1/s", gt=0, nullable=True
    )
    f0_median_hz: object = column(
        "DOUBLE",
        "Median fundamental frequency (eGeMAPS F0semitoneFrom27.5Hz_sma3nz_percentile50.0, in hertz).",
        unit="Hz",
        gt=0,
        nullable=True,
    )
    f0_range_semitones: object = column(
        "DOUBLE",
        "Fundamental frequency from the 20th to the 80th percentile (eGeMAPS F0semitoneFrom27.5Hz_sma3nz_pctlrange0-2).",
        unit="semitones",
        ge=0,
        nullable=True,
    )
    hnr_db: object = column(
        "DOUBLE",
        "Mean harmonics-to-noise ratio (Boersma 1993; not comparable with eGeMAPS HNRdBACF, which depends on the pitch).",
        unit="dB",
        nullable=True,
    )
    loudness: object = column(
        "DOUBLE",
        "Mean loudness of speech relative to full scale (eGeMAPS loudness_sma3_amean); it depends on the distance "
        "from the phone.",
        ge=0,
        nullable=True,
    )
    loudness_range: object = column(
        "DOUBLE",
        "Loudness of speech from the 20th to the 80th percentile (eGeMAPS loudness_sma3_pctlrange0-2).",
        ge=0,
        nullable=True,
    )
    spectral_slope_0_500: object = column(
        "DOUBLE",
        "Mean slope of the voiced spectrum up to 500 Hz, by least squares (eGeMAPS slopeV0-500, without openSMILE's "
        "dependence on the level).",
        unit="dB/Hz",
        nullable=True,
    )
    spectral_slope_500_1500: object = column(
        "DOUBLE",
        "The same from 500 to 1500 Hz (eGeMAPS slopeV500-1500).",
        unit="dB/Hz",
        nullable=True,
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")
