"""Whatever is unusual about a file ends in `videos.problem` and on the quality page, at whatever stage it is found."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
import pytest

from iss_assets.defs.assets import extraction, study
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.reports.quality_report import quality_report
from iss_assets.schemas.visual import Frames
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Replacement, Warehouse, WarehouseError
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER
from iss_assets_tests.media.clocks import frames, write_marked

OPENING, PICTURES, SOUND = "before the first picture", "timed by their order", "filled with silence"
"""What opening the file shows, what decoding its pictures shows, what decoding its sound shows."""


@pytest.fixture
def submitted(settings: Settings) -> Settings:
    """One patient with an ordinary video and three unusual ones, read once."""
    folder = settings.study / "videos" / "0001"
    folder.mkdir(parents=True)
    (settings.study / "enrollment.csv").write_text(f"{ENROLLMENT_HEADER}\n0001,1A,M,II,0,2021-01-04,-05:00\n")
    (settings.study / "surveys.csv").write_text(f"{SURVEY_HEADER}\n")
    write_marked(folder / "a.mkv", frames(0, 2), [(0, 2, 0)])
    write_marked(folder / "b.mkv", frames(1, 3), [(0, 3, 0)])
    write_marked(folder / "c.avi", [(n, n / 15) for n in range(30)], [(0, 2, 0)], fps=15)
    write_marked(folder / "d.mkv", frames(1, 4), [(0, 2, 0), (3, 4, 3)])
    read(settings)
    return settings


def read(settings: Settings) -> None:
    """Make the tables of what was submitted, seen and heard."""
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(patients_partitions.name or "", ["0001"])
        assets = [study.patients, *study.video_assets(settings), *extraction.extraction_assets(settings)]
        resources = {"warehouse": WarehouseResource(study=str(settings.study), home=str(settings.home))}
        assert dg.materialize(assets, partition_key="0001", instance=instance, resources=resources).success


def warehouse_of(settings: Settings) -> Warehouse:
    return Warehouse(settings.warehouse_path, settings.warehouse)


def problems(settings: Settings) -> dict[str, str | None]:
    rows = warehouse_of(settings).query("select video_id, problem from videos").to_pylist()
    return {row["video_id"]: row["problem"] for row in rows}


def execute(settings: Settings, sql: str) -> None:
    with warehouse_of(settings).write() as writer:
        writer.execute(sql)


def test_problems_of_every_stage_are_kept_reported_and_found_again(
    submitted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = problems(submitted)
    assert first["a"] is None
    assert first["b"] == "1.0 s of sound before the first picture were left out."
    assert PICTURES in str(first["c"]) and OPENING not in str(first["c"])
    assert OPENING in str(first["d"]) and SOUND in str(first["d"])

    details = {v: text for item in quality_report(warehouse_of(submitted)).items for v, text in item.details}
    assert {v: p for v, p in first.items() if p} == details

    # a file comes, and the code for sound is new: what was seen is not looked at again
    folder = submitted.study / "videos" / "0001"
    write_marked(folder / "e.mkv", frames(0, 2), [(0, 2, 0)])
    execute(submitted, "update extractions set fingerprint = 'old' where table_name = 'audio'")
    read(submitted)
    assert problems(submitted) == {**first, "e": None}

    # the code that opens files is new
    execute(submitted, "update extractions set fingerprint = 'old' where table_name = 'videos'")
    read(submitted)
    assert problems(submitted) == {**first, "e": None}

    # a home of a version that knew nothing of this, and a run that dies before it stores what it has seen
    execute(submitted, "update videos set problem = null, file_problem = null")
    execute(submitted, "update extractions set fingerprint = 'old', problem = null")
    stores = Warehouse.replace_all

    def dies(warehouse: Warehouse, replacements: Sequence[Replacement]) -> list[int]:
        if any(r.table is Frames for r in replacements):
            raise WarehouseError("the disk is full")
        return stores(warehouse, replacements)

    with monkeypatch.context() as broken:
        broken.setattr(Warehouse, "replace_all", dies)
        with pytest.raises(WarehouseError):
            read(submitted)
    write_marked(folder / "d.mkv", frames(0, 2), [(0, 2, 0)])  # another file under the same name
    read(submitted)
    assert problems(submitted) == {**first, "d": None, "e": None}
