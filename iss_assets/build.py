"""Assembles the Dagster definitions from what the modules of ``defs`` define."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from iss_assets.defs import jobs
from iss_assets.defs.assets import (
    check_ins,
    evaluation,
    expectations,
    extraction,
    features,
    prompts,
    quality,
    reports,
    study,
    thermal,
    training,
)
from iss_assets.defs.assets.sql_models import build_sql_models
from iss_assets.defs.checks.build import build_checks
from iss_assets.defs.resources import WarehouseResource
from iss_assets.defs.schedules import build_schedules
from iss_assets.defs.sensors import build_sensors
from iss_assets.features.registry import is_on
from iss_assets.settings import Settings


def build_defs(
    settings: Settings | None = None, resource_overrides: Mapping[str, object] | None = None
) -> dg.Definitions:
    """Return new Definitions.

    Parameters
    ----------
    settings : Settings, optional
        Code versions are computed from these; read from the environment by default.
    resource_overrides : mapping, optional
        Resources by name that replace the defaults.
    """
    settings = settings or Settings()

    results = [training.cv_splits, training.embeddings, training.folds]
    results += [evaluation.patient_accuracy, evaluation.evaluation, *check_ins.check_in_assets(settings)]
    return dg.Definitions(
        assets=[
            study.study_folder,
            study.patients,
            study.bpi_scores,
            study.reviews,
            study.consent,
            *study.video_assets(settings),
            *extraction.extraction_assets(settings),
            *quality.quality_assets(settings),
            *features.feature_assets(settings),
            *prompts.prompt_assets(settings),
            *thermal.thermal_assets(settings),
            *expectations.expectation_assets(settings),
            *build_sql_models(settings.warehouse.sql_dir),
            *results,
            reports.study_report,
            reports.clinic_report,
            reports.patient_report,
            reports.study_page,
            reports.quality_page,
        ],
        asset_checks=build_checks(results, settings),
        jobs=[
            *jobs.ALL,
            *([jobs.words_job] if is_on("words", settings) else []),
            *([jobs.maintenance_job, jobs.follow_withdrawals_job] if settings.warehouse.catalog else []),
        ],
        schedules=build_schedules(settings),
        sensors=build_sensors(settings),
        resources={"warehouse": WarehouseResource(), **(resource_overrides or {})},
        executor=dg.in_process_executor,
    )
