"""What may be predicted of a check-in: its answers, which change from day to day, unlike the paper's pain target.

Each target names the answers that define it. No predictor of a target may be one of them, or hold one of them; whatever
builds predictors asks `Target.may_be_predicted_from`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from iss_assets.protocol import terms

MCID: Final = 2.0
"""Points of a 0 to 10 pain scale that patients feel as a change: Farrar et al., *Pain* 94 (2001), 149-158, found 2 points, or
30 %, for "much improved" in ten trials of chronic pain."""

MODERATE: Final = 4
"""First score of moderate pain or interference on a 0 to 10 scale (section 3.1 of the paper: 4 to 6)."""

SEVERE: Final = 7
"""First score of severe pain (section 3.1: 7 to 10)."""

LEVELS: Final = ("mild or none", "moderate", "severe")
"""Levels of an answer: below `MODERATE`, below `SEVERE`, and from there on."""


@dataclass(frozen=True)
class Target:
    """Something to predict, on a scale from 0 to 10.

    Attributes
    ----------
    name : str
        Name in every table.
    title : str
        Name on pages, within a sentence.
    answers : tuple of str
        Columns of ``bpi_scores`` that define it.
    """

    name: str
    title: str
    answers: tuple[str, ...]

    def may_be_predicted_from(self, answer: str) -> bool:
        """Return whether an answer of the questionnaire may be a predictor of this target."""
        return answer not in self.answers


_TITLES: Final[Mapping[str, str]] = {
    "general_activity": "interference with general activity",
    "mood": "interference with mood",
    "walking_ability": "interference with walking",
    "normal_work": "interference with work",
    "relationships": "interference with relationships",
    "sleep": "interference with sleep",
    "enjoyment_of_life": "interference with enjoyment of life",
}

TARGETS: Final = (
    Target("pain_now", "pain now", ("pain_now",)),
    # mean of the seven interference items; the Brief Pain Inventory's own summary (Cleeland and Ryan 1994)
    Target("interference", "pain interference", terms.INTERFERENCE_ITEMS),
    *(Target(item, _TITLES[item], (item,)) for item in terms.INTERFERENCE_ITEMS),
)
"""Targets that change from check-in to check-in."""

BY_NAME: Final[Mapping[str, Target]] = MappingProxyType({t.name: t for t in TARGETS})


def target(name: str) -> Target:
    """Return the target with this name that changes from check-in to check-in.

    Raises
    ------
    ValueError
        If there is none; the message lists the valid names.
    """
    if name not in BY_NAME:
        raise ValueError(f"there is no check-in target {name!r}; there are {', '.join(BY_NAME)}")
    return BY_NAME[name]
