"""The times that a patient's page shows are those of the patient's own clock."""

from __future__ import annotations

from datetime import UTC, datetime

from iss_assets.evaluation.frames import rows_of
from iss_assets.reports.patient_report import _clock_words, _with_clock
from iss_assets.schemas.intake import BpiScores
from iss_assets_tests.times import time_columns


def test_questionnaires_are_shown_in_order_with_the_local_time_and_its_offset() -> None:
    winter = time_columns(datetime(2021, 1, 12, 1, 30, tzinfo=UTC), -300)
    summer = time_columns(datetime(2021, 7, 12, 16, 30, tzinfo=UTC), -240)
    east = time_columns(datetime(2021, 1, 11, 23, 0, tzinfo=UTC), 570)
    unknown = {"written_time": datetime(2021, 3, 1, 9, 5), "utc_offset_source": "unknown"}
    rows = [
        {"submission_id": name, "patient_id": "0001", "missing_scores": 9, **time}
        for name, time in (("a", summer), ("b", winter), ("c", unknown), ("d", east))
    ]
    shown = _with_clock(BpiScores.from_rows(rows).to_pandas())
    assert shown["submission_id"].tolist() == ["d", "b", "c", "a"]
    words = [_clock_words(r.clock, r.utc_offset_minutes) for r in rows_of(shown)]
    assert words == [
        "2021-01-12 08:30 +09:30",
        "2021-01-11 20:30 −05:00",
        "2021-03-01 09:05, offset unknown",
        "2021-07-12 12:30 −04:00",
    ]
