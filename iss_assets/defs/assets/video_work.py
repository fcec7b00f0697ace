"""One pass over a patient's videos: what is stale is read, under a guard, into the spool, and stored in one transaction.

A pass goes over the narratives or over the Question 10 readings, and is the same for both. What it does with a video it does
with the names of a narrative's tables; `Video.stored` gives the names in the warehouse, spool and ledger.

The unit of work is the video. A video whose fingerprint is in the ledger is not read; what a killed run made waits in
the spool; the patient's rows are replaced in one transaction at the end. ``extraction`` and ``features`` say what a
pass does with a video.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as arrow

from iss_assets.defs.assets.common import result
from iss_assets.defs.assets.reading import guard, patient_lock
from iss_assets.defs.assets.study import MISFITS
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.inventory import placeholder_hash, without_probe
from iss_assets.media.errors import BrokenFile, ChangedFile, MachineError, RefusedFile
from iss_assets.media.journal import Reading, Stage, time_limit
from iss_assets.protocol.recordings import Recording
from iss_assets.schemas.base import VIDEO_CONSTANTS
from iss_assets.schemas.operations import Extractions
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import Settings
from iss_assets.warehouse import engine
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import (
    code_versions,
    entry_key,
    fingerprint,
    ledger,
    ledger_entry,
    ledger_rows,
    read_ledger,
    read_notes,
    video_fingerprints,
    video_tables,
)
from iss_assets.warehouse.spool import Spool, map_file
from iss_assets.warehouse.verdicts import (
    Verdict,
    complete_video_row,
    read_verdicts,
    removal_of_extracted,
    stage_versions,
    valid_verdicts,
    verdict_and_video_replacements,
    verdict_from,
    verdict_replacements,
)

_LARGE_MB = 900
"""Of the 1.5 GB that a worker may take; with videos of a minute it stays below this."""


@dataclass(frozen=True)
class Extracted:
    """What came out of one video: rows by table, and what was wrong with the file on the way, if anything.

    Rows lack patient, video and fingerprint; long tables are Arrow files in the spool's scratch folder, if it has one.
    """

    rows: Mapping[str, Path | arrow.Table]
    problem: str | None = None


@dataclass(frozen=True)
class Video:
    """One readable video of the patient."""

    video_id: str
    path: Path
    fingerprints: Mapping[str, str]
    """By the stored tables' names."""
    row: Mapping[str, Any]
    """Its row of the inventory."""
    recording: Recording = Recording.NARRATIVE

    def stored(self, table: str) -> str:
        """Return the name under which a table of a narrative is stored for this video."""
        return self.recording.named(table)


Work = Callable[[Video, set[str], Settings, Warehouse, Spool], Extracted]
"""Makes the wanted tables of one video; it must be picklable."""


@dataclass(frozen=True)
class Pass:
    """What is done with each of a patient's videos.

    Attributes
    ----------
    tables : tuple of str
        The tables it makes of a narrative.
    stage : str
        Its name for a narrative in the journal and in ``video_problems``.
    work : callable
        Makes the wanted tables of one video.
    sources : tuple of str
        The tables it reads; a video of which one is stale waits. Without any, it opens the video's file.
    from_rows : mapping of frozenset of str to str
        Sets of tables that are made from stored rows although the pass opens the file otherwise, with the stage's name
        then.
    noting : str or None
        The table whose ledger entry notes what was unusual about the file.
    recording : Recording
        The recording that it goes over.
    """

    tables: tuple[str, ...]
    stage: Stage
    work: Work
    sources: tuple[str, ...] = ()
    from_rows: Mapping[frozenset[str], Stage] = field(default_factory=dict)
    noting: str | None = None
    recording: Recording = Recording.NARRATIVE

    def stage_of(self, wanted: set[str]) -> Stage:
        """Return the stage in which these tables are made, with the recording's name."""
        return self.recording.named(self.from_rows.get(frozenset(wanted), self.stage))

    def opens_file(self, wanted: set[str]) -> bool:
        """Return whether these tables are made from the video's file."""
        return not self.sources and frozenset(wanted) not in self.from_rows


