"""One bad file costs one file: `iss run` on videos that kill, break or lie, with good ones beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from dagster import AssetKey

from iss_assets.build import build_defs
from iss_assets.cli.location import load
from iss_assets.defs.assets import study
from iss_assets.defs.resources import WarehouseResource
from iss_assets.pipeline import launcher as runner
from iss_assets.pipeline.home import open_instance
from iss_assets.pipeline.staleness import stale_patients
from iss_assets.protocol.recordings import Recording
from iss_assets.settings import RunSettings, Settings
from iss_assets.synthetic.sample import write_sample_study
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.this_process import work_in_this_process

HOOK = '''
"""A decoder that does to its process what the last bytes of the file say, at the stage that they name."""
import os, signal, sys
from pathlib import Path
import av
really_open = av.open

def open_marked(file, *args, **kwargs):
    tail = Path(os.fsdecode(file)).read_bytes()[-64:] if os.path.isfile(file) else b""
    if b"MARK:" in tail:
        what, _, stage = tail.rpartition(b"MARK:")[2].decode().partition("@")
        frame, callers = sys._getframe(), set()
        while frame:
            callers.add(frame.f_code.co_name)
            frame = frame.f_back
        log = Path(os.environ["ISS_TEST_DEATHS"])
        died = log.read_text().count(Path(file).name) if log.exists() else 0
        if stage in callers and not (what == "once" and died):
            with log.open("a") as output:
                output.write(f"{Path(file).name}\\n")
            if what == "breaks":
                raise IndexError("list index out of range")
            os.kill(os.getpid(), signal.SIGSEGV if what == "crashes" else signal.SIGKILL)
    return really_open(file, *args, **kwargs)

av.open = open_marked
'''


def iss_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("iss")), "run", "--no-models", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def query(settings: Settings, sql: str) -> list[dict]:
    return Warehouse(settings.warehouse_path, settings.warehouse).query(sql).to_pylist()


def stale(settings: Settings) -> dict[str, list[str]]:
    from iss_assets.intake.folder import read_study

    return stale_patients(read_study(settings.study, settings.reading), settings)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    work_in_this_process(monkeypatch)


def run(settings: Settings) -> runner.Summary:
    """Bring the patients' tables up to date; pages are none of this file's business."""
    return runner.run_study(
        settings, (), load=load, log=lambda *_: None, progress=lambda *_: None, models=False, pages=False
    )


@pytest.mark.slow
@pytest.mark.thorough
def test_a_decoder_that_kills_its_process_costs_one_file_and_one_killed_by_somebody_costs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, folder = tmp_path / "hook", tmp_path / "study"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("ISS_TEST_DEATHS", str(tmp_path / "deaths"))
    monkeypatch.setenv("ISS_RUN__WORKERS", "2")
    write_sample_study(folder, patients=2, seconds=1.5, submissions_per_patient=1)
    (good,) = (p for p in (folder / "videos" / "0001").iterdir() if "_prompt" not in p.name)
    marked = {
        "0001-91": b"crashes@extract_visual",
        "0001-92": b"once@extract_visual",
        "0001-93": b"breaks@extract_audio",
    }
    for name, mark in marked.items():
        path = good.with_name(f"{name}{good.suffix}")
        shutil.copy(good, path)
        with path.open("ab") as file:
            file.write(b"MARK:" + mark)
    settings = Settings(study=folder, home=tmp_path / "home", run=RunSettings(workers=2))

    first = iss_run()
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr + first.stdout
    rows = {r["video_id"]: r for r in query(settings, "select video_id, status, problem from videos")}
    assert {v for v, r in rows.items() if r["status"] == "ok"} == {*rows} - {"0001-91"}
    assert len(rows) == 5
    assert rows["0001-91"]["status"] == "unreadable"
    assert "Reading it stopped the program twice" in rows["0001-91"]["problem"]
    assert "Reading its sound fails" in rows["0001-93"]["problem"]
    assert "program" not in (rows["0001-92"]["problem"] or "")
    tables = {
        name: {r["video_id"] for r in query(settings, f"select distinct video_id from {name}")}
        for name in ("frames", "faces", "audio", "video_quality")
    }
    assert tables["frames"] == tables["faces"] == {*rows} - {"0001-91"}
    assert tables["audio"] == {*rows} - {"0001-91", "0001-93"}
    assert tables["video_quality"] == {*rows}
    deaths = Counter((tmp_path / "deaths").read_text().split())
    assert deaths == {f"0001-91{good.suffix}": 2, f"0001-92{good.suffix}": 1, f"0001-93{good.suffix}": 2}
    assert stale(settings) == {}
    assert not [*(settings.home / "reading").iterdir()]

    # submitted again
    shutil.copy(good, good.with_name(f"0001-91{good.suffix}"))
    assert [*stale(settings)] == ["0001"]
    work_in_this_process(monkeypatch)
    assert not run(settings).failed
    (row,) = query(settings, "select status, problem from videos where video_id = '0001-91'")
    assert row["status"] == "ok" and "program" not in (row["problem"] or "")
    assert query(settings, "select count(*) n from frames where video_id = '0001-91'")[0]["n"] > 10
    assert query(settings, "select distinct video_id, stage from video_problems") == [
        {"video_id": "0001-93", "stage": "sound"}
    ]
    assert stale(settings) == {}


def test_damaged_files_of_every_kind_become_rows_with_a_reason_and_good_ones_beside_them_are_read(
    settings: Settings, in_this_process: None
) -> None:
    from benchmarks.damage import KINDS, write_study

    damaged = write_study(settings.study, 24, seed=3, patients=2)
    assert {file.kind for file in damaged.values()} == {*KINDS}
    summary = run(settings)
    assert not summary.failed
    rows = {r["video_id"]: r for r in query(settings, "select * from videos")}
    assert {*rows} == {*damaged, "0001-good", "0002-good"}
    assert rows["0001-good"]["status"] == rows["0002-good"]["status"] == "ok"
    assert not rows["0001-good"]["problem"]
    assert all(r["problem"] for r in rows.values() if r["status"] != "ok")
    assert all(
        rows[name]["status"] != "ok"
        for name, file in damaged.items()
        if file.kind in ("no video at all", "almost empty")
    )
    seen = query(settings, "select video_id, count(*) n from frames group by all")
    assert {r["video_id"] for r in seen} == {v for v, r in rows.items() if r["status"] == "ok"}
    assert query(settings, "select count(*) n from video_quality")[0]["n"] == len(rows)
    assert stale(settings) == {}


@pytest.fixture
def two_films(settings: Settings) -> tuple[WarehouseResource, Path]:
    """A patient with two films; give the second one's file."""
    from benchmarks.damage import write_study

    write_study(settings.study, 0, patients=1)
    (good,) = (settings.study / "videos" / "0001").iterdir()
    second = good.with_name(f"0001-second{good.suffix}")
    shutil.copy(good, second)
    return WarehouseResource(study=str(settings.study), home=str(settings.home)), second


