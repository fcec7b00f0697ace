"""Speech recognition: a waveform to words with their times, by Whisper (Radford et al. 2023) as faster-whisper runs it.

The results are the same, byte for byte, in every run and with any number of threads: one temperature (Whisper's usual
repetition with more and more chance is off), integer arithmetic, and no text of one stretch as a hint for the next.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from iss_assets.features.words.model_files import model_identity, unpacked_model
from iss_assets.media.samples import Samples
from iss_assets.media.speech import VAD_RATE, VAD_WINDOW, speech_windows
from iss_assets.settings import WordSettings

WHISPER_RATE: Final = 16000
"""Sampling rate in hertz that Whisper takes."""

_REPETITION: Final = 2.4
"""Text that compresses by more repeats itself: Whisper's own criterion for a failed recognition (``compression_ratio``)."""
_LEVEL: Final = 0.5
"""Level that a quiet track is raised to, as a share of full scale."""
_MAX_GAIN: Final = 100.0
"""The track is raised by at most 40 dB, as the voice-activity detector of ``media.speech`` does."""

_PIECE_S: Final = 600.0
_SEARCH_S: Final = 60.0
_QUIET_S: Final = 0.2


@dataclass(frozen=True)
class Word:
    """One recognized word.

    Attributes
    ----------
    text : str
        As it is written, with the punctuation that belongs to it.
    start_s, end_s : float
        Seconds from the beginning of the sound.
    probability : float
        How sure the recognition is, 0 to 1.
    """

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True)
class Transcript:
    """What was said in one sound track.

    Attributes
    ----------
    words : tuple of Word
        In the order of their times.
    text : str
        The words as Whisper writes them, which has no spaces in some languages.
    language : str or None
        Language code of ISO 639-1; None if there is no speech, or if it is in no language that could be told.
    language_probability : float or None
        How sure the detection is; None without speech.
    speech_s : float
        Seconds in which somebody speaks, with the short pauses in between.
    left_out_s : float
        Seconds of speech whose text was left out, because the recognition repeated itself or the language is unknown.
    """

    words: tuple[Word, ...] = ()
    text: str = ""
    language: str | None = None
    language_probability: float | None = None
    speech_s: float = 0.0
    left_out_s: float = 0.0


def transcribe(samples: Samples, rate: int, settings: WordSettings, *, threads: int = 1) -> Transcript:
    """Recognize what is said in a mono waveform.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,), or other `Samples`
        Full scale is 1. Long ones are read and recognized in pieces of ten minutes, so that memory does not grow.
    rate : int
        Samples per second.
    settings : WordSettings
        The model and how it is used.
    threads : int
        CPU cores to use; the result does not depend on it.

    Returns
    -------
    Transcript
        Without words where nobody speaks: only stretches in which a voice-activity detector (Silero's) finds speech are
        given to Whisper, which makes words up from silence and noise.

    Raises
    ------
    ModelError
        If the model is missing, damaged, or no model.
    """
    whole, begin = Transcript(), 0
    while rate and begin < len(samples):
        end = _end_of_piece(samples, rate, begin)
        piece = _transcribe_piece(samples[begin:end], rate, settings, threads)
        whole = _joined(whole, piece, begin / rate)
        begin = end
    return whole


