"""Invented patients can tell stories in words, in voices of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iss_assets.features.prompts import assess_reading, comparable_words
from iss_assets.features.words.transcription import transcribe
from iss_assets.settings import PromptSettings, WordSettings
from iss_assets.synthetic import spoken
from iss_assets.synthetic.plan import plan
from iss_assets.synthetic.sample import PROMPT_SECONDS, SampleStudyError, write_sample_study
from iss_assets.synthetic.spoken import READING, STORIES, read_aloud, tell
from iss_assets.synthetic.voices import SAMPLE_RATE, Voice
from iss_assets_tests.features.words.speech import needs_speech

MAN, WOMAN = Voice(115, 1.0, 0.1, 4.5), Voice(205, 1.17, 0.15, 5.0)


@needs_speech
@pytest.mark.parametrize("voice", [MAN, WOMAN], ids=["man", "woman"])
def test_what_is_told_can_be_understood(voice: Voice) -> None:
    speech = tell(voice, 12, 3)
    said = comparable_words(transcribe(speech.sound, SAMPLE_RATE, WordSettings()).text, "en")
    vocabulary = {word for sentence in STORIES for word in comparable_words(sentence, "en")}
    assert len(said) >= 10
    assert sum(word in vocabulary for word in said) / len(said) > 0.85


@needs_speech
def test_the_one_reading_of_the_sample_study_is_one_of_its_text() -> None:
    ((patient, submission),) = ((p, s) for p in plan(4, seed=0) for s in p.submissions if s.prompt)
    speech = read_aloud(patient.voice, PROMPT_SECONDS, submission.day_seed + 1)
    assert len(speech.sound) == PROMPT_SECONDS * SAMPLE_RATE
    heard = transcribe(speech.sound, SAMPLE_RATE, WordSettings())
    reading = assess_reading({"garden": READING}, heard.text, heard.language, PromptSettings())
    assert (reading.read, reading.cut_short) == (True, False)
    assert (reading.word_error_rate or 0) <= 0.18


@needs_speech
def test_the_same_seed_tells_the_same_and_the_mouth_moves_with_it() -> None:
    first, again, other = tell(WOMAN, 8, 1), tell(WOMAN, 8, 1), tell(WOMAN, 8, 2)
    assert np.array_equal(first.sound, again.sound)
    assert not np.array_equal(first.sound, other.sound)
    assert len(first.sound) == 8 * SAMPLE_RATE
    assert 0.3 < np.abs(first.sound).max() < 0.6
    loud = [np.abs(first.sound[i * 480 : (i + 1) * 480]).max() > 0.2 for i in range(len(first.mouth))]
    assert np.mean(first.mouth[np.array(loud)]) > 5 * np.mean(first.mouth[~np.array(loud)])


def test_without_the_voice_words_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spoken, "available", lambda: False)
    with pytest.raises(SampleStudyError, match=r"cannot speak words.*iss-assets\[speech\]"):
        write_sample_study(tmp_path / "study", words=True)
    assert not (tmp_path / "study").exists()
