"""Figures of the study, one function each, from rows of a mart to a Vega-Lite specification, and from that to SVG.

Belongs here: the paper's Figure 2 and what else is drawn of the marts. Does not belong here: which mart has which
figures (``gallery``), the page around them (``study_page``), figures of experiments (``evaluation_figures``).

Every figure can be read without colour: bars carry their numbers, lines differ in dashes and marks, the heat map is
a table of numbers. Lines and text take the colour of the text around them (``currentColor``) and bars that of the
page (``--mark``), so one SVG serves dark and light. Altair is imported when a figure is drawn: it takes a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

Row = Mapping[str, Any]
Spec = dict[str, Any]
"""A Vega-Lite specification."""

INK = "currentColor"
MARK = "var(--mark, #2f6aa8)"
SECOND = "var(--second, #a34e00)"
_ON_WHITE = {INK: "#1c2126", MARK: "#2f6aa8", SECOND: "#a34e00"}
"""For pictures, which have no text around them to take a colour from."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
WIDTH = 300


def histogram(values: Iterable[float], title: str, *, bins: int = 10, finest: float = 1.0) -> Spec:
    """Draw how many patients have how much of something (the paper's Figure 2, left).

    Parameters
    ----------
    values : iterable of float
        One value a patient.
    title : str
        What is counted, with its unit: the label of the axis.
    bins : int
        About how many bars.
    finest : float
        Least width of a bar: values that differ by less are told apart by nobody.

    Returns
    -------
    dict
        For `to_svg`.
    """
    import altair as alt

    values = list(values)
    counts = _count_in_bins(values, bins, finest)
    edges = [c["low"] for c in counts] + [c["high"] for c in counts[-1:]]
    if counts and edges[1] - edges[0] == 1 and all(float(value).is_integer() for value in values):
        # a bar for each whole number stands over its number, not between it and the next
        marks, edges = edges[:-1], [edge - 0.5 for edge in edges]
        counts = [{**c, **{name: c[name] - 0.5 for name in ("low", "high", "middle")}} for c in counts]
    else:
        marks = edges
    shown = marks[:: max(1, math.ceil(len(marks) / 6))]
    # a single bar as wide as the figure would look like a wall
    beside = (edges[1] - edges[0]) * (2 if len(counts) == 1 else 0) if counts else 0
    ends = [edges[0] - beside, edges[-1] + beside] if counts else [0, 1]
    base = alt.Chart(alt.Data(values=counts)).encode(
        x=alt.X(
            "low:Q",
            title=title,
            axis=alt.Axis(values=shown, format=_number_format(marks)),
            scale=alt.Scale(nice=False, zero=False, domain=ends),
        ),
        x2="high:Q",
        y=alt.Y("patients:Q", title="patients", axis=_whole_axis([c["patients"] for c in counts])),
    )
    drawn = base.mark_bar(color=MARK, binSpacing=1).encode(y2=alt.datum(0))
    labels = (
        alt.Chart(alt.Data(values=[c for c in counts if c["patients"]]))
        .mark_text(dy=-6, color=INK, fontSize=10)
        .encode(x="middle:Q", y="patients:Q", text="patients:Q")
    )
    return _spec(alt.layer(drawn, labels), f"Histogram of {title}", height=150)


def bars(rows: Sequence[Row], label: str, value: str, title: str, *, value_title: str = "patients") -> Spec:
    """Draw one bar a row, in the order of the rows, with its number at the end."""
    import altair as alt

    data: list[dict[str, Any]] = [{"label": str(r[label]), "value": r[value] or 0} for r in rows]
    base = alt.Chart(alt.Data(values=data)).encode(
        y=alt.Y("label:N", sort=None, title=None, axis=alt.Axis(labelLimit=170)),
        x=alt.X(
            "value:Q",
            title=value_title,
            axis=_whole_axis([d["value"] for d in data]),
            scale=alt.Scale(domainMax=_headroom([d["value"] for d in data]), domainMin=0),
        ),
    )
    shown = base.mark_bar(color=MARK) + base.mark_text(align="left", dx=4, color=INK, fontSize=11).encode(
        text=alt.Text("value:Q", format=",")
    )
    return _spec(shown, title, height={"step": 24})


