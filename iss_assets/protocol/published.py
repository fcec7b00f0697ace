"""The figures that the paper published, with their place in it.

Numbers read from the paper and its names for the experiments; nothing that this project measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from iss_assets.protocol import terms


@dataclass(frozen=True)
class Published:
    """One experiment as the paper reports it.

    Attributes
    ----------
    experiment : str
        This project's name.
    number : str
        The paper's number, ``Exp. 6``.
    label : str
        The paper's name of the model in Table 5.
    data : str
        What it is trained on, as Table 5 says.
    classes : int
        Two or four.
    figures : dict of str to float
        Table 5: column of ``experiment_results`` to mean accuracy.
    above_half, above_three_quarters : float or None
        Share of test patients above 0.5 and 0.75, where section 5 says so.
    """

    experiment: str
    number: str
    label: str
    data: str
    classes: int
    figures: dict[str, float]
    above_half: float | None = None
    above_three_quarters: float | None = None


def _two(all_classes: float, no_pain: float, pain: float) -> dict[str, float]:
    return {"all_classes": all_classes, "no_pain": no_pain, "pain": pain}


TABLE_5: Final = (
    Published(
        "resnet50_4_static",
        "Exp. 1",
        "ResNet50-4-static",
        "faces",
        4,
        {"all_classes": 0.378, "none": 0.583, "low": 0.168, "moderate": 0.252, "severe": 0.213},
    ),
    Published("resnet50_2_static", "Exp. 1", "ResNet50-2-static", "faces", 2, _two(0.568, 0.513, 0.612)),
    Published(
        "forest_landmarks", "Exp. 2", "Random Forest LM", "landmarks", 2, _two(0.373, 0.479, 0.287), 0.379
    ),
    Published(
        "forest_pain",
        "Exp. 3",
        "Random Forest Pain",
        "pain scores",
        2,
        _two(0.650, 0.706, 0.602),
        None,
        0.517,
    ),
    Published("fusion_1", "Exp. 4", "Fusion 1", "faces, landmarks", 2, _two(0.513, 0.304, 0.683)),
    Published(
        "fusion_2",
        "Exp. 5",
        "Fusion 2",
        "faces, landmarks, pain scores",
        2,
        _two(0.631, 0.563, 0.687),
        None,
        0.517,
    ),
    Published(
        "fusion_3",
        "Exp. 6",
        "Fusion 3",
        "faces, landmarks, pain scores",
        2,
        _two(0.657, 0.582, 0.717),
        0.724,
        0.517,
    ),
    Published("audio_static", "Exp. 7", "Static Audio", "sound", 2, _two(0.456, 0.645, 0.303)),
)
"""Table 5 (section 5), in its order. The shares above 0.5 (72.4 % for Fusion 3, 37.9 % for the landmarks) and above
0.75 (51.7 % for three models) stand in section 5. The third of these is called "Experiment 2 (Random Forest PM)"
there; the landmark forest cannot be meant, since only 37.9 % of its patients exceed 0.5, so it is read as the forest
on pain scores.

Every line's "All Classes" is, within the rounding of three places, the mean over Table 4's patients by level, but one:
Experiment 3's 0.650 is the mean over 13 patients without and 15 with pain (29 patients would give 0.649). Patient
0015, who gave no scores (section 6), was left out there, and kept in Fusion 2 and 3, whose figures need all 29."""

PATIENTS_BY_CLASS: Final = {p.experiment: (13, 15 if p.experiment == "forest_pain" else 16) for p in TABLE_5}
"""Test patients without and with pain behind each line of Table 5, as its arithmetic shows (see `TABLE_5`)."""

BY_NAME: Final = {p.experiment: p for p in TABLE_5}

OURS: Final = {
    "embedding_probe": ("Ours", "Embedding probe", "faces (frozen backbone)"),
    "forest_voice": ("Ours", "Random Forest Voice", "voice"),
    "forest_behavior": ("Ours", "Random Forest Behavior", "movement of head and face"),
    "forest_text": ("Ours", "Random Forest Text", "figures about words"),
    "forest_measures": ("Ours", "Random Forest Measures", "voice, movement, figures about words"),
    "mil_embeddings": ("Ours", "Attention Embeddings", "faces (frozen backbone) over time"),
    "mil_mesh": ("Ours", "Attention Mesh", "landmarks over time"),
    "mil_behavior": ("Ours", "Attention Behavior", "movement of head and face over time"),
}
"""Experiments of this project that the paper does not have: number, label, data."""

FLOW: Final = {
    "patients_enrolled": 30,
    "patients": 29,
    "videos": 509,
    "frames": 189_999,
    "faces": 173_011,
    "landmarks": 168_063,
}
"""Section 3.3 and Table 4; thirty patients in Table 2, of whom 0009 gave nothing usable."""

PATIENTS_BY_LEVEL: Final = {"None": 13, "Low": 4, "Moderate": 4, "Severe": 8}
"""Table 4."""

TABLE_2: Final = dict(
    zip(
        (cohort.number for cohort in terms.COHORTS),
        (7, 2, 4, 0, 1, 1, 3, 0, 2, 2, 0, 0, 1, 2, 2, 3),
        strict=True,
    )
)
"""Patients enrolled in each cohort (Table 2, column "Current")."""

UNUSABLE_COHORT: Final = "2B"
"""Cohort of patient 0009, whose data could not be used (section 3.1)."""


RULE_CROSS_VALIDATED: Final = 0.62
"""Accuracy of the rule by sex and skin group (`baselines.published_rule_accuracy`, 0.655 in sample) when it is fitted
without the patients that it is tested on: mean over 200 ways to make ten folds, 0.52 to 0.66
(`baselines.published_rule_cross_validated`)."""


def sees_face_or_voice(experiment: str) -> bool:
    """Return whether an experiment learns from faces, landmarks or sound, and not from answers alone."""
    return describe(experiment)[2] != BY_NAME["forest_pain"].data


def analyzed_by_cohort() -> dict[str, int]:
    """Return the 29 analyzed patients by cohort: Table 2 without the patient whose data could not be used."""
    return {number: count - (number == UNUSABLE_COHORT) for number, count in TABLE_2.items()}


def describe(experiment: str) -> tuple[str, str, str]:
    """Return an experiment's number, label and data; an experiment that is not in the paper keeps its own name."""
    if experiment in BY_NAME:
        known = BY_NAME[experiment]
        return known.number, known.label, known.data
    return OURS.get(experiment, ("Own", experiment, ""))


def order(experiments: list[str]) -> list[str]:
    """Sort experiments as Table 5 does, then this project's, then others by name."""
    known = [*BY_NAME, *OURS]
    return sorted(experiments, key=lambda e: (known.index(e) if e in known else len(known), e))
