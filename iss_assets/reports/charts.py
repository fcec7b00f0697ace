"""Every chart of every page, as inline SVG that can be read without color.

The charts are drawn here and not by a plotting library. An inline SVG takes its colors from the page around it, so one
drawing works in light, dark and print; its text can be searched and read aloud; it needs no network; and it is drawn
in less than a millisecond, where Vega takes a tenth of a second. Pain levels differ by letter and hatch, lines by
dashes and markers, and bars carry their numbers. Classes and hatches are defined in ``templates/style.css`` and
``templates/macros.html.jinja``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import pandas as pd
from markupsafe import Markup, escape

from iss_assets.evaluation.frames import rows_of
from iss_assets.protocol import terms
from iss_assets.reports.templating import count, picture_style

Row = Mapping[str, Any]

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


@dataclass(frozen=True)
class Track:
    """One band of `video_curves`: up to three series on one scale.

    Attributes
    ----------
    title : str
        What is drawn, a word or two.
    series : sequence of sequences of float or None
        One value per time; None breaks the line.
    low, high : float
        Ends of the scale; what lies beyond is drawn at the end.
    unit : str
        Written after the numbers at both ends.
    """

    title: str
    series: Sequence[Sequence[float | None]]
    low: float
    high: float
    unit: str = ""


@dataclass(frozen=True)
class SpanRow:
    """One row of `video_curves` that says when something holds.

    Attributes
    ----------
    title : str
        What holds, a word or two.
    spans : sequence of (float, float)
        Seconds; a moment starts and ends at once.
    kind : str
        ``flag``, ``away``, or ``moment``: how it is drawn.
    """

    title: str
    spans: Sequence[tuple[float, float]]
    kind: str


@dataclass(frozen=True)
class _Axes:
    """The rectangle that data are drawn in, and the range of values that its sides stand for."""

    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (self.right - self.left) * ((value - low) / (high - low) if high > low else 0.5)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (self.bottom - self.top) * ((value - low) / (high - low) if high > low else 0.5)

    def y_grid(self, ticks: Iterable[tuple[float, str]]) -> list[str]:
        """Draw horizontal lines with their values to the left."""
        return [
            part
            for value, words in ticks
            for part in (
                _line(self.left, self.y(value), self.right, self.y(value), "grid"),
                _text(self.left - 5, self.y(value) + 3.5, words, "tick", "end"),
            )
        ]

    def x_ticks(self, ticks: Iterable[tuple[float, str]]) -> list[str]:
        """Write values below the lower side."""
        return [_text(self.x(value), self.bottom + 14, words, "tick x") for value, words in ticks]


def _svg(width: float, height: float, title: str, body: Sequence[str], *, wide: bool = False) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" class="chart{" wide" if wide else ""}" '
        f'style="--width:{width:.0f}px" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def _text(x: float, y: float, text: object, cls: str = "", anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{cls}" {extra}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, cls: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"/>'


def _rect(x: float, y: float, width: float, height: float, cls: str, hint: str = "", extra: str = "") -> str:
    shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" class="{cls}"'
    shape += f" {extra}" if extra else ""
    return f"{shape}><title>{escape(hint)}</title></rect>" if hint else f"{shape}/>"


def _curve(points: Sequence[tuple[float, float]], cls: str) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{places}" class="curve {cls}"/>'


def _marker(x: float, y: float, number: int, hint: str = "", size: float = 2.6) -> str:
    """Draw the marker of a series: a circle, a square, or a triangle."""
    title = f"<title>{escape(hint)}</title>" if hint else ""
    cls = f"dot series-{number}"
    if number == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" class="{cls}">{title}</circle>'
    if number == 1:
        side = 2 * size
        return (
            f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{side:.1f}" height="{side:.1f}" class="{cls}">'
            f"{title}</rect>"
        )
    tall = size * 1.3
    return (
        f'<path d="M{x:.1f} {y - tall:.1f} l{tall:.1f} {2 * tall:.1f} h{-2 * tall:.1f} z" class="{cls}">'
        f"{title}</path>"
    )


def _legend(names: Sequence[str], left: float, y: float, first: int = 0) -> list[str]:
    """Draw the key of series in one row: a piece of each line with its marker, and its name; `first` is the first one's number."""
    body, x = [], left
    for number, name in enumerate(names, start=first):
        body.append(_curve([(x, y), (x + 26, y)], f"series-{number}"))
        body.append(_marker(x + 13, y, number))
        body.append(_text(x + 32, y + 3.5, name, "key", "start"))
        x += 32 + 6.2 * len(name) + 22
    return body


def _spoken(title: str, pairs: Iterable[tuple[object, object]]) -> str:
    """Return a title and its values as one sentence for a screen reader."""
    values = "; ".join(f"{name} {value}" for name, value in pairs)
    return f"{title}: {values}." if values else f"{title}: no values."


def as_picture(svg: str) -> str:
    """Turn a chart into a file of its own, with the page's light colors and a white background.

    For viewers that show an SVG as a picture and not as part of a page, such as Dagster's UI.
    """
    svg = str(svg)  # Markup would escape what is put into it
    start = svg.index(">") + 1
    opening = svg[:start].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    width, height = opening.split('viewBox="0 0 ', 1)[1].split('"', 1)[0].split()
    opening = opening.replace(
        f'style="--width:{width}px"', f'width="{1.15 * float(width):.0f}" height="{1.15 * float(height):.0f}"'
    )
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return f"{opening}<style>{picture_style()}</style>{ground}{svg[start:]}"


