"""How well and how fast words are recognized: ``python -m benchmarks.words [--clips DIR]``.

A synthetic voice (hibari-tts) says invented sentences about pain and medicines, with and without noise. Printed are the share
of words that are wrong, with and without hotwords, and the processor time, for windows recognized at once and for the same
windows sentence by sentence, as Whisper goes through a long recording. With clips, whose words are not known, the ways are
compared by time and by their number of words. With ``--minutes 5 30``, printed is the memory of a process that recognizes the
words of a stored sound of that length, in which somebody speaks all the time.
"""

from __future__ import annotations

import argparse
import functools
import io
import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from iss_assets.features.prompts import comparable_words, word_error_rate
from iss_assets.features.words import transcription
from iss_assets.features.words.measure import words_of_waveform
from iss_assets.settings import WordSettings

RATE = 22050
MEDICINES = (
    "Oxycodone",
    "Morphine",
    "Hydromorphone",
    "Fentanyl",
    "Gabapentin",
    "Pregabalin",
    "Duloxetine",
    "Ibuprofen",
)
STORIES = (
    (
        "Good morning, this is my third video. I woke up at five because of the pain in my lower back. It is a dull, throbbing pain, "
        "and it goes down into my left leg. My doctor changed the morphine last week, and since then I feel a little dizzy.",
        "Yesterday I went to the garden with my sister, and we planted tomatoes and beans. After an hour my hip began to hurt, so I "
        "sat down on the bench and rested. In the evening it was worse, when I lay on my right side. I took ibuprofen and slept "
        "for four hours.",
        "The nurse told me to drink more water and to walk every day for twenty minutes. On Wednesday it was better, and I could "
        "cook dinner for the first time in weeks. My grandson came to visit, and we played cards until nine.",
    ),
    (
        "I take oxycodone at eight and gabapentin at night. They wanted to try pregabalin, but it made me sleepy. The patch with "
        "fentanyl stays on for three days. When it comes off too early, the pain is back within hours, sharp, like a knife.",
        "The tingling in my feet is still there, mostly in the left one. It burns when I put on my shoes. Duloxetine is for the nerves, "
        "they said, and hydromorphone is for the bad days. If I had to give today a number, I would say six out of ten.",
        "I am tired, but I am not sad. I hope that the next scan will show that the tumor is smaller. That is all for today. Thank "
        "you for listening, and see you next week.",
    ),
)
"""What is said: two narratives, invented for this."""
NOISES = (None, 20.0, 14.0)
"""Decibels of white noise below the voice."""


@functools.cache
def spoken(sentences: Sequence[str]) -> NDArray[np.float32]:
    """Return sentences as the synthetic voice says them, with a second between the parts."""
    from hibari import Hibari

    voice, pause = Hibari(threads=1), np.zeros(RATE, np.float32)
    parts = [soxr.resample(voice(text, seed=0), 24000, RATE, quality="HQ") for text in sentences]
    return np.concatenate([piece for part in parts for piece in (part, pause)]).astype(np.float32)


def with_noise(sound: NDArray[np.float32], below_db: float | None) -> NDArray[np.float32]:
    """Add white noise, so many decibels below the mean power of the sound."""
    if below_db is None:
        return sound
    level = float(np.sqrt(np.mean(np.square(sound)))) * 10 ** (-below_db / 20)
    return (sound + np.random.default_rng(0).normal(0, level, len(sound))).astype(np.float32)


def recognize(
    sound: NDArray[np.float32], settings: WordSettings, rate: int = RATE
) -> tuple[transcription.Transcript, float]:
    """Return what is recognized and the processor time in seconds."""
    began = time.process_time()
    made = transcription.transcribe(sound, rate, settings)
    return made, time.process_time() - began


def sentence_by_sentence(
    sound: NDArray[np.float32], settings: WordSettings
) -> tuple[transcription.Transcript, float]:
    """The same with every window recognized sentence by sentence, and not at once before that."""
    once = transcription._recognized

    def in_sentences(*arguments: Any, **options: Any) -> Any:
        return once(*arguments, **{**options, "sentences": True})

    with (
        mock.patch.object(transcription, "_recognized", in_sentences),
        mock.patch.object(transcription, "_completed", lambda made, *_: made),
    ):
        return recognize(sound, settings)


def errors(texts: Sequence[str], found: Sequence[transcription.Transcript]) -> float:
    """Return the share of words that are wrong, of all texts together."""
    said = [comparable_words(text, "en") for text in texts]
    rates = [
        word_error_rate(s, comparable_words(f.text, f.language)) for s, f in zip(said, found, strict=True)
    ]
    return float(np.average(rates, weights=[len(s) for s in said]))


