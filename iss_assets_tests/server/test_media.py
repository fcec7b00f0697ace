"""Videos for coordinators: who gets them, in which pieces, and what is recorded."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import av
import numpy as np
import pyarrow as arrow
import pytest
from starlette.applications import Starlette

from iss_assets.intake.withdrawn import Scope, with_key, write_withdrawn
from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.server import media
from iss_assets.server.application import DagsterApps, build_application
from iss_assets.server.previews import MOST_AT_ONCE, Previews
from iss_assets.settings import Settings, VideoSettings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.server.test_security import client, probe, settings

__all__ = ["settings"]


def film(path: Path, seconds: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(seconds * 20):
            picture = np.full((120, 160, 3), number * 2 % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def application(settings: Settings) -> Starlette:
    path = settings.study / "videos" / "0007" / "0007-02.mp4"
    film(path)
    outside = settings.home / "outside.mp4"
    film(outside)
    (settings.study / "videos" / "0007" / "0007-03.mp4").symlink_to(outside)
    warehouse = Warehouse(settings.warehouse_path)
    warehouse.create()
    with warehouse.write() as connection:
        for video, file in (
            ("0007-02", "videos/0007/0007-02.mp4"),
            ("0007-03", "videos/0007/0007-03.mp4"),
            ("0007-04", "../home/outside.mp4"),
            ("0007-05", "videos/0007/gone.mp4"),
        ):
            sha256 = hashlib.sha256(video.encode()).hexdigest()
            connection.execute(
                "insert into videos by name select ? as video_id, '0007' as patient_id, ? as file, ? as sha256, "
                "1 as bytes, 1 as modified_ns, false as has_prompt, 'ok' as status",
                [video, file, sha256],
            )
    return build_application(settings, DagsterApps(probe("full"), probe("read-only")), lambda secret: None)


def test_a_coordinator_sees_the_video_and_the_view_is_recorded_first(
    application: Starlette, settings: Settings
) -> None:
    browser = client(application, "coordinator")
    whole = browser.get("/media/0007-02")
    assert whole.status_code == 200 and whole.headers["content-type"] == "video/mp4"
    assert whole.headers["cache-control"] == "no-store"
    with av.open(io.BytesIO(whole.content), "r") as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert len(list(container.decode(video=0))) == 80
    views = [line for line in AuditLog(settings.audit_path).lines() if line.action == Action.MEDIA_VIEWED]
    assert [(v.who, v.subject, v.detail) for v in views] == [
        ("coordinator", "0007-02", {"patient": "0007", "begin_s": 0.0})
    ]
    # finished by now: any range of the same bytes
    size = len(whole.content)
    for header, first, last in (
        ("bytes=0-99", 0, 99), ("bytes=100-", 100, size - 1), ("bytes=-50", size - 50, size - 1),
        (f"bytes=10-{size * 2}", 10, size - 1),
    ):  # fmt: skip
        part = browser.get("/media/0007-02", headers={"Range": header})
        assert part.status_code == 206 and part.content == whole.content[first : last + 1]
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
    for header in (f"bytes={size}-", "bytes=9-3", "bytes=-", "bytes=0-1,5-6", "lines=1-2", "bytes=-0"):
        assert browser.get("/media/0007-02", headers={"Range": header}).status_code == 416


def views(settings: Settings) -> list[tuple[str, str | None, float]]:
    lines = AuditLog(settings.audit_path).lines()
    return [(v.who, v.subject, v.detail["begin_s"]) for v in lines if v.action == Action.MEDIA_VIEWED]


def test_whatever_range_is_asked_for_a_session_has_one_line_for_each_preview_that_it_sees(
    application: Starlette, settings: Settings
) -> None:
    one, other = client(application, "coordinator"), client(application, "admin")
    # all but the first byte, and all of it while it is being made
    assert one.get("/media/0007-02", headers={"Range": "bytes=1-"}).status_code in (200, 206)
    expected = [("coordinator", "0007-02", 0.0)]
    assert views(settings) == expected
    for header in ("bytes=0-", "bytes=1-", "bytes=-9", ""):
        assert one.get("/media/0007-02", headers={"Range": header} if header else {}).status_code in (
            200,
            206,
        )
    assert views(settings) == expected
    assert other.get("/media/0007-02", headers={"Range": "bytes=-100"}).status_code == 206
    assert one.get("/media/0007-02?from=1.5", headers={"Range": "bytes=5-"}).status_code in (200, 206)
    expected += [("admin", "0007-02", 0.0), ("coordinator", "0007-02", 1.5)]
    assert views(settings) == expected
    # the same person, signed in again
    again = client(application, "coordinator")
    assert again.get("/media/0007-02", headers={"Range": "bytes=7-"}).status_code == 206
    assert views(settings) == [*expected, ("coordinator", "0007-02", 0.0)]
    # another video of the same bytes is another view
    with Warehouse(settings.warehouse_path).write() as writer:
        writer.execute(
            "update videos set file = 'videos/0007/0007-02.mp4', sha256 = (select sha256 from videos where "
            "video_id = '0007-02') where video_id = '0007-05'"
        )
    assert again.get("/media/0007-05", headers={"Range": "bytes=7-"}).status_code == 206
    assert views(settings)[-1] == ("coordinator", "0007-05", 0.0)


def test_views_that_are_remembered_are_bounded_and_a_forgotten_one_is_recorded_again(
    application: Starlette, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "_MOST_REMEMBERED", 2)
    browser = client(application, "coordinator")
    begins = [0.0, 1.0, 1.0, 2.0, 2.0, 0.0]
    for begin in begins:
        assert browser.get(f"/media/0007-02?from={begin}", headers={"Range": "bytes=3-"}).status_code in (
            200,
            206,
        )
    assert [begin for _, _, begin in views(settings)] == [0.0, 1.0, 2.0, 0.0]


def test_a_video_that_is_watched_can_be_sought_while_a_run_writes(
    settings: Settings, application: Starlette
) -> None:
    impatient = settings.model_copy(update={"warehouse": WarehouseSettings(lock_timeout_s=1)})
    browser = client(
        build_application(impatient, DagsterApps(probe("full"), probe("read-only")), lambda secret: None),
        "coordinator",
    )
    whole = browser.get("/media/0007-02").content
    with Warehouse(settings.warehouse_path).write() as writer:
        writer.execute("update videos set status = 'ok'")
        os.utime(settings.warehouse_path)  # as after a write that is larger than memory
        part = browser.get("/media/0007-02", headers={"Range": "bytes=100-"})
        assert part.status_code == 206 and part.content == whole[100:]
        # nobody has asked for this one, so that nothing is known of it
        assert browser.get("/media/0007-03").status_code == 503
        write_withdrawn(settings.home, with_key(settings.home).adding("0007", Scope.MEDIA, ["0007-02"], []))
        assert browser.get("/media/0007-02", headers={"Range": "bytes=100-"}).status_code in (404, 503)
    assert browser.get("/media/0007-02").status_code == 404


def test_while_nothing_changes_the_warehouse_is_not_asked_for_every_range(
    settings: Settings, application: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    query = Warehouse.query

    def counting(self: Warehouse, sql: str, params: Sequence[object] | None = None) -> arrow.Table:
        asked.append(sql)
        return query(self, sql, params)

    monkeypatch.setattr(Warehouse, "query", counting)
    browser = client(application, "coordinator")
    for begin in range(5):
        assert browser.get("/media/0007-02", headers={"Range": f"bytes={begin}-"}).status_code in (200, 206)
    assert len(asked) == 1
    # a file that was replaced is another one at once
    with Warehouse(settings.warehouse_path).write() as writer:
        writer.execute("update videos set file = 'videos/0007/gone.mp4' where video_id = '0007-02'")
    assert browser.get("/media/0007-02").status_code == 404


def test_nobody_else_sees_it(application: Starlette, settings: Settings) -> None:
    assert client(application).get("/media/0007-02").status_code == 401
    assert client(application, "researcher").get("/media/0007-02").status_code == 403
    assert not [line for line in AuditLog(settings.audit_path).lines() if line.action == Action.MEDIA_VIEWED]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("0007-03", 404), ("0007-04", 404), ("0007-05", 404), ("nobody", 404), ("..%2f..%2fetc", 404),
        ("0007-02?from=x", 400), ("0007-02?from=1e9", 400), ("0007-02?from=nan", 400), ("0007-02?from=inf", 400),
    ],
)  # fmt: skip
def test_what_is_not_a_video_of_the_study_is_not_served(
    application: Starlette, path: str, status: int
) -> None:
    assert client(application, "coordinator").get(f"/media/{path}").status_code == status


def test_it_begins_where_it_is_asked_to(application: Starlette) -> None:
    part = client(application, "coordinator").get("/media/0007-02?from=2.5")
    with av.open(io.BytesIO(part.content), "r") as container:
        assert len(list(container.decode(video=0))) == 30


def test_a_file_that_cannot_be_decoded_is_a_sentence(application: Starlette, settings: Settings) -> None:
    (settings.study / "videos" / "0007" / "0007-02.mp4").write_bytes(b"nothing" * 999)
    found = client(application, "coordinator").get("/media/0007-02")
    assert found.status_code == 422 and found.text.endswith(".\n") and "/" not in found.text


def memory_files() -> int:
    """Count this process's anonymous files, in which previews are."""
    found = 0
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += "memfd:preview" in str(handle.readlink())
    return found


