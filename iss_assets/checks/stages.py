"""Which rules run together, on which tables, and which tables have not been checked yet.

``defs.checks`` turns each stage into one op.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from iss_assets.checks import behavior, consent, prompts, quality, scores, thermal, voice, words
from iss_assets.checks.findings import Rule
from iss_assets.features.registry import FEATURES, is_on
from iss_assets.protocol.catalogue import CheckInfo, find, schema_check
from iss_assets.protocol.recordings import Recording, enabled_recordings
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.ledger import SOUND_TABLES, VISUAL_TABLES, fingerprint

CHECKS_CODE_VERSION = "6"
"""Change it with any rule, so that results of the old rule are computed again."""


SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True)
class Stage:
    """The checks that run in one op.

    Attributes
    ----------
    name : str
        Name of the op.
    tables : sequence of str
        Tables (also assets) whose schema is checked.
    rules : mapping
        Asset to its rules by check name.
    queries : sequence of str
        Files of ``sql/`` that the rules need.
    also_needs : sequence of str
        Assets, besides those checked, that must be up to date first.
    by_patient : bool
        Whether there is one result per patient, or one for the whole study.
    feature : str or None
        The section of the settings that can switch its tables off; without one the stage is always on.
    recording : Recording
        The recording whose tables are checked.
    asks_register : bool
        Whether the rules also get ``register``: a row for each scope of consent whose withdrawal was carried out.
    """

    name: str
    tables: Sequence[str]
    rules: Mapping[str, Mapping[str, Rule]] = field(default_factory=dict)
    queries: Sequence[str] = ()
    also_needs: Sequence[str] = ()
    by_patient: bool = True
    feature: str | None = None
    recording: Recording = Recording.NARRATIVE
    asks_register: bool = False

    @property
    def checks(self) -> list[CheckInfo]:
        """Every check of the stage."""
        named = [find(asset, name) for asset, rules in self.rules.items() for name in rules]
        return [*(schema_check(table) for table in self.tables), *named]

    def enabled(self, settings: Settings) -> bool:
        """Return whether the settings have the stage's recording processed, and its feature on, if it has one."""
        return self.recording in enabled_recordings(settings) and (
            self.feature is None or is_on(self.feature, settings)
        )


class FeatureRules(NamedTuple):
    """The rules of a feature's tables, beyond their schema."""

    rules: Mapping[str, Mapping[str, Rule]]
    """Asset to its rules by check name."""
    queries: Sequence[str] = ()
    """Files of ``sql/`` that the rules need."""
    also_needs: Sequence[str] = ()
    """Assets, besides those checked, that must be up to date first."""


def results_fingerprint(settings: Settings) -> str:
    """Return the fingerprint of results computed with these settings and this code."""
    sections = (settings.checks, settings.quality, settings.video)
    return fingerprint("checks", CHECKS_CODE_VERSION, [section.digest() for section in sections])


FEATURE_RULES: Mapping[str, FeatureRules] = {
    "words": FeatureRules(words.RULES, words.QUERIES, also_needs=("video_quality",)),
    "voice": FeatureRules({"voice_features": voice.RULES}, voice.QUERIES, also_needs=("video_quality",)),
    "behavior": FeatureRules(behavior.RULES, behavior.QUERIES),
}
"""Feature to the rules of its tables. Their thresholds are among ``settings.checks``."""


def _feature_stages() -> list[Stage]:
    return [
        Stage(
            f"check_{feature.name}",
            feature.table_names,
            *FEATURE_RULES.get(feature.name, FeatureRules({})),
            feature=feature.name,
        )
        for feature in FEATURES
    ]


