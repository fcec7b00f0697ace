"""The checks of the graph, put together stage by stage.

Belongs here: which rules run in which op, and on which assets. Does not belong here: rules, Dagster's machinery.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import dagster as dg

from iss_assets.checks import quality, scores
from iss_assets.checks.ops import SQL, Stage, make_checks, results_fingerprint
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.tables import BY_NAME

STAGES: tuple[Stage, ...] = (
    Stage("check_study_folder", ("rejected_rows", "study_problems"), by_patient=False),
    Stage("check_patients", ("patients",), {"patients": scores.ENROLLMENT_RULES}, ("enrollment",)),
    Stage(
        "check_scores", ("bpi_scores",), {"bpi_scores": scores.RULES}, scores.QUERIES, also_needs=("videos",)
    ),
    Stage("check_videos", ("videos",)),
    Stage("check_seen", ("frames", "faces", "landmarks")),
    Stage("check_heard", ("audio", "mel_spectrograms", "audio_features")),
    Stage("check_quality", ("video_quality",), {"video_quality": quality.RULES}, quality.QUERIES),
)
"""Every stage from the study folder to the quality of a video."""


def build_checks(later: Iterable[dg.AssetsDefinition] = ()) -> list[dg.AssetChecksDefinition]:
    """Give the checks of the graph.

    Parameters
    ----------
    later : iterable of AssetsDefinition
        Assets after `STAGES` (folds, models, results): those that are tables get their schema checked, over the whole
        table. The suites over the study report on ``study_expectations`` itself.
    """
    known = {table for stage in STAGES for table in stage.tables}
    stages = list(STAGES)
    for assets in later:
        names = sorted({key.to_user_string() for key in assets.keys} & BY_NAME.keys() - known)
        if names:
            stages.append(Stage(f"check_{'_and_'.join(names)}", names, by_patient=False))
            known.update(names)
    return [make_checks(stage) for stage in stages]


def unchecked(warehouse: Warehouse, settings: Settings) -> dict[str, list[str]]:
    """Give the patients with tables that were made but not checked since, or with other settings or code.

    A run that is killed between an asset and its checks leaves such a table; nothing else would show it. Neither would
    it show that a week of the enrollment has ended since, which is seen by what others submitted.
    """
    tables = [table for stage in STAGES for table in stage.tables]
    checks = [f"{check.asset}.{check.name}" for stage in STAGES for check in stage.checks]
    with warehouse.read() as connection:
        rows = connection.execute(
            (SQL / "unchecked.sql").read_text("utf-8"),
            {"fingerprint": results_fingerprint(settings), "tables": tables, "checks": checks},
        ).fetchall()
        enrollment = connection.execute((SQL / "enrollment.sql").read_text("utf-8"), {"patient": None})
        weeks = {r["patient_id"]: scores.complete_weeks(r) for r in enrollment.to_arrow_table().to_pylist()}
        judged = connection.execute(
            "select patient_id, numbers from check_results where asset = 'bpi_scores' and check_name = ?",
            [scores.fewer_than_three_a_week.__name__],
        ).fetchall()
    for patient, numbers in judged:
        seen = json.loads(numbers).get("weeks")  # a check that broke has none
        if seen is not None and seen != weeks.get(patient, seen):
            rows.append((patient, "bpi_scores"))
    found: dict[str, list[str]] = {}
    for patient, table in sorted(set(rows)):
        found.setdefault(patient, []).append(table)
    return found
