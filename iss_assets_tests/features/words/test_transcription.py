from __future__ import annotations

import importlib
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iss_assets.features.prompts import comparable_words, word_error_rate
from iss_assets.features.words import model_files, transcription
from iss_assets.features.words.measure import words_of_waveform
from iss_assets.features.words.model_files import ModelError, model_identity, unpacked_model
from iss_assets.features.words.transcription import Transcript, transcribe
from iss_assets.settings import WordSettings
from iss_assets.synthetic.voices import SAMPLE_RATE, Voice, speak
from iss_assets_tests.features.words.speech import RATE, flac, needs_speech, say, silence

pytestmark = needs_speech

SETTINGS = WordSettings()
STORY = (
    "I woke up at five because of the pain in my lower back. It is a dull, throbbing pain. My doctor changed the morphine last "
    "week. If I had to give it a number, I would say seven out of ten."
)

GARDEN = (
    "Good morning, this is my second video. Yesterday I went to the garden with my sister, and we planted tomatoes and beans. "
    "After an hour my hip began to hurt, so I sat down on the bench and rested."
)


@pytest.fixture(scope="module")
def story() -> Transcript:
    return transcribe(say(STORY), RATE, SETTINGS)


def test_words_that_were_said_are_recognized(story: Transcript) -> None:
    said = comparable_words(" ".join(word.text for word in story.words), "en")
    assert word_error_rate(comparable_words(STORY, "en"), said) <= 0.05
    assert comparable_words(story.text, "en") == said
    assert story.language == "en"
    assert (story.language_probability or 0) > 0.9
    assert story.left_out_s == 0


def test_a_word_begins_where_its_sound_begins() -> None:
    first, second = say("Yesterday was better."), say("Tomorrow I see my doctor.")
    sound = np.concatenate([silence(1.0), first, silence(3.0), second, silence(1.0)])
    found = transcribe(sound, RATE, SETTINGS).words
    said = [word for recognized in found for word in comparable_words(recognized.text, "en")]
    assert said == ["yesterday", "was", "better", "tomorrow", "i", "see", "my", "doctor"]
    for word, begins in ((found[0], 1.0 + onset(first)), (found[3], 4.0 + len(first) / RATE + onset(second))):
        assert abs(word.start_s - begins) < 0.15
    assert all(word.end_s <= after.start_s for word, after in itertools.pairwise(found))


def onset(sound: np.ndarray) -> float:
    return float(np.argmax(np.abs(sound) > 0.02 * np.abs(sound).max())) / RATE


@pytest.mark.parametrize("kind", ["silence", "noise", "hum", "no samples"])
def test_nothing_is_made_up_where_nobody_speaks(kind: str) -> None:
    time_s = np.arange(8 * RATE) / RATE
    sound = {
        "silence": silence(8),
        "noise": np.random.default_rng(1).normal(0, 0.1, len(time_s)),
        "hum": 0.3 * np.sin(2 * np.pi * 120 * time_s) + 0.1 * np.sin(2 * np.pi * 360 * time_s),
        "no samples": silence(0),
    }[kind]
    assert transcribe(sound.astype(np.float32), RATE, SETTINGS) == Transcript()


def test_syllables_without_words_are_left_out_and_counted() -> None:
    voice = Voice(pitch=140, tract=1.04, breath=0.1, pace=4)
    found = transcribe(speak(voice, 12, 1).sound, SAMPLE_RATE, SETTINGS)
    assert found.words == ()
    assert found.text == ""
    assert found.speech_s > 8
    assert found.left_out_s > 8
    assert found.wordless_s > 5


def test_a_quiet_voice_is_still_a_voice(story: Transcript) -> None:
    quiet = transcribe(say(STORY) * 0.003, RATE, SETTINGS)
    loud_words, quiet_words = (comparable_words(t.text, "en") for t in (story, quiet))
    assert word_error_rate(loud_words, quiet_words) <= 0.05


def test_long_sound_is_recognized_in_pieces_that_end_in_pauses(
    story: Transcript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcription, "_PIECE_S", 7.0)
    monkeypatch.setattr(transcription, "_SEARCH_S", 4.0)
    found = transcribe(say(STORY), RATE, SETTINGS)
    assert word_error_rate(comparable_words(story.text, "en"), comparable_words(found.text, "en")) <= 0.1
    starts = [word.start_s for word in found.words]
    assert starts == sorted(starts)
    assert abs(starts[-1] - story.words[-1].start_s) < 0.3
    assert abs(found.speech_s - story.speech_s) < 3


