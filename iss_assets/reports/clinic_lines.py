"""The first lines of the clinic's report: sentences made from the claims by fixed rules, for people who treat patients.

What a sentence says of face and voice rests on the models that read them: a claim that only a network on pictures supports is told of
pictures, not of what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from iss_assets.evaluation.check_ins.added_value import QUESTION
from iss_assets.evaluation.check_ins.claims import BEATS, BEATS_LAST, FOLLOWS
from iss_assets.evaluation.check_ins.learned import METRIC as SIZE_OF_SIGN
from iss_assets.evaluation.check_ins.protocols import REFERENCES, ROOM
from iss_assets.evaluation.frames import rows_of
from iss_assets.evaluation.verdicts import CANNOT, NO, NOT_SHOWN, VERDICTS, YES
from iss_assets.modeling.check_ins import GROUPS, SENSORS, SERIES_TITLES, Group, experiment_named
from iss_assets.protocol.flags import FLAGS
from iss_assets.protocol.targets import BY_NAME
from iss_assets.settings import CheckInSettings


def model_title(name: str) -> str:
    """Return the name of a model or reference on pages."""
    experiment = experiment_named(name)
    return experiment.title if experiment is not None else REFERENCES[name].capitalize()


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
    return _named(SENSORS, effects)


def _named(groups: Sequence[Group], effects: pd.DataFrame) -> str:
    there = {str(measure).split(":")[0] for measure in effects["measure"]}
    return join([GROUPS[group] for group in groups if group in there or group not in SENSORS] or [_VIDEOS])


def reads(model: str, effects: pd.DataFrame) -> str:
    """Name what a model reads: a network its series, another model those of its groups of which there is a measure."""
    experiment = experiment_named(model)
    if experiment is None:
        return sensors(effects)
    return SERIES_TITLES[experiment.series] if experiment.series else _named(experiment.groups, effects)


_PLURAL = {GROUPS["words"], _VIDEOS, SERIES_TITLES["embedding_series"], SERIES_TITLES["mesh_series"]}


def verb(seen: str, plural: str, singular: str) -> str:
    """Return the form of a verb that fits what `sensors` or `reads` returned.

    Examples
    --------
    >>> [f"{seen} {verb(seen, 'are', 'is')}" for seen in ("face", "face and voice", "words", "pictures of the face")]
    ['face is', 'face and voice are', 'words are', 'pictures of the face are']
    """
    return plural if " and " in seen or seen in _PLURAL else singular


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
    canary = claims[claims["model"] == ROOM]
    claims = claims[claims["model"] != ROOM]
    claims = claims.assign(reads=[reads(str(model), effects) for model in claims["model"]])
    lead = _lead(claims)
    points = []
    for name, rows in claims.groupby("target", sort=False):
        title = BY_NAME[str(name)].title
        points += _follows(title, rows[rows["claim"] == FOLLOWS], settings)
        points += _size(str(name), metrics)
        points += _warning(title, canary[canary["target"] == name])
        points += _against(
            title,
            rows[rows["claim"] == BEATS_LAST],
            "by the patient’s last answer, and than by a guess without the video",
        )
        points += _against(title, rows[rows["claim"] == BEATS], "by the best of the simple rules")
    return lead, points


def shortcut_lines(shortcuts: pd.DataFrame) -> list[str]:
    """Warn of networks that look at what is wrong with a recording more than chance would.

    Parameters
    ----------
    shortcuts : pandas.DataFrame
        ``check_in_shortcuts``; only a verdict of yes is told.
    """
    return [
        f"{BY_NAME[r.target].title.capitalize()}: of {r.protocol}s, the {model_title(r.model).lower()} looks at stretches flagged "
        f"“{FLAGS[r.flag]}” more than chance would: {r.attention:.0%} of its attention is on {r.chance:.0%} of the videos. It may "
        "have learned the recording and not the patient."
        for r in rows_of(shortcuts[shortcuts["verdict"] == YES])
    ]


def _lead(claims: pd.DataFrame) -> str:
    follows, beats = _shown(claims, FOLLOWS), _shown(claims, BEATS)
    go_along = [
        f"{seen} {verb(seen, 'follow', 'follows')} the ups and downs of {of}" for seen, of in follows.items()
    ]
    if follows and beats:
        (seen, of), *more = beats.items()
        if not more and list(follows) == [seen]:
            predict = [f"{verb(seen, 'predict', 'predicts')} {of} better than any simple rule"]
        else:
            predict = [
                f"{seen} {verb(seen, 'predict', 'predicts')} {of} better than any simple rule"
                for seen, of in beats.items()
            ]
        return _sentence([*go_along, *predict])
    if follows:
        return _sentence(
            go_along,
            ", but no model is shown to predict an answer better than simple rules, such as the patient’s earlier answers",
        )
    if beats:
        return _sentence(
            [f"models of {seen} predict {of} better than any simple rule" for seen, of in beats.items()],
            ", but are not shown to follow a patient’s ups and downs",
        )
    every = list(dict.fromkeys(claims["reads"]))
    if _too_few(claims):
        return (
            f"Nothing could have been shown: there are too few patients with several check-ins to say whether {' or '.join(every)} "
            f"{verb(every[-1], 'follow', 'follows')} pain."
        )
    return (
        f"Nothing is shown: no model of {' or of '.join(every)} is shown to follow a patient’s ups and downs, or to predict an answer "
        "better than simple rules, such as the patient’s earlier answers."
    )


def _shown(claims: pd.DataFrame, kind: str) -> dict[str, str]:
    """Return the targets of which a kind of claim is supported, joined, by what the claim rests on.

    Where models that read different things support it, it rests on what the first of them reads: measures come before pictures.
    """
    targets: dict[str, list[str]] = {}
    for name, rows in claims.groupby("target", sort=False):
        supported = set(rows.loc[(rows["claim"] == kind) & (rows["verdict"] == YES), "reads"])
        # in the order of the experiments
        first = next((seen for seen in dict.fromkeys(rows["reads"]) if seen in supported), None)
        if first is not None:
            targets.setdefault(first, []).append(BY_NAME[str(name)].title)
    return {seen: join(titles) for seen, titles in targets.items()}


def _sentence(clauses: Sequence[str], end: str = "") -> str:
    """Join clauses that may hold an "and" themselves."""
    said = ", and ".join([", ".join(clauses[:-1]), clauses[-1]] if len(clauses) > 1 else clauses) + end
    return f"{said[0].upper()}{said[1:]}."


def _too_few(claims: pd.DataFrame) -> bool:
    """Return whether nothing was found only because so few patients could have shown nothing, however good a model."""
    verdicts = set(claims["verdict"])
    return CANNOT in verdicts and verdicts <= {CANNOT, NO}


def _follows(title: str, rows: pd.DataFrame, settings: CheckInSettings) -> list[str]:
    """Say of each thing that models read whether it goes along with the answers: what does first."""
    lines: list[str] = []
    # not shown, and too few patients to show it
    rest: dict[bool, list[str]] = {False: [], True: []}
    for read, own in rows.groupby("reads", sort=False):
        seen = str(read)
        found = own[own["verdict"] == YES]
        if found.empty:
            rest[_too_few(own)].append(seen)
            continue
        best = found.sort_values("estimate").iloc[-1]
        lines.append(
            f"{title.capitalize()}: {seen} {verb(seen, 'go', 'goes')} along with a patient’s ups and downs. How closely, from 0 (not at "
            f"all) to 1 (in step): {best['estimate']:.2f} ({_between(best['low'], best['high'], f'{settings.confidence:.0%} interval ')}; "
            f"{best['patients']} patients; {model_title(best['model']).lower()})."
        )
    for few, those in rest.items():
        if not those:
            continue
        if few:
            said = f"too few patients to show whether {' or '.join(those)} {verb(those[-1], 'go', 'goes')}"
        elif len(those) > 1:
            said = f"neither {join(those, 'nor')} {verb(those[-1], 'are', 'is')} shown to go"
        else:
            said = f"{those[0]} {verb(those[0], 'are', 'is')} not shown to go"
        lines.append(f"{title.capitalize()}: {said} along with a patient’s ups and downs.")
    return lines


def _size(target: str, metrics: pd.DataFrame | None) -> list[str]:
    """Say how closely a sign itself goes along, where a model is shown to follow changes and that could be estimated."""
    if metrics is None or metrics.empty:
        return []
    of = metrics[(metrics["target"] == target) & (metrics["metric"] == SIZE_OF_SIGN) & metrics["low"].notna()]
    return [
        f"{BY_NAME[target].title.capitalize()}: the {model_title(r.model).lower()} has learned from few patients, and answers are whole "
        f"numbers, both of which hide a part of the sign. Without that it would be about {r.estimate:.2f} ({r.low:.2f} to {r.high:.2f})."
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
        tested = rows["model"].nunique()
        every = "both models" if tested == 2 else "all models"
        said = [
            f"{every if len(models) == tested > 1 else join(models)}, {situations(known)}"
            for known, models in alike.items()
        ]
        if said:
            parts.append(f"{words.format(title)} {reference}: {'; '.join(said)}.")
    return [" ".join(part[0].upper() + part[1:] for part in parts)] if parts else []
