"""What is seen and heard: frames, faces, landmarks; sound, spectrograms, audio features.

Belongs here: the assets that open a patient's videos, one pass for pictures and one for sound.
Does not belong here: how a picture or a sound is measured (``media``).

The unit of work is the video. A video whose fingerprint stands in the ledger is not opened; one that was extracted by
a run that died waits in the spool; the patient's partition is replaced in one transaction at the end.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as arrow

from iss_assets.assets.common import describe, result
from iss_assets.partitions import patients_partitions
from iss_assets.resources import WarehouseResource
from iss_assets.settings import Settings
from iss_assets.warehouse import tables
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import (
    SOUND_TABLES,
    VISUAL_TABLES,
    code_versions,
    fingerprint,
    ledger_rows,
    read_ledger,
    video_fingerprints,
)
from iss_assets.warehouse.locking import hold
from iss_assets.warehouse.spool import Spool


@dataclass(frozen=True)
class Extracted:
    """What came out of one video: rows by table, and what was wrong with the file on the way, if anything.

    Rows lack patient, video and fingerprint; long ones lie in an Arrow file of the spool's scratch folder.
    """

    rows: Mapping[str, Path | arrow.Table]
    problem: str | None = None


_LARGE_MB = 900
"""Of the 1.5 GB that a worker may take; one that is at work on videos of a minute stays below it."""
_CONSTANTS = ("patient_id", "video_id", "fingerprint")
"""Columns that are the same in all rows of a video."""

MAX_PATIENT_S = 24 * 3600.0
"""Longer than any patient takes: ninety days of narratives of three minutes each are 4.5 hours."""


@dataclass(frozen=True)
class Video:
    """One readable video of the patient at work."""

    video_id: str
    path: Path
    fingerprints: Mapping[str, str]


def extraction_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Make the assets; their code versions come from the settings, so a changed setting shows as stale."""
    versions = code_versions(settings)

    def spec(table: Any, text: str, group: str, kinds: set[str], deps: list[str]) -> dg.AssetSpec:
        return dg.AssetSpec(
            **describe(table, text, group=group, kinds=kinds),
            deps=deps,
            code_version=versions[table.__table__],
            skippable=True,
        )

    @dg.multi_asset(
        name="seen",
        specs=[
            spec(
                tables.Frames,
                "Ten frames a second by presentation time, each measured; the pixels stay in the submitted video.",
                "vision",
                {"python", "duckdb"},
                ["videos"],
            ),
            spec(
                tables.Faces,
                "MTCNN's box and the 160x160 crop from the full-size frame.",
                "vision",
                {"torch", "duckdb"},
                ["frames"],
            ),
            spec(
                tables.Landmarks,
                "MediaPipe Face Mesh on the crop: 468 points, or the fact that none were found.",
                "vision",
                {"python", "duckdb"},
                ["faces"],
            ),
        ],
        partitions_def=patients_partitions,
        can_subset=True,
    )
    def seen(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult]:
        """Frames, faces and landmarks in one pass over each video."""
        yield from extract(context, warehouse, VISUAL_TABLES, see)

    @dg.multi_asset(
        name="heard",
        specs=[
            spec(
                tables.Audio,
                "Mono, 22,050 Hz, lossless, with loudness, noise, clipping and the share of speech.",
                "sound",
                {"python", "duckdb"},
                ["videos"],
            ),
            spec(
                tables.MelSpectrograms,
                "librosa, n_fft 2048, hop 512, 128 bands.",
                "sound",
                {"python", "duckdb"},
                ["audio"],
            ),
            spec(
                tables.AudioFeatures,
                "Means of 20 MFCC, chroma, centroid, bandwidth, roll-off and zero-crossing rate.",
                "sound",
                {"python", "duckdb"},
                ["audio"],
            ),
        ],
        partitions_def=patients_partitions,
        can_subset=True,
    )
    def heard(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult]:
        """The sound track, its spectrograms and features in one pass."""
        yield from extract(context, warehouse, SOUND_TABLES, hear)

    return [seen, heard]


def see(video: Video, wanted: set[str], settings: Settings, warehouse: Warehouse, spool: Spool) -> Extracted:
    """Frames, faces and landmarks of one video in one pass."""
    from iss_assets.media.visual import extract_visual

    if wanted == {"landmarks"}:
        return landmarks_again(video, settings, warehouse, spool)
    scratch = spool.scratch()
    problem = extract_visual(
        video.path,
        settings.video,
        settings.faces,
        settings.landmarks,
        threads=settings.run.threads,
        scratch=scratch,
    ).problem
    return Extracted({n: scratch / f"{n}.arrow" for n in VISUAL_TABLES}, problem)


