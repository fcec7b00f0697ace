"""Series over the time of videos from the warehouse: whose, in which seconds, and free of identity and pose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from iss_assets.datasets.items import data_hash, left_out, load_items
from iss_assets.datasets.series import load_series, movement
from iss_assets.load import training_set
from iss_assets.modeling.experiments import Experiment, experiment
from iss_assets.modeling.folds import PatientLevel, assign_splits
from iss_assets.modeling.series import mean_by_instance
from iss_assets.schemas.behavior import BEHAVIOR_SERIES, FaceBehavior
from iss_assets.schemas.modeling import CvSplits, Embeddings
from iss_assets.settings import FaceSettings, TrainingSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.features.synthetic_head import expression, film, turned

EMBEDDED, MESH, BEHAVIOR = (experiment(f"mil_{name}") for name in ("embeddings", "mesh", "behavior"))
TENTHS = TrainingSettings(instance_s=0.1)


@pytest.fixture
def measured(study: Warehouse) -> Warehouse:
    """The small study with embeddings and behavior; frame 3 shows the picture of frame 2 again."""
    frames = study.query("select patient_id, video_id, frame_index, time_s from frames").to_pylist()
    embeddings = [
        {"video_id": f["video_id"], "patient_id": f["patient_id"], "frame_index": f["frame_index"],
         "embedding": [float(f["frame_index"]), float(f["patient_id"])], "weights_origin": "random", "fingerprint": "e"}
        for f in frames if f["frame_index"] < 5
    ]  # fmt: skip
    behavior = [
        {**f, "chunk_index": 0, "repeated": f["frame_index"] == 3, "facing": True, "blink": f["frame_index"] == 1,
         "yaw_deg": 10.0 * f["frame_index"] if f["frame_index"] != 0 else None, "fingerprint": "b"}
        for f in frames
    ]  # fmt: skip
    study.replace(Embeddings, Embeddings.from_rows(embeddings), {})
    study.replace(FaceBehavior, FaceBehavior.from_rows(behavior), {})
    return study


def test_an_item_is_a_video_and_an_instance_the_mean_of_its_samples(measured: Warehouse) -> None:
    items = load_items(measured, EMBEDDED, TrainingSettings(instance_s=0.2), FaceSettings())
    assert items.patients == ["0001", "0002", "0003"]
    assert items.video_id.tolist() == ["s1a", "s1b", "s2a", "s2b", "s3a", "s3b"]
    series = items.series["embedding_series"]
    assert series.lengths.tolist() == [3] * 6
    assert series.number[:3].tolist() == [0, 1, 2]
    # frames 0 and 1, 2 and 3, 4; the second number is the patient's
    expected = [[0.5, 1], [2.5, 1], [4, 1]]
    assert series.values[:3].tolist() == expected
    assert np.array_equal(series.values[-3:, 1], [3, 3, 3])
    assert items.target.tolist() == [0, 0, 1, 1, 2, 2]


def test_repeated_pictures_do_not_count_and_what_was_not_measured_is_missing(measured: Warehouse) -> None:
    series = load_items(measured, BEHAVIOR, TENTHS, FaceSettings()).series["behavior_series"]
    assert series.number[: series.lengths[0]].tolist() == [0, 1, 2, 4, 5]
    yaw, blink = (series.values[:5, BEHAVIOR_SERIES.index(n)] for n in ("yaw_deg", "blink"))
    assert np.array_equal(yaw, [np.nan, 10, 20, 40, 50], equal_nan=True)
    assert blink.tolist() == [0, 1, 0, 0, 0]


def test_meshes_are_of_faces_that_have_one(measured: Warehouse) -> None:
    items = load_items(measured, MESH, TENTHS, FaceSettings())
    assert items.series["mesh_series"].values.shape == (6 * 4, 1404)
    assert items.instances_per_video().tolist() == [4] * 6


def test_a_mesh_says_what_a_face_does_and_not_whose_it_is_or_where_it_turns() -> None:
    still, raised = expression(), expression(mouth=0.2)
    quiet = [turned(still, yaw, 0, 0) for yaw in (-20.0, -10.0, 0.0, 10.0, 20.0)]
    moved = movement(np.stack([*quiet, turned(raised, 5.0, 0, 0)]))
    assert np.abs(moved[:5]).max() < 1e-3, "turning is not a movement of the face"
    assert np.abs(moved[5]).max() > 0.03
    wider = np.stack([*quiet, turned(raised, 5.0, 0, 0)]) * 3.0
    assert np.allclose(movement(wider), moved, atol=1e-6), "nor is coming closer"


def film_in(connection: duckdb.DuckDBPyConnection, **how: Any) -> pa.Table:
    """Put a film of a nodding head that opens its mouth into tables; return its only video."""
    heads = [
        turned(expression(mouth=0.1 * (n % 10 > 4)), 10 * np.sin(n / 5), 5 * np.cos(n / 5), 0)
        for n in range(40)
    ]
    for name, rows in zip(("frames", "faces", "landmarks"), film(heads, **how), strict=True):
        for key, value in (("video_id", "s1"), ("patient_id", "0001")):
            rows = rows.append_column(key, pa.array([value] * rows.num_rows))
        connection.register(name, rows)
    return pa.table({"patient_id": ["0001"], "video_id": ["s1"], "place": pa.array([0], pa.int32())})


@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf])
def test_a_mesh_that_went_wrong_is_missing_and_changes_no_other(wrong: float) -> None:
    faces = np.stack([turned(expression(mouth=n / 20), n, 0, 0) for n in range(10)])
    spoiled = faces.copy()
    spoiled[4] = wrong
    found, others = movement(spoiled), movement(np.delete(faces, 4, axis=0))
    assert np.isnan(found[4]).all() and np.allclose(np.delete(found, 4, axis=0), others, atol=1e-9)
    assert np.isnan(movement(np.full((3, 468, 3), wrong))).all()


def test_an_infinite_value_counts_as_not_measured() -> None:
    """One of them in a whole study would make every model's loss infinite."""
    values = np.array([[1.0, np.inf], [3.0, 2.0], [-np.inf, np.nan]])
    mean, _, _ = mean_by_instance(values, np.zeros(3, int), np.array([0, 0, 1]))
    assert np.array_equal(mean, np.array([[2, 2], [np.nan, np.nan]]), equal_nan=True)


