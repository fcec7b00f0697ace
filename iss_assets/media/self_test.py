"""A self-test on a generated video: if a stage fails on that too, the machine is at fault and not the file."""

from __future__ import annotations

import importlib
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as arrow

from iss_assets.media.journal import Stage
from iss_assets.settings import Settings

_RATE: Final = 22050
_PICTURES: Final = 12


def run_self_test(stage: Stage, settings: Settings) -> None:
    """Run a stage on a one-second video, and the face mesh on a crop of noise.

    Raises
    ------
    Exception
        Whatever the stage raises.
    """
    if stage == "thermal":
        # a generated picture would only test this file's own generator: what a machine can lack is the library
        importlib.import_module("flyr")
        return
    with tempfile.TemporaryDirectory(prefix="iss-") as folder:
        film = write_test_video(Path(folder) / "film.mkv")
        if stage == "probe":
            from iss_assets.media.video import probe

            probe(film, settings.video)
        elif stage == "sound":
            from iss_assets.media.audio import extract_audio

            extract_audio(film, settings.audio)
        elif stage in ("picture", "landmarks"):
            import cv2

            from iss_assets.media.visual import extract_visual, landmarks_from_crops

            extract_visual(film, settings.video, settings.faces, settings.landmarks, threads=1)
            noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
            _, crop = cv2.imencode(".jpg", noise)
            landmarks_from_crops(arrow.chunked_array([[crop.tobytes()]], arrow.binary()), settings.landmarks)


def write_test_video(path: Path) -> Path:
    """Write one second of gray pictures, each brighter than the last, with a tone."""
    import av

    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        sound: Any = container.add_stream("pcm_s16le", rate=_RATE)
        sound.layout = "mono"
        for number in range(_PICTURES):
            picture = np.full((96, 128, 3), 40 + 8 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        wave = (8000 * np.sin(np.arange(_RATE) / 20)).astype(np.int16)
        tone = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        tone.sample_rate, tone.pts = _RATE, 0
        container.mux(sound.encode(tone))
        container.mux(sound.encode(None))
    return path