def for_strict_page(svg: Markup) -> Markup:
    """Return a chart for a page whose Content Security Policy forbids style attributes: its width is an attribute."""
    return Markup(re.sub(r'style="--width:(\d+)px"', r'width="\1"', str(svg), count=1))


def histogram(values: Iterable[float], title: str, *, bins: int = 10, finest: float = 1.0) -> Markup:
    """Draw how many patients have which value (the paper's Figure 2, left).

    Parameters
    ----------
    values : iterable of float
        One value per patient.
    title : str
        What is measured, with its unit: the label of the axis.
    bins : int
        About how many bars.
    finest : float
        Smallest width of a bar, in the unit of the values: smaller differences cannot be told apart.
    """
    values = list(values)
    counts = _count_in_bins(values, bins, finest)
    edges = [c["low"] for c in counts] + [c["high"] for c in counts[-1:]]
    marks = edges
    shift = 0.0
    if counts and edges[1] - edges[0] == 1 and all(float(value).is_integer() for value in values):
        # the bar of a whole number is centered on it instead of reaching from it to the next
        marks, shift = edges[:-1], 0.5
    # a single bar as wide as the chart would look like a wall
    beside = (edges[1] - edges[0]) * (2 if len(counts) == 1 else 0) if counts else 0
    ends = (edges[0] - shift - beside, edges[-1] - shift + beside) if counts else (0.0, 1.0)
    highest = max([c["patients"] for c in counts], default=0)
    at = _Axes(30, 290, 22, 150, ends, (0, max(highest * 1.12, 1)))
    body = [_text(2, 10, "patients", "tick", "start"), *at.y_grid(_whole_ticks([highest]))]
    for c in counts:
        if not c["patients"]:
            continue
        x, y = at.x(c["low"] - shift) + 0.5, at.y(c["patients"])
        body.append(_rect(x, y, at.x(c["high"] - shift) - 0.5 - x, at.bottom - y, "block"))
        body.append(_text(at.x(c["middle"] - shift), y - 4, f"{c['patients']:g}", "count"))
    body += at.x_ticks((m, _short(m, marks)) for m in marks[:: max(1, math.ceil(len(marks) / 6))])
    body.append(_text((at.left + at.right) / 2, at.bottom + 30, title, "tick"))
    spoken = ((f"{c['low']:,g} to {c['high']:,g} {title}", f"{c['patients']:g} patients") for c in counts)
    return _svg(300, 186, _spoken("Histogram", spoken), body)


def bars(rows: Sequence[Row], label: str, value: str, title: str, *, value_title: str = "patients") -> Markup:
    """Draw one bar per row, in the order of the rows, with its number at the end."""
    data = [(str(r[label]), r[value] or 0) for r in rows]
    left = 14 + 6.2 * max((len(name) for name, _ in data), default=0)
    top, step = 6.0, 24.0
    values = [number for _, number in data]
    at = _Axes(left, 330, top, top + step * len(data), (0, max([*values, 1]) * 1.2), (0, 1))
    body = _x_grid(at, _whole_ticks(values))
    for number, (name, amount) in enumerate(data):
        y = top + step * number
        body.append(_text(left - 6, y + 15.5, name, "", "end"))
        body.append(_rect(left, y + 4, at.x(amount) - left, step - 8, "block"))
        body.append(_text(at.x(amount) + 4, y + 15.5, f"{amount:,}", "count", "start"))
    body.append(_text((at.left + at.right) / 2, at.bottom + 30, value_title, "tick"))
    return _svg(340, at.bottom + 36, _spoken(title, ((name, f"{n:,}") for name, n in data)), body)


def cohorts(rows: Sequence[Row]) -> Markup:
    """Draw the current enrollment of every cohort within its goal (rows of `cohort_enrollment`)."""
    top, step, left = 6.0, 18.0, 34.0
    ends = [max(r["goal"], r["current"]) for r in rows]
    at = _Axes(left, 330, top, top + step * len(rows), (0, max([*ends, 1]) * 1.25), (0, 1))
    body = _x_grid(at, _whole_ticks(ends, 7))
    for number, r in enumerate(rows):
        y, words = top + step * number, f"{r['current']} of {r['goal']}"
        body.append(_text(left - 6, y + 13, r["cohort"], "", "end"))
        body.append(_rect(left, y + 3, at.x(r["current"]) - left, step - 6, "block"))
        body.append(_rect(left, y + 3, at.x(r["goal"]) - left, step - 6, "outline"))
        body.append(_text(at.x(ends[number]) + 5, y + 13, words, "count", "start"))
    body.append(_text((at.left + at.right) / 2, at.bottom + 30, "patients", "tick"))
    pairs = ((f"cohort {r['cohort']}", f"{r['current']} of {r['goal']}") for r in rows)
    return _svg(340, at.bottom + 36, _spoken("Patients enrolled in each cohort", pairs), body)


