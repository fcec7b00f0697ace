"""Curves of behavior on a patient's page: with gaps, next to the flags, on a page that stays small."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from iss_assets.features.behavior import measure_behavior
from iss_assets.reports.behavior import SHOWN, VideoCurves, behavior_curves, read_newest
from iss_assets.reports.patient_report import write_patient_report
from iss_assets.schemas.base import Table
from iss_assets.schemas.behavior import FaceBehavior, FaceBehaviorSummary
from iss_assets.schemas.intake import BpiScores
from iss_assets.settings import BehaviorSettings, FaceSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.features.synthetic_head import expression, film, turned
from iss_assets_tests.reports.test_study_report import Page, patient
from iss_assets_tests.times import time_columns


def measured(seconds: float = 20.0) -> dict[str, pd.DataFrame]:
    """Return the rows of a head that turns and blinks, and is missing for 3 of its seconds from the eighth on."""
    heads: list[Any] = []
    for n in range(round(seconds * 10)):
        t = n / 10
        blink = float(np.clip(2 - 4 * abs(t % 4 - 2) / 0.4, 0, 1))
        away = 50.0 if 14 <= t < 16 else 8 * np.sin(t)
        heads.append(None if 8 <= t < 11 else turned(expression(blink=blink), away, 0, 0))
    made = measure_behavior(*film(heads), BehaviorSettings(), FaceSettings())
    return {name: rows.to_pandas() for name, rows in made.items()}


def behavior_rows(ids: list[str]) -> pd.DataFrame:
    """Return the samples of a patient's page for these videos, the oldest first."""
    rows = measured()["face_behavior"]
    return pd.concat([rows.assign(video_id=i) for i in ids[-SHOWN:]], ignore_index=True)


def drawn(ids: list[str], quality: list[dict[str, Any]] | None = None) -> list[VideoCurves]:
    when = {i: datetime(2021, 3, 1) + timedelta(days=2 * n) for n, i in enumerate(ids)}
    judged = pd.DataFrame(quality or [], columns=["video_id", "flags", "moments"])
    videos = pd.DataFrame({"video_id": ids, "duration_s": 20.0})
    return behavior_curves(behavior_rows(ids), when, videos, judged)


def points(svg: str, css: str) -> list[list[tuple[float, float]]]:
    """Return the points of every line of a class."""
    lines = re.findall(rf'<polyline points="([^"]+)" class="curve {css}"', svg)
    return [[(float(x), float(y)) for x, y in (p.split(",") for p in line.split())] for line in lines]


def test_curves_are_drawn_against_time_and_broken_where_no_face_was() -> None:
    (video,) = drawn(["a"])
    yaw = points(str(video.svg), "thin series-0")[:2]
    left, right = 118.0, 714.0
    before, after = ([x for x, _ in line] for line in yaw)
    at = [(x - left) / (right - left) * 20 for x in (before[0], before[-1], after[0], after[-1])]
    assert at == pytest.approx([0, 8, 11, 20], abs=0.3)
    eyes = points(str(video.svg), "thin series-0")[2:]
    assert len(eyes) > 2, "the head is turned away from 14 to 16 s, and what its face does then is not drawn"


def test_blinks_flags_and_turned_heads_are_marked_where_they_are() -> None:
    quality = [{"video_id": "a", "flags": ["dark", "quiet"], "moments": json.dumps({"dark": [[5.0, 10.0]]})}]
    (video,) = drawn(["a"], quality)
    marks = re.findall(
        r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="[\d.]+" class="span (\w+)"', str(video.svg)
    )
    spans = {
        kind: [((float(x) - 118) / 596 * 20, float(w) / 596 * 20) for x, w, k in marks if k == kind]
        for kind in ("moment", "flag", "away")
    }
    assert [start for start, _ in spans["moment"]] == pytest.approx([2, 6, 18], abs=0.15), "14 s: turned away"
    assert spans["flag"] == [pytest.approx((5, 5), abs=0.05)]
    assert spans["away"] == [pytest.approx((14, 1.9), abs=0.1)]
    assert video.flags == "too dark, quiet", "a flag about the whole video is in words only"
    assert "Too dark" in video.svg and "Quiet" not in video.svg


def test_the_newest_video_comes_first() -> None:
    titles = [video.title for video in drawn(["a", "b", "c"])]
    assert titles == ["5 Mar 2021 · c · 20 s", "3 Mar 2021 · b · 20 s", "1 Mar 2021 · a · 20 s"]


def test_a_patient_whose_behavior_was_not_measured_has_a_page_without_curves(
    study: SimpleNamespace, tmp_path: Path
) -> None:
    page = Page(write_patient_report(patient(study, "0007"), tmp_path / "p.html").read_text())
    assert "second by second" not in page.text


def test_the_page_draws_the_newest_videos_and_stays_small(study: SimpleNamespace, tmp_path: Path) -> None:
    ids = [r["video_id"] for r in study.videos.to_pylist() if r["patient_id"] == "0007"]
    bare = write_patient_report(patient(study, "0007"), tmp_path / "bare.html").stat().st_size
    path = write_patient_report(patient(study, "0007", behavior=behavior_rows(ids)), tmp_path / "p.html")
    page = Page(path.read_text())
    assert sum(t == "details" and a.get("class") == "curves" for t, a in page.tags) == min(SHOWN, len(ids))
    assert (path.stat().st_size - bare) / min(SHOWN, len(ids)) < 25_000
    assert "not emotions and not pain" in page.text
    assert not any(t == "img" for t, _ in page.tags)


def test_only_the_newest_videos_of_the_patient_are_read(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    made = measured(3.0)
    ids = [f"0001-{n:02d}" for n in range(SHOWN + 3)]
    start = datetime.fromisoformat("2021-03-01T09:00:00+00:00")
    with warehouse.write() as writer:
        for n, i in enumerate(ids):
            # the first ids were submitted last
            when = time_columns(start - timedelta(days=n), 0)
            row = {
                "submission_id": i,
                "patient_id": "0001",
                "setting": "home",
                "missing_scores": 9,
                "fingerprint": "f",
            }
            writer.replace(BpiScores, BpiScores.from_rows([{**row, **when}]), {"submission_id": i})
            for model in (FaceBehavior, FaceBehaviorSummary):
                put(writer, model, made[model.__table__], i, "0001")
        put(writer, FaceBehaviorSummary, made["face_behavior_summary"].assign(measured=0), "0001-99", "0001")
        for model in (FaceBehavior, FaceBehaviorSummary):
            put(writer, model, made[model.__table__], "0002-00", "0002")
    with warehouse.read() as connection:
        rows = read_newest(connection, "0001")
    assert sorted(set(rows["video_id"].to_pylist())) == ids[:SHOWN]


def put(writer: Any, model: type[Table], rows: pd.DataFrame, video: str, patient_id: str) -> None:
    whole = rows.assign(video_id=video, patient_id=patient_id, fingerprint="f").astype(object)
    found: list[Any] = whole.where(whole.notna(), None).to_dict("records")
    writer.replace(model, model.from_rows(found), {"video_id": video})
