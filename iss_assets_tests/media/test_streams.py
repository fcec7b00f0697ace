"""Which tracks of a file count, on files whose tracks are not what a phone usually writes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from iss_assets.media.audio import extract_audio, read_waveform
from iss_assets.media.container import open_container
from iss_assets.media.errors import UnreadableVideo
from iss_assets.media.streams import choose_streams
from iss_assets.media.upright import UprightRgb
from iss_assets.media.video import probe, sample_frames
from iss_assets.settings import AudioSettings, VideoSettings

RATE = 48000


def write_tracks(
    path: Path,
    pictures: Iterable[tuple[int, int, bool]] = ((50, 64, True),),
    sounds: Iterable[tuple[float, float, float, bool]] = (),
    codecs: tuple[str, ...] = (),
) -> Path:
    """Write a file of many tracks.

    A video track is (pictures at 25 per second, side in pixels, default), a sound track (start in seconds, end in
    seconds, hertz of its tone, default).
    """
    with av.open(str(path), "w") as out:
        packets: list[tuple[float, Any]] = []
        names = itertools.chain(codecs, itertools.repeat("libx264"))
        made: list[tuple[Any, tuple[Any, ...]]] = []
        for picture in pictures:
            stream: Any = out.add_stream(next(names), rate=25)
            stream.width = stream.height = picture[1]
            stream.pix_fmt = "yuvj420p" if stream.name == "mjpeg" else "yuv420p"
            stream.disposition = Disposition(int(picture[2]))  # 1 is the default track
            made.append((stream, picture))
        for sound in sounds:
            stream = out.add_stream("aac", rate=RATE, layout="mono")
            stream.disposition = Disposition.default if sound[3] else Disposition(0)
            made.append((stream, sound))
        for stream, plan in made:
            frames = _pictures(*plan) if stream.type == "video" else _tone(*plan)
            for frame in itertools.chain(frames, [None]):
                packets += [(float((p.dts or 0) * p.time_base), p) for p in stream.encode(frame)]
        for _, packet in sorted(packets, key=lambda item: item[0]):
            out.mux(packet)
    return path


def _pictures(count: int, side: int, _default: bool) -> Iterable[av.VideoFrame]:
    for i in range(count):
        frame = av.VideoFrame.from_ndarray(
            np.full((side, side, 3), 20 + 4 * i % 200, np.uint8), format="rgb24"
        )
        frame.pts, frame.time_base = i, Fraction(1, 25)
        yield frame


def _tone(start: float, end: float, hertz: float, _default: bool) -> Iterable[av.AudioFrame]:
    first, last = round(start * RATE), round(end * RATE)
    for at in range(first, last, 1024):
        wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(at, at + 1024) / RATE)
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
        yield frame


def rename_codec(path: Path, place: int, old: bytes, new: bytes) -> Path:
    """Return the place-th (from 0) of the tracks of a codec another codec's name, which nobody can decode."""
    data = path.read_bytes()
    at = -1
    for _ in range(place + 1):
        at = data.index(old, at + 1)
    # what follows the name describes the codec, and would give it away
    details = {b"mp4a": b"esds", b"avc1": b"avcC"}[old]
    where = data.index(details, at)
    path.write_bytes(data[:at] + new + data[at + 4 : where] + b"free" + data[where + 4 :])
    return path


