"""The quality report in words: what ``iss quality`` prints, and what pages say of flags and reviews."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from iss_assets.protocol.catalogue import CATALOGUE
from iss_assets.reports.quality_report import Item, Level, QualityReport
from iss_assets.reports.review_summary import ReviewSummary
from iss_assets.reports.templating import count

HEADINGS: Final[dict[Level, tuple[str, str]]] = {
    Level.RIGHTS: ("Patients' rights", "These patients asked for it; carry it out first."),
    Level.BROKEN: ("Not working", "Fix these first: until then the rest may be out of date."),
    Level.PATIENT: (
        "Patients lost or mislabeled",
        "Not one of their videos can be used, or the label of every one may be wrong.",
    ),
    Level.DATA: ("Data lost", "Videos that cannot be used, and answers that are missing."),
    Level.DOUBT: ("Poor quality, still used", "Nothing is lost, but the next videos should be better."),
    Level.REMINDER: ("Reminders", "Nothing is lost. One list per reminder."),
    Level.STUDY: ("The study as a whole", "Not about any single patient."),
}
"""The heading of each level, and what the level means."""

_WORST: Final[dict[Level, str]] = {
    Level.RIGHTS: "who asked to withdraw",
    Level.BROKEN: "with a failed run or check",
    Level.PATIENT: "lost or mislabeled",
    Level.DATA: "with data lost",
    Level.DOUBT: "with poor quality",
}


def headline(report: QualityReport) -> str:
    """Summarize the report in one or two sentences."""
    totals = report.totals
    if not totals["patients"]:
        return "The warehouse has no patients yet; start with `iss run`."
    if not totals["checked"]:
        return "No patient has been checked yet; start with `iss run`."
    if not report.items:
        return f"No issues: {totals['checked']} of {totals['patients']} patients checked."
    parts = [f"{n} {says}" for level, says in _WORST.items() if (n := len(report.patients_at(level)))]
    number = report.patients_with_issues
    need = f"{number} of {totals['patients']} patients {'needs' if number == 1 else 'need'} attention"
    reminded = {p for item in report.items if item.cost.level == Level.REMINDER for p in item.patients}
    return (
        need
        + (f": {', '.join(parts)}." if parts else ".")
        + (f" {count(len(reminded), 'patient')} to remind." if reminded else "")
    )


def format_quality(report: QualityReport, width: int = 100) -> str:
    """Format what to do, the most costly first, under a heading for each level of cost.

    Parameters
    ----------
    report : QualityReport
        What `quality_report` returned.
    width : int
        Columns of the terminal.
    """
    lines = textwrap.wrap(headline(report), width)
    if report.totals["checked_at"] is not None:
        lines.append(f"Last check: {report.totals['checked_at']:%Y-%m-%d %H:%M} UTC.")
    for level, items in groupby(report.items, key=lambda item: item.cost.level):
        lines += ["", HEADINGS[level][0].upper()]
        for item in items:
            lines += _lines(item, width)
    return "\n".join(lines)


def _lines(item: Item, width: int) -> list[str]:
    indent = " " * 10

    def wrap(text: str, first: str, rest: str) -> list[str]:
        # an id broken at its hyphen could not be copied
        return textwrap.wrap(
            text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        )

    return [
        *wrap(
            " ".join(part for part in (f"{subject(item)}: {item.title}.", item.cost.says) if part),
            f"  {'ERROR' if item.severity == 'ERROR' else 'warning':<8}",
            indent,
        ),
        *wrap(f"-> {item.what_to_do}", indent, indent + "   "),
        *(wrap(listed(item.details), indent, indent) if item.details else []),
    ]


def subject(item: Item) -> str:
    """Return who an item is about."""
    if not item.patients:
        return "Study"
    return f"Patient {item.patients[0]}" if len(item.patients) == 1 else count(len(item.patients), "patient")


def listed(details: Sequence[tuple[str, str]], limit: int = 12) -> str:
    """Return ids with their comments in one line, the rest as a number."""
    texts = [f"{name} ({about.rstrip('.')})" if about else name for name, about in details]
    return shorten(texts, limit)


def shorten(ids: Sequence[str], limit: int = 6) -> str:
    """Return ids in one line, the rest as a number."""
    more = f" and {len(ids) - limit} more" if len(ids) > limit else ""
    return ", ".join(ids[:limit]) + more


def reviews_in_words(reviews: ReviewSummary, *, names: bool) -> list[str]:
    """Say how much was reviewed, which videos people decided about, and how reviewers agree.

    Parameters
    ----------
    reviews : ReviewSummary
        What people decided.
    names : bool
        Whether reviewers are called by their accounts; if not, reviewer 1, 2, ...
    """
    says = [
        f"{reviews.reviewed} of {max(reviews.flagged, reviews.reviewed)} flags were reviewed, {reviews.rejected} of them "
        "rejected."
    ]
    for word, videos in (("Excluded", reviews.excluded), ("Included", reviews.included)):
        if videos:
            says.append(f"{word} by a person: {shorten(tuple(videos), 12)}.")
    people = sorted({person for pair in reviews.agreements for person in pair.reviewers})
    called = {person: person if names else f"reviewer {n}" for n, person in enumerate(people, start=1)}
    for pair in reviews.agreements:
        kappa = "" if pair.kappa is None else f", Cohen’s kappa {pair.kappa:.2f}"
        one, other = (called[person] for person in pair.reviewers)
        sentence = (
            f"{one} and {other} agree on {pair.agreed} of {pair.flags} flags that both reviewed{kappa}."
        )
        says.append(sentence if names else sentence[0].upper() + sentence[1:])
    return says


@dataclass(frozen=True)
class FlagRow:
    """A reviewed flag as tables show it; the fields are `FlagPrecision`'s, in words."""

    name: str
    says: str
    reviewed: int
    rejected: int
    patients: int
    precision: str
    interval: str


def flag_rows(reviews: ReviewSummary) -> list[FlagRow]:
    """Return a row for each reviewed flag."""
    titles = flag_titles()
    return [
        FlagRow(
            p.flag.replace("_", " "),
            titles.get(p.flag, ""),
            p.confirmed + p.rejected,
            p.rejected,
            p.patients,
            f"{p.precision.estimate:.0%}",
            f"{p.precision.low:.0%} to {p.precision.high:.0%}"
            if p.precision.low is not None and p.precision.high is not None
            else p.precision.note or "",
        )
        for p in reviews.precisions
    ]


def flag_titles() -> dict[str, str]:
    """Return for each flag what a failure of its check means."""
    return {flag: check.title for check in CATALOGUE for flag in check.flags}
