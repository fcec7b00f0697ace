"""What is read of a home as measures of its check-ins: tables that exist, usable videos only, meshes that went wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from iss_assets.datasets.check_ins import FACE_SHAPE, check_in_inputs, face_shapes
from iss_assets.evaluation.check_ins.study import evaluate_check_ins
from iss_assets.intake.withdrawn import Scope
from iss_assets.pipeline.staleness import check_ins_fingerprint
from iss_assets.privacy.withdrawn_rows import Removed, remove_rows, traces_in
from iss_assets.schemas.audio import AUDIO_FEATURES
from iss_assets.schemas.behavior import BEHAVIOR_MEASURES
from iss_assets.schemas.prompts import PromptReadings
from iss_assets.schemas.registry import BY_NAME as TABLES
from iss_assets.schemas.visual import Landmarks
from iss_assets.schemas.voice import VOICE_FEATURES
from iss_assets.schemas.words import TEXT_MEASURES
from iss_assets.settings import CheckInSettings, FaceSettings, Settings
from iss_assets.warehouse.database import Replacement, Warehouse
from iss_assets.warehouse.ledger import ledger_entry
from iss_assets_tests.features.synthetic_head import expression, film, turned
from iss_assets_tests.made_up import tiny_study

QUICK = CheckInSettings(bootstrap_samples=199, permutations=99, trees=3)


@pytest.fixture
def home(tmp_path: Path) -> Warehouse:
    store = Warehouse(tmp_path / "warehouse.duckdb")
    store.create()
    tiny_study(store)
    return store


def test_measures_come_from_the_tables_that_exist(home: Warehouse) -> None:
    measures = check_in_inputs(home, FaceSettings(), QUICK).measures
    assert {"demographics", "quality", "face", "voice"} <= set(measures)
    for name, frame in measures.items():
        assert len(frame) == 16 and frame["video_id"].is_unique, name
    assert "sound.mfcc_1" in measures["voice"]
    tables = evaluate_check_ins(check_in_inputs(home, FaceSettings(), QUICK), QUICK)
    assert set(tables["check_in_predictions"]["patient_id"].to_pylist()) == {f"000{i}" for i in range(1, 9)}


def test_whose_rows_were_written_last_changes_nothing(home: Warehouse) -> None:
    before = check_in_inputs(home, FaceSettings(), QUICK)
    with home.write() as writer:
        for table in (
            "bpi_scores",
            "cv_splits",
            "video_quality",
            "landmarks",
            "audio_features",
            "voice_features",
        ):
            writer.execute(f"create temp table first as select * from {table} where patient_id = '0001'")
            assert writer.query("select * from first").num_rows
            writer.execute(f"delete from {table} where patient_id = '0001'")
            writer.execute(f"insert into {table} select * from first order by all desc")
            writer.execute("drop table first")
    assert home.query("select last(patient_id) p from video_quality")["p"].to_pylist() == ["0001"]
    after = check_in_inputs(home, FaceSettings(), QUICK)
    assert after.bpi_scores.equals(before.bpi_scores) and after.splits.equals(before.splits)
    assert all(after.measures[name].equals(before.measures[name]) for name in before.measures)


def test_the_shape_of_a_face_is_the_mean_over_its_meshes(home: Warehouse) -> None:
    rows = home.query("select points from landmarks where detected and video_id = '0003-1'")
    points = np.array(rows["points"].to_pylist()).reshape(-1, 468, 3)

    def distance(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(points[:, a] - points[:, b], axis=1)

    width = distance(61, 291) / distance(33, 263)
    face = check_in_inputs(home, FaceSettings(), QUICK).measures["face"].set_index("video_id").loc["0003-1"]
    assert face["mouth_width"] == pytest.approx(width.mean(), rel=1e-5)
    assert face["mouth_width_spread"] == pytest.approx(width.std(ddof=1), rel=1e-4)
    eyes = (distance(159, 145) / distance(33, 133) + distance(386, 374) / distance(362, 263)) / 2
    assert face["eye_opening"] == pytest.approx(eyes.mean(), rel=1e-5)
    assert set(FACE_SHAPE) < set(face.index)


@pytest.mark.parametrize(
    "how", [{}, {"sides": (1.25, 1.0)}, {"sides": (1.0, 1.25)}, {"at": (60.0, 200.0)}, {"at": (320.0, 30.0)}]
)
def test_the_shape_of_a_face_is_that_of_the_head_whatever_its_box(how: dict[str, Any]) -> None:
    """Distances on the head that was filmed, whose mesh is stored in fractions of a crop of any proportions."""
    faces = [turned(expression(mouth=0.1), yaw, 0, 0) for yaw in (-10, 0, 10)]
    with duckdb.connect() as connection:
        connection.execute(
            "create table video_quality as select '0001' patient_id, 's1' video_id, true usable"
        )
        for name, rows in zip(("frames", "faces", "landmarks"), film(faces, **how), strict=True):
            connection.register(name, rows.append_column("video_id", pa.array(["s1"] * rows.num_rows)))
        found = face_shapes(connection, FaceSettings()).iloc[0]

    def length(a: int, b: int) -> float:
        return float(np.linalg.norm(faces[0][a] - faces[0][b]))

    eyes = length(159, 145) / length(33, 133) + length(386, 374) / length(362, 263)
    expected = {
        "eye_opening": eyes / 2,
        "brow_height": (length(105, 159) + length(334, 386)) / 2,
        "brow_gap": length(55, 285),
        "mouth_width": length(61, 291),
        "mouth_opening": length(13, 14),
        "lip_to_nose": length(0, 1),
        "chin_to_lip": length(17, 152),
    }
    assert found[list(FACE_SHAPE)].to_dict() == pytest.approx(expected, rel=0.02)
    assert max(found[f"{name}_spread"] for name in FACE_SHAPE) < 0.01, "turning is no expression"


def test_videos_that_are_not_usable_are_left_out(home: Warehouse) -> None:
    with home.write() as writer:
        writer.execute("update video_quality set usable = false where video_id = '0002-1'")
    inputs = check_in_inputs(home, FaceSettings(), QUICK)
    assert all("0002-1" not in set(frame["video_id"]) for frame in inputs.measures.values())
    predicted = evaluate_check_ins(inputs, QUICK)["check_in_predictions"]["submission_id"].to_pylist()
    assert "0002-2" in predicted and "0002-1" not in predicted


def test_meshes_whose_points_coincide_are_missing_and_stop_nothing(home: Warehouse) -> None:
    rows = home.query("select * from landmarks where detected and patient_id = '0001'")
    spoiled = Landmarks.from_rows([row | {"points": [0.0] * 1404} for row in rows.to_pylist()])
    home.replace(Landmarks, spoiled, {"patient_id": "0001"})
    face = check_in_inputs(home, FaceSettings(), QUICK).measures["face"].set_index("video_id")
    assert face.loc["0001-1", list(FACE_SHAPE)].isna().all() and face.loc["0002-1"].notna().any()
    assert evaluate_check_ins(check_in_inputs(home, FaceSettings(), QUICK), QUICK)["check_in_claims"].num_rows


def embedded(home: Warehouse, where: str, origin: str, width: int, code: str = "1") -> None:
    """Give videos embeddings: 100 times the sample's number, plus 1 for each further column."""
    with home.write() as writer:
        writer.execute(
            "insert into embeddings by name select video_id, patient_id, frame_index, 'made-up' as fingerprint, "
            f"'{origin}' as weights_origin, list_transform(range({width}), lambda x: 100 * frame_index + x) as embedding "
            f"from faces where {where}"
        )
    people = home.query("select distinct patient_id from embeddings")["patient_id"].to_pylist()
    home.replace_all([ledger_entry(patient, TABLES["embeddings"], code, 1) for patient in people])


