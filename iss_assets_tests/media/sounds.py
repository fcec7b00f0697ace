"""Synthetic sound for tests: a voice made of pulses and formant filters, and media files that contain it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

_VOWELS = ((730, 1090, 2440, 3400), (270, 2290, 3010, 3600), (300, 870, 2240, 3300), (530, 1840, 2480, 3500))


def voice(seconds: float, rate: int = 44100, pitch: float = 120.0, seed: int = 0) -> NDArray[np.float32]:
    """Return syllables of vowels and hisses with pauses, peak 0.5, which a voice-activity detector takes for a voice."""
    rng = np.random.default_rng(seed)
    out = np.zeros(round(seconds * rate))
    at = int(0.15 * rate)
    while at < len(out):
        n = int(rng.uniform(0.12, 0.28) * rate)
        t = np.arange(n) / rate
        f0 = pitch * rng.uniform(0.85, 1.2) * (1 + 0.08 * np.sin(2 * np.pi * 2.5 * t) - 0.2 * t)
        phase = np.cumsum(f0 / rate)
        pulses = np.diff(np.floor(phase), prepend=0.0) + 0.02 * rng.normal(size=n)
        sound = pulses
        for formant, width in zip(_VOWELS[rng.integers(len(_VOWELS))], (80, 100, 140, 200), strict=True):
            r = np.exp(-np.pi * width / rate)
            sound = lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * formant / rate), r * r], sound)
        sound *= np.hanning(n) / (np.abs(sound).max() + 1e-9)
        hiss = rng.normal(size=int(0.06 * rate)) * np.hanning(int(0.06 * rate)) * 0.12
        hiss = np.diff(hiss, prepend=0.0)
        for part in (sound, hiss):
            end = min(len(out), at + len(part))
            out[at:end] += part[: max(0, end - at)]
            at += len(part)
        at += int(rng.choice([0.02, 0.05, 0.35], p=[0.5, 0.3, 0.2]) * rate)
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


def write_media(
    path: Path,
    sound: NDArray[np.float32] | None,
    rate: int = 44100,
    *,
    codec: str = "aac",
    video_s: float = 1.0,
    late_s: float = 0.0,
) -> Path:
    """Write a file with a small gray picture (unless `video_s` is 0) and a mono or (n, 2) stereo track."""
    with av.open(str(path), "w") as out:
        picture: Any = None
        track: Any = None
        if video_s:
            picture = out.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        if sound is not None:
            layout = "mono" if sound.ndim == 1 else "stereo"
            track = out.add_stream(codec, rate=rate, layout=layout)
        if picture is not None:
            for i in range(round(video_s * 10)):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90 + i % 50, np.uint8), "rgb24")
                frame.pts = i
                out.mux(picture.encode(frame))
            out.mux(picture.encode())
        if track is not None and sound is not None:
            samples = np.ascontiguousarray(np.atleast_2d(sound.T), np.float32)
            resampler = av.AudioResampler(track.format, track.layout, rate)
            for start in range(0, samples.shape[1], 1024):
                piece = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(samples[:, start : start + 1024]), "fltp", layout
                )
                piece.sample_rate = rate
                piece.pts = start + round(late_s * rate)
                for ready in resampler.resample(piece):
                    out.mux(track.encode(ready))
            out.mux(track.encode())
    return path
