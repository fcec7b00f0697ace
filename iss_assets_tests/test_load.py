from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from iss_assets import load
from iss_assets.schemas.behavior import FaceBehavior
from iss_assets.schemas.prompts import PromptReadings
from iss_assets.schemas.voice import VOICE_FEATURES
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets_tests.made_up import show_faces, tiny_study


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    settings = Settings(home=folder)
    tiny_study(Warehouse(settings.warehouse_path, settings.warehouse))
    yield folder


def test_a_table_comes_as_pandas_without_its_packed_columns(home: Path) -> None:
    scores = load.table("bpi_scores", home=home)
    assert len(scores) == 16
    assert {"patient_id", "mood", "submitted_at"} <= set(scores.columns)
    assert "crop" not in load.table("faces", home=home).columns
    assert "flags" in load.table("video_quality", home=home).columns


def test_a_table_can_be_narrowed_to_patients_and_columns(home: Path) -> None:
    scores = load.table("bpi_scores", patients=["0003"], columns=["submission_id", "mood"], home=home)
    assert scores.columns.tolist() == ["submission_id", "mood"]
    assert sorted(scores["submission_id"]) == ["0003-1", "0003-2"]


def test_an_unknown_table_or_column_is_named(home: Path) -> None:
    with pytest.raises(WarehouseError, match="no table nothing"):
        load.table("nothing", home=home)
    with pytest.raises(WarehouseError, match="patients has no column name; it has patient_id"):
        load.table("patients", columns=["name"], home=home)


