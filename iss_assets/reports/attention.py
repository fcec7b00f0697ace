"""Where in a patient's newest narratives the models on whole videos looked, next to the videos' flags. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import duckdb
import numpy as np
import pandas as pd
import pyarrow as arrow
from numpy.typing import NDArray

from iss_assets.evaluation.check_in_order import SENT_SQL
from iss_assets.evaluation.frames import Rows
from iss_assets.protocol import published
from iss_assets.protocol.flags import FLAGS
from iss_assets.reports import charts
from iss_assets.reports.behavior import VideoCurves, draw_newest_first, flagged_spans, video_title

SHOWN: Final = 6
"""Videos that are drawn, the newest ones."""

_NEWEST_SQL: Final = f"""
with newest as (
  select a.video_id
  from (select distinct video_id from video_attention where patient_id = $patient) as a
  left join {SENT_SQL} as b on b.submission_id = a.video_id
  order by b.sent desc nulls last, a.video_id desc
  limit {SHOWN}
)
select experiment, video_id, start_s, end_s, attention
from video_attention
where patient_id = $patient and video_id in (select video_id from newest)
order by experiment, video_id, instance
"""


def read_attention(connection: duckdb.DuckDBPyConnection, patient_id: str) -> arrow.Table:
    """Return the attention to the patient's newest videos that have any, from an open warehouse."""
    return connection.execute(_NEWEST_SQL, {"patient": patient_id}).to_arrow_table()


def attention_curves(
    attention: Rows | None, when: Mapping[str, datetime], videos: pd.DataFrame, quality: pd.DataFrame
) -> list[VideoCurves]:
    """Draw the attention to a patient's newest videos, the newest first.

    A stretch is drawn as high as its attention is compared with an even look, in which all stretches of the video get the
    same: 1 is even, 2 is twice as much.

    Parameters
    ----------
    attention : Rows or None
        Rows of `read_attention`; None where nothing has been trained.
    when : mapping of str to datetime
        When each video was submitted, in the patient's local time.
    videos, quality : pandas.DataFrame
        The patient's rows of ``videos`` and ``video_quality``.
    """
    return draw_newest_first(_curves, attention, when, videos, quality)


def _curves(
    video_id: str, attention: pd.DataFrame, clock: datetime | None, length: float | None, judged: Any
) -> VideoCurves:
    duration = length or float(attention["end_s"].max())
    edges = np.unique(attention[["start_s", "end_s"]].to_numpy(float))
    looks = {
        name: _over_even(attention[attention["experiment"] == name], (edges[1:] + edges[:-1]) / 2)
        for name in published.order(sorted(set(attention["experiment"])))
    }
    # each stretch is level from its beginning to its end
    times = np.repeat(edges, 2)[1:-1].tolist()
    tracks = []
    for name, look in looks.items():
        values = [None if np.isnan(v) else round(float(v), 3) for v in np.repeat(look, 2)]
        top = 2 * max(1.0, float(np.ceil(np.nanmax(look) / 2)))
        tracks.append(charts.Track(_short(name), [values], 0, top, " ×"))
    flags = list(judged.flags) if judged is not None else []
    most = "; ".join(f"{_short(n)} most at {edges[int(np.nanargmax(v))]:.0f} s" for n, v in looks.items())
    return VideoCurves(
        video_title(video_id, clock, duration),
        ", ".join(FLAGS.get(flag, flag) for flag in flags),
        charts.video_curves(
            times, tracks, flagged_spans(judged), duration, f"Attention over {duration:.0f} seconds: {most}."
        ),
    )


def _over_even(own: pd.DataFrame, moments: NDArray[Any]) -> NDArray[Any]:
    """Return one experiment's attention at some moments, as a multiple of an even look; NaN outside of its stretches."""
    start, end = own["start_s"].to_numpy(float), own["end_s"].to_numpy(float)
    place = np.searchsorted(start, moments, side="right") - 1
    inside = (place >= 0) & (moments < end[np.maximum(place, 0)])
    look: NDArray[Any] = np.where(inside, own["attention"].to_numpy(float)[place] * len(own), np.nan)
    return look


def _short(experiment: str) -> str:
    """Return an experiment's name without what all of them have in common."""
    return published.describe(experiment)[1].removeprefix("Attention ")
