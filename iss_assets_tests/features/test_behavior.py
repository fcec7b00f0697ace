"""What a synthetic head does is what its tables say: blinks, speech, nods, stillness, and nothing where nothing was seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as arrow
import pytest

from iss_assets.features.behavior import measure_behavior
from iss_assets.schemas.base import InvalidTable
from iss_assets.schemas.behavior import BEHAVIOR_MEASURES, FaceBehavior, FaceBehaviorSummary
from iss_assets.settings import BehaviorSettings, FaceSettings
from iss_assets_tests.features.synthetic_head import expression, film, head, turned
from iss_assets_tests.features.test_blinks import irregular

SETTINGS = BehaviorSettings()


def measure(
    heads: list[Any], times: Any = None, **how: Any
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Return the columns of `face_behavior`, and the summary's rows: the whole video first."""
    made = measure_behavior(*film(heads, times, **how), SETTINGS, FaceSettings())
    for model in (FaceBehavior, FaceBehaviorSummary):
        rows = made[model.__table__]
        for name, text in (("video_id", "s1"), ("patient_id", "0001"), ("fingerprint", "f")):
            rows = rows.append_column(name, arrow.array([text] * rows.num_rows, arrow.string()))
        model.check_rows(rows)
    samples = {name: made["face_behavior"][name].to_numpy() for name in made["face_behavior"].column_names}
    return samples, made["face_behavior_summary"].to_pylist()


def test_blinks_are_counted_per_video_and_chunk_at_irregular_times() -> None:
    times = irregular(16)
    middles = (1.3, 3.2, 5.1, 13.7)
    closed = [max(np.clip(2 - 4 * abs(t - m) / 0.4, 0, 1) for m in middles) for t in times]
    samples, (whole, *chunks) = measure([expression(blink=0.9 * c) for c in closed], times)
    assert whole["blinks"] == 4 and whole["blinks_per_minute"] == pytest.approx(15, rel=0.02)
    assert [c["blinks"] for c in chunks] == [2, 1, 0, 1]
    assert samples["blink"].astype(bool).tolist() == [
        bool(samples["eye_openness"][n] < 0.8) for n in range(160)
    ]
    assert samples["eye_openness"].max() == pytest.approx(1, abs=0.01)
    # an eye nine tenths shut, and open again within 0.4 s, is less than half open for 0.29 s
    assert whole["long_closures"] == 0 and whole["closed_share"] == pytest.approx(4 * 0.29 / 16, abs=0.015)


def test_a_talking_mouth_moves_and_a_smile_lifts_its_corners() -> None:
    times = irregular(12)
    talk = [0.12 * max(0.0, np.sin(2 * np.pi * 2.2 * t)) if t < 6 else 0.0 for t in times]
    smile = [0.08 if t >= 8 else 0.0 for t in times]
    rest, _ = measure([head()])
    samples, (whole, first, second, third) = measure(
        [expression(mouth=m, corners=c) for m, c in zip(talk, smile, strict=True)], times
    )
    assert samples["mouth_open"] - rest["mouth_open"] == pytest.approx(talk, abs=1e-3)
    assert samples["jaw_drop"] - rest["jaw_drop"] == pytest.approx(talk, abs=4e-3)
    # the middle of the lips drops by half of the opening
    lifted = np.array(smile) + np.array(talk) / 2
    assert samples["lip_corners"] - rest["lip_corners"] == pytest.approx(lifted, abs=1e-3)
    assert first["mouth_motion"] > 0.03 > 0.001 > third["mouth_motion"]
    assert third["lip_corners_median"] - second["lip_corners_median"] == pytest.approx(0.08, abs=1e-3)
    assert whole["mouth_open_range"] > 0.08


def test_lowered_brows_are_lower_than_the_video_s_own() -> None:
    down = [0.0] * 60 + [0.05] * 20
    samples, (whole, *_) = measure([expression(brows=d) for d in down])
    assert samples["brow_lowering"][:60] == pytest.approx(0, abs=1e-3)
    assert samples["brow_lowering"][60:].min() > 0.03
    assert whole["brow_lowering_p90"] > 0.03


@pytest.mark.parametrize(("hertz", "axis"), [(1.0, 1), (1.75, 1), (1.25, 0)])
def test_the_rhythm_of_nodding_and_shaking_is_found(hertz: float, axis: int) -> None:
    times = irregular(16)
    moves = [4 * np.sin(2 * np.pi * hertz * t) for t in times]
    pose = [(m, 0, 0) if axis == 0 else (0, m, 0) for m in moves]
    _, rows = measure([turned(head(), *p) for p in pose], times)
    name, other, moved, speed_of = (
        ("shake_hz", "nod_hz", "yaw", "pitch") if axis == 0 else ("nod_hz", "shake_hz", "pitch", "yaw")
    )
    for row in rows:
        assert row[name] == pytest.approx(hertz) and row[other] is None
        both = np.hypot(row[f"{moved}_slow_deg"], row[f"{moved}_fast_deg"])
        assert both == pytest.approx(4 / np.sqrt(2), rel=0.15)
        assert row[f"{speed_of}_fast_deg"] < 0.2
    part = "slow" if hertz <= 1 else "fast"
    assert rows[0][f"{moved}_{part}_deg"] > 0.8 * 4 / np.sqrt(2)


