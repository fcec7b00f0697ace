"""What holds for every page: one frame, one style sheet, one charting module, one atomic write; phone, dark, print."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from jinja2 import UndefinedError

import iss_assets.reports
from iss_assets.atomic import replace_text
from iss_assets.evaluation.check_ins.study import CheckInInputs, evaluate_check_ins
from iss_assets.reports.clinic_report import ClinicReportInputs, write_clinic_report
from iss_assets.reports.external_report import write_external_report
from iss_assets.reports.patient_report import PatientReportInputs, write_patient_report
from iss_assets.reports.quality_page import write_quality_page
from iss_assets.reports.quality_report import quality_report
from iss_assets.reports.study_page import write_study_page
from iss_assets.reports.study_report import write_study_report
from iss_assets.reports.templating import INVENTED, STUDY, Frame, picture_style, write_page
from iss_assets.settings import CheckInSettings, WarehouseSettings
from iss_assets.synthetic.check_ins import invent_check_ins
from iss_assets.warehouse.sql.build import build_models
from iss_assets.warehouse.sql.models import load_models
from iss_assets_tests.made_up import paper_study_in
from iss_assets_tests.reports.browser import in_frame
from iss_assets_tests.reports.test_behavior import behavior_rows
from iss_assets_tests.reports.test_external_report import inputs as external_inputs
from iss_assets_tests.reports.test_study_report import inputs

WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCES = Path(iss_assets.reports.__file__).parent
TEMPLATES = SOURCES / "templates"
PAGES = ("study_report", "study_page", "patient_report", "clinic_report", "external_report", "quality")
A4_WIDTH = 688
"""Pixels between the margins of the printed page."""


@pytest.fixture(scope="module")
def pages(
    study: SimpleNamespace, evaluated: dict[str, pa.Table], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Every page of an invented study, by the name of its template."""
    folder = tmp_path_factory.mktemp("pages")
    store = paper_study_in(folder / "warehouse.duckdb")
    build_models(store, load_models(WarehouseSettings().sql_dir))
    answers = invent_check_ins(8, 4, effect=0.5)
    few = CheckInSettings(bootstrap_samples=199, permutations=99, trees=3)
    ids = [r["video_id"] for r in study.videos.to_pylist() if r["patient_id"] == "0007"]
    patient = PatientReportInputs(
        "0007",
        study.patients,
        study.scores,
        study.videos,
        study.quality,
        study.accuracy,
        behavior=behavior_rows(ids),
        invented=True,
    )
    written = {
        "study_report": write_study_report(inputs(study, evaluated, invented=True), folder / "report.html"),
        "clinic_report": write_clinic_report(
            ClinicReportInputs(
                evaluate_check_ins(CheckInInputs(answers.bpi_scores, answers.splits, answers.measures), few),
                few,
                invented=True,
            ),
            folder / "clinic.html",
        ),
        "external_report": write_external_report(external_inputs(invented=True), folder / "external.html"),
        "study_page": write_study_page(store, folder / "study.html", invented=True),
        "patient_report": write_patient_report(patient, folder / "patient.html"),
        "quality": write_quality_page(quality_report(store), folder / "quality.html", invented=True),
    }
    return {name: path.read_text(encoding="utf-8") for name, path in written.items()}


def test_every_template_is_a_page_of_these_tests_in_the_one_frame() -> None:
    templates = {p.name.removesuffix(".html.jinja"): p for p in TEMPLATES.glob("*.html.jinja")}
    # the certificate of a withdrawal has tests of its own, in `privacy`
    assert {*templates} == {*PAGES, "withdrawal", "base", "macros"}
    for name in (*PAGES, "withdrawal"):
        text = templates[name].read_text()
        assert text.startswith('{% extends "base.html.jinja" %}'), name
        assert "<style" not in text and "<script" not in text and "<html" not in text, name
    assert [p.name for p in TEMPLATES.glob("*.css")] == ["style.css"]


def test_every_page_goes_through_the_one_atomic_write() -> None:
    writing = {"write_text", "write_bytes", "open", "touch", "rename", "mkstemp"}
    pages, atomic = [], []
    for path in (*SOURCES.glob("*.py"), SOURCES.parent / "checks" / "data_docs.py"):
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        named = {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls}
        assert named & writing == set(), path.name
        atomic += [path.name] if "replace_text" in named else []
        if "write_page" in named:
            pages += re.findall(r'"(\w+)\.html\.jinja"', path.read_text())
    assert sorted(atomic) == ["data_docs.py", "templating.py"]
    assert sorted(pages) == sorted(PAGES)


def test_a_file_is_replaced_and_nothing_else_is_left_in_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    replace_text(path, "one")
    before = path.stat().st_ino
    replace_text(path, "zwei ä")
    assert path.read_text(encoding="utf-8") == "zwei ä" and path.stat().st_ino != before
    assert list(path.parent.iterdir()) == [path]


