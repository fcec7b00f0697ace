"""What is current and what is stale: fingerprints, and the ledger that remembers them.

Belongs here: pure functions from files, settings and code versions to fingerprints, and the reading and writing of
the ledger table ``extractions``. Does not belong here: doing the work that is found stale.

A fingerprint is a hash of everything that a table's rows were made from. Equal fingerprints: nothing to do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

import duckdb
import pyarrow as arrow

from iss_assets.schemas.base import Table
from iss_assets.schemas.operations import Extractions
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Replacement, Warehouse

WHOLE = "*"
"""Stands for the video id in ledger rows of tables that are made for a patient at once."""

VISUAL_TABLES = ("frames", "faces", "landmarks")
SOUND_TABLES = ("audio", "mel_spectrograms", "audio_features")
PATIENT_TABLES = ("patients", "bpi_scores", "videos")
VIDEO_TABLES = (*VISUAL_TABLES, *SOUND_TABLES)


def fingerprint(*parts: object) -> str:
    """Hash parts (anything JSON can say) to sixteen hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_versions(settings: Settings) -> dict[str, str]:
    """Give the version of each extracted table's code and settings together.

    It is a table's ``code_version`` in Dagster, so a change of either shows as stale in the UI.
    """
    from iss_assets.media.audio import AUDIO_CODE_VERSION
    from iss_assets.media.quality import QUALITY_CODE_VERSION
    from iss_assets.media.timeline import TIMELINE_CODE_VERSION
    from iss_assets.media.visual import LANDMARK_CODE_VERSION, VISUAL_CODE_VERSION

    clock = (TIMELINE_CODE_VERSION, settings.video.longest_pause_s, settings.video.max_seconds)
    seen = fingerprint("visual", VISUAL_CODE_VERSION, clock, settings.video.digest(), settings.faces.digest())
    mesh = fingerprint("mesh", seen, LANDMARK_CODE_VERSION, settings.landmarks.digest())
    heard = fingerprint("sound", AUDIO_CODE_VERSION, clock, settings.audio.digest())
    return {
        "frames": seen,
        "faces": seen,
        "landmarks": mesh,
        **dict.fromkeys(SOUND_TABLES, heard),
        "video_quality": fingerprint(
            "quality", mesh, heard, QUALITY_CODE_VERSION, settings.quality.digest(), *identity_mark(settings)
        ),
    }


def inventory_version(settings: Settings) -> str:
    """Give the version of the probe's code and settings."""
    from iss_assets.intake.inventory import INVENTORY_CODE_VERSION
    from iss_assets.media.timeline import TIMELINE_CODE_VERSION

    video = settings.video
    limits = (video.max_pixels, video.max_seconds, video.min_seconds, video.longest_pause_s)
    return fingerprint(INVENTORY_CODE_VERSION, TIMELINE_CODE_VERSION, limits)


def identity_mark(settings: Settings) -> tuple[str, ...]:
    """Give what tells the weights apart by which persons are compared: their content; nothing where there are none."""
    from iss_assets.media.identity import weights_file
    from iss_assets.modeling.files import content_hash

    try:
        path = weights_file(settings.quality)
    except FileNotFoundError:
        return ("a file that is not there",)  # the quality asset says so in words
    return () if path is None else (content_hash(path),)


def video_fingerprints(sha256: str, versions: Mapping[str, str]) -> dict[str, str]:
    """Give the fingerprint that each table's rows of one video have when they are current."""
    return dict(_video_fingerprints(sha256, tuple(versions[table] for table in VIDEO_TABLES)))


@lru_cache(maxsize=2**15)
def _video_fingerprints(sha256: str, versions: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((t, fingerprint(t, sha256, v)) for t, v in zip(VIDEO_TABLES, versions, strict=True))


def ledger(warehouse: Warehouse, patient_id: str | None = None) -> dict[tuple[str, str, str], str]:
    """Read the ledger: (patient, video, table) to fingerprint; of one patient, or of all."""
    with warehouse.read() as connection:
        return read_ledger(connection, patient_id)


def read_ledger(
    connection: duckdb.DuckDBPyConnection, patient_id: str | None = None
) -> dict[tuple[str, str, str], str]:
    """Read the ledger as `ledger` does, where the warehouse is open already."""
    condition = "" if patient_id is None else " where patient_id = ?"
    rows = connection.execute(
        f"select patient_id, subject, table_name, fingerprint from extractions{condition}",
        None if patient_id is None else [patient_id],
    ).to_arrow_table()
    keys = zip(*(rows[c].to_pylist() for c in ("patient_id", "subject", "table_name")), strict=True)
    return dict(zip(keys, rows["fingerprint"].to_pylist(), strict=True))


def ledger_rows(entries: Iterable[tuple[str, str, str, str, int]], problem: str | None = None) -> arrow.Table:
    """Make ledger rows from (patient, video, table, fingerprint, rows), and what was unusual about the file."""
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
) -> dict[tuple[str, str], str]:
    """Read what extraction found unusual about a patient's files: (video, table) to words.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The warehouse.
    patient_id : str
        The patient.
    hashes : mapping
        Videos to the hash of their present file; what was found in another one is left out.
    versions : mapping
        See `code_versions`; what other code found is left out too.
    """
    rows = connection.execute(
        "select subject, table_name, fingerprint, problem from extractions "
        "where patient_id = ? and problem is not null",
        [patient_id],
    ).fetchall()
    return {
        (video, table): problem
        for video, table, mark, problem in rows
        if video in hashes and video_fingerprints(hashes[video], versions).get(table) == mark
    }


STUDY = "*"
"""Stands for the patient id in ledger rows of tables about the whole study."""


def ledger_entry(patient: str, table: type[Table], mark: str, rows: int) -> Replacement:
    """Give the ledger's replacement that says: this table of this patient is current."""
    return Replacement(
        Extractions,
        ledger_rows([(patient, WHOLE, table.__table__, mark, rows)]),
        {"patient_id": patient, "table_name": table.__table__},
    )
