"""Voices of invented patients: syllables from a glottal pulse, formants and noise. No words.

Source and filter as in Klatt (1980), *Software for a cascade/parallel formant synthesizer*, J. Acoust. Soc. Am. 67,
done on a short-time spectrum: a pulse train and noise, each multiplied by an envelope that moves with the syllables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, istft, sosfilt, stft

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SAMPLE_RATE: Final = 48_000

VOWELS: Final = np.array(
    [
        (730, 1090, 2440, 3500),
        (530, 1840, 2480, 3500),
        (390, 1990, 2550, 3600),
        (270, 2290, 3010, 3700),
        (570, 840, 2410, 3400),
        (440, 1020, 2240, 3300),
        (300, 870, 2240, 3300),
        (640, 1190, 2390, 3400),
    ],
    np.float64,
)
"""Formants in hertz of men's vowels (Peterson and Barney 1952), a plausible fourth added."""

OPENNESS: Final = np.array([1.0, 0.7, 0.45, 0.3, 0.75, 0.55, 0.3, 0.8])
"""How wide the mouth is for each of `VOWELS`."""

FRICATIVES: Final = ((5200.0, 1800.0), (3600.0, 1400.0), (6800.0, 2500.0))
"""Middle and width in hertz of hissing sounds."""

_HOP: Final = 480
"""Samples per step of the envelopes: 10 ms."""


@dataclass(frozen=True)
class Voice:
    """One patient's voice.

    Attributes
    ----------
    pitch : float
        Middle of the fundamental frequency, hertz.
    tract : float
        Scale of the formants: 1 for a long (male) vocal tract, about 1.17 for a short one.
    breath : float
        Share of breath noise, 0 to 1.
    pace : float
        Syllables per second within a phrase.
    """

    pitch: float
    tract: float
    breath: float
    pace: float


@dataclass(frozen=True)
class Speech:
    """Speech: `sound` (mono at `SAMPLE_RATE`, peak below 1) and `mouth`, 0 to 1, every 10 ms."""

    sound: Floats
    mouth: Floats

    def mouth_at(self, time_s: float) -> float:
        """Return how wide the mouth is open at a time, 0 to 1."""
        step = int(time_s * SAMPLE_RATE / _HOP)
        return float(self.mouth[step]) if 0 <= step < len(self.mouth) else 0.0


def speak(voice: Voice, seconds: float, seed: int) -> Speech:
    """Speak syllables in phrases, with pauses, for `seconds`, in a quiet room.

    Parameters
    ----------
    voice : Voice
        Whose voice.
    seconds : float
        Length of the sound.
    seed : int
        What is said; the same seed says the same.
    """
    rng = np.random.default_rng([seed, 23])
    steps = int(np.ceil(seconds * SAMPLE_RATE / _HOP)) + 1
    track = _Track(voice, steps, rng)
    samples = int(seconds * SAMPLE_RATE)
    sound = _render(voice, track, samples, rng)
    return finished(sound, track.mouth, rng)


def finished(
    sound: npt.NDArray[np.floating], mouth: npt.NDArray[np.floating], rng: np.random.Generator
) -> Speech:
    """Return a voice at the usual level in a quiet room, with smooth movements of the mouth."""
    loud = np.abs(sound).max()
    room = _room(len(sound), rng) * 10 ** (-64 / 20)
    smooth = np.convolve(mouth, np.hanning(9) / np.hanning(9).sum(), mode="same")
    return Speech(
        (sound / (loud or 1.0) * 0.5 + room).astype(np.float32), np.clip(smooth, 0, 1).astype(np.float32)
    )


class _Track:
    """The syllables as curves, one value every 10 ms."""

    def __init__(self, voice: Voice, steps: int, rng: np.random.Generator):
        self.voiced = np.zeros(steps)
        self.hiss = np.zeros(steps)
        self.hiss_shape = np.zeros((steps, 2))
        self.hiss_shape[:] = FRICATIVES[0]
        self.formants = np.tile(VOWELS[7] * voice.tract, (steps, 1))
        self.mouth = np.zeros(steps)
        self.pitch = np.full(steps, voice.pitch)
        at = int(rng.integers(15, 40))
        while at < steps - 40:
            at = self._phrase(voice, at, steps, rng) + int(rng.integers(30, 75))
        blur = np.hanning(7) / np.hanning(7).sum()
        for curves in (self.formants, self.hiss_shape):
            for column in range(curves.shape[1]):
                padded = np.pad(curves[:, column], 3, mode="edge")
                curves[:, column] = np.convolve(padded, blur, mode="valid")

    def _phrase(self, voice: Voice, at: int, steps: int, rng: np.random.Generator) -> int:
        syllables = int(rng.integers(5, 12))
        start = at
        for _ in range(syllables):
            length = int(100 / voice.pace * rng.uniform(0.75, 1.3))
            if at + length >= steps - 10:
                break
            onset = int(length * rng.uniform(0.2, 0.38))
            vowel = int(rng.integers(len(VOWELS)))
            body = slice(at + onset, at + length)
            rise = np.sin(np.linspace(0.25, np.pi - 0.2, length - onset)) ** 0.6
            stress = rng.uniform(0.6, 1.0)
            self.voiced[body] = rise * stress
            self.mouth[body] = OPENNESS[vowel] * rise * stress
            self.formants[at : at + length] = VOWELS[vowel] * voice.tract * rng.uniform(0.97, 1.03, 4)
            if rng.random() < 0.6:
                kind = int(rng.integers(len(FRICATIVES)))
                self.hiss[at : at + onset] = np.hanning(onset + 2)[1:-1] * rng.uniform(0.5, 1.0)
                self.hiss_shape[at : at + onset] = FRICATIVES[kind]
                self.mouth[at : at + onset] = 0.12
            else:
                # nasals and glides keep the voice going at a low level
                self.voiced[at : at + onset] = 0.22
            at += length
        span = max(1, at - start)
        fall = np.linspace(1.12, 0.86, span) + 0.05 * np.sin(np.linspace(0, rng.uniform(6, 14), span))
        self.pitch[start:at] = voice.pitch * fall * rng.uniform(0.95, 1.06)
        return at


