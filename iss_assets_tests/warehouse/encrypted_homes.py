"""Homes with a marker in every channel, and a search for them through every byte."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as arrow

from iss_assets.schemas.intake import RejectedRows
from iss_assets.schemas.visual import Faces
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.keys import configured_key
from iss_assets.warehouse.spool import Spool

MARKERS = {
    channel: random.Random(channel).randbytes(24).hex().encode()
    for channel in ("pixels", "words", "spool", "note", "log", "spilled")
}
"""Channel to bytes that occur nowhere else; letters and digits, so that they can be text, too."""
WAITING = arrow.table({"frame_index": [0], "crop": [MARKERS["spool"]]})


def settings_with(key_file: Path | None) -> WarehouseSettings:
    return WarehouseSettings(key_file=key_file, lock_timeout_s=60)


def fill(home: Path, key_file: Path | None) -> Warehouse:
    """Make a home with markers in the warehouse and in what waits in the spool of two patients."""
    home.mkdir(mode=0o700, exist_ok=True)
    warehouse = Warehouse(home / "warehouse.duckdb", settings_with(key_file))
    face = {
        "patient_id": "0001", "x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0, "probability": 1.0, "faces_seen": 1, "fingerprint": "f",
    }  # fmt: skip
    noise = random.Random(0)
    faces = Faces.from_rows(
        [
            {**face, "video_id": "v", "frame_index": n, "crop": noise.randbytes(3000) + MARKERS["pixels"]}
            for n in range(50)
        ]
    )
    warehouse.replace(Faces, faces, {})
    reason = RejectedRows.from_rows(
        [
            {
                "file": "surveys.csv",
                "line": 3,
                "column_name": "",
                "code": "x",
                "reason": MARKERS["words"].decode(),
            }
        ]
    )
    warehouse.replace(RejectedRows, reason, {})
    key = configured_key(warehouse.settings)
    for patient in ("0001", "0002"):
        spool = Spool(home / "spool", patient, key)
        spool.put("v1", {"faces": "f"}, {"faces": WAITING})
        spool.write_note("v1", "faces", "f", MARKERS["note"].decode())
    return warehouse


def found(folder: Path) -> dict[str, set[str]]:
    """Return the channels whose markers are in some file of the folder, with the files' names."""
    where: dict[str, set[str]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for channel, marker in MARKERS.items():
                if marker in content:
                    where.setdefault(channel, set()).add(path.name)
    return where


def content_of(home: Path, key_file: Path | None) -> tuple[object, ...]:
    """Return all that `fill` has stored, as this key opens it."""
    warehouse = Warehouse(home / "warehouse.duckdb", settings_with(key_file))
    key = warehouse.key()
    spools = [Spool(home / "spool", patient, key) for patient in ("0001", "0002")]
    return (
        warehouse.query("select * from faces order by frame_index").to_pylist(),
        warehouse.query("select * from rejected_rows").to_pylist(),
        [spool.get("v1", "faces", "f") for spool in spools],
        [spool.read_note("v1", "faces", "f") for spool in spools],
    )