def enrollment(rows: Sequence[Row]) -> Markup:
    """Draw enrollment over time toward the goal, with the straight projection (rows of `enrollment_progress`)."""
    seen = [r for r in rows if r["kind"] == "seen"]
    projected = [r for r in rows if r["kind"] == "projected"]
    goal = rows[0]["goal"] if rows else 0
    days = [r["as_of"] for r in rows]
    highest = max([goal, *(r["total"] for r in rows)], default=1)
    at = _Axes(38, 630, 24, 250, _day_range(days), (0, highest * 1.05))
    body = [_text(2, 10, "patients enrolled", "tick", "start"), *at.y_grid(_whole_ticks([highest]))]
    body += at.x_ticks(_day_ticks(days))
    body.append(_line(at.left, at.y(goal), at.right, at.y(goal), "goal"))
    body.append(_text(at.left + 4, at.y(goal) - 5, f"goal {goal}", "count", "start"))

    def place(row: Row) -> tuple[float, float]:
        return at.x(row["as_of"].toordinal()), at.y(row["total"])

    # the projection starts at the last count
    lines = (("series-0", seen), ("series-0 dashed", [*seen[-1:], *projected] if projected else []))
    for cls, points in lines:
        if len(points) > 1:
            body.append(_curve([place(r) for r in points], cls))
    for r in (*seen, *projected):
        body.append(_marker(*place(r), 0, f"{r['as_of']:%-d %b %Y}: {r['total']:.0f} {r['kind']}"))
    if seen:
        x, y = place(seen[-1])
        fits = x + 90 < at.right
        words = f"{seen[-1]['total']:.0f} enrolled"
        body.append(
            _text(
                x + (8 if fits else -8),
                min(y + 14, at.bottom - 4),
                words,
                "count",
                "start" if fits else "end",
            )
        )
    if projected:
        (x, y), (start, level) = place(projected[-1]), place((*seen, *projected)[-len(projected) - 1])
        # below the line, which rises under the words
        below = y + 16 + 115 * max(0.0, level - y) / max(1.0, x - start)
        body.append(
            _text(x, min(below, at.bottom - 4), f"projected: {projected[-1]['as_of']:%b %Y}", "count", "end")
        )
    last = f"{seen[-1]['total']:.0f} of {goal} enrolled" if seen else "nobody enrolled"
    end = f", the goal is reached in {projected[-1]['as_of']:%B %Y} at this pace" if projected else ""
    return _svg(640, 276, f"Enrollment over time: {last}{end}.", body, wide=True)


def correlations(rows: Sequence[Row], column: str = "pearson") -> Markup:
    """Draw Pearson's r of every pair of scores as a shaded table of numbers (rows of `pain_score_correlations`)."""
    pairs = {(r["number_a"], r["score_a"]) for r in rows} | {(r["number_b"], r["score_b"]) for r in rows}
    names = [name for _, name in sorted(pairs)]
    across = {name: place for place, name in enumerate(names[:-1])}
    down = {name: place for place, name in enumerate(names[1:])}
    left, top, width, height = 112.0, 4.0, 44.0, 27.0
    body, spoken = [], []
    for r in rows:
        x, y = left + width * across[r["score_a"]], top + height * down[r["score_b"]]
        words = "–" if r[column] is None else f"{r[column]:.2f}".replace("-", "−")
        body.append(_shade(x, y, width, height, abs(r[column] or 0) * 0.55))
        body.append(_text(x + width / 2, y + height / 2 + 4, words, "count"))
        spoken.append((f"{_spaced(r['score_a'])} and {_spaced(r['score_b'])}", words))
    for name, place in down.items():
        body.append(_text(left - 7, top + height * (place + 0.5) + 4, _spaced(name), "", "end"))
    bottom = top + height * len(down)
    for name, place in across.items():
        x, y = left + width * (place + 0.5) + 4, bottom + 12
        body.append(_text(x, y, _spaced(name), "", "end", f'transform="rotate(-40 {x:.1f} {y:.1f})"'))
    title = "Pearson's r among the nine scores and the pain target"
    return _svg(left + width * len(across) + 8, bottom + 82, _spoken(title, spoken), body, wide=True)


def quality_over_time(rows: Sequence[Row]) -> Markup:
    """Draw the shares of usable videos, faces and meshes week by week (rows of `quality_over_time`)."""
    shown = {
        "usable_share": "usable videos",
        "face_rate": "frames with a face",
        "landmark_rate": "faces with a mesh",
    }
    days = [r["week_start"] for r in rows]
    series = [[(r, r[column]) for r in rows if r[column] is not None] for column in shown]
    lowest = min((share for points in series for _, share in points), default=0.0)
    low = math.floor(lowest * 10) / 10 if lowest < 1 else 0.0
    at = _Axes(40, 630, 32, 240, _day_range(days), (low, 1))
    step = 0.1 if low >= 0.45 else 0.2
    marks = [1 - step * n for n in range(math.floor((1 - low) / step + 1e-9) + 1)]
    body = [*_legend(list(shown.values()), at.left, 10), *at.y_grid((m, f"{m:.0%}") for m in marks)]
    body += at.x_ticks(_day_ticks(days))
    for number, (words, points) in enumerate(zip(shown.values(), series, strict=True)):
        places = [(at.x(r["week_start"].toordinal()), at.y(share)) for r, share in points]
        if len(places) > 1:
            body.append(_curve(places, f"series-{number}"))
        for (x, y), (r, share) in zip(places, points, strict=True):
            of = f" of {r['videos']} videos" if r.get("videos") is not None else ""
            body.append(
                _marker(x, y, number, f"week of {r['week_start']:%-d %b %Y}: {share:.1%} {words}{of}")
            )
    ends = (
        (words, f"{points[-1][1]:.0%}")
        for words, points in zip(shown.values(), series, strict=True)
        if points
    )
    return _svg(640, 266, _spoken("Quality week by week, the last week", ends), body, wide=True)


