"""The assets of Question 10 that narratives do not have: the study's texts, and which of them was read."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import dagster as dg

from iss_assets.defs.assets.common import PROMPT_GROUP, TEXTS_TAG, WORDS_TAG, describe, result
from iss_assets.defs.assets.reading import patient_lock
from iss_assets.defs.assets.study import keep_patient_rows
from iss_assets.defs.assets.video_work import require_current
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.features.prompts import PromptReading, assess_reading
from iss_assets.intake.folder import prompt_rows
from iss_assets.pipeline.staleness import readings_are_assessed, readings_fingerprint, readings_rules
from iss_assets.protocol.recordings import Recording, enabled_recordings
from iss_assets.schemas.prompts import PromptReadings, Prompts
from iss_assets.schemas.words import Transcripts
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Replacement
from iss_assets.warehouse.ledger import STUDY, code_versions, fingerprint, ledger_entry

TEXTS_CODE_VERSION = "1"
"""Raised when the same row of prompts.csv yields a different row."""


@dg.asset(
    **describe(
        Prompts,
        "From `prompts.csv`; what is wrong with it is in `rejected_rows`.",
        group=PROMPT_GROUP,
        kinds={"python", "duckdb"},
        tags=TEXTS_TAG,
    ),
    code_version=TEXTS_CODE_VERSION,
)
def prompts(warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Store the study's texts."""
    rows = prompt_rows(warehouse.folder())
    made_from = fingerprint(rows)
    warehouse.warehouse().replace_all(
        [
            Replacement(Prompts, Prompts.from_rows(rows), {}),
            ledger_entry(STUDY, Prompts, made_from, len(rows)),
        ]
    )
    return result(Prompts, len(rows), made_from)


def prompt_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the assets; none if readings are not processed, and no assessment without speech recognition."""
    if Recording.PROMPT not in enabled_recordings(settings):
        return []
    return [prompts, *([_readings(settings)] if readings_are_assessed(settings) else [])]


def _readings(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **describe(
            PromptReadings,
            "What was said is compared with every text of the study, word by word. The words themselves are not in it.",
            group=PROMPT_GROUP,
            kinds={"python", "duckdb"},
            tags={"stage": PROMPT_GROUP, **WORDS_TAG},
        ),
        partitions_def=patients_partitions,
        deps=["prompts", Recording.PROMPT.inventory, _TRANSCRIPTS],
        code_version=readings_rules(settings),
    )
    def prompt_readings(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> dg.MaterializeResult:
        """Say which text one patient read in each video."""
        with patient_lock(warehouse.settings(), context.partition_key):
            return assess_readings(warehouse, context.partition_key)

    return prompt_readings


_TRANSCRIPTS: Final = Recording.PROMPT.named(Transcripts.__table__)


def assess_readings(warehouse: WarehouseResource, patient: str) -> dg.MaterializeResult:
    """Assess the readings of one patient; the caller holds the patient's lock.

    Raises
    ------
    dagster.Failure
        If what was said in one of them has to be recognized first.
    """
    settings, folder = warehouse.settings(), warehouse.folder()
    texts = {prompt.prompt_id: prompt.text for prompt in folder.prompts}
    expected = {s.submission_id: s.prompt_id for s in folder.submissions_of(patient)}
    files = warehouse.warehouse().query(
        f"select v.video_id, v.sha256, v.status, v.has_audio, t.text, t.language, t.left_out_s, "
        "t.speech_s, t.wordless_s "
        f"from {Recording.PROMPT.inventory} as v left join {_TRANSCRIPTS} as t using (video_id) "
        "where v.patient_id = ? order by v.video_id",
        [patient],
    )
    require_current(
        warehouse.warehouse(), settings, patient, files.to_pylist(), _TRANSCRIPTS, Recording.PROMPT
    )
    made_from = readings_fingerprint(folder, patient, files.to_pylist(), settings, code_versions(settings))
    rows = [
        {
            "video_id": file["video_id"],
            "patient_id": patient,
            "prompt_id": (prompt_id := expected.get(file["video_id"])),
            "prompt_known": None if prompt_id is None else prompt_id in texts,
            **asdict(_reading(file, texts, settings)),
            "fingerprint": made_from,
        }
        for file in files.to_pylist()
        if file["status"] == "ok"
    ]
    return keep_patient_rows(
        warehouse,
        PromptReadings,
        patient,
        rows,
        {
            "read": sum(row["read"] is True for row in rows),
            "not_read": sum(row["read"] is False for row in rows),
            "cut_short": sum(row["cut_short"] is True for row in rows),
        },
        table_fingerprint=made_from,
    )


def _reading(file: Mapping[str, Any], texts: Mapping[str, str], settings: Settings) -> PromptReading:
    if file["text"] is None and file["has_audio"]:
        return PromptReading()  # the sound could not be read
    if not file["text"] and file["left_out_s"]:
        return PromptReading()  # somebody speaks, in a language that could not be told
    much = (file["wordless_s"] or 0.0) > settings.checks.wordless_limit_s(file["speech_s"] or 0.0)
    return assess_reading(
        texts, file["text"] or "", file["language"], settings.prompt, much_without_words=much
    )
