"""The first stage of the graph, from the study folder: who is enrolled, what they answered, which videos they sent."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as arrow

from iss_assets.defs.assets.common import asset_group, describe, result
from iss_assets.defs.assets.reading import guard, patient_lock
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.folder import (
    consent_rows,
    patient_rows,
    problem_rows,
    rejected_rows,
    review_rows,
    score_rows,
)
from iss_assets.intake.inventory import describe_video, without_probe
from iss_assets.media.errors import BrokenFile, RefusedFile
from iss_assets.media.journal import THERMAL, Journal, Reading, time_limit
from iss_assets.pipeline.staleness import (
    SCORES_CODE_VERSION,
    consent_fingerprint,
    readings_are_assessed,
    reviews_fingerprint,
    scores_fingerprint,
    videos_fingerprint,
)
from iss_assets.privacy.register import read_register
from iss_assets.protocol.recordings import Recording, enabled_recordings
from iss_assets.schemas.base import InvalidTable, Table
from iss_assets.schemas.intake import BpiScores, Consent, Patients, RejectedRows, Reviews, StudyProblems
from iss_assets.schemas.prompts import PromptReadings
from iss_assets.schemas.registry import BY_NAME
from iss_assets.schemas.thermal import Thermal
from iss_assets.schemas.videos import VideoProblems
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Replacement
from iss_assets.warehouse.ledger import (
    STUDY,
    WHOLE,
    code_versions,
    fingerprint,
    inventory_version,
    ledger_entry,
    read_ledger,
    read_notes,
)
from iss_assets.warehouse.verdicts import (
    Verdict,
    complete_video_row,
    read_verdicts,
    removal_of_extracted,
    stage_versions,
    valid_verdicts,
    verdict_from,
)

READING_CODE_VERSION = "1"
"""Raised when the same enrollment row or the same fault in the study folder yields a different row."""

if TYPE_CHECKING:
    from iss_assets.intake.records import ThermalFile, VideoFile
    from iss_assets.media.isolation import Guard
    from iss_assets.media.video import VideoInfo


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            **describe(
                RejectedRows,
                "Everything that was rejected, with file and line: nothing is dropped without a row here.",
                group="study",
                kinds={"python", "duckdb"},
            ),
            code_version=READING_CODE_VERSION,
        ),
        dg.AssetSpec(
            **describe(
                StudyProblems,
                "What was accepted but looks wrong: contradictions, surveys without video, ...",
                group="study",
                kinds={"python", "duckdb"},
            ),
            code_version=READING_CODE_VERSION,
        ),
    ],
    name="read_study_folder",
)
def study_folder(warehouse: WarehouseResource) -> Iterator[dg.MaterializeResult]:
    """Read the study folder and record what is wrong with it."""
    folder = warehouse.folder()
    made = {RejectedRows: rejected_rows(folder), StudyProblems: problem_rows(folder)}
    prints = {table: fingerprint(rows) for table, rows in made.items()}
    warehouse.warehouse().replace_all(
        [
            replacement
            for table, rows in made.items()
            for replacement in (
                Replacement(table, table.from_rows(rows), {}),
                ledger_entry(STUDY, table, prints[table], len(rows)),
            )
        ]
    )
    for table, rows in made.items():
        codes: dict[str, int] = {}
        for row in rows:
            codes[row["code"]] = codes.get(row["code"], 0) + 1
        yield result(table, len(rows), prints[table], {"by_kind": dg.MetadataValue.json(codes)})


@dg.asset(
    **describe(
        Patients,
        "From `enrollment.csv`, with pain level and skin group derived.",
        group="study",
        kinds={"python", "duckdb"},
    ),
    code_version=READING_CODE_VERSION,
    partitions_def=patients_partitions,
)
def patients(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Store one patient's enrollment."""
    rows = patient_rows(warehouse.folder(), context.partition_key)
    return keep_patient_rows(warehouse, Patients, context.partition_key, rows)