@pytest.mark.parametrize("how", [{"sides": (1.3, 1.0)}, {"at": (50.0, 200.0)}, {"at": (320.0, 30.0)}])
def test_a_face_at_the_picture_s_edge_moves_as_one_in_its_middle(how: dict) -> None:
    """Its box reaches beyond the picture and its crop does not; the mesh is stored in fractions of the crop."""

    def series(**how: Any) -> np.ndarray:
        with duckdb.connect() as connection:
            chosen = film_in(connection, **how)
            return load_series(connection, ["mesh_series"], chosen, TENTHS, FaceSettings())[
                "mesh_series"
            ].values

    whole, other = series(), series(**how)
    signal = np.sqrt((whole**2).mean())
    assert whole.shape == (40, 1404) and np.sqrt(((whole - other) ** 2).mean()) < 0.15 * signal


def test_a_video_has_at_most_as_many_instances_as_the_setting_says(measured: Warehouse) -> None:
    few = TrainingSettings(instance_s=0.1, instances_per_video=2)
    series = load_items(measured, EMBEDDED, few, FaceSettings()).series["embedding_series"]
    assert series.lengths.tolist() == [2] * 6
    assert series.number[:2].tolist() == [1, 3]


def test_an_entry_with_several_series_reads_them_side_by_side(measured: Warehouse) -> None:
    both = Experiment("both", None, "Both", ("embedding_series", "behavior_series"), "video", 4, "attention")
    items = load_items(measured, both, TENTHS, FaceSettings())
    one, other = items.series["embedding_series"], items.series["behavior_series"]
    assert (
        one.number[: one.lengths[0]].tolist()
        == other.number[: other.lengths[0]].tolist()
        == [0, 1, 2, 3, 4, 5]
    )
    assert np.isnan(one.values[5]).all(), "no face in the last frame"
    assert np.isnan(other.values[3]).all(), "the fourth picture is the third again"


@pytest.mark.parametrize("chosen", [EMBEDDED, MESH, BEHAVIOR], ids=lambda e: e.name)
def test_a_video_that_was_not_measured_is_left_out_and_said_to_be(
    chosen: Experiment, measured: Warehouse
) -> None:
    (name,) = chosen.inputs
    table = {
        "embedding_series": "embeddings",
        "mesh_series": "landmarks",
        "behavior_series": "face_behavior",
    }[name]
    before = data_hash(measured, chosen, TENTHS)
    with measured.write() as writer:
        writer.execute(f"delete from {table} where video_id = 's2a'")
    assert "s2a" not in load_items(measured, chosen, TENTHS, FaceSettings()).video_id
    rows = left_out(measured, chosen, TENTHS).to_pylist()
    assert [r["reason"] for r in rows if r["video_id"] == "s2a"] == [f"no_{name}"]
    assert data_hash(measured, chosen, TENTHS) != before


def test_series_come_to_notebooks_as_arrays_and_as_a_torch_dataset(
    measured: Warehouse, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    store = Warehouse(measured.snapshot(home / "warehouse.duckdb"))
    levels = [PatientLevel("0001", "None"), PatientLevel("0002", "Low"), PatientLevel("0003", "Moderate")]
    store.replace(CvSplits, assign_splits(levels, folds=3), where={})
    data = training_set("mil_behavior", home=home)
    assert data.series["behavior_series"].lengths.tolist() == [1] * 6
    inputs, target = data.to_torch()[2]
    assert inputs["behavior_series"].shape == (1, len(BEHAVIOR_SERIES)) and target == 1
    with pytest.raises(ValueError, match="differ in length"):
        data.to_numpy()
