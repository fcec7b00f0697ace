"""Question 10: which of the study's texts was read aloud, and whether to its end.

What was spoken is compared with every text, word by word. The word error rate is the number of words that are missing,
added or replaced, per word of the text. Transcripts write numbers, capitals, punctuation and apostrophes as they please,
so both sides are normalized first (`comparable_words`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import text_to_num

from iss_assets.settings import PromptSettings

READINGS_CODE_VERSION: Final = "3"
"""Raised when the same words and texts are assessed differently. 3: much speech without words leaves open what was read."""

NUMBER_LANGUAGES: Final = frozenset({"da", "de", "en", "es", "fr", "it", "nl", "pt"})
"""Languages (ISO 639-1) whose written-out numbers are compared by value; in others, `25` is another word than its name."""

LEAST_WORDS: Final = 8
"""Fewer words of a text, however well they fit, do not count as reading a part of it: any speech has some of them."""

_NO_SPACES: Final = re.compile(
    "["
    "\u0e00-\u0e7f"  # Thai
    "\u0e80-\u0eff"  # Lao
    "\u1000-\u109f"  # Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "]"
)
"""Letters of scripts without spaces between words; each counts as a word, as is usual for them."""
_APOSTROPHES: Final = re.compile("(?<=\\w)['\u2019\u02bc\u2018`\u00b4](?=\\w)")
_BETWEEN_DIGITS: Final = re.compile(r"(?<=\d)[.,:\u066b\u066c\u00a0\u202f'\u2019](?=\d)")
_ORDINAL: Final = re.compile(r"(?<=\d)(?:st|nd|rd|th|er|re|eme|e|o|a|te|ten|ter)\b")
_WORD: Final = re.compile(r"[0-9]|[^\s0-9]+")


@dataclass(frozen=True)
class PromptReading:
    """What was read aloud.

    Attributes
    ----------
    text_read : str or None
        Id of the text that was read; None if none was.
    word_error_rate : float or None
        Against that text, or the closest if none was read; above 1 if much was added. None if the study has no texts.
    read : bool or None
        Whether one of the texts was read, wholly or in part. None if the study has no texts, or if none was recognized and
        much of the speech has no words.
    cut_short : bool or None
        Whether the beginning or the end of the text that was read is missing. None if none was, or if it may be in the speech
        without words.
    share_read : float or None
        From the first to the last word that was read, the share of the text's words. None if none was read.
    words : int or None
        Words spoken, each digit of a number being one. None if the sound could not be recognized.
    """

    text_read: str | None = None
    word_error_rate: float | None = None
    read: bool | None = None
    cut_short: bool | None = None
    share_read: float | None = None
    words: int | None = None


def assess_reading(
    texts: Mapping[str, str],
    spoken: str,
    language: str | None,
    settings: PromptSettings,
    *,
    much_without_words: bool = False,
) -> PromptReading:
    """Say which text was read.

    Parameters
    ----------
    texts : mapping
        The study's texts by id.
    spoken : str
        The words of the video, as transcribed; may be empty.
    language : str or None
        Their language (ISO 639-1), if known.
    settings : PromptSettings
        What counts as read, and as the whole text.
    much_without_words : bool
        Whether somebody also speaks for long and no word of it was recognized; what is missing is unknown then.

    Examples
    --------
    >>> texts = {"garden": "On Monday we planted 25 seeds in the garden.", "dog": "The dog came round the corner."}
    >>> assess_reading(texts, "on monday we planted twenty-five seeds in our garden", "en", PromptSettings()).text_read
    'garden'
    """
    heard = comparable_words(spoken, language)
    measured = []
    for text_id, text in sorted(texts.items()):
        wanted = comparable_words(text, language)
        if not wanted:
            continue
        rate = word_error_rate(wanted, heard)
        part = part_read(wanted, heard)
        of_part = part.errors / len(part.words) if part.words else float("inf")
        # whoever began again, or spoke before and after, read the whole text in a part of what was spoken
        within = part_read(heard, wanted).errors / len(wanted)
        read = within <= settings.read_at_most or (
            len(part.words) >= LEAST_WORDS and of_part <= settings.read_at_most
        )
        # of several that were read, the one with the fewest errors, then the one read farther
        measured.append((not read, min(within, of_part), rate, text_id, len(part.words) / len(wanted)))
    if not measured:
        return PromptReading(words=len(heard))
    unread, _, rate, text_id, share = min(measured)
    if unread and much_without_words:
        return PromptReading(words=len(heard))
    if unread:
        closest = min(rate for _, _, rate, _, _ in measured)
        return PromptReading(word_error_rate=closest, read=False, words=len(heard))
    cut_short = share < settings.whole_share
    return PromptReading(
        text_id, rate, True, None if cut_short and much_without_words else cut_short, share, len(heard)
    )


def comparable_words(text: str, language: str | None = None) -> list[str]:
    """Split a text into words as they are compared.

    Case, punctuation, apostrophes and accents do not count. Numbers are compared by value, whether they are written in
    digits of any script or, in `NUMBER_LANGUAGES`, in words; each digit is a word, so that "nineteen ninety-eight" is 1998.

    Examples
    --------
    >>> comparable_words("Zoë’s 1st dog -- a well-known one -- had 1,200 fleas!", "en")
    ['zoes', '1', 'dog', 'a', 'well', 'known', '1', 'had', '1', '2', '0', '0', 'fleas']
    >>> comparable_words("im Jahr neunzehnhundertachtundneunzig", "de")
    ['im', 'jahr', '1', '9', '9', '8']
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(str(unicodedata.decimal(c, c)) for c in plain)
    plain = _BETWEEN_DIGITS.sub("", _APOSTROPHES.sub("", plain))
    if language in NUMBER_LANGUAGES:
        # with their accents: they are part of a number's name
        plain = text_to_num.alpha2digit(plain.replace("-", " "), language, threshold=0)
        plain = _BETWEEN_DIGITS.sub("", plain)
    # accents and the pointing of Hebrew and Arabic; vowel signs of Indian scripts have class 0, kana's voicing 8
    apart = unicodedata.normalize("NFKD", plain)
    plain = "".join(c for c in apart if unicodedata.combining(c) < 10).replace("\u0131", "i")
    plain = unicodedata.normalize("NFC", plain)
    plain = _NO_SPACES.sub(lambda found: f" {found[0]} ", _ORDINAL.sub("", plain))
    return _WORD.findall("".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in plain))


