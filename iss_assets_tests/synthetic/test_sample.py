"""The written sample study: a study folder without a fault, real media files, every planted issue."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from iss_assets.intake.folder import read_study
from iss_assets.synthetic.media import TITLE, Film, picture_times, write_film
from iss_assets.synthetic.sample import SampleStudyError, write_sample_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients with videos of one second."""
    root = tmp_path_factory.mktemp("sample") / "study"
    write_sample_study(root, patients=12, seconds=1)
    return root


def hashes(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def test_the_reader_finds_no_fault_in_it(study: Path) -> None:
    found = read_study(study)
    assert (found.rejected, found.problems) == ((), ())
    assert len(found.patients) == 12
    assert len(found.videos) == len(found.submissions) == 28
    assert all(not any(v is not None for v in s.scores.values()) for s in found.submissions_of("0012"))


def test_the_labels_name_every_submission(study: Path) -> None:
    with (study / "expected_issues.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {r["submission_id"] for r in rows} == {s.submission_id for s in read_study(study).submissions}
    assert list(rows[0]) == ["submission_id", "patient_id", "issue", "note"]


def test_its_media_are_of_every_kind_and_say_that_they_are_invented(study: Path) -> None:
    codecs, sounds, rotations, upright, variable = set(), set(), set(), set(), 0
    for video in read_study(study).videos:
        if video.submission_id in ("0009-02", "0011-01"):
            continue
        with av.open(str(video.path)) as container:
            tags = {k.lower(): v for k, v in container.metadata.items()}
            assert tags["title"] == tags["comment"] == TITLE
            frames = list(container.decode(video=0))
            codecs.add(container.streams.video[0].codec.name)
            sounds |= {s.codec.name for s in container.streams.audio}
            times = [f.time for f in frames]
            rotations.add(frames[0].rotation)
            turned = frames[0].rotation % 180 != 0
            upright.add(
                (frames[0].height, frames[0].width) if turned else (frames[0].width, frames[0].height)
            )
            variable += np.ptp(np.diff(times)) > 0.02
            assert times[0] == 0
            assert 0.8 < times[-1] < 1.0
    assert codecs == {"h264", "hevc", "vp8"}
    assert sounds == {"aac", "opus"}
    assert rotations == {0, -90}
    assert (360, 640) in upright
    assert variable == 1


def test_the_rotated_video_shows_the_same_way_up_as_the_others(study: Path) -> None:
    folder = study / "videos" / "0011"
    pictures = []
    for name in ("0011-02.mp4", "0011-03.mp4"):
        with av.open(str(folder / name)) as container:
            frame = next(container.decode(video=0))
            picture = frame.to_ndarray(format="gray").astype(float)
            pictures.append(np.rot90(picture, frame.rotation // 90 % 4))
    # both are of one room and patient: bright wall above, clothes below
    for picture in pictures:
        assert picture[: picture.shape[0] // 8].mean() > picture[-picture.shape[0] // 8 :].mean() + 15


@pytest.mark.parametrize("name", ["0009/0009-02.mp4", "0011/0011-01.mp4"])
def test_broken_files_cannot_be_opened(study: Path, name: str) -> None:
    with pytest.raises(av.FFmpegError):
        av.open(str(study / "videos" / name))


def test_the_soundless_video_has_no_track(study: Path) -> None:
    with av.open(str(study / "videos/0008/0008-02.mp4")) as container:
        assert not container.streams.audio


def test_the_same_call_again_does_nothing_and_more_patients_are_added(study: Path) -> None:
    before = hashes(study)
    assert write_sample_study(study, patients=12, seconds=1) == []
    assert hashes(study) == before
    made = write_sample_study(study, patients=13, seconds=1)
    assert made
    assert all(name.startswith("videos/0013/") for name in made)
    after = hashes(study)
    assert all(after[name] == before[name] for name in before if name.startswith("videos/"))
    (study / "sample_study.json").write_text((study / "sample_study.json").read_text().replace("13", "12"))


def test_an_interrupted_study_is_completed(tmp_path: Path) -> None:
    calls = []

    def stop(done: int, total: int, name: str) -> None:
        calls.append((done, total, name))
        if done == 2:
            raise KeyboardInterrupt

    arguments: dict[str, Any] = {"patients": 4, "seconds": 0.5, "submissions_per_patient": 1, "workers": 1}
    with pytest.raises(KeyboardInterrupt):
        write_sample_study(tmp_path / "study", progress=stop, **arguments)
    assert calls[-1][:2] == (2, 5)
    there = {v.name for v in read_study(tmp_path / "study").videos}
    rest = set(write_sample_study(tmp_path / "study", **arguments))
    whole = {v.name for v in read_study(tmp_path / "study").videos}
    assert len(whole) == 4
    assert rest - {"videos/0001/0001-01_prompt.mp4"} == whole - there
    assert not list(tmp_path.rglob(".*.part"))


def test_a_study_is_the_same_for_the_same_seed_only(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"patients": 1, "seconds": 0.5, "submissions_per_patient": 1}
    write_sample_study(tmp_path / "a", **arguments)
    write_sample_study(tmp_path / "b", **arguments)
    write_sample_study(tmp_path / "c", seed=1, **arguments)
    a, b, c = (hashes(tmp_path / name) for name in "abc")
    assert a == b
    assert {name for name in a if a[name] == c[name]} == {"README.txt", "expected_issues.csv"}


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "enrollment.csv").write_text("patient_id\n")
    with pytest.raises(SampleStudyError, match="not empty"):
        write_sample_study(tmp_path, patients=1)
    assert [p.name for p in tmp_path.iterdir()] == ["enrollment.csv"]
    with pytest.raises(SampleStudyError, match="is a file"):
        write_sample_study(tmp_path / "enrollment.csv")
    write_sample_study(tmp_path / "own", patients=1, seconds=0.5, submissions_per_patient=1)
    with pytest.raises(SampleStudyError, match="other arguments"):
        write_sample_study(tmp_path / "own", patients=1, seed=9, seconds=0.5, submissions_per_patient=1)
    with pytest.raises(ValueError, match="1 to 9999 patients"):
        write_sample_study(tmp_path / "none", patients=0)


@pytest.mark.parametrize(("rotation", "tag"), [(90, -90), (180, -180), (270, 90)])
def test_rotation_is_written_as_players_read_it(tmp_path: Path, rotation: int, tag: int) -> None:
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48] = 255
    film = Film(size=(96, 64), rotation=rotation)
    write_film(tmp_path / "a.mp4", film, picture_times(film, 0.4, 0), lambda _: picture, None)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
    assert frame.rotation == tag
    upright = np.rot90(frame.to_ndarray(format="gray"), frame.rotation // 90 % 4)
    assert upright.shape == (64, 96)
    assert upright[16, 24] > 200
    assert max(upright[16, 72], upright[48, 24], upright[48, 72]) < 50
