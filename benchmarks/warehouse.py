"""Measure the warehouse: bytes per frame on disk, and loading a training set compared with reading a plain file.

    python -m benchmarks.warehouse [--faces 100000]

Crops are JPEG files as stored by extraction, of smooth noise and about as large as those of faces; points are random.
Raw means reading a plain file of the same size into memory. Both are measured with a cold page cache (the kernel is
asked to drop the file) and a warm one. Loading is `load_items` for ``fusion_1`` with encoded crops, as for studies whose
crops do not fit in memory; decoding is reported separately.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as arrow

from benchmarks.marts import peak_gb
from iss_assets.media.landmarks import POINT_VALUES, encode_crop, pack_points
from iss_assets.schemas.visual import Faces, Landmarks
from iss_assets.warehouse.database import Replacement, Warehouse

REQUIRED_SHARE = 0.30
FACES_PER_VIDEO = 500


def fill(warehouse: Warehouse, faces: int) -> float:
    """Write faces and landmarks with one transaction per video, like the run of a patient; return the seconds."""
    rng = np.random.default_rng(0)
    videos = max(1, faces // FACES_PER_VIDEO)
    people = [{"patient_id": f"{1 + v // 10:04d}", "video_id": f"v{v:05d}"} for v in range(videos)]
    smooth = [cv2.resize(rng.integers(0, 255, (26, 26, 3), np.uint8), (160, 160)) for _ in range(50)]
    spent = 0.0
    for place, video in enumerate(people):
        n = faces // videos
        # all crops differ, so that the database cannot deduplicate them
        noise = rng.integers(0, 7, (n, 160, 160, 1), np.uint8)
        crops = [encode_crop(cv2.add(smooth[k % 50], noise[k].repeat(3, axis=2))) for k in range(n)]  # type: ignore[arg-type]  # stubs of OpenCV
        detected, points = pack_points(list(rng.random((n, POINT_VALUES), np.float32)))
        constant = {
            name: arrow.repeat(arrow.scalar(value, arrow.string()), n)
            for name, value in {**video, "fingerprint": f"made-up-{place}"}.items()
        }
        index = arrow.array(np.arange(n), arrow.int32())
        box = arrow.array(np.full(n, 100.0), arrow.float32())
        one = arrow.array(np.ones(n), arrow.int32())
        rows = {
            Faces: {
                "frame_index": index, "x1": box, "y1": box, "x2": box, "y2": box, "probability": arrow.array(np.ones(n), arrow.float32()),
                "faces_seen": one, "crop": arrow.array(crops, arrow.binary()),
            },
            Landmarks: {"frame_index": index, "detected": detected, "points": points},
        }  # fmt: skip
        replacements = [
            Replacement(
                table,
                arrow.table({**constant, **columns}).select(table.arrow_schema().names),
                {"video_id": video["video_id"]},
            )
            for table, columns in rows.items()
        ]
        began = time.perf_counter()
        warehouse.replace_all(replacements)
        spent += time.perf_counter() - began
    with warehouse.write() as writer:
        writer.execute(
            "insert into patients by name select distinct patient_id, '1A' as cohort, 'M' as sex, 'II' as skin_type, "
            "'light' as skin_group, case when patient_id::integer % 2 = 0 then 0 else 8 end as pain_target, "
            "case when patient_id::integer % 2 = 0 then 'None' else 'Severe' end as pain_level, "
            "date '2025-01-02' as enrolled_on from faces"
        )
        writer.execute(
            "insert into videos by name select distinct patient_id, video_id, video_id as file, video_id as sha256, "
            "1 as bytes, 1 as modified_ns, true as has_audio, false as has_prompt, 'ok' as status from faces"
        )
        writer.execute(
            "insert into video_quality by name select patient_id, video_id, count(*) as frames, 1 as face_rate, "
            "1 as landmark_rate, '{}' as measures, [] as flags, true as usable, 'made-up' as fingerprint from faces "
            "group by all"
        )
    return spent


LOAD = """
import json, sys, time
from pathlib import Path
from benchmarks.marts import peak_gb
from iss_assets.modeling.experiments import experiment
from iss_assets.settings import FaceSettings, TrainingSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.datasets.items import load_items
import iss_assets.modeling.pictures, pandas
warehouse = Warehouse(Path(sys.argv[1]))
settings = TrainingSettings(decoded_faces_gb=0, encoded_faces_gb=1000)
before = peak_gb()
began = time.perf_counter()
items = load_items(warehouse, experiment("fusion_1"), settings, FaceSettings())
took = time.perf_counter() - began
grown = peak_gb() - before
began = time.perf_counter()
items.inputs["faces"][__import__("numpy").arange(min(len(items), 2000))]
print(json.dumps([took, len(items), grown, (time.perf_counter() - began) / min(len(items), 2000)]))
"""


def drop(path: Path) -> None:
    """Ask the kernel to drop a file from the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def read_raw(path: Path) -> float:
    """Return the seconds of reading a file into allocated memory."""
    size = path.stat().st_size
    memory = bytearray(size)
    memory[:] = b"\1" * size  # touch every page before the clock starts
    began = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        view, at = memoryview(memory), 0
        while at < size:
            at += file.readinto(view[at : at + 2**24])
    return time.perf_counter() - began


