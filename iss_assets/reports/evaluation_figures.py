"""Figures of the reports as inline SVG, readable without colour.

Belongs here: drawing. Does not belong here: what is drawn (``report_tables``, ``study_report``).

Drawn by hand and not by a plotting library, since an inline SVG takes its colours from the page: it follows light,
dark and print, its text can be read aloud and found, and a page needs no picture file. Pain levels differ by letter
and hatch besides colour; patterns and classes stand in ``templates/style.css`` and ``templates/base.html.jinja``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from markupsafe import Markup, escape

from iss_assets.evaluation.frames import rows_of
from iss_assets.protocol import terms

_MARGIN = 34


@dataclass(frozen=True)
class IntervalRow:
    """One line of `interval_plot`: an estimate with its interval, and the paper's figure where there is one."""

    label: str
    estimate: float
    low: float | None
    high: float | None
    published: float | None = None
    kind: str = "model"


def _svg(width: float, height: float, title: str, body: Sequence[str], smallest: int = 0) -> Markup:
    style = f' style="min-width:{smallest}px"' if smallest else ""
    return Markup(
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}"{style}>'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def _text(x: float, y: float, text: object, cls: str = "", anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{cls}" {extra}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, cls: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"/>'


def accuracy_bars(accuracies: pd.DataFrame, title: str) -> Markup:
    """Draw one bar a patient, grouped by pain level, with a line at 0.5 (paper, Figures 4 and 5).

    Parameters
    ----------
    accuracies : pandas.DataFrame
        One experiment's rows of ``patient_accuracy``.
    title : str
        Read aloud instead of the picture, followed by a summary.
    """
    rows = accuracies.assign(rank=accuracies["pain_level"].map(terms.PAIN_LEVELS.index)).sort_values(
        ["rank", "accuracy", "patient_id"], ascending=[True, False, True]
    )
    levels = [level for level in terms.PAIN_LEVELS if (rows["pain_level"] == level).any()]
    gap, top, plot = 12.0, 14.0, 150.0
    width = max(560.0, _MARGIN + 8 + 14.0 * len(rows) + gap * len(levels))
    slot = (width - _MARGIN - 6 - gap * len(levels)) / max(1, len(rows))
    named = slot >= 9
    bottom = top + plot
    body = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        y = bottom - plot * value
        body.append(_line(_MARGIN, y, width - 4, y, "half" if value == 0.5 else "grid"))
        body.append(_text(_MARGIN - 6, y + 3.5, f"{value:g}", "tick", "end"))
    x = _MARGIN + gap / 2
    for level in levels:
        group = rows[rows["pain_level"] == level]
        start = x
        for row in rows_of(group):
            height = max(plot * row.accuracy, 1.0)
            body.append(
                f'<rect x="{x + slot * 0.12:.1f}" y="{bottom - height:.1f}" width="{slot * 0.76:.1f}" '
                f'height="{height:.1f}" class="bar {level.lower()}"><title>{escape(row.patient_id)}, {level}: '
                f"{row.accuracy:.3f}</title></rect>"
            )
            if named:
                cx = x + slot / 2
                body.append(
                    _text(
                        cx + 3,
                        bottom + 6,
                        row.patient_id,
                        "id",
                        "end",
                        f'transform="rotate(-90 {cx + 3:.1f} {bottom + 6:.1f})"',
                    )
                )
            x += slot
        mean = group["accuracy"].mean()
        body.append(_line(start, bottom - plot * mean, x, bottom - plot * mean, "mean"))
        shown = f"{level} · {mean:.2f}" if x - start > 74 else f"{level[0]} {mean:.2f}"
        body.append(_text((start + x) / 2, bottom + (52 if named else 16), shown, "level"))
        x += gap
    above = (rows["accuracy"] > 0.5).sum()
    summary = f"{title}: {len(rows)} patients, mean accuracy {rows['accuracy'].mean():.3f}, {above} of them above 0.5."
    return _svg(width, bottom + (60 if named else 24), summary, body, 440)


