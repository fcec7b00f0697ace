import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from iss_assets.export import export_tables, exportable_tables
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse import tables as t
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.sql_build import build_models
from iss_assets.warehouse.sql_models import load_models


@pytest.fixture
def study(warehouse: Warehouse) -> Warehouse:
    warehouse.replace(
        t.Patients,
        t.Patients.from_rows(
            [
                {
                    "patient_id": "0001",
                    "cohort": "1A",
                    "sex": "M",
                    "skin_type": "I",
                    "skin_group": "light",
                    "pain_target": 0,
                    "pain_level": "None",
                }
            ]
        ),
        {},
    )
    warehouse.replace(
        t.BpiScores,
        t.BpiScores.from_rows(
            [
                {
                    "submission_id": "s1",
                    "patient_id": "0001",
                    "submitted_at": datetime(2021, 3, 1, 9, 30, tzinfo=UTC),
                    "timeframe": "late AM",
                    "setting": "home",
                    "mood": 3,
                    "chronic_pain": True,
                    "missing_scores": 7,
                }
            ]
        ),
        {},
    )
    keys = {"video_id": "s1", "patient_id": "0001", "frame_index": 0, "fingerprint": "f"}
    box = {"x1": 0, "y1": 0, "x2": 9, "y2": 9, "probability": 1.0, "faces_seen": 1, "crop": b"picture"}
    warehouse.replace(t.Faces, t.Faces.from_rows([{**keys, **box}]), {})
    points = np.linspace(0, 1, 1404).tolist()
    warehouse.replace(t.Landmarks, t.Landmarks.from_rows([{**keys, "detected": True, "points": points}]), {})
    quality = {
        "video_id": "s1",
        "patient_id": "0001",
        "frames": 1,
        "measures": "{}",
        "flags": ["dark", "quiet"],
        "usable": True,
        "fingerprint": "f",
    }
    warehouse.replace(t.VideoQuality, t.VideoQuality.from_rows([quality]), {})
    return warehouse


def dictionary(folder: Path) -> dict:
    package = json.loads((folder / "datapackage.json").read_text())
    return {r["title"]: r for r in package["resources"]}


def test_csv_files_are_valid_against_their_own_data_dictionary(study: Warehouse, tmp_path: Path) -> None:
    import frictionless

    build_models(study, load_models(WarehouseSettings().sql_dir), ["study_summary"])
    tables = ["patients", "bpi_scores", "video_quality", "study_summary"]
    exported = export_tables(study, tables, "csv", tmp_path / "out")
    assert [(e.path.name, e.rows) for e in exported] == [(f"{n}.csv", 1) for n in tables]
    report = frictionless.validate(tmp_path / "out" / "datapackage.json")
    assert report.valid, report.flatten(["type", "note"])
    assert "2021-03-01T09:30:00" in (tmp_path / "out" / "bpi_scores.csv").read_text()


def test_the_dictionary_describes_columns_units_keys_and_relations(study: Warehouse, tmp_path: Path) -> None:
    export_tables(study, ["patients", "bpi_scores"], "csv", tmp_path)
    described = dictionary(tmp_path)
    fields = {f["name"]: f for f in described["patients"]["schema"]["fields"]}
    assert fields["pain_target"]["description"].startswith("Worst pain of the thirty days")
    assert fields["pain_target"]["type"] == "integer"
    assert fields["utc_offset_minutes"]["unit"] == "min"
    assert described["bpi_scores"]["schema"]["primaryKey"] == ["submission_id"]
    assert described["bpi_scores"]["schema"]["foreignKeys"] == [
        {"fields": ["patient_id"], "reference": {"resource": "patients", "fields": ["patient_id"]}}
    ]
    assert described["patients"]["rows"] == 1


def test_faces_leave_only_when_media_is_asked_for(study: Warehouse, tmp_path: Path) -> None:
    (without,) = export_tables(study, ["faces"], "parquet", tmp_path / "a")
    assert without.left_out == ("crop",)
    assert "crop" not in parquet.read_schema(without.path).names
    assert b"picture" not in without.path.read_bytes()
    assert "Not in this file: crop." in dictionary(tmp_path / "a")["faces"]["description"]
    (with_them,) = export_tables(study, ["faces"], "parquet", tmp_path / "b", with_media=True)
    assert parquet.read_table(with_them.path)["crop"].to_pylist() == [b"picture"]


def test_points_go_into_parquet_and_never_into_csv(study: Warehouse, tmp_path: Path) -> None:
    (packed,) = export_tables(study, ["landmarks"], "parquet", tmp_path)
    assert len(parquet.read_table(packed.path)["points"][0].as_py()) == 1404
    (plain,) = export_tables(study, ["landmarks"], "csv", tmp_path, with_media=True)
    assert plain.left_out == ("points",)
    assert "points" not in plain.path.read_text()


def test_lists_of_words_are_joined_in_csv(study: Warehouse, tmp_path: Path) -> None:
    (exported,) = export_tables(study, ["video_quality"], "csv", tmp_path)
    assert "dark;quiet" in exported.path.read_text()


def test_an_unknown_table_names_the_one_that_was_meant_and_writes_nothing(
    study: Warehouse, tmp_path: Path
) -> None:
    with pytest.raises(WarehouseError, match="did you mean patients"):
        export_tables(study, ["patient"], "csv", tmp_path / "out")
    with pytest.raises(WarehouseError, match="study_summary is not built yet"):
        export_tables(study, ["study_summary"], "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_scratch_is_left_and_only_the_owner_can_read(study: Warehouse, tmp_path: Path) -> None:
    export_tables(study, ["patients"], "parquet", tmp_path / "out")
    found = {p.name: oct(p.stat().st_mode & 0o777) for p in (tmp_path / "out").iterdir()}
    assert found == {"patients.parquet": "0o600", "datapackage.json": "0o600"}


def test_every_table_of_the_warehouse_can_be_exported_in_both_formats(
    study: Warehouse, tmp_path: Path
) -> None:
    import frictionless

    names = exportable_tables(study)
    assert set(t.BY_NAME) <= set(names)
    for format in ("parquet", "csv"):
        exported = export_tables(study, names, format, tmp_path / format, with_media=True)
        assert [e.path.exists() for e in exported] == [True] * len(names)
    report = frictionless.validate(tmp_path / "csv" / "datapackage.json")
    assert [task.name for task in report.tasks if not task.valid] == ["faces", "landmarks", "video-quality"]