def of_texts(stories: Sequence[Sequence[str]], noises: Sequence[float | None]) -> None:
    """Print how many words are wrong, and what that cost, with noise so many decibels below the voice, or with none."""
    texts = [" ".join(story) for story in stories]
    words = sum(len(comparable_words(text, "en")) for text in texts)
    seconds = sum(len(spoken(story)) for story in stories) / RATE
    hotwords = WordSettings(hotwords=MEDICINES)
    print(f"{words} words of {len(stories)} invented narratives, {seconds:.0f} s of sound\n")
    print(
        "| noise | words wrong, % | with hotwords, % | sentence by sentence, % | processor time, s per minute of sound "
        "| sentence by sentence |\n|---|---|---|---|---|---|"
    )
    for below_db in noises:
        sounds = [with_noise(spoken(story), below_db) for story in stories]
        ways = (
            [recognize(sound, WordSettings()) for sound in sounds],
            [recognize(sound, hotwords) for sound in sounds],
            [sentence_by_sentence(sound, WordSettings()) for sound in sounds],
        )
        wrong = [errors(texts, [made for made, _ in way]) for way in ways]
        at_once, _, in_sentences = (sum(took for _, took in way) / seconds * 60 for way in ways)
        noise = "none" if below_db is None else f"{below_db:.0f} dB below the voice"
        print(
            f"| {noise} | {' | '.join(f'{100 * w:.1f}' for w in wrong)} | {at_once:.1f} | {in_sentences:.1f} |",
            flush=True,
        )


def of_clips(folder: Path) -> None:
    """Print what real clips cost, and how many words are found."""
    print(
        "\n| clip | sound, s | language | words | sentence by sentence | processor time, s | sentence by sentence "
        "|\n|---|---|---|---|---|---|---|"
    )
    for path in sorted(folder.iterdir()):
        sound = sound_of(path)
        if sound is None:
            continue
        (made, took), (other, other_took) = (
            way(sound, WordSettings()) for way in (recognize, sentence_by_sentence)
        )
        print(
            f"| {path.stem} | {len(sound) / RATE:.0f} | {made.language or ''} | {len(made.words)} | {len(other.words)} "
            f"| {took:.1f} | {other_took:.1f} |",
            flush=True,
        )


def sound_of(path: Path) -> NDArray[np.float32] | None:
    """Return the sound of a video, mono; None for a file that is none or has no sound."""
    try:
        with av.open(str(path)) as video:
            if not video.streams.audio:
                return None
            resampler = av.AudioResampler("flt", "mono", RATE)
            frames = [out for frame in video.decode(audio=0) for out in resampler.resample(frame)]
    except av.FFmpegError:
        return None
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def of_lengths(minutes: Sequence[float]) -> None:
    """Print how much memory it takes to recognize the words of a stored sound, as a worker does, by its length."""
    print("\n| minutes of sound | peak of the process, MB | words | processor time, s |\n|---|---|---|---|")
    said = np.concatenate([spoken(story) for story in STORIES])
    for length in minutes:
        stored = io.BytesIO()
        sound = np.resize(said, round(length * 60 * RATE))
        soundfile.write(stored, sound, RATE, format="FLAC", subtype="PCM_24")
        # a new process: the highest of this one is that of the voice
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            peak, words, took = process.submit(words_in_a_worker, stored.getvalue()).result()
        print(f"| {length:.0f} | {peak:.0f} | {words} | {took:.0f} |", flush=True)


def words_in_a_worker(waveform: bytes) -> tuple[float, int, float]:
    """Return the peak of this process in MB, how many words it has recognized, and its processor time in seconds."""
    _, rows = words_of_waveform(waveform, WordSettings())
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_maxrss / 1000, len(rows["transcript_words"]), used.ru_utime + used.ru_stime


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, help="folder of real clips")
    parser.add_argument(
        "--minutes", type=float, nargs="*", help="lengths of sound to measure memory with, and nothing else"
    )
    parser.add_argument("--tiny", action="store_true", help="two sentences, with and without noise")
    options = parser.parse_args()
    if options.minutes:
        of_lengths(options.minutes)
        return 0
    stories: Sequence[Sequence[str]] = STORIES
    noises: Sequence[float | None] = NOISES
    if options.tiny:
        stories, noises = ((". ".join(STORIES[0][0].split(". ")[:2]) + ".",),), (None, NOISES[-1])
    recognize(spoken(stories[0][:1]), WordSettings())  # load the model
    of_texts(stories, noises)
    if options.clips:
        of_clips(options.clips)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
