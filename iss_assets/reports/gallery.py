"""Which figures a mart has: the study page and the marts' assets show the same ones.

Belongs here: captions, and which columns of a mart are drawn how. Does not belong here: drawing (``study_figures``).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from iss_assets.reports import study_figures as figures

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class MartFigure:
    """One figure of a mart.

    Attributes
    ----------
    caption : str
        What it shows.
    spec : dict
        For `figures.to_svg`.
    wide : bool
        Whether it needs more than the width of a phone.
    """

    caption: str
    spec: figures.Spec
    wide: bool = False

    @cached_property
    def svg(self) -> str:
        """The drawing, in the colours of the page around it."""
        return figures.to_svg(self.spec)


_DRAWN: Final[dict[str, tuple[str, list[MartFigure]]]] = {}
"""Mart to its figures as they were drawn last in this process, with a mark of the rows."""


def mart_figures(name: str, rows: Rows) -> list[MartFigure]:
    """Give the figures of a mart; none for a mart without figures or without rows.

    A drawing takes a tenth of a second, and the run that makes a mart also writes the study page: figures of the same
    rows are drawn once a process.
    """
    if not rows or name not in _FIGURES:
        return []
    mark = hashlib.sha256(json.dumps(rows, default=str).encode()).hexdigest()
    if _DRAWN.get(name, ("",))[0] != mark:
        _DRAWN[name] = (mark, _FIGURES[name](rows))
    return _DRAWN[name][1]


def as_markdown(figure: MartFigure) -> str:
    """Give a figure as Markdown with the picture inside, as Dagster shows it beside an asset."""
    picture = base64.b64encode(figures.on_white(figure.svg).encode()).decode()
    return f"![{figure.caption}](data:image/svg+xml;base64,{picture})"


def _patients(rows: Rows) -> list[MartFigure]:
    """Give the eight plots of the paper's Figure 2: analyzed patients only, as there."""
    analyzed = [r for r in rows if r["analyzed"]]
    if not analyzed:
        return []
    drawn = [
        MartFigure(caption, figures.histogram([r[column] for r in analyzed if r[column] is not None], axis))
        for caption, column, axis in (
            ("Videos of a patient", "videos", "videos"),
            ("Frames of a patient", "frames", "frames"),
            ("Seconds of a patient", "seconds", "seconds"),
            ("Mean seconds of a patient's videos", "seconds_per_video", "seconds a video"),
        )
    ]
    words = {"M": "male", "F": "female", "light": "light (I-III)", "dark": "dark (IV-VI)"}
    for caption, column, order in (
        ("Patients by pain level", "pain_level", ("None", "Low", "Moderate", "Severe")),
        ("Patients by two levels", "pain_class", ("No Pain", "Pain")),
        ("Patients by sex", "sex", ("M", "F")),
        ("Patients by skin type", "skin_group", ("light", "dark")),
    ):
        counts = [
            {"label": words.get(value, value), "n": sum(r[column] == value for r in analyzed)}
            for value in order
        ]
        drawn.append(MartFigure(caption, figures.bars(counts, "label", "n", caption)))
    return drawn


def _flags(rows: Rows) -> list[MartFigure]:
    shown = [{**r, "flag": str(r["flag"]).replace("_", " ")} for r in rows]
    caption = "Videos with each flag"
    return [MartFigure(caption, figures.bars(shown, "flag", "videos", caption, value_title="videos"))]


def _correlations(rows: Rows) -> list[MartFigure]:
    return [
        MartFigure("Pearson's r over submissions", figures.correlations(rows), wide=True),
        MartFigure(
            "Pearson's r over the patients' means", figures.correlations(rows, "pearson_patients"), wide=True
        ),
    ]


def _one(
    caption: str, draw: Callable[[Rows], figures.Spec], *, wide: bool
) -> Callable[[Rows], list[MartFigure]]:
    return lambda rows: [MartFigure(caption, draw(rows), wide)]


_FIGURES: Final[Mapping[str, Callable[[Rows], list[MartFigure]]]] = {
    "cohort_enrollment": _one("Enrolled in each cohort, before its goal", figures.cohorts, wide=False),
    "enrollment_progress": _one("Enrollment towards the goal", figures.enrollment, wide=True),
    "patient_summary": _patients,
    "submission_adherence": _one(
        "Days with a submission in each week; three are asked for", figures.adherence, wide=True
    ),
    "pain_score_correlations": _correlations,
    "quality_over_time": _one("Quality week by week", figures.quality_over_time, wide=True),
    "quality_flags": _flags,
}