def test_every_chart_is_drawn_by_the_one_charting_module() -> None:
    drawing = {path.name for path in SOURCES.glob("*.py") if "<svg" in path.read_text()}
    assert drawing == {"charts.py"}
    imported = {
        line
        for path in SOURCES.glob("*.py")
        for line in re.findall(r"import (altair|matplotlib)", path.read_text())
    }
    assert imported == set()


def test_a_page_that_cannot_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "quality.html"
    path.write_text("the old page")
    with pytest.raises(UndefinedError):
        write_page("quality.html.jinja", Frame("Quality", "for a test"), {}, path)
    assert path.read_text() == "the old page" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_is_of_which_study_when_it_was_made_and_that_its_data_are_invented(
    name: str, pages: dict[str, str]
) -> None:
    page = pages[name]
    header = page[page.index("<header>") : page.index("</header>")]
    assert re.search(r"<h1>[^<]+</h1>", header) and STUDY in header
    assert re.search(r"[Mm]ade \d+ \w+ \d{4}, \d\d:\d\d UTC", header)
    assert INVENTED.head in header or "the patients are invented" in header
    linked = re.findall(r'<li><a href="#([\w-]+)">', page)
    assert linked and all(f'<h2 id="{anchor}">' in page for anchor in linked), "contents lead to sections"


def test_the_line_below_the_heading_names_the_study_once() -> None:
    assert (
        Frame("Quality", "k", WHEN, "A study", ["torch 2"]).meta
        == "A study · made 1 March 2026, 12:00 UTC · torch 2"
    )
    assert Frame("A study", "k", WHEN, "A study").meta == "Made 1 March 2026, 12:00 UTC"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone_and_wide_tables_scroll_in_their_own_box(
    name: str, pages: dict[str, str], tmp_path: Path
) -> None:
    script = """
      var root = view.document.documentElement;
      view.document.querySelectorAll("details").forEach(function (part) { part.open = true; });
      var wide = Array.from(view.document.querySelectorAll("table")).filter(function (t) { return t.scrollWidth > 390; });
      var boxed = wide.every(function (t) {
        var box = t.closest(".scroll");
        return box && box.clientWidth <= 390 && view.getComputedStyle(box).overflowX === "auto";
      });
      return [root.clientWidth, root.scrollWidth, wide.length, boxed];
    """
    width, needed, wide, boxed = in_frame(pages[name], 390, script, tmp_path)
    assert width <= 390 and needed <= width
    assert wide > 0 and boxed


@pytest.mark.parametrize("name", PAGES)
def test_a_page_and_its_charts_turn_dark(name: str, pages: dict[str, str], tmp_path: Path) -> None:
    script = """
      var page = view.document;
      function light(color) {
        var parts = color.match(/[0-9.]+/g).slice(0, 3).map(Number);
        return (parts[0] + parts[1] + parts[2]) / 765;
      }
      function colors() {
        return [light(view.getComputedStyle(page.body).backgroundColor),
          Array.from(page.querySelectorAll("svg.chart text:not(.in-bubble)"))
            .map(function (t) { return light(view.getComputedStyle(t).fill); })];
      }
      page.documentElement.dataset.theme = "light"; var day = colors();
      page.documentElement.dataset.theme = "dark"; var night = colors();
      return [day, night];
    """
    (day, words_by_day), (night, words_by_night) = in_frame(pages[name], 1200, script, tmp_path)
    assert day > 0.9 and night < 0.2
    assert words_by_day and max(words_by_day) < 0.5 and min(words_by_night) > 0.5


@pytest.mark.parametrize("name", PAGES)
def test_a_page_prints_in_light_colors_and_clips_no_table(
    name: str, pages: dict[str, str], tmp_path: Path
) -> None:
    printed = (
        pages[name]
        .replace("@media print", "@media all")
        .replace('<html lang="en">', '<html lang="en" data-theme="dark">')
    )
    script = """
      var page = view.document;
      page.querySelectorAll("details").forEach(function (part) { part.open = true; });
      var wide = Array.from(page.querySelectorAll("table, svg.chart, dl, ol")).filter(function (e) {
        return !e.closest(".many") && e.getBoundingClientRect().right > page.documentElement.clientWidth + 1;
      });
      var hidden = Array.from(page.querySelectorAll(".scroll")).filter(function (e) {
        return view.getComputedStyle(e).overflow !== "visible" || view.getComputedStyle(e).maxHeight !== "none";
      });
      return [view.getComputedStyle(page.body).backgroundColor, wide.map(function (e) { return e.textContent.slice(0, 60); }), hidden.length];
    """
    background, wide, hidden = in_frame(printed, A4_WIDTH, script, tmp_path)
    assert background == "rgb(255, 255, 255)"
    assert wide == [] and hidden == 0


def test_a_chart_outside_of_a_page_has_the_light_colors_of_the_style_sheet() -> None:
    style = picture_style()
    assert "var(" not in style and "light-dark" not in style
    assert "svg .block { fill: #3a86b7; }" in style and "svg text" in style
