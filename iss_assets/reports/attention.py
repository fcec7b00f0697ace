"""Where in a patient's newest narratives the networks that read them looked, next to the videos' flags. Numbers only."""

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
from iss_assets.evaluation.frames import Rows, as_frame
from iss_assets.modeling.check_ins import CHECK_IN_EXPERIMENTS, SERIES_TITLES, experiment_named
from iss_assets.protocol import published
from iss_assets.protocol.flags import FLAGS
from iss_assets.reports import charts
from iss_assets.reports.behavior import VideoCurves, draw_newest_first, flagged_spans, video_title

SHOWN: Final = 6
"""Videos that are drawn, the newest ones."""

_NEWEST_SQL: Final = f"""
with looks as (
  select experiment, 0 as known, video_id, instance, start_s, end_s, attention
  from video_attention
  where patient_id = $patient
  union all by name
  select model as experiment, known, video_id, instance, start_s, end_s, attention
  from check_in_attention
  where patient_id = $patient
  qualify known = 0 or known = max(known) over (partition by model, video_id)
),
newest as (
  select a.video_id
  from (select distinct video_id from looks) as a
  left join {SENT_SQL} as b on b.submission_id = a.video_id
  order by b.sent desc nulls last, a.video_id desc
  limit {SHOWN}
)
select experiment, known, video_id, start_s, end_s, attention
from looks
where video_id in (select video_id from newest)
order by experiment, known, video_id, instance
"""


def read_attention(connection: duckdb.DuckDBPyConnection, patient_id: str) -> arrow.Table:
    """Return the attention to the patient's newest videos that have any, from an open warehouse.

    Of the networks that predict check-ins, as for a new patient (``known`` is 0) and with the most known check-ins.
    """
    return connection.execute(_NEWEST_SQL, {"patient": patient_id}).to_arrow_table()


def attention_curves(
    attention: Rows | None, when: Mapping[str, datetime], videos: pd.DataFrame, quality: pd.DataFrame
) -> list[VideoCurves]:
    """Draw the attention to a patient's newest videos, the newest first.

    A stretch is drawn as high as its attention is compared with an even look, in which all stretches of the video get the
    same: 1 is even, 2 is twice as much. Where a network predicts the check-in also from the patient's first ones, that is a second
    line on the same scale.

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


def answers_drawn(attention: Rows | None) -> tuple[list[str], bool]:
    """Return the answers that networks whose attention is drawn predict, and whether also those of a known patient."""
    if attention is None:
        return [], False
    rows = as_frame(attention)
    of_check_ins = [e.name for e in CHECK_IN_EXPERIMENTS if (rows["experiment"] == e.name).any()]
    return [short_name(name) for name in of_check_ins], bool((rows["known"] > 0).any())


def _curves(
    video_id: str, attention: pd.DataFrame, clock: datetime | None, length: float | None, judged: Any
) -> VideoCurves:
    duration = length or float(attention["end_s"].max())
    edges = np.unique(attention[["start_s", "end_s"]].to_numpy(float))
    middles = (edges[1:] + edges[:-1]) / 2
    looks = {
        name: [
            _over_even(own[(own["known"] > 0) == known], middles)
            for known in ([False, True] if own["known"].any() else [False])
        ]
        for name in _ordered(set(attention["experiment"]))
        for own in [attention[attention["experiment"] == name]]
    }
    # each stretch is level from its beginning to its end
    times = np.repeat(edges, 2)[1:-1].tolist()
    tracks = []
    for name, lines in looks.items():
        values = [[None if np.isnan(v) else round(float(v), 3) for v in np.repeat(look, 2)] for look in lines]
        top = 2 * max(1.0, float(np.ceil(np.nanmax(lines) / 2)))
        tracks.append(charts.Track(short_name(name), values, 0, top, " ×"))
    flags = list(judged.flags) if judged is not None else []
    most = "; ".join(
        f"{short_name(name)}{', known patient,' if known else ''} most at {edges[int(np.nanargmax(look))]:.0f} s"
        for name, lines in looks.items()
        for known, look in enumerate(lines)
        if not np.isnan(look).all()
    )
    return VideoCurves(
        video_title(video_id, clock, duration),
        ", ".join(FLAGS.get(flag, flag) for flag in flags),
        charts.video_curves(
            times, tracks, flagged_spans(judged), duration, f"Attention over {duration:.0f} seconds: {most}."
        ),
    )


def _over_even(own: pd.DataFrame, moments: NDArray[Any]) -> NDArray[Any]:
    """Return one experiment's attention at some moments, as a multiple of an even look; NaN outside of its stretches."""
    if own.empty:
        return np.full(len(moments), np.nan)
    start, end = own["start_s"].to_numpy(float), own["end_s"].to_numpy(float)
    place = np.searchsorted(start, moments, side="right") - 1
    inside = (place >= 0) & (moments < end[np.maximum(place, 0)])
    look: NDArray[Any] = np.where(inside, own["attention"].to_numpy(float)[place] * len(own), np.nan)
    return look


def _ordered(experiments: set[str]) -> list[str]:
    """Sort experiments of the paper's target as its table, and those of check-ins after them, in the order of their registry."""
    check_ins = [e.name for e in CHECK_IN_EXPERIMENTS if e.name in experiments]
    return published.order(sorted(experiments - set(check_ins))) + check_ins


def short_name(experiment: str) -> str:
    """Return an experiment's name without what all of them have in common; of one of check-ins, the answer that it predicts."""
    of_check_ins = experiment_named(experiment)
    if of_check_ins is None:
        return published.describe(experiment)[1].removeprefix("Attention ")
    answer = of_check_ins.target.title.capitalize()
    reads = [e.series for e in CHECK_IN_EXPERIMENTS if e.target == of_check_ins.target and e.series]
    return (
        answer
        if len(reads) == 1 or not of_check_ins.series
        else f"{answer}, {SERIES_TITLES[of_check_ins.series]}"
    )
