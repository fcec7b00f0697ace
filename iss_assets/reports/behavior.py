"""Curves of head and face over the seconds of a patient's newest videos, next to their flags. Numbers only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import duckdb
import numpy as np
import pandas as pd
import pyarrow as arrow
from numpy.typing import NDArray

from iss_assets.evaluation.check_in_order import SENT_SQL
from iss_assets.evaluation.frames import Rows, as_frame, number_or_none, rows_of
from iss_assets.protocol.flags import FLAGS
from iss_assets.reports import charts

SHOWN: Final = 6
"""Videos whose curves are drawn, the newest ones; each takes about 20 kB of the page."""
_COLUMNS: Final = 220
"""Points of a curve, as many as its width shows: each is the mean of the samples that fall on it."""
_GAP_S: Final = 0.5
"""Samples without a value for this long break a curve."""

_NEWEST_SQL: Final = f"""
with newest as (
  select s.video_id
  from face_behavior_summary as s
  left join {SENT_SQL} as b on b.submission_id = s.video_id
  where s.patient_id = $patient and s.chunk_index = -1 and s.measured > 0
  order by b.sent desc nulls last, s.video_id desc
  limit {SHOWN}
)
select
  video_id, time_s, repeated, facing, yaw_deg, pitch_deg, eye_openness, blink, mouth_open, lip_corners, brow_lowering
from face_behavior
where patient_id = $patient and video_id in (select video_id from newest)
order by video_id, frame_index
"""


@dataclass(frozen=True)
class VideoCurves:
    """The curves of one video.

    Attributes
    ----------
    title : str
        Day, id and length of the video.
    flags : str
        Its flags in words; empty without any.
    svg : Markup
    """

    title: str
    flags: str
    svg: Any = field(repr=False)


def read_newest(connection: duckdb.DuckDBPyConnection, patient_id: str) -> arrow.Table:
    """Return the samples of the patient's newest videos in which a face was measured, from an open warehouse."""
    return connection.execute(_NEWEST_SQL, {"patient": patient_id}).to_arrow_table()


def behavior_curves(
    samples: Rows | None, when: Mapping[str, datetime], videos: pd.DataFrame, quality: pd.DataFrame
) -> list[VideoCurves]:
    """Draw the curves of a patient's newest videos, the newest first.

    Parameters
    ----------
    samples : Rows or None
        Rows of `read_newest`; None where behavior was not measured.
    when : mapping of str to datetime
        When each video was submitted, in the patient's local time.
    videos, quality : pandas.DataFrame
        The patient's rows of ``videos`` and ``video_quality``.
    """
    return draw_newest_first(_curves, samples, when, videos, quality)


def draw_newest_first(
    draw: Callable[[str, pd.DataFrame, datetime | None, float | None, Any], VideoCurves],
    rows: Rows | None,
    when: Mapping[str, datetime],
    videos: pd.DataFrame,
    quality: pd.DataFrame,
) -> list[VideoCurves]:
    """Draw each video of a patient, the newest first.

    Parameters
    ----------
    draw : callable
        Takes a video's id, its rows, when it was submitted, its length in seconds, and its row of ``video_quality``.
    rows : Rows or None
        What is drawn, with ``video_id``; nothing is drawn for None.
    when, videos, quality
        As of `behavior_curves`.
    """
    if rows is None:
        return []
    length = dict(zip(videos["video_id"], videos["duration_s"], strict=True))
    judged = {row.video_id: row for row in rows_of(quality)}
    of = {str(video_id): own for video_id, own in as_frame(rows).groupby("video_id")}
    newest = sorted(of, key=lambda v: (when.get(v, datetime.min), v), reverse=True)
    return [draw(v, of[v], when.get(v), number_or_none(length.get(v)), judged.get(v)) for v in newest]