def cohorts(rows: Sequence[Row]) -> Spec:
    """Draw current enrollment of every cohort before its goal (rows of `cohort_enrollment`)."""
    import altair as alt

    data = [
        {
            "cohort": r["cohort"],
            "current": r["current"],
            "goal": r["goal"],
            "text": f"{r['current']} of {r['goal']}",
        }
        for r in rows
    ]
    base = alt.Chart(alt.Data(values=data)).encode(y=alt.Y("cohort:N", sort=None, title="cohort"))
    goal = base.mark_bar(fill="transparent", stroke=INK, strokeOpacity=0.5).encode(
        x=alt.X(
            "goal:Q",
            title="patients",
            scale=alt.Scale(domain=[0, _headroom([max(d["goal"], d["current"]) for d in data])]),
            axis=_whole_axis([max(d["goal"], d["current"]) for d in data], most=7),
        )
    )
    current = base.mark_bar(color=MARK).encode(x="current:Q")
    text = (
        base.mark_text(align="left", dx=5, color=INK)
        .encode(x=alt.X("most:Q"), text="text:N")
        .transform_calculate(most="max(datum.goal, datum.current)")
    )
    return _spec(
        goal + current + text, "Patients enrolled in each cohort, before the goal", height={"step": 18}
    )


def enrollment(rows: Sequence[Row]) -> Spec:
    """Draw enrollment over time towards the goal, with the straight projection (rows of `enrollment_progress`)."""
    import altair as alt

    data = [{"day": _at(r["as_of"]), "kind": r["kind"], "total": r["total"], "goal": r["goal"]} for r in rows]
    seen = [d for d in data if d["kind"] == "seen"]
    projected = [d for d in data if d["kind"] == "projected"]
    if seen and projected:
        # the projection starts at the last point seen
        data.append({**seen[-1], "kind": "projected"})
    base = alt.Chart(alt.Data(values=data)).encode(
        x=alt.X("day:T", title=None, axis=_day_axis([r["as_of"] for r in rows])),
        y=alt.Y("total:Q", title="patients enrolled", scale=alt.Scale(domainMin=0)),
    )
    lines = base.mark_line(point=alt.OverlayMarkDef(size=18)).encode(
        strokeDash=alt.StrokeDash(
            "kind:N",
            title=None,
            sort=["seen", "projected"],
            scale=alt.Scale(domain=["seen", "projected"], range=[[1, 0], [4, 4]]),
            legend=None,
        ),
        color=alt.value(MARK),
    )
    goal = base.mark_rule(color=INK, strokeDash=[1, 3]).encode(
        y="goal:Q", x=alt.value(0), x2=alt.value("width")
    )
    text = (
        alt.Chart(alt.Data(values=data[:1]))
        .mark_text(align="left", dy=-6, color=INK)
        .encode(x=alt.value(4), y="goal:Q", text=alt.value(f"goal {data[0]['goal']}" if data else ""))
    )
    # the lines are named where they end, so that nobody has to tell them apart in a legend

    def name(end: list[dict[str, Any]], words: str, **place: Any) -> Any:
        return (
            alt.Chart(alt.Data(values=[{**d, "words": words} for d in end]))
            .mark_text(color=INK, **place)
            .encode(x="day:T", y="total:Q", text="words:N")
        )

    # below the line, but not on the marks of the axis where it begins near zero
    low = bool(seen) and seen[-1]["total"] < 0.1 * seen[-1]["goal"]
    place: dict[str, Any] = {"dx": 16, "dy": -1} if low else {"dx": 4, "dy": 12}
    end = max((r["as_of"] for r in rows if r["kind"] == "projected"), default=None)
    names = [
        name(seen[-1:], f"{seen[-1]['total']:.0f} enrolled" if seen else "", align="left", **place),
        name(projected[-1:], f"projected: {end:%b %Y}" if end else "", align="right", dy=66),
    ]
    return _spec(alt.layer(lines, goal, text, *names), "Enrollment over time", width=560, height=260)


