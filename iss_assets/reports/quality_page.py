"""The quality page: what to do next, rates over time, by patient and by reason, and the alerts.

The page makes no requests, holds ids and numbers only, and says in words and hatching whatever it says in color.
"""

from __future__ import annotations

from datetime import datetime, time
from itertools import groupby
from pathlib import Path
from typing import Any

from iss_assets.alerting.rules import WHOLE_STUDY
from iss_assets.reports.charts import time_line
from iss_assets.reports.quality_report import Item, Level, QualityReport, Week, check_title
from iss_assets.reports.quality_text import (
    HEADINGS,
    flag_rows,
    flag_titles,
    headline,
    reviews_in_words,
    shorten,
    subject,
)
from iss_assets.reports.templating import INVENTED, Banner, Frame, write_page

_DELIVERY = {
    "waiting": "waiting",
    "delivered": "delivered",
    "given_up": "given up",
    "not_needed": "not needed",
}
"""The column ``delivery`` of ``alerts`` in a reader's words."""

_REASONS_OVER_TIME = 6
_LISTED = 12
"""Videos or patients of an item that are shown at once; the rest is folded away."""


def write_quality_page(
    report: QualityReport, path: Path, *, invented: bool = False, made_at: datetime | None = None
) -> Path:
    """Write the page.

    Parameters
    ----------
    report : QualityReport
        What `quality_report` returned.
    path : Path
        The file; its folder is created.
    invented : bool
        Whether the patients are invented (the sample study); the page then says so.
    made_at : datetime, optional
        Time of the page; by default now.

    Returns
    -------
    Path
        `path`.
    """
    totals = report.totals
    checked = totals["checked_at"]
    banners = [INVENTED] if invented else []
    unchecked = totals["patients"] - totals["checked"]
    if unchecked > 0:
        banners.append(
            Banner(
                f"{unchecked} of {totals['patients']} patients have not been checked yet.",
                "Their runs are still to come or have failed.",
            )
        )
    frame = Frame(
        "Quality of the study",
        "For the study coordinator",
        made_at,
        notes=[f"last check {checked:%-d %B %Y, %H:%M} UTC"] if checked else [],
        banners=banners,
    )
    return write_page("quality.html.jinja", frame, _context(report), path)


def _context(report: QualityReport) -> dict[str, Any]:
    totals = report.totals
    return {
        "headline": headline(report),
        "measured": totals["measured"],
        "summary": [
            ("Patients that need attention", f"{report.patients_with_issues} of {totals['patients']}", ""),
            ("Patients lost or mislabeled", len(report.patients_at(Level.PATIENT)), ""),
            ("Patients with data lost", len(report.patients_at(Level.DATA)), ""),
            ("Usable videos", _of(totals["usable"], totals["measured"]), ""),
            ("Videos with a flag", _of(totals["flagged"], totals["measured"]), ""),
            ("Videos submitted", totals["videos"], ""),
        ],
        "levels": [
            {
                "id": level.name.lower(),
                "title": HEADINGS[level][0],
                "says": HEADINGS[level][1],
                "items": [_shown(item) for item in items],
            }
            for level, items in groupby(report.items, key=lambda item: item.cost.level)
        ],
        "plots": _plots(report.over_time),
        "patients": [_bars(row) for row in report.by_patient],
        "reasons": [
            {
                **row,
                "name": row["flag"].replace("_", " "),
                "says": flag_titles().get(row["flag"], ""),
                "share": 100 * row["videos"] / max(1, totals["measured"]),
            }
            for row in report.by_reason
        ],
        "reviews": {
            "says": reviews_in_words(report.reviews, names=True) if report.reviews else [],
            "flags": flag_rows(report.reviews),
        },
        "alerts": [
            {
                "who": "whole study" if a["patient_id"] == WHOLE_STUDY else a["patient_id"],
                "title": check_title(a["asset"], a["check_name"]),
                "asset": a["asset"],
                "ids": shorten(tuple(a["affected"] or ()), 4),
                "word": "Error" if a["severity"] == "ERROR" else "Warning",
                "css": a["severity"].lower(),
                "status": f"{a['status']}: {a['reason']}" if a["reason"] else a["status"],
                "since": f"{a['first_seen']:%Y-%m-%d %H:%M}",
                "changed": f"{a['changed_at']:%Y-%m-%d %H:%M}",
                "notified": _DELIVERY[a["delivery"]]
                + (
                    f" {a['told_at']:%Y-%m-%d %H:%M}" if a["told_at"] and a["delivery"] == "delivered" else ""
                ),
                "run": a["run_id"][:8],
            }
            for a in report.alerts
        ],
    }


def _shown(item: Item) -> dict[str, Any]:
    """Return an item as the template shows it."""
    return {
        "subject": subject(item),
        "word": "Error" if item.severity == "ERROR" else "Warning",
        "css": item.severity.lower(),
        "title": item.title,
        "do": item.what_to_do,
        "cost": item.cost.says,
        "since": f"Since {item.since:%-d %B %Y}." if item.since else "",
        "details": item.details[:_LISTED],
        "more": item.details[_LISTED:],
    }


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}" + (f" ({part / whole:.0%})" if whole else "")


def _bars(row: dict[str, Any]) -> dict[str, Any]:
    """Return a patient's row: counts, and their shares of the measured videos in percent."""
    parts = {name: row[name] for name in ("clean", "flagged", "unusable")}
    measured = max(1, row["measured"])
    return {**row, "parts": [(name, n, 100 * n / measured) for name, n in parts.items() if n]}


def _plots(weeks: list[Week]) -> list[tuple[str, str, Any]]:
    """Draw the usable share and the most frequent flags' shares by week."""
    if len(weeks) < 2:
        return []
    times = [datetime.combine(week.start, time()) for week in weeks]
    counts: dict[str, float] = {}
    for week in weeks:
        for flag, share in week.flags.items():
            counts[flag] = counts.get(flag, 0) + share * week.videos
    videos = sum(week.videos for week in weeks)
    usable = sum(week.usable * week.videos for week in weeks)
    lines: list[tuple[str, str, list[float]]] = [
        (
            "Usable",
            f"{round(usable)} of {videos} videos, {_percent(usable, videos)}",
            [week.usable for week in weeks],
        )
    ]
    for flag in sorted(counts, key=lambda f: (-counts[f], f))[:_REASONS_OVER_TIME]:
        said = f"{round(counts[flag])} of {videos} videos, {_percent(counts[flag], videos)}"
        lines.append(
            (flag.replace("_", " ").capitalize(), said, [week.flags.get(flag, 0.0) for week in weeks])
        )
    highest = max((value for _, _, values in lines[1:] for value in values), default=1.0)
    top = next(step for step in (0.2, 0.4, 1.0) if highest <= step)
    return [
        (name, said, time_line(times, [round(v, 3) for v in values], name, 0.0, top if number else 1.0))
        for number, (name, said, values) in enumerate(lines)
    ]


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.0%}"
