"""Experiments on targets that change: what each predicts, from what, and with which model, as data.

The item is a check-in: the answers of one day, and what was measured of the video of the same day. To add an experiment, add
an entry to `CHECK_IN_EXPERIMENTS`; to add a table of measures, add an entry to `SOURCES`. A table that a study does not
have yet is left out, and joins when it exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from iss_assets.modeling.experiments import OverTime
from iss_assets.protocol import terms
from iss_assets.protocol.targets import TARGETS, Target, target
from iss_assets.schemas.audio import AUDIO_FEATURES
from iss_assets.schemas.behavior import BEHAVIOR_MEASURES
from iss_assets.schemas.voice import VOICE_FEATURES
from iss_assets.schemas.words import TEXT_MEASURES

CODE_VERSION: Final = "5"
"""Version of the check-in models; increase it with every change of what they predict."""

Group = Literal["demographics", "time", "quality", "questionnaire", "face", "behavior", "voice", "words"]
Model = Literal["ridge", "boosting", "attention"]
OverVideo = Literal["embedding_series", "mesh_series", "behavior_series"]
"""What a network can read over the time of a video; each is a key of ``items.SERIES``."""

GROUPS: Final[dict[Group, str]] = {
    "demographics": "age group, sex and skin type",
    "time": "time of day",
    "quality": "room and phone (light, noise, size of the face)",
    "questionnaire": "the questionnaire",
    "face": "face",
    "behavior": "behavior",
    "voice": "voice",
    "words": "words",
}
"""Groups of predictors with their names on pages, in the order in which they are added to each other."""

SENSORS: Final[tuple[Group, ...]] = ("face", "behavior", "voice", "words")
"""What is measured of the person in a video."""

NUISANCE: Final[tuple[Group, ...]] = ("time", "quality")
"""What says nothing of the person: when, where and with what the video was recorded."""


@dataclass(frozen=True)
class Source:
    """A table of measures with one row per video.

    Attributes
    ----------
    name : str
        Name of the measures; their columns are called ``name.column``.
    group : str
        One of `GROUPS`.
    table : str
        The table; of its rows those of whole videos are used.
    columns : tuple of str
        The columns that are measures.
    minus : str
        Table with the same columns of the Question 10 reading, the patient's own reference, which is subtracted where a text
        was read.
    """

    name: str
    group: Group
    table: str
    columns: tuple[str, ...]
    minus: str = ""


GROW_WITH_LENGTH: Final = frozenset({"pause_count", "pause_total_s", "longest_still_s"})
"""Measures that grow with the length of a video; a reading is short, so its own are no reference for the narrative's."""


def _of_any_length(columns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(column for column in columns if column not in GROW_WITH_LENGTH)


SOURCES: Final = (
    Source("sound", "voice", "audio_features", AUDIO_FEATURES),
    Source("voice", "voice", "voice_features", VOICE_FEATURES),
    Source(
        "voice_minus_reading",
        "voice",
        "voice_features",
        _of_any_length(VOICE_FEATURES),
        minus="prompt_voice_features",
    ),
    Source("behavior", "behavior", "face_behavior_summary", BEHAVIOR_MEASURES),
    Source(
        "behavior_minus_reading",
        "behavior",
        "face_behavior_summary",
        _of_any_length(BEHAVIOR_MEASURES),
        minus="prompt_face_behavior_summary",
    ),
    Source("words", "words", "text_features", TEXT_MEASURES),
)
"""Tables of measures, besides the shape of the face (from ``landmarks``) and the quality of the video (``video_quality``)."""


@dataclass(frozen=True)
class CheckInExperiment:
    """One model of one target that changes.

    Attributes
    ----------
    name : str
        Name in every table.
    target : Target
        What is predicted.
    groups : tuple of str
        Groups of predictors; of the questionnaire only the answers that do not define the target.
    model : str
        ``ridge`` (linear, penalized) or ``boosting`` (small trees), from `groups`; or ``attention``, a network that reads `series`.
    series : str, optional
        What a network reads of the whole narrative, and nothing else; it needs no `groups`.
    over_time : str, optional
        How a network looks at the neighbors of an instance in time (``experiments.OverTime``); by default it does not.

    Raises
    ------
    ValueError
        If a network has no series or reads groups too, or another model has a series.
    """

    name: str
    target: Target
    groups: tuple[Group, ...]
    model: Model
    series: OverVideo | None = None
    over_time: OverTime | None = None

    def __post_init__(self) -> None:
        if (self.model == "attention") != (self.series is not None) or (self.series and self.groups):
            raise ValueError(
                f"{self.name}: a network reads a series and no groups, another model groups and no series"
            )

    @property
    def title(self) -> str:
        """Name of the model on pages, with its predictors unless they are all of `SENSORS`."""
        kind = MODEL_TITLES[self.model]
        if self.series is not None:
            return f"{kind} on {SERIES_TITLES[self.series]}"
        return kind if self.groups == SENSORS else f"{kind} of {' and '.join(GROUPS[g] for g in self.groups)}"


MODEL_TITLES: Final[dict[Model, str]] = {
    "ridge": "Linear model",
    "boosting": "Boosted trees",
    "attention": "Attention network",
}

SERIES_TITLES: Final[dict[OverVideo, str]] = {
    "embedding_series": "pictures of the face",
    "mesh_series": "movements of the face",
    "behavior_series": "behavior over time",
}

CHECK_IN_EXPERIMENTS: Final[tuple[CheckInExperiment, ...]] = (
    *(
        CheckInExperiment(f"{t.name}_{model}", t, SENSORS, model)
        for t in TARGETS
        for model in ("ridge", "boosting")  # type: Model
    ),
    *(
        CheckInExperiment(f"{name}_attention", target(name), (), "attention", series="embedding_series")
        for name in ("pain_now", "interference")
    ),
)
"""Every check-in target from what face, behavior, voice and words show, and the two that are evaluated by default from the pictures of
the face themselves; which targets are evaluated is a setting."""


def experiments_for(targets: Sequence[str]) -> list[CheckInExperiment]:
    """Return the experiments on these targets.

    Raises
    ------
    ValueError
        If there is no such target.
    """
    return [e for name in targets for e in CHECK_IN_EXPERIMENTS if e.target == target(name)]


def experiment_named(name: str) -> CheckInExperiment | None:
    """Return the experiment of a name; None if there is none, as for references."""
    return next((e for e in CHECK_IN_EXPERIMENTS if e.name == name), None)


def questionnaire_answers(target: Target) -> tuple[str, ...]:
    """Return the answers that may be predictors of a target: all that do not define it."""
    return tuple(answer for answer in terms.SCORES if target.may_be_predicted_from(answer))
