"""Suites over the study: on an unfinished study like the paper's, on planted issues, and as an asset with pages."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from iss_assets.checks.findings import Finding
from iss_assets.checks.identity import RULES as ACROSS_PATIENTS
from iss_assets.checks.study import SUITES, read_frames, run_suites
from iss_assets.defs.assets.expectations import expectation_assets
from iss_assets.defs.resources import WarehouseResource
from iss_assets.protocol import terms
from iss_assets.schemas.intake import BpiScores, Patients, RejectedRows
from iss_assets.schemas.video_quality import VideoQuality
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.times import time_columns


def fill(warehouse: Warehouse, per_cohort: int = 2, videos: int = 20) -> None:
    """Patients of every cohort with answers around their level and videos in which nothing is wrong, over ten months."""
    random = np.random.default_rng(11)
    patients, scores, quality = [], [], []
    for number, cohort in enumerate([c for c in terms.COHORTS for _ in range(per_cohort)]):
        patient, level = f"{number + 1:04d}", terms.PAIN_LEVELS.index(cohort.pain_level)
        target = (0, 2, 5, 8)[level]
        skin = "II" if cohort.skin_group == "light" else "V"
        person = {"patient_id": patient, "cohort": cohort.number, "sex": cohort.sex, "skin_type": skin}
        more = {"skin_group": cohort.skin_group, "pain_target": target, "pain_level": cohort.pain_level}
        patients.append({**person, **more})
        for index in range(videos):
            video = f"{patient}-{index:02d}"
            answers = {n: int(np.clip(random.normal(2 + level, 2), 0, 10)) for n in terms.SCORES}
            scores.append(
                {
                    **answers,
                    "submission_id": video,
                    "patient_id": patient,
                    "chronic_pain": level > 0,
                    **time_columns(datetime(2021, 1 + (number + index) % 10, 3 + index % 20, tzinfo=UTC)),
                    "missing_scores": 0,
                }
            )
            measured = {
                "frames": 300,
                "face_rate": 0.9,
                "landmark_rate": 0.9,
                "measures": "{}",
                "usable": True,
            }
            flags = ["dark"] if random.random() < 0.1 else []
            quality.append(
                {**measured, "video_id": video, "patient_id": patient, "flags": flags, "fingerprint": "f"}
            )
    with warehouse.write() as writer:
        for table, rows in ((Patients, patients), (BpiScores, scores), (VideoQuality, quality)):
            writer.replace(table, table.from_rows(rows), {})


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A study with the paper's four empty cohorts."""
    folder = tmp_path_factory.mktemp("paper")
    settings = Settings(study=folder / "study", home=folder / "home")
    warehouse = Warehouse(settings.warehouse_path)
    fill(warehouse, videos=3)
    with warehouse.write() as writer:
        writer.execute("delete from patients where cohort in ('1D', '2D', '3C', '3D')")
    return settings


@pytest.fixture(scope="module")
def frames(paper: Settings) -> dict[str, pd.DataFrame]:
    return read_frames(Warehouse(paper.warehouse_path), paper)


