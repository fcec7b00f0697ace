"""Voice descriptors every 10 ms: fundamental frequency, loudness, harmonics-to-noise ratio, spectral slope, level.

Frames, windows and names are those of eGeMAPS v02 (Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS)
for Voice Research and Affective Computing", IEEE Trans. Affective Computing 7(2), 2016). Fundamental frequency and
loudness are computed by ``afx-audio``, which agrees with openSMILE. Two descriptors follow their sources instead,
because openSMILE's way of computing them cannot be compared between voices or between recordings:

- Its harmonics-to-noise ratio lacks the correction for the window (Boersma 1993, equation 9). A perfectly periodic voice
  then has 6 dB at 90 Hz and 15 dB at 300 Hz, so a man's voice seems noisier than a woman's.
- Its slope divides by one bin too few, so it is not the regression slope of the paper, and it changes with the level:
  the same voice recorded 20 dB lower has another slope, even of another sign.

``afx-audio`` offers all 25 descriptors or none in public. Jitter, shimmer, formants and MFCCs take half of the time and
are not used here, so its parts are called instead. Its version is pinned exactly, and a test compares the
result with the public function's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from afx_audio.extractors import egemaps
from numpy.typing import NDArray

RATE: Final = 16_000
"""Sample rate in hertz at which voices are measured; ``afx-audio`` was compared with openSMILE at this rate."""
HOP: Final = 160
"""Samples from one frame to the next: 10 ms."""
HOP_S: Final = HOP / RATE

_SHORT: Final = 320
"""Samples of a frame for loudness and slope: 20 ms, Hamming window."""
_LONG: Final = 960
"""Samples of a frame for F0, HNR and level: 60 ms, Gaussian window."""
_HNR_FFT: Final = 2048
"""At least twice a long frame, so that the autocorrelation does not wrap around."""
_LOUDNESS_POWER: Final = 0.66
"""Loudness grows with the amplitude to this power (Zwicker's law as in eGeMAPS: energy to the power of 0.33)."""
_BLOCK: Final = 2000
"""Frames computed at a time: 20 s, 30 MB."""
_TINY: Final = 1e-30
_ZERO_HZ: Final = 27.5
"""Frequency from which eGeMAPS counts semitones."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VoiceFrames:
    """Descriptors of the frames of a stretch of speech, every 10 ms; all arrays have the shape (n,).

    Attributes
    ----------
    f0 : ndarray
        Fundamental frequency in hertz; NaN in frames without a voice.
    hnr : ndarray
        Harmonics-to-noise ratio in dB; NaN in frames without a voice.
    slope_low, slope_high : ndarray
        Slope of the spectrum from 0 to 500 Hz and from 500 to 1500 Hz in dB per hertz; NaN in frames without a voice.
    loudness : ndarray
        In the unit of eGeMAPS, relative to full scale.
    level : ndarray
        Energy of the 60 ms window in dB, relative to an arbitrary constant.
    """

    f0: Floats
    hnr: Floats
    slope_low: Floats
    slope_high: Floats
    loudness: Floats
    level: Floats


def measure_frames(
    samples: NDArray[np.float32], centers: NDArray[np.int64], gain: float = 1.0
) -> VoiceFrames:
    """Measure the frames of one stretch of speech.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        The whole sound, mono, at `RATE`; full scale is 1.
    centers : ndarray of int64, shape (m,)
        Sample in the middle of each frame, `HOP` apart.
    gain : float
        By which samples are multiplied (`media.speech.gain_for`): ``afx-audio`` treats everything below -60 dBFS as silence.
        The gain changes no descriptor but loudness, for which it is undone.

    Returns
    -------
    VoiceFrames
        With m frames.
    """
    blocks = [
        _measure(samples, centers[first : first + _BLOCK], gain) for first in range(0, len(centers), _BLOCK)
    ]
    joined = {
        name: np.concatenate([getattr(block, name) for block in blocks]) if blocks else np.empty(0)
        for name in VoiceFrames.__dataclass_fields__
    }
    return VoiceFrames(**joined)


def _measure(samples: NDArray[np.float32], centers: NDArray[np.int64], gain: float) -> VoiceFrames:
    count = len(centers)
    around = _cut(samples, int(centers[0]) - _LONG // 2, int(centers[-1]) + _LONG // 2) * gain
    f0, magnitude, _ = egemaps._pitch(around, RATE, count)
    voiced = f0 > 0
    semitones = np.where(voiced, 12 * np.log2(np.where(voiced, f0, 1.0) / _ZERO_HZ), 0.0)
    f0 = _ZERO_HZ * 2 ** (egemaps._sma3(semitones, nonzero=True) / 12)
    long = np.lib.stride_tricks.sliding_window_view(around, _LONG)[::HOP]
    short = np.lib.stride_tricks.sliding_window_view(around[(_LONG - _SHORT) // 2 :], _SHORT)[::HOP][:count]
    power = np.asarray(np.abs(np.fft.rfft(short * egemaps._hamming(_SHORT), 512)) ** 2, np.float64)
    hertz = np.fft.rfftfreq(512, 1 / RATE)
    hnr, slope_low, slope_high = (np.full(count, np.nan) for _ in range(3))
    hnr[voiced] = harmonics_to_noise(long[voiced], f0[voiced])
    decibels = 10 * np.log10(np.maximum(power[voiced], _TINY))
    slope_low[voiced] = spectral_slope(decibels, hertz, 0, 500)
    slope_high[voiced] = spectral_slope(decibels, hertz, 500, 1500)
    return VoiceFrames(
        f0=np.where(voiced, f0, np.nan),
        hnr=hnr,
        slope_low=slope_low,
        slope_high=slope_high,
        loudness=_loudness(power, hertz) / gain**_LOUDNESS_POWER,
        level=10 * np.log10(np.maximum((magnitude**2).sum(axis=1), _TINY)),
    )


def _cut(samples: NDArray[np.float32], start: int, stop: int) -> Floats:
    """Return samples in double precision, with zeros before the beginning and after the end."""
    part = samples[max(0, start) : stop].astype(np.float64)
    before = max(0, -start)
    return np.pad(part, (before, stop - start - before - len(part)))


def _loudness(power: Floats, hertz: Floats) -> Floats:
    """Return the sum of the auditory spectrum, with the filters, weights and unit of ``afx-audio``."""
    bank, middles = egemaps._mel_bank(hertz, 26, 20.0, 8000.0)
    bands = (power @ bank.T) * egemaps._equal_loudness(middles)
    return egemaps._sma3(egemaps._LOUDNESS_GAIN * (bands ** (_LOUDNESS_POWER / 2)).sum(axis=1))


def harmonics_to_noise(frames: Floats, f0: Floats) -> Floats:
    """Return the harmonics-to-noise ratio of each frame in dB.

    The autocorrelation of the windowed frame is divided by that of the window. Its maximum r within 10 % of the period is
    the share of the energy that repeats, and the ratio is 10 log10(r / (1 - r)).

    Parameters
    ----------
    frames : ndarray, shape (n, 960)
        60 ms at `RATE`.
    f0 : ndarray, shape (n,)
        Fundamental frequency in hertz.

    References
    ----------
    P. Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled
    sound", IFA Proceedings 17 (1993), 97-110.
    """
    window = egemaps._gauss(frames.shape[1])
    of_window = np.fft.irfft(np.abs(np.fft.rfft(window, _HNR_FFT)) ** 2)
    spectra = np.fft.rfft(frames * window, _HNR_FFT)
    lags = np.arange(_LONG // 2)
    correlation = np.fft.irfft(spectra.real**2 + spectra.imag**2)[:, lags]
    correlation /= np.maximum(correlation[:, :1], _TINY) * (of_window[lags] / of_window[0])
    period = RATE / f0[:, None]
    near = (lags >= np.floor(0.9 * period)) & (lags <= np.ceil(1.1 * period))
    best = np.where(near, correlation, -np.inf).argmax(axis=1)
    row = np.arange(len(frames))
    before, top, after = (correlation[row, best + shift] for shift in (-1, 0, 1))
    curve = before - 2 * top + after
    peak = np.where(curve < 0, top - (before - after) ** 2 / (8 * np.where(curve < 0, curve, -1.0)), top)
    share = np.clip(peak, 1e-6, 1 - 1e-6)
    return np.asarray(10 * np.log10(share / (1 - share)))


def spectral_slope(decibels: Floats, hertz: Floats, low: float, high: float) -> Floats:
    """Return the least-squares slope of each spectrum between two frequencies in dB per hertz.

    Parameters
    ----------
    decibels : ndarray, shape (n, bins)
        Power spectra.
    hertz : ndarray, shape (bins,)
        Frequency of each bin.
    low, high : float
        The band, both ends included.

    Examples
    --------
    >>> hertz = np.array([0.0, 100, 200, 300])
    >>> spectral_slope(np.array([[-50, -52, -54, -56.0]]), hertz, 0, 300).round(6).tolist()
    [-0.02]
    """
    inside = (hertz >= low) & (hertz <= high)
    away = hertz[inside] - hertz[inside].mean()
    return np.asarray(decibels[:, inside] @ away / (away @ away))
