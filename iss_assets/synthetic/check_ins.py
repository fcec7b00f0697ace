"""Invented check-ins as numbers, without videos: to ask the evaluation about studies whose truth is known.

A patient has a level, and days around it. Of every day's distance from the level, a sign in face and voice shows a part:
`effect` is the correlation of the sign with the answers within patients. Measures differ between patients by much more than
within them, as voices and faces do. The pictures of a narrative can be invented too, as the series that a network reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd

from iss_assets.evaluation.check_ins.design import Filmed
from iss_assets.modeling.series import Series, starts_of
from iss_assets.protocol import terms

DAY_SPREAD = 1.5
"""Standard deviation of a patient's days around the level, in points."""

LEVEL_SPREAD = 1.5
"""Standard deviation of patients' levels."""

Confounder = Literal["room", "phone", "time of day"]
"""What may go along with pain without being a sign of it."""


@dataclass(frozen=True)
class InventedCheckIns:
    """Tables of an invented study.

    Attributes
    ----------
    patients, bpi_scores, splits : pandas.DataFrame
        As the warehouse tables ``patients``, ``bpi_scores`` and ``cv_splits``, with the columns that the evaluation reads.
    measures : dict
        Data frames by group of predictors, with ``patient_id`` and ``video_id``. ``voice.sign`` is the planted sign; the
        other measures are noise.
    """

    patients: pd.DataFrame
    bpi_scores: pd.DataFrame
    splits: pd.DataFrame
    measures: dict[str, pd.DataFrame]