_IN_A_PROCESS = """
import hashlib, json, sys
from iss_assets.features.words.measure import words_of_waveform
from iss_assets.settings import WordSettings
blob = open(sys.argv[1], "rb").read()
_, rows = words_of_waveform(blob, WordSettings(), threads=int(sys.argv[2]))
rows["text_features"][0]["embedding"] = rows["text_features"][0]["embedding"].tobytes().hex()
print(hashlib.sha256(json.dumps(rows).encode()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.thorough
def test_every_run_gives_the_same_with_any_number_of_threads(tmp_path: Path) -> None:
    sound = say(STORY) + np.random.default_rng(3).normal(0, 0.01, len(say(STORY))).astype(np.float32)
    (tmp_path / "sound").write_bytes(flac(sound))
    found = {
        subprocess.run(
            [sys.executable, "-c", _IN_A_PROCESS, str(tmp_path / "sound"), threads],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "1", "3")
    }
    assert len(found) == 1


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the windows that Whisper encodes."""
    whisper = importlib.import_module("faster_whisper").WhisperModel
    encode, windows = whisper.encode, []

    def counted(self: Any, features: Any) -> Any:
        windows.append(features.shape)
        return encode(self, features)

    monkeypatch.setattr(whisper, "encode", counted)
    return windows


def test_every_window_is_encoded_once_and_none_without_speech(encoded: list[tuple[int, ...]]) -> None:
    assert transcribe(silence(3), RATE, SETTINGS) == Transcript()
    assert encoded == []
    assert transcribe(say("Today I feel a little better."), RATE, SETTINGS).words
    assert encoded == [(80, 3000)]
    encoded.clear()
    sound = np.concatenate([say(STORY), silence(0.5), say(GARDEN), silence(0.5), say(STORY)])
    found = comparable_words(transcribe(sound, RATE, SETTINGS).text, "en")
    # 39 s
    assert encoded == [(80, 3000)] * 2
    assert word_error_rate(comparable_words(" ".join([STORY, GARDEN, STORY]), "en"), found) <= 0.02


def test_a_sentence_that_is_said_again_and_again_is_written_as_often() -> None:
    answer = np.concatenate([say("Yes, it does."), silence(1.0)])
    sound = np.concatenate([say("It hurts when I walk."), silence(1.5), *[answer] * 6])
    found = transcribe(sound, RATE, SETTINGS)
    assert comparable_words(found.text, "en") == [
        "it",
        "hurts",
        "when",
        "i",
        "walk",
        *["yes", "it", "does"] * 6,
    ]
    assert found.left_out_s == 0
    first = len(say("It hurts when I walk.")) / RATE + 1.5
    starts = [word.start_s for word in found.words if word.text.startswith("Yes")]
    assert starts == pytest.approx(
        [first + onset(answer) + n * len(answer) / RATE for n in range(6)], abs=0.3
    )


@pytest.mark.slow
@pytest.mark.thorough
def test_a_sentence_repeated_for_minutes_loses_no_word() -> None:
    """Recognized at once or sentence by sentence, it was a loop of a few words: 72 for half an hour."""
    sentence = "The pain in my lower back is worse today than it was yesterday."
    found = transcribe(np.concatenate([say(sentence)] * 6), RATE, SETTINGS)
    assert comparable_words(found.text, "en") == comparable_words(sentence, "en") * 6
    assert (found.left_out_s, found.wordless_s) == (0, 0)


@pytest.mark.parametrize(
    ("words", "wordless_s"),
    [
        ([], 10.0),
        ([(0.0, 0.5)], 9.4),
        # a word that is stretched over what is missing covers a second of it
        ([(0.0, 9.9)], 8.9),
        # gaps that are no longer than between any two words
        ([(start / 10, start / 10 + 0.3) for start in range(0, 100, 10)], 0.0),
    ],
)
def test_speech_without_words_is_counted(words: list[tuple[float, float]], wordless_s: float) -> None:
    speaking = np.zeros(1000, bool)
    speaking[: round(10 / 0.032)] = True
    assert transcription._wordless_s(words, speaking) == pytest.approx(wordless_s, abs=0.07)


def test_a_window_is_cut_into_parts_in_its_pauses() -> None:
    speaking = np.ones(1000, bool)
    for pause_s in (3.0, 4.0, 8.8, 21.0, 24.6):
        speaking[round(pause_s / 0.032) : round((pause_s + 0.3) / 0.032)] = False
    found = transcription._parts((16000, 16000 * 25), speaking, 5.0)
    assert [begin for begin, _ in found] == [16000, *(end for _, end in found[:-1])]
    # wherever no pause is near enough, after 5 s
    assert [end / 16000 for _, end in found] == pytest.approx(
        [4.15, 8.95, 13.95, 18.95, 21.15, 25.0], abs=0.05
    )