def interval_plot(rows: Sequence[IntervalRow], title: str, reference: float | None = None) -> Markup:
    """Draw estimates between 0 and 1 with their intervals, a diamond for the paper's figure, a line at `reference`."""
    left, right, step, width = 190.0, 110.0, 24.0, 720.0
    span = width - left - right
    height = 26 + step * len(rows) + 24
    bottom = height - 24

    def at(value: float) -> float:
        return left + span * min(1.0, max(0.0, value))

    body = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        body.append(_line(at(value), 16, at(value), bottom, "half" if value == 0.5 else "grid"))
        body.append(_text(at(value), bottom + 14, f"{value:g}", "tick"))
    if reference is not None:
        body.append(_line(at(reference), 16, at(reference), bottom, "reference"))
        body.append(_text(at(reference), 11, f"best baseline {reference:.3f}", "tick"))
    for number, row in enumerate(rows):
        y = 16 + step * (number + 0.5)
        body.append(_text(left - 10, y + 4, row.label, f"row {row.kind}", "end"))
        if row.low is not None and row.high is not None:
            body.append(_line(at(row.low), y, at(row.high), y, f"whisker {row.kind}"))
        if row.published is not None:
            px = at(row.published)
            body.append(
                f'<path d="M{px:.1f} {y - 6:.1f} l5 6 l-5 6 l-5 -6 z" class="published">'
                f"<title>paper: {row.published:.3f}</title></path>"
            )
        shape = (
            f'<circle cx="{at(row.estimate):.1f}" cy="{y:.1f}" r="4.5" class="dot"/>'
            if row.kind == "model"
            else f'<rect x="{at(row.estimate) - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" class="square"/>'
        )
        body.append(shape)
        interval = "" if row.low is None or row.high is None else f" ({row.low:.2f}–{row.high:.2f})"
        body.append(_text(width - right + 10, y + 4, f"{row.estimate:.3f}{interval}", "value", "start"))
    spoken = "; ".join(f"{r.label} {r.estimate:.3f}" for r in rows)
    return _svg(width, height, f"{title}. {spoken}.", body, 600)


def calibration_plot(bins: pd.DataFrame, title: str) -> Markup:
    """Draw share of patients in pain over mean predicted probability, a dot a bin with its number of patients."""
    side, left = 180.0, 30.0
    body = [_line(left, 10 + side, left + side, 10, "half")]
    for value in (0, 0.5, 1):
        body.append(_line(left, 10 + side * (1 - value), left + side, 10 + side * (1 - value), "grid"))
        body.append(_text(left - 5, 14 + side * (1 - value), f"{value:g}", "tick", "end"))
        body.append(_text(left + side * value, side + 24, f"{value:g}", "tick"))
    filled = bins[bins["patients"] > 0]
    for row in rows_of(filled):
        x, y = left + side * row.mean_probability, 10 + side * (1 - row.pain_share)
        radius = 6 + 1.3 * row.patients**0.5
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="bubble"/>')
        body.append(_text(x, y + 3.5, row.patients, "in-bubble"))
    spoken = "; ".join(
        f"predicted {r.mean_probability:.2f}, observed {r.pain_share:.2f}, {r.patients} patients"
        for r in rows_of(filled)
    )
    return _svg(left + side + 16, side + 30, f"{title}: {spoken}.", body)


def time_line(
    times: Sequence[datetime],
    values: Sequence[float | None],
    title: str,
    low: float,
    high: float,
    wide: bool = False,
) -> Markup:
    """Draw values over time; a gap where a value is missing, a dot for every value."""
    width, height, left = (720.0, 190.0, 30.0) if wide else (300.0, 110.0, 24.0)
    top, bottom, right = 10.0, height - 20, width - 10
    start, end = min(times), max(times)
    seconds = max((end - start).total_seconds(), 1.0)

    def place(time: datetime, value: float) -> tuple[float, float]:
        share = 0.5 if start == end else (time - start).total_seconds() / seconds
        return left + (right - left) * share, bottom - (bottom - top) * (value - low) / (high - low)

    body = []
    for mark in (low, (low + high) / 2, high):
        y = bottom - (bottom - top) * (mark - low) / (high - low)
        body.append(_line(left, y, right, y, "grid"))
        body.append(_text(left - 5, y + 3.5, f"{mark:g}", "tick", "end"))
    ends = ((start, "start"), (end, "end")) if start.date() != end.date() else ((start, "middle"),)
    for time, anchor in ends:
        body.append(_text(place(time, low)[0], height - 5, time.strftime("%-d %b %Y"), "tick", anchor))
    run: list[str] = []
    dots = []
    for time, value in [*zip(times, values, strict=True), (end, None)]:
        if value is None or pd.isna(value):
            if len(run) > 1:
                body.append(f'<polyline points="{" ".join(run)}" class="curve"/>')
            run = []
            continue
        x, y = place(time, float(value))
        run.append(f"{x:.1f},{y:.1f}")
        dots.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3 if wide else 2.2}" class="dot"><title>{time:%Y-%m-%d}: '
            f"{value:g}</title></circle>"
        )
    known = [float(v) for v in values if v is not None and not pd.isna(v)]
    spoken = (
        f"{title}: {len(known)} values between {min(known):g} and {max(known):g}, the last {known[-1]:g}."
        if known
        else f"{title}: no values."
    )
    return _svg(width, height, spoken, body + dots, 560 if wide else 0)
