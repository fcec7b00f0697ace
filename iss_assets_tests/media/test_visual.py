"""One pass over a video: the tables that come out, and that they come out the same whichever way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest

from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.landmarks import decode_crops
from iss_assets.media.visual import VisualTables, _prefetched, extract_visual, landmarks_from_crops
from iss_assets.schemas.visual import Faces, Frames, Landmarks
from iss_assets.settings import FaceSettings, LandmarkSettings, VideoSettings
from iss_assets_tests.media.films import portrait, write_film

VIDEO, FACES, LANDMARKS = VideoSettings(), FaceSettings(), LandmarkSettings()


def extract(path: Path, threads: int = 2, video: VideoSettings = VIDEO) -> VisualTables:
    return extract_visual(path, video, FACES, LANDMARKS, threads=threads)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [portrait(i / 25, (480, 360)) for i in range(110)]
    for i in range(50, 75):
        pictures[i] = np.full_like(pictures[0], 110)
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", pictures, sound=True)


@pytest.fixture(scope="module")
def tables(film: Path) -> VisualTables:
    return extract(film)


def test_the_tables_fit_the_warehouse(tables: VisualTables) -> None:
    for model, table in ((Frames, tables.frames), (Faces, tables.faces), (Landmarks, tables.landmarks)):
        for name in ("video_id", "patient_id", "fingerprint"):
            table = table.append_column(name, arrow.array(["a1"] * len(table)))
        model.check_rows(table)
    assert tables.problem is None


def test_every_sample_is_a_frame_in_its_chunk(tables: VisualTables) -> None:
    frames = tables.frames.to_pydict()
    assert frames["frame_index"] == list(range(44))
    assert frames["chunk_index"] == [0] * 40 + [1] * 4
    assert frames["motion"][0] is None and all(m is not None for m in frames["motion"][1:])
    assert [i for i, t in enumerate(frames["text_share"]) if t is not None] == [0, 10, 20, 30, 40]


def test_the_face_is_missing_exactly_while_it_is_away(tables: VisualTables) -> None:
    away = list(range(20, 30))
    frames = tables.frames.to_pydict()
    assert [i for i, n in enumerate(frames["faces_seen"]) if n == 0] == away
    assert [i for i, n in enumerate(frames["face_luminance"]) if n is None] == away
    assert tables.faces["frame_index"].to_pylist() == [i for i in range(44) if i not in away]
    assert tables.landmarks["frame_index"].equals(tables.faces["frame_index"])
    assert all(tables.landmarks["detected"].to_pylist())


def test_landmarks_made_again_from_stored_crops_are_the_same(tables: VisualTables) -> None:
    detected, points = landmarks_from_crops(tables.faces["crop"], LANDMARKS)
    assert detected.equals(tables.landmarks["detected"].combine_chunks())
    assert points.equals(tables.landmarks["points"].combine_chunks())


def test_one_thread_gives_the_same_tables_as_several(film: Path, tables: VisualTables) -> None:
    alone = extract(film, threads=1)
    assert alone.frames.equals(tables.frames)
    assert alone.faces.equals(tables.faces)
    assert alone.landmarks.equals(tables.landmarks)


def test_progress_is_reported_up_to_the_end(film: Path) -> None:
    reported: list[tuple[int, int]] = []
    extract_visual(film, VIDEO, FACES, LANDMARKS, progress=lambda done, of: reported.append((done, of)))
    assert reported[-1] == (44, 44) and reported == sorted(reported)


def test_a_picture_held_over_a_gap_repeats_its_face(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 1.2, 1.3]
    path = write_film(tmp_path / "film.mp4", [portrait(t, (480, 360)) for t in times], times=times)
    held = extract(path)
    hashes = held.frames["picture_hash"].to_pylist()
    assert len(set(hashes[2:12])) == 1 and hashes[12] != hashes[2]
    boxes = held.faces.select(["x1", "y1", "x2", "y2"]).to_pylist()
    assert boxes[2:12] == [boxes[2]] * 10
    assert len(held.landmarks) == len(held.faces) == len(held.frames)


def test_a_turned_film_gives_upright_crops(tmp_path: Path) -> None:
    pictures = [portrait(i / 25, (360, 480), 0.5) for i in range(25)]
    plain = extract(write_film(tmp_path / "plain.mp4", pictures))
    stored = [np.rot90(p, -1) for p in pictures]
    turned = extract(write_film(tmp_path / "turned.mp4", stored, rotation=90))
    assert len(turned.faces) == len(plain.faces) == 10
    shift = np.abs(np.array(turned.faces["x1"]) - np.array(plain.faces["x1"]))
    assert shift.max() < 4
    crops = [decode_crops(t.faces["crop"]).astype(int) for t in (turned, plain)]
    assert np.abs(crops[0] - crops[1]).mean() < 8


def test_an_unreadable_file_stays_an_error(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"nothing")
    with pytest.raises(UnreadableVideo):
        extract(path)


def test_what_goes_wrong_in_the_decoding_thread_is_raised_after_what_went_well() -> None:
    def batches() -> Iterator[int]:
        yield from (1, 2)
        raise UnreadableVideo("too_large", "The third batch is too large.")

    got = []
    with pytest.raises(UnreadableVideo, match="third"):
        for batch in _prefetched(batches()):
            got.append(batch)
    assert got == [1, 2]


@pytest.mark.real_clips
def test_real_faces_are_found_and_meshed(real_clips: Path) -> None:
    tables = extract(real_clips / "talk_m_dark_grid3s.mpg")
    assert len(tables.frames) == len(tables.faces) == 30
    assert np.mean(tables.landmarks["detected"].to_pylist()) > 0.95


@pytest.mark.real_clips
def test_a_face_that_leaves_a_real_clip_is_gone(real_clips: Path) -> None:
    tables = extract(real_clips / "face_then_noface.mov")
    assert tables.faces["frame_index"].to_pylist() == list(range(24))
