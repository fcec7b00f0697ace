"""Check-ins are in the order in which they were sent, everywhere, also where the offset of some of them is unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from iss_assets.checks.stages import SQL
from iss_assets.evaluation.check_in_order import SENT_SQL, sent
from iss_assets.evaluation.check_ins.design import check_ins
from iss_assets.reports.attention import read_attention
from iss_assets.reports.patient_report import _with_clock
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.modeling import VideoAttention
from iss_assets.server.study_pages import _CHECK_INS, _PATIENTS
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.sql.build import build_models
from iss_assets.warehouse.sql.models import load_models
from iss_assets_tests.times import time_columns

PATIENTS = {"0001": -480, "0002": 570, "0003": 300, "0004": 0}
"""Where each patient lives, in minutes from UTC."""
UNKNOWN = {
    "submitted_at": None,
    "utc_offset_minutes": None,
    "utc_offset_source": "unknown",
    "submitted_on": None,
    "timeframe": None,
}
TRAVELED = ("0003",)
"""This patient's offsets are all known, and differ: the moments decide, not the clocks."""
ALL_UNKNOWN = ("0004",)
PERSON = {
    "cohort": "1A",
    "sex": "M",
    "skin_type": "I",
    "skin_group": "light",
    "pain_target": 0,
    "pain_level": "None",
}


@pytest.fixture
def scores(warehouse: Warehouse) -> pa.Table:
    """Eight check-ins per patient, a few hours apart, in any order; their true order is in their answers to one question."""
    rng = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []
    for patient, offset in PATIENTS.items():
        hours = np.cumsum(rng.uniform(1, 9, 8))
        for place, name in enumerate(rng.permutation(8)):
            at = datetime(2021, 1, 4, tzinfo=UTC) + timedelta(hours=hours[place])
            time = time_columns(at, offset - 140 * place if patient in TRAVELED else offset)
            lost = (
                UNKNOWN
                if patient not in TRAVELED and rng.random() < (1 if patient in ALL_UNKNOWN else 0.4)
                else {}
            )
            row = {
                "submission_id": f"{patient}-{name}",
                "patient_id": patient,
                "pain_now": place,
                "missing_scores": 8,
            }
            rows.append(row | time | lost)
    table = BpiScores.from_rows([rows[i] for i in rng.permutation(len(rows))])
    warehouse.replace(BpiScores, table, {})
    return table


def of(scores: pa.Table, patient: str) -> pd.DataFrame:
    frame = scores.to_pandas()
    return frame[frame["patient_id"] == patient]


@pytest.mark.parametrize("patient", PATIENTS)
def test_a_patients_check_ins_are_in_the_order_in_which_they_were_sent(
    patient: str, scores: pa.Table, warehouse: Warehouse
) -> None:
    own = of(scores, patient)
    assert patient in TRAVELED or own["submitted_at"].isna().any()
    assert own.assign(at=sent(own)).sort_values("at")["pain_now"].tolist() == list(range(8))
    assert _with_clock(own)["pain_now"].tolist() == list(range(8))
    with warehouse.read() as connection:
        given = {"patient": patient}
        checked = (
            connection.execute((SQL / "scores.sql").read_text(), given)
            .to_arrow_table()["pain_now"]
            .to_pylist()
        )
        shown = connection.execute(_CHECK_INS, given).to_arrow_table()["pain_now"].to_pylist()
        times = connection.execute(f"select * from {SENT_SQL}", given).df().set_index("submission_id")["sent"]
    assert checked == shown[::-1] == list(range(8))
    expected = own.assign(sent=sent(own)).set_index("submission_id")["sent"]
    assert (times.reindex(expected.index).astype(expected.dtype) == expected).all()


def test_the_timeline_of_a_patient_has_the_same_order(scores: pa.Table, warehouse: Warehouse) -> None:
    warehouse.replace(Patients, Patients.from_rows([PERSON | {"patient_id": p} for p in PATIENTS]), {})
    models = load_models(WarehouseSettings().sql_dir)
    build_models(warehouse, models, ["patient_timeline"])
    for patient in PATIENTS:
        shown = warehouse.query(
            "select pain_now from patient_timeline where patient_id = ? order by event_number", [patient]
        )["pain_now"].to_pylist()
        assert shown == list(range(8))
        times = warehouse.query(
            "select submission_id, sent from stg_submissions where patient_id = ?", [patient]
        ).to_pandas()
        own = of(scores, patient)
        expected = own.assign(sent=sent(own)).set_index("submission_id")["sent"]
        found = times.set_index("submission_id")["sent"].reindex(expected.index)
        assert (found.astype(expected.dtype) == expected).all()


def test_the_last_answer_of_the_evaluation_is_never_from_the_future(scores: pa.Table) -> None:
    frame = scores.to_pandas()
    splits = pd.DataFrame({"patient_id": list(PATIENTS), "split": range(4)})
    measures = {"voice": pd.DataFrame({"video_id": frame["submission_id"], "patient_id": "", "a": 1.0})}
    rows = check_ins(frame, splits, measures).rows
    assert rows["pain_now"].tolist() == [*range(8)] * 4


def test_the_newest_videos_are_those_that_were_sent_last(scores: pa.Table, warehouse: Warehouse) -> None:
    frame = scores.to_pandas()
    look = {
        "experiment": "mil_mesh",
        "split": 1,
        "fingerprint": "a",
        "instance": 0,
        "start_s": 0.0,
        "end_s": 1.0,
        "attention": 1.0,
    }
    rows = [look | {"patient_id": r.patient_id, "video_id": r.submission_id} for r in frame.itertuples()]
    warehouse.replace(VideoAttention, VideoAttention.from_rows(rows), {})
    for patient in PATIENTS:
        with warehouse.read() as connection:
            chosen = set(read_attention(connection, patient)["video_id"].to_pylist())
        own = of(scores, patient)
        assert chosen == set(own.loc[own["pain_now"] >= 2, "submission_id"])


def test_the_last_check_in_of_the_list_of_patients_may_be_one_of_unknown_offset(
    scores: pa.Table, warehouse: Warehouse
) -> None:
    warehouse.replace(Patients, Patients.from_rows([PERSON | {"patient_id": p} for p in PATIENTS]), {})
    shown = {r["patient_id"]: r["last_check_in"] for r in warehouse.query(_PATIENTS).to_pylist()}
    for patient in PATIENTS:
        assert shown[patient] == max(t.date() for t in of(scores, patient)["written_time"])