def test_a_home_without_a_warehouse_says_how_to_get_one_and_makes_none(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="ISS_HOME"):
        load.table("patients", home=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_home_of_the_environment_is_the_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISS_HOME", str(home))
    assert load.query("select count(*) as n from patients")["n"].tolist() == [8]


def test_folds_name_every_patient_once(home: Path) -> None:
    folds = load.splits(home=home)
    assert folds["patient_id"].is_unique
    assert folds["split"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]


def test_faces_are_decoded_in_the_order_of_their_keys(home: Path) -> None:
    faces = load.faces(patients=["0002", "0004"], home=home)
    assert len(faces) == 24
    pixels = faces.to_numpy()
    assert pixels.shape == (24, 160, 160, 3)
    assert pixels.dtype == np.uint8
    # red says whose crop it is, blue which frame
    assert np.allclose(pixels[:, 80, 80, 0], (faces.keys["patient_id"].astype(int) - 1) * 20, atol=3)
    assert np.allclose(pixels[:, 80, 80, 2], faces.keys["frame_index"] * 20, atol=3)
    assert faces.to_numpy(np.array([5])).shape == (1, 160, 160, 3)


def test_faces_are_thinned_out_evenly_and_to_exactly_the_limit_per_patient(home: Path) -> None:
    keys = load.faces(limit=4, home=home).keys
    assert keys.groupby("patient_id").size().tolist() == [4] * 8
    assert set(keys[keys["patient_id"] == "0001"]["video_id"]) == {"0001-1", "0001-2"}
    assert len(load.faces(["0001"], limit=100, home=home)) == 12


def test_a_voice_is_a_row_a_video_or_a_row_a_chunk(home: Path) -> None:
    videos = load.voice(["0002"], home=home)
    assert videos["video_id"].tolist() == ["0002-1", "0002-2"]
    assert videos["f0_median_hz"].tolist() == [110, 111]
    assert "chunk_index" not in videos.columns

    chunks = load.voice(["0002"], chunks=True, home=home)
    assert chunks["chunk_index"].tolist() == [0, 1, 0, 1]
    assert np.array_equal(chunks["f0_median_hz"], [115, np.nan, 116, np.nan], equal_nan=True)


def test_behavior_is_a_row_a_video_or_a_row_a_chunk(home: Path) -> None:
    videos = load.behavior(["0003"], home=home)
    assert videos["video_id"].tolist() == ["0003-1", "0003-2"]
    assert videos["still_share"].tolist() == pytest.approx([0.2, 0.2])
    chunks = load.behavior(["0003"], chunks=True, home=home)
    assert chunks["chunk_index"].tolist() == [0, 1, 0, 1]
    assert chunks["still_share"].tolist() == pytest.approx([0.21, 0.22, 0.21, 0.22])


def test_behavior_of_every_face_comes_in_the_order_of_patients_videos_and_time(home: Path) -> None:
    settings = Settings(home=home)
    scrambled = [("0004-1", 1), ("0003-2", 0), ("0003-1", 10), ("0004-1", 0), ("0003-1", 9)]
    seen = {"repeated": False, "facing": True, "fit_error": 0.1, "fingerprint": "made-up"}
    rows = [
        {**seen, "video_id": video, "patient_id": video[:4], "frame_index": n, "time_s": n / 10, "chunk_index": 0,
         "mouth_open": n / 100}
        for video, n in scrambled
    ]  # fmt: skip
    Warehouse(settings.warehouse_path, settings.warehouse).replace(
        FaceBehavior, FaceBehavior.from_rows(rows), {}
    )
    loaded = load.behavior_frames(home=home)
    assert loaded[["video_id", "frame_index"]].to_numpy().tolist() == [list(row) for row in sorted(scrambled)]
    assert loaded["mouth_open"].tolist() == pytest.approx([0.09, 0.1, 0, 0, 0.01])
    own = load.behavior_frames(["0004"], home=home)
    assert own[["video_id", "frame_index"]].to_numpy().tolist() == [["0004-1", 0], ["0004-1", 1]]


def test_temperatures_are_a_row_a_submission_with_a_readable_picture(home: Path) -> None:
    assert load.thermal(home=home)["submission_id"].tolist() == ["0001-1"]


def test_how_alike_faces_are_comes_in_order_and_without_the_vectors(home: Path) -> None:
    settings = Settings(home=home)
    # written in another order than that of patients
    show_faces(Warehouse(settings.warehouse_path, settings.warehouse), {"0002-1": [7, 8], "0001-2": [3]})
    loaded = load.face_identity(home=home)
    assert loaded[["video_id", "moment"]].to_numpy().tolist() == [["0001-2", 0], ["0002-1", 0], ["0002-1", 1]]
    assert loaded["start_s"].tolist() == [0, 0, 1]
    assert "vector" not in loaded.columns
    assert load.face_identity(["0001"], home=home)["video_id"].tolist() == ["0001-2"]


def test_readings_come_in_order(home: Path) -> None:
    settings = Settings(home=home)
    rows = [
        {"video_id": video, "patient_id": video[:4], "read": read, "fingerprint": "made-up"}
        for video, read in (("0002-1", False), ("0001-2", None), ("0001-1", True))
    ]
    tables = Warehouse(settings.warehouse_path, settings.warehouse)
    tables.replace(PromptReadings, PromptReadings.from_rows(rows), {})
    assert load.prompt_readings(home=home)["video_id"].tolist() == ["0001-1", "0001-2", "0002-1"]
    assert load.prompt_readings(["0002"], home=home)["read"].tolist() == [False]


def test_words_say_whether_they_may_identify_somebody(home: Path) -> None:
    words = load.transcript_words(["0001"], home=home)
    assert words["word"].tolist() == ["It", "hurts", "in", "Springfield"] * 2
    assert words["span"].tolist() == [None, None, None, "place"] * 2
    assert load.transcripts(["0001"], home=home)["text"].tolist() == ["It hurts in Springfield"] * 2
    features = load.text_features(home=home)
    assert features["words"].tolist()[:4] == [50, 50, 51, 51]
    assert "embedding" not in features.columns


def test_the_training_set_of_a_measured_experiment_has_named_columns(home: Path) -> None:
    data = load.training_set("forest_voice", home=home)
    frame = data.to_pandas()
    assert len(frame) == 16
    assert set(VOICE_FEATURES) <= set(frame.columns)
    assert data.inputs["voice"].shape == (16, len(VOICE_FEATURES))


def test_landmarks_are_points_and_only_of_faces_that_have_them(home: Path) -> None:
    keys, points = load.landmarks(home=home)
    assert points.shape == (80, 468, 3)
    assert points.dtype == np.float32
    assert (keys["frame_index"] > 0).all()
    assert points[..., :2].min() > 0 and points[..., :2].max() < 1


def test_spectrograms_come_as_one_array(home: Path) -> None:
    keys, mel = load.spectrograms(["0001"], home=home)
    assert mel.shape == (4, 128, 173)
    assert keys["chunk_index"].tolist() == [0, 1, 0, 1]
    keys, mel = load.spectrograms([], home=home)
    assert len(keys) == len(mel) == 0


def test_the_two_sides_of_a_fold_share_no_patient_and_lose_none(home: Path) -> None:
    data = load.training_set("forest_landmarks", home=home)
    assert data.splits == [1, 2, 3, 4]
    for split in data.splits:
        train, test = data.fold(split)
        assert set(train.items.patients).isdisjoint(test.items.patients)
        assert len(train) + len(test) == len(data)
    with pytest.raises(ValueError, match="no patient with items is in split 9"):
        data.fold(9)


def test_training_arrays_come_as_numpy(home: Path) -> None:
    x, y = load.training_set("forest_landmarks", home=home).to_numpy()
    assert x.shape == (80, 1404)
    assert y.tolist().count(0) == y.tolist().count(1) == 40
    with pytest.raises(ValueError, match="not rows of numbers"):
        load.training_set("fusion_1", home=home).to_numpy()


def test_training_items_come_as_pandas_with_named_columns(home: Path) -> None:
    frame = load.training_set("forest_pain", home=home).to_pandas()
    assert {"patient_id", "target", "split", "mood", "sex_female", "timeframe_late_am"} <= set(frame.columns)
    assert set(frame["target"]) == {"No Pain", "Pain"}
    assert frame["weight"].tolist() == [6.0] * 16


def test_training_items_come_as_a_torch_dataset(home: Path) -> None:
    import torch
    from torch.utils.data import DataLoader

    data = load.training_set("fusion_1", patients=["0001", "0002"], home=home)
    loader = DataLoader(data.to_torch(), batch_size=4)
    inputs, target = next(iter(loader))
    assert inputs["faces"].shape == (4, 3, 160, 160)
    assert inputs["faces"].dtype == torch.float32
    assert inputs["faces"].min() >= 0 and inputs["faces"].max() <= 1
    assert inputs["landmarks"].shape == (4, 1404)
    assert target.tolist() == [0, 0, 0, 0]


def test_a_study_without_folds_says_so(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    Warehouse(settings.warehouse_path, settings.warehouse).create()
    with pytest.raises(WarehouseError, match="cv_splits"):
        load.training_set("fusion_1", home=tmp_path)


def test_loading_changes_nothing_in_the_warehouse(home: Path) -> None:
    file = Settings(home=home).warehouse_path
    before = file.read_bytes()
    load.table("patients", home=home)
    load.faces(home=home)
    load.training_set("fusion_3", home=home)
    assert file.read_bytes() == before
