"""The loader between a real DuckDB file and the arrays that models learn from."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from iss_assets.datasets.items import (
    data_hash,
    in_order,
    left_out,
    load_crops,
    load_items,
    trainable_patients,
)
from iss_assets.modeling.experiments import Experiment, experiment
from iss_assets.modeling.fitting import fit_fold, predict_fold
from iss_assets.modeling.items import SCORE_COLUMNS, EncodedFaces, Items
from iss_assets.modeling.pictures import StoredFiles
from iss_assets.pipeline.staleness import embeddings_fingerprint, fold_fingerprints
from iss_assets.schemas.behavior import BEHAVIOR_MEASURES
from iss_assets.schemas.modeling import FramePredictions
from iss_assets.schemas.voice import VOICE_FEATURES
from iss_assets.schemas.words import TEXT_MEASURES
from iss_assets.settings import FaceSettings, Settings, TrainingSettings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets_tests.modeling.conftest import SIDE, crop

SETTINGS = TrainingSettings(image_side=SIDE)
FACES, LANDMARKS, PAIN, FUSION, SOUND, PROBE, VOICE = (
    experiment(n)
    for n in (
        "resnet50_2_static",
        "forest_landmarks",
        "forest_pain",
        "fusion_2",
        "audio_static",
        "embedding_probe",
        "forest_voice",
    )
)


def array_of(items: Items, name: str) -> np.ndarray:
    """Return an input as one array."""
    return np.asarray(items.inputs[name])


def test_faces_come_decoded_in_the_order_of_patient_video_and_frame(study: Warehouse) -> None:
    items = load_items(study, FACES, SETTINGS, FaceSettings())
    assert items.patients == ["0001", "0002", "0003"]
    assert len(items) == 3 * 2 * 5
    keys = list(zip(items.patient_id, items.video_id, items.frame_index, strict=True))
    assert keys == sorted(keys)
    expected = np.stack([crop(int(p), f) for p, _, f in keys])
    assert np.array_equal(array_of(items, "faces"), expected)
    assert items.target.tolist() == [0] * 10 + [1] * 20
    assert set(items.chunk_index) == {-1}


def test_rows_stored_in_any_order_come_in_the_order_of_their_place_and_are_not_copied(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # three videos written by turns, one of them backwards, in pieces larger than what DuckDB hands over at a time
    places = np.concatenate([np.arange(6000, 9000), np.arange(0, 3000), np.arange(5999, 2999, -1)])
    stored = pa.table(
        {"place": places, "crop": [f"{p}".encode() * 20 for p in places], "x": rng.random(9000)}
    )
    with duckdb.connect(str(tmp_path / "file.duckdb")) as connection:
        connection.execute("create table faces as from stored")
        before = pa.total_allocated_bytes()
        rows = in_order(connection, "select place, crop, x from faces")
        held = pa.total_allocated_bytes() - before
    assert rows.column_names == ["crop", "x"]
    assert rows["crop"].to_pylist() == [f"{p}".encode() * 20 for p in range(9000)]
    assert np.array_equal(rows["x"].to_numpy(), stored["x"].to_numpy()[np.argsort(places)])
    # what DuckDB hands over is not Arrow's own; a copy would be
    assert held < 0.1 * stored.nbytes
    with duckdb.connect() as connection:
        assert in_order(connection, "select 0::bigint as place, 1 as x where false").num_rows == 0


def test_faces_too_many_for_memory_stay_encoded_and_are_the_same(study: Warehouse) -> None:
    encoded = load_items(
        study, FACES, TrainingSettings(image_side=SIDE, decoded_faces_gb=0), FaceSettings()
    ).inputs["faces"]
    assert isinstance(encoded, EncodedFaces)
    assert np.array_equal(
        encoded.decode(), array_of(load_items(study, FACES, SETTINGS, FaceSettings()), "faces")
    )


def test_faces_too_many_even_when_encoded_stay_in_the_warehouse_and_are_the_same_and_teach_the_same(
    study: Warehouse, tmp_path: Path
) -> None:
    small = SETTINGS.model_copy(update={"epochs": 1, "initial_weights": "random", "device": "cpu"})
    left = small.model_copy(update={"decoded_faces_gb": 0.0, "encoded_faces_gb": 0.0})
    items, stored = (
        load_items(study, FACES, small, FaceSettings()),
        load_items(study, FACES, left, FaceSettings()),
    )
    crops = stored.inputs["faces"]
    assert isinstance(crops, EncodedFaces)
    files = crops._files
    assert isinstance(files, StoredFiles) and len(files) == len(items)
    places = np.array([29, 3, 3, 17])
    assert np.array_equal(stored.inputs["faces"][places], array_of(items, "faces")[places])
    train = ["0001", "0002"]
    one = fit_fold(FACES, items.of(train), small, tmp_path / "one")
    two = fit_fold(FACES, stored.of(train), small, tmp_path / "two")
    assert one.weights.read_bytes() == two.weights.read_bytes()
    rows = [predict_fold(FACES, one, side.of(["0003"]), small) for side in (items, stored)]
    assert rows[0].equals(rows[1])


def test_faces_that_change_in_the_warehouse_while_a_model_learns_are_an_error(study: Warehouse) -> None:
    left = SETTINGS.model_copy(update={"decoded_faces_gb": 0.0, "encoded_faces_gb": 0.0})
    faces = load_items(study, FACES, left, FaceSettings()).inputs["faces"]
    with study.write() as writer:
        writer.execute("update faces set fingerprint = 'changed' where video_id = 's2a'")
    assert faces[np.array([0])].shape == (1, SIDE, SIDE, 3)
    with pytest.raises(WarehouseError, match="extracted again while a model was training"):
        faces[np.arange(len(faces))]


def test_a_voice_is_one_row_a_video_with_what_could_not_be_measured_missing(study: Warehouse) -> None:
    items = load_items(study, VOICE, SETTINGS, FaceSettings())
    voice = dict(zip(items.video_id, array_of(items, "voice"), strict=True))

    assert list(voice) == ["s1a", "s1b", "s2a", "s2b", "s3b"]
    assert set(items.frame_index) == set(items.chunk_index) == {-1} and set(items.weight) == {1}
    # the row of the whole, not of the first chunk
    assert voice["s1a"][VOICE_FEATURES.index("pause_total_s")] == 1
    assert voice["s3b"][VOICE_FEATURES.index("f0_median_hz")] == 103
    assert np.isnan(voice["s2b"]).all()
    reasons = {(row["video_id"], row["reason"]) for row in left_out(study, VOICE, SETTINGS).to_pylist()}
    assert ("s3a", "no_voice") in reasons and ("s4a", "dark") in reasons


def test_all_measures_together_are_taken_where_a_video_has_each_of_them(study: Warehouse) -> None:
    items = load_items(study, experiment("forest_measures"), SETTINGS, FaceSettings())
    assert items.video_id.tolist() == ["s1a", "s1b", "s2a", "s2b", "s3b"]  # s3a has no voice
    assert array_of(items, "text")[:, TEXT_MEASURES.index("words")].tolist() == [10, 10, 20, 20, 30]
    still = array_of(items, "behavior")[:, BEHAVIOR_MEASURES.index("still_share")]
    assert still == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3])
    assert np.isnan(array_of(items, "voice")[3]).all()


def test_a_forest_learns_a_voice_with_missing_measures(study: Warehouse, tmp_path: Path) -> None:
    items = load_items(study, VOICE, SETTINGS, FaceSettings())
    fitted = fit_fold(VOICE, items.of(["0001", "0002"]), SETTINGS, tmp_path)
    predictions = predict_fold(VOICE, fitted, items.of(["0003"]), SETTINGS)

    assert predictions["video_id"].to_pylist() == ["s3b"]
    assert 0 <= predictions["pain_probability"][0].as_py() <= 1


def test_landmarks_are_taken_where_a_mesh_was_found(study: Warehouse) -> None:
    items = load_items(study, LANDMARKS, SETTINGS, FaceSettings(), patients=["0002"])
    assert items.frame_index.tolist() == [0, 1, 2, 3] * 2
    assert array_of(items, "landmarks").shape == (8, 1404)
    assert array_of(items, "landmarks").dtype == np.float32
    assert np.allclose(array_of(items, "landmarks")[:, 7], 2 + items.frame_index / 10)


def test_scores_are_one_row_a_submission_weighted_by_its_frames(study: Warehouse) -> None:
    items = load_items(study, PAIN, SETTINGS, FaceSettings())
    assert items.video_id.tolist() == ["s1a", "s1b", "s2a", "s2b", "s3a", "s3b"]
    assert items.weight.tolist() == [6.0] * 6
    first = dict(zip(SCORE_COLUMNS, array_of(items, "scores")[2].tolist(), strict=True))
    assert first["pain_now"] == 2
    assert (first["chronic_pain"], first["sex_female"], first["skin_dark"]) == (1, 1, 1)
    assert [first[f"timeframe_{t}"] for t in ("early_am", "late_am", "early_pm", "late_pm")] == [0, 1, 0, 0]
    assert np.isnan(first["mood"])
    assert np.isnan(array_of(items, "scores")[4:, :9]).all()
    assert not np.isnan(array_of(items, "scores")[:, 9:]).any()


def test_fusion_takes_faces_that_have_a_mesh_with_the_scores_of_their_submission(study: Warehouse) -> None:
    items = load_items(study, FUSION, SETTINGS, FaceSettings())
    assert len(items) == 3 * 2 * 4
    assert {name: len(v) for name, v in items.inputs.items()} == dict.fromkeys(FUSION.inputs, 24)
    assert array_of(items, "scores")[items.patient_id == "0002"][:, 0].tolist() == [2] * 8


def test_sound_takes_whole_chunks_and_not_the_row_for_the_whole_video(study: Warehouse) -> None:
    items = load_items(study, SOUND, SETTINGS, FaceSettings())
    assert items.chunk_index.tolist() == [0, 1] * 6
    assert array_of(items, "mel").shape == (12, 128, 173)
    assert np.allclose(array_of(items, "mel")[1, 5], -10 + 0.05)
    assert array_of(items, "audio_features")[1, 3] == 4
    assert set(items.frame_index) == {-1}


def test_patients_without_answers_can_be_left_out_and_are_named_with_the_reason(study: Warehouse) -> None:
    strict = TrainingSettings(image_side=SIDE, missing_scores="leave_out")
    assert load_items(study, PAIN, strict, FaceSettings()).patients == ["0001", "0002"]
    assert load_items(study, FUSION, strict, FaceSettings()).patients == ["0001", "0002"]
    assert load_items(study, FACES, strict, FaceSettings()).patients == ["0001", "0002", "0003"]
    reasons = {(r["patient_id"], r["reason"]) for r in left_out(study, PAIN, strict).to_pylist()}
    assert ("0003", "no_answers") in reasons


@pytest.mark.parametrize("chosen", [FACES, LANDMARKS, PAIN, FUSION, SOUND], ids=lambda e: e.name)
def test_what_is_left_out_is_reported_by_patient_and_reason(study: Warehouse, chosen: Experiment) -> None:
    rows = left_out(study, chosen, SETTINGS).to_pylist()
    assert [(r["patient_id"], r["video_id"], r["reason"]) for r in rows] == [
        ("0004", "s4a", "dark"),
        ("0004", "s4b", "dark"),
        ("0005", None, "no_submission"),
        ("0006", "s6a", "not_assessed"),
        ("0006", "s6b", "not_assessed"),
    ]
    assert left_out(study, chosen, SETTINGS, ["0001", "0005"])["patient_id"].to_pylist() == ["0005"]


def test_videos_that_give_nothing_are_reported_even_when_usable(study: Warehouse) -> None:
    for table in ("landmarks", "mel_spectrograms"):
        with study.write() as writer:
            writer.execute(f"delete from {table} where video_id = 's1a'")
    assert ("s1a", "no_landmarks") in _videos(left_out(study, LANDMARKS, SETTINGS))
    assert ("s1a", "no_full_chunk") in _videos(left_out(study, SOUND, SETTINGS))
    with study.write() as writer:
        writer.execute("delete from faces where video_id = 's1b'")
        writer.execute("delete from bpi_scores where submission_id = 's2a'")
        writer.execute("delete from videos where video_id = 's2b'")
    assert ("s1b", "no_faces") in _videos(left_out(study, FACES, SETTINGS))
    assert ("s2a", "no_survey") in _videos(left_out(study, PAIN, SETTINGS))
    assert ("s2b", "no_video") in _videos(left_out(study, PAIN, SETTINGS))


def _videos(rows: pa.Table) -> set[tuple[str, str]]:
    return set(zip(rows["video_id"].to_pylist(), rows["reason"].to_pylist(), strict=True))


def test_unusable_videos_are_taken_when_the_setting_says_so(study: Warehouse) -> None:
    everything = TrainingSettings(image_side=SIDE, only_usable=False)
    assert load_items(study, FACES, everything, FaceSettings()).patients == [
        "0001",
        "0002",
        "0003",
        "0004",
        "0006",
    ]
    assert left_out(study, FACES, everything)["patient_id"].to_pylist() == ["0005"]
    assert [p.patient_id for p in trainable_patients(study, everything)] == [
        "0001", "0002", "0003", "0004", "0006",
    ]  # fmt: skip


def test_the_cross_validation_is_over_patients_with_something_usable(study: Warehouse) -> None:
    assert [(p.patient_id, p.pain_level) for p in trainable_patients(study, SETTINGS)] == [
        ("0001", "None"), ("0002", "Low"), ("0003", "Moderate"),
    ]  # fmt: skip


def test_a_limit_of_frames_a_patient_takes_evenly_spaced_ones(study: Warehouse) -> None:
    few = TrainingSettings(image_side=SIDE, frames_per_patient=4, chunks_per_patient=1)
    items = load_items(study, FACES, few, FaceSettings())
    assert len(items) == 3 * 4
    assert items.frame_index[:4].tolist() == [1, 3, 1, 3]
    assert len(load_items(study, SOUND, few, FaceSettings())) == 3
    assert len(load_items(study, PAIN, few, FaceSettings())) == 6


def test_crops_for_embeddings_come_with_their_keys(study: Warehouse) -> None:
    keys, crops = load_crops(study, SETTINGS, "0002", SIDE)
    assert keys["video_id"].to_pylist() == ["s2a"] * 5 + ["s2b"] * 5
    assert np.array_equal(crops[3], crop(2, 3))
    keys, crops = load_crops(study, SETTINGS, "0005", SIDE)
    assert keys.num_rows == 0
    assert crops.shape == (0, SIDE, SIDE, 3)


def test_embeddings_are_taken_where_a_patient_has_them_and_missed_where_not(study: Warehouse) -> None:
    with study.write() as writer:
        writer.execute(
            "insert into embeddings by name select video_id, patient_id, frame_index, fingerprint, "
            "'random' as weights_origin, list_transform(range(2048), lambda x: frame_index + x / 10) as embedding "
            "from faces where video_id <> 's2a'"
        )
    items = load_items(study, PROBE, SETTINGS, FaceSettings())
    assert len(items) == 5 * 5
    assert np.allclose(array_of(items, "embeddings")[:, 3], items.frame_index + 0.3)
    assert ("s2a", "no_embeddings") in _videos(left_out(study, PROBE, SETTINGS))
    before = data_hash(study, PROBE, SETTINGS)
    with study.write() as writer:
        writer.execute("update embeddings set fingerprint = 'changed'")
    assert data_hash(study, PROBE, SETTINGS) != before


@pytest.mark.parametrize("chosen", [FACES, PAIN, FUSION, SOUND], ids=lambda e: e.name)
def test_a_patient_without_anything_gives_no_items(study: Warehouse, chosen: Experiment) -> None:
    assert len(load_items(study, chosen, SETTINGS, FaceSettings(), patients=["0005"])) == 0


def test_the_data_hash_changes_with_scores_labels_fingerprints_and_selection_only(study: Warehouse) -> None:
    before = {e.name: data_hash(study, e, SETTINGS) for e in (FACES, PAIN, SOUND)}
    # nor does it depend on what this process has read before
    load_items(study, FACES, SETTINGS, FaceSettings())
    assert before == {e.name: data_hash(study, e, SETTINGS) for e in (FACES, PAIN, SOUND)}
    assert data_hash(study, FACES, SETTINGS, ["0001"]) != before[FACES.name]
    with study.write() as writer:
        writer.execute("update bpi_scores set mood = 9 where submission_id = 's1a'")
    assert data_hash(study, PAIN, SETTINGS) != before[PAIN.name]
    assert data_hash(study, FACES, SETTINGS) == before[FACES.name]
    with study.write() as writer:
        writer.execute("update faces set fingerprint = 'changed' where video_id = 's1a'")
    assert data_hash(study, FACES, SETTINGS) != before[FACES.name]
    assert data_hash(study, SOUND, SETTINGS) == before[SOUND.name]
    with study.write() as writer:
        writer.execute("update patients set pain_level = 'Severe' where patient_id = '0001'")
    assert data_hash(study, SOUND, SETTINGS) != before[SOUND.name]


@pytest.mark.parametrize("chosen", [LANDMARKS, PAIN], ids=lambda e: e.name)
def test_what_is_loaded_can_be_learnt_and_predicted(
    study: Warehouse, chosen: Experiment, tmp_path: Path
) -> None:
    items = load_items(study, chosen, SETTINGS, FaceSettings())
    fitted = fit_fold(chosen, items.of(["0001", "0002"]), SETTINGS, tmp_path)
    rows = predict_fold(chosen, fitted, items.of(["0003"]), SETTINGS)
    FramePredictions.check_rows(rows.append_column("split", pa.array([1] * len(rows), pa.int32())))


def test_a_fold_is_stale_when_its_weights_file_is_replaced_or_a_setting_counts_and_a_forest_is_not(
    study: Warehouse, tmp_path: Path
) -> None:
    file = tmp_path / "resnet50.pth"
    file.write_bytes(b"first")
    settings = TrainingSettings(image_side=SIDE, resnet50_weights=file)

    def fingerprints(chosen: Experiment, given: TrainingSettings = settings) -> dict[str, str]:
        return fold_fingerprints(study, given, chosen, ["0001", "0002"], ["0003"])

    network, forest = fingerprints(FACES), fingerprints(PAIN)
    moved = tmp_path / "elsewhere.pth"
    moved.write_bytes(b"first")
    assert fingerprints(FACES, settings.model_copy(update={"resnet50_weights": moved})) == network
    for name, value in (
        ("device", "cpu"),
        ("folds_at_once", 4),
        ("compile", "never"),
        ("encoded_faces_gb", 1.0),
    ):
        assert fingerprints(FACES, settings.model_copy(update={name: value})) == network
    assert fingerprints(FACES, settings.model_copy(update={"epochs": 3})) != network
    file.write_bytes(b"other")  # as long as before
    os.utime(file, ns=(1, 2))
    assert fingerprints(FACES)["fold_models"] != network["fold_models"]
    assert fingerprints(FACES)["frame_predictions"] != network["frame_predictions"]
    assert fingerprints(PAIN) == forest


def test_embeddings_are_stale_when_the_weights_file_is_replaced(study: Warehouse, tmp_path: Path) -> None:
    file = tmp_path / "resnet50.pth"
    file.write_bytes(b"first")
    training = TrainingSettings(image_side=SIDE, resnet50_weights=file, embedding_network="resnet50")
    settings = Settings(training=training)
    before = embeddings_fingerprint(study, settings, "0001")
    assert embeddings_fingerprint(study, settings, "0001") == before
    file.write_bytes(b"another")
    assert embeddings_fingerprint(study, settings, "0001") != before
