"""Who is analyzed is the same on every page, in every table and in Python: patients with a usable video."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from iss_assets import load
from iss_assets.datasets.items import trainable_patients
from iss_assets.defs.assets.reports import report_inputs
from iss_assets.reports.gallery import mart_figures
from iss_assets.reports.report_answers import checklist_answers, flow
from iss_assets.reports.study_report import write_study_report
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.sql.build import build_models
from iss_assets.warehouse.sql.models import load_models
from iss_assets_tests.made_up import UNUSABLE, paper_study_in

SEEN_BUT_UNUSABLE = f"{UNUSABLE}-001"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Write the paper's study, in which the 30th patient's only video has frames but is too dark to be used."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    store = paper_study_in(settings.warehouse_path)
    with store.write() as writer:
        writer.execute(
            "update videos set status = 'ok', duration_s = 20 where video_id = ?", [SEEN_BUT_UNUSABLE]
        )
        writer.execute(
            "insert into frames select * replace (? as video_id, ? as patient_id) from frames "
            "where video_id = (select min(video_id) from frames)",
            [SEEN_BUT_UNUSABLE, UNUSABLE],
        )
        writer.execute(
            "update video_quality set usable = false, unusable_reason = 'dark' where video_id = ?",
            [SEEN_BUT_UNUSABLE],
        )
    build_models(store, load_models(settings.warehouse.sql_dir))
    return settings


def test_every_table_and_page_counts_the_same_patients(settings: Settings, tmp_path: Path) -> None:
    store = Warehouse(settings.warehouse_path, settings.warehouse)

    def one(sql: str) -> int:
        return store.query(f"select ({sql})::integer as n")["n"][0].as_py()

    assert one("select count(*) from patients") == 30
    assert one(f"select count(*) from frames where patient_id = '{UNUSABLE}'") > 0, "seen, but not usable"
    inputs = report_inputs(store, settings)
    (steps,) = [s for s in flow(inputs)["patients"] if "analyzed" in s.what]
    counts = {
        "stg_patients": one("select count(*) from stg_patients where analyzed"),
        "patient_summary": one("select count(*) from patient_summary where analyzed"),
        "study_summary": one("select patients from study_summary"),
        "sexes": one("select male + female from study_summary"),
        "participant_flow": one("select patients from participant_flow where stage = 'analyzed'"),
        "usable videos": one("select patients from participant_flow where stage = 'video usable'"),
        "levels": one("select sum(patients) from pain_level_balance where levels = 4"),
        "projection": one("select patients from study_projection"),
        "load": len(load.analyzed_patients(settings.home)),
        "splits": len(trainable_patients(store, settings.training)),
        "report": int(steps.count),
    }
    assert set(counts.values()) == {29}, counts
    answers = checklist_answers(inputs)
    assert "29 analyzed" in answers["sample_size"] and "29 analyzed" in answers["limitations"]
    assert sum(int(n) for n in re.findall(r"(?:None|Low|Moderate|Severe) (\d+)", answers["imbalance"])) == 29


def test_videos_and_frames_of_who_is_not_analyzed_do_not_count_as_the_studys(settings: Settings) -> None:
    store = Warehouse(settings.warehouse_path, settings.warehouse)
    found = store.query("select videos, frames from study_summary").to_pylist()[0]
    assert found == {"videos": 509, "frames": 189_999}
    flow_rows = store.query(
        "select stage, patients, items from participant_flow where unit = 'frames' order by step"
    )
    assert flow_rows.to_pylist()[0] == {"stage": "frame sampled", "patients": 29, "items": 189_999}
    (frames,) = [
        s for s in flow(report_inputs(store, settings))["data"] if s.what == "frames of analyzed patients"
    ]
    assert frames.count == "189,999"
    by_level = store.query("select sum(frames)::integer as n from pain_level_balance where levels = 2")
    assert by_level["n"][0].as_py() == 189_999


def test_figure_2_and_the_reports_flow_show_who_is_analyzed(settings: Settings, tmp_path: Path) -> None:
    store = Warehouse(settings.warehouse_path, settings.warehouse)
    report = write_study_report(report_inputs(store, settings), tmp_path / "report.html")
    assert "<b>29</b>with a usable video: analyzed" in report.read_text(encoding="utf-8")
    everybody = store.query("select * from patient_summary").to_pylist()
    drawn = [figure.svg for figure in mart_figures("patient_summary", everybody)]
    analyzed = [row for row in everybody if row["patient_id"] != UNUSABLE]
    assert drawn == [figure.svg for figure in mart_figures("patient_summary", analyzed)]
    assert drawn != [
        figure.svg
        for figure in mart_figures("patient_summary", [{**row, "analyzed": True} for row in everybody])
    ]
