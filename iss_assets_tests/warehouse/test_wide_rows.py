"""Meshes that are more in all than the memory that DuckDB may use: 146 MB, with 128 MB for one thread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from iss_assets.datasets.check_ins import face_shapes
from iss_assets.datasets.series import load_series
from iss_assets.privacy.release import recognition
from iss_assets.schemas.visual import Landmarks
from iss_assets.server.timeline import meshes_of
from iss_assets.settings import FaceSettings, Settings, TrainingSettings
from iss_assets.warehouse import engine
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.export import export_tables
from iss_assets.warehouse.row_order import in_key_order
from iss_assets.warehouse.source_rows import StoredRows

POINTS = 1404
FRAMES = {"0001-01": 20_000, "0002-01": 6_000}


def meshes(video: str, frames: np.ndarray) -> pa.Table:
    """Return meshes whose points tell which they are; every 50th was not found."""
    values = np.repeat(
        frames.astype(np.float32)[:, None] + (0.5 if video == "0002-01" else 0), POINTS, axis=1
    )
    values[:, 0] += 1
    found = frames % 50 != 7
    points = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), POINTS, mask=pa.array(~found))
    n = len(frames)
    return pa.table(
        {
            "video_id": [video] * n,
            "patient_id": [video[:4]] * n,
            "frame_index": pa.array(frames, pa.int32()),
            "detected": pa.array(found),
            "points": points,
            "fingerprint": ["f"] * n,
        }
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The second video is stored before the first, whose second half comes before its first half."""
    warehouse = Warehouse(tmp_path_factory.mktemp("wide") / "warehouse.duckdb")
    half = FRAMES["0001-01"] // 2
    with warehouse.write() as writer:
        writer.append(Landmarks, meshes("0002-01", np.arange(FRAMES["0002-01"])))
        writer.append(Landmarks, meshes("0001-01", np.arange(half, 2 * half)))
        writer.append(Landmarks, meshes("0001-01", np.arange(half)))
        for video, n in FRAMES.items():
            writer.execute(
                "insert into frames by name select $1 as video_id, $1[:4] as patient_id, i as frame_index, "
                "i / 10 as time_s, i // 40 as chunk_index, 0.5 as luminance, 0.2 as contrast, 9 as sharpness, 1 as noise, "
                "0 as glare, i as picture_hash, 1 as faces_seen, 640 as width, 480 as height, 'f' as fingerprint "
                "from range($2) t(i)",
                [video, n],
            )
            writer.execute(
                "insert into faces by name select $1 as video_id, $1[:4] as patient_id, i as frame_index, "
                "200 as x1, 100 as y1, 300 as x2, 250 as y2, 0.9 as probability, 1 as faces_seen, ''::blob as crop, "
                "'f' as fingerprint from range($2) t(i)",
                [video, n],
            )
        writer.execute(
            "insert into video_quality by name select distinct video_id, patient_id, 1 as frames, '{}' as measures, "
            "'{}' as moments, []::varchar[] as flags, true as usable, '[]' as decision, []::varchar[] as rejected_flags, "
            "false as reviewed, 'f' as fingerprint from frames"
        )
    return warehouse


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "default_threads", lambda: 1)


def test_a_long_video_is_read_in_order(stored: Warehouse) -> None:
    rows = StoredRows(stored, "0001-01").of(Landmarks, ["detected", "points"])
    assert rows.column_names == ["detected", "points"]
    frames = np.arange(FRAMES["0001-01"])
    assert np.array_equal(np.asarray(rows["detected"]), frames % 50 != 7)
    points = rows["points"].combine_chunks().flatten().to_numpy().reshape(-1, POINTS)
    assert np.array_equal(points[:, -1], frames[frames % 50 != 7])


def test_a_long_video_is_exported_in_order(stored: Warehouse, tmp_path: Path) -> None:
    (exported,) = export_tables(stored, ["landmarks"], "parquet", tmp_path)
    assert exported.rows == sum(FRAMES.values())
    rows = parquet.read_table(exported.path)
    assert rows.column_names == [c.name for c in Landmarks.columns()]
    assert rows["video_id"].to_pylist() == [video for video, n in FRAMES.items() for _ in range(n)]
    assert rows["frame_index"].to_pylist() == [frame for n in FRAMES.values() for frame in range(n)]
    missing = np.asarray(rows["points"].is_null())
    assert np.array_equal(missing, np.asarray(rows["frame_index"]) % 50 == 7)
    last = rows.slice(rows.num_rows - 1)["points"].to_pylist()[0]
    assert last == [6000.5] + [5999.5] * (POINTS - 1)


def test_the_series_of_a_long_video_are_loaded(stored: Warehouse) -> None:
    videos = [{"patient_id": video[:4], "video_id": video, "place": i} for i, video in enumerate(FRAMES)]
    settings = TrainingSettings(instances_per_video=10_000)
    with stored.read() as connection:
        series = load_series(
            connection, ["mesh_series"], pa.Table.from_pylist(videos), settings, FaceSettings()
        )
    assert np.diff(series["mesh_series"].starts).tolist() == [n // 10 for n in FRAMES.values()]


def test_the_shape_of_a_face_in_a_long_video_is_measured(stored: Warehouse) -> None:
    with stored.read() as connection:
        shapes = face_shapes(connection, FaceSettings())
    assert shapes["video_id"].tolist() == list(FRAMES)


def test_meshes_of_a_moment_of_a_long_video_are_shown(stored: Warehouse) -> None:
    sent = meshes_of(stored, Settings(), "0001-01", 1500.0)
    rows = np.frombuffer(sent, "<f4").reshape(-1, 1 + 2 * 468)
    expected = [frame for frame in range(15_000, 15_100) if frame % 50 != 7]
    assert np.allclose(rows[:, 0], np.array(expected) / 10)
    # the crop lies on the picture as the margin says; points are far outside of it here, each by its frame's number
    assert np.all(np.diff(rows[:, 3]) > 0)


def test_the_patients_of_long_videos_are_compared(stored: Warehouse) -> None:
    patients, vectors = recognition.FEATURES["landmarks (face meshes)"](stored)
    assert patients == ["0001", "0002"]
    assert vectors.shape == (2, POINTS)


def test_rows_in_order_are_not_copied_and_others_are_sorted_by_the_whole_key() -> None:
    keys = [("a", 3), ("b", 1), ("b", 2)]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        rows = pa.table(
            {
                "video_id": [keys[i][0] for i in order],
                "frame_index": [keys[i][1] for i in order],
                "x": [float(i) for i in order],
            }
        )
        found = in_key_order(rows, ("video_id", "frame_index"))
        assert found["x"].to_pylist() == [0.0, 1.0, 2.0]
        assert (found is rows) == (order == [0, 1, 2])
    assert in_key_order(rows, ()) is rows


def test_a_duckdb_that_is_kept_ends_after_wide_rows_and_not_after_narrow_ones(
    stored: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps as much memory as it has taken, 130 MB after the meshes of half an hour."""
    monkeypatch.setattr(engine, "_keeping", True)
    rows = StoredRows(stored, "0001-01")
    assert rows.of(Landmarks, ["frame_index", "detected"]).num_rows == FRAMES["0001-01"]
    assert engine._engines
    assert rows.of(Landmarks, ["frame_index", "points"]).num_rows == FRAMES["0001-01"]
    assert not engine._engines
    with stored.read() as used:
        assert rows.of(Landmarks, ["points"]).num_rows == FRAMES["0001-01"]
        assert used.execute("select count(*) from landmarks").fetchone() == (sum(FRAMES.values()),)