def adherence(rows: Sequence[Row]) -> Markup:
    """Draw the days with a submission of every patient and week, of three (rows of `submission_adherence`).

    A question mark means that check-ins on an unknown day may belong to the week.
    """
    patients, weeks = sorted({r["patient_id"] for r in rows}), sorted({r["study_week"] for r in rows})
    left, top, height = 20 + 6.2 * max(map(len, patients), default=0), 34.0, 18.0
    width = min(34.0, max(20.0, 560 / max(1, len(weeks))))
    body = [_text(left, 12, "week of the study", "tick", "start")]
    body += [_text(left + width * (n + 0.5), 28, week, "tick x") for n, week in enumerate(weeks)]
    body += [_text(left - 7, top + height * n + 13, patient, "", "end") for n, patient in enumerate(patients)]
    row_of, column_of = ({value: n for n, value in enumerate(values)} for values in (patients, weeks))
    for r in rows:
        x, y = left + width * column_of[r["study_week"]], top + height * row_of[r["patient_id"]]
        words = str(r["days"]) if r["days"] or r["complete"] else ""
        words += "?" if r["adherence"] is None else ""
        body.append(_shade(x, y, width, height, min(1.0, r["adherence"] or 0) * 0.5))
        if words:
            body.append(_text(x + width / 2, y + 13, words, "count"))
    days = sum(r["days"] or 0 for r in rows)
    title = f"Days with a submission, by patient and week: {days} days, {len(patients)} patients, {len(weeks)} weeks."
    return _svg(left + width * len(weeks) + 8, top + height * len(patients) + 8, title, body, wide=True)


def training_curves(rows: Sequence[Row]) -> Markup:
    """Draw loss and accuracy on the training side by epoch, one line per split.

    Parameters
    ----------
    rows : sequence of mapping
        ``split``, ``epoch``, ``loss`` and ``accuracy``.
    """
    lines: dict[tuple[str, Any], list[tuple[float, float]]] = {}
    for r in rows:
        for measure in ("loss", "accuracy"):
            if r.get(measure) is not None:
                lines.setdefault((measure, r["split"]), []).append((r["epoch"], r[measure]))
    values = [value for points in lines.values() for _, value in points]
    epochs = sorted({epoch for points in lines.values() for epoch, _ in points})
    highest = max([1.0, *values])
    step = _step(highest, 5)
    at = _Axes(34, 290, 24, 170, (epochs[0], epochs[-1]) if epochs else (0, 1), (0, highest))
    body = [
        *_legend(["loss", "accuracy"], at.left, 10),
        *at.y_grid((n * step, f"{n * step:g}") for n in range(math.floor(highest / step + 1e-9) + 1)),
        *at.x_ticks((epoch, f"{epoch:g}") for epoch in epochs[:: max(1, math.ceil(len(epochs) / 10))]),
        _text((at.left + at.right) / 2, at.bottom + 30, "epoch", "tick"),
    ]
    for (measure, split), points in lines.items():
        number = ("loss", "accuracy").index(measure)
        places = [(at.x(epoch), at.y(value)) for epoch, value in points]
        body.append(_curve(places, f"thin series-{number}"))
        for (x, y), (epoch, value) in zip(places, points, strict=True):
            body.append(_marker(x, y, number, f"split {split}, epoch {epoch:g}: {measure} {value:.3f}", 1.6))
    splits = len({split for _, split in lines})
    return _svg(300, 206, f"Loss and accuracy during training, {splits} splits, {len(epochs)} epochs.", body)


def accuracy_bars(accuracies: pd.DataFrame, title: str) -> Markup:
    """Draw one bar per patient, grouped by pain level, with a line at 0.5 (the paper's Figures 4 and 5).

    Parameters
    ----------
    accuracies : pandas.DataFrame
        One experiment's rows of ``patient_accuracy``.
    title : str
        What a screen reader says instead of the chart, followed by a summary.
    """
    rows = accuracies.assign(rank=accuracies["pain_level"].map(terms.PAIN_LEVELS.index)).sort_values(
        ["rank", "accuracy", "patient_id"], ascending=[True, False, True]
    )
    levels = [level for level in terms.PAIN_LEVELS if (rows["pain_level"] == level).any()]
    gap = 12.0
    width = max(560.0, _MARGIN + 8 + 14.0 * len(rows) + gap * len(levels))
    slot = (width - _MARGIN - 6 - gap * len(levels)) / max(1, len(rows))
    named = slot >= 9
    at = _Axes(_MARGIN, width - 4, 14, 164, (0, 1), (0, 1))
    body = at.y_grid((value, f"{value:g}") for value in (0, 0.25, 0.5, 0.75, 1))
    body.append(_line(at.left, at.y(0.5), at.right, at.y(0.5), "half"))
    x = at.left + gap / 2
    for level in levels:
        group = rows[rows["pain_level"] == level]
        start = x
        for row in rows_of(group):
            height = max((at.bottom - at.top) * row.accuracy, 1.0)
            hint = f"{row.patient_id}, {level}: {row.accuracy:.3f}"
            body.append(
                _rect(x + slot * 0.12, at.bottom - height, slot * 0.76, height, f"bar {level.lower()}", hint)
            )
            if named:
                place = (x + slot / 2 + 3, at.bottom + 6)
                turn = f'transform="rotate(-90 {place[0]:.1f} {place[1]:.1f})"'
                body.append(_text(*place, row.patient_id, "id", "end", turn))
            x += slot
        mean = group["accuracy"].mean()
        body.append(_line(start, at.y(mean), x, at.y(mean), "mean"))
        shown = f"{level} · {mean:.2f}" if x - start > 74 else f"{level[0]} {mean:.2f}"
        body.append(_text((start + x) / 2, at.bottom + (52 if named else 16), shown, "level"))
        x += gap
    above = (rows["accuracy"] > 0.5).sum()
    summary = f"{title}: {count(len(rows), 'patient')}, mean accuracy {rows['accuracy'].mean():.3f}, {above} of them above 0.5."
    return _svg(width, at.bottom + (60 if named else 24), summary, body, wide=True)