def extract(
    context: dg.AssetExecutionContext, resource: WarehouseResource, a_pass: Pass
) -> Iterator[dg.MaterializeResult]:
    """Bring one patient's rows of the selected tables up to date, video by video.

    Raises
    ------
    dagster.Failure
        After everything else is stored, if some videos could not be read for a reason other than the file (a full
        disk, a lock, a table that the pass reads and that is stale). The next run tries those again. A faulty file
        is not a failure: it gets a verdict.
    """
    with patient_lock(resource.settings(), context.partition_key):
        results = list(extract_alone(context, resource, a_pass))
    give_memory_back()
    yield from results


def give_memory_back() -> None:
    """Hand freed memory to the system if this process has grown large: DuckDB, Arrow, and the C library keep it.

    A small process keeps it, because the next video would have to allocate it again page by page.
    """
    resident = _resident_mb()
    if resident is not None and resident <= _LARGE_MB:
        return
    engine.end_idle()
    arrow.default_memory_pool().release_unused()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _resident_mb() -> float | None:
    """Return the resident memory of this process in megabytes, None on systems without /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def extract_alone(
    context: dg.AssetExecutionContext, resource: WarehouseResource, a_pass: Pass
) -> Iterator[dg.MaterializeResult]:
    """Extract one patient's tables; the caller holds the patient's lock."""
    patient, settings, warehouse = context.partition_key, resource.settings(), resource.warehouse()
    recording, keys = a_pass.recording, context.selected_asset_keys
    selected = tuple(n for n in a_pass.tables if dg.AssetKey(recording.named(n)) in keys)
    stored_names = [recording.named(n) for n in selected]
    inventory = BY_NAME[recording.inventory]
    versions = code_versions(settings)
    spool = Spool(settings.spool_dir, patient, warehouse.key())
    with warehouse.read() as connection:
        recorded = read_ledger(connection, patient)
        submitted = (
            connection.execute(
                f"select * from {inventory.__table__} where patient_id = ? and status = 'ok' order by video_id",
                [patient],
            )
            .to_arrow_table()
            .to_pylist()
        )
        entries = connection.execute(
            "select subject, table_name, rows from extractions where patient_id = ?", [patient]
        ).fetchall()
        hashes = {row["video_id"]: row["sha256"] for row in submitted}
        notes = read_notes(connection, patient, hashes, versions, recording)
        verdicts = valid_verdicts(
            read_verdicts(connection, patient), hashes, stage_versions(settings), recording
        )
    stored = {(video_id, name): rows for video_id, name, rows in entries}
    todo: list[tuple[Video, set[str]]] = []
    waiting: dict[str, str] = {}
    for row in submitted:
        video_id, prints = row["video_id"], video_fingerprints(row["sha256"], versions, recording)
        outdated = outdated_tables(recorded, patient, video_id, prints)
        wanted = {n for n in selected if recording.named(n) in outdated}
        stale = [recording.named(n) for n in a_pass.sources if recording.named(n) in outdated]
        if wanted and stale:
            waiting[video_id] = f"{' and '.join(stale)} first"
        elif wanted:
            todo.append((Video(video_id, settings.study / row["file"], prints, row, recording), wanted))
    found = read_all(context, todo, a_pass, settings, warehouse, spool)
    found.failed |= waiting
    found.reasons |= {f"materialize {tables}" for tables in waiting.values()}
    # of features that are switched off, nothing else removes the rows of a video that was withdrawn or replaced
    removable = {*stored_names, *(table for table in video_tables(recording) if table not in versions)}
    gone = {
        (video_id, table)
        for (_, video_id, table) in recorded
        if table in removable and video_id not in {r["video_id"] for r in submitted}
    }

    def replacements() -> list[Replacement]:
        made: list[Replacement] = []
        for video_id, name in sorted(gone):
            where = {"patient_id": patient, "video_id": video_id}
            made.append(Replacement(BY_NAME[name], BY_NAME[name].from_rows([]), where))
            made.append(Replacement(Extractions, ledger_rows([]), entry_key(patient, video_id, name)))
        for video, wanted in todo:
            if video.video_id in found.failed or video.video_id in found.out:
                continue
            where = {"patient_id": patient, "video_id": video.video_id}
            for name in sorted(video.stored(n) for n in wanted):
                rows_of = partial(complete_rows, spool, name, patient, video)
                made.append(Replacement(BY_NAME[name], rows_of, where))
                stored[video.video_id, name] = rows_of().num_rows
                entry = (
                    patient,
                    video.video_id,
                    name,
                    video.fingerprints[name],
                    stored[video.video_id, name],
                )
                note = spool.read_note(video.video_id, name, video.fingerprints[name])
                notes.pop((video.video_id, name), None)
                if note:
                    notes[video.video_id, name] = note
                key = entry_key(patient, video.video_id, name)
                made.append(Replacement(Extractions, ledger_rows([entry], note), key))
        rows = {
            v.video_id: complete_video_row(v.row, [*verdicts, *found.verdicts], notes, recording)
            for v, _ in todo
        }
        settled = found.failed.keys() | found.out.keys() | {v.video_id for v in found.verdicts}
        for video, _ in todo:
            if rows[video.video_id] != video.row and video.video_id not in settled:
                row = inventory.from_rows([rows[video.video_id]])
                where = {"patient_id": patient, "video_id": video.video_id}
                made.append(Replacement(inventory, row, where))
        return [*made, *verdict_changes(found, patient, rows, len(submitted), recording)]

    if changes := replacements():
        try:
            warehouse.replace_all(changes)
        except MISFITS as error:
            if not rule_out_misfits(found, todo, a_pass, patient, settings, spool):
                raise
            context.log.warning(f"rows that do not fit their tables: {type(error).__name__}")
            warehouse.replace_all(replacements())
    spool.clear(stored_names)
    if found.failed:
        raise dg.Failure(
            f"{len(found.failed)} of {len(submitted)} videos of patient {patient} could not be extracted "
            f"({'; '.join(sorted(found.reasons))}); the others are stored. The files are not at fault: fix the cause and "
            "run again.",
            metadata={"videos": dg.MetadataValue.json(found.failed)},
        )
    submitted = [row for row in submitted if row["video_id"] not in found.out]
    for table, name in zip(selected, stored_names, strict=True):
        table_fingerprint = fingerprint(
            sorted(
                (r["video_id"], video_fingerprints(r["sha256"], versions, recording)[name]) for r in submitted
            )
        )
        yield result(
            BY_NAME[name],
            sum(stored[row["video_id"], name] for row in submitted),
            table_fingerprint,
            {
                "videos": len(submitted),
                "videos_extracted": sum(table in wanted for _, wanted in todo),
                "videos_kept": len(submitted) - sum(table in wanted for _, wanted in todo),
                "file_problems": dg.MetadataValue.json(found.problems),
            },
        )


def outdated_tables(
    recorded: Mapping[tuple[str, str, str], str], patient: str, video_id: str, prints: Mapping[str, str]
) -> set[str]:
    """Return the tables of a video whose rows are not the ones that they would be made of now."""
    return {name for name, made in prints.items() if recorded.get((patient, video_id, name)) != made}


def require_current(
    warehouse: Warehouse,
    settings: Settings,
    patient: str,
    videos: Sequence[Mapping[str, Any]],
    table: str,
    recording: Recording = Recording.NARRATIVE,
) -> None:
    """Require that a table's rows of these videos are current, for an asset that reads them and is stored as a whole.

    Parameters
    ----------
    warehouse : Warehouse
        Where the ledger is.
    settings : Settings
        Settings of the study.
    patient : str
        Patient id.
    videos : sequence of mapping
        Rows of the recording's inventory (video_id, sha256, status); those that cannot be read have no rows anyway.
    table : str
        The table, under the name that it is stored with.
    recording : Recording
        The recording that it is a table of.

    Raises
    ------
    dagster.Failure
        If the rows of some video are stale: what is made from them would pass for current.
    """
    readable = [video for video in videos if video["status"] == "ok"]
    if not readable:
        return
    recorded, versions = ledger(warehouse, patient), code_versions(settings)
    stale = [
        video["video_id"]
        for video in readable
        if table
        in outdated_tables(
            recorded,
            patient,
            video["video_id"],
            video_fingerprints(video["sha256"], versions, recording),
        )
    ]
    if stale:
        raise dg.Failure(
            f"{table} of {len(stale)} of {len(readable)} videos of patient {patient} is stale, and nothing was "
            f"stored: materialize {table} first.",
            metadata={"videos": dg.MetadataValue.json(stale)},
        )


@dataclass
class Found:
    """Outcome of reading a patient's videos.

    Attributes
    ----------
    failed : dict
        Videos that could not be read because of the machine: id to the class of the error.
    reasons : set of str
        What was wrong with the machine.
    problems : dict
        Videos with a faulty file: id to what is wrong with it.
    verdicts : list of Verdict
        One per faulty file.
    out : dict
        Videos of which nothing is extracted: id to their verdict, or to None if the file changed meanwhile.
    """

    failed: dict[str, str] = field(default_factory=dict)
    reasons: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    out: dict[str, Verdict | None] = field(default_factory=dict)


def read_all(
    context: dg.AssetExecutionContext,
    todo: Sequence[tuple[Video, set[str]]],
    a_pass: Pass,
    settings: Settings,
    warehouse: Warehouse,
    spool: Spool,
) -> Found:
    """Read each video into the spool; one that fails does not stop the others.

    Parameters
    ----------
    context : dagster.AssetExecutionContext
        The patient, and the log.
    todo : sequence of (Video, set of str)
        The videos, with the tables wanted of each.
    a_pass : Pass
        What is done with each video.
    settings : Settings
        Limits of time and memory, and what extraction reads.
    warehouse : Warehouse
        Where verdicts are recorded.
    spool : Spool
        Where rows are put.
    """
    patient, found = context.partition_key, Found()
    with guard(settings, patient, a_pass.stage, context.log.warning) as isolated:
        for number, (video, wanted) in enumerate(todo, start=1):
            names = {n: video.stored(n) for n in wanted}
            if all(spool.get(video.video_id, n, video.fingerprints[n]) is not None for n in names.values()):
                continue
            context.log.info(f"video {number} of {len(todo)}: {video.video_id}")
            reading = reading_of(video, patient, a_pass, wanted, settings)
            try:
                made = isolated.attempt(reading, a_pass.work, video, wanted, settings, warehouse, spool)
                made = require_pictures(made, wanted)
            except BrokenFile as error:
                made = rule_out(found, reading, error, settings)
                # at once: should another video kill this run, the next run must know about this one
                warehouse.replace_all(verdict_replacements(found.verdicts[-1:]))
            except ChangedFile as error:
                if video.path.parent.is_dir():
                    found.out[video.video_id], found.problems[video.video_id] = None, str(error)
                else:
                    found.failed[video.video_id] = "FileNotFoundError"
                    found.reasons.add("the patient's folder is gone; check that the drive is there")
                continue
            except Exception as error:
                context.log.error(f"video {video.video_id}: {describe_failure(error)}")
                found.failed[video.video_id] = type(error).__name__
                found.reasons.add(describe_failure(error))
                if isinstance(error, MachineError):
                    # a machine that cannot read the test film cannot read the other videos
                    found.failed |= {v.video_id: type(error).__name__ for v, _ in todo[number:]}
                    break
                continue
            if video.video_id in found.out:
                continue
            if made.problem:
                found.problems[video.video_id] = made.problem
            if (noting := a_pass.noting) is not None and noting in wanted:
                own = None if any(v.video_id == video.video_id for v in found.verdicts) else made.problem
                noting = video.stored(noting)
                spool.write_note(video.video_id, noting, video.fingerprints[noting], own)
            rows = {stored: made.rows.get(n, empty_rows(stored)) for n, stored in names.items()}
            spool.put(video.video_id, video.fingerprints, rows)
            del made, rows
            give_memory_back()
    return found


def reading_of(video: Video, patient: str, a_pass: Pass, wanted: set[str], settings: Settings) -> Reading:
    """Return what is about to be read of a video, and how long it may take."""
    row, run = video.row, settings.run
    return Reading(
        patient,
        video.video_id,
        a_pass.stage_of(wanted),
        row["sha256"],
        time_limit(
            run.video_limit_s,
            run.video_limit_factor,
            min(row["duration_s"] or 0.0, settings.video.max_seconds),
            row["bytes"],
        ),
        video.path if a_pass.opens_file(wanted) else None,
        row["bytes"],
        row["modified_ns"],
    )


def require_pictures(made: Extracted, wanted: set[str]) -> Extracted:
    """Return what was extracted, after a check that it has pictures where it should.

    Raises
    ------
    RefusedFile
        If no picture could be decoded.
    """
    frames = made.rows.get("frames")
    if "frames" in wanted and (
        frames is None or (map_file(frames) if isinstance(frames, Path) else frames).num_rows == 0
    ):
        raise RefusedFile(
            "unreadable", "UnreadableVideo", "No picture of the video can be decoded; submit it again."
        )
    return made


def rule_out(found: Found, reading: Reading, error: BrokenFile, settings: Settings) -> Extracted:
    """Record that a file is at fault; return what this stage has of it, which is nothing."""
    verdict = verdict_from(reading, error, stage_versions(settings))
    found.verdicts.append(verdict)
    found.problems[verdict.video_id] = verdict.problem
    if verdict.status != "ok":
        found.out[verdict.video_id] = verdict
    return Extracted({}, verdict.problem)


def rule_out_misfits(
    found: Found,
    todo: Sequence[tuple[Video, set[str]]],
    a_pass: Pass,
    patient: str,
    settings: Settings,
    spool: Spool,
) -> bool:
    """Rule out the videos whose rows do not fit their tables; return whether there are any."""
    before = len(found.verdicts)
    for video, wanted in todo:
        if video.video_id in found.failed or video.video_id in found.out:
            continue
        names = [video.stored(n) for n in wanted]
        try:
            for name in names:
                BY_NAME[name].check_rows(complete_rows(spool, name, patient, video))
        except MISFITS as error:
            reading = reading_of(video, patient, a_pass, wanted, settings)
            words = "What was read from it cannot be right; submit the video again."
            rule_out(found, reading, BrokenFile(type(error).__name__, words), settings)
            spool.put(video.video_id, video.fingerprints, {n: empty_rows(n) for n in names})
    return len(found.verdicts) > before


def verdict_changes(
    found: Found,
    patient: str,
    rows: Mapping[str, Mapping[str, Any]],
    submitted: int,
    recording: Recording,
) -> list[Replacement]:
    """Return the replacements that record the verdicts, with what follows for the videos' rows (by id)."""
    inventory = BY_NAME[recording.inventory]
    made = verdict_and_video_replacements(rows, found.verdicts, recording)
    for video_id, why in found.out.items():
        made += removal_of_extracted(patient, video_id, recording)
        if why is None:
            row = unread_row(rows[video_id], found.problems[video_id])
            where = {"patient_id": patient, "video_id": video_id}
            made.append(Replacement(inventory, inventory.from_rows([row]), where))
    if None in found.out.values():
        made.append(ledger_entry(patient, inventory, "to be read again", submitted))
    return made


