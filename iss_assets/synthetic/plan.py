"""Who is in the sample study, what they answer, what they record, and which issue is planted where.

Plain data drawn from a seed; nothing is rendered. Each patient is drawn from the seed and the patient's own number, so
adding patients leaves the earlier ones unchanged. The first thirty fill the paper's Table 2: 29 usable patients and 0009,
who has no usable video.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Final

import numpy as np

from iss_assets.protocol import terms
from iss_assets.synthetic.faces import Look
from iss_assets.synthetic.media import Film
from iss_assets.synthetic.voices import Voice

HEALTHY: Final = "healthy"
MISSING_SCORES: Final = "missing_scores"

FIRST_COHORTS: Final = (
    "1A", "4D", "3B", "1C", "4A", "2C", "4B", "2A", "2B", "3A", "4C", "1B",
    "1A", "1C", "4D", "1A", "2C", "1A", "3B", "4B", "1A", "1C", "4C", "1B", "1A", "3A", "1C", "2C", "1A", "4D",
)  # fmt: skip
"""Cohorts of patients 0001 to 0030. They match every count of Table 2; the first twelve cover all pain levels."""

_PAIN_RANGE: Final = {"None": (0, 0), "Low": (1, 3), "Moderate": (4, 6), "Severe": (7, 10)}
_FIRST_COUNTS: Final = (3, 1, 3, 2, 3, 2, 3, 2, 2, 2, 3, 2)

PLANTED: Final[dict[tuple[int, int], tuple[str, ...]]] = {
    (3, 2): ("dark", "grainy"),
    (4, 1): ("glare",),
    (5, 2): ("signage",),
    (6, 2): ("mask",),
    (7, 1): ("quiet",),
    (7, 2): ("muffled",),
    (8, 2): ("no_sound",),
    (9, 1): ("face_missing",),
    (9, 2): ("unreadable",),
    (10, 2): ("several_faces",),
    (11, 1): ("unreadable",),
}
"""Issues by patient number and submission number. 0009 has no usable video, 0012 no scores (0015 in the paper)."""

NO_SCORES: Final = frozenset({12})
EMPTY_FILES: Final = frozenset({(9, 2)})
"""Unreadable because the file is empty; the others are truncated."""

_FILMS: Final[dict[tuple[int, int], tuple[Film, str]]] = {
    (1, 1): (Film(size=(360, 640)), "vertical, with a prompt"),
    (2, 1): (Film("mov", "libx265"), "HEVC in mov"),
    (11, 2): (Film(rotation=90), "rotated by metadata"),
    (12, 1): (Film(variable=True), "variable frame rate"),
    (12, 2): (Film("webm", "libvpx", "libopus", size=(640, 480)), "VP8 and Opus in WebM"),
}
PROMPTS: Final = frozenset({(1, 1)})
_LATER_ISSUES: Final = (
    ("dark", "grainy"), ("glare",), ("signage",), ("mask",), ("quiet",), ("muffled",), ("no_sound",),
    ("several_faces",), ("unreadable",),
)  # fmt: skip
_LATER_SHARE: Final = 0.3
"""Share of the patients after the twelfth with an issue in one submission."""


@dataclass(frozen=True)
class Submission:
    """One check-in: the row of ``surveys.csv`` and the recipe of its video."""

    submission_id: str
    submitted_at: datetime
    setting: str
    scores: dict[str, str]
    issues: tuple[str, ...]
    film: Film
    empty_file: bool
    prompt: bool
    note: str
    day_seed: int
    sign: float | None = None
    """How far face and voice show the day's pain, in standard deviations; None where nothing is planted."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What a check should find: flags, ``missing_scores``, or ``healthy``."""
        missing = (MISSING_SCORES,) if not any(self.scores.values()) else ()
        return (*self.issues, *missing) or (HEALTHY,)


@dataclass(frozen=True)
class Patient:
    """One invented patient: the row of ``enrollment.csv``, face, voice and check-ins."""

    patient_id: str
    cohort: str
    sex: str
    skin_type: str
    pain_target: int
    enrolled_on: date
    utc_offset_minutes: int
    age_group: str
    look: Look
    companion: Look
    voice: Voice
    place_seed: int
    submissions: tuple[Submission, ...]