def test_a_camera_in_low_light_shows_slow_motion_and_rhythms_and_leaves_the_fast_part_open() -> None:
    """At 7.5 pictures per second a sine of 3.75 Hz is 0 at every picture: what cannot be seen is empty, and not enormous."""
    times = [n / 7.5 for n in range(90)]
    moves = [(6 * np.sin(np.pi * t), 3 * np.sin(2 * np.pi * 1.75 * t), 0) for t in times]
    _, rows = measure([turned(head(), *pose) for pose in moves], times)
    for row in rows:
        assert row["nod_hz"] == pytest.approx(1.75) and 3.5 < row["yaw_slow_deg"] < 4.3
        assert row["yaw_fast_deg"] is row["pitch_fast_deg"] is row["mouth_motion"] is None
        assert all(row[name] is None or abs(row[name]) < 1000 for name in BEHAVIOR_MEASURES)


def test_a_still_head_is_still_and_a_turning_one_turns_as_fast_as_it_does() -> None:
    yaw = [0.0] * 40 + [20.0 * n / 20 for n in range(20)] + [20.0] * 30
    samples, (whole, *_) = measure([turned(head(), y, 0, 0) for y in yaw])
    assert samples["turn_speed"][45:55] == pytest.approx(10, abs=0.1)
    assert samples["turn_speed"][:35] == pytest.approx(0, abs=0.2)
    assert whole["still_share"] == pytest.approx(68 / 90, abs=0.06)
    assert whole["longest_still_s"] == pytest.approx(4, abs=0.3)
    assert whole["turn_speed_p90"] == pytest.approx(10, abs=0.5)


def test_a_head_that_moves_across_the_picture_without_turning_shifts() -> None:
    frames, faces, landmarks = film([head()] * 30)
    moved = {name: arrow.array(faces[name].to_numpy() + 4.5 * np.arange(30)) for name in ("x1", "x2")}
    faces = faces.set_column(1, "x1", moved["x1"]).set_column(3, "x2", moved["x2"])
    rows = measure_behavior(frames, faces, landmarks, SETTINGS, FaceSettings())["face_behavior"]
    # 45 pixels a second at 90 pixels between the eyes, in whole pixels
    assert rows["shift_speed"].to_numpy()[5:-5] == pytest.approx(0.5, abs=0.05)
    assert rows["turn_speed"].to_numpy().max() < 1


def test_gaps_are_gaps() -> None:
    """No speed, blink or stillness crosses a face that is missing; what was seen is counted by its time."""
    heads: list[Any] = [turned(head(), 10, 0, 0)] * 30 + [None] * 20 + [turned(head(), -10, 0, 0)] * 30
    samples, (whole, *chunks) = measure(heads)
    assert len(samples["time_s"]) == 60
    assert samples["turn_speed"].max() < 0.5
    assert whole["pictures"] == 80 and whole["measured"] == 60
    assert whole["seconds"] == pytest.approx(5.8)
    assert whole["longest_still_s"] == pytest.approx(2.9)
    assert [c["measured"] for c in chunks] == [30, 30]


