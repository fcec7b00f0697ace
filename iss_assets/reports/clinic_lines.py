"""The first lines of the clinic's report: sentences made from the claims by fixed rules, for people who treat patients."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from iss_assets.evaluation.check_ins.added_value import QUESTION
from iss_assets.evaluation.check_ins.claims import BEATS, BEATS_LAST, FOLLOWS
from iss_assets.evaluation.check_ins.learned import METRIC as SIZE_OF_SIGN
from iss_assets.evaluation.check_ins.protocols import REFERENCES, ROOM
from iss_assets.evaluation.frames import rows_of
from iss_assets.evaluation.verdicts import CANNOT, NO, NOT_SHOWN, VERDICTS, YES
from iss_assets.modeling.check_ins import GROUPS, SENSORS, title_of
from iss_assets.protocol.targets import BY_NAME
from iss_assets.settings import CheckInSettings


def model_title(name: str) -> str:
    """Return the name of a model or reference on pages."""
    return title_of(name) or REFERENCES[name].capitalize()


def situation(known: int) -> str:
    """Return in which situation a check-in was predicted, as words within a sentence."""
    return f"after {known} check-in{'s' if known > 1 else ''}" if known else "for new patients"


def situations(known: Sequence[int]) -> str:
    """Return several situations as words within a sentence: ``for new patients and after 1 and 3 check-ins``."""
    after = sorted(k for k in known if k)
    parts = ["for new patients"] if 0 in known else []
    if after:
        parts.append(f"after {join([str(k) for k in after])} check-in{'' if after == [1] else 's'}")
    return join(parts)


def join(parts: Sequence[str], last: str = "and") -> str:
    """Join words as a sentence does."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def _between(low: float, high: float, name: str = "") -> str:
    """Write an interval; where there is none, that it is missing because all patients are alike."""
    return "the same for every patient" if pd.isna(low) else f"{name}{low:.2f} to {high:.2f}"


_VIDEOS = "the videos"


def sensors(effects: pd.DataFrame) -> str:
    """Name what was measured of the patients: those groups of which there is a measure; without any, the videos."""
    there = {str(measure).split(":")[0] for measure in effects["measure"]}
    return join([GROUPS[group] for group in SENSORS if group in there] or [_VIDEOS])


def verb(seen: str, plural: str, singular: str) -> str:
    """Return the form of a verb that fits what `sensors` returned.

    Examples
    --------
    >>> [f"{seen} {verb(seen, 'are', 'is')}" for seen in ("face", "face and voice", "words")]
    ['face is', 'face and voice are', 'words are']
    """
    return plural if " and " in seen or seen in (GROUPS["words"], _VIDEOS) else singular


def answer(added: pd.DataFrame, effects: pd.DataFrame) -> list[str]:
    """Answer, for each target, what sensors add to the questionnaire.

    Parameters
    ----------
    added, effects : pandas.DataFrame
        ``check_in_added_value`` and ``check_in_effects``.
    """
    seen = sensors(effects)
    lines = []
    for name, rows in added[added["ordering"] == QUESTION].groupby("target", sort=False):
        title = BY_NAME[str(name)].title.capitalize()
        said = {v: [int(k) for k in rows.loc[rows["verdict"] == v, "known"]] for v in VERDICTS}
        parts = []
        for row in rows_of(rows[rows["verdict"] == YES]):
            parts.append(
                f"{seen} {verb(seen, 'make', 'makes')} the error smaller by {row.gain:.2f} points {situation(row.known)} "
                f"({_between(row.gain_low, row.gain_high)})"
            )
        if rest := said[NO] + said[NOT_SHOWN]:
            parts.append(f"{seen} {verb(seen, 'are', 'is')} not shown to add anything {situations(rest)}")
        if said[CANNOT]:
            adds = verb(seen, "add", "adds")
            parts.append(
                f"too few patients to show whether {seen} {adds} anything {situations(said[CANNOT])}"
            )
        lines.append(f"{title}, beyond the other answers of the questionnaire: {'; '.join(parts)}.")
    return lines


def first_lines(
    claims: pd.DataFrame,
    effects: pd.DataFrame,
    settings: CheckInSettings,
    metrics: pd.DataFrame | None = None,
) -> tuple[str, list[str]]:
    """Return the leading sentence of the clinic's report and the points below it.

    Parameters
    ----------
    claims, effects : pandas.DataFrame
        ``check_in_claims`` and ``check_in_effects``; either may be empty.
    settings : CheckInSettings
        Coverage of the intervals.
    metrics : pandas.DataFrame, optional
        ``check_in_metrics``, for the size of a sign.

    Returns
    -------
    str
        The one sentence that a reader takes along. It says that something was found only where a claim's verdict is yes.
    list of str
        What was found of each target: ups and downs, the last answer, the best reference.
    """
    if claims.empty:
        return (
            "No check-in has been predicted yet; this page needs answers with usable videos of at least two patients.",
            [],
        )
    seen = sensors(effects)
    canary = claims[claims["model"] == ROOM]
    claims = claims[claims["model"] != ROOM]
    lead = _lead(claims, seen)
    points = []
    for name, rows in claims.groupby("target", sort=False):
        title = BY_NAME[str(name)].title
        points += _follows(title, rows[rows["claim"] == FOLLOWS], seen, settings)
        points += _size(str(name), metrics)
        points += _warning(title, canary[canary["target"] == name])
        points += _against(
            title,
            rows[rows["claim"] == BEATS_LAST],
            "by the patient’s last answer, and than by a guess without the video",
        )
        points += _against(title, rows[rows["claim"] == BEATS], "by the best of the simple rules")
    return lead, points


