"""All tables of the warehouse; each is defined in the module of its stage."""

from __future__ import annotations

from iss_assets.schemas.audio import Audio, AudioFeatures, MelSpectrograms
from iss_assets.schemas.base import Table
from iss_assets.schemas.behavior import FaceBehavior, FaceBehaviorSummary
from iss_assets.schemas.check_ins import CHECK_INS
from iss_assets.schemas.evaluation import (
    AttentionShortcuts,
    BaselineAccuracy,
    BaselineResults,
    Calibration,
    CanaryResults,
    ConfusionCounts,
    ExperimentMetrics,
    ExperimentResults,
    PairedDifferences,
    PatientAccuracy,
    PermutationResults,
    QualityAssociations,
    SplitStability,
    SubgroupResults,
)
from iss_assets.schemas.external import EXTERNAL
from iss_assets.schemas.identity import FaceIdentity
from iss_assets.schemas.intake import BpiScores, Consent, Patients, RejectedRows, Reviews, StudyProblems
from iss_assets.schemas.modeling import CvSplits, Embeddings, FoldModels, FramePredictions, VideoAttention
from iss_assets.schemas.operations import Alerts, CheckResults, Extractions
from iss_assets.schemas.prompts import PromptReadings, Prompts, for_prompt
from iss_assets.schemas.thermal import Thermal
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import VideoProblems, Videos
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.schemas.voice import VoiceFeatures
from iss_assets.schemas.words import TextFeatures, Transcripts, TranscriptSpans, TranscriptWords

OF_A_RECORDING: tuple[type[Table], ...] = (
    Frames,
    Faces,
    Landmarks,
    FaceIdentity,
    Audio,
    MelSpectrograms,
    AudioFeatures,
    VoiceFeatures,
    FaceBehavior,
    FaceBehaviorSummary,
    Transcripts,
    TranscriptWords,
    TranscriptSpans,
    TextFeatures,
)
"""Tables made from one recording: each is there for narratives and, as `prompt_` and its name, for Question 10."""

PROMPT_VIDEOS: type[Table] = for_prompt(
    Videos, grain="One submitted reading of a text (Question 10), readable or not.", without=("has_prompt",)
)
"""The inventory of the readings."""

TABLES: tuple[type[Table], ...] = (
    Patients,
    BpiScores,
    Reviews,
    Consent,
    RejectedRows,
    StudyProblems,
    Videos,
    VideoProblems,
    Frames,
    Faces,
    Landmarks,
    FaceIdentity,
    Audio,
    MelSpectrograms,
    AudioFeatures,
    VoiceFeatures,
    Thermal,
    FaceBehavior,
    FaceBehaviorSummary,
    Transcripts,
    TranscriptWords,
    TranscriptSpans,
    TextFeatures,
    VideoQuality,
    Prompts,
    PROMPT_VIDEOS,
    *(for_prompt(table) for table in OF_A_RECORDING),
    PromptReadings,
    CvSplits,
    Embeddings,
    FoldModels,
    FramePredictions,
    VideoAttention,
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
    AttentionShortcuts,
    CanaryResults,
    SplitStability,
    *CHECK_INS,
    *EXTERNAL,
    CheckResults,
    Alerts,
    Extractions,
)
"""Every table, in the order of the data flow."""

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
    AttentionShortcuts,
    CanaryResults,
    SplitStability,
)
"""The tables that `evaluation` computes from predictions, each whole and within minutes."""

MADE_AGAIN: tuple[type[Table], ...] = (*EVALUATION, *CHECK_INS, *EXTERNAL)
"""Tables over all patients that the next evaluation, or the next `iss predict`, makes again, whole. In a home whose columns are those of an earlier
version they are recreated empty; when a patient withdraws they are emptied."""

BY_NAME: dict[str, type[Table]] = {t.__table__: t for t in TABLES}
"""Table name to model."""


def whole_videos(table: str) -> str:
    """Return the SQL condition for the rows of a table that describe whole videos."""
    return "chunk_index = -1" if "chunk_index" in BY_NAME[table].__key__ else "true"
