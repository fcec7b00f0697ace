"""Speech recognition: a waveform to words with their times, by Whisper (Radford et al. 2023) as faster-whisper runs it.

The results are the same, byte for byte, in every run and with any number of threads: one temperature (Whisper's usual
repetition with more and more chance is off), integer arithmetic, and no text of one stretch as a hint for the next.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from iss_assets.features.words.model_files import model_identity, unpacked_model
from iss_assets.media.samples import Samples
from iss_assets.media.speech import VAD_RATE, VAD_WINDOW, gain_for, speech_windows
from iss_assets.settings import WordSettings

WHISPER_RATE: Final = 16000
"""Sampling rate in hertz that Whisper takes."""

WINDOW_S: Final = 30.0
"""Seconds that Whisper recognizes at once."""

_TOGETHER: Final = 2
"""Windows that are recognized together, which takes a sixth less time; more take more memory and no less time."""
_KEPT: Final = 24
"""Encoded windows that are kept for one piece, of 3 MB each."""
_WORDLESS_S: Final = 0.6
_LONGEST_WORD_S: Final = 1.0
_EDGE_S: Final = 0.1
_PER_S: Final = VAD_RATE / VAD_WINDOW
"""What `_wordless_s` goes by: speech without a word, what a word counts for, with some room at its edges, and how often a second
is looked at."""
_NO_SPEECH: Final = 0.6
_UNSURE: Final = -1.0
"""A window with a higher probability of no speech whose words have a lower mean log probability has none: Whisper's own
criterion (``no_speech_threshold``, ``logprob_threshold``)."""
_PART_S: Final = (12.0, 5.0)
_PART_PAUSE_S: Final = 0.2
"""Where words are still missing, a window is recognized in parts of at most so many seconds that end in a pause of this length."""
_REPETITION: Final = 2.4
"""Text that compresses by more repeats itself: Whisper's own criterion for a failed recognition (``compression_ratio``)."""

_PIECE_S: Final = 300.0
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
    wordless_s : float
        Seconds in which somebody speaks for more than 0.6 s without a word, for whatever reason.
    """

    words: tuple[Word, ...] = ()
    text: str = ""
    language: str | None = None
    language_probability: float | None = None
    speech_s: float = 0.0
    left_out_s: float = 0.0
    wordless_s: float = 0.0


def transcribe(samples: Samples, rate: int, settings: WordSettings, *, threads: int = 1) -> Transcript:
    """Recognize what is said in a mono waveform.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,), or other `Samples`
        Full scale is 1. Long ones are read and recognized in pieces of five minutes, so that memory does not grow.
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
        wordless_s=round(before.wordless_s + piece.wordless_s, 3),
    )


def _transcribe_piece(
    samples: NDArray[np.float32], rate: int, settings: WordSettings, threads: int
) -> Transcript:
    from faster_whisper.transcribe import restore_speech_timestamps

    sound = _prepared(samples, rate)
    spoken = _stretches_of_speech(sound)
    if not spoken:
        return Transcript()
    spoken_at = speech_windows(sound, WHISPER_RATE)
    model = _loaded_model(settings.model, model_identity(settings.model), threads)
    heard = np.concatenate([sound[begin:end] for begin, end in spoken])
    windows = _windows([end - begin for begin, end in spoken])
    speech_s = round(len(heard) / WHISPER_RATE, 3)
    first, last = max(windows, key=lambda window: window[1] - window[0])
    language, sure = model.language_of(heard[first:last])
    if sure < settings.min_language_probability:
        return Transcript(
            language_probability=sure,
            speech_s=speech_s,
            left_out_s=speech_s,
            wordless_s=round(_wordless_s([], spoken_at), 3),
        )
    recognize = functools.partial(_recognized, model, heard, settings=settings, language=language)
    speaking = speech_windows(heard, WHISPER_RATE)
    kept, left_out_s = [], 0.0
    for window, made in recognize(windows):
        made = _completed(made, window, speaking, recognize)
        left_out_s += sum(segment.end - segment.start for segment in made if _repeats_itself(segment))
        kept += [segment for segment in made if not _repeats_itself(segment)]
    as_chunks = [{"start": begin, "end": end} for begin, end in spoken]
    kept = list(restore_speech_timestamps(kept, as_chunks, WHISPER_RATE))
    words = tuple(_trimmed(_words(kept), spoken_at))
    return Transcript(
        words=words,
        text=" ".join(text for segment in kept if (text := segment.text.strip())),
        language=language,
        language_probability=sure,
        speech_s=speech_s,
        left_out_s=round(left_out_s, 3),
        wordless_s=round(_wordless_s([(word.start_s, word.end_s) for word in words], spoken_at), 3),
    )