DAY_SPREAD: Final = 1.5
"""With a planted effect: standard deviation of a patient's days around the level, in points."""

EFFECT_LEVELS: Final = (3.0, 7.0)
"""With a planted effect: range of patients' levels, so that few answers are cut off at 0 or 10."""


def plan(
    patients: int, seed: int, submissions_per_patient: int | None = None, effect: float | None = None
) -> list[Patient]:
    """Invent patients.

    Parameters
    ----------
    patients : int
        Number of patients; a larger number leaves the earlier ones unchanged.
    seed : int
        Another seed gives other patients with the same cohorts and the same planted issues.
    submissions_per_patient : int, optional
        Fixed number of check-ins; by default one to four.
    effect : float, optional
        Correlation within patients between a sign in face and voice and the day's pain, -1 to 1. Answers then change from day to
        day by `DAY_SPREAD` points; without, there is no sign and the answers hardly change.
    """
    numbers = range(1, patients + 1)
    cohorts = _cohorts(patients)
    return [_patient(n, cohorts[n - 1], seed, submissions_per_patient, effect) for n in numbers]


def _cohorts(patients: int) -> list[str]:
    """Return cohort numbers: the paper's thirty, then always the smallest cohort."""
    numbers = list(FIRST_COHORTS[:patients])
    filled = Counter(numbers)
    while len(numbers) < patients:
        number = min((c.number for c in terms.COHORTS), key=lambda n: (filled[n], n))
        filled[number] += 1
        numbers.append(number)
    return numbers


def _patient(number: int, cohort_number: str, seed: int, count: int | None, effect: float | None) -> Patient:
    rng = np.random.default_rng([seed, number])
    cohort = next(c for c in terms.COHORTS if c.number == cohort_number)
    types = terms.SKIN_TYPES[:3] if cohort.skin_group == "light" else terms.SKIN_TYPES[3:]
    # consecutive patients differ, so that all six types appear early
    skin_type = types[(number + int(rng.integers(2))) % 3]
    low, high = _PAIN_RANGE[cohort.pain_level]
    target = int(rng.integers(low, high + 1))
    enrolled = date(2021, 1, 4) + timedelta(days=int((number * 11) % 35))
    offset = int(rng.choice([-300, -300, -300, -360, -420, -480]))
    look = _look(rng, cohort.sex, skin_type, number)
    companion = _look(rng, "F" if rng.random() < 0.5 else "M", str(rng.choice(terms.SKIN_TYPES)), number + 1)
    voice = _voice(rng, cohort.sex)
    drawn = int(rng.integers(1, 5))
    planned = _FIRST_COUNTS[number - 1] if number <= len(_FIRST_COUNTS) else drawn
    affected, issue = (
        int(rng.integers(1, planned + 1)),
        _LATER_ISSUES[int(rng.integers(len(_LATER_ISSUES)))],
    )
    # an issue can make a video unusable, and of the paper's patients only 0009 has no usable video
    later = {affected: issue} if rng.random() < _LATER_SHARE and (count or planned) > 1 else {}
    level = 0.8 + 0.66 * target + rng.normal(0, 1.4)
    chronic = target >= 4 or (target >= 1 and rng.random() < 0.5)
    patient_id = f"{number:04d}"
    submissions = []
    day = enrolled + timedelta(days=1 + int(rng.integers(3)))
    for k in range(1, (count or planned) + 1):
        own = np.random.default_rng([seed, number, k])
        day += timedelta(days=int(own.integers(2, 4)) if k > 1 else 0)
        film, note = _FILMS.get((number, k), (_usual_film(own), ""))
        issues = PLANTED.get((number, k), ()) if number <= len(_FIRST_COUNTS) else later.get(k, ())
        if "signage" in issues or "several_faces" in issues:
            film = Film(size=(640, 480))
        sign, today = None, level
        if effect is not None:
            sign, rest = np.random.default_rng([seed, number, k, 43]).normal(size=2)
            day_of = effect * sign + np.sqrt(1 - effect**2) * rest
            today = float(np.clip(level, *EFFECT_LEVELS) + DAY_SPREAD * day_of)
        submissions.append(
            Submission(
                submission_id=f"{patient_id}-{k:02d}",
                submitted_at=_moment(day, offset, own),
                setting="clinic" if "signage" in issues or own.random() < 0.1 else "home",
                scores=dict.fromkeys(terms.SCORES, "")
                if number in NO_SCORES
                else _scores(today, chronic, own, changing=effect is not None),
                issues=issues,
                film=film,
                empty_file=(number, k) in EMPTY_FILES,
                prompt=(number, k) in PROMPTS,
                note=note,
                day_seed=int(own.integers(2**31)),
                sign=None if sign is None else float(sign),
            )
        )
    return Patient(
        patient_id, cohort_number, cohort.sex, skin_type, target, enrolled, offset, _age_group(number), look, companion, voice,
        int(rng.integers(2**31)), tuple(submissions),
    )  # fmt: skip


