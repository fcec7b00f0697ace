"""The study page: one HTML file with every table and figure of the study, which opens offline.

Belongs here: what stands on the page and in which order. Does not belong here: SQL beyond ``select *`` (that is a
mart), drawing (``study_figures``, ``gallery``), the report of the experiments (``study_report``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from iss_assets.reports.gallery import mart_figures
from iss_assets.reports.templating import write_page
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.sql.build import built_models
from iss_assets.warehouse.sql.models import SqlModel, SqlModels, load_models

Rows = list[dict[str, Any]]


@dataclass
class Figure:
    """One drawing with its caption."""

    caption: str
    svg: str
    wide: bool = False


@dataclass
class Cell:
    """One value of a table as it is shown and as it is sorted."""

    text: str
    order: str
    number: bool


@dataclass
class TableView:
    """One mart as a table."""

    name: str
    description: str
    columns: list[tuple[str, str, bool]]
    """Heading, explanation, and whether numbers stand below."""
    rows: list[list[Cell]]


@dataclass
class Section:
    """One part of the page."""

    anchor: str
    title: str
    text: str
    figures: list[Figure]
    tables: list[TableView]
    folded: list[TableView]


@dataclass(frozen=True)
class _Plan:
    """What belongs into a section: marts whose figures are drawn, tables shown, tables folded away."""

    anchor: str
    title: str
    text: str
    drawn: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()


def write_study_page(
    warehouse: Warehouse,
    path: Path,
    *,
    title: str = "Study page",
    note: str | None = None,
    models: SqlModels | None = None,
) -> Path:
    """Write the study page.

    Parameters
    ----------
    warehouse : Warehouse
        With the marts built; a mart that is not built yet is named on the page as missing.
    path : Path
        The file; its folder is made.
    title : str
        Heading of the page.
    note : str, optional
        A sentence that everybody must see, for example that the patients are invented.
    models : SqlModels, optional
        The SQL models; those of the settings without.

    Returns
    -------
    Path
        `path`.
    """
    models = models or load_models(warehouse.settings.sql_dir)
    data = _read_marts(warehouse, models)
    missing = sorted(m.name for m in models.models.values() if m.group == "marts" and m.name not in data)
    context = {
        "title": title,
        "note": note,
        "made_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "headline": _headline(data),
        "refused": _refused(warehouse),
        "sections": _sections(data, models),
        "missing": missing,
        "broken": [str(e) for e in models.errors],
    }
    return write_page("study_page.html.jinja", context, path)


def _read_marts(warehouse: Warehouse, models: SqlModels) -> dict[str, Rows]:
    """Read every built mart in one consistent state."""
    names = [n for n in built_models(warehouse, models) if models.models[n].group == "marts"]
    return read_marts(warehouse, names)


def read_marts(warehouse: Warehouse, names: Sequence[str]) -> dict[str, Rows]:
    """Read those of the named marts that are built, in one consistent state."""
    with warehouse.read() as connection:
        built = {
            row[0]
            for row in connection.execute(
                "select table_name from information_schema.tables where table_schema = 'main'"
            ).fetchall()
        }
        return {
            name: connection.execute(f'select * from "{name}"').to_arrow_table().to_pylist()
            for name in names
            if name in built
        }


def _refused(warehouse: Warehouse) -> Rows:
    """Count what the study folder held that could not be used."""
    return warehouse.query(
        "select code, count(*) as n from rejected_rows group by code order by n desc, code"
    ).to_pylist()


def _headline(data: dict[str, Rows]) -> list[tuple[str, str, str]]:
    """Give the numbers that everyone asks for first: value, name, detail."""
    if not data.get("study_summary"):
        return []
    (summary,) = data["study_summary"]
    goal = sum(r["goal"] for r in data.get("cohort_enrollment", []))
    return [
        (_show(summary["patients"]), "patients", f"{summary['enrolled']} enrolled of {goal}" if goal else ""),
        (_show(summary["videos"]), "videos", f"{_show(summary['videos_per_patient'])} a patient"),
        (_show(summary["frames"]), "frames", f"{_show(summary['frames_per_patient'])} a patient"),
        (_show(summary["total_minutes"]), "minutes", f"{_show(summary['seconds_per_video'])} s a video"),
        (_show(summary["faces"]), "faces", f"{_share(summary['faces'], summary['frames'])} of frames"),
        (_show(summary["landmarks"]), "meshes", f"{_share(summary['landmarks'], summary['faces'])} of faces"),
    ]


_SECTIONS: Final = (
    _Plan(
        "enrollment",
        "Enrollment",
        "Sixteen cohorts of seven (the paper's Table 2). The projection draws today's pace on; it knows no pauses.",
        drawn=("cohort_enrollment", "enrollment_progress"),
        shown=("cohort_enrollment",),
        folded=("enrollment_progress", "study_projection"),
    ),
    _Plan(
        "data",
        "What there is",
        "The paper's Table 4 and Figure 2: patients with a usable video.",
        drawn=("patient_summary",),
        shown=("pain_level_balance", "participant_flow"),
        folded=("study_summary", "patient_summary"),
    ),
    _Plan(
        "adherence",
        "Submissions",
        "The protocol asks for three check-ins a week, at most one a day, for three months.",
        drawn=("submission_adherence",),
    ),
    _Plan(
        "scores",
        "Pain scores",
        "Submissions of one patient resemble each other: the second figure takes each patient once.",
        drawn=("pain_score_correlations",),
        folded=("pain_score_correlations",),
    ),
    _Plan(
        "quality",
        "Quality",
        "Whether faces are found and videos can be used, over time and for everybody alike.",
        drawn=("quality_over_time", "quality_flags"),
        shown=("quality_by_group", "quality_by_patient"),
        folded=("quality_flags", "quality_over_time", "audio_summary"),
    ),
    _Plan(
        "models",
        "Experiments",
        "The paper's Table 5 beside our own figures; ours are empty where an experiment has not been run.",
        shown=("model_table",),
    ),
)


MARTS: Final = tuple(dict.fromkeys(n for plan in _SECTIONS for n in (*plan.drawn, *plan.shown, *plan.folded)))
"""Every mart on the page: what must be built before it."""


def _sections(data: dict[str, Rows], models: SqlModels) -> list[Section]:
    """Fill the plan with what is there; a section without anything is left out."""

    def tables(names: tuple[str, ...]) -> list[TableView]:
        return [_table(models.models[n], data[n]) for n in names if data.get(n)]

    sections = [
        Section(
            plan.anchor,
            plan.title,
            plan.text,
            [
                Figure(f.caption, f.svg, f.wide)
                for name in plan.drawn
                for f in mart_figures(name, data.get(name, []))
            ],
            tables(plan.shown),
            tables(plan.folded),
        )
        for plan in _SECTIONS
    ]
    return [s for s in sections if s.figures or s.tables or s.folded]


def _table(model: SqlModel, rows: Rows) -> TableView:
    # a column in which nothing is known yet only takes room
    kept = [c for c in model.columns if any(r[c.name] is not None for r in rows)]
    return TableView(
        model.name,
        model.description,
        [(c.name.replace("_", " "), c.description, any(_is_number(r[c.name]) for r in rows)) for c in kept],
        [[_cell(row[c.name]) for c in kept] for row in rows],
    )


def _cell(value: Any) -> Cell:
    number = _is_number(value)
    order = repr(float(value)) if number else _show(value)
    return Cell(_show(value), "" if value is None else order, number)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _show(value: Any) -> str:
    """Write a value for people: no more digits than it has meaning."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
        return f"{value:,.{digits}f}"
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return str(value)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"