def _curves(
    video_id: str, samples: pd.DataFrame, clock: datetime | None, length: float | None, judged: Any
) -> VideoCurves:
    new = samples[~samples["repeated"].astype(bool)]
    time = new["time_s"].to_numpy(float)
    facing = new["facing"].to_numpy(bool)
    duration = length or float(time.max(initial=0.0))
    columns = min(_COLUMNS, max(1, round(duration * 5)))
    place = np.minimum((time / max(duration, 1e-9) * columns).astype(int), columns - 1)
    centers = ((np.arange(columns) + 0.5) * duration / columns).tolist()
    bridged = int(_GAP_S * columns / max(duration, 1e-9))

    def binned(name: str, known: NDArray[Any]) -> list[float | None]:
        return _means(new[name].to_numpy(float), place, columns, known, bridged)

    everywhere = np.ones(len(new), bool)
    tracks = [
        charts.Track("Head", [binned("yaw_deg", everywhere), binned("pitch_deg", everywhere)], -30, 30, "°"),
        charts.Track("Eyes open", [binned("eye_openness", facing)], 0, 1.2),
        charts.Track("Mouth", [binned("mouth_open", facing), binned("lip_corners", facing)], -0.1, 0.3),
        charts.Track("Brows lowered", [binned("brow_lowering", facing)], -0.06, 0.06),
    ]
    flags = list(judged.flags) if judged is not None else []
    blinks = _spans(time, new["blink"].to_numpy(float) == 1)
    rows = [
        charts.SpanRow("Blinks", [((a + b) / 2, (a + b) / 2) for a, b in blinks], "moment"),
        charts.SpanRow("Turned away", _spans(time, ~facing), "away"),
        *flagged_spans(judged),
    ]
    rows = [row for row in rows if row.spans or row.kind == "moment"]
    spoken = f"Behavior in video {video_id}: {len(blinks)} blinks, head turned away in {1 - facing.mean():.0%} of the pictures."
    return VideoCurves(
        video_title(video_id, clock, duration),
        ", ".join(FLAGS.get(flag, flag) for flag in flags),
        charts.video_curves(centers, tracks, rows, duration, spoken),
    )


def video_title(video_id: str, clock: datetime | None, duration: float) -> str:
    """Return a video's day, id and length."""
    day = f"{clock:%-d %b %Y}" if clock is not None else "no questionnaire"
    return f"{day} · {video_id} · {duration:.0f} s"


def flagged_spans(judged: Any) -> list[charts.SpanRow]:
    """Return a row for each flag of a video that holds for parts of it, from its row of ``video_quality``, if any."""
    moments: dict[str, list[tuple[float, float]]] = json.loads((judged and judged.moments) or "{}")
    return [
        charts.SpanRow(FLAGS.get(flag, flag).capitalize(), [(a, b) for a, b in moments[flag]], "flag")
        for flag in (list(judged.flags) if judged is not None else [])
        if moments.get(flag)
    ]


def _means(
    values: NDArray[Any], place: NDArray[Any], columns: int, known: NDArray[Any], bridged: int
) -> list[float | None]:
    """Return the mean of the samples of each column; a few columns without any are bridged, more are a gap."""
    known = known & np.isfinite(values)
    count = np.bincount(place[known], minlength=columns)
    total = np.bincount(place[known], values[known], minlength=columns)
    filled = np.flatnonzero(count)
    if not len(filled):
        return [None] * columns
    mean = np.interp(np.arange(columns), filled, total[filled] / count[filled])
    after = filled[np.minimum(np.searchsorted(filled, np.arange(columns)), len(filled) - 1)]
    before = filled[np.maximum(np.searchsorted(filled, np.arange(columns), side="right") - 1, 0)]
    inside = (before <= np.arange(columns)) & (np.arange(columns) <= after) & (after - before <= bridged + 1)
    return [round(float(m), 4) if i else None for m, i in zip(mean, inside, strict=True)]


def _spans(time: NDArray[Any], holds: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return the spans of neighboring samples for which something holds."""
    edges = np.flatnonzero(np.diff(np.r_[False, holds, False]))
    return [(float(time[a]), float(time[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]