def _end_of_piece(samples: Samples, rate: int, begin: int) -> int:
    """Return where a piece ends: at the end, or in the quietest moment of its last minute."""
    longest = int(_PIECE_S * rate)
    if len(samples) - begin <= longest:
        return len(samples)
    search = begin + longest - int(_SEARCH_S * rate)
    step = int(_QUIET_S * rate)
    last = samples[search : begin + longest]
    levels = np.square(last[: len(last) // step * step].reshape(-1, step)).mean(axis=1)
    return search + int(levels.argmin()) * step + step // 2


def _joined(before: Transcript, piece: Transcript, offset_s: float) -> Transcript:
    """Return two pieces as one; the language is that of the piece with more words."""
    words = tuple(
        replace(word, start_s=round(word.start_s + offset_s, 3), end_s=round(word.end_s + offset_s, 3))
        for word in piece.words
    )
    first = max(before, piece, key=lambda part: (len(part.words), part.speech_s))
    return replace(
        first,
        words=before.words + words,
        text=" ".join(filter(None, (before.text, piece.text))),
        speech_s=round(before.speech_s + piece.speech_s, 3),
        left_out_s=round(before.left_out_s + piece.left_out_s, 3),
    )


def _transcribe_piece(
    samples: NDArray[np.float32], rate: int, settings: WordSettings, threads: int
) -> Transcript:
    sound = _prepared(samples, rate)
    model = _loaded_model(settings.model, model_identity(settings.model), threads)
    segments, about = _recognized(model, sound, settings, None)
    if not about.duration_after_vad:
        return Transcript()
    language, sure = about.language, float(about.language_probability)
    speech_s = round(float(about.duration_after_vad), 3)
    if sure < settings.min_language_probability:
        return Transcript(language_probability=sure, speech_s=speech_s, left_out_s=speech_s)
    if settings.hotwords and language == settings.hotwords_language:
        segments, _ = _recognized(model, sound, settings, language)
    kept, left_out_s = [], 0.0
    for segment in segments:
        if segment.compression_ratio > _REPETITION:
            left_out_s += segment.end - segment.start
        else:
            kept.append(segment)
    return Transcript(
        words=tuple(_trimmed(_words(kept), speech_windows(sound, WHISPER_RATE))),
        text=" ".join(text for segment in kept if (text := segment.text.strip())),
        language=language,
        language_probability=sure,
        speech_s=speech_s,
        left_out_s=round(float(left_out_s), 3),
    )


def _recognized(
    model: Any, sound: NDArray[np.float32], settings: WordSettings, language: str | None
) -> tuple[Iterator[Any], Any]:
    """Return segments, which are recognized when they are asked for, and what is known beforehand."""
    return model.transcribe(  # type: ignore[no-any-return]
        sound,
        language=language,
        beam_size=settings.beam_size,
        temperature=0.0,
        condition_on_previous_text=False,
        vad_filter=True,
        word_timestamps=True,
        hotwords=f"{', '.join(settings.hotwords)}." if language and settings.hotwords else None,
    )


def _words(segments: list[Any]) -> Iterator[Word]:
    for segment in segments:
        for word in segment.words or ():
            if text := word.word.strip():
                yield Word(
                    text,
                    round(float(word.start), 3),
                    round(float(word.end), 3),
                    round(min(1.0, max(0.0, float(word.probability))), 6),
                )


def _trimmed(words: Iterable[Word], speaking: NDArray[np.bool_]) -> Iterator[Word]:
    """Yield words without the silence at their edges: Whisper lets the first one after a pause begin with the pause.

    Parameters
    ----------
    words : iterable of Word
        Words with the times that Whisper gives them.
    speaking : ndarray of bool
        For each window of 32 ms, whether somebody speaks. A word in which nobody does keeps its times.
    """
    seconds = VAD_WINDOW / VAD_RATE
    for word in words:
        first, last = int(word.start_s / seconds), math.ceil(word.end_s / seconds)
        found = np.flatnonzero(speaking[first:last])
        if len(found):
            start_s = max(word.start_s, (first + int(found[0])) * seconds)
            end_s = min(word.end_s, (first + int(found[-1]) + 1) * seconds)
            word = replace(word, start_s=round(start_s, 3), end_s=round(end_s, 3))
        yield word


def _prepared(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return the samples at Whisper's rate, raised if they are quiet: a quiet voice is still a voice."""
    import soxr

    sound = soxr.resample(samples, rate, WHISPER_RATE, quality="HQ").astype(np.float32)
    top = float(np.percentile(np.abs(sound), 99.9)) if len(sound) else 0.0
    if 0 < top < _LEVEL:
        sound = np.clip(sound * min(_LEVEL / top, _MAX_GAIN), -1, 1).astype(np.float32)
    return sound


@functools.lru_cache(maxsize=1)
def _loaded_model(folder: Path | None, identity: str, threads: int) -> Any:
    """Load the model once per process, and again when the folder holds another one (`identity`)."""
    from faster_whisper import WhisperModel

    class Model(WhisperModel):  # type: ignore[misc]  # a library without types
        """Whisper that keeps the last encoded window: to detect the language, it encodes the first one, and then again."""

        _encoded: tuple[bytes, Any] | None = None

        def detect_language(
            self, audio: Any = None, features: NDArray[np.float32] | None = None, **options: Any
        ) -> Any:
            """Detect the language in the window that is recognized first, which ends one step before the sound does."""
            if features is not None and 1 < features.shape[-1] <= self.feature_extractor.nb_max_frames:
                features = features[..., :-1]
            return super().detect_language(audio, features, **options)

        def encode(self, features: NDArray[np.float32]) -> Any:
            """Encode a window of 30 s."""
            window = hashlib.sha256(features.tobytes()).digest()
            if self._encoded is None or self._encoded[0] != window:
                self._encoded = (window, super().encode(features))
            return self._encoded[1]

    # at its lower levels it logs about what is said
    logging.getLogger("faster_whisper").setLevel(logging.WARNING)

    def load(path: Path) -> Any:
        return Model(str(path), device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True)

    if folder is None:
        with unpacked_model() as unpacked:
            return load(unpacked)
    return load(folder)