@dg.asset(
    **describe(
        BpiScores,
        "Questions 1 to 9 of the Brief Pain Inventory, from `surveys.csv`; skipped answers stay empty.",
        group="study",
        kinds={"python", "duckdb"},
    ),
    partitions_def=patients_partitions,
    deps=["patients"],
    code_version=SCORES_CODE_VERSION,
)
def bpi_scores(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Store one patient's answers."""
    rows = score_rows(warehouse.folder(), context.partition_key)
    missing = sum(r["missing_scores"] for r in rows)
    return keep_patient_rows(
        warehouse,
        BpiScores,
        context.partition_key,
        rows,
        {
            "missing_scores": missing,
            "local_time_from": dg.MetadataValue.json(dict(Counter(r["utc_offset_source"] for r in rows))),
        },
        table_fingerprint=scores_fingerprint(rows),
    )


@dg.asset(
    **describe(
        Reviews,
        "What people decided about flags, videos, and patients, from `reviews.csv`.",
        group="study",
        kinds={"python", "duckdb"},
    ),
    partitions_def=patients_partitions,
    deps=["patients"],
    code_version=READING_CODE_VERSION,
)
def reviews(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Store the decisions about one patient."""
    rows = review_rows(warehouse.folder(), context.partition_key)
    by_decision = Counter(str(row["decision"]) for row in rows)
    return keep_patient_rows(
        warehouse,
        Reviews,
        context.partition_key,
        rows,
        {"by_decision": dg.MetadataValue.json(dict(by_decision))},
        table_fingerprint=reviews_fingerprint(rows),
    )


@dg.asset(
    **describe(
        Consent,
        "What each patient has consented to, from `consent.csv`. Who has withdrawn from research is not trained on.",
        group="study",
        kinds={"python", "duckdb"},
    ),
    partitions_def=patients_partitions,
    deps=["patients"],
    code_version=READING_CODE_VERSION,
)
def consent(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Keep what counts of one patient's consent."""
    rows = consent_rows(warehouse.folder(), context.partition_key)
    return keep_patient_rows(
        warehouse,
        Consent,
        context.partition_key,
        rows,
        {"by_scope": dg.MetadataValue.json({str(row["scope"]): str(row["state"]) for row in rows})},
        table_fingerprint=consent_fingerprint(rows),
    )


def video_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the inventories of the recordings; their code version depends on the settings of the probe."""
    return [_inventory_of(recording, settings) for recording in enabled_recordings(settings)]


def _inventory_of(recording: Recording, settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **describe(
            BY_NAME[recording.inventory],
            "Every file with its hash and what its container says. Unreadable ones stay, with the reason.",
            group=asset_group("study", recording),
            kinds={"python", "duckdb"},
        ),
        partitions_def=patients_partitions,
        deps=["patients"],
        code_version=inventory_version(settings),
    )
    def videos(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
        """Hash and probe one patient's video files; a file that did not change is not opened again."""
        with patient_lock(warehouse.settings(), context.partition_key):
            return update_videos(warehouse, context.partition_key, recording, log=context.log.warning)

    return videos


def update_videos(
    warehouse: WarehouseResource, patient: str, recording: Recording, log: Callable[[str], None]
) -> dg.MaterializeResult:
    """Update one patient's rows of a recording's inventory; the caller holds the patient's lock.

    Parameters
    ----------
    warehouse : WarehouseResource
        The study folder, the settings and the warehouse.
    patient : str
        Patient id.
    recording : Recording
        Which of the submissions' files.
    log : callable
        Called with a sentence when a file has to be read again.
    """
    settings, table = warehouse.settings(), BY_NAME[recording.inventory]
    with warehouse.warehouse().read() as connection:
        recorded = connection.execute(
            f"select * from {table.__table__} where patient_id = ?", [patient]
        ).to_arrow_table()
        current = read_ledger(connection, patient).get((patient, WHOLE, table.__table__), "")
        verdicts = read_verdicts(connection, patient)
    known = {row["video_id"]: row for row in recorded.to_pylist()}
    versions = stage_versions(settings)
    known_hashes = {v: row["sha256"] for v, row in known.items()}
    standing = valid_verdicts(verdicts, known_hashes, versions, recording)
    lapsed = {v.video_id for v in verdicts if v.recording is recording} - {v.video_id for v in standing}
    probed = current.startswith(f"{inventory_version(settings)}-")
    files = warehouse.folder().videos_of(patient, recording)
    withdrawn = read_register(settings)
    new_verdicts: list[Verdict] = []
    with guard(settings, patient, "probe", log) as isolated:
        described = [
            describe_video(
                video,
                known.get(video.submission_id),
                settings.video,
                trust_probe=probed and video.submission_id not in lapsed,
                prober=partial(probe_isolated, isolated, settings, video, recording, new_verdicts),
                withdrawn=withdrawn,
            )
            for video in files
        ]
    hashes = {row["video_id"]: row["sha256"] for row, _ in described}
    standing = [*valid_verdicts(verdicts, hashes, versions, recording), *new_verdicts]
    with warehouse.warehouse().read() as connection:
        notes = read_notes(connection, patient, hashes, code_versions(settings), recording)
    rows = [complete_video_row(row, standing, notes, recording) for row, _ in described]
    unread = {row["video_id"] for row, settled in described if not settled}
    keep = partial(
        keep_patient_rows,
        warehouse,
        table,
        patient,
        table_fingerprint=videos_fingerprint(files, settings, unread),
        more=[
            Replacement(
                VideoProblems,
                VideoProblems.from_rows(
                    [
                        *(v._asdict() for v in verdicts if v.recording is not recording),
                        *(v._asdict() for v in standing),
                    ]
                ),
                {"patient_id": patient},
            )
        ]
        if verdicts or new_verdicts
        else [],
    )
    try:
        kept = keep(rows=rows, metadata=unreadable_in(rows))
    except MISFITS:
        rows = [
            row
            if fits(table, row)
            else without_probe(row, "What the file says about itself cannot be right; submit it again.")
            for row in rows
        ]
        kept = keep(rows=rows, metadata=unreadable_in(rows))
    Journal(settings.journal_dir).forget(patient, hashes, recording)
    for other in Recording:
        if other not in enabled_recordings(settings):
            forget_removed(warehouse, patient, other)
    if recording is Recording.PROMPT and not readings_are_assessed(settings):
        forget_unsubmitted(warehouse, patient, PromptReadings, "video_id", files)
    if recording is Recording.NARRATIVE and not settings.thermal.enabled:
        pictures = warehouse.folder().thermals_of(patient)
        if forget_unsubmitted(warehouse, patient, Thermal, "submission_id", pictures):
            Journal(settings.journal_dir).forget(patient, {}, stage=THERMAL)
    return kept


def forget_removed(warehouse: WarehouseResource, patient: str, recording: Recording) -> None:
    """Remove what is stored of files that are no longer submitted, of a recording that is not processed any more.

    Its own assets would do that, and there are none.
    """
    store, table = warehouse.warehouse(), BY_NAME[recording.inventory]
    submitted = {file.submission_id for file in warehouse.folder().videos_of(patient, recording)}
    rows = store.query(f"select video_id from {table.__table__} where patient_id = ?", [patient])
    removed = set(rows["video_id"].to_pylist()) - submitted
    if removed:
        store.replace_all(
            [
                replacement
                for video_id in sorted(removed)
                for replacement in (
                    *removal_of_extracted(patient, video_id, recording),
                    *(
                        Replacement(gone, gone.from_rows([]), {"patient_id": patient, "video_id": video_id})
                        for gone in (table, PromptReadings)
                    ),
                )
            ]
        )
    Journal(warehouse.settings().journal_dir).forget(patient, {}, recording)


def forget_unsubmitted(
    warehouse: WarehouseResource,
    patient: str,
    table: type[Table],
    name: str,
    files: "Sequence[VideoFile | ThermalFile]",
) -> bool:
    """Remove a patient's rows about files that are no longer submitted, from a table that has no asset at present.

    Parameters
    ----------
    warehouse : WarehouseResource
        Where the table is.
    patient : str
        Patient id.
    table : type of Table
        The table; it has one ledger entry for all of the patient's rows.
    name : str
        Its column with the submission's id.
    files : sequence of VideoFile or ThermalFile
        The files that are submitted.

    Returns
    -------
    bool
        Whether there were such rows.
    """
    store = warehouse.warehouse()
    rows = store.query(f"select {name} from {table.__table__} where patient_id = ?", [patient])
    stored = set(rows[name].to_pylist())
    kept = stored & {file.submission_id for file in files}
    if kept == stored:
        return False
    store.replace_all(
        [
            *(
                Replacement(table, table.from_rows([]), {"patient_id": patient, name: submission_id})
                for submission_id in sorted(stored - kept)
            ),
            # of no listing of files: if the table gets its asset back, all rows are made again
            ledger_entry(patient, table, fingerprint("removed"), len(kept)),
        ]
    )
    return True


MISFITS = (InvalidTable, arrow.ArrowException, OverflowError, TypeError, ValueError)
"""Errors raised by rows that do not fit their table: an absurd size, not a number, a name that is not text."""


def fits(table: type[Table], row: Mapping[str, Any]) -> bool:
    """Return whether a row fits its table."""
    try:
        table.check_rows(table.from_rows([dict(row)]))
    except MISFITS:
        return False
    return True


def unreadable_in(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metadata that names the unreadable videos."""
    unreadable = [row["video_id"] for row in rows if row["status"] != "ok"]
    return {"unreadable": len(unreadable), "unreadable_videos": unreadable}


def probe_isolated(
    isolated: "Guard",
    settings: Settings,
    video: "VideoFile",
    recording: Recording,
    new_verdicts: list[Verdict],
    sha256: str,
) -> "VideoInfo":
    """Probe a file in isolation; a failure is appended to `new_verdicts` and raised."""
    from iss_assets.media.video import probe

    run = settings.run
    reading = Reading(
        video.patient_id,
        video.submission_id,
        recording.named("probe"),
        sha256,
        time_limit(run.video_limit_s, run.video_limit_factor, None, video.size),
        video.path,
        video.size,
        video.mtime_ns,
    )
    try:
        return isolated.attempt(reading, probe, video.path, settings.video)
    except RefusedFile:
        raise
    except BrokenFile as error:
        new_verdicts.append(verdict_from(reading, error, stage_versions(settings)))
        raise


def keep_patient_rows(
    warehouse: WarehouseResource,
    table: type[Table],
    patient: str,
    rows: Sequence[Mapping[str, Any]],
    metadata: Mapping[str, Any] | None = None,
    table_fingerprint: str | None = None,
    more: Sequence[Replacement] = (),
) -> dg.MaterializeResult:
    """Replace a patient's rows of a table and record them as current, with `more` in the same transaction.

    Parameters
    ----------
    warehouse : WarehouseResource
        Where the table is.
    table : type of Table
        The table.
    patient : str
        The patient whose rows are replaced.
    rows : sequence of mapping
        All rows that the patient has from now on.
    metadata : mapping, optional
        Metadata of the materialization.
    table_fingerprint : str, optional
        What the rows were made from; by default a hash of the rows.
    more : sequence of Replacement
        Further replacements.

    Raises
    ------
    InvalidTable
        If rows do not fit the table. Nothing is replaced then.
    """
    table_fingerprint = table_fingerprint or fingerprint(rows)
    warehouse.warehouse().replace_all(
        [
            Replacement(table, table.from_rows([dict(r) for r in rows]), {"patient_id": patient}),
            ledger_entry(patient, table, table_fingerprint, len(rows)),
            *more,
        ]
    )
    return result(table, len(rows), table_fingerprint, metadata)
