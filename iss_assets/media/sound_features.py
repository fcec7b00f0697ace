"""The paper's 25 audio features and Mel spectrogram of a waveform, as librosa's plain calls return them.

Librosa's own functions do the work. Each of them would repeat the same short-time Fourier transform, so it is computed
once and passed to all; and since the transform of an hour takes gigabytes, it is computed in blocks of frames, keeping
only what the means need. Tests compare the result with the plain calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from iss_assets.media.librosa_module import librosa
from iss_assets.media.samples import Samples
from iss_assets.settings import AudioSettings

_BLOCK_FRAMES: Final = 512
"""Frames of the transform computed at a time: 2 MB, 12 s at the default rate and hop length."""

_CHROMA: Final = 12

_TUNINGS: Final = np.linspace(-0.5, 0.5, 101)
"""Edges, in semitones, of the bins in which ``librosa.estimate_tuning`` counts pitches."""


@dataclass(frozen=True)
class SoundFeatures:
    """The features of one piece of sound.

    Attributes
    ----------
    mel : ndarray of float32, shape (n_mels, steps)
        Power Mel spectrogram in dB relative to its maximum (``power_to_db(ref=np.max)``), from -80 to 0.
    means : dict of str to float
        The 25 features, keyed by the column names of the table ``audio_features``.
    """

    mel: NDArray[np.float32]
    means: dict[str, float]


def sound_features(samples: Samples, settings: AudioSettings) -> SoundFeatures:
    """Compute the Mel spectrogram and the feature means of a piece of sound.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,), or StoredSamples
        Mono, at ``settings.sample_rate``. Silence is allowed.
    settings : AudioSettings
        Rates and sizes of section 3.3.1 of the paper.

    Returns
    -------
    SoundFeatures
        All values are finite.

    Raises
    ------
    ValueError
        If there are no samples.
    """

    with _single_threaded_blas():
        mel, means = _features(samples, settings)
        return SoundFeatures(librosa.power_to_db(mel, ref=np.max).astype(np.float32, copy=False), means)


def feature_means(samples: Samples, settings: AudioSettings) -> dict[str, float]:
    """Compute only the feature means, for sound of any length; see `sound_features`."""
    with _single_threaded_blas():
        return _features(samples, settings)[1]


@contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """Limit BLAS to one thread: sums depend on their order, and results must not depend on the number of cores."""
    with _threadpools().limit(limits=1, user_api="blas"):
        yield


@cache
def _threadpools() -> Any:
    """Find the loaded BLAS libraries, once: searching the process for them takes six milliseconds."""

    return ThreadpoolController()


def _features(samples: Samples, settings: AudioSettings) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Return the Mel powers (n_mels, steps) and the means."""

    if len(samples) == 0:
        raise ValueError("features need at least one sample")
    rate, n_fft = settings.sample_rate, settings.n_fft
    # filled in place: half an hour takes 40 MB, and joining a list of blocks would take it twice
    mel = np.empty((settings.n_mels, _frames(len(samples), settings)), np.float32)
    tunings: list[NDArray[np.uint8]] = []
    strengths: list[NDArray[Any]] = []
    sums = np.zeros(3)
    steps = 0
    for magnitude in _magnitudes(samples, settings):
        power = magnitude**2
        mel[:, steps : steps + power.shape[1]] = librosa.feature.melspectrogram(
            S=power, sr=rate, n_mels=settings.n_mels
        )
        centroid = librosa.feature.spectral_centroid(S=magnitude, sr=rate, n_fft=n_fft)
        width = librosa.feature.spectral_bandwidth(S=magnitude, sr=rate, n_fft=n_fft, centroid=centroid)
        rolloff = librosa.feature.spectral_rolloff(S=magnitude, sr=rate, n_fft=n_fft)
        sums += [float(part.sum(dtype=np.float64)) for part in (centroid, width, rolloff)]
        pitch, strength = librosa.piptrack(S=power, sr=rate, n_fft=n_fft)
        found = pitch > 0
        tunings.append(_tuning_bins(pitch[found]))
        strengths.append(strength[found])
        steps += magnitude.shape[1]
    means = {f"mfcc_{i}": value for i, value in enumerate(_mfcc_means(mel, settings), start=1)}
    means["chroma_stft"] = _chroma_mean(samples, settings, _tuning(tunings, strengths))
    for name, total in zip(("spectral_centroid", "spectral_bandwidth", "rolloff"), sums, strict=True):
        means[name] = float(total) / steps
    means["zero_crossing_rate"] = _crossing_mean(samples, settings)
    return mel, means


