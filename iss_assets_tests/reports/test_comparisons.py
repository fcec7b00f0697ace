"""A patient's page compares the narrative with the reading of Question 10, and faces with that of the first video."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from iss_assets.reports.comparisons import (
    Comparisons,
    beside_first_face,
    beside_readings,
    read_comparisons,
)
from iss_assets.reports.patient_report import write_patient_report
from iss_assets.settings import QualitySettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.reports.test_study_report import Page, patient

DAY = datetime(2021, 3, 1, 9)


@pytest.fixture
def store(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


def put_models(store: Warehouse) -> None:
    """Write both models as SQL makes them: two check-ins of 0007 with a text read, one without, and one of another patient."""
    with store.write() as writer:
        writer.execute(
            "create table reference_differences as select * from (values "
            "('0007', 'a', 'voice', 'f0_median_hz', 118.0, 121.5, -3.5, true), "
            "('0007', 'b', 'voice', 'f0_median_hz', 110.0, 115.5, -5.5, true), "
            "('0007', 'c', 'voice', 'f0_median_hz', 300.0, 100.0, 200.0, false), "
            "('0007', 'a', 'voice', 'speech_rate', 3.25, 4.0, -0.75, true), "
            "('0007', 'a', 'behavior', 'still_share', 0.5, 0.5, 0.0, true), "
            "('0007', 'a', 'text', 'words', 90.0, 40.0, 50.0, true), "
            "('0007', 'a', 'text', 'pain_word_share', 0.03, 0.0, 0.03, true), "
            "('0008', 'x', 'voice', 'f0_median_hz', 250.0, 200.0, 50.0, true)) "
            "t (patient_id, video_id, feature, measure, narrative, reading, difference, read)"
        )
        writer.execute(
            "create table face_distances as select * from (values "
            "('0007', 'a', 'b', 'sface', 0.21), ('0007', 'a', 'c', 'sface', 0.88), ('0007', 'b', 'c', 'sface', 0.9), "
            "('0008', 'x', 'y', 'sface', 0.1)) t (patient_id, video_id, other_video_id, method, distance)"
        )


def read(store: Warehouse, patient_id: str) -> Comparisons:
    with store.read() as connection:
        return read_comparisons(connection, patient_id)


def test_the_table_shows_medians_of_check_ins_in_which_a_text_was_read_with_unit_and_sign(
    store: Warehouse,
) -> None:
    put_models(store)
    table = beside_readings(read(store, "0007").readings)
    assert table is not None
    shown = {row[0].text: ([cell.text for cell in row[1:]], row[0].small) for row in table.rows}
    assert shown == {
        "Head still": (["0.500", "0.500", "0.000", "1"], "share of the time"),
        "Pitch": (["114", "118", "−4", "2"], "median, Hz"),
        "Pace": (["3.25", "4.00", "−0.75", "1"], "syllables per second"),
        "Pain words": (["0.030", "0.000", "+0.030", "1"], "share of all words"),
    }, "how many words were said grows with the length of a video"


def test_without_the_models_or_without_a_reading_there_is_no_table(store: Warehouse) -> None:
    assert read(store, "0007") == Comparisons(None, None)
    assert beside_readings(None) is None
    put_models(store)
    assert beside_readings(read(store, "0009").readings) is None


def faces(when: dict[str, datetime], *pairs: tuple[str, str, float]) -> Any:
    rows = [dict(zip(("video_id", "other_video_id", "distance"), p, strict=True)) for p in pairs]
    return beside_first_face(pd.DataFrame(rows).assign(method="sface"), when, QualitySettings())


def test_faces_are_compared_with_the_first_video_in_time_and_the_limit_is_dashed_where_it_belongs() -> None:
    # the ids are in another order than the days
    when = {"c": DAY, "a": DAY + timedelta(days=2), "b": DAY + timedelta(days=5)}
    title, svg = faces(when, ("a", "b", 0.9), ("a", "c", 0.2), ("b", "c", 0.8))
    assert title == "Distance to the face of the first video"
    assert re.findall(r"<title>([^<]+)</title>", svg)[-2:] == ["2021-03-03: 0.2", "2021-03-06: 0.8"]
    assert "2 values between 0.2 and 0.8" in svg and "The limit is 0.7." in svg
    dashed = float(re.search(r'y1="([\d.]+)"[^>]+class="half"', svg)[1])  # type: ignore[index]  # it is there
    low, high = (float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', svg))
    assert dashed == pytest.approx(low + (0.7 - 0.2) / (0.8 - 0.2) * (high - low), abs=0.2)


def test_a_video_without_a_questionnaire_has_no_place_in_time_and_one_video_nothing_to_be_compared_with() -> (
    None
):
    assert faces({"a": DAY}, ("a", "b", 0.9)) is None
    assert beside_first_face(None, {"a": DAY}, QualitySettings()) is None
    assert faces({"a": DAY, "c": DAY + timedelta(days=1)}, ("a", "b", 0.9), ("a", "c", 0.3)) is not None


def test_the_page_has_both_where_there_is_something_to_compare_and_neither_heading_otherwise(
    study: SimpleNamespace, tmp_path: Path
) -> None:
    rows = study.scores.to_pandas()
    first, second, *_ = rows[rows["patient_id"] == "0007"]["submission_id"]
    found = Comparisons(
        pd.DataFrame([{"feature": "voice", "measure": "hnr_db", "narrative": 12.5, "reading": 14.0, "difference": -1.5, "n": 3}]),
        pd.DataFrame([{"video_id": first, "other_video_id": second, "method": "sface", "distance": 0.25}]),
    )  # fmt: skip
    page = Page(
        write_patient_report(patient(study, "0007", comparisons=found), tmp_path / "p.html").read_text()
    )
    assert (
        "Narrative and reading" in page.text and "Clearness of the voice" in page.text and "−1.5" in page.text
    )
    assert "Distance to the face of the first video" in page.text
    bare = Page(write_patient_report(patient(study, "0007"), tmp_path / "q.html").read_text())
    assert "Narrative and reading" not in bare.text and "first video" not in bare.text