_CHARACTER: Final = 6.6
"""Mean width of a character of a row's label, in pixels; a little more than in the fonts that the style sheet names."""


def interval_plot(
    rows: Sequence[IntervalRow],
    title: str,
    reference: float | None = None,
    *,
    extent: tuple[float, float] = (0.0, 1.0),
    middle: float | None = 0.5,
    reference_words: str = "best baseline",
    digits: int = 3,
) -> Markup:
    """Draw estimates with their intervals, a diamond for the paper's figure, a line at `reference`.

    Parameters
    ----------
    rows : sequence of IntervalRow
        From top to bottom.
    title : str
        What is shown, for screen readers.
    reference : float, optional
        Where a line is drawn, with `reference_words` above it.
    extent : tuple of float
        Smallest and largest value of the axis; anything beyond is drawn at its end.
    middle : float, optional
        Where a dashed line is drawn.
    reference_words : str
        Name of the reference.
    digits : int
        Decimal places of the estimates.
    """
    step, signed = 24.0, extent[0] < 0
    left = max((_CHARACTER * len(row.label) for row in rows), default=0.0) + 24
    at = _Axes(left, left + 340, 16, 26 + step * len(rows), extent, (0, 1))
    width = at.right + (160 if signed else 110)

    def x(value: float) -> float:
        return at.x(min(extent[1], max(extent[0], value)))

    quarter = (extent[1] - extent[0]) / 4
    body = _x_grid(
        at,
        [
            (value, f"{value:g}".replace("-", "−"))
            for n in range(5)
            for value in [round(extent[0] + n * quarter, 6)]
        ],
    )
    if middle is not None:
        body.append(_line(x(middle), at.top, x(middle), at.bottom, "half"))
    if reference is not None:
        body.append(_line(x(reference), at.top, x(reference), at.bottom, "reference"))
        body.append(_text(x(reference), 11, f"{reference_words} {reference:.{digits}f}", "tick"))
    for number, row in enumerate(rows):
        y = at.top + step * (number + 0.5)
        body.append(_text(at.left - 10, y + 4, row.label, f"row {row.kind}", "end"))
        if row.low is not None and row.high is not None:
            body.append(_line(x(row.low), y, x(row.high), y, f"whisker {row.kind}"))
        if row.published is not None:
            body.append(
                f'<path d="M{x(row.published):.1f} {y - 6:.1f} l5 6 l-5 6 l-5 -6 z" class="published">'
                f"<title>paper: {row.published:.3f}</title></path>"
            )
        if row.kind == "model":
            body.append(f'<circle cx="{x(row.estimate):.1f}" cy="{y:.1f}" r="4.5" class="dot"/>')
        else:
            body.append(_rect(x(row.estimate) - 3.5, y - 3.5, 7, 7, "square"))
        # minus zero is zero
        ends = [f"{round(v, 2) + 0.0:.2f}" for v in (row.low, row.high) if v is not None]
        interval = f" ({(' to ' if signed else '–').join(ends)})" if len(ends) == 2 else ""
        words = f"{round(row.estimate, digits) + 0.0:.{digits}f}{interval}".replace("-", "−")
        body.append(_text(at.right + 10, y + 4, words, "value", "start"))
    spoken = "; ".join(f"{r.label} {r.estimate:.{digits}f}" for r in rows)
    return _svg(width, at.bottom + 24, f"{title}. {spoken}.", body, wide=True)


def calibration_plot(bins: pd.DataFrame, title: str) -> Markup:
    """Draw the share of patients in pain over the mean predicted probability, one dot per bin with its patients."""
    at = _Axes(30, 210, 10, 190, (0, 1), (0, 1))
    marks = [(value, f"{value:g}") for value in (0, 0.5, 1)]
    body = [_line(at.left, at.bottom, at.right, at.top, "half"), *at.y_grid(marks), *at.x_ticks(marks)]
    filled = bins[bins["patients"] > 0]
    for row in rows_of(filled):
        x, y = at.x(row.mean_probability), at.y(row.pain_share)
        radius = 6 + 1.3 * row.patients**0.5
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="bubble"/>')
        body.append(_text(x, y + 3.5, row.patients, "in-bubble"))
    body.append(_text(120, 219, "predicted probability of pain", "tick"))
    spoken = "; ".join(
        f"predicted {r.mean_probability:.2f}, observed {r.pain_share:.2f}, {count(r.patients, 'patient')}"
        for r in rows_of(filled)
    )
    return _svg(226, 226, f"{title}: {spoken}.", body)