def _mfcc_means(mel: NDArray[np.float32], settings: AudioSettings) -> list[float]:
    """Average the MFCCs block by block; the floor of 80 dB below the maximum is relative to the whole sound."""

    floor = float(librosa.power_to_db(mel.max(keepdims=True), top_db=None).item()) - 80.0
    total = np.zeros(settings.n_mfcc)
    for first in range(0, mel.shape[1], _BLOCK_FRAMES):
        level = librosa.power_to_db(mel[:, first : first + _BLOCK_FRAMES], top_db=None)
        block = librosa.feature.mfcc(
            S=np.maximum(level, np.float32(floor)), sr=settings.sample_rate, n_mfcc=settings.n_mfcc
        )
        total += block.sum(axis=1, dtype=np.float64)
    return [float(value) for value in total / mel.shape[1]]


def _frames(size: int, settings: AudioSettings) -> int:
    """Return the number of centered frames in `size` samples."""
    return 1 + (size + settings.n_fft // 2 * 2 - settings.n_fft) // settings.hop_length


def _frame_blocks(
    samples: Samples, settings: AudioSettings, padding: Literal["constant", "edge"]
) -> Iterator[NDArray[np.float32]]:
    """Yield the samples under each block of centered frames, padded at both ends of the sound as librosa does."""
    n_fft, hop, size = settings.n_fft, settings.hop_length, len(samples)
    half, frames = n_fft // 2, _frames(size, settings)
    for first in range(0, frames, _BLOCK_FRAMES):
        last = min(frames, first + _BLOCK_FRAMES)
        start, stop = first * hop - half, (last - 1) * hop - half + n_fft
        part = samples[max(0, start) : min(size, stop)]
        yield np.pad(part, (max(0, -start), max(0, stop - size)), mode=padding)


def _magnitudes(samples: Samples, settings: AudioSettings) -> Iterator[NDArray[np.float32]]:
    """Yield the magnitudes of the centered transform, block by block."""

    for part in _frame_blocks(samples, settings, "constant"):
        yield np.abs(librosa.stft(part, n_fft=settings.n_fft, hop_length=settings.hop_length, center=False))


def _crossing_mean(samples: Samples, settings: AudioSettings) -> float:

    total, frames = 0.0, 0
    for part in _frame_blocks(samples, settings, "edge"):
        rates = librosa.feature.zero_crossing_rate(
            part, frame_length=settings.n_fft, hop_length=settings.hop_length, center=False
        )
        total += float(rates.sum(dtype=np.float64))
        frames += rates.size
    return total / frames


def _tuning_bins(pitch: NDArray[Any]) -> NDArray[np.uint8]:
    """Return each pitch's distance from the nearest tone in hundredths of a semitone: 0 for -0.5 up to 99 for 0.5.

    This stores one byte per pitch. Steps and rounding are those of ``librosa.pitch_tuning``.
    """

    residual = np.mod(_CHROMA * librosa.hz_to_octs(pitch), 1.0)
    residual[residual >= 0.5] -= 1.0
    # like np.histogram: a value on an edge belongs to the bin above it
    return (np.searchsorted(_TUNINGS, residual, side="right") - 1).astype(np.uint8)


def _tuning(bins: list[NDArray[np.uint8]], strengths: list[NDArray[Any]]) -> float:
    """Return the most common distance among the stronger half of all pitches, as ``librosa.estimate_tuning`` does."""
    strength = np.concatenate(strengths)
    if not strength.size:
        return 0.0  # what librosa uses, with a warning, if there is no pitch
    middle = np.median(strength, overwrite_input=True)
    counts = sum(
        np.bincount(b[s >= middle], minlength=len(_TUNINGS) - 1) for b, s in zip(bins, strengths, strict=True)
    )
    return float(_TUNINGS[np.argmax(counts)])


def _chroma_mean(samples: Samples, settings: AudioSettings, tuning: float) -> float:
    """Average the chromagram. Its tuning depends on the whole sound, so this is a second pass over the blocks."""

    total, values = 0.0, 0
    for magnitude in _magnitudes(samples, settings):
        chroma = librosa.feature.chroma_stft(
            S=magnitude**2, sr=settings.sample_rate, n_fft=settings.n_fft, n_chroma=_CHROMA, tuning=tuning
        )
        total += float(chroma.sum(dtype=np.float64))
        values += chroma.size
    return total / values