def hold(happens: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not happens():
        assert time.monotonic() - began < 20
        time.sleep(0.01)


@pytest.mark.parametrize("scope", [Scope.ALL, Scope.MEDIA])
def test_a_patient_who_withdraws_is_not_shown_from_that_moment_on_and_leaves_no_preview_in_memory(
    application: Starlette, settings: Settings, scope: Scope
) -> None:
    # nobody has made the pages show it again: rows and file are still there
    browser = client(application, "coordinator")
    gc.collect()  # an earlier test's application, with its previews
    before = memory_files()
    assert browser.get("/media/0007-02").status_code == 200
    assert browser.get("/media/0007-02?from=1").status_code == 200
    assert memory_files() == before + 2
    sha256 = hashlib.sha256(b"0007-02").hexdigest()
    write_withdrawn(settings.home, with_key(settings.home).adding("0007", scope, ["0007-02"], [sha256]))
    # as `iss serve` does a few times a second, without any request
    application.state.study.forget_what_is_gone()
    hold(lambda: memory_files() == before)
    views = len(list(AuditLog(settings.audit_path).lines()))
    for path in ("/media/0007-02", "/review/0007-02", "/review/0007-02/meshes", "/review/0007-02/timeline"):
        assert browser.get(path).status_code == 404, path
    assert memory_files() == before
    assert len(list(AuditLog(settings.audit_path).lines())) == views


def test_sharing_that_was_withdrawn_hides_no_video_from_the_study_team(
    application: Starlette, settings: Settings
) -> None:
    write_withdrawn(settings.home, with_key(settings.home).adding("0007", Scope.SHARING, [], []))
    assert client(application, "coordinator").get("/media/0007-02").status_code == 200


def test_with_a_register_that_cannot_be_read_nobody_is_shown(
    application: Starlette, settings: Settings
) -> None:
    write_withdrawn(settings.home, with_key(settings.home).adding("0008", Scope.ALL, [], []))
    (settings.home / "withdrawals" / "key").unlink()
    found = client(application, "coordinator").get("/media/0007-02")
    assert found.status_code == 503 and "restore both from a backup" in found.text


def test_a_preview_that_is_being_watched_ends_when_its_patient_withdraws(tmp_path: Path) -> None:
    previews = Previews(VideoSettings(), (sys.executable, "-c", SLOW))
    preview = previews.get(tmp_path / "a.mp4", "0" * 64, 0.0)
    hold(lambda: preview.size == 10)

    async def watch() -> bytes:
        stream = preview.stream()
        got = await anext(stream)
        previews.forget(lambda sha256: sha256 == "0" * 64)
        return got + b"".join([block async for block in stream])

    assert anyio.run(watch) == b"x" * 10
    assert os.fstat(preview.handle).st_size == 0
    preview.process.wait(120)
    assert previews.get(tmp_path / "a.mp4", "0" * 64, 0.0) is not preview
    previews.close()


SLOW = (
    "import sys,time; sys.stdin.read(); sys.stdout.buffer.write(b'x'*10); sys.stdout.flush(); time.sleep(600)"
)


def test_previews_that_nobody_waits_for_make_room_and_none_outlives_the_server(tmp_path: Path) -> None:
    previews = Previews(VideoSettings(), (sys.executable, "-c", SLOW))
    made = [previews.get(tmp_path / "a.mp4", f"{n:064x}", 0.0) for n in range(MOST_AT_ONCE + 2)]
    assert previews.get(tmp_path / "a.mp4", f"{MOST_AT_ONCE + 1:064x}", 0.0) is made[-1]
    for preview in made[:2]:
        preview.process.wait(120)
    assert [p.process.poll() is None for p in made] == [False, False] + [True] * MOST_AT_ONCE
    previews.close()
    began = time.monotonic()
    while any(p.process.poll() is None for p in made):
        assert time.monotonic() - began < 20
        time.sleep(0.01)


def test_a_process_that_crashes_is_said_in_words(tmp_path: Path) -> None:
    crash = "import sys, os, signal; sys.stdin.read(); os.kill(os.getpid(), signal.SIGSEGV)"
    previews = Previews(VideoSettings(), (sys.executable, "-c", crash))
    preview = previews.get(tmp_path / "a.mp4", "0" * 64, 0.0)
    began = time.monotonic()
    while not preview.done:
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    assert preview.problem == "The video cannot be played."
    previews.close()
