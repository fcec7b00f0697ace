"""The asset ``video_quality``: one row per video with every measure, the flags, and whether training may use it.

Measures and thresholds are in ``media.quality``.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import dagster as dg
import duckdb
import pyarrow as arrow

from iss_assets.defs.assets.common import describe, result
from iss_assets.defs.assets.reading import guard, patient_lock
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.reviews import ReviewRow, video_decisions
from iss_assets.media.errors import BrokenFile
from iss_assets.media.journal import Reading, time_limit
from iss_assets.pipeline.staleness import quality_fingerprint
from iss_assets.protocol.reviews import Decision
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.settings import Settings
from iss_assets.warehouse import engine
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import WHOLE, code_versions, ledger_entry, read_ledger
from iss_assets.warehouse.verdicts import (
    Verdict,
    stage_versions,
    verdict_and_video_replacements,
    verdict_from,
)

if TYPE_CHECKING:
    from iss_assets.media.identity import FaceMoments
    from iss_assets.media.isolation import Guard

_BYTES_PER_FRAME: Final = 8_000
"""Estimated size of a frame's rows: 5.6 kB of mesh, and some crops."""
_READ_BYTES: Final = 64 * 2**20
"""Memory for the rows of videos that are read at once: opening the warehouse for each takes longer."""


def quality_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the asset; its code version comes from the settings, so a changed threshold shows as stale."""

    @dg.asset(
        **describe(
            VideoQuality,
            "Flags for the problems the paper's authors ran into: signage, masks, glare, dark and grainy pictures, quiet or muffled "
            "voices, missing data, and more. Flagged, never dropped.",
            group="quality",
            kinds={"python", "duckdb"},
        ),
        partitions_def=patients_partitions,
        deps=[
            "videos",
            "frames",
            "faces",
            "landmarks",
            "audio",
            "reviews",
            *(["face_identity"] if settings.identity.enabled else []),
        ],
        code_version=code_versions(settings)["video_quality"],
    )
    def video_quality(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> dg.MaterializeResult:
        """Assess one patient's videos."""
        patient, current = context.partition_key, warehouse.settings()
        store = warehouse.warehouse()
        with (
            patient_lock(current, patient),
            guard(current, patient, "quality", context.log.warning) as isolated,
        ):
            decisions = warehouse.folder().reviews_of(patient)
            rows, fingerprint, verdicts = assess_patient(store, current, patient, isolated, decisions)
            own = store.query("select * from videos where patient_id = ?", [patient]) if verdicts else None
            video_rows = {row["video_id"]: row for row in own.to_pylist()} if own is not None else {}
            table = VideoQuality.from_rows(
                [{**r, "patient_id": patient, "fingerprint": fingerprint} for r in rows]
            )
            # rows that are the same keep the time at which they were made: what is newer than its checks is checked again
            if verdicts or not _is_stored(store, patient, table, fingerprint):
                store.replace_all(
                    [
                        Replacement(VideoQuality, table, {"patient_id": patient}),
                        ledger_entry(patient, VideoQuality, fingerprint, len(rows)),
                        *verdict_and_video_replacements(video_rows, verdicts),
                    ]
                )
        flags: dict[str, list[str]] = {}
        for row in rows:
            for flag in row["flags"]:
                flags.setdefault(flag, []).append(row["video_id"])
        return result(
            VideoQuality,
            len(rows),
            fingerprint,
            {
                "usable": sum(r["usable"] for r in rows),
                "videos_by_flag": dg.MetadataValue.json(flags),
            },
        )

    return [video_quality]


def _is_stored(store: Warehouse, patient: str, table: arrow.Table, fingerprint: str) -> bool:
    """Return whether a patient's rows of ``video_quality`` are these already."""
    with store.read(threads=1) as connection:
        recorded = read_ledger(connection, patient).get((patient, WHOLE, VideoQuality.__table__))
        stored = _fetch(connection, "select * from video_quality where patient_id = ?", patient)
    return recorded == fingerprint and _by_video(stored) == _by_video(table)


def _by_video(table: arrow.Table) -> dict[str, dict[str, Any]]:
    return {row["video_id"]: row for row in table.to_pylist()}


class Assessed(NamedTuple):
    """Rows of ``video_quality`` without patient and fingerprint, and the fingerprint of what they were made from."""

    rows: list[dict[str, Any]]
    fingerprint: str
    verdicts: Sequence[Verdict] = ()
    """Videos whose measures failed."""