def correlations(rows: Sequence[Row], column: str = "pearson") -> Spec:
    """Draw Pearson's r of every pair of scores as a table of numbers with shades (rows of `pain_score_correlations`)."""
    import altair as alt

    names = [
        n
        for _, n in sorted(
            {(r["number_a"], r["score_a"]) for r in rows} | {(r["number_b"], r["score_b"]) for r in rows}
        )
    ]
    data = [
        {
            "a": _spaced(r["score_b"]),
            "b": _spaced(r["score_a"]),
            "r": r[column],
            "size": abs(r[column] or 0),
            "text": "–" if r[column] is None else f"{r[column]:.2f}".replace("-", "−"),
        }
        for r in rows
    ]
    order = [_spaced(n) for n in names]
    base = alt.Chart(alt.Data(values=data)).encode(
        x=alt.X("b:N", sort=order[:-1], title=None, axis=alt.Axis(labelAngle=-40, labelLimit=150)),
        y=alt.Y("a:N", sort=order[1:], title=None, axis=alt.Axis(labelLimit=150)),
    )
    cells = base.mark_rect(color=MARK, stroke=INK, strokeOpacity=0.15).encode(
        fillOpacity=alt.FillOpacity("size:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.55]), legend=None)
    )
    text = base.mark_text(color=INK, fontSize=11).encode(text="text:N")
    return _spec(
        cells + text, "Pearson's r among the nine scores and the pain target", width=430, height={"step": 27}
    )


def quality_over_time(rows: Sequence[Row]) -> Spec:
    """Draw the shares of usable videos, faces and meshes week by week (rows of `quality_over_time`)."""
    import altair as alt

    shown = {
        "usable_share": "usable videos",
        "face_rate": "frames with a face",
        "landmark_rate": "faces with a mesh",
    }
    data = [
        {"week": _at(r["week_start"]), "what": words, "share": r[column]}
        for r in rows
        for column, words in shown.items()
        if r[column] is not None
    ]
    words = list(shown.values())
    low = min((d["share"] for d in data), default=0.0)
    base = alt.Chart(alt.Data(values=data)).encode(
        x=alt.X("week:T", title=None, axis=_day_axis([r["week_start"] for r in rows])),
        y=alt.Y(
            "share:Q",
            title="share",
            axis=alt.Axis(format="%"),
            scale=alt.Scale(domain=[math.floor(low * 10) / 10 if low < 1 else 0, 1]),
        ),
        strokeDash=alt.StrokeDash(
            "what:N", sort=words, title=None, scale=alt.Scale(domain=words, range=[[1, 0], [6, 3], [2, 2]])
        ),
        shape=alt.Shape(
            "what:N",
            sort=words,
            title=None,
            scale=alt.Scale(domain=words, range=["circle", "square", "triangle-up"]),
        ),
        color=alt.Color(
            "what:N",
            sort=words,
            title=None,
            scale=alt.Scale(domain=words, range=[MARK, SECOND, INK]),
            legend=alt.Legend(orient="top", columns=3, labelLimit=200, columnPadding=28),
        ),
    )
    return _spec(
        base.mark_line() + base.mark_point(size=22, filled=True),
        "Quality week by week",
        width=560,
        height=240,
    )


def adherence(rows: Sequence[Row]) -> Spec:
    """Draw days with a submission for every patient and week against three (rows of `submission_adherence`).

    A question mark stands where check-ins on an unknown day may belong to the week.
    """
    import altair as alt

    data = [
        {
            "patient": r["patient_id"],
            "week": r["study_week"],
            "share": r["adherence"],
            "text": (str(r["days"]) if r["days"] or r["complete"] else "")
            + ("?" if r["adherence"] is None else ""),
        }
        for r in rows
    ]
    base = alt.Chart(alt.Data(values=data)).encode(
        x=alt.X("week:O", title="week of the study", axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("patient:N", title=None),
    )
    cells = base.mark_rect(color=MARK, stroke=INK, strokeOpacity=0.15).encode(
        fillOpacity=alt.FillOpacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.5]), legend=None)
    )
    text = base.mark_text(color=INK, fontSize=10).encode(text="text:N")
    return _spec(cells + text, "Days with a submission, by patient and week", width=420, height={"step": 18})


def training_curves(rows: Sequence[Row]) -> Spec:
    """Draw loss and accuracy on the training side by epoch, a line a split.

    Parameters
    ----------
    rows : sequence of mapping
        ``split``, ``epoch``, ``loss`` and ``accuracy``.
    """
    import altair as alt

    data = [
        {"split": str(r["split"]), "epoch": r["epoch"], "measure": measure, "value": r[measure]}
        for r in rows
        for measure in ("loss", "accuracy")
        if r.get(measure) is not None
    ]
    base = alt.Chart(alt.Data(values=data)).encode(
        x=alt.X("epoch:O", axis=alt.Axis(labelAngle=0)), y=alt.Y("value:Q", title=None), detail="split:N"
    )
    dashes = alt.StrokeDash("measure:N", title=None, legend=alt.Legend(symbolType="stroke", symbolSize=300))
    lines = base.mark_line(color=MARK, strokeWidth=1.2).encode(strokeDash=dashes)
    lines += base.mark_circle(color=MARK, size=14)
    return _spec(lines, "Loss and accuracy while learning, a line a split")