def _age_group(number: int) -> str:
    """Return a patient's age group: 22 of 112 are pediatric, spread evenly over the numbers."""
    goal, of = terms.PEDIATRIC_GOAL, terms.ENROLLMENT_GOAL
    return terms.AGE_GROUPS[number * goal // of - (number - 1) * goal // of]


def _look(rng: np.random.Generator, sex: str, skin_type: str, number: int) -> Look:
    portrait = ("collins", "hopper")[number % 2]
    dark = skin_type in terms.SKIN_TYPES[3:]
    hair = (
        "grey"
        if portrait == "hopper"
        else str(rng.choice(["black", "brown"] if dark else ["brown", "fair", "red"]))
    )
    covered = portrait == "hopper" or sex == "M" or rng.random() < 0.25
    colors = (
        [(58, 66, 84), (66, 74, 70), (92, 70, 58), (110, 112, 116)]
        if sex == "M"
        else [(150, 70, 84), (92, 84, 140), (64, 112, 116), (184, 150, 96)]
    )
    scarf = colors[int(rng.integers(len(colors)))]
    shape = np.clip(rng.normal(0, 0.9, 5), -1.6, 1.6)
    return Look(
        portrait=portrait,
        mirrored=bool(rng.random() < 0.5),
        skin_type=skin_type,
        hair=hair,
        scarf=scarf if covered else None,
        beard=float(rng.uniform(0.5, 0.95)) if sex == "M" else 0.0,
        width=float(shape[0]),
        jaw=float(shape[1] + (0.6 if sex == "M" else -0.2)),
        nose=float(shape[2]),
        eyes=float(shape[3]),
        chin=float(shape[4]),
        light_from=float(rng.uniform(-0.6, 0.6)),
    )


def _voice(rng: np.random.Generator, sex: str) -> Voice:
    pitch, tract = ((95, 135), (0.95, 1.04)) if sex == "M" else ((175, 230), (1.1, 1.2))
    return Voice(
        pitch=float(rng.uniform(*pitch)),
        tract=float(rng.uniform(*tract)),
        breath=float(rng.uniform(0.05, 0.3)),
        pace=float(rng.uniform(3.8, 5.2)),
    )


def _usual_film(rng: np.random.Generator) -> Film:
    return Film(size=((480, 640), (480, 640), (640, 480))[int(rng.integers(3))])


def _moment(day: date, offset_minutes: int, rng: np.random.Generator) -> datetime:
    hour = int(rng.choice([8, 9, 10, 11, 13, 15, 17, 19, 20, 21, 22, 1]))
    zone = timezone(timedelta(minutes=offset_minutes))
    return datetime(
        day.year, day.month, day.day, hour, int(rng.integers(60)), int(rng.integers(60)), tzinfo=zone
    )


def _scores(
    level: float, chronic: bool, rng: np.random.Generator, *, changing: bool = False
) -> dict[str, str]:
    """Answer the questionnaire: five items correlate strongly, as in the paper (Pearson above 0.89), the others less.

    Where pain is `changing` from day to day, the level is the day's, and pain now is nothing else.
    """
    today = level + rng.normal(0, 0.7) * (not changing)
    loose = {"pain_now": 0.0 if changing else 0.8, "walking_ability": 1.3, "sleep": 1.3}
    answers = {
        name: str(int(np.clip(round(today + rng.normal(0, loose.get(name, 0.55))), 0, 10)))
        for name in terms.SCORES
        if name != "chronic_pain"
    }
    answers["chronic_pain"] = "yes" if chronic else "no"
    return answers
