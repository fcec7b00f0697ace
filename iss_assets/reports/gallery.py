"""Which figures a mart has: captions, and which columns are drawn how. The pages and the marts' assets share them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from iss_assets.reports import charts

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class MartFigure:
    """One figure of a mart.

    Attributes
    ----------
    caption : str
        What it shows.
    svg : Markup
        The chart, in the colors of the page around it.
    wide : bool
        Whether it needs more than the width of a phone.
    """

    caption: str
    svg: Markup
    wide: bool = False


def mart_figures(name: str, rows: Rows) -> list[MartFigure]:
    """Draw the figures of a mart; none for a mart without figures or without rows."""
    return _FIGURES[name](rows) if rows and name in _FIGURES else []


def as_markdown(figure: MartFigure) -> str:
    """Return a figure as Markdown with the picture inside, as Dagster shows it beside an asset."""
    picture = base64.b64encode(charts.as_picture(figure.svg).encode()).decode()
    return f"![{figure.caption}](data:image/svg+xml;base64,{picture})"


def _patients(rows: Rows) -> list[MartFigure]:
    """Draw the eight plots of the paper's Figure 2: analyzed patients only, as there."""
    analyzed = [r for r in rows if r["analyzed"]]
    if not analyzed:
        return []
    drawn = [
        MartFigure(caption, charts.histogram([r[column] for r in analyzed if r[column] is not None], axis))
        for caption, column, axis in (
            ("Videos per patient", "videos", "videos"),
            ("Frames per patient", "frames", "frames"),
            ("Seconds per patient", "seconds", "seconds"),
            ("Mean length of a patient's videos", "seconds_per_video", "seconds per video"),
        )
    ]
    words = {"M": "male", "F": "female", "light": "light (I-III)", "dark": "dark (IV-VI)"}
    for caption, column, order in (
        ("Patients by pain level", "pain_level", ("None", "Low", "Moderate", "Severe")),
        ("Patients with and without pain", "pain_class", ("No Pain", "Pain")),
        ("Patients by sex", "sex", ("M", "F")),
        ("Patients by skin type", "skin_group", ("light", "dark")),
    ):
        counts = [
            {"label": words.get(value, value), "n": sum(r[column] == value for r in analyzed)}
            for value in order
        ]
        drawn.append(MartFigure(caption, charts.bars(counts, "label", "n", caption)))
    return drawn


def _by_patient(*measures: tuple[str, str, str, float]) -> Callable[[Rows], list[MartFigure]]:
    """Draw how many patients have which value: caption, column, label of the axis, smallest width of a bar."""

    def draw(rows: Rows) -> list[MartFigure]:
        return [
            MartFigure(caption, charts.histogram(values, axis, finest=finest))
            for caption, column, axis, finest in measures
            if (values := [r[column] for r in rows if r[column] is not None])
        ]

    return draw


def _flags(rows: Rows) -> list[MartFigure]:
    shown = [{**r, "flag": str(r["flag"]).replace("_", " ")} for r in rows]
    caption = "Videos with each flag"
    return [MartFigure(caption, charts.bars(shown, "flag", "videos", caption, value_title="videos"))]


def _correlations(rows: Rows) -> list[MartFigure]:
    return [
        MartFigure("Pearson's r over submissions", charts.correlations(rows), wide=True),
        MartFigure(
            "Pearson's r over the patients' means", charts.correlations(rows, "pearson_patients"), wide=True
        ),
    ]


def _one(caption: str, draw: Callable[[Rows], Markup], *, wide: bool) -> Callable[[Rows], list[MartFigure]]:
    return lambda rows: [MartFigure(caption, draw(rows), wide)]


_FIGURES: Final[Mapping[str, Callable[[Rows], list[MartFigure]]]] = {
    "cohort_enrollment": _one("Enrolled in each cohort, of its goal", charts.cohorts, wide=False),
    "enrollment_progress": _one("Enrollment toward the goal", charts.enrollment, wide=True),
    "patient_summary": _patients,
    "submission_adherence": _one(
        "Days with a submission in each week, of the three asked for", charts.adherence, wide=True
    ),
    "pain_score_correlations": _correlations,
    "quality_over_time": _one("Quality week by week", charts.quality_over_time, wide=True),
    "quality_flags": _flags,
    "voice_summary": _by_patient(
        ("Pitch of each patient", "f0_median_hz", "median, Hz", 10),
        ("Pace of each patient", "speech_rate", "syllables per second", 0.2),
        ("Pauses of each patient", "pauses_per_minute", "per minute", 1),
    ),
    "text_summary": _by_patient(
        ("Words of each patient", "words_per_video", "in a video", 10),
        ("Words of each patient per minute", "words_per_minute", "per minute", 10),
        ("Pain words of each patient", "pain_word_share", "share of all words", 0.005),
    ),
    "thermal_summary": _by_patient(
        ("Forehead of each patient", "forehead_c", "median, °C", 0.2),
        ("Nose of each patient", "nose_c", "median, °C", 0.2),
    ),
    "identity_summary": _by_patient(
        ("Faces within the videos of each patient", "widest_distance", "greatest distance", 0.05),
        ("Faces across the videos of each patient", "largest_distance_to_others", "greatest distance", 0.05),
    ),
    "readings_summary": _by_patient(
        ("Readings of each patient", "read", "texts read", 1),
        ("Errors in the readings of each patient", "word_error_rate", "median word error rate", 0.02),
    ),
    "behavior_summary": _by_patient(
        ("Turning of each patient's head", "turn_speed_median", "median, degrees per second", 0.5),
        ("Stillness of each patient's head", "still_share", "share of the time", 0.05),
        ("Blinks of each patient", "blinks_per_minute", "per minute", 2),
    ),
}
