"""The study's own terms: patients, cohorts, pain levels, the nine scores, the time of day.

The vocabulary of the protocol, and pure functions on it.

Every definition names its place in *Intelligent Sight and Sound: A Chronic Cancer Pain Dataset*
(Ordun et al., 2021), called "the paper" in this package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

PATIENT_ID: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9-]{0,31}$")
"""A patient id: letters, digits and hyphens; at most 32. The paper's are four digits, ``0007``."""

SUBMISSION_ID: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
"""A submission id: letters, digits, ``_ . -``; at most 64, never starting with a dot."""

PROMPT_SUFFIX: Final = "_prompt"
"""A video whose stem ends in this is the Question 10 reading, not the Question 11 narrative."""

THERMAL_SUFFIX: Final = "_thermal"
"""A picture whose stem ends in this is a submission's thermal picture."""

SEXES: Final = ("M", "F")
AGE_GROUPS: Final = ("adult", "pediatric")
"""From 18 years on, and from 12 to 17 (section 3)."""
SKIN_TYPES: Final = ("I", "II", "III", "IV", "V", "VI")
SKIN_GROUPS: Final = ("light", "dark")
SETTINGS: Final = ("home", "clinic")
PAIN_LEVELS: Final = ("None", "Low", "Moderate", "Severe")
PAIN_CLASSES: Final = ("No Pain", "Pain")
TIMEFRAMES: Final = ("early AM", "late AM", "early PM", "late PM")

OFFSET_SOURCES: Final = ("written", "patient", "study", "unknown")
"""Where the UTC offset of a check-in's local time comes from, in this order: written with the time itself, the patient's
in ``enrollment.csv``, the study's in the settings. Where none is given, the local time is unknown."""

INTERFERENCE_ITEMS: Final = (
    "general_activity",
    "mood",
    "walking_ability",
    "normal_work",
    "relationships",
    "sleep",
    "enjoyment_of_life",
)
"""Questions 3 to 9 (section 3.2.1): 0 does not interfere, 10 completely interferes."""

SCORES: Final = ("pain_now", "chronic_pain", *INTERFERENCE_ITEMS)
"""The nine self-reported answers in the order of the questionnaire; ``chronic_pain`` is yes/no."""

COHORT_GOAL: Final = 7
"""Patients wanted in each cohort (Table 2)."""

ENROLLMENT_GOAL: Final = 112
"""Patients wanted in the whole study (section 3): sixteen cohorts of seven."""

PEDIATRIC_GOAL: Final = 22
"""Of these, pediatric patients; the other 90 are adults."""

WEEKLY_SUBMISSIONS: Final = 3
"""Check-ins per week that the protocol asks for, at most one per day (Table 3)."""


@dataclass(frozen=True)
class Cohort:
    """One row of the paper's Table 2.

    Attributes
    ----------
    number : str
        ``1A`` to ``4D``; the digit is the pain level, the letter the skin group and sex.
    pain_level : str
        One of `PAIN_LEVELS`.
    skin_group : str
        ``light`` for Fitzpatrick types I to III, ``dark`` for IV to VI.
    sex : str
        ``M`` or ``F``.
    """

    number: str
    pain_level: str
    skin_group: str
    sex: str


COHORTS: Final = tuple(
    Cohort(f"{digit}{letter}", level, group, sex)
    for digit, level in enumerate(PAIN_LEVELS, start=1)
    for letter, (group, sex) in zip(
        "ABCD", (("light", "M"), ("light", "F"), ("dark", "M"), ("dark", "F")), strict=True
    )
)
"""The sixteen cohorts of Table 2 (the paper's text says twelve and its table lists sixteen)."""


def pain_level(pain_target: int) -> str:
    """Return the level of a pain target: 0 None, 1-3 Low, 4-6 Moderate, 7-10 Severe (section 3.1).

    Parameters
    ----------
    pain_target : int
        Worst pain of the thirty days before enrollment, 0 to 10.

    Returns
    -------
    str
        One of `PAIN_LEVELS`.

    Raises
    ------
    ValueError
        If the target is outside 0 to 10.

    Examples
    --------
    >>> [pain_level(score) for score in (0, 3, 4, 7)]
    ['None', 'Low', 'Moderate', 'Severe']
    """
    if not 0 <= pain_target <= 10:
        raise ValueError(f"a pain target is between 0 and 10, not {pain_target}")
    return PAIN_LEVELS[(pain_target + 2) // 3 if pain_target < 7 else 3]


def pain_class(level: str) -> str:
    """Return the two-class label: Low, Moderate and Severe together are "Pain" (section 4, Experiment 1)."""
    return PAIN_CLASSES[int(PAIN_LEVELS.index(level) > 0)]


def skin_group(skin_type: str) -> str:
    """Return the group of a Fitzpatrick type: I to III light, IV to VI dark (section 3.1)."""
    return SKIN_GROUPS[SKIN_TYPES.index(skin_type) // 3]


def cohort_of(pain_target: int, skin_type: str, sex: str) -> str:
    """Return the number of the cohort that a patient with this sex, skin type and pain target belongs to (Table 2).

    Examples
    --------
    >>> cohort_of(8, "V", "F")
    '4D'
    """
    wanted = (pain_level(pain_target), skin_group(skin_type), sex)
    for cohort in COHORTS:
        if (cohort.pain_level, cohort.skin_group, cohort.sex) == wanted:
            return cohort.number
    raise ValueError(f"no cohort for sex {sex!r}")


def timeframe(local: datetime) -> str:
    """Return the time of day of a check-in.

    The paper names "early AM, late PM, etc." (section 4) without limits; this project uses four bins of six
    hours: early AM 0-6, late AM 6-12, early PM 12-18, late PM 18-24.

    Parameters
    ----------
    local : datetime
        The clock time where the patient was; its time zone, if any, is ignored.

    Examples
    --------
    >>> timeframe(datetime(2021, 3, 31, 9, 5))
    'late AM'
    """
    return TIMEFRAMES[local.hour // 6]
