import importlib.util
import json
import shutil
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

import frictionless
import frictionless.resources
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from pandas._libs.parsers import STR_NA_VALUES

from iss_assets.schemas.intake import BpiScores, Patients, RejectedRows
from iss_assets.schemas.registry import BY_NAME
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.schemas.visual import Faces, Landmarks
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.export import PAIN_LEVEL_NONE, TAKEN_FOR_MISSING, export_tables, exportable_tables
from iss_assets.warehouse.sql.build import build_models
from iss_assets.warehouse.sql.models import load_models
from iss_assets_tests.times import time_columns


@pytest.fixture
def study(warehouse: Warehouse) -> Warehouse:
    warehouse.replace(
        Patients,
        Patients.from_rows(
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
        BpiScores,
        BpiScores.from_rows(
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
    warehouse.replace(Faces, Faces.from_rows([{**keys, **box}]), {})
    points = np.linspace(0, 1, 1404).tolist()
    warehouse.replace(Landmarks, Landmarks.from_rows([{**keys, "detected": True, "points": points}]), {})
    quality = {
        "video_id": "s1",
        "patient_id": "0001",
        "frames": 1,
        "measures": "{}",
        "flags": ["dark", "quiet"],
        "usable": True,
        "fingerprint": "f",
    }
    warehouse.replace(VideoQuality, VideoQuality.from_rows([quality]), {})
    return warehouse


def dictionary(folder: Path) -> dict:
    package = json.loads((folder / "datapackage.json").read_text())
    return {r["title"]: r for r in package["resources"]}


def test_csv_files_are_valid_against_their_own_data_dictionary(study: Warehouse, tmp_path: Path) -> None:
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


def test_a_model_of_an_earlier_version_is_reported_with_what_to_do_and_writes_nothing(
    study: Warehouse, tmp_path: Path
) -> None:
    models = load_models(study.settings.sql_dir)
    build_models(study, models, ["study_summary"])
    with study.write() as writer:
        writer.execute("alter table study_summary drop column skin_dark")
    with pytest.raises(
        WarehouseError, match=r"study_summary was made by an earlier version and lacks skin_dark.*iss run"
    ):
        export_tables(study, ["patients", "study_summary"], "csv", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_no_scratch_is_left_and_only_the_owner_can_read(study: Warehouse, tmp_path: Path) -> None:
    export_tables(study, ["patients"], "parquet", tmp_path / "out")
    found = {p.name: oct(p.stat().st_mode & 0o777) for p in (tmp_path / "out").iterdir()}
    assert found == {"patients.parquet": "0o600", "datapackage.json": "0o600"}


def test_every_table_of_the_warehouse_can_be_exported_in_both_formats(
    study: Warehouse, tmp_path: Path
) -> None:
    names = exportable_tables(study)
    assert set(BY_NAME) <= set(names)
    for format in ("parquet", "csv"):
        exported = export_tables(study, names, format, tmp_path / format, with_media=True)
        assert [e.path.exists() for e in exported] == [True] * len(names)
    report = frictionless.validate(tmp_path / "csv" / "datapackage.json")
    assert [task.name for task in report.tasks if not task.valid] == ["faces", "landmarks", "video-quality"]


# ------------------------------------------------------------------ what other programs read


HOSTILE = ["=1+1", "+49", "-3", "@sum(a1)", "\tx", 'say "hi", twice', "two\nlines", "naïve – 7 %", "plain"]


@pytest.fixture
def four_levels(warehouse: Warehouse) -> Warehouse:
    """Patients of every level, with numbers for ids, an answer missing, and a name that only text can hold."""
    people, scores = [], []
    for number, (level, target) in enumerate([("None", 0), ("Low", 2), ("Moderate", 5), ("Severe", 8)]):
        people.append(
            {
                "patient_id": f"{number + 7:04d}",
                "cohort": f"{number + 1}A",
                "sex": "M",
                "skin_type": "I",
                "skin_group": "light",
                "pain_target": target,
                "pain_level": level,
                "enrolled_on": date(2021, 1, 11 + number),
            }
        )
        scores.append(
            {
                "submission_id": f"{number:03d}",
                "patient_id": f"{number + 7:04d}",
                **time_columns(datetime(2021, 1, 12, 4, 30, number, 250000, tzinfo=UTC), -300),
                "chronic_pain": [True, False, None, True][number],
                "mood": [3, None, 0, 10][number],
                "missing_scores": 7,
            }
        )
    warehouse.replace(Patients, Patients.from_rows(people), {})
    warehouse.replace(BpiScores, BpiScores.from_rows(scores), {})
    rejected = [
        {"file": "surveys.csv", "line": i, "column_name": "", "code": "bad_id", "reason": text}
        for i, text in enumerate([*HOSTILE, *TAKEN_FOR_MISSING])
    ]
    warehouse.replace(RejectedRows, RejectedRows.from_rows(rejected), {})
    return warehouse


def test_the_pain_level_none_is_no_missing_value_for_pandas(four_levels: Warehouse, tmp_path: Path) -> None:
    export_tables(four_levels, ["patients"], "csv", tmp_path)
    read = pd.read_csv(tmp_path / "patients.csv")
    assert read["pain_level"].tolist() == [PAIN_LEVEL_NONE, "Low", "Moderate", "Severe"]
    assert PAIN_LEVEL_NONE in dictionary_text(tmp_path)


def dictionary_text(folder: Path) -> str:
    return json.loads((folder / "datapackage.json").read_text())["description"]


def test_no_text_is_read_as_missing_or_as_a_formula(four_levels: Warehouse, tmp_path: Path) -> None:
    assert set(TAKEN_FOR_MISSING) == STR_NA_VALUES - {""}
    export_tables(four_levels, ["rejected_rows"], "csv", tmp_path)
    read = pd.read_csv(tmp_path / "rejected_rows.csv").sort_values("line")["reason"].tolist()
    assert not any(pd.isna(v) for v in read)
    assert not any(v[0] in "=+-@\t\r\n" for v in read)
    # text that is neither comes back as it is, whatever it holds
    assert read[5 : len(HOSTILE)] == HOSTILE[5:]
    assert read[: len(HOSTILE)] == ["'" + v for v in HOSTILE[:5]] + HOSTILE[5:]
    assert len(set(read)) == len(read)


def test_a_csv_file_has_a_byte_order_mark_only_where_excel_needs_it(
    four_levels: Warehouse, tmp_path: Path
) -> None:
    export_tables(four_levels, ["rejected_rows", "patients"], "csv", tmp_path)
    accented, plain = ((tmp_path / f"{n}.csv").read_bytes() for n in ("rejected_rows", "patients"))
    assert accented.startswith(b"\xef\xbb\xbffile,")
    # some readers would make it part of the column's name
    assert plain.startswith(b"patient_id,")
    described = dictionary(tmp_path)
    assert (described["rejected_rows"]["encoding"], described["patients"]["encoding"]) == (
        "utf-8-sig",
        "utf-8",
    )


def rows_of(package: frictionless.Package, name: str) -> list[frictionless.Row]:
    resource = package.get_resource(name)
    assert isinstance(resource, frictionless.resources.TableResource)
    return resource.read_rows()


def test_ids_dates_moments_and_answers_come_back_from_csv_with_the_types_of_the_dictionary(
    four_levels: Warehouse, tmp_path: Path
) -> None:
    export_tables(four_levels, ["patients", "bpi_scores", "rejected_rows"], "csv", tmp_path)
    report = frictionless.validate(tmp_path / "datapackage.json")
    assert report.valid, report.flatten(["type", "note"])
    package = frictionless.Package(tmp_path / "datapackage.json")
    people = rows_of(package, "patients")
    assert [r["patient_id"] for r in people] == ["0007", "0008", "0009", "0010"]
    assert [r["enrolled_on"] for r in people] == [date(2021, 1, day) for day in (11, 12, 13, 14)]
    scores = rows_of(package, "bpi-scores")
    stored = four_levels.query("select * from bpi_scores order by submission_id").to_pylist()
    for name in ("submission_id", "submitted_at", "written_time", "submitted_on", "chronic_pain", "mood"):
        assert [r[name] for r in scores] == [r[name] for r in stored], name
    # the same in pandas, with ids named as text
    read = pd.read_csv(
        tmp_path / "bpi_scores.csv",
        dtype={"submission_id": str, "patient_id": str},
        parse_dates=["submitted_at", "written_time", "submitted_on"],
    )
    assert read["submission_id"].tolist() == ["000", "001", "002", "003"]
    assert [m.to_pydatetime() for m in read["submitted_at"]] == [r["submitted_at"] for r in stored]
    assert [m.to_pydatetime() for m in read["written_time"]] == [r["written_time"] for r in stored]
    assert [None if pd.isna(v) else v for v in read["chronic_pain"]] == [True, False, None, True]
    # R reads true and false as text, and TRUE and FALSE as logical values
    written = (tmp_path / "bpi_scores.csv").read_text()
    assert written.count(",TRUE,") == 2
    assert written.count(",FALSE,") == 1


def test_parquet_keeps_every_type_and_moments_in_utc(four_levels: Warehouse, tmp_path: Path) -> None:
    export_tables(four_levels, ["patients", "bpi_scores"], "parquet", tmp_path)
    people, scores = (parquet.read_table(tmp_path / f"{n}.parquet") for n in ("patients", "bpi_scores"))
    assert people["pain_level"].to_pylist() == ["None", "Low", "Moderate", "Severe"]
    assert people["patient_id"].to_pylist()[0] == "0007"
    kinds = {f.name: f.type for f in scores.schema}
    assert (kinds["submitted_at"], kinds["written_time"]) == (pa.timestamp("us", "UTC"), pa.timestamp("us"))
    assert (kinds["submitted_on"], kinds["chronic_pain"], kinds["mood"]) == (
        pa.date32(),
        pa.bool_(),
        pa.int32(),
    )
    assert scores["submitted_at"][0].as_py() == datetime(2021, 1, 12, 4, 30, 0, 250000, tzinfo=UTC)


def test_the_script_beside_the_files_reads_every_value_with_its_type(
    four_levels: Warehouse, tmp_path: Path
) -> None:
    export_tables(four_levels, ["patients", "bpi_scores", "rejected_rows"], "csv", tmp_path)
    spec = importlib.util.spec_from_file_location("read_export", tmp_path / "read_export.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tables = module.read_export(tmp_path)
    for name, read in tables.items():
        key = BY_NAME[name].__key__
        stored = four_levels.query(f"select * from {name} order by {', '.join(key)}").to_pylist()
        assert list(read.columns) == list(stored[0])
        for column in read.columns:
            if name == "rejected_rows" and column == "reason":
                continue  # what is written otherwise is tested above
            found = [
                None if pd.isna(v) else v.to_pydatetime() if isinstance(v, pd.Timestamp) else v
                for v in read[column]
            ]
            if BY_NAME[name].arrow_schema().field(column).type == pa.date32():
                found = [None if v is None else v.date() for v in found]
            # an empty cell is a missing value, also where text was empty
            assert found == [None if r[column] == "" else r[column] for r in stored], (name, column)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_the_script_beside_the_files_reads_them_in_r(four_levels: Warehouse, tmp_path: Path) -> None:
    with four_levels.write() as writer:
        writer.execute("update patients set sex = 'F'")
    export_tables(four_levels, ["patients", "bpi_scores", "rejected_rows"], "csv", tmp_path)
    code = (
        "source('read_export.R'); t <- read_export(); p <- t$patients; b <- t$bpi_scores;"
        "stopifnot(p$patient_id == c('0007', '0008', '0009', '0010'), p$sex == 'F', p$pain_level[1] == 'None',"
        "inherits(p$enrolled_on, 'Date'), format(p$enrolled_on[1]) == '2021-01-11',"
        "identical(b$chronic_pain, c(TRUE, FALSE, NA, TRUE)), identical(b$mood, c(3, NA, 0, 10)),"
        "format(b$submitted_at[1], '%Y-%m-%d %H:%M:%S') == '2021-01-12 04:30:00', !is.na(t$rejected_rows$reason))"
    )
    done = subprocess.run(["Rscript", "-e", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
