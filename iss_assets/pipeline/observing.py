"""What the study sensor decides from: study folder, warehouse and Dagster's runs, at one moment.

Nothing is decided here (`pipeline.planning.plan`). A read that fails is an error and never an empty list.
"""

from __future__ import annotations

import dagster as dg

from iss_assets.intake.folder import StudyFolder, signature_of
from iss_assets.pipeline.planning import MARTS, STUDY, WORDS_JOB, StudyState, subject_of
from iss_assets.pipeline.run_history import (
    attempts_of,
    backfilled_patients,
    end_dead_runs,
    known_patients,
    marts_made_at,
    subjects_in_flight,
    unless_made,
)
from iss_assets.pipeline.staleness import (
    marts_state,
    patient_states,
    stale_by_job,
    stale_patients,
    study_state,
    with_latest_day,
)
from iss_assets.privacy.register import open_study
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse


def observe(
    instance: dg.DagsterInstance, settings: Settings, folder: StudyFolder | None = None
) -> StudyState:
    """Read everything once, and report runs as failed whose process is gone.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        Partitions, runs and backfills.
    settings : Settings
        Where the study, the warehouse and the SQL models are.
    folder : StudyFolder, optional
        A read of the study folder, if there is one; otherwise it is read here.

    Raises
    ------
    StudyFolderError
        If the study folder cannot be read.
    """
    end_dead_runs(instance)
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    folder = open_study(settings) if folder is None else folder
    stale, words = stale_by_job(stale_patients(folder, settings))
    signature = signature_of(folder, settings.reading) if stale or words else None
    study = study_state(folder, settings)
    marts = unless_made(instance, MARTS, marts_state(warehouse, settings.warehouse.sql_dir))
    subjects = [
        *stale,
        *(subject_of(WORDS_JOB, patient) for patient in words),
        *([STUDY] if study else []),
        *([MARTS] if marts else []),
    ]
    return StudyState(
        enrolled=folder.patient_ids,
        stale=patient_states(signature.patients, settings, stale) if signature else {},
        words=patient_states(signature.patients, settings, words) if signature else {},
        unsettled=signature.unsettled if signature else {},
        partitions=known_patients(instance),
        in_flight=subjects_in_flight(instance),
        attempts=attempts_of(instance, subjects),
        study=study,
        marts=marts,
        marts_at=marts_made_at(instance),
        backfilled=backfilled_patients(instance),
        newest=with_latest_day(folder) if stale else frozenset(),
    )