@pytest.mark.parametrize(
    ("lengths_s", "windows_s"),
    [
        ([12.0], [(0, 12)]),
        ([12.0, 18.0, 0.5], [(0, 30), (30, 30.5)]),
        ([3.0, 28.0, 2.0, 29.0], [(0, 3), (3, 33), (33, 62)]),
        ([30.0, 30.0], [(0, 30), (30, 60)]),
    ],
)
def test_speech_is_put_into_windows_that_are_no_longer_than_whispers(
    lengths_s: list[float], windows_s: list[tuple[float, float]]
) -> None:
    found = transcription._windows([round(length * 16000) for length in lengths_s])
    assert found == [(round(begin * 16000), round(end * 16000)) for begin, end in windows_s]


def test_words_are_where_they_were_said_in_every_window() -> None:
    pause, tomorrow = silence(5.0), say("Tomorrow I see my doctor.")
    sound = np.concatenate([say(STORY), pause, say(GARDEN), pause, say(STORY), pause, tomorrow])
    words = transcribe(sound, RATE, SETTINGS).words
    starts = [word.start_s for word in words if word.text.strip(".,").lower() in ("woke", "tomorrow")]
    again = (len(say(STORY)) + len(say(GARDEN))) / RATE + 10.0
    assert starts[1] - starts[0] == pytest.approx(again, abs=0.1)
    assert starts[2] == pytest.approx(again + len(say(STORY)) / RATE + 5.0 + onset(tomorrow), abs=0.15)


def test_hotwords_are_used_in_their_language_only() -> None:
    text = "Pregabalin and duloxetine are for the nerves."
    with_hotwords = WordSettings(hotwords=("Pregabalin", "Duloxetine"))
    assert comparable_words(transcribe(say(text), RATE, with_hotwords).text, "en") == comparable_words(
        text, "en"
    )
    elsewhere = WordSettings(hotwords=("Pregabalin", "Duloxetine"), hotwords_language="pt")
    assert transcribe(say(text), RATE, elsewhere) == transcribe(say(text), RATE, SETTINGS)


def test_a_model_can_come_from_a_folder(story: Transcript, tmp_path: Path) -> None:
    folder = tmp_path / "my-whisper"
    folder.mkdir()
    with unpacked_model() as unpacked:
        for file in unpacked.iterdir():
            shutil.copy(file, folder)
    assert not unpacked.exists()
    own = WordSettings(model=folder)
    assert transcribe(say(STORY), RATE, own) == story
    before = model_identity(folder)
    assert before.startswith("my-whisper-")
    with (folder / "model.bin").open("r+b") as model:
        model.seek(-20, 2)
        model.write(b"another model entirely")
    assert model_identity(folder) != before
    with (folder / "model.bin").open("r+b") as model:
        model.truncate(1000)
    # the one that was loaded from there does not stand in for it
    with pytest.raises(RuntimeError):
        transcribe(say(STORY), RATE, own)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"words\.model.*config\.json"):
        model_identity(folder)


def test_a_damaged_model_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    intact = model_files._data_folder
    second = tmp_path / "data"
    second.mkdir()
    half = bytearray((intact(model_files.PARTS[1]) / "model.bin.part2").read_bytes())
    half[len(half) // 2] ^= 1
    (second / "model.bin.part2").write_bytes(half)
    monkeypatch.setattr(
        model_files,
        "_data_folder",
        lambda module: second if module == model_files.PARTS[1] else intact(module),
    )
    with (
        pytest.raises(ModelError, match=r"model\.bin is missing or damaged: pip install --force-reinstall"),
        unpacked_model(),
    ):
        pass
    (second / "model.bin.part2").unlink()
    with pytest.raises(ModelError, match="missing or damaged"), unpacked_model():
        pass


def test_rows_are_numbered_and_say_which_model_made_them(story: Transcript) -> None:
    transcript, rows = words_of_waveform(flac(say(STORY)), SETTINGS)
    assert comparable_words(transcript.text, "en") == comparable_words(story.text, "en")
    (about,) = rows["transcripts"]
    assert about["words"] == len(rows["transcript_words"]) == len(story.words)
    assert [row["word_index"] for row in rows["transcript_words"]] == list(range(len(story.words)))
    assert about["model"] == "whisper-base-d01c3014881c"
    json.dumps(rows["transcript_words"])


def test_a_track_that_could_not_be_decoded_has_no_words() -> None:
    transcript, rows = words_of_waveform(b"", SETTINGS)
    assert transcript == Transcript()
    assert rows["transcripts"][0]["text"] == ""
    assert rows["transcript_words"] == rows["transcript_spans"] == []
    assert rows["text_features"][0]["embedding"] is None