def assess_patient(
    store: Warehouse,
    settings: Settings,
    patient: str,
    isolated: "Guard | None" = None,
    reviews: Sequence[ReviewRow] = (),
) -> Assessed:
    """Assess every video of a patient, readable or not.

    A video is compared with the patient's other videos (is it the same person?) and with every file of the study (is
    it a copy?). With a guard, a video whose measures fail gets a row that says so, and the others are assessed. What
    people decided about a video comes last: flags that they rejected do not count.

    Parameters
    ----------
    store : Warehouse
        Rows of ``videos``, ``frames``, ``faces``, ``landmarks``, ``audio`` and ``face_identity``.
    settings : Settings
        Thresholds, and limits of time.
    patient : str
        Patient id.
    isolated : Guard, optional
        Runs the measures; without it an error in them is raised.
    reviews : sequence of ReviewRow
        What people decided about the patient's videos.
    """
    from iss_assets.media.identity import compare_videos
    from iss_assets.media.quality import OtherVideos, VideoAssessment, apply_review, assess_video

    # DuckDB keeps what it has read in memory: the share of one thread is enough
    with store.read(threads=1) as connection:
        own = _fetch(connection, "select * from videos where patient_id = ? order by video_id", patient)
        # of other patients' files, only copies of this patient's matter
        submitted = _fetch(
            connection,
            "select patient_id, video_id, sha256, status from videos "
            "where sha256 in (select sha256 from videos where patient_id = ?) order by video_id",
            patient,
        ).to_pylist()
        audio = _fetch(connection, "select * exclude (waveform) from audio where patient_id = ?", patient)
        persons = compare_videos(_moments(connection, settings, patient), settings.quality)
    fingerprint = quality_fingerprint(
        patient,
        [v for v in submitted if v["patient_id"] == patient],
        submitted,
        code_versions(settings),
        [asdict(review) for review in reviews],
    )
    decided = video_decisions(reviews)

    sounds = {row["video_id"]: row for row in audio.to_pylist()}
    verdicts: dict[str, Verdict] = {}
    run = settings.run

    def attempt(video: Mapping[str, Any], work: Callable[..., Any], *args: Any) -> Any:
        """Return the result of `work`; None, and a verdict, where it fails because of the video."""
        if isolated is None:
            return work(*args)
        limit = time_limit(run.video_limit_s, run.video_limit_factor, video["duration_s"], 0)
        reading = Reading(patient, video["video_id"], "quality", video["sha256"], limit)
        try:
            return isolated.attempt(reading, work, *args)
        except BrokenFile as error:
            verdicts[video["video_id"]] = verdict_from(reading, error, stage_versions(settings))
            return None

    rows = []
    for video, (frames, faces, landmarks) in _visual_rows(store, settings, own.to_pylist()):
        video_id = video["video_id"]
        others = OtherVideos(
            sha256s=frozenset(v["sha256"] for v in submitted if v["video_id"] != video_id),
            person=persons.get(video_id),
        )
        assess = partial(
            assess_video,
            fps=settings.video.fps,
            max_seconds=settings.video.max_seconds,
            others=others,
            crops=settings.faces,
        )
        sound = sounds.get(video_id)
        assessment: VideoAssessment | None = attempt(
            video, assess, video, frames, faces, landmarks, sound, settings.quality
        )
        if assessment is None:
            # what cannot be measured cannot be trusted
            why = {"measuring_failed": verdicts[video_id].error}
            assessment = VideoAssessment(why, ["unreadable"], False, "unreadable")  # type: ignore[arg-type]
        decision = decided.get(video_id)
        measured = assessment.flags
        if decision is not None:
            include = None if decision.use is None else decision.use is Decision.INCLUDE
            assessment = apply_review(assessment, decision.rejected, include, settings.quality)
        found = sum(landmarks["detected"].to_pylist())
        rows.append(
            {
                "video_id": video_id,
                "frames": frames.num_rows,
                "face_rate": faces.num_rows / frames.num_rows if frames.num_rows else None,
                "landmark_rate": found / faces.num_rows if faces.num_rows else None,
                "measures": json.dumps(finite(assessment.measures), sort_keys=True),
                "moments": json.dumps(assessment.moments),
                "flags": assessment.flags,
                "usable": assessment.usable,
                "unusable_reason": assessment.unusable_reason,
                "reviewed": decision is not None,
                "decision": str(decision.use) if decision is not None and decision.use else None,
                "rejected_flags": [flag for flag in measured if flag not in assessment.flags],
            }
        )
        # before the next one is read
        del frames, faces, landmarks
    return Assessed(rows, fingerprint, list(verdicts.values()))


def finite(measures: Mapping[str, float | str | None]) -> dict[str, float | str | None]:
    """Return measures with None in place of infinity and NaN, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in measures.items()
    }


class VisualRows(NamedTuple):
    """One video's rows of the three visual tables."""

    frames: arrow.Table
    faces: arrow.Table
    landmarks: arrow.Table

    @property
    def bytes(self) -> int:
        """Memory that the rows take."""
        return sum(table.nbytes for table in self)


def _visual_rows(
    store: Warehouse, settings: Settings, videos: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], VisualRows]]:
    """Yield each video with its rows, reading as many at once as fit into `_READ_BYTES`."""
    waiting = list(reversed(videos))
    while waiting:
        read: list[tuple[Mapping[str, Any], VisualRows]] = []
        room = float(_READ_BYTES)
        with store.read(threads=1) as connection:
            while waiting and room > 0:
                expected = (waiting[-1]["duration_s"] or 0.0) * settings.video.fps * _BYTES_PER_FRAME
                if read and expected > room:
                    break
                video = waiting.pop()
                visual = read_visual(connection, settings, video["video_id"])
                read.append((video, visual))
                # there may be more than the container says
                room -= max(expected, visual.bytes)
                del visual
        engine.end_after(sum(visual.bytes for _, visual in read))
        read.reverse()
        while read:
            yield read.pop()


def read_visual(connection: duckdb.DuckDBPyConnection, settings: Settings, video_id: str) -> VisualRows:
    """Return frames, faces and landmarks of a video, the faces with only those crops that an assessment needs.

    All crops of a long video would fill the memory.
    """
    from iss_assets.media.quality import crops_needed

    frames = _fetch(connection, "select * from frames where video_id = ? order by frame_index", video_id)
    # stored in order: sorting an hour of meshes takes memory
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
    return VisualRows(frames, faces, landmarks)


def _moments(
    connection: duckdb.DuckDBPyConnection, settings: Settings, patient: str
) -> "dict[str, FaceMoments]":
    """Return what is stored of the faces in a patient's videos; nothing where that is switched off."""
    from iss_assets.features.identity import stored_moments

    if not settings.identity.enabled:
        return {}
    return stored_moments(
        _fetch(
            connection,
            "select video_id, start_s, end_s, faces, method, vector from face_identity where patient_id = ? "
            "order by video_id, moment",
            patient,
        )
    )


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: Any) -> arrow.Table:
    return connection.execute(sql, list(parameters)).to_arrow_table()
