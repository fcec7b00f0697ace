"""What the study sensor sees: study folder, warehouse and Dagster's runs, at one moment.

Belongs here: reading, and hashing what was read to the states that ``incremental.plan`` compares.
Does not belong here: any decision. A read that fails is an error and never an empty list.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.dagster_run import (
    FINISHED_STATUSES,
    NOT_FINISHED_STATUSES,
    RunRecord,
)

from iss_assets.incremental import MARTS, STUDY, Attempt, Seen, can_heal
from iss_assets.jobs import PATIENT_TABLES
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.ledger import code_versions, fingerprint

if TYPE_CHECKING:
    from iss_assets.study.folder import StudyFolder

SUBJECT_TAG, STATE_TAG = "iss/subject", "iss/state"
PARTITION_TAG = "dagster/partition"
TAKEN_UP_TAG = "iss/taken_up"
"""On a run whose process died and whose work a later command takes up, so that it is no trouble of its own."""
PAGES = "pages"
"""Subject of the run that writes the last of the pages."""
_TOLD = (
    *PATIENT_TABLES,
    "rejected_rows",
    "study_problems",
    "cv_splits",
    "fold_models",
    "frame_predictions",
    "patient_accuracy",
    "experiment_results",
)
"""Tables that the pages are made from."""
_PATIENT_KEYS = frozenset(dg.AssetKey(name) for name in PATIENT_TABLES)
_CHUNK = 500
"""Values in one question to Dagster's storage; SQLite takes a limited number."""


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
    from iss_assets.checks.ops import results_fingerprint
    from iss_assets.runner import end_dead_runs, stale_patients
    from iss_assets.study.folder import read_study, study_signature

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


