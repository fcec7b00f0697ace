"""Where models looked, on a patient's page: beside an even look, with gaps, next to the flags."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from iss_assets.reports.attention import SHOWN, attention_curves, read_attention
from iss_assets.reports.behavior import VideoCurves
from iss_assets.reports.patient_report import write_patient_report
from iss_assets.schemas.intake import BpiScores
from iss_assets.schemas.modeling import VideoAttention
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.reports.test_behavior import points
from iss_assets_tests.reports.test_study_report import Page, patient
from iss_assets_tests.times import time_columns

LEFT, RIGHT = 118.0, 714.0
"""Ends of the axis of time in the chart."""


def attention_rows(video: str, shares: dict[int, float], experiment: str = "mil_mesh") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "experiment": experiment,
            "video_id": video,
            "start_s": [float(s) for s in shares],
            "end_s": [s + 1.0 for s in shares],
            "attention": list(shares.values()),
        }
    )


def drawn(
    rows: pd.DataFrame, ids: list[str], quality: list[dict[str, object]] | None = None
) -> list[VideoCurves]:
    when = {i: datetime(2021, 3, 1) + timedelta(days=n) for n, i in enumerate(ids)}
    judged = pd.DataFrame(quality or [], columns=["video_id", "flags", "moments"])
    return attention_curves(rows, when, pd.DataFrame({"video_id": ids, "duration_s": 8.0}), judged)


def test_a_stretch_is_as_high_as_its_attention_beside_an_even_look_and_missing_ones_are_a_gap() -> None:
    (video,) = drawn(attention_rows("a", {0: 0.125, 1: 0.5, 2: 0.125, 5: 0.25}), ["a"])
    lines = points(str(video.svg), "thin series-0")
    assert len(lines) == 2, "seconds 3 and 4 were not measured"
    seconds = [(x - LEFT) / (RIGHT - LEFT) * 8 for x, _ in lines[0]]
    assert seconds == pytest.approx([0, 1, 1, 2, 2, 3], abs=0.02)
    top, bottom = lines[0][2][1], lines[0][0][1]
    even, zero = 8.0, 58.0  # 2 × is the top of the scale, and 0 its bottom, 50 units apart
    assert [top, bottom] == pytest.approx([even, zero - 25 / 2], abs=0.1), (
        "half of all on one of four: 2 ×; 0.5 ×"
    )
    assert [(x - LEFT) / (RIGHT - LEFT) * 8 for x, _ in lines[1]] == pytest.approx([5, 6], abs=0.02)
    assert "2 ×" in video.svg and "most at 1 s" in video.svg


def test_flags_are_marked_below_the_attention_where_they_hold() -> None:
    quality: list[dict[str, object]] = [
        {"video_id": "a", "flags": ["glare", "quiet"], "moments": json.dumps({"glare": [[2.0, 6.0]]})}
    ]
    (video,) = drawn(attention_rows("a", {0: 0.5, 1: 0.5}), ["a"], quality)
    (mark,) = re.findall(
        r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="[\d.]+" class="span flag"', video.svg
    )
    assert [(float(mark[0]) - LEFT) / 596 * 8, float(mark[1]) / 596 * 8] == pytest.approx([2, 4], abs=0.02)
    assert video.flags == "glare, quiet"


def test_each_experiment_has_its_own_line_on_its_own_scale_and_the_newest_video_comes_first() -> None:
    rows = pd.concat(
        [
            attention_rows("a", {0: 0.5, 1: 0.5}),
            attention_rows("b", {0: 0.9, 1: 0.02, 2: 0.02, 3: 0.02, 4: 0.04}, "mil_behavior"),
            attention_rows("b", {0: 0.5, 1: 0.5}),
        ]
    )
    newest, oldest = drawn(rows, ["a", "b"])
    assert newest.title == "2 Mar 2021 · b · 8 s" and oldest.title == "1 Mar 2021 · a · 8 s"
    titles = re.findall(r'class="track"[^>]*>([^<]+)<', str(newest.svg))
    assert titles == ["Mesh", "Behavior"]
    assert "6 ×" in newest.svg and "2 ×" in newest.svg


def test_the_page_shows_it_and_says_what_it_is_not(study: SimpleNamespace, tmp_path: Path) -> None:
    ids = [r["video_id"] for r in study.videos.to_pylist() if r["patient_id"] == "0007"]
    rows = attention_rows(ids[0], {0: 0.25, 1: 0.75})
    page = Page(write_patient_report(patient(study, "0007", attention=rows), tmp_path / "p.html").read_text())
    assert "Where the models looked" in page.text and "not that it was right" in page.text
    assert sum(t == "details" and a.get("class") == "curves" for t, a in page.tags) == 1
    bare = Page(write_patient_report(patient(study, "0007"), tmp_path / "bare.html").read_text())
    assert "No model on whole videos has been tested on this patient." in bare.text


def test_the_newest_videos_of_the_patient_are_read(tmp_path: Path) -> None:
    store = Warehouse(tmp_path / "warehouse.duckdb")
    start = pd.Timestamp("2021-03-01", tz="UTC")
    scores = [
        {"submission_id": f"v{n}", "patient_id": p, "missing_scores": 9,
         **time_columns((start + pd.Timedelta(days=n)).to_pydatetime())}
        for p, ns in (("0001", range(8)), ("0002", range(8, 9))) for n in ns
    ]  # fmt: skip
    attention = [
        {"experiment": "mil_mesh", "split": 1, "patient_id": s["patient_id"], "video_id": s["submission_id"], "instance": i,
         "start_s": float(i), "end_s": i + 1.0, "attention": 0.5, "fingerprint": "f"}
        for s in scores for i in range(2)
    ]  # fmt: skip
    store.replace(BpiScores, BpiScores.from_rows(scores), {})
    store.replace(VideoAttention, VideoAttention.from_rows(attention), {})
    with store.read() as connection:
        rows = read_attention(connection, "0001").to_pandas()
    assert sorted(set(rows["video_id"])) == [f"v{n}" for n in range(8 - SHOWN, 8)]
    assert len(rows) == 2 * SHOWN
