"""Can it be trusted: one row a video with every measure, the flags, and whether training may take it.

Belongs here: the asset ``video_quality``. Does not belong here: measures and thresholds (``media.quality``), alerts.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import dagster as dg
import duckdb
import pyarrow as arrow

from iss_assets.assets.common import describe, result
from iss_assets.assets.study import ledger_entry
from iss_assets.partitions import patients_partitions
from iss_assets.resources import WarehouseResource
from iss_assets.settings import Settings
from iss_assets.warehouse import tables
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import code_versions, fingerprint, video_fingerprints

if TYPE_CHECKING:
    from iss_assets.media.quality import PersonVector

_BYTES_A_FRAME: Final = 8_000
"""Expected of a frame's rows: 5.6 kB of mesh, and some crops."""
_KEPT_BYTES: Final = 64 * 2**20
"""Most that is kept of a patient's videos while they are compared; what goes beyond is read a second time."""


def quality_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Make the asset; its code version comes from the settings, so a changed threshold shows as stale."""

    @dg.asset(
        **describe(
            tables.VideoQuality,
            "Flags for what the paper's authors met: signage, masks, glare, dark and grainy pictures, quiet or muffled "
            "voices, missing data, and more. Flagged, never dropped.",
            group="quality",
            kinds={"python", "duckdb"},
        ),
        partitions_def=patients_partitions,
        deps=["videos", "frames", "faces", "landmarks", "audio"],
        code_version=code_versions(settings)["video_quality"],
    )
    def video_quality(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> dg.MaterializeResult:
        """Assess one patient's videos."""
        patient, current = context.partition_key, warehouse.settings()
        store = warehouse.warehouse()
        rows, mark = assess_patient(store, current, patient)
        table = tables.VideoQuality.from_rows(
            [{**r, "patient_id": patient, "fingerprint": mark} for r in rows]
        )
        store.replace_all(
            [
                Replacement(tables.VideoQuality, table, {"patient_id": patient}),
                ledger_entry(patient, tables.VideoQuality, mark, len(rows)),
            ]
        )
        flags: dict[str, list[str]] = {}
        for row in rows:
            for flag in row["flags"]:
                flags.setdefault(flag, []).append(row["video_id"])
        return result(
            tables.VideoQuality,
            len(rows),
            mark,
            {
                "usable": sum(r["usable"] for r in rows),
                "videos by flag": dg.MetadataValue.json(flags),
            },
        )

    return [video_quality]


def quality_fingerprint(
    patient: str,
    own: Sequence[Mapping[str, Any]],
    everyone: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
) -> str:
    """Give the fingerprint that a patient's quality rows have when they are current.

    Parameters
    ----------
    patient : str
        Patient id.
    own, everyone : sequence of mapping
        Rows of ``videos`` (patient_id, video_id, sha256, status) of the patient and of all: a file that another
        patient has submitted too is a trouble of both.
    versions : mapping
        See ``ledger.code_versions``.
    """
    mine = {v["sha256"] for v in own}
    twins = sorted(v["video_id"] for v in everyone if v["sha256"] in mine and v["patient_id"] != patient)
    prints = [(v["video_id"], v["status"], video_fingerprints(v["sha256"], versions)) for v in own]
    return fingerprint(sorted(prints, key=lambda p: p[0]), twins, versions["video_quality"])


class Assessed(NamedTuple):
    """Rows of ``video_quality`` without patient and mark, and the mark that says what they were made from."""

    rows: list[dict[str, Any]]
    mark: str