def invent_check_ins(
    patients: int,
    check_ins: int,
    *,
    effect: float = 0.0,
    confounded: float = 0.0,
    confounder: Confounder = "room",
    seed: int = 0,
    folds: int = 10,
    noise_measures: int = 8,
    lasting: float = 0.0,
) -> InventedCheckIns:
    """Invent a study of check-ins.

    Parameters
    ----------
    patients, check_ins : int
        Number of patients, and of check-ins each.
    effect : float
        Correlation within patients between the sign in the voice and pain, -1 to 1.
    confounded : float
        Correlation within patients between `confounder` and pain; it also shows in a measure of the face, which has no sign
        of its own.
    confounder : str
        ``room`` (its light), ``phone`` (one of two, with more or less noise in the picture), or ``time of day``.
    seed : int
        Another seed invents another study.
    folds : int
        Splits, whole patients in turn.
    noise_measures : int
        Measures of face and voice that show nothing.
    lasting : float
        Correlation of one day with the next, of pain and of every measure alike, from 0 to below 1: two series that last can go
        along with each other for a while without having to do with each other.
    """
    if effect**2 + confounded**2 > 1:
        raise ValueError("effect and confounded together leave less than no variance")
    rng = np.random.default_rng([seed, 191])
    ids = [f"{number + 1:04d}" for number in range(patients)]
    of = np.repeat(np.arange(patients), check_ins)
    n = len(of)

    def days() -> np.ndarray:
        """Draw a number for each check-in, with a standard deviation of 1 and neighbors that resemble each other."""
        drawn = rng.normal(size=(patients, check_ins))
        for day in range(1, check_ins):
            drawn[:, day] = lasting * drawn[:, day - 1] + np.sqrt(1 - lasting**2) * drawn[:, day]
        return np.asarray(drawn.ravel())

    sign, light, rest = days(), days(), days()
    level = np.clip(rng.normal(5, LEVEL_SPREAD, patients), 3, 7)
    hours = rng.choice([8, 10, 13, 16, 19, 22], n)
    around = light
    if confounder == "phone":
        # one of two phones
        around = np.where(light > 0, 1.0, -1.0)
    elif confounder == "time of day":
        around = (hours // 6 - 2) / np.sqrt(2 / 3)
    day = effect * sign + confounded * around + np.sqrt(1 - effect**2 - confounded**2) * rest
    pain = np.clip(np.round(level[of] + DAY_SPREAD * day), 0, 10)
    submission = [f"{ids[p]}-{i % check_ins + 1:02d}" for i, p in enumerate(of)]
    start = datetime(2021, 1, 4, tzinfo=UTC)
    when = [start + timedelta(days=2 * int(i % check_ins), hours=int(h)) for i, h in enumerate(hours)]
    scores = pd.DataFrame(
        {
            "submission_id": submission,
            "patient_id": [ids[p] for p in of],
            "submitted_at": when,
            "written_time": [w.replace(tzinfo=None) for w in when],
            "timeframe": [terms.TIMEFRAMES[int(h) // 6] for h in hours],
            "pain_now": pain,
            "chronic_pain": True,
            **{
                item: np.clip(np.round(pain + rng.normal(0, 1, n)), 0, 10)
                for item in terms.INTERFERENCE_ITEMS
            },
        }
    )
    keys = {"patient_id": scores["patient_id"], "video_id": scores["submission_id"]}

    def own(values: np.ndarray) -> np.ndarray:
        """Add what a patient always has: twice as large as the days' differences."""
        return np.asarray(values + 2 * rng.normal(size=patients)[of])

    half = noise_measures // 2
    measures = {
        "voice": pd.DataFrame(
            {
                **keys,
                "voice.sign": own(sign),
                **{f"voice.noise_{i}": own(days()) for i in range(half)},
            }
        ),
        "face": pd.DataFrame(
            {
                **keys,
                "face.brightness": own(around + 0.1 * rng.normal(size=n)),
                **{f"face.noise_{i}": own(days()) for i in range(noise_measures - half)},
            }
        ),
        "quality": pd.DataFrame(
            {
                **keys,
                "quality.luminance": own(light),
                "quality.noise": own(around if confounder == "phone" else days()),
            }
        ),
    }
    people = pd.DataFrame(
        {
            "patient_id": ids,
            "sex": rng.choice(terms.SEXES, patients),
            "skin_type": rng.choice(terms.SKIN_TYPES, patients),
            "age_group": None,
        }
    )
    splits = pd.DataFrame({"patient_id": ids, "split": np.arange(patients) % folds + 1})
    return InventedCheckIns(people, scores, splits, measures)


PICTURE_COLUMNS = 12
"""Width of an invented embedding."""


def invent_pictures(
    study: InventedCheckIns, sign: np.ndarray, *, seed: int = 0, made_by: str = "invented"
) -> Filmed:
    """Invent embedded pictures of every check-in: 3 to 7 instances, of which some show a sign.

    A patient has a face of its own, which differs from others' more than a patient's own pictures differ. About a third of the
    instances, at least one, carry a mark, and only they show the sign: a network must find out where to look.

    Parameters
    ----------
    study : InventedCheckIns
        The study whose check-ins are filmed.
    sign : ndarray of shape (check-ins,)
        What marked instances show, with a standard deviation of about 1.
    seed : int
        Another seed draws other pictures.
    made_by : str
        Name of the network that the embeddings are from.
    """
    rng = np.random.default_rng([seed, 7])
    patient = study.bpi_scores["patient_id"].to_numpy()
    face = {p: rng.normal(0, 2, PICTURE_COLUMNS) for p in np.unique(patient)}
    lengths = rng.integers(3, 8, len(patient))
    videos = []
    for p, length, shown in zip(patient, lengths, sign, strict=True):
        own = face[p] + rng.normal(size=(length, PICTURE_COLUMNS))
        marked = rng.random(length) < 0.3
        marked[rng.integers(length)] = True
        own[marked, 3] += 3
        own[marked, 0] += 2.5 * shown
        videos.append(own)
    number = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    series = Series(np.concatenate(videos).astype(np.float32), number, starts_of(lengths))
    return Filmed(tuple(study.bpi_scores["submission_id"]), series, made_by)
