"""Fingerprints, and the ledger that remembers which one each table's rows were made with.

A fingerprint is a hash of everything that rows were made from: files, settings and code versions. If the ledger (the
table ``extractions``) has the same fingerprint, there is nothing to do. ``pipeline.staleness`` compares the two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

import duckdb
import pyarrow as arrow

from iss_assets.features.registry import FEATURES, enabled_features
from iss_assets.intake.inventory import INVENTORY_CODE_VERSION
from iss_assets.protocol.recordings import Recording, enabled_recordings
from iss_assets.schemas.base import Table
from iss_assets.schemas.operations import Extractions
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Replacement, Warehouse

WHOLE = "*"
"""Subject of ledger rows for tables that are made for a whole patient, or the whole study."""

STUDY = "*"
"""Patient id of ledger rows for tables about the whole study."""

VISUAL_TABLES = ("frames", "faces", "landmarks")
SOUND_TABLES = ("audio", "mel_spectrograms", "audio_features")
PATIENT_TABLES = ("patients", "bpi_scores", "videos")
EXTRACTED_TABLES = (*VISUAL_TABLES, *SOUND_TABLES)
"""Tables made from a video's file."""
VIDEO_TABLES = (*EXTRACTED_TABLES, *(name for feature in FEATURES for name in feature.table_names))
"""Tables of narratives with one ledger entry per video, those of features that are switched off included."""


def video_tables(recording: Recording) -> tuple[str, ...]:
    """Return the tables of a recording with one ledger entry per video, those that are switched off included."""
    if recording is Recording.NARRATIVE:
        return VIDEO_TABLES
    features = [name for f in FEATURES if recording in f.recordings for name in f.table_names]
    return tuple(recording.named(name) for name in (*EXTRACTED_TABLES, *features))


def fingerprint(*parts: object) -> str:
    """Hash parts (anything JSON can say) to sixteen hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_versions(settings: Settings) -> dict[str, str]:
    """Return the version of each extracted table's code and settings together, and of the enabled features' tables.

    The tables of a submission's two recordings are made by the same code and settings.

    It is the table's ``code_version`` in Dagster, so a change of either shows as stale in the UI.
    """
    from iss_assets.media.audio import AUDIO_CODE_VERSION
    from iss_assets.media.quality import QUALITY_CODE_VERSION
    from iss_assets.media.timeline import TIMELINE_CODE_VERSION
    from iss_assets.media.visual import LANDMARK_CODE_VERSION, VISUAL_CODE_VERSION

    clock = (TIMELINE_CODE_VERSION, settings.video.longest_pause_s, settings.video.max_seconds)
    visual = fingerprint(
        "visual", VISUAL_CODE_VERSION, clock, settings.video.digest(), settings.faces.digest()
    )
    mesh = fingerprint("mesh", visual, LANDMARK_CODE_VERSION, settings.landmarks.digest())
    sound = fingerprint("sound", AUDIO_CODE_VERSION, clock, settings.audio.digest())
    extracted = {"frames": visual, "faces": visual, "landmarks": mesh, **dict.fromkeys(SOUND_TABLES, sound)}
    made = {**extracted, **_feature_versions(settings, extracted)}
    return {
        **{
            recording.named(table): version
            for recording in enabled_recordings(settings)
            for table, version in made.items()
            if recording.named(table) in video_tables(recording)
        },
        "video_quality": fingerprint(
            "quality",
            mesh,
            sound,
            QUALITY_CODE_VERSION,
            settings.quality.digest(),
            made.get("face_identity"),
        ),
    }


def _feature_versions(settings: Settings, extracted: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of the enabled features' tables, from those of the tables that they read."""
    versions = dict(extracted)
    for feature in enabled_features(settings):
        # a source that is switched off has no version: the feature runs without its rows
        sources = [(name, versions.get(name)) for name in feature.source_names]
        made = fingerprint("feature", feature.version(settings), sources)
        versions |= dict.fromkeys(feature.table_names, made)
    return {table: version for table, version in versions.items() if table not in extracted}


