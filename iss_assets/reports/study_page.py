"""The study page: one HTML file with every table and figure of the study, which opens offline.

What is on the page and in which order. The numbers come from the marts, the figures from `gallery`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from iss_assets.reports.gallery import MartFigure, mart_figures
from iss_assets.reports.report_tables import Cell, DataTable
from iss_assets.reports.templating import INVENTED, Banner, Frame, write_page
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.sql.build import built_models
from iss_assets.warehouse.sql.models import SqlModel, SqlModels, load_models

Rows = list[dict[str, Any]]


@dataclass
class MartTable:
    """One mart as a table, with its name in the warehouse."""

    name: str
    table: DataTable


@dataclass
class Section:
    """One part of the page."""

    anchor: str
    title: str
    text: str
    figures: list[MartFigure]
    tables: list[MartTable]
    folded: list[MartTable]

    @property
    def heading(self) -> tuple[str, str]:
        """Anchor and title, for the contents."""
        return self.anchor, self.title


@dataclass(frozen=True)
class _Plan:
    """What a section contains: marts whose figures are drawn, tables shown, tables folded away."""

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
    invented: bool = False,
    models: SqlModels | None = None,
) -> Path:
    """Write the study page.

    Parameters
    ----------
    warehouse : Warehouse
        With the marts built; a mart that is not built yet is named on the page as missing.
    path : Path
        The file; its folder is created.
    title : str
        Heading of the page.
    note : str, optional
        A sentence that every reader must see.
    invented : bool
        Whether the patients are invented (the sample study); the page then says so.
    models : SqlModels, optional
        The SQL models; by default those of the settings.

    Returns
    -------
    Path
        `path`.
    """
    models = models or load_models(warehouse.settings.sql_dir)
    data = _read_marts(warehouse, models)
    missing = sorted(m.name for m in models.models.values() if m.group == "marts" and m.name not in data)
    banners = [INVENTED] if invented else []
    if note:
        banners.append(Banner(note))
    if missing:
        banners.append(Banner("Not built yet, and so not on this page:", f"{', '.join(missing)}."))
    if models.errors:
        banners.append(Banner("Broken SQL models:", f"{'; '.join(map(str, models.errors))}.", "bad"))
    if refused := _refused(warehouse):
        counts = ", ".join(f"{r['n']} × {r['code'].replace('_', ' ')}" for r in refused)
        banners.append(
            Banner(
                "Rows and files of the study folder that could not be used:",
                f"{counts}. The table rejected_rows names file and line.",
            )
        )
    return write_page(
        "study_page.html.jinja",
        Frame(title, "The study in tables and figures", banners=banners),
        {"headline": _headline(data), "sections": _sections(data, models)},
        path,
    )


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
    """Return the numbers that everyone asks for first: name, value, detail."""
    if not data.get("study_summary"):
        return []
    (summary,) = data["study_summary"]
    goal = sum(r["goal"] for r in data.get("cohort_enrollment", []))
    return [
        ("Patients", _show(summary["patients"]), f"{summary['enrolled']} enrolled of {goal}" if goal else ""),
        ("Videos", _show(summary["videos"]), f"{_show(summary['videos_per_patient'])} per patient"),
        ("Frames", _show(summary["frames"]), f"{_show(summary['frames_per_patient'])} per patient"),
        ("Minutes", _show(summary["total_minutes"]), f"{_show(summary['seconds_per_video'])} s per video"),
        ("Faces", _show(summary["faces"]), f"{_share(summary['faces'], summary['frames'])} of frames"),
        (
            "Face meshes",
            _show(summary["landmarks"]),
            f"{_share(summary['landmarks'], summary['faces'])} of faces",
        ),
    ]


_SECTIONS: Final = (
    _Plan(
        "enrollment",
        "Enrollment",
        "Sixteen cohorts of seven (the paper's Table 2). The projection continues today's pace and knows no pauses.",
        drawn=("cohort_enrollment", "enrollment_progress"),
        shown=("cohort_enrollment",),
        folded=("enrollment_progress", "study_projection"),
    ),
    _Plan(
        "data",
        "Data collected",
        "The paper's Table 4 and Figure 2: patients with a usable video.",
        drawn=("patient_summary",),
        shown=("pain_level_balance", "participant_flow"),
        folded=("study_summary", "patient_summary"),
    ),
    _Plan(
        "adherence",
        "Submissions",
        "The protocol asks for three check-ins a week, at most one per day, for three months.",
        drawn=("submission_adherence",),
    ),
    _Plan(
        "scores",
        "Pain scores",
        "Submissions of one patient resemble each other, so the second figure counts each patient once.",
        drawn=("pain_score_correlations",),
        folded=("pain_score_correlations",),
    ),
    _Plan(
        "quality",
        "Quality",
        "Whether faces are found and videos can be used, over time and in every group of patients.",
        drawn=("quality_over_time", "quality_flags"),
        shown=("quality_by_group", "quality_by_patient"),
        folded=("quality_flags", "quality_over_time", "audio_summary"),
    ),
    _Plan(
        "voice",
        "Voice",
        "How patients speak, as medians over their videos. Measures of recordings, not of pain.",
        drawn=("voice_summary",),
        folded=("voice_summary",),
    ),
    _Plan(
        "behavior",
        "Head and face",
        "How patients move head and face, as medians over their videos. Geometric proxies, not of pain.",
        drawn=("behavior_summary",),
        folded=("behavior_summary",),
    ),
    _Plan(
        "text",
        "Words",
        "Figures about what patients say, as medians over their videos; never the words.",
        drawn=("text_summary",),
        folded=("text_summary",),
    ),
    _Plan(
        "thermal",
        "Temperature of the face",
        "From thermal pictures, where patients sent any.",
        drawn=("thermal_summary",),
        folded=("thermal_summary",),
    ),
    _Plan(
        "identity",
        "Whose face",
        "How alike the faces of each patient are: distances of about 0.05 to 0.5 for one person, about 1 for two. Whoever is flagged as "
        "another person is on the quality page.",
        drawn=("identity_summary",),
        folded=("identity_summary",),
    ),
    _Plan(
        "readings",
        "Readings of Question 10",
        "Whether patients read the text aloud, where readings are processed; never the words.",
        drawn=("readings_summary",),
        folded=("readings_summary",),
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
    """Fill the plan with the marts that are built; leave out a section without any."""

    def tables(names: tuple[str, ...]) -> list[MartTable]:
        return [MartTable(n, _table(models.models[n], data[n])) for n in names if data.get(n)]

    sections = [
        Section(
            plan.anchor,
            plan.title,
            plan.text,
            [figure for name in plan.drawn for figure in mart_figures(name, data.get(name, []))],
            tables(plan.shown),
            tables(plan.folded),
        )
        for plan in _SECTIONS
    ]
    return [s for s in sections if s.figures or s.tables or s.folded]


def _table(model: SqlModel, rows: Rows) -> DataTable:
    # a column in which nothing is known yet only takes up room
    kept = [c for c in model.columns if any(r[c.name] is not None for r in rows)]
    return DataTable(
        model.description,
        [c.name.replace("_", " ") for c in kept],
        [[_cell(row[c.name]) for c in kept] for row in rows],
        note=_share_of(rows),
        texts=frozenset(n for n, c in enumerate(kept) if not any(_is_number(r[c.name]) for r in rows)),
        hints=tuple(c.description for c in kept),
    )


def _share_of(rows: Rows) -> str:
    """Return how many videos the shares of a table are of, where every row is a share of the same videos."""
    if not rows or not {"videos", "video_share"} <= rows[0].keys():
        return ""
    return f"Shares are of {round(rows[0]['videos'] / rows[0]['video_share']):,} measured videos."


def _cell(value: Any) -> Cell:
    return Cell(_show(value), "" if value is None else float(value) if _is_number(value) else None)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _show(value: Any) -> str:
    """Write a value with no more digits than are meaningful."""
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