def to_svg(spec: Spec) -> str:
    """Draw a specification as an SVG that takes its colours from the page around it."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec, vl_version=_vega_lite_version()))


def on_white(svg: str) -> str:
    """Put fixed colours and a white ground into an SVG, for places that show no SVG as part of a page."""
    for colour, fixed in _ON_WHITE.items():
        svg = svg.replace(colour, fixed)
    start = svg.index(">", svg.index("<svg")) + 1
    return f'{svg[:start]}<rect width="100%" height="100%" fill="white"/>{svg[start:]}'


def _at(day: date) -> str:
    """Give a day as a moment without a zone: a bare date would be taken for UTC and drawn in the machine's zone."""
    return f"{day.isoformat()}T00:00:00"


def _day_axis(days: Sequence[date]) -> Any:
    """Give an axis of days with at most seven marks, none of which reads like another.

    The first of a month, or of every few months, where there are two or more of them; else single days.
    """
    import altair as alt

    low, high = min(days, default=date(2021, 1, 1)), max(days, default=date(2021, 1, 1))
    firsts = [
        date(number // 12, number % 12 + 1, 1)
        for number in range(low.year * 12 + low.month - 1, high.year * 12 + high.month)
    ]
    months = [d for d in firsts if low <= d <= high]
    if len(months) >= 3:
        step = next(n for n in (1, 2, 3, 6, 12, 24, 60, 120, 240, 600) if len(months) <= 6 * n)
        marks = [d for d in months if (d.year * 12 + d.month - 1) % step == 0] or months[:1]
        return _date_marks(alt, marks, "%b %Y")
    step = next(n for n in (1, 2, 7, 14, 28) if (high - low).days < 6 * n)
    marks = [low + timedelta(days=n) for n in range(0, (high - low).days + 1, step)]
    return _date_marks(alt, marks, "%-d %b %Y")


def _date_marks(alt: Any, marks: Sequence[date], words: str) -> Any:
    values = [alt.DateTime(year=d.year, month=d.month, date=d.day) for d in marks]
    return alt.Axis(values=values, format=words, labelAngle=0, labelOverlap=True)


def _whole_axis(counts: Sequence[float], most: int = 5) -> Any:
    """Give an axis of counts that is marked at whole numbers only, up to the largest count."""
    import altair as alt

    highest = int(max(counts, default=0))
    steps = (n * 10**power for power in range(12) for n in (1, 2, 5))
    step = next(n for n in steps if highest <= n * most)
    return alt.Axis(values=list(range(0, highest + 1, step)), format=_number_format(counts))


def _number_format(values: Sequence[float]) -> str:
    """Give thousands as 12k; smaller numbers as they are, for whose fractions the same form says milli."""
    return "~s" if max([abs(v) for v in values], default=0) >= 10_000 else ",~r"


def _count_in_bins(values: list[float], bins: int, finest: float = 0.0) -> list[dict[str, float]]:
    """Count values in bins of a round width that start at a multiple of it."""
    if not values:
        return []
    low, high = min(values), max(values)
    rough = max((high - low) / bins, finest, 1e-9) if high > low else max(finest, 1.0)
    magnitude = 10 ** math.floor(math.log10(rough))
    width = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough)
    if all(float(value).is_integer() for value in values):
        width = max(1.0, width)  # there is no half a video
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


def _headroom(values: Sequence[float]) -> float:
    """Leave room for the number after the longest bar."""
    return max([*values, 1]) * 1.25


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _spec(chart: Any, description: str, *, width: int = WIDTH, height: Any = 160) -> Spec:
    text = {"labelColor": INK, "titleColor": INK, "labelFont": FONT, "titleFont": FONT}
    spec: Spec = (
        chart.properties(width=width, height=height, description=description)
        .configure(
            background="transparent", font=FONT, padding={"left": 14, "right": 10, "top": 6, "bottom": 6}
        )
        .configure_view(stroke=None)
        .configure_axis(
            **text,
            titleFontWeight="normal",
            domainColor=INK,
            domainOpacity=0.5,
            tickColor=INK,
            tickOpacity=0.5,
            gridColor=INK,
            gridOpacity=0.12,
        )
        .configure_legend(**text, symbolStrokeColor=INK)
        .to_dict()
    )
    return spec


def _vega_lite_version() -> str:
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
