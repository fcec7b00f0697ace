"""Where an id that is also an ordinary number stands as an id, in our sentences and in what programs write."""

from __future__ import annotations

import re
from typing import Final

_AS_AN_ID: Final = re.compile(
    r"(?:(?P<mark>[\"'/|=])"  # a value, a folder, a cell
    r"|\b[Pp]atient[ :(]{1,2}"  # our sentences: patient 12, 1 patient (12), and what a person types: --patient 12
    r"|\b[Pp]atients \(?(?:[A-Za-z0-9-]{1,32}(?:,? and |, ?))*"  # patients 7, 12
    r"|\bpatient_id(?: in)?[ :=<>(]{1,4}"  # a query
    r")\Z"
)
_AFTER_A_MARK: Final = re.compile(r"[\"'/|.,&<\s\\]|\Z")
_SENTENCE: Final = 240
"""Letters before a number among which the word is that makes it an id."""


def is_ordinary_number(name: str) -> bool:
    """Return whether an id is a number like any other, or so short that it is found by chance."""
    return 0 < len(name) < 3 or (name.isdecimal() and not name.startswith("0"))


def stands_as_an_id(text: str, begin: int, end: int) -> bool:
    """Return whether a number in a text is an id there: the whole text, between quotes or slashes, or after "patient"."""
    if (begin, end) == (0, len(text)):
        return True
    before = _AS_AN_ID.search(text[max(0, begin - _SENTENCE) : begin])
    return before is not None and (not before["mark"] or _AFTER_A_MARK.match(text, end) is not None)