def test_networks_read_the_pictures_of_usable_videos_and_of_one_network_only(home: Warehouse) -> None:
    assert check_in_inputs(home, FaceSettings(), QUICK).series == {}
    embedded(home, "patient_id not in ('0003', '0004')", "imagenet", 6)
    embedded(home, "patient_id = '0003'", "random", 9)
    with home.write() as writer:
        writer.execute("update video_quality set usable = false where video_id = '0002-1'")
    filmed = check_in_inputs(home, FaceSettings(), QUICK).series["embedding_series"]
    assert filmed.made_by == "imagenet 6"
    people = {video[:4] for video in filmed.video_id}
    assert people == {f"000{i}" for i in (1, 2, 5, 6, 7, 8)} and "0002-1" not in filmed.video_id
    # the mean of the samples of every two seconds, in order
    at = filmed.video_id.index("0001-1")
    own = filmed.series.select(np.array([at]))
    times = home.query(
        "select frame_index, time_s from frames join faces using (video_id, frame_index) where video_id = '0001-1'"
    )
    number = (times["time_s"].to_numpy() // 2).astype(int)
    assert own.number.tolist() == sorted(set(number))
    for row, second in zip(own.values, own.number, strict=True):
        samples = times["frame_index"].to_numpy()[number == second]
        np.testing.assert_allclose(row, 100 * samples.mean() + np.arange(6), rtol=1e-6)
    # only targets that are evaluated cost anything
    assert check_in_inputs(home, FaceSettings(), CheckInSettings(targets=("sleep",))).series == {}
    predicted = evaluate_check_ins(check_in_inputs(home, FaceSettings(), QUICK), QUICK)[
        "check_in_predictions"
    ].to_pandas()
    network = predicted[predicted["model"] == "pain_now_attention"]
    ridge = predicted[predicted["model"] == "pain_now_ridge"]
    assert list(network["submission_id"]) == list(ridge["submission_id"])


def test_networks_are_watched_on_the_flags_of_the_home_and_a_withdrawal_takes_what_was_seen(
    home: Warehouse,
) -> None:
    embedded(home, "true", "imagenet", 6)
    with home.write() as writer:
        moments = json.dumps({"glare": [[0.0, 0.2]], "mask": [[0.0, 0.2]]})
        writer.execute(
            "update video_quality set flags = ['glare', 'mask'], moments = ? where patient_id <> '0008'",
            [moments],
        )
        # a person has rejected the glare of this one
        writer.execute("update video_quality set flags = ['mask'] where video_id = '0007-1'")
    settings = QUICK.model_copy(update={"instance_s": 0.2, "attention_epochs": 1})
    tables = evaluate_check_ins(check_in_inputs(home, FaceSettings(), settings), settings)
    attention = tables["check_in_attention"].to_pandas()
    assert sorted(set(attention["start_s"].round(6))) == [0.0, 0.2, 0.4]
    rows = tables["check_in_shortcuts"].to_pylist()
    assert {(r["target"], r["protocol"], r["flag"]) for r in rows} == {
        (t, p, "glare") for t in ("pain_now", "interference") for p in ("new patient", "known patient")
    }
    new = [r for r in rows if r["protocol"] == "new patient"]
    assert all((r["patients"], r["videos"]) == (7, 13) and r["chance"] == pytest.approx(1 / 3) for r in new)
    home.replace_all([Replacement(TABLES[name], rows, {}) for name, rows in tables.items()])
    removed: list[Removed] = []
    remove_rows(home, traces_in(home, "0002"), Scope.MEDIA, removed.append)
    assert removed[0].made_again["check_in_attention"] == len(attention)
    assert home.query("select * from check_in_attention").num_rows == 0
    assert home.query("select * from check_in_shortcuts").num_rows == 0


def test_other_pictures_make_the_evaluation_stale(home: Warehouse) -> None:
    embedded(home, "true", "imagenet", 3)
    before = check_ins_fingerprint(home, Settings())
    with home.write() as writer:
        writer.execute("delete from embeddings")
    embedded(home, "true", "imagenet", 3, code="2")
    assert check_ins_fingerprint(home, Settings()) != before


def of_video(table: str, video: str, chunk: int = -1, **values: object) -> dict[str, object]:
    """Return a row whose measures and counts are all given: what is not named is 0.5."""
    model = TABLES[table]
    keys = {"video_id": video, "patient_id": video[:4], "chunk_index": chunk, "fingerprint": "made-up"}
    numbers = {c.name: {"INTEGER": 2, "DOUBLE": 0.5}.get(c.sql) for c in model.columns()}
    return {c.name: (keys | values).get(c.name, numbers[c.name]) for c in model.columns()}


def fill(home: Warehouse, table: str, *rows: dict[str, object]) -> None:
    home.replace(TABLES[table], TABLES[table].from_rows(rows), {})


@pytest.fixture
def with_readings(home: Warehouse) -> Warehouse:
    """Return a home in which everything is measured of two narratives, and of the reading of one of them."""
    for table in ("voice_features", "face_behavior_summary", "text_features"):
        fill(home, table, of_video(table, "0001-1"), of_video(table, "0002-1"))
    for table in ("prompt_voice_features", "prompt_face_behavior_summary"):
        fill(home, table, of_video(table, "0001-1"))
    return home


def test_predictors_are_the_listed_measures_and_no_counts(with_readings: Warehouse) -> None:
    measures = check_in_inputs(with_readings, FaceSettings(), QUICK).measures
    found = {
        group: {name for name in measures[group] if name not in ("patient_id", "video_id")}
        for group in ("voice", "behavior", "words")
    }
    reading = set(VOICE_FEATURES) - {"pause_count", "pause_total_s"}
    moving = set(BEHAVIOR_MEASURES) - {"longest_still_s"}
    assert found == {
        "voice": {f"sound.{name}" for name in AUDIO_FEATURES}
        | {f"voice.{name}" for name in VOICE_FEATURES}
        | {f"voice_minus_reading.{name}" for name in reading},
        "behavior": {f"behavior.{name}" for name in BEHAVIOR_MEASURES}
        | {f"behavior_minus_reading.{name}" for name in moving},
        "words": {f"words.{name}" for name in TEXT_MEASURES},
    }


def test_the_reading_is_subtracted_where_both_were_measured(home: Warehouse) -> None:
    fill(
        home,
        "voice_features",
        of_video("voice_features", "0001-1", loudness=9.0),
        of_video("voice_features", "0001-1", 0, loudness=5.0),
        of_video("voice_features", "0002-1", loudness=7.0),
    )
    fill(
        home,
        "prompt_voice_features",
        of_video("prompt_voice_features", "0001-1", loudness=4.0),
        of_video("prompt_voice_features", "0001-1", 0, loudness=1.0),
    )
    found = check_in_inputs(home, FaceSettings(), QUICK).measures["voice"].set_index("video_id")
    assert found.at["0001-1", "voice.loudness"] == 9 and found.at["0002-1", "voice.loudness"] == 7
    assert found.at["0001-1", "voice_minus_reading.loudness"] == 5
    assert found["voice_minus_reading.loudness"].isna().tolist() == [v != "0001-1" for v in found.index]


@pytest.mark.parametrize(("read", "is_reference"), [(True, True), (False, False), (None, True)])
def test_a_reading_in_which_no_text_was_read_is_no_reference(
    read: bool | None, is_reference: bool, with_readings: Warehouse
) -> None:
    """Where words are not recognized, nobody knows, and the reading counts."""
    before = check_ins_fingerprint(with_readings, Settings())
    row = {"video_id": "0001-1", "patient_id": "0001", "read": read, "fingerprint": "made-up"}
    rows = PromptReadings.from_rows([row])
    with_readings.replace_all(
        [
            Replacement(PromptReadings, rows, {}),
            ledger_entry("0001", PromptReadings, "made-up", rows.num_rows),
        ]
    )
    measures = check_in_inputs(with_readings, FaceSettings(), QUICK).measures
    for group, measure in (("voice", "loudness"), ("behavior", "still_share")):
        found = measures[group].set_index("video_id")
        name = f"{group}_minus_reading.{measure}"
        assert (name in found and found.at["0001-1", name] == 0.0) == is_reference
        assert found.at["0001-1", f"{group}.{measure}"] == 0.5
    assert check_ins_fingerprint(with_readings, Settings()) != before