def test_repeated_pictures_count_once() -> None:
    """A picture that is shown twice, or a frozen one, says nothing about stillness."""
    pose = [20 * np.sin(t / 3) for t in range(40)]
    heads = [turned(head(), y, 0, 0) for y in pose for _ in (0, 1)]
    same_time, same_picture = [n // 2 / 10 for n in range(80)], [n // 2 for n in range(80)]
    once = measure([turned(head(), y, 0, 0) for y in pose])[1][0]
    for how in (
        {"times": same_time},
        {"times": [n / 20 for n in range(80)], "hashes": same_picture},
    ):
        samples, (whole, *_) = measure(heads, **how)
        assert samples["repeated"].tolist() == [n % 2 == 1 for n in range(80)]
        assert np.isnan(samples["turn_speed"][1::2].astype(float)).all()
        assert whole["pictures"] == whole["measured"] == 40
        assert whole["yaw_sd_deg"] == pytest.approx(once["yaw_sd_deg"], abs=0.01)
        assert whole["turn_speed_median"] == pytest.approx(once["turn_speed_median"], rel=0.05)
    frozen, (still, *_) = measure([head()] * 50, hashes=[7] * 50)
    assert still["pictures"] == 1 and still["still_share"] is None and frozen["repeated"].sum() == 49


def test_the_face_of_a_head_that_is_turned_away_is_left_out() -> None:
    heads = [expression()] * 40 + [turned(expression(mouth=0.4), 45, 0, 0)] * 60
    samples, (whole, *_) = measure(heads)
    assert whole["away_share"] == pytest.approx(0.6)
    assert whole["facing"] == 40 and whole["mouth_open_range"] < 0.01
    assert samples["facing"].tolist() == [True] * 40 + [False] * 60
    assert samples["yaw_deg"][40:] == pytest.approx(45, abs=0.3)


def test_a_mesh_that_is_not_the_face_is_not_measured() -> None:
    crumpled = head() + 0.3 * np.random.default_rng(0).standard_normal((468, 3))
    samples, (whole, *_) = measure([head()] * 20 + [crumpled] + [head()] * 20)
    assert samples["fit_error"][20] > SETTINGS.max_fit_error > samples["fit_error"][:20].max()
    assert np.isnan(samples["yaw_deg"][20]) and not samples["facing"][20]
    assert whole["measured"] == 40 and whole["pictures"] == 41


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf, -3e30])
def test_a_mesh_whose_points_coincide_is_no_blink_and_no_leap(wrong: float) -> None:
    """Such a mesh fits a face of no size without any error; the video's other meshes are measured as if it were not there."""
    frames, faces, landmarks = film([turned(head(), n / 4, 0, 0) for n in range(41)])
    points = np.array(landmarks["points"].to_pylist(), np.float32)
    points[20] = wrong
    cells = arrow.array(list(points), landmarks["points"].type)
    spoiled = landmarks.set_column(landmarks.column_names.index("points"), "points", cells)
    missing = landmarks.filter(arrow.array(np.arange(41) != 20))
    made, without = (
        measure_behavior(frames, faces, meshes, SETTINGS, FaceSettings()) for meshes in (spoiled, missing)
    )
    row = made["face_behavior"].slice(20, 1).to_pylist()[0]
    measured = {
        name: value for name, value in row.items() if name not in ("frame_index", "time_s", "chunk_index")
    }
    assert set(measured.values()) <= {None, False}
    assert made["face_behavior_summary"] == without["face_behavior_summary"]
    assert made["face_behavior_summary"]["blinks"][0].as_py() == 0
    every = spoiled.set_column(2, "points", arrow.array([points[20]] * 41, landmarks["points"].type))
    whole = measure_behavior(frames, faces, every, SETTINGS, FaceSettings())[
        "face_behavior_summary"
    ].to_pylist()[0]
    assert whole["measured"] == 0 and all(whole[name] is None for name in BEHAVIOR_MEASURES)


def test_rows_with_infinite_numbers_are_refused() -> None:
    rows = measure_behavior(*film([head()] * 3), SETTINGS, FaceSettings())["face_behavior"]
    for name, text in (("video_id", "s1"), ("patient_id", "0001"), ("fingerprint", "f")):
        rows = rows.append_column(name, arrow.array([text] * 3, arrow.string()))
    place = rows.column_names.index("shift_speed")
    rows = rows.set_column(place, "shift_speed", arrow.array([1.0, np.inf, 2.0], arrow.float32()))
    with pytest.raises(InvalidTable, match=r"shift_speed.*infinite"):
        FaceBehavior.check_rows(rows)


def test_a_video_without_a_face_has_a_summary_that_says_so() -> None:
    samples, rows = measure([None] * 90)
    assert not len(samples["time_s"])
    assert [r["chunk_index"] for r in rows] == [-1, 0, 1, 2]
    assert all(r["pictures"] and r["measured"] == r["facing"] == 0 for r in rows)
    assert all(r[name] is None for r in rows for name in (*BEHAVIOR_MEASURES, "blinks"))


def test_a_video_without_frames_has_no_rows() -> None:
    samples, rows = measure([])
    assert not len(samples["time_s"]) and rows == []


def test_a_single_mesh_has_a_pose_and_no_statistics() -> None:
    samples, (whole, *_) = measure([turned(head(), 10, 5, 0)])
    assert samples["yaw_deg"] == pytest.approx([10], abs=0.2)
    assert whole["measured"] == 1 and whole["yaw_sd_deg"] is None and whole["blinks_per_minute"] is None


def test_an_hour_is_measured_in_blocks_as_a_minute_is() -> None:
    """Blocks must not show: the same minute again and again has the same values."""
    pose = [(10 * np.sin(n / 5), 5 * np.sin(n / 7), 0) for n in range(600)]
    minute = [turned(expression(mouth=0.1 * (n % 3)), *p) for n, p in enumerate(pose)]
    once, _ = measure(minute)
    often, _ = measure(minute * 8)
    assert often["yaw_deg"] == pytest.approx(np.tile(once["yaw_deg"], 8), abs=0.05)
    assert often["mouth_open"] == pytest.approx(np.tile(once["mouth_open"], 8), abs=1e-3)