def spoil_track(path: Path, index: int) -> Path:
    """Overwrite the packets of one track with what no decoder takes."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams[index])
        places = [(p.pos, p.size) for p in packets if p.size and p.pos is not None]
    data = bytearray(path.read_bytes())
    for pos, size in places:
        data[pos : pos + size] = bytes((7 * k + 251) % 256 for k in range(size))
    path.write_bytes(data)
    return path


def chosen(path: Path) -> tuple[int | None, int | None, tuple[str, ...]]:
    with open_container(path) as container:
        found = choose_streams(container)
        return (
            found.video.index if found.video is not None else None,
            found.audio.index if found.audio is not None else None,
            found.passed_over,
        )


def heard_hertz(path: Path, since: float = 0.0) -> float:
    tables = extract_audio(path, AudioSettings())
    assert tables is not None
    samples, rate = read_waveform(tables.audio["waveform"][0].as_py())
    part = samples[int(since * rate) :]
    return float(np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() * rate / len(part))


@pytest.mark.parametrize(
    ("suffix", "pictures", "right"),
    [
        (".mp4", [(1, 64, True), (50, 128, False)], 1),
        (".mkv", [(1, 64, True), (50, 128, False)], 1),
        (".mp4", [(1, 64, False), (50, 128, True)], 1),
        (".mkv", [(1, 64, False), (50, 128, True)], 1),
        (".mp4", [(50, 64, True), (1, 128, True)], 0),
        (".mp4", [(75, 64, False), (50, 128, True)], 1),
        (".mkv", [(75, 64, False), (50, 128, True)], 1),
        # MP4 always marks a track as default
        (".mkv", [(25, 64, False), (50, 128, False), (1, 32, False)], 1),
        (".mkv", [(50, 64, False), (50, 128, False)], 0),
    ],
)
def test_the_moving_default_track_is_the_video_else_the_longest(
    tmp_path: Path, suffix: str, pictures: list[tuple[int, int, bool]], right: int
) -> None:
    path = write_tracks(tmp_path / f"film{suffix}", pictures)
    count, side, _ = pictures[right]
    info = probe(path, VideoSettings())
    assert (info.width, info.duration_s) == (side, pytest.approx(count / 25, abs=0.05))
    samples = [s for batch in sample_frames(path, VideoSettings()) for s in batch]
    assert len(samples) == count * 10 // 25
    assert UprightRgb()(samples[0].frame).shape == (side, side, 3)
    stills = sum(count == 1 for count, _, _ in pictures)
    assert (info.problem is None) == (stills == 0)
    if stills:
        assert info.problem == f"{stills} video track of a single picture was passed over."


def test_a_jpeg_still_before_the_film_is_passed_over(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "film.mp4", [(1, 64, True), (50, 128, True)], codecs=("mjpeg",))
    assert chosen(path)[0] == 1


def test_a_cover_is_no_film_and_no_issue(tmp_path: Path) -> None:
    path = write_tracks(
        tmp_path / "film.mp4",
        [(1, 128, Disposition.attached_pic), (50, 64, True)],  # type: ignore[list-item]
        codecs=("mjpeg",),
    )
    with av.open(str(path)) as container:
        covers = [bool(s.disposition & Disposition.attached_pic) for s in container.streams.video]
    assert sorted(covers) == [False, True], "the test's file has no cover"
    assert chosen(path) == (covers.index(False), None, ())


def test_a_track_that_cannot_be_decoded_gives_way_to_one_that_can(tmp_path: Path) -> None:
    unknown = rename_codec(
        write_tracks(tmp_path / "a.mp4", [(50, 64, True), (50, 128, True)]), 1, b"avc1", b"zzz1"
    )
    broken = spoil_track(write_tracks(tmp_path / "b.mp4", [(50, 64, True), (50, 128, True)]), 0)
    for path in (unknown, broken):
        assert chosen(path) == (1, None, ("1 video track that cannot be decoded was passed over",))
        assert probe(path, VideoSettings()).width == 128


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_single_picture_is_no_video(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx" if suffix == ".webm" else "libx264"
    path = write_tracks(tmp_path / f"still{suffix}", [(1, 64, True)], codecs=(codec,))
    with pytest.raises(UnreadableVideo) as error:
        probe(path, VideoSettings())
    assert error.value.status == "no_video" and "still" in str(error.value)


@pytest.mark.parametrize("place", [0, 1])
def test_spatial_sound_that_cannot_be_decoded_leaves_the_other_track(tmp_path: Path, place: int) -> None:
    tones = [(0.0, 2.0, 440.0, True), (0.0, 2.0, 1320.0, True)]
    path = rename_codec(write_tracks(tmp_path / "film.mp4", sounds=tones), place, b"mp4a", b"apac")
    other = 1 - place
    assert chosen(path)[1:] == (1 + other, ("1 sound track that cannot be decoded was passed over",))
    info = probe(path, VideoSettings())
    assert (info.has_audio, info.audio_codec) == (True, "aac")
    assert heard_hertz(path) == pytest.approx(tones[other][2], abs=2)


def test_a_track_that_opens_and_yields_nothing_gives_way_to_the_next(tmp_path: Path) -> None:
    tones = [(0.0, 2.0, 440.0, True), (0.0, 2.0, 1320.0, False), (0.0, 2.0, 880.0, False)]
    path = spoil_track(write_tracks(tmp_path / "film.mp4", sounds=tones), 1)
    assert chosen(path)[1:] == (2, ("1 sound track that cannot be decoded was passed over",))
    assert heard_hertz(path) == pytest.approx(1320, abs=2)


def test_the_default_sound_wins_over_the_first(tmp_path: Path) -> None:
    tones = [(0.0, 2.0, 440.0, False), (0.0, 2.0, 1320.0, True)]
    path = write_tracks(tmp_path / "film.mkv", sounds=tones)
    assert chosen(path) == (0, 2, ())
    assert heard_hertz(path) == pytest.approx(1320, abs=2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv"])
def test_sound_that_begins_eight_seconds_late_is_found(tmp_path: Path, suffix: str) -> None:
    codec = "flv" if suffix == ".flv" else "mpeg4" if suffix != ".ts" else "mpeg2video"
    path = write_tracks(
        tmp_path / f"film{suffix}", [(250, 64, True)], [(8.0, 10.0, 440.0, True)], codecs=(codec,)
    )
    assert probe(path, VideoSettings()).has_audio
    assert heard_hertz(path, since=8.2) == pytest.approx(440, abs=2)


def test_a_late_default_track_wins_over_an_early_one_that_is_not(tmp_path: Path) -> None:
    tones = [(0.0, 4.0, 440.0, False), (3.0, 4.0, 1320.0, True)]
    path = write_tracks(tmp_path / "film.mkv", [(100, 64, True)], tones)
    assert chosen(path) == (0, 2, ())


def test_a_file_whose_sound_cannot_be_decoded_has_none(tmp_path: Path) -> None:
    path = rename_codec(
        write_tracks(tmp_path / "film.mp4", sounds=[(0.0, 2.0, 440.0, True)]), 0, b"mp4a", b"apac"
    )
    info = probe(path, VideoSettings())
    assert (info.has_audio, info.audio_codec) == (False, None)
    assert info.problem == "1 sound track that cannot be decoded was passed over."
    tables = extract_audio(path, AudioSettings())
    assert tables is not None and tables.audio["duration_s"].to_pylist() == [0.0]
    assert "No sound could be decoded" in str(tables.problem)