def answer_calibration_plot(bins: Sequence[Row], title: str, highest: float, axis: str) -> Markup:
    """Draw what came over what was predicted, one dot per bin with its interval, and the line of predictions that are right.

    Parameters
    ----------
    bins : sequence of mapping
        Rows of ``check_in_calibration``.
    title : str
        What is shown, for screen readers.
    highest : float
        Upper end of both axes, which begin at 0.
    axis : str
        What is predicted, written below.
    """
    at = _Axes(34, 214, 10, 190, (0, highest), (0, highest))
    marks = [(highest * share, f"{highest * share:g}") for share in (0, 0.5, 1)]
    body = [_line(at.left, at.bottom, at.right, at.top, "half"), *at.y_grid(marks), *at.x_ticks(marks)]

    def place(value: float) -> float:
        return min(highest, max(0.0, value))

    for row in bins:
        x, y = at.x(place(row["predicted"])), at.y(place(row["observed"]))
        low, high = row["observed_low"], row["observed_high"]
        if low is not None and high is not None:
            body.append(_line(x, at.y(place(low)), x, at.y(place(high)), "whisker"))
        body.append(
            _marker(
                x,
                y,
                0,
                f"{count(row['check_ins'], 'check-in')} of {count(row['patients'], 'patient')}: {row['observed']:.2f}",
            )
        )
    body.append(_text((at.left + at.right) / 2, 219, axis, "tick"))
    spoken = ((f"predicted {r['predicted']:.2f}", f"came {r['observed']:.2f}") for r in bins)
    return _svg(230, 226, _spoken(title, spoken), body)


def decision_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    interval: Sequence[tuple[float, float, float]] = (),
) -> Markup:
    """Draw the net benefit over the probability from which one acts, a line for each way to act; acting on no one is 0.

    Parameters
    ----------
    curves : mapping of str to sequence of (float, float)
        Way to act, to threshold and net benefit; up to four.
    title : str
        What is shown, for screen readers.
    interval : sequence of (float, float, float)
        Threshold, lower and upper end of the first one's interval, drawn as an area.
    """
    points = [point for curve in curves.values() for point in curve]
    far = [t for t, _ in points] or [0.0, 1.0]
    best = max([0.05, *(value for _, value in points), *(high for _, _, high in interval)])
    # what is far below acting on no one needs no room
    at = _Axes(46, 420, 42, 206, (min(far), max(far)), (-0.25 * best, best))
    step = _step(best * 10, 4) / 10
    body = [
        *_legend(list(curves)[:2], at.left, 10),
        *_legend(list(curves)[2:], at.left, 26, first=2),
        *at.y_grid((n * step, f"{n * step:g}") for n in range(math.floor(best / step + 1e-9) + 1)),
        *at.x_ticks((t, f"{100 * t:g}%") for t in sorted(set(far))[::2]),
        _line(at.left, at.y(0), at.right, at.y(0), "half"),
        _text(at.right + 6, at.y(0) + 3.5, "no one", "tick", "start"),
        _text((at.left + at.right) / 2, at.bottom + 30, "acts from this probability on", "tick"),
    ]
    if interval:
        lowest = at.y_range[0]
        edge = [(at.x(t), at.y(max(low, lowest))) for t, low, _ in interval]
        edge += [(at.x(t), at.y(max(high, lowest))) for t, _, high in reversed(interval)]
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in edge)
        hint = "; ".join(f"from {100 * t:g}%: {low:.3f} to {high:.3f}" for t, low, high in interval)
        body.insert(
            0, f'<polygon points="{corners}" class="reach series-0"><title>{escape(hint)}</title></polygon>'
        )
    for number, (name, curve) in enumerate(curves.items()):
        places = [(at.x(t), at.y(value)) for t, value in curve if value >= at.y_range[0]]
        if len(places) > 1:
            body.append(_curve(places, f"series-{number}"))
        for (x, y), (t, value) in zip(places, [p for p in curve if p[1] >= at.y_range[0]], strict=True):
            body.append(_marker(x, y, number, f"{name}, from {100 * t:g}%: {value:.3f}", 2.0))
    spoken = ((name, ", ".join(f"{v:.3f}" for _, v in curve)) for name, curve in curves.items())
    return _svg(480, 242, _spoken(title, spoken), body, wide=True)


