"""What pages say of readings."""

from __future__ import annotations

from datetime import datetime

import pytest

from iss_assets.reports.readings import describe_reading, readings_table

ROW = {
    "prompt_id": "lake",
    "prompt_known": True,
    "text_read": "lake",
    "read": True,
    "cut_short": False,
    "word_error_rate": 0.05,
    "share_read": 1.0,
}


@pytest.mark.parametrize(
    ("change", "says", "note", "rate_of"),
    [
        ({}, "lake, read", "", ""),
        ({"text_read": "garden"}, "garden, read", "instead of lake", ""),
        ({"cut_short": True, "share_read": 0.426}, "lake, cut short: 43% of the text", "", ""),
        (
            {"cut_short": None, "share_read": 0.426},
            "lake, read; whether all of it is unknown, since much of the speech has no words",
            "",
            "",
        ),
        (
            {"read": False, "text_read": None, "cut_short": None},
            "not read",
            "to be read: lake",
            "against the closest text",
        ),
        (
            {"read": None, "text_read": None},
            "could not be assessed",
            "to be read: lake",
            "against the closest text",
        ),
    ],
)
def test_each_outcome_has_words(change: dict[str, object], says: str, note: str, rate_of: str) -> None:
    reading = describe_reading({**ROW, **change})
    assert (reading.says, reading.note, reading.rate_of) == (says, note, rate_of)


def test_a_patient_s_readings_are_told_in_the_order_of_time() -> None:
    readings = {
        "0007-01": describe_reading({**ROW, "read": False, "text_read": None, "word_error_rate": 0.931}),
        "0007-02": describe_reading(ROW),
        "0007-03": describe_reading({**ROW, "read": None, "text_read": None, "word_error_rate": None}),
    }
    table = readings_table(readings, {"0007-01": datetime(2021, 3, 4, 23), "0007-02": datetime(2021, 2, 28)})
    assert table is not None
    shown = [[(cell.text, cell.small) for cell in row] for row in table.rows]
    assert shown == [
        [("0007-02", ""), ("2021-02-28", ""), ("lake, read", ""), ("0.05", "")],
        [
            ("0007-01", ""),
            ("2021-03-04", ""),
            ("not read", "to be read: lake"),
            ("0.93", "against the closest text"),
        ],
        [("0007-03", ""), ("no questionnaire", ""), ("could not be assessed", "to be read: lake"), ("–", "")],
    ]
    assert readings_table({}, {}) is None
