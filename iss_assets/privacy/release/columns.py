"""What every column of every table is, and which tiers of a release may have it: the only place that decides.

Nothing is released by default. A column that is not listed here is withheld, and a test fails until it is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from iss_assets.protocol.recordings import recording_of
from iss_assets.schemas.audio import AUDIO_FEATURES
from iss_assets.schemas.base import Column, Table
from iss_assets.schemas.behavior import BEHAVIOR_OF_THE_MOMENT, PROPORTIONS
from iss_assets.schemas.external import EXTERNAL
from iss_assets.schemas.registry import BY_NAME
from iss_assets.schemas.voice import VOICE_FEATURES


class Tier(StrEnum):
    """Who may have a release: anyone, people who registered, or one named recipient under an agreement."""

    open = "open"
    registered = "registered"
    controlled = "controlled"


class Kind(StrEnum):
    """What a column is. `RELEASED_IN` says which tiers may have it, and in which form."""

    PATIENT = "patient id: replaced by a pseudonym"
    SUBMISSION = "submission or video id: replaced by a pseudonym"
    PATIENTS = "list of patient ids: replaced by pseudonyms"
    SUBMISSIONS = "list of submission ids: replaced by pseudonyms"
    QUASI = "quasi-identifier: generalized"
    LEVEL = "pain level or a class made from it: the outcome; in the open tier generalized as well"
    OUTCOME = "exact pain target"
    DAY = "day: shifted"
    MOMENT = "moment or clock time: shifted"
    POSITION = "number of a split, frame, chunk or bin"
    MEASURE = "measure or count"
    WORD = "one of a few fixed words"
    NUMBERS = "numbers as JSON: text in it is dropped"
    VOICE = "feature of the voice: in the registered tier of whole videos only"
    BEHAVIOR = "measure of how head and face move: in the registered tier of whole videos only"
    SPEECH = "figure about what was said: how many words, how many of them pain words"
    MESH = "face mesh, or proportions of a face: can identify"
    WORDS = "what was said, where in it somebody may be named, or an embedding of it: can identify"
    EMBEDDING = "embedding of a face: can identify"
    PICTURE = "picture of a face"
    SOUND = "sound"
    SPECTRUM = "spectrogram: speech can be reconstructed from it"
    FREE_TEXT = "sentences: never released"
    FILE = "name of a file, or place in one: never released"
    PLACE = "offset from UTC: tells where somebody lives; never released"
    LINK = "hash of content, the same for every recipient: never released"
    RUN = "machine, program, account or time of a run: never released"


_REGISTERED: Final = frozenset({Tier.registered, Tier.controlled})
_CONTROLLED: Final = frozenset({Tier.controlled})
_ALL: Final = frozenset(Tier)
_NEVER: Final = frozenset[Tier]()

RELEASED_IN: Final[Mapping[Kind, frozenset[Tier]]] = MappingProxyType(
    {
        Kind.PATIENT: _ALL,
        Kind.SUBMISSION: _REGISTERED,
        Kind.PATIENTS: _REGISTERED,
        Kind.SUBMISSIONS: _REGISTERED,
        Kind.QUASI: _ALL,
        Kind.LEVEL: _ALL,
        Kind.OUTCOME: _REGISTERED,
        Kind.DAY: _REGISTERED,
        Kind.MOMENT: _REGISTERED,
        Kind.POSITION: _ALL,
        Kind.MEASURE: _ALL,
        Kind.WORD: _ALL,
        Kind.NUMBERS: _REGISTERED,
        Kind.VOICE: _REGISTERED,
        Kind.BEHAVIOR: _REGISTERED,
        Kind.SPEECH: _REGISTERED,
        # in the registered tier, too, if the setting `release.landmarks` allows it
        Kind.MESH: _CONTROLLED,
        Kind.WORDS: _CONTROLLED,
        Kind.EMBEDDING: _CONTROLLED,
        Kind.PICTURE: _CONTROLLED,
        Kind.SOUND: _CONTROLLED,
        Kind.SPECTRUM: _CONTROLLED,
        Kind.FREE_TEXT: _NEVER,
        Kind.FILE: _NEVER,
        Kind.PLACE: _NEVER,
        Kind.LINK: _NEVER,
        Kind.RUN: _NEVER,
    }
)
"""The tiers that may have a kind of column."""

_SUMMARIES: Final = frozenset(
    {
        "experiment_results",
        "experiment_metrics",
        "confusion_counts",
        "calibration",
        "baseline_results",
        "permutation_results",
        "paired_differences",
        "subgroup_results",
        "quality_associations",
        "attention_shortcuts",
        "split_stability",
    }
)
_OF_CHECK_INS: Final = frozenset(
    {
        "check_in_metrics",
        "check_in_effects",
        "check_in_claims",
        "check_in_added_value",
        "check_in_calibration",
        "check_in_benefits",
        "check_in_usefulness",
        "check_in_patients_needed",
        "check_in_interval_reach",
        "check_in_shortcuts",
    }
)
"""Summaries over all patients that are not in the open tier: their counts of check-ins are of few patients."""
_OF_OTHER_MODELS: Final = frozenset(table.__table__ for table in EXTERNAL)
"""What another study's models predict here: it is for that study, too, to decide who gets it, so only the controlled tier."""
OF_THE_STUDY: Final = (
    _SUMMARIES
    | _OF_CHECK_INS
    | {"canary_results", "external_results", "external_metrics", "external_baselines"}
)
"""Tables computed over all patients. If one patient may not be shared, these are left out."""