def reach_plot(rows: Sequence[Row], wanted: float, marks: Sequence[int], title: str) -> Markup:
    """Draw how far an interval reaches to either side by number of patients, with the range of studies, on a log axis.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of ``check_in_interval_reach`` of one quantity.
    wanted : float
        Where a line is drawn: as far as the interval should reach.
    marks : sequence of int
        Numbers of patients that are written below.
    title : str
        What is shown, for screen readers.
    """
    sizes = [math.log10(r["patients"]) for r in rows] or [1.0, 3.0]
    highest = max([wanted * 1.2, *(r["reach_high"] for r in rows)])
    step = _step(highest * 10, 4) / 10
    at = _Axes(46, 420, 12, 176, (min(sizes), max(sizes)), (0, highest))
    body = [
        *at.y_grid((n * step, f"{n * step:g}") for n in range(math.floor(highest / step + 1e-9) + 1)),
        *at.x_ticks((math.log10(n), f"{n:,}") for n in marks),
        _line(at.left, at.y(wanted), at.right, at.y(wanted), "half"),
        _text(at.right + 6, at.y(wanted) + 3.5, "wanted", "tick", "start"),
        _text((at.left + at.right) / 2, at.bottom + 30, "patients", "tick"),
        _curve([(at.x(s), at.y(r["reach"])) for s, r in zip(sizes, rows, strict=False)], "series-0"),
    ]
    for size, row in zip(sizes, rows, strict=False):
        body.append(_line(at.x(size), at.y(row["reach_low"]), at.x(size), at.y(row["reach_high"]), "whisker"))
        body.append(
            _marker(at.x(size), at.y(row["reach"]), 0, f"{row['patients']:,}: {row['reach']:.2f}", 2.0)
        )
    return _svg(
        480,
        212,
        _spoken(title, ((f"{r['patients']} patients", f"{r['reach']:.2f}") for r in rows)),
        body,
        wide=True,
    )


def time_line(
    times: Sequence[datetime],
    values: Sequence[float | None],
    title: str,
    low: float,
    high: float,
    wide: bool = False,
    limit: float | None = None,
) -> Markup:
    """Draw values over time, one dot per value; the line is broken where a value is missing, and dashed at the limit."""
    width, height, left = (720.0, 190.0, 30.0) if wide else (300.0, 110.0, 24.0)
    marks = [(mark, f"{mark:g}") for mark in (low, (low + high) / 2, high)]
    left = max(left, 8 + 5.6 * max(len(words) for _, words in marks))
    start, end = min(times), max(times)
    seconds = (end - start).total_seconds()
    at = _Axes(left, width - 10, 10, height - 20, (0, seconds), (low, high))

    def place(time: datetime, value: float) -> tuple[float, float]:
        return at.x((time - start).total_seconds()), at.y(value)

    body = at.y_grid(marks)
    ends = ((start, "start"), (end, "end")) if start.date() != end.date() else ((start, "middle"),)
    for time, anchor in ends:
        body.append(_text(place(time, low)[0], height - 5, f"{time:%-d %b %Y}", "tick", anchor))
    if limit is not None:
        body.append(_line(left, at.y(limit), width - 10, at.y(limit), "half"))
    run: list[tuple[float, float]] = []
    dots = []
    for time, value in [*zip(times, values, strict=True), (end, None)]:
        if value is None or pd.isna(value):
            if len(run) > 1:
                body.append(_curve(run, "series-0"))
            run = []
            continue
        run.append(place(time, float(value)))
        dots.append(_marker(*run[-1], 0, f"{time:%Y-%m-%d}: {value:g}", 3 if wide else 2.2))
    known = [float(v) for v in values if v is not None and not pd.isna(v)]
    spoken = (
        f"{title}: {len(known)} values between {min(known):g} and {max(known):g}, the last {known[-1]:g}."
        if known
        else f"{title}: no values."
    )
    if limit is not None:
        spoken += f" The limit is {limit:g}."
    return _svg(width, height, spoken, body + dots, wide=wide)


def range_of(values: Sequence[float]) -> tuple[float, float]:
    """Return round ends for an axis that shows these values, of which there is at least one.

    Examples
    --------
    >>> range_of([118.2, 131.0])
    (115.0, 135.0)
    >>> range_of([3.0])
    (3.0, 3.5)
    """
    low, high = min(values), max(values)
    step = _step((high - low) or max(abs(high) * 0.1, 0.1), 4)
    bottom = math.floor(low / step) * step
    return bottom, max(math.ceil(high / step) * step, bottom + step)


def video_curves(
    times: Sequence[float], tracks: Sequence[Track], rows: Sequence[SpanRow], duration: float, title: str
) -> Markup:
    """Draw curves over the seconds of one video, one band below the other, and below them when flags hold.

    Parameters
    ----------
    times : sequence of float
        Seconds, one per value of each series.
    tracks, rows : sequence of Track, of SpanRow
        From top to bottom.
    duration : float
        Length of the video in seconds.
    title : str
        What a screen reader says instead of the chart.
    """
    width, band, row_height = 720.0, 68.0, 16.0
    left = max(
        118.0,
        *(16 + 5.9 * len(row.title) for row in rows),
        # beside the numbers of the scale
        *(40 + 5.9 * len(track.title) for track in tracks),
    )
    seconds = max(duration, *times, 0.1) if times else max(duration, 0.1)
    top, body = 8.0, []
    for track in tracks:
        at = _Axes(left, width - 6, top, top + band - 18, (0, seconds), (track.low, track.high))
        middle = 0.0 if track.low < 0 < track.high else (track.low + track.high) / 2
        body += at.y_grid(
            (v, f"{v:g}{track.unit}".replace("-", "−")) for v in (track.low, middle, track.high)
        )
        body.append(_text(0, (at.top + at.bottom) / 2 + 3.5, track.title, "track", "start"))
        for number, values in enumerate(track.series):
            body += _broken_curve(at, times, values, f"thin series-{number}")
        top += band
    for row in rows:
        at = _Axes(left, width - 6, top, top + row_height, (0, seconds), (0, 1))
        body.append(_text(0, top + 10.5, row.title, "track", "start"))
        body.append(_line(left, top + row_height - 1, at.right, top + row_height - 1, "grid"))
        for start, end in row.spans:
            x = at.x(min(start, seconds))
            body.append(
                _rect(x, top + 2, max(at.x(min(end, seconds)) - x, 1.6), row_height - 5, f"span {row.kind}")
            )
        top += row_height
    at = _Axes(left, width - 6, top, top, (0, seconds), (0, 1))
    step = _step(seconds, 8)
    marks = [(n * step, f"{n * step:g} s") for n in range(math.floor(seconds / step + 1e-9) + 1)]
    return _svg(width, top + 20, title, body + at.x_ticks(marks), wide=True)


