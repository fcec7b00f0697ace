"""Which measures of a patient's videos the pages draw over time, and under which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pandas as pd
from markupsafe import Markup

from iss_assets.evaluation.frames import number_or_none
from iss_assets.reports import charts
from iss_assets.schemas.registry import BY_NAME, whole_videos


@dataclass(frozen=True)
class Measure:
    """A column that is drawn over time, with its title and unit."""

    column: str
    title: str
    unit: str


SHOWN: Final[Mapping[str, tuple[str, tuple[Measure, ...]]]] = {
    "face_behavior_summary": (
        "Head and face",
        (
            Measure("turn_speed_median", "Turning of the head", "median, degrees per second"),
            Measure("still_share", "Head still", "share of the time"),
            Measure("blinks_per_minute", "Blinks", "per minute"),
            Measure("mouth_motion", "Motion of the mouth", "in distances of the eyes"),
        ),
    ),
    "voice_features": (
        "Voice",
        (
            Measure("f0_median_hz", "Pitch", "median, Hz"),
            Measure("speech_rate", "Pace", "syllables per second"),
            Measure("phonation_share", "Speech", "share of the time, the rest is pauses"),
            Measure("pause_median_s", "Pauses", "median length, s"),
            Measure("hnr_db", "Clearness of the voice", "harmonics to noise, dB"),
        ),
    ),
    "text_features": (
        "Words",
        (
            Measure("words", "Words", "in the video"),
            Measure("words_per_minute", "Words", "per minute"),
            Measure("pain_word_share", "Pain words", "share of all words"),
            Measure("first_person_share", "I, me, my", "share of all words"),
        ),
    ),
    "thermal": (
        "Temperature of the face",
        (
            Measure("forehead_c", "Forehead", "median, °C"),
            Measure("nose_c", "Nose", "median, °C"),
        ),
    ),
}
"""Tables with a heading and their measures, in the order of the page."""


@dataclass(frozen=True)
class MeasurePlots:
    """A heading with its charts: title, unit, chart."""

    heading: str
    plots: list[tuple[str, str, Markup]]


def one_per_video(table: str) -> str:
    """Return the query for the rows of a table that describe whole videos."""
    # a thermal picture may have no video
    columns = "*, submission_id as video_id" if "submission_id" in BY_NAME[table].__key__ else "*"
    return f"select {columns} from {table} where {whole_videos(table)}"


def over_time(tables: Mapping[str, pd.DataFrame], when: Mapping[str, datetime]) -> list[MeasurePlots]:
    """Draw a patient's measures over time; what was never measured is left out.

    Parameters
    ----------
    tables : mapping of str to pandas.DataFrame
        The patient's rows of each table of `SHOWN`, one per video.
    when : mapping of str to datetime
        Local time of each video that has a questionnaire; others have no time and are left out.
    """
    found = []
    for name, (heading, measures) in SHOWN.items():
        rows = tables.get(name, pd.DataFrame())
        if rows.empty:
            continue
        timed = rows.assign(at=rows["video_id"].map(when)).dropna(subset=["at"]).sort_values("at")
        plots = [
            (
                measure.title,
                measure.unit,
                charts.time_line(
                    list(timed["at"]),
                    [number_or_none(v) for v in timed[measure.column]],
                    measure.title,
                    *charts.range_of(timed[measure.column].dropna().tolist()),
                ),
            )
            for measure in measures
            if timed[measure.column].notna().any()
        ]
        if plots:
            found.append(MeasurePlots(heading, plots))
    return found