_PATIENT_LEVEL: Final = frozenset({"patients", "cv_splits", "patient_accuracy", "baseline_accuracy"})
_OPERATIONS: Final = frozenset(
    {
        "rejected_rows",
        "study_problems",
        "video_problems",
        "reviews",
        "consent",
        "check_results",
        "alerts",
        "extractions",
    }
)
_CONTROLLED_TABLES: Final = frozenset(
    {
        "mel_spectrograms",
        "embeddings",
        "face_behavior",
        "video_attention",
        "check_in_attention",
        "face_identity",
        "transcripts",
        "transcript_words",
        "transcript_spans",
    }
)


def _of_both_recordings(*names: str) -> frozenset[str]:
    """Return the tables with these names, and those of Question 10 readings that correspond to them."""
    return frozenset(name for name in BY_NAME if recording_of(name)[1] in names)


TABLES_OF: Final[Mapping[Tier, frozenset[str]]] = MappingProxyType(
    {
        Tier.open: _PATIENT_LEVEL | _SUMMARIES,
        Tier.registered: frozenset(BY_NAME)
        - _OPERATIONS
        - _of_both_recordings("landmarks", *_CONTROLLED_TABLES)
        - {"canary_results"}
        - _OF_OTHER_MODELS,
        Tier.controlled: frozenset(BY_NAME),
    }
)
"""The tables of each tier. A new table is in none but the controlled tier, and there without columns until they are listed."""


def _kinds(**names: str) -> dict[str, Kind]:
    """Return column name to kind, from kind to names separated by spaces."""
    return {name: Kind[kind.upper()] for kind, columns in names.items() for name in columns.split()}


_OF_VIDEO: Final = {"patient": "patient_id", "submission": "video_id"}

