import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from iss_assets.reports import charts
from iss_assets.reports.gallery import as_markdown, mart_figures
from iss_assets.reports.study_page import MARTS, write_study_page
from iss_assets.schemas.intake import RejectedRows
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.sql.build import build_models
from iss_assets.warehouse.sql.models import load_models
from iss_assets_tests.made_up import paper_study_in, tiny_study
from iss_assets_tests.reports.browser import in_browser


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    made = paper_study_in(tmp_path_factory.mktemp("paper") / "warehouse.duckdb")
    rejected = {
        "file": "surveys.csv",
        "line": 3,
        "column_name": "mood",
        "code": "bad_score",
        "reason": "A <b>score</b> lies between 0 and 10.",
    }
    made.replace(RejectedRows, RejectedRows.from_rows([rejected]), {})
    build_models(made, load_models(WarehouseSettings().sql_dir))
    yield made


@pytest.fixture(scope="module")
def page(study: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "reports" / "study.html"
    write_study_page(study, path, title="A study", note="Invented <patients>.")
    return path.read_text(encoding="utf-8")


def test_the_page_makes_no_requests(page: str) -> None:
    addresses = set(re.findall(r"""https?://[^"' )>]*""", page))
    assert addresses == set()
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", page)
    assert "@import" not in page and "url(" not in page.replace("url(#", "")


def test_the_page_shows_the_papers_numbers(page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", page)
    for number in (
        "29",
        "509",
        "189,999",
        "316.6",
        "173,011",
        "168,063",
        "30 enrolled of 112",
        "8.57",
        "0.657",
    ):
        assert number in text


def test_every_figure_and_table_of_the_study_is_on_the_page(page: str) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == page.count("<svg") == 26
    for caption in (
        "Videos per patient",
        "Patients by skin type",
        "Enrollment toward the goal",
        "Quality week by week",
    ):
        assert caption in captions
    tables = set(re.findall(r'<h3 id="([a-z_]+)">', page))
    assert {
        "cohort_enrollment",
        "participant_flow",
        "quality_by_group",
        "model_table",
        "patient_summary",
    } <= tables


def test_every_mart_that_the_page_shows_exists() -> None:
    models = load_models(WarehouseSettings().sql_dir).models
    assert set(MARTS) <= {name for name, model in models.items() if model.group == "marts"}


def test_what_could_not_be_used_is_listed_on_top(page: str) -> None:
    assert "1 × bad score" in page
    assert page.index("1 × bad score") < page.index("<h2")


def test_text_from_outside_is_escaped(page: str) -> None:
    assert "Invented &lt;patients&gt;." in page
    assert "Invented <patients>." not in page


def test_figures_take_their_colors_from_the_page(page: str) -> None:
    svgs = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert set(re.findall(r'(?:fill|stroke)(?:="|:)([^"]*)', svgs)) == set(), "colors come from classes only"
    classes = {name for names in re.findall(r'class="([^"]+)"', svgs) for name in names.split()}
    rules = page[page.index("/* charts */") : page.index("/* end of charts */")]
    assert {"block", "curve", "dot", "shade", "tick"} <= classes
    assert all(f".{name}" in rules for name in ("block", "curve", "dot", "shade", "tick"))
    assert re.findall(r"#[0-9a-f]{3,8}\b|rgb", rules) == [], "the rules name colors by variables only"


def test_an_empty_warehouse_gives_a_page_that_says_what_is_missing(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    text = write_study_page(warehouse, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Not built yet" in text and "study_summary" in text
    assert "no mart has been built" in text


def test_a_study_without_patients_gives_a_page(warehouse: Warehouse, tmp_path: Path) -> None:
    build_models(warehouse, load_models(WarehouseSettings().sql_dir))
    text = write_study_page(warehouse, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "0 enrolled of 112" in text
    assert "Not built yet" not in text


@pytest.mark.parametrize("values", [[], [5.0], [2, 2, 2], [1, 1e6], [0.001, 0.002], [0, 0]])
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    bins = charts._count_in_bins(values, 10)
    assert sum(b["patients"] for b in bins) == len(values)
    assert all(b["low"] < b["high"] for b in bins)
    assert len(bins) <= 12
    assert "<svg" in charts.histogram(values, "things")


def texts(svg: str, cls: str) -> list[str]:
    """Return the texts of one kind in a chart."""
    return re.findall(rf'<text[^>]* class="{cls}"[^>]*>([^<]+)</text>', svg)


def labels(svg: str) -> list[str]:
    """Return the texts along the horizontal axis of a chart."""
    return texts(svg, "tick x")


def week(day: date) -> dict[str, Any]:
    return {"week_start": day, "usable_share": 0.9, "face_rate": 0.8, "landmark_rate": 0.7}


@pytest.mark.parametrize("days", [0, 1, 6, 13, 20, 34, 60, 75, 100, 200, 400, 1000, 4000])
def test_no_two_marks_of_an_axis_of_days_read_the_same(days: int) -> None:
    first = date(2021, 1, 4)
    rows = [week(first), week(first + timedelta(days=days // 2)), week(first + timedelta(days=days))]
    found = labels(charts.quality_over_time(rows))
    assert 1 <= len(found) <= 7
    assert len(set(found)) == len(found)


def test_a_day_is_drawn_as_that_day_in_every_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    script = (
        "import sys; from datetime import date; from iss_assets.reports import charts; "
        "rows = [{'week_start': date(2021, 1, d), 'usable_share': 1, 'face_rate': 1, 'landmark_rate': 1} for d in (4, 11)]; "
        "sys.stdout.write(charts.quality_over_time(rows))"
    )
    drawn = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "4 Jan 2021" in drawn and "3 Jan 2021" not in drawn


def test_means_that_hardly_differ_share_a_bar_and_whole_numbers_are_centered_below_their_bar() -> None:
    chart = charts.histogram([16.0, 16.0025, 16.0064], "seconds per video")
    assert labels(chart) == ["16", "17"]
    assert texts(chart, "count") == ["3"]
    assert labels(charts.histogram([1, 1, 2, 2, 2, 3], "videos")) == ["1", "2", "3"]


@pytest.mark.parametrize(("patients", "days"), [(1, 300), (12, 20)])
def test_nothing_is_projected_from_one_patient_or_a_few_days(
    patients: int, days: int, warehouse: Warehouse
) -> None:
    tiny_study(warehouse, patients=max(4, patients))
    with warehouse.write() as writer:
        for table in ("patients", "bpi_scores"):
            writer.execute(f"delete from {table} where cast(patient_id as integer) > {patients}")
        writer.execute("update patients set enrolled_on = date '2021-01-04'")
        writer.execute(f"update bpi_scores set submitted_on = date '2021-01-04' + {days}")
    build_models(warehouse, load_models(WarehouseSettings().sql_dir), ["enrollment_progress"])
    rows = warehouse.query("select * from enrollment_progress order by month").to_pylist()
    assert {r["kind"] for r in rows} == {"seen"}
    assert rows[-1]["total"] == patients
    assert rows[-1]["as_of"] == date(2021, 1, 4) + timedelta(days=days)


def test_a_mart_without_rows_or_figures_has_none() -> None:
    assert mart_figures("cohort_enrollment", []) == []
    assert mart_figures("nothing", [{"a": 1}]) == []


def test_a_figure_becomes_a_picture_on_white_for_dagster(study: Warehouse) -> None:
    (figure,) = mart_figures("cohort_enrollment", study.query("select * from cohort_enrollment").to_pylist())
    start = "![Enrolled in each cohort, of its goal](data:image/svg+xml;base64,"
    text = as_markdown(figure)
    assert text.startswith(start)
    picture = base64.b64decode(text[len(start) : -1]).decode()
    assert "var(" not in picture and "currentColor" not in picture
    assert 'fill="white"/>' in picture
    assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"


def test_figures_of_the_same_rows_are_the_same_and_of_others_differ(study: Warehouse) -> None:
    rows = study.query("select * from cohort_enrollment").to_pylist()
    (first,) = mart_figures("cohort_enrollment", rows)
    assert mart_figures("cohort_enrollment", [dict(r) for r in rows])[0] == first
    changed = [{**rows[0], "current": rows[0]["current"] + 1}, *rows[1:]]
    assert mart_figures("cohort_enrollment", changed)[0].svg != first.svg


def test_a_projection_that_never_starts_is_drawn_anyway() -> None:
    known = {"month": date(2021, 1, 1), "as_of": date(2021, 1, 20), "kind": "seen", "enrolled": 1}
    row = {**known, "total": 1, "goal": 112, "pace": None}
    assert "<svg" in charts.enrollment([row])


def test_tables_sort_by_a_click_in_a_real_browser(page: str, tmp_path: Path) -> None:
    script = """
      var table = document.getElementById("patient_summary").parentElement.querySelector("#patient_summary ~ .scroll table");
      var heads = Array.from(table.tHead.rows[0].cells);
      var at = heads.findIndex(function (h) { return h.textContent === "frames"; });
      function column() { return Array.from(table.tBodies[0].rows).map(function (r) { return Number(r.cells[at].dataset.v); }); }
      heads[at].firstChild.click(); var up = column(), sort = heads[at].getAttribute("aria-sort");
      heads[at].firstChild.click(); var down = column();
      return [up, down, sort, heads[at].getAttribute("aria-sort")];
    """
    up, down, first, second = in_browser(page, script, tmp_path)
    assert len(up) == 30
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)
    assert (first, second) == ("ascending", "descending")


def test_the_page_is_no_wider_than_a_phone_and_turns_dark_in_a_real_browser(
    page: str, tmp_path: Path
) -> None:
    script = """
      var body = document.body, before = getComputedStyle(body).backgroundColor;
      body.style.width = "390px";
      var wide = Array.from(document.querySelectorAll("main > *, header > *")).map(function (e) { return e.scrollWidth; });
      document.getElementById("theme").click();
      return [Math.max.apply(null, wide), before, getComputedStyle(body).backgroundColor];
    """
    widest, before, after = in_browser(page, script, tmp_path)
    assert widest <= 390
    assert before != after
