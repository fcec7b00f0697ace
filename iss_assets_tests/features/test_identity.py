"""Moments of a video's face, from stored crops and meshes of two portraits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from iss_assets.features.identity import measure_video, stored_moments
from iss_assets.features.self_test import RowsInMemory, run_feature_self_test
from iss_assets.media import face_networks
from iss_assets.media.identity import compare_videos, distances
from iss_assets.media.landmarks import encode_crop
from iss_assets.schemas.identity import FaceIdentity
from iss_assets.settings import IdentitySettings, Settings
from iss_assets.synthetic.portraits import portrait_pixels
from iss_assets_tests.media.test_identity import BOXES, portrait_face
from iss_assets_tests.media.test_measures import MASKS, covered

VIDEO = {"video_id": "0001-01", "patient_id": "0001"}


def _rows(
    shown: list[str],
    *,
    unmeshed: frozenset[int] = frozenset(),
    masked: frozenset[int] = frozenset(),
    cut: float = 0.0,
) -> RowsInMemory:
    """Return the rows of a video that shows a portrait in each frame, a share of the face beyond the picture's left edge."""
    edge = {
        name: round(cut * (BOXES[name][2] - BOXES[name][0])) + BOXES[name][0] if cut else 0 for name in BOXES
    }
    faces, meshes = [], []
    for frame, name in enumerate(shown):
        crop, points, _ = portrait_face(name, left_out=cut)
        x1, y1, x2, y2 = BOXES[name]
        box = np.array([x1 - edge[name], y1, x2 - edge[name], y2])
        crop = covered(crop, MASKS["blue"]) if frame in masked else crop
        places = dict(zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True))
        faces.append({"frame_index": frame, **places, "crop": encode_crop(crop)})
        found = frame not in unmeshed
        meshes.append(
            {"frame_index": frame, "detected": found, "points": points.ravel().tolist() if found else None}
        )
    frames = {
        "frame_index": pa.array(range(len(shown)), pa.int32()),
        "time_s": [n / 10 for n in range(len(shown))],
        "width": [portrait_pixels(name).shape[1] - edge[name] for name in shown],
        "height": [portrait_pixels(name).shape[0] for name in shown],
    }
    mesh_schema = pa.schema(
        [("frame_index", pa.int32()), ("detected", pa.bool_()), ("points", pa.list_(pa.float32(), 1404))]
    )
    return RowsInMemory(
        {
            "frames": pa.table(frames),
            "faces": pa.Table.from_pylist(faces),
            "landmarks": pa.Table.from_pylist(meshes, mesh_schema),
        }
    )


def _measure(rows: RowsInMemory, **settings: object) -> pa.Table:
    """Measure, complete the rows as the asset does, and check them."""
    identity = IdentitySettings.model_validate(settings)
    found = measure_video(VIDEO, rows, Settings(identity=identity)).get("face_identity")
    if found is None:
        return FaceIdentity.arrow_schema().empty_table()
    for name, value in {**VIDEO, "fingerprint": "f"}.items():
        found = found.append_column(name, pa.array([value] * found.num_rows))
    return FaceIdentity.check_rows(found.select(FaceIdentity.arrow_schema().names))


def test_a_video_of_one_person_has_near_moments_of_five_faces_each() -> None:
    found = _measure(_rows(["collins"] * 12), faces=10)
    assert found["faces"].to_pylist() == [5, 5] and found["moment"].to_pylist() == [0, 1]
    assert found["method"].to_pylist() == ["sface"] * 2
    assert max(found["distance"].to_pylist()) < 0.01
    assert found["start_s"][0].as_py() == 0 and found["end_s"].to_pylist() == [
        found["start_s"][1].as_py(),
        pytest.approx(1.2),
    ]
    np.testing.assert_allclose(np.linalg.norm(found["vector"].to_pylist(), axis=1), 1, atol=1e-5)


def test_a_person_who_takes_over_is_far_away_and_reported_with_the_moments() -> None:
    found = _measure(_rows(["collins"] * 20 + ["hopper"] * 10), faces=30)
    assert found["faces"].to_pylist() == [5] * 6
    distance = found["distance"].to_numpy()
    assert distance[:4].max() < 0.01 and distance[4:].min() > 0.8
    person = compare_videos(stored_moments(found), Settings().quality)["0001-01"]
    assert person.spans == [(2.0, 3.0)] and person.other_share == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_a_face_at_the_picture_s_edge_is_still_the_same_person_s(name: str) -> None:
    """The box that was found reaches beyond the picture, and the crop does not: it is narrower than the box."""
    whole, cut = (
        np.array(_measure(_rows([name] * 5, cut=share))["vector"].to_pylist()) for share in (0, 0.3)
    )
    assert distances(whole, cut).max() < 0.15, "with the proportions of the box it is 0.22 and 0.27"


def test_faces_without_a_mesh_and_covered_ones_are_left_out() -> None:
    rows = _rows(["collins"] * 20, unmeshed=frozenset(range(0, 10)), masked=frozenset(range(12, 15)))
    found = _measure(rows, faces=10)
    assert found["faces"].to_pylist() == [2, 5], "three of the five are covered"
    assert found["start_s"].to_pylist() == [1.0, 1.5]
    nothing = _measure(_rows(["collins"] * 10, unmeshed=frozenset(range(10))))
    assert nothing.num_rows == 0
    assert _measure(_rows(["collins"] * 10, masked=frozenset(range(10)))).num_rows == 0


def test_without_a_network_there_are_no_rows(remove_sface: Callable[[], None]) -> None:
    remove_sface()
    assert measure_video(VIDEO, _rows(["collins"] * 10), Settings()) == {}


def test_stored_rows_give_the_moments_back_video_by_video() -> None:
    one, other = _measure(_rows(["collins"] * 12), faces=10), _measure(_rows(["hopper"] * 5))
    other = other.set_column(0, "video_id", pa.array(["0001-02"] * other.num_rows))
    found = stored_moments(pa.concat_tables([one, other]))
    assert list(found) == ["0001-01", "0001-02"]
    assert [len(moments.faces) for moments in found.values()] == [2, 1]
    assert found["0001-02"].start_s.tolist() == [0.0] and found["0001-01"].vectors.shape == (2, 128)
    assert distances(found["0001-01"].vectors[0], found["0001-02"].vectors[0]) > 0.8
    assert stored_moments(one.slice(0, 0)) == {}


def test_a_network_that_cannot_be_loaded_is_the_machines_fault_and_no_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The self-test decides whose fault an error is; its film shows no face."""
    run_feature_self_test("identity", Settings())
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"half a model")
    monkeypatch.setattr(face_networks, "sface_file", lambda: damaged)
    with pytest.raises(face_networks.ModelFileError):
        run_feature_self_test("identity", Settings())
