"""Words in the form in which two texts can be compared: as they are spoken, not as they are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_ONES: Final = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS: Final = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_SIGNS: Final = {"%": " percent ", "&": " and ", "$": " dollars ", "°": " degrees ", "+": " plus "}
_WRITTEN: Final = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "st": "street",
    "ok": "okay",
    "vs": "versus",
}
_TOKEN: Final = re.compile(r"\d[\d,.]*(?:st|nd|rd|th)?|[^\W\d_]+(?:['’][^\W\d_]+)*")
_GROUPED: Final = re.compile(r"\d{1,3}(,\d{3})+")


def spoken_words(text: str) -> list[str]:
    """Return the words of a text as they are spoken: lower case, no punctuation, numbers in words.

    Digits of a long number (a telephone) are spoken one by one. Every other language than English only gets lower case and
    loses its punctuation.

    Examples
    --------
    >>> spoken_words("Dr. Lee's well-known 12th visit: 6.5 out of 10!")
    ['doctor', "lee's", 'well', 'known', 'twelfth', 'visit', 'six', 'point', 'five', 'out', 'of', 'ten']
    """
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    words: list[str] = []
    for token in _TOKEN.findall(text.lower().replace("’", "'")):
        if token[0].isdigit():
            words += _number(token)
        else:
            words.append(_WRITTEN.get(token, token))
    return words


def _number(token: str) -> list[str]:
    """Return a number in words: 12th, 6.5, 1,250, a year, or the digits of one with more than four."""
    ordinal = token[-2:] in ("st", "nd", "rd", "th")
    digits = (token[:-2] if ordinal else token).rstrip(".,")
    grouped = bool(_GROUPED.fullmatch(digits.split(".")[0]))
    whole, *rest = re.split(r"[.,]", digits.replace(",", "") if grouped else digits)
    if grouped and int(whole) < 10**6:
        words = _cardinal(int(whole))
    elif len(whole) > 4 or (len(whole) > 1 and whole.startswith("0")):
        words = [_ONES[int(digit)] for digit in whole]
    else:
        words = _year(int(whole)) if len(whole) == 4 else _cardinal(int(whole))
    for part in rest:
        words += ["point", *(_ONES[int(digit)] for digit in part)]
    if ordinal:
        last = words[-1]
        words[-1] = _ORDINALS.get(last, f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return words


def _cardinal(number: int) -> list[str]:
    """Return a number below a million in words."""
    if number < 20:
        return [_ONES[number]]
    if number < 100:
        tens, ones = divmod(number, 10)
        return [_TENS[tens - 2], *([_ONES[ones]] if ones else [])]
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    more, rest = divmod(number, size)
    return [*_cardinal(more), name, *(_cardinal(rest) if rest else [])]


def _year(number: int) -> list[str]:
    """Return a number of four digits as a year is said: nineteen eighty five, two thousand five, twenty twenty one."""
    century, rest = divmod(number, 100)
    if rest < 10 and (century % 10 == 0 or not rest):
        return _cardinal(number)
    return [*_cardinal(century), *(["oh"] if rest < 10 else []), *_cardinal(rest)]


@dataclass(frozen=True)
class WordErrors:
    """How one list of words differs from another.

    Attributes
    ----------
    substituted, missing, added : int
        The least number of changes that turn what should have been said into what was.
    reference : int
        Words that should have been said.
    """

    substituted: int
    missing: int
    added: int
    reference: int

    @property
    def rate(self) -> float:
        """The word error rate: changes by words of the reference; above 1 where much was added."""
        changes = self.substituted + self.missing + self.added
        return changes / self.reference if self.reference else float(bool(changes))


def word_errors(reference: Sequence[str], said: Sequence[str]) -> WordErrors:
    """Compare what was said with what should have been (Levenshtein's distance, by words).

    Parameters
    ----------
    reference, said : sequence of str
        Words as `spoken_words` returns them.
    """
    # each entry: changes, substituted, missing, added
    above = [(j, 0, 0, j) for j in range(len(said) + 1)]
    for i, wanted in enumerate(reference, 1):
        row = [(i, 0, i, 0)]
        for j, word in enumerate(said, 1):
            kept, missing, added = above[j - 1], above[j], row[j - 1]
            if wanted == word:
                row.append(kept)
                continue
            row.append(
                min(
                    (kept[0] + 1, kept[1] + 1, kept[2], kept[3]),
                    (missing[0] + 1, missing[1], missing[2] + 1, missing[3]),
                    (added[0] + 1, added[1], added[2], added[3] + 1),
                )
            )
        above = row
    _, substituted, missing_words, added_words = above[-1]
    return WordErrors(substituted, missing_words, added_words, len(reference))
