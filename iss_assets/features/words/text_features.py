"""Figures about what was said: how much, how fast, with which pauses, and how much of it is about oneself and pain."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from iss_assets.features.words.transcription import Transcript, Word
from iss_assets.features.words.word_lists import FIRST_PERSON, HESITATIONS, LANGUAGE, PAIN_WORDS

_SHORTEST_S: Final = 2.0
"""Words per minute of less speech than this say little."""
_PARTS: Final = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class TextFeatures:
    """Figures about one transcript; the names are columns of the table ``text_features``.

    Attributes
    ----------
    words : int
        Recognized words.
    words_per_minute : float or None
        Words by the time from the first to the last, pauses included; None for less than two seconds.
    pauses : int
        Gaps between words of at least the setting `words.pause_s`.
    pause_share : float or None
        Share of the time from the first to the last word that is pauses.
    longest_pause_s : float or None
        The longest pause; None without any.
    hesitations, pain_words : int or None
        Words of the lists of ``word_lists``; None for a language other than theirs.
    first_person_share, pain_word_share : float or None
        Share of the words that are first person singular, or words of pain; None without words or for another language.
    """

    words: int
    words_per_minute: float | None
    pauses: int
    pause_share: float | None
    longest_pause_s: float | None
    hesitations: int | None
    first_person_share: float | None
    pain_words: int | None
    pain_word_share: float | None


def text_features(transcript: Transcript, pause_s: float) -> TextFeatures:
    """Compute the figures about one transcript.

    Parameters
    ----------
    transcript : Transcript
        What was said.
    pause_s : float
        A gap between two words of at least this many seconds is a pause.
    """
    words = transcript.words
    span = words[-1].end_s - words[0].start_s if words else 0.0
    gaps = [gap for gap in _gaps(words) if gap >= pause_s]
    spoken = [word_form(word.text) for word in words]
    listed = transcript.language == LANGUAGE
    pain = sum(form in PAIN_WORDS for form in spoken)
    first_person = sum(form in FIRST_PERSON for form in spoken)
    return TextFeatures(
        words=len(words),
        words_per_minute=len(words) / span * 60 if span >= _SHORTEST_S else None,
        pauses=len(gaps),
        pause_share=min(1.0, sum(gaps) / span) if span >= _SHORTEST_S else None,
        longest_pause_s=max(gaps, default=None),
        hesitations=sum(form in HESITATIONS for form in spoken) if listed else None,
        first_person_share=first_person / len(words) if listed and words else None,
        pain_words=pain if listed else None,
        pain_word_share=pain / len(words) if listed and words else None,
    )


def word_form(text: str) -> str:
    """Return a word as the lists have it: lower case, up to its apostrophe, without punctuation.

    Examples
    --------
    >>> word_form("I've,"), word_form("Hmm..."), word_form("2")
    ('i', 'hmm', '')
    """
    found = _PARTS.search(text.lower())
    return found.group() if found else ""


def _gaps(words: Sequence[Word]) -> list[float]:
    return [round(after.start_s - before.end_s, 3) for before, after in itertools.pairwise(words)]
