"""Sections of the clinic's report on what a clinician asks of a prediction: how sure, how well calibrated, worth acting on, how many
patients it takes. Sentences are made from the tables by fixed rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pandas as pd

from iss_assets.evaluation.check_ins.calibration import ANSWER, CALIBRATION, event_metric
from iss_assets.evaluation.check_ins.clinical import SET_METRICS
from iss_assets.evaluation.check_ins.decisions import EVERYONE
from iss_assets.evaluation.check_ins.design import HIGHEST
from iss_assets.evaluation.check_ins.likely import EVENTS, SEVERE_ANSWER, WORSE
from iss_assets.evaluation.check_ins.protocols import LAST_ANSWER, REFERENCES, ROOM, without_video
from iss_assets.evaluation.check_ins.sample_size import KNOWN, NOT_KNOWN, QUANTITIES
from iss_assets.evaluation.frames import rows_of
from iss_assets.evaluation.verdicts import CANNOT, NO, YES
from iss_assets.modeling.check_ins import experiments_for
from iss_assets.protocol.targets import BY_NAME as TARGETS
from iss_assets.reports import charts
from iss_assets.reports import report_tables as t
from iss_assets.reports.clinic_lines import join, model_title, situation, situations
from iss_assets.reports.templating import count
from iss_assets.settings import CheckInSettings

_STUDIES = (29, 112, 1000)
"""Numbers of patients of studies that the page speaks of: the paper analyzes 29 and plans 112."""

_MARKS = (10, 29, 112, 350, 1000)
"""Numbers of patients written below a figure."""


def questions(frames: Mapping[str, pd.DataFrame], shown: int, settings: CheckInSettings) -> dict[str, Any]:
    """Return what the template shows of these sections.

    Parameters
    ----------
    frames : mapping of str to pandas.DataFrame
        ``check_in_metrics``, ``check_in_calibration``, ``check_in_benefits``, ``check_in_usefulness``,
        ``check_in_patients_needed``, ``check_in_interval_reach``.
    shown : int
        Number of known check-ins of the situation that figures show; 0 for new patients.
    settings : CheckInSettings
        Coverage, thresholds, size of an important change.
    """
    metrics, needed = frames["check_in_metrics"], frames["check_in_patients_needed"]
    names = list(dict.fromkeys(metrics["target"]))
    return {
        "likely_lines": [line for name in names for line in likely_lines(metrics, name, shown, settings)],
        "changes": [line for name in names for line in change_lines(metrics, name, shown)],
        "likely_tables": [table for name in names if (table := _likely(metrics, name, settings))],
        "calibration": [
            part for name in names if (part := _calibration(frames["check_in_calibration"], name, shown))
        ],
        "calibration_tables": [table for name in names if (table := _calibrated(metrics, name))],
        "useful": useful(frames["check_in_usefulness"]),
        "decisions": _decisions(frames["check_in_benefits"], shown),
        "usefulness": _usefulness(frames["check_in_usefulness"]),
        "needed_lines": needed_lines(needed),
        "sizes": _sizes(frames["check_in_interval_reach"]),
        "reach": _reach(frames["check_in_interval_reach"], needed),
        "needed": _needed(needed),
        "act_from": f"{settings.act_from:.0%}",
        "act_to": f"{settings.act_to:.0%}",
        "range_coverage": f"{settings.set_coverage:.0%}",
    }


def _title(target: str) -> str:
    return TARGETS[target].title.capitalize()


def useful(usefulness: pd.DataFrame) -> list[str]:
    """Say of each event whether acting on a model's probability does more good than doing without it.

    Parameters
    ----------
    usefulness : pandas.DataFrame
        ``check_in_usefulness``.
    """
    lines = []
    for event, rows in usefulness.groupby("event", sort=False):
        found = rows[rows["verdict"] == YES]
        if len(found):
            parts = [
                f"{TARGETS[str(name)].title}, {join(sorted({model_title(m).lower() for m in own['model']}))}, "
                f"{situations(sorted(set(own['known'])))}"
                for name, own in found.groupby("target", sort=False)
            ]
            said = f"does more good than acting on everyone, on no one, or without seeing the patient: {'; '.join(parts)}"
        elif set(rows["verdict"]) <= {CANNOT, NO} and CANNOT in set(rows["verdict"]):
            said = (
                "was predicted for too few patients to show whether it does more good than doing without it"
            )
        else:
            said = "is not shown to do more good than acting on everyone, on no one, or without seeing the patient"
        lines.append(f"Acting on the predicted probability of {EVENTS[str(event)]} {said}.")
    return lines


def needed_lines(needed: pd.DataFrame) -> list[str]:
    """Say how many patients each target needs, or that this study is too small to know.

    Parameters
    ----------
    needed : pandas.DataFrame
        ``check_in_patients_needed``.
    """
    lines = []
    for name, rows in needed.groupby("target", sort=False):
        parts = []
        for row in rows_of(rows):
            unit = "" if row.quantity == "correlation" else " points"
            # one row without a number makes the columns of whole numbers decimal
            low, high = (None if pd.isna(v) else f"{int(v):,}" for v in (row.needed_low, row.needed_high))
            head = f"{QUANTITIES[row.quantity]} to within {row.wanted:g}{unit}"
            if row.verdict == KNOWN:
                parts.append(f"{head}: about {int(row.needed):,} patients ({low} to {high})")
            elif row.verdict == NOT_KNOWN:
                parts.append(
                    f"{head}: {low} to {high} patients; with {row.patients} patients this study does not know its own "
                    "variance better"
                )
            else:
                parts.append(f"{head}: cannot be said from {count(row.patients, 'patient')}")
        first = rows.iloc[0]
        whose = f"{situation(int(first['known']))}, {model_title(str(first['model'])).lower()}"
        lines.append(f"{_title(str(name))}, {whose}. To know {'; '.join(parts)}.")
    return lines


def _of(metrics: pd.DataFrame, target: str, known: int | None = None) -> pd.DataFrame:
    rows = metrics[metrics["target"] == target]
    return rows if known is None else rows[rows["known"] == known]


def likely_lines(metrics: pd.DataFrame, target: str, known: int, settings: CheckInSettings) -> list[str]:
    """Say how often the range of a target's first model holds the answer, how often it is of use, and where it is too hopeful.

    Parameters
    ----------
    metrics : pandas.DataFrame
        ``check_in_metrics``.
    target, known : str, int
        The target, and the situation.
    settings : CheckInSettings
        What is promised.
    """
    # the first model and not the best one, which would be chosen on the same check-ins
    model, guess = experiments_for([target])[0].name, without_video(known)
    rows = _of(metrics, target, known)
    found = {
        (r.model, r.metric): r
        for r in rows_of(rows[rows["estimate"].notna() & rows["model"].isin([model, guess])])
    }
    covered, told = found.get((model, "covered")), found.get((model, "told"))
    if covered is None or told is None:
        return []
    without = found.get((guess, "told"))
    head = f"{_title(target)}, {situation(known)}, {model_title(model).lower()}: "
    compared = f" (without the video for {_of_ten(without.estimate)})" if without is not None else ""
    if told.estimate == 0:
        use = "is too wide to be of use for every one of them: the model cannot tell"
        if without is not None:
            compared = (
                f" (without the video it is of use for {_of_ten(without.estimate)})"
                if without.estimate
                else ", and neither could a guess without the video"
            )
    else:
        use = f"is narrow enough to be of use for {_of_ten(told.estimate)}"
    line = f"{head}the range holds the answer of {_of_ten(covered.estimate)} check-ins, and {use}{compared}."
    severe = found.get((model, "covered_severe"))
    if severe is not None and severe.patients > 1:
        # several patients without an interval are all alike
        high = severe.estimate if pd.isna(severe.high) else severe.high
        if high < settings.set_coverage:
            line += f" Take care: of severe answers it holds only {_of_ten(severe.estimate)}."
    return [line]


def change_lines(metrics: pd.DataFrame, target: str, known: int) -> list[str]:
    """Say how many important changes a target's first model detects, and how many the last answer does, which is always late.

    Parameters
    ----------
    metrics : pandas.DataFrame
        ``check_in_metrics``.
    target, known : str, int
        The target, and the situation.
    """
    model = experiments_for([target])[0].name
    rows = _of(metrics, target, known)
    found = {(r.model, r.metric): r.estimate for r in rows_of(rows[rows["estimate"].notna()])}
    if (model, "changes_detected") not in found or (model, "false_alarms") not in found:
        return []

    before = found.get((LAST_ANSWER, "changes_detected"))
    last = "" if before is None else f", the last answer {before:.0%}"
    return [
        f"{_title(target)}, {situation(known)}: the {model_title(model).lower()} detects {found[model, 'changes_detected']:.0%} of "
        f"important changes{last}. Where there is none, it gives a false alarm {found[model, 'false_alarms']:.0%} of the time."
    ]


def _of_ten(share: float) -> str:
    """Write a share as so many of ten; not 0 or 10 unless it is none or all."""
    number = 10 * share
    if 0 < number < 1:
        return "fewer than 1 of 10"
    return "more than 9 of 10" if 9 < number < 10 else f"{number:.0f} of 10"


def _table(
    metrics: pd.DataFrame, target: str, columns: Mapping[str, str], caption: str, note: str
) -> t.DataTable | None:
    rows = []
    for key, group in _of(metrics, target).groupby(["known", "model"], sort=False):
        known, model = cast(tuple[int, str], key)
        of = group.set_index("metric")
        if not set(columns) & set(of.index):
            continue
        cells = [
            t.with_interval(of.at[m, "estimate"], of.at[m, "low"], of.at[m, "high"], 2)
            if m in of.index
            else t.number(None)
            for m in columns
        ]
        first = t.Cell(situation(known).removeprefix("for ").capitalize(), known)
        rows.append((known, [first, t.Cell(model_title(model)), *cells]))
    if not rows:
        return None
    rows.sort(key=lambda row: row[0])
    return t.DataTable(
        caption,
        ["Situation", "Predicted by", *columns.values()],
        [cells for _, cells in rows],
        note,
        caption,
        frozenset({0, 1}),
    )


def _likely(metrics: pd.DataFrame, target: str, settings: CheckInSettings) -> t.DataTable | None:
    return _table(
        metrics,
        target,
        SET_METRICS,
        f"{_title(target)}: ranges of likely answers.",
        f"Shares of check-ins, every patient counting the same. A range is of use if its middle is at most "
        f"{settings.important_change:g} points from every answer in it.",
    )


def _calibrated(metrics: pd.DataFrame, target: str) -> t.DataTable | None:
    events = {SEVERE_ANSWER: "severe", WORSE: "worse"}
    columns = {
        "calibration_intercept": "On average too low by, points",
        "calibration_slope": "Slope of the answer",
    } | {
        event_metric(event, metric): f"{words.capitalize()}: {title[0].lower()}{title[1:]}"
        for event, words in events.items()
        for metric, title in CALIBRATION.items()
    }
    return _table(
        metrics,
        target,
        columns,
        f"{_title(target)}: calibration.",
        "Severe: an answer of 7 or more. Worse: an important change for the worse from the first answers. A slope of 1 is right. The "
        "scaled Brier score is 1 where every probability is right and 0 where it is no better than the share of all. A dash: too "
        "few events.",
    )


def _calibration(bins: pd.DataFrame, target: str, known: int) -> dict[str, Any] | None:
    rows = bins[(bins["target"] == target) & (bins["known"] == known)]
    if rows.empty:
        return None
    plots = []
    for key, own in rows.groupby(["outcome", "model"], sort=False):
        outcome, model = cast(tuple[str, str], key)
        name = "answer, points" if outcome == ANSWER else f"probability, {outcome}"
        title = f"{model_title(model)}: {name}"
        plots.append(
            (
                title,
                charts.answer_calibration_plot(
                    _records(own), title, HIGHEST if outcome == ANSWER else 1.0, f"predicted {name}"
                ),
            )
        )
    return {"title": f"{_title(target)}, {situation(known)}", "plots": plots}


def _decisions(benefits: pd.DataFrame, shown: int) -> list[dict[str, Any]]:
    """Draw the model with the largest net benefit and its interval against everyone and the guesses that do not see the patient.

    An event that came too seldom in the situation that is shown is drawn in the one with most known check-ins where it came often
    enough.
    """
    made = []
    for key, every in benefits.groupby(["target", "event"], sort=False):
        target, event = cast(tuple[str, str], key)
        known = shown if shown in set(every["known"]) else int(every["known"].max())
        rows, guess = every[every["known"] == known], without_video(known)
        mean = rows.groupby("acted_on", sort=False)["net_benefit"].mean()
        models = [str(m) for m in mean.index if m not in (EVERYONE, guess, ROOM)]
        if not models:
            continue
        best = max(models, key=lambda name: float(mean[name]))
        curves = {
            words: [
                (float(r.threshold), float(r.net_benefit)) for r in rows_of(rows[rows["acted_on"] == name])
            ]
            for name, words in (
                (best, model_title(best)),
                (guess, "without the video"),
                (EVERYONE, "everyone"),
                (ROOM, REFERENCES[ROOM]),
            )
            if name in mean.index
        }
        interval = [
            (float(r.threshold), float(r.low), float(r.high))
            for r in rows_of(rows[(rows["acted_on"] == best) & rows["low"].notna() & rows["high"].notna()])
        ]
        title = f"{_title(target)}, {situation(known)}: net benefit of acting on {EVENTS[event]}"
        made.append({"title": title, "svg": charts.decision_curves(curves, title, interval)})
    return made


def _usefulness(usefulness: pd.DataFrame) -> t.DataTable:
    return t.simple(
        "Net benefit beyond the best of doing without seeing the patient.",
        [
            "Answer",
            "Event",
            "Situation",
            "Model",
            "More good",
            "n",
            "Check-ins",
            "Events",
            "Gain",
            "p",
            "p (Holm)",
        ],
        [
            (
                _title(r.target),
                EVENTS[r.event],
                situation(r.known),
                model_title(r.model),
                t.Cell(r.verdict, css="good" if r.verdict == YES else ""),
                int(r.patients),
                int(r.check_ins),
                int(r.events),
                t.with_interval(r.gain, r.low, r.high, 3, signed=True),
                t.p_value(r.p_value),
                t.p_value(r.p_value_holm),
            )
            for r in rows_of(usefulness)
        ],
        "No event came often enough to say anything of its probability.",
        "Mean over thresholds. At each, the best of acting on everyone, on no one, on the guess without the video and on that from room, "
        "phone and time of day is chosen on the same check-ins, in its favor.",
    )


def _reach(reach: pd.DataFrame, needed: pd.DataFrame) -> list[dict[str, Any]]:
    wanted = {(r.target, r.quantity): float(r.wanted) for r in rows_of(needed)}
    made = []
    for key, rows in reach.groupby(["target", "quantity"], sort=False):
        target, quantity = cast(tuple[str, str], key)
        title = f"{_title(target)}: how far the interval of {QUANTITIES[quantity]} reaches to either side"
        svg = charts.reach_plot(_records(rows), wanted[target, quantity], _MARKS, title)
        made.append({"title": title, "svg": svg})
    return made


def _sizes(reach: pd.DataFrame) -> t.DataTable:
    """Return how far intervals would reach in studies of the sizes that the paper analyzes and plans, and of a thousand."""
    rows = []
    for key, own in reach.groupby(["target", "quantity"], sort=False):
        target, quantity = cast(tuple[str, str], key)
        of = own.set_index("patients")["reach"]
        rows.append((_title(target), QUANTITIES[quantity], *(t.number(of.get(n), 2) for n in _STUDIES)))
    return t.simple(
        "How far an interval would reach to either side.",
        ["Answer", "Quantity", *(f"{n:,} patients" for n in _STUDIES)],
        rows,
        "Too few patients to say how far intervals would reach in a study of another size.",
        "In points of the scale of 0 to 10, for the correlation in its own units from −1 to 1. Half of the studies of that size would "
        "do better.",
    )


def _needed(needed: pd.DataFrame) -> t.DataTable:
    return t.simple(
        "Patients needed.",
        [
            "Answer",
            "Quantity",
            "n",
            "Check-ins",
            "Variance between",
            "Variance within",
            "Wanted",
            "Needed",
            "From",
            "To",
            "Known",
        ],
        [
            (
                _title(r.target),
                QUANTITIES[r.quantity],
                int(r.patients),
                int(r.check_ins),
                t.number(r.between_variance, 3),
                t.number(r.within_variance, 3),
                t.number(r.wanted, 2),
                *(t.number(v, 0) for v in (r.needed, r.needed_low, r.needed_high)),
                r.verdict,
            )
            for r in rows_of(needed)
        ],
        "Nothing has been predicted yet.",
        "From this study’s variance between patients and within them, with its own numbers of check-ins per patient. From and to hold "
        "nine in ten estimates from patients drawn again.",
    )


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): (None if pd.isna(v) else v) for k, v in row.items()} for row in rows.to_dict("records")]