def landmarks_again(video: Video, settings: Settings, warehouse: Warehouse, spool: Spool) -> Extracted:
    """Landmarks alone, from the crops that are already there; the video is not opened."""
    from iss_assets.media.visual import landmarks_from_crops

    faces = spool.get(video.video_id, "faces", video.fingerprints["faces"])
    if faces is None:
        faces = warehouse.query(
            "select frame_index, crop from faces where video_id = ? order by frame_index", [video.video_id]
        )
    detected, points = landmarks_from_crops(faces["crop"], settings.landmarks)
    rows = arrow.table({"frame_index": faces["frame_index"], "detected": detected, "points": points})
    return Extracted({"landmarks": rows})


def hear(video: Video, wanted: set[str], settings: Settings, warehouse: Warehouse, spool: Spool) -> Extracted:
    """Sound, spectrograms and features of one video; empty tables where there is no sound track."""
    from iss_assets.media.audio import extract_audio
    from iss_assets.media.timeline import read_timeline

    scratch = spool.scratch()
    made = extract_audio(video.path, settings.audio, scratch, read_timeline(video.path, settings.video))
    if made is None:
        return Extracted({})
    waiting = {n: scratch / f"{n}.arrow" for n in ("audio", "mel_spectrograms")}
    return Extracted({**waiting, "audio_features": made.audio_features}, made.problem)


def extract(
    context: dg.AssetExecutionContext,
    resource: WarehouseResource,
    names: tuple[str, ...],
    work: Callable[[Video, set[str], Settings, Warehouse, Spool], Extracted],
) -> Iterator[dg.MaterializeResult]:
    """Bring one patient's rows of the selected tables up to date, video by video.

    Raises
    ------
    dagster.Failure
        After everything else is stored, if the extraction of some videos broke for a reason that is not the
        video's. The next run tries those again.
    """
    patient, settings = context.partition_key, resource.settings()
    settings.spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # two runs of one patient take turns: the second finds the first one's work done
    with hold(settings.spool_dir / f"{patient}.lock", exclusive=True, timeout_s=MAX_PATIENT_S):
        results = list(extract_alone(context, resource, names, work))
    give_memory_back()
    yield from results


def give_memory_back() -> None:
    """Hand freed memory to the system if this process has grown large; the C library keeps it for itself.

    A small process keeps it for the next video, which would have to ask for it again page by page.
    """
    import ctypes

    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        resident = _resident_mb()
        if resident is None or resident > _LARGE_MB:
            trim(0)