def _render(voice: Voice, track: _Track, samples: int, rng: np.random.Generator) -> Doubles:
    seconds = np.arange(samples) / SAMPLE_RATE
    step_times = np.arange(len(track.pitch)) * _HOP / SAMPLE_RATE
    pitch = np.interp(seconds, step_times, track.pitch)
    wobble = np.interp(seconds, step_times, rng.normal(0, 0.008, len(step_times)))
    phase = np.cumsum(pitch * (1 + wobble)) / SAMPLE_RATE % 1.0
    # Rosenberg's pulse: opens over 40 % of the period, closes over 16 %; its slope excites the tract
    opening, closing = 0.4, 0.16
    pulse = np.where(
        phase < opening,
        0.5 * (1 - np.cos(np.pi * phase / opening)),
        np.where(phase < opening + closing, np.cos(0.5 * np.pi * (phase - opening) / closing), 0.0),
    )
    source = np.diff(pulse, prepend=0.0)
    source /= source.std()
    noise = rng.normal(size=samples)
    window, overlap = 4 * _HOP, 3 * _HOP
    hz, times, voiced = stft(source, SAMPLE_RATE, nperseg=window, noverlap=overlap)
    breath = stft(noise, SAMPLE_RATE, nperseg=window, noverlap=overlap)[2]
    step = np.clip(np.round(times * SAMPLE_RATE / _HOP).astype(int), 0, len(track.pitch) - 1)
    tract = _tract(hz, track.formants[step])
    centre, width = track.hiss_shape[step].T
    hiss = np.exp(-0.5 * ((hz[:, None] - centre) / width) ** 2)
    spectrum = tract * (voiced + breath * voice.breath * 0.35) * track.voiced[step]
    spectrum = spectrum + 1.6 * hiss * breath * track.hiss[step]
    sound = istft(spectrum, SAMPLE_RATE, nperseg=window, noverlap=overlap)[1]
    return np.asarray(np.pad(sound, (0, max(0, samples - len(sound))))[:samples], np.float64)


def _tract(hz: Doubles, formants: Doubles) -> Doubles:
    """Return the vocal tract's gain, (frequencies, steps): resonances in cascade."""
    gain = np.ones((len(hz), len(formants)))
    for number in range(formants.shape[1]):
        at = formants[:, number]
        band = 50 + 0.05 * at
        gain *= at**2 / np.sqrt((hz[:, None] ** 2 - at**2) ** 2 + (hz[:, None] * band) ** 2)
    # higher resonances keep the level up above the fourth
    return gain * (1 + (hz[:, None] / 2500) ** 2) ** 0.9


def _room(samples: int, rng: np.random.Generator) -> Doubles:
    """Return the noise of a quiet room, root mean square 1: falling with frequency."""
    noise = sosfilt(butter(1, 400, "low", fs=SAMPLE_RATE, output="sos"), rng.normal(size=samples))
    noise = noise + 0.02 * rng.normal(size=samples)
    return np.asarray(noise / noise.std(), np.float64)


def quiet(speech: Speech) -> Speech:
    """Return the speech so quiet that it is barely above the room's noise."""
    rng = np.random.default_rng(len(speech.sound))
    room = _room(len(speech.sound), rng) * 10 ** (-62 / 20)
    return replace(speech, sound=(speech.sound * 10 ** (-29 / 20) + room).astype(np.float32))


def muffled(speech: Speech) -> Speech:
    """Return the speech through a cloth over the microphone: hardly anything above 1.5 kHz is left."""
    cloth = butter(4, 1500, "low", fs=SAMPLE_RATE, output="sos")
    return replace(speech, sound=np.asarray(sosfilt(cloth, speech.sound), np.float32))
