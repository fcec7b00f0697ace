"""How a patient speaks: pauses, pace, pitch, and voice quality. Nothing here depends on what is said.

The stored waveform is read; the video is not opened. Silero's detector says where someone speaks; only there are
descriptors measured (``voice_frames``), once for the whole video. The rows for the chunks and the whole summarize
the same frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as arrow
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.signal import butter, find_peaks, sosfilt, sosfilt_zi

from iss_assets.features.stages import SourceRows
from iss_assets.features.voice_frames import HOP, HOP_S, RATE, VoiceFrames, measure_frames
from iss_assets.media.audio import chunk_bounds
from iss_assets.media.speech import VAD_WINDOW, gain_for, speech_windows
from iss_assets.schemas.audio import Audio
from iss_assets.schemas.voice import VOICE_FEATURES, VoiceFeatures
from iss_assets.settings import AudioSettings, Settings, VoiceSettings

_WINDOW_S: Final = VAD_WINDOW / RATE
_CLICK_S: Final = 0.1
"""Speech found for less than this between two pauses is a click or a cough."""
_MIN_VOICED_S: Final = 0.2
"""Pitch and voice quality over less than this say nothing."""
_DIP_DB: Final = 2.0
_QUIET_DB: Final = 25.0
"""Syllable nuclei as in de Jong and Wempe (2009): a dip of 2 dB on both sides, at most 25 dB below the loudest."""
_READ_SECONDS: Final = 30
_AUDIBLE: Final = butter(2, 20.0, "highpass", fs=RATE, output="sos")
"""Takes 0.1 dB from 55 Hz, the lowest pitch that is looked for."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Voice:
    """What is measured in the sound of one video, before it is summarized.

    Attributes
    ----------
    duration_s : float
        Length of the sound.
    stretches : ndarray, shape (n, 2)
        Beginning and end of every stretch of speech in seconds; between two of them is a pause.
    time_s : ndarray, shape (m,)
        Middle of every frame within the stretches.
    frames : VoiceFrames
        With m frames.
    nuclei_s : ndarray, shape (k,)
        Time of every syllable's nucleus.
    """

    duration_s: float
    stretches: Floats
    time_s: Floats
    frames: VoiceFrames
    nuclei_s: Floats


def measure_video(
    video: Mapping[str, Any], rows: SourceRows, settings: Settings
) -> Mapping[str, arrow.Table]:
    """Measure the stored sound of one video.

    Parameters
    ----------
    video : mapping
        Its row of ``videos``.
    rows : SourceRows
        Rows of ``audio``.
    settings : Settings
        The sections ``voice`` and ``audio``.

    Returns
    -------
    mapping of str to pyarrow.Table
        ``voice_features``: a row per 4-second chunk, and one, chunk -1, for the whole; none where no sound was decoded.
    """
    sound = rows.of(Audio, ["waveform"])
    samples = (
        decode_for_voice(sound["waveform"][0].as_buffer()) if sound.num_rows else np.empty(0, np.float32)
    )
    # half an hour is 75 MB
    del sound
    measured = []
    if len(samples):
        voice = measure_voice(samples, settings.voice)
        measured = [
            {"chunk_index": chunk, **summarize(voice, start, end, settings.voice)}
            for chunk, start, end in chunk_spans(voice.duration_s, settings.audio)
        ]
    return {
        VoiceFeatures.__table__: arrow.Table.from_pylist(measured, schema=VoiceFeatures.measured_schema())
    }