def _resident_mb() -> float | None:
    """Give the memory of this process in megabytes, None where the system does not say it in /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def extract_alone(
    context: dg.AssetExecutionContext,
    resource: WarehouseResource,
    names: tuple[str, ...],
    work: Callable[[Video, set[str], Settings, Warehouse, Spool], Extracted],
) -> Iterator[dg.MaterializeResult]:
    """Do what `extract` says, nobody else being at work on this patient."""
    from iss_assets.media.video import UnreadableVideo

    patient, settings, warehouse = context.partition_key, resource.settings(), resource.warehouse()
    selected = tuple(n for n in names if dg.AssetKey(n) in context.selected_asset_keys)
    versions = code_versions(settings)
    spool = Spool(settings.spool_dir, patient)
    with warehouse.read() as connection:
        held = read_ledger(connection, patient)
        submitted = (
            connection.execute(
                "select video_id, file, sha256 from videos where patient_id = ? and status = 'ok' order by video_id",
                [patient],
            )
            .to_arrow_table()
            .to_pylist()
        )
        entries = connection.execute(
            "select video_id, table_name, rows from extractions where patient_id = ?", [patient]
        ).fetchall()
    stored = {(video_id, name): rows for video_id, name, rows in entries}
    todo: list[tuple[Video, set[str]]] = []
    for row in submitted:
        prints = video_fingerprints(row["sha256"], versions)
        wanted = {n for n in selected if held.get((patient, row["video_id"], n)) != prints[n]}
        if wanted:
            todo.append((Video(row["video_id"], settings.study / row["file"], prints), wanted))
    failed: dict[str, str] = {}
    problems: dict[str, str] = {}
    for number, (video, wanted) in enumerate(todo, start=1):
        if all(spool.get(video.video_id, n, video.fingerprints[n]) is not None for n in wanted):
            continue
        context.log.info(f"video {number} of {len(todo)}: {video.video_id}")
        try:
            made = work(video, wanted, settings, warehouse, spool)
        except UnreadableVideo as error:
            made = Extracted({}, str(error))
        except Exception as error:
            # one video must not stop the others; what broke is told at the end, without the message's content
            context.log.error(f"video {video.video_id}: {type(error).__name__}", exc_info=error)
            failed[video.video_id] = type(error).__name__
            continue
        if made.problem:
            problems[video.video_id] = made.problem
        spool.put(video.video_id, video.fingerprints, {n: made.rows.get(n, nothing_of(n)) for n in wanted})
        del made
        give_memory_back()
    replacements: list[Replacement] = []
    gone = {
        (video_id, table)
        for (_, video_id, table) in held
        if table in selected and video_id not in {r["video_id"] for r in submitted}
    }
    for video_id, name in sorted(gone):
        where = {"patient_id": patient, "video_id": video_id}
        replacements.append(Replacement(tables.BY_NAME[name], tables.BY_NAME[name].from_rows([]), where))
        replacements.append(Replacement(tables.Extractions, ledger_rows([]), {**where, "table_name": name}))
    for video, wanted in todo:
        if video.video_id in failed:
            continue
        where = {"patient_id": patient, "video_id": video.video_id}
        for name in sorted(wanted):
            waiting = partial(finish, spool, name, patient, video)
            replacements.append(Replacement(tables.BY_NAME[name], waiting, where))
            stored[video.video_id, name] = waiting().num_rows
            entry = (patient, video.video_id, name, video.fingerprints[name], stored[video.video_id, name])
            replacements.append(
                Replacement(tables.Extractions, ledger_rows([entry]), {**where, "table_name": name})
            )
    if replacements:
        warehouse.replace_all(replacements)
    spool.clear(selected)
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {len(submitted)} videos of patient {patient} could not be extracted; "
            "the others are stored. Run again, and if it stays so, look at the run's log.",
            metadata={"videos": dg.MetadataValue.json(failed)},
        )
    for name in selected:
        mark = fingerprint(
            sorted((r["video_id"], video_fingerprints(r["sha256"], versions)[name]) for r in submitted)
        )
        yield result(
            tables.BY_NAME[name],
            sum(stored[row["video_id"], name] for row in submitted),
            mark,
            {
                "videos": len(submitted),
                "videos extracted now": sum(name in wanted for _, wanted in todo),
                "videos kept": len(submitted) - sum(name in wanted for _, wanted in todo),
                "problems in the files": dg.MetadataValue.json(problems),
                **(
                    contact_sheet(warehouse, patient)
                    if name == "faces" and settings.run.contact_sheet
                    else {}
                ),
            },
        )


def contact_sheet(warehouse: Warehouse, patient: str) -> dict[str, dg.MetadataValue]:
    """Give up to twelve of a patient's face crops, spread over the videos, side by side in one picture."""
    import base64

    import cv2
    import numpy as np

    from iss_assets.media.visual import decode_crops

    # which ones is settled without the pictures: reading all of them takes memory
    chosen = warehouse.query(
        "with parts as (select video_id, frame_index, ntile(12) over (order by video_id, frame_index) as part "
        "from faces where patient_id = ?) select video_id, list(frame_index) as frames from (select * from parts "
        "qualify row_number() over (partition by part order by video_id, frame_index) = 1) group by 1 order by 1",
        [patient],
    ).to_pylist()
    crops = [
        crop
        for row in chosen
        for crop in warehouse.query(
            "select crop from faces where patient_id = ? and video_id = ? and list_contains(?::integer[], frame_index) "
            "order by frame_index",
            [patient, row["video_id"], row["frames"]],
        )["crop"]
    ]
    if len(crops) == 0:
        return {}
    strip = np.concatenate(
        [cv2.resize(crop, (96, 96)) for crop in decode_crops(arrow.array(crops, arrow.binary()))], axis=1
    )
    _, file = cv2.imencode(".jpg", cv2.cvtColor(strip, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    picture = base64.b64encode(file.tobytes()).decode()
    return {"contact sheet": dg.MetadataValue.md(f"![faces](data:image/jpeg;base64,{picture})")}


def nothing_of(name: str) -> arrow.Table:
    """Give a table without rows as extraction gives it."""
    schema = tables.BY_NAME[name].arrow_schema()
    return arrow.schema([field for field in schema if field.name not in _CONSTANTS]).empty_table()


def finish(spool: Spool, name: str, patient: str, video: Video) -> arrow.Table:
    """Give what waits of a video's table with patient, video and fingerprint, in the order of the table's model."""
    schema = tables.BY_NAME[name].arrow_schema()
    rows = spool.take(video.video_id, name, video.fingerprints[name])
    values = dict(zip(_CONSTANTS, (patient, video.video_id, video.fingerprints[name]), strict=True))
    columns = [
        arrow.repeat(arrow.scalar(values[field.name], field.type), rows.num_rows)
        if field.name in values
        else rows[field.name]
        for field in schema
    ]
    return arrow.table(columns, schema=schema)