def load(path: Path) -> list[float]:
    """Load in a separate process; return seconds, items, memory in GB and seconds per decoded crop."""
    command = [sys.executable, "-c", LOAD, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: list[float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="few faces, to check correctness")
    given = parser.parse_args()
    if given.tiny:
        given.faces, given.rounds = 1000, 1
    with tempfile.TemporaryDirectory() as folder:
        file, plain = Path(folder) / "warehouse.duckdb", Path(folder) / "plain"
        warehouse = Warehouse(file)
        written = fill(warehouse, given.faces)
        payload = warehouse.query(
            "select sum(octet_length(crop))::bigint as crops, (select count(*) * 1404 * 4 from landmarks)::bigint as points "
            "from faces"
        ).to_pylist()[0]
        size = sum(payload.values())
        with plain.open("wb") as out:
            for _ in range(0, size, 2**20):
                out.write(os.urandom(2**20))
            out.truncate(size)
        print(
            f"{given.faces:,} faces and landmarks, {size / 1e6:,.0f} MB: written at {size / 1e6 / written:.0f} MB/s; "
            f"on disk {file.stat().st_size / given.faces / 1e3:.1f} kB per frame ({payload['crops'] / given.faces / 1e3:.1f} "
            f"of crops, {payload['points'] / given.faces / 1e3:.1f} of points)"
        )
        shares = {}
        print("| cache | raw MB/s | loading MB/s | share | required |\n|---|---|---|---|---|")
        ways: dict[str, Callable[[Path], object]] = {"cold": drop, "warm": read_raw}
        for name, prepare in ways.items():
            raw, loaded = [], []
            for _ in range(given.rounds):
                prepare(plain)
                raw.append(read_raw(plain))
                prepare(file)
                loaded.append(load(file))
            if loaded[0][1] != given.faces:
                raise SystemExit(f"{loaded[0][1]} items instead of {given.faces}")
            seconds = statistics.median(x[0] for x in loaded)
            shares[name] = statistics.median(r / x[0] for r, x in zip(raw, loaded, strict=True))
            print(
                f"| {name} | {size / 1e6 / statistics.median(raw):.0f} | {size / 1e6 / seconds:.0f} "
                f"| {100 * shares[name]:.0f} % | {100 * REQUIRED_SHARE:.0f} % |"
            )
        print(
            f"memory for loading {loaded[0][2]:.2f} GB; decoding the crops takes {1e6 * loaded[0][3]:.0f} us each; "
            f"peak of this process {peak_gb():.2f} GB"
        )
    return 0 if given.tiny else int(shares["cold"] < REQUIRED_SHARE)


if __name__ == "__main__":
    sys.exit(main())