def subjects_in_flight(instance: dg.DagsterInstance) -> frozenset[str]:
    """Give the patients, and the study-wide jobs, that runs not yet ended work on, whoever launched them."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
    return frozenset(run.tags.get(PARTITION_TAG) or run.tags.get(SUBJECT_TAG) or run.job_name for run in runs)


def attempts_of(instance: dg.DagsterInstance, subjects: Sequence[str]) -> dict[str, list[Attempt]]:
    """Give the ended runs that the sensor asked for, newest first, for each subject.

    Only the newest one's log is opened, to see whether its failure can heal: that alone decides.
    """
    attempts: dict[str, list[Attempt]] = {}
    for start in range(0, len(subjects), _CHUNK):
        records = instance.get_run_records(
            dg.RunsFilter(
                statuses=FINISHED_STATUSES, tags={SUBJECT_TAG: list(subjects[start : start + _CHUNK])}
            )
        )
        for record in records:
            of_subject = attempts.setdefault(record.dagster_run.tags[SUBJECT_TAG], [])
            of_subject.append(
                Attempt(
                    run_id=record.dagster_run.run_id,
                    state=record.dagster_run.tags.get(STATE_TAG, ""),
                    ended_at=record.end_time or record.update_timestamp.timestamp(),
                    can_heal=bool(of_subject) or _can_heal(instance, record),
                )
            )
    return attempts


def backfilled_patients(instance: dg.DagsterInstance) -> frozenset[str]:
    """Give the patients whose runs a backfill is launching, of the job or of assets chosen in the UI."""
    patients: set[str] = set()
    for backfill in instance.get_backfills(status=BulkActionStatus.REQUESTED):
        if backfill.job_name == "patient":
            patients.update(backfill.partition_names or ())
        elif backfill.asset_backfill_data is not None:
            subsets = backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key
            for key in subsets.keys() & _PATIENT_KEYS:
                patients.update(subsets[key].get_partition_keys())
    return frozenset(patients)


def finished_since(
    instance: dg.DagsterInstance, cursor: str | None, most: int = 50
) -> tuple[list[dg.DagsterRun], str | None]:
    """Give the runs that ended after a cursor, the oldest first, and the new cursor.

    Unlike Dagster's run-status sensors this starts with the first run there ever was, so runs of the command line
    that ended while no daemon was there are read as soon as there is one.

    Parameters
    ----------
    instance : dagster.DagsterInstance
        Where the runs are.
    cursor : str, optional
        What the last call gave.
    most : int
        Runs read at a time.
    """
    at, done = json.loads(cursor) if cursor else [None, []]
    # the storage compares with "later than"; runs of the very moment of the cursor may still come
    since = datetime.fromisoformat(at) - timedelta(microseconds=1) if at else None
    records = instance.get_run_records(
        dg.RunsFilter(statuses=FINISHED_STATUSES, updated_after=since),
        limit=most + len(done),
        order_by="update_timestamp",
        ascending=True,
    )
    new = [r for r in records if r.dagster_run.run_id not in done]
    if not new:
        return [], cursor
    moment = records[-1].update_timestamp
    same = [r.dagster_run.run_id for r in records if r.update_timestamp == moment]
    return [r.dagster_run for r in new], json.dumps([moment.isoformat(), same])


def errors_of(instance: dg.DagsterInstance, run_id: str) -> dict[str, list[str]]:
    """Give the error classes of a run's failed steps, by step: names only, since messages may hold content.

    A step that failed for some videos or SQL models names their errors in the metadata of its failure.
    """
    found: dict[str, list[str]] = {}
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records:
        event = record.event_log_entry.dagster_event
        if event is None or event.step_key is None:
            continue
        data = event.step_failure_data
        failure = data.user_failure_data
        several = (failure.metadata.get("videos") or failure.metadata.get("models")) if failure else None
        value = several.value if several is not None else None
        if isinstance(value, dict) and value:
            found[event.step_key] = sorted({str(name) for name in value.values()})
        else:
            # Dagster's own error stands around the one that the step raised
            error = data.error.cause or data.error if data.error else None
            found[event.step_key] = [error.cls_name] if error and error.cls_name else []
    return found


def _can_heal(instance: dg.DagsterInstance, record: RunRecord) -> bool:
    if record.dagster_run.status != dg.DagsterRunStatus.FAILURE:
        return True
    return can_heal(
        {name for names in errors_of(instance, record.dagster_run.run_id).values() for name in names}
    )


def _ledger_hashes(warehouse: Warehouse) -> dict[str, str]:
    rows = warehouse.query(
        "select patient_id, count(*) || '-' || bit_xor(hash(video_id, table_name, fingerprint)) as mark "
        "from extractions group by patient_id"
    )
    return dict(zip(rows["patient_id"].to_pylist(), rows["mark"].to_pylist(), strict=True))


def _study_state(folder: StudyFolder, settings: Settings) -> str | None:
    from iss_assets.runner import folder_is_stale
    from iss_assets.study.folder import problem_rows, rejected_rows

    if not folder_is_stale(folder, settings):
        return None
    return fingerprint(rejected_rows(folder), problem_rows(folder))


def marts_state(instance: dg.DagsterInstance, warehouse: Warehouse, sql_dir: Path) -> str | None:
    """Give the state of what the SQL models and the suites over the study read; None where the last run used it."""
    from iss_assets.checks.study import SQL
    from iss_assets.warehouse.sql_models import files_stamp, require_models

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


def tables_state(warehouse: Warehouse, names: Collection[str], *more: object) -> str | None:
    """Hash the content of tables; None while there is no patient.

    Tables in the ledger are known by their fingerprints, so that no picture is read; the others are small.
    """
    with warehouse.read() as connection:
        if not (connection.execute("select count(*) from patients").fetchone() or (0,))[0]:
            return None
        marks = connection.execute(
            "select table_name, count(*), bit_xor(hash(patient_id, video_id, fingerprint)) from extractions "
            "group by table_name order by table_name"
        ).fetchall()
        kept = {name for name, _, _ in marks}
        held = [mark for mark in marks if mark[0] in names]
        others = [
            (name, connection.execute(f'select count(*), bit_xor(hash(t)) from "{name}" as t').fetchone())
            for name in sorted(set(names) - kept)
        ]
    return fingerprint(held, others, *more)


def _tables_read(sql_dir: Path) -> frozenset[str]:
    """Give the warehouse's tables that the SQL models read."""
    from iss_assets.warehouse.sql_models import load_models
    from iss_assets.warehouse.tables import BY_NAME

    models = load_models(sql_dir).models.values()
    return frozenset(table for model in models for table in model.depends_on if table in BY_NAME)


def _newest_state(instance: dg.DagsterInstance, subject: str) -> str | None:
    """Give the state of a subject's last run that succeeded."""
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], tags={SUBJECT_TAG: subject}), limit=1
    )
    return records[0].dagster_run.tags.get(STATE_TAG) if records else None


def _marts_at(instance: dg.DagsterInstance) -> float | None:
    newest = instance.get_run_records(
        dg.RunsFilter(job_name=MARTS, statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1
    )
    first = newest or instance.get_run_records(limit=1, ascending=True)
    return (first[0].end_time or first[0].create_timestamp.timestamp()) if first else None
