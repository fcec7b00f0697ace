"""Schema checks on stored rows: every fault at once, with keys and counts, and no values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iss_assets.checks.schema import find_stored_faults, read_stored
from iss_assets.checks.stages import STAGES
from iss_assets.protocol.catalogue import CATALOGUE, SCHEMA, schema_check
from iss_assets.schemas.registry import BY_NAME
from iss_assets_tests.checks.conftest import GOOD, OTHER, InventedStudy


def faults(study: InventedStudy, table: str, patient: str = GOOD) -> dict[tuple[str | None, str], Any]:
    found = study.finding(table, SCHEMA, patient)
    return {(f["column"], f["check"].split("(")[0]): f for f in found.numbers["list of faults"]}


@pytest.mark.parametrize("table", [t for s in STAGES for t in s.tables])
def test_rows_that_fit_pass(study: InventedStudy, table: str) -> None:
    assert study.finding(table, SCHEMA).passed


def test_every_fault_is_listed_at_once_with_counts_and_keys(study: InventedStudy) -> None:
    study.sql(
        "update bpi_scores set mood = 99 where submission_id in ('0001-00', '0001-02')",
        "update bpi_scores set timeframe = 'noon' where submission_id = '0001-04'",
        "insert into bpi_scores select * from bpi_scores where submission_id = '0001-07'",
    )
    found = faults(study, "bpi_scores")
    assert found[("mood", "less_than_or_equal_to")]["rows"] == 2
    assert found[("mood", "less_than_or_equal_to")]["examples"] == ["0001-00", "0001-02"]
    assert ("timeframe", "isin") in found
    assert found[(None, "key submission_id repeats")]["examples"] == ["0001-07"]
    assert faults(study, "bpi_scores", OTHER) == {}


def test_values_are_never_quoted(study: InventedStudy) -> None:
    study.sql(
        "update bpi_scores set setting = 'Maria Example', submission_id = 'Maria Example' "
        "where submission_id = '0001-00'"
    )
    found = study.finding("bpi_scores", SCHEMA)
    assert not found.passed
    assert "Maria" not in str(found)
    assert "(not an id)" in str(found.numbers)


def test_rows_without_their_video_or_patient_are_found(study: InventedStudy) -> None:
    study.sql(
        "delete from videos where video_id = '0001-00'", "delete from patients where patient_id = '0002'"
    )
    assert faults(study, "frames")[("video_id", "is not in videos")]["rows"] == 160
    assert faults(study, "videos", OTHER)[("patient_id", "is not in patients")]["rows"] == 8


def test_packed_columns_are_checked_for_nulls_without_being_read(study: InventedStudy) -> None:
    study.sql(
        "create or replace table faces as select * replace (case when frame_index > 0 then crop end as crop) from faces"
    )
    assert faults(study, "faces")[("crop", "is empty")]["rows"] == 8


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("alter table frames drop column noise", ("noise", "column is missing")),
        ("alter table frames add column mask varchar", ("mask", "column is not in the model")),
        ("alter table frames alter noise type double", ("noise", "type is DOUBLE, not FLOAT")),
        ("alter table faces alter crop type varchar using 'x'", ("crop", "type is VARCHAR, not BLOB")),
        ("alter table faces drop column crop", ("crop", "column is missing")),
    ],
)
def test_columns_and_types_of_the_file_are_compared_with_the_model(
    study: InventedStudy, change: str, fault: tuple[str, str]
) -> None:
    table = BY_NAME[change.split()[2]]
    with study.warehouse.write() as writer:
        writer.execute(change)
        found = find_stored_faults(table, read_stored(writer._connection, table, {"patient_id": GOOD}))
    assert [(f["column"], f["check"]) for f in found.numbers["list of faults"]] == [fault]


def test_only_tables_that_much_hangs_on_block() -> None:
    assert schema_check("videos").blocking
    assert not schema_check("video_quality").blocking
    assert schema_check("videos").severity == "ERROR"


def test_the_page_on_checks_lists_every_check_as_the_catalogue_has_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "checks.md").read_text()
    for check in CATALOGUE:
        assert f"| `{check.name}` | {check.title}" in page
        assert check.advise("0012") in page
