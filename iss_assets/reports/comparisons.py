"""What a patient's page compares: the narrative with the patient's own reading, and faces with that of the first video.

Both come from SQL models, which a new home does not have yet; nothing is shown then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import duckdb
import pandas as pd
import pyarrow as arrow
from markupsafe import Markup

from iss_assets.evaluation.frames import Rows, as_frame, rows_of
from iss_assets.media.identity import limit_of
from iss_assets.reports import charts, report_tables
from iss_assets.reports.measures import SHOWN
from iss_assets.settings import QualitySettings

_SQL: Final[Mapping[str, str]] = {
    "reference_differences": """
select feature, measure, median(narrative) as narrative, median(reading) as reading, median(difference) as difference, count(*) as n
from reference_differences
where patient_id = $patient and read
group by feature, measure
""",
    "face_distances": """
select video_id, other_video_id, method, distance from face_distances where patient_id = $patient
""",
}
"""SQL model to the query for one patient's page. Without a text that was read, a reading is no reference."""

_FEATURES: Final[Mapping[str, str]] = {
    "face_behavior_summary": "behavior",
    "voice_features": "voice",
    "text_features": "text",
}
"""Table of `measures.SHOWN` to its name in ``reference_differences``."""

_COUNTS: Final = frozenset({"words"})
"""Columns that grow with the length of a video, and a reading is short."""


@dataclass(frozen=True)
class Comparisons:
    """The rows of one patient, None where the SQL model is not built.

    Attributes
    ----------
    readings
        A row per feature and measure: medians of narrative, reading and difference, and over how many videos.
    faces
        A row per pair of videos: ``video_id``, ``other_video_id``, ``method``, ``distance``.
    """

    readings: Rows | None = None
    faces: Rows | None = None


def read_comparisons(connection: duckdb.DuckDBPyConnection, patient_id: str) -> Comparisons:
    """Return what a patient's page compares, from an open warehouse."""
    built = {
        name
        for (name,) in connection.execute(
            "select table_name from information_schema.tables where table_schema = 'main'"
        ).fetchall()
    }

    def read(name: str) -> arrow.Table | None:
        if name not in built:
            return None
        return connection.execute(_SQL[name], {"patient": patient_id}).to_arrow_table()

    return Comparisons(read("reference_differences"), read("face_distances"))


def beside_readings(readings: Rows | None) -> report_tables.DataTable | None:
    """Return a table of the narrative's measures beside those of the reading; None if no text was read."""
    known = {} if readings is None else {(r.feature, r.measure): r for r in rows_of(as_frame(readings))}
    rows = []
    for table, feature in _FEATURES.items():
        for measure in SHOWN[table][1]:
            found = known.get((feature, measure.column))
            if found is None or measure.column in _COUNTS:
                continue
            digits = _digits(max(abs(found.narrative), abs(found.reading)))
            rows.append(
                (
                    report_tables.Cell(measure.title, small=measure.unit),
                    report_tables.number(found.narrative, digits),
                    report_tables.number(found.reading, digits),
                    report_tables.number(found.difference, digits, signed=True),
                    report_tables.count(found.n),
                )
            )
    if not rows:
        return None
    return report_tables.simple(
        "The narrative (Question 11) beside the reading of a neutral text (Question 10).",
        ["Measure", "Narrative", "Reading", "Difference", "Check-ins"],
        rows,
        "No text was read.",
        "Medians over the check-ins in which a text was read; the difference is taken within each check-in. The reading is the "
        "patient’s own reference.",
    )


def _digits(value: float) -> int:
    """Return the decimal places that show about three digits."""
    return 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3


def beside_first_face(
    faces: Rows | None, when: Mapping[str, datetime], settings: QualitySettings
) -> tuple[str, Markup] | None:
    """Draw how far the face in each later video is from that in the first, with the limit of one person.

    Parameters
    ----------
    faces : Rows or None
        As of `Comparisons`.
    when : mapping of str to datetime
        Local time of each video that has a questionnaire; others have no time and are left out.
    settings : QualitySettings
        The limit.

    Returns
    -------
    tuple of (str, Markup), optional
        Title and chart; None with fewer than two videos.
    """
    pairs = pd.DataFrame() if faces is None else as_frame(faces)
    if pairs.empty:
        return None
    pairs = pairs[pairs["video_id"].isin(when) & pairs["other_video_id"].isin(when)]
    if pairs.empty:
        return None
    first = min({*pairs["video_id"], *pairs["other_video_id"]}, key=lambda video: (when[video], video))
    others = {
        r.video_id if r.other_video_id == first else r.other_video_id: r
        for r in rows_of(pairs)
        if first in (r.video_id, r.other_video_id)
    }
    later = sorted(others, key=lambda video: (when[video], video))
    limit = limit_of(others[later[0]].method, settings)
    distances = [float(others[video].distance) for video in later]
    high = max(1.0, math.ceil(max(distances) * 5) / 5)
    title = "Distance to the face of the first video"
    return title, charts.time_line([when[video] for video in later], distances, title, 0, high, limit=limit)
