"""The asset ``thermal``: the temperatures in one patient's thermal pictures, paired with the frames of the videos.

There is one picture per submission, measured in a tenth of a second, so a patient's are read again together whenever one of
them, or the video of one of them, has changed. As with videos, a bad file costs one file, and its row says why.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from iss_assets.defs.assets.common import describe
from iss_assets.defs.assets.features import FEATURE_GROUP
from iss_assets.defs.assets.reading import guard, patient_lock
from iss_assets.defs.assets.study import fits, keep_patient_rows
from iss_assets.defs.assets.video_work import require_current
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.inventory import identify
from iss_assets.intake.records import ThermalFile, VideoFile
from iss_assets.intake.withdrawn import Withdrawn
from iss_assets.media.errors import BrokenFile, ChangedFile
from iss_assets.media.isolation import Guard
from iss_assets.media.journal import THERMAL, Journal, Reading, time_limit
from iss_assets.pipeline.staleness import thermal_fingerprint, thermal_version
from iss_assets.privacy.register import read_register
from iss_assets.protocol import terms
from iss_assets.schemas.thermal import Thermal
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.ledger import code_versions

if TYPE_CHECKING:
    from iss_assets.media.thermal import Pairing

_NO_READER = "Thermal pictures are read with the extra `thermal`, which is not installed: pip install 'iss-assets[thermal]'."


def thermal_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the asset ``thermal``, unless the settings have thermal pictures off."""
    if not settings.thermal.enabled:
        return []

    @dg.asset(
        **describe(
            Thermal,
            "Radiometric JPEG pictures of FLIR cameras, with the emissivity of skin. Unreadable ones stay, with the reason.",
            group=FEATURE_GROUP,
            kinds={"numpy", "duckdb"},
        ),
        partitions_def=patients_partitions,
        deps=["videos", "frames"],
        code_version=thermal_version(settings),
    )
    def thermal(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
        """Measure one patient's thermal pictures."""
        with patient_lock(warehouse.settings(), context.partition_key):
            return _update(context, warehouse)

    return [thermal]


def _update(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    patient, settings, folder = context.partition_key, warehouse.settings(), warehouse.folder()
    files = folder.thermals_of(patient)
    own = warehouse.warehouse().query(
        "select video_id, sha256, status, duration_s, bytes, modified_ns from videos where patient_id = ?",
        [patient],
    )
    videos = {row["video_id"]: row for row in own.to_pylist()}
    paths = {file.submission_id: file for file in folder.videos_of(patient)}
    of_pictures = [videos[file.submission_id] for file in files if file.submission_id in videos]
    require_current(warehouse.warehouse(), settings, patient, of_pictures, "frames")
    withdrawn = read_register(settings)
    rows: list[dict[str, Any]] = []
    unread: set[str] = set()
    with guard(settings, patient, THERMAL, context.log.warning) as isolated:
        for file in files:
            row = _described(file, withdrawn, unread)
            if row["status"] == "ok":
                row |= _measured(isolated, settings, file, row, unread)
            if row["status"] == "ok":
                video = videos.get(file.submission_id)
                row |= _paired(
                    isolated, settings, warehouse.warehouse(), paths.get(file.submission_id), video, row
                )._asdict()
            rows.append(row)
    fingerprint = thermal_fingerprint(files, list(videos.values()), settings, code_versions(settings), unread)
    rows = [{**row, "fingerprint": fingerprint} for row in rows]
    keep = partial(
        keep_patient_rows, warehouse, Thermal, patient, table_fingerprint=fingerprint, metadata=_summary(rows)
    )
    hashes = {_reading_id(row["submission_id"]): row["sha256"] for row in rows}
    Journal(settings.journal_dir).forget(patient, hashes, stage=THERMAL)
    return keep(rows=[row if fits(Thermal, row) else _without_measures(row) for row in rows])


def _described(file: ThermalFile, withdrawn: Withdrawn, unread: set[str]) -> dict[str, Any]:
    """Return what is known of a file without decoding it; one that cannot be read now is added to `unread`."""
    from iss_assets.media.thermal import flyr_version

    row = {
        "submission_id": file.submission_id,
        "patient_id": file.patient_id,
        "file": file.name,
        "bytes": file.size,
        "modified_ns": file.mtime_ns,
        "status": "ok",
    }
    content = identify(file, withdrawn)
    row["sha256"] = content.sha256
    if content.problem is not None:
        if not content.settled:
            unread.add(file.submission_id)
        return {**row, "status": "unreadable", "problem": content.problem}
    if flyr_version() is None:
        return {**row, "status": "not_read", "problem": _NO_READER}
    return row


def _measured(
    isolated: Guard, settings: Settings, file: ThermalFile, row: Mapping[str, Any], unread: set[str]
) -> dict[str, Any]:
    """Return the columns that the file's content gives, or why it gives none."""
    from iss_assets.media.thermal import measure_thermal

    reading = _reading(settings, file, row["sha256"], None)
    try:
        return isolated.attempt(reading, measure_thermal, file.path, settings.thermal)
    except ChangedFile as error:
        unread.add(file.submission_id)
        return {"status": "unreadable", "problem": str(error)}
    except BrokenFile as error:
        return {"status": "unreadable", "problem": str(error)}


def _paired(
    isolated: Guard,
    settings: Settings,
    warehouse: Warehouse,
    file: VideoFile | None,
    video: Mapping[str, Any] | None,
    row: Mapping[str, Any],
) -> "Pairing":
    """Find the frame of the submission's video that is nearest in time."""
    from iss_assets.media.thermal import pair_with_frame, recording_start

    if file is None or video is None or video["status"] != "ok":
        return pair_with_frame(row["taken_at"], None, None, settings.thermal)
    frames = warehouse.query(
        "select frame_index, time_s from frames where video_id = ? order by frame_index", [file.submission_id]
    )
    times = frames["frame_index"].to_numpy(), frames["time_s"].to_numpy().astype(np.float64)
    started = None
    if row["taken_at"] is not None:
        reading = _reading(settings, file, video["sha256"], video["duration_s"])
        try:
            started = isolated.attempt(reading, recording_start, file.path)
        except (BrokenFile, ChangedFile):
            # what is wrong with the video is said where its pictures are read
            started = None
    return pair_with_frame(row["taken_at"], started, times, settings.thermal)


def _reading(
    settings: Settings, file: ThermalFile | VideoFile, sha256: str, duration_s: float | None
) -> Reading:
    run = settings.run
    return Reading(
        file.patient_id,
        _reading_id(file.submission_id) if isinstance(file, ThermalFile) else file.submission_id,
        THERMAL,
        sha256,
        time_limit(run.video_limit_s, run.video_limit_factor, duration_s, file.size),
        file.path,
        file.size,
        file.mtime_ns,
    )


def _reading_id(submission_id: str) -> str:
    """Return what the journal calls a thermal picture: no submission id ends like this."""
    return f"{submission_id}{terms.THERMAL_SUFFIX}"


def _without_measures(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a file whose values do not fit the table."""
    known = ("submission_id", "patient_id", "file", "sha256", "bytes", "modified_ns", "fingerprint")
    return {
        **{name: row[name] for name in known},
        "status": "unreadable",
        "problem": "What the file says about itself cannot be right; copy it from the camera again.",
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "unreadable": [row["submission_id"] for row in rows if row["status"] != "ok"],
        "paired": sum(row.get("pairing") == "clocks" for row in rows),
    }
