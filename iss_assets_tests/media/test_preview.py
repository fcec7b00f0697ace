"""Previews: playable, upright, and on the timeline that flags count on."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from iss_assets.media.preview import LONGEST_SIDE, write_preview
from iss_assets.settings import VideoSettings

RATE, SECONDS, SOUND_RATE = 20, 6, 32_000


def level_at(second: float) -> int:
    """Brightness of the left half at a moment: a new one every half second."""
    return 20 + int(second * 2) * 17


def make(
    path: Path, codec: str, late_s: float = 0.0, size: tuple[int, int] = (320, 240), **options: Any
) -> Path:
    """Write a film whose left half gets brighter every half second, with a tone that begins at second 3."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=RATE, options=options.get("options", {}))
        video.width, video.height, video.pix_fmt = *size, options.get("pix_fmt", "yuv420p")
        video.gop_size = 40
        sound: Any = container.add_stream(options.get("sound", "aac"), rate=SOUND_RATE, layout="mono")
        for number in range(RATE * SECONDS):
            picture = np.full((size[1], size[0], 3), 235, np.uint8)
            picture[:, : size[0] // 2] = level_at(number / RATE)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number + round(late_s * RATE), Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        times = np.arange(SOUND_RATE * SECONDS) / SOUND_RATE
        tone = (0.5 * np.sin(2 * np.pi * 440 * times) * (times >= 3)).astype(np.float32)
        for start in range(0, len(tone), 1024):
            block = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            block.sample_rate, block.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
            block.pts = start + round(late_s * SOUND_RATE)
            container.mux(sound.encode(block))
        container.mux(sound.encode(None))
    return path


def played(data: bytes) -> tuple[list[tuple[float, np.ndarray]], np.ndarray, Any]:
    """Decode a preview as a player does: pictures with their times, and the sound at 44.1 kHz."""
    pictures, sound = [], []
    container: Any
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        codec = (stream.codec_context.name, stream.codec_context.pix_fmt)
        for frame in container.decode(video=0):
            pictures.append((float(frame.pts * stream.time_base), frame.to_ndarray(format="gray")))
    with av.open(io.BytesIO(data)) as container:
        if container.streams.audio:
            for frame in container.decode(audio=0):
                sound.append(frame.to_ndarray()[0])
    return pictures, np.concatenate(sound) if sound else np.empty(0), codec


def preview(path: Path, begin_s: float = 0.0) -> bytes:
    out = io.BytesIO()
    write_preview(path, VideoSettings(), begin_s, out)
    return out.getvalue()


def brightness_at(pictures: list[tuple[float, np.ndarray]], second: float) -> float:
    picture = [p for time_s, p in pictures if time_s <= second][-1]
    return float(picture[:, : picture.shape[1] // 2 - 8].mean())


@pytest.mark.parametrize("begin_s", [0.0, 3.3])
@pytest.mark.parametrize(
    ("name", "codec", "late_s", "more"),
    [
        ("a.mp4", "libx265", 0.0, {"options": {"x265-params": "log-level=none"}}),
        ("a.mpg", "mpeg1video", 0.0, {"sound": "mp2"}),
        ("a.avi", "mjpeg", 0.0, {"sound": "mp2", "pix_fmt": "yuvj420p"}),
        ("a.mkv", "libx264", 1.7, {"pix_fmt": "yuv420p10le"}),
        ("a.mov", "libx265", 0.0, {"pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}}),
        ("b.avi", "mpeg4", 0.0, {"sound": "mp2", "options": {"bf": "2"}}),
        ("b.mp4", "libx264", 0.0, {"options": {"bf": "0"}}),
    ],
)
def test_second_by_second_the_preview_shows_and_sounds_what_the_video_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    late_s: float,
    more: dict[str, Any],
    begin_s: float,
) -> None:
    rate = {"mpeg1video": 25}.get(codec, RATE)
    if rate != RATE:
        monkeypatch.setattr(sys.modules[__name__], "RATE", rate)
    path = make(tmp_path / name, codec, late_s, **more)
    pictures, sound, codec_found = played(preview(path, begin_s))
    assert codec_found == ("h264", "yuv420p")
    assert pictures[0][0] == pytest.approx(0, abs=0.05)
    for second in np.arange(0.2, SECONDS - begin_s - 0.3, 0.5):
        expected = level_at(begin_s + second)
        neighbors = {level_at(begin_s + second - 0.08), level_at(begin_s + second + 0.08)}
        if len(neighbors) == 1:
            assert brightness_at(pictures, second) == pytest.approx(expected, abs=6), second
    assert pictures[-1][0] == pytest.approx(SECONDS - begin_s, abs=0.2)
    loud = np.flatnonzero(np.abs(sound) > 0.2)
    began = loud[0] / 44_100 if len(loud) else np.inf
    assert began == pytest.approx(max(0.0, 3 - begin_s), abs=0.08)
    assert len(sound) / 44_100 == pytest.approx(SECONDS - begin_s, abs=0.2)


def test_large_pictures_get_smaller_and_keep_their_shape(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", "mpeg4", size=(1920, 1080))
    pictures, _, _ = played(preview(path))
    assert pictures[0][1].shape == (LONGEST_SIDE * 1080 // 1920, LONGEST_SIDE)


def test_it_runs_as_a_process_and_says_what_is_wrong_without_naming_the_file(tmp_path: Path) -> None:
    good = make(tmp_path / "a.mp4", "libx264")
    bad = tmp_path / "0007-secret.mp4"
    bad.write_bytes(b"not a video" * 1000)

    def run(path: Path) -> subprocess.CompletedProcess[bytes]:
        task = {"path": str(path), "begin_s": 1.0, "settings": VideoSettings().model_dump(mode="json")}
        command = [sys.executable, "-m", "iss_assets.media.preview"]
        return subprocess.run(command, input=json.dumps(task).encode(), capture_output=True)

    found = run(good)
    assert found.returncode == 0 and len(played(found.stdout)[0]) > RATE * 4
    broken = run(bad)
    assert broken.returncode == 1 and broken.stdout == b""
    # an address in memory may hold the number
    assert (
        not re.search(rb"(?<![0-9A-Za-z])0007(?![0-9A-Za-z])", broken.stderr)
        and b"secret" not in broken.stderr
    )
    assert b"Traceback" not in broken.stderr and broken.stderr.strip()