def word_error_rate(text: Sequence[str], spoken: Sequence[str]) -> float:
    """Return the least number of words to remove, add or replace, per word of the text.

    Raises
    ------
    ValueError
        If the text has no words.

    References
    ----------
    Levenshtein, V. I. (1966). Binary codes capable of correcting deletions, insertions, and reversals.

    Examples
    --------
    >>> word_error_rate("the dog came round the corner".split(), "the dog came the corner".split())
    0.16666666666666666
    """
    if not text:
        raise ValueError("the text has no words")
    reference, heard = _numbered(text, spoken)
    steps = np.arange(len(reference) + 1)
    costs = steps.copy()
    for word in heard:
        costs = _next_costs(costs, reference == word, steps, 1)
    return float(costs[-1]) / len(text)


@dataclass(frozen=True)
class Part:
    """The part of a text that fits what was spoken best: its words by number, and the errors in it."""

    words: range
    errors: int


def part_read(text: Sequence[str], spoken: Sequence[str]) -> Part:
    """Find the part of a text that everything spoken fits with the fewest errors; of several, the longest.

    A reading that was cut short fits a part with few errors and the whole text with many.

    Examples
    --------
    >>> part_read("one day the dog came round the corner".split(), "the dog came".split())
    Part(words=range(2, 5), errors=0)
    """
    reference, heard = _numbered(text, spoken)
    size = len(reference) + 1
    # one number says both: how many errors, and where the part begins; of equal errors the earlier beginning is less
    steps = np.arange(size)
    costs = steps.copy()
    for word in heard:
        costs = _next_costs(costs, reference == word, steps, size)
    errors, begins = np.divmod(costs, size)
    lengths = steps - begins
    best = np.lexsort((-lengths, errors))[0]
    return Part(range(int(begins[best]), int(best)), int(errors[best]))


def _numbered(text: Sequence[str], spoken: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    numbers: dict[str, int] = {}
    encoded = [[numbers.setdefault(word, len(numbers)) for word in words] for words in (text, spoken)]
    return np.array(encoded[0], dtype=np.int64), encoded[1]


def _next_costs(costs: np.ndarray, same: np.ndarray, steps: np.ndarray, one: int) -> np.ndarray:
    """Return the costs of every beginning of the text after one more spoken word; `one` is what an error costs."""
    added = costs + one
    replaced = costs[:-1] + np.where(same, 0, one)
    best = np.concatenate([added[:1], np.minimum(added[1:], replaced)])
    # words of the text that were left out, from any place before
    return np.minimum.accumulate(best - one * steps) + one * steps
