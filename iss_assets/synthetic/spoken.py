"""Stories of invented patients, spoken in words by a synthetic voice (hibari-tts), so that speech recognition has something to do.

Nobody ever told these stories. The voice is moved up or down with everything in it, as a tape that runs faster or slower does.
"""

from __future__ import annotations

import functools
import threading
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from iss_assets.synthetic.voices import SAMPLE_RATE, Floats, Speech, Voice, finished

REMEDY: Final = "its voice is missing; install it with pip install 'iss-assets[speech]'"

_VOICE_RATE: Final = 24000
_VOICE_PITCH: Final = 200.0
"""Middle of the fundamental frequency of the synthetic voice, hertz."""
_LOWEST, _HIGHEST = 0.75, 1.12
"""How far the voice can be moved and still be understood."""
_PACE: Final = 4.75
"""Middle of the invented patients' pace, syllables per second, which is the synthetic voice's own speed."""
_LOCK: Final = threading.Lock()

STORIES: Final = (
    "This morning the pain woke me up before the alarm.",
    "It is a dull ache in my lower back that never really goes away.",
    "When I stand up too fast it turns sharp and shoots down my leg.",
    "Today is a better day, and I walked around the block twice.",
    "I slept about four hours, um, maybe five.",
    "The new pills make me tired, but they take the edge off.",
    "I cooked soup for dinner and had to sit down twice.",
    "My hands tingle, and buttons are hard for me.",
    "The nurse called and asked how I was doing.",
    "I would give it a six out of ten right now.",
    "I watched the birds at the window for an hour.",
    "It hurts most when I turn over in bed.",
    "My daughter drove me to the clinic, and we talked the whole way.",
    "Some days I forget about it until the evening.",
    "The burning in my feet keeps me awake.",
    "I do not want to take more medicine than I have to.",
    "We sat in the garden, and the sun felt good on my shoulders.",
    "Climbing the stairs is still hard for me.",
    "I am a little worried about the next scan.",
    "I read to my grandson, and he laughed a lot.",
    "The weather changed, and my joints are stiff and sore.",
    "Nothing hurts at the moment, which is, uh, nice for a change.",
    "I could not finish the dishes yesterday.",
    "It feels like something is pressing on my chest bone.",
    "Music helps me more than I expected.",
    "Thank you for listening to me.",
)
"""What is told, a sentence at a time."""


READING: Final = "We planted seeds in the garden, and the first leaves came up."
"""What is read aloud for Question 10; short, because readings of the sample study take five seconds."""


def available() -> bool:
    """Return whether the synthetic voice is installed."""
    return find_spec("hibari") is not None


def tell(voice: Voice, seconds: float, seed: int) -> Speech:
    """Tell a story of several sentences for `seconds`, in a quiet room.

    Parameters
    ----------
    voice : Voice
        Whose voice; its pitch and pace are followed as far as words stay clear.
    seconds : float
        Length of the sound; what does not fit into it is not said.
    seed : int
        What is said; the same seed says the same.
    """
    rng = np.random.default_rng([seed, 29])
    samples = int(seconds * SAMPLE_RATE)
    sound = np.zeros(samples, np.float32)
    at = int(rng.uniform(0.2, 0.6) * SAMPLE_RATE)
    for number in rng.permutation(len(STORIES)):
        said = _said(STORIES[number], round(voice.pitch), round(voice.pace, 1))
        if at + len(said) <= samples:
            sound[at : at + len(said)] = said
            at += len(said) + int(rng.uniform(0.3, 1.2) * SAMPLE_RATE)
    return finished(sound, _mouth(sound), rng)


def read_aloud(voice: Voice, seconds: float, seed: int) -> Speech:
    """Read the text of Question 10, in a quiet room; the parameters are those of `tell`."""
    rng = np.random.default_rng([seed, 31])
    samples = int(seconds * SAMPLE_RATE)
    sound = np.zeros(samples, np.float32)
    at = int(rng.uniform(0.2, 0.4) * SAMPLE_RATE)
    said = _said(READING, round(voice.pitch), round(voice.pace, 1))[: max(0, samples - at)]
    sound[at : at + len(said)] = said
    return finished(sound, _mouth(sound), rng)


def _mouth(sound: Floats) -> Floats:
    """Return how wide the mouth is open every 10 ms: as loud as the voice is."""
    step = SAMPLE_RATE // 100
    padded = np.pad(sound, (0, -len(sound) % step)).reshape(-1, step)
    level = np.sqrt(np.square(padded).mean(axis=1))
    return np.clip(level / (np.percentile(level, 95) or 1.0), 0, 1).astype(np.float32)


@functools.lru_cache(maxsize=256)
def _said(text: str, pitch: int, pace: float) -> Floats:
    """Return one sentence in a voice of this pitch and pace, at `SAMPLE_RATE`."""
    import soxr

    moved = min(_HIGHEST, max(_LOWEST, pitch / _VOICE_PITCH))
    speed = min(1.5, max(0.7, pace / _PACE / moved))
    with _LOCK:
        sound = _synthesizer()(text, speed=speed, seed=0)
    return soxr.resample(sound, _VOICE_RATE * moved, SAMPLE_RATE, quality="HQ").astype(np.float32)  # type: ignore[no-any-return]


@functools.cache
def _synthesizer() -> Any:
    from hibari import Hibari

    return Hibari(threads=1)