def test_empty_cohorts_are_reported_and_the_goal_of_seven_only_informs(
    paper: Settings, frames: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    found = run_suites(frames, paper, tmp_path / "docs")
    cohorts = found["study_cohorts"]
    assert isinstance(cohorts, Finding)
    assert not cohorts.passed
    assert cohorts.numbers["missed"] == ["No cohort of Table 2 stays empty."]
    assert len(cohorts.numbers["for information"]) == 1
    assert sum(r["patients"] for r in cohorts.numbers["rows"]) == 24
    pages = list((tmp_path / "docs").rglob("*.html"))
    assert len(pages) >= 2 * len(SUITES) + 1
    fetched = re.compile(r"""<(?:script|link|img)\b[^>]*(?:src|href)\s*=\s*["']https?:""")
    assert not [page for page in pages if fetched.search(page.read_text())]
    assert "study_cohorts" in (tmp_path / "docs" / "index.html").read_text()


def test_rows_and_files_that_no_patients_check_covers_are_reported_for_the_study(tmp_path: Path) -> None:
    settings = Settings(study=tmp_path / "study", home=tmp_path / "home")
    warehouse = Warehouse(settings.warehouse_path)
    fill(warehouse, videos=3)
    (enrolled,) = warehouse.query("select min(patient_id) as id from patients").to_pylist()
    cells = [
        ("surveys.csv", 2, "unknown_patient", "9999"),
        ("surveys.csv", 3, "unknown_patient", "9999"),
        ("surveys.csv", 4, "broken_quotes", None),
        ("surveys.csv", 5, "bad_score", enrolled["id"]),  # `rejected_answers` of this patient tells of it
        ("enrollment.csv", 6, "bad_day", enrolled["id"]),
        ("videos/9999", 0, "unknown_patient", "9999"),
    ]
    rejected = [
        {"file": file, "line": line, "column_name": "", "code": code, "patient_id": who, "reason": "r"}
        for file, line, code, who in cells
    ]
    warehouse.replace(RejectedRows, RejectedRows.from_rows(rejected), {})
    found = read_frames(warehouse, settings)["study_rejected"].to_dict("records")
    assert found == [
        {"file": "enrollment.csv", "code": "bad_day", "rows": 1},
        {"file": "surveys.csv", "code": "broken_quotes", "rows": 1},
        {"file": "surveys.csv", "code": "unknown_patient", "rows": 2},
        {"file": "videos", "code": "unknown_patient", "rows": 1},
    ]


def changed(frame: pd.DataFrame, column: str, value: float) -> pd.DataFrame:
    frame = frame.copy()
    frame[column] = frame[column].astype(float)
    frame.loc[frame.index[-1], column] = value
    return frame


def healthy() -> dict[str, pd.DataFrame]:
    return {
        "study_rejected": pd.DataFrame({"file": ["surveys.csv"], "code": ["bad_id"], "rows": [0]}),
        "study_cohorts": pd.DataFrame({"cohort": [c.number for c in terms.COHORTS], "patients": 5}),
        "study_classes": pd.DataFrame({"pain_level": terms.PAIN_LEVELS, "patients": 20, "share": 0.25}),
        "study_scores": pd.DataFrame({"question": terms.SCORES, "missing_share": 0.0, "top_share": 0.3}),
        "study_pain_by_level": pd.DataFrame({"pain_level": terms.PAIN_LEVELS, "pain_now": [1.0, 2, 4, 6]}),
        "study_drift": pd.DataFrame({"month": ["2021-01", "2021-02"], "change": [None, 0.05]}),
        "study_groups": pd.DataFrame({"flag": ["dark", "mask"], "excess": [-0.1, 0.05]}),
    }


ISSUES = {
    "study_rejected": ("rows", 3),
    "study_cohorts": ("patients", 8),
    "study_classes": ("share", 0.05),
    "study_scores": ("top_share", 0.97),
    "study_pain_by_level": ("pain_now", 3.0),
    "study_drift": ("change", -0.3),
    "study_groups": ("excess", 0.4),
}


def test_a_balanced_study_meets_every_suite_and_each_issue_fails_its_own(tmp_path: Path) -> None:
    good = run_suites(healthy(), Settings(), tmp_path / "docs")
    assert {n: f for n, f in good.items() if isinstance(f, Exception) or not f.passed} == {}
    bad = {name: changed(frame, *ISSUES[name]) for name, frame in healthy().items()}
    found = run_suites(bad, Settings(), tmp_path / "docs")
    assert {n: f for n, f in found.items() if isinstance(f, Exception) or f.passed} == {}
    assert set(found) == set(ISSUES)


def test_the_first_page_names_every_suite_what_it_missed_and_its_rows_and_fetches_nothing(
    tmp_path: Path,
) -> None:
    frames = healthy() | {"study_groups": pd.DataFrame({"something": ["else"]})}
    frames["study_cohorts"] = changed(frames["study_cohorts"], *ISSUES["study_cohorts"])
    run_suites(frames, Settings(), tmp_path / "docs")
    text = (tmp_path / "docs" / "index.html").read_text()
    assert [f'<h2 id="{suite.name}">' in text for suite in SUITES] == [True] * len(SUITES)
    assert text.count("✓ Passed") == len(SUITES) - 2
    assert "✗ Failed: 1 of 3 expectations not met." in text, "the goal is for information only"
    assert "The suite could not run" in text
    assert "<td>Severe</td>" in text, "the rows that were looked at"
    links = re.findall(r'href="([^"]+)"', text)
    assert len(links) >= 2 * len(SUITES) - 2
    assert [link for link in links if not (tmp_path / "docs" / link).is_file()] == []
    for page in (tmp_path / "docs").rglob("*.html"):
        assert not re.search(r'(src|href)\s*=\s*["\']https?:', page.read_text()), page.name
        assert str(tmp_path) not in page.read_text()


def test_a_suite_that_breaks_stops_no_other(tmp_path: Path) -> None:
    frames = healthy() | {"study_groups": pd.DataFrame({"something": ["else"]})}
    found = run_suites(frames, Settings(), tmp_path / "docs")
    assert isinstance(found["study_groups"], Exception)
    assert [n for n, f in found.items() if isinstance(f, Finding) and f.passed] == [
        s.name for s in SUITES[:-1]
    ]


def test_flags_that_are_raised_in_one_group_only_exceed_the_gap(tmp_path: Path) -> None:
    settings = Settings(study=tmp_path / "study", home=tmp_path / "home")
    warehouse = Warehouse(settings.warehouse_path)
    fill(warehouse)
    before = read_frames(warehouse, settings)["study_groups"]
    assert before["excess"].max() < settings.checks.group_gap
    with warehouse.write() as writer:
        writer.execute(
            "update video_quality set flags = ['dark'] where patient_id in "
            "(select patient_id from patients where skin_group = 'dark')"
        )
    after = read_frames(warehouse, settings)["study_groups"]
    worst = after.sort_values("excess").iloc[-1]
    assert (worst["attribute"], worst["flag"]) == ("skin", "dark")
    assert worst["excess"] > settings.checks.group_gap


def test_months_that_get_worse_show_as_drift(tmp_path: Path) -> None:
    settings = Settings(study=tmp_path / "study", home=tmp_path / "home")
    warehouse = Warehouse(settings.warehouse_path)
    fill(warehouse)
    with warehouse.write() as writer:
        writer.execute(
            "update video_quality set usable = false where video_id in (select submission_id from bpi_scores where "
            "date_trunc('month', submitted_on) = (select date_trunc('month', quantile_disc(submitted_on, 0.6)) from bpi_scores))"
        )
    drift = read_frames(warehouse, settings)["study_drift"]
    assert drift["change"].min() == pytest.approx(-1)
    assert drift[drift["measure"] != "usable"]["change"].abs().max() == pytest.approx(0)


def test_the_asset_reports_each_suite_keeps_the_results_and_links_the_pages(paper: Settings) -> None:
    resource = WarehouseResource(study=str(paper.study), home=str(paper.home))
    result = dg.materialize(expectation_assets(paper), resources={"warehouse": resource})
    assert result.success
    found = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert set(found) == {*(suite.name for suite in SUITES), *ACROSS_PATIENTS}
    assert not found["study_cohorts"].passed
    (made,) = result.asset_materializations_for_node("study_expectations")
    assert str(made.metadata["data_docs"].value).endswith("/data_docs/index.html")
    assert (paper.reports_dir / "data_docs" / "index.html").is_file()
    rows = (
        Warehouse(paper.warehouse_path)
        .query("select * from check_results where patient_id = '*'")
        .to_pylist()
    )
    assert {r["check_name"]: r["passed"] for r in rows} == {n: e.passed for n, e in found.items()}


def test_pages_and_results_hold_counts_of_the_study_only(paper: Settings, tmp_path: Path) -> None:
    frames = read_frames(Warehouse(paper.warehouse_path), paper)
    assert not {"patient_id", "submission_id", "video_id"} & {c for f in frames.values() for c in f.columns}
