"""The web application under load: fifty requests at once, for the same page and for fifty different patients or videos.

Videos of three minutes, as many rows as extraction gives them; pictures are left out, since no page reads them. Cold: the
warehouse has changed since the last request, so that everything is read from it; warm: it has not. Server and
client share the process.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import secrets
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import soundfile
import uvicorn
from argon2 import PasswordHasher
from starlette.responses import PlainTextResponse

from iss_assets.schemas.audio import Audio
from iss_assets.schemas.base import Table
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.videos import Videos
from iss_assets.schemas.visual import Faces, Frames
from iss_assets.server.accounts import Accounts, Role
from iss_assets.server.application import DagsterApps, build_application
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse, Writer
from iss_assets.warehouse.engine import keep_running

AT_ONCE = 50
SECONDS, RATE = 180, 10
NAME, PASSWORD = "maria", secrets.token_urlsafe(16)


def fill(settings: Settings, patients: int, videos: int, seconds: int) -> None:
    """Write a study of invented patients into the home."""
    settings.home.mkdir(mode=0o700, parents=True)
    settings.study.mkdir()
    wave = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.05, 22_050 * min(seconds, 20)).astype(np.float32)
    soundfile.write(wave, noise, 22_050, format="FLAC")
    frames = range(seconds * RATE)
    now = datetime(2026, 3, 1, 9, tzinfo=UTC)
    warehouse = Warehouse(settings.warehouse_path)
    for number in range(patients):
        patient = f"{number:04d}"
        with warehouse.write() as writer:
            add(writer, Patients, [
                {"patient_id": patient, "cohort": "1A", "sex": "F", "skin_type": "III", "skin_group": "light",
                 "pain_target": 3, "pain_level": "Low", "enrolled_on": date(2026, 2, 1)}
            ])  # fmt: skip
            for index in range(videos):
                ids = {"patient_id": patient, "video_id": f"{patient}-{index:02d}", "fingerprint": "f"}
                add(writer, BpiScores, [
                    {"submission_id": ids["video_id"], "patient_id": patient, "submitted_on": date(2026, 2, 20),
                     "submitted_at": now - timedelta(days=index), "pain_now": 3}
                ])  # fmt: skip
                add(writer, Videos, [
                    {**ids, "file": f"videos/{patient}/{ids['video_id']}.mp4", "sha256": f"{number * 100 + index:064x}",
                     "duration_s": float(seconds), "status": "ok"}
                ])  # fmt: skip
                add(writer, VideoQuality, [
                    {**ids, "frames": len(frames), "measures": "{}", "flags": ["glare"], "usable": True,
                     "moments": json.dumps({"glare": [[2, 4]]})}
                ])  # fmt: skip
                add(writer, Frames, [
                    {**ids, "frame_index": i, "time_s": i / RATE, "luminance": 0.4, "faces_seen": 1, "width": 1920,
                     "height": 1080} for i in frames
                ])  # fmt: skip
                add(writer, Faces, [
                    {**ids, "frame_index": i, "x1": 10.0, "y1": 10.0, "x2": 400.0, "y2": 400.0, "crop": b""} for i in frames
                ])  # fmt: skip
                add(writer, Audio, [{**ids, "waveform": wave.getvalue()}])


def add(writer: Writer, table: type[Table], rows: list[dict[str, Any]]) -> None:
    """Append rows; what a table needs and they lack is nothing."""
    nothing = {"INTEGER": 0, "BIGINT": 0, "DOUBLE": 0.0, "FLOAT": 0.0, "BOOLEAN": False, "VARCHAR": ""}
    needed = {c.name: nothing[c.sql] for c in table.columns() if not c.nullable and c.sql in nothing}
    writer.append(table, table.from_rows([{**needed, **row} for row in rows]))


def start(settings: Settings) -> str:
    """Serve the home in a thread and return the address."""
    Accounts(settings.accounts_path, PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)).add(
        NAME, Role.COORDINATOR, PASSWORD
    )
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    # whoever comes before the server's thread waits
    listening.listen()
    nothing = PlainTextResponse("")
    application = build_application(settings, DagsterApps(nothing, nothing), lambda secret: None)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    return f"http://localhost:{listening.getsockname()[1]}"


async def measure(address: str, settings: Settings, pages: dict[str, list[str]]) -> None:
    """Print a line for each page: seconds until half of the requests, and the last, were answered."""
    limits = httpx2.Limits(max_connections=AT_ONCE)
    async with httpx2.AsyncClient(
        base_url=address, headers={"Origin": address}, timeout=300, limits=limits
    ) as client:
        form = {"name": NAME, "password": PASSWORD, "next": "/"}
        assert (await client.post("/sign-in", data=form)).status_code == 303

        async def one(path: str) -> float:
            began = time.perf_counter()
            answer = await client.get(path)
            assert answer.status_code == 200, (path, answer.status_code)
            return time.perf_counter() - began

        async def all_of(paths: Sequence[str]) -> str:
            took = await asyncio.gather(*map(one, paths))
            return f"{statistics.median(took):.2f} | {max(took):.2f}"

        for name, paths in pages.items():
            # one transaction, and nothing that was kept of the warehouse counts any more
            with Warehouse(settings.warehouse_path).write() as writer:
                writer.execute("update patients set cohort = cohort where patient_id = '0000'")
            print(f"| {name} | {await all_of(paths)} | {await all_of(paths)} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="three patients with short videos")
    tiny = parser.parse_args().tiny
    patients, videos, seconds = (3, 1, 4) if tiny else (AT_ONCE, 4, SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(study=Path(folder) / "study", home=Path(folder) / "home")
        fill(settings, patients, videos, seconds)
        if not tiny:  # as `iss serve` does; a test's process goes on with other things
            keep_running()
        ids = [f"{n % patients:04d}" for n in range(AT_ONCE)]
        pages = {
            "home": ["/"] * AT_ONCE,
            "queue": ["/review"] * AT_ONCE,
            "one patient": ["/patients/0001"] * AT_ONCE,
            f"{patients} patients": [f"/patients/{i}" for i in ids],
            "one video's page": ["/review/0001-00"] * AT_ONCE,
            f"{patients} videos' pages": [f"/review/{i}-00" for i in ids],
            "one timeline": ["/review/0001-00/timeline"] * AT_ONCE,
            f"{patients} timelines": [f"/review/{i}-00/timeline" for i in ids],
            f"speech in {patients} videos": [f"/review/{i}-00/speech" for i in ids],
        }
        print(
            f"| {AT_ONCE} requests at once, seconds | cold: median | slowest | warm: median | slowest |\n|---|---|---|---|---|"
        )
        asyncio.run(measure(start(settings), settings, pages))


if __name__ == "__main__":
    main()