def _prompt_stages() -> list[Stage]:
    """Return the stages of Question 10: its tables have the narratives' schema, but its rules are its own."""
    prompt = Recording.PROMPT
    features = [feature for feature in FEATURES if prompt in feature.recordings]
    return [
        Stage("check_prompts", ("prompts",), by_patient=False, recording=prompt),
        Stage("check_prompt_videos", (prompt.inventory,), recording=prompt),
        Stage("check_prompt_visual", [prompt.named(t) for t in VISUAL_TABLES], recording=prompt),
        Stage("check_prompt_audio", [prompt.named(t) for t in SOUND_TABLES], recording=prompt),
        *(
            Stage(
                f"check_{prompt.named(feature.name)}",
                [prompt.named(name) for name in feature.table_names],
                feature=feature.name,
                recording=prompt,
            )
            for feature in features
        ),
        Stage(
            "check_prompt_readings",
            ("prompt_readings",),
            {"prompt_readings": prompts.RULES},
            prompts.QUERIES,
            # without speech recognition nobody knows what was read
            feature="words",
            recording=prompt,
        ),
    ]


STAGES: tuple[Stage, ...] = (
    Stage("check_study_folder", ("rejected_rows", "study_problems"), by_patient=False),
    Stage("check_patients", ("patients",), {"patients": scores.ENROLLMENT_RULES}, ("enrollment",)),
    Stage("check_consent", ("consent",), {"consent": consent.RULES}, consent.QUERIES, asks_register=True),
    Stage(
        "check_scores",
        ("bpi_scores",),
        {"bpi_scores": scores.RULES},
        scores.QUERIES,
        also_needs=("videos", "consent"),
    ),
    Stage("check_videos", ("videos",)),
    Stage("check_visual", ("frames", "faces", "landmarks")),
    Stage("check_audio", ("audio", "mel_spectrograms", "audio_features")),
    Stage(
        "check_quality",
        ("video_quality",),
        {"video_quality": quality.RULES},
        quality.QUERIES,
        also_needs=("consent",),
    ),
    *_feature_stages(),
    *_prompt_stages(),
    Stage("check_thermal", ("thermal",), {"thermal": thermal.RULES}, thermal.QUERIES, feature="thermal"),
)
"""Every stage from the study folder to the features of a video, those of features that are switched off included."""


def unchecked(warehouse: Warehouse, settings: Settings) -> dict[str, list[str]]:
    """Return the patients with tables that have not been checked since they were written, or not with these settings and code.

    A run that is killed between an asset and its checks leaves such a table, which nothing else would show; so does one
    that renews what the rules also read, where the checked table itself is another run's. The same
    holds for a week of the enrollment that has ended since and for a patient who has stopped checking in, as the
    submissions of other patients show.
    """
    stages = [stage for stage in STAGES if stage.enabled(settings)]
    tables = [table for stage in stages for table in stage.tables]
    checks = [f"{check.asset}.{check.name}" for stage in stages for check in stage.checks]
    also_read = [(asset, source) for stage in stages for asset in stage.rules for source in stage.also_needs]
    with warehouse.read() as connection:
        rows = connection.execute(
            (SQL / "unchecked.sql").read_text("utf-8"),
            {
                "fingerprint": results_fingerprint(settings),
                "tables": tables,
                "checks": checks,
                "readers": [asset for asset, _ in also_read],
                "sources": [source for _, source in also_read],
            },
        ).fetchall()
        enrollment = connection.execute((SQL / "enrollment.sql").read_text("utf-8"), {"patient": None})
        enrolled = {row["patient_id"]: row for row in enrollment.to_arrow_table().to_pylist()}
        recorded = connection.execute(
            "select patient_id, check_name, numbers from check_results "
            "where asset = 'bpi_scores' and list_contains(?, check_name)",
            [[scores.fewer_than_three_a_week.__name__, scores.no_check_in.__name__]],
        ).fetchall()
    for patient, check, numbers in recorded:
        row, then = enrolled.get(patient), json.loads(numbers)
        if row is None:
            continue
        if check == scores.no_check_in.__name__:
            # once for each span of that many days, so that an alert names days that are about right
            limit = settings.checks.no_check_in_days
            now = scores.days_without_check_in(row, row["newest_day"])
            changed = bool(limit) and then.get("days", now) // limit != now // limit
        else:
            now = scores.complete_weeks(row)
            changed = then.get("weeks", now) != now  # a check that could not run has none
        if changed:
            rows.append((patient, "bpi_scores"))
    found: dict[str, list[str]] = {}
    for patient, table in sorted(set(rows)):
        found.setdefault(patient, []).append(table)
    return found
