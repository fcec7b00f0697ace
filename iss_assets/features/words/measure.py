"""One video's sound to the rows of the tables about its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from iss_assets.features.stages import SourceRows
from iss_assets.features.words.identifying import identifying_spans
from iss_assets.features.words.model_files import model_identity
from iss_assets.features.words.sentences import embed, sentences
from iss_assets.features.words.text_features import text_features
from iss_assets.features.words.transcription import Transcript, transcribe
from iss_assets.features.words.word_lists import LANGUAGE
from iss_assets.schemas.audio import Audio
from iss_assets.schemas.words import TextFeatures, Transcripts, TranscriptSpans, TranscriptWords
from iss_assets.settings import Settings, WordSettings

TABLES = (Transcripts, TranscriptWords, TranscriptSpans, TextFeatures)
"""The tables about words."""


def measure_video(video: Mapping[str, Any], rows: SourceRows, settings: Settings) -> Mapping[str, pa.Table]:
    """Recognize the words of one video and measure them; see `features.stages.Measure`.

    A video without a sound track has no rows; one in which nobody speaks has a transcript without words.
    """
    sound = rows.of(Audio, ["waveform"])
    if not sound.num_rows:
        return {}
    # half an hour is 75 MB, which need not be there twice
    _, made = words_of_waveform(
        sound["waveform"][0].as_buffer(), settings.words, threads=settings.run.threads
    )
    return {t.__table__: pa.Table.from_pylist(made[t.__table__], schema=t.measured_schema()) for t in TABLES}


class StoredWaveform:
    """A stored waveform, decoded slice by slice: an hour of sound would take 300 MB.

    Parameters
    ----------
    blob : bytes or pyarrow.Buffer
        ``audio.waveform``: FLAC, or no bytes for a track that could not be decoded.
    """

    def __init__(self, blob: bytes | pa.Buffer) -> None:
        import soundfile

        self._file = soundfile.SoundFile(pa.BufferReader(blob)) if len(blob) else None
        self.rate = self._file.samplerate if self._file else 0

    def __len__(self) -> int:
        return self._file.frames if self._file else 0

    def __getitem__(self, stretch: slice) -> NDArray[np.float32]:
        start, stop, _ = stretch.indices(len(self))
        if self._file is None:
            return np.zeros(0, np.float32)
        self._file.seek(start)
        return self._file.read(max(0, stop - start), dtype="float32")  # type: ignore[no-any-return]


def words_of_waveform(
    blob: bytes | pa.Buffer, settings: WordSettings, *, threads: int = 1
) -> tuple[Transcript, dict[str, list[dict[str, Any]]]]:
    """Recognize the words of a stored waveform, and measure them.

    Parameters
    ----------
    blob : bytes or pyarrow.Buffer
        ``audio.waveform``.
    settings : WordSettings
        How words are recognized.
    threads : int
        CPU cores to use; the result does not depend on it.

    Returns
    -------
    transcript : Transcript
        What is said.
    rows : dict
        The rows of ``transcripts``, ``transcript_words``, ``transcript_spans`` and ``text_features``, without video,
        patient and fingerprint.
    """
    sound = StoredWaveform(blob)
    transcript = transcribe(sound, sound.rate, settings, threads=threads)
    words = transcript.words
    embedding = embed(sentences(words)) if transcript.language == LANGUAGE else None
    about = {
        "text": transcript.text,
        "words": len(words),
        "language": transcript.language,
        "language_probability": transcript.language_probability,
        "word_probability": float(np.mean([w.probability for w in words])) if words else None,
        "speech_s": transcript.speech_s,
        "left_out_s": transcript.left_out_s,
        "wordless_s": transcript.wordless_s,
        "model": model_identity(settings.model),
    }
    return transcript, {
        "transcripts": [about],
        "transcript_words": [
            {
                "word_index": number,
                "word": word.text,
                "start_s": word.start_s,
                "end_s": max(word.start_s, word.end_s),
                "probability": word.probability,
            }
            for number, word in enumerate(words)
        ],
        "transcript_spans": [
            {"first_word": span.first, "last_word": span.last, "kind": span.kind, "found_by": span.found_by}
            for span in identifying_spans(words, transcript.language)
        ],
        "text_features": [{**asdict(text_features(transcript, settings.pause_s)), "embedding": embedding}],
    }
