"""What the study sensor sees: study folder, warehouse and Dagster's runs, at one moment.

Belongs here: reading, and hashing what was read to the states that ``pipeline.planning.plan`` compares.
Does not belong here: any decision. A read that fails is an error and never an empty list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from iss_assets.pipeline.planning import MARTS, STUDY, Seen
from iss_assets.pipeline.run_history import (
    _marts_at,
    _newest_state,
    attempts_of,
    backfilled_patients,
    subjects_in_flight,
)
from iss_assets.pipeline.staleness import _TOLD, _tables_read, tables_state
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.ledger import code_versions, fingerprint

if TYPE_CHECKING:
    from iss_assets.intake.folder import StudyFolder

PAGES = "pages"
"""Subject of the run that writes the last of the pages."""


def observe(instance: dg.DagsterInstance, settings: Settings) -> Seen:
    """Look at everything once.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        Partitions, runs and backfills.
    settings : Settings
        Where the study, the warehouse and the SQL models are.

    Raises
    ------
    StudyFolderError
        If the study folder cannot be read.
    """
    from iss_assets.checks.stages import results_fingerprint
    from iss_assets.intake.folder import read_study, study_signature
    from iss_assets.pipeline.run_history import end_dead_runs
    from iss_assets.pipeline.staleness import stale_patients

    end_dead_runs(instance)
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    folder = read_study(settings.study, settings.reading)
    stale = stale_patients(folder, settings)
    states: dict[str, str] = {}
    unsettled: Mapping[str, Sequence[str]] = {}
    if stale:
        # read after the folder: a video that began to be copied in between is seen as unsettled
        signature = study_signature(settings.study, settings.reading)
        unsettled = signature.unsettled
        held = _ledger_hashes(warehouse)
        versions = (code_versions(settings), results_fingerprint(settings))
        states = {
            patient: fingerprint(signature.patients.get(patient), tables, held.get(patient), versions)
            for patient, tables in stale.items()
        }
    study = _study_state(folder, settings)
    marts = marts_state(instance, warehouse, settings.warehouse.sql_dir)
    subjects = [*states, *([STUDY] if study else []), *([MARTS] if marts else [])]
    return Seen(
        enrolled=folder.patient_ids,
        stale=states,
        unsettled=unsettled,
        partitions=instance.get_dynamic_partitions("patients"),
        in_flight=subjects_in_flight(instance),
        attempts=attempts_of(instance, subjects),
        study=study,
        marts=marts,
        marts_at=_marts_at(instance),
        backfilled=backfilled_patients(instance),
    )


def _ledger_hashes(warehouse: Warehouse) -> dict[str, str]:
    rows = warehouse.query(
        "select patient_id, count(*) || '-' || bit_xor(hash(subject, table_name, fingerprint)) as mark "
        "from extractions group by patient_id"
    )
    return dict(zip(rows["patient_id"].to_pylist(), rows["mark"].to_pylist(), strict=True))


def _study_state(folder: StudyFolder, settings: Settings) -> str | None:
    from iss_assets.intake.folder import problem_rows, rejected_rows
    from iss_assets.pipeline.staleness import folder_is_stale

    if not folder_is_stale(folder, settings):
        return None
    return fingerprint(rejected_rows(folder), problem_rows(folder))


def marts_state(instance: dg.DagsterInstance, warehouse: Warehouse, sql_dir: Path) -> str | None:
    """Give the state of what the SQL models and the suites over the study read; None where the last run used it."""
    from iss_assets.checks.study import SQL
    from iss_assets.warehouse.sql.models import files_stamp, require_models

    require_models(sql_dir)
    stamp = files_stamp(sql_dir)
    if not stamp:
        return None
    state = tables_state(warehouse, _tables_read(sql_dir) | {"rejected_rows"}, stamp, files_stamp(SQL))
    if state is None:
        return None
    return None if _newest_state(instance, MARTS) == state else state


def pages_state(instance: dg.DagsterInstance, warehouse: Warehouse) -> str | None:
    """Give the state of what the study report and the patients' pages tell; None where they tell it already."""
    state = tables_state(warehouse, _TOLD)
    return None if _newest_state(instance, PAGES) == state else state
