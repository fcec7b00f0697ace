"""Where models looked, on a patient's page: beside an even look, with gaps, next to the flags."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from iss_assets.modeling import check_ins
from iss_assets.modeling.check_ins import CheckInExperiment
from iss_assets.protocol.targets import target
from iss_assets.reports import attention
from iss_assets.reports.attention import SHOWN, attention_curves, read_attention, short_name
from iss_assets.reports.behavior import VideoCurves
from iss_assets.reports.patient_report import write_patient_report
from iss_assets.schemas.check_ins import CheckInAttention
from iss_assets.schemas.intake import BpiScores
from iss_assets.schemas.modeling import VideoAttention
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.reports.test_behavior import points
from iss_assets_tests.reports.test_study_report import Page, patient
from iss_assets_tests.times import time_columns

LEFT, RIGHT = 118.0, 714.0
"""Ends of the axis of time in the chart."""


def attention_rows(
    video: str, shares: dict[int, float], experiment: str = "mil_mesh", known: int = 0
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "experiment": experiment,
            "known": known,
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
    for words in (page.text, bare.text):
        assert "as for a new patient" not in words and "predicted the answer" not in words


def test_networks_of_check_ins_are_named_by_their_answer_with_a_line_for_each_protocol_on_one_scale() -> None:
    rows = pd.concat(
        [
            attention_rows("a", {0: 0.25, 2: 0.25, 4: 0.25, 6: 0.25}, "interference_attention"),
            attention_rows("a", {0: 0.75, 2: 0.25, 4: 0.0, 6: 0.0}, "interference_attention", known=3),
            attention_rows("a", {0: 0.5, 2: 0.5}, "pain_now_attention"),
            attention_rows("a", {0: 0.5, 1: 0.5}),
            attention_rows("b", {0: 0.5, 2: 0.5}, "pain_now_attention"),
        ]
    )
    first_check_in, later = sorted(drawn(rows, ["a", "b"]), key=lambda video: "· b ·" not in video.title)
    assert re.findall(r'class="track"[^>]*>([^<]+)<', str(later.svg)) == [
        "Mesh",
        "Pain now",
        "Pain interference",
    ]
    assert (
        "Pain interference, known patient, most at 0 s" in later.svg and "Pain now most at 0 s" in later.svg
    )
    # three of four stretches' worth of attention on one: 3 × of a scale of 4 ×; an even look is 1 ×
    new, known = (points(str(later.svg), f"thin series-{n}") for n in (0, 1))
    band = 8.0 + 2 * 68
    assert known[0][0][1] == pytest.approx(band + 50 * (1 - 3 / 4), abs=0.1)
    assert new[-1][0][1] == pytest.approx(band + 50 * (1 - 1 / 4), abs=0.1)
    assert "4 ×" in later.svg
    # nothing is known of a patient at the first check-in
    assert points(str(first_check_in.svg), "thin series-1") == []


def test_rival_networks_of_an_answer_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CheckInExperiment(
        "pain_now_gru", target("pain_now"), (), "attention", series="behavior_series", over_time="gru"
    )
    assert short_name("pain_now_attention") == "Pain now"
    more = (*check_ins.CHECK_IN_EXPERIMENTS, entry)
    for module in (attention, check_ins):
        monkeypatch.setattr(module, "CHECK_IN_EXPERIMENTS", more)
    assert short_name("pain_now_gru") == "Pain now, behavior over time"
    assert short_name("pain_now_attention") == "Pain now, pictures of the face"


def test_the_page_says_which_line_is_which_and_for_which_answers(
    study: SimpleNamespace, tmp_path: Path
) -> None:
    ids = [r["video_id"] for r in study.videos.to_pylist() if r["patient_id"] == "0007"]
    new = attention_rows(ids[0], {0: 0.25, 2: 0.75}, "pain_now_attention")
    known = attention_rows(ids[0], {0: 0.5, 2: 0.5}, "pain_now_attention", known=1)
    for rows, both in ((new, False), (pd.concat([new, known]), True)):
        given = patient(study, "0007", attention=rows)
        page = Page(write_patient_report(given, tmp_path / "p.html").read_text())
        assert "Pain now: what the models of these answers looked at" in page.text
        assert ("with the patient’s first check-ins known" in page.text) is both


def test_the_newest_videos_of_the_patient_are_read(tmp_path: Path) -> None:
    store = Warehouse(tmp_path / "warehouse.duckdb")
    start = pd.Timestamp("2021-03-01", tz="UTC")
    scores = [
        {"submission_id": f"v{n}", "patient_id": p, "missing_scores": 9,
         **time_columns((start + pd.Timedelta(days=n)).to_pydatetime())}
        for p, ns in (("0001", range(8)), ("0002", range(8, 9))) for n in ns
    ]  # fmt: skip
    looks = [
        {"experiment": "mil_mesh", "split": 1, "patient_id": s["patient_id"], "video_id": s["submission_id"], "instance": i,
         "start_s": float(i), "end_s": i + 1.0, "attention": 0.5, "fingerprint": "f"}
        for s in scores for i in range(2)
    ]  # fmt: skip
    store.replace(BpiScores, BpiScores.from_rows(scores), {})
    store.replace(VideoAttention, VideoAttention.from_rows(looks), {})
    # of networks of check-ins: of the newest four videos, for new patients and after one and three check-ins
    of_check_ins = [
        {"target": "pain_now", "protocol": "known patient" if k else "new patient", "known": k, "model": "pain_now_attention",
         "patient_id": p, "video_id": f"v{n}", "instance": 0, "start_s": 0.0, "end_s": 2.0, "attention": 1.0 - k / 10}
        for p, ns in (("0001", range(5, 9)), ("0002", range(9, 10))) for n in ns for k in (0, 1, 3)
        if n != 6 or k < 3
    ]  # fmt: skip
    with store.read() as connection:
        rows = read_attention(connection, "0001").to_pandas()
    assert sorted(set(rows["video_id"])) == [f"v{n}" for n in range(8 - SHOWN, 8)]
    assert len(rows) == 2 * SHOWN and set(rows["known"]) == {0}
    store.replace(CheckInAttention, CheckInAttention.from_rows(of_check_ins), {})
    with store.read() as connection:
        rows = read_attention(connection, "0001").to_pandas()
    # a video that only they have read counts, too; without a questionnaire its time is unknown, and it comes last
    assert sorted(set(rows["video_id"])) == [f"v{n}" for n in range(8 - SHOWN, 8)]
    own = rows[rows["experiment"] == "pain_now_attention"]
    assert sorted(zip(own["video_id"], own["known"], strict=True)) == [
        ("v5", 0), ("v5", 3), ("v6", 0), ("v6", 1), ("v7", 0), ("v7", 3)
    ]  # fmt: skip
    with store.write() as writer:
        writer.execute("delete from video_attention")
    with store.read() as connection:
        rows = read_attention(connection, "0001").to_pandas()
    assert set(rows["video_id"]) == {"v5", "v6", "v7", "v8"}