def unread_row(row: Mapping[str, Any], problem: str) -> dict[str, Any]:
    """Return the row of a video that the next run has to hash and probe again."""
    return {
        **without_probe(row, problem),
        "sha256": placeholder_hash(row["file"], row["bytes"], row["modified_ns"]),
    }


def describe_failure(error: Exception) -> str:
    """Return what was wrong with the machine: the system's message, or the class of the error."""
    if isinstance(error, MachineError):
        return str(error)
    strerror = getattr(error, "strerror", None)
    return f"{type(error).__name__}: {strerror}" if strerror else type(error).__name__


def empty_rows(name: str) -> arrow.Table:
    """Return a table without rows, with the columns that extraction returns."""
    return BY_NAME[name].measured_schema().empty_table()


def complete_rows(spool: Spool, name: str, patient: str, video: Video) -> arrow.Table:
    """Return the spooled rows of a video's table with patient, video and fingerprint, in the order of the model's columns."""
    schema = BY_NAME[name].arrow_schema()
    rows = spool.take(video.video_id, name, video.fingerprints[name])
    values = dict(zip(VIDEO_CONSTANTS, (video.video_id, patient, video.fingerprints[name]), strict=True))
    columns = [
        arrow.repeat(arrow.scalar(values[field.name], field.type), rows.num_rows)
        if field.name in values
        else rows[field.name]
        for field in schema
    ]
    return arrow.table(columns, schema=schema)