def statuses(settings: Settings) -> dict[str, str]:
    return {r["video_id"]: r["status"] for r in query(settings, "select video_id, status from videos")}


def update_videos(resource: WarehouseResource) -> None:
    study.update_videos(resource, "0001", Recording.NARRATIVE, log=lambda line: None)


def test_a_file_that_goes_away_before_it_is_read_is_one_row_and_is_read_when_it_is_back(
    settings: Settings, two_films: tuple[WarehouseResource, Path]
) -> None:
    resource, file = two_films
    content, when = file.read_bytes(), file.stat()
    resource.folder()  # the listing is read once a run
    file.unlink()
    update_videos(resource)
    assert statuses(settings) == {"0001-good": "ok", "0001-second": "unreadable"}
    # the drive is back, and the file is as it was: that must not look like nothing to do
    file.write_bytes(content)
    os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert "videos" in stale(settings)["0001"]
    update_videos(WarehouseResource(study=str(settings.study), home=str(settings.home)))
    assert statuses(settings) == {"0001-good": "ok", "0001-second": "ok"}
    assert query(settings, "select count(distinct sha256) n from videos") == [{"n": 1}]


def test_a_file_that_changes_before_it_is_decoded_gives_no_rows_under_the_old_hash(
    settings: Settings, two_films: tuple[WarehouseResource, Path]
) -> None:
    resource, file = two_films
    update_videos(resource)
    with file.open("ab") as more:
        more.write(bytes(100))
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("patients", ["0001"])
        done = (
            build_defs(settings)
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance,
                partition_key="0001",
                asset_selection=[AssetKey(n) for n in ("frames", "faces", "landmarks")],
            )
        )
    assert done.success
    assert statuses(settings) == {"0001-good": "ok", "0001-second": "unreadable"}
    assert query(settings, "select distinct video_id from frames") == [{"video_id": "0001-good"}]
    assert "videos" in stale(settings)["0001"]
    update_videos(WarehouseResource(study=str(settings.study), home=str(settings.home)))
    assert statuses(settings) == {"0001-good": "ok", "0001-second": "ok"}


def test_a_new_version_of_the_code_gives_a_file_that_failed_a_new_chance(
    settings: Settings, two_films: tuple[WarehouseResource, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from iss_assets.warehouse import verdicts

    resource, _ = two_films
    update_videos(resource)
    store = Warehouse(settings.warehouse_path, settings.warehouse)
    rows = {r["video_id"]: r for r in query(settings, "select * from videos")}
    failed = verdicts.Verdict(
        "0001-second",
        "0001",
        "picture",
        rows["0001-second"]["sha256"],
        verdicts.stage_versions(settings)["picture"],
        "unreadable",
        "died",
        "Reading it stopped the program twice; submit the video again.",
    )
    store.replace_all(verdicts.verdict_and_video_replacements(rows, [failed]))
    again = WarehouseResource(study=str(settings.study), home=str(settings.home))
    update_videos(again)
    assert statuses(settings) == {"0001-good": "ok", "0001-second": "unreadable"}
    assert "videos" not in stale(settings)["0001"]
    monkeypatch.setattr("iss_assets.media.visual.VISUAL_CODE_VERSION", "another")
    assert "videos" in stale(settings)["0001"]
    update_videos(again)
    assert statuses(settings) == {"0001-good": "ok", "0001-second": "ok"}
    assert query(settings, "select * from video_problems") == []


def test_a_person_can_have_files_that_failed_read_again(
    settings: Settings, two_films: tuple[WarehouseResource, Path]
) -> None:
    from iss_assets.warehouse import verdicts

    resource, _ = two_films
    update_videos(resource)
    store = Warehouse(settings.warehouse_path, settings.warehouse)
    rows = {r["video_id"]: r for r in query(settings, "select * from videos")}
    versions = verdicts.stage_versions(settings)
    hash_ = rows["0001-second"]["sha256"]
    failed = verdicts.Verdict(
        "0001-second", "0001", "picture", hash_, versions["picture"], "unreadable", "memory", "Too large."
    )
    store.replace_all(verdicts.verdict_and_video_replacements(rows, [failed]))
    assert verdicts.retry_failed_files(store, ["0002"]) == 0 and "videos" not in stale(settings)["0001"]
    assert verdicts.retry_failed_files(store) == 1 and "videos" in stale(settings)["0001"]
    update_videos(resource)
    assert statuses(settings) == {"0001-good": "ok", "0001-second": "ok"}