def _lead(claims: pd.DataFrame, seen: str) -> str:
    def targets(kind: str) -> list[str]:
        chosen = claims[(claims["claim"] == kind) & (claims["verdict"] == YES)]
        return [BY_NAME[str(name)].title for name in dict.fromkeys(chosen["target"])]

    follows, beats = targets(FOLLOWS), targets(BEATS)
    go_along, predict = verb(seen, "follow", "follows"), verb(seen, "predict", "predicts")
    subject = seen[0].upper() + seen[1:]
    if follows and beats:
        return (
            f"{subject} {go_along} the ups and downs of {join(follows)}, and {predict} {join(beats)} better than any simple "
            "rule."
        )
    if follows:
        return (
            f"{subject} {go_along} the ups and downs of {join(follows)}, but no model is shown to predict an answer better than "
            "simple rules, such as the patient’s earlier answers."
        )
    if beats:
        return (
            f"Models of {seen} predict {join(beats)} better than any simple rule, but are not shown to follow a patient’s "
            "ups and downs."
        )
    if _too_few(claims):
        return (
            f"Nothing could have been shown: there are too few patients with several check-ins to say whether {seen} "
            f"{go_along} pain."
        )
    return (
        f"Nothing is shown: no model of {seen} is shown to follow a patient’s ups and downs, or to predict an answer better "
        "than simple rules, such as the patient’s earlier answers."
    )


def _too_few(claims: pd.DataFrame) -> bool:
    """Return whether nothing was found only because so few patients could have shown nothing, however good a model."""
    verdicts = set(claims["verdict"])
    return CANNOT in verdicts and verdicts <= {CANNOT, NO}


def _follows(title: str, rows: pd.DataFrame, seen: str, settings: CheckInSettings) -> list[str]:
    if rows.empty:
        return []
    found = rows[rows["verdict"] == YES]
    if found.empty:
        said = (
            f"too few patients to show whether {seen} {verb(seen, 'go', 'goes')}"
            if _too_few(rows)
            else f"{seen} {verb(seen, 'are', 'is')} not shown to go"
        )
        return [f"{title.capitalize()}: {said} along with a patient’s ups and downs."]
    best = found.sort_values("estimate").iloc[-1]
    return [
        f"{title.capitalize()}: {seen} {verb(seen, 'go', 'goes')} along with a patient’s ups and downs. How closely, from 0 (not at "
        f"all) to 1 (in step): {best['estimate']:.2f} ({_between(best['low'], best['high'], f'{settings.confidence:.0%} interval ')}; "
        f"{best['patients']} patients; {model_title(best['model']).lower()})."
    ]


def _size(target: str, metrics: pd.DataFrame | None) -> list[str]:
    """Say how closely a sign itself goes along, where a model is shown to follow changes and that could be estimated."""
    if metrics is None or metrics.empty:
        return []
    of = metrics[(metrics["target"] == target) & (metrics["metric"] == SIZE_OF_SIGN) & metrics["low"].notna()]
    return [
        f"{BY_NAME[target].title.capitalize()}: the model has learned from few patients, and answers are whole numbers, both of which "
        f"hide a part of the sign. Without that it would be about {r.estimate:.2f} ({r.low:.2f} to {r.high:.2f})."
        for r in rows_of(of)
    ]


def _warning(title: str, canary: pd.DataFrame) -> list[str]:
    """Return a warning where room, phone and time of day follow the answers by themselves."""
    return [
        f"Take care: {REFERENCES[ROOM]} alone go along with the ups and downs of {title} ({r.estimate:.2f} from 0 to 1). What "
        "they explain has been taken out of what is said of the models here; measure them, or keep them the same."
        for r in rows_of(canary[canary["verdict"] == YES])
    ]


_WORDS = {
    YES: "{} is predicted better than",
    NO: "{} is not predicted better than",
    NOT_SHOWN: "{} is not shown to be predicted better than",
    CANNOT: "there are too few patients to show whether {} is predicted better than",
}


def _against(title: str, rows: pd.DataFrame, reference: str) -> list[str]:
    """Return a sentence on who does better than a reference, in which situation, and who does not."""
    rows = rows.copy()
    rest = set(rows.loc[rows["verdict"] != YES, "verdict"])
    if len(rest) > 1:
        # which of them is which says the table of all that was tested
        rows.loc[rows["verdict"] != YES, "verdict"] = NOT_SHOWN
    parts = []
    for verdict, words in _WORDS.items():
        of_model: dict[str, list[int]] = {}
        for row in rows_of(rows[rows["verdict"] == verdict]):
            of_model.setdefault(model_title(row.model).lower(), []).append(int(row.known))
        alike: dict[tuple[int, ...], list[str]] = {}
        for model, known in of_model.items():
            alike.setdefault(tuple(known), []).append(model)
        said = [
            f"{'both models' if len(models) == rows['model'].nunique() == 2 else join(models)}, {situations(known)}"
            for known, models in alike.items()
        ]
        if said:
            parts.append(f"{words.format(title)} {reference}: {'; '.join(said)}.")
    return [" ".join(part[0].upper() + part[1:] for part in parts)] if parts else []
