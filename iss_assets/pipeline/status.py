"""What ``iss status`` prints: one line per patient, and notes about the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iss_assets.features.registry import missing_package_notes
from iss_assets.pipeline.staleness import stale_patients
from iss_assets.privacy.register import open_study
from iss_assets.privacy.withdrawal import models_to_fit_again
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.unseen import models_behind

_PER_PATIENT = """
with submitted as (
  select patient_id, count(*) as surveys from bpi_scores group by all
),
stored as (
  select patient_id, count(*) as videos, count(*) filter (status = 'ok') as readable from videos group by all
),
extracted as (
  select patient_id, count(distinct subject) as extracted
  from extractions where table_name = 'frames' and subject <> '*' group by all
),
quality as (
  select patient_id, count(*) filter (usable) as usable from video_quality group by all
),
failing as (
  select patient_id, count(*) as failing from check_results where not passed group by all
)
select
  patient_id, coalesce(surveys, 0) as surveys, coalesce(videos, 0) as videos, coalesce(readable, 0) as readable,
  coalesce(extracted, 0) as extracted, coalesce(usable, 0) as usable, coalesce(failing, 0) as failing
from (select distinct patient_id from extractions where patient_id <> '*') as known
left join submitted using (patient_id)
left join stored using (patient_id)
left join extracted using (patient_id)
left join quality using (patient_id)
left join failing using (patient_id)
"""


@dataclass(frozen=True)
class StudyStatus:
    """What `study_status` found: one row per patient, and notes about the study as a whole."""

    rows: list[dict[str, Any]]
    notes: list[str]


def study_status(settings: Settings) -> StudyStatus:
    """Compare the study folder with the warehouse.

    Raises
    ------
    StudyFolderError
        If the study folder cannot be read.
    """
    folder = open_study(settings)
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    stale = stale_patients(folder, settings)
    recorded = {row["patient_id"]: row for row in warehouse.query(_PER_PATIENT).to_pylist()}
    enrolled = [p.patient_id for p in folder.patients]
    rows = []
    for patient in sorted({*enrolled, *recorded}):
        have = recorded.get(patient, {})
        outdated = stale.get(patient, [])
        rows.append(
            {
                "patient": patient,
                "submissions": len(folder.submissions_of(patient)),
                "videos": len(folder.videos_of(patient)),
                "readable": have.get("readable", 0),
                "extracted": have.get("extracted", 0),
                "usable": have.get("usable", 0),
                "failed checks": have.get("failing", 0),
                "stale": "not enrolled any more"
                if patient not in enrolled
                else _stale(patient, outdated, recorded),
            }
        )
    notes = [
        f"{len(enrolled)} patients enrolled, {len(stale)} with something to bring up to date; "
        f"{len(folder.rejected)} rejected rows, {len(folder.problems)} problems in the study folder."
    ]
    notes.append(str(models_behind(warehouse)))
    notes += models_to_fit_again(settings)
    notes += missing_package_notes(settings)
    pages = [
        p
        for p in ("study_page.html", "study_report.html", "clinic_report.html", "quality.html")
        if (settings.reports_dir / p).exists()
    ]
    if pages:
        notes.append(f"Pages, in {settings.reports_dir}: {', '.join(pages)}")
    if stale:
        notes.append("Bring it up to date with: iss run")
    return StudyStatus(rows, notes)


def _stale(patient: str, outdated: list[str], recorded: dict[str, Any]) -> str:
    if patient not in recorded:
        return "new"
    made = [table for table in outdated if not table.startswith("checks of ")]
    return ", ".join(made + ["checks"] * (len(made) < len(outdated)))