def _broken_curve(at: _Axes, times: Sequence[float], values: Sequence[float | None], cls: str) -> list[str]:
    """Draw a line that is broken where a value is missing; a lone value is a dot."""
    low, high = at.y_range
    runs: list[list[tuple[float, float]]] = [[]]
    for time, value in zip(times, values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((at.x(time), at.y(min(high, max(low, value)))))
    return [_curve(run if len(run) > 1 else [run[0], (run[0][0] + 1, run[0][1])], cls) for run in runs if run]


def _x_grid(at: _Axes, ticks: Iterable[tuple[float, str]]) -> list[str]:
    """Draw vertical lines with their values below."""
    ticks = list(ticks)
    lines = [_line(at.x(value), at.top, at.x(value), at.bottom, "grid") for value, _ in ticks]
    return lines + at.x_ticks(ticks)


def _shade(x: float, y: float, width: float, height: float, opacity: float) -> str:
    return _rect(x, y, width, height, "shade", extra=f'fill-opacity="{opacity:.3f}"')


def _day_range(days: Sequence[date]) -> tuple[float, float]:
    ordinals = [day.toordinal() for day in days]
    return (min(ordinals), max(ordinals)) if ordinals else (0, 1)


def _day_ticks(days: Sequence[date]) -> list[tuple[float, str]]:
    """Choose at most seven days to name on an axis, no two of which read the same.

    The first of a month, or of every few months, where there are three or more of them; else single days.
    """
    if not days:
        return []
    low, high = min(days), max(days)
    firsts = [
        date(number // 12, number % 12 + 1, 1)
        for number in range(low.year * 12 + low.month - 1, high.year * 12 + high.month)
    ]
    months = [d for d in firsts if low <= d <= high]
    if len(months) >= 3:
        step = next(n for n in (1, 2, 3, 6, 12, 24, 60, 120, 240, 600) if len(months) <= 6 * n)
        marks = [d for d in months if (d.year * 12 + d.month - 1) % step == 0] or months[:1]
        return [(d.toordinal(), f"{d:%b %Y}") for d in marks]
    step = next(n for n in (1, 2, 7, 14, 28) if (high - low).days < 6 * n)
    marks = [low + timedelta(days=n) for n in range(0, (high - low).days + 1, step)]
    return [(d.toordinal(), f"{d:%-d %b %Y}") for d in marks]


def _whole_ticks(counts: Sequence[float], limit: int = 5) -> list[tuple[float, str]]:
    """Choose whole numbers to mark up to the largest count, about `limit` of them."""
    highest = int(max(counts, default=0))
    step = max(1, int(_step(highest, limit)))
    return [(value, _short(value, counts)) for value in range(0, highest + 1, step)]


def _step(highest: float, limit: int) -> float:
    """Return the smallest of 0.1, 0.2, 0.5, 1, 2, 5, 10 and so on that reaches `highest` in `limit` steps."""
    steps = (n * 10.0**power for power in range(-1, 12) for n in (1, 2, 5))
    return next(n for n in steps if highest <= n * limit)


def _short(value: float, values: Sequence[float]) -> str:
    """Write a number of an axis, thousands as 12k where the axis reaches that far."""
    if max([abs(v) for v in values], default=0) < 10_000 or abs(value) < 1000:
        return f"{value:,g}"
    return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1000:g}k"


def _count_in_bins(values: list[float], bins: int, finest: float = 0.0) -> list[dict[str, float]]:
    """Count values in bins of a round width that start at a multiple of it."""
    if not values:
        return []
    low, high = min(values), max(values)
    rough = max((high - low) / bins, finest, 1e-9) if high > low else max(finest, 1.0)
    magnitude = 10 ** math.floor(math.log10(rough))
    width = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough)
    if all(float(value).is_integer() for value in values):
        width = max(1.0, width)  # there is no half video
    start = math.floor(low / width) * width
    number = math.floor((high - start) / width) + 1
    counts = [0] * number
    for value in values:
        counts[min(int((value - start) // width), number - 1)] += 1
    return [
        {
            "low": start + i * width,
            "high": start + (i + 1) * width,
            "middle": start + (i + 0.5) * width,
            "patients": n,
        }
        for i, n in enumerate(counts)
    ]


def _spaced(name: str) -> str:
    return name.replace("_", " ")
