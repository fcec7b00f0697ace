"""The paper's 25 audio features and Mel spectrogram of a waveform, exactly as librosa's plain calls give them.

Belongs here: arithmetic on samples that are in memory. Does not belong here: decoding and tables (``audio``), speech
and noise levels (``speech``).

Librosa's own functions do the work. They would each make the same short-time Fourier transform again, so it is made
once and handed to all; and as a transform of an hour takes gigabytes, it is made in blocks of frames, with only
what the means need kept from each. Tests hold the result against the plain calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from iss_assets.settings import AudioSettings

Samples = NDArray[np.float32]

_BLOCK_FRAMES: Final = 2048
"""Frames of the transform in memory at a time: about 17 MB, 48 s at the default rate and hop."""

_CHROMA: Final = 12


@dataclass(frozen=True)
class SoundFeatures:
    """What is kept of one stretch of sound.

    Attributes
    ----------
    mel : ndarray of float32, shape (n_mels, steps)
        Power Mel spectrogram in dB against its own maximum (``power_to_db(ref=np.max)``), 80 dB deep.
    means : dict of str to float
        The 25 features by the names of the table ``audio_features``.
    """

    mel: NDArray[np.float32]
    means: dict[str, float]


def sound_features(samples: Samples, settings: AudioSettings) -> SoundFeatures:
    """Calculate Mel spectrogram and feature means of a stretch of sound.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono, at ``settings.sample_rate``. Silence is fine.
    settings : AudioSettings
        Rates and sizes of section 3.3.1 of the paper.

    Returns
    -------
    SoundFeatures
        All values are finite.

    Raises
    ------
    ValueError
        If there is no sample.
    """
    from threadpoolctl import threadpool_limits

    if samples.size == 0:
        raise ValueError("features need at least one sample")
    # sums in another order are other sums: the same sound must give the same numbers on any number of cores
    with threadpool_limits(limits=1, user_api="blas"):
        return _features(samples, settings)


def _features(samples: Samples, settings: AudioSettings) -> SoundFeatures:
    import librosa

    rate, n_fft = settings.sample_rate, settings.n_fft
    mel_parts: list[NDArray[np.float32]] = []
    pitches: list[NDArray[Any]] = []
    strengths: list[NDArray[Any]] = []
    sums = np.zeros(3)
    steps = 0
    for magnitude in _magnitudes(samples, settings):
        power = magnitude**2
        mel_parts.append(librosa.feature.melspectrogram(S=power, sr=rate, n_mels=settings.n_mels))
        centroid = librosa.feature.spectral_centroid(S=magnitude, sr=rate, n_fft=n_fft)
        width = librosa.feature.spectral_bandwidth(S=magnitude, sr=rate, n_fft=n_fft, centroid=centroid)
        rolloff = librosa.feature.spectral_rolloff(S=magnitude, sr=rate, n_fft=n_fft)
        sums += [float(part.sum(dtype=np.float64)) for part in (centroid, width, rolloff)]
        pitch, strength = librosa.piptrack(S=power, sr=rate, n_fft=n_fft)
        found = pitch > 0
        pitches.append(pitch[found])
        strengths.append(strength[found])
        steps += magnitude.shape[1]
    mel = np.concatenate(mel_parts, axis=1)
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel), sr=rate, n_mfcc=settings.n_mfcc)
    crossings = librosa.feature.zero_crossing_rate(
        samples, frame_length=n_fft, hop_length=settings.hop_length
    )
    means = {
        f"mfcc_{i}": float(value) for i, value in enumerate(mfcc.mean(axis=1, dtype=np.float64), start=1)
    }
    means["chroma_stft"] = _chroma_mean(samples, settings, np.concatenate(pitches), np.concatenate(strengths))
    for name, total in zip(("spectral_centroid", "spectral_bandwidth", "rolloff"), sums, strict=True):
        means[name] = float(total) / steps
    means["zero_crossing_rate"] = float(crossings.mean(dtype=np.float64))
    return SoundFeatures(librosa.power_to_db(mel, ref=np.max).astype(np.float32, copy=False), means)


def _magnitudes(samples: Samples, settings: AudioSettings) -> Iterator[NDArray[np.float32]]:
    """Give the magnitudes of the centred transform, zero-padded at both ends as librosa does, block by block."""
    import librosa

    n_fft, hop = settings.n_fft, settings.hop_length
    padded = np.pad(samples, n_fft // 2)
    frames = 1 + (len(padded) - n_fft) // hop
    for first in range(0, frames, _BLOCK_FRAMES):
        last = min(frames, first + _BLOCK_FRAMES)
        part = padded[first * hop : (last - 1) * hop + n_fft]
        yield np.abs(librosa.stft(part, n_fft=n_fft, hop_length=hop, center=False))


def _chroma_mean(
    samples: Samples, settings: AudioSettings, pitch: NDArray[Any], strength: NDArray[Any]
) -> float:
    """Average the chromagram. Its tuning comes from all of the sound, so it takes a second pass over the blocks."""
    import librosa

    tuning = 0.0  # what librosa takes, with a warning, where no pitch is heard
    if pitch.size:
        loud = strength >= np.median(strength)
        tuning = float(librosa.pitch_tuning(pitch[loud], resolution=0.01, bins_per_octave=_CHROMA))
    total, values = 0.0, 0
    for magnitude in _magnitudes(samples, settings):
        chroma = librosa.feature.chroma_stft(
            S=magnitude**2, sr=settings.sample_rate, n_fft=settings.n_fft, n_chroma=_CHROMA, tuning=tuning
        )
        total += float(chroma.sum(dtype=np.float64))
        values += chroma.size
    return total / values
