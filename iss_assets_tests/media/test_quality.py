"""Each flag with and without its issue, on tables built around a real portrait's crop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from iss_assets.media.identity import PersonFound
from iss_assets.media.landmarks import encode_crop
from iss_assets.media.measures import measure_face, measure_frame
from iss_assets.media.quality import OtherVideos, VideoAssessment, assess_video
from iss_assets.protocol.flags import FLAGS
from iss_assets.settings import QualitySettings
from iss_assets_tests.media.test_measures import ASTRONAUT, CROP, MASKS, covered

SETTINGS = QualitySettings(shortest_s=5)
SECONDS = 6
FRAMES = SECONDS * 10
VIDEO = {"sha256": "a" * 64, "status": "ok", "duration_s": float(SECONDS), "width": 512, "height": 512}
AUDIO: dict[str, Any] = {
    "duration_s": float(SECONDS),
    "loudness_lufs": -24.0,
    "snr_db": 30.0,
    "noise_dbfs": -60.0,
    "clipped_share": 0.001,
    "speech_share": 0.8,
    "high_band_db": -20.0,
    "mid_band_db": -13.0,
    "peak": 0.5,
    "source_rate": 44100,
    "inserted_silence_s": 0.0,
}
BOX = (181.0, 62.0, 268.0, 172.0)


def _mesh() -> np.ndarray:
    """Return points on an oval with eyes, nose and mouth where they belong."""
    rng = np.random.default_rng(3)
    angle, radius = rng.uniform(0, 2 * np.pi, 468), np.sqrt(rng.uniform(0, 1, 468))
    mesh = np.stack(
        [0.5 + 0.42 * radius * np.cos(angle), 0.5 + 0.48 * radius * np.sin(angle), 0.1 * radius], 1
    )
    for point, place in {
        33: (0.25, 0.38), 133: (0.4, 0.38), 362: (0.6, 0.38), 263: (0.75, 0.38),
        4: (0.5, 0.6), 61: (0.38, 0.78), 291: (0.62, 0.78),
    }.items():  # fmt: skip
        mesh[point, :2] = place
    return mesh.astype(np.float32)


MESH = _mesh()


def _assess(
    picture: np.ndarray = ASTRONAUT,
    crop: np.ndarray = CROP,
    *,
    video: Mapping[str, Any] = VIDEO,
    audio: Mapping[str, Any] | None = AUDIO,
    frame: Mapping[str, Any] | None = None,
    face: Mapping[str, Any] | None = None,
    frames: int = FRAMES,
    faces: int | None = None,
    meshes: int | None = None,
    mesh: np.ndarray = MESH,
    affected: float = 1.0,
    others: OtherVideos | None = None,
    settings: QualitySettings = SETTINGS,
) -> VideoAssessment:
    """Assess a video that shows one picture throughout; `frame` and `face` change rows of its `affected` part."""
    tables = _tables(picture, crop, frame, face, frames, faces, meshes, mesh, affected)
    return assess_video(video, *tables, audio, settings, others=others)


def _tables(
    picture: np.ndarray = ASTRONAUT,
    crop: np.ndarray = CROP,
    frame: Mapping[str, Any] | None = None,
    face: Mapping[str, Any] | None = None,
    frames: int = FRAMES,
    faces: int | None = None,
    meshes: int | None = None,
    mesh: np.ndarray = MESH,
    affected: float = 1.0,
) -> tuple[pa.Table, pa.Table, pa.Table]:
    faces = frames if faces is None else faces
    meshes = faces if meshes is None else meshes
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (180, 180), interpolation=cv2.INTER_AREA)
    frame_measures, face_measures = measure_frame(small, None, gray[128:384, 128:384]), measure_face(crop)
    coded = encode_crop(crop)
    frame_rows, face_rows, mesh_rows = [], [], []
    for i in range(frames):
        change = frame if frame and i < affected * frames else {}
        row = {
            "frame_index": i, "time_s": i / 10, "luminance": frame_measures.luminance, "highlight": frame_measures.highlight,
            "noise": frame_measures.noise, "glare": frame_measures.glare, "motion": None if i == 0 else 0.01,
            "text_share": 0.0 if i % 10 == 0 else None, "faces_seen": int(i < faces), "width": 512, "height": 512,
            "face_luminance": None, "face_highlight": None, "face_glare": None,
        }  # fmt: skip
        if i < faces:
            row |= {f"face_{n}": getattr(face_measures, n) for n in ("luminance", "highlight", "glare")}
            x1, y1, x2, y2 = BOX
            box = {"frame_index": i, "x1": x1, "y1": y1, "x2": x2, "y2": y2, "crop": coded}
            face_rows.append({**box, **(face if face and i < affected * frames else {})})
            points = mesh.ravel().tolist() if i < meshes else None
            mesh_rows.append({"frame_index": i, "detected": i < meshes, "points": points})
        frame_rows.append({**row, **{k: v for k, v in change.items() if k != "text_share" or i % 10 == 0}})
    ints, floats = pa.int32(), pa.float32()
    frame_schema = pa.schema(
        [
            (n, ints if n in ("frame_index", "faces_seen", "width", "height") else floats)
            for n in frame_rows[0]
        ]
    )
    face_schema = pa.schema(
        [("frame_index", ints), *((n, floats) for n in ("x1", "y1", "x2", "y2")), ("crop", pa.binary())]
    )
    mesh_schema = pa.schema(
        [("frame_index", ints), ("detected", pa.bool_()), ("points", pa.list_(floats, 1404))]
    )
    return (
        pa.Table.from_pylist(frame_rows, frame_schema),
        pa.Table.from_pylist(face_rows, face_schema),
        pa.Table.from_pylist(mesh_rows, mesh_schema),
    )


def _light(picture: np.ndarray, stops: float) -> np.ndarray:
    linear = np.clip((picture / 255.0) ** 2.2 * 2.0**stops, 0, 1)
    return (linear ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def _toned(crop: np.ndarray, reflectance: float) -> np.ndarray:
    """Return the portrait's skin another tone in the same light: skin reflects less, eyes, teeth and shine do not.

    Melanin takes more of the blue than of the red; what the skin's surface mirrors never reaches it.
    """
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(float)
    skin = ((lab[..., 1] > 131) & (lab[..., 2] > 132)).astype(np.float32)
    soft = cv2.GaussianBlur(cv2.medianBlur(skin, 5), (0, 0), 0.8)[..., None]
    linear = (crop / 255.0) ** 2.2
    shine = 0.5 * np.clip(linear.min(axis=2, keepdims=True) - 0.5, 0, None)
    darker = (linear - shine) * np.array([reflectance, reflectance**1.1, reflectance**1.2]) + shine
    return (np.clip(linear * (1 - soft) + darker * soft, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def test_a_good_video_has_no_flag_and_is_usable() -> None:
    found = _assess()
    assert found.flags == [] and found.usable and found.unusable_reason is None
    assert found.measures["face_rate"] == found.measures["landmark_rate"] == 1.0


@pytest.mark.parametrize("reflectance", [1.0, 0.5, 0.25, 0.12])
def test_the_same_light_is_assessed_alike_on_every_skin_tone(reflectance: float) -> None:
    toned = _toned(CROP, reflectance)
    picture = ASTRONAUT.copy()
    good = _assess(picture, toned)
    assert good.flags == []
    dim = _assess(_light(picture, -4), _light(toned, -4))
    assert "dark" in dim.flags


def test_dark_skin_in_good_light_is_distinguished_from_light_skin_in_a_dim_room() -> None:
    dim, toned = measure_face(_light(CROP, -3.5)), measure_face(_toned(CROP, 0.12))
    # on the face's mean luma the two lie close together, on its highlights far apart
    assert toned.luminance < 1.7 * dim.luminance
    assert toned.highlight > 1.8 * SETTINGS.dark_highlight > 1.8 * dim.highlight


def test_a_dark_face_before_a_bright_wall_is_dark() -> None:
    found = _assess(ASTRONAUT, _light(CROP, -4))
    assert "dark" in found.flags and found.measures["dark_share"] == 1.0


def test_a_dark_picture_without_a_face_is_dark() -> None:
    assert "dark" in _assess(_light(ASTRONAUT, -6), faces=0).flags


@pytest.mark.parametrize("stops", [2, 3])
def test_overexposure_is_glare(stops: int) -> None:
    assert "glare" in _assess(_light(ASTRONAUT, stops), _light(CROP, stops)).flags


def test_noise_is_grain_and_counts_more_in_the_dark() -> None:
    rng = np.random.default_rng(0)
    strong = np.clip(ASTRONAUT + rng.normal(0, 15, ASTRONAUT.shape), 0, 255).astype(np.uint8)
    assert "grainy" in _assess(strong).flags
    dim = np.clip(_light(ASTRONAUT, -5) + rng.normal(0, 3, ASTRONAUT.shape), 0, 255).astype(np.uint8)
    assert "grainy" in _assess(dim, _light(CROP, -5)).flags


def test_a_blurred_face_is_blurred_and_a_dark_one_is_not() -> None:
    assert "blurred" in _assess(crop=cv2.GaussianBlur(CROP, (0, 0), 8)).flags
    assert "blurred" not in _assess(crop=_light(CROP, -3)).flags


@pytest.mark.parametrize("color", MASKS)
def test_a_mask_is_flagged(color: str) -> None:
    assert "mask" in _assess(crop=covered(CROP, MASKS[color])).flags


@pytest.mark.parametrize("reflectance", [0.6, 0.35])
def test_a_bare_dark_face_is_no_mask(reflectance: float) -> None:
    assert "mask" not in _assess(crop=_toned(CROP, reflectance)).flags


@pytest.mark.parametrize(
    ("flag", "change"),
    [
        ("signage", {"text_share": 0.01}),
        ("several_faces", {"faces_seen": 2}),
        ("frozen", {"motion": 0.0}),
        ("glare", {"glare": 0.6}),
    ],
)
def test_an_issue_of_frames_is_flagged_with_the_share_it_affects(flag: str, change: dict[str, Any]) -> None:
    found = _assess(frame=change, affected=0.5)
    assert found.flags == [flag]
    share = found.measures[f"{flag}_share"]
    assert isinstance(share, float) and share == pytest.approx(0.5, abs=0.03)
    assert _assess(frame=change, affected=0.05).flags == []


@pytest.mark.parametrize(
    ("flag", "change"),
    [
        ("face_small", {"x1": 100.0, "x2": 140.0, "y1": 100.0, "y2": 150.0}),
        ("face_leaves", {"x1": -40.0, "x2": 47.0}),
    ],
)
def test_an_issue_of_boxes_is_flagged(flag: str, change: dict[str, Any]) -> None:
    found = _assess(face=change)
    assert found.flags == [flag] and found.measures[f"{flag}_share"] == 1.0


def test_a_video_with_a_face_in_a_third_of_it_is_flagged_and_not_usable() -> None:
    found = _assess(faces=FRAMES // 3)
    assert found.flags == ["face_missing"]
    assert not found.usable and found.unusable_reason == "face_missing"


def test_failing_landmarks_are_flagged_and_many_make_a_video_unusable() -> None:
    some, many = _assess(meshes=int(0.8 * FRAMES)), _assess(meshes=int(0.3 * FRAMES))
    assert some.flags == many.flags == ["landmarks_missing"]
    assert some.usable and many.unusable_reason == "landmarks_missing"
    assert _assess(meshes=int(0.98 * FRAMES)).flags == []  # the paper's 2.86 % are not an issue


def test_an_upside_down_and_a_mirrored_mesh_are_rotated() -> None:
    for mesh in (1 - MESH, MESH * [-1, 1, 1] + [1, 0, 0], MESH[:, [1, 0, 2]] * [-1, 1, 1] + [1, 0, 0]):
        found = _assess(mesh=mesh.astype(np.float32))
        assert found.flags == ["rotated"] and found.unusable_reason == "rotated"


def test_an_impossible_mesh_is_flagged() -> None:
    wild = MESH.copy()
    wild[:20, 0] += 3
    assert "landmarks_implausible" in _assess(mesh=wild).flags


def test_length_outside_the_protocol_is_flagged() -> None:
    settings = QualitySettings()
    assert _assess(settings=settings).flags == ["too_short"]
    long = {**VIDEO, "duration_s": 200.0}
    quiet_end = {**AUDIO, "duration_s": 200.0}
    assert _assess(video=long, audio=quiet_end, frames=2000, settings=settings).flags == ["too_long"]


def test_frames_missing_for_the_duration_are_flagged() -> None:
    assert _assess(frames=FRAMES - 12, audio=AUDIO).flags == ["wrong_frame_count"]


@pytest.mark.parametrize(
    ("flag", "change"),
    [
        ("quiet", {"loudness_lufs": -48.0}),
        ("muffled", {"high_band_db": -55.0}),
        ("noisy_sound", {"snr_db": 6.0}),
        ("noisy_sound", {"snr_db": None, "noise_dbfs": -30.0}),
        ("clipped", {"clipped_share": 0.05}),
        ("no_speech", {"speech_share": 0.0}),
        (
            "silent",
            {"peak": 0.0, "noise_dbfs": None, "loudness_lufs": None, "snr_db": None, "speech_share": 0.0},
        ),
        ("no_sound", {"duration_s": 0.0}),
        ("sound_cut", {"duration_s": 2.0}),
    ],
)
def test_a_sound_issue_is_flagged_alone(flag: str, change: dict[str, Any]) -> None:
    assert _assess(audio={**AUDIO, **change}).flags == [flag]


def test_a_video_without_sound_track_is_flagged_and_stays_usable() -> None:
    found = _assess(audio=None)
    assert found.flags == ["no_sound"] and found.usable


def test_a_telephone_track_is_assessed_by_what_it_can_hold() -> None:
    narrow = {**AUDIO, "source_rate": 8000, "high_band_db": -100.0}
    assert _assess(audio=narrow).flags == []
    assert _assess(audio={**narrow, "mid_band_db": -50.0}).flags == ["muffled"]


def test_an_unreadable_video_is_flagged_without_any_rows() -> None:
    frames, faces, landmarks = (t.slice(0, 0) for t in _tables())
    found = assess_video(
        {**VIDEO, "status": "unreadable", "duration_s": None}, frames, faces, landmarks, None, SETTINGS
    )
    assert found.flags == ["unreadable"] and found.unusable_reason == "unreadable"


def test_a_video_without_any_face_is_assessed() -> None:
    found = _assess(faces=0)
    assert found.flags == ["face_missing"] and not found.usable
    assert found.measures["landmark_rate"] is None


def test_the_same_file_under_another_submission_is_a_duplicate() -> None:
    found = _assess(others=OtherVideos(sha256s=frozenset({"a" * 64})))
    assert found.flags == ["duplicate"] and found.unusable_reason == "duplicate"


def _with(person: PersonFound) -> VideoAssessment:
    return _assess(others=OtherVideos(person=person))


def test_another_face_than_in_the_patients_other_videos_is_flagged_with_method_distance_and_moments() -> None:
    own = _with(PersonFound("sface", 0.1, 0.2, other_video=False, other_share=0.0))
    assert own.flags == [] and own.moments == {}
    assert own.measures["identity_method"] == "sface"
    assert own.measures["identity_within"] == 0.1 and own.measures["identity_distance"] == 0.2
    other = _with(PersonFound("sface", 0.1, 0.9, True, 1.0, [(0.0, 6.0)]))
    assert other.flags == ["other_person"] and other.moments == {"other_person": [(0.0, 6.0)]}
    assert other.usable, "a person looks at it first"


def test_another_face_for_a_tenth_of_the_video_is_flagged_and_for_less_it_is_not() -> None:
    brief = _with(PersonFound("sface", 0.9, 0.2, False, 0.09, [(1.0, 1.5)]))
    assert brief.flags == [] and brief.measures["other_person_share"] == 0.09
    longer = _with(PersonFound("sface", 0.9, 0.2, False, 0.125, [(1.0, 1.8)]))
    assert longer.flags == ["other_person"] and longer.moments == {"other_person": [(1.0, 1.8)]}


def test_a_video_that_was_not_compared_has_no_measure_of_it() -> None:
    assert not any(name.startswith(("identity", "other_person")) for name in _assess().measures)


def test_a_flag_says_when_it_holds() -> None:
    assert _assess().moments == {}
    dark = {"luminance": 0.02, "face_highlight": 0.05, "face_luminance": 0.02}
    half = FRAMES / 20
    assert _assess(frame=dark, affected=0.5).moments["dark"] == [(0.0, half)]
    many = _assess(frame={"faces_seen": 2}, affected=0.5)
    assert many.flags == ["several_faces"] and many.moments == {"several_faces": [(0.0, half)]}
    # what is looked at once a second stands for that second
    lettered = _assess(frame={"text_share": 0.9}, affected=0.5)
    assert lettered.moments == {"signage": [(0.0, half)]}
    # crops are measured several times a second, boxes ten times
    small = _assess(face={"x2": BOX[0] + 20, "y2": BOX[1] + 20}, affected=0.5)
    assert small.moments["face_small"] == [(0.0, half)]
    missing = _assess(faces=FRAMES // 2)
    assert missing.moments["face_missing"] == [(half, FRAMES / 10)]
    upside_down = _assess(mesh=MESH * [1, -1, 1])
    assert "rotated" in upside_down.flags and upside_down.moments["rotated"] == [(0.0, FRAMES / 10)]


def test_moments_that_almost_touch_are_one_and_a_flag_about_the_whole_video_has_none() -> None:
    frames, faces, landmarks = _tables(frame={"faces_seen": 2}, affected=1.0)
    seen = np.full(FRAMES, 2)
    seen[[10, 11, 12]] = 1  # 0.3 s apart
    seen[20:30] = 1  # a second apart
    frames = frames.set_column(frames.schema.get_field_index("faces_seen"), "faces_seen", [seen])
    quiet = {**AUDIO, "loudness_lufs": -60.0}
    found = assess_video(VIDEO, frames, faces, landmarks, quiet, SETTINGS)
    assert found.flags == ["several_faces", "quiet"]
    assert found.moments == {"several_faces": [(0.0, 2.0), (3.0, FRAMES / 10)]}


def test_rows_in_any_order_give_the_same_verdict() -> None:
    tables = _tables(frame={"motion": 0.0}, affected=0.5)
    frames, faces, landmarks = (t.take(np.random.default_rng(1).permutation(t.num_rows)) for t in tables)
    in_order = assess_video(VIDEO, tables[0], tables[1], tables[2], AUDIO, SETTINGS)
    assert in_order == assess_video(VIDEO, frames, faces, landmarks, AUDIO, SETTINGS)


def test_every_flag_has_a_text_and_the_unusable_ones_are_flags() -> None:
    assert all(FLAGS.values())
    assert set(SETTINGS.unusable_flags) <= set(FLAGS)


def test_a_video_with_too_few_pictures_to_say_anything_is_too_short_and_nothing_else() -> None:
    frames, faces, landmarks = (t.slice(0, 0) for t in _tables())
    found = assess_video(
        {**VIDEO, "status": "too_short", "duration_s": 0.2}, frames, faces, landmarks, None, SETTINGS
    )
    assert (found.flags, found.usable, found.unusable_reason) == (["too_short"], False, "too_short")


def test_broken_files_that_are_alike_are_unreadable_and_no_copies_of_one_another() -> None:
    frames, faces, landmarks = (t.slice(0, 0) for t in _tables())
    others = OtherVideos(sha256s=frozenset({"a" * 64}))
    found = assess_video(
        {**VIDEO, "status": "unreadable"}, frames, faces, landmarks, None, SETTINGS, others=others
    )
    assert found.flags == ["unreadable"]


@pytest.mark.parametrize(
    "settings", [QualitySettings(affected_share=1.0), QualitySettings(landmark_failure=1.0)]
)
def test_the_reason_why_a_video_is_not_usable_is_always_among_its_flags(settings: QualitySettings) -> None:
    for found in (_assess(faces=20, settings=settings), _assess(meshes=20, settings=settings)):
        assert found.unusable_reason in found.flags


def test_what_sampling_leaves_out_on_purpose_is_not_missing() -> None:
    tables = _tables(frames=FRAMES)
    hour = {**VIDEO, "duration_s": 10.0 * SECONDS}
    sound = {**AUDIO, "duration_s": 10.0 * SECONDS}
    assert "wrong_frame_count" in assess_video(hour, *tables, sound, SETTINGS).flags
    assert assess_video(hour, *tables, sound, SETTINGS, max_seconds=SECONDS).flags == []


def test_the_tolerance_of_the_frame_count_is_a_setting() -> None:
    assert (
        _assess(
            frames=FRAMES - 12, settings=SETTINGS.model_copy(update={"frame_count_tolerance": 0.25})
        ).flags
        == []
    )


@pytest.mark.parametrize(("degrees", "rotated"), [(40, False), (50, True), (90, True), (180, True)])
def test_a_face_is_rotated_where_the_next_quarter_turn_is_nearer(degrees: float, rotated: bool) -> None:
    turn = np.radians(degrees)
    around = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    mesh = MESH.copy()
    # in the picture, of which the crop is a part that is higher than wide
    sides = np.array([BOX[2] - BOX[0], BOX[3] - BOX[1]])
    mesh[:, :2] = (MESH[:, :2] - 0.5) * sides @ around / sides + 0.5
    assert ("rotated" in _assess(mesh=mesh).flags) is rotated


def test_a_face_that_is_elsewhere_in_the_next_sample_has_landmarks_as_good_as_before() -> None:
    frames, faces, landmarks = _tables()
    away = [
        {**r, "x1": r["x1"] + 150, "x2": r["x2"] + 150} if r["frame_index"] % 4 else r
        for r in faces.to_pylist()
    ]
    moved = pa.Table.from_pylist(away, faces.schema)
    assert assess_video(VIDEO, frames, moved, landmarks, AUDIO, SETTINGS).flags == []
