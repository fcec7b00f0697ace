"""What ``iss quality`` prints.

Belongs here: the report as plain text. Does not belong here: reading (``report``).
"""

from __future__ import annotations

import textwrap

from iss_assets.alert_rules import WHOLE_STUDY
from iss_assets.quality_page.report import QualityReport, Trouble


def headline(report: QualityReport) -> str:
    """Say in one sentence how things stand."""
    totals = report.totals
    if not totals["patients"]:
        return "The warehouse holds no patient yet; start with `iss run`."
    if not totals["checked"]:
        return "No patient has been checked yet; start with `iss run`."
    warnings = len(report.troubles) - report.errors
    if not report.troubles:
        return f"No trouble: {totals['checked']} of {totals['patients']} patients checked, all is well."
    return (
        f"{report.patients_in_trouble} of {totals['patients']} patients need attention: "
        f"{_count(report.errors, 'error')} and {_count(warnings, 'warning')}."
    )


def format_quality(report: QualityReport, width: int = 100) -> str:
    """Give the present troubles by patient, each with what to do.

    Parameters
    ----------
    report : QualityReport
        What `quality_report` gave.
    width : int
        Columns of the terminal.
    """
    lines = [headline(report)]
    if report.totals["checked_at"] is not None:
        lines.append(f"Last check: {report.totals['checked_at']:%Y-%m-%d %H:%M} UTC.")
    for patient, troubles in report.by_subject.items():
        lines += ["", "The whole study" if patient == WHOLE_STUDY else f"Patient {patient}"]
        for trouble in troubles:
            lines += _lines(trouble, width)
    return "\n".join(lines)


def _lines(trouble: Trouble, width: int) -> list[str]:
    indent = " " * 10
    ids = f": {shorten(trouble.affected)}" if trouble.affected else ""
    word = "ERROR" if trouble.severity == "ERROR" else "warning"

    def wrap(text: str, first: str, rest: str) -> list[str]:
        # an id broken at its hyphen could not be copied
        return textwrap.wrap(
            text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        )

    return [
        *wrap(f"{trouble.title}{ids}", f"  {word:<8}", indent),
        *wrap(f"-> {trouble.what_to_do}", indent, indent + "   "),
    ]


def shorten(ids: tuple[str, ...], most: int = 6) -> str:
    """Give ids in a row, the rest as a number."""
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(ids[:most]) + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
