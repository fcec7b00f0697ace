"""Files that failed: the table ``video_problems`` records them, so that no run fails on the same file twice.

``media.isolation`` finds out that a file is at fault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib import metadata
from typing import Any, NamedTuple

import duckdb

from iss_assets.features.registry import enabled_features
from iss_assets.media.errors import BrokenFile
from iss_assets.media.journal import Reading, Stage
from iss_assets.protocol.recordings import Recording, enabled_recordings, recording_of
from iss_assets.schemas.operations import Extractions
from iss_assets.schemas.registry import BY_NAME
from iss_assets.schemas.videos import VideoProblems
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import (
    code_versions,
    entry_key,
    fingerprint,
    inventory_version,
    ledger_rows,
    video_tables,
)


class Verdict(NamedTuple):
    """One row of ``video_problems``; it is valid for one file, with one version of code and settings."""

    video_id: str
    patient_id: str
    stage: Stage
    sha256: str
    version: str
    status: str
    error: str
    problem: str

    @property
    def recording(self) -> Recording:
        """Which of the submission's files it is about."""
        return recording_of(self.stage)[0]


def stage_versions(settings: Settings) -> dict[str, str]:
    """Return the version of each stage's code, settings and decoder; a new one gives every file another try."""
    made = code_versions(settings)
    versions: dict[Stage, str] = {
        "probe": inventory_version(settings),
        "picture": made["frames"],
        "landmarks": made["landmarks"],
        "sound": made["audio"],
        "quality": made["video_quality"],
        **{feature.name: made[feature.table_names[0]] for feature in enabled_features(settings)},
    }
    return {
        recording.named(stage): fingerprint(version, _libraries())
        for recording in enabled_recordings(settings)
        for stage, version in versions.items()
    }


@cache
def _libraries() -> tuple[str, ...]:
    return tuple(metadata.version(name) for name in ("av", "mediapipe", "librosa"))


def verdict_from(reading: Reading, error: BrokenFile, versions: Mapping[str, str]) -> Verdict:
    """Return the verdict that follows from a failure.

    A video without a picture is of no use; without sound, landmarks or quality the rest can still be used.
    """
    return Verdict(
        reading.video_id,
        reading.patient_id,
        reading.stage,
        reading.sha256,
        versions[reading.stage],
        error.status if recording_of(reading.stage)[1] in ("probe", "picture") else "ok",
        error.error,
        str(error),
    )


def read_verdicts(connection: duckdb.DuckDBPyConnection, patient_id: str | None = None) -> list[Verdict]:
    """Read the verdicts of one patient, or all."""
    condition = "" if patient_id is None else " where patient_id = ?"
    rows = connection.execute(
        f"select {', '.join(Verdict._fields)} from video_problems{condition} order by video_id, stage",
        None if patient_id is None else [patient_id],
    ).fetchall()
    return [Verdict(*row) for row in rows]


def valid_verdicts(
    verdicts: Iterable[Verdict],
    hashes: Mapping[str, str],
    versions: Mapping[str, str],
    recording: Recording = Recording.NARRATIVE,
) -> list[Verdict]:
    """Return the verdicts of a recording that are still valid.

    Parameters
    ----------
    verdicts : iterable of Verdict
        Verdicts, also of other recordings.
    hashes : mapping
        Videos to the hashes of the current files.
    versions : mapping
        See `stage_versions`.
    recording : Recording
        Which of the submissions' files are meant.
    """
    return [
        v
        for v in verdicts
        if v.recording is recording
        and hashes.get(v.video_id) == v.sha256
        and versions.get(v.stage) == v.version
    ]


def apply_verdicts(row: Mapping[str, Any], verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """Return a video's row of its inventory with the status and problem that follow from its verdicts."""
    changed = dict(row)
    for verdict in verdicts:
        if verdict.video_id != row["video_id"]:
            continue
        if changed["status"] == "ok":
            changed["status"] = verdict.status
        known = changed.get("problem")
        if verdict.problem not in (known or ""):
            changed["problem"] = f"{known} {verdict.problem}" if known else verdict.problem
    return changed


def complete_video_row(
    row: Mapping[str, Any],
    verdicts: Iterable[Verdict],
    notes: Mapping[tuple[str, str], str],
    recording: Recording = Recording.NARRATIVE,
) -> dict[str, Any]:
    """Return a video's row of its inventory with everything that is known to be wrong or unusual about its file.

    Parameters
    ----------
    row : mapping
        With `file_problem`; its `problem` is composed again.
    verdicts : iterable of Verdict
        Valid ones.
    notes : mapping
        See ``ledger.read_notes``.
    recording : Recording
        Which of the submission's files it is.
    """
    full = apply_verdicts({**row, "problem": row.get("file_problem")}, verdicts)
    for table in video_tables(recording):
        note = notes.get((row["video_id"], table))
        if note and note not in (full["problem"] or ""):
            full["problem"] = f"{full['problem']} {note}" if full["problem"] else note
    return full


def verdict_replacements(verdicts: Collection[Verdict]) -> list[Replacement]:
    """Return the replacements that store these verdicts in place of earlier ones of the same videos and stages."""
    return [
        Replacement(
            VideoProblems,
            VideoProblems.from_rows([verdict._asdict()]),
            {"patient_id": verdict.patient_id, "video_id": verdict.video_id, "stage": verdict.stage},
        )
        for verdict in verdicts
    ]


def verdict_and_video_replacements(
    rows: Mapping[str, Mapping[str, Any]],
    verdicts: Iterable[Verdict],
    recording: Recording = Recording.NARRATIVE,
) -> list[Replacement]:
    """Return the replacements that store a recording's verdicts and update the rows (by video id) of its inventory."""
    inventory = BY_NAME[recording.inventory]
    by_video: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_video.setdefault(verdict.video_id, []).append(verdict)
    return [
        replacement
        for video_id, own in by_video.items()
        for replacement in (
            *verdict_replacements(own),
            Replacement(
                inventory,
                inventory.from_rows([apply_verdicts(rows[video_id], own)]),
                {"patient_id": own[0].patient_id, "video_id": video_id},
            ),
        )
    ]


def retry_failed_files(warehouse: Warehouse, patients: Collection[str] = ()) -> int:
    """Let every file that failed be tried again, of these patients or of all, and return their number.

    For a machine that has more memory or another library now.
    """
    with warehouse.write() as writer:
        condition = "list_contains(?, patient_id)" if patients else "true"
        parameters = [list(patients)] if patients else None
        files = writer.query(
            f"select count(distinct video_id) as n from video_problems where {condition}", parameters
        )
        # no version of the code has this name
        writer.execute(f"update video_problems set version = '' where {condition}", parameters)
    return int(files["n"][0].as_py())


def removal_of_extracted(
    patient_id: str, video_id: str, recording: Recording = Recording.NARRATIVE
) -> list[Replacement]:
    """Return the replacements that remove everything extracted from one of a submission's videos."""
    where = {"patient_id": patient_id, "video_id": video_id}
    return [
        replacement
        for name in video_tables(recording)
        for replacement in (
            Replacement(BY_NAME[name], BY_NAME[name].from_rows([]), where),
            Replacement(Extractions, ledger_rows([]), entry_key(patient_id, video_id, name)),
        )
    ]
