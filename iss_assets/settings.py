"""Every knob of the project, typed, with its default and where the default comes from.

Belongs here: settings classes, one section a stage. Core functions take the one section that they need, so that
a section's hash says whether what it made is still current.
Does not belong here: vocabulary of the protocol (``study.terms``), code that acts on settings.

A value comes from, in this order: an argument, an environment variable (``ISS_STUDY``, ``ISS_HOME``,
``ISS_FACES__IMAGE_SIZE``, ...: two underscores between section and name), the file ``iss.toml`` in ``ISS_HOME``,
the default here.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class Section(BaseModel):
    """A frozen group of settings; equal settings have equal hashes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def digest(self) -> str:
        """Give a short hash of every value of this section (16 hexadecimal digits)."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class ReadingSettings(Section):
    """Reading the study folder."""

    enrollment_columns: dict[str, str] = {}
    """Our column name to the name in ``enrollment.csv``, for exports that name them otherwise (REDCap)."""
    survey_columns: dict[str, str] = {}
    """Our column name to the name in ``surveys.csv``."""
    settle_seconds: float = Field(10.0, ge=0)
    """A video changed more recently than this may still be copied in, and waits (sensor only)."""


class VideoSettings(Section):
    """Decoding and sampling (paper, section 3.3.1)."""

    fps: float = Field(10.0, gt=0, le=60)
    """Frames sampled a second, by presentation time. Paper: "10 frames-per-second"."""
    chunk_seconds: float = Field(4.0, gt=0)
    """Length of a chunk. Paper: "4-second chunks leading to 40 frames per video chunk"."""
    keep_short_last_chunk: bool = True
    """Keep the pictures of a last chunk shorter than `chunk_seconds` (they are single frames either way)."""
    batch_frames: int = Field(16, ge=1)
    """Sampled frames held in memory at a time."""
    max_pixels: int = Field(7680 * 4320, ge=1)
    """Pictures larger than this (8K) are not decoded: a broken header can claim any size."""
    max_seconds: float = Field(3600.0, gt=0)
    """Decoding stops here and the video is marked; the protocol's longest narrative is three minutes."""


class FaceSettings(Section):
    """MTCNN detection and crops (paper, section 3.3.1; facenet-pytorch)."""

    image_size: int = Field(160, ge=32)
    """Side of a crop in pixels; facenet-pytorch's own default, what InceptionResnetV1 takes."""
    margin: int = Field(0, ge=0)
    """Pixels added around the box; facenet-pytorch's default."""
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    """Face probability that each of the three networks asks for (Zhang et al. 2016; facenet-pytorch's default)."""
    min_face_share: float = Field(0.08, gt=0, lt=1)
    """Smallest face looked for, as a share of the picture's shorter side. A patient holding a phone fills far more;
    the benchmark compares it with the default 20 pixels."""
    detection_side: int = Field(360, ge=64)
    """Pictures are scaled to this shorter side for detection; crops come from the full-size picture."""


class LandmarkSettings(Section):
    """MediaPipe Face Mesh on the crop (paper, section 3.3.1)."""

    min_confidence: float = Field(0.5, ge=0, le=1)
    """MediaPipe's default ``min_detection_confidence``."""


class AudioSettings(Section):
    """Sound (paper, section 3.3.1; librosa)."""

    sample_rate: int = Field(22050, gt=0)
    """Hertz, mono; librosa's default."""
    n_fft: int = Field(2048, gt=0)
    """Paper: n_fft=2048."""
    hop_length: int = Field(512, gt=0)
    """Paper: hop_length=512."""
    n_mels: int = Field(128, gt=0)
    """Paper: n_mels=128."""
    n_mfcc: int = Field(20, gt=0)
    """20 MFCC, chroma, centroid, bandwidth, roll-off and zero-crossing rate are the paper's 25 features."""
    chunk_seconds: float = Field(4.0, gt=0)
    """Paper: 4-second chunks."""
    keep_short_last_chunk: bool = False
    """A shorter last chunk would give a narrower spectrogram, which the audio network cannot take."""


class QualitySettings(Section):
    """Measures and thresholds of the quality flags; the source of each stands beside it."""


class TrainingSettings(Section):
    """Experiments (paper, section 4)."""

    folds: int = Field(10, ge=2)
    """Paper: 10-fold cross validation over whole patients."""
    split_seed: int = 2021
    """Seed of the assignment of patients to splits."""
    split_file: Path | None = None
    """A csv with the columns patient_id and split, which wins over the seeded assignment."""
    seed: int = 0
    """Seed of initialisation, shuffling and forests."""
    profile: Literal["paper", "demo"] = "paper"
    """``paper`` trains as published; ``demo`` is small enough for a laptop."""


class EvaluationSettings(Section):
    """Intervals, tests and reports."""


class WarehouseSettings(Section):
    """The DuckDB file and its lock."""

    lock_timeout_s: float = Field(600.0, gt=0)
    """How long a writer waits for its turn before it gives up with an error."""


class AlertSettings(Section):
    """Who is told, and of what."""


class RunSettings(Section):
    """How work is spread over the machine."""

    workers: int = Field(default_factory=lambda: max(1, min(8, os.cpu_count() or 1)), ge=1)
    """Patients worked on side by side, each in a process of its own."""


class Settings(BaseSettings):
    """All settings; see the module's docstring for where values come from."""

    model_config = SettingsConfigDict(
        env_prefix="ISS_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    study: Path = Path("study")
    """The study folder (input contract); ``ISS_STUDY``."""
    home: Path = Path("iss_home")
    """Warehouse, Dagster home, models and reports; ``ISS_HOME``."""

    reading: ReadingSettings = ReadingSettings()
    video: VideoSettings = VideoSettings()
    faces: FaceSettings = FaceSettings()
    landmarks: LandmarkSettings = LandmarkSettings()
    audio: AudioSettings = AudioSettings()
    quality: QualitySettings = QualitySettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    alerts: AlertSettings = AlertSettings()
    run: RunSettings = RunSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put ``iss.toml`` of the home behind the environment."""
        toml = TomlConfigSettingsSource(
            settings_cls, toml_file=Path(os.environ.get("ISS_HOME", "iss_home")) / "iss.toml"
        )
        return init_settings, env_settings, toml

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file."""
        return self.home / "warehouse.duckdb"

    @property
    def spool_dir(self) -> Path:
        """Extracted videos that wait for their patient's transaction."""
        return self.home / "spool"

    @property
    def models_dir(self) -> Path:
        """Trained weights."""
        return self.home / "models"

    @property
    def reports_dir(self) -> Path:
        """Report pages."""
        return self.home / "reports"

    @property
    def dagster_home(self) -> Path:
        """Dagster's own home."""
        return self.home / "dagster"
