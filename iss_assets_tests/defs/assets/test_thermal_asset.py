"""The table ``thermal`` in a real run: what it holds, what makes it stale, and what one bad picture costs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from iss_assets.checks.stages import STAGES
from iss_assets.defs.assets import extraction, study, thermal
from iss_assets.defs.checks.factory import make_checks
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.inventory import sha256_of
from iss_assets.intake.withdrawn import Scope, with_key, write_withdrawn
from iss_assets.media import thermal as reader
from iss_assets.media.journal import Journal, Reading
from iss_assets.pipeline.staleness import stale_patients
from iss_assets.privacy.register import open_study
from iss_assets.privacy.study_files import find_study_files
from iss_assets.privacy.traces import Traces
from iss_assets.privacy.withdrawn_rows import traces_in
from iss_assets.settings import ReadingSettings, Settings, ThermalSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER
from iss_assets_tests.media.flir import Camera, head, jpeg, thermal_jpeg
from iss_assets_tests.media.test_thermal import film

TAKEN = datetime(2021, 1, 13, 1, 5, 0, tzinfo=UTC)
STAGE = next(stage for stage in STAGES if stage.name == "check_thermal")


@pytest.fixture
def submitted(settings: Settings) -> Settings:
    """One patient: two recorded submissions with thermal pictures, and one of whom there is only a survey."""
    folder = settings.study / "videos" / "0001"
    folder.mkdir(parents=True)
    (settings.study / "enrollment.csv").write_text(f"{ENROLLMENT_HEADER}\n0001,1A,M,II,0,2021-01-04,-05:00\n")
    surveys = [f"{name},0001,2021-01-12T20:05:00-05:00,clinic,0,no,0,0,0,0,0,0,0" for name in "abc"]
    (settings.study / "surveys.csv").write_text("\n".join([SURVEY_HEADER, *surveys, ""]))
    film(folder / "a.mov", com__apple__quicktime__creationdate="2021-01-12T20:05:00-0500")
    film(folder / "b.mp4")
    put(
        settings,
        "a",
        thermal_jpeg(head(forehead=34.2, nose=29.0), Camera(taken_at=TAKEN + timedelta(seconds=0.31))),
    )
    put(settings, "b", thermal_jpeg(head(forehead=26.0)))
    put(settings, "c", jpeg(None))
    return settings


def put(settings: Settings, name: str, content: bytes) -> Path:
    path = settings.study / "videos" / "0001" / f"{name}_thermal.jpg"
    path.write_bytes(content)
    return path


FROM_VIDEOS = ("patients", "videos", "frames", "faces", "landmarks")


def run(
    settings: Settings, *, seen: bool = False, only: Sequence[str] = (*FROM_VIDEOS, "thermal")
) -> dict[str, dg.AssetCheckEvaluation]:
    """Make the table and check it, after those of the videos if none has been `seen`; return the checks by name."""
    resources = {"warehouse": WarehouseResource(study=str(settings.study), home=str(settings.home))}
    assets = [
        study.patients,
        *study.video_assets(settings),
        *extraction.extraction_assets(settings),
        *thermal.thermal_assets(settings),
        make_checks(STAGE),
    ]
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(patients_partitions.name or "", ["0001"])
        done = dg.materialize(
            assets,
            partition_key="0001",
            instance=instance,
            resources=resources,
            selection=["thermal"] if seen else list(only),
        )
        assert done.success
        return {
            e.check_name: e for e in done.get_asset_check_evaluations() if e.asset_key.path == ["thermal"]
        }


def rows(settings: Settings) -> dict[str, Mapping[str, Any]]:
    found = (
        Warehouse(settings.warehouse_path).query("select * from thermal order by submission_id").to_pylist()
    )
    return {row["submission_id"]: row for row in found}


def is_stale(settings: Settings) -> bool:
    return "thermal" in stale_patients(open_study(settings), settings).get("0001", [])


def test_pictures_are_measured_paired_and_checked_and_a_bad_one_costs_itself(submitted: Settings) -> None:
    checks = run(submitted)
    found = rows(submitted)
    assert {i: (r["status"], r["pairing"], r["paired_frame"]) for i, r in found.items()} == {
        "a": ("ok", "clocks", 3),
        "b": ("ok", "no_time_in_video", None),
        "c": ("unreadable", None, None),
    }
    assert found["a"]["forehead_c"] == pytest.approx(34.2, abs=0.05)
    assert found["a"]["nose_c"] == pytest.approx(29.0, abs=0.05)
    assert found["a"]["pair_gap_s"] == pytest.approx(0.01, abs=1e-3)
    assert found["a"]["taken_at"] == TAKEN + timedelta(seconds=0.31)
    assert "ordinary photograph" in found["c"]["problem"] and found["c"]["forehead_c"] is None
    assert found["c"]["sha256"] == sha256_of(submitted.study / "videos/0001/c_thermal.jpg")

    unreadable, skin = checks["thermal_unreadable"], checks["skin_temperature"]
    assert not unreadable.passed and unreadable.metadata["ids"].value == ["c"]
    assert not skin.passed and skin.metadata["ids"].value == ["b"]
    assert skin.metadata["forehead_in_degrees"].value == {"b": 26.0}
    assert checks["schema"].passed

    put(submitted, "b", thermal_jpeg(head()))
    put(submitted, "c", thermal_jpeg(head()))
    assert is_stale(submitted)
    mended = run(submitted, seen=True)
    assert all(check.passed for check in mended.values())
    assert rows(submitted)["c"]["pairing"] == "no_video"


def test_what_a_picture_is_made_from_makes_it_stale_and_nothing_else(
    submitted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(submitted)
    assert not is_stale(submitted)
    assert is_stale(submitted.model_copy(update={"thermal": ThermalSettings(emissivity=0.97)}))
    assert not is_stale(submitted.model_copy(update={"thermal": ThermalSettings(enabled=False)}))
    with monkeypatch.context() as other:
        other.setattr(reader, "flyr_version", lambda: None)
        assert is_stale(submitted)
        # without the extra, the rows say what is missing, and are measured once it is there
        run(submitted, seen=True)
        assert {r["status"] for r in rows(submitted).values()} == {"not_read"}
        assert "pip install 'iss-assets[thermal]'" in rows(submitted)["a"]["problem"]
    assert is_stale(submitted)
    run(submitted, seen=True)
    for name in "abc":
        (submitted.study / "videos" / "0001" / f"{name}_thermal.jpg").unlink()
    assert is_stale(submitted)
    run(submitted, seen=True)
    assert rows(submitted) == {} and not is_stale(submitted)


def test_a_picture_waits_for_the_frames_that_it_is_paired_with(submitted: Settings) -> None:
    run(submitted)
    before = rows(submitted)
    film(
        submitted.study / "videos" / "0001" / "a.mov",
        com__apple__quicktime__creationdate="2021-01-12T20:05:00.200-0500",
    )
    with pytest.raises(dg.Failure, match="materialize frames first") as caught:
        run(submitted, only=["videos", "thermal"])
    assert caught.value.metadata["videos"].value == ["a"]
    assert rows(submitted) == before and is_stale(submitted)
    run(submitted)
    assert rows(submitted)["a"]["paired_frame"] == 1 and not is_stale(submitted)


def test_switched_off_rows_stay_until_their_pictures_are_removed(
    submitted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(submitted)
    off = submitted.model_copy(update={"thermal": ThermalSettings(enabled=False)})
    kept = rows(submitted)
    path = submitted.study / "videos" / "0001" / "a_thermal.jpg"
    path.rename(submitted.study / "a.jpg")
    assert is_stale(off)
    with monkeypatch.context() as switched:
        switched.setenv("ISS_THERMAL__ENABLED", "false")
        run(submitted, only=["videos"])
    assert rows(submitted) == {name: kept[name] for name in "bc"}
    assert not is_stale(off)
    # as it was, to the last nanosecond
    (submitted.study / "a.jpg").rename(path)
    assert is_stale(submitted)
    run(submitted, seen=True)
    assert rows(submitted) == kept


def test_a_study_without_thermal_pictures_needs_no_run_for_them(submitted: Settings) -> None:
    for path in (submitted.study / "videos" / "0001").glob("*_thermal.jpg"):
        path.unlink()
    assert not is_stale(submitted)


def test_switched_off_there_is_neither_asset_nor_check(settings: Settings) -> None:
    off = settings.model_copy(update={"thermal": ThermalSettings(enabled=False)})
    assert thermal.thermal_assets(off) == [] and not STAGE.enabled(off)
    assert len(thermal.thermal_assets(settings)) == 1 and STAGE.enabled(settings)


def measure_and_tell(path: Path, settings: ThermalSettings) -> dict[str, Any]:
    """Measure a picture, and leave the number of the process that did beside the study."""
    (path.parents[3] / f"{path.stem}.pid").write_text(str(os.getpid()))
    return MEASURE(path, settings)


MEASURE = reader.measure_thermal


def test_a_picture_that_killed_a_process_is_read_in_another_one(
    submitted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = submitted.study / "videos" / "0001" / "a_thermal.jpg"
    journal = Journal(submitted.journal_dir)
    monkeypatch.setattr(reader, "measure_thermal", measure_and_tell)
    run(submitted)
    assert int((submitted.study.parent / "a_thermal.pid").read_text()) == os.getpid()

    with journal.entry(Reading("0001", "a_thermal", "thermal", sha256_of(path), 60.0)) as entry:
        # as after the death of a process in the middle of reading
        entry.keep = True
    run(submitted, seen=True)
    assert rows(submitted)["a"]["status"] == "ok"
    assert int((submitted.study.parent / "a_thermal.pid").read_text()) != os.getpid()
    assert journal.suspects("0001") == []


def test_a_suspect_is_forgotten_with_its_own_file_and_not_when_videos_are_listed(submitted: Settings) -> None:
    journal = Journal(submitted.journal_dir)
    with journal.entry(Reading("0001", "a_thermal", "thermal", "the hash of this file", 60.0)) as entry:
        # as after the death of a process in the middle of reading
        entry.keep = True
    journal.forget("0001", {"a": "the hash of a video"})
    assert [s.video_id for s in journal.suspects("0001")] == ["a_thermal"]
    journal.forget("0001", {"a_thermal": "the hash of this file"}, stage="thermal")
    assert len(journal.suspects("0001")) == 1
    journal.forget("0001", {"a_thermal": "the hash of another file"}, stage="thermal")
    assert journal.suspects("0001") == []


def test_a_withdrawn_picture_is_refused_under_another_name(submitted: Settings) -> None:
    path = submitted.study / "videos" / "0001" / "a_thermal.jpg"
    register = with_key(submitted.home).adding("0002", Scope.ALL, [], [sha256_of(path)])
    write_withdrawn(submitted.home, register)
    run(submitted)
    assert rows(submitted)["a"]["status"] == "unreadable"
    assert "withdrawn under another name" in rows(submitted)["a"]["problem"]


def test_withdrawal_finds_the_picture_as_a_file_by_its_submission_and_by_its_content(
    submitted: Settings,
) -> None:
    run(submitted)
    traces = traces_in(Warehouse(submitted.warehouse_path), "0001")
    assert set(traces.submissions) == {"a", "b", "c"}
    assert sha256_of(submitted.study / "videos/0001/a_thermal.jpg") in traces.files
    elsewhere = submitted.study / "videos" / "0002"
    elsewhere.mkdir()
    (elsewhere / "a_thermal.jpg").write_bytes(b"in the wrong folder")
    (elsewhere / "z_thermal.jpg").write_bytes(b"of somebody else")
    found = find_study_files(submitted.study, Traces("0001", ("a", "b", "c"), (), ()), ReadingSettings())
    assert "videos/0001/a_thermal.jpg" in found.files and "videos/0002/a_thermal.jpg" in found.files
    assert "videos/0002/z_thermal.jpg" not in found.files