def inventory_version(settings: Settings) -> str:
    """Return the version of the probe's code and settings."""
    from iss_assets.media.timeline import TIMELINE_CODE_VERSION

    video = settings.video
    limits = (video.max_pixels, video.max_seconds, video.min_seconds, video.longest_pause_s)
    return fingerprint(INVENTORY_CODE_VERSION, TIMELINE_CODE_VERSION, limits)


def video_fingerprints(
    sha256: str, versions: Mapping[str, str], recording: Recording = Recording.NARRATIVE
) -> dict[str, str]:
    """Return the fingerprint that each table's rows of one video have if they are current.

    Tables of what is switched off have none: what is stored of them is never stale.

    Parameters
    ----------
    sha256 : str
        Hash of the video's file.
    versions : mapping
        See `code_versions`.
    recording : Recording
        Which of the submission's videos it is.
    """
    tables = tuple((table, versions[table]) for table in video_tables(recording) if table in versions)
    return dict(_video_fingerprints(sha256, tables))


@lru_cache(maxsize=2**15)
def _video_fingerprints(sha256: str, versions: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((table, fingerprint(table, sha256, version)) for table, version in versions)


def ledger(warehouse: Warehouse, patient_id: str | None = None) -> dict[tuple[str, str, str], str]:
    """Read the ledger: (patient, subject, table) to fingerprint; of one patient, or of all."""
    with warehouse.read() as connection:
        return read_ledger(connection, patient_id)


def read_ledger(
    connection: duckdb.DuckDBPyConnection, patient_id: str | None = None
) -> dict[tuple[str, str, str], str]:
    """Read the ledger as `ledger` does, if the warehouse is already open."""
    condition = "" if patient_id is None else " where patient_id = ?"
    rows = connection.execute(
        f"select patient_id, subject, table_name, fingerprint from extractions{condition}",
        None if patient_id is None else [patient_id],
    ).to_arrow_table()
    keys = zip(*(rows[c].to_pylist() for c in ("patient_id", "subject", "table_name")), strict=True)
    return dict(zip(keys, rows["fingerprint"].to_pylist(), strict=True))


def ledger_rows(entries: Iterable[tuple[str, str, str, str, int]], problem: str | None = None) -> arrow.Table:
    """Make ledger rows from (patient, subject, table, fingerprint, rows), and what was unusual about the file."""
    now = datetime.now(UTC)
    names = ("patient_id", "subject", "table_name", "fingerprint", "rows")
    return Extractions.from_rows(
        [{**dict(zip(names, e, strict=True)), "made_at": now, "problem": problem} for e in entries]
    )


def entry_key(patient_id: str, subject: str, table_name: str) -> dict[str, str]:
    """Return what identifies one row of the ledger, as `Replacement.where` takes it."""
    return {"patient_id": patient_id, "subject": subject, "table_name": table_name}


def read_notes(
    connection: duckdb.DuckDBPyConnection,
    patient_id: str,
    hashes: Mapping[str, str],
    versions: Mapping[str, str],
    recording: Recording = Recording.NARRATIVE,
) -> dict[tuple[str, str], str]:
    """Read what extraction found unusual about a patient's files: (video, table) to a sentence.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The warehouse.
    patient_id : str
        The patient.
    hashes : mapping
        Videos to the hash of their current file; notes about an earlier file are left out.
    versions : mapping
        See `code_versions`; notes of other code are left out too.
    recording : Recording
        Which of the submissions' videos are meant.
    """
    rows = connection.execute(
        "select subject, table_name, fingerprint, problem from extractions "
        "where patient_id = ? and problem is not null",
        [patient_id],
    ).fetchall()
    return {
        (video, table): problem
        for video, table, stored, problem in rows
        if video in hashes and video_fingerprints(hashes[video], versions, recording).get(table) == stored
    }


def ledger_entry(patient: str, table: type[Table], made_from: str, rows: int) -> Replacement:
    """Return the replacement of the ledger's row for a table of a patient, or of the `STUDY`.

    Parameters
    ----------
    patient : str
        Patient id, or `STUDY`.
    table : type of Table
        The table.
    made_from : str
        Fingerprint of what its rows were made from.
    rows : int
        Rows written.
    """
    return Replacement(
        Extractions,
        ledger_rows([(patient, WHOLE, table.__table__, made_from, rows)]),
        {"patient_id": patient, "table_name": table.__table__},
    )