def assess_patient(store: Warehouse, settings: Settings, patient: str) -> Assessed:
    """Assess every video of a patient, readable or not.

    A video is compared with the patient's other videos (is it the same person?) and with every file of the study (is
    it a copy?).
    """
    from iss_assets.media.quality import OtherVideos, assess_video, person_of

    kept: dict[str, Seen] = {}
    room = _KEPT_BYTES
    # what DuckDB has read it keeps as long as it may: one thread's share is enough
    with store.read(threads=1) as connection:
        own = _fetch(connection, "select * from videos where patient_id = ? order by video_id", patient)
        # of other patients' files only the copies of this one's are of interest
        submitted = _fetch(
            connection,
            "select patient_id, video_id, sha256, status from videos "
            "where sha256 in (select sha256 from videos where patient_id = ?) order by video_id",
            patient,
        ).to_pylist()
        heard = _fetch(connection, "select * exclude (waveform) from audio where patient_id = ?", patient)
        # short videos, while it is open; who closes and opens it for each reads its description again each time
        for row in own.select(["video_id", "duration_s"]).to_pylist():
            expected = (row["duration_s"] or 0.0) * settings.video.fps * _BYTES_A_FRAME
            if expected <= room:
                seen = seen_in(connection, settings, row["video_id"])
                # a container may say less than there is
                if seen.bytes <= room:
                    kept[row["video_id"]] = seen
                    room -= seen.bytes
                del seen
    mark = quality_fingerprint(
        patient, [v for v in submitted if v["patient_id"] == patient], submitted, code_versions(settings)
    )

    def look(video_id: str) -> Seen:
        with store.read(threads=1) as connection:
            return seen_in(connection, settings, video_id)

    sounds = {row["video_id"]: row for row in heard.to_pylist()}
    names = own["video_id"].to_pylist()
    persons: dict[str, PersonVector | None] = {}
    # whoever has one video is compared with nobody
    for video_id in names if len(names) > 1 else []:
        seen = kept.get(video_id) or look(video_id)
        persons[video_id] = person_of(seen.faces, seen.landmarks, settings.quality)
        if video_id not in kept and seen.bytes <= room:
            kept[video_id] = seen
            room -= seen.bytes
        del seen
    rows = []
    for video in own.to_pylist():
        video_id = video["video_id"]
        seen = kept.pop(video_id) if video_id in kept else look(video_id)
        frames, faces, landmarks = seen
        assessment = assess_video(
            video,
            frames,
            faces,
            landmarks,
            sounds.get(video_id),
            settings.quality,
            fps=settings.video.fps,
            max_seconds=settings.video.max_seconds,
            others=OtherVideos(
                sha256s=frozenset(v["sha256"] for v in submitted if v["video_id"] != video_id),
                persons=[p for other, p in persons.items() if p is not None and other != video_id],
            ),
        )
        found = sum(landmarks["detected"].to_pylist())
        rows.append(
            {
                "video_id": video_id,
                "frames": frames.num_rows,
                "face_rate": faces.num_rows / frames.num_rows if frames.num_rows else None,
                "landmark_rate": found / faces.num_rows if faces.num_rows else None,
                "measures": json.dumps(assessment.measures, sort_keys=True),
                "flags": assessment.flags,
                "usable": assessment.usable,
                "unusable_reason": assessment.unusable_reason,
            }
        )
        # before the next one is read
        del seen, frames, faces, landmarks
    return Assessed(rows, mark)


class Seen(NamedTuple):
    """What was seen in one video: its rows of the three tables."""

    frames: arrow.Table
    faces: arrow.Table
    landmarks: arrow.Table

    @property
    def bytes(self) -> int:
        """Memory that the rows take."""
        return sum(table.nbytes for table in self)


def seen_in(connection: duckdb.DuckDBPyConnection, settings: Settings, video_id: str) -> Seen:
    """Give frames, faces and landmarks of a video, the faces with only those crops that an assessment looks at.

    All crops of a long video would fill the memory.
    """
    from iss_assets.media.quality import crops_needed

    frames = _fetch(connection, "select * from frames where video_id = ? order by frame_index", video_id)
    # as they were stored, which is in order: sorting an hour of meshes takes memory
    landmarks = _fetch(
        connection, "select frame_index, detected, points from landmarks where video_id = ?", video_id
    )
    found = _fetch(connection, "select frame_index from faces where video_id = ? order by 1", video_id)
    index = found["frame_index"].to_numpy()
    wanted = index[crops_needed(len(index), settings.quality, settings.video.fps)]
    faces = _fetch(
        connection,
        "select * replace (case when list_contains(?::integer[], frame_index) then crop end as crop) "
        "from faces where video_id = ? order by frame_index",
        wanted.tolist(),
        video_id,
    )
    return Seen(frames, faces, landmarks)


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: Any) -> arrow.Table:
    return connection.execute(sql, list(parameters)).to_arrow_table()
