"""Reading video files: sampling by time, turning upright, and files that are not what they say."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.upright import UprightRgb
from iss_assets.media.video import FrameSampler, probe, sample_frames
from iss_assets.settings import VideoSettings
from iss_assets_tests.media.films import number_of, numbered, portrait, write_film, write_tone

SETTINGS = VideoSettings()


def pictures(
    path: Path, settings: VideoSettings = SETTINGS
) -> tuple[list[NDArray[np.uint8]], list[float], FrameSampler]:
    upright, source = UprightRgb(), sample_frames(path, settings)
    samples = [s for batch in source for s in batch]
    assert [s.frame_index for s in samples] == list(range(len(samples)))
    return [upright(s.frame) for s in samples], [s.time_s for s in samples], source


def status_of(path: Path, settings: VideoSettings = SETTINGS) -> tuple[str, str]:
    with pytest.raises(UnreadableVideo) as caught:
        probe(path, settings)
    assert path.name not in str(caught.value) and str(path.parent) not in str(caught.value)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".mov", "libx265"), (".webm", "libvpx"), (".mkv", "mpeg4")]
)
def test_any_container_is_sampled_ten_times_a_second(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_film(tmp_path / f"film{suffix}", numbered(50), fps=25, codec=codec)
    info = probe(path, SETTINGS)
    assert (info.width, info.height, info.rotation, info.has_audio) == (64, 48, 0, False)
    assert info.duration_s == pytest.approx(2.0, abs=0.05) and info.source_fps == pytest.approx(25, abs=1)
    shown, times, source = pictures(path)
    assert [number_of(p) for p in shown] == [int(k * 2.5) for k in range(20)]
    assert times == pytest.approx([int(k * 2.5) / 25 for k in range(20)], abs=0.002)
    assert source.problem is None


def test_a_variable_rate_is_sampled_by_time_and_a_gap_holds_the_picture(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.12, 0.5, 0.51, 0.52, 0.73, 0.99]
    path = write_film(tmp_path / "film.mp4", numbered(9), times=times)
    shown, at, _ = pictures(path)
    wanted = [max(i for i, t in enumerate(times) if t <= k / 10 + 1e-9) for k in range(10)]
    assert [number_of(p) for p in shown[:10]] == wanted
    assert at[:10] == pytest.approx([times[i] for i in wanted], abs=0.002)


def test_a_film_that_does_not_start_at_zero_is_timed_from_its_first_picture(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mkv", numbered(50), times=[7 + i / 25 for i in range(50)])
    shown, times, _ = pictures(path)
    assert times[0] == 0 and len(shown) == 20 and number_of(shown[-1]) == 47


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_picture_turned_or_mirrored_by_metadata_comes_out_upright(
    tmp_path: Path, rotation: int, mirrored: bool
) -> None:
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:16, :16] = 250
    path = write_film(tmp_path / "film.mp4", [stored] * 25, rotation=rotation, mirrored=mirrored)
    # turned first, mirrored after it, as FFmpeg defines both
    upright = np.rot90(stored, rotation // 90)
    upright = upright[:, ::-1] if mirrored else upright
    info = probe(path, SETTINGS)
    assert (info.height, info.width) == upright.shape[:2]
    shown, _, _ = pictures(path)
    assert np.abs(shown[3].astype(int) - upright).mean() < 5


def test_the_first_real_video_stream_and_the_sound_are_found_beside_cover_art(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, side in zip(streams, (64, 128), strict=True):
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
        write_tone(container, 1)
        for stream in streams:
            for picture in numbered(25, (stream.width, stream.height)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    info = probe(path, SETTINGS)
    assert (info.width, info.has_audio, info.audio_codec) == (64, True, "aac")


def test_memory_is_bounded_by_a_batch(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", numbered(55), fps=10)
    sizes = [len(batch) for batch in sample_frames(path, VideoSettings(batch_frames=4))]
    assert sizes == [4] * 13 + [3]


def test_decoding_stops_at_the_longest_time_and_says_so(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", numbered(50), fps=10)
    shown, _, source = pictures(path, VideoSettings(max_seconds=2))
    assert len(shown) == 20
    assert source.problem == "Only the first 2 s were read."


@pytest.mark.parametrize("content", [b"", b"not a video at all\n" * 50, b"#EXTM3U\n#EXTINF:1,\nother.mp4\n"])
def test_a_file_that_is_no_video_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "naïve 'film' 1.mp4"
    path.write_bytes(content)
    status, message = status_of(path)
    assert status == "unreadable" and ("empty" in message) == (content == b"")


def test_a_list_of_files_is_not_followed(tmp_path: Path) -> None:
    write_film(tmp_path / "other.mp4", numbered(50))
    path = tmp_path / "film.mp4"
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")
    assert status_of(path)[0] == "unreadable"


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    assert status_of(tmp_path / "gone.mp4")[0] == "unreadable"


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        write_tone(container, 2)
    assert status_of(path)[0] == "no_video"


def test_a_fifth_of_a_second_is_too_short(tmp_path: Path) -> None:
    assert status_of(write_film(tmp_path / "film.mp4", numbered(5), fps=25))[0] == "too_short"


def test_pictures_beyond_the_limit_are_too_large_and_are_not_decoded(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", numbered(25))
    assert status_of(path, VideoSettings(max_pixels=64 * 48 - 1))[0] == "too_large"
    probe(path, VideoSettings(max_pixels=64 * 48))


def test_a_file_without_its_table_of_contents_is_unreadable(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", [portrait(i / 25) for i in range(50)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert status_of(path)[0] == "unreadable"


def test_a_file_that_breaks_off_keeps_what_can_be_read(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mkv", [portrait(i / 25) for i in range(100)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 1 < probe(path, SETTINGS).duration_s < 3
    shown, _, _ = pictures(path)
    assert 10 < len(shown) < 30
    assert "breaks off" in str(probe(path, SETTINGS).problem)


def test_damage_in_the_middle_is_skipped_and_counted(tmp_path: Path) -> None:
    path = write_film(
        tmp_path / "film.mp4",
        [portrait(i / 25) for i in range(100)],
        options={"crf": "12", "g": "10", "preset": "veryfast"},
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = b"\xff" * 6000
    path.write_bytes(bytes(data))
    shown, _, source = pictures(path)
    assert 35 <= len(shown) <= 40
    assert source.problem is not None and "broken pieces" in source.problem


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_leaving_out_frames_that_are_not_sampled_changes_no_sample(tmp_path: Path, codec: str) -> None:
    path = write_film(
        tmp_path / "film.mkv", [portrait(i / 30, (160, 120)) for i in range(90)], fps=30, codec=codec
    )
    shown, times, _ = pictures(path)
    upright, every = UprightRgb(), {}
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            every[round(frame.time, 3)] = upright(frame)
    assert len(shown) == 30
    for picture, time_s in zip(shown, times, strict=True):
        assert np.array_equal(picture, every[round(time_s, 3)])
