"""Synthetic speech with known words, for tests."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from iss_assets.features.words.availability import SPEECH

RATE = 22050
_VOICE_RATE = 24000

needs_speech = pytest.mark.skipif(
    bool(SPEECH.missing()), reason=f"the extra speech is not installed: {SPEECH.remedy}"
)


@functools.cache
def say(text: str) -> NDArray[np.float32]:
    """Return a text as it is spoken by a synthetic voice (hibari-tts), mono at `RATE`."""
    hibari: Any = pytest.importorskip("hibari", reason="the voice hibari-tts is not installed")
    voice = hibari.Hibari(threads=1)
    return soxr.resample(voice(text, seed=0), _VOICE_RATE, RATE, quality="HQ").astype(np.float32)


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * RATE), np.float32)


def flac(samples: NDArray[np.float32]) -> bytes:
    """Return samples as ``audio.waveform`` holds them."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="FLAC", subtype="PCM_24")
    return buffer.getvalue()