KINDS: Final[Mapping[str, Mapping[str, Kind]]] = MappingProxyType(
    {
        "patients": _kinds(
            patient="patient_id",
            quasi="cohort sex skin_type skin_group age_group",
            outcome="pain_target",
            level="pain_level",
            day="enrolled_on",
            place="utc_offset_minutes",
        ),
        "bpi_scores": _kinds(
            patient="patient_id",
            submission="submission_id",
            moment="submitted_at written_time",
            day="submitted_on",
            place="utc_offset_minutes",
            word="utc_offset_source timeframe setting",
            measure="pain_now chronic_pain general_activity mood walking_ability normal_work relationships sleep "
            "enjoyment_of_life missing_scores",
        ),
        "rejected_rows": _kinds(
            patient="patient_id",
            submission="submission_id",
            file="file line column_name",
            word="code",
            free_text="reason",
        ),
        "study_problems": _kinds(
            patient="patient_id",
            submission="submission_id",
            file="file line column_name",
            word="code",
            free_text="reason",
        ),
        "reviews": _kinds(
            **_OF_VIDEO,
            file="line",
            moment="reviewed_at",
            run="reviewer assignee",
            word="flag decision",
            free_text="reason",
            day="contacted_on",
        ),
        "consent": _kinds(
            patient="patient_id",
            word="scope state",
            day="given_on withdrawn_on",
            measure="unclear",
            # whatever the study calls its forms
            free_text="version",
        ),
        "videos": _kinds(
            **_OF_VIDEO,
            file="file",
            link="sha256 bytes",
            run="modified_ns",
            word="container codec audio_codec status transfer",
            measure="width height rotation source_fps duration_s has_audio has_prompt",
            free_text="problem file_problem",
        ),
        "video_problems": _kinds(
            **_OF_VIDEO, word="stage status error", link="sha256", run="version", free_text="problem"
        ),
        "frames": _kinds(
            **_OF_VIDEO,
            position="frame_index chunk_index",
            measure="time_s luminance contrast sharpness noise glare highlight text_share face_luminance "
            "face_highlight face_glare face_sharpness motion faces_seen width height",
            link="picture_hash fingerprint",
        ),
        "faces": _kinds(
            **_OF_VIDEO,
            position="frame_index",
            measure="x1 y1 x2 y2 probability faces_seen",
            picture="crop",
            link="fingerprint",
        ),
        "landmarks": _kinds(
            **_OF_VIDEO, position="frame_index", measure="detected", mesh="points", link="fingerprint"
        ),
        "face_identity": _kinds(
            **_OF_VIDEO,
            position="moment",
            measure="start_s end_s faces distance",
            word="method",
            embedding="vector",
            link="fingerprint",
        ),
        "audio": _kinds(
            **_OF_VIDEO,
            measure="sample_rate duration_s loudness_lufs snr_db clipped_share speech_share high_band_db peak source_rate "
            "noise_dbfs mid_band_db inserted_silence_s broken_packets",
            sound="waveform",
            word="downmix",
            free_text="problem",
            link="fingerprint",
        ),
        "mel_spectrograms": _kinds(
            **_OF_VIDEO, position="chunk_index", measure="steps", spectrum="mel", link="fingerprint"
        ),
        "audio_features": _kinds(
            **_OF_VIDEO, position="chunk_index", voice=" ".join(AUDIO_FEATURES), link="fingerprint"
        ),
        "voice_features": _kinds(
            **_OF_VIDEO,
            position="chunk_index",
            measure="speech_s voiced_s",
            voice=" ".join(VOICE_FEATURES),
            link="fingerprint",
        ),
        "thermal": _kinds(
            patient="patient_id",
            submission="submission_id",
            file="file",
            link="sha256 bytes fingerprint",
            run="modified_ns",
            word="status pairing",
            free_text="problem",
            moment="taken_at",
            position="paired_frame",
            measure="width height emissivity camera_emissivity face_found face_x1 face_y1 face_x2 face_y2 forehead_c nose_c "
            "min_c max_c pair_gap_s",
        ),
        "face_behavior": _kinds(
            **_OF_VIDEO,
            position="frame_index chunk_index",
            measure="time_s repeated facing fit_error",
            behavior="yaw_deg pitch_deg roll_deg turn_speed shift_speed still eye_openness blink brow_lowering",
            mesh="eye_aspect_ratio mouth_open mouth_width lip_corners jaw_drop brow_height",
            link="fingerprint",
        ),
        "face_behavior_summary": _kinds(
            **_OF_VIDEO,
            position="chunk_index",
            measure="pictures measured facing seconds away_share",
            behavior=" ".join(BEHAVIOR_OF_THE_MOMENT),
            # lengths of a face at rest
            mesh=" ".join(PROPORTIONS),
            link="fingerprint",
        ),
        "transcripts": _kinds(
            **_OF_VIDEO,
            words="text",
            word="language model",
            measure="words language_probability word_probability speech_s left_out_s wordless_s",
            link="fingerprint",
        ),
        "transcript_words": _kinds(
            **_OF_VIDEO,
            position="word_index",
            words="word",
            measure="start_s end_s probability",
            link="fingerprint",
        ),
        "transcript_spans": _kinds(
            **_OF_VIDEO, words="first_word last_word kind", word="found_by", link="fingerprint"
        ),
        "text_features": _kinds(
            **_OF_VIDEO,
            speech="words words_per_minute pauses pause_share longest_pause_s hesitations first_person_share pain_words "
            "pain_word_share",
            words="embedding",
            link="fingerprint",
        ),
        "video_quality": _kinds(
            **_OF_VIDEO,
            measure="frames face_rate landmark_rate usable reviewed",
            numbers="measures moments",
            word="flags unusable_reason decision rejected_flags",
            link="fingerprint",
        ),
        "prompts": _kinds(word="prompt_id", free_text="text"),
        "prompt_readings": _kinds(
            **_OF_VIDEO,
            word="prompt_id text_read",
            measure="prompt_known read cut_short word_error_rate share_read words",
            link="fingerprint",
        ),
        "cv_splits": _kinds(
            patient="patient_id",
            position="split",
            level="pain_level",
            word="source",
            measure="folds seed",
            link="cohort_hash",
        ),
        "embeddings": _kinds(
            **_OF_VIDEO,
            position="frame_index",
            embedding="embedding",
            word="weights_origin",
            link="fingerprint",
        ),
        "fold_models": _kinds(
            word="experiment profile weights_origin precision execution",
            position="split",
            run="trained_at device threads library code_version",
            patients="train_patients test_patients",
            measure="train_items seed",
            numbers="settings history",
            file="weights",
            link="cohort_hash data_hash",
        ),
        "frame_predictions": _kinds(
            **_OF_VIDEO,
            word="experiment predicted",
            position="split frame_index chunk_index",
            level="target",
            measure="probability pain_probability weight",
        ),
        "video_attention": _kinds(
            **_OF_VIDEO,
            word="experiment",
            position="split instance",
            measure="start_s end_s attention",
            link="fingerprint",
        ),
        "patient_accuracy": _kinds(
            patient="patient_id",
            word="experiment profile weights_origin",
            position="split",
            level="pain_level target predicted",
            measure="classes items weight accuracy pain_probability",
            numbers="predicted_shares",
        ),
        "check_in_predictions": _kinds(
            patient="patient_id",
            submission="submission_id",
            word="target protocol model kind",
            position="known check_in",
            measure="answered predicted",
        ),
        "check_in_patients": _kinds(
            patient="patient_id",
            word="target protocol model",
            position="known",
            measure="check_ins mean_error kappa icc within_correlation changes changes_detected steady false_alarms",
        ),
        "check_in_metrics": _kinds(
            word="target protocol model kind metric method",
            position="known",
            measure="check_ins patients estimate low high",
            free_text="note",
        ),
        "check_in_effects": _kinds(
            word="target measure",
            measure="patients check_ins points low high correlation p_value p_value_holm between_variance within_variance",
        ),
        "check_in_claims": _kinds(
            word="target protocol model claim against verdict",
            position="known",
            measure="patients estimate low high reference_error p_value p_value_holm p_least_holm",
        ),
        "check_in_added_value": _kinds(
            word="target protocol ordering added verdict",
            position="known step",
            measure="patients error error_low error_high gain gain_low gain_high p_value p_value_holm",
        ),
        "check_in_attention": _kinds(
            **_OF_VIDEO,
            word="target protocol model",
            position="known instance",
            measure="start_s end_s attention",
        ),
        "check_in_shortcuts": _kinds(
            word="target protocol model flag verdict",
            measure="patients videos attention chance difference difference_low difference_high p_value p_value_holm "
            "p_least_holm",
        ),
        "external_results": _kinds(
            word="experiment best_baseline carries_over profile weights_origin",
            measure="classes patients in_training_study without_items all_classes all_classes_low all_classes_high no_pain pain "
            "none low moderate severe above_half above_three_quarters best_baseline_accuracy baseline_difference "
            "baseline_difference_low baseline_difference_high baseline_p_holm trained_accuracy trained_accuracy_low "
            "trained_accuracy_high fold_spread models train_patients train_events",
            link="source",
            run="code_version",
        ),
        "external_patients": _kinds(
            patient="patient_id",
            word="experiment",
            level="pain_level target predicted",
            measure="classes items weight accuracy pain_probability lowest_probability highest_probability fold_spread",
            numbers="predicted_shares",
            link="source",
        ),
        "external_metrics": _kinds(
            word="experiment metric method",
            measure="patients estimate low high reference",
            free_text="note",
            link="source",
        ),
        "external_baselines": _kinds(
            word="baseline",
            measure="classes patients all_classes all_classes_low all_classes_high no_pain pain",
            link="source",
        ),
        "external_left_out": _kinds(patient="patient_id", word="experiment reason", link="source"),
        "check_in_sets": _kinds(
            patient="patient_id",
            submission="submission_id",
            word="target protocol model",
            position="known",
            measure="low high cannot_tell severe_probability worse_probability",
        ),
        "check_in_calibration": _kinds(
            word="target outcome protocol model",
            position="known bin",
            measure="check_ins patients predicted observed observed_low observed_high",
        ),
        "check_in_benefits": _kinds(
            word="target event protocol acted_on",
            position="known",
            measure="threshold patients check_ins events net_benefit low high",
        ),
        "check_in_usefulness": _kinds(
            word="target event protocol model verdict",
            position="known",
            measure="patients check_ins events gain low high p_value p_value_holm",
        ),
        "check_in_patients_needed": _kinds(
            word="target quantity model verdict",
            position="known",
            measure="patients check_ins between_variance within_variance wanted needed needed_low needed_high",
        ),
        "check_in_interval_reach": _kinds(
            word="target quantity", measure="patients reach reach_low reach_high"
        ),
        "experiment_results": _kinds(
            word="experiment p_value_method best_baseline beats_baseline profile weights_origin",
            measure="classes patients all_classes all_classes_low all_classes_high no_pain pain none low moderate severe "
            "above_half above_three_quarters balanced_accuracy auroc p_value p_value_holm best_baseline_accuracy "
            "baseline_difference baseline_difference_low baseline_difference_high baseline_p_holm sensitivity specificity "
            "brier scaled_brier models",
            numbers="intervals",
            link="cohort_hash",
        ),
        "experiment_metrics": _kinds(
            word="experiment metric method", measure="patients estimate low high reference", free_text="note"
        ),
        "confusion_counts": _kinds(word="experiment target predicted", measure="patients"),
        "calibration": _kinds(
            word="experiment",
            position="bin",
            measure="bin_low bin_high patients mean_probability pain_share",
        ),
        "baseline_accuracy": _kinds(
            patient="patient_id",
            word="baseline",
            position="split",
            level="pain_level",
            measure="classes items accuracy fallback",
        ),
        "baseline_results": _kinds(
            word="baseline",
            measure="classes patients all_classes all_classes_low all_classes_high no_pain pain above_half above_half_low "
            "above_half_high fallbacks",
        ),
        "permutation_results": _kinds(
            word="experiment method",
            measure="permutations most_permutations stopped observed chance_mean chance_high chance_auroc p_value "
            "p_value_holm p_least p_least_holm",
        ),
        "paired_differences": _kinds(
            word="first second second_kind",
            measure="classes patients difference low high p_value p_least p_value_holm",
        ),
        "subgroup_results": _kinds(
            word="experiment attribute group_name",
            measure="patients small accuracy low high pain_share predicted_pain_share sensitivity sensitivity_low "
            "sensitivity_high specificity specificity_low specificity_high gap gap_low gap_high",
            free_text="gap_note",
        ),
        "quality_associations": _kinds(word="measure", measure="patients auroc p_value p_value_holm"),
        "attention_shortcuts": _kinds(
            word="experiment flag verdict",
            measure="patients videos attention chance difference difference_low difference_high p_value p_value_holm "
            "p_least_holm",
        ),
        "canary_results": _kinds(
            word="canary", free_text="subject detail", measure="value limit_value passed"
        ),
        "split_stability": _kinds(word="experiment", position="split_seed", measure="patients all_classes"),
        "check_results": _kinds(
            patient="patient_id",
            word="asset check_name severity",
            measure="passed",
            submissions="affected",
            numbers="numbers",
            free_text="threshold hint",
            link="fingerprint",
            run="run_id evaluated_at",
        ),
        "alerts": _kinds(
            patient="patient_id",
            # the asset of a failed run is the step or job, and its `affected` are classes of errors
            word="severity status reason",
            run="alert_id run_id asset check_name affected content first_seen last_seen changed_at delivery told_at told_to "
            "taken_by attempts next_try_at message_keys",
            numbers="numbers",
        ),
        "extractions": _kinds(
            patient="patient_id",
            word="table_name",
            measure="rows",
            run="subject made_at",
            link="fingerprint",
            free_text="problem",
        ),
    }
)
"""The kind of every column, by table; those of Question 10 readings are of the kinds of the narratives'."""


def kind_of(table: str, column: str) -> Kind | None:
    """Return what a column is, or None if nobody has decided: it is withheld then."""
    own = KINDS.get(table) or KINDS.get(recording_of(table)[1], {})
    return own.get(column)


def tables_of(tier: Tier, landmarks: bool) -> list[type[Table]]:
    """Return the tables of a tier in the registry's order; `landmarks` is the setting for the registered tier."""
    names = TABLES_OF[tier]
    if landmarks and tier is Tier.registered:
        names |= _of_both_recordings("landmarks")
    return [table for name, table in BY_NAME.items() if name in names and columns_of(table, tier, landmarks)]


def columns_of(table: type[Table], tier: Tier, landmarks: bool) -> list[Column]:
    """Return the columns of a table that a tier may have, in order."""
    return [c for c in table.columns() if _may_have(kind_of(table.__table__, c.name), tier, landmarks)]


def _may_have(kind: Kind | None, tier: Tier, landmarks: bool) -> bool:
    if kind is None:
        return False
    return tier in RELEASED_IN[kind] or (kind is Kind.MESH and landmarks and tier is Tier.registered)