def _completed(
    made: list[Any], window: tuple[int, int], speaking: NDArray[np.bool_], recognize: Callable[..., Any]
) -> list[Any]:
    """Return what was recognized in a window, or what other ways find there if speech in it is without words.

    Recognized at once, without times, a sentence that is said again and again is written once or twice, or forever. The window is
    then recognized sentence by sentence, and, if words are still missing, in shorter and shorter parts, each of which holds the
    sentence once or twice. The way that leaves the least speech without words is taken.
    """
    ways, missing = [made], [_wordless_in(made, window, speaking)]
    for longest_s in (None, *_PART_S):
        if not missing[-1]:
            break
        if longest_s is None:
            ((_, made),) = recognize([window], sentences=True)
        else:
            found = recognize(_parts(window, speaking, longest_s))
            made = [segment for _, segments in found for segment in segments]
        ways.append(made)
        missing.append(_wordless_in(made, window, speaking))
    return ways[int(np.argmin(missing))]


def _parts(window: tuple[int, int], speaking: NDArray[np.bool_], longest_s: float) -> list[tuple[int, int]]:
    """Return the parts of a window, none longer than so many seconds, which end in a pause wherever there is one."""
    per_window = VAD_WINDOW * WHISPER_RATE // VAD_RATE
    begin, end = window
    silent = np.concatenate([[False], ~speaking[begin // per_window : end // per_window], [False]])
    first, last = np.flatnonzero(np.diff(silent.astype(np.int8))).reshape(-1, 2).T
    long_enough = (last - first) * per_window >= _PART_PAUSE_S * WHISPER_RATE
    pauses = begin + ((first + last) // 2 * per_window)[long_enough]
    parts: list[tuple[int, int]] = []
    longest = int(longest_s * WHISPER_RATE)
    while end - begin > longest:
        # nothing too short to be recognized, at either end
        last = min(begin + longest, end - longest // 4)
        within = pauses[(pauses > begin + longest // 4) & (pauses <= last)]
        cut = int(within[-1]) if len(within) else min(begin + longest, (begin + end) // 2)
        parts.append((begin, cut))
        begin = cut
    return [*parts, (begin, end)]


def _stretches_of_speech(sound: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Return where somebody speaks, in samples, with pauses of up to 2 s; none is longer than Whisper's window."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    found = get_speech_timestamps(sound, VadOptions(max_speech_duration_s=WINDOW_S))
    return [(int(stretch["start"]), int(stretch["end"])) for stretch in found]


def _windows(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Return begin and end of the windows of at most 30 s into which stretches of speech, one after the other, are put."""
    windows, end = [(0, 0)], 0
    for length in lengths:
        begin = windows[-1][0]
        if end + length - begin > WINDOW_S * WHISPER_RATE:
            windows.append((end, end))
        end += length
        windows[-1] = (windows[-1][0], end)
    return windows


def _wordless_in(segments: Iterable[Any], window: tuple[int, int], speaking: NDArray[np.bool_]) -> float:
    """Return the seconds of a window in which somebody speaks without a word; text that repeats itself has none.

    Parameters
    ----------
    segments : iterable of segments
        What was recognized, with words.
    window : (int, int)
        Its first sample and the one after its last.
    speaking : ndarray of bool
        For each window of 32 ms of all the sound, whether somebody speaks.
    """
    begin, end = (round(edge / WHISPER_RATE * _PER_S) for edge in window)
    inside = np.zeros(len(speaking), bool)
    inside[begin:end] = speaking[begin:end]
    words = [word for segment in segments if not _repeats_itself(segment) for word in segment.words]
    return _wordless_s([(word.start, word.end) for word in words], inside)


def _wordless_s(times: Iterable[tuple[float, float]], speaking: NDArray[np.bool_]) -> float:
    """Return the seconds in which somebody speaks for a while without a word.

    On the recordings that this was tried with, such stretches lasted 0.4 s at most where nothing was missing, and 0.8 s or more
    where something was.

    Parameters
    ----------
    times : iterable of (float, float)
        Begin and end of each word.
    speaking : ndarray of bool
        For each window of 32 ms, whether somebody speaks.
    """
    silent = ~speaking
    for begin, end in times:
        # where words are missing, one may be stretched over the gap
        last = min(end, begin + _LONGEST_WORD_S) + _EDGE_S
        silent[max(0, int((begin - _EDGE_S) * _PER_S)) : int(last * _PER_S) + 1] = True
    changes = np.flatnonzero(np.diff(np.concatenate([[True], silent, [True]])))
    lasting = (changes[1::2] - changes[::2]) / _PER_S
    return float(lasting[lasting > _WORDLESS_S].sum())


def _repeats_itself(segment: Any) -> bool:
    return bool(segment.compression_ratio > _REPETITION)


def _recognized(
    model: Any,
    heard: NDArray[np.float32],
    windows: Sequence[tuple[int, int]],
    *,
    settings: WordSettings,
    language: str,
    sentences: bool = False,
) -> list[tuple[tuple[int, int], list[Any]]]:
    """Return each window with the segments recognized in it.

    By default a window is recognized at once, as one segment, which takes up to a third less time and is as correct. With
    `sentences`, Whisper goes through it as through a long recording: from one sentence to the next, each with its time.
    """
    from faster_whisper import BatchedInferencePipeline

    wanted = settings.hotwords and language == settings.hotwords_language
    options = {
        "language": language,
        "beam_size": settings.beam_size,
        "temperature": 0.0,
        "condition_on_previous_text": False,
        "word_timestamps": True,
        "hotwords": f"{', '.join(settings.hotwords)}." if wanted else None,
    }
    begins = [begin / WHISPER_RATE for begin, _ in windows]
    found: list[list[Any]] = [[] for _ in windows]
    if sentences:
        for number, (begin, end) in enumerate(windows):
            segments, _ = model.transcribe(heard[begin:end], **options)
            found[number] = [_later(segment, begins[number]) for segment in segments]
    else:
        segments, _ = BatchedInferencePipeline(model).transcribe(
            heard,
            # the middle of a sample, so that rounding cannot take the one before
            clip_timestamps=[
                {"start": (b + 0.5) / WHISPER_RATE, "end": (e + 0.5) / WHISPER_RATE} for b, e in windows
            ],
            batch_size=_TOGETHER,
            without_timestamps=True,
            **options,
        )
        for segment in segments:
            if segment.no_speech_prob <= _NO_SPEECH or segment.avg_logprob >= _UNSURE:
                # `seek` is the first of its window's frames, of 10 ms, rounded down
                found[bisect.bisect(begins, (segment.seek + 1) / model.frames_per_second) - 1].append(segment)
    return list(zip(windows, found, strict=True))


def _later(segment: Any, seconds: float) -> Any:
    """Return a segment whose times are later."""
    words = [replace(w, start=w.start + seconds, end=w.end + seconds) for w in segment.words or ()]
    return replace(segment, start=segment.start + seconds, end=segment.end + seconds, words=words)


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
    """Return the samples at Whisper's rate, about their mean, raised if they are quiet: a quiet voice is still a voice."""
    import soxr

    sound = soxr.resample(samples - samples.mean(), rate, WHISPER_RATE, quality="HQ").astype(np.float32)
    gain = gain_for(sound)
    return np.clip(sound * gain, -1, 1).astype(np.float32) if gain > 1 else sound


def _digest(features: NDArray[np.float32]) -> bytes:
    return hashlib.sha256(features.tobytes()).digest()


@functools.lru_cache(maxsize=1)
def _loaded_model(folder: Path | None, identity: str, threads: int) -> Any:
    """Load the model once per process, and again when the folder holds another one (`identity`)."""
    from ctranslate2 import StorageView
    from faster_whisper import WhisperModel
    from faster_whisper.audio import pad_or_trim

    class Model(WhisperModel):  # type: ignore[misc]  # a library without types
        """Whisper that keeps encoded windows and does not encode them again: the language is detected in the longest one,
        and doubtful ones are recognized twice."""

        _encoded: dict[bytes, Any]

        def language_of(self, sound: NDArray[np.float32]) -> tuple[str, float]:
            """Return the language of up to 30 s, and how sure it is."""
            self._encoded = {}
            if not self.model.is_multilingual:
                return "en", 1.0
            features = pad_or_trim(self.feature_extractor(sound)[..., :-1])
            encoded = self.encode(features)
            token, probability = self.model.detect_language(encoded)[0][0]
            return token.removeprefix("<|").removesuffix("|>"), float(probability)

        def encode(self, features: NDArray[np.float32]) -> Any:
            """Encode a window of 30 s, or several, one after the other."""
            if features.ndim > 2:
                return StorageView.from_array(
                    np.concatenate([np.asarray(self.encode(one)) for one in features])
                )
            if (made := self._encoded.get(key := _digest(features))) is None:
                made = super().encode(features)
                if len(self._encoded) < _KEPT:
                    self._encoded[key] = made
            return made

    # at its lower levels it logs about what is said
    logging.getLogger("faster_whisper").setLevel(logging.WARNING)

    def load(path: Path) -> Any:
        return Model(str(path), device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True)

    if folder is None:
        with unpacked_model() as unpacked:
            return load(unpacked)
    return load(folder)
