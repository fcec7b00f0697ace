"""What is read of a home as measures of its check-ins: tables that exist, usable videos only, meshes that went wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iss_assets.datasets.check_ins import FACE_SHAPE, check_in_inputs
from iss_assets.evaluation.check_ins.study import evaluate_check_ins
from iss_assets.schemas.registry import BY_NAME as TABLES
from iss_assets.schemas.visual import Landmarks
from iss_assets.schemas.voice import VoiceFeatures
from iss_assets.settings import CheckInSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.made_up import tiny_study

QUICK = CheckInSettings(bootstrap_samples=199, permutations=99, trees=3)


@pytest.fixture
def home(tmp_path: Path) -> Warehouse:
    store = Warehouse(tmp_path / "warehouse.duckdb")
    store.create()
    tiny_study(store)
    return store


def test_measures_come_from_the_tables_that_exist(home: Warehouse) -> None:
    measures = check_in_inputs(home).measures
    assert {"demographics", "quality", "face", "voice"} <= set(measures)
    for name, frame in measures.items():
        assert len(frame) == 16 and frame["video_id"].is_unique, name
    assert "sound.mfcc_1" in measures["voice"]
    tables = evaluate_check_ins(check_in_inputs(home), QUICK)
    assert set(tables["check_in_predictions"]["patient_id"].to_pylist()) == {f"000{i}" for i in range(1, 9)}


def test_the_shape_of_a_face_is_the_mean_over_its_meshes(home: Warehouse) -> None:
    rows = home.query("select points from landmarks where detected and video_id = '0003-1'")
    points = np.array(rows["points"].to_pylist()).reshape(-1, 468, 3)

    def distance(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(points[:, a] - points[:, b], axis=1)

    width = distance(61, 291) / distance(33, 263)
    face = check_in_inputs(home).measures["face"].set_index("video_id").loc["0003-1"]
    assert face["mouth_width"] == pytest.approx(width.mean(), rel=1e-5)
    assert face["mouth_width_spread"] == pytest.approx(width.std(ddof=1), rel=1e-4)
    eyes = (distance(159, 145) / distance(33, 133) + distance(386, 374) / distance(362, 263)) / 2
    assert face["eye_opening"] == pytest.approx(eyes.mean(), rel=1e-5)
    assert set(FACE_SHAPE) < set(face.index)


def test_videos_that_are_not_usable_are_left_out(home: Warehouse) -> None:
    with home.write() as writer:
        writer.execute("update video_quality set usable = false where video_id = '0002-1'")
    inputs = check_in_inputs(home)
    assert all("0002-1" not in set(frame["video_id"]) for frame in inputs.measures.values())
    predicted = evaluate_check_ins(inputs, QUICK)["check_in_predictions"]["submission_id"].to_pylist()
    assert "0002-2" in predicted and "0002-1" not in predicted


def test_meshes_whose_points_coincide_are_missing_and_stop_nothing(home: Warehouse) -> None:
    rows = home.query("select * from landmarks where detected and patient_id = '0001'")
    spoiled = Landmarks.from_rows([row | {"points": [0.0] * 1404} for row in rows.to_pylist()])
    home.replace(Landmarks, spoiled, {"patient_id": "0001"})
    face = check_in_inputs(home).measures["face"].set_index("video_id")
    assert face.loc["0001-1", list(FACE_SHAPE)].isna().all() and face.loc["0002-1"].notna().any()
    assert evaluate_check_ins(check_in_inputs(home), QUICK)["check_in_claims"].num_rows


def test_the_reading_is_subtracted_where_both_were_measured(home: Warehouse) -> None:
    columns = [
        c.name for c in VoiceFeatures.columns() if c.sql in ("DOUBLE", "INTEGER") and c.name != "chunk_index"
    ]

    def voice(video: str, value: float, chunk: int) -> dict[str, object]:
        keys = {"video_id": video, "patient_id": video[:4], "chunk_index": chunk, "fingerprint": "made-up"}
        return keys | dict.fromkeys(columns, value) | {"phonation_share": 0.5}

    narrative = [voice("0001-1", 9, -1), voice("0001-1", 5, 0), voice("0002-1", 7, -1)]
    reading = [voice("0001-1", 4, -1), voice("0001-1", 1, 0)]
    home.replace(VoiceFeatures, VoiceFeatures.from_rows(narrative), {})
    home.replace(TABLES["prompt_voice_features"], TABLES["prompt_voice_features"].from_rows(reading), {})
    found = check_in_inputs(home).measures["voice"].set_index("video_id")
    assert found.at["0001-1", "voice.loudness"] == 9 and found.at["0002-1", "voice.loudness"] == 7
    assert found.at["0001-1", "voice_minus_reading.loudness"] == 5
    assert found["voice_minus_reading.loudness"].isna().tolist() == [v != "0001-1" for v in found.index]