def measure_voice(samples: NDArray[np.float32], settings: VoiceSettings) -> Voice:
    """Find where someone speaks, and measure every frame of it.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono, at 16 kHz; full scale is 1.
    settings : VoiceSettings
        Shortest pause.
    """
    stretches = speech_stretches(speech_windows(samples, RATE), settings.min_pause_s)
    gain = gain_for(samples)
    centers = [
        np.arange(int(np.ceil(start * RATE / HOP)), int(np.ceil(end * RATE / HOP))) * HOP
        for start, end in stretches
    ]
    measured = [measure_frames(samples, part, gain) for part in centers]
    frames = VoiceFrames(
        **{
            name: np.concatenate([getattr(part, name) for part in measured]) if measured else np.empty(0)
            for name in VoiceFrames.__dataclass_fields__
        }
    )
    time_s = np.concatenate(centers) / RATE if centers else np.empty(0)
    sizes = [len(part) for part in centers]
    return Voice(len(samples) / RATE, stretches, time_s, frames, time_s[_nuclei(frames, sizes)])


def speech_stretches(speaking: NDArray[np.bool_], min_pause_s: float) -> Floats:
    """Join windows with speech into stretches: shorter silences, as between the sounds of a word, belong to them.

    Parameters
    ----------
    speaking : ndarray of bool, shape (n,)
        Whether someone speaks in each window of 32 ms.
    min_pause_s : float
        Silences from this length on are pauses.

    Returns
    -------
    ndarray, shape (m, 2)
        Beginning and end of each stretch in seconds.

    Examples
    --------
    >>> speaking = np.array([0] * 10 + [1] * 20 + [0] * 3 + [1] * 20 + [0] * 20 + [1] * 10 + [0] * 9, bool)
    >>> speech_stretches(speaking, 0.25).round(2).tolist()
    [[0.32, 1.7], [2.34, 2.66]]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], speaking, [False]]).astype(np.int8)))
    found = edges.reshape(-1, 2) * _WINDOW_S
    if not len(found):
        return found.reshape(0, 2)
    apart = found[1:, 0] - found[:-1, 1] >= min_pause_s
    starts = found[np.concatenate([[True], apart]), 0]
    ends = found[np.concatenate([apart, [True]]), 1]
    joined = np.stack([starts, ends], axis=1)
    return joined[ends - starts >= _CLICK_S]


def _nuclei(frames: VoiceFrames, sizes: list[int]) -> NDArray[np.int64]:
    """Return the frames that are the nuclei of syllables: peaks of the level, in a voiced frame, between two dips.

    References
    ----------
    N. H. de Jong and T. Wempe, "Praat script to detect syllable nuclei and measure speech rate automatically",
    Behavior Research Methods 41(2), 2009, 385-390.
    """
    if not len(frames.level):
        return np.empty(0, np.int64)
    least = np.percentile(frames.level, 99) - _QUIET_DB
    found, first = [], 0
    for size in sizes:
        # silence on both sides, so that a peak at the edge of a stretch has a dip there
        level = np.pad(frames.level[first : first + size], 1, constant_values=least - _DIP_DB)
        peaks, _ = find_peaks(level, height=least, prominence=_DIP_DB)
        found.append(peaks - 1 + first)
        first += size
    peaks = np.concatenate(found)
    return peaks[~np.isnan(frames.f0[peaks])]


def summarize(
    voice: Voice, start: float, end: float, settings: VoiceSettings
) -> dict[str, float | int | None]:
    """Summarize a span of a video; what cannot be measured there is None.

    A pause counts where it begins, and its time where it passes, so that chunks add up to the whole.

    Parameters
    ----------
    voice : Voice
        Of the whole video.
    start, end : float
        The span in seconds.
    settings : VoiceSettings
        Least amount of speech.
    """
    stretches = voice.stretches
    speech_s = _overlap(stretches, start, end)
    row: dict[str, float | int | None] = dict.fromkeys(VOICE_FEATURES)
    row |= {"speech_s": speech_s, "voiced_s": 0.0}
    if not len(stretches):
        return row
    # before the first word and after the last one nobody pauses
    span = _overlap(np.array([[stretches[0, 0], stretches[-1, 1]]]), start, end)
    pauses = np.stack([stretches[:-1, 1], stretches[1:, 0]], axis=1)
    begun = pauses[(pauses[:, 0] >= start) & (pauses[:, 0] < end)]
    if span:
        row["pause_count"] = len(begun)
        row["pause_total_s"] = _overlap(pauses, start, end)
        row["pause_median_s"] = _median(begun[:, 1] - begun[:, 0])
        row["phonation_share"] = min(1.0, speech_s / span)
    here = (voice.time_s >= start) & (voice.time_s < end)
    f0 = voice.frames.f0[here]
    voiced = ~np.isnan(f0)
    row["voiced_s"] = float(voiced.sum() * HOP_S)
    if speech_s < settings.min_speech_s:
        return row
    syllables = int(((voice.nuclei_s >= start) & (voice.nuclei_s < end)).sum())
    if syllables:
        row["speech_rate"] = syllables / span
        row["articulation_rate"] = syllables / speech_s
    loudness = voice.frames.loudness[here]
    row["loudness"] = float(loudness.mean())
    row["loudness_range"] = _range(loudness)
    if voiced.sum() * HOP_S >= _MIN_VOICED_S:
        row["f0_median_hz"] = float(np.median(f0[voiced]))
        row["f0_range_semitones"] = _range(12 * np.log2(f0[voiced]))
        row["hnr_db"] = float(voice.frames.hnr[here][voiced].mean())
        row["spectral_slope_0_500"] = float(voice.frames.slope_low[here][voiced].mean())
        row["spectral_slope_500_1500"] = float(voice.frames.slope_high[here][voiced].mean())
    return row


def _overlap(spans: Floats, start: float, end: float) -> float:
    """Return how many seconds of the spans lie between two times."""
    return float(np.maximum(0, np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start)).sum())


def _median(values: Floats) -> float | None:
    return float(np.median(values)) if len(values) else None


def _range(values: Floats) -> float:
    """Return the distance from the 20th to the 80th percentile, as in eGeMAPS."""
    low, high = np.percentile(values, [20, 80])
    return float(high - low)


def chunk_spans(duration_s: float, audio: AudioSettings) -> list[tuple[int, float, float]]:
    """Return number, beginning and end of every chunk that ``audio_features`` has, too, after the whole as chunk -1."""
    size = round(duration_s * audio.sample_rate)
    whole = [(-1, 0.0, duration_s)] if size else []
    return whole + [
        (chunk, start / audio.sample_rate, stop / audio.sample_rate)
        for chunk, (start, stop) in enumerate(chunk_bounds(size, audio))
    ]


def decode_for_voice(blob: bytes | arrow.Buffer) -> NDArray[np.float32]:
    """Decode a stored waveform to mono at 16 kHz, without what is too low to be heard, block by block; none for no bytes.

    The offset that cheap microphones add to every sample, and its drifting, would be taken for sound that repeats perfectly: a
    noisy voice would be clear, and a quiet one would have no dips between its syllables. Boersma (1993) subtracts the mean.
    """
    if not blob:
        return np.empty(0, np.float32)
    with soundfile.SoundFile(arrow.BufferReader(blob)) as file:
        samples = np.empty(int(np.ceil(file.frames * RATE / file.samplerate)) + RATE, np.float32)
        filled = 0
        stream = soxr.ResampleStream(file.samplerate, RATE, 1, dtype="float32", quality="HQ")
        state: Floats | None = None
        for block in chain(file.blocks(_READ_SECONDS * file.samplerate, dtype="float32"), [None]):
            part = stream.resample_chunk(
                np.empty(0, np.float32) if block is None else block, last=block is None
            )
            if len(part):
                if state is None:
                    # as if the offset had always been there
                    state = sosfilt_zi(_AUDIBLE) * part[: RATE // 10].mean(dtype=np.float64)
                part, state = sosfilt(_AUDIBLE, part, zi=state)
            samples[filled : filled + len(part)] = part
            filled += len(part)
    return samples[:filled]
